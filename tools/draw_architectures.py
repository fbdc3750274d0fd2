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
    """AlexNet's two halves, where they talk, what is normalised and what is pooled."""
    ax = canvas(24.6, 6.6, "AlexNet (2012) on two GPUs: conv3 and the linear layers see both halves")
    halves = (
        ("conv1, 11×11\n48 × 55²", 2.3, 4.1),
        ("conv2, 5×5\n128 × 27²", 2.3, 7.55),
        ("conv3, 3×3\n192 × 13²", 1.9, 11.6),
        ("conv4, 3×3\n192 × 13²", 1.9, 13.9),
        ("conv5, 3×3\n128 × 13²", 1.9, 16.2),
        ("fc6\n2,048", 1.3, 19.15),
        ("fc7\n2,048", 1.3, 21.15),
    )
    box(ax, 1.25, 3.05, "image\n3 × 227²", "other", 1.8, 1.2)
    for row, y in (("GPU 1", 4.4), ("GPU 2", 1.7)):
        ax.text(1.25, y, row, ha="center", va="center", fontsize=10, color=INK)
        arrow(ax, (2.2, 3.05), (halves[0][2] - halves[0][1] / 2, y))
        for text, width, x in halves:
            box(ax, x, y, text, "linear" if text.startswith("fc") else "conv", width, 1.15)
        for after, signs in ((0, "NP"), (1, "NP"), (4, "P")):
            for i, sign in enumerate(signs):
                x = halves[after][2] + halves[after][1] / 2 + 0.2 + 0.44 * i
                box(ax, x, y, sign, "se" if sign == "N" else "pool", 0.4, 1.15)
        for i, ((_, width, left), (_, next_width, right)) in enumerate(pairwise(halves)):
            start = left + width / 2 + (0.86 if i < 2 else 0.42 if i == 4 else 0.02)
            arrow(ax, (start, y), (right - next_width / 2, y))
            if i in (1, 4, 5):  # into conv3, fc6, fc7
                arrow(ax, (start, y), (right - next_width / 2, 6.1 - y), color=COLORS[1])
        arrow(ax, (21.82, y), (22.6, 3.05))
    box(ax, 23.4, 3.05, "fc8\n1,000", "linear", 1.5, 1.15)
    legend = (
        (4.6, "N", "se", "local response normalisation"),
        (11.6, "P", "pool", "max pooling, 3 × 3 pixels, 2 apart"),
    )
    for x, sign, kind, text in legend:
        box(ax, x, 0.5, sign, kind, 0.4, 0.55)
        ax.text(x + 0.4, 0.5, text, va="center", fontsize=9.5, color=INK)
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
    """The four branches of GoogLeNet's first Inception block, with their channels."""
    ax = canvas(17, 8.6, "The first Inception block: four views of one input, stacked")
    box(ax, 8.5, 0.75, "192 × 28 × 28", "other", 3)
    branches = (
        ([("1 × 1\n192 → 64", "conv")], 2.2),
        ([("1 × 1\n192 → 96", "conv"), ("3 × 3\n96 → 128", "conv")], 6.4),
        ([("1 × 1\n192 → 16", "conv"), ("5 × 5\n16 → 32", "conv")], 10.6),
        ([("3 × 3 max pooling\n192", "pool"), ("1 × 1\n192 → 32", "conv")], 14.8),
    )
    for boxes, x in branches:
        heights = (2.85, 4.85) if len(boxes) > 1 else (3.85,)
        for (text, kind), y in zip(boxes, heights, strict=True):
            box(ax, x, y, text, kind, 3.4, 1.2)
        arrow(ax, (8.5, 1.2), (8.5, 1.65), (x, 1.65), (x, heights[0] - 0.6))
        if len(boxes) > 1:
            arrow(ax, (x, heights[0] + 0.6), (x, heights[1] - 0.6))
        arrow(ax, (x, heights[-1] + 0.6), (x, 6.15), (8.5, 6.15), (8.5, 6.58))
    box(ax, 8.5, 7.05, "64 + 128 + 32 + 32 = 256 channels", "other", 6.6)
    ax.text(0.4, 0.75, "each convolution:\nbatch norm, ReLU", va="center", fontsize=9, color=INK)
    return ax.figure


