"""Take a 3 × 3 kernel apart: its nine numbers, what they make of a photograph, and one value's sum."""

import ipywidgets
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle

from cnnlib.course.widgets import pictures
from cnnlib.course.widgets.base import Interactive, note, say, side_by_side
from cnnlib.course.widgets.spelled import read_number, short, table
from cnnlib.course.widgets.surface import Surface
from cnnlib.data import photo, photo_names, to_float
from cnnlib.ground.errors import ParameterError
from cnnlib.measure.plots import COLORS
from cnnlib.models.layers import conv2d, output_size

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
OWN = "my own"
FRAME = COLORS[4]


def grey_image(image):
    """Return a photograph (name, path) or a tensor as (1, 1, H, W) uint8, grey; see `explore_kernel`."""
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
        image: (1, 1, H, W) uint8.
        kernel: (3, 3) float, the last that could be read.
        output: (h, w) float: the convolution of the bytes, 0 to 255, with the kernel.
        place: (row, column) of the value in the output that is taken apart.
    """

    name = "kernel explorer"

    def __init__(self, image="camera", kernel="vertical edges"):
        name = "this image" if isinstance(image, torch.Tensor) else str(image)
        self._images = {name: grey_image(image)}  # what was chosen so far
        self.image, self.place = self._images[name], None
        self._build([*({name} - set(photo_names())), *photo_names()], name)
        if not isinstance(kernel, str):
            self.set_kernel(kernel)
        elif kernel in PRESETS:
            self._write(PRESETS[kernel].split())
        else:
            raise ParameterError(f"kernel is {kernel!r}; choose one of {list(PRESETS)} or give 3 × 3 numbers")

    def _build(self, names, chosen):
        wide = {"description_width": "initial"}
        self.photo = ipywidgets.Dropdown(options=names, value=chosen, description="photograph", style=wide)
        self.preset = ipywidgets.Dropdown(
            options=[*PRESETS, OWN], value="identity", description="kernel", style=wide
        )
        self.stride = ipywidgets.Dropdown(options=[1, 2, 3, 4], description="stride", style=wide)
        self.padding = ipywidgets.Dropdown(options=[0, 1, 2], description="padding", style=wide)
        for control, width in (
            (self.photo, 200),
            (self.preset, 200),
            (self.stride, 100),
            (self.padding, 110),
        ):
            control.layout.width = f"{width}px"
        self.cells = [
            ipywidgets.Text(
                value=text,
                continuous_update=False,
                layout={"width": "52px"},
                tooltip=f"kernel, row {i // 3 + 1}, column {i % 3 + 1}: a number or a fraction such as 1/9",
            )
            for i, text in enumerate(PRESETS["identity"].split())
        ]
        square = ipywidgets.GridBox(self.cells, layout={"grid_template_columns": "58px 58px 58px"})
        self.kernel_note, self.output_note, self.sum = note(), note(), note()
        self.before, self.after = Surface(width=300, smooth=False), Surface(width=300, smooth=False)
        self.watch(self.photo, "value", self._choose_photo)
        self.watch(self.preset, "value", self._choose_preset)
        for control in (self.stride, self.padding, *self.cells):
            self.watch(control, "value", self._compute)
        self.watch(self.before, "point", self._point_before)
        self.watch(self.after, "point", self._point_after)
        self.show(
            side_by_side(self.photo, self.preset, self.stride, self.padding),
            side_by_side(
                ipywidgets.VBox([note("the photograph: click a pixel, or use the arrow keys"), self.before]),
                ipywidgets.VBox([note("the kernel: change a number, Enter"), square, self.kernel_note]),
                ipywidgets.VBox([self.output_note, self.after]),
            ),
            self.sum,
        )

    def set_kernel(self, numbers):
        """Write nine numbers, 3 × 3, into the fields."""
        try:
            values = torch.as_tensor(numbers, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            raise ParameterError(f"the kernel is {numbers!r}; it must be 3 × 3 numbers") from None
        if values.shape != (3, 3):
            raise ParameterError(f"the kernel has shape {tuple(values.shape)}; it must be (3, 3)")
        self._write([f"{v:.6g}" for v in values.flatten().tolist()])

    def _write(self, texts):
        with self.quiet():
            for cell, text in zip(self.cells, texts, strict=True):
                cell.value = text
        self._compute()

    def _choose_preset(self):
        if self.preset.value != OWN:
            self._write(PRESETS[self.preset.value].split())

    def _choose_photo(self):
        name = self.photo.value
        if name not in self._images:
            self._images[name] = grey_image(name)
        self.image, self.place = self._images[name], None
        self._compute()

    def _compute(self):
        """Read the kernel's fields and show everything that follows from them."""
        names = (f"row {i // 3 + 1}, column {i % 3 + 1} of the kernel" for i in range(9))
        texts = [cell.value for cell in self.cells]
        numbers = [read_number(text, name) for text, name in zip(texts, names, strict=True)]
        known = next((name for name, preset in PRESETS.items() if preset.split() == texts), OWN)
        with self.quiet():
            self.preset.value = known
        self.kernel = torch.tensor(numbers, dtype=torch.float64).view(3, 3)
        settings = self.stride.value, self.padding.value
        self.output = conv2d(self.image.double(), self.kernel[None, None], None, *settings)[0, 0]
        height, width = self.output.shape
        if self.place is None:  # the most striking value
            away = self.output - self.output.mean()
            self.place = divmod(away.abs().argmax().item(), width)
        self.place = min(self.place[0], height - 1), min(self.place[1], width - 1)
        self._show_images()
        self._show_place()

    def _point_before(self):
        """Choose the window whose middle lies nearest to the pixel that was pointed at."""
        stride, padding = self.stride.value, self.padding.value
        height, width = self.output.shape
        row, column = (round((at - 1 + padding) / stride) for at in self.before.point)
        self.place = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
        self._show_place()

    def _point_after(self):
        height, width = self.output.shape
        row, column = self.after.point
        self.place = min(row, height - 1), min(column, width - 1)
        self._show_place()

    def _colored_output(self):
        """Return the output as a picture, and words that explain its colours."""
        total = self.kernel.sum().item()
        if total > 0.1 * self.kernel.abs().sum():  # grey stays grey: the output is still a photograph
            white = 255 * total  # what white becomes where all is white
            return pictures.grey(self.output, 0, white), f"black is 0 or less, white {white:.0f} or more"
        limit = max(self.output.abs().quantile(0.99).item(), 1.0)
        words = f"orange is positive, blue negative, full colour at ±{limit:.0f}"
        return pictures.signed(self.output, limit), words

    def _show_images(self):
        height, width = self.image.shape[2:]
        self.before.rows, self.before.columns = height, width
        self.before.image = pictures.png(self.image[0, 0].numpy())
        self.before.step = self.stride.value  # a key moves by a window
        self.before.label = f"photograph {self.photo.value}; the arrow keys move the window"
        rows, columns = self.output.shape
        picture, words = self._colored_output()
        self.after.rows, self.after.columns, self.after.image = rows, columns, pictures.png(picture)
        self.after.label = f"output of the convolution; {words}; the arrow keys move the chosen value"
        say(self.output_note, f"the output, {rows} × {columns}: {words}")
        stride, padding = self.stride.value, self.padding.value
        same = output_size(height, 3, stride, padding)
        say(
            self.kernel_note,
            f"its sum: {short(self.kernel.sum().item())}<br>output rows:<br>"
            f"⌊({height} + 2·{padding} − 3) / {stride}⌋ + 1 = {same}",
        )

    def window(self):
        """Return the (3, 3) bytes under the kernel as floats; those of the padding are 0."""
        padding = self.padding.value
        padded = F.pad(self.image[0, 0].double(), [padding] * 4)
        top, left = (at * self.stride.value for at in self.place)
        return padded[top : top + 3, left : left + 3]

    def _show_place(self):
        (row, column), stride, padding = self.place, self.stride.value, self.padding.value
        top, left = row * stride - padding, column * stride - padding
        self.before.boxes = [[top, left, top + 3, left + 3, FRAME]]
        self.after.boxes = [[row, column, row + 1, column + 1, FRAME]]
        with self.quiet():  # the arrow keys go on from here
            self.before.point = [max(top + 1, 0), max(left + 1, 0)]
            self.after.point = [row, column]
        say(self.sum, self._arithmetic(top, left), role="status")

    def _arithmetic(self, top, left):
        window, (height, width) = self.window(), self.image.shape[2:]
        products = window * self.kernel
        signs = (f"{'−' if p < 0 else '+'} {short(abs(p))}" for p in products.flatten().tolist())
        terms = " ".join(signs).removeprefix("+ ")
        inside = [[0 <= top + i < height and 0 <= left + j < width for j in range(3)] for i in range(3)]
        tables = [table(window, inside), "×", table(self.kernel), "=", table(products)]
        row = "".join(f'<div style="font-size: 1.4em">{t}</div>' if len(t) == 1 else t for t in tables)
        where = f"output row {self.place[0]}, column {self.place[1]}"
        value = short(self.output[self.place].item())
        return (
            f'<div style="display: flex; flex-wrap: wrap; gap: 10px; align-items: center">{row}</div>'
            f"{where}: {terms} = <b>{value}</b>"
        )

    def describe(self):
        numbers = "; ".join(", ".join(short(v) for v in row) for row in self.kernel.tolist())
        return (
            f"The photograph {self.photo.value}, the kernel ({numbers}) and their convolution of "
            f"{self.output.shape[0]} × {self.output.shape[1]} values; the one at row {self.place[0]}, column "
            f"{self.place[1]} is {short(self.output[self.place].item())}. Run the cell to change the kernel."
        )

    def draw(self, figure):
        figure.set_size_inches(9, 4.1)
        before, middle, after = figure.subplots(1, 3, width_ratios=[1, 0.62, 1])
        before.imshow(self.image[0, 0].numpy(), cmap="gray", vmin=0, vmax=255)
        before.set_title(f"photograph: {self.photo.value}")
        limit = self.kernel.abs().max().item()
        middle.imshow(pictures.signed(self.kernel, 1.6 * limit))
        for i, j in np.ndindex(3, 3):
            middle.text(j, i, short(self.kernel[i, j].item()), ha="center", va="center")
        middle.set_title(f"kernel: {self.preset.value}")
        picture, words = self._colored_output()
        after.imshow(picture)
        after.set_title("output")
        (row, column), stride, padding = self.place, self.stride.value, self.padding.value
        corner = column * stride - padding - 0.5, row * stride - padding - 0.5
        for ax, at, size in ((before, corner, 3), (after, (column - 0.5, row - 0.5), 1)):
            for margin, color in ((2.2, "white"), (1.5, FRAME)):
                xy, side = [v - margin for v in at], size + 2 * margin
                ax.add_patch(Rectangle(xy, side, side, fill=False, linewidth=2, edgecolor=color))
        for ax in figure.axes:
            ax.axis("off")
        pairs = zip(self.window().flatten().tolist(), self.kernel.flatten().tolist(), strict=True)
        sums = " + ".join(f"{short(pixel)}·({short(weight)})" for pixel, weight in pairs if weight)
        result = short(self.output[self.place].item())
        figure.supxlabel(f"framed: {sums or '0'} = {result}\noutput: {words}", fontsize=9)
