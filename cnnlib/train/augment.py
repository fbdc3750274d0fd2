"""Augmentation: other views of an image that keep its label, in training and when a model is asked.

As `layers.Normalize` does, augmentation stands at the front of a model: it acts in training mode and lets the
images pass unchanged in evaluation mode, so that nobody evaluates on augmented images by accident.
"""

import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.ground.errors import ParameterError, check_whole
from cnnlib.models.hooks import check_tensor
from cnnlib.train import predict


class RandomShift(nn.Module):
    """Move each image by up to `pixels` in both directions, at random; what comes in from outside is 0.

    Args:
        pixels: int >= 1.

    Shape: images (N, C, H, W) → the same shape; unchanged in evaluation mode.

    Raises:
        ParameterError: `pixels` below 1, or images of another shape.

    Source: Simard, Steinkraus & Platt 2003, "Best Practices for Convolutional Neural Networks Applied to
        Visual Document Analysis", sec. 2 (translations are the simplest of its distortions).
    First built in: notebooks/12_training_speed.ipynb
    """

    def __init__(self, pixels=1):
        super().__init__()
        self.pixels = check_whole("pixels", pixels)

    def forward(self, images):
        if not self.training:
            return images
        _check_batch(images)
        n, _, height, width = images.shape
        # Every place of the window on the padded images, (N, C, places, places, H, W), without a copy.
        windows = F.pad(images, (self.pixels,) * 4).unfold(2, height, 1).unfold(3, width, 1)
        down, right = torch.randint(2 * self.pixels + 1, (2, n), device=images.device)
        return windows[torch.arange(n, device=images.device), :, down, right]  # (N, C, H, W)

    def extra_repr(self):
        return f"pixels={self.pixels}"


class RandomFlip(nn.Module):
    """Mirror each image left to right with probability ½. A shirt stays a shirt; a 2 would become nonsense.

    Shape: images (N, C, H, W) → the same shape; unchanged in evaluation mode.

    Raises:
        ParameterError: images of another shape.

    Source: Krizhevsky, Sutskever & Hinton 2012, "ImageNet Classification with Deep Convolutional Neural
        Networks", sec. 4.1.
    """

    def forward(self, images):
        if not self.training:
            return images
        _check_batch(images)
        chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        return torch.where(chosen, images.flip(3), images)


def _check_batch(images):
    """Refuse one image without a batch around it, as other libraries' transformations take it."""
    if images.ndim != 4:
        raise ParameterError(
            f"images have shape {tuple(images.shape)}; they must be a batch (N, C, H, W), whose images are "
            "changed each by itself: image.unsqueeze(0) makes a batch of one"
        )


def predict_shifted(model, images, pixels=1):
    """Return a model's logits, averaged over each image and the image moved up, down, left and right.

    Args:
        model, images: as for `cnnlib.train.predict`.
        pixels: how far, int >= 1.

    Returns:
        (N, K) float tensor on the CPU. It costs five forward passes.

    Raises:
        ParameterError: `pixels` below 1 or so large that nothing of the images is left; no images.

    Source: Krizhevsky, Sutskever & Hinton 2012, sec. 4.1 (there: five crops and their mirror images).
    First built in: notebooks/12_training_speed.ipynb
    """
    pixels = check_whole("pixels", pixels)
    check_tensor(images)
    if pixels >= min(images.shape[-2:]):
        raise ParameterError(
            f"pixels is {pixels}; it must be below the images' {min(images.shape[-2:])} pixels a side, for "
            "else nothing of them is left"
        )
    moves = ((0, 0), (pixels, 0), (-pixels, 0), (0, pixels), (0, -pixels))
    views = (F.pad(images, (right, -right, down, -down)) for down, right in moves)
    return torch.stack([predict(model, view) for view in views]).mean(0)


def predict_flipped(model, images):
    """Return a model's logits, averaged over each image and its mirror image: two forward passes.

    Args:
        model, images: as for `cnnlib.train.predict`.

    Returns:
        (N, K) float tensor on the CPU.
    """
    check_tensor(images)
    return torch.stack([predict(model, images), predict(model, images.flip(-1))]).mean(0)
