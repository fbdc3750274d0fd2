"""Layers, written out the way the lessons build them."""

import torch
from torch import nn

from cnnlib.errors import ParameterError


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation, per channel.

    It is the first layer of a model, not a step before it: so the model, its checkpoint and its users
    cannot disagree about the scale of the pixels.

    Args:
        mean: C floats, on the scale 0–1; one float serves every channel.
        std: C floats above 0, or one.

    Shape: images (N, C, H, W) float 0–1 → the same shape.

    Raises:
        ParameterError: mean and std of different lengths, or a std that is not above 0.

    First built in: notebooks/03_mnist_cnn.ipynb
    """

    def __init__(self, mean, std):
        super().__init__()
        mean, std = (torch.as_tensor(v, dtype=torch.float32).reshape(-1, 1, 1) for v in (mean, std))
        if mean.shape != std.shape or not (std > 0).all():
            raise ParameterError(
                f"mean {mean.flatten().tolist()} and std {std.flatten().tolist()} must have one value a "
                "channel each, and every std must be above 0"
            )
        self.register_buffer("mean", mean)  # (C, 1, 1)
        self.register_buffer("std", std)

    def forward(self, images):
        return (images - self.mean) / self.std

    def extra_repr(self):
        rounded = [[round(x, 4) for x in v.flatten().tolist()] for v in (self.mean, self.std)]
        return f"mean={rounded[0]}, std={rounded[1]}"
