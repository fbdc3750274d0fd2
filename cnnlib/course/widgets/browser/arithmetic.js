// A small network's forward pass, and each of its values taken apart, in plain JavaScript.
//
// The kept libraries were weighed: onnxruntime-web has to fetch its WebAssembly, which a browser refuses to a
// page that is opened from its folder, and tfjs is over a megabyte of script. For eight kinds of layer this
// file does it; tests/test_book.py compares it with PyTorch in Chromium.
//
// A tensor is { shape: [channels, height, width], values }; a layer is what `chain.export` in Python makes.

function prepare(network) {
  const decoded = (value) => (value instanceof DataView ? floats(value) : value);
  return network.map((layer) =>
    Object.fromEntries(Object.entries(layer).map(([name, value]) => [name, decoded(value)])),
  );
}

// The shape of a layer's output, and the window that it slides over its input. A linear layer is a
// convolution whose window is the whole input.
function outline(layer, [channels, height, width]) {
  if (layer.kind === "linear") {
    return { shape: [layer.bias.length, 1, 1], window: [height, width], stride: 1, padding: 0 };
  }
  if (layer.kind === "conv" || layer.kind === "pool") {
    const [rows, columns] = layer.window;
    const { stride, padding } = layer;
    const out = [height + 2 * padding - rows, width + 2 * padding - columns].map((n) => Math.floor(n / stride) + 1);
    return { shape: [layer.kind === "conv" ? layer.bias.length : channels, ...out], ...layer };
  }
  const rim = layer.kind === "crop" ? layer.rim : 0; // what is cut off is padding the other way round
  return { shape: [channels, height - 2 * rim, width - 2 * rim], window: [1, 1], stride: 1, padding: -rim };
}

function convolve(input, layer) {
  const [channels, height, width] = input.shape;
  const { shape, window: [rows, columns], stride, padding } = outline(layer, input.shape);
  const [count, tall, wide] = shape;
  const values = new Float32Array(count * tall * wide);
  const sums = new Float64Array(tall * wide), seen = input.values;
  for (let k = 0; k < count; k++) {
    sums.fill(layer.bias[k]);
    for (let c = 0; c < channels; c++) {
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j++) {
          const weight = layer.weight[((k * channels + c) * rows + i) * columns + j];
          // from the first to the last window whose number j lies inside, not in the padding's zeros
          const first = Math.max(0, Math.ceil((padding - j) / stride));
          const last = Math.min(wide - 1, Math.floor((width - 1 + padding - j) / stride));
          for (let r = 0; r < tall; r++) {
            const row = r * stride - padding + i;
            if (row < 0 || row >= height) continue;
            const from = (c * height + row) * width + j - padding;
            for (let s = first; s <= last; s++) sums[r * wide + s] += weight * seen[from + s * stride];
          }
        }
      }
    }
    values.set(sums, k * tall * wide);
  }
  return { shape, values };
}

function pool(input, layer) {
  const [, height, width] = input.shape;
  const { shape, window: [rows, columns], stride } = outline(layer, input.shape);
  const [count, tall, wide] = shape;
  const values = new Float32Array(count * tall * wide);
  for (let n = 0; n < values.length; n++) {
    const channel = Math.floor(n / (tall * wide)), top = (Math.floor(n / wide) % tall) * stride;
    const corner = (channel * height + top) * width + (n % wide) * stride;
    let sum = 0, most = -Infinity;
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) {
        const value = input.values[corner + i * width + j];
        sum += value;
        most = Math.max(most, value);
      }
    }
    values[n] = layer.average ? sum / (rows * columns) : most;
  }
  return { shape, values };
}

// What a layer makes of single values, by channel.
const SINGLE = {
  normalize: (x, layer, c) => (x - layer.mean[c]) / layer.std[c],
  scale: (x, layer, c) => layer.weight[c] * x + layer.bias[c],
  relu: (x) => Math.max(x, 0),
};

function crop(input, layer) {
  const { shape } = outline(layer, input.shape);
  const [count, rows, columns] = shape;
  const values = new Float32Array(count * rows * columns);
  for (let k = 0; k < count; k++) {
    for (let r = 0; r < rows; r++) {
      const from = (k * input.shape[1] + r + layer.rim) * input.shape[2] + layer.rim;
      values.set(input.values.subarray(from, from + columns), (k * rows + r) * columns);
    }
  }
  return { shape, values };
}

function softmax(logits) {
  const top = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - top));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

function apply(layer, input) {
  if (layer.kind === "conv" || layer.kind === "linear") return convolve(input, layer);
  if (layer.kind === "pool") return pool(input, layer);
  if (layer.kind === "crop") return crop(input, layer);
  if (layer.kind === "softmax") return { shape: input.shape, values: Float64Array.from(softmax(input.values)) };
  const area = input.shape[1] * input.shape[2];
  const single = SINGLE[layer.kind];
  const values = input.values.map((x, i) => single(x, layer, Math.floor(i / area) % input.shape[0]));
  return { shape: input.shape, values };
}

// Return the input and the output of each layer: one tensor more than there are layers.
function forward(network, input) {
  const results = [input];
  for (const layer of network) results.push(apply(layer, results.at(-1)));
  return results;
}

// The window of one input channel under a layer's value: its numbers, and which lie inside the input.
function windowAt(input, layer, [, row, column], channel) {
  const [, height, width] = input.shape;
  const { window: [rows, columns], stride, padding } = outline(layer, input.shape);
  const top = row * stride - padding, left = column * stride - padding;
  const values = [], inside = [];
  for (let r = top; r < top + rows; r++) {
    for (let s = left; s < left + columns; s++) {
      inside.push(r >= 0 && r < height && s >= 0 && s < width);
      values.push(inside.at(-1) ? input.values[(channel * height + r) * width + s] : 0);
    }
  }
  return { channel, top, left, rows, columns, values, inside };
}

// Take a value of a convolution or a linear layer apart: for each input channel its window, the kernel, the
// products and their sum; the sums and the bias add up to the value.
function takeApart(layer, input, place) {
  const terms = Array.from({ length: input.shape[0] }, (_, c) => {
    const term = windowAt(input, layer, place, c);
    const area = term.rows * term.columns;
    const start = (place[0] * input.shape[0] + c) * area;
    term.kernel = Array.from(layer.weight.slice(start, start + area));
    term.products = term.values.map((value, i) => value * term.kernel[i]);
    term.sum = term.products.reduce((a, b) => a + b);
    return term;
  });
  const bias = layer.bias[place[0]];
  return { terms, bias, value: terms.reduce((sum, term) => sum + term.sum, bias) };
}
