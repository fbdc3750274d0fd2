"""Take a network apart: from its layers' maps down to one value's sum."""

import numpy as np
import torch
from matplotlib.patches import Rectangle
from traitlets import Int, List, Unicode

from cnnlib.course.widgets import pictures
from cnnlib.course.widgets.base import check_place, short
from cnnlib.course.widgets.chain import export
from cnnlib.course.widgets.digit import OnDigits
from cnnlib.data import to_float
from cnnlib.measure.plots import COLORS
from cnnlib.models.hooks import find_layer

FRAME = COLORS[4]


class NetworkExplorer(OnDigits):
    """A network's layers, and each value of them taken apart; see `cnnlib.course.widgets.explore_network`.

    Attributes:
        chosen: [layer, map, row, column] of the value that is taken apart. Layer 0 is the image, then come
            those of `network`; after the last there are the probabilities.
    """

    name = "network explorer"
    view = Unicode("network").tag(sync=True)
    chosen = List(Int()).tag(sync=True)

    def __init__(self, model):
        super().__init__(model)
        self.example(7)
        self.network = export(model)
        self.look()  # what does not fit fails here
        sliding = [i for i, layer in enumerate(self.network) if layer["kind"] == "conv"]
        layer = (sliding or [len(self.network) - 1])[-1] + 1
        values = self.values[layer]
        self.chosen = [layer, *(int(at) for at in np.unravel_index(values.argmax().item(), values.shape))]

    @property
    def values(self):
        """The values of all layers, tensors (maps, rows, columns): image, layers, probabilities."""
        names = [layer["name"] for layer in self.network if layer["kind"] != "crop"]
        logits, found = self.look(names)
        every = [to_float(self.image)[0]]
        for layer in self.network:
            rim = layer.get("rim", 0)
            every.append(every[-1][:, rim:-rim, rim:-rim] if rim else found[layer["name"]][0])
        every.append(logits.softmax(dim=0))
        return [each.view(-1, 1, 1) if each.ndim == 1 else each for each in every]

    def _choice(self):
        """Return what is chosen, (layer, map, row, column), and the values of all layers."""
        values = self.values
        (layer,) = check_place("the layer, the first number of chosen,", self.chosen[:1], [len(values)])
        place = check_place(f"chosen, after the layer {layer},", self.chosen[1:], values[layer].shape)
        return (layer, *place), values

    @property
    def value(self):
        """The chosen value, float."""
        (layer, *place), values = self._choice()
        return values[layer][tuple(place)].item()

    def _parts(self):
        """Return window, kernel and products (maps, rows, columns) of the chosen value, or None."""
        (index, channel, row, column), values = self._choice()
        layer = self.network[index - 1] if 0 < index <= len(self.network) else {}
        if layer.get("kind") not in ("conv", "linear"):
            return None
        before = values[index - 1]
        kernel = find_layer(self.model, layer["name"]).weight[channel].detach().float().cpu()
        if layer["kind"] == "linear":
            return before, kernel.view(before.shape), before * kernel.view(before.shape)
        padding, stride = layer["padding"], layer["stride"]
        padded = torch.nn.functional.pad(before, [padding] * 4)
        (rows, columns), top, left = layer["window"], row * stride, column * stride
        window = padded[:, top : top + rows, left : left + columns]
        return window, kernel, window * kernel

    def describe(self):
        index, channel, row, column = self._choice()[0]
        name = ["image", *(layer["name"] for layer in self.network), "softmax"][index]
        parts = self._parts()
        sums = "" if parts is None else f", a sum over {len(parts[0])} input maps"
        return (
            f"The maps of a network's layers, and one value taken apart: {name}, map {channel}, row {row}, "
            f"column {column}, is {short(self.value)}{sums}. Run the cell to take any other value apart."
        )

    def draw(self, figure):
        figure.set_size_inches(9.4, 4.6)
        above, below = figure.subfigures(2, 1, height_ratios=[1, 1.5])
        (index, channel, row, column), values = self._choice()
        shown = [i for i, each in enumerate(values[: index + 1]) if each.shape[1] > 1 and i != 1]
        axes = np.atleast_1d(above.subplots(1, len(shown)))
        titles = ["image", *(layer["kind"] for layer in self.network), "softmax"]
        for ax, i in zip(axes, shown, strict=True):
            maps = values[i]
            tiles, _ = pictures.colored(maps)
            picture, corners = pictures.grid(tiles, columns=4)
            ax.imshow(picture)
            ax.set_title(f"{titles[i]}: {maps.shape[0]} of {maps.shape[1]} × {maps.shape[2]}", fontsize=8)
            if i == index:
                top, left = corners[channel]
                for width, color in ((4, "white"), (2, FRAME)):
                    place = left + column - 1, top + row - 1
                    ax.add_patch(Rectangle(place, 2, 2, fill=False, linewidth=width, edgecolor=color))
        parts = self._parts()
        if parts is None:
            below.supxlabel(self.describe(), fontsize=9)
        else:
            self._draw_sum(below, *parts)
        for ax in figure.axes:
            ax.set(xticks=[], yticks=[], frame_on=False)

    def _draw_sum(self, figure, window, kernel, products):
        """Draw window × kernel = products, one column an input map, at most twelve of them."""
        sums = products.sum(dim=(1, 2))
        places = sums.abs().topk(min(12, len(sums))).indices.sort().values.tolist()
        axes = figure.subplots(3, len(places), squeeze=False)
        rows = ((window, "window"), (kernel, "× kernel"), (products, "= products"))
        for line, (values, label) in zip(axes, rows, strict=True):
            tiles, _ = pictures.colored(values)
            for ax, i in zip(line, places, strict=True):
                ax.imshow(tiles[i])
            line[0].set_ylabel(label, fontsize=8)
        for ax, i in zip(axes[0], places, strict=True):
            ax.set_title(f"map {i}", fontsize=8)
        for ax, i in zip(axes[2], places, strict=True):
            ax.set_xlabel(f"{sums[i]:+.2f}".replace("-", "−"), fontsize=8)
        bias = self.value - sums.sum().item()
        figure.supxlabel(
            f"framed: the {len(sums)} sums together {short(sums.sum().item())}, and the bias {short(bias)}: "
            f"{short(self.value)}",
            fontsize=9,
        )
