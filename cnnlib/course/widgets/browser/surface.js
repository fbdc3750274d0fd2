// A picture to draw on with mouse, pen, finger or keys, or to point at; and a grid of a layer's maps.
// It is written for these views: a general canvas takes the mouse wheel and the Tab key from the page.

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const within = (value, low, high) => Math.min(high, Math.max(low, value));

// A canvas that is painted at the screen's resolution: `paint(context, width, height)` thinks in CSS pixels.
function scaled(canvas, width, height, paint) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.aspectRatio = `${width} / ${height}`;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.imageSmoothingEnabled = false;
  paint(context, width, height);
}

// Where an event is on a canvas, [across, down] from 0 to 1.
function placeOf(canvas, event) {
  const area = canvas.getBoundingClientRect();
  const across = within((event.clientX - area.left) / area.width, 0, 1);
  const down = within((event.clientY - area.top) / area.height, 0, 1);
  return [across, down].map((value) => Math.round(value * 1e4) / 1e4);
}

// A frame in two colours, so that it is seen on any ground, around pixels and not on them.
function frame(context, left, top, width, height, color) {
  for (const [thickness, style] of [[4.5, "white"], [2.5, color]]) {
    context.lineWidth = thickness;
    context.strokeStyle = style;
    context.strokeRect(left - 1, top - 1, width + 2, height + 2);
  }
}

// Call `choose(place)` for a click, a drag of the mouse and a tap; a finger that moves scrolls the page.
function follow(canvas, choose) {
  canvas.style.touchAction = "manipulation";
  for (const name of ["pointerdown", "pointerup"]) {
    canvas.addEventListener(name, (event) => {
      const now = event.pointerType === "touch" ? "pointerup" : "pointerdown"; // only a tap ends with pointerup
      if (name === now && event.button === 0 && event.isPrimary) choose(placeOf(canvas, event));
    });
  }
  canvas.addEventListener("pointermove", (event) => {
    const dragged = event.isPrimary && event.buttons === 1 && event.pointerType !== "touch";
    if (dragged) choose(placeOf(canvas, event));
  });
}

