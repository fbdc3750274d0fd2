"""Draw the static figures of `img/`.

Usage:
    python tools/draw_figures.py            # draw all of them
    python tools/draw_figures.py cnn_parts  # draw one

Every number and picture in them is computed: the maps are those of a network that is trained here first.
Each figure has a fixed seed, so that drawing it again changes nothing but the last decimals.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path
from save_figures import save

from cnnlib.data import load, to_float
from cnnlib.ground.env import set_seed
from cnnlib.measure.plots import COLORS
from cnnlib.models import SimpleCNN
from cnnlib.models.layers import softmax
from cnnlib.train import fit

INK = "#333333"
STAGES = [  # key, title, shape, what it does
    ("image", "Image", "1 × 28 × 28", "grey values 0 to 1"),
    ("kernels", "Kernels", "16 of 1 × 5 × 5", "learned by training"),
    ("conv1", "Convolution", "16 × 28 × 28", "one map a kernel"),
    ("relu1", "ReLU", "16 × 28 × 28", "negatives become 0"),
    ("pool1", "Max pooling", "16 × 14 × 14", "largest of each 2 × 2"),
    ("conv2", "Convolution", "32 × 14 × 14", "32 kernels of 16 × 5 × 5"),
    ("pool2", "ReLU, max pooling", "32 × 7 × 7", "what is where, roughly"),
    ("flat", "Flatten", "1,568", "the same numbers in a row"),
    ("logits", "Fully connected", "10 logits", "one score a class"),
    ("probabilities", "Softmax", "10 probabilities", "they sum to 1"),
]


def cnn_parts():
    """Every part of a convolutional network, on a real digit."""
    set_seed(0)
    data = load("mnist")
    model = SimpleCNN()
    fit(model, data[:12_000], epochs=3, lr=2e-3, seed=0, progress=False)
    image = to_float(data.images[12_000 + int((data.labels[12_000:] == 2).nonzero()[0])][None])
    values = _stages(model.eval(), image)

    figure = plt.figure(figsize=(10, 5.7))
    left, top, step, size, height, row = 0.03, 0.575, 0.1965, 0.152, 0.267, 0.46
    for i, (key, title, shape, note) in enumerate(STAGES):
        x, y = left + i % 5 * step, top - i // 5 * row
        middle = x + size / 2
        bars = values[key].ndim == 1 and key != "flat"
        inset = 0.02 * bars  # room for the classes' names
        _draw(figure.add_axes([x + inset, y, size - inset, height]), key, values[key])
        figure.text(middle, y + height + 0.055, title, ha="center", weight="bold", fontsize=11, color=INK)
        figure.text(middle, y + height + 0.018, shape, ha="center", fontsize=10, color=COLORS[0])
        figure.text(middle, y - (0.075 if bars else 0.04), note, ha="center", fontsize=9, color=INK)
        if i % 5:
            _arrow(figure, [(x - step + size + 0.005, y + height / 2), (x - 0.006, y + height / 2)])
    end, start, between = left + 4.5 * step, left + 0.5 * size, top - 0.077
    _arrow(figure, [(end, top - 0.06), (end, between), (start, between), (start, between - 0.02)])
    figure.suptitle("The parts of a CNN", y=0.985, fontsize=14, weight="bold", color=INK)
    return figure


def _stages(model, image):
    """Return what each stage of the figure shows, as arrays."""
    with torch.no_grad():
        conv1 = model.block1[0](image)
        pool1 = model.block1(image)
        conv2 = model.block2[0](pool1)
        pool2 = model.block2(pool1)
        logits = model(image)
    values = {
        "image": image,
        "kernels": model.block1[0].weight.detach().transpose(0, 1),  # (1, 16, 5, 5)
        "conv1": conv1,
        "relu1": conv1.relu(),
        "pool1": pool1,
        "conv2": conv2,
        "pool2": pool2,
        "flat": pool2.flatten(1),
        "logits": logits,
        "probabilities": softmax(logits),
    }
    return {key: value[0].numpy() for key, value in values.items()}


def _draw(ax, key, value):
    if value.ndim == 3:
        signed = key in ("kernels", "conv1", "conv2")
        value = value / np.maximum(
            np.abs(value).max(axis=(1, 2), keepdims=True), 1e-6
        )  # each map its own scale
        tiles = _tile(value, columns={1: 1, 16: 4, 32: 6}[len(value)])
        ax.imshow(tiles, cmap="RdBu_r" if signed else "gray", vmin=-1 if signed else 0, vmax=1)
        ax.axis("off")
    elif key == "flat":
        ax.imshow(value.reshape(1, -1), aspect="auto", cmap="gray", vmin=0, vmax=value.max() / 2)
        x, y, width, height = ax.get_position().bounds
        ax.set_position([x, y + 0.375 * height, width, 0.25 * height])
        ax.axis("off")
    else:
        ax.barh(range(10), value, color=[COLORS[1] if v == value.max() else COLORS[0] for v in value])
        ax.set_yticks(range(10), range(10), fontsize=9)
        ax.tick_params(axis="x", labelsize=9)
        ax.tick_params(length=0)
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)


def _tile(maps, columns, gap=1):
    """Put maps side by side, with gaps of NaN, which are drawn white."""
    count, height, width = maps.shape
    rows = -(-count // columns)
    gap = gap if count > 1 else 0
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for i, tile in enumerate(maps):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[top : top + height, left : left + width] = tile
    return canvas


def _arrow(figure, corners):
    """Draw an arrow along straight lines, in the figure's coordinates."""
    style = {"arrowstyle": "-|>", "mutation_scale": 12, "color": INK, "linewidth": 1.2}
    figure.add_artist(FancyArrowPatch(path=Path(corners), transform=figure.transFigure, **style))


FIGURES = {"cnn_parts": cnn_parts}


if __name__ == "__main__":
    save(FIGURES, sys.argv[1:])