def column(ax, x, top, steps, width=3.0, height=0.62, gap=0.3):
    """Draw boxes close together from top to bottom, with short arrows; return the middle of the last one."""
    for i, (text, kind) in enumerate(steps):
        y = top - i * (height + gap)
        box(ax, x, y, text, kind, width, height)
        if i:
            arrow(ax, (x, y + height / 2 + gap), (x, y + height / 2))
    return top - (len(steps) - 1) * (height + gap)


def residual_blocks():
    """A plain pair of convolutions, ResNet's blocks, the pre-activation block, ResNeXt's."""
    ax = canvas(27, 12.6, "From a plain pair of layers to ResNet and ResNeXt")
    bn, relu = ("batch norm", "other"), ("ReLU", "se")
    pair = [("3 × 3, 64", "conv"), bn, relu, ("3 × 3, 64", "conv"), bn]
    before = [bn, relu, ("3 × 3, 64", "conv"), bn, relu, ("3 × 3, 64", "conv")]
    names = ("plain", "BasicBlock", "pre-activation (2016)", "Bottleneck", "Bottleneck, groups = 32")
    bottlenecks = [
        [(first, "conv"), bn, relu, (middle, "conv"), bn, relu, ("1 × 1, 256", "conv"), bn]
        for first, middle in (("1 × 1, 64", "3 × 3, 64"), ("1 × 1, 128", "3 × 3, 128, 32 groups"))
    ]
    columns = zip(names, (pair, pair, before, *bottlenecks), strict=True)
    for i, (name, steps) in enumerate(columns):
        x, top = 2.4 + 5.35 * i, 9.95
        width = 3.4 if i == 4 else 2.9
        ax.text(x, 11.3, name, ha="center", fontsize=11, weight="bold", color=INK)
        arrow(ax, (x, 11.05), (x, top + 0.31))
        y = column(ax, x, top, steps, width)
        if i:  # all but the plain one
            plus(ax, x, y - 0.95)
            arrow(ax, (x, y - 0.31), (x, y - 0.6))
            side = x + width / 2 + 0.45
            arrow(ax, (x, 10.65), (side, 10.65), (side, y - 0.95), (x + 0.36, y - 0.95), color=COLORS[1])
            y -= 0.95
        start = y - (0.33 if i else 0.31)
        if i != 2:  # nothing follows the addition of the pre-activation block
            arrow(ax, (x, start), (x, start - 0.33))
            box(ax, x, start - 0.64, *relu, width, 0.62)
            start -= 0.95
        arrow(ax, (x, start), (x, start - 0.5))
    return ax.figure


def mbconv():
    """MBConv with its squeeze-excitation, every batch norm and every activation."""
    ax = canvas(21.5, 6.0, "MBConv: expand, filter each channel by itself, weigh the channels, project")
    steps = (
        ("1 × 1, C → 6C\nbatch norm, SiLU", "conv"),
        ("k × k depthwise, 6C\nbatch norm, SiLU", "conv"),
        ("1 × 1, 6C → C\nbatch norm", "conv"),
    )
    y = 3.85
    ax.text(0.7, y, "C", ha="center", va="center", fontsize=11, color=INK)
    for (text, kind), x in zip(steps, (3.8, 8.2, 16.2), strict=True):
        box(ax, x, y, text, kind, 3.4, 1.2)
    ax.text(16.2, y - 0.9, "no activation: a linear bottleneck", ha="center", fontsize=9.5, color=COLORS[1])
    arrow(ax, (1.0, y), (2.1, y))
    arrow(ax, (5.5, y), (6.5, y))
    arrow(ax, (9.9, y), (12.87, y))
    arrow(ax, (10.4, y), (10.4, 2.05))
    box(ax, 11.1, 1.5, "mean → linear → SiLU → linear → sigmoid", "se", 7.4, 1.0)
    arrow(ax, (13.2, 2.0), (13.2, y - 0.34))
    plus(ax, 13.2, y, "×")
    arrow(ax, (13.53, y), (14.5, y))
    arrow(ax, (17.9, y), (19.17, y))
    plus(ax, 19.5, y)
    arrow(ax, (1.4, y), (1.4, 5.05), (19.5, 5.05), (19.5, y + 0.35), color=COLORS[1])
    arrow(ax, (19.83, y), (20.9, y))
    note = "squeeze-excitation: a weight between 0 and 1 for each channel"
    ax.text(11.1, 0.5, note, ha="center", fontsize=9.5, color=INK)
    return ax.figure


