"""DenseNet: blocks in which each layer sees what all layers before it have found."""

import torch
import torch.nn.functional as F
from torch import nn


class DenseLayer(nn.Module):
    """Batch norm and ReLU before a 1 × 1 and before a 3 × 3 convolution, which finds few new channels.

    Args:
        in_channels: channels of the input.
        growth: channels of the output, what the layer adds to the block's.

    Shape: (N, in_channels, H, W) → (N, growth, H, W).

    Source: Huang et al. 2016, "Densely Connected Convolutional Networks", arXiv 1608.06993, sec. 3
        (DenseNet-B: the 1 × 1 convolution has 4 · growth channels).
    First built in: notebooks/07_architectures_modern.ipynb
    """

    def __init__(self, in_channels, growth):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        x = self.conv1(F.relu(self.norm1(x)))
        return self.conv2(F.relu(self.norm2(x)))


class DenseBlock(nn.Module):
    """Layers in a row, each of which gets the block's input and all that the layers before it have found.

    Args:
        in_channels: channels of the input.
        growth: channels that each layer adds.
        layers: how many.

    Shape: (N, in_channels, H, W) → (N, in_channels + layers · growth, H, W).

    Source: Huang et al. 2016, arXiv 1608.06993, eq. 2.
    """

    def __init__(self, in_channels, growth, layers):
        super().__init__()
        for i in range(layers):
            self.add_module(f"denselayer{i + 1}", DenseLayer(in_channels + i * growth, growth))

    def forward(self, x):
        for layer in self.children():  # in the order of __init__
            x = torch.cat([x, layer(x)], dim=1)
        return x
