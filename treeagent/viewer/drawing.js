// Drawing: only what is in view, and no more detail than can be seen.

let palette = null;

function readPalette() {
  const names = ["paper", "panel", "ink", "faint", "line", "edge", "on", "soft", "path", "mark", "gone", "bad", "differ", "hit"];
  palette = Object.fromEntries(names.map((name) => [name, css(`--${name}`)]));
  palette.roles = [0, 1, 2, 3, 4, 5, 6].map((i) => css(`--role-${i}`));
  const parts = (name) => css(name).match(/\w\w/g).map((hex) => parseInt(hex, 16));
  const mixed = (one, other, share) => one.map((from, i) => Math.round(from + (other[i] - from) * share));
  const stops = ["--poor", "--fair", "--good"].map(parts), paper = parts("--paper");
  const ranks = Array.from({ length: 17 }, (_, i) => {
    const at = (i / 16) * 2, low = Math.min(Math.floor(at), 1);
    return mixed(stops[low], stops[low + 1], at - low);
  });
  palette.ranks = ranks.map((rank) => `rgb(${rank.join(",")})`);
  palette.pale = ranks.map((rank) => `rgb(${mixed(paper, rank, 0.45).join(",")})`);  // of what was not followed
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

const rankColour = (rank, pale = false) => (pale ? palette.pale : palette.ranks)[Math.round(rank * 16)];
const LEAST = 18;  // height of a box of the answer's path, in CSS pixels: it can be read from any distance
const FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace";

function draw(pane, app) {
  const { context, run } = pane;
  context.setTransform(pane.ratio, 0, 0, pane.ratio, 0, 0);
  context.fillStyle = palette.paper;
  context.fillRect(0, 0, pane.width, pane.height);
  const nodes = inView(pane, app.step);
  const seen = new Set(nodes);
  // The answer's path, the chosen thought and what differs first are never skipped.
  for (const node of [...run.path, run.root, app.chosen, run.firstDifference]) {
    if (!node || node.run !== run || node.row === null || !isThere(node, app.step) || seen.has(node)) continue;
    seen.add(node);
    nodes.push(node);
  }
  drawEdges(pane, nodes, app);
  for (const node of nodes) if (!node.chosen) drawNode(pane, node, app);
  for (const node of nodes) if (node.chosen) drawNode(pane, node, app);
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
  const height = node.chosen ? Math.max(LEAST, BOX * camera.zoom) : BOX * camera.zoom;
  return {
    x: (leftOf(node) - camera.x) * across,
    y: (middleOf(node) - camera.y) * camera.zoom - height / 2,
    width: widthOf(node) * across,
    height,
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
  const { rank, unread } = standing(node, app.step);
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
  context.fillStyle = rank !== null ? rankColour(rank, faded && node !== app.chosen) : unread ? palette.hatch : palette.paper;
  box();
  context.fill();
  let edge = lost ? palette.gone : palette.line, weight = 1;
  if (node.chosen) [edge, weight] = [palette.path, 2.5];
  if (node.differs) [edge, weight] = [palette.differ, 2.5];
  if (node.hit) [edge, weight] = [palette.hit, 3];
  if (!small || weight > 1 || (rank === null && height > 2.5)) {  // white on white were not seen
    context.strokeStyle = edge;
    context.lineWidth = Math.max(weight * zoom, weight > 1 ? 1.5 : 0.5);
    context.setLineDash(lost ? [4 * zoom, 3 * zoom] : []);
    context.stroke();
    context.setLineDash([]);
  }
  if (node === node.run.firstDifference) {
    context.fillStyle = palette.differ;
    context.font = `600 11px system-ui, sans-serif`;
    context.textBaseline = "bottom";
    context.fillText("\u2193 first difference", x, y - 6);
    context.strokeStyle = palette.differ;
    context.lineWidth = Math.max(3, 3 * zoom);
    context.stroke();
  }
  if (node === app.chosen || node === app.current(node.run)) {
    context.strokeStyle = node === app.chosen ? palette.mark : palette.hit;
    context.lineWidth = 2;
    context.beginPath();
    context.roundRect(x - 4, y - 4, width + 8, height + 8, 8);
    context.stroke();
  }
  if (height >= 12) drawLabel(pane, node, app, faded);
}

/** The label, and below it what is known about the node where there is room; each as far as the box is wide. */
function drawLabel(pane, node, app, faded) {
  const { context, camera: { zoom } } = pane;
  const { x, y, width, height } = boxOf(pane, node);
  const two = height >= 24, left = Math.min(10, 0.08 * width);
  const fill = (text, size, at) => {
    const room = Math.floor((width - 1.4 * left) / (0.602 * size));  // letters of a monospaced font
    context.font = `${node.chosen && at < 0.6 ? "600 " : ""}${size}px ${FONT}`;
    if (room > 1) context.fillText(onOneLine(text, room), x + left, y + at * height);
  };
  context.direction = "ltr";
  context.textBaseline = "alphabetic";
  context.fillStyle = node.why !== null ? palette.gone : faded ? palette.soft : palette.on;
  fill(node.label, two ? 11.5 * Math.max(zoom, 0.95) : Math.min(11.5, 0.66 * height), two ? 0.44 : 0.5 + 0.23);
  if (!two) return;
  const answered = node.answer !== null && node.answeredAt < app.step, word = shortStanding(node, app.step);
  if (node.why === null) context.fillStyle = faded || standing(node, app.step).unread ? context.fillStyle : palette.soft;
  fill(answered ? `${word} \u2192 ${node.answer}` : word, 10 * Math.max(zoom, 0.95), 0.82);
}
