// The browser's half of `surface.Surface`: a picture to draw on with mouse, pen or finger, or to point at.
// Strokes appear at once, whatever the kernel is doing; the kernel hears of them as often as it can keep up.

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function render({ model, el }) {
  const canvas = document.createElement("canvas");
  canvas.className = "cnnlib-surface";
  canvas.setAttribute("role", model.get("pen") ? "img" : "application");
  canvas.tabIndex = model.get("pen") ? -1 : 0; // nothing can be drawn with keys, but a place can be chosen
  canvas.setAttribute("data-lm-suppress-shortcuts", "true"); // the arrow keys belong to the picture
  el.append(canvas);
  const context = canvas.getContext("2d");
  const picture = new Image();
  let strokes = model.get("strokes");
  let drawing = null; // the stroke that is being drawn
  let address = "";
  let frame = 0;

  function paint() {
    const scale = window.devicePixelRatio || 1;
    const [columns, rows, width] = ["columns", "rows", "width"].map((name) => model.get(name));
    const height = (width * rows) / columns;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.width = `${width}px`;
    canvas.style.aspectRatio = `${columns} / ${rows}`;
    canvas.style.touchAction = model.get("pen") ? "none" : "manipulation"; // a finger draws, or scrolls
    canvas.setAttribute("aria-label", model.get("label"));
    context.scale(scale, scale);
    context.fillStyle = model.get("pen") ? "black" : "transparent";
    context.fillRect(0, 0, width, height);
    context.imageSmoothingEnabled = model.get("smooth");
    if (picture.complete && picture.naturalWidth && address) context.drawImage(picture, 0, 0, width, height);
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = context.fillStyle = "white";
    context.lineWidth = model.get("pen") * width;
    for (const stroke of strokes) {
      context.beginPath();
      for (const [x, y] of stroke) context.lineTo(x * width, y * height);
      if (stroke.length === 1) context.lineTo(stroke[0][0] * width, stroke[0][1] * height); // a dot
      context.stroke();
    }
    const unit = width / columns;
    for (const [top, left, bottom, right, color] of model.get("boxes")) {
      for (const [thickness, style] of [[4.5, "white"], [2.5, color]]) {
        context.lineWidth = thickness;
        context.strokeStyle = style;
        const margin = 1; // the frame lies around the pixels, not on them
        context.strokeRect(
          left * unit - margin, top * unit - margin,
          (right - left) * unit + 2 * margin, (bottom - top) * unit + 2 * margin,
        );
      }
    }
  }

  function load() {
    const bytes = model.get("image");
    if (address) URL.revokeObjectURL(address);
    address = bytes && bytes.byteLength ? URL.createObjectURL(new Blob([bytes], { type: "image/png" })) : "";
    if (address) picture.src = address;
    else paint();
  }

  function place(event) {
    const area = canvas.getBoundingClientRect();
    const within = (value) => Math.min(1, Math.max(0, value));
    const across = within((event.clientX - area.left) / area.width);
    const down = within((event.clientY - area.top) / area.height);
    return [across, down].map((value) => Math.round(value * 1e4) / 1e4);
  }

  function tell(name, value) {
    model.set(name, value);
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => model.save_changes()); // at most once a frame
  }

  function choose(row, column) {
    const within = (value, count) => Math.min(count - 1, Math.max(0, value));
    tell("point", [within(row, model.get("rows")), within(column, model.get("columns"))]);
  }

  function point(event) {
    const [across, down] = place(event);
    choose(Math.floor(down * model.get("rows")), Math.floor(across * model.get("columns")));
  }

  function extend(event) {
    const events = event.getCoalescedEvents?.() ?? [];
    drawing.push(...(events.length ? events : [event]).map(place));
    strokes = [...strokes.slice(0, -1), drawing.slice()];
    paint();
    tell("strokes", strokes);
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return; // another button, or a palm beside the finger
    canvas.setPointerCapture(event.pointerId);
    if (!model.get("pen")) return point(event);
    event.preventDefault();
    drawing = [];
    strokes = [...strokes, drawing];
    extend(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!event.isPrimary) return;
    if (drawing) extend(event);
    else if (!model.get("pen") && event.buttons === 1 && event.pointerType !== "touch") point(event);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, () => {
      drawing = null;
    });
  }
  canvas.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step || model.get("pen")) return; // Tab and all the rest keep their meaning
    event.preventDefault();
    event.stopPropagation();
    const size = model.get("step") * (event.shiftKey ? 10 : 1);
    const [row, column] = model.get("point");
    choose(row + step[0] * size, column + step[1] * size);
  });

  const follow = () => {
    if (!drawing) strokes = model.get("strokes"); // the kernel's echo lags behind the pen
    paint();
  };
  const repaint = ["strokes", "boxes", "columns", "rows", "width", "label", "smooth"];
  picture.addEventListener("load", paint);
  model.on("change:image", load);
  for (const name of repaint) model.on(`change:${name}`, follow);
  load();
  paint();
  return () => {
    if (address) URL.revokeObjectURL(address);
    model.off("change:image", load);
    for (const name of repaint) model.off(`change:${name}`, follow);
  };
}

export default { render };
