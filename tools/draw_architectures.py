"""Draw the blocks of lessons 06 and 07 into `img/`.

Usage:
    python tools/draw_architectures.py                  # draw all of them
    python tools/draw_architectures.py residual_blocks  # draw one
"""

import sys
from itertools import pairwise

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path
from save_figures import save

from cnnlib.measure.plots import COLORS

INK = "#333333"
FILL = {"conv": "#CFE5F3", "pool": "#FBE3C0", "linear": "#F7D3E4", "other": "#EEEEEE", "se": "#CDEBDD"}
"""Pale forms of the course's colours: convolution, pooling, linear layer, all else, squeeze-excitation."""


def canvas(width, height, title):
    """Return an Axes of so many units (1 unit = 0.5 inch) without frame."""
    figure = plt.figure(figsize=(width / 2, height / 2))
    ax = figure.add_axes([0, 0, 1, 1])
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    ax.text(width / 2, height - 0.45, title, ha="center", va="center", fontsize=13, weight="bold", color=INK)
    return ax


def box(ax, x, y, text, kind="conv", width=3.0, height=0.9):
    """Draw a box with its centre at (x, y)."""
    style = "round,pad=0,rounding_size=0.15"
    corner = (x - width / 2, y - height / 2)
    patch = FancyBboxPatch(corner, width, height, style, facecolor=FILL[kind], edgecolor=INK, linewidth=1)
    ax.add_patch(patch)
    ax.text(x, y, text, ha="center", va="center", fontsize=9.5, color=INK)


def arrow(ax, *corners, color=INK):
    """Draw an arrow along straight lines."""
    style = {"arrowstyle": "-|>", "mutation_scale": 11, "linewidth": 1.3}
    ax.add_artist(FancyArrowPatch(path=Path(corners), color=color, joinstyle="miter", **style))


def plus(ax, x, y, sign="+"):
    """Draw a circled sign."""
    ax.plot(
        [x], [y], "o", markersize=17, markerfacecolor="white", markeredgecolor=COLORS[1], markeredgewidth=1.6
    )
    ax.text(x, y - 0.02, sign, ha="center", va="center", fontsize=13, color=COLORS[1])


def chain(ax, x, top, boxes, step=1.4, width=3.0):
    """Draw boxes from top to bottom with arrows between; return the last one's y."""
    for i, (text, kind) in enumerate(boxes):
        y = top - i * step
        box(ax, x, y, text, kind, width)
        if i:
            arrow(ax, (x, y + step - 0.45), (x, y + 0.45))
    return top - (len(boxes) - 1) * step


def lenet5():
    """LeNet-5 of 1998, layer by layer, with the size of its maps."""
    layers = (
        ("input\n1 × 32 × 32", "other"),
        ("C1 conv 5×5\n6 × 28 × 28", "conv"),
        ("S2 subsample\n6 × 14 × 14", "pool"),
        ("C3 conv 5×5\n16 × 10 × 10", "conv"),
        ("S4 subsample\n16 × 5 × 5", "pool"),
        ("C5 conv 5×5\n120 × 1 × 1", "conv"),
        ("F6 linear\n84", "linear"),
        ("RBF\n10 distances", "other"),
    )
    trained = ("", "156", "12", "1,516", "32", "48,120", "10,164", "fixed")
    ax = canvas(21.6, 3.6, "LeNet-5 (1998): 60,000 trained parameters")
    for i, ((text, kind), count) in enumerate(zip(layers, trained, strict=True)):
        x = 1.45 + 2.67 * i
        box(ax, x, 1.75, text, kind, 2.25, 1.15)
        ax.text(x, 0.65, count, ha="center", fontsize=10, color=COLORS[0], weight="bold")
        if i:
            arrow(ax, (x - 1.545, 1.75), (x - 1.125, 1.75))
    return ax.figure