// Call `move([rows, columns], ten times?)` for the arrow keys; Tab and all the rest keep their meaning.
function arrows(canvas, move) {
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.addEventListener("keydown", (event) => {
    if (!STEPS[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    move(STEPS[event.key], event.shiftKey ? 10 : 1);
  });
}

// A picture on which a place is chosen: `changed([row, column])`.
class Scene {
  constructor({ width, smooth = false, changed }) {
    Object.assign(this, { width, smooth, step: 1, point: [0, 0], boxes: [], picture: null });
    this.canvas = h("canvas", { class: "cnnlib-surface" });
    const choose = (row, column) =>
      changed([within(row, 0, this.picture.height - 1), within(column, 0, this.picture.width - 1)]);
    follow(this.canvas, ([across, down]) =>
      choose(Math.floor(down * this.picture.height), Math.floor(across * this.picture.width)),
    );
    arrows(this.canvas, ([down, across], times) =>
      choose(this.point[0] + down * this.step * times, this.point[1] + across * this.step * times),
    );
  }

  // What is to be seen: { picture: a canvas, boxes: [[top, left, bottom, right, color]], point, label, step }.
  show(changes) {
    Object.assign(this, changes);
    if (changes.label) this.canvas.setAttribute("aria-label", this.label);
    const unit = this.width / this.picture.width;
    scaled(this.canvas, this.width, unit * this.picture.height, (context, width, height) => {
      context.imageSmoothingEnabled = this.smooth;
      context.drawImage(this.picture, 0, 0, width, height);
      for (const [top, left, bottom, right, color] of this.boxes) {
        frame(context, left * unit, top * unit, (right - left) * unit, (bottom - top) * unit, color);
      }
    });
  }
}

const PAD_KEYS =
  "Pad to draw a digit on, with mouse, pen or finger. With keys: the arrows move the pen, the space bar sets " +
  "it down and lifts it, Delete clears.";

// A black pad; `changed(strokes)` follows the pen, also while it is down. Strokes are lists of [across, down].
class Pad {
  constructor({ width = 280, changed, clear }) {
    Object.assign(this, { width, changed, strokes: [], picture: null, pen: null, down: false });
    this.canvas = h("canvas", { class: "cnnlib-surface cnnlib-pad", "aria-label": PAD_KEYS, title: PAD_KEYS });
    this.canvas.style.touchAction = "none"; // a finger draws
    let drawing = false;
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary) return; // another button, or a palm beside the finger
      this.canvas.setPointerCapture(event.pointerId);
      this.pen = null;
      drawing = true;
      this.extend([placeOf(this.canvas, event)], true);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!event.isPrimary || !drawing) return;
      const events = event.getCoalescedEvents?.() ?? [];
      this.extend((events.length ? events : [event]).map((each) => placeOf(this.canvas, each)));
    });
    for (const name of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(name, () => {
        drawing = false;
      });
    }
    arrows(this.canvas, (step, times) => this.move(step, times === 1 ? 1 : 4));
    this.canvas.addEventListener("keydown", (event) => {
      if (event.key === "Delete" || event.key === "Backspace") clear();
      else if (event.key === " " || event.key === "Enter") this.press();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.canvas.addEventListener("blur", () => {
      this.pen = null;
      this.paint();
    });
    this.paint();
  }

  extend(places, fresh = false) {
    if (fresh) this.strokes.push([]);
    this.strokes.at(-1).push(...places);
    this.picture = null; // the first stroke takes an example's place
    this.paint();
    this.changed(this.strokes);
  }

  press() {
    this.pen ??= [0.5, 0.5];
    this.down = !this.down;
    if (this.down) this.extend([this.pen], true);
    else this.paint();
  }

  move([down, across], times) {
    const [x, y] = this.pen ?? [0.5, 0.5];
    if (!this.pen) this.down = false;
    this.pen = [within(x + (across * times) / 28, 0, 1), within(y + (down * times) / 28, 0, 1)];
    if (this.down) this.extend([this.pen]);
    else this.paint();
  }

  // Show a picture, a canvas, or nothing in the place of what was drawn.
  show(shownPicture) {
    Object.assign(this, { strokes: [], picture: shownPicture, down: false });
    this.paint();
  }

  paint() {
    scaled(this.canvas, this.width, this.width, (context, width) => {
      context.fillStyle = "black";
      context.fillRect(0, 0, width, width);
      if (this.picture) context.drawImage(this.picture, 0, 0, width, width);
      context.lineCap = context.lineJoin = "round";
      context.strokeStyle = "white";
      context.lineWidth = PEN * width;
      for (const stroke of this.strokes) {
        context.beginPath();
        for (const [x, y] of [...stroke, stroke.at(-1)]) context.lineTo(x * width, y * width); // a dot too
        context.stroke();
      }
      if (!this.pen) return;
      context.beginPath();
      context.lineWidth = 2.5;
      context.strokeStyle = ORANGE;
      context.arc(this.pen[0] * width, this.pen[1] * width, this.down ? 6 : 11, 0, 7);
      context.stroke();
    });
  }
}

// A pad with a button that clears it and examples to choose from; `changed(image)`, 784 bytes.
function digitPad({ width, examples, changed }) {
  const each = examples.length / 784 / 10; // of a digit; the examples are sorted by digit
  const used = new Array(10).fill(-1);
  const clear = () => {
    pad.show(null);
    changed(new Uint8Array(784));
  };
  const pad = new Pad({ width, clear, changed: (strokes) => changed(likeMnist(rasterize(strokes))) });
  const show = (image) => pad.show(image.some(Boolean) ? picture(image, 28, 28, greyColor(0, 255)) : null);
  const next = (k) => {
    used[k] = (used[k] + 1) % each;
    const start = 784 * (k * each + used[k]);
    const image = examples.slice(start, start + 784);
    show(image);
    changed(image);
  };
  const buttons = Array.from({ length: 10 }, (_, k) =>
    h("button", { type: "button", title: `Show a ${k} of MNIST's test set`, onclick: () => next(k) }, `${k}`),
  );
  const controls = [
    h("div", {}, h("button", { type: "button", title: "Remove the drawing", onclick: clear }, "Clear")),
    h("div", { class: "cnnlib-digits" }, h("span", {}, "or a digit of the test set: "), ...buttons),
  ];
  return { canvas: pad.canvas, controls, show };
}

const GAP = 4, LABEL = 13;

