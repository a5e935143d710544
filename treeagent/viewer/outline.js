// The tree of one problem as nested lists: the answer's path and the best of the others.

function outlineOf(tree) {
  if (!tree) return [el("p", { class: "note" }, "There is no journal of this problem.")];
  if (tree.error) return [el("p", { class: "note warn" }, `The journal cannot be read: ${tree.error}`)];
  const lists = tree.rows.map(() => el("ul"));
  const items = tree.rows.map(([, text, value, answer, onPath], i) => el("li", { class: onPath ? "path" : "" },
    el("span", { class: "step", dir: "auto" }, onOneLine(text, 400) || "(empty)"),
    el("span", { class: "value" }, `${value === null ? "" : `  ${number(value)}`}${answer === null ? "" : `  \u2192 ${onOneLine(answer, 200)}`}`),
    lists[i]));
  tree.rows.forEach(([parent], i) => { if (parent !== null) lists[parent].append(items[i]); });
  tree.rows.forEach((_, i) => {
    if (tree.hidden[i]) lists[i].append(el("li", { class: "folded" }, `+${tree.hidden[i].toLocaleString("en")} more`));
    if (!lists[i].hasChildNodes()) lists[i].remove();
  });
  const left = tree.count + 1 - tree.rows.length;
  return [
    el("ul", { class: "outline" }, items[0]),
    el("p", { class: "note" }, `${plural(tree.count, "thought")}${left ? `, ${left.toLocaleString("en")} of them left out here` : ""}; green: the path of the answer or of the best attempt`),
  ];
}
