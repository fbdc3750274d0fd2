"""Exercises of lesson 06, classic architectures."""

import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.course.exercises import Exercise, normal


def count_vgg(config, in_channels, hidden, num_classes):
    """Return the number of trained parameters of a VGG with batch norm, from its configuration.

    config: list of ints and "M". An int is a 3 × 3 convolution with bias and so many output
    channels, followed by a batch norm with scale and shift; "M" is a max-pooling. The maps that
    come out are brought to 7 × 7, flattened, and go through three linear layers with biases: two
    with `hidden` outputs, one with num_classes. Returns an int.
    """
    total = 0
    for item in config:
        if item != "M":
            total += (9 * in_channels + 1) * item + 2 * item
            in_channels = item
    widths = [49 * in_channels, hidden, hidden, num_classes]
    return total + sum((widths[i] + 1) * widths[i + 1] for i in range(3))


def count_no_norm(config, in_channels, hidden, num_classes):
    channels = sum(item for item in config if item != "M")
    return count_vgg(config, in_channels, hidden, num_classes) - 2 * channels


def count_running(config, in_channels, hidden, num_classes):
    channels = sum(item for item in config if item != "M")
    return count_vgg(config, in_channels, hidden, num_classes) + 2 * channels


def count_no_bias(config, in_channels, hidden, num_classes):
    biases = sum(item for item in config if item != "M") + 2 * hidden + num_classes
    return count_vgg(config, in_channels, hidden, num_classes) - biases


def count_no_flatten(config, in_channels, hidden, num_classes):
    last = [item for item in config if item != "M"][-1]
    return count_vgg(config, in_channels, hidden, num_classes) - 48 * last * hidden


def count_cases(rng):
    vgg16 = [64, 64, "M", 128, 128, "M", *[256, 256, 256, "M"], *[512, 512, 512, "M"] * 2]
    cases = [[vgg16, 3, 4096, 1000], [[8], 1, 5, 2]]
    for _ in range(3):
        widths = [int(w) for w in rng.integers(2, 40, 4)]
        config = [*widths[:1], "M", *widths[1:3], "M", "M", widths[3]]
        cases.append([config, int(rng.integers(1, 5)), int(rng.integers(3, 50)), int(rng.integers(2, 20))])
    return cases


def count_map_values(config, in_channels, size):
    """Return how many numbers training keeps for one image: the image and all feature maps.

    config: list of ints and "M". An int is a 3 × 3 convolution with padding 1 and so many output
    channels (its ReLU works in place and keeps nothing); "M" is a max-pooling of 2 × 2 with
    stride 2, which drops a last odd row and column. size: height and width of the image, in
    pixels. Returns a list: the total (an int), and the position in config of the item with the
    largest output, the first one where several are equal (an int).
    """
    total, channels, values = in_channels * size * size, in_channels, []
    for item in config:
        if item == "M":
            size //= 2
        else:
            channels = item
        values.append(channels * size * size)
    return [total + sum(values), values.index(max(values))]


def maps_no_pool(config, in_channels, size):
    total, largest, start = in_channels * size * size, -1, size
    for item in config:
        if item == "M":
            size //= 2
        else:
            total += item * size * size
    largest = count_map_values(config, in_channels, start)[1]
    return [total, largest]


def maps_no_image(config, in_channels, size):
    total, largest = count_map_values(config, in_channels, size)
    return [total - in_channels * size * size, largest]


def maps_rounded_up(config, in_channels, size):
    total, channels, values = in_channels * size * size, in_channels, []
    for item in config:
        if item == "M":
            size = (size + 1) // 2
        else:
            channels = item
        values.append(channels * size * size)
    return [total + sum(values), values.index(max(values))]


def maps_most_channels(config, in_channels, size):
    widths = [0 if item == "M" else item for item in config]
    return [count_map_values(config, in_channels, size)[0], widths.index(max(widths))]


def maps_cases(rng):
    cases = [[[64, 64, "M", 128, 128, "M", 256, 256, 256, "M"], 3, 224], [["M", 6, "M", 16, "M"], 1, 29]]
    for _ in range(3):
        widths = [int(w) for w in rng.integers(2, 30, 4)]
        config = [*widths[:2], "M", widths[2], "M", widths[3], "M"]
        cases.append([config, int(rng.integers(1, 4)), int(rng.integers(9, 64))])
    return cases


