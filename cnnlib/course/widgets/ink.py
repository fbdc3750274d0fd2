"""From strokes of a pen to an image in the form of MNIST's digits."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

PEN = 0.08  # of the surface's width: about two pixels of 28, as MNIST's digits have


def like_mnist(ink):
    """Bring a drawing into the form of MNIST's digits.

    The box around the ink is scaled, its sides in proportion and with anti-aliasing, until the longer one
    has 20 pixels, and laid on 28 × 28 so that its centre of mass is in the middle.

    Args:
        ink: (H, W) float, 0 for paper, 1 for ink.

    Returns:
        (1, 1, 28, 28) uint8, 0 for paper, 255 for ink; all 0 where there is no ink.

    Source: LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", sec. III-A.
    """
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    rows, columns = (ink.amax(dim=axis).nonzero().flatten() for axis in (1, 0))
    if not len(rows):
        return image
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    size = [max(1, round(20 * side / max(box.shape))) for side in box.shape]
    small = F.interpolate(box[None, None], size=size, mode="bilinear", antialias=True)[0, 0].clamp(0, 1)
    mass = small.sum().clamp(min=1e-9)
    corner = []
    for axis, side in enumerate(size):
        middle = (small.sum(dim=1 - axis) * torch.arange(side)).sum() / mass
        # MNIST's centres of mass lie at pixel 14; no ink may leave the frame
        corner.append(min(max(round(14 - middle.item()), 0), 28 - side))
    (top, left), (height, width) = corner, size
    image[0, 0, top : top + height, left : left + width] = (255 * small).round().to(torch.uint8)
    return image


def rasterize(strokes, pen=PEN, size=280):
    """Return strokes as ink.

    Args:
        strokes: lists of [across, down], from 0 to 1.
        pen: the pen's width, as a share of the picture's.
        size: pixels a side.

    Returns:
        (size, size) float tensor, 0 to 1.
    """
    image = Image.new("L", (2 * size, 2 * size))  # twice as large, so that edges come out smooth
    draw, radius = ImageDraw.Draw(image), pen * size
    for stroke in strokes:
        points = [(x * 2 * size, y * 2 * size) for x, y in stroke]
        if len(points) > 1:
            draw.line(points, fill=255, width=round(2 * radius))
        for x, y in points:  # round ends and joints
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return torch.from_numpy(np.array(image.resize((size, size), Image.Resampling.BOX))) / 255
