"""ResNet and ResNeXt: blocks that add to their input, and the plain network to compare them with."""

import torch
from torch import nn

from cnnlib.ground.errors import ParameterError
from cnnlib.models.inception import ConvBNReLU
from cnnlib.models.init import kaiming


def projection(in_channels, out_channels, stride):
    """Return the way around a block: nothing where the shapes agree, else a strided 1 × 1 convolution."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions whose result is added to the input; `residual=False` leaves the addition out.

    Shape: (N, in_channels, H, W) → (N, out_channels, H/stride, W/stride).

    Source: He et al. 2015, "Deep Residual Learning for Image Recognition", arXiv 1512.03385, figures 2
        and 5 (left).
    First built in: notebooks/07_architectures_modern.ipynb
    """

    def __init__(self, in_channels, out_channels, stride=1, residual=True):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = projection(in_channels, out_channels, stride) if residual else None

    def forward(self, x):
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            out = out + self.downsample(x)
        return torch.relu(out)


class Bottleneck(nn.Module):
    """1 × 1 to fewer channels, 3 × 3 there, 1 × 1 back to many; with `groups` above 1 it is ResNeXt's block.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the 3 × 3 convolution, as in torchvision; the paper strides the first 1 × 1.
        width: channels of the 3 × 3 convolution; default: a quarter of `out_channels`.
        groups: into how many groups the 3 × 3 convolution splits its channels, the cardinality.

    Shape: (N, in_channels, H, W) → (N, out_channels, H/stride, W/stride).

    Source: He et al. 2015, arXiv 1512.03385, figure 5 (right); Xie et al. 2016, "Aggregated Residual
        Transformations for Deep Neural Networks", arXiv 1611.05431, figure 3c.
    First built in: notebooks/07_architectures_modern.ipynb
    """

    def __init__(self, in_channels, out_channels, stride=1, width=None, groups=1):
        super().__init__()
        width = width or out_channels // 4
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = projection(in_channels, out_channels, stride)

    def forward(self, x):
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return torch.relu(out + self.downsample(x))


class ResNeXtBottleneck(Bottleneck):
    """ResNeXt-50's block: a middle of half the output's channels, in 32 groups.

    Shape: (N, in_channels, H, W) → (N, out_channels, H/stride, W/stride), out_channels a multiple of 64.

    Source: Xie et al. 2016, arXiv 1611.05431, table 1.
    First built in: notebooks/07_architectures_modern.ipynb
    """

    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(in_channels, out_channels, stride, width=out_channels // 2, groups=32)


def stage(block, in_channels, out_channels, blocks, stride=1, **options):
    """Put blocks in a row; the first changes the channels and the size.

    Args:
        block: class of the blocks: block(in_channels, out_channels, stride=…, **options).
        in_channels: channels of the input.
        out_channels: channels of every block's output.
        blocks: how many, at least 1.
        stride: of the first block.
        options: what every block gets besides.

    Returns:
        torch.nn.Sequential: (N, in_channels, H, W) → (N, out_channels, H/stride, W/stride).

    First built in: notebooks/07_architectures_modern.ipynb
    """
    row = nn.Sequential(block(in_channels, out_channels, stride=stride, **options))
    for _ in range(blocks - 1):
        row.append(block(out_channels, out_channels, **options))
    return row


RESNET18 = (  # out_channels, blocks, stride of the first block
    (64, 2, 1),  # 56 pixels wide
    (128, 2, 2),  # 28
    (256, 2, 2),  # 14
    (512, 2, 2),  # 7
)
"""The four stages of ResNet-18. Source: He et al. 2015, arXiv 1512.03385, table 1."""
RESNET50 = (
    (256, 3, 1),
    (512, 4, 2),
    (1024, 6, 2),
    (2048, 3, 2),
)
"""The four stages of ResNet-50 and of ResNeXt-50. Source: the same table; Xie et al. 2016, table 1."""


class ResNet(nn.Sequential):
    """A ResNet or ResNeXt for large images: stem, stages of blocks, average, one linear layer.

    Args:
        block: BasicBlock, Bottleneck or ResNeXtBottleneck.
        stages: rows of (out_channels, blocks, stride of the first block), one a stage.
        in_channels: channels of the images.
        num_classes: how many logits.

    Shape: images (N, in_channels, H, W) float, 224 × 224 as published → logits (N, num_classes).

    Source: He et al. 2015, arXiv 1512.03385, table 1; Xie et al. 2016, arXiv 1611.05431, table 1.
    First built in: notebooks/07_architectures_modern.ipynb
    """

    def __init__(self, block, stages, in_channels=3, num_classes=1000):
        super().__init__()  # nn.Sequential runs its parts in the order in which they are added
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)  # (N, 64, 112, 112)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)  # (N, 64, 56, 56)
        channels = 64
        for i, (out_channels, blocks, stride) in enumerate(stages, start=1):
            self.add_module(f"layer{i}", stage(block, channels, out_channels, blocks, stride))
            channels = out_channels
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(channels, num_classes)


