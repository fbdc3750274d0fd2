"""Exercises of lesson 07, modern architectures."""

import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.course.exercises import Exercise, normal


def widest_reduction(in_channels, out_channels, kernel_size, times):
    """Return to how many channels a 1 × 1 convolution may reduce, in front of a larger kernel.

    A branch of in_channels → r by 1 × 1, then r → out_channels by kernel_size × kernel_size, should
    need at most 1/times of the multiply–adds of the larger kernel alone, which goes straight from
    in_channels to out_channels. All of them keep height and width. All arguments are ints >= 1.
    Returns the largest such r, an int; 0 if there is none.
    """
    direct = in_channels * out_channels * kernel_size**2  # multiply–adds of one pixel
    each = in_channels + out_channels * kernel_size**2  # of one reduced channel: made once, then used
    return direct // (times * each)


def widest_free(in_channels, out_channels, kernel_size, times):
    return in_channels // times


def widest_rounded_up(in_channels, out_channels, kernel_size, times):
    direct = in_channels * out_channels * kernel_size**2
    return -(-direct // (times * (in_channels + out_channels * kernel_size**2)))


def widest_unsquared(in_channels, out_channels, kernel_size, times):
    direct = in_channels * out_channels * kernel_size
    return direct // (times * (in_channels + out_channels * kernel_size))


def widest_same_kernel(in_channels, out_channels, kernel_size, times):
    return in_channels * out_channels // (times * (in_channels + out_channels))


def widest_cases(rng):
    cases = [[192, 32, 5, 9], [192, 128, 3, 2], [4, 64, 3, 50], [480, 208, 1, 1]]
    for _ in range(4):
        a, b = (int(n) for n in rng.integers(16, 513, 2))
        cases.append([a, b, int(rng.choice([3, 5, 7])), int(rng.integers(1, 9))])
    return cases


def add_shortcut(x, branch, stride):
    """Return ReLU(way around + branch), with a way around that has no parameters.

    x: (N, C, H, W) float tensor, the block's input.
    branch: (N, D, h, w), what the block's convolutions computed; D >= C, h = ⌈H / stride⌉,
        w = ⌈W / stride⌉, stride: int >= 1.
    The way around takes every stride-th pixel of x in both directions, beginning with the first,
    and appends channels of zeros after those of x until there are D. Returns (N, D, h, w).
    """
    out = branch.clone()
    out[:, : x.shape[1]] += x[:, :, ::stride, ::stride]  # a channel of zeros adds nothing
    return out.clamp(min=0)


def _shortcut(x, branch, stride):
    extra = branch.shape[1] - x.shape[1]
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, extra))


def shortcut_early_relu(x, branch, stride):
    return _shortcut(x, branch, stride) + branch.clamp(min=0)


def shortcut_without_relu(x, branch, stride):
    return _shortcut(x, branch, stride) + branch


def shortcut_averaged(x, branch, stride):
    pooled = F.avg_pool2d(x, stride, ceil_mode=True)
    return (_shortcut(pooled, branch, 1) + branch).clamp(min=0)


def shortcut_zeros_first(x, branch, stride):
    extra = branch.shape[1] - x.shape[1]
    around = F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, extra, 0))
    return (around + branch).clamp(min=0)


def shortcut_repeated(x, branch, stride):
    channels = torch.arange(branch.shape[1]) % x.shape[1]
    return (x[:, channels, ::stride, ::stride] + branch).clamp(min=0)


