"""A small network as a list of layers that a browser can compute; see `browser/arithmetic.js`."""

import torch
from torch import nn

from cnnlib.ground.errors import ParameterError
from cnnlib.models.hooks import evaluation, hooks, run

MOST_MACS = 30_000_000
"""Multiply–adds of a forward pass that a browser can repeat while somebody draws."""
WITHOUT_EFFECT = (nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
"""Layers that change no number when the model is used."""


def export(model, size=28):
    """Return a network as the list of its layers, in the order in which they run.

    The model is run once: each layer must take what the layer before it returned. Between them, in a forward
    of the model's own, it may flatten the maps or cut off a rim, which is the same on all sides.

    Args:
        model: module, images (N, 1, size, size) float 0–1 → logits (N, K).

    Returns:
        list of dicts. Each has the layer's name and its kind: "normalize", "scale", "crop", "conv", "pool",
        "relu", "linear"; `window`, `stride` and `padding` where one slides; weights as float32 bytes.

    Raises:
        ParameterError: a layer that is none of these, layers that form no chain, or too much work.
    """
    found, work = [], 0
    for name, module, given, made, rim in _trace(model, size):
        if rim:
            found.append({"name": f"rim before {name}", "kind": "crop", "rim": rim})
        if not isinstance(module, WITHOUT_EFFECT):
            found.append({"name": name, **_describe(name, module, given, made)})
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            work += module.weight[0].numel() * made.numel()
    if work > MOST_MACS:
        raise ParameterError(f"an image takes {work:,} multiply–adds; in a browser at most {MOST_MACS:,}")
    return found


def _trace(model, size):
    """Return (name, module, input, output, rim cut off before) of each innermost layer as it runs.

    They must be a chain.
    """
    inputs, seen = {}, []
    innermost = [(name, module) for name, module in model.named_modules() if not any(module.children())]

    def before(module, arguments):
        inputs[module] = arguments[0].clone()  # a ReLU may work in place

    def after(name):
        return lambda module, _, output: seen.append((name, module, inputs[module], output.clone()))

    device = next((p.device for p in model.parameters()), "cpu")
    images = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    pairs = [(module, after(name)) for name, module in innermost]
    with hooks(*pairs, before=[(m, before) for _, m in innermost]), evaluation(model), torch.no_grad():
        logits = run(model, images)
    last, value, chain = "the image", images, []
    for name, module, given, made in [*seen, ("the logits", None, logits, None)]:
        rim = (value.shape[-1] - given.shape[-1]) // 2 if given.ndim == value.ndim == 4 else 0
        kept = value[:, :, rim:-rim, rim:-rim] if rim > 0 else value
        same_shape = given.shape == kept.shape or given.ndim == 2
        if not (same_shape and torch.equal(given.flatten(), kept.flatten())):
            raise ParameterError(
                f"between {last} and {name} the model computes something that is no layer of its own; only a "
                "chain of layers can be taken apart"
            )
        chain.append((name, module, given, made, max(rim, 0)))
        last, value = name, made
    return chain[:-1]


def _describe(name, module, given, made):
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        bias = torch.zeros(len(module.weight)) if module.bias is None else module.bias
        weights = {"weight": _bytes(module.weight), "bias": _bytes(bias)}
    if isinstance(module, nn.Conv2d):
        plain = module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
        if plain and not isinstance(module.padding, str):
            places = _window(name, module.kernel_size, module.stride, module.padding)
            return {"kind": "conv", **weights, **places}
    elif isinstance(module, nn.Linear) and given.ndim == 2:
        return {"kind": "linear", **weights}
    elif isinstance(module, nn.ReLU):
        return {"kind": "relu"}
    elif isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
        weight = (module.running_var + module.eps).rsqrt()
        weight = weight if module.weight is None else weight * module.weight
        bias = -weight * module.running_mean + (0 if module.bias is None else module.bias)
        return {"kind": "scale", "weight": weight.tolist(), "bias": bias.tolist()}
    elif isinstance(module, (nn.MaxPool2d, nn.AvgPool2d)):
        if not module.ceil_mode and getattr(module, "dilation", 1) in (1, (1, 1)):
            places = _window(name, module.kernel_size, module.stride, module.padding)
            if places["padding"] == 0 and not getattr(module, "divisor_override", None):
                return {"kind": "pool", "average": isinstance(module, nn.AvgPool2d), **places}
    elif isinstance(module, nn.AdaptiveAvgPool2d) and made.shape[2:] == (1, 1):
        return {"kind": "pool", "average": True, "window": list(given.shape[2:]), "stride": 1, "padding": 0}
    elif _normalizes(module, given, made):
        channels = given.shape[1]
        mean, std = (v.flatten().expand(channels).tolist() for v in (module.mean, module.std))
        return {"kind": "normalize", "mean": mean, "std": std}
    raise ParameterError(f"layer {name!r}, {module}, cannot be taken apart in a browser")


def _normalizes(module, given, made):
    """Whether a layer is `Normalize`: the library's, or the one that a lesson builds in view."""
    mean, std = (getattr(module, name, None) for name in ("mean", "std"))
    if not (isinstance(mean, torch.Tensor) and isinstance(std, torch.Tensor)):
        return False
    return torch.allclose(made, (given - mean) / std)


def _window(name, *settings):
    """Return window, stride and padding; both strides, and both paddings, must be the same number."""
    window, stride, padding = ((v, v) if isinstance(v, int) else tuple(v) for v in settings)
    if len({*stride}) > 1 or len({*padding}) > 1:
        raise ParameterError(f"layer {name!r} has another stride or padding along the rows than the columns")
    return {"window": list(window), "stride": stride[0], "padding": padding[0]}


def _bytes(tensor):
    return tensor.detach().float().cpu().contiguous().numpy().tobytes()
