"""Draw a digit: the model's logits, probabilities and feature maps follow the pen."""

import ipywidgets
import torch
from torch import nn

from cnnlib.course.widgets import pictures
from cnnlib.course.widgets.base import Interactive, note, say, side_by_side
from cnnlib.course.widgets.ink import PEN, like_mnist, rasterize
from cnnlib.course.widgets.surface import Surface
from cnnlib.data import load
from cnnlib.ground.errors import ParameterError
from cnnlib.measure.plots import COLORS
from cnnlib.models.hooks import as_tensor, check_images, evaluation, find_layer, hooks, one_channel, run

MOST_MAPS = 32  # of a layer


class DigitReader(Interactive):
    """A pad to draw on, and what a model makes of the drawing; see `cnnlib.course.widgets.draw_digit`.

    Attributes:
        image: (1, 1, 28, 28) uint8, what the model sees now.
        logits: (10,) float on the CPU, or None where nothing is drawn.
        maps: dict from each layer to its maps (channels, h, w).
    """

    name = "digit reader"

    def __init__(self, model, layers=None):
        if not isinstance(model, nn.Module):
            raise ParameterError(f"model is a {type(model).__name__}; it must be a torch.nn.Module")
        if layers is None:
            layers = [n for n, module in model.named_modules() if isinstance(module, nn.Conv2d)][:4]
        elif isinstance(layers, str):
            raise ParameterError(f"layers is the string {layers!r}; it must be a list of names, [{layers!r}]")
        self.model, self.layers = model, list(layers)
        self._test = load("mnist", "test")
        self._used = dict.fromkeys(range(10), -1)  # digit → the example of it that was shown last
        self._build()
        self.example(7)

    def _build(self):
        label = "Black pad to draw a digit on, with mouse, pen or finger"
        self.pad = Surface(label=label, pen=PEN, smooth=False)
        self.clear = ipywidgets.Button(description="Clear", tooltip="Remove the drawing", icon="eraser")
        self.digits = [
            ipywidgets.Button(description=str(k), tooltip=f"Show a {k} of MNIST's test set")
            for k in range(10)
        ]
        for button in self.digits:
            button.layout = ipywidgets.Layout(width="26px", padding="0", margin="1px")
        self.seen, self.verdict, self.bars = note(), note(), note()
        self.pictures = note()
        self.watch(self.pad, "strokes", self._drawn)
        self.watch(self.clear, "click", self.wipe)
        for k, button in enumerate(self.digits):
            self.watch(button, "click", lambda k=k: self.example(k))
        examples = ipywidgets.VBox([note("or a digit of the test set:"), ipywidgets.HBox(self.digits)])
        left = ipywidgets.VBox([self.pad, self.clear, examples])
        middle = ipywidgets.VBox([self.seen, self.verdict], layout={"width": "168px"})
        self.show(side_by_side(left, middle, self.bars), self.pictures)

    def wipe(self):
        """Remove the drawing or the example."""
        with self.quiet():
            self.pad.image = b""
            self.pad.strokes = []
        self._see(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))

    def example(self, digit):
        """Show a digit of MNIST's test set; called again, the next one of that digit."""
        (places,) = (self._test.labels == digit).nonzero(as_tuple=True)
        self._used[digit] = (self._used[digit] + 1) % len(places)
        image = self._test.images[places[self._used[digit]]].unsqueeze(0)
        with self.quiet():
            self.pad.strokes = []
            self.pad.image = pictures.png(image[0, 0].numpy())
        self._see(image)

    def _drawn(self):
        self.pad.image = b""  # the first stroke takes an example's place
        self._see(like_mnist(rasterize(self.pad.strokes)))

    def _see(self, image):
        """Run the model on an image and show everything that follows from it."""
        kept = {}

        def keep(name):
            def hook(module, inputs, output):
                maps = one_channel(name, as_tensor(name, output))
                kept.setdefault(name, maps[0, :MOST_MAPS].detach().float().cpu())

            return hook

        pairs = [(find_layer(self.model, name), keep(name)) for name in self.layers]
        with hooks(*pairs), evaluation(self.model), torch.no_grad():
            logits = run(self.model, check_images(self.model, image))
        if not isinstance(logits, torch.Tensor) or logits.shape != (1, 10):
            found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise ParameterError(
                f"the model turns an image (1, 1, 28, 28) into {found}; it must return logits (1, 10), one "
                "a digit"
            )
        for name in self.layers:
            if name not in kept:
                raise ParameterError(f"the forward pass does not use layer {name!r}; choose another layer")
        self.image, self.maps = image, kept
        self.logits = logits[0].detach().float().cpu() if image.any() else None
        self._tell()

    @property
    def probabilities(self):
        """(10,) float that sum to 1, or None where nothing is drawn."""
        return None if self.logits is None else self.logits.softmax(dim=0)

    def _tell(self):
        seen = pictures.img(self.image[0, 0].numpy(), "The image that the network sees", width=140)
        say(self.seen, f"What the network sees:<br>{seen}")
        say(self.verdict, self._reading(), role="status")
        say(self.bars, _bars(self.logits, self.probabilities))
        say(self.pictures, "".join(self._row(name, maps) for name, maps in self.maps.items()))

    def _reading(self):
        if self.logits is None:
            return "Nothing is drawn yet. Draw a digit, large, on the black pad."
        (first, second), (k, other) = (v.tolist() for v in self.probabilities.topk(2))
        return (
            f'It reads <b style="font-size: 1.6em">{k}</b><br>with {_share(first)} probability,<br>'
            f"{other} with {_share(second)}"
        )

    def _row(self, name, maps):
        tiles, words = _colored(maps if self.logits is not None else torch.zeros_like(maps))
        picture, _ = pictures.grid(tiles, columns=16, gap=1)
        count, height, width = maps.shape
        text = f"{name}: {count} maps of {height} × {width}; {words}"
        return f"<div>{text}{pictures.img(picture, text, width=round(picture.shape[1] * 56 / width))}</div>"

    def describe(self):
        if self.logits is None:
            return "An empty pad to draw a digit on. Run the cell to draw."
        k, names = self.logits.argmax().item(), ", ".join(self.layers) or "no layer"
        return (
            f"A digit, the ten logits and probabilities of the model, which reads {k} with probability "
            f"{_share(self.probabilities[k].item())}, and the maps of {names}. Run the cell to draw."
        )

    def draw(self, figure):
        figure.set_size_inches(9, 2.6 + 0.6 * sum(-(-len(maps) // 16) for maps in self.maps.values()))
        top, *below = figure.subfigures(
            1 + len(self.maps),
            1,
            height_ratios=[2.6, *(0.25 + 0.6 * -(-len(m) // 16) for m in self.maps.values())],
        )
        seen, logits, shares = top.subplots(1, 3, width_ratios=[1, 1.3, 1.3])
        seen.imshow(self.image[0, 0].numpy(), cmap="gray", vmin=0, vmax=255)
        seen.set(title="what the network sees", xticks=[], yticks=[])
        values, percent = [0.0] * 10, [0.0] * 10
        if self.logits is not None:
            values, percent = self.logits.tolist(), (100 * self.probabilities).tolist()
        logits.barh(range(10), values, color=[COLORS[1] if v > 0 else COLORS[0] for v in values])
        shares.barh(range(10), percent, color=COLORS[2])
        for ax, title in ((logits, "logits"), (shares, "probabilities (%)")):
            ax.set(title=title, yticks=range(10))
            ax.invert_yaxis()
        shares.set_xlim(0, 100)
        for part, (name, maps) in zip(below, self.maps.items(), strict=True):
            tiles, words = _colored(maps)
            ax = part.subplots()
            ax.imshow(pictures.grid(tiles, columns=16, gap=1)[0])
            ax.set_title(f"{name}: {words}", fontsize=9)
            ax.axis("off")


def _share(probability):
    """Return a probability in percent; none is rounded to a certainty."""
    if 0 < probability < 0.001:
        return "under 0.1%"
    return "over 99.9%" if 0.999 < probability < 1 else f"{probability:.1%}"


def _colored(maps):
    """Return maps (channels, h, w) as tiles, on one scale, and words that explain the colours."""
    limit = maps.abs().max().item()
    if maps.min() < 0:
        return pictures.signed(maps, limit), f"orange is positive, blue negative, full colour at ±{limit:.1f}"
    return pictures.grey(maps, 0, limit), f"black is 0, white {limit:.1f}"


def _bars(logits, probabilities):
    """Return a table of ten rows: digit, logit as bar and number, probability as bar and number."""
    limit = 10 if logits is None else max(10, logits.abs().max().item())
    best = None if logits is None else logits.argmax().item()
    rows = []
    for k in range(10):
        logit, share = (0.0, 0.0) if logits is None else (logits[k].item(), probabilities[k].item())
        half = 60 * abs(logit) / limit
        bars = _bar(60 - half if logit < 0 else 60, half, COLORS[0] if logit < 0 else COLORS[1], middle=True)
        numbers = ("–", "–") if logits is None else (f"{logit:.1f}".replace("-", "−"), f"{share:.1%}")
        weight = "bold" if k == best else "normal"
        cells = (k, bars, numbers[0], _bar(0, 120 * share, COLORS[2]), numbers[1])
        style = ("center", "left", "right", "left", "right")
        columns = (
            f'<td style="text-align: {s}; padding: 0 4px; min-width: 1.4em">{c}</td>'
            for s, c in zip(style, cells, strict=True)
        )
        rows.append(f'<tr style="font-weight: {weight}">{"".join(columns)}</tr>')
    heads = f"<th>digit&nbsp;</th>{_head(f'logit (bar: −{limit:.0f} to {limit:.0f})')}{_head('probability')}"
    return f"<table><tr>{heads}</tr>{''.join(rows)}</table>"


def _head(text):
    return f'<th colspan="2" style="padding: 0 4px">{text}</th>'


def _bar(start, length, color, middle=False):
    line = '<div style="position: absolute; left: 60px; width: 1px; height: 100%; background: #888"></div>'
    return (
        '<div style="position: relative; width: 120px; height: 15px; background: rgba(128, 128, 128, 0.15)">'
        f'<div style="position: absolute; left: {start:.1f}px; width: {length:.1f}px; height: 100%; '
        f'background: {color}"></div>{line if middle else ""}</div>'
    )
