"""Draw the thinned networks of lesson 08 into `img/`.

Usage:
    python tools/draw_dropout.py
"""

import sys

import matplotlib.pyplot as plt
import torch
from save_figures import save

from cnnlib.measure.plots import COLORS
from cnnlib.models.layers import Dropout

INK, PALE = "#333333", "#BBBBBB"
WIDTHS = (4, 6, 6, 3)  # units of each layer


def dropout():
    """One small network in two training passes, with masks that `Dropout` drew, and in evaluation."""
    torch.manual_seed(3)
    layer = Dropout(0.5)
    passes = [[torch.ones(n) if n in (4, 3) else layer(torch.ones(n)) for n in WIDTHS] for _ in range(2)]
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.9))
    figure.subplots_adjust(left=0.01, right=0.99, top=0.82, bottom=0.12, wspace=0.06)
    titles = ("Training, one step", "Training, the next step", "Evaluation")
    notes = ("kept values × 2 (p = 0.5)", "another mask, the same weights", "all units, nothing scaled")
    for ax, scales, title, note in zip(
        axes, [*passes, [torch.ones(n) for n in WIDTHS]], titles, notes, strict=True
    ):
        _network(ax, scales)
        ax.set_title(title, fontsize=12, weight="bold", color=INK)
        ax.text(1.5, -3.35, note, ha="center", fontsize=10.5, color=INK)
    return figure


def _network(ax, scales):
    """Draw the units, and the connections between those that are kept."""
    places = [[(x, i - (n - 1) / 2) for i in range(n)] for x, n in enumerate(WIDTHS)]
    for x in range(len(WIDTHS) - 1):
        for start, first in zip(places[x], scales[x], strict=True):
            for end, second in zip(places[x + 1], scales[x + 1], strict=True):
                if first and second:
                    ax.plot(
                        *zip(start, end, strict=True), color=COLORS[0], linewidth=0.9, alpha=0.6, zorder=1
                    )
    for column, values in zip(places, scales, strict=True):
        for (x, y), scale in zip(column, values, strict=True):
            face, edge = (COLORS[5], INK) if scale else ("white", PALE)
            ax.plot(x, y, "o", markersize=15, markerfacecolor=face, markeredgecolor=edge, zorder=2)
            if not scale:
                ax.plot(x, y, "x", markersize=9, color=COLORS[1], markeredgewidth=2, zorder=3)
            elif scale > 1:
                ax.text(x, y, "×2", ha="center", va="center_baseline", fontsize=7.5, color=INK, zorder=3)
    ax.set(xlim=(-0.4, 3.4), ylim=(-3.6, 3))
    ax.axis("off")


FIGURES = {"dropout": dropout}


if __name__ == "__main__":
    save(FIGURES, sys.argv[1:])
