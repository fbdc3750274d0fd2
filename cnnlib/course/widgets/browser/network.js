// Take a network apart: from its layers' maps down to one value's sum.

// A layer in words.
function titled(layer, { shape: [count, rows, columns] }) {
  const maps = rows * columns > 1 ? `${count} ${count > 1 ? "maps" : "map"} of ${rows} × ${columns}` : `${count} values`;
  const window = layer.window?.join(" × ");
  return {
    image: `the image: ${rows} × ${columns} pixels, 0 to 1`,
    normalize: `normalised: less the mean, over the standard deviation`,
    scale: `batch norm: times a weight, plus a bias; ${maps}`,
    conv: `convolution ${window}: ${maps}`,
    crop: `a rim of ${layer.rim} cut off: ${maps}`,
    pool: `${layer.average ? "average" : "max"} pooling ${window}: ${maps}`,
    relu: `ReLU: ${maps}`,
    linear: `linear layer: ${maps}`,
    softmax: `softmax: ${count} probabilities`,
  }[layer.kind];
}

function networkView({ model, el }) {
  const { alert, attempt } = guard(el);
  const layers = [{ kind: "image", name: "image" }, ...prepare(model.get("network")), { kind: "softmax", name: "softmax" }];
  let results = []; // the image, and each layer's output
  let chosen = model.get("chosen"); // [layer, map, row, column]
  let field = ""; // the part of the image that the chosen value depends on
  let opened = null; // the input map whose products are shown one by one

  const pad = digitPad({ width: 168, examples: bytes(model.get("examples")), changed: see });
  const answer = h("div", { role: "status", class: "cnnlib-verdict" });
  const rows = layers.map((layer, index) => {
    const tiles = new Tiles({ side: index ? 48 : 84, changed: (place) => choose([index, ...place]) });
    const words = h("div", { class: "cnnlib-words" });
    return { tiles, words };
  });
  const overview = h("div", { class: "cnnlib-overview" }, h(
    "div", { class: "cnnlib-beside" }, pad.canvas, h("div", { class: "cnnlib-column" }, ...pad.controls, answer),
  ));
  for (const { words, tiles } of rows) overview.append(words, tiles.element);
  const details = h("div", { class: "cnnlib-details", role: "region", "aria-label": "the value taken apart" });
  el.append(h("div", { class: "cnnlib-apart" }, overview, details), alert);

  function see(image) {
    model.set("pixels", new DataView(image.slice().buffer));
    model.save_changes();
    attempt(() => compute(image));
  }

  function compute(image) {
    const input = { shape: [1, 28, 28], values: Float32Array.from(image, (byte) => byte / 255) };
    results = forward(layers.slice(1), input);
    const shares = results.at(-1).values;
    const best = largest(shares);
    answer.replaceChildren(
      "It reads ", h("b", { class: "cnnlib-large" }, `${best}`), h("br"), `with ${percent(shares[best])} probability`,
    );
    rows.forEach(({ tiles, words }, index) => {
      const [color, scale] = index ? scaleOf(results[index].values) : [greyColor(0, 1), "black is 0, white 1"];
      const [count, height, width] = results[index].shape;
      const label = `${titled(layers[index], results[index])}; ${scale}`;
      words.replaceChildren(h("code", {}, layers[index].name), ` ${label}`);
      const labels = height * width === 1 && count < 100 ? Array.from({ length: count }, (_, k) => `${k}`) : null;
      tiles.show({ maps: results[index], color, labels, label: `${label}; the arrow keys choose a value` });
    });
    choose(chosen);
  }

  const valueAt = ([index, channel, row, column]) => {
    const { shape: [, height, width], values } = results[index];
    return values[(channel * height + row) * width + column];
  };

  function choose(place) {
    if (place[0] !== chosen[0] || place[1] !== chosen[1]) opened = null;
    chosen = place;
    model.set("chosen", chosen);
    model.save_changes();
    frames();
    explain();
  }

  const clipped = (first, last) => Math.min(last, 28) - Math.max(first, 0); // the rest is padding

  // Frame the value, and in each layer before it all that has a part in it.
  function frames() {
    const [index, channel, row, column] = chosen;
    let seen = [channel, row, column, row + 1, column + 1];
    for (let i = layers.length - 1; i >= 0; i--) {
      rows[i].tiles.show({
        frames: i > index ? [] : [[...seen, i === index ? ORANGE : BLUE]],
        place: i === index ? chosen.slice(1) : seen.slice(0, 3).map((at) => Math.max(at ?? 0, 0)),
      });
      if (!i) field = `It depends on ${clipped(seen[1], seen[3])} × ${clipped(seen[2], seen[4])} pixels of the image.`;
      if (i > index || !i) continue;
      const layer = layers[i], [map, top, left, bottom, right] = seen;
      const { shape } = results[i - 1];
      const all = layer.kind === "softmax" || layer.kind === "linear" || layer.kind === "conv";
      const { window, stride, padding } = outline(layer, shape);
      seen = [
        all ? null : map,
        top * stride - padding, left * stride - padding,
        (bottom - 1) * stride - padding + window[0], (right - 1) * stride - padding + window[1],
      ];
    }
  }

  // A number that leads to the value it stands for.
  function link(place, text = short(valueAt(place))) {
    const [index, channel, row, column] = place;
    const title = `${layers[index].name}, map ${channel}, row ${row}, column ${column}: take it apart`;
    return h("button", { type: "button", class: "cnnlib-link", title, onclick: () => choose(place) }, text);
  }

  function explain() {
    const [index, channel, row, column] = chosen;
    const layer = layers[index], { shape } = results[index];
    const where = shape[1] * shape[2] > 1 ? `map ${channel}, row ${row}, column ${column}` : `value ${channel}`;
    const head = h("div", { role: "status" }, h("code", {}, layer.name), ` ${where}: `, h("b", {}, short(valueAt(chosen))));
    details.replaceChildren(head, ...EXPLAIN[layer.kind](layer, index, chosen.slice(1)), ...(index > 1 ? [line(field)] : []));
  }

  const before = ([index, channel, row, column]) => [index - 1, channel, row, column];
  const line = (...parts) => h("div", {}, ...parts);

  const EXPLAIN = {
    image: (layer, index, [, row, column]) => [line(
      `A pixel, the byte ${Math.round(255 * valueAt(chosen))} of 255. Here the way down ends: all else is computed from such numbers.`,
    )],
    normalize: (layer, index, [c]) => [line(
      "(", link(before(chosen)), ` − ${short(layer.mean[c], 4)}) / ${short(layer.std[c], 4)} = `, h("b", {}, short(valueAt(chosen))),
    )],
    scale: (layer, index, [c]) => [line(
      `${short(layer.weight[c])} · `, link(before(chosen)), ` ${written([layer.bias[c]]).replace(/^(?!−)/, "+ ")} = `, h("b", {}, short(valueAt(chosen))),
    )],
    crop: ({ rim }, index, [c, row, column]) => [line(
      `The same number as in the larger map, ${rim} rows and columns further: `, link([index - 1, c, row + rim, column + rim]),
    )],
    relu: () => [line("max(0, ", link(before(chosen)), ") = ", h("b", {}, short(valueAt(chosen))))],
    pool: pooled,
    conv: summed,
    linear: summed,
    softmax: shared,
  };

  function pooled(layer, index, place) {
    const term = windowAt(results[index - 1], layer, place, place[0]);
    const kind = layer.average ? "the mean" : "the largest";
    return [line(`${kind} of the ${term.values.length} values of map ${place[0]} in the blue frame:`), grid(term, index, (i) => [
      link(source(term, index, i)),
    ], layer.average ? -1 : largest(term.values))];
  }

  const source = (term, index, i) => [
    index - 1, term.channel, term.top + Math.floor(i / term.columns), term.left + (i % term.columns),
  ];

  // The places of a window as a table; `cell(i)` gives what stands in it.
  function grid(term, index, cell, marked = -1, limit = 0) {
    const table = h("table", { class: "cnnlib-window" });
    for (let r = 0; r < term.rows; r++) {
      const line_ = h("tr");
      for (let i = r * term.columns; i < (r + 1) * term.columns; i++) {
        const td = h("td", {}, ...cell(i));
        if (i === marked) td.style.outline = `3px solid ${ORANGE}`;
        if (limit) td.style.cssText = `background: rgb(${signedColor(limit)(term.products[i])}); color: #000`;
        if (!term.inside[i]) td.classList.add("cnnlib-padding");
        line_.append(td);
      }
      table.append(line_);
    }
    return table;
  }

  function summed(layer, index, place) {
    const input = results[index - 1];
    const { terms, bias, value } = takeApart(layer, input, place);
    const sizes = terms.map(({ sum }) => Math.abs(sum));
    const open = terms[opened ?? largest(sizes)];
    const top = (name) => Math.max(...terms.map((term) => Math.max(...term[name].map(Math.abs))));
    const [values, kernels, products] = ["values", "kernel", "products"].map(top);
    const color = input.values.some((x) => x < 0) ? signedColor(values) : greyColor(0, values);
    const flat = open.rows * open.columns === 1;
    const parts = [line(
      flat ? `The sum of ${terms.length} inputs times their weights, and the bias:`
        : `The sum over ${terms.length} input ${terms.length > 1 ? "maps" : "map"} of window × kernel, ` +
          `${terms.length * open.values.length} products, and the bias:`,
    )];
    if (!flat) {
      const table = h("table", { class: "cnnlib-terms" });
      table.append(h("tr", {}, ...["map", "window", "× kernel", "= products", "sum"].map((text) => h("th", {}, text))));
      for (const term of terms) {
        const small = (what, shade, text) => h("td", {}, shown(
          picture(what, term.rows, term.columns, shade), `${text} of input map ${term.channel}`, terms.length > 8 ? 28 : 40,
        ));
        const pick = () => {
          opened = term.channel;
          explain();
        };
        const button = h("button", {
          type: "button", onclick: pick, "aria-pressed": `${term === open}`, title: `show the products of map ${term.channel}`,
        }, `${term.channel}`);
        table.append(h("tr", { class: term === open ? "cnnlib-open" : "", onclick: (event) => event.target === button || pick() },
          h("td", {}, button),
          small(term.values, color, "window"), small(term.kernel, signedColor(kernels), "kernel"),
          small(term.products, signedColor(products), "products"), h("td", { class: "cnnlib-number" }, short(term.sum)),
        ));
      }
      parts.push(h("div", { class: "cnnlib-scroll" }, table), line(
        `Input map ${open.channel}, one by one: value (click to take it apart) × weight = product`,
      ), h("div", { class: "cnnlib-scroll" }, grid(open, index, (i) => [
        open.inside[i] ? link(source(open, index, i), short(open.values[i], 2)) : "0",
        h("br"), `× ${short(open.kernel[i], 2)}`, h("br"), `= ${short(open.products[i], 2)}`,
      ], -1, Math.max(...open.products.map(Math.abs)))));
    }
    parts.push(h("div", { class: "cnnlib-sum" }, `${written(terms.map(({ sum }) => sum))} `,
      h("i", {}, `${bias < 0 ? "−" : "+"} ${short(Math.abs(bias))} (bias)`), " = ", h("b", {}, short(value))));
    return parts;
  }

  function shared(layer, index, [channel]) {
    const logits = results[index - 1].values;
    const highest = Math.max(...logits);
    const powers = Array.from(logits, (logit) => Math.exp(logit - highest));
    const sum = powers.reduce((a, b) => a + b);
    const table = h("table", { class: "cnnlib-terms" });
    table.append(h("tr", {}, ...["class", "logit z", "exp(z − largest)", "share"].map((text) => h("th", {}, text))));
    powers.forEach((power, k) => table.append(h("tr", { class: k === channel ? "cnnlib-open" : "" },
      h("td", {}, `${k}`), h("td", {}, link([index - 1, k, 0, 0])),
      h("td", { class: "cnnlib-number" }, (power < 0.001 ? power.toExponential(1) : power.toFixed(3)).replace("-", "−")),
      h("td", { class: "cnnlib-number" }, percent(power / sum)),
    )));
    return [line("Each logit's exponential as a share of the sum of all of them:"), table];
  }

  pad.show(bytes(model.get("pixels")));
  attempt(() => compute(bytes(model.get("pixels"))));
}