def subsampling_gradients(x, coefficient, grad):
    """Propagate a gradient back through LeNet-5's subsampling, without autograd.

    The layer computes y[n, c, i, j] = coefficient[c] · (sum of the 2 × 2 pixels of x) + bias[c].
    x: (N, C, H, W), H and W even; coefficient: (C,); grad: (N, C, H/2, W/2), ∂loss/∂y; all float.
    Returns a list of ∂loss/∂x (N, C, H, W), ∂loss/∂coefficient (C,) and ∂loss/∂bias (C,).
    """
    sums = 4 * F.avg_pool2d(x, 2)  # (N, C, H/2, W/2)
    spread = grad.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    to_x = coefficient[:, None, None] * spread
    return [to_x, (grad * sums).sum(dim=(0, 2, 3)), grad.sum(dim=(0, 2, 3))]


def gradients_of_mean(x, coefficient, grad):
    to_x, to_coefficient, to_bias = subsampling_gradients(x, coefficient, grad)
    return [to_x / 4, to_coefficient / 4, to_bias]


def gradients_tiled(x, coefficient, grad):
    _, to_coefficient, to_bias = subsampling_gradients(x, coefficient, grad)
    return [coefficient[:, None, None] * grad.repeat(1, 1, 2, 2), to_coefficient, to_bias]


def gradients_batch_mean(x, coefficient, grad):
    to_x, to_coefficient, to_bias = subsampling_gradients(x, coefficient, grad)
    return [to_x, to_coefficient / len(x), to_bias / len(x)]


def gradients_no_coefficient(x, coefficient, grad):
    _, to_coefficient, to_bias = subsampling_gradients(x, coefficient, grad)
    return [grad.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), to_coefficient, to_bias]


