"""Exercises of lesson 02, the parts of a CNN."""

import torch
import torch.nn.functional as F

from cnnlib.course.exercises import Exercise, normal


def relu(x):
    """Return x with every negative value replaced by zero.

    x: float tensor of any shape; returns a tensor of that shape.
    """
    return x.clamp(min=0)


def relu_absolute(x):
    return x.abs()


def relu_sign(x):
    return (x > 0).to(x.dtype)


def relu_inverted(x):
    return x.clamp(max=0)


def relu_cases(rng):
    return [[normal(rng, 7)], [normal(rng, 2, 3, 4, 4)], [-normal(rng, 5, 1).abs()]]


def output_shape(image_shape, layers):
    """Return the shape (C, H, W) after a stack of layers, as a list of three ints.

    image_shape: list of three ints, C, H and W.
    layers: list of lists [out_channels, kernel_size, stride, padding], four ints each.
    """
    _, height, width = image_shape
    channels = image_shape[0]
    for out_channels, kernel_size, stride, padding in layers:
        height = (height + 2 * padding - kernel_size) // stride + 1
        width = (width + 2 * padding - kernel_size) // stride + 1
        channels = out_channels
    return [channels, height, width]


def output_shape_without_padding(image_shape, layers):
    return output_shape(image_shape, [[c, k, s, 0] for c, k, s, _ in layers])


def output_shape_one_sided(image_shape, layers):
    channels, height, width = image_shape
    for out_channels, k, s, p in layers:
        channels, height, width = out_channels, (height + p - k) // s + 1, (width + p - k) // s + 1
    return [channels, height, width]


def output_shape_off_by_one(image_shape, layers):
    channels, height, width = image_shape
    for out_channels, k, s, p in layers:
        channels, height, width = out_channels, (height + 2 * p - k) // s, (width + 2 * p - k) // s
    return [channels, height, width]


def output_shape_square(image_shape, layers):
    channels, height, _ = output_shape(image_shape, layers)
    return [channels, height, height]


def output_shape_cases(rng):
    cases = [[[3, 32, 20], [[8, 3, 1, 1]]]]
    for _ in range(6):
        layers = []
        for _ in range(int(rng.integers(1, 4))):
            kernel, stride, padding = (int(rng.integers(*r)) for r in ((1, 6), (1, 4), (0, 4)))
            layers.append([int(rng.integers(1, 65)), kernel, stride, padding])
        cases.append([[int(rng.integers(1, 4)), *(int(n) for n in rng.integers(180, 260, 2))], layers])
    return cases


def avg_pool2d(images, kernel_size):
    """Return the mean of each window, channel by channel; the windows tile the images.

    images: (N, C, H, W) float tensor; kernel_size: int, it divides H and W.
    Returns (N, C, H / kernel_size, W / kernel_size).
    """
    blocks = images.unflatten(3, (-1, kernel_size)).unflatten(2, (-1, kernel_size))
    return blocks.mean(dim=(3, 5))  # from (N, C, H/k, k, W/k, k)


def avg_pool2d_sum(images, kernel_size):
    return avg_pool2d(images, kernel_size) * kernel_size**2


def avg_pool2d_max(images, kernel_size):
    return F.max_pool2d(images, kernel_size)


def avg_pool2d_once(images, kernel_size):
    return avg_pool2d(images, kernel_size) * kernel_size


def avg_pool2d_sliding(images, kernel_size):
    return F.avg_pool2d(images, kernel_size, stride=1)


def avg_pool2d_cases(rng):
    shapes = ((1, 1, 4, 4, 2), (2, 3, 6, 9, 3), (3, 2, 8, 4, 4), (2, 1, 10, 6, 2))
    return [[normal(rng, n, c, h, w), k] for n, c, h, w, k in shapes]


def depthwise_conv2d(images, kernels):
    """Convolve each channel with a kernel of its own, without padding, with stride 1.

    images: (N, C, H, W) float tensor; kernels: (C, k, k), one for each channel; as in all of deep learning
    they are not flipped. Returns (N, C, H − k + 1, W − k + 1).
    """
    k = kernels.shape[-1]
    windows = images.unfold(2, k, 1).unfold(3, k, 1)  # (N, C, H − k + 1, W − k + 1, k, k)
    return (windows * kernels[:, None, None]).sum(dim=(-2, -1))


def depthwise_flipped(images, kernels):
    return depthwise_conv2d(images, kernels.flip(1, 2))


