// Small helpers of all views: elements, numbers as text, values as colours, and what a kernel is asked.

const NEGATIVE = [0, 114, 178], POSITIVE = [213, 94, 0], MARK = [230, 159, 0]; // the figures' palette
const BLUE = "#0072b2", ORANGE = "#e69f00", BLACK = "#000000";

// Make an element; properties may hold `class`, listeners such as `onclick`, properties and attributes.
function h(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") node.style.cssText = value;
    else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// A labelled choice; options: texts.
function choice(label, options, value, changed) {
  const list = h("select", { "aria-label": label, onchange: () => changed(list.value) });
  list.append(...options.map((text) => h("option", { value: text, selected: text === value }, text)));
  return h("label", {}, `${label} `, list);
}

// A number with at most three decimals, with the sign −, as Python's `short` writes it.
function short(value, digits = 3) {
  const text = value.toFixed(digits).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  return text === "-0" ? "0" : text.replace("-", "−");
}

// A sum, written with its signs: "0.5 + 2 − 1".
function written(terms) {
  const signed = terms.map((term) => `${term < 0 ? "−" : "+"} ${short(Math.abs(term))}`);
  return signed.join(" ").replace(/^\+ /, "").replace(/^− /, "−");
}

// No probability is rounded to a certainty.
function percent(share) {
  if (share > 0 && share < 0.001) return "under 0.1%";
  return share > 0.999 && share < 1 ? "over 99.9%" : `${(100 * share).toFixed(1)}%`;
}

function largest(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

// Colours: 0 is white, positive values turn vermillion, negative ones blue, up to ± limit.
function signedColor(limit) {
  return (value) => {
    const share = Math.min(Math.abs(value) / Math.max(limit, 1e-9), 1);
    const end = value < 0 ? NEGATIVE : POSITIVE;
    return end.map((part) => Math.round(255 + share * (part - 255)));
  };
}

// `low` and less is black, `high` and more is white.
function greyColor(low, high) {
  return (value) => {
    const level = Math.round(255 * Math.min(Math.max((value - low) / Math.max(high - low, 1e-9), 0), 1));
    return [level, level, level];
  };
}

// One scale for all of a layer's maps, and the words that explain it.
function scaleOf(values) {
  let low = 0, high = 0;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const limit = Math.max(-low, high);
  if (low >= 0) return [greyColor(0, limit), `black is 0, white ${limit.toFixed(1)}`];
  return [signedColor(limit), `orange is positive, blue negative, full colour at ±${limit.toFixed(1)}`];
}

// Values as a canvas of as many pixels; color: function of a value, or of its position with `byPlace`.
function picture(values, height, width, color, byPlace = false) {
  const canvas = h("canvas", { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    image.data.set(color(byPlace ? i : values[i]), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// A picture in the page, `size` pixels of the screen wide, its own pixels as squares.
function shown(canvas, label, size) {
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  canvas.style.width = `${size}px`;
  canvas.classList.add("cnnlib-squares");
  return canvas;
}

const floats = (view) => new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

// Return a function that asks for what is known under a key of one or more texts, a photograph's name for
// instance. In JupyterLab the kernel answers, on a page of the book a file beside it. Answers are kept.
function asker(model) {
  const kept = new Map(), open = new Map();
  model.on("change:answer", () => {
    const answer = model.get("answer"), { resolve, reject } = open.get(answer.number) ?? {};
    open.delete(answer.number);
    if (answer.problem) reject?.(new Error(answer.problem));
    else resolve?.(answer);
  });
  return (...key) => {
    const name = key.join("\n");
    if (kept.has(name)) return kept.get(name);
    // While the kernel has not heard of one state, only the last of those that follow is sent to it. So each
    // tells all that is not answered yet, what another view of the model asked for too.
    const questions = model.get("wanted") ?? [];
    const answered = model.get("answer")?.number ?? 0;
    const number = 1 + Math.max(0, ...questions.map(([each]) => each));
    const promise = new Promise((resolve, reject) => open.set(number, { resolve, reject }));
    kept.set(name, promise);
    promise.catch(() => kept.delete(name));
    model.set("wanted", [...questions.filter(([each]) => each > answered), [number, ...key]]);
    model.save_changes();
    return promise;
  };
}

// A place for problems, and a function that does something and shows there what it raises.
function guard(el) {
  const alert = h("div", { class: "cnnlib-alert", role: "alert", hidden: true });
  const report = (text) => {
    alert.textContent = text;
    alert.hidden = !text;
  };
  const ended = "The kernel that could answer has ended; run the cell again.";
  const busy = "No answer yet: the kernel is busy, or was restarted; then run the cell again.";
  async function attempt(action) {
    const silent = setTimeout(() => {
      if (el.closest(".jupyter-widgets-disconnected")) report(ended);
      else if (el.closest(".jp-Notebook")) report(busy); // in the book it is a file that is slow
    }, 3000);
    try {
      await action();
      report("");
    } catch (error) {
      report(error.message);
    } finally {
      clearTimeout(silent);
    }
  }
  return { alert, attempt };
}
