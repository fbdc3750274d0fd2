"""Exercises of lesson 02, the parts of a CNN."""

from itertools import product

import torch
import torch.nn.functional as F

from cnnlib.course.exercises import Exercise, normal


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


def conv2d_same(images, weight, dilation):
    """Return maps as large as the images: zeros are put around them, then windows move by one pixel.

    images: (N, in_channels, H, W) float tensor; weight: (out_channels, in_channels, kh, kw), kernels of any
    height and width; dilation: int, the distance of neighbouring taps. Where zeros cannot be shared evenly by
    both ends, the bottom and the right get one more. Returns (N, out_channels, H, W).
    """
    high, wide = (dilation * (k - 1) for k in weight.shape[2:])  # zeros at both ends together
    pads = [wide // 2, wide - wide // 2, high // 2, high - high // 2]  # F.pad takes the last axis first
    return F.conv2d(F.pad(images, pads), weight, dilation=dilation)


def conv2d_same_rounded_up(images, weight, dilation):
    pads = []  # zeros at the two ends of each axis
    for k in weight.shape[2:]:
        pads += [dilation * (k // 2)] * 2
    return F.conv2d(F.pad(images, pads), weight, dilation=dilation)


def conv2d_same_odd_only(images, weight, dilation):
    high, wide = (dilation * (k // 2) for k in weight.shape[2:])
    return F.conv2d(F.pad(images, [wide, wide, high, high]), weight, dilation=dilation)


def conv2d_same_axes(images, weight, dilation):
    high, wide = (dilation * (k - 1) for k in weight.shape[2:])
    pads = [high // 2, high - high // 2, wide // 2, wide - wide // 2]
    return F.conv2d(F.pad(images, pads), weight, dilation=dilation)


def conv2d_same_early(images, weight, dilation):
    high, wide = (dilation * (k - 1) for k in weight.shape[2:])
    pads = [wide - wide // 2, wide // 2, high - high // 2, high // 2]
    return F.conv2d(F.pad(images, pads), weight, dilation=dilation)


def conv2d_same_undilated(images, weight, dilation):
    high, wide = (k - 1 for k in weight.shape[2:])
    pads = [wide // 2, wide - wide // 2, high // 2, high - high // 2]
    return F.conv2d(F.pad(images, pads), weight, dilation=dilation)


def conv2d_same_cases(rng):
    shapes = ((2, 3, 7, 9, 4, 3, 3, 1), (1, 2, 6, 8, 3, 3, 5, 1), (1, 1, 8, 8, 2, 2, 2, 1))
    shapes += ((2, 2, 9, 7, 2, 4, 3, 2), (1, 2, 9, 9, 1, 2, 4, 3))
    return [
        [normal(rng, n, c, h, w), normal(rng, out, c, kh, kw), dilation]
        for n, c, h, w, out, kh, kw, dilation in shapes
    ]


def conv2d_backward(images, weight, grad, stride, padding):
    """Return a loss's gradients by the images, the weights and the bias of a convolution: a list of three.

    images: (N, in_channels, H, W) float tensor, before the zeros are put around it; weight: (out_channels,
    in_channels, kh, kw); grad: the loss's gradient by F.conv2d(images, weight, bias, stride, padding);
    stride, padding: ints. The results have the shapes of images, weight and bias. Do it without autograd.
    """
    size, kernel = images.shape[2:], weight.shape[2:]
    columns = F.unfold(images, kernel, padding=padding, stride=stride)  # (N, in_channels·kh·kw, windows)
    grad = grad.flatten(2)  # (N, out_channels, windows)
    by_weight = (grad @ columns.mT).sum(dim=0).view_as(weight)
    spread = weight.flatten(1).T @ grad  # what each window hands to the pixels beneath it
    by_images = F.fold(spread, size, kernel, padding=padding, stride=stride)  # overlaps add up
    return [by_images, by_weight, grad.sum(dim=(0, 2))]


def conv2d_backward_unflipped(images, weight, grad, stride, padding):
    by_images, _, _ = conv2d_backward(images, weight.flip(2, 3), grad, stride, padding)
    return [by_images, *conv2d_backward(images, weight, grad, stride, padding)[1:]]


def conv2d_backward_mean(images, weight, grad, stride, padding):
    by_images, by_weight, by_bias = conv2d_backward(images, weight, grad, stride, padding)
    return [by_images, by_weight / len(images), by_bias / len(images)]


def conv2d_backward_overwritten(images, weight, grad, stride, padding):
    (height, width), (kh, kw) = images.shape[2:], weight.shape[2:]
    by_images = F.pad(torch.zeros_like(images), [padding] * 4)
    for i, j in product(*map(range, grad.shape[2:])):
        spread = torch.einsum("nk,kcuv->ncuv", grad[:, :, i, j], weight)
        by_images[:, :, i * stride : i * stride + kh, j * stride : j * stride + kw] = spread
    by_images = by_images[:, :, padding : padding + height, padding : padding + width]
    return [by_images, *conv2d_backward(images, weight, grad, stride, padding)[1:]]


def conv2d_backward_side_by_side(images, weight, grad, stride, padding):
    rest = [n + 2 * padding - k + 1 for n, k in zip(images.shape[2:], weight.shape[2:], strict=True)]
    grad = F.pad(grad, [0, rest[1] - grad.shape[3], 0, rest[0] - grad.shape[2]])
    return conv2d_backward(images, weight, grad, 1, padding)


def conv2d_backward_padded(images, weight, grad, stride, padding):
    return conv2d_backward(F.pad(images, [padding] * 4), weight, grad, stride, 0)


def conv2d_backward_cases(rng):
    shapes = ((1, 1, 5, 5, 1, 3, 3, 1, 0), (2, 2, 6, 5, 3, 3, 3, 1, 1), (2, 3, 8, 7, 2, 3, 3, 2, 1))
    shapes += ((1, 2, 7, 9, 2, 2, 3, 3, 0), (3, 2, 9, 9, 4, 5, 4, 2, 2))
    cases = []
    for n, c, h, w, out, kh, kw, stride, padding in shapes:
        size = [(a + 2 * padding - k) // stride + 1 for a, k in ((h, kh), (w, kw))]
        images, weight = normal(rng, n, c, h, w), normal(rng, out, c, kh, kw)
        cases.append([images, weight, normal(rng, n, out, *size), stride, padding])
    return cases


def max_pool2d_backward(images, grad, kernel_size, stride):
    """Return a loss's gradient by the images of a max pooling.

    images: (N, C, H, W) float tensor; grad: the loss's gradient by F.max_pool2d(images, kernel_size, stride);
    kernel_size, stride: ints; with a stride below kernel_size windows overlap. Of several largest values in a
    window only the first counts, row by row. Returns a tensor shaped as the images. Do it without autograd.
    """
    windows = images.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).flatten(4)
    winner = windows.argmax(dim=4)  # (N, C, rows, columns): its place in the window, the first of equals
    rows, columns = (stride * torch.arange(n) for n in winner.shape[2:])  # where the windows begin
    row, column = rows[:, None] + winner // kernel_size, columns + winner % kernel_size
    place = (row * images.shape[3] + column).flatten(2)
    return torch.zeros_like(images.flatten(2)).scatter_add(2, place, grad.flatten(2)).view_as(images)


def max_pool2d_backward_shared(images, grad, kernel_size, stride):
    return _pool_backward(images, grad, kernel_size, stride, lambda window: (window == window.max()).float())


def max_pool2d_backward_last(images, grad, kernel_size, stride):
    def last(window):
        place = window.numel() - 1 - window.flatten().flip(0).argmax()
        return F.one_hot(place, window.numel()).view_as(window)

    return _pool_backward(images, grad, kernel_size, stride, last)


def max_pool2d_backward_evenly(images, grad, kernel_size, stride):
    def evenly(window):
        return torch.full_like(window, 1 / window.numel())

    return _pool_backward(images, grad, kernel_size, stride, evenly)


def max_pool2d_backward_overwritten(images, grad, kernel_size, stride):
    result = torch.zeros_like(images)
    for n, c, i, j in product(*map(range, grad.shape)):
        top, left = i * stride, j * stride
        place = images[n, c, top : top + kernel_size, left : left + kernel_size].argmax().item()
        result[n, c, top + place // kernel_size, left + place % kernel_size] = grad[n, c, i, j]
    return result


def _pool_backward(images, grad, kernel_size, stride, shares):
    """Return the gradient of a pooling that gives each pixel of a window such a share of it."""
    result = torch.zeros_like(images)
    for n, c, i, j in product(*map(range, grad.shape)):
        here = n, c, *(slice(a * stride, a * stride + kernel_size) for a in (i, j))
        result[here] += grad[n, c, i, j] * shares(images[here])
    return result


def max_pool2d_backward_cases(rng):
    shapes = ((1, 1, 4, 4, 2, 2), (2, 3, 7, 6, 3, 2), (2, 2, 6, 6, 3, 1), (1, 2, 8, 7, 2, 3))
    cases = []
    for n, c, h, w, kernel_size, stride in shapes:
        size = [(a - kernel_size) // stride + 1 for a in (h, w)]
        images = torch.from_numpy(rng.integers(-1, 2, (n, c, h, w))).float()  # many are equal
        images = images if stride < 3 else normal(rng, n, c, h, w)
        cases.append([images, normal(rng, n, c, *size), kernel_size, stride])
    return cases


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
        "02.conv2d_same",
        points=2,
        reference=conv2d_same,
        cases=conv2d_same_cases,
        given=conv2d_same_rounded_up,
        mutants={
            "rounds up, and pads the wrong axis": conv2d_same_rounded_up,
            "pads kernels of even size too much": conv2d_same_odd_only,
            "gives the height's zeros to the width": conv2d_same_axes,
            "gives the odd zero to the top and the left": conv2d_same_early,
            "forgets the dilation when it counts the zeros": conv2d_same_undilated,
        },
        hints=(
            "Which of your own kernels come out right: 3 × 3, 3 × 5, 2 × 2? There is more than one fault.",
            "An output as large as the image needs dilation · (k − 1) zeros at both ends together; for which "
            "k is that twice dilation · (k // 2)?",
            "F.pad takes the numbers of the last axis first: left, right, top, bottom.",
        ),
    ),
    Exercise(
        "02.conv2d_backward",
        points=3,
        reference=conv2d_backward,
        cases=conv2d_backward_cases,
        mutants={
            "turns the kernel when it hands the gradient to the pixels": conv2d_backward_unflipped,
            "averages over the images of a batch instead of adding up": conv2d_backward_mean,
            "lets a later window overwrite an earlier one where they overlap": conv2d_backward_overwritten,
            "sets the windows one pixel apart, whatever the stride": conv2d_backward_side_by_side,
            "returns a gradient of the padding's zeros as well": conv2d_backward_padded,
        },
        hints=(
            "Start with loops: the window of output (i, j) begins at row i · stride of the padded image. Of "
            "its gradient g = grad[n, k, i, j] the pixels beneath it get g · weight[k], and weight[k] gets "
            "g · these pixels.",
            "Pad the images first, add everything up on the padded size, and cut the padding off at the end.",
            "Without loops: F.unfold gives the windows as columns, the weights' gradient is a product with "
            "them; F.fold is its counterpart, which adds columns up where they overlap.",
        ),
    ),
    Exercise(
        "02.max_pool2d_backward",
        points=3,
        reference=max_pool2d_backward,
        cases=max_pool2d_backward_cases,
        mutants={
            "gives the gradient to every largest value of a window": max_pool2d_backward_shared,
            "takes the last of several largest values": max_pool2d_backward_last,
            "spreads the gradient evenly over the window": max_pool2d_backward_evenly,
            "lets a later window overwrite an earlier one": max_pool2d_backward_overwritten,
        },
        hints=(
            "For each window: where is its largest value? Add the window's gradient at that place.",
            "argmax of a flattened window returns the first of several largest values; its row is that "
            "number // kernel_size, its column the rest.",
            "A pixel may win several windows, so add: +=, not =.",
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
