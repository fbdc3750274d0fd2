"""Arrays as pictures: colours, grids of maps, PNG bytes."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cnnlib.measure.plots import COLORS


def _rgb(color):
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float32)


NEGATIVE, POSITIVE, MARK = (_rgb(COLORS[i]) for i in (0, 1, 4))


def grey(values, low=0.0, high=1.0):
    """Return (…, 3) uint8: `low` and less is black, `high` and more is white."""
    span = max(high - low, 1e-9)
    level = 255 * ((np.asarray(values, dtype=np.float32) - low) / span).clip(0, 1)
    return np.repeat(level.round().astype(np.uint8)[..., None], 3, axis=-1)


def signed(values, limit):
    """Return (…, 3) uint8: 0 is white, positive values turn vermillion, negative ones blue, up to ± limit."""
    share = (np.asarray(values, dtype=np.float32) / max(limit, 1e-9)).clip(-1, 1)[..., None]
    end = np.where(share < 0, NEGATIVE, POSITIVE)
    return (255 + np.abs(share) * (end - 255)).round().astype(np.uint8)


def colored(maps):
    """Return maps (channels, h, w) as tiles, on one scale, and words that explain the colours."""
    limit = maps.abs().max().item()
    if maps.min() < 0:
        return signed(maps, limit), f"orange is positive, blue negative, full colour at ±{limit:.1f}"
    return grey(maps, 0, limit), f"black is 0, white {limit:.1f}"


def overlay(photo, heat):
    """Lay a map on a photograph.

    Args:
        photo: (H, W, 3) float 0–1.
        heat: (H, W) float 0–1: 0 leaves the photograph, in pale grey, and 1 hides it under orange.

    Returns:
        (H, W, 3) uint8.
    """
    pale = 255 * (0.25 + 0.6 * photo.mean(axis=2, keepdims=True))
    cover = 0.85 * heat[..., None]
    return ((1 - cover) * pale + cover * MARK).round().astype(np.uint8)


def resize(picture, width, height):
    """Return a (H, W, 3) uint8 picture in another size: averaged when smaller, in squares when larger."""
    smaller = width < picture.shape[1]
    how = Image.Resampling.BOX if smaller else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize((width, height), how))


def grid(tiles, columns, gap=2, labels=None):
    """Put pictures of one size side by side on a transparent ground.

    Args:
        tiles: (N, h, w, 3) uint8.
        columns: tiles a row.
        gap: pixels between tiles.
        labels: N short strings written above the tiles, or None.

    Returns:
        (H, W, 4) uint8, and the (top, left) of each tile.
    """
    count, height, width = tiles.shape[:3]
    head = 0 if labels is None else 13
    rows = -(-count // columns)
    shape = rows * (height + head + gap) - gap, min(columns, count) * (width + gap) - gap
    picture = np.zeros((*shape, 4), dtype=np.uint8)
    corners = [
        (i // columns * (height + head + gap) + head, i % columns * (width + gap)) for i in range(count)
    ]
    for tile, (top, left) in zip(tiles, corners, strict=True):
        picture[top : top + height, left : left + width, :3] = tile
        picture[top : top + height, left : left + width, 3] = 255
    if labels is not None:
        image = Image.fromarray(picture)
        draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=11)
        for label, (top, left) in zip(labels, corners, strict=True):
            # grey in the middle between black and white: it reads on a light and on a dark page
            draw.text((left + 1, top - head), label, fill=(118, 118, 118, 255), font=font)
        picture = np.asarray(image)
    return picture, corners


def png(picture, colors=None):
    """Return a (H, W), (H, W, 3) or (H, W, 4) uint8 array as PNG bytes, with at most `colors` colours."""
    image = Image.fromarray(picture)
    if colors:
        image = _fewer_colors(image.convert("RGB"), colors)
    file = io.BytesIO()
    image.save(file, "png", compress_level=9 if colors else 1)
    return file.getvalue()


def _fewer_colors(image, colors):
    """Return an RGB image with a palette: dithered, so that photographs show no steps, and white paper."""
    palette = image.quantize(colors, Image.Quantize.MAXCOVERAGE)
    entries = np.array(palette.getpalette()).reshape(-1, 3)
    white = entries.sum(axis=1).argmax()
    entries[white] = 255
    palette.putpalette(entries.flatten().tolist())
    indices = np.array(image.quantize(palette=palette))
    indices[(np.asarray(image) == 255).all(axis=2)] = white  # the nearest colour is found but roughly
    few = Image.fromarray(indices).convert("P")
    few.putpalette(entries.flatten().tolist())
    return few
