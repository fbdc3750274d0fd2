"""LeNet-5, twice: as the paper of 1998 describes it, and as everybody rewrites it today."""

import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.ground.errors import ParameterError

# Which of C3's 16 maps (columns) sees which of S2's 6 maps (rows): table I of the paper.
C3_TABLE = (
    "X...XXX..XXXX.XX",
    "XX...XXX..XXXX.X",
    "XXX...XXX..X.XXX",
    ".XXX..XXXX..X.XX",
    "..XXX..XXXX.XX.X",
    "...XXX..XXXX.XXX",
)
# Its rewrite; a row is a convolution, ReLU and 2 × 2 max pooling: out_channels, kernel_size, padding.
LENET5 = (
    (6, 5, 2),  # (N, 6, 14, 14)
    (16, 5, 0),  # (N, 16, 5, 5)
)
# The digits as bitmaps of 7 × 12 pixels, in the manner of the paper's figure 3: the targets of F6.
_ROWS = (
    "..###.. ...#... ..###.. ..###.. .....#. ####### ..####. ####### ..###.. ..###..",
    ".#...#. ..##... .#...#. .#...#. ....##. #...... .#..... .....#. .#...#. .#...#.",
    "#.....# .#.#... #.....# #.....# ....##. #...... #...... .....#. #.....# #.....#",
    "#.....# ...#... ......# ......# ...#.#. #...... #...... ....#.. #.....# #.....#",
    "#.....# ...#... .....#. .....#. ..#..#. #.###.. #.###.. ....#.. .#...#. #.....#",
    "#.....# ...#... ....#.. ..###.. .#...#. ##...#. ##...#. ...#... ..###.. .#...##",
    "#.....# ...#... ...#... .....#. #....#. ......# #.....# ...#... .#...#. ..###.#",
    "#.....# ...#... ..#.... ......# ####### ......# #.....# ..#.... #.....# ......#",
    "#.....# ...#... .#..... ......# .....#. ......# #.....# ..#.... #.....# ......#",
    "#.....# ...#... #...... #.....# .....#. #.....# #.....# .#..... #.....# .....#.",
    ".#...#. ...#... #...... .#...#. .....#. .#...#. .#...#. .#..... .#...#. ....#..",
    "..###.. .#####. ####### ..###.. .....#. ..###.. ..###.. #...... ..###.. .###...",
)


def scaled_tanh(x):
    """Return 1.7159 tanh(2x/3), which maps ±1 to ±1 (LeCun et al. 1998, appendix A)."""
    return 1.7159 * torch.tanh(2 / 3 * x)


def digit_codes():
    """Return the ten digits drawn on 7 × 12 pixels, as (10, 84) floats: −1 paper, +1 ink."""
    bitmaps = zip(*(row.split() for row in _ROWS), strict=True)  # 10 digits of 12 strings
    return torch.tensor([[1.0 if pixel == "#" else -1.0 for pixel in "".join(b)] for b in bitmaps])


class Subsampling(nn.Module):
    """Add up 2 × 2 pixels, multiply by a trained coefficient and add a trained bias, both one a channel.

    Shape: (N, channels, H, W) → (N, channels, H/2, W/2).

    Source: LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", sec. II-B.
    First built in: notebooks/06_architectures_classic.ipynb
    """

    def __init__(self, channels):
        super().__init__()
        self.coefficient = nn.Parameter(torch.full((channels, 1, 1), 0.25))  # begins as the average
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x):
        return self.coefficient * (4 * F.avg_pool2d(x, 2)) + self.bias


