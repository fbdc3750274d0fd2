"""Exercises of lesson 07, modern architectures."""

import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.course.exercises import Exercise, normal
from cnnlib.models.densenet import DenseLayer
from cnnlib.models.efficientnet import ConvBlock
from cnnlib.models.resnet import BasicBlock, projection


class FourBranches(nn.Module):
    """An Inception block: four branches, stacked in the order one, three, five, pooled.

    x: (N, in_channels, H, W) float. Returns (N, 4 · out_channels, H, W).
    """

    def __init__(self, in_channels, reduced, out_channels):
        super().__init__()
        reduce3, reduce5 = nn.Conv2d(in_channels, reduced, 1), nn.Conv2d(in_channels, reduced, 1)
        self.one = nn.Conv2d(in_channels, out_channels, 1)
        self.three = nn.Sequential(reduce3, nn.ReLU(), nn.Conv2d(reduced, out_channels, 3, padding=1))
        self.five = nn.Sequential(reduce5, nn.ReLU(), nn.Conv2d(reduced, out_channels, 5, padding=2))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), nn.Conv2d(in_channels, out_channels, 1))

    def forward(self, x):
        branches = [self.one(x), self.three(x), self.five(x), self.pooled(x)]
        return torch.relu(torch.cat(branches, dim=1))


class BranchesGiven(nn.Module):
    def __init__(self, in_channels, reduced, out_channels):
        super().__init__()
        reduce = nn.Conv2d(in_channels, reduced, 1)
        self.one = nn.Conv2d(in_channels, out_channels, 1)
        self.three = nn.Sequential(reduce, nn.ReLU(), nn.Conv2d(reduced, out_channels, 3, padding=1))
        self.five = nn.Sequential(reduce, nn.ReLU(), nn.Conv2d(reduced, out_channels, 5, padding=2))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), nn.Conv2d(in_channels, out_channels, 1))

    def forward(self, x):
        branches = [self.one(x), self.three(x), self.five(x), self.pooled(x)]
        return torch.relu(torch.cat(branches, dim=1))


class BranchesAnotherOrder(FourBranches):
    def forward(self, x):
        branches = [self.one(x), self.five(x), self.three(x), self.pooled(x)]
        return torch.relu(torch.cat(branches, dim=1))


class BranchesMean(FourBranches):
    def __init__(self, in_channels, reduced, out_channels):
        super().__init__(in_channels, reduced, out_channels)
        self.pooled[0] = nn.AvgPool2d(3, stride=1, padding=1)


class BranchesNoReLU(FourBranches):
    def __init__(self, in_channels, reduced, out_channels):
        super().__init__(in_channels, reduced, out_channels)
        self.three[1] = self.five[1] = nn.Identity()


def in_both_modes(rng, names, shapes):
    """Return a module's cases, in training and evaluation mode in turn.

    A shape holds the arguments, in_channels first, and the images' height and width.
    """
    return [
        {
            "arguments": dict(zip(names, arguments, strict=True)),
            "training": i % 2 == 0,
            "inputs": [normal(rng, 2, arguments[0], height, width)],
        }
        for i, (*arguments, height, width) in enumerate(shapes)
    ]


def branches_cases(rng):
    shapes = ((3, 2, 4, 6, 5), (4, 3, 2, 5, 7), (2, 1, 3, 4, 4), (5, 2, 2, 3, 6))
    return in_both_modes(rng, ("in_channels", "reduced", "out_channels"), shapes)


