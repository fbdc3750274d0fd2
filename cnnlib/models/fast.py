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


def fast_cnn_wide(in_channels=1, num_classes=10):
    """Build the same idea for images that fill their frame: 394,186 parameters, 29.2 million MACs an image.

    Twice as wide, nothing is cut off, and pooling first comes after the second convolution: texture is fine.

    Shape: images (N, in_channels, 28, 28) float → logits (N, num_classes).
    """
    layers = [nn.Conv2d(in_channels, 64, kernel_size=5, stride=2, padding=2, bias=False)]  # (N, 64, 14, 14)
    layers += [nn.BatchNorm2d(64), nn.ReLU()]
    layers += [nn.Conv2d(64, 128, kernel_size=3, padding=1, bias=False)]
    layers += [nn.MaxPool2d(2), nn.BatchNorm2d(128), nn.ReLU()]  # (N, 128, 7, 7)
    layers += [nn.Conv2d(128, 256, kernel_size=3, padding=1, bias=False)]
    layers += [nn.MaxPool2d(2), nn.BatchNorm2d(256), nn.ReLU(), nn.Flatten()]  # (N, 256 * 3 * 3)
    return nn.Sequential(*layers, nn.Linear(256 * 3 * 3, num_classes))
