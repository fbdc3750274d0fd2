"""What a model costs: its parameters, and the multiply–adds (MACs) of one image's forward pass."""

import torch
from torch import nn

from cnnlib.ground.errors import ParameterError
from cnnlib.models.hooks import evaluation, hooks


def count_parameters(model):
    """Return the number of learned values in a model; a parameter that is used twice counts once.

    Args:
        model: torch.nn.Module. Its buffers, such as batch norm's running statistics, are not learned
            and not counted.

    Returns:
        int

    Raises:
        ParameterError: a lazy layer that has seen no input yet, and so has no shape.

    First built in: notebooks/02_parts_of_a_cnn.ipynb
    """
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ParameterError(f"{name} has no shape yet; pass one batch through the model first")
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model, input_shape):
    """Return the multiply–adds of the model's convolutions and linear layers for one image.

    The model runs once on zeros, so whatever the forward pass does is what is counted: a layer that is
    used twice counts twice, one that is skipped not at all. As in torchvision's tables, biases, norms,
    activations and pooling count nothing. A layer of your own counts itself with a method `macs(output)`,
    output being (N, …), as `cnnlib.models.lenet.SparseConv2d` does. FLOPs are twice the MACs. A model
    built under `with torch.device("meta"):` is counted without computing anything.

    Args:
        model: torch.nn.Module that takes images (N, C, H, W). It runs in evaluation mode and gets its
            mode back.
        input_shape: (C, H, W) of one image.

    Returns:
        int

    Raises:
        ParameterError: another input shape, or images of that shape that the model cannot take.

    First built in: notebooks/02_parts_of_a_cnn.ipynb
    """
    return sum(_layer_macs(layer, output) for _, layer, output in _trace(model, input_shape))


def summary(model, input_shape):
    """Return a table with one row a layer, in the order in which they run.

    Args:
        model: torch.nn.Module that takes images (N, C, H, W).
        input_shape: (C, H, W) of one image.

    Returns:
        pandas.DataFrame: the index is the layer's name; columns kind (its class), output (its shape for
        one image, as text), parameters (its own, not its children's) and macs. The columns add up to
        `count_parameters` and `count_macs`: a layer with parameters that did not run is listed last
        with 0 MACs.

    Raises:
        ParameterError: as in `count_macs`.

    First built in: notebooks/02_parts_of_a_cnn.ipynb
    """
    import pandas as pd  # here, because `import cnnlib.measure.complexity` is quick without it

    rows, seen = {}, set()

    def row(name, layer, output):
        own = {id(p): p.numel() for p in layer.parameters(recurse=False) if id(p) not in seen}
        seen.update(own)
        rows[name] = {
            "kind": type(layer).__name__,
            "output": output,
            "parameters": sum(own.values()),
            "macs": 0,
        }

    for name, layer, output in _trace(model, input_shape):
        shape = " × ".join(map(str, output.shape[1:])) if isinstance(output, torch.Tensor) else "–"
        if name not in rows:
            row(name, layer, shape)
        rows[name]["macs"] += _layer_macs(layer, output)
    for name, layer in model.named_modules():
        if any(id(p) not in seen for p in layer.parameters(recurse=False)):
            row(name or "model", layer, "did not run")
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")


def _layer_macs(layer, output):
    """Each output value of these layers is a dot product: count its length, times the output values."""
    if isinstance(layer, nn.Conv2d):
        return output.numel() * layer.weight[0].numel()  # (in_channels / groups) · kernel area
    if callable(getattr(layer, "macs", None)):
        return layer.macs(output)
    return output.numel() * layer.in_features if isinstance(layer, nn.Linear) else 0


def _trace(model, input_shape):
    """Run one image of zeros; return (name, layer, output) of each call of each layer, in order.

    Layers are the modules without children, and those that hold parameters of their own.
    """
    shape = tuple(input_shape) if isinstance(input_shape, (tuple, list, torch.Size)) else ()
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in shape)
    if len(shape) != 3 or not whole:
        raise ParameterError(
            f"input_shape is {input_shape!r}; it must be three whole numbers above 0, (C, H, W) of one "
            "image, such as (3, 224, 224)"
        )
    count_parameters(model)  # raises where a lazy layer has no shape yet
    calls = []

    def listen(name):
        return lambda layer, _, output: calls.append((name, layer, output))

    counted = [
        (layer, listen(name or "model"))
        for name, layer in model.named_modules()
        if not any(layer.children()) or any(True for _ in layer.parameters(recurse=False))
    ]
    like = next(model.parameters(), torch.empty(0))
    try:
        with hooks(*counted), evaluation(model), torch.no_grad():
            model(torch.zeros(1, *shape, dtype=like.dtype, device=like.device))
    except RuntimeError as error:
        raise ParameterError(
            f"the model cannot take images of shape (1, {', '.join(map(str, shape))}): "
            f"{str(error).strip().splitlines()[0]}. Give the input_shape (C, H, W) that it was built for"
        ) from None
    return calls
