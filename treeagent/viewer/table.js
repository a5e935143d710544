// The table of the problems: its columns, their order, and what a row opens.

const VERDICTS = { right: "\u2713 right", wrong: "\u2717 wrong", unanswered: "\u2717 no answer", ungraded: "ungraded", failed: "! failed" };
const CHUNK = 500;  // rows that are put on the page at a time

const chip = (verdict) => el("span", { class: `chip ${verdict}` }, VERDICTS[verdict]);

/** Columns: name, what is sorted by, what is shown, and its kind. */
function columnsOf(data) {
  const text = (name) => ({ name, key: (row) => row[name], show: (row) => el("span", {}, onOneLine(row[name] ?? "", 300)), kind: "text" });
  const amount = (name, show = (value) => number(value, 3)) => ({
    name, key: (row) => row[name], show: (row) => show(row[name]), kind: "number",
  });
  const some = (name) => data.problems.some((row) => row[name] !== undefined);
  return [
    { name: "#", key: (row) => row.number, show: (row) => String(row.number), kind: "number" },
    { name: "verdict", key: (row) => Object.keys(VERDICTS).indexOf(row.verdict), show: (row) => chip(row.verdict), kind: "plain" },
    ...(some("other") ? [{ name: "other", key: (row) => Object.keys(VERDICTS).indexOf(row.other), show: (row) => (row.other ? chip(row.other) : ""), kind: "" }] : []),
    ...(some("tries") ? [{ name: "right tries", key: (row) => row.tries[0] / (row.tries[1] || 1), show: (row) => `${row.tries[0]} of ${row.tries[1]}`, kind: "number" }] : []),
    { ...text("input"), kind: "text plain" }, ...(some("gold") ? [text("gold")] : []), text("answer"),
    ...(some("group") ? [{ ...text("group"), kind: "" }] : []),
    amount("tokens"), amount("seconds"), amount("calls"), amount("thoughts"),
  ];
}

class Table {
  constructor(data) {
    this.data = data;
    this.columns = columnsOf(data);
    this.order = { column: this.columns[0], down: false };
    this.rows = data.problems;
    this.room = CHUNK;
    this.heads = this.columns.map((column) => {
      const button = el("button", { type: "button", onclick: () => this.sortBy(column) }, column.name);
      return el("th", { scope: "col", class: column.kind.includes("number") ? "number" : "" }, button);
    });
    $("heads").append(...this.heads);
    $("more").onclick = () => { this.room += CHUNK; this.draw(); };
  }

  sortBy(column) {
    this.order = { column, down: this.order.column === column ? !this.order.down : false };
    this.show(this.rows);
  }

  /** Show some problems, in the order that is chosen; what is unknown comes last in either direction. */
  show(rows) {
    const { column: { key }, down } = this.order;
    const lacks = (value) => value === undefined || value === null;
    this.rows = [...rows].sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      if (lacks(a) || lacks(b)) return lacks(a) - lacks(b) || one.number - other.number;
      const by = typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
      return (down ? -by : by) || one.number - other.number;
    });
    this.heads.forEach((head, i) => {
      const chosen = this.columns[i] === this.order.column, arrow = down ? " \u25bc" : " \u25b2";
      head.setAttribute("aria-sort", !chosen ? "none" : down ? "descending" : "ascending");
      head.firstChild.textContent = this.columns[i].name + (chosen ? arrow : "");
    });
    this.draw();
  }

  draw() {
    const shown = this.rows.slice(0, this.room), left = this.rows.length - shown.length;
    $("rows").replaceChildren(...shown.map((row) => this.line(row)));
    $("more").hidden = !left;
    $("more").textContent = `Show ${Math.min(CHUNK, left).toLocaleString("en")} more of ${left.toLocaleString("en")}`;
  }

  line(row) {
    const cells = this.columns.map((column) => {
      const value = column.show(row), empty = value === "" || value.textContent === "";
      return el("td", { class: `${column.kind}${empty ? " empty" : ""}`, "data-label": column.name }, value);
    });
    const line = el("tr", { class: "problem", tabindex: "0", id: `problem-${row.number}`, "aria-expanded": "false" }, cells);
    line.addEventListener("click", (event) => { if (!event.target.closest("a, button")) this.toggle(line, row); });
    line.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      this.toggle(line, row);
    });
    return line;
  }

  toggle(line, row) {
    const open = line.classList.toggle("open");
    line.setAttribute("aria-expanded", String(open));
    if (!open) line.nextElementSibling.remove();
    else line.after(el("tr", { class: "about" }, el("td", { colspan: this.columns.length }, about(this.data, row))));
  }

  /** Open the row of a problem and bring it into view; whether it is shown. */
  open(number) {
    const at = this.rows.findIndex((row) => row.number === number);
    if (at < 0) return false;
    if (at >= this.room) { this.room = at + CHUNK; this.draw(); }
    const line = $(`problem-${number}`);
    if (!line.classList.contains("open")) this.toggle(line, this.rows[at]);
    line.scrollIntoView({ block: "center" });
    return true;
  }
}

/** Everything that is known about a problem. */
function about(data, row) {
  const block = (name, text) => (text === undefined ? [] : [el("h3", {}, name), el("pre", { dir: "auto" }, text)]);
  const journal = `journals/${String(row.number).padStart(6, "0")}.jsonl`;
  const facts = [`ended: ${row.ended}`, `${number(row.tokens)} tokens`, `${number(row.completion)} of them generated`, plural(row.calls, "call"), `${number(row.seconds)} s`];
  if (row.dollars !== undefined) facts.push(`${number(row.dollars)} dollars`);
  const [hits, misses, wasted, saved] = row.early;
  if (hits !== null) facts.push(`sent early: ${hits} of ${hits + misses} asked for, ${number(wasted)} tokens in vain, at most ${number(saved)} s saved`);
  return el("div", {}, el("p", { class: "note" }, facts.join(" \u00b7 ")), el("div", { class: "columns" },
    el("div", {}, block("Error", row.error), block("Input", row.input), block("Gold answer", row.gold), block("Answer", row.answer),
      block("Reply that the answer was read from", row.reply)),
    el("div", {}, el("h3", {}, "Tree"), outlineOf(treesOf()[data.problems.indexOf(row)]),
      row.page ? el("p", {}, el("a", { href: row.page }, "The page of this search, with prompts and replies"))
        : el("p", { class: "note" }, "With prompts and replies: ", el("code", {}, `treeagent view ${journal}`)))));
}

let trees = null;

/** Outlines of all problems, read when one is first asked for. */
function treesOf() {
  trees ||= JSON.parse($("trees").textContent);
  return trees;
}
