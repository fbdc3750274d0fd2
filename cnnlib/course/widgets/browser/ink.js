// From strokes of a pen to an image in the form of MNIST's digits (LeCun et al. 1998, section III-A).

const PEN = 0.08; // of the pad's width: about two pixels of 28, as MNIST's digits have

// Return strokes, lists of [across, down] from 0 to 1, as ink from 0 to 1 on size × size pixels.
function rasterize(strokes, pen = PEN, size = 280) {
  const ink = new Float32Array(size * size);
  const radius = (pen * size) / 2;
  for (const stroke of strokes) {
    stroke.forEach((end, k) => {
      const [x0, y0] = stroke[Math.max(k - 1, 0)].map((v) => v * size);
      const [x1, y1] = end.map((v) => v * size);
      const length = (x1 - x0) ** 2 + (y1 - y0) ** 2;
      const [left, top] = [Math.min(x0, x1), Math.min(y0, y1)].map((v) => Math.max(0, Math.floor(v - radius - 1)));
      const [right, bottom] = [Math.max(x0, x1), Math.max(y0, y1)].map((v) => Math.min(size, Math.ceil(v + radius + 1)));
      for (let row = top; row < bottom; row++) {
        for (let column = left; column < right; column++) {
          const [x, y] = [column + 0.5, row + 0.5];
          const along = length ? Math.min(1, Math.max(0, ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length)) : 0;
          const away = Math.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0));
          const cover = Math.min(1, Math.max(0, radius - away + 0.5)); // smooth edges
          ink[row * size + column] = Math.max(ink[row * size + column], cover);
        }
      }
    });
  }
  return ink;
}

// The weights with which `from` pixels become `to`: bilinear, with anti-aliasing, as PyTorch's interpolate.
function taps(from, to) {
  const scale = from / to, reach = Math.max(scale, 1);
  return Array.from({ length: to }, (_, i) => {
    const middle = scale * (i + 0.5);
    const first = Math.max(Math.trunc(middle - reach + 0.5), 0);
    const last = Math.min(Math.trunc(middle + reach + 0.5), from);
    const weights = Array.from({ length: last - first }, (_, k) =>
      Math.max(0, 1 - Math.abs((first + k - middle + 0.5) / reach)),
    );
    const sum = weights.reduce((a, b) => a + b);
    return [first, weights.map((weight) => weight / sum)];
  });
}

// Bring ink on size × size pixels into the form of MNIST's digits: the box around it is scaled, its sides in
// proportion, until the longer one has 20 pixels, and laid on 28 × 28 with its centre of mass in the middle.
// Return 784 bytes, all 0 where there is no ink.
function likeMnist(ink, size = 280) {
  const image = new Uint8Array(784);
  let [top, left, bottom, right] = [size, size, 0, 0];
  for (let i = 0; i < ink.length; i++) {
    if (!ink[i]) continue;
    const row = Math.floor(i / size), column = i % size;
    [top, left] = [Math.min(top, row), Math.min(left, column)];
    [bottom, right] = [Math.max(bottom, row + 1), Math.max(right, column + 1)];
  }
  if (!bottom) return image;
  const longer = Math.max(bottom - top, right - left);
  const [height, width] = [bottom - top, right - left].map((side) => Math.max(1, Math.round((20 * side) / longer)));
  const rows = taps(bottom - top, height), columns = taps(right - left, width);
  const sum = ([first, weights], value) => weights.reduce((total, weight, k) => total + weight * value(first + k), 0);
  const lines = Array.from({ length: bottom - top }, (_, r) =>
    columns.map((tap) => sum(tap, (s) => ink[(top + r) * size + left + s])),
  );
  const small = rows.map((tap) => columns.map((_, s) => Math.min(1, Math.max(0, sum(tap, (r) => lines[r][s])))));
  let mass = 1e-9, down = 0, across = 0;
  small.forEach((line, r) => line.forEach((value, s) => {
    mass += value;
    down += value * r;
    across += value * s;
  }));
  // MNIST's centres of mass lie at pixel 14; no ink may leave the frame
  const [above, before] = [[down, height], [across, width]].map(([moment, side]) =>
    Math.min(Math.max(Math.round(14 - moment / mass), 0), 28 - side),
  );
  small.forEach((line, r) => line.forEach((value, s) => {
    image[(above + r) * 28 + before + s] = Math.round(255 * value);
  }));
  return image;
}