// A layer's maps side by side, in as many columns as there is room for. With `changed([channel, row, column])`
// a value can be chosen by pointer and arrow keys, or, as a `whole`, a map.
class Tiles {
  constructor({ side = 56, changed = null, whole = false }) {
    Object.assign(this, { side, whole, frames: [], labels: null, place: [0, 0, 0] });
    this.canvas = h("canvas", { class: "cnnlib-surface cnnlib-tiles", role: "img" });
    this.element = h("div", { class: "cnnlib-row" }, this.canvas);
    new ResizeObserver(() => this.columns !== this.fitting() && this.paint()).observe(this.element);
    if (!changed) return;
    follow(this.canvas, ([across, down]) => {
      const { width, tall } = this.cell();
      const [x, y] = [across * this.width, down * this.height];
      const column = within(Math.floor(x / (width + GAP)), 0, this.columns - 1);
      const tile = Math.floor(y / (tall + GAP)) * this.columns + column;
      const [count, rows, columns] = this.maps.shape;
      if (tile >= count) return;
      const inside = [y % (tall + GAP) - (tall - rows * this.unit), x - column * (width + GAP)];
      const [row, at] = inside.map((length) => Math.floor(length / this.unit));
      changed([tile, within(row, 0, rows - 1), within(at, 0, columns - 1)]);
    });
    arrows(this.canvas, ([down, across], times) => {
      const [count, rows, columns] = this.whole ? [this.maps.shape[0], 1, 1] : this.maps.shape;
      let [tile, row, column] = this.place;
      row += down * times;
      column += across * times;
      // beyond the edge of a map lies the next one
      if (column < 0 || column >= columns) {
        tile += across;
        column = across < 0 ? columns - 1 : 0;
      }
      if (row < 0 || row >= rows) {
        tile += down * this.columns;
        row = down < 0 ? rows - 1 : 0;
      }
      if (tile >= 0 && tile < count) changed([tile, row, column]);
    });
  }

  // maps: { shape: [count, rows, columns], values }; color: function of a value, or of (value, tile);
  // frames: [tile or null for all, top, left, bottom, right, color]; labels: a text for each tile.
  show(changes) {
    Object.assign(this, changes);
    if (changes.label) this.canvas.setAttribute("aria-label", this.label);
    if (changes.maps || changes.color) this.pictures = null;
    this.paint();
  }

  get unit() {
    const [, rows, columns] = this.maps.shape;
    const exact = this.side / Math.max(rows, columns);
    return this.whole || exact < 1 ? exact : Math.min(Math.round(exact), 26); // whole pixels can be counted
  }

  cell() {
    const [, rows, columns] = this.maps.shape;
    return { width: columns * this.unit, tall: rows * this.unit + (this.labels ? LABEL : 0) };
  }

  fitting() {
    if (!this.maps) return this.columns;
    const { width } = this.cell();
    const room = this.element.clientWidth || 600;
    return within(Math.floor((room + GAP) / (width + GAP)), 1, Math.min(this.maps.shape[0], 16));
  }

  paint() {
    if (!this.maps) return;
    const [count, rows, columns] = this.maps.shape;
    const { width, tall } = this.cell();
    const { unit, color } = this;
    const area = rows * columns;
    this.pictures ??= Array.from({ length: count }, (_, k) =>
      picture(this.maps.values.subarray(k * area, (k + 1) * area), rows, columns, (value) => color(value, k)),
    );
    this.columns = this.fitting();
    this.width = this.columns * (width + GAP) - GAP;
    this.height = Math.ceil(count / this.columns) * (tall + GAP) - GAP;
    scaled(this.canvas, this.width, this.height, (context) => {
      context.font = "11px sans-serif";
      context.imageSmoothingEnabled = unit < 1;
      const corners = this.pictures.map((each, k) => {
        const left = (k % this.columns) * (width + GAP);
        const top = Math.floor(k / this.columns) * (tall + GAP) + tall - rows * unit;
        context.drawImage(each, left, top, columns * unit, rows * unit);
        context.strokeStyle = "rgba(128, 128, 128, 0.5)"; // a black map has an edge on a dark page
        context.lineWidth = 1;
        context.strokeRect(left + 0.5, top + 0.5, columns * unit - 1, rows * unit - 1);
        context.fillStyle = "#767676"; // reads on a light and on a dark page
        if (this.labels) context.fillText(this.labels[k], left + 1, top - 3);
        return [left, top];
      });
      for (const [tile, top, left, bottom, right, edge] of this.frames) {
        corners.forEach(([x, y], k) => {
          if (tile !== null && tile !== k) return;
          const [high, low] = [within(top, 0, rows), within(bottom, 0, rows)];
          const [start, end] = [within(left, 0, columns), within(right, 0, columns)];
          frame(context, x + start * unit, y + high * unit, (end - start) * unit, (low - high) * unit, edge);
        });
      }
    });
  }
}