def dense_block():
    """Three layers of a dense block, each of which gets all that stands before it."""
    ax = canvas(21.5, 5.6, "Dense block: each layer gets all that stands before it")
    y, lanes = 2.2, (3.35, 3.75, 4.15)
    xs = (1.6, 6.0, 10.4, 14.8, 19.6)
    box(ax, xs[0], y, "input\n64 channels", "other", 2.4, 1.2)
    for i, x in enumerate(xs[1:4]):
        box(ax, x, y, f"layer {i + 1}\n{64 + 32 * i} → 32", "conv", 2.6, 1.2)
    box(ax, xs[4], y, "stacked\n64 + 3 · 32 = 160", "other", 3.0, 1.2)
    halves = (1.2, 1.3, 1.3, 1.3, 1.5)
    for i in range(4):
        arrow(ax, (xs[i] + halves[i], y), (xs[i + 1] - halves[i + 1], y))
    for i, lane in enumerate(lanes):  # the way around of what part i has found
        start = xs[i] + (0.3 if i else 0.0)
        for j in range(i + 2, 5):
            end = xs[j] - 0.75 + 0.45 * i
            arrow(ax, (start, y + 0.6), (start, lane), (end, lane), (end, y + 0.6), color=COLORS[1])
    note = "a layer: batch norm, ReLU, 1 × 1 to 128 channels; batch norm, ReLU, 3 × 3 to 32"
    ax.text(10.4, 0.6, note, ha="center", fontsize=10, color=INK)
    return ax.figure


def convnext_block():
    """ConvNeXt's block beside ResNet's bottleneck."""
    ax = canvas(15, 12.4, "ResNet's bottleneck of 2015 and ConvNeXt's block of 2022")
    bn, relu = ("batch norm", "other"), ("ReLU", "se")
    bottleneck = [("1 × 1, 256 → 64", "conv"), bn, relu, ("3 × 3, 64", "conv"), bn, relu]
    bottleneck += [("1 × 1, 64 → 256", "conv"), bn]
    convnext = [("7 × 7 depthwise, 96", "conv"), ("layer norm", "other"), ("1 × 1, 96 → 384", "conv")]
    convnext += [("GELU", "se"), ("1 × 1, 384 → 96", "conv"), ("× scale", "other")]
    blocks = (
        ("Bottleneck: 256 channels", bottleneck, True),
        ("ConvNeXt: 96 channels", convnext, False),
    )
    for i, (name, steps, last) in enumerate(blocks):
        x, top = 3.4 + 7.6 * i, 9.75
        ax.text(x, 11.1, name, ha="center", fontsize=11, weight="bold", color=INK)
        arrow(ax, (x, 10.85), (x, top + 0.31))
        y = column(ax, x, top, steps, 3.8) - 0.95
        plus(ax, x, y)
        arrow(ax, (x, y + 0.64), (x, y + 0.35))
        arrow(ax, (x, 10.45), (x + 2.5, 10.45), (x + 2.5, y), (x + 0.36, y), color=COLORS[1])
        start = y - 0.33
        if last:
            arrow(ax, (x, start), (x, start - 0.33))
            box(ax, x, start - 0.64, *relu, 3.8, 0.62)
            start -= 0.95
        arrow(ax, (x, start), (x, start - 0.5))
    return ax.figure


DRAWN = (
    lenet5,
    alexnet_gpus,
    vgg_stack,
    inception_block,
    residual_blocks,
    mbconv,
    dense_block,
    convnext_block,
)
FIGURES = {f.__name__: f for f in DRAWN}


if __name__ == "__main__":
    save(FIGURES, sys.argv[1:])
