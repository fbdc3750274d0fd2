"""AlexNet: of the paper of 2012 on its two GPUs, of torchvision, and small for 28 × 28 pixels."""

from torch import nn

from cnnlib.models.init import kaiming


def _head(in_features, hidden, num_classes, dropout=0.5):
    """Three linear layers; no ReLU after the last, whose outputs are the logits."""
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(in_features, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, num_classes),
    )


def alexnet_features(in_channels=3):
    """Build the convolutional part of torchvision's AlexNet.

    Args:
        in_channels: channels of the images.

    Returns:
        torch.nn.Sequential: (N, in_channels, H, W), at least 63 pixels a side → (N, 256, h, w).

    Source: Krizhevsky 2014, "One weird trick", arXiv 1404.5997.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, 64, kernel_size=11, stride=4, padding=2),  # (N, 64, 55, 55)
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  # 3 wide, 2 apart: neighbours overlap. (N, 64, 27, 27)
        nn.Conv2d(64, 192, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  # (N, 192, 13, 13)
        nn.Conv2d(192, 384, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  # (N, 256, 6, 6)
    )


class AlexNet(nn.Module):
    """AlexNet as torchvision has it: 61,100,840 parameters, 96 % of them in the three linear layers.

    Shape: images (N, in_channels, H, W) float, 224 × 224 as published → logits (N, num_classes).

    Source: Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks", arXiv
        1404.5997: one column, no local response normalisation.
    First built in: notebooks/06_architectures_classic.ipynb
    """

    def __init__(self, in_channels=3, num_classes=1000):
        super().__init__()
        self.features = alexnet_features(in_channels)
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = _head(256 * 6 * 6, 4096, num_classes)

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

    def normalise():
        return nn.LocalResponseNorm(size=5, alpha=5e-4, beta=0.75, k=2)  # torch divides alpha by size

    return nn.Sequential(
        *(nn.Conv2d(in_channels, 96, 11, stride=4), nn.ReLU(), normalise(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), normalise(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Flatten(), *_head(256 * 6 * 6, 4096, num_classes)),
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
            *(nn.Conv2d(in_channels, 12, 5, stride=2, padding=2), activation()),  # (N, 12, 14, 14)
            *(nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(12, 24, 5, padding=2), activation()),  # (N, 24, 7, 7)
            *(nn.Conv2d(24, 32, 3, padding=1), activation()),
            *(nn.Conv2d(32, 32, 3, padding=1), activation()),
            *(nn.Conv2d(32, 24, 3, padding=1), activation(), nn.MaxPool2d(3, 2)),  # (N, 24, 3, 3)
            *(nn.Flatten(), nn.Linear(216, 96), activation()),
            *(nn.Linear(96, 80), activation(), nn.Linear(80, num_classes)),
        )
    )