def alexnet_gpus():
    """AlexNet's two halves and where they talk."""
    ax = canvas(19.5, 5.6, "AlexNet (2012) on two GPUs: conv3 and the linear layers see both halves")
    halves = (
        "conv1\n48 maps",
        "conv2\n128",
        "conv3\n192",
        "conv4\n192",
        "conv5\n128",
        "fc6\n2,048",
        "fc7\n2,048",
    )
    xs = [3.5 + 2.1 * i for i in range(len(halves))]
    box(ax, 1.1, 2.3, "image\n3 × 227²", "other", 1.6, 1.2)
    for row, y in (("GPU 1", 3.6), ("GPU 2", 1.0)):
        ax.text(1.1, y, row, ha="center", va="center", fontsize=10, color=INK)
        for x, text in zip(xs, halves, strict=True):
            box(ax, x, y, text, "linear" if text.startswith("fc") else "conv", 1.5, 1.15)
        arrow(ax, (1.95, 2.3), (2.7, y))
        for i, (left, right) in enumerate(pairwise(xs)):
            arrow(ax, (left + 0.75, y), (right - 0.75, y))
            if i in (1, 4, 5):  # into conv3, fc6, fc7
                arrow(ax, (left + 0.75, y), (right - 0.75, 4.6 - y), color=COLORS[1])
        arrow(ax, (xs[-1] + 0.75, y), (17.35, 2.3))
    box(ax, 18.2, 2.3, "fc8\n1,000", "linear", 1.6, 1.15)
    return ax.figure


