// Where all views begin: in JupyterLab called by anywidget, on a page of the book by `book/host.js`.

const VIEWS = { digit: digitView, kernel: kernelView, features: featuresView, network: networkView };

function render({ model, el }) {
  el.classList.add("cnnlib-live");
  el.setAttribute("data-lm-suppress-shortcuts", "true"); // in JupyterLab: Enter and the arrows belong to the view
  el.addEventListener("keydown", (event) => { // JupyterLab keeps Enter from ending what is typed
    if (event.key === "Enter" && event.target.tagName === "INPUT") event.target.dispatchEvent(new Event("change"));
  });
  return VIEWS[model.get("view")]({ model, el });
}
