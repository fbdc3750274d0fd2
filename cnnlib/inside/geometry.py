"""Where the units of a network look: receptive fields, their size, stride and place in the image."""

from typing import NamedTuple

import torch
from torch import nn

from cnnlib.data import to_float
from cnnlib.ground.errors import ParameterError, check_list, check_whole, kind_of
from cnnlib.models.efficientnet import SameConv2d
from cnnlib.models.hooks import find_layer
from cnnlib.models.layers import Normalize

_WINDOWS = (nn.Conv2d, SameConv2d, nn.MaxPool2d, nn.AvgPool2d)
"""Layers whose output at a position depends on a window of the input."""

_POINTWISE = (
    nn.ReLU,
    nn.ReLU6,
    nn.SiLU,
    nn.GELU,
    nn.BatchNorm2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.Identity,
    Normalize,
)
"""Layers whose output at a position depends on the input at that position alone."""


def receptive_field(layers):
    """Return the size and stride, in input pixels, of one output unit's receptive field.

    Args:
        layers: sequence of (kernel_size, stride) pairs from input to output, both int >= 1.

    Returns:
        (size, jump), both int, in pixels.

    Raises:
        ParameterError: a kernel size or stride below 1; the message names the layer.

    Source: Araujo et al. 2019, "Computing Receptive Fields of CNNs", eq. 2.
    First built in: notebooks/02_parts_of_a_cnn.ipynb
    """
    size, jump = 1, 1
    for i, pair in enumerate(check_list("layers", layers, "(kernel_size, stride) pairs")):
        try:
            kernel_size, stride = pair
        except (TypeError, ValueError):
            raise ParameterError(f"layer {i} is {pair!r}; it must be a pair (kernel_size, stride)") from None
        kernel_size = check_whole(f"layer {i} has a kernel_size that", kernel_size)
        stride = check_whole(f"layer {i} has a stride that", stride)
        size += (kernel_size - 1) * jump
        jump *= stride
    return size, jump


class Window(NamedTuple):
    """Part of an input image, in pixels: rows top to bottom − 1, columns left to right − 1.

    It may stick out of the image, by the pixels that padding stands for.
    """

    top: int
    left: int
    bottom: int
    right: int


class Geometry(NamedTuple):
    """Where the units of a layer look: the receptive field's size, its stride and its first position."""

    size: int
    jump: int
    start: int

    def window(self, row, column):
        """Return the `Window` of input pixels that the unit at (row, column) depends on."""
        top, left = (self.start + index * self.jump for index in (row, column))
        return Window(top, left, top + self.size, left + self.size)


def geometry(model, layer):
    """Return where the units of a layer look in the input image.

    Args:
        model: nested `nn.Sequential`s, so that the layers run in the order in which they are listed.
        layer: name from `model.named_modules()`; of one that runs several times, its first run is meant,
            as in `feature_maps`.

    Returns:
        Geometry: size and jump in pixels, as `receptive_field` returns them, and the first unit's first
        row and column, which padding makes negative.

    Raises:
        ParameterError: an unknown layer, or layers up to it that are no such chain: with a forward of
            their own, with other windows along the rows than along the columns, with circular or reflected
            padding, or with padding that depends on the image's size.

    Source: Araujo et al. 2019, "Computing Receptive Fields of CNNs", eq. 2 and "Receptive Field Region".
    First built in: notebooks/05_inside_a_network.ipynb
    """
    wanted = find_layer(model, layer)
    pairs, start, jump = [], 0, 1
    for name, module in _in_order("", model):
        if _runs_as(module, *_WINDOWS):
            reach, stride, padding = _spatial(name, module)
            start -= padding * jump
            pairs.append((reach, stride))
            jump *= stride
        elif not _runs_as(module, nn.Sequential, *_POINTWISE):
            raise ParameterError(f"layer {name!r} is {kind_of(module)}: what its units see is unknown")
        if module is wanted:
            return Geometry(*receptive_field(pairs), start)


def cut(image, window):
    """Return a window of an image as (C, height, width) float 0–1, grey where it sticks out.

    Args:
        image: (1, C, H, W) uint8 or float 0–1.
        window: Window.
    """
    patch = torch.full((image.shape[1], window.bottom - window.top, window.right - window.left), 0.5)
    top, left = max(window.top, 0), max(window.left, 0)
    inside = to_float(image[0, :, top : max(window.bottom, 0), left : max(window.right, 0)]).cpu()
    rows, columns = inside.shape[1:]
    patch[:, top - window.top :, left - window.left :][:, :rows, :columns] = inside
    return patch


def _in_order(name, module):
    """Yield (name, module) of each layer as it has run: a module that is listed twice runs twice."""
    if _runs_as(module, nn.Sequential):
        for child_name, child in module._modules.items():  # named_children() leaves out the second time
            yield from _in_order(f"{name}.{child_name}".lstrip("."), child)
    elif any(module.children()):
        place = f"layer {name!r}" if name else "the model"
        raise ParameterError(
            f"{place} is {kind_of(module)}, whose order of layers is unknown; give geometry a "
            "model of nested nn.Sequentials"
        )
    yield name, module


def _runs_as(module, *kinds):
    """Whether a module is of one of these kinds, and its forward is that kind's, not its own."""
    return any(
        isinstance(module, kind) and getattr(module.forward, "__func__", None) is kind.forward
        for kind in kinds
    )


def _spatial(name, module):
    """Return (reach, stride, padding before the first row) of a layer whose windows are square."""
    values = []
    for field, default in (("kernel_size", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
        value = getattr(module, field, default)
        pair = value if isinstance(value, tuple) else (value, value)
        if pair[0] != pair[1]:
            raise ParameterError(
                f"layer {name!r} has {field} {value!r}; geometry needs one number for both axes"
            )
        values.append(pair[0])
    kernel_size, stride, padding, dilation = values
    reach = dilation * (kernel_size - 1) + 1
    if getattr(module, "padding_mode", "zeros") != "zeros":
        raise ParameterError(
            f"layer {name!r} has padding_mode {module.padding_mode!r}, so that its units see other pixels at "
            "the border; geometry needs 'zeros'"
        )
    if isinstance(module, SameConv2d):
        if stride > 1:
            raise ParameterError(
                f"layer {name!r} is a SameConv2d of stride {stride}, whose padding depends on the image's "
                "size; geometry needs a stride of 1, or an nn.Conv2d"
            )
        padding += (kernel_size - 1) // 2
    elif isinstance(padding, str):  # where "same" padding is odd, one pixel more goes to the end
        padding = (reach - 1) // 2 if padding == "same" else 0
    return reach, stride, padding
