"""Run a model, on checked images, in another state for a while: hooked, evaluating, in a quick layout."""

import difflib
import traceback
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from cnnlib.data import Dataset, to_float
from cnnlib.data.datasets import check_channels_first
from cnnlib.ground.errors import CnnlibError, ParameterError, check_whole, first_line, kind_of


class Reached(Exception):  # noqa: N818 - no error: it ends a forward pass where the rest is not needed
    """Raised by a hook when the layer that is asked for has run."""


def check_model(model):
    """Check that a model is one, and built."""
    if not isinstance(model, nn.Module):
        raise ParameterError(f"model is {model!r:.80}; it must be a torch.nn.Module, built: SimpleCNN()")


def check_values(model):
    """Check that a model's tensors have values, which those on the device "meta" have not."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta:
            raise ParameterError(
                f'{name} is on the device "meta", where tensors have shapes and no values; build the model '
                'outside of torch.device("meta"), or give it values: model.to_empty(device="cpu"), then '
                "load_state_dict"
            )


def find_layer(model, name):
    """Return a layer by its name in `model.named_modules()`; an unknown name raises ParameterError."""
    check_model(model)
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
    check_tensor(images)
    if images.ndim == 4 and not images.numel():
        raise ParameterError(
            f"images have shape {tuple(images.shape)}; they must be a tensor (N, C, H, W), nothing of it 0"
        )
    misfit = _misfit(model, images)
    if misfit:
        raise ParameterError(misfit)
    check_pixels(images)
    return as_input(model, images)


def as_input(model, images):
    """Return images as a model takes them: on the device and of the dtype of its parameters, bytes as 0–1."""
    like = next((p for p in model.parameters() if p.dtype.is_floating_point), None)
    return to_float(images) if like is None else to_float(images.to(like.device), like.dtype)


def _misfit(model, images):
    """Say what is wrong with the shape of images, as far as a model's layers tell; "": nothing is."""
    if images.ndim != 4:
        return f"images have shape {tuple(images.shape)}; they must be a tensor (N, C, H, W){_cure(images)}"
    convolutions = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    channels = [m.in_channels for m in convolutions]
    if not channels or 0 in channels or images.shape[1] in channels:  # 0: lazy, it takes what comes
        return ""
    hint = "; make grey images colour ones with images.expand(-1, 3, -1, -1)" if channels[0] == 3 else ""
    return f"images have {images.shape[1]} channels, but the model takes {channels[0]}{hint}"


def _cure(images):
    """Say how 2-D and 3-D images become (N, C, H, W)."""
    if images.ndim == 2:
        return ": images[None, None] makes a batch of one grey image"
    if images.ndim != 3:
        return ""
    if images.shape[0] in (1, 3):
        return ": images.unsqueeze(0) makes a batch of one image"
    if images.shape[2] in (1, 3, 4):
        return ": images.permute(2, 0, 1).unsqueeze(0) makes a batch of one image whose channels lie last"
    return ": images.unsqueeze(1) gives grey images their one channel"


def check_pixels(images):
    """Check that images are bytes or floats from 0 to 1, up to rounding."""
    check_tensor(images)
    low, high = (value.item() for value in images.aminmax())
    if images.is_floating_point() and not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ParameterError(
            f"images go from {low:.4g} to {high:.4g}; float images must lie between 0 and 1: divide pixels "
            "by 255, and leave the normalisation to the model"
        )


