// The time line: each request from when it was asked to when it was answered, and below them the engine's rounds, as
// far as the journal knows either.

const STRIP = 30;  // height of the rounds, in CSS pixels

const ROLES = ["#2f81f7", "#d29922", "#8957e5", "#3fb950", "#db61a2", "#e3693c", "#57a6a1"];

class Timeline {
  constructor(run, app) {
    this.run = run;
    this.app = app;
    this.canvas = el("canvas", { role: "img", "aria-label": `Requests of ${visible(run.name)} over time` });
    const timed = run.requests.filter((request) => request[1] !== null);
    this.roles = [...new Set(timed.map((request) => request[0] || "likelihoods"))];
    this.end = Math.max(0.001, ...[run.steps.t[run.length - 1] ?? 0]);
    for (const [, t] of timed) this.end = Math.max(this.end, t);
    this.rounds = run.rounds.at.map((at, i) => this.round(i));
    this.fullest = 1;
    for (const round of this.rounds) {
      this.end = Math.max(this.end, round.to);
      this.fullest = Math.max(this.fullest, round.rows + round.drafted);
    }
    this.engines = new Set(run.rounds.model).size;
    this.pack(timed);
    const keys = this.roles.map((role, i) => {
      const swatch = el("span", { class: "swatch" });
      swatch.style.background = ROLES[i % ROLES.length];
      return [swatch, role];
    });
    const spans = timed.some((request) => request[2] !== null && request[2] !== undefined);
    const said = `${plural(timed.length, "request")} in ${seconds(this.end)}${spans ? "" : ", when answered"}`;
    this.readout = el("span", { class: "readout" }, this.summary());
    this.element = el("figure", {}, this.canvas, el("figcaption", {}, said, ...keys, this.readout));
    if (this.rounds.length) this.canvas.classList.add("rounds");
    this.canvas.addEventListener("click", (event) => this.click(event.offsetX));
    this.canvas.addEventListener("pointermove", (event) => this.hover(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => { this.readout.textContent = this.summary(); });
    new ResizeObserver(() => this.draw()).observe(this.canvas);
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

  /** What the round at `x` did. */
  hover(x) {
    const t = this.timeAt(x), slack = (2 / this.canvas.clientWidth) * this.end;  // two pixels: rounds may be narrower
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

  /** Lanes, so that requests that were under way together lie below each other. */
  pack(timed) {
    const free = [];
    this.bars = timed.map(([role, t, took]) => ({ role: this.roles.indexOf(role || "likelihoods"), from: t - (took ?? 0), to: t }));
    this.bars.sort((a, b) => a.from - b.from);
    for (const bar of this.bars) {
      let lane = free.findIndex((end) => end <= bar.from);
      if (lane < 0) lane = free.length < 24 ? free.length : Math.floor(24 * ((bar.from * 7919) % 1));
      free[lane] = Math.max(free[lane] || 0, bar.to);
      bar.lane = lane;
    }
    this.lanes = Math.max(1, free.length);
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    if (!width) return;
    const context = this.canvas.getContext("2d");
    const size = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.bitmap?.width !== size[0] || this.bitmap?.height !== size[1]) {
      [this.canvas.width, this.canvas.height] = size;
      this.drawBars(width, height, ratio);
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, ...size);
    context.drawImage(this.bitmap, 0, 0);
    context.scale(ratio, ratio);
    const t = this.run.steps.t[Math.min(this.app.step, this.run.length) - 1] ?? 0;
    context.fillStyle = palette.mark;
    context.fillRect((t / this.end) * (width - 4) + 1, 0, 2, height);
  }

  /** The bars, kept as a picture: there may be ten thousand, and the mark moves with every step. */
  drawBars(width, height, ratio) {
    this.bitmap = document.createElement("canvas");
    this.bitmap.width = this.canvas.width;
    this.bitmap.height = this.canvas.height;
    const context = this.bitmap.getContext("2d");
    context.scale(ratio, ratio);
    if (this.rounds.length) this.drawRounds(context, width, height);
    const tall = Math.min(12, (height - 6 - (this.rounds.length ? STRIP : 0)) / this.lanes);
    const x = (t) => (t / this.end) * (width - 4) + 2;
    context.globalAlpha = 0.8;
    this.roles.forEach((_, role) => {
      context.fillStyle = ROLES[role % ROLES.length];
      for (const bar of this.bars) {
        if (bar.role !== role) continue;
        context.fillRect(x(bar.from), 3 + bar.lane * tall, Math.max(1.2, x(bar.to) - x(bar.from) - 0.5), Math.max(1, tall - 1));
      }
    });
  }

  /** A bar for each round, as high as its branches and drafted tokens; the lower part is what they got. */
  drawRounds(context, width, height) {
    const x = (t) => (t / this.end) * (width - 4) + 2;
    const tall = (count) => (count / this.fullest) * (STRIP - 4);
    for (const [colour, count] of [["#8c959f", (round) => round.rows + round.drafted], ["#1f7a37", (round) => round.tokens]]) {
      context.fillStyle = colour;
      for (const round of this.rounds) {
        const h = Math.min(STRIP - 4, Math.max(1, tall(count(round))));
        context.fillRect(x(round.from), height - 2 - h, Math.max(0.8, x(round.to) - x(round.from) - 0.4), h);
      }
    }
  }

  /** The moment at a place of the canvas, in CSS pixels. */
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
