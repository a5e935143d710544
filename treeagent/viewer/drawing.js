// Drawing: only what is in view, and no more detail than can be seen.

let palette = null;

function readPalette() {
  const names = ["paper", "panel", "ink", "faint", "line", "edge", "on", "path", "mark", "gone", "bad", "differ", "hit"];
  palette = Object.fromEntries(names.map((name) => [name, css(`--${name}`)]));
  const stops = ["--poor", "--fair", "--good"].map((name) => css(name).match(/\w\w/g).map((hex) => parseInt(hex, 16)));
  palette.ranks = Array.from({ length: 17 }, (_, i) => {
    const at = (i / 16) * 2, low = Math.min(Math.floor(at), 1);
    const mixed = stops[low].map((from, j) => Math.round(from + (stops[low + 1][j] - from) * (at - low)));
    return `rgb(${mixed.join(",")})`;
  });
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const context = tile.getContext("2d");
  context.fillStyle = palette.paper;
  context.fillRect(0, 0, 8, 8);
  context.strokeStyle = palette.line;
  context.lineWidth = 1.6;
  for (const shift of [-8, 0, 8]) {
    context.moveTo(shift - 2, 10);
    context.lineTo(shift + 10, -2);
  }
  context.stroke();
  palette.hatch = context.createPattern(tile, "repeat");
}

const rankColour = (rank) => palette.ranks[Math.round(rank * 16)];
const FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace";

function draw(pane, app) {
  const { context, camera, run } = pane;
  const { zoom } = camera;
  context.setTransform(pane.ratio, 0, 0, pane.ratio, 0, 0);
  context.fillStyle = palette.paper;
  context.fillRect(0, 0, pane.width, pane.height);
  context.setTransform(pane.ratio * zoom, 0, 0, pane.ratio * zoom, -camera.x * zoom * pane.ratio, -camera.y * zoom * pane.ratio);
  const nodes = inView(pane, app.step);
  const seen = new Set(nodes);
  // The answer's path, the chosen thought and what differs first are never skipped.
  for (const node of [...run.solution.map((id) => run.byId.get(id)), run.root, app.chosen, run.firstDifference]) {
    if (node && node.run === run && node.row !== null && isThere(node, app.step) && !seen.has(node)) nodes.push(node);
  }
  drawEdges(context, nodes, zoom, app);
  for (const node of nodes) drawNode(context, node, zoom, app);
  pane.canvas.dataset.drawn = nodes.length;
}

/** Nodes in view; where rows are smaller than a pixel, one for each pixel. */
function inView(pane, step) {
  const { run, camera } = pane;
  const found = [];
  const right = camera.x + pane.width / camera.zoom;
  const first = camera.y / ROW - 1, last = (camera.y + pane.height / camera.zoom) / ROW;
  const apart = 1.25 / camera.zoom / ROW;  // rows that share a pixel
  run.columns.forEach((column, depth) => {
    if (run.lefts[depth] > right || run.lefts[depth] + run.widths[depth] + GAP < camera.x) return;
    let i = lowerBound(column, first);
    while (i < column.length && column[i].row <= last) {
      const node = column[i];
      if (isThere(node, step)) {
        found.push(node);
        i = apart > 1 ? lowerBound(column, node.row + apart, i + 1) : i + 1;
      } else i += 1;
    }
  });
  return found;
}

function drawEdges(context, nodes, zoom, app) {
  const plain = new Path2D(), strong = new Path2D();
  const drawn = new Set();
  const add = (node) => {
    const { parent } = node;
    if (!parent || drawn.has(node)) return;
    drawn.add(node);
    const path = node.chosen && parent.chosen ? strong : plain;
    const x1 = leftOf(parent) + widthOf(parent), x2 = leftOf(node), y1 = middleOf(parent), y2 = middleOf(node);
    path.moveTo(x1, y1);
    if (zoom < 0.08) path.lineTo(x2, y2);
    else path.bezierCurveTo((x1 + x2) / 2, y1, (x1 + x2) / 2, y2, x2, y2);
  };
  for (const node of nodes) {
    add(node);
    const kids = node.kids.filter((kid) => kid.row !== null && isThere(kid, app.step));
    if (kids.length) [kids[0], kids[kids.length - 1]].forEach(add);  // these may lie out of view
  }
  context.strokeStyle = palette.edge;
  context.lineWidth = Math.max(1.2, 0.5 / zoom);
  context.stroke(plain);
  context.strokeStyle = palette.path;
  context.lineWidth = Math.max(3, 1.6 / zoom);
  context.stroke(strong);
}

function drawNode(context, node, zoom, app) {
  const { word, rank, unread } = standing(node, app.step);
  const x = leftOf(node), y = topOf(node), width = widthOf(node);
  const lost = node.why !== null;
  const atEnd = app.step >= node.run.length;
  const faded = atEnd && !lost && !node.followed && !node.terminal && !node.chosen && node.parent !== null;
  context.globalAlpha = faded && node !== app.chosen ? 0.5 : 1;
  context.fillStyle = rank !== null ? rankColour(rank) : unread ? palette.hatch : palette.paper;
  const small = BOX * zoom < 7;
  context.beginPath();
  if (small) context.rect(x, y + 3, width, Math.max(BOX - 6, 1 / zoom));
  else context.roundRect(x, y, width, BOX, 6);
  context.fill();
  let edge = lost ? palette.gone : palette.line, weight = 1;
  if (node.chosen) [edge, weight] = [palette.path, 2.5];
  if (node.differs) [edge, weight] = [palette.differ, 2.5];
  if (node.hit) [edge, weight] = [palette.hit, 3];
  if (!small || weight > 1) {
    context.strokeStyle = edge;
    context.lineWidth = Math.max(weight, weight > 1 ? 1.5 / zoom : 0.5);
    context.setLineDash(lost ? [4, 3] : []);
    context.stroke();
    context.setLineDash([]);
  }
  if (node === app.chosen || node === app.current(node.run)) {
    const out = Math.max(4, 3 / zoom);
    context.globalAlpha = 1;
    context.strokeStyle = node === app.chosen ? palette.mark : palette.hit;
    context.lineWidth = Math.max(2, 2 / zoom);
    context.beginPath();
    context.roundRect(x - out, y - out, width + 2 * out, BOX + 2 * out, 9);
    context.stroke();
  }
  if (BOX * zoom >= 12) {
    context.direction = "ltr";
    context.textBaseline = "alphabetic";
    context.fillStyle = lost ? palette.gone : unread ? palette.ink : palette.on;
    context.font = `${node.chosen ? "600 " : ""}11.5px ${FONT}`;
    const two = BOX * zoom >= 19;
    context.fillText(node.label, x + 10, y + (two ? 14 : 20));
    if (two) {
      context.fillStyle = lost ? palette.gone : unread ? palette.ink : palette.on;
      context.globalAlpha *= 0.78;
      context.font = `9.8px ${FONT}`;
      const answered = node.answer !== null && node.answeredAt < app.step;
      context.fillText(answered ? onOneLine(`${word} \u2192 ${node.answer}`, Math.floor((width - 14) / 5.9)) : word, x + 10, y + 26);
    }
  }
  context.globalAlpha = 1;
}
