"""VGG: stacks of 3 × 3 convolutions, written as a list of channels."""

from torch import nn

from cnnlib.models.init import kaiming

# The paper's table 1: a number is a 3 × 3 convolution with so many channels, "M" a 2 × 2 max pooling.
CONFIGS = {
    "vgg11": (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    "vgg16": (
        *(64, 64, "M", 128, 128, "M", 256, 256, 256, "M"),
        *(512, 512, 512, "M", 512, 512, 512, "M"),
    ),
}


def vgg_features(config, in_channels=3, batch_norm=False):
    """Build the convolutional part of a VGG.

    Args:
        config: channels of the convolutions in order, with "M" where a 2 × 2 max pooling stands.
        in_channels: channels of the images.
        batch_norm: whether batch normalisation follows each convolution.

    Returns:
        torch.nn.Sequential: (N, in_channels, H, W) → (N, last channels, H / 2**M, W / 2**M), where M
        counts the poolings.

    Source: Simonyan & Zisserman 2014, "Very Deep Convolutional Networks for Large-Scale Image
        Recognition", arXiv 1409.1556, table 1.
    First built in: notebooks/06_architectures_classic.ipynb
    """
    layers = []
    for item in config:
        if item == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(in_channels, item, kernel_size=3, padding=1))
        layers += [nn.BatchNorm2d(item), nn.ReLU()] if batch_norm else [nn.ReLU()]
        in_channels = item
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """A VGG: convolutions by `vgg_features`, then three linear layers with dropout.

    Args:
        config: see `vgg_features`.
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
        self, config, in_channels=3, num_classes=1000, batch_norm=False, pool=7, hidden=4096, dropout=0.5
    ):
        super().__init__()
        self.features = vgg_features(config, in_channels, batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d(pool)
        channels = [item for item in config if item != "M"][-1]
        self.classifier = nn.Sequential(
            nn.Linear(channels * pool * pool, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, images):
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


def vgg11(in_channels=3, num_classes=1000):
    """Build VGG11, configuration A of the paper: 132,863,336 parameters."""
    return kaiming(VGG(CONFIGS["vgg11"], in_channels, num_classes))


def vgg16(in_channels=3, num_classes=1000):
    """Build VGG16, configuration D of the paper: 138,357,544 parameters, which are 528 MiB of float32."""
    return kaiming(VGG(CONFIGS["vgg16"], in_channels, num_classes))


def vgg16_bn(in_channels=3, num_classes=1000):
    """Build VGG16 with batch normalisation: 138,365,992 parameters."""
    return kaiming(VGG(CONFIGS["vgg16"], in_channels, num_classes, batch_norm=True))


def vgg_small(in_channels=1, num_classes=10, batch_norm=False):
    """Build a VGG for 28 × 28 pixels: five convolutions in three blocks, no dropout."""
    config = (8, "M", 16, 16, "M", 32, 32, "M")
    model = VGG(config, in_channels, num_classes, batch_norm, pool=3, hidden=96, dropout=0)
    return kaiming(model)


def vgg_small_bn(in_channels=1, num_classes=10):
    """Build `vgg_small` with batch normalisation."""
    return vgg_small(in_channels, num_classes, batch_norm=True)
