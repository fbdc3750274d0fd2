"""CNNs for few steps and few operations: digits in a second on two CPU cores, clothes in a minute or two."""

from torch import nn


def fast_cnn(in_channels=1, num_classes=10):
    """Build a CNN for digits: 169,962 parameters, 0.40 million MACs an image.

    Every layer asks whether its arithmetic pays: the empty rim of MNIST's images is cut off; the stem has
    stride 2; pooling comes before batch norm and ReLU, which then work on a quarter of the values; nothing is
    padded, so that the maps shrink; and what is left of them, 3 × 3, goes to a linear layer.

    Shape: images (N, in_channels, 28, 28) float → logits (N, num_classes).

    First built in: notebooks/12_training_speed.ipynb
    """
    layers = [nn.ZeroPad2d(-2)]  # (N, in_channels, 24, 24)
    layers += [nn.Conv2d(in_channels, 32, kernel_size=5, stride=2, bias=False)]  # (N, 32, 10, 10)
    layers += [nn.MaxPool2d(2), nn.BatchNorm2d(32), nn.ReLU()]  # (N, 32, 5, 5)
    layers += [nn.Conv2d(32, 64, kernel_size=3, bias=False)]  # (N, 64, 3, 3)
    layers += [nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten()]
    layers += [nn.Linear(64 * 3 * 3, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(256, num_classes))


def fast_cnn_deep(in_channels=1, num_classes=10):
    """Build the same idea for images that fill their frame: 252,138 parameters, 8.79 million MACs an image.

    Nothing is cut off, the stem has stride 1 and every convolution is padded: texture is fine. Pooling still
    comes first, so that the last of four convolutions works on maps of 3 × 3.

    Shape: images (N, in_channels, 28, 28) float → logits (N, num_classes).
    """
    layers = []
    for width, pools in ((32, True), (64, True), (128, True), (128, False)):
        layers += [nn.Conv2d(in_channels, width, kernel_size=3, padding=1, bias=False)]
        layers += [nn.MaxPool2d(2)] if pools else []  # 28 × 28 → 14 × 14 → 7 × 7 → 3 × 3
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
        in_channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 3 * 3, num_classes))
