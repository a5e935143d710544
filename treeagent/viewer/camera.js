// A pane: one tree on its canvas, seen through a camera that the pointer moves.

const CLOSEST = 3;
const EDGE = 20;  // free at each side of what is fitted, in CSS pixels

class Pane {
  constructor(run, app) {
    this.run = run;
    this.app = app;
    this.camera = { x: 0, y: 0, zoom: 1, ratio: 1 };  // world at the canvas's corner; pixels per unit downwards; of these across
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
    return Math.max(this.camera.zoom * this.camera.ratio, Math.min(1, (this.width - 2 * EDGE) / this.run.size.width));
  }

  /** The whole tree where it can be read so; else the answer's path whole, or the root of a tree without an answer. */
  begin() {
    this.fit();
    if (this.camera.zoom < 0.75) {
      const { path } = this.run;
      if (this.app.chosen?.run === this.run && this.app.chosen.row !== null) this.see([this.app.chosen]);
      else if (path.length > 1) this.see(path);
      else if (this.camera.zoom > 0.03) this.see([this.run.root]);
    }
    this.touched = false;
  }

  fit() {
    const { width, height } = this.run.size;
    this.touched = true;
    this.camera.ratio = 1;
    this.camera.zoom = Math.min(1.2, (this.width - 2 * EDGE) / width, (this.height - 30) / height);
    this.camera.x = width / 2 - this.width / 2 / this.across;
    this.camera.y = height / 2 - this.height / 2 / this.camera.zoom;
    this.paint();
  }

  /** Show some nodes whole and as large as can be: first the rows, whose boxes are squeezed where columns are many. */
  see(nodes) {
    const top = Math.min(...nodes.map(topOf)), bottom = Math.max(...nodes.map(topOf)) + BOX;
    const left = Math.min(...nodes.map(leftOf)), right = Math.max(...nodes.map((node) => leftOf(node) + widthOf(node)));
    const { camera } = this;
    camera.zoom = Math.min(1, (this.height - LEAST - 24) / (bottom - top));
    camera.ratio = 1;
    camera.ratio = Math.min(1, (this.width - 2 * EDGE) / (right - left) / camera.zoom);
    const seen = this.width / this.across;
    camera.x = nodes.length > 1 && right <= seen ? -EDGE / this.across : (left + right) / 2 - seen / 2;
    camera.y = (top + bottom) / 2 - this.height / 2 / camera.zoom;
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
      this.camera.ratio = 1;
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
    const node = this.onPath(x, y) || this.at(x / this.across + this.camera.x, y / this.camera.zoom + this.camera.y);
    this.app.choose(node, this.camera.zoom < 0.2);
  }

  /** The node of the answer's path whose box is at a place of the canvas: these may be larger than their rows. */
  onPath(x, y) {
    return this.run.path.find((node) => {
      const box = boxOf(this, node);
      return isThere(node, this.app.step) && x >= box.x && x <= box.x + box.width && y >= box.y && y <= box.y + box.height;
    });
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
