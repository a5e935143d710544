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
  const { context, run } = pane;
  context.setTransform(pane.ratio, 0, 0, pane.ratio, 0, 0);
  context.fillStyle = palette.paper;
  context.fillRect(0, 0, pane.width, pane.height);
  const nodes = inView(pane, app.step);
  const seen = new Set(nodes);
  // The answer's path, the chosen thought and what differs first are never skipped.
  for (const node of [...run.solution.map((id) => run.byId.get(id)), run.root, app.chosen, run.firstDifference]) {
    if (!node || node.run !== run || node.row === null || !isThere(node, app.step) || seen.has(node)) continue;
    seen.add(node);
    nodes.push(node);
  }
  drawEdges(pane, nodes, app);
  for (const node of nodes) drawNode(pane, node, app);
  pane.canvas.dataset.drawn = nodes.length;
}

/** Nodes in view; where rows are smaller than a pixel, one for each pixel. */
function inView(pane, step) {
  const { run, camera } = pane;
  const nodes = [];
  const right = camera.x + pane.width / pane.across;
  const first = camera.y / ROW - 1, last = (camera.y + pane.height / camera.zoom) / ROW;
  const apart = 1.25 / camera.zoom / ROW;  // rows that share a pixel
  run.columns.forEach((column, depth) => {
    if (run.lefts[depth] > right || run.lefts[depth] + run.widths[depth] + GAP < camera.x) return;
    let i = lowerBound(column, first);
    while (i < column.length && column[i].row <= last) {
      const node = column[i];
      if (isThere(node, step)) {
        nodes.push(node);
        i = apart > 1 ? lowerBound(column, node.row + apart, i + 1) : i + 1;
      } else i += 1;
    }
  });
  return nodes;
}

/** Where a node's box lies on the canvas, in CSS pixels. */
function boxOf(pane, node) {
  const { camera, across } = pane;
  return {
    x: (leftOf(node) - camera.x) * across,
    y: (topOf(node) - camera.y) * camera.zoom,
    width: widthOf(node) * across,
    height: BOX * camera.zoom,
  };
}

function drawEdges(pane, nodes, app) {
  const { context, camera } = pane;
  const plain = new Path2D(), strong = new Path2D();
  const drawn = new Set();
  const add = (node) => {
    const { parent } = node;
    if (!parent || drawn.has(node)) return;
    drawn.add(node);
    const path = node.chosen && parent.chosen ? strong : plain;
    const from = boxOf(pane, parent), to = boxOf(pane, node);
    const x1 = from.x + from.width, y1 = from.y + from.height / 2, y2 = to.y + to.height / 2, bend = (x1 + to.x) / 2;
    path.moveTo(x1, y1);
    if (camera.zoom < 0.08) path.lineTo(to.x, y2);
    else path.bezierCurveTo(bend, y1, bend, y2, to.x, y2);
  };
  for (const node of nodes) {
    add(node);
    const kids = node.kids.filter((kid) => kid.row !== null && isThere(kid, app.step));
    if (kids.length) [kids[0], kids[kids.length - 1]].forEach(add);  // these may lie out of view
  }
  context.strokeStyle = palette.edge;
  context.lineWidth = camera.zoom < 0.08 ? 0.5 : Math.max(0.7, 1.2 * camera.zoom);
  context.stroke(plain);
  context.strokeStyle = palette.path;
  context.lineWidth = Math.max(1.8, 3 * camera.zoom);
  context.stroke(strong);
}

function drawNode(pane, node, app) {
  const { context, camera: { zoom } } = pane;
  const { word, rank, unread } = standing(node, app.step);
  const { x, y, width, height } = boxOf(pane, node);
  const lost = node.why !== null;
  const atEnd = app.step >= node.run.length;
  const faded = atEnd && !lost && !node.followed && !node.terminal && !node.chosen && node.parent !== null;
  const small = height < 7;
  const box = () => {
    context.beginPath();
    if (small) context.rect(x, y, width, Math.max(height, 1.2));
    else context.roundRect(x, y, width, height, 6 * zoom);
  };
  context.globalAlpha = faded && node !== app.chosen ? 0.5 : 1;
  context.fillStyle = rank !== null ? rankColour(rank) : unread ? palette.hatch : palette.paper;
  box();
  context.fill();
  let edge = lost ? palette.gone : palette.line, weight = 1;
  if (node.chosen) [edge, weight] = [palette.path, 2.5];
  if (node.differs) [edge, weight] = [palette.differ, 2.5];
  if (node.hit) [edge, weight] = [palette.hit, 3];
  if (!small || weight > 1) {
    context.strokeStyle = edge;
    context.lineWidth = Math.max(weight * zoom, weight > 1 ? 1.5 : 0.5);
    context.setLineDash(lost ? [4 * zoom, 3 * zoom] : []);
    context.stroke();
    context.setLineDash([]);
  }
  if (node === node.run.firstDifference) {
    context.globalAlpha = 1;
    context.fillStyle = palette.differ;
    context.font = `600 11px system-ui, sans-serif`;
    context.textBaseline = "bottom";
    context.fillText("\u2193 first difference", x, y - 6);
    context.strokeStyle = palette.differ;
    context.lineWidth = Math.max(3, 3 * zoom);
    context.stroke();
  }
  if (node === app.chosen || node === app.current(node.run)) {
    context.globalAlpha = 1;
    context.strokeStyle = node === app.chosen ? palette.mark : palette.hit;
    context.lineWidth = 2;
    context.beginPath();
    context.roundRect(x - 4, y - 4, width + 8, height + 8, 8);
    context.stroke();
  }
  if (height >= 12) {
    if (faded) context.globalAlpha = 0.72;
    const two = height >= 19;
    context.direction = "ltr";
    context.textBaseline = "alphabetic";
    context.fillStyle = lost ? palette.gone : unread ? palette.ink : palette.on;
    const size = two ? 11.5 * zoom : Math.min(11, 0.7 * height, 11.5 * pane.across);
    context.font = `${node.chosen ? "600 " : ""}${size}px ${FONT}`;
    context.fillText(node.label, x + 10 * Math.min(zoom, 1), y + (two ? 14 * zoom : height / 2 + 0.35 * size));
    if (two) {
      const room = Math.floor((width / zoom - 14) / 5.9);
      const answered = node.answer !== null && node.answeredAt < app.step;
      context.globalAlpha *= 0.78;
      context.font = `${9.8 * zoom}px ${FONT}`;
      context.fillText(onOneLine(answered ? `${word} \u2192 ${node.answer}` : word, room), x + 10 * zoom, y + 26 * zoom);
    }
  }
  context.globalAlpha = 1;
}
