"""Layers, written out the way the lessons build them."""

import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.ground.errors import ParameterError, check_positive, check_whole, kind_of


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation, per channel.

    It is the first layer of a model, not a step before it: so the model, its checkpoint and its users
    cannot disagree about the scale of the pixels.

    Args:
        mean: C floats, on the scale 0–1; one float serves every channel.
        std: C floats above 0, or one.

    Shape: images (N, C, H, W) float 0–1 → the same shape.

    Raises:
        ParameterError: mean and std of different lengths or not finite, a std that is not above 0; images of
            other channels than there are values, or of whole numbers, whose scale is another.

    First built in: notebooks/03_mnist_cnn.ipynb
    """

    def __init__(self, mean, std):
        super().__init__()
        given = mean, std
        try:
            mean, std = (torch.as_tensor(v, dtype=torch.float32).reshape(-1, 1, 1) for v in given)
        except (RuntimeError, TypeError, ValueError):
            raise ParameterError(
                f"mean is {given[0]!r:.80} and std {given[1]!r:.80}; they must be numbers"
            ) from None
        if mean.shape != std.shape or not (std > 0).all() or not (mean + std).isfinite().all():
            raise ParameterError(
                f"mean {mean.flatten().tolist()} and std {std.flatten().tolist()} must have one value a "
                "channel each, all finite, and every std must be above 0"
            )
        self.register_buffer("mean", mean)  # (C, 1, 1)
        self.register_buffer("std", std)

    def forward(self, images):
        if not images.is_floating_point():
            raise ParameterError(
                f"images are {images.dtype}; a model takes floats from 0 to 1: cnnlib.data.to_float(images)"
            )
        if len(self.mean) > 1 and images.shape[-3] != len(self.mean):  # one channel would become several
            raise ParameterError(
                f"images have shape {tuple(images.shape)}; they must be (N, {len(self.mean)}, H, W), one "
                "channel a mean: images.expand(-1, 3, -1, -1) makes grey images colour ones"
            )
        return (images - self.mean) / self.std

    def extra_repr(self):
        rounded = [[round(x, 4) for x in v.flatten().tolist()] for v in (self.mean, self.std)]
        return f"mean={rounded[0]}, std={rounded[1]}"


class MixedPrecision(nn.Module):
    """Run a model's convolutions and linear layers in bfloat16; weights and logits stay float32.

    bfloat16 has float32's range with 8 bits of precision. It pays where the hardware multiplies it natively:
    GPUs, and CPUs with AMX or AVX-512 BF16 instructions; on others it is slower than float32.

    Args:
        model: images → logits.

    Shape: images (N, C, H, W) float → logits (N, K) float32.

    Source: Kalamkar et al. 2019, "A Study of BFLOAT16 for Deep Learning Training", arXiv 1905.12322, sec. 3;
        Micikevicius et al. 2018, "Mixed Precision Training", arXiv 1710.03740, sec. 3.1 (float32 weights).
    """

    def __init__(self, model):
        super().__init__()
        if not isinstance(model, nn.Module):
            raise ParameterError(f"model is {model!r:.80}; it must be a torch.nn.Module, built")
        self.model = model

    def forward(self, images):
        with torch.autocast(images.device.type, torch.bfloat16):
            logits = self.model(images)
        return logits.float()


def output_size(size, kernel_size, stride=1, padding=0, dilation=1):
    """Return how many positions a sliding window has along one axis: the size of the layer's output.

    Args:
        size: length of the input along the axis, in pixels, int >= 1.
        kernel_size: length of the window, int >= 1.
        stride: pixels from one position to the next, int >= 1.
        padding: zeros added at each of the two ends, int >= 0.
        dilation: distance between neighbouring taps of the window, int >= 1.

    Returns:
        int, floor((size + 2 padding − dilation (kernel_size − 1) − 1) / stride) + 1.

    Raises:
        ParameterError: a value outside its range, or a window longer than the padded input.

    Source: Dumoulin & Visin 2016, "A Guide to Convolution Arithmetic for Deep Learning", relationships 6
        and 15.
    First built in: notebooks/02_parts_of_a_cnn.ipynb
    """
    values = {"size": size, "kernel_size": kernel_size, "stride": stride, "dilation": dilation}
    size, kernel_size, stride, dilation = (check_whole(name, value) for name, value in values.items())
    padding = check_whole("padding", padding, 0)
    reach = dilation * (kernel_size - 1) + 1  # pixels from the window's first tap to its last
    if reach > size + 2 * padding:
        raise ParameterError(
            f"a window of {reach} pixels (kernel_size {kernel_size}, dilation {dilation}) does not fit into "
            f"{size} pixels with padding {padding} at each end; use a smaller kernel_size or dilation, a "
            "larger image or more padding"
        )
    return (size + 2 * padding - reach) // stride + 1


def conv2d(images, weight, bias=None, stride=1, padding=0, dilation=1):
    """Convolve images with kernels, as one matrix product over unfolded windows.

    As everywhere in deep learning the kernel is not flipped: mathematics calls this a cross-correlation.

    Args:
        images: (N, in_channels, H, W) float.
        weight: (out_channels, in_channels, kernel height, kernel width) float: the kernels.
        bias: (out_channels,) float, or None.
        stride: pixels from one window to the next, both ways, int >= 1.
        padding: zeros added on each of the four sides, int >= 0.
        dilation: distance between neighbouring taps of a kernel, int >= 1.

    Returns:
        (N, out_channels, output height, output width); `output_size` gives the last two.

    Raises:
        ParameterError: something else than tensors of floats, images and weight of two dtypes, axes or
            channels that do not fit together, or a kernel larger than the padded images.

    Source: Chellapilla et al. 2006, "High Performance Convolutional Neural Networks for Document
        Processing" (unrolling); LeCun et al. 1998, sec. II-A.
    First built in: notebooks/02_parts_of_a_cnn.ipynb
    """
    _check_images(images)
    check_floats("weight", weight)
    if weight.ndim != 4:
        raise ParameterError(
            f"weight has shape {tuple(weight.shape)}; it must be "
            "(out_channels, in_channels, kernel height, kernel width)"
        )
    if images.shape[1] != weight.shape[1]:
        raise ParameterError(
            f"images have {images.shape[1]} channels, but the kernels take {weight.shape[1]}: axis 1 of "
            f"images {tuple(images.shape)} and of weight {tuple(weight.shape)} must be equal"
        )
    if images.dtype != weight.dtype:
        raise ParameterError(
            f"images are {images.dtype} and weight {weight.dtype}; they must be of one dtype: "
            "images.to(weight.dtype)"
        )
    if bias is not None:
        check_floats("bias", bias)
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ParameterError(
            f"bias has shape {tuple(bias.shape)}; it must be ({weight.shape[0]},), one number a kernel"
        )
    kernel_size = weight.shape[2:]
    height, width = (
        output_size(size, k, stride, padding, dilation)
        for size, k in zip(images.shape[2:], kernel_size, strict=True)
    )
    columns = F.unfold(images, kernel_size, dilation, padding, stride)  # (N, C·kh·kw, height·width)
    out = weight.flatten(1) @ columns  # (N, out_channels, height·width)
    if bias is not None:
        out = out + bias[:, None]
    return out.unflatten(2, (height, width))


def max_pool2d(images, kernel_size, stride=None):
    """Return the largest value of each window, channel by channel.

    Args:
        images: (N, C, H, W) float.
        kernel_size: height and width of the window, int >= 1.
        stride: pixels from one window to the next, int >= 1; default: kernel_size, so that they tile.

    Returns:
        (N, C, output height, output width). Rows and columns that fill no whole window are dropped.

    Raises:
        ParameterError: images of another shape, or a window larger than they are.

    First built in: notebooks/02_parts_of_a_cnn.ipynb
    """
    return _windows(images, kernel_size, stride).amax(dim=(-2, -1))


def avg_pool2d(images, kernel_size, stride=None):
    """Return the mean of each window, channel by channel; arguments and errors as in `max_pool2d`.

    Source: LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", sec. II-A
        (subsampling).
    First built in: notebooks/02_parts_of_a_cnn.ipynb, as an exercise
    """
    return _windows(images, kernel_size, stride).mean(dim=(-2, -1))


def softmax(logits):
    """Turn logits into probabilities: positive numbers that sum to 1 along the last axis.

    Args:
        logits: (…, K) float.

    Returns:
        (…, K) float. The largest logit is subtracted first, which changes nothing but lets no exponential
        overflow.

    Raises:
        ParameterError: something else than a tensor of floats.

    Source: Bridle 1990, "Probabilistic Interpretation of Feedforward Classification Network Outputs".
    First built in: notebooks/02_parts_of_a_cnn.ipynb
    """
    check_floats("logits", logits)
    exponentials = torch.exp(logits - logits.amax(dim=-1, keepdim=True))
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


class Dropout(nn.Module):
    """Zero each value with probability p in training and scale the others; change nothing in evaluation.

    The scaling by 1 / (1 − p) keeps the expectation of every value, so that evaluation needs no correction
    ("inverted" dropout). The masks are those of torch.nn.Dropout from the same generator state on the CPU.

    Args:
        p: probability to zero a value, 0 to 1. (The p of the source below is the probability to keep it.)

    Shape: any float tensor → the same shape.

    Raises:
        ParameterError: p outside that range.

    Source: Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
        sec. 4 and, for the scaling in training, sec. 10.
    First built in: notebooks/08_dropout.ipynb
    """

    def __init__(self, p=0.5):
        super().__init__()
        self.p = _drop_probability(p)

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        mask = torch.empty_like(x).bernoulli_(1 - self.p)  # 1: keep, 0: drop
        if self.p < 1:
            mask /= 1 - self.p
        return x * mask

    def extra_repr(self):
        return f"p={self.p}"


class DropBlock(nn.Module):
    """Zero squares of neighbouring values in training, for each feature map by itself; see `Dropout`.

    A square has its centre at each place with probability γ = 1 − (1 − p)^(1 / size²), so that a value away
    from the edges is zeroed with probability p; squares may reach over the edge. (The source draws centres
    only where the whole square fits, and takes the first-order γ.) The others are scaled by the share that
    was really kept, counted over the whole batch.

    Args:
        p: probability to zero a value, 0 to 1.
        size: side of a square in values, odd int >= 1.

    Shape: maps (N, C, H, W) float → the same shape.

    Raises:
        ParameterError: p outside that range, or a size that is even or below 1.

    Source: Ghiasi et al. 2018, "DropBlock: A Regularization Method for Convolutional Networks", algorithm 1.
    First built in: notebooks/08_dropout.ipynb, as an exercise
    """

    def __init__(self, p, size):
        super().__init__()
        self.p = _drop_probability(p)
        self.size = check_whole("size", size)
        if self.size % 2 == 0:
            raise ParameterError(f"size is {size}; it must be odd, so that a square has a centre")

    def forward(self, maps):
        if not self.training or self.p == 0:
            return maps
        gamma = 1 - (1 - self.p) ** (1 / self.size**2)
        centres = torch.empty_like(maps).bernoulli_(gamma)
        kept = 1 - F.max_pool2d(centres, self.size, stride=1, padding=self.size // 2)
        return maps * kept * (kept.numel() / kept.sum().clamp(min=1))

    def extra_repr(self):
        return f"p={self.p}, size={self.size}"


def _drop_probability(p):
    try:
        good = check_positive("p", p, zero=True) <= 1
    except ParameterError:
        good = False
    if not good:
        raise ParameterError(
            f"p is {p!r}; it must be a number from 0 to 1: the probability to zero a value (to keep a "
            "share q of the values, give 1 - q)"
        )
    return p


def check_floats(name, value):
    """Check that an argument is a tensor of floats.

    Raises:
        ParameterError: it is not; the message names the argument and what it is.
    """
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        found = value.dtype if isinstance(value, torch.Tensor) else kind_of(value)
        raise ParameterError(
            f"{name} must be a tensor of floats, not {found}: torch.as_tensor(…, dtype=torch.float32) makes "
            "one"
        )


def _windows(images, kernel_size, stride):
    """Return a view of every window: (N, C, output height, output width, kernel_size, kernel_size)."""
    _check_images(images)
    stride = kernel_size if stride is None else stride
    for size in images.shape[2:]:
        output_size(size, kernel_size, stride)  # raises where the window does not fit
    return images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride)


def _check_images(images):
    if not isinstance(images, torch.Tensor):
        raise ParameterError(f"images are {kind_of(images)}; they must be a tensor: torch.as_tensor(images)")
    if images.ndim != 4:
        raise ParameterError(
            f"images have shape {tuple(images.shape)}; they must have four axes (N, C, H, W): add a missing "
            "one with unsqueeze, as in image.unsqueeze(0) for one image"
        )
    if not images.is_floating_point():
        raise ParameterError(f"images are {images.dtype}; turn them into floats with cnnlib.data.to_float")
