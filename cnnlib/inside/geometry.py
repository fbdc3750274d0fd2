"""Where the units of a network look: receptive fields, their size, stride and place in the image."""

from typing import NamedTuple

import torch
from torch import nn

from cnnlib.data import to_float
from cnnlib.ground.errors import ParameterError
from cnnlib.models.hooks import find_layer
from cnnlib.models.layers import Normalize

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
    for i, pair in enumerate(layers):
        try:
            kernel_size, stride = pair
        except (TypeError, ValueError):
            raise ParameterError(f"layer {i} is {pair!r}; it must be a pair (kernel_size, stride)") from None
        for name, value in (("kernel_size", kernel_size), ("stride", stride)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ParameterError(f"layer {i} has {name} {value!r}; it must be a whole number, 1 or more")
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
        layer: name from `model.named_modules()`.

    Returns:
        Geometry: size and jump in pixels, as `receptive_field` returns them, and the first unit's first
        row and column, which padding makes negative.

    Raises:
        ParameterError: an unknown layer, or layers up to it that are no such chain.

    Source: Araujo et al. 2019, "Computing Receptive Fields of CNNs", eq. 2 and "Receptive Field Region".
    First built in: notebooks/05_inside_a_network.ipynb
    """
    find_layer(model, layer)
    leaves = [(name, module) for name, module in model.named_modules() if not any(module.children())]
    last = max(i for i, (name, _) in enumerate(leaves) if name == layer or name.startswith(f"{layer}."))
    pairs, start, jump = [], 0, 1
    for name, module in leaves[: last + 1]:
        parent = model.get_submodule(name.rpartition(".")[0])
        if not isinstance(parent, nn.Sequential):
            raise ParameterError(
                f"layer {name!r} runs inside a {type(parent).__name__}, whose order of layers is unknown; "
                "give geometry a model of nested nn.Sequentials"
            )
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
            kernel_size, stride, padding, dilation = _spatial(name, module)
            start -= padding * jump
            pairs.append((dilation * (kernel_size - 1) + 1, stride))
            jump *= stride
        elif not isinstance(module, _POINTWISE):
            raise ParameterError(
                f"layer {name!r} is a {type(module).__name__}: what its units see is unknown"
            )
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


def _spatial(name, module):
    """Return (kernel_size, stride, padding, dilation) of a layer that is the same along both axes."""
    values = []
    for field, default in (("kernel_size", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
        value = getattr(module, field, default)
        pair = value if isinstance(value, tuple) else (value, value)
        if pair[0] != pair[1] or isinstance(value, str):
            raise ParameterError(
                f"layer {name!r} has {field} {value!r}; geometry needs one number for both axes"
            )
        values.append(pair[0])
    return values
