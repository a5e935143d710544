// The page: which thought is chosen, how far the search has come, what is searched for.

class App {
  constructor() {
    const places = $("tree-1") ? [0, 1] : [0];
    this.runs = places.map(load);
    this.diff = $("diff") ? parsed("diff") : null;
    this.length = Math.max(...this.runs.map((run) => run.length));
    this.step = this.length;
    this.chosen = null;
    this.hits = [];
    this.playing = null;
    if (this.diff) this.mark();
    readPalette();
    for (const run of this.runs) layOut(run, true);
    this.panes = this.runs.map((run) => new Pane(run, this));
    this.pane = this.panes[0];
    $("panes").append(...this.panes.map((pane) => pane.element));
    this.timelines = this.runs.map((run) => new Timeline(run, this));
    this.scale();
    $("times").append(...this.timelines.map((timeline) => timeline.element));
    for (const each of document.querySelectorAll(".only-two")) each.hidden = this.runs.length < 2;
    $("differ").hidden = !this.diff?.first;
    $("answer").disabled = !this.runs.some((run) => run.last);
    $("step").max = this.length;
    this.listen();
    this.go(this.length);
    this.choose(this.named(location.hash.slice(1)));
  }

  /** All time lines on one scale, so that a second is as wide in each. */
  scale() {
    const end = Math.max(...this.timelines.map((timeline) => timeline.end));
    for (const timeline of this.timelines) timeline.end = end;
  }

  /** Show newer data of the only run; the choice and the camera stay where they are. */
  renew() {
    const atEnd = this.step >= this.length, chosen = this.chosen?.id ?? null, last = this.timelines[0];
    const run = load(0);
    layOut(run, $("dropped").checked);
    this.runs = [run];
    this.length = run.length;
    this.pane.renew(run);
    this.timelines = [new Timeline(run, this)];
    last.element.replaceWith(this.timelines[0].element);
    $("answer").disabled = !run.last;
    $("step").max = this.length;
    this.chosen = chosen === null ? null : run.byId.get(chosen) || null;
    if ($("query").value) this.search($("query").value);
    this.go(atEnd ? this.length : this.step);
    this.tell();
  }

  /** Mark the thoughts that both runs share, those that differ, and the first difference. */
  mark() {
    const [left, right] = this.runs;
    for (const [a, b] of this.diff.twins) {
      left.byId.get(a).twin = right.byId.get(b);
      right.byId.get(b).twin = left.byId.get(a);
    }
    this.runs.forEach((run, i) => {
      const side = ["left", "right"][i];
      for (const id of this.diff[side]) run.byId.get(id).differs = true;
      const first = this.diff.first?.[side];
      run.firstDifference = first === null || first === undefined ? null : run.byId.get(first);
    });
  }

  named(id) {
    return /^\d+$/.test(id) ? this.runs[0].byId.get(Number(id)) || null : null;
  }

