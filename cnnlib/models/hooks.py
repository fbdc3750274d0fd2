"""Run a model, on checked images, in another state for a while: hooked, evaluating, in a quick layout."""

import difflib
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from cnnlib.data import to_float
from cnnlib.ground.errors import ParameterError, check_whole


class Reached(Exception):  # noqa: N818 - no error: it ends a forward pass where the rest is not needed
    """Raised by a hook when the layer that is asked for has run."""


def find_layer(model, name):
    """Return a layer by its name in `model.named_modules()`; an unknown name raises ParameterError."""
    modules = dict(model.named_modules())
    if not isinstance(name, str) or not name or name not in modules:
        names = [known for known in modules if known]
        close = difflib.get_close_matches(str(name), names, n=5, cutoff=0.4) or names[:5]
        raise ParameterError(
            f"the model has no layer {name!r}; close to it are {', '.join(close)}. "
            "All names: [name for name, _ in model.named_modules()]"
        )
    return modules[name]


def check_images(model, images):
    """Check images, and return them as float 0–1 on the model's device.

    Which convolution takes the images only the forward pass knows: they need as many channels as one of
    them takes, and `run` reports what still does not fit.
    """
    if not isinstance(images, torch.Tensor) or images.ndim != 4 or not images.numel():
        found = f"shape {tuple(images.shape)}" if isinstance(images, torch.Tensor) else type(images).__name__
        raise ParameterError(f"images have {found}; they must be a tensor (N, C, H, W), nothing of it 0")
    convolutions = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    channels = [m.in_channels for m in convolutions]
    if channels and 0 not in channels and images.shape[1] not in channels:  # 0: lazy, it takes what comes
        hint = "; make grey images colour ones with images.expand(-1, 3, -1, -1)" if channels[0] == 3 else ""
        raise ParameterError(
            f"images have {images.shape[1]} channels, but the model takes {channels[0]}{hint}"
        )
    check_pixels(images)
    device = next((p.device for p in model.parameters()), images.device)
    return to_float(images.to(device))


def check_pixels(images):
    """Check that images are bytes or floats from 0 to 1, up to rounding."""
    check_dtype(images)
    low, high = (value.item() for value in images.aminmax())
    if images.is_floating_point() and not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ParameterError(
            f"images go from {low:.4g} to {high:.4g}; float images must lie between 0 and 1: divide pixels "
            "by 255, and leave the normalisation to the model"
        )


def check_dtype(images):
    """Check that images are bytes or floats."""
    if not isinstance(images, torch.Tensor):
        raise ParameterError(
            f"images are a {type(images).__name__}; they must be a tensor (N, C, H, W), uint8 or float 0–1: "
            "torch.as_tensor makes one of an array"
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ParameterError(f"images are {images.dtype}; they must be uint8 0–255 or float 0–1")


def run(model, images):
    """Return the model's output, or None where a hook ended the pass by raising Reached."""
    try:
        return model(images)
    except Reached:
        return None
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        first_line = str(error).strip().splitlines()[0]
        raise ParameterError(
            f"the model cannot take images of shape {tuple(images.shape)}: {first_line}"
        ) from error


def as_tensor(name, output):
    """Return a layer's output when it is one tensor; anything else raises ParameterError."""
    if not isinstance(output, torch.Tensor):
        raise ParameterError(
            f"layer {name!r} returns a {type(output).__name__}; choose one that returns a tensor"
        )
    return output


def one_channel(name, maps, channel=None):
    """Return one channel (N, h, w) of a layer's maps, or all (N, channels, h, w)."""
    if maps.ndim != 4:
        raise ParameterError(
            f"layer {name!r} returns {tuple(maps.shape)}; choose one of maps (N, channels, h, w)"
        )
    if channel is None:
        return maps
    last = maps.shape[1] - 1
    try:
        place = check_whole("channel", channel, least=0)
    except ParameterError:
        place = None
    if place is None or place > last:
        raise ParameterError(f"channel is {channel!r}; layer {name!r} has channels 0 to {last}")
    return maps[:, place]


@contextmanager
def hooks(*pairs, before=()):
    """Register forward hooks, (module, hook) pairs, and those that run before a module; remove them after."""
    handles = []
    try:
        for module, hook in before:
            handles.append(module.register_forward_pre_hook(hook, prepend=True))
        for module, hook in pairs:
            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluation(model):
    """Put a model into evaluation mode, and give each of its layers its own mode back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def check_gradients(caller):
    """Refuse to go on where autograd is switched off; `caller` is the function that needs it."""
    if torch.is_inference_mode_enabled() or not torch.is_grad_enabled():
        raise ParameterError(
            f"{caller} was called where torch computes no gradients; "
            "call it outside no_grad and inference_mode"
        )


@contextmanager
def gradients(model):
    """Let autograd work, also inside a caller's no_grad or inference_mode.

    Raises:
        ParameterError: a model that was made in inference mode, of whose tensors PyTorch keeps no gradient.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_inference():
            raise ParameterError(
                f"{name} was made inside torch.inference_mode(), so that autograd cannot use it; build the "
                "model outside of it"
            )
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def channels_last(model):
    """Lay a model's 4-D weights out as (out, H, W, in) for a while: the same function, quicker on a CPU.

    A convolution with such weights returns maps that lie so too, all channels of a place side by side, which
    is what the CPU's kernels want; `benchmarks/channels_last.py` prints how much it saves. Afterwards the
    weights lie as before, so that nobody's `weight.view(…)` fails. On other devices nothing is changed.

    Source: PyTorch's tutorial "Channels Last Memory Format in PyTorch".
    """
    turned = []
    for tensor in (*model.parameters(), *model.buffers()):
        if (
            not is_lazy(tensor)
            and tensor.ndim == 4
            and tensor.device.type == "cpu"
            and tensor.is_contiguous()
        ):
            before, tensor.data = tensor.data, tensor.data.to(memory_format=torch.channels_last)
            if tensor.data.stride() != before.stride():  # else it lies so already: in an outer call
                turned.append(tensor)
    try:
        yield
    finally:
        for tensor in turned:
            tensor.data = tensor.data.to(memory_format=torch.contiguous_format)