class ResNet18(nn.Module):
    """ResNet-18, such that it takes torchvision's state dict.

    Parts: conv1, bn1; layer1, layer2, layer3, layer4, each an nn.Sequential of two BasicBlocks; fc.
    widths: four ints, the channels of the four stages; the stem has as many as the first. (64, 128, 256,
        512) is ResNet-18; smaller ones make tests quick.
    images: (N, 3, H, W) float. Returns logits (N, num_classes).
    """

    def __init__(self, widths=(64, 128, 256, 512), num_classes=1000):
        super().__init__()
        first, second, third, fourth = widths
        self.conv1 = nn.Conv2d(3, first, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.layer1 = nn.Sequential(BasicBlock(first, first), BasicBlock(first, first))
        self.layer2 = nn.Sequential(BasicBlock(first, second, 2), BasicBlock(second, second))
        self.layer3 = nn.Sequential(BasicBlock(second, third, 2), BasicBlock(third, third))
        self.layer4 = nn.Sequential(BasicBlock(third, fourth, 2), BasicBlock(fourth, fourth))
        self.fc = nn.Linear(fourth, num_classes)

    def forward(self, images):
        return self.fc(self.features(images).mean(dim=(2, 3)))

    def features(self, images):
        x = torch.relu(self.bn1(self.conv1(images)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class ResNet18NoPool(ResNet18):
    def features(self, images):
        x = torch.relu(self.bn1(self.conv1(images)))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class ResNet18SmallPool(ResNet18):
    def features(self, images):
        x = F.max_pool2d(torch.relu(self.bn1(self.conv1(images))), 2)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class ResNet18NoReLU(ResNet18):
    def features(self, images):
        x = F.max_pool2d(self.bn1(self.conv1(images)), 3, stride=2, padding=1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class ResNet18LateStride(ResNet18):
    def __init__(self, widths=(64, 128, 256, 512), num_classes=1000):
        super().__init__(widths, num_classes)
        for block in (self.layer2[0], self.layer3[0], self.layer4[0]):
            block.conv1.stride, block.conv2.stride = (1, 1), (2, 2)


def resnet18_cases(rng):
    shapes = (((3, 4, 5, 6), 4, 33, 33), ((2, 3, 4, 4), 3, 40, 34), ((3, 3, 4, 5), 2, 35, 36))
    return [
        {
            "arguments": {"widths": list(widths), "num_classes": classes},
            "training": i == 1,
            "inputs": [normal(rng, 2, 3, h, w)],
        }
        for i, (widths, classes, h, w) in enumerate(shapes)
    ]


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


class SEResidualBlock(nn.Module):
    """BasicBlock with squeeze-and-excitation: what is added to the input is weighed channel by channel.

    Parts: conv1, bn1, conv2, bn2 as in BasicBlock; squeeze, a linear layer to out_channels // 4 values;
    restore, a linear layer back to out_channels; both with biases, and a ReLU between. Where input and
    output differ in shape, downsample is the way around: projection(in_channels, out_channels, stride); else
    x itself goes around, and there are no further parameters.
    x: (N, in_channels, H, W) float. Returns (N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.squeeze = nn.Linear(out_channels, out_channels // 4)
        self.restore = nn.Linear(out_channels // 4, out_channels)
        self.downsample = projection(in_channels, out_channels, stride)

    def branch(self, x):
        return self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))

    def gate(self, values):
        values = self.restore(torch.relu(self.squeeze(values)))  # (N, out_channels)
        return torch.sigmoid(values)[:, :, None, None]

    def forward(self, x):
        branch = self.branch(x)
        weighed = branch * self.gate(branch.mean(dim=(2, 3)))
        return torch.relu(self.downsample(x) + weighed)


class SEAfterAddition(SEResidualBlock):
    def forward(self, x):
        out = torch.relu(self.downsample(x) + self.branch(x))
        return out * self.gate(out.mean(dim=(2, 3)))


class SEOfTheSum(SEResidualBlock):
    def forward(self, x):
        branch, around = self.branch(x), self.downsample(x)
        return torch.relu(around + branch * self.gate((branch + around).mean(dim=(2, 3))))


class SEMaximum(SEResidualBlock):
    def forward(self, x):
        branch = self.branch(x)
        return torch.relu(self.downsample(x) + branch * self.gate(branch.amax(dim=(2, 3))))


class SESoftmax(SEResidualBlock):
    def gate(self, values):
        return self.restore(torch.relu(self.squeeze(values))).softmax(dim=1)[:, :, None, None]


class SELinear(SEResidualBlock):
    def gate(self, values):
        return torch.sigmoid(self.restore(self.squeeze(values)))[:, :, None, None]


class SENoLastReLU(SEResidualBlock):
    def forward(self, x):
        branch = self.branch(x)
        return self.downsample(x) + branch * self.gate(branch.mean(dim=(2, 3)))


def se_cases(rng):
    shapes = ((8, 8, 1, 5, 4), (4, 8, 2, 5, 6), (8, 12, 1, 3, 3), (4, 4, 2, 6, 5))
    return [
        {
            "arguments": {"in_channels": c, "out_channels": d} | ({"stride": stride} if i else {}),
            "training": i in (0, 1),
            "inputs": [normal(rng, 2, c, h, w)],
        }
        for i, (c, d, stride, h, w) in enumerate(shapes)
    ]


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


class DenseBlock(nn.Module):
    """DenseNet's block: each of its layers gets all that stands before it, and adds growth channels.

    Parts: denselayer1, denselayer2, … in torchvision's names, each a DenseLayer; there are `layers` of them.
    The output holds the block's input first, then what the layers have found, in their order.
    x: (N, in_channels, H, W) float. Returns (N, in_channels + layers · growth, H, W).
    """

    def __init__(self, in_channels, growth, layers):
        super().__init__()
        for i in range(layers):
            self.add_module(f"denselayer{i + 1}", DenseLayer(in_channels + i * growth, growth))

    def forward(self, x):
        for layer in self.children():  # in the order of __init__
            x = torch.cat([x, layer(x)], dim=1)
        return x


class DenseNewFirst(DenseBlock):
    def forward(self, x):
        for layer in self.children():
            x = torch.cat([layer(x), x], dim=1)
        return x


class DenseInputLast(DenseBlock):
    def forward(self, x):
        channels = x.shape[1]
        out = super().forward(x)
        return torch.cat([out[:, channels:], out[:, :channels]], dim=1)


class DenseOnlyNew(DenseBlock):
    def forward(self, x):
        return super().forward(x)[:, x.shape[1] :]


class DenseActive(DenseBlock):
    def forward(self, x):
        for layer in self.children():
            x = torch.cat([x, F.relu(layer(x))], dim=1)
        return x


class DenseNarrow(DenseBlock):
    def __init__(self, in_channels, growth, layers):
        super().__init__(in_channels, growth, layers)
        for i in range(layers):
            self.add_module(f"denselayer{i + 1}", DenseLayer(in_channels if i == 0 else growth, growth))


def dense_block_cases(rng):
    shapes = ((3, 2, 3, 5, 4), (4, 1, 2, 3, 6), (2, 3, 1, 4, 4), (2, 2, 4, 3, 3))
    return in_both_modes(rng, ("in_channels", "growth", "layers"), shapes)


class InvertedResidual(nn.Module):
    """MobileNetV2's block, such that it takes the state dict of torchvision's.

    Part: conv, an nn.Sequential of, in this order: a ConvBlock that widens to expand_ratio · in_channels
    (where expand_ratio is 1, there is none); a ConvBlock that filters each channel with 3 × 3; and, not in
    a ConvBlock, the convolution that narrows to out_channels, without bias, and its batch norm. The
    activation is ReLU6. With stride 1 and out_channels equal to in_channels the input is added.
    x: (N, in_channels, H, W) float. Returns (N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    def __init__(self, in_channels, out_channels, stride=1, expand_ratio=6):
        super().__init__()
        wide = expand_ratio * in_channels
        widen = [ConvBlock(in_channels, wide, 1, activation=nn.ReLU6)] if expand_ratio != 1 else []
        depthwise = ConvBlock(wide, wide, 3, stride, groups=wide, activation=nn.ReLU6)
        narrow = nn.Conv2d(wide, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
        self.conv = nn.Sequential(*widen, depthwise, *narrow)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class InvertedLastReLU(InvertedResidual):
    def forward(self, x):
        out = F.relu6(self.conv(x))
        return x + out if self.residual else out


class InvertedReLUAfterAddition(InvertedResidual):
    def forward(self, x):
        return F.relu6(super().forward(x))


class InvertedNotAdded(InvertedResidual):
    def forward(self, x):
        return self.conv(x)


class InvertedFull(InvertedResidual):
    def __init__(self, in_channels, out_channels, stride=1, expand_ratio=6):
        super().__init__(in_channels, out_channels, stride, expand_ratio)
        wide = expand_ratio * in_channels
        self.conv[-3] = ConvBlock(wide, wide, 3, stride, activation=nn.ReLU6)


class InvertedReLU(InvertedResidual):
    def __init__(self, in_channels, out_channels, stride=1, expand_ratio=6):
        super().__init__(in_channels, out_channels, stride, expand_ratio)
        for block in self.conv[:-2]:
            block[2] = nn.ReLU()


class InvertedEarlyStride(InvertedResidual):
    def __init__(self, in_channels, out_channels, stride=1, expand_ratio=6):
        super().__init__(in_channels, out_channels, stride, expand_ratio)
        if expand_ratio != 1:
            self.conv[0][0].stride, self.conv[1][0].stride = (stride, stride), (1, 1)


class InvertedAlwaysWidens(InvertedResidual):
    def __init__(self, in_channels, out_channels, stride=1, expand_ratio=6):
        super().__init__(in_channels, out_channels, stride, expand_ratio)
        if expand_ratio == 1:
            self.conv.insert(0, ConvBlock(in_channels, in_channels, 1, activation=nn.ReLU6))


def inverted_cases(rng):
    shapes = (
        (4, 4, 1, 6, 5, 4),
        (3, 5, 1, 4, 4, 6),
        (4, 6, 2, 6, 5, 7),
        (3, 3, 2, 2, 6, 5),
        (4, 4, 1, 1, 4, 5),
    )
    return [
        {
            "arguments": {"in_channels": c, "out_channels": d}
            | ({"stride": stride, "expand_ratio": ratio} if i else {}),
            "training": i in (1, 2),
            "inputs": [8 * normal(rng, 2, c, h, w)],  # large, so that some values go beyond 6
        }
        for i, (c, d, stride, ratio, h, w) in enumerate(shapes)
    ]


class ChannelsFirstBlock(nn.Module):
    """ConvNeXt's block without turning the axes: every tensor in it is (N, channels or 4 · channels, H, W).

    Parts: depthwise, the 7 × 7 convolution with bias; weight and bias (channels,), what the layer norm
    multiplies by and adds; widen and narrow, convolutions with bias in the place of the linear layers; scale
    (channels,). The layer norm adds 1e-6 to the variance. x: (N, channels, H, W) float. Returns x's shape.
    """

    def __init__(self, channels):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.widen = nn.Conv2d(channels, 4 * channels, 1)
        self.narrow = nn.Conv2d(4 * channels, channels, 1)
        self.scale = nn.Parameter(torch.full((channels,), 1e-6))

    def norm(self, x, dims=(1,), unbiased=False):
        mean, var = x.mean(dim=dims, keepdim=True), x.var(dim=dims, keepdim=True, unbiased=unbiased)
        return (x - mean) / (var + 1e-6).sqrt()

    def branch(self, x):
        normed = self.norm(self.depthwise(x))
        normed = normed * self.weight[:, None, None] + self.bias[:, None, None]
        return self.narrow(F.gelu(self.widen(normed)))

    def forward(self, x):
        return x + self.scale[:, None, None] * self.branch(x)


class FirstOverPositions(ChannelsFirstBlock):
    def norm(self, x):
        return super().norm(x, dims=(2, 3))


class FirstOverAll(ChannelsFirstBlock):
    def norm(self, x):
        return super().norm(x, dims=(1, 2, 3))


class FirstUnbiased(ChannelsFirstBlock):
    def norm(self, x):
        return super().norm(x, unbiased=True)


class FirstReLU(ChannelsFirstBlock):
    def branch(self, x):
        normed = self.norm(self.depthwise(x))
        normed = normed * self.weight[:, None, None] + self.bias[:, None, None]
        return self.narrow(F.relu(self.widen(normed)))


class FirstTwoActivations(ChannelsFirstBlock):
    def branch(self, x):
        normed = self.norm(F.gelu(self.depthwise(x)))
        normed = normed * self.weight[:, None, None] + self.bias[:, None, None]
        return self.narrow(F.gelu(self.widen(normed)))


class FirstScalesAll(ChannelsFirstBlock):
    def forward(self, x):
        return self.scale[:, None, None] * (x + self.branch(x))


def first_cases(rng):
    shapes = ((2, 4, 7, 6), (1, 6, 9, 8), (3, 5, 3, 4))
    return [
        {"arguments": {"channels": c}, "training": i == 0, "inputs": [normal(rng, n, c, h, w)]}
        for i, (n, c, h, w) in enumerate(shapes)
    ]


EXERCISES = [
    Exercise(
        "07.FourBranches",
        points=2,
        reference=FourBranches,
        cases=branches_cases,
        mutants={
            "shares one reduction between two branches": BranchesGiven,
            "stacks the branches in another order": BranchesAnotherOrder,
            "averages where it should take the largest": BranchesMean,
            "leaves out the ReLU behind the reductions": BranchesNoReLU,
        },
        hints=(
            "Every shape is right. How many parameters has the block, and how many should it have?",
            "How many tensors are in state_dict(), and how many in parameters(), which names each only once?",
            "Build the block, change one weight of a branch, and look which outputs move.",
            "A module that stands in two places is one module: what one branch learns, the other gets too.",
        ),
        rtol=1e-3,
        atol=1e-4,
        given=BranchesGiven,
    ),
    Exercise(
        "07.ResNet18",
        points=3,
        reference=ResNet18,
        cases=resnet18_cases,
        mutants={
            "leaves out the max pooling": ResNet18NoPool,
            "pools 2 × 2 pixels instead of 3 × 3": ResNet18SmallPool,
            "forgets the ReLU of the stem": ResNet18NoReLU,
            "gives the stride to the second convolution of a block": ResNet18LateStride,
        },
        hints=(
            "Write the sizes beside the table: 224 → 112 needs stride 2 and, for a kernel of 7, padding 3; "
            "112 → 56 needs stride 2 and, for a pooling of 3, padding 1.",
            "The first block of layer2, layer3 and layer4 changes the channels and has stride 2; every other "
            "block keeps both.",
            "torch.relu, F.max_pool2d and .mean(dim=(2, 3)) have no parameters, so they need no names.",
        ),
        rtol=1e-2,
        atol=1e-3,
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
        "07.SEResidualBlock",
        points=2,
        reference=SEResidualBlock,
        cases=se_cases,
        mutants={
            "weighs the sum, so that the way around is weighed too": SEAfterAddition,
            "computes the weights from the sum": SEOfTheSum,
            "takes the largest value of each channel where its mean belongs": SEMaximum,
            "lets the channels compete, with a softmax": SESoftmax,
            "leaves out the ReLU between the linear layers": SELinear,
            "forgets the ReLU after the addition": SENoLastReLU,
        },
        hints=(
            "Squeeze what bn2 returns: its mean over height and width, (N, out_channels).",
            "The weights are sigmoid(restore(relu(squeeze(mean)))); give them two axes more, then multiply.",
            "Multiply the branch only, then add downsample(x), then the ReLU.",
        ),
        rtol=1e-3,
        atol=1e-4,
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
    Exercise(
        "07.DenseBlock",
        points=2,
        reference=DenseBlock,
        cases=dense_block_cases,
        mutants={
            "puts what is new in front": DenseNewFirst,
            "puts the block's input last": DenseInputLast,
            "returns only what its layers have found": DenseOnlyNew,
            "applies a ReLU to what its layers have found": DenseActive,
            "gives each layer only what the layer before it has found": DenseNarrow,
        },
        hints=(
            "How many channels does layer i get? The input's, and growth from each layer before it.",
            "self.add_module(name, module) gives a module a name that is computed.",
            "Keep one tensor that grows: x = torch.cat([x, layer(x)], dim=1).",
        ),
        rtol=1e-3,
        atol=1e-4,
    ),
    Exercise(
        "07.InvertedResidual",
        points=2,
        reference=InvertedResidual,
        cases=inverted_cases,
        mutants={
            "has an activation behind the narrowing convolution too": InvertedLastReLU,
            "applies an activation after the addition": InvertedReLUAfterAddition,
            "never adds the input": InvertedNotAdded,
            "filters with a full 3 × 3 convolution": InvertedFull,
            "takes ReLU where ReLU6 belongs": InvertedReLU,
            "gives the stride to the widening convolution": InvertedEarlyStride,
            "widens even where expand_ratio is 1": InvertedAlwaysWidens,
        },
        hints=(
            "ConvBlock takes the class of its activation, activation=nn.ReLU6. Which of the two has stride?",
            "A convolution is depthwise if it has as many groups as channels. How many has the middle?",
            "Collect the parts in a list, the first only if expand_ratio != 1; then nn.Sequential(*parts).",
            "Print torchvision_models.mobilenet_v2().features[3], and features[1], which does not widen.",
        ),
        rtol=1e-3,
        atol=1e-4,
    ),
    Exercise(
        "07.ChannelsFirstBlock",
        points=2,
        reference=ChannelsFirstBlock,
        cases=first_cases,
        mutants={
            "normalises over the positions": FirstOverPositions,
            "normalises over channels and positions together": FirstOverAll,
            "divides the sum of squares by channels − 1": FirstUnbiased,
            "takes a ReLU where the GELU belongs": FirstReLU,
            "has an activation behind the depthwise convolution too": FirstTwoActivations,
            "scales the input together with the branch": FirstScalesAll,
        },
        hints=(
            "A linear layer on the last of the axes (N, H, W, channels) is a 1 × 1 convolution.",
            "The layer norm has one mean and one variance for each image and position: dim=1, keepdim=True.",
            "x.var(dim=1, keepdim=True, unbiased=False) divides by the channels, as a layer norm does.",
            "weight[:, None, None] lies along the channels.",
        ),
        rtol=1e-3,
        atol=1e-4,
    ),
]