  listen() {
    $("fit").onclick = () => this.panes.forEach((pane) => pane.fit());
    $("closer").onclick = () => this.zoom(1.3);
    $("farther").onclick = () => this.zoom(1 / 1.3);
    $("answer").onclick = () => this.toAnswer();
    $("differ").onclick = () => this.toDifference();
    $("play").onclick = () => this.play();
    $("step").oninput = () => this.go(Number($("step").value));
    $("dropped").onchange = () => this.layAnew();
    $("query").oninput = () => this.search($("query").value);
    $("find").onsubmit = (event) => { event.preventDefault(); this.nextHit(1); };
    $("query").onkeydown = (event) => {
      if (event.key === "Enter" && event.shiftKey) { event.preventDefault(); this.nextHit(-1); }
      if (event.key === "Escape") { $("query").value = ""; this.search(""); this.pane.canvas.focus(); }
    };
    document.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("hashchange", () => { const node = this.named(location.hash.slice(1)); if (node) this.choose(node, true); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readPalette(); this.paint(); this.tell(); });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=search]")) return;
    const onTree = event.target === document.body || event.target.tagName === "CANVAS";
    const keys = {
      "+": () => this.zoom(1.3), "=": () => this.zoom(1.3), "-": () => this.zoom(1 / 1.3),
      0: () => this.panes.forEach((pane) => pane.fit()),
      "/": () => $("query").focus(), "?": () => { $("help").open = !$("help").open; },
      ",": () => this.go(this.step - 1, true), ".": () => this.go(this.step + 1, true),
      a: () => this.toAnswer(), d: () => this.toDifference(), r: () => this.choose(null), n: () => this.nextHit(1), N: () => this.nextHit(-1),
    };
    const treeKeys = {
      " ": () => this.play(), Home: () => this.go(0, true), End: () => this.go(this.length, true),
      ArrowLeft: () => this.walk(-1, 0), ArrowRight: () => this.walk(1, 0),
      ArrowUp: () => this.walk(0, -1), ArrowDown: () => this.walk(0, 1), Escape: () => this.choose(null),
    };
    const act = keys[event.key] || (onTree && treeKeys[event.key]);
    if (!act) return;
    event.preventDefault();
    act();
  }

  enter(pane) {
    this.pane = pane;
  }

  zoom(factor) {
    for (const pane of this.panes) pane.zoomAt(factor, pane.width / 2, pane.height / 2);
  }

  paint() {
    for (const pane of this.panes) pane.paint();
    for (const timeline of this.timelines) timeline.draw();
  }

  layAnew() {
    for (const run of this.runs) layOut(run, $("dropped").checked);
    if (this.chosen && this.chosen.row === null) this.choose(null);
    for (const pane of this.panes) { pane.begin(); pane.paint(); }
  }

  /** Choose a node, or the run itself with null; `bring` it into view. */
  choose(node, bring = false) {
    if (node && !isThere(node, this.step)) this.go(this.length);
    if (node && node.row === null) { $("dropped").checked = true; this.layAnew(); }
    this.chosen = node;
    if (node) {
      this.pane = this.panes[this.runs.indexOf(node.run)];
      if (bring) this.pane.show(node);
      const other = this.panes.find((pane) => pane !== this.pane);
      if (other && node.twin) other.show(node.twin);
      $("spoken").textContent = `${onOneLine(node.text || node.state, 200)}, ${standing(node, this.step).word}`;
    }
    this.tell();
    this.paint();
  }

  tell() {
    const panel = $("details");
    panel.replaceChildren(...(this.chosen ? aboutNode(this.chosen, this) : aboutRun(this.pane.run, this)));
    panel.dataset.thought = this.chosen && this.chosen.id !== null ? this.chosen.id : "";
    panel.scrollTop = 0;
  }

  walk(across, down) {
    const node = this.chosen || this.pane.run.root;
    const there = (each) => each && each.row !== null && isThere(each, this.step);
    let next = null;
    if (!this.chosen) next = node;
    else if (across < 0) next = node.parent;
    else if (across > 0) next = node.kids.filter(there).sort((a, b) => b.chosen - a.chosen || a.row - b.row)[0];
    else {
      const column = node.run.columns[node.depth].filter(there);
      next = column[column.indexOf(node) + down];
    }
    if (there(next)) this.choose(next, true);
  }

  // Stepping

  go(step, follow = false) {
    this.step = Math.max(0, Math.min(this.length, step));
    $("step").value = this.step;
    const run = this.pane.run;
    const at = Math.min(this.step, run.length) - 1;
    const node = at >= 0 ? run.stepNodes[at] : null;
    const said = at < 0 ? "before the first event"
      : `${seconds(run.steps.t[at])}  ${STEPS[run.steps.kind[at]]}${node ? ": " + onOneLine(node.text || node.state, 48) : ""}`;
    $("now").textContent = `${this.step.toLocaleString("en")} of ${this.length.toLocaleString("en")}  ${said}`;
    if (follow || this.playing) {
      for (const pane of this.panes) {
        const current = this.current(pane.run);
        if (current && current.row !== null && isThere(current, this.step)) pane.show(current);
      }
    }
    this.paint();
  }

  /** What the last event was about, unless the search is shown whole. */
  current(run) {
    return this.step < this.length && this.step > 0 ? run.stepNodes[Math.min(this.step, run.length) - 1] : null;
  }

  play() {
    const stop = () => {
      clearInterval(this.playing);
      this.playing = null;
      $("play").textContent = "\u25b6";
      $("play").setAttribute("aria-label", "Play");
    };
    if (this.playing) { stop(); return; }
    if (this.step >= this.length) this.go(0);
    const stride = Math.max(1, Math.round(this.length / 600));  // any search in about a minute
    this.playing = setInterval(() => {
      this.go(this.step + stride);
      if (this.step >= this.length) stop();
    }, 100);
    $("play").textContent = "\u23f8";
    $("play").setAttribute("aria-label", "Pause");
  }

  toAnswer() {
    const run = this.pane.run.last ? this.pane.run : this.runs.find((each) => each.last);
    if (!run) return;
    if (!isThere(run.last, this.step)) this.go(this.length);
    this.panes[this.runs.indexOf(run)].see(run.path);
    this.choose(run.last);
  }

  toDifference() {
    if (!this.diff?.first) return;
    this.panes.forEach((pane) => { if (pane.run.firstDifference) pane.show(pane.run.firstDifference); });
    const at = this.runs.find((run) => run.firstDifference);
    if (at) this.choose(at.firstDifference, true);
    $("spoken").textContent = `First difference: ${visible(this.diff.first.what)}`;
  }

  // Searching

  search(words) {
    const wanted = words.trim().toLowerCase();
    for (const node of this.hits) node.hit = false;
    this.hits = wanted ? this.runs.flatMap((run) => run.nodes.filter((node) => matches(node, wanted))) : [];
    for (const node of this.hits) node.hit = true;
    this.hit = -1;
    $("found").textContent = wanted ? plural(this.hits.length, "hit") : "";
    this.paint();
  }

  nextHit(by) {
    if (!this.hits.length) return;
    this.hit = (this.hit + by + this.hits.length) % this.hits.length;
    $("found").textContent = `${this.hit + 1} of ${this.hits.length}`;
    this.choose(this.hits[this.hit], true);
  }
}

const matches = (node, wanted) =>
  [node.text, node.state, node.answer, node.why, ...node.labels].some((text) => text && text.toLowerCase().includes(wanted));

const app = new App();

/** For scripts that look at the page: the middle of a thought on its canvas, and what is shown. */
window.treeagent = Object.freeze({
  place: (pane, id) => app.panes[pane].place(app.runs[pane].byId.get(id)),
  choose: (pane, id) => app.choose(app.runs[pane].byId.get(id), true),
  go: (step) => app.go(step),
  path: (pane) => app.runs[pane].path.map((node) => boxOf(app.panes[pane], node)),
  scales: () => app.timelines.map((timeline) => timeline.end),
  word: (pane, id, step) => shortStanding(app.runs[pane].byId.get(id), step),
  hover: (pane, share) => {
    const { canvas, top } = app.timelines[pane];
    app.timelines[pane].hover(share * canvas.clientWidth, top.early + 4);
  },
  shown: () => app.runs.map((run) => run.nodes.filter((node) => node.row !== null && isThere(node, app.step)).length),
});
