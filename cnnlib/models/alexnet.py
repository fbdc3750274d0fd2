"""AlexNet: of the paper of 2012 on its two GPUs, of torchvision, and small for 28 × 28 pixels."""

from torch import nn

from cnnlib.models.init import kaiming

# A row is a convolution and its ReLU: out_channels, kernel_size, stride, padding, groups, what follows them.
TWO_GPUS = (  # Krizhevsky et al. 2012, sec. 3.5
    (96, 11, 4, 0, 1, "normalise, pool"),
    (256, 5, 1, 2, 2, "normalise, pool"),
    (384, 3, 1, 1, 1, ""),
    (384, 3, 1, 1, 2, ""),
    (256, 3, 1, 1, 2, "pool"),
)
ONE_COLUMN = (  # torchvision's
    (64, 11, 4, 2, 1, "pool"),
    (192, 5, 1, 2, 1, "pool"),
    (384, 3, 1, 1, 1, ""),
    (256, 3, 1, 1, 1, ""),
    (256, 3, 1, 1, 1, "pool"),
)
SMALL = (  # for 28 × 28 pixels
    (12, 5, 2, 3, 1, "pool"),  # (N, 12, 15, 15), pooled to 7 × 7
    (24, 5, 1, 2, 1, ""),
    (32, 3, 1, 1, 1, ""),
    (32, 3, 1, 1, 1, ""),
    (24, 3, 1, 1, 1, "pool"),  # (N, 24, 3, 3)
)


def alexnet_features(stages=ONE_COLUMN, in_channels=3, activation=nn.ReLU):
    """Build the convolutional part of an AlexNet from its table of stages.

    Args:
        stages: rows of (out_channels, kernel_size, stride, padding, groups, what follows), where the last one
            may name "normalise" and "pool".
        in_channels: channels of the images.
        activation: class of the activations, such as nn.Tanh to compare with.

    Returns:
        torch.nn.Sequential: (N, in_channels, H, W), at least 63 pixels a side → (N, 256, h, w), for the two
        published tables.

    Source: Krizhevsky, Sutskever & Hinton 2012, sec. 3; Krizhevsky 2014, "One weird trick", arXiv 1404.5997.
    First built in: notebooks/06_architectures_classic.ipynb
    """
    layers = []
    for out_channels, kernel_size, stride, padding, groups, then in stages:
        layers.append(nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups))
        layers.append(activation())
        if "normalise" in then:
            layers.append(nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2))  # torch divides alpha by 5
        if "pool" in then:
            layers.append(nn.MaxPool2d(3, stride=2))  # 3 wide, 2 apart: neighbours overlap
        in_channels = out_channels
    return nn.Sequential(*layers)


def linear_head(in_features, hidden, num_classes, dropout=0.5, dropout_first=False):
    """Build three linear layers, the last of which returns logits: no ReLU follows it.

    Args:
        in_features: values that come in.
        hidden: width of the first two layers.
        num_classes: how many logits.
        dropout: probability to zero a value.
        dropout_first: whether dropout stands in front of the first two layers, as in torchvision's AlexNet,
            or behind them.

    Source: Krizhevsky et al. 2012, sec. 3.5 and 4.2.
    First built in: notebooks/06_architectures_classic.ipynb
    """
    layers = []
    for _ in range(2):
        if dropout_first:
            layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(in_features, hidden))
        layers.append(nn.ReLU())
        if not dropout_first:
            layers.append(nn.Dropout(dropout))
        in_features = hidden
    layers.append(nn.Linear(hidden, num_classes))
    return nn.Sequential(*layers)


class AlexNet(nn.Module):
    """AlexNet as torchvision has it: 61,100,840 parameters, 96 % of them in the three linear layers.

    Shape: images (N, in_channels, H, W) float, 224 × 224 as published → logits (N, num_classes).

    Source: Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks", arXiv
        1404.5997: one column. torchvision's has no local response normalisation, 256 channels for 384 in the
        fourth convolution, and its dropout in front of the linear layers.
    First built in: notebooks/06_architectures_classic.ipynb
    """

    def __init__(self, in_channels=3, num_classes=1000):
        super().__init__()
        self.features = alexnet_features(ONE_COLUMN, in_channels)
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = linear_head(256 * 6 * 6, 4096, num_classes, dropout_first=True)

    def forward(self, images):
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


def alexnet_2012(in_channels=3, num_classes=1000):
    """Build the AlexNet of the paper: 60,965,224 parameters.

    Its second, fourth and fifth convolutions see only the half of the channels that lies on their own GPU
    (`groups=2`); the third sees both halves. Local response normalisation follows the first two.

    Returns:
        torch.nn.Sequential: images (N, in_channels, 227, 227) float → logits (N, num_classes).

    Source: Krizhevsky, Sutskever & Hinton 2012, "ImageNet Classification with Deep Convolutional Neural
        Networks", sec. 3.
    First built in: notebooks/06_architectures_classic.ipynb
    """
    return nn.Sequential(
        alexnet_features(TWO_GPUS, in_channels),  # (N, 256, 6, 6)
        nn.Flatten(),
        linear_head(256 * 6 * 6, 4096, num_classes),
    )


def alexnet_small(in_channels=1, num_classes=10, activation=nn.ReLU):
    """Build AlexNet's plan for 28 × 28 pixels: five convolutions, overlapping pooling, no dropout.

    Args:
        in_channels: channels of the images.
        num_classes: how many logits.
        activation: class of the activations, such as nn.Tanh to compare with.

    Returns:
        torch.nn.Sequential: images (N, in_channels, 28, 28) float → logits (N, num_classes).

    First built in: notebooks/06_architectures_classic.ipynb
    """
    return kaiming(
        nn.Sequential(
            alexnet_features(SMALL, in_channels, activation),
            nn.Flatten(),
            nn.Linear(24 * 3 * 3, 96),
            activation(),
            nn.Linear(96, 80),
            activation(),
            nn.Linear(80, num_classes),
        )
    )