def subsampling_cases(rng):
    shapes = ((2, 1, 4, 4), (3, 2, 2, 6), (2, 4, 6, 2), (1, 3, 4, 6))
    return [[normal(rng, n, c, h, w), normal(rng, c) + 2, normal(rng, n, c, h // 2, w // 2)]
            for n, c, h, w in shapes]  # fmt: skip


def dense_logits(maps, weight, bias, size):
    """Apply a linear classifier at every place of maps that are larger than it was made for.

    VGG was tested like this on whole images (Simonyan & Zisserman 2014, sec. 3.2). The classifier
    takes maps of size × size, flattened by `flatten(1)`. Slide it over the larger maps with
    stride 1, and average its logits over all places.
    maps: (N, C, H, W), H and W ≥ size; weight: (K, C · size · size); bias: (K,); all float.
    Returns (N, K).
    """
    kernels = weight.reshape(len(weight), maps.shape[1], size, size)
    return F.conv2d(maps, kernels, bias).mean(dim=(2, 3))


def dense_channels_last(maps, weight, bias, size):
    kernels = weight.reshape(len(weight), size, size, maps.shape[1]).permute(0, 3, 1, 2)
    return F.conv2d(maps, kernels, bias).mean(dim=(2, 3))


def dense_centre(maps, weight, bias, size):
    top, left = (maps.shape[2] - size) // 2, (maps.shape[3] - size) // 2
    return maps[:, :, top : top + size, left : left + size].flatten(1) @ weight.T + bias


def dense_shrunk(maps, weight, bias, size):
    return F.adaptive_avg_pool2d(maps, size).flatten(1) @ weight.T + bias


def dense_largest(maps, weight, bias, size):
    kernels = weight.reshape(len(weight), maps.shape[1], size, size)
    return F.conv2d(maps, kernels, bias).amax(dim=(2, 3))


def dense_cases(rng):
    cases = []
    for n, c, h, w, size, k in (
        (1, 2, 5, 5, 3, 4),
        (3, 3, 7, 4, 2, 10),
        (2, 4, 3, 3, 3, 2),
        (2, 2, 6, 9, 4, 3),
    ):
        weight = normal(rng, k, c * size * size)
        cases.append([normal(rng, n, c, h, w), weight, normal(rng, k), size])
    return cases


def compose_kernels(first, second):
    """Return the one kernel that does the work of two convolutions with nothing between them.

    F.conv2d(F.conv2d(x, first), second) equals F.conv2d(x, composed) for every x: without a ReLU
    in between, depth adds nothing that a larger kernel could not do.
    first: (M, I, K, K), second: (O, M, L, L), float tensors. Returns (O, I, K + L − 1, K + L − 1).
    """
    reach = second.shape[2] - 1
    flipped = second.flip(2, 3)
    return F.conv2d(first.transpose(0, 1), flipped, padding=reach).transpose(0, 1)


def compose_unflipped(first, second):
    return F.conv2d(first.transpose(0, 1), second, padding=second.shape[2] - 1).transpose(0, 1)


def compose_flipped_first(first, second):
    return F.conv2d(first.flip(2, 3).transpose(0, 1), second, padding=second.shape[2] - 1).transpose(0, 1)


def compose_one_channel(first, second):
    return compose_kernels(first[:1], second[:, :1])


def compose_places(first, second):
    sums = torch.einsum("omkl,mi->oikl", second, first.sum(dim=(2, 3)))
    margin = first.shape[2] - 1
    return F.pad(sums, (margin // 2, margin - margin // 2) * 2)


def compose_cases(rng):
    shapes = ((2, 1, 3, 1, 3), (3, 2, 3, 4, 3), (2, 3, 1, 2, 3), (2, 2, 5, 3, 2))
    return [[normal(rng, m, i, k, k), normal(rng, o, m, size, size)] for m, i, k, o, size in shapes]


class VGGBlock(nn.Module):
    """A block of VGG: `depth` 3 × 3 convolutions, each with a ReLU behind it, and one 2 × 2 max pooling.

    They have padding 1 and a bias, named convs.0.weight, convs.0.bias, convs.1.weight and so on; the
    first one changes the channels. (N, in_channels, H, W) → (N, out_channels, H // 2, W // 2), float.
    """

    def __init__(self, in_channels, out_channels, depth):
        super().__init__()
        channels = [in_channels] + (depth - 1) * [out_channels]
        self.convs = nn.ModuleList(nn.Conv2d(c, out_channels, 3, padding=1) for c in channels)

    def forward(self, images):
        for conv in self.convs:
            images = F.relu(conv(images))
        return F.max_pool2d(images, 2)


class VGGBlockInList(nn.Module):
    def __init__(self, in_channels, out_channels, depth):
        super().__init__()
        channels = [in_channels] + (depth - 1) * [out_channels]
        self.convs = [nn.Conv2d(c, out_channels, 3, padding=1) for c in channels]

    def forward(self, images):
        for conv in self.convs:
            images = F.relu(conv(images))
        return F.max_pool2d(images, 2)


class VGGBlockShared(VGGBlock):
    def __init__(self, in_channels, out_channels, depth):
        super().__init__(in_channels, out_channels, 1)
        self.convs.extend((depth - 1) * [nn.Conv2d(out_channels, out_channels, 3, padding=1)])


class VGGBlockOneReLU(VGGBlock):
    def forward(self, images):
        for conv in self.convs:
            images = conv(images)
        return F.max_pool2d(F.relu(images), 2)


class VGGBlockPools(VGGBlock):
    def forward(self, images):
        for conv in self.convs:
            images = F.max_pool2d(F.relu(conv(images)), 2, ceil_mode=True)
        return images


class VGGBlockMean(VGGBlock):
    def forward(self, images):
        for conv in self.convs:
            images = F.relu(conv(images))
        return F.avg_pool2d(images, 2)


class VGGBlockInPlace(VGGBlock):
    def forward(self, images):
        for conv in self.convs:
            images = F.relu(conv(images.relu_()))
        return F.max_pool2d(images, 2)


def block_cases(rng):
    shapes = ((1, 3, 1, 2, 4, 4), (3, 2, 2, 1, 6, 4), (2, 4, 3, 2, 5, 7), (2, 2, 4, 1, 4, 5))
    return [
        {
            "arguments": {"in_channels": c, "out_channels": d, "depth": depth},
            "training": bool(i % 2),
            "inputs": [normal(rng, n, c, h, w)],
        }
        for i, (c, d, depth, n, h, w) in enumerate(shapes)
    ]


EXERCISES = [
    Exercise(
        "06.subsampling_gradients",
        2,
        subsampling_gradients,
        subsampling_cases,
        {
            "takes the mean of the pixels for their sum": gradients_of_mean,
            "puts whole copies of the gradient side by side": gradients_tiled,
            "averages over the batch": gradients_batch_mean,
            "forgets the coefficient on the way to x": gradients_no_coefficient,
        },
        (
            "Each pixel of x has a part in one value of y only, with the factor coefficient[c].",
            "repeat_interleave(2, dim=2), then dim=3, gives every pixel the gradient of its value of y.",
            "coefficient[c] and bias[c] have a part in every y of their channel: sum over n, i and j.",
        ),
    ),
    Exercise(
        "06.count_map_values",
        1,
        count_map_values,
        maps_cases,
        {
            "forgets what the poolings put out": maps_no_pool,
            "forgets the image itself": maps_no_image,
            "rounds an odd size up": maps_rounded_up,
            "takes the item with most channels for the largest": maps_most_channels,
        },
        (
            "Two things change along the list: the channels at an int, the size at an 'M'.",
            "Append channels · size · size for every item; then sum, and look for the largest.",
        ),
    ),
    Exercise(
        "06.VGGBlock",
        1,
        VGGBlock,
        block_cases,
        {
            "keeps its layers in a list that PyTorch does not look into": VGGBlockInList,
            "uses one convolution again and again": VGGBlockShared,
            "has no ReLU between the convolutions": VGGBlockOneReLU,
            "pools after every convolution": VGGBlockPools,
            "takes means where it should take maxima": VGGBlockMean,
            "changes its input in place": VGGBlockInPlace,
        },
        (
            "Which parameters does an optimizer get? Print list(VGGBlock(1, 8, 2).parameters()).",
            "nn.Module notices parameters, buffers and modules that are assigned to self. What is here?",
            "nn.ModuleList is a list that is a module.",
        ),
        given=VGGBlockInList,
    ),
    Exercise(
        "06.compose_kernels",
        3,
        compose_kernels,
        compose_cases,
        {
            "forgets to flip the second kernel": compose_unflipped,
            "flips the first kernel in place of the second": compose_flipped_first,
            "follows one channel in the middle and forgets the sum over them": compose_one_channel,
            "keeps the second kernel and adds up the first one": compose_places,
        },
        (
            "Put an x that is 1 in one place into both convolutions: what comes out shows the kernel.",
            "composed[o, i] is a sum over m: kernel second[o, m], slid over first[m, i] with padding L − 1.",
            "F.conv2d slides without flipping; here one of the two must be flipped: second, in both axes.",
        ),
        atol=1e-4,
    ),
    Exercise(
        "06.count_vgg",
        1,
        count_vgg,
        count_cases,
        {
            "forgets the scale and shift of batch norm": count_no_norm,
            "counts the running statistics as trained": count_running,
            "forgets the biases": count_no_bias,
            "forgets that a channel has 7 × 7 values when it is flattened": count_no_flatten,
        },
        (
            "A convolution has 9 · in_channels + 1 parameters for each output channel; batch norm has 2.",
            "Carry the number of channels along. The first linear layer has 49 · channels inputs.",
        ),
    ),
    Exercise(
        "06.dense_logits",
        2,
        dense_logits,
        dense_cases,
        {
            "takes the channels for the last axis of the flattened maps": dense_channels_last,
            "looks at the middle only": dense_centre,
            "shrinks the maps to the classifier's size": dense_shrunk,
            "takes the largest logit over the places": dense_largest,
        },
        (
            "A linear layer on a window of size × size is a convolution with a kernel of that size.",
            "Reshape the weight to (K, C, size, size), which is the order that flatten(1) reads in.",
        ),
        atol=1e-4,
    ),
]