def resnet18(in_channels=3, num_classes=1000):
    """Build ResNet-18: 11,689,512 parameters."""
    return kaiming(ResNet(BasicBlock, RESNET18, in_channels, num_classes))


def resnet50(in_channels=3, num_classes=1000):
    """Build ResNet-50: 25,557,032 parameters."""
    return kaiming(ResNet(Bottleneck, RESNET50, in_channels, num_classes))


def resnext50_32x4d(in_channels=3, num_classes=1000):
    """Build ResNeXt-50 with 32 groups of 4 channels in the first stage: 25,028,904 parameters."""
    return kaiming(ResNet(ResNeXtBottleneck, RESNET50, in_channels, num_classes))


def resnet_small(in_channels=1, num_classes=10):
    """Build a ResNet for 28 × 28 pixels: a stem that halves the image, and three basic blocks."""
    return kaiming(
        nn.Sequential(
            ConvBNReLU(in_channels, 16, 3, stride=2, padding=1),  # (N, 16, 14, 14)
            BasicBlock(16, 16),
            BasicBlock(16, 32, stride=2),  # (N, 32, 7, 7)
            BasicBlock(32, 48, stride=2),  # (N, 48, 4, 4)
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(48, num_classes),
        )
    )


def resnext_small(in_channels=1, num_classes=10):
    """Build a ResNeXt for 28 × 28 pixels: the same stem, and four bottlenecks of eight groups."""
    return kaiming(
        nn.Sequential(
            ConvBNReLU(in_channels, 16, 3, stride=2, padding=1),  # (N, 16, 14, 14)
            Bottleneck(16, 64, stride=2, width=32, groups=8),  # (N, 64, 7, 7)
            Bottleneck(64, 64, width=32, groups=8),
            Bottleneck(64, 128, stride=2, width=64, groups=8),  # (N, 128, 4, 4)
            Bottleneck(128, 128, width=64, groups=8),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(128, num_classes),
        )
    )


def deep_net(depth, residual=True, channels=8, in_channels=1, num_classes=10):
    """Build the network of the degradation experiment: as deep as asked, plain or residual.

    Args:
        depth: weight layers, 6n + 2: a stem, three stages of n blocks of two convolutions, a linear layer.
        residual: whether the blocks add to their input.
        channels: of the first stage; each next one doubles them.
        in_channels: channels of the images.
        num_classes: how many logits.

    Returns:
        torch.nn.Sequential: images (N, in_channels, 28, 28) float → logits (N, num_classes).

    Raises:
        ParameterError: `depth` is not 6n + 2.

    Source: He et al. 2015, arXiv 1512.03385, sec. 4.2, with a stem that halves the image.
    First built in: notebooks/07_architectures_modern.ipynb
    """
    if depth < 8 or (depth - 2) % 6:
        raise ParameterError(f"depth is {depth!r}; it must be 8, 14, 20, 26, …: 2 + 6 for each block a stage")
    n = (depth - 2) // 6
    return kaiming(
        nn.Sequential(
            ConvBNReLU(in_channels, channels, 3, stride=2, padding=1),  # (N, channels, 14, 14)
            stage(BasicBlock, channels, channels, n, residual=residual),
            stage(BasicBlock, channels, 2 * channels, n, stride=2, residual=residual),  # (N, …, 7, 7)
            stage(BasicBlock, 2 * channels, 4 * channels, n, stride=2, residual=residual),  # (N, …, 4, 4)
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4 * channels, num_classes),
        )
    )
