"""ConvNeXt's block: a residual block of 2022, with the parts of a vision transformer but its attention."""

import torch
import torch.nn.functional as F
from torch import nn


class ConvNeXtBlock(nn.Module):
    """Depthwise 7 × 7, layer norm over the channels, to four times the channels, GELU, and back; added.

    Args:
        channels: of the input and the output.
        scale: what each channel of the branch is multiplied by at first.

    Shape: (N, channels, H, W) → the same shape.

    Source: Liu et al. 2022, "A ConvNet for the 2020s", arXiv 2201.03545, figure 4; the scale is from
        Touvron et al. 2021, arXiv 2103.17239.
    First built in: notebooks/07_architectures_modern.ipynb
    """

    def __init__(self, channels, scale=1e-6):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.widen = nn.Linear(channels, 4 * channels)
        self.narrow = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), scale))

    def forward(self, x):
        out = self.depthwise(x).permute(0, 2, 3, 1)  # (N, H, W, channels)
        out = self.narrow(F.gelu(self.widen(self.norm(out))))
        return x + self.scale * out.permute(0, 3, 1, 2)
