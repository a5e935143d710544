// Where each node stands: depth goes right, leaves go down, a parent stands in the middle of its children.

const ROW = 40, BOX = 32, GAP = 46, LETTER = 6.9, LONGEST = 40;

function layOut(run, withDropped) {
  const columns = [];
  const widest = [];
  const kidsOf = (node) => (withDropped ? node.kids : node.kids.filter((kid) => kid.why === null));
  let row = 0;
  const stack = [[run.root, kidsOf(run.root), 0]];
  for (const node of run.nodes) node.row = null;
  while (stack.length) {
    const top = stack[stack.length - 1];
    const [node, kids, next] = top;
    if (next === 0) {
      (columns[node.depth] ||= []).push(node);
      node.label ??= onOneLine(node.text || node.state, LONGEST) || "(empty)";
      const words = Math.max(node.label.length, 0.86 * shortStanding(node, NEVER).length);
      widest[node.depth] = Math.max(widest[node.depth] || 0, words);
    }
    if (next < kids.length) {
      top[2] += 1;
      stack.push([kids[next], kidsOf(kids[next]), 0]);
      continue;
    }
    node.row = kids.length ? (kids[0].row + kids[kids.length - 1].row) / 2 : row++;
    stack.pop();
  }
  const lefts = [];
  let x = 0;
  widest.forEach((letters, depth) => {
    lefts[depth] = x;
    x += letters * LETTER + 22 + GAP;
  });
  run.columns = columns;
  run.lefts = lefts;
  run.widths = widest.map((letters) => letters * LETTER + 22);
  run.size = { width: x - GAP, height: row * ROW };
}

const leftOf = (node) => node.run.lefts[node.depth];
const widthOf = (node) => node.run.widths[node.depth];
const topOf = (node) => node.row * ROW + (ROW - BOX) / 2;
const middleOf = (node) => node.row * ROW + ROW / 2;

/** First place in a column, from `from` on, whose node stands at `row` or below. */
function lowerBound(column, row, from = 0) {
  let low = from, high = column.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (column[middle].row < row) low = middle + 1;
    else high = middle;
  }
  return low;
}
