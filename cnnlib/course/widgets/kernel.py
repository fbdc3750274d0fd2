"""Take a 3 × 3 kernel apart: its nine numbers, what they make of a photograph, and one value's sum."""

import math
import os

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from traitlets import Dict, Int, List, Unicode

from cnnlib.course.widgets import pictures
from cnnlib.course.widgets.base import Interactive, check_place, short
from cnnlib.data import photo, photo_names, to_float
from cnnlib.ground.errors import ParameterError, kind_of
from cnnlib.measure.plots import COLORS
from cnnlib.models.layers import conv2d

PRESETS = {
    "identity": "0 0 0  0 1 0  0 0 0",
    "vertical edges": "-1 0 1  -2 0 2  -1 0 1",
    "horizontal edges": "-1 -2 -1  0 0 0  1 2 1",
    "all edges": "0 1 0  1 -4 1  0 1 0",
    "sharpen": "0 -1 0  -1 5 -1  0 -1 0",
    "box blur": "1/9 1/9 1/9  1/9 1/9 1/9  1/9 1/9 1/9",
    "Gaussian blur": "1/16 1/8 1/16  1/8 1/4 1/8  1/16 1/8 1/16",
    "emboss": "-2 -1 0  -1 1 1  0 1 2",
    "shift left": "0 0 0  0 0 1  0 0 0",
}
"""The edges are Sobel's kernels (Sobel & Feldman 1968) and the Laplacian's."""
LARGEST = 1000  # number in a kernel
FRAME = COLORS[4]


