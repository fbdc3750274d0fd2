"""Draw the layer of lesson 09 in both modes into `img/`.

Usage:
    python tools/draw_batch_norm.py
"""

import sys
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import FancyArrowPatch
from save_figures import save

from cnnlib.measure.plots import COLORS
from cnnlib.models.batch_norm import BatchNorm2d

INK, PALE = "#333333", "#BBBBBB"
VALUES = torch.tensor([1.0, 3.0, 3.0, 9.0]).view(2, 1, 1, 2)  # two images of one channel and two places
GAMMA, BETA = 6.0, 2.0
COLUMNS = (0.155, 0.465, 0.775)  # left edges of the number lines: x, x̂, y
WIDTH = 0.2


def batch_norm():
    """One channel of four values through the layer in training, and one image through it in evaluation."""
    layer = BatchNorm2d(1).requires_grad_(False)
    layer.weight.fill_(GAMMA)
    layer.bias.fill_(BETA)
    trained = layer(VALUES)  # moves the running statistics too
    answered = layer.eval()(VALUES[:1])
    mean, var = VALUES.mean().item(), VALUES.var(correction=0).item()
    stored = layer.running_mean.item(), layer.running_var.item()

    figure = plt.figure(figsize=(10.5, 5.2))
    _row(figure, 0.8, "Training", "2 images × 2 places", VALUES, trained)
    _row(figure, 0.08, "Evaluation", "1 image × 2 places", VALUES[:1], answered)
    unbiased = var * VALUES.numel() / (VALUES.numel() - 1)
    _box(figure, 0.35, 0.6, f"μ = {mean:.0f}   σ² = {var:.0f}\nof this batch", COLORS[0])
    running = f"running mean 0 → {stored[0]:.1f},   variance 1 → {stored[1]:.1f}"
    way = f"10 % of the way to {mean:.0f} and to {unbiased:.0f} = σ² · 4/3"
    _box(figure, 0.35, 0.38, f"{running}\n{way}", COLORS[2])
    _box(figure, 0.735, 0.49, f"γ = {GAMMA:.0f}   β = {BETA:.0f}\nlearned, the same in both modes", COLORS[1])
    for start, end, color in (
        ((0.26, 0.74), (0.3, 0.655), COLORS[0]),
        ((0.395, 0.655), (0.415, 0.825), COLORS[0]),
        ((0.35, 0.545), (0.35, 0.435), COLORS[2]),
        ((0.385, 0.325), (0.415, 0.135), COLORS[2]),
        ((0.735, 0.545), (0.727, 0.825), COLORS[1]),
        ((0.735, 0.435), (0.727, 0.135), COLORS[1]),
    ):
        _arrow(figure, start, end, color)
    return figure


def _row(figure, y, mode, what, x, out):
    """Draw x, x̂ and y of one mode as dots on number lines, with arrows between them."""
    figure.text(0.015, y + 0.06, mode, fontsize=12, weight="bold", color=INK)
    figure.text(0.015, y + 0.015, what, fontsize=9, color=INK)
    stages = {"x": x, "x̂ = (x − μ) / √(σ² + ε)": (out - BETA) / GAMMA, "y = γ x̂ + β": out}
    limits = ((-5.5, 14), (-1.7, 2.4), (-5.5, 14))
    for left, (name, values), limit in zip(COLUMNS, stages.items(), limits, strict=True):
        ax = figure.add_axes([left, y, WIDTH, 0.1])
        flat = values.flatten().tolist()
        seen = {}
        for value in flat:
            height = seen.get(value, 0)  # equal values are piled up
            seen[value] = height + 1
            ax.plot(
                value, 0.3 * height, "o", color=COLORS[5], markeredgecolor=INK, markersize=9, clip_on=False
            )
        for value in seen:
            text = f"{value:.2f}".rstrip("0").rstrip(".").replace("-", "−")
            ax.text(value, -0.85, "0" if text == "−0" else text, ha="center", fontsize=9, color=INK)
        ax.axvline(0, ymin=0.1, ymax=0.75, color=PALE, linewidth=1, zorder=0)
        ax.set(xlim=limit, ylim=(-0.3, 1.2), xticks=[], yticks=[])
        ax.set_title(name, fontsize=11, color=INK, pad=4)
        ax.grid(visible=False)
        for side in ("left", "top", "right"):
            ax.spines[side].set_visible(False)
        ax.spines["bottom"].set_color(PALE)
    for left, right in pairwise(COLUMNS):
        _arrow(figure, (left + WIDTH + 0.012, y + 0.04), (right - 0.012, y + 0.04), INK)


def _box(figure, x, y, text, color):
    style = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": color, "linewidth": 1.6}
    figure.text(x, y, text, ha="center", va="center", fontsize=10, linespacing=1.5, color=INK, bbox=style)


def _arrow(figure, start, end, color):
    style = {"arrowstyle": "-|>", "mutation_scale": 13, "color": color, "linewidth": 1.4}
    figure.add_artist(FancyArrowPatch(start, end, transform=figure.transFigure, **style))


FIGURES = {"batch_norm": batch_norm}


if __name__ == "__main__":
    save(FIGURES, sys.argv[1:])
