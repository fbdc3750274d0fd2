"""VGG: blocks of 3 × 3 convolutions, written as a table of stages."""

from torch import nn

from cnnlib.models.alexnet import linear_head
from cnnlib.models.init import kaiming

# The paper's table 1. A row is a block: how many 3 × 3 convolutions, their channels. Then it pools.
VGG11 = ((1, 64), (1, 128), (2, 256), (2, 512), (2, 512))
VGG16 = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
SMALL = ((1, 8), (2, 16), (2, 32))  # for 28 × 28 pixels


def vgg_features(stages, in_channels=3, batch_norm=False):
    """Build the convolutional part of a VGG.

    Args:
        stages: a row for each block: (number of convolutions, their channels). Behind each block stands a
            2 × 2 max pooling.
        in_channels: channels of the images.
        batch_norm: whether batch normalisation follows each convolution.

    Returns:
        torch.nn.Sequential: (N, in_channels, H, W) → (N, last channels, H / 2**B, W / 2**B), where B counts
        the blocks.

    Source: Simonyan & Zisserman 2014, "Very Deep Convolutional Networks for Large-Scale Image
        Recognition", arXiv 1409.1556, table 1.
    First built in: notebooks/06_architectures_classic.ipynb
    """
    layers = []
    for convolutions, channels in stages:
        for _ in range(convolutions):
            layers.append(nn.Conv2d(in_channels, channels, kernel_size=3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(channels))
            layers.append(nn.ReLU())
            in_channels = channels
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """A VGG: convolutions by `vgg_features`, then three linear layers with dropout.

    Args:
        stages: see `vgg_features`.
        in_channels: channels of the images.
        num_classes: how many logits.
        batch_norm: see `vgg_features`.
        pool: side of the maps that the linear layers get, in pixels.
        hidden: width of the linear layers.
        dropout: probability to zero a value between them.

    Shape: images (N, in_channels, H, W) float, 224 × 224 as published → logits (N, num_classes).

    Source: Simonyan & Zisserman 2014, arXiv 1409.1556; with batch normalisation as in torchvision.
    First built in: notebooks/06_architectures_classic.ipynb
    """

    def __init__(
        self, stages, in_channels=3, num_classes=1000, batch_norm=False, pool=7, hidden=4096, dropout=0.5
    ):
        super().__init__()
        self.features = vgg_features(stages, in_channels, batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d(pool)
        self.classifier = linear_head(stages[-1][1] * pool**2, hidden, num_classes, dropout)

    def forward(self, images):
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


def vgg11(in_channels=3, num_classes=1000):
    """Build VGG11, configuration A of the paper: 132,863,336 parameters."""
    return kaiming(VGG(VGG11, in_channels, num_classes))


def vgg16(in_channels=3, num_classes=1000):
    """Build VGG16, configuration D of the paper: 138,357,544 parameters, which are 528 MiB of float32."""
    return kaiming(VGG(VGG16, in_channels, num_classes))


def vgg16_bn(in_channels=3, num_classes=1000):
    """Build VGG16 with batch normalisation: 138,365,992 parameters."""
    return kaiming(VGG(VGG16, in_channels, num_classes, batch_norm=True))


def vgg_small(in_channels=1, num_classes=10, batch_norm=False):
    """Build a VGG for 28 × 28 pixels: five convolutions in three blocks, no dropout."""
    return kaiming(VGG(SMALL, in_channels, num_classes, batch_norm, pool=3, hidden=96, dropout=0))


def vgg_small_bn(in_channels=1, num_classes=10):
    """Build `vgg_small` with batch normalisation."""
    return vgg_small(in_channels, num_classes, batch_norm=True)