class SparseConv2d(nn.Module):
    """A convolution in which each output channel sees only some of the input channels.

    Args:
        table: one string an input channel, one character an output channel; "X" is a connection.
            Only connected kernels exist; the others are zeros that are never trained.
        kernel_size: int.

    Shape: (N, in_channels, H, W) → (N, out_channels, H − kernel_size + 1, W − kernel_size + 1).

    Source: LeCun et al. 1998, table I.
    First built in: notebooks/06_architectures_classic.ipynb
    """

    def __init__(self, table, kernel_size):
        super().__init__()
        mask = torch.tensor([[cell == "X" for cell in row] for row in table]).T  # (out_channels, in_channels)
        out_channels, in_channels = mask.shape
        dense = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.kernels = nn.Parameter(dense.weight.detach()[mask])  # (connections, k, k)
        self.bias = dense.bias
        self.register_buffer("mask", mask[:, :, None, None].expand(-1, -1, kernel_size, kernel_size).clone())

    def forward(self, x):
        weight = torch.zeros_like(self.mask, dtype=x.dtype).masked_scatter(self.mask, self.kernels)
        return F.conv2d(x, weight, self.bias)

    def macs(self, output):
        """Return the multiply–adds behind an output: of the kernels that exist."""
        return output[:, 0].numel() * self.kernels.numel()


class LeNet5Paper(nn.Module):
    """LeNet-5 of 1998: 60,000 trained parameters on grey images.

    The ten outputs measure how far F6's 84 values are from the bitmap of each digit (Euclidean radial basis
    functions); these bitmaps are fixed. Half the squared distance is the negative logarithm of a Gaussian
    density; with a minus sign it serves as the logit. (The paper minimises the distance with a margin.)

    Shape: images (N, in_channels, 28, 28) float → logits (N, num_classes), at most ten.

    Source: LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", sec. II-B.
    First built in: notebooks/06_architectures_classic.ipynb
    """

    def __init__(self, in_channels=1, num_classes=10):
        super().__init__()
        if not 1 <= num_classes <= 10:
            raise ParameterError(f"num_classes is {num_classes!r}; LeNet-5 has codes for 1 to 10 classes")
        self.c1 = nn.Conv2d(in_channels, 6, kernel_size=5, padding=2)  # the paper's images have this border
        self.s2 = Subsampling(6)
        self.c3 = SparseConv2d(C3_TABLE, kernel_size=5)
        self.s4 = Subsampling(16)
        self.c5 = nn.Conv2d(16, 120, kernel_size=5)
        self.f6 = nn.Linear(120, 84)
        self.register_buffer("codes", digit_codes()[:num_classes])  # (num_classes, 84), not trained

    def forward(self, images):
        x = images
        for layer in (self.c1, self.s2, self.c3, self.s4, self.c5):  # 28, 14, 10, 5, 1 pixels wide
            x = scaled_tanh(layer(x))
        x = scaled_tanh(self.f6(x.flatten(1)))  # (N, 84)
        return -0.5 * ((x[:, None] - self.codes) ** 2).sum(dim=2)  # (N, num_classes)


def lenet_features(stages, in_channels=1):
    """Build the convolutional part of a LeNet-5 as it is usually rewritten.

    Args:
        stages: rows of (out_channels, kernel_size, padding); ReLU and 2 × 2 max pooling follow each
            convolution.
        in_channels: channels of the images.

    Returns:
        torch.nn.Sequential

    First built in: notebooks/06_architectures_classic.ipynb
    """
    layers = []
    for out_channels, kernel_size, padding in stages:
        layers.append(nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding))
        layers.append(nn.ReLU())
        layers.append(nn.MaxPool2d(2))
        in_channels = out_channels
    return nn.Sequential(*layers)


class LeNet5(nn.Module):
    """LeNet-5 as it is usually rewritten: full connections, ReLU, max pooling, a linear output.

    61,706 parameters with one input channel and ten classes.

    Shape: images (N, in_channels, 28, 28) float → logits (N, num_classes).

    First built in: notebooks/06_architectures_classic.ipynb
    """

    def __init__(self, in_channels=1, num_classes=10):
        super().__init__()
        self.features = lenet_features(LENET5, in_channels)
        self.classifier = nn.Sequential(
            nn.Linear(16 * 5 * 5, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, num_classes),
        )

    def forward(self, images):
        return self.classifier(self.features(images).flatten(1))
