"""DenseNet's layer; the block, in which each layer sees what all before it have found, is an exercise."""

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
