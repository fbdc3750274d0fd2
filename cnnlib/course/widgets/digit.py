"""Draw a digit: the model's logits, probabilities and feature maps follow the pen."""

import torch
from torch import nn
from traitlets import Bytes, Dict, List, Unicode, observe

from cnnlib.course.widgets import pictures
from cnnlib.course.widgets.base import Interactive, attempt
from cnnlib.course.widgets.chain import export
from cnnlib.data import load
from cnnlib.ground.errors import ParameterError, check_whole, kind_of
from cnnlib.measure.plots import COLORS
from cnnlib.models.hooks import as_tensor, check_images, evaluation, find_layer, hooks, one_channel, run

MOST_MAPS = 32  # of a layer
EXAMPLES = 6  # of each digit


class OnDigits(Interactive):
    """What the widgets share that run a model on a drawing.

    Attributes:
        pixels: 784 bytes, 0 for paper, 255 for ink: what the model sees now, as the browser tells it.
        network: the model's layers for the browser; [] where it cannot compute them.
        examples: bytes of `EXAMPLES` images of each digit of MNIST's test set, digit by digit.
    """

    pixels = Bytes(bytes(784)).tag(sync=True)
    network = List().tag(sync=True)
    examples = Bytes().tag(sync=True)

    def __init__(self, model, **traits):
        if not isinstance(model, nn.Module):
            raise ParameterError(f"model is {kind_of(model)}; it must be a torch.nn.Module")
        test = load("mnist", "test")
        places = torch.cat([(test.labels == k).nonzero().flatten()[:EXAMPLES] for k in range(10)])
        self.model = model
        super().__init__(examples=test.images[places].numpy().tobytes(), **traits)

    @property
    def image(self):
        """(1, 1, 28, 28) uint8: what the model sees now."""
        if len(self.pixels) != 784:
            raise ParameterError(f"pixels are {len(self.pixels)} bytes; they must be 784, row by row")
        return torch.frombuffer(bytearray(self.pixels), dtype=torch.uint8).view(1, 1, 28, 28)

    def example(self, digit, number=0):
        """Show one of the examples of a digit."""
        digit = check_whole("digit", digit, least=0, most=9)
        number = check_whole("number", number, least=0, most=EXAMPLES - 1)
        start = 784 * (digit * EXAMPLES + number)
        self.pixels = self.examples[start : start + 784]

    def look(self, layers=()):
        """Run the model as it is now: return its logits (10,) and the layers' outputs, on the CPU."""
        kept = {}

        def keep(name):
            def hook(module, inputs, output):
                kept.setdefault(name, as_tensor(name, output).detach().float().cpu())

            return hook

        pairs = [(find_layer(self.model, name), keep(name)) for name in layers]
        with hooks(*pairs), evaluation(self.model), torch.no_grad():
            logits = run(self.model, check_images(self.model, self.image))
        if not isinstance(logits, torch.Tensor) or logits.shape != (1, 10):
            found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise ParameterError(
                f"the model turns an image (1, 1, 28, 28) into {found}; it must return logits (1, 10), one "
                "a digit"
            )
        for name in layers:
            if name not in kept:
                raise ParameterError(f"the forward pass does not use layer {name!r}; choose another layer")
        return logits[0].detach().float().cpu(), kept


class DigitReader(OnDigits):
    """A pad to draw on, and what a model makes of the drawing; see `cnnlib.course.widgets.draw_digit`."""

    name = "digit reader"
    view = Unicode("digit").tag(sync=True)
    layers = List(Unicode()).tag(sync=True)
    computed = Dict(help="the model's results, where the browser cannot compute them").tag(sync=True)

    def __init__(self, model, layers=None):
        if isinstance(layers, str):
            raise ParameterError(f"layers is the string {layers!r}; it must be a list of names, [{layers!r}]")
        super().__init__(model)
        if layers is None:
            layers = [n for n, module in model.named_modules() if isinstance(module, nn.Conv2d)][:4]
        self.layers = list(layers)
        self.example(7)
        _ = self.maps  # what does not fit fails here
        self._version = None
        self.computed = self._compute()

    @observe("pixels")
    def _drawn(self, change):
        if hasattr(self, "_version"):
            self.computed = attempt(self._compute)

    def _compute(self):
        """Give the browser the model's weights when they are new; return what it cannot compute."""
        version = sum(tensor._version for tensor in (*self.model.parameters(), *self.model.buffers()))
        if version != self._version:  # it grows with each step of training
            self.network, self._version = self._export(), version
        if self.network:
            return {}
        maps = [{"shape": list(each.shape), "values": each.numpy().tobytes()} for each in self.maps.values()]
        return {"logits": self.look()[0].numpy().tobytes(), "maps": maps}

    def _export(self):
        try:
            network = export(self.model)
        except ParameterError:
            return []
        return network if {layer["name"] for layer in network}.issuperset(self.layers) else []

    @property
    def in_book(self):
        return bool(self.network)

    @property
    def logits(self):
        """(10,) float on the CPU, or None where nothing is drawn."""
        return self.look()[0] if any(self.pixels) else None

    @property
    def probabilities(self):
        """(10,) float that sum to 1, or None where nothing is drawn."""
        return None if self.logits is None else self.logits.softmax(dim=0)

    @property
    def maps(self):
        """Dict from each layer to its maps (channels, h, w)."""
        kept = self.look(self.layers)[1]
        return {name: one_channel(name, maps)[0, :MOST_MAPS].contiguous() for name, maps in kept.items()}

    def describe(self):
        if self.logits is None:
            return "An empty pad to draw a digit on. Run the cell to draw."
        k, names = self.logits.argmax().item(), ", ".join(self.layers) or "no layer"
        return (
            f"A digit, the ten logits and probabilities of the model, which reads {k} with probability "
            f"{_share(self.probabilities[k].item())}, and the maps of {names}. Run the cell to draw."
        )

    def draw(self, figure):
        maps, seen_logits = self.maps, self.logits
        figure.set_size_inches(9, 2.6 + 0.6 * sum(-(-len(each) // 16) for each in maps.values()))
        top, *below = figure.subfigures(
            1 + len(maps),
            1,
            height_ratios=[2.6, *(0.25 + 0.6 * -(-len(each) // 16) for each in maps.values())],
        )
        seen, logits, shares = top.subplots(1, 3, width_ratios=[1, 1.3, 1.3])
        seen.imshow(self.image[0, 0].numpy(), cmap="gray", vmin=0, vmax=255)
        seen.set(title="what the network sees", xticks=[], yticks=[])
        values, percent = [0.0] * 10, [0.0] * 10
        if seen_logits is not None:
            values, percent = seen_logits.tolist(), (100 * self.probabilities).tolist()
        logits.barh(range(10), values, color=[COLORS[1] if v > 0 else COLORS[0] for v in values])
        shares.barh(range(10), percent, color=COLORS[2])
        for ax, title in ((logits, "logits"), (shares, "probabilities (%)")):
            ax.set(title=title, yticks=range(10))
            ax.invert_yaxis()
        shares.set_xlim(0, 100)
        for part, (name, each) in zip(below, maps.items(), strict=True):
            tiles, words = pictures.colored(each)
            ax = part.subplots()
            ax.imshow(pictures.grid(tiles, columns=16, gap=1)[0])
            ax.set_title(f"{name}: {words}", fontsize=9)
            ax.axis("off")


def _share(probability):
    """Return a probability in percent; none is rounded to a certainty."""
    if 0 < probability < 0.001:
        return "under 0.1%"
    return "over 99.9%" if 0.999 < probability < 1 else f"{probability:.1%}"
