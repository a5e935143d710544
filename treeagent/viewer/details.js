// The panel beside the trees: the run itself, or one thought with everything that is known about it.

const WHY = {
  duplicate: "leads to a state that was in the tree already",
  illegal: "is no legal step",
  unparsed: "could not be read as a step",
  failed: "had no observation from a tool or an environment",
};
const MOST = 60;

function heading(run) {
  const { end } = run;
  const input = run.run.input ?? "";
  const verdict = !end ? "no end" : end.answer === null ? "no answer"
    : `${end.answer} (${{ true: "solved", false: "refused by the task's check", null: "not verified" }[end.solved]})`;
  const lost = run.nodes.length - 1 - run.count;
  const usage = end ? `, ${plural(end.usage.calls, "call")}, ${number(end.usage.tokens)} tokens, ${seconds(end.seconds)}` : "";
  return [
    el("h1", {}, `${run.name}: ${input}`),
    el("p", { class: "verdict" }, verdict),
    el("p", {}, `${plural(run.count, "thought")}, ${plural(lost, "dropped piece")}${usage}`),
    ...run.notes.map((note) => el("p", { class: "note" }, note)),
    ...run.failed.map((error) => el("p", { class: "note" }, `The run failed: ${error}`)),
  ];
}

function aboutRun(run, app) {
  const { end } = run;
  const header = run.run;
  const parts = [el("h2", {}, `The run ${run.name}`)];
  if (app.runs.length === 2) parts.push(...aboutDiff(app));
  parts.push(rows([
    ["input", header.input ?? unknown],
    ["answer", end ? end.answer ?? "none" : "no end yet"],
    ["solved", end ? { true: "yes", false: "no", null: "the task cannot tell" }[end.solved] : unknown],
    ["ended", end ? end.ended : "not in the journal"],
    ["seed", number(header.seed)],
  ]));
  if (run.solution.length) {
    parts.push(el("h3", {}, "Steps of the answer"), ...run.solution.map((id) => jump(run.byId.get(id), app)));
  }
  if (run.early.length) parts.push(...aboutEarly(run));
  if (end) parts.push(el("h3", {}, "What it cost"), figures({ seconds: end.seconds, ...end.usage, ...end.counts }));
  if (end && end.engine && Object.keys(end.engine).length) {
    parts.push(el("h3", {}, "The engine's figures at the end"), figures(end.engine));
  }
  parts.push(el("h3", {}, "Settings"), figures({ ...header.settings, budget: header.budget }));
  return parts;
}

/** Requests that were sent before the search asked for them. */
function aboutEarly(run) {
  const hits = run.early.filter((each) => each.hit), misses = run.early.filter((each) => !each.hit);
  const kinds = [...new Set(run.early.map((each) => each.kind))];
  const share = (some) => `${some.filter((each) => each.hit).length} of ${some.length}`;
  return [
    el("h3", {}, "Sent early"),
    rows([
      ["asked for later", `${share(run.early)} (${Math.round((100 * hits.length) / run.early.length)} %)`],
      ["saved at most", seconds(run.end?.speculated?.seconds_saved)],
      ["in vain", `${plural(misses.length, "request")}, ${plural(misses.reduce((sum, each) => sum + each.tokens, 0), "token")} or more`],
      ...kinds.map((kind) => [kind, share(run.early.filter((each) => each.kind === kind))]),
    ]),
    el("p", { class: "more" }, "Saved is an estimate: what the search would have waited for its requests, less what it did wait; an upper bound where guesses slow others down."),
  ];
}

function aboutDiff(app) {
  const { first, left, right } = app.diff;
  if (!first) return [el("p", {}, "Both runs grew the same tree.")];
  const texts = first.said ? app.runs.map((run, i) => [run.name, el("code", {}, JSON.stringify(first.said[["left", "right"][i]]))]) : [];
  const marks = `Marked: ${plural(left.length, "thought")} on the left and ${right.length} on the right that are missing from the other run or have another value there.`;
  return [el("p", { class: "warn first" }, `First difference: ${first.what}.`), rows(texts), el("p", { class: "more" }, marks)];
}

/** Names and values, nested ones under their own names; numbers unknown to the run stay unknown. */
function figures(values, prefix = "") {
  const pairs = [];
  const add = (name, value) => {
    if (value !== null && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length) {
      for (const [inner, each] of Object.entries(value)) add(`${name} ${inner}`, each);
    } else pairs.push([name.replaceAll("_", " ").trim(), Array.isArray(value) ? value.map((each) => number(each)).join(" ") || "none"
      : typeof value === "object" && value !== null ? "none" : number(value)]);
  };
  add(prefix, values);
  return rows(pairs);
}

