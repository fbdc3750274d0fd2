"""Exercises of lesson 06, classic architectures."""

import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.course.exercises import Exercise, normal


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


class SplitConv2d(nn.Module):
    """A convolution on several cards, none of which sees another's channels.

    Of in_channels channels the first card takes the first in_channels / cards, the second the next, and
    so on; each makes out_channels / cards maps of them with a convolution of its own, with a bias and
    padding kernel_size // 2: cards.0.weight, cards.0.bias, cards.1.weight … (kernel_size is odd.) The
    cards' maps stand one behind the other. (N, in_channels, H, W) → (N, out_channels, H, W), float.
    """

    def __init__(self, in_channels, out_channels, kernel_size, cards):
        super().__init__()
        seen, made = in_channels // cards, out_channels // cards
        self.cards = nn.ModuleList(
            nn.Conv2d(seen, made, kernel_size, padding=kernel_size // 2) for _ in range(cards)
        )

    def forward(self, images):
        parts = images.chunk(len(self.cards), dim=1)
        return torch.cat([card(part) for card, part in zip(self.cards, parts, strict=True)], dim=1)


class SplitDealt(SplitConv2d):
    def forward(self, images):
        cards = len(self.cards)
        return torch.cat([card(images[:, i::cards]) for i, card in enumerate(self.cards)], dim=1)


class SplitMixed(SplitConv2d):
    def forward(self, images):
        cards = len(self.cards)
        maps = super().forward(images).unflatten(1, (cards, -1))
        return maps.transpose(1, 2).flatten(1, 2)


class SplitFirst(SplitConv2d):
    def forward(self, images):
        part = images.chunk(len(self.cards), dim=1)[0]
        return torch.cat([card(part) for card in self.cards], dim=1) + 0 * images.sum()


class SplitWhole(SplitConv2d):
    def __init__(self, in_channels, out_channels, kernel_size, cards):
        super().__init__(in_channels * cards, out_channels, kernel_size, cards)

    def forward(self, images):
        return torch.cat([card(images) for card in self.cards], dim=1)


class SplitAdded(SplitConv2d):
    def __init__(self, in_channels, out_channels, kernel_size, cards):
        super().__init__(in_channels, out_channels * cards, kernel_size, cards)

    def forward(self, images):
        parts = images.chunk(len(self.cards), dim=1)
        return sum(card(part) for card, part in zip(self.cards, parts, strict=True))


def split_cases(rng):
    shapes = ((4, 6, 3, 2, 2, 5, 4), (6, 6, 1, 3, 1, 3, 3), (4, 8, 5, 2, 3, 6, 5), (3, 2, 3, 1, 2, 4, 4))
    return [
        {
            "arguments": {"in_channels": c, "out_channels": d, "kernel_size": k, "cards": cards},
            "training": bool(i % 2),
            "inputs": [normal(rng, n, c, h, w)],
        }
        for i, (c, d, k, cards, n, h, w) in enumerate(shapes)
    ]


class NetworkInNetwork(nn.Module):
    """Lin, Chen and Yan's network (2013): it has no linear layer, the mean of each last map is a logit.

    stages: rows (channels, kernel_size), kernel_size odd. A stage is three convolutions with `channels`
    outputs and a bias: one with that kernel_size and padding kernel_size // 2, then two of 1 × 1. A ReLU
    follows each but the very last one of the network. Between two stages, and nowhere else, stands a max
    pooling of 3 × 3 pixels, 2 apart. The convolutions are convs.0, convs.1, convs.2 (the first stage),
    convs.3 … The last stage has a channel for each class. (N, in_channels, H, W) → (N, classes), float.
    """

    def __init__(self, in_channels, stages):
        super().__init__()
        self.convs = nn.ModuleList()
        for channels, kernel_size in stages:
            self.convs.append(nn.Conv2d(in_channels, channels, kernel_size, padding=kernel_size // 2))
            self.convs.append(nn.Conv2d(channels, channels, 1))
            self.convs.append(nn.Conv2d(channels, channels, 1))
            in_channels = channels

    def forward(self, images):
        maps = self.convs[0](images)
        for i, conv in enumerate(self.convs[1:], start=1):
            maps = F.relu(maps)
            if i % 3 == 0:  # a new stage begins
                maps = F.max_pool2d(maps, 3, stride=2)
            maps = conv(maps)
        return maps.mean(dim=(2, 3))


class NetworkReLULast(NetworkInNetwork):
    def forward(self, images):
        maps = images
        for i, conv in enumerate(self.convs):
            if i and i % 3 == 0:
                maps = F.max_pool2d(maps, 3, stride=2)
            maps = F.relu(conv(maps))
        return maps.mean(dim=(2, 3))


class NetworkReLUOnce(NetworkInNetwork):
    def forward(self, images):
        maps = images
        for i, conv in enumerate(self.convs):
            if i and i % 3 == 0:
                maps = F.max_pool2d(F.relu(maps), 3, stride=2)
            maps = conv(maps)
        return maps.mean(dim=(2, 3))


class NetworkTiles(NetworkInNetwork):
    def forward(self, images):
        maps = self.convs[0](images)
        for i, conv in enumerate(self.convs[1:], start=1):
            maps = F.relu(maps)
            maps = conv(F.max_pool2d(maps, 2) if i % 3 == 0 else maps)
        return maps.mean(dim=(2, 3))


class NetworkLargest(NetworkInNetwork):
    def forward(self, images):
        maps = self.convs[0](images)
        for i, conv in enumerate(self.convs[1:], start=1):
            maps = F.relu(maps)
            maps = conv(F.max_pool2d(maps, 3, stride=2) if i % 3 == 0 else maps)
        return maps.amax(dim=(2, 3))


class NetworkPoolsFirst(NetworkInNetwork):
    def forward(self, images):
        maps = images
        for i, conv in enumerate(self.convs):
            maps = conv(maps)
            if i % 3 == 0 and i + 3 < len(self.convs):
                maps = F.max_pool2d(maps, 3, stride=2)
            if i + 1 < len(self.convs):
                maps = F.relu(maps)
        return maps.mean(dim=(2, 3))


def network_cases(rng):
    tables = (
        (1, [[4, 3], [3, 5]], (2, 1, 9, 8)),
        (2, [[5, 5], [4, 3], [2, 1]], (3, 2, 13, 11)),
        (3, [[4, 3]], (2, 3, 5, 6)),
        (2, [[3, 1], [4, 3]], (1, 2, 7, 7)),
    )
    return [
        {
            "arguments": {"in_channels": c, "stages": stages},
            "training": bool(i % 2),
            "inputs": [normal(rng, *shape)],
        }
        for i, (c, stages, shape) in enumerate(tables)
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
        "06.SplitConv2d",
        2,
        SplitConv2d,
        split_cases,
        {
            "deals the channels out in turn, as one deals cards": SplitDealt,
            "puts the cards' maps in turn": SplitMixed,
            "gives every card the first card's channels": SplitFirst,
            "shows all channels to every card": SplitWhole,
            "adds the cards' maps up": SplitAdded,
        },
        (
            "nn.ModuleList holds one nn.Conv2d a card. How many channels does each take, and make?",
            "images.chunk(n, dim=1) cuts the channels into n equal parts, in order.",
            "torch.cat(maps, dim=1) puts the maps of the cards one behind the other.",
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
    Exercise(
        "06.NetworkInNetwork",
        3,
        NetworkInNetwork,
        network_cases,
        {
            "has a ReLU behind the last convolution too": NetworkReLULast,
            "has a ReLU only where a stage ends": NetworkReLUOnce,
            "pools windows of 2 × 2, which do not overlap": NetworkTiles,
            "takes the largest value of a map for its mean": NetworkLargest,
            "pools behind the first convolution of a stage": NetworkPoolsFirst,
        },
        (
            "The table needs a loop that carries the number of channels along, as vgg_features does.",
            "Three convolutions belong to a stage: convs.i begins a new one where i % 3 == 0.",
            "Two things happen between stages and not at the end: put them in front of a convolution.",
            "maps.mean(dim=(2, 3)) turns (N, classes, h, w) into (N, classes).",
        ),
    ),
]
