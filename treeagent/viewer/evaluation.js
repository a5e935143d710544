// The page over all problems: what is shown, and the summary of it.

const CHOICES = { all: "all", right: "right", wrong: "wrong", unanswered: "no answer", ungraded: "ungraded", failed: "failed" };

class EvaluationView {
  constructor() {
    this.data = JSON.parse($("evaluation").textContent);
    const { data } = this;
    this.table = new Table(data);
    $("name").textContent = visible(data.name);
    $("title").textContent = visible(data.title);
    const groups = [...new Set(data.problems.map((row) => row.group).filter((group) => group !== undefined))].sort();
    const found = Object.keys(CHOICES).filter((verdict) => verdict === "all" || data.problems.some((row) => row.verdict === verdict));
    this.choices($("verdict"), found.map((verdict) => [verdict, CHOICES[verdict]]));
    this.choices($("group"), [["all", "all"], ...groups.map((group, i) => [String(i), group])]);
    this.choices($("other"), [["all", "all"], ["gained", "right here alone"], ["lost", "right there alone"], ["differ", "other verdict"]]);
    this.groups = groups;
    $("group-label").hidden = !groups.length;
    $("other-label").hidden = data.other === null;
    for (const id of ["verdict", "group", "other"]) $(id).onchange = () => this.filter();
    $("query").oninput = () => this.filter();
    $("filters").onsubmit = (event) => event.preventDefault();
    $("settings").append(el("pre", {}, JSON.stringify(data.settings, null, 1)));
    this.filter();
    this.follow();
    window.addEventListener("hashchange", () => this.follow());
  }

  choices(select, pairs) {
    select.append(...pairs.map(([value, text]) => el("option", { value }, text)));
  }

  /** Open the problem that the address names. */
  follow() {
    if (/^#\d+$/.test(location.hash)) this.table.open(Number(location.hash.slice(1)));
  }

  filter() {
    const [verdict, group, other] = ["verdict", "group", "other"].map((id) => $(id).value);
    const words = $("query").value.trim().toLowerCase();
    const right = (value) => value === "right";
    const rows = this.data.problems.filter((row) =>
      (verdict === "all" || row.verdict === verdict)
      && (group === "all" || row.group === this.groups[Number(group)])
      && (other === "all" || (row.other !== undefined && {
        gained: right(row.verdict) && !right(row.other), lost: !right(row.verdict) && right(row.other), differ: row.verdict !== row.other,
      }[other]))
      && (!words || [row.input, row.gold, row.answer, row.reply, row.error, row.group].some((text) => text && text.toLowerCase().includes(words))));
    const all = this.data.problems.length;
    $("shown").textContent = rows.length === all ? plural(all, "problem") : `${rows.length.toLocaleString("en")} of ${plural(all, "problem")}`;
    this.table.room = CHUNK;
    this.table.show(rows);
    this.summarize(rows);
  }

  /** Figures over the problems that are shown. */
  summarize(rows) {
    const { data } = this;
    const fine = rows.filter((row) => row.verdict !== "failed");
    const known = fine.filter((row) => row.verdict !== "ungraded"), right = (some) => some.filter((row) => row.verdict === "right").length;
    const failed = rows.length - fine.length, accuracy = share(right(known), known.length);
    const notes = [];
    if (failed) notes.push(`${plural(failed, "problem")} failed: between ${percent(right(known) / (known.length + failed))} and ${percent((right(known) + failed) / (known.length + failed))}`);
    if (fine.length > known.length) notes.push(`${fine.length - known.length} ungraded, not in the accuracy`);
    const unanswered = rows.filter((row) => row.verdict === "unanswered").length;
    if (unanswered) notes.push(`${unanswered} without an answer count as wrong`);
    if (data.problems.length < data.wanted) notes.push(`${data.problems.length.toLocaleString("en")} of ${data.wanted.toLocaleString("en")} problems run`);
    if (rows.length < data.problems.length) notes.push("of the problems shown below");
    const parts = [el("div", {}, el("h2", {}, "Accuracy"),
      el("div", { class: "big" }, accuracy.value === null ? unknown : percent(accuracy.value)), track(accuracy),
      accuracy.value === null ? [] : el("p", { class: "note" }, `${accuracy.part} of ${accuracy.whole}, ${interval(accuracy)}`),
      ...notes.map((note) => el("p", { class: note.includes("failed") ? "note warn" : "note" }, note)))];
    const groups = this.groups.filter((group) => known.some((row) => row.group === group)).map((group) => {
      const part = known.filter((row) => row.group === group);
      return [group, share(right(part), part.length)];
    });
    if (groups.length) {
      parts.push(el("div", { class: "groups" }, el("h2", {}, "Accuracy of each group, with 95 % intervals"), el("table", { class: "shares" },
        groups.map(([group, each]) => el("tr", {}, el("th", { scope: "row" }, group), el("td", {}, percent(each.value)),
          el("td", { class: "wide" }, track(each)), el("td", {}, `${each.part} of ${each.whole}`))))));
    }
    parts.push(this.amounts(fine));
    if (data.pair && rows.length === data.problems.length) parts.push(this.comparison());
    if (data.ranking[0] !== null && rows.length === data.problems.length) {
      const [value, low, high] = data.ranking;
      parts.push(el("div", {}, el("h2", {}, "Evaluator"), el("div", { class: "big" }, value.toFixed(3)),
        el("p", { class: "note" }, `of pairs ranked rightly (0.5: chance)${low === null ? "" : `, 95 %: ${low.toFixed(3)} to ${high.toFixed(3)}`}`)));
    }
    $("summary").replaceChildren(...parts);
  }

  amounts(rows) {
    const line = (name, digits) => {
      const each = mean(rows.map((row) => row[name]));
      if (!each) return el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, unknown));
      const half = each.half === null ? "" : ` \u00b1 ${number(each.half, 2)}`;
      return el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, `${number(each.value, digits)}${half}${each.missing ? ` (${each.missing} unknown)` : ""}`));
    };
    return el("div", {}, el("h2", {}, "Mean of a problem \u00b1 95 %"), el("table", { class: "shares" },
      line("tokens", 3), line("seconds", 3), line("calls", 3), line("thoughts", 3)), this.quantiles(rows));
  }

  /** Median and 99th percentile of the seconds, by nearest rank. */
  quantiles(rows) {
    const sorted = rows.map((row) => row.seconds).sort((a, b) => a - b);
    const at = (part) => sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)];
    return el("p", { class: "note" }, sorted.length ? `seconds: median ${number(at(0.5), 3)}, 99 % ${number(at(0.99), 3)}` : []);
  }

  comparison() {
    const [both, first, second, neither, difference, low, high, p] = this.data.pair;
    const sign = (value) => `${value > 0 ? "+" : ""}${percent(value)}`;
    return el("div", {}, el("h2", {}, `Against ${this.data.other}`), el("div", { class: "big" }, sign(difference)),
      el("p", { class: "note" }, `95 %: ${sign(low)} to ${sign(high)}`),
      el("p", { class: "note" }, `only here ${first}, only there ${second}, both ${both}, neither ${neither}; McNemar p = ${number(p, 3)}`));
  }
}

const page = new EvaluationView();

/** For scripts that look at the page. */
window.treeagent = Object.freeze({
  open: (number) => page.table.open(number),
  numbers: () => page.table.rows.map((row) => row.number),
  share,
});
