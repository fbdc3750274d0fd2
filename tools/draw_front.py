"""Draw img/front.png, the README's picture, from the committed lessons: a claim, a figure and a widget.

python tools/draw_front.py
"""

import base64
import io
import textwrap

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import nbformat
from PIL import Image

from cnnlib.ground.env import IMG, NOTEBOOKS
from cnnlib.measure.claims import MIME

LESSON, FIGURE, WIDGET = "02_parts_of_a_cnn", "shift-figure", ("03_mnist_cnn", "draw-digit")
GREEN = "#009E73"


def outputs(lesson, cell_id):
    """Return the data of a cell's stored outputs."""
    notebook = nbformat.read(NOTEBOOKS / f"{lesson}.ipynb", as_version=4)
    (cell,) = (cell for cell in notebook.cells if cell.get("id") == cell_id)
    return [output["data"] for output in cell.outputs if "data" in output]


def picture(lesson, cell_id):
    (data,) = (data["image/png"] for data in outputs(lesson, cell_id) if "image/png" in data)
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


def claim_after(lesson, cell_id):
    """Return the first claim at or below a cell."""
    notebook = nbformat.read(NOTEBOOKS / f"{lesson}.ipynb", as_version=4)
    ids = [cell.get("id") for cell in notebook.cells]
    for cell in notebook.cells[ids.index(cell_id) :]:
        for output in cell.get("outputs", []):
            if MIME in output.get("data", {}):
                return output["data"][MIME]
    raise ValueError(f"no claim follows {cell_id} in {lesson}")


def main():
    figure = plt.figure(figsize=(11, 5.0), dpi=100)
    for left, width, title, image in (
        (0.01, 0.44, "A lesson predicts, measures and draws …", picture(LESSON, FIGURE)),
        (0.48, 0.51, "… and lets you play: draw a digit, and the network answers", picture(*WIDGET)),
    ):
        height = width * 11 / 5.0 * image.height / image.width
        ax = figure.add_axes((left, 0.88 - height, width, height))
        ax.imshow(image)
        ax.axis("off")
        figure.text(left, 0.93, title, fontsize=12, fontweight="bold")
    claim = claim_after(LESSON, FIGURE)
    lines = [f"✓ {claim['text']}", claim["evidence"]]
    lines += [f"excluded: {rival['name']}: {rival['shown']}" for rival in claim["rivals"]]
    lines = [part for line in lines for part in textwrap.wrap(line, 135)]
    figure.add_artist(plt.Rectangle((0.01, 0.09), 0.004, 0.2, color=GREEN))
    figure.text(0.025, 0.255, lines[0], fontsize=11, fontweight="bold", va="center")
    figure.text(0.025, 0.225, "\n".join(lines[1:6]), fontsize=9.5, va="top", linespacing=1.5)
    with io.BytesIO() as buffer:
        figure.savefig(buffer, format="png", metadata={"Software": None})
        small = Image.open(buffer).convert("RGB").quantize(128)
        small.save(IMG / "front.png", optimize=True)


if __name__ == "__main__":
    main()