def check_tensor(images):
    """Check that images are a tensor of bytes or floats, their channels not last."""
    if not isinstance(images, torch.Tensor):
        way_out = (
            "take data.images"
            if isinstance(images, Dataset)
            else "torch.as_tensor makes one of an array, .permute(0, 3, 1, 2) brings last channels forward"
        )
        raise ParameterError(
            f"images are {kind_of(images)}; they must be a tensor (N, C, H, W), uint8 or float 0–1: {way_out}"
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ParameterError(f"images are {images.dtype}; they must be uint8 0–255 or float 0–1")
    if images.ndim == 4:
        check_channels_first(images)


def check_logits(logits, images):
    """Check that what a model returns for images is one tensor with a row for each of them."""
    if not isinstance(logits, torch.Tensor) or logits.shape[:1] != images.shape[:1]:
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else kind_of(logits)
        raise ParameterError(
            f"the model returns {found} for images of shape {tuple(images.shape)}; it must take (N, C, H, W) "
            "and return (N, K) logits, one tensor: of several outputs let forward return the logits alone "
            "(auxiliary classifiers: aux_logits=False)"
        )


def check_labels(labels, logits, name="labels"):
    """Check that labels, (N,) int64, are places among the logits, (N, K)."""
    if logits.ndim != 2:
        raise ParameterError(f"the model returns {tuple(logits.shape)}; it must return (N, K) logits")
    if not isinstance(labels, torch.Tensor) or labels.dtype != torch.int64 or labels.ndim != 1:
        found = getattr(labels, "dtype", type(labels).__name__)
        found = f"of shape {tuple(labels.shape)}" if found == torch.int64 else found
        raise ParameterError(
            f"{name} are {found}; they must be a tensor (N,) int64, the class of each image: "
            "torch.as_tensor(labels).long(), and one_hot.argmax(dim=1)"
        )
    check_whole(f"len({name})", len(labels))
    lowest, highest = map(int, labels.aminmax())
    if lowest < 0 or highest >= logits.shape[1]:
        raise ParameterError(
            f"{name} go from {lowest} to {highest}, but the model returns "
            f"{logits.shape[1]} logits, for labels 0 to {logits.shape[1] - 1}"
        )


def run(model, images):
    """Return the model's output, or None where a hook ended the pass by raising Reached.

    Raises:
        ParameterError: a layer cannot take what it gets; the message names the layer, and says what of the
            images does not fit.
    """
    check_values(model)
    images = as_input(model, images)
    try:
        return model(images)
    except Reached:
        return None
    except (CnnlibError, torch.OutOfMemoryError):
        raise
    except (IndexError, RuntimeError, ValueError) as error:
        problem = first_line(error)
        raise ParameterError(
            f"the model cannot take images of shape {tuple(images.shape)}: {_place(model, error)}{problem}"
            f"{_way_out(model, images, problem)}"
        ) from error


def _place(model, error):
    """Name the innermost layer in which an error arose."""
    names = {module: name for name, module in model.named_modules()}
    running = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    layers = [each for each in running if isinstance(each, nn.Module) and names.get(each)]
    return f"in layer {names[layers[-1]]!r}, {kind_of(layers[-1])}, " if layers else ""


def _way_out(model, images, problem):
    """Say what to do about images that a model cannot take, most likely first; "": nobody knows."""
    dtypes = {p.dtype for p in model.parameters() if p.dtype.is_floating_point}
    misfit = _misfit(model, images)
    if misfit:
        return f". The {misfit}"
    if "device" in problem:
        return ". Keep tensors as parameters and buffers, and bring all to one device: model.to(device)"
    if len(dtypes) > 1:
        return (
            f". Its parameters are {' and '.join(sorted(map(str, dtypes)))}: model.float() makes them alike"
        )
    if "shape" in problem or "size" in problem:
        return (
            ". A model that ends with a linear layer over all positions takes one size only, one that "
            "averages over them several, as resnet_small does"
        )
    return ""


def as_tensor(name, output):
    """Return a layer's output when it is one tensor; anything else raises ParameterError."""
    if not isinstance(output, torch.Tensor):
        raise ParameterError(f"layer {name!r} returns {kind_of(output)}; choose one that returns a tensor")
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
    """Register forward hooks, (module, hook) pairs, and those that run before a module; remove them after.

    Raises:
        ParameterError: a module that was compiled by torch.jit, which takes none.
    """
    handles = []
    for module, _ in (*before, *pairs):
        if isinstance(module, torch.jit.ScriptModule):
            raise ParameterError(
                f"{kind_of(module)} cannot be looked into while it runs; give the model that it was made of"
            )
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


def train_mode(model):
    """Put a model into training mode, but for frozen layers that keep running statistics.

    In training mode these would move with every batch, which `requires_grad_(False)` does not prevent, away
    from those that the weights were learned with.
    """
    model.train()
    for layer in model.modules():
        learns = [parameter.requires_grad for parameter in layer.parameters(recurse=False)]
        if learns and not any(learns) and getattr(layer, "running_mean", None) is not None:
            layer.eval()


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


def quick_layout(model, images):
    """Return `channels_last`, or, where a model does not run in it, a context that changes nothing.

    In that layout maps do not lie in reading order, and `maps.view(len(maps), -1)`, as many people write it,
    fails. A pass over a few images shows it.
    """
    with channels_last(model), evaluation(model), torch.no_grad():
        try:
            run(model, images)
        except ParameterError as error:
            if "view size is not compatible" in str(error):
                return nullcontext()
    return channels_last(model)


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