def grey_image(image):
    """Return a photograph (name, path) or a tensor as (1, 1, H, W) uint8, grey; see `explore_kernel`."""
    if not isinstance(image, (str, os.PathLike, torch.Tensor)):
        raise ParameterError(
            f"the image is {kind_of(image)}; it must be the name of a photograph, a path, or a tensor "
            "(1, 1 or 3, H, W), which torch.as_tensor makes of an array"
        )
    if not isinstance(image, torch.Tensor):
        pixels = to_float(photo(image)).mean(dim=1, keepdim=True)
        height, width = pixels.shape[2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = pixels[..., top : top + side, left : left + side]
        small = F.interpolate(square, size=(160, 160), mode="bilinear", antialias=True)
        return (255 * small.clamp(0, 1)).round().to(torch.uint8)
    if image.ndim != 4 or len(image) != 1 or image.shape[1] not in (1, 3):
        raise ParameterError(f"the image has shape {tuple(image.shape)}; it must be (1, 1 or 3, H, W)")
    if not all(3 <= side <= 512 for side in image.shape[2:]):
        raise ParameterError(
            f"the image has {image.shape[2]} × {image.shape[3]} pixels; each side must have 3 to 512"
        )
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise ParameterError(f"the image is {image.dtype}; it must be uint8 0–255 or float 0–1")
    pixels = to_float(image.detach().cpu())
    if not (pixels.min() >= -1e-3 and pixels.max() <= 1 + 1e-3):
        raise ParameterError(
            f"the image goes from {pixels.min():.4g} to {pixels.max():.4g}; floats must lie between 0 and 1"
        )
    return (255 * pixels.mean(dim=1, keepdim=True).clamp(0, 1)).round().to(torch.uint8)


class KernelExplorer(Interactive):
    """A photograph, a kernel and their convolution; see `cnnlib.course.widgets.explore_kernel`.

    Attributes:
        photo: name of the photograph.
        texts: the kernel's nine numbers, as they were typed.
        stride, padding: int.
        place: [row, column] of the value in the output that is taken apart.
    """

    name = "kernel explorer"
    view = Unicode("kernel").tag(sync=True)
    presets = Dict({name: text.split() for name, text in PRESETS.items()}).tag(sync=True)
    photos = List(Unicode()).tag(sync=True)
    photo = Unicode().tag(sync=True)
    texts = List(Unicode()).tag(sync=True)
    stride = Int(1).tag(sync=True)
    padding = Int(0).tag(sync=True)
    place = List(Int()).tag(sync=True)

    def __init__(self, image="camera", kernel="vertical edges"):
        name = "this image" if isinstance(image, torch.Tensor) else str(image)
        self._images = {name: grey_image(image)}  # what was chosen so far
        photos = [*({name} - set(photo_names())), *photo_names()]
        super().__init__(photos=photos, photo=name, texts=_texts(kernel))
        away = self.output - self.output.mean()  # the most striking value
        self.place = list(divmod(away.abs().argmax().item(), self.output.shape[1]))

    @property
    def in_book(self):
        return set(self.photos) == set(photo_names())

    def look_up(self, name):
        if name not in self._images:
            self._images[name] = grey_image(name)
        rows, columns = self._images[name].shape[2:]
        return {"rows": rows, "columns": columns, "pixels": self._images[name].numpy().tobytes()}

    @property
    def image(self):
        """(1, 1, H, W) uint8."""
        self.look_up(self.photo)
        return self._images[self.photo]

    @property
    def kernel(self):
        """(3, 3) float64."""
        if len(self.texts) != 9:
            raise ParameterError(f"texts are {len(self.texts)}; they must be 9, the kernel's rows one by one")
        numbers = [_read(text, f"number {i + 1} of the kernel") for i, text in enumerate(self.texts)]
        return torch.tensor(numbers, dtype=torch.float64).view(3, 3)

    @property
    def output(self):
        """(h, w) float64: the convolution of the bytes, 0 to 255, with the kernel."""
        return conv2d(self.image.double(), self.kernel[None, None], None, self.stride, self.padding)[0, 0]

    def _place(self):
        return check_place("place, the [row, column] in the output,", self.place, self.output.shape)

    def window(self):
        """Return the (3, 3) bytes under the kernel as floats; those of the padding are 0."""
        padded = F.pad(self.image[0, 0].double(), [self.padding] * 4)
        top, left = (at * self.stride for at in self._place())
        return padded[top : top + 3, left : left + 3]

    def _colored_output(self):
        """Return the output as a picture, and words that explain its colours."""
        total, output = self.kernel.sum().item(), self.output
        if total > 0.1 * self.kernel.abs().sum():  # grey stays grey: the output is still a photograph
            white = 255 * total  # what white becomes where all is white
            return pictures.grey(output, 0, white), f"black is 0 or less, white {white:.0f} or more"
        limit = max(output.abs().quantile(0.99).item(), 1.0)
        words = f"orange is positive, blue negative, full colour at ±{limit:.0f}"
        return pictures.signed(output, limit), words

    def describe(self):
        numbers = "; ".join(", ".join(short(v) for v in row) for row in self.kernel.tolist())
        row, column = self._place()
        return (
            f"The photograph {self.photo}, the kernel ({numbers}) and their convolution of "
            f"{self.output.shape[0]} × {self.output.shape[1]} values; the one at row {row}, column "
            f"{column} is {short(self.output[row, column].item())}. Run the cell to change the kernel."
        )

    def draw(self, figure):
        figure.set_size_inches(9, 4.1)
        before, middle, after = figure.subplots(1, 3, width_ratios=[1, 0.62, 1])
        before.imshow(self.image[0, 0].numpy(), cmap="gray", vmin=0, vmax=255)
        before.set_title(f"photograph: {self.photo}")
        limit = self.kernel.abs().max().item()
        middle.imshow(pictures.signed(self.kernel, 1.6 * limit))
        for i, j in np.ndindex(3, 3):
            middle.text(j, i, short(self.kernel[i, j].item()), ha="center", va="center")
        known = (name for name, texts in self.presets.items() if texts == self.texts)
        middle.set_title(f"kernel: {next(known, 'my own')}")
        picture, words = self._colored_output()
        after.imshow(picture)
        after.set_title("output")
        (row, column), stride, padding = self._place(), self.stride, self.padding
        corner = column * stride - padding - 0.5, row * stride - padding - 0.5
        for ax, at, size in ((before, corner, 3), (after, (column - 0.5, row - 0.5), 1)):
            for margin, color in ((2.2, "white"), (1.5, FRAME)):
                xy, side = [v - margin for v in at], size + 2 * margin
                ax.add_patch(Rectangle(xy, side, side, fill=False, linewidth=2, edgecolor=color))
        for ax in figure.axes:
            ax.axis("off")
        pairs = zip(self.window().flatten().tolist(), self.kernel.flatten().tolist(), strict=True)
        sums = " + ".join(f"{short(pixel)}·({short(weight)})" for pixel, weight in pairs if weight)
        result = short(self.output[row, column].item())
        figure.supxlabel(f"framed: {sums or '0'} = {result}\noutput: {words}", fontsize=9)


def _texts(kernel):
    """Return a preset's name, or 3 × 3 numbers, as nine texts."""
    if isinstance(kernel, str):
        if kernel not in PRESETS:
            raise ParameterError(f"kernel is {kernel!r}; choose one of {list(PRESETS)} or give 3 × 3 numbers")
        return PRESETS[kernel].split()
    try:
        values = torch.as_tensor(kernel, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise ParameterError(f"the kernel is {kernel!r}; it must be 3 × 3 numbers") from None
    if values.shape != (3, 3):
        raise ParameterError(f"the kernel has shape {tuple(values.shape)}; it must be (3, 3)")
    texts = [f"{v:.6g}" for v in values.flatten().tolist()]
    for i, text in enumerate(texts):
        _read(text, f"row {i // 3 + 1}, column {i % 3 + 1} of the kernel")
    return texts


def _read(text, name):
    """Return a number as `readNumber` in `browser/kernel.js` has accepted it: 2, -0,5, 1/9."""
    above, _, below = text.replace("−", "-").replace(",", ".").partition("/")
    try:
        value = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not abs(value) <= LARGEST:
        raise ParameterError(f"{name} is {text!r}; it must be a number from −{LARGEST} to {LARGEST}")
    return value
