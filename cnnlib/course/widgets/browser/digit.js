// Draw a digit: the logits, the probabilities and the feature maps follow the pen.

const MOST_MAPS = 32; // of a layer

function bars() {
  const rows = Array.from({ length: 10 }, (_, k) => {
    const [logit, share] = [h("div"), h("div")];
    const [number, part] = [h("td", { class: "cnnlib-number" }), h("td", { class: "cnnlib-number" })];
    const bar = (inner, ...more) => h("td", {}, h("div", { class: "cnnlib-bar" }, inner, ...more));
    const middle = h("div", { class: "cnnlib-middle" });
    const row = h("tr", {}, h("th", {}, `${k}`), bar(logit, middle), number, bar(share), part);
    return { row, logit, share, number, part };
  });
  const head = h("th", { colSpan: 2 });
  const table = h("table", {}, h("tr", {}, h("th", {}, "digit"), head, h("th", { colSpan: 2 }, "probability")));
  table.append(...rows.map(({ row }) => row));

  function show(logits) {
    const limit = logits ? Math.max(10, ...logits.map(Math.abs)) : 10;
    const shares = logits && softmax(logits);
    const best = logits && largest(logits);
    head.textContent = `logit (bar: −${limit.toFixed(0)} to ${limit.toFixed(0)})`;
    rows.forEach(({ row, logit, share, number, part }, k) => {
      const value = logits ? logits[k] : 0;
      const half = (50 * Math.abs(value)) / limit;
      const color = `rgb(${value < 0 ? NEGATIVE : POSITIVE})`;
      logit.style.cssText = `left: ${value < 0 ? 50 - half : 50}%; width: ${half}%; background: ${color}`;
      share.style.cssText = `left: 0; width: ${shares ? 100 * shares[k] : 0}%; background: #009e73`;
      number.textContent = logits ? value.toFixed(1).replace("-", "−") : "–";
      part.textContent = shares ? `${(100 * shares[k]).toFixed(1)}%` : "–";
      row.style.fontWeight = k === best ? "bold" : "normal";
    });
  }
  return { table, show };
}

function digitView({ model, el }) {
  const network = prepare(model.get("network"));
  const { alert, attempt } = guard(el);
  const table = bars();
  const seen = h("div"), verdict = h("div", { role: "status" }), maps = h("div");
  const rows = new Map();
  const pad = digitPad({ examples: bytes(model.get("examples")), changed: see });
  pad.show(bytes(model.get("pixels")));

  function see(image) {
    model.set("pixels", new DataView(image.slice().buffer));
    model.save_changes();
    attempt(() => (network.length ? show(image, computed(image)) : null));
  }

  // In the browser where the layers are known to `arithmetic.js`; else the kernel computes.
  function computed(image) {
    const input = { shape: [1, 28, 28], values: Float32Array.from(image, (byte) => byte / 255) };
    const results = forward(network, input);
    const names = model.get("layers");
    const kept = names.map((name) => results[1 + network.findIndex((layer) => layer.name === name)]);
    return { logits: Array.from(results.at(-1).values), maps: kept };
  }

  function answered() {
    const { logits, maps: found, problem } = model.get("computed");
    if (!logits && !problem) return;
    if (problem) return attempt(() => { throw new Error(problem); });
    const read = ({ shape, values }) => ({ shape, values: floats(values) });
    attempt(() => show(bytes(model.get("pixels")), { logits: Array.from(floats(logits)), maps: found.map(read) }));
  }

  function show(image, { logits, maps: found }) {
    const drawn = image.some(Boolean);
    const label = "The image that the network sees";
    seen.replaceChildren("What the network sees:", shown(picture(image, 28, 28, greyColor(0, 255)), label, 140));
    table.show(drawn ? logits : null);
    if (drawn) {
      const shares = softmax(logits);
      const [first, second] = [...shares.keys()].sort((a, b) => shares[b] - shares[a]);
      const other = `${second} with ${percent(shares[second])}`;
      verdict.replaceChildren(
        "It reads ", h("b", { class: "cnnlib-large" }, `${first}`), h("br"),
        `with ${percent(shares[first])} probability,`, h("br"), other,
      );
    } else verdict.textContent = "Nothing is drawn yet. Draw a digit, large, on the black pad.";
    model.get("layers").forEach((name, i) => showMaps(name, found[i], drawn));
  }

  function showMaps(name, { shape, values }, drawn) {
    if (!rows.has(name)) {
      const tiles = new Tiles({ side: 56 });
      const words = h("div", { class: "cnnlib-words" });
      rows.set(name, { tiles, words });
      maps.append(words, tiles.element);
    }
    const { tiles, words } = rows.get(name);
    const [color, scale] = scaleOf(values);
    const [all, height, width] = shape;
    const count = Math.min(all, MOST_MAPS);
    const text = `${name}: ${count} maps of ${height} × ${width}; ${drawn ? scale : "nothing is drawn"}`;
    words.textContent = text;
    tiles.show({ maps: { shape: [count, height, width], values }, label: text, color: drawn ? color : () => [255, 255, 255] });
  }

  const refresh = () => {
    network.splice(0, Infinity, ...prepare(model.get("network")));
    if (network.length) attempt(() => show(bytes(model.get("pixels")), computed(bytes(model.get("pixels")))));
  };
  model.on("change:computed", answered);
  model.on("change:network", refresh); // the model was trained on
  const middle = h("div", { class: "cnnlib-column cnnlib-verdict" }, seen, verdict);
  const left = h("div", { class: "cnnlib-column" }, pad.canvas, ...pad.controls);
  el.append(h("div", { class: "cnnlib-beside" }, left, middle, table.table), maps, alert);
  if (network.length) refresh();
  else answered();
  return () => {
    model.off("change:computed", answered);
    model.off("change:network", refresh);
  };
}
