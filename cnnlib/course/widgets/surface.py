"""A picture in the browser that one can draw on, or point at with mouse, finger or arrow keys."""

from pathlib import Path

import anywidget
from traitlets import Bool, Bytes, Float, Int, List, Unicode

_HERE = Path(__file__).parent


class Surface(anywidget.AnyWidget):
    """A picture of `rows` × `columns` pixels, `width` pixels of the screen wide.

    With a pen it is drawn on: `strokes` grows. Without one a place is chosen: `point` moves. The browser's
    half is `surface.js`. It is written for these widgets, since a general canvas sends every
    movement through the kernel and takes the mouse wheel and the Tab key from the page.
    """

    _esm = (_HERE / "surface.js").read_text(encoding="utf-8")
    _css = (_HERE / "surface.css").read_text(encoding="utf-8")

    label = Unicode("picture", help="what a screen reader says").tag(sync=True)
    image = Bytes(b"", help="PNG, stretched over the surface; empty for none").tag(sync=True)
    rows = Int(28).tag(sync=True)
    columns = Int(28).tag(sync=True)
    width = Int(280, help="in pixels of the screen").tag(sync=True)
    smooth = Bool(True, help="blend the picture's pixels when enlarged, or show each as a square").tag(
        sync=True
    )
    pen = Float(0.0, help="width of the pen, as a share of `width`; 0 for pointing").tag(sync=True)
    strokes = List(List(List(Float())), help="each a list of [across, down], 0 to 1").tag(sync=True)
    point = List(Int(), [0, 0], help="row and column of the chosen pixel").tag(sync=True)
    step = Int(1, help="pixels that an arrow key moves the point; with Shift ten times as many").tag(
        sync=True
    )
    boxes = List(help="frames: [top, left, bottom, right, color], in pixels of the picture").tag(sync=True)
