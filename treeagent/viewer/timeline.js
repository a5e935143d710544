// The time line: each request from when it was asked to when it was answered, as far as the journal knows.

const ROLES = ["#2f81f7", "#d29922", "#8957e5", "#3fb950", "#db61a2", "#e3693c", "#57a6a1"];

class Timeline {
  constructor(run, app) {
    this.run = run;
    this.app = app;
    this.canvas = el("canvas", { role: "img", "aria-label": `Requests of ${visible(run.name)} over time` });
    const told = run.requests.filter((request) => request[1] !== null);
    this.roles = [...new Set(told.map((request) => request[0] || "likelihoods"))];
    this.end = Math.max(0.001, ...[run.steps.t[run.length - 1] ?? 0]);
    for (const [, t] of told) this.end = Math.max(this.end, t);
    this.pack(told);
    const keys = this.roles.map((role, i) => {
      const swatch = el("span", { class: "swatch" });
      swatch.style.background = ROLES[i % ROLES.length];
      return [swatch, role];
    });
    const spans = told.some((request) => request[2] !== null && request[2] !== undefined);
    const said = `${plural(told.length, "request")} in ${seconds(this.end)}${spans ? "" : ", when answered"}`;
    this.element = el("figure", {}, this.canvas, el("figcaption", {}, said, ...keys));
    this.canvas.addEventListener("click", (event) => this.click(event.offsetX));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  /** Lanes, so that requests that were under way together lie below each other. */
  pack(told) {
    const free = [];
    this.bars = told.map(([role, t, took]) => ({ role: this.roles.indexOf(role || "likelihoods"), from: t - (took ?? 0), to: t }));
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
    const tall = Math.min(12, (height - 6) / this.lanes);
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

  /** Go to what had happened by then. */
  click(x) {
    const t = ((x - 2) / (this.canvas.clientWidth - 4)) * this.end;
    const { t: times } = this.run.steps;
    let step = 0;
    while (step < times.length && (times[step] ?? 0) <= t) step += 1;
    this.app.go(step);
  }
}