def vgg_stack():
    """Two 3 × 3 convolutions see 5 × 5 pixels."""
    ax = canvas(15, 5.2, "Two 3 × 3 convolutions look at 5 × 5 pixels")
    grids = ((0.6, 7, 5, "image"), (6.1, 5, 3, "after the first 3 × 3"), (11.0, 3, 1, "after the second"))
    for left, side, seen, label in grids:
        cell = 0.5
        bottom = 2.35 - side * cell / 2
        for r in range(side):
            for c in range(side):
                inside = abs(r - side // 2) <= seen // 2 and abs(c - side // 2) <= seen // 2
                color = COLORS[5] if inside else "white"
                ax.add_patch(
                    Rectangle(
                        (left + c * cell, bottom + r * cell),
                        cell,
                        cell,
                        facecolor=color,
                        edgecolor=INK,
                        lw=0.7,
                    )
                )
        ax.text(left + side * cell / 2, 0.25, label, ha="center", fontsize=10, color=INK)
    arrow(ax, (4.3, 2.35), (5.9, 2.35))
    arrow(ax, (8.8, 2.35), (10.8, 2.35))
    for x in (5.1, 9.8):
        ax.text(x, 2.6, "3 × 3", ha="center", fontsize=10, color=INK)
    ax.text(13.8, 2.35, "one output\nvalue", ha="center", va="center", fontsize=10, color=INK)
    return ax.figure


def inception_block():
    """The four branches of an Inception block."""
    ax = canvas(17, 8, "Inception block: four views of one input, stacked")
    box(ax, 8.5, 0.75, "input", "other", 3)
    branches = (
        ([("1 × 1 conv", "conv")], 2.2),
        ([("1 × 1 conv: fewer", "conv"), ("3 × 3 conv", "conv")], 6.4),
        ([("1 × 1 conv: fewer", "conv"), ("5 × 5 conv", "conv")], 10.6),
        ([("3 × 3 max pool", "pool"), ("1 × 1 conv", "conv")], 14.8),
    )
    for boxes, x in branches:
        for i, (text, kind) in enumerate(boxes):
            y = (2.75, 4.55)[i] if len(boxes) > 1 else 3.65
            box(ax, x, y, text, kind, 3.4)
        first = 2.75 if len(boxes) > 1 else 3.65
        last = 4.55 if len(boxes) > 1 else 3.65
        arrow(ax, (8.5, 1.2), (8.5, 1.65), (x, 1.65), (x, first - 0.45))
        if len(boxes) > 1:
            arrow(ax, (x, first + 0.45), (x, last - 0.45))
        arrow(ax, (x, last + 0.45), (x, 5.65), (8.5, 5.65), (8.5, 5.98))
    box(ax, 8.5, 6.45, "stack the channels", "other", 4.2)
    return ax.figure


def residual_blocks():
    """A plain pair of convolutions, ResNet's two blocks and ResNeXt's."""
    ax = canvas(22, 9.2, "From a plain pair of layers to ResNet and ResNeXt")
    blocks = (
        ("plain", [("3 × 3, 64", "conv"), ("3 × 3, 64", "conv")], False, 2.6),
        ("BasicBlock", [("3 × 3, 64", "conv"), ("3 × 3, 64", "conv")], True, 8.0),
        ("Bottleneck", [("1 × 1, 64", "conv"), ("3 × 3, 64", "conv"), ("1 × 1, 256", "conv")], True, 13.4),
        (
            "Bottleneck, groups = 32",
            [("1 × 1, 128", "conv"), ("3 × 3, 128\n32 groups", "conv"), ("1 × 1, 256", "conv")],
            True,
            18.8,
        ),
    )
    for name, boxes, residual, x in blocks:
        ax.text(x, 7.75, name, ha="center", fontsize=11, weight="bold", color=INK)
        arrow(ax, (x, 7.35), (x, 6.35))
        bottom = chain(ax, x, 5.9, boxes, step=1.55, width=2.9)
        if residual:
            plus(ax, x, bottom - 1.15)
            arrow(ax, (x, bottom - 0.45), (x, bottom - 0.82))
            around = ((x, 6.95), (x + 2.2, 6.95), (x + 2.2, bottom - 1.15), (x + 0.35, bottom - 1.15))
            arrow(ax, *around, color=COLORS[1])
            arrow(ax, (x, bottom - 1.48), (x, bottom - 2.15))
        else:
            arrow(ax, (x, bottom - 0.45), (x, bottom - 1.3))
    return ax.figure


def mbconv():
    """MBConv with its squeeze-excitation."""
    ax = canvas(20.5, 5.6, "MBConv: expand, filter each channel by itself, weigh the channels, project")
    steps = (
        ("1 × 1 conv\nC → 6C", "conv"),
        ("k × k depthwise\n6C → 6C", "conv"),
        ("1 × 1 conv\n6C → C", "conv"),
    )
    y = 3.55
    ax.text(0.7, y, "C", ha="center", va="center", fontsize=11, color=INK)
    for (text, kind), x in zip(steps, (3.6, 7.8, 15.4), strict=True):
        box(ax, x, y, text, kind, 3.0, 1.2)
    arrow(ax, (1.0, y), (2.1, y))
    arrow(ax, (5.1, y), (6.3, y))
    arrow(ax, (9.3, y), (12.37, y))
    arrow(ax, (9.8, y), (9.8, 2.05))
    box(ax, 10.6, 1.5, "mean → linear → SiLU → linear → sigmoid", "se", 7.4, 1.0)
    arrow(ax, (12.7, 2.0), (12.7, y - 0.34))
    plus(ax, 12.7, y, "×")
    arrow(ax, (13.03, y), (13.9, y))
    arrow(ax, (16.9, y), (18.17, y))
    plus(ax, 18.5, y)
    arrow(ax, (1.4, y), (1.4, 4.75), (18.5, 4.75), (18.5, y + 0.35), color=COLORS[1])
    arrow(ax, (18.83, y), (19.9, y))
    ax.text(
        10.6,
        0.55,
        "squeeze-excitation: a weight between 0 and 1 for each channel",
        ha="center",
        fontsize=9.5,
        color=INK,
    )
    return ax.figure


FIGURES = {f.__name__: f for f in (lenet5, alexnet_gpus, vgg_stack, inception_block, residual_blocks, mbconv)}


if __name__ == "__main__":
    save(FIGURES, sys.argv[1:])
