"""Walk through a network's feature maps: photograph, layer, channel, and the pixels that a unit looks at."""

import hashlib
from collections import OrderedDict

import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from torch import nn
from traitlets import Bool, Dict, Int, List, Unicode

from cnnlib.course.widgets import pictures
from cnnlib.course.widgets.base import Interactive, check_place
from cnnlib.data import photo, photo_names
from cnnlib.ground.errors import ParameterError, kind_of
from cnnlib.inside.features import feature_maps
from cnnlib.inside.geometry import geometry
from cnnlib.measure.plots import COLORS
from cnnlib.models.hooks import one_channel
from cnnlib.models.pretrained import VGG16_BLOCKS, center_crop, vgg16_features

SIZE = 224  # pixels a side of the square that is cut out of a photograph
KEPT = 4  # photographs whose maps are kept: about 25 MB each for VGG16
TILE = 56  # pixels a side of a map in the figure's grid
COLUMNS, ROWS = 6, 4  # of the grid
FRAME, CELL = COLORS[0], COLORS[6]  # the receptive field, and the unit's own place in its middle


class FeatureExplorer(Interactive):
    """Maps of a network over photographs; see `cnnlib.course.widgets.explore_features`.

    Attributes:
        photo, layer: what is chosen, str; `layers` has each layer's geometry.
        channel: the chosen channel, int.
        place: [row, column] of the chosen unit in the map.
        weights: SHA-256 of the model's parameters, by which the book knows whether its maps are this model's.
        finest: rows and columns that a map may have; of a larger one, every second, third … unit is told.
    """

    name = "feature explorer"
    finest = SIZE
    view = Unicode("features").tag(sync=True)
    size = Int(SIZE).tag(sync=True)
    photos = List(Unicode()).tag(sync=True)
    layers = Dict().tag(sync=True)
    photo = Unicode().tag(sync=True)
    layer = Unicode().tag(sync=True)
    channel = Int().tag(sync=True)
    place = List(Int(), [0, 0]).tag(sync=True)
    weights = Unicode().tag(sync=True)
    paths = Bool(True, help="whether photographs of one's own can be looked at").tag(sync=True)

    def __init__(self, model=None, photos=None, layers=None):
        self.model = vgg16_features() if model is None else model
        if not isinstance(self.model, nn.Module):
            raise ParameterError(f"model is {kind_of(model)}; it must be a torch.nn.Module")
        self._names = self._name_layers(layers)
        self._where = {label: geometry(self.model, layer) for label, layer in self._names.items()}
        names = photo_names() if photos is None else [str(name) for name in photos]
        if isinstance(photos, str) or not names:
            raise ParameterError(f"photos is {photos!r}; it must be a list of names, such as ['chelsea']")
        self._cache = OrderedDict()
        digest = hashlib.sha256()
        for tensor in self.model.state_dict().values():
            digest.update(tensor.cpu().contiguous().numpy())
        super().__init__(
            photos=names,
            photo="chelsea" if "chelsea" in names else names[0],
            layers={label: place._asdict() for label, place in self._where.items()},
            layer=list(self._names)[-1],
            weights=digest.hexdigest(),
        )
        self.channel = self.strongest[0]  # a bad photograph fails here
        self.place = list(divmod(self.maps[self.channel].argmax().item(), self.maps.shape[2]))

    def _name_layers(self, layers):
        if layers is None:
            modules = dict(self.model.named_modules())
            if all(name in modules for name in VGG16_BLOCKS.values()):
                return dict(VGG16_BLOCKS)
            layers = [name for name, module in modules.items() if isinstance(module, nn.Conv2d)]
        if isinstance(layers, str) or not layers:
            raise ParameterError(f"layers is {layers!r}; it must be a list of names, such as ['features.3']")
        return dict(layers) if isinstance(layers, dict) else {name: name for name in layers}

    def _fetch(self, name, layer=None):
        """Return a photograph's square (3, SIZE, SIZE) and its maps; those of the last few are kept.

        A layer that is named must be one of the explorer's.
        """
        if layer is not None and layer not in self._names:
            raise ParameterError(f"layer is {layer!r}; choose one of {list(self._names)}")
        if name not in self._cache:
            square = center_crop(photo(name), SIZE)
            found = feature_maps(self.model, square, list(self._names.values()))
            maps = {label: one_channel(name, found[name])[0].cpu() for label, name in self._names.items()}
            self._cache[name] = square[0], maps
        self._cache.move_to_end(name)
        if len(self._cache) > KEPT:
            self._cache.popitem(last=False)
        return self._cache[name]

    @property
    def in_book(self):
        return set(self.photos) <= set(photo_names())

    def look_up(self, name, layer=None):
        """Return a photograph's square, (size, size, 3) bytes, or its maps in a layer.

        Each channel is told as bytes, 255 its highest value; what is negative as 0.
        """
        square, maps = self._fetch(name, layer)
        if layer is None:
            return {"pixels": (255 * square).byte().permute(1, 2, 0).contiguous().numpy().tobytes()}
        step = -(-max(maps[layer].shape[1:]) // self.finest)
        found = maps[layer][:, ::step, ::step].float().clamp(min=0)
        peaks = found.amax(dim=(1, 2))
        levels = (255 * found / peaks.clamp(min=1e-9)[:, None, None]).round().byte()
        maps, peaks = levels.contiguous().numpy().tobytes(), peaks.numpy().tobytes()
        return {"shape": list(found.shape), "maps": maps, "peaks": peaks, "step": step}

    @property
    def square(self):
        """(3, size, size) float 0–1: the photograph."""
        return self._fetch(self.photo)[0]

    @property
    def maps(self):
        """(channels, h, w) float: the maps of the chosen photograph and layer."""
        return self._fetch(self.photo, self.layer)[1][self.layer]

    def _unit(self):
        """Return the chosen (channel, row, column)."""
        unit = [self.channel, *self.place]
        return check_place("[channel, *place]", unit, self.maps.shape)

    @property
    def window(self):
        """The chosen unit's receptive field in the photograph, a `cnnlib.inside.geometry.Window`."""
        return self._where[self.layer].window(*self._unit()[1:])

    @property
    def strongest(self):
        """The channels in the grid, those that respond most strongly in the whole photograph."""
        strength = self.maps.clamp(min=0).mean(dim=(1, 2))
        return strength.topk(min(COLUMNS * ROWS, len(strength))).indices.tolist()

    def _heat(self):
        """Return the chosen map in the photograph's size, (SIZE, SIZE), 0 to 1."""
        values = self.maps[self._unit()[0]].float().clamp(min=0)
        large = F.interpolate(values[None, None], size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        return (large[0, 0] / large.max().clamp(min=1e-9)).numpy()

    def _boxes(self):
        """Return the frames on the photograph: the receptive field, and the unit's own place in it."""
        place = self._where[self.layer]
        middle = [round(place.start + (place.size - 1) / 2 + at * place.jump) for at in self.place]
        cell = [at + side for side in (-(place.jump // 2), (place.jump + 1) // 2) for at in middle]
        frames = [[*self.window, FRAME], [*cell, CELL]]
        return frames if place.size > 30 else frames[:1]  # one hides the other

    def _tiles(self):
        found = self.maps[self.strongest]
        tiles = pictures.grey(found / found.amax(dim=(1, 2), keepdim=True).clamp(min=1e-9))
        return torch.stack(
            [torch.from_numpy(pictures.resize(tile, TILE, TILE).copy()) for tile in tiles]
        ).numpy()

    def describe(self):
        (channel, row, column), size = self._unit(), self._where[self.layer].size
        return (
            f"The photograph {self.photo}, a channel of {self.layer} laid over it, and the maps of the "
            f"strongest channels. The unit at row {row}, column {column} of channel {channel} has the "
            f"value {self.maps[channel, row, column]:.2f}. It looks at the blue frame, {size} × {size} "
            "pixels. Run the cell to choose."
        )

    def draw(self, figure):
        figure.set_size_inches(9.4, 3.4)
        scene, heat, grid = figure.subplots(1, 3, width_ratios=[1, 1, 1.6])
        scene.imshow(self.square.permute(1, 2, 0).numpy())
        scene.set_title(f"photograph: {self.photo}", fontsize=9)
        heat.imshow(pictures.overlay(self.square.permute(1, 2, 0).numpy(), self._heat()))
        heat.set_title(f"{self.layer}, channel {self.channel}", fontsize=9)
        for ax in (scene, heat):
            for top, left, bottom, right, color in self._boxes():
                for style in ({"lw": 4, "ec": "white"}, {"lw": 1.8, "ec": color}):
                    ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, **style))
            ax.set(xlim=(-0.5, SIZE - 0.5), ylim=(SIZE - 0.5, -0.5))
        labels = [str(channel) for channel in self.strongest]
        grid.imshow(pictures.grid(self._tiles(), COLUMNS, labels=labels)[0])
        grid.set_title("the strongest channels in the whole photograph", fontsize=9)
        for ax in figure.axes:
            ax.axis("off")
