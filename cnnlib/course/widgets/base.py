"""What the widgets share: a live view, the static figure for where no kernel is, and a place for errors."""

import html
import io
from contextlib import contextmanager

import ipywidgets
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from cnnlib.course.widgets.pictures import png
from cnnlib.ground.errors import CnnlibError
from cnnlib.measure.plots import COLORS

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


class Interactive:
    """A widget of the course. A subclass builds its controls, then calls `show`.

    Shown as a cell's output it leaves a figure (PNG) of its present state, with a sentence that describes
    it, and the live view. Where the view is alive, a style rule hides the figure; where no kernel is, in a
    reopened notebook, on a web page or on paper, the figure is what there is to see.
    """

    name = "a widget"
    _quiet = False

    def show(self, *rows):
        """Make the view out of its rows of widgets."""
        self.problem = ipywidgets.HTML()
        self.view = ipywidgets.VBox([*rows, self.problem])
        self.view.add_class("cnnlib-live")

    def watch(self, widget, traits, function):
        """Call `function()` when one of a widget's traits changes; what it raises is shown in the view.

        An exception in a callback of a widget would otherwise end up in a log that nobody sees.
        """

        def call(change=None):
            if self._quiet:
                return
            try:
                function()
            except Exception as error:
                text = str(error) if isinstance(error, CnnlibError) else f"{type(error).__name__}: {error}"
                self.report(text)
            else:
                self.report("")

        if traits == "click":
            widget.on_click(call)
        else:
            widget.observe(call, traits)

    @contextmanager
    def quiet(self):
        """Set traits of widgets without the functions that `watch` would call."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def report(self, text):
        """Show a problem below the view; an empty text removes it."""
        style = f"border-left: 4px solid {COLORS[1]}; padding: 0.2em 0.8em"
        self.problem.value = text and f'<div role="alert" style="{style}">{html.escape(text)}</div>'

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
        display({"image/png": self.figure_png(), "text/plain": self.describe()}, raw=True)
        display(self.view)

    def __repr__(self):
        return f"<{self.name}: {self.describe()}>"


def note(text=""):
    """Return a widget for a paragraph of HTML; `say` changes what it says."""
    return say(ipywidgets.HTML(), text)


def say(widget, text, role="note"):
    """Write a paragraph of HTML into a `note`. With the role "status" a screen reader reads it out."""
    widget.value = f'<div class="cnnlib-note" role="{role}">{text}</div>'
    return widget


def side_by_side(*widgets):
    """Return widgets in a row that wraps where the window is narrow."""
    layout = ipywidgets.Layout(display="flex", flex_flow="row wrap", align_items="flex-start")
    for widget in widgets:
        widget.layout.margin = "2px 14px 4px 2px"
        widget.layout.flex = "0 0 auto"
    return ipywidgets.Box(widgets, layout=layout)
