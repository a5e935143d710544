// A pane: one tree on its canvas, seen through a camera that the pointer moves.

const CLOSEST = 3;

class Pane {
  constructor(run, app) {
    this.run = run;
    this.app = app;
    this.camera = { x: 0, y: 0, zoom: 1 };  // world at the canvas's corner; pixels per unit downwards
    this.canvas = el("canvas", { tabindex: "0", role: "application", "aria-label": `The tree of ${visible(run.name)}; arrows move` });
    this.context = this.canvas.getContext("2d");
    this.stage = el("div", { class: "stage" }, this.canvas);
    this.element = el("section", { class: "pane", "aria-label": visible(run.name) }, heading(run), this.stage);
    this.pointers = new Map();
    this.waiting = false;
    this.touched = false;
    this.listen();
  }

  /** Show newer data of the same run. */
  renew(run) {
    this.run = run;
    while (this.element.firstChild !== this.stage) this.element.firstChild.remove();
    this.stage.before(...heading(run));
    if (!this.touched && this.width) this.begin();
  }

  listen() {
    const on = (name, handler) => this.canvas.addEventListener(name, handler, { passive: false });
    on("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
      this.moved = 0;
    });
    on("pointermove", (event) => this.drag(event));
    on("pointerup", (event) => {
      this.pointers.delete(event.pointerId);
      if (this.moved < 4) this.click(event.offsetX, event.offsetY);
    });
    on("pointercancel", (event) => this.pointers.delete(event.pointerId));
    on("wheel", (event) => {
      event.preventDefault();
      const unit = event.deltaMode === 1 ? 20 : 1;
      if (event.shiftKey) this.pan(-event.deltaY * unit, 0);
      else this.zoomAt(Math.exp(-event.deltaY * unit * 0.0016), event.offsetX, event.offsetY);
    });
    on("focus", () => this.app.enter(this));
    new ResizeObserver(() => this.resize()).observe(this.stage);
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const [x, y] = [event.offsetX, event.offsetY];
    const other = [...this.pointers].find(([id]) => id !== event.pointerId);
    if (other) {
      const apart = (from) => Math.max(20, Math.hypot(from.x - other[1].x, from.y - other[1].y));
      this.zoomAt(apart({ x, y }) / apart(before), other[1].x, other[1].y);
    } else this.pan(x - before.x, y - before.y);
    this.moved += Math.abs(x - before.x) + Math.abs(y - before.y);
    this.pointers.set(event.pointerId, { x, y });
  }

  resize() {
    this.width = this.stage.clientWidth;
    this.height = this.stage.clientHeight;
    this.ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.width * this.ratio);
    this.canvas.height = Math.round(this.height * this.ratio);
    if (!this.touched) this.begin();
    this.paint();
  }

  /** Pixels per unit across: never so few that the tree fills less than the width, however tall it is. */
  get across() {
    return Math.max(this.camera.zoom, Math.min(1, (this.width - 40) / this.run.size.width));
  }

  /** The whole tree where it can be read so, or is too large for any part to tell much; else its root, readable. */
  begin() {
    this.fit();
    if (this.camera.zoom < 0.55 && this.camera.zoom > 0.03) {
      this.camera.zoom = 0.8;
      this.camera.x = -20 / this.across;
      this.center(this.app.chosen?.run === this.run ? this.app.chosen : this.run.root);
    }
    this.touched = false;
  }

  fit() {
    const { width, height } = this.run.size;
    this.touched = true;
    this.camera.zoom = Math.min(1.2, (this.width - 40) / width, (this.height - 30) / height);
    this.camera.x = width / 2 - this.width / 2 / this.across;
    this.camera.y = height / 2 - this.height / 2 / this.camera.zoom;
    this.paint();
  }

  pan(dx, dy) {
    this.touched = true;
    this.camera.x -= dx / this.across;
    this.camera.y -= dy / this.camera.zoom;
    this.paint();
  }

  zoomAt(factor, x, y) {
    this.touched = true;
    const { camera } = this;
    const farthest = Math.min(0.2, (0.8 * this.height) / this.run.size.height);
    const zoom = Math.max(farthest, Math.min(CLOSEST, camera.zoom * factor));
    const at = { x: x / this.across + camera.x, y: y / camera.zoom + camera.y };
    camera.zoom = zoom;
    camera.x = at.x - x / this.across;
    camera.y = at.y - y / zoom;
    this.paint();
  }

  center(node) {
    this.camera.y = middleOf(node) - this.height / 2 / this.camera.zoom;
    const left = leftOf(node), right = left + widthOf(node), seen = this.width / this.across;
    if (left < this.camera.x || right > this.camera.x + seen) this.camera.x = (left + right) / 2 - seen / 2;
    this.paint();
  }

  /** Bring a node into view, and to a size that can be read. */
  show(node) {
    if (node.row === null) return;
    if (this.camera.zoom < 0.45) {
      this.camera.zoom = 0.9;
      this.camera.x = leftOf(node) + widthOf(node) / 2 - this.width / 2 / this.across;
      this.center(node);
    }
    const at = this.place(node);
    const margin = 24;
    if (at.x < margin || at.x > this.width - margin || at.y < margin || at.y > this.height - margin) this.center(node);
    this.touched = true;
    this.paint();
  }

  /** Middle of a node on the canvas, in CSS pixels. */
  place(node) {
    return {
      x: (leftOf(node) + widthOf(node) / 2 - this.camera.x) * this.across,
      y: (middleOf(node) - this.camera.y) * this.camera.zoom,
    };
  }

  click(x, y) {
    this.canvas.focus({ preventScroll: true });
    const node = this.at(x / this.across + this.camera.x, y / this.camera.zoom + this.camera.y);
    this.app.choose(node, this.camera.zoom < 0.2);
  }

  at(x, y) {
    const { lefts, widths, columns } = this.run;
    const depth = lefts.findIndex((left, i) => x >= left && x <= left + widths[i]);
    if (depth < 0) return null;
    const column = columns[depth];
    const row = y / ROW - 0.5;
    const after = lowerBound(column, row);
    const near = [column[after - 1], column[after]].filter((node) => node && isThere(node, this.app.step));
    near.sort((a, b) => Math.abs(a.row - row) - Math.abs(b.row - row));
    const reach = Math.max(BOX / 2 / ROW, 4 / ROW / this.camera.zoom);
    return near.length && Math.abs(near[0].row - row) <= reach ? near[0] : null;
  }

  paint() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (this.width) draw(this, this.app);
    });
  }
}

const isThere = (node, step) => node.born < step;