def depthwise_summed(images, kernels):
    return depthwise_conv2d(images, kernels).sum(dim=1, keepdim=True)


def depthwise_shared(images, kernels):
    return depthwise_conv2d(images, kernels[:1].expand_as(kernels))


def depthwise_padded(images, kernels):
    return F.conv2d(images, kernels[:, None], padding=kernels.shape[-1] // 2, groups=len(kernels))


def depthwise_cases(rng):
    shapes = ((1, 1, 5, 5, 3), (2, 3, 6, 8, 3), (2, 4, 7, 5, 2), (1, 2, 6, 6, 1))
    return [[normal(rng, n, c, h, w), normal(rng, c, k, k)] for n, c, h, w, k in shapes]


def count_conv_parameters(in_channels, out_channels, kernel_size, groups, bias):
    """Return how many learned values a convolution layer has.

    The kernels are kernel_size × kernel_size; the channels are split into `groups` groups, each convolved by
    itself; bias: bool, whether each output channel adds a bias.
    """
    return out_channels * (in_channels // groups) * kernel_size**2 + (out_channels if bias else 0)


def count_without_groups(in_channels, out_channels, kernel_size, groups, bias):
    return count_conv_parameters(in_channels, out_channels, kernel_size, 1, bias)


def count_bias_per_input(in_channels, out_channels, kernel_size, groups, bias):
    return out_channels * (in_channels // groups) * kernel_size**2 + (in_channels if bias else 0)


def count_always_bias(in_channels, out_channels, kernel_size, groups, bias):
    return count_conv_parameters(in_channels, out_channels, kernel_size, groups, True)


def count_both_divided(in_channels, out_channels, kernel_size, groups, bias):
    return (out_channels // groups) * (in_channels // groups) * kernel_size**2 + out_channels * bias


def count_cases(rng):
    cases = [[1, 16, 5, 1, True], [3, 64, 3, 1, False], [32, 32, 3, 32, False], [8, 24, 3, 4, True]]
    for _ in range(4):
        groups = int(rng.choice([1, 2, 4]))
        a, b, k = (int(n) for n in rng.integers(1, 9, 3))
        cases.append([a * groups, b * groups, k, groups, bool(rng.integers(2))])
    return cases


def log_softmax(logits):
    """Return the logarithm of the softmax along the last axis, without overflow and without log(0).

    logits: (…, K) float tensor, of any size: ±1000 too. Returns the same shape.
    """
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()


def log_softmax_naive(logits):
    return (logits.exp() / logits.exp().sum(dim=-1, keepdim=True)).log()


def log_softmax_late(logits):
    return logits.softmax(dim=-1).log()


def log_softmax_first_axis(logits):
    return torch.log_softmax(logits, dim=0)


def log_softmax_no_log(logits):
    return logits.softmax(dim=-1)


def log_softmax_cases(rng):
    large = torch.tensor([[1000.0, 0.0, -1000.0], [500.0, 500.0, 499.0]])
    return [[normal(rng, 5)], [normal(rng, 4, 10)], [normal(rng, 2, 3, 7) * 30], [large]]


def seen_pixels(layers, position):
    """Return the first and the last pixel row that a unit sees.

    layers: list of [kernel_size, stride, padding], from the input to the unit's layer; position:
    int, the row of the unit in its map. Rows count from 0; a row that lies in the padding around
    the image has a negative number, or one beyond the image.
    Returns a list of two ints.
    """
    first = last = position
    for kernel_size, stride, padding in reversed(layers):
        first = first * stride - padding
        last = last * stride - padding + kernel_size - 1
    return [first, last]


def seen_without_padding(layers, position):
    return seen_pixels([[k, s, 0] for k, s, _ in layers], position)


def seen_forwards(layers, position):
    return seen_pixels(layers[::-1], position)


def seen_without_jump(layers, position):
    size = 1 + sum(k - 1 for k, _, _ in layers)
    first = seen_pixels(layers, position)[0]
    return [first, first + size - 1]


def seen_end_exclusive(layers, position):
    first, last = seen_pixels(layers, position)
    return [first, last + 1]


def seen_cases(rng):
    vgg = [[3, 1, 1], [3, 1, 1], [2, 2, 0], [3, 1, 1], [3, 1, 1], [2, 2, 0], [3, 1, 1]]
    cases = [[vgg, 20], [[[11, 4, 2], [3, 2, 0], [5, 1, 2]], 7], [[[1, 1, 0]], 3]]
    for _ in range(3):
        layers = [[int(k), int(rng.integers(1, 3)), int(k) // 2] for k in rng.integers(1, 6, 4)]
        cases.append([[[7, 2, 3], *layers], int(rng.integers(0, 30))])
    return cases


EXERCISES = [
    Exercise(
        "02.output_shape",
        points=2,
        reference=output_shape,
        cases=output_shape_cases,
        mutants={
            "leaves the padding out": output_shape_without_padding,
            "pads one end only": output_shape_one_sided,
            "forgets the + 1: n steps reach n + 1 places": output_shape_off_by_one,
            "takes every image for a square": output_shape_square,
        },
        hints=(
            "Go through the layers in order; each one's output size is the next one's input size.",
            "The number of channels after a layer is its out_channels, whatever came in.",
            "Along each axis: (size + 2 · padding − kernel_size) // stride + 1.",
        ),
    ),
    Exercise(
        "02.depthwise_conv2d",
        points=3,
        reference=depthwise_conv2d,
        cases=depthwise_cases,
        mutants={
            "flips the kernels": depthwise_flipped,
            "adds the channels up, as an ordinary convolution does": depthwise_summed,
            "uses the first channel's kernel everywhere": depthwise_shared,
            "pads the images": depthwise_padded,
        },
        hints=(
            "images.unfold(2, k, 1).unfold(3, k, 1) shows every window: (N, C, H − k + 1, W − k + 1, k, k).",
            "Multiply by kernels[:, None, None], which has the axes (C, 1, 1, k, k), and sum the last two.",
        ),
    ),
    Exercise(
        "02.relu",
        points=1,
        reference=relu,
        cases=relu_cases,
        mutants={
            "takes the absolute value": relu_absolute,
            "returns whether a value is positive, not the value": relu_sign,
            "keeps the negative values instead of the positive ones": relu_inverted,
        },
        hints=(
            "Compare each value with 0 and keep the larger one.",
            "torch.clamp has an argument min; torch.where chooses between two tensors.",
        ),
    ),
    Exercise(
        "02.avg_pool2d",
        points=2,
        reference=avg_pool2d,
        cases=avg_pool2d_cases,
        mutants={
            "adds up each window and does not divide": avg_pool2d_sum,
            "takes the largest value of each window": avg_pool2d_max,
            "divides by kernel_size once; a window has kernel_size² values": avg_pool2d_once,
            "moves the window by one pixel instead of a whole window": avg_pool2d_sliding,
        },
        hints=(
            "Give each window axes of its own: an axis of length H can be written as two, H / k and k.",
            "reshape(N, C, H // k, k, W // k, k), then a mean over two of the six axes.",
        ),
    ),
    Exercise(
        "02.log_softmax",
        points=2,
        reference=log_softmax,
        cases=log_softmax_cases,
        mutants={
            "takes exponentials that overflow": log_softmax_naive,
            "takes the logarithm of probabilities that have become 0": log_softmax_late,
            "normalises along the first axis": log_softmax_first_axis,
            "returns probabilities, not their logarithms": log_softmax_no_log,
        },
        hints=(
            "log(exp(a) / Σ exp(b)) = a − log Σ exp(b): no division is left.",
            "Adding a constant to all logits changes nothing, so subtract the largest one first.",
        ),
    ),
    Exercise(
        "02.count_conv_parameters",
        points=1,
        reference=count_conv_parameters,
        cases=count_cases,
        mutants={
            "ignores the groups": count_without_groups,
            "counts a bias for each input channel": count_bias_per_input,
            "counts the bias where there is none": count_always_bias,
            "divides the output channels by the groups too": count_both_divided,
        },
        hints=(
            "Every output channel has one kernel. How many input channels does that kernel see?",
            "With groups, a kernel sees in_channels / groups channels.",
        ),
    ),
    Exercise(
        "02.seen_pixels",
        2,
        seen_pixels,
        seen_cases,
        {
            "forgets the padding": seen_without_padding,
            "walks through the layers from the input on": seen_forwards,
            "adds the kernels up without the strides between them": seen_without_jump,
            "returns the first row that is not seen any more": seen_end_exclusive,
        },
        (
            "Go from the unit back to the image. Which rows of the map before it does a unit see?",
            "Unit i of a layer sees rows i · stride − padding to i · stride − padding + kernel_size − 1.",
            "Keep the first and the last row, and take both through the layers from the last to the first.",
        ),
    ),
]
