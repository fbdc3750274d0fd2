"""Inception: blocks with four branches side by side, and GoogLeNet, which is nine of them in a row."""

import torch
from torch import nn

from cnnlib.models.init import kaiming


class ConvBNReLU(nn.Module):
    """A convolution without bias, batch normalisation, ReLU.

    Shape: (N, in_channels, H, W) → (N, out_channels, H', W').
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class InceptionBlock(nn.Module):
    """Four branches that look at the same input with kernels of different size; their outputs are stacked.

    Args:
        in_channels: channels of the input.
        n1: channels of the 1 × 1 branch.
        n3: (reduced, out) channels of the 3 × 3 branch, whose input a 1 × 1 convolution reduces first.
        n5: the same for the branch with the large kernel.
        n_pool: channels of the branch with max pooling.
        large_kernel: 5 in the paper; 3 in torchvision's GoogLeNet, by a mistake that its weights keep
            (github.com/pytorch/vision/issues/906).

    Shape: (N, in_channels, H, W) → (N, n1 + n3[1] + n5[1] + n_pool, H, W).

    Source: Szegedy et al. 2014, "Going Deeper with Convolutions", arXiv 1409.4842, figure 2b; batch
        normalisation is from Ioffe & Szegedy 2015.
    First built in: notebooks/07_architectures_modern.ipynb
    """

    def __init__(self, in_channels, n1, n3, n5, n_pool, large_kernel=5):
        super().__init__()
        reduced3, out3 = n3
        reduced5, out5 = n5
        self.branch1 = ConvBNReLU(in_channels, n1, 1)
        self.branch2 = nn.Sequential(
            ConvBNReLU(in_channels, reduced3, 1),
            ConvBNReLU(reduced3, out3, 3, padding=1),
        )
        self.branch3 = nn.Sequential(
            ConvBNReLU(in_channels, reduced5, 1),
            ConvBNReLU(reduced5, out5, large_kernel, padding=large_kernel // 2),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            ConvBNReLU(in_channels, n_pool, 1),
        )
        self.out_channels = n1 + out3 + out5 + n_pool

    def forward(self, x):
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return torch.cat([branch(x) for branch in branches], dim=1)


GOOGLENET = (  # name, 1 × 1, (reduced, 3 × 3), (reduced, 5 × 5), pooled; or a pooling, its kernel
    ("inception3a", 64, (96, 128), (16, 32), 32),  # 28 pixels wide
    ("inception3b", 128, (128, 192), (32, 96), 64),
    ("maxpool3", 3),
    ("inception4a", 192, (96, 208), (16, 48), 64),  # 14
    ("inception4b", 160, (112, 224), (24, 64), 64),
    ("inception4c", 128, (128, 256), (24, 64), 64),
    ("inception4d", 112, (144, 288), (32, 64), 64),
    ("inception4e", 256, (160, 320), (32, 128), 128),
    ("maxpool4", 2),
    ("inception5a", 256, (160, 320), (32, 128), 128),  # 7
    ("inception5b", 384, (192, 384), (48, 128), 128),
)
"""GoogLeNet's nine blocks. Source: Szegedy et al. 2014, arXiv 1409.4842, table 1."""


def halve(kernel_size):
    """Return a max pooling with stride 2 that rounds up, as GoogLeNet has it."""
    return nn.MaxPool2d(kernel_size, stride=2, ceil_mode=True)


def googlenet_stages(large_kernel, channels=192):
    """Give the rows of `GOOGLENET`, one after the other: (name, block or pooling)."""
    for name, *sizes in GOOGLENET:
        if name.startswith("maxpool"):
            yield name, halve(sizes[0])
        else:
            n1, n3, n5, n_pool = sizes
            block = InceptionBlock(channels, n1, n3, n5, n_pool, large_kernel)
            channels = block.out_channels
            yield name, block


class GoogLeNet(nn.Sequential):
    """GoogLeNet as torchvision has it, without the auxiliary heads of training: 6,624,904 parameters.

    Shape: images (N, in_channels, H, W) float, 224 × 224 as published → logits (N, num_classes).

    Source: Szegedy et al. 2014, arXiv 1409.4842, table 1.
    First built in: notebooks/07_architectures_modern.ipynb
    """

    def __init__(self, in_channels=3, num_classes=1000, large_kernel=3):
        super().__init__()  # nn.Sequential runs its parts in the order in which they are added
        self.conv1 = ConvBNReLU(in_channels, 64, 7, stride=2, padding=3)  # (N, 64, 112, 112)
        self.maxpool1 = halve(3)
        self.conv2 = ConvBNReLU(64, 64, 1)
        self.conv3 = ConvBNReLU(64, 192, 3, padding=1)  # (N, 192, 56, 56)
        self.maxpool2 = halve(3)
        for name, part in googlenet_stages(large_kernel):
            self.add_module(name, part)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()  # (N, 1024)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(1024, num_classes)


def inception_small(in_channels=1, num_classes=10):
    """Build an Inception network for 28 × 28 pixels: a stem and three blocks.

    Returns:
        torch.nn.Sequential: images (N, in_channels, 28, 28) float → logits (N, num_classes).

    First built in: notebooks/07_architectures_modern.ipynb
    """
    return kaiming(
        nn.Sequential(
            ConvBNReLU(in_channels, 16, 3, stride=2, padding=1),  # (N, 16, 14, 14)
            nn.MaxPool2d(2),
            InceptionBlock(16, 16, (16, 32), (8, 8), 8),  # (N, 64, 7, 7)
            InceptionBlock(64, 24, (24, 48), (8, 12), 12),  # (N, 96, 7, 7)
            nn.MaxPool2d(2),
            InceptionBlock(96, 48, (40, 64), (8, 16), 16),  # (N, 144, 3, 3)
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(144, num_classes),
        )
    )
