// Take a 3 × 3 kernel apart: its nine numbers, what they make of a photograph, and one value's sum.

const OWN = "my own", MOST = 1000;

// A number that a person typed: 2, -0.5, 1/9, also with a comma or the sign −.
function readNumber(text, name) {
  const parts = text.replaceAll("−", "-").replaceAll(",", ".").split("/");
  const decimal = /^\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$/i;
  const value = parts.length < 3 && parts.every((part) => decimal.test(part)) ? parts[0] / (parts[1] ?? 1) : NaN;
  if (!Number.isFinite(value)) throw new Error(`${name} is '${text}'; it must be a number, such as 2, -0.5 or 1/9`);
  if (Math.abs(value) > MOST) throw new Error(`${name} is '${text}'; it must lie between −${MOST} and ${MOST}`);
  return value;
}

// Numbers as a table; with `inside`, on the grey of their pixel or dashed as padding.
function numbers(values, columns, inside = null) {
  const table = h("table", { class: "cnnlib-numbers" });
  for (let start = 0; start < values.length; start += columns) {
    const row = h("tr");
    for (let i = start; i < start + columns; i++) {
      const value = values[i];
      const cell = h("td", {}, short(value));
      if (inside?.[i]) cell.style.cssText = `background: rgb(${[value, value, value]}); color: ${value > 127 ? "#000" : "#fff"}`;
      else if (inside) cell.style.borderStyle = "dashed";
      row.append(cell);
    }
    table.append(row);
  }
  return table;
}

function kernelView({ model, el }) {
  const { alert, attempt } = guard(el);
  const ask = asker(model);
  const presets = model.get("presets");
  let image = null, kernel = [], output = null, visits = 0;

  const set = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  const changed = (name, read = (value) => value) => (value) => attempt(() => {
    set(name, read(value));
    return compute();
  });
  const photo = choice("photograph", model.get("photos"), model.get("photo"), (name) => attempt(() => visit(name)));
  const preset = choice("kernel", [...Object.keys(presets), OWN], OWN, (name) => {
    if (name in presets) changed("texts")(presets[name]);
  });
  const list = preset.querySelector("select");
  const stride = choice("stride", ["1", "2", "3", "4"], `${model.get("stride")}`, changed("stride", Number));
  const padding = choice("padding", ["0", "1", "2"], `${model.get("padding")}`, changed("padding", Number));
  const fields = Array.from({ length: 9 }, (_, i) => h("input", {
    type: "text",
    inputMode: "text",
    "aria-label": `kernel, row ${Math.floor(i / 3) + 1}, column ${(i % 3) + 1}`,
    title: "a number or a fraction such as 1/9",
    onchange: () => attempt(() => typed()),
  }));
  const before = new Scene({ width: 300, changed: ([row, column]) => {
    const [s, p] = [model.get("stride"), model.get("padding")];
    choose([row, column].map((at) => Math.round((at - 1 + p) / s))); // the window whose middle lies nearest
  } });
  const after = new Scene({ width: 300, changed: choose });
  const kernelNote = h("div"), outputNote = h("div"), sum = h("div", { role: "status" });
  const column = (note, ...rest) => h("div", { class: "cnnlib-column" }, note, ...rest);
  el.append(
    h("div", { class: "cnnlib-beside" }, photo, preset, stride, padding),
    h("div", { class: "cnnlib-beside" },
      column(h("div", {}, "the photograph: click a pixel, or use the arrow keys"), before.canvas),
      h("div", { class: "cnnlib-column cnnlib-narrow" }, h("div", {}, "the kernel: change a number, Enter"), h("div", { class: "cnnlib-kernel" }, ...fields), kernelNote),
      column(outputNote, after.canvas),
    ),
    sum, alert,
  );

  function typed() {
    const texts = fields.map((field) => field.value);
    texts.forEach((text, i) => readNumber(text, fields[i].getAttribute("aria-label"))); // a bad one changes nothing
    set("texts", texts);
    compute();
  }

  // Show a photograph; what comes after another was chosen is passed over.
  async function visit(name, place = []) {
    const visited = ++visits;
    const { rows, columns, pixels } = await ask(name);
    if (visited !== visits) return;
    image = { shape: [1, rows, columns], values: Float32Array.from(bytes(pixels)) };
    set("photo", name);
    set("place", place);
    compute();
  }

  const layer = () => ({
    kind: "conv", weight: kernel, bias: [0], window: [3, 3], stride: model.get("stride"), padding: model.get("padding"),
  });

  function compute() {
    const texts = model.get("texts");
    texts.forEach((text, i) => (fields[i].value = text));
    kernel = texts.map((text, i) => readNumber(text, fields[i].getAttribute("aria-label")));
    list.value = Object.keys(presets).find((name) => presets[name].join() === texts.join()) ?? OWN;
    output = convolve(image, layer());
    const [, rows, columns] = output.shape;
    if (!model.get("place").length) { // the most striking value
      const mean = output.values.reduce((a, b) => a + b, 0) / output.values.length;
      const best = largest(output.values.map((value) => Math.abs(value - mean)));
      set("place", [Math.floor(best / columns), best % columns]);
    }
    const total = kernel.reduce((a, b) => a + b);
    const [color, words] = colors(total);
    outputNote.textContent = `the output, ${rows} × ${columns}: ${words}`;
    const { stride: s, padding: p } = layer();
    const [, height, width] = image.shape;
    kernelNote.replaceChildren(
      `its sum: ${short(total)}`, h("br"), "output rows:", h("br"), `⌊(${height} + 2·${p} − 3) / ${s}⌋ + 1 = ${rows}`,
    );
    before.show({
      picture: picture(image.values, height, width, greyColor(0, 255)),
      step: s, // a key moves by a window
      label: `photograph ${model.get("photo")}; the arrow keys move the window`,
    });
    const label = `output of the convolution; ${words}; the arrow keys move the chosen value`;
    after.show({ picture: picture(output.values, rows, columns, color), label });
    choose(model.get("place"));
  }

  function colors(total) {
    if (total > 0.1 * kernel.reduce((a, b) => a + Math.abs(b), 0)) { // grey stays grey: still a photograph
      const white = 255 * total; // what white becomes where all is white
      return [greyColor(0, white), `black is 0 or less, white ${white.toFixed(0)} or more`];
    }
    const sizes = Float32Array.from(output.values, Math.abs).sort();
    const limit = Math.max(sizes[Math.floor(0.99 * (sizes.length - 1))], 1);
    return [signedColor(limit), `orange is positive, blue negative, full colour at ±${limit.toFixed(0)}`];
  }

  function choose([atRow, atColumn]) {
    const [, rows, columns] = output.shape;
    const [row, at] = [within(atRow, 0, rows - 1), within(atColumn, 0, columns - 1)];
    set("place", [row, at]);
    const { terms: [term], value } = takeApart(layer(), image, [0, row, at]);
    const { top, left } = term;
    before.show({ boxes: [[top, left, top + 3, left + 3, ORANGE]], point: [top + 1, left + 1] });
    after.show({ boxes: [[row, at, row + 1, at + 1, ORANGE]], point: [row, at] });
    const sign = (text) => h("div", { class: "cnnlib-large" }, text);
    sum.replaceChildren(
      h("div", { class: "cnnlib-beside cnnlib-middled" },
        numbers(term.values, 3, term.inside), sign("×"), numbers(kernel, 3), sign("="), numbers(term.products, 3)),
      `output row ${row}, column ${at}: ${written(term.products)} = `, h("b", {}, short(value)),
    );
  }

  attempt(() => visit(model.get("photo"), model.get("place")));
}
