// The time line: each request from when it was asked to when it was answered, below them what was sent early, and the
// engine's rounds, as far as the journal knows them; at the bottom the seconds.

const REQUESTS = 48, EARLY = 30, STRIP = 30, AXIS = 15;  // heights of the bands, in CSS pixels
const MOST_LANES = 24;

class Timeline {
  constructor(run, app) {
    this.run = run;
    this.app = app;
    this.canvas = el("canvas", { role: "img", "aria-label": `Requests of ${visible(run.name)} over time` });
    const timed = run.requests.filter((request) => request[1] !== null);
    this.roles = [...new Set(timed.map((request) => request[0] || "likelihoods"))];
    this.rounds = run.rounds.at.map((at, i) => this.round(i));
    this.bars = timed.map(([role, t, took]) => ({ role: this.roles.indexOf(role || "likelihoods"), from: t - (took ?? 0), to: t }));
    this.lanes = inLanes(this.bars);
    this.early = run.early;
    this.earlyLanes = inLanes(this.early);
    /** Seconds that the canvas is wide; two runs are shown on one scale. */
    this.end = Math.max(0.001, run.steps.t[run.length - 1] ?? 0);
    for (const each of [...this.bars, ...this.early, ...this.rounds]) this.end = Math.max(this.end, each.to);
    this.fullest = Math.max(1, ...this.rounds.map((round) => round.rows + round.drafted));
    this.engines = new Set(run.rounds.model).size;
    this.top = { early: REQUESTS, rounds: REQUESTS + (this.early.length ? EARLY : 0) };
    this.height = this.top.rounds + (this.rounds.length ? STRIP : 0) + AXIS;
    this.canvas.style.height = `${this.height}px`;
    const spans = timed.some((request) => request[2] !== null && request[2] !== undefined);
    const said = `${plural(timed.length, "request")} in ${seconds(Math.max(0, ...this.bars.map((bar) => bar.to)))}${spans ? "" : ", when answered"}`;
    const name = app.runs.length > 1 ? `${run.name}: ` : "";
    this.readout = el("span", { class: "readout" }, this.summary());
    this.element = el("figure", {}, this.canvas, el("figcaption", {}, name + said, ...this.keys(), this.readout));
    this.canvas.addEventListener("click", (event) => this.click(event.offsetX));
    this.canvas.addEventListener("pointermove", (event) => this.hover(event.offsetX, event.offsetY));
    this.canvas.addEventListener("pointerleave", () => { this.readout.textContent = this.summary(); });
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  /** What the colours mean. */
  keys() {
    const keys = this.roles.map((role, i) => [el("span", { class: `swatch role-${i % 7}` }), role]);
    if (!this.early.length) return keys;
    const hits = this.early.filter((each) => each.hit).length;
    return [...keys, el("span", { class: "swatch early" }), `sent early and asked for later (${hits})`,
      el("span", { class: "swatch vain" }), `in vain (${this.early.length - hits})`];
  }

  /** Round `i` as the journal's columns have it. */
  round(i) {
    const { at, seconds: took, rows, read, drafted, accepted, tokens, model } = this.run.rounds;
    return {
      from: at[i], to: at[i] + took[i], rows: rows[i], read: read[i], drafted: drafted[i], accepted: accepted[i],
      tokens: tokens[i], model: model[i],
    };
  }

  /** What is said of the rounds while none is pointed at. */
  summary() {
    if (!this.rounds.length) return "";
    const sum = (name) => this.rounds.reduce((total, round) => total + round[name], 0);
    const each = sum("rows") ? ` \u00b7 ${number(sum("tokens") / sum("rows"))} tokens a branch` : "";
    return `${plural(this.rounds.length, "round")} of the engine, ${number(sum("rows") / this.rounds.length)} branches each${each}`;
  }

  /** What the early request or the round at this point did. */
  hover(x, y) {
    const t = this.timeAt(x), slack = (2 / this.canvas.clientWidth) * this.end;  // two pixels: they may be narrower
    if (this.early.length && y >= this.top.early && y < this.top.rounds) {
      const lane = Math.floor((y - this.top.early) / this.laneHeight(EARLY, this.earlyLanes));
      const bar = this.early.find((each) => each.lane === lane && each.from - slack <= t && t <= each.to + slack);
      this.readout.textContent = bar ? earlyWords(this.run, bar) : this.summary();
      return;
    }
    const i = this.rounds.findLastIndex((round) => round.from <= t);
    if (i < 0 || t > this.rounds[i].to + slack) {
      this.readout.textContent = this.summary();
      return;
    }
    const { from, to, rows, read, drafted, accepted, tokens, model } = this.rounds[i];
    const parts = [`${plural(rows, "branch", "branches")} got ${plural(tokens, "token")}`];
    if (drafted) parts.push(`${accepted} of ${drafted} drafted were right`);
    if (read) parts.push(`${plural(read, "prompt token")} read`);
    const named = this.engines > 1 ? `${visible(model || "")} ` : "";
    this.readout.textContent = `${named}round ${i + 1}, ${seconds(to - from)}: ${parts.join(", ")}`;
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    if (!width) return;
    const context = this.canvas.getContext("2d");
    const size = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.bitmap?.width !== size[0] || this.bitmap?.height !== size[1] || this.colours !== palette) {
      [this.canvas.width, this.canvas.height] = size;
      this.colours = palette;
      this.drawBands(width, ratio);
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, ...size);
    context.drawImage(this.bitmap, 0, 0);
    context.scale(ratio, ratio);
    const t = this.run.steps.t[Math.min(this.app.step, this.run.length) - 1] ?? 0;
    context.fillStyle = palette.mark;
    context.fillRect(this.placeOf(t) - 1, 0, 2, height - AXIS);
  }

