"""The course's figures. Each function draws on an Axes and returns it, so that figures can be composed.

Colours are Okabe and Ito's, which people with any kind of colour vision can tell apart
(Okabe & Ito 2008, "Color Universal Design").
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from cnnlib.ground.errors import ParameterError, check_whole, first_line, kind_of
from cnnlib.measure.metrics import wilson_interval

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def use_style():
    """Give every figure of a notebook the course's style: palette, grid, size and resolution."""
    plt.rcParams.update(
        {
            "axes.prop_cycle": plt.cycler(color=COLORS),
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "figure.constrained_layout.use": True,
            "figure.dpi": 90,
            "figure.figsize": (7, 3.6),
            "grid.alpha": 0.3,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
            "legend.frameon": False,
        }
    )


def montage(images, titles=None, columns=10, ax=None, title=""):
    """Draw images side by side on one Axes.

    Args:
        images: (N, H, W), (N, 1, H, W) or (N, 3, H, W), uint8 or float; or a list of N images. Grey float
            images share one scale, from their lowest to their highest value; colour floats must lie between 0
            and 1.
        titles: N strings or numbers shown above the images, or None.
        columns: images a row, at least 1.
        ax: Axes to draw on; default: a new figure as large as the images need.
        title: the Axes' title.

    Returns:
        matplotlib.axes.Axes

    Raises:
        ParameterError: another shape, images of several shapes, no images, colours outside their range, not
            one title an image, or `columns` below 1.
    """
    tiles, columns = _tensor(images), check_whole("columns", columns)
    if tiles.ndim == 3:
        tiles = tiles.unsqueeze(1)
    if tiles.ndim != 4 or not tiles.numel() or tiles.shape[1] not in (1, 3):
        raise ParameterError(
            f"images have shape {tuple(tiles.shape)}; they must be (N, 1 or 3, H, W), nothing of it 0"
        )
    low, high = (value.item() for value in tiles.aminmax())
    if tiles.shape[1] == 3 and tiles.dtype != torch.uint8 and not -1e-3 <= low <= high <= 1 + 1e-3:
        raise ParameterError(
            f"colour images go from {low:.4g} to {high:.4g}; if not uint8, they must lie between 0 and 1: "
            "divide pixels by 255, and scale what are none, (x - x.min()) / (x.max() - x.min())"
        )
    titles = titles.tolist() if isinstance(titles, torch.Tensor) else titles
    if titles is not None and len(titles) != len(tiles):
        raise ParameterError(f"there are {len(titles)} titles for {len(tiles)} images")
    n, channels, height, width = tiles.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    gap = max(1, round(0.06 * width))
    lines = 0 if titles is None else max(str(text).count("\n") + 1 for text in titles)
    head = max(gap, round(0.24 * height * lines))
    canvas = np.full((rows * (height + head), columns * (width + gap) - gap, channels), np.nan)
    scale = 255 if tiles.dtype == torch.uint8 and channels == 3 else 1
    corners = [(i // columns * (height + head) + head, i % columns * (width + gap)) for i in range(n)]
    for tile, (top, left) in zip(tiles, corners, strict=True):
        canvas[top : top + height, left : left + width] = tile.permute(1, 2, 0) / scale
    if ax is None:
        inches = 9 * min(1, columns / 10 + 0.2)
        _, ax = plt.subplots(figsize=(inches, inches * canvas.shape[0] / canvas.shape[1] + 0.35))
    if channels == 3:
        ax.imshow(np.where(np.isnan(canvas), 1, canvas))
    else:
        ax.imshow(np.ma.masked_invalid(canvas[..., 0]))
    for i, (top, left) in enumerate(corners if titles is not None else []):
        ax.text(left + width / 2, top - 0.036 * height, str(titles[i]), ha="center", va="bottom", fontsize=8)
    ax.set_title(title)
    ax.axis("off")
    return ax


def _tensor(images):
    """Return images, a tensor, an array or a list of them, as a tensor on the CPU that NumPy can take."""
    try:
        if isinstance(images, (list, tuple)):
            images = torch.stack([torch.as_tensor(each) for each in images])
        if isinstance(images, np.ndarray):
            images = np.ascontiguousarray(images)  # of one that was turned round torch makes no tensor
        tiles = torch.as_tensor(images).detach().cpu()
    except (RuntimeError, TypeError, ValueError) as error:
        raise ParameterError(
            f"images are {kind_of(images)} of which no tensor can be made ({first_line(error)}); "
            "give a tensor (N, 1 or 3, H, W), or a list of images of one shape"
        ) from None
    return tiles.float() if tiles.dtype == torch.bfloat16 else tiles


def learning_curves(runs, column, ax, label=None, percent=False):
    """Draw a column of histories against the epoch: the mean over runs, and a band of one standard error.

    Args:
        runs: list of `cnnlib.train.run.History`, one a seed. Of runs that were stopped, or stopped
            themselves, the epochs are drawn that all of them finished.
        column: "train_loss", "val_accuracy", …
        ax: Axes to draw on.
        label: name of the curve in the legend.
        percent: show shares of 1 as percent.

    Returns:
        matplotlib.axes.Axes

    Raises:
        ParameterError: no runs, one alone, or no such column.
    """
    if not isinstance(runs, (list, tuple)) or not runs:
        raise ParameterError(f"runs are {runs!r:.80}; they must be a list of histories: [history]")
    columns = [run[column] for run in runs]
    epochs = min(map(len, columns))
    values = np.array([each[:epochs] for each in columns]) * (100 if percent else 1)  # (runs, epochs)
    ax.set(xlabel="epoch", ylabel=column.replace("_", " ") + (" (%)" if percent else ""))
    return mean_band(np.arange(1, values.shape[1] + 1), values, ax, label)


def mean_band(x, values, ax, label=None):
    """Draw the mean of repeated measurements as a line, and mean ± one standard error as a band around it.

    Args:
        x: (P,) positions.
        values: (runs, P) measurements, one row a run. A single run has no band.
        ax: Axes to draw on.
        label: name of the line in the legend.

    Returns:
        matplotlib.axes.Axes
    """
    values = np.asarray(values, dtype=float)
    mean = values.mean(axis=0)
    (line,) = ax.plot(x, mean, marker="o", markersize=3, label=label)
    if len(values) > 1:
        se = values.std(axis=0, ddof=1) / len(values) ** 0.5
        ax.fill_between(x, mean - se, mean + se, color=line.get_color(), alpha=0.2, linewidth=0)
    return ax


def bars(groups, ax, xlabel="", percent=False):
    """Draw a horizontal bar for each group: the mean ± one standard error, and each run as a dot.

    Args:
        groups: dict from a group's name to its measurements, one a run.
        ax: Axes to draw on.
        xlabel: what is measured, with its unit.
        percent: show shares of 1 as percent.

    Returns:
        matplotlib.axes.Axes
    """
    scale = 100 if percent else 1
    for row, (_, values) in enumerate(groups.items()):
        values = np.asarray(values, dtype=float) * scale
        se = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else None
        ax.barh(row, values.mean(), xerr=se, color=COLORS[row % len(COLORS)], alpha=0.75, height=0.6)
        ax.plot(values, np.full(len(values), row), "o", color="black", markersize=3)
    ax.set_yticks(range(len(groups)), list(groups))
    ax.set_ylim(len(groups) - 0.5, -0.5)  # the first group on top, on shared axes too
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(xlabel)
    return ax


def confusion(matrix, class_names, ax, title=""):
    """Draw a confusion matrix: each cell's count, and the mistakes coloured by their share of the row.

    The diagonal holds the correct predictions, far more than the rest; it stays uncoloured so that the
    mistakes can be told apart.

    Args:
        matrix: (K, K) int, row = label, column = prediction; see `cnnlib.measure.metrics.confusion_matrix`.
        class_names: K names, strings or numbers.
        ax: Axes to draw on, about 5 × 5 inches for 10 classes.
        title: the Axes' title.

    Returns:
        matplotlib.axes.Axes

    Raises:
        ParameterError: the matrix is not square, or there is not one name a class.
    """
    counts, class_names = np.asarray(matrix), list(map(str, class_names))
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or len(class_names) != len(counts):
        raise ParameterError(
            f"the matrix has shape {counts.shape} and there are {len(class_names)} class names; it must be "
            "(K, K), with K names"
        )
    shares = 100 * counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    np.fill_diagonal(shares, 0)
    ax.imshow(shares, cmap="Oranges", vmin=0, vmax=max(shares.max(), 1e-9))
    for row, column in zip(*np.nonzero(counts), strict=True):
        strong = shares[row, column] > 0.6 * shares.max()
        color = "white" if strong else "0.6" if row == column else "black"
        ax.text(column, row, counts[row, column], ha="center", va="center", fontsize=7, color=color)
    ax.set_xticks(range(len(counts)), class_names, rotation=45 if max(map(len, class_names)) > 2 else 0)
    ax.set_yticks(range(len(counts)), class_names)
    ax.tick_params(length=0, labelsize=8)
    ax.grid(visible=False)
    ax.set(xlabel="prediction", ylabel="label", title=title)
    return ax


def reliability(calibration, ax, title=""):
    """Draw a reliability diagram: accuracy against confidence, a dot a bin, with its 95 % interval.

    A dot's area grows with the number of its predictions. Dots below the diagonal are overconfident.

    Args:
        calibration: what `cnnlib.measure.metrics.calibration` returns.
        ax: Axes to draw on.
        title: the Axes' title.

    Returns:
        matplotlib.axes.Axes

    Source: DeGroot & Fienberg 1983, "The Comparison and Evaluation of Forecasters" (the diagram).
    """
    filled = np.asarray(calibration.count) > 0
    confidence, accuracy = (100 * np.asarray(v)[filled] for v in calibration[:2])
    count = np.asarray(calibration.count)[filled]
    intervals = [wilson_interval(round(a / 100 * n), n) for a, n in zip(accuracy, count, strict=True)]
    gaps = np.abs(100 * np.array(intervals).T - accuracy)  # (2, bins): below and above
    ax.plot([0, 100], [0, 100], "--", color="0.5", linewidth=1, label="calibrated")
    ax.errorbar(confidence, accuracy, yerr=gaps, fmt="none", ecolor=COLORS[0], alpha=0.6)
    area = 10 + 250 * count / count.sum()
    ax.scatter(confidence, accuracy, s=area, color=COLORS[0], clip_on=False, zorder=3)
    ax.text(0.97, 0.04, f"ECE {calibration.ece:.2%}", transform=ax.transAxes, ha="right")
    ax.set(xlim=(0, 101), ylim=(0, 103), xlabel="confidence (%)", ylabel="accuracy (%)", title=title)
    return ax
