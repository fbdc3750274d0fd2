"""What a model costs: its parameters, and the multiply–adds (MACs) of one image's forward pass."""

import re
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.overrides import BaseTorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from cnnlib.ground.errors import ParameterError, check_whole, first_line
from cnnlib.models.hooks import check_model, evaluation, hooks


def count_parameters(model):
    """Return the number of learned values in a model; a parameter that is used twice counts once.

    Args:
        model: torch.nn.Module. Its buffers, such as batch norm's running statistics, are not learned
            and not counted.

    Returns:
        int

    Raises:
        ParameterError: no model, or a lazy layer that has seen no input yet, and so has no shape.

    First built in: notebooks/02_parts_of_a_cnn.ipynb
    """
    check_model(model)
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ParameterError(f"{name} has no shape yet; pass one batch through the model first")
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model, input_shape):
    """Return the multiply–adds of the model's convolutions and matrix products for one image.

    The model runs once on zeros, and the operations that run are what is counted: those of a layer that is
    used twice count twice, those of one that is skipped not at all; attention and transposed convolutions
    count, whoever wrote them. As in torchvision's tables, biases, norms, activations, pooling and products
    value by value count nothing; nor does what a parametrization, such as weight_norm, makes of the weights
    before they meet the image. A layer of your own can count itself and all that runs inside it, with a
    method `macs(output)`, output being (N, …), as `cnnlib.models.lenet.SparseConv2d` does. FLOPs are twice
    the MACs. A model built under `with torch.device("meta"):` is counted without computing anything.

    Args:
        model: torch.nn.Module that takes images (N, C, H, W). It runs in evaluation mode and gets its
            mode back.
        input_shape: (C, H, W) of one image.

    Returns:
        int

    Raises:
        ParameterError: another input shape, images of that shape that the model cannot take, or a layer
            whose products are hidden inside one operation (an LSTM, a Fourier transform, the inverse of a
            matrix, other libraries').

    First built in: notebooks/02_parts_of_a_cnn.ipynb
    """
    return sum(call.macs for call in _trace(model, input_shape))


def summary(model, input_shape):
    """Return a table with one row a layer, in the order in which they run.

    Args:
        model: torch.nn.Module that takes images (N, C, H, W).
        input_shape: (C, H, W) of one image.

    Returns:
        pandas.DataFrame: the index is the layer's name; columns kind (its class), output (its shape for
        one image, as text), parameters and macs (its own, not its children's). The columns add up to
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

    for call in _trace(model, input_shape):
        own_parameters = any(True for _ in call.layer.parameters(recurse=False))
        if call.name not in rows and (call.macs or own_parameters or not any(call.layer.children())):
            row(call.name, call.layer, call.shape)
        if call.name in rows:
            rows[call.name]["macs"] += call.macs
    for name, layer in model.named_modules():
        if any(id(p) not in seen for p in layer.parameters(recurse=False)):
            row(name or "model", layer, "did not run")
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")


@dataclass
class _Call:
    """A run of a layer; silent where its operations are not counted one by one."""

    name: str
    layer: nn.Module
    silent: bool
    macs: int = 0
    shape: str = "–"


class _Counter(TorchDispatchMode):
    """Sees each operation that PyTorch computes, and adds its multiply–adds to the innermost layer's."""

    def __init__(self):
        super().__init__()
        self.running, self.calls = [], []  # _Call, outermost first; those that are done, in order

    def enter(self, name):
        def hook(layer, _):
            silent = _counts_itself(layer) or isinstance(layer, ParametrizationList)
            self.running.append(_Call(name, layer, silent or any(call.silent for call in self.running)))

        return hook

    def leave(self, layer, _, output):
        *outer, call = self.running
        if _counts_itself(layer) and not any(other.silent for other in outer):
            call.macs = layer.macs(output)
        self.running.pop()
        if isinstance(output, torch.Tensor):
            call.shape = " × ".join(map(str, output.shape[1:]))
        self.calls.append(call)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        with self:  # in inference mode an operation such as `linear` comes before it is taken apart
            output = operation.decompose(*args, **kwargs)
        if output is NotImplemented:
            output = operation(*args, **kwargs)
            call = self.running[-1]
            if not call.silent:
                call.macs += _macs(call, operation, output, args)
        return output


def _counts_itself(layer):
    return callable(getattr(layer, "macs", None))


def _macs(call, operation, output, args):
    """Return the multiply–adds of one operation: each value of a product is a dot product of some length."""
    match operation.overloadpacket.__name__.rstrip("_"):  # addmm_ is addmm in place
        case "mm" | "bmm" | "mv" | "dot" | "vdot":
            return output.numel() * args[0].shape[-1]
        case "addmm" | "baddbmm" | "addmv":
            return output.numel() * args[1].shape[-1]
        case "convolution":  # weight[0] makes one output value or, transposed, spreads one input value
            images, weight, _bias, _stride, _padding, _dilation, transposed, *_ = args
            return (images if transposed else output).numel() * weight[0].numel()
        case name if name.startswith("_scaled_dot_product"):  # (…, L, E), (…, S, E), (…, S, V) → (…, L, V)
            query, key = args[:2]
            return key.shape[-2] * (query.numel() + output[0].numel())
        case name if operation.namespace not in _OWN or _HIDDEN_PRODUCTS.search(name):
            raise ParameterError(
                f"layer {call.name!r} ({type(call.layer).__name__}) computes {operation.name()}, whose "
                "multiply–adds are unknown; give the layer a method macs(output) that returns them"
            )
    return 0


_OWN = ("aten", "prim", "prims", "profiler")
"""Where PyTorch's operations are, and those that `torch.profiler.record_function` marks a place by."""
_HIDDEN_PRODUCTS = re.compile(
    "(^|_)((b|add)*mm|conv(olution|[123]d)?|linear|trilinear|rnn|lstm|gru|attention|transformer|[cp]dist"
    "|fft_[cr]2[cr]|linalg(?!_vector_norm|_cross|_check_errors)|cholesky)(_|$)"
)
"""Names of PyTorch's operations that multiply and add, and that `_macs` has no formula for."""


def _trace(model, input_shape):
    """Run one image of zeros; return the _Call of each run of each layer, in the order in which they end."""
    try:
        shape = tuple(check_whole("input_shape", n) for n in input_shape)
    except (ParameterError, TypeError):
        shape = ()
    if len(shape) != 3:
        raise ParameterError(
            f"input_shape is {input_shape!r}; it must be three whole numbers above 0, (C, H, W) of one "
            "image, such as (3, 224, 224)"
        )
    count_parameters(model)  # raises where a lazy layer has no shape yet
    layers = [(name or "model", layer) for name, layer in model.named_modules()]
    like = next(model.parameters(), torch.empty(0))
    images = torch.zeros(1, *shape, dtype=like.dtype, device=like.device)
    counter = _Counter()
    try:
        with (
            hooks(
                *((layer, counter.leave) for _, layer in layers),
                before=[(layer, counter.enter(name)) for name, layer in layers],
            ),
            evaluation(model),
            torch.no_grad(),
            BaseTorchFunctionMode(),  # under any such mode MultiheadAttention does one product at a time
            counter,
        ):
            model(images)
    except RuntimeError as error:
        raise ParameterError(
            f"the model cannot take images of shape (1, {', '.join(map(str, shape))}): "
            f"{first_line(error)}. Give the input_shape (C, H, W) that it was built for"
        ) from None
    return counter.calls
