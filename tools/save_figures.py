"""Saves the figures that the other scripts here draw as SVG files in `img/`, the same bytes every time."""

import sys

import matplotlib.pyplot as plt

from cnnlib.ground.env import IMG
from cnnlib.measure.plots import use_style


def save(figures, names):
    """Draw figures and write each to `img/NAME.svg`.

    Args:
        figures: dict from a name to a function that returns a matplotlib Figure.
        names: the names to draw; an empty list draws all.
    """
    use_style()
    plt.rcParams.update({"svg.hashsalt": "cnnlib", "figure.constrained_layout.use": False})
    for name in names or figures:
        if name not in figures:
            sys.exit(f"there is no figure {name!r}; choose from {', '.join(figures)}")
        path = IMG / f"{name}.svg"
        figure = figures[name]()
        figure.savefig(path, facecolor="white", metadata={"Date": None})
        plt.close(figure)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")