  /** All bands, kept as a picture: there may be ten thousand bars, and the mark moves with every step. */
  drawBands(width, ratio) {
    this.bitmap = document.createElement("canvas");
    this.bitmap.width = this.canvas.width;
    this.bitmap.height = this.canvas.height;
    const context = this.bitmap.getContext("2d");
    context.scale(ratio, ratio);
    const tall = this.laneHeight(REQUESTS, this.lanes);
    this.roles.forEach((_, role) => {
      context.fillStyle = palette.roles[role % 7];
      for (const bar of this.bars) if (bar.role === role) context.fillRect(...this.boxOf(bar, 0, tall));
    });
    this.drawEarly(context);
    this.drawRounds(context);
    this.drawAxis(context, width);
  }

  /** Where a bar lies: left, top, width, height. */
  boxOf(bar, top, tall) {
    const x = this.placeOf(bar.from);
    return [x, top + 3 + bar.lane * tall, Math.max(1.2, this.placeOf(bar.to) - x - 0.5), Math.max(1, tall - 1)];
  }

  laneHeight(height, lanes) {
    return Math.min(12, (height - 6) / lanes);
  }

  /** A full bar for what the search asked for later, with a notch at that moment; a hollow one for what was in vain. */
  drawEarly(context) {
    const tall = this.laneHeight(EARLY, this.earlyLanes);
    for (const bar of this.early) {
      const [x, y, wide, high] = this.boxOf(bar, this.top.early, tall);
      context.fillStyle = context.strokeStyle = bar.hit ? palette.path : palette.gone;
      context.lineWidth = 1;
      if (bar.hit) context.fillRect(x, y, wide, high);
      else if (high < 3 || wide < 3) context.fillRect(x, y + high / 2 - 0.5, wide, 1);
      else context.strokeRect(x + 0.5, y + 0.5, wide - 1, high - 1);
      if (bar.hit && bar.asked !== null && bar.asked < bar.to && wide > 6) {
        context.fillStyle = palette.panel;
        context.fillRect(this.placeOf(bar.asked) - 0.7, y, 1.4, high);
      }
    }
  }

  /** A bar for each round, as high as its branches and drafted tokens; the lower part is what they got. */
  drawRounds(context) {
    const bottom = this.top.rounds + STRIP - 2, tall = (count) => (count / this.fullest) * (STRIP - 4);
    for (const [colour, count] of [[palette.line, (round) => round.rows + round.drafted], [palette.path, (round) => round.tokens]]) {
      context.fillStyle = colour;
      for (const round of this.rounds) {
        const h = Math.min(STRIP - 4, Math.max(1, tall(count(round)))), x = this.placeOf(round.from);
        context.fillRect(x, bottom - h, Math.max(0.8, this.placeOf(round.to) - x - 0.4), h);
      }
    }
  }

  /** Seconds at round numbers, as many as have room. */
  drawAxis(context, width) {
    const least = (this.end * 64) / width, power = 10 ** Math.floor(Math.log10(least));
    const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= least);
    const y = this.height - AXIS;
    context.fillStyle = palette.line;
    context.fillRect(2, y, width - 4, 1);
    context.font = "10.5px system-ui, sans-serif";
    context.textBaseline = "bottom";
    for (let i = 0; i * step <= this.end; i++) {
      const x = this.placeOf(i * step), text = i ? `${number(i * step)} s` : "0";
      context.fillStyle = palette.line;
      context.fillRect(x, y, 1, 4);
      context.fillStyle = palette.faint;
      context.textAlign = i === 0 ? "left" : x > width - 20 ? "right" : "center";
      context.fillText(text, x, this.height + 1);
    }
  }

  /** The place of a moment on the canvas, in CSS pixels. */
  placeOf(t) {
    return (t / this.end) * (this.canvas.clientWidth - 4) + 2;
  }

  /** The moment at a place of the canvas. */
  timeAt(x) {
    return ((x - 2) / (this.canvas.clientWidth - 4)) * this.end;
  }

  /** Go to what had happened by then. */
  click(x) {
    const t = this.timeAt(x);
    const { t: times } = this.run.steps;
    let step = 0;
    while (step < times.length && (times[step] ?? 0) <= t) step += 1;
    this.app.go(step);
  }
}

/** Give bars lanes, so that those that were under way together lie below each other; returns the number of lanes. */
function inLanes(bars) {
  const free = [];
  bars.sort((a, b) => a.from - b.from);
  for (const bar of bars) {
    let lane = free.findIndex((end) => end <= bar.from);
    if (lane < 0) lane = free.length < MOST_LANES ? free.length : Math.floor(MOST_LANES * ((bar.from * 7919) % 1));
    free[lane] = Math.max(free[lane] || 0, bar.to);
    bar.lane = lane;
  }
  return Math.max(1, free.length);
}

/** An early request in words. */
function earlyWords(run, bar) {
  const node = bar.thought === null ? null : run.byId.get(bar.thought);
  const where = node ? ` at ${onOneLine(node.text || node.state, 40)}` : "";
  const came = !bar.hit ? `in vain, ${plural(bar.tokens, "token")} or more`
    : bar.asked === null ? "asked for later" : `asked for ${seconds(bar.asked - bar.from)} after it was sent`;
  return `${bar.kind}${where}: sent early for ${seconds(bar.to - bar.from)}, ${came}`;
}
