"""What the widgets share: a live view in the browser, its state on a page of the book, a static figure."""

import io
import zlib
from base64 import b64encode
from pathlib import Path

import anywidget
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image
from traitlets import Dict, List, Unicode, observe

from cnnlib.course.widgets.pictures import png
from cnnlib.ground.errors import CnnlibError, ParameterError

BROWSER = Path(__file__).with_name("browser")
PARTS = ("elements", "arithmetic", "ink", "surface", "digit", "kernel", "features", "network", "main")
"""The files of the browser's half, in the order in which they make one script."""
MIME = "application/vnd.cnnlib.widget+json"
"""The type under which an output holds a widget's state, for pages that have no kernel."""
DIES_WITH_KERNEL = {"cnnlib": "live"}
"""Metadata of an output that `cnnlib.course.runner.clean` takes away, as it does the views of widgets."""
REOPENED = """<style>
.jp-OutputArea-child:has(> .jp-RenderedImage) + .jp-OutputArea-child > .jupyter-widgets:not(:has(*)) {
  font-size: 0;
}
.jp-OutputArea-child:has(> .jp-RenderedImage) + .jp-OutputArea-child > .jupyter-widgets:not(:has(*))::after {
  content: "Run this cell to bring the figure alive.";
  font-size: var(--jp-ui-font-size1);
}
</style>"""
"""JupyterLab writes "Error displaying widget: model not found" where a saved notebook is opened without the
kernel that it was run with; this says what to do instead."""


def script():
    """Return the browser's half of all widgets, as JavaScript that defines `render({ model, el })`."""
    return "\n".join((BROWSER / f"{part}.js").read_text(encoding="utf-8") for part in PARTS)


def style():
    """Return its style sheet."""
    return (BROWSER / "style.css").read_text(encoding="utf-8")


def packed(value):
    """Return a trait's value, or an answer, as JSON: bytes are compressed, and written in base64."""
    if isinstance(value, bytes):
        return {"deflate": b64encode(zlib.compress(value, 9)).decode()}
    if isinstance(value, dict):
        return {key: packed(each) for key, each in value.items()}
    return [packed(each) for each in value] if isinstance(value, (list, tuple)) else value


class Interactive(anywidget.AnyWidget):
    """A widget of the course: its state here, its view and most of its arithmetic in the browser.

    Shown as a cell's output it leaves a figure (PNG) of its first state, with a sentence that describes it
    and with the state itself, and the live view. Where the view is alive, a style rule hides the figure. A
    page of the book has no kernel: there the same script draws the view from the stored state. Everywhere
    else the figure is what there is to see.

    A view asks for what it does not have by adding a number and a key to `wanted`; the kernel, or the book,
    sets `answer` to what `look_up` returns for the key, with the number, once for each.
    """

    _esm = script() + "\nexport default { render };\n"
    _css = style()

    view = Unicode(help="which view `main.js` chooses").tag(sync=True)
    wanted = List(help="[number, *key] of each question that has no answer yet").tag(sync=True)
    answer = Dict().tag(sync=True)
    name = "a widget"
    in_book = True
    """Whether the view can live on its state and on what the book holds, without a kernel."""

    @observe("wanted")
    def _wanted(self, change):
        for number, *key in change.new:
            if number > self.answer.get("number", 0):  # numbers rise, and are answered in their order
                self.answer = {"number": number, **attempt(self.look_up, *key)}

    def look_up(self, *key):
        """Return what is known under a key: a dict of numbers, texts, lists and bytes."""
        raise NotImplementedError

    def state(self):
        """Return what the view starts from, as JSON."""
        names = set(self.trait_names(sync=True)) - set(Interactive.class_trait_names()) | {"view"}
        return {name: packed(getattr(self, name)) for name in sorted(names) if not name.startswith("_")}

    def describe(self):
        """Return a sentence on what is to be seen, for whoever cannot see it."""
        raise NotImplementedError

    def draw(self, figure):
        """Draw the present state on a matplotlib Figure."""
        raise NotImplementedError

    def figure_png(self):
        """Return the static figure as PNG bytes."""
        figure = Figure(dpi=90, layout="constrained")
        self.draw(figure)
        for ax in figure.axes:
            ax.grid(visible=False)
        file = io.BytesIO()
        figure.savefig(file, format="png")
        with Image.open(file) as image:
            return png(np.asarray(image.convert("RGB")), colors=256)  # half the size, to the same eye

    def _ipython_display_(self):
        display({"text/html": REOPENED, "text/plain": ""}, raw=True, metadata=DIES_WITH_KERNEL)
        figure = {"image/png": self.figure_png(), "text/plain": self.describe()}
        display(figure | ({MIME: self.state()} if self.in_book else {}), raw=True)
        view, metadata = super()._repr_mimebundle_()
        display(view, metadata=metadata, raw=True)

    def __repr__(self):
        return f"<{self.name}: {self.describe()}>"


def attempt(function, *arguments):
    """Return a function's dict, or one that tells its problem: an exception would end up in an unseen log."""
    try:
        return function(*arguments)
    except CnnlibError as error:
        return {"problem": str(error)}
    except Exception as error:
        return {"problem": f"{type(error).__name__}: {error}"}


def check_place(name, place, shape):
    """Check that a place lies in an array, and return it as a tuple.

    Args:
        name: what the numbers mean, for the message.
        place: list of ints, one an axis.
        shape: the array's.

    Raises:
        ParameterError: another number of axes, or a place outside.
    """
    if len(place) != len(shape) or not all(0 <= at < length for at, length in zip(place, shape, strict=True)):
        *most, last = [f"0 to {length - 1}" for length in shape]
        limits = f"{', '.join(most)} and {last}" if most else last
        raise ParameterError(
            f"{name} is {list(place)}; it must be {len(shape)} whole number{'s' if most else ''}, {limits}"
        )
    return tuple(place)


def short(value):
    """Return a number with at most three decimals, with the sign −."""
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text.replace("-", "−")