def shortcut_cases(rng):
    shapes = (
        (2, 3, 6, 6, 6, 2),
        (1, 2, 5, 7, 4, 2),
        (2, 4, 3, 3, 4, 1),
        (1, 3, 7, 8, 5, 3),
        (1, 1, 1, 1, 2, 2),
    )
    return [
        [normal(rng, n, c, h, w), normal(rng, n, d, -(-h // stride), -(-w // stride)), stride]
        for n, c, h, w, d, stride in shapes
    ]


def residual_gradients(x, weights, grad):
    """Return the loss's gradient with respect to every block's input, and to the last output.

    The network is x₀ = x, xₗ₊₁ = xₗ + ReLU(xₗ Wₗᵀ): a linear layer, a ReLU, the addition.
    x: (N, D) float tensor; weights: list of L float tensors (D, D), L >= 1; grad: (N, D), the
    gradient of the loss with respect to the last output, x_L.
    Returns (L + 1, N, D): first the gradient with respect to x₀, last the one to x_L, grad itself.
    """
    inputs = [x]
    for weight in weights:
        inputs.append(inputs[-1] + (inputs[-1] @ weight.T).clamp(min=0))
    grads = [grad]
    for weight, before in zip(reversed(weights), reversed(inputs[:-1]), strict=True):
        passed = grads[-1] * (before @ weight.T > 0)  # through the ReLU
        grads.append(grads[-1] + passed @ weight)  # the way around hands the gradient on as it is
    return torch.stack(grads[::-1])


def _backward(x, weights, grad, around=1, transposed=False, mask=None):
    inputs = [x]
    for weight in weights:
        inputs.append(inputs[-1] + (inputs[-1] @ weight.T).clamp(min=0))
    grads = [grad]
    for weight, before in zip(reversed(weights), reversed(inputs[:-1]), strict=True):
        passed = grads[-1] * (before @ weight.T > 0 if mask is None else mask(before))
        grads.append(around * grads[-1] + passed @ (weight.T if transposed else weight))
    return torch.stack(grads[::-1])


def gradients_plain(x, weights, grad):
    return _backward(x, weights, grad, around=0)


def gradients_linear(x, weights, grad):
    return _backward(x, weights, grad, mask=torch.ones_like)


def gradients_transposed(x, weights, grad):
    return _backward(x, weights, grad, transposed=True)


def gradients_wrong_mask(x, weights, grad):
    return _backward(x, weights, grad, mask=lambda before: before > 0)


def gradients_cases(rng):
    cases = []
    for n, d, depth in ((1, 3, 1), (4, 5, 2), (3, 6, 6), (2, 4, 12)):
        sure = False
        while not sure:  # a value next to ReLU's kink could round to either side
            x, weights = normal(rng, n, d), [0.7 * normal(rng, d, d) / d**0.5 for _ in range(depth)]
            h, sure = x, True
            for weight in weights:
                z = h @ weight.T
                sure, h = sure and bool(z.abs().min() > 1e-3), h + z.clamp(min=0)
        cases.append([x, weights, normal(rng, n, d)])
    return cases


class PreActivationBlock(nn.Module):
    """A residual block of two 3 × 3 convolutions with a batch norm and a ReLU BEFORE each of them.

    Parts: bn1, conv1, bn2, conv2, and shortcut, the way around. The convolutions have padding 1 and
    no bias; conv1 has the stride and changes the number of channels. Nothing follows the addition.
    Where input and output have one shape (stride 1, equal channels), x itself goes around, and there
    is no shortcut. Else shortcut is a strided 1 × 1 convolution without bias; it gets what conv1
    gets. x: (N, in_channels, H, W) float. Returns (N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x):
        active = F.relu(self.bn1(x))
        around = x if self.shortcut is None else self.shortcut(active)
        return around + self.conv2(F.relu(self.bn2(self.conv1(active))))


class PreActivationLastReLU(PreActivationBlock):
    def forward(self, x):
        return F.relu(super().forward(x))


class PreActivationRaw(PreActivationBlock):
    def forward(self, x):
        around = x if self.shortcut is None else self.shortcut(x)
        return around + self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))


class PreActivationAround(PreActivationBlock):
    def forward(self, x):
        active = F.relu(self.bn1(x))
        around = active if self.shortcut is None else self.shortcut(active)
        return around + self.conv2(F.relu(self.bn2(self.conv1(active))))


class PreActivationNoReLU(PreActivationBlock):
    def forward(self, x):
        active = self.bn1(x)
        around = x if self.shortcut is None else self.shortcut(active)
        return around + self.conv2(F.relu(self.bn2(self.conv1(active))))


class PreActivationLate(PreActivationBlock):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.conv1.stride, self.conv2.stride = (1, 1), (stride, stride)


class PreActivationAlways(PreActivationBlock):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


class PreActivationInPlace(PreActivationBlock):
    def forward(self, x):
        if self.shortcut is not None:
            return super().forward(x)
        x += self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        return x


def preactivation_cases(rng):
    shapes = ((3, 3, 1, 5, 4), (3, 4, 2, 5, 6), (2, 4, 1, 3, 3), (3, 3, 2, 6, 5), (4, 4, 1, 2, 5))
    return [
        {
            "arguments": {"in_channels": c, "out_channels": d} | ({"stride": stride} if i else {}),
            "training": i in (0, 1, 3),
            "inputs": [normal(rng, 2, c, h, w)],
        }
        for i, (c, d, stride, h, w) in enumerate(shapes)
    ]


def dense_kernels(weight, groups):
    """Return the kernels of an ordinary convolution that computes what a grouped one computes.

    weight: (out_channels, in_channels / groups, k, k) float tensor, the kernels of the grouped one
    as `nn.Conv2d` keeps them; groups: int, it divides out_channels.
    Returns (out_channels, in_channels, k, k), such that for all images F.conv2d(images, dense)
    equals F.conv2d(images, weight, groups=groups).
    """
    out_channels, each, k, _ = weight.shape
    dense = weight.new_zeros(groups, out_channels // groups, groups, each, k, k)
    for g, kernels in enumerate(weight.chunk(groups)):
        dense[g, :, g] = kernels  # group g sees the channels of group g, and no others
    return dense.reshape(out_channels, groups * each, k, k)


def dense_repeated(weight, groups):
    return weight.repeat(1, groups, 1, 1)


def dense_averaged(weight, groups):
    return weight.repeat(1, groups, 1, 1) / groups


def dense_interleaved_inputs(weight, groups):
    dense = dense_kernels(weight, groups)
    return dense.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def dense_interleaved_outputs(weight, groups):
    out_channels, each, k, _ = weight.shape
    dense = weight.new_zeros(out_channels, groups * each, k, k)
    for o in range(out_channels):
        g = o % groups
        dense[o, g * each : (g + 1) * each] = weight[o]
    return dense


def dense_first_group(weight, groups):
    return F.pad(weight, (0, 0, 0, 0, 0, weight.shape[1] * (groups - 1)))


def dense_cases(rng):
    shapes = ((8, 2, 3, 4), (4, 1, 3, 4), (6, 3, 1, 2), (3, 2, 2, 1), (12, 2, 3, 3))
    return [[normal(rng, out, each, k, k), groups] for out, each, k, groups in shapes]


def separable_kernels(weight):
    """Return the nearest kernels that a depthwise and then a 1 × 1 convolution can compute.

    weight: (out_channels, in_channels, k, k) float tensor, the kernels of an ordinary convolution.
    The depthwise convolution has one k × k kernel for each input channel, and the 1 × 1 convolution
    mixes the results; neither has a bias, and nothing stands between them. Nearest to weight: with
    the smallest sum of squared differences. Returns a tensor of weight's shape: the kernels of the
    ordinary convolution that equals the pair.
    """
    # dense[o, i] = pointwise[o, i] · depthwise[i]: for each i a matrix (out_channels, k²) of rank one
    matrices = weight.transpose(0, 1).flatten(2)  # (in_channels, out_channels, k²)
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    nearest = s[:, :1, None] * u[:, :, :1] * vh[:, :1]
    return nearest.transpose(0, 1).reshape(weight.shape)


def separable_by_output(weight):
    return separable_kernels(weight.transpose(0, 1)).transpose(0, 1)


def separable_one_filter(weight):
    u, s, vh = torch.linalg.svd(weight.flatten(0, 1).flatten(1), full_matrices=False)
    return (s[0] * u[:, :1] * vh[:1]).reshape(weight.shape)


def separable_mean(weight):
    depthwise = weight.mean(dim=0)  # (in_channels, k, k)
    fit = (weight * depthwise).sum(dim=(2, 3)) / depthwise.square().sum(dim=(1, 2))
    return fit[:, :, None, None] * depthwise


def separable_unscaled(weight):
    u, _, vh = torch.linalg.svd(weight.transpose(0, 1).flatten(2), full_matrices=False)
    return (u[:, :, :1] * vh[:, :1]).transpose(0, 1).reshape(weight.shape)


def separable_cases(rng):
    cases = []
    for out, channels, k in ((6, 4, 3), (3, 2, 5), (8, 3, 3), (4, 5, 1)):
        mixing, filters = (normal(rng, *shape).sign() for shape in ((out, channels, 1), (1, channels, k * k)))
        # a clear first singular value, and mixtures of both signs, so that a mean over the outputs misleads
        mixing[: out // 2], mixing[out // 2 : 2 * (out // 2)] = 1.0, -1.0
        weight = mixing * filters + 0.25 * normal(rng, out, channels, k * k)
        cases.append([weight.reshape(out, channels, k, k)])
    return cases


EXERCISES = [
    Exercise(
        "07.widest_reduction",
        points=1,
        reference=widest_reduction,
        cases=widest_cases,
        mutants={
            "forgets what the 1 × 1 convolution itself costs": widest_free,
            "rounds up, and so exceeds the budget": widest_rounded_up,
            "takes kernel_size where kernel_size² belongs": widest_unsquared,
            "counts every kernel as 1 × 1": widest_same_kernel,
        },
        hints=(
            "Height and width are the same everywhere, so count the multiply–adds of one pixel.",
            "One reduced channel costs in_channels to make and out_channels · kernel_size² to use.",
            "times · r · (cost of one reduced channel) ≤ in_channels · out_channels · kernel_size².",
        ),
    ),
    Exercise(
        "07.add_shortcut",
        points=1,
        reference=add_shortcut,
        cases=shortcut_cases,
        mutants={
            "applies the ReLU before the addition": shortcut_early_relu,
            "forgets the ReLU": shortcut_without_relu,
            "averages pixels instead of skipping them": shortcut_averaged,
            "puts the channels of zeros in front": shortcut_zeros_first,
            "repeats the channels instead of appending zeros": shortcut_repeated,
        },
        hints=(
            "A slice with a step takes every stride-th row and column.",
            "Adding a channel of zeros changes nothing: only the first C channels of branch get a sum.",
            "Clone branch before you add in place, and apply the ReLU last.",
        ),
    ),
    Exercise(
        "07.residual_gradients",
        points=2,
        reference=residual_gradients,
        cases=gradients_cases,
        mutants={
            "sends the gradient through the layers alone, not around them": gradients_plain,
            "ignores the ReLU on the way back": gradients_linear,
            "multiplies by the transposed weights on the way back": gradients_transposed,
            "blocks the gradient where the block's input, not the ReLU's, is negative": gradients_wrong_mask,
        },
        hints=(
            "Run the network forwards first and keep the input of each block.",
            "The output depends on x in two ways, x itself and ReLU(x Wᵀ); their gradients add up.",
            "Through the block: (g · [x Wᵀ > 0]) @ W. Around it: g. Their sum is the next g.",
        ),
        atol=1e-4,
    ),
    Exercise(
        "07.PreActivationBlock",
        points=2,
        reference=PreActivationBlock,
        cases=preactivation_cases,
        mutants={
            "applies a ReLU after the addition": PreActivationLastReLU,
            "projects x itself where the normalised and rectified x belongs": PreActivationRaw,
            "lets the rectified x go around where x itself belongs": PreActivationAround,
            "leaves out the first ReLU": PreActivationNoReLU,
            "gives the stride to the second convolution": PreActivationLate,
            "has a shortcut even where the shapes agree": PreActivationAlways,
            "adds to its input in place": PreActivationInPlace,
        },
        hints=(
            "bn1 normalises the input: how many channels has it? And bn2?",
            "Compute relu(bn1(x)) once; conv1 takes it, and so does shortcut where there is one.",
            "Set self.shortcut = None where it is not needed; then it adds no names to the state dict.",
        ),
        rtol=1e-3,
        atol=1e-4,
    ),
    Exercise(
        "07.dense_kernels",
        points=2,
        reference=dense_kernels,
        cases=dense_cases,
        mutants={
            "repeats the kernels where zeros belong": dense_repeated,
            "spreads each kernel over all groups": dense_averaged,
            "takes every groups-th input channel for a group": dense_interleaved_inputs,
            "takes every groups-th output channel for a group": dense_interleaved_outputs,
            "lets every group see the first group's channels": dense_first_group,
        },
        hints=(
            "Most of the dense kernels are zero: which input channels does output channel 0 see?",
            "Group g has the output channels from g · out_channels / groups on, and the input channels from "
            "g · in_channels / groups on: a block on the diagonal.",
        ),
    ),
    Exercise(
        "07.separable_kernels",
        points=3,
        reference=separable_kernels,
        cases=separable_cases,
        mutants={
            "gives each output channel, not each input channel, one kernel": separable_by_output,
            "shares one depthwise kernel among all input channels": separable_one_filter,
            "takes the mean over the output channels as the depthwise kernel": separable_mean,
            "leaves out the singular values": separable_unscaled,
        },
        hints=(
            "Write the kernels of the pair as one convolution: dense[o, i] = pointwise[o, i] · depthwise[i].",
            "So for each input channel i, weight[:, i] as a matrix (out_channels, k²) has to have rank one.",
            "The nearest matrix of rank one is the first term of the singular value decomposition, "
            "torch.linalg.svd: s₀ u₀ v₀ᵀ.",
        ),
        rtol=1e-3,
        atol=1e-4,
    ),
]