function jump(node, app) {
  const { word } = standing(node, NEVER);
  if (node.why !== null) return el("div", { class: "jump lost" }, onOneLine(node.text, 160) || "(empty)", el("small", {}, `  ${word}`));
  const go = () => app.choose(node, true);
  return el("button", { class: "jump", type: "button", onclick: go }, onOneLine(node.text || node.state, 160), el("small", {}, `  ${word}`));
}

function aboutNode(node, app) {
  const { run } = node;
  const parts = [];
  if (node.why !== null) {
    parts.push(el("h2", {}, `Dropped: ${node.why}`), el("pre", { dir: "auto" }, node.text || "(empty)"));
    parts.push(el("p", {}, `This piece ${WHY[node.why] || "was dropped"}; it was read from a reply at its parent:`), jump(node.parent, app));
    return [...parts, ...askedHere(node.parent, app, "The replies there")];
  }
  const root = node.parent === null;
  parts.push(el("h2", {}, root ? "The input" : `Thought ${node.id}`));
  parts.push(el("pre", { dir: "auto", class: "step" }, node.text || node.state));
  const { word, rank } = standing(node, NEVER);
  const facts = [["state after it", node.state], ["depth", number(node.depth)]];
  if (!root) facts.push(["came at", seconds(node.t)], ["followed", node.terminal ? "a final state" : node.followed || node.chosen ? "yes" : "no"]);
  if (node.answer !== null) facts.push(["answer", node.answer]);
  parts.push(rows(facts));
  if (node === run.firstDifference) parts.push(...aboutDiff(app));
  if (node.differs) parts.push(el("p", { class: "warn" }, node.twin ? "Judged otherwise in the other run." : "The other run does not have this thought."));
  if (!root) {
    const chip = el("span", { class: "chip" }, word);
    if (rank !== null) chip.style.background = rankColour(rank);
    parts.push(el("h3", {}, "Judgement"), el("p", {}, chip));
    if (node.judged) {
      parts.push(rows([
        ["value", node.value === null ? "unknown: nothing could be read" : number(node.value, 6)],
        ["labels", node.labels.join(", ") || "none"],
        ["unread samples", number(node.unparsed)],
      ]));
      const asked = run.asked[node.id] || [];
      if (!asked.length) parts.push(el("p", { class: "more" }, "Which requests it rests on is not in the journal, or none was needed."));
      for (const place of asked) parts.push(...exchange(run, place, null, true));
    }
    const statistics = statisticsOf(node, NEVER);
    if (statistics) {
      parts.push(el("h3", {}, "Visits of the search"), rows([
        ["visits", number(statistics.visits)], ["mean value", number(statistics.mean, 6)],
      ]));
    }
    const place = run.requestAt.get(node.request);
    parts.push(el("h3", {}, "Where it came from"));
    if (place === undefined) parts.push(el("p", { class: "more" }, "The journal does not hold its request."));
    else parts.push(...exchange(run, place, node, true));
    parts.push(el("h3", {}, "The steps to it"), jump(run.root, app), ...lineage(node).map((each) => jump(each, app)));
  }
  if (node.kids.length) {
    parts.push(el("h3", {}, `What followed (${node.kids.length})`), ...node.kids.slice(0, MOST).map((kid) => jump(kid, app)));
    if (node.kids.length > MOST) parts.push(el("p", { class: "more" }, `and ${node.kids.length - MOST} more`));
  }
  return [...parts, ...askedHere(node, app, "Asked at this thought")];
}

function lineage(node) {
  const path = [];
  for (let step = node; step.parent; step = step.parent) path.unshift(step);
  return path;
}

/** Requests that were asked at a node, but for those that judged it. */
function askedHere(node, app, title) {
  const { run } = node;
  const judging = new Set(run.asked[node.id] || []);
  const places = (run.askedAt.get(node.id) || []).filter((place) => !judging.has(place));
  if (!places.length) return [];
  return [el("h3", {}, title), ...places.slice(0, MOST).map((place) =>
    folding(`${run.requests[place][0] || "likelihoods"}, ${seconds(run.requests[place][1])}`, places.length === 1,
      () => el("div", {}, exchange(run, place, null, false))))];
}
