// Walk through a network's feature maps: photograph, layer, channel, and the pixels that a unit looks at.

const OVERALL = "in the whole photograph", HERE = "at the framed place";
const STRONGEST = 24; // channels in the grid

function featuresView({ model, el }) {
  const { alert, attempt } = guard(el);
  const ask = asker(model);
  const size = model.get("size"); // pixels a side of the photograph
  const layers = model.get("layers"); // what is shown → { start, size, jump }
  let square = null; // the photograph's bytes, red, green and blue
  let maps = null; // { shape, values: bytes, peaks }: a value is byte / 255 · the channel's peak
  let channel = 0, place = [0, 0], strongest = [];

  const set = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  const photos = choice("photograph", model.get("photos"), model.get("photo"), (name) => attempt(() => visit(name)));
  const photoList = photos.querySelector("select");
  const path = h("input", {
    type: "text",
    placeholder: "path of a photograph of yours, Enter",
    "aria-label": "path of a photograph",
    onchange: () => path.value.trim() && attempt(() => visit(path.value.trim())),
  });
  const level = choice("layer", Object.keys(layers), model.get("layer"), (name) =>
    attempt(() => visit(photoList.value, name)));
  const layerList = level.querySelector("select");
  let visits = 0;
  const number = h("input", { type: "number", min: 0, "aria-label": "channel", onchange: () => {
    choose(within(Math.round(Number(number.value) || 0), 0, maps.shape[0] - 1));
  } });
  const order = choice("strongest", [OVERALL, HERE], OVERALL, () => rank());
  const by = order.querySelector("select");
  const [scene, over] = [0, 1].map(() => new Scene({ width: 270, smooth: true, changed: point }));
  const grid = new Tiles({ side: 46, whole: true, changed: ([tile]) => choose(strongest[tile], by.value === HERE) });
  const overNote = h("div"), gridNote = h("div"), here = h("div", { role: "status" });
  const column = (note, ...rest) => h("div", { class: "cnnlib-column" }, note, ...rest);
  const own = model.get("paths") ? [h("label", {}, "or ", path)] : [];
  grid.element.classList.add("cnnlib-grid");
  el.append(
    h("div", { class: "cnnlib-beside" }, photos, ...own, level, h("label", {}, "channel ", number), order),
    h("div", { class: "cnnlib-beside" },
      column(h("div", {}, "the photograph: click a place, or use the arrow keys"), scene.canvas),
      column(overNote, over.canvas),
      column(gridNote, grid.element),
    ),
    here, alert,
  );

  // Show a photograph and a layer; both are asked for before anything changes. What comes after another was
  // chosen is passed over.
  async function visit(photo, layer = layerList.value) {
    const visited = ++visits;
    const [{ pixels }, found] = await Promise.all([ask(photo), ask(photo, layer)]);
    if (visited !== visits) return;
    if (![...photoList.options].some((option) => option.value === photo)) {
      photoList.append(h("option", { value: photo }, photo));
    }
    photoList.value = photo;
    layerList.value = layer;
    square = bytes(pixels);
    maps = { shape: found.shape, values: bytes(found.maps), peaks: floats(found.peaks), step: found.step };
    number.max = maps.shape[0] - 1;
    set("photo", photo);
    set("layer", layer);
    by.value = OVERALL;
    scene.show({
      picture: picture(square, size, size, (i) => square.subarray(3 * i, 3 * i + 3), true),
      label: `photograph ${photo}; the arrow keys move the framed place`,
    });
    rank();
    choose(strongest[0]);
  }

  const area = () => maps.shape[1] * maps.shape[2];
  const one = (k) => maps.values.subarray(k * area(), (k + 1) * area());
  const value = (k, [row, at]) => (one(k)[row * maps.shape[2] + at] / 255) * maps.peaks[k];

  // Where the units look: the layer's geometry, and of which units the maps are.
  function where() {
    const { start, size: reach, jump } = layers[model.get("layer")];
    return { start, reach, jump: jump * maps.step, middle: start + (reach - 1) / 2 };
  }

  function rank() {
    const strength = Array.from({ length: maps.shape[0] }, (_, k) =>
      by.value === HERE ? value(k, place) : maps.peaks[k] * one(k).reduce((a, b) => a + b, 0));
    strongest = [...strength.keys()].sort((a, b) => strength[b] - strength[a]).slice(0, STRONGEST);
    const [, rows, columns] = maps.shape;
    const values = new Uint8Array(strongest.length * area());
    strongest.forEach((k, tile) => values.set(one(k), tile * area()));
    const labels = strongest.map(String);
    gridNote.textContent = `the strongest channels ${by.value}, of ${maps.shape[0]}: click one`;
    grid.show({
      maps: { shape: [strongest.length, rows, columns], values },
      color: greyColor(0, 255),
      labels,
      label: `maps of channels ${labels.join(", ")}; the arrow keys choose one`,
    });
    mark();
  }

  // Choose a channel, at its strongest response or at the place that is framed.
  function choose(k, stay = false) {
    channel = k;
    const best = largest(one(k));
    go(stay ? place : [Math.floor(best / maps.shape[2]), best % maps.shape[2]]);
    mark();
  }

  function point(at) {
    const { jump, middle } = where();
    go(at.map((pixel, axis) => within(Math.round((pixel - middle) / jump), 0, maps.shape[1 + axis] - 1)));
    if (by.value === HERE) rank();
  }

  function mark() {
    const tile = strongest.indexOf(channel);
    const [, rows, columns] = maps.shape;
    grid.show({ frames: tile < 0 ? [] : [[tile, 0, 0, rows, columns, ORANGE]], place: [Math.max(tile, 0), 0, 0] });
  }

  // Choose a unit of the channel, frame its receptive field and tell its value.
  function go(at) {
    place = at;
    const { start, reach, jump, middle } = where();
    const [top, left] = place.map((index) => start + index * jump);
    const center = place.map((index) => Math.round(middle + index * jump));
    const cell = center.map((pixel) => [pixel - Math.floor(jump / 2), pixel + Math.ceil(jump / 2)]);
    const boxes = [[top, left, top + reach, left + reach, BLUE]];
    if (reach > 30) boxes.push([cell[0][0], cell[1][0], cell[0][1], cell[1][1], BLACK]); // else one hides the other
    const moved = { boxes, step: jump, point: center.map((pixel) => within(pixel, 0, size - 1)) };
    scene.show(moved);
    over.show({
      ...moved,
      picture: overlay(),
      label: `map of channel ${channel} over the photograph; the arrow keys move the place`,
    });
    number.value = channel;
    set("channel", channel);
    set("place", place);
    tell(top, left, reach, boxes.length > 1);
  }

  function tell(top, left, reach, black) {
    const [, rows, columns] = maps.shape;
    const each = maps.step > 1 ? `, every ${["second", "third", "fourth"][maps.step - 2] ?? `${maps.step}th`} row and column` : "";
    overNote.textContent = `channel ${channel} (${rows} × ${columns}${each}) laid over it, in orange`;
    const share = [top, left].reduce((a, first) => a * (Math.min(first + reach, size) - Math.max(first, 0)) / reach, 1);
    const outside = share < 1 ? `; ${Math.round(100 * (1 - share))}% of it lies outside the photograph` : "";
    here.replaceChildren(
      `The unit at row ${place[0] * maps.step}, column ${place[1] * maps.step} of channel ${channel}, ${model.get("layer")}, has the value `,
      h("b", {}, value(channel, place).toFixed(2)),
      ` (the strongest of this map: ${maps.peaks[channel].toFixed(2)}). It looks at the blue frame, ${reach} × ${reach} pixels${outside}.`,
      black ? " The black square is its own place." : "",
    );
  }

  // The channel's map, orange, on the photograph in pale grey.
  function overlay() {
    const [, rows, columns] = maps.shape;
    const map = one(channel);
    const along = (pixel, count) => {
      const at = within(((pixel + 0.5) * count) / size - 0.5, 0, count - 1);
      return [Math.floor(at), Math.min(Math.floor(at) + 1, count - 1), at % 1];
    };
    const across = Array.from({ length: size }, (_, x) => along(x, columns));
    return picture(null, size, size, (i) => {
      const [up, low, v] = along(Math.floor(i / size), rows);
      const [left, right, u] = across[i % size];
      const line = (row) => map[row * columns + left] * (1 - u) + map[row * columns + right] * u;
      const cover = (0.85 * (line(up) * (1 - v) + line(low) * v)) / 255;
      const pale = 63.75 + 0.2 * (square[3 * i] + square[3 * i + 1] + square[3 * i + 2]);
      return MARK.map((part) => (1 - cover) * pale + cover * part);
    }, true);
  }

  attempt(() => visit(model.get("photo")));
}
