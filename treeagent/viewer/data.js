// A run as the page holds it: nodes with links, and the step at which each thing became known.

const [THOUGHT, JUDGED, DROPPED, ANSWER, COMPLETION, SCORES, FAILED, END, VISITED] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
const STEPS = ["thought", "judged", "dropped", "answer", "reply", "scores", "failure", "end", "visits"];
const NEVER = Infinity;

const parsed = (id) => JSON.parse($(id).textContent);

/** Run `place` (0 or 1) with its nodes: thoughts first, then dropped pieces. */
function load(place) {
  const run = parsed(`tree-${place}`);
  const { thoughts, dropped, steps } = run;
  run.place = place;
  run.byId = new Map();
  run.nodes = thoughts.id.map((id, i) => {
    const node = {
      run, id, text: thoughts.text[i], state: thoughts.state[i], index: thoughts.index[i], kids: [], parent: null,
      depth: 0, terminal: !!thoughts.terminal[i], answer: thoughts.answer[i], request: thoughts.request[i],
      sample: thoughts.sample[i], judged: !!thoughts.judged[i], value: thoughts.value[i], rank: thoughts.rank[i],
      labels: thoughts.labels[i], unparsed: thoughts.unparsed[i], why: null, chosen: false, followed: false,
      born: id === 0 ? -1 : NEVER, judgedAt: NEVER, answeredAt: NEVER, t: null, differs: false, twin: null, hit: false,
    };
    run.byId.set(id, node);
    return node;
  });
  run.nodes.forEach((node, i) => {
    if (thoughts.parent[i] === null) return;
    node.parent = run.byId.get(thoughts.parent[i]);
    node.depth = node.parent.depth + 1;
    node.parent.kids.push(node);
    node.parent.followed = true;
  });
  run.count = run.nodes.length - 1;
  for (const [id, index, text, why] of dropped) {
    const parent = run.byId.get(id);
    if (!parent) continue;
    const node = {
      run, id: null, text, state: "", index, kids: [], parent, depth: parent.depth + 1, terminal: false, answer: null,
      judged: false, value: null, rank: null, labels: [], unparsed: 0, why, chosen: false, followed: true, born: NEVER,
      judgedAt: NEVER, answeredAt: NEVER, t: null, differs: false, twin: null, hit: false,
    };
    parent.kids.push(node);
    parent.followed = true;
    run.nodes.push(node);
  }
  for (const node of run.nodes) node.kids.sort((a, b) => a.index - b.index);
  run.root = run.nodes[0];
  run.root.chosen = run.solution.length > 0;
  for (const id of run.solution) run.byId.get(id).chosen = true;
  run.path = run.solution.length ? [run.root, ...run.solution.map((id) => run.byId.get(id)).filter((node) => node !== run.root)] : [];
  run.last = run.byId.get(run.solution[run.solution.length - 1]) || null;
  run.length = steps.kind.length;
  run.stepNodes = steps.kind.map((kind, step) => reached(run, kind, steps.at[step], step));
  run.requestAt = new Map(run.requests.map((request, i) => [request[4], i]));
  run.early = (run.early || []).map(([kind, hit, began, took, asked, tokens, thought, request]) => (
    { kind, hit, from: began, to: began + took, asked, tokens, thought, request }));
  run.earlyOf = new Map(run.early.filter((each) => each.hit && each.request !== null).map((each) => [each.request, each]));
  run.askedAt = new Map();  // thought id -> requests that were asked there
  run.requests.forEach(([, , , thought], i) => {
    if (thought === null || thought === undefined) return;
    if (!run.askedAt.has(thought)) run.askedAt.set(thought, []);
    run.askedAt.get(thought).push(i);
  });
  return run;
}

/** Note at which step a node came, was judged, got its answer; the node a step is about, null where there is none. */
function reached(run, kind, at, step) {
  if (kind === COMPLETION || kind === SCORES) return run.byId.get(run.requests[at][3]) || null;
  if (kind === DROPPED) {
    const node = run.nodes[run.count + 1 + at];
    node.born = step;
    node.t = run.steps.t[step];
    return node;
  }
  if (kind === VISITED) {
    const [ids, visits, means] = run.visited[at];
    ids.forEach((id, i) => (run.byId.get(id).statistics ||= []).push([step, visits[i], means[i]]));
    return run.byId.get(ids.reduce((deepest, id) => (run.byId.get(id).depth > run.byId.get(deepest).depth ? id : deepest), ids[0])) || null;
  }
  const node = run.byId.get(at);
  if (!node) return null;
  if (kind === THOUGHT) {
    node.born = step;
    node.t = run.steps.t[step];
  } else if (kind === JUDGED) node.judgedAt = step;
  else if (kind === ANSWER) node.answeredAt = step;
  return node;
}

/** Prompts and replies, read when first asked for. */
function repliesOf(run) {
  if (!run.replies) {
    const { requests, lines } = parsed(`replies-${run.place}`);
    run.replies = requests;
    run.unfold = (folded) => folded.map((line) => lines[line]).join("\n");
  }
  return run.replies;
}

/** What is known about a node's value after `step` events: a word, and the colour's rank where there is one. */
function standing(node, step) {
  if (node.why !== null) return { word: onOneLine(node.why, 50), rank: null };
  if (node.parent === null && !node.judged) return { word: "input", rank: null };
  if (!node.judged || node.judgedAt >= step) return { word: "not judged", rank: null };
  if (node.value === null) return { word: "value unknown", rank: null, unread: true };
  const labels = [...new Set(node.labels)].join("/");
  return { word: `value ${number(node.value)}${labels ? " \u00b7 " + onOneLine(labels, 50) : ""}`, rank: node.rank };
}

/** Visits and their mean value after `step` events, as the search counts them; null where it has none at this node. */
function statisticsOf(node, step) {
  const known = node.statistics;
  if (!known || known[0][0] >= step) return null;
  let i = known.length - 1;
  while (known[i][0] >= step) i -= 1;
  return { visits: known[i][1], mean: known[i][2] };
}

/** What a node's box says under its label. */
function shortStanding(node, step) {
  const { word } = standing(node, step), statistics = statisticsOf(node, step);
  if (!statistics) return word;
  const mean = statistics.mean === null ? "mean unknown" : `mean ${number(statistics.mean, 3)}`;
  return `${plural(statistics.visits, "visit")}, ${mean} \u00b7 ${word}`;
}
