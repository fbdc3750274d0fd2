// The host of the widgets on a page of the book: it does what JupyterLab and the kernel do elsewhere.
// Everything arrives by <script>, since a page that is opened from its folder may fetch nothing.

const FOLDER = new URL(".", document.currentScript.src).href;
const arriving = new Map(); // file → what its script calls with its data

// Called by the files that hold answers.
function arrived(file, data) {
  arriving.get(file)?.(data);
}

function load(file) {
  return new Promise((resolve, reject) => {
    arriving.set(file, resolve);
    const script = h("script", { src: FOLDER + file });
    script.onerror = () => reject(new Error(`the book lacks its file ${file}`));
    document.head.append(script);
    script.onload = () => script.remove();
  });
}

// Undo what `base.packed` in Python did: { deflate: base64 } becomes bytes.
async function unpacked(value) {
  if (Array.isArray(value)) return Promise.all(value.map(unpacked));
  if (value === null || typeof value !== "object") return value;
  if (typeof value.deflate === "string") {
    const compressed = Uint8Array.from(atob(value.deflate), (letter) => letter.charCodeAt(0));
    const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new DataView(await new Response(stream).arrayBuffer());
  }
  const entries = Object.entries(value).map(async ([name, each]) => [name, await unpacked(each)]);
  return Object.fromEntries(await Promise.all(entries));
}

// What anywidget gives to `render`, without a kernel behind it: files answer.
class Model {
  constructor(state) {
    Object.assign(this, { state, listeners: new Map(), asked: 0 });
  }

  get(name) {
    return this.state[name];
  }

  set(name, value) {
    this.state[name] = value;
    for (const listener of [...(this.listeners.get(`change:${name}`) ?? [])]) listener();
    if (name !== "wanted") return;
    for (const question of value.filter(([number]) => number > this.asked)) {
      this.asked = question[0];
      this.answer(question);
    }
  }

  on(event, listener) {
    this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
  }

  off(event, listener) {
    this.listeners.set(event, (this.listeners.get(event) ?? []).filter((each) => each !== listener));
  }

  save_changes() {}

  async answer([number, ...key]) {
    try {
      const data = await load(`${this.state.view}/${key.join("-")}.js`);
      this.set("answer", { number, ...(await unpacked(data)) });
    } catch (error) {
      this.set("answer", { number, problem: error.message });
    }
  }
}

async function start(place) {
  const el = h("div");
  try {
    const state = await unpacked(JSON.parse(place.querySelector("script").textContent));
    place.append(el); // the views measure the room that they have
    place.model = new Model({ ...state, paths: false });
    render({ model: place.model, el });
  } catch (error) {
    el.remove(); // the figure stays
    place.append(`The figure does not come alive here: ${error.message}. Browsers from 2023 on have what it needs.`);
    throw error;
  }
}

window.cnnlib = { arrived, unpacked, prepare, forward, takeApart, rasterize, likeMnist };
for (const place of document.querySelectorAll(".cnnlib-widget")) start(place);
