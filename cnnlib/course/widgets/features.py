"""Walk through a network's feature maps: photograph, layer, channel, and the pixels that a unit looks at."""

from collections import OrderedDict

import ipywidgets
import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from torch import nn

from cnnlib.course.widgets import pictures
from cnnlib.course.widgets.base import Interactive, note, say, side_by_side
from cnnlib.course.widgets.surface import Surface
from cnnlib.data import photo, photo_names
from cnnlib.ground.errors import ParameterError
from cnnlib.inside.features import feature_maps
from cnnlib.inside.geometry import geometry
from cnnlib.measure.plots import COLORS
from cnnlib.models.hooks import one_channel
from cnnlib.models.pretrained import VGG16_BLOCKS, center_crop, vgg16_features

SIZE = 224  # pixels a side of the square that is cut out of a photograph
KEPT = 4  # photographs whose maps are kept: about 25 MB each for VGG16
TILE = 56  # pixels a side of a map in the grid
COLUMNS, ROWS = 6, 4  # of the grid
FRAME, CELL = COLORS[0], COLORS[6]  # the receptive field, and the unit's own place in its middle
OVERALL, HERE = "in the whole photograph", "at the framed place"


class FeatureExplorer(Interactive):
    """Maps of a network over photographs; see `cnnlib.course.widgets.explore_features`.

    Attributes:
        maps: (channels, h, w) float: the maps of the chosen photograph and layer.
        channel: the chosen channel, int.
        place: (row, column) of the chosen unit in the map.
        window: its receptive field in the photograph, a `cnnlib.inside.geometry.Window`.
        strongest: the channels in the grid, the strongest first.
    """

    name = "feature explorer"

    def __init__(self, model=None, photos=None, layers=None):
        self.model = vgg16_features() if model is None else model
        if not isinstance(self.model, nn.Module):
            raise ParameterError(f"model is a {type(model).__name__}; it must be a torch.nn.Module")
        self.layers = self._name_layers(layers)
        self._where = {layer: geometry(self.model, layer) for layer in self.layers.values()}
        names = photo_names() if photos is None else [str(name) for name in photos]
        if isinstance(photos, str) or not names:
            raise ParameterError(f"photos is {photos!r}; it must be a list of names, such as ['chelsea']")
        self._cache = OrderedDict()
        self._fetch(names[0] if "chelsea" not in names else "chelsea")  # a bad photograph fails here
        self._build(names)
        self._choose_photo()

    def _name_layers(self, layers):
        if layers is None:
            modules = dict(self.model.named_modules())
            if all(name in modules for name in VGG16_BLOCKS.values()):
                return dict(VGG16_BLOCKS)
            layers = [name for name, module in modules.items() if isinstance(module, nn.Conv2d)]
        if isinstance(layers, str) or not layers:
            raise ParameterError(f"layers is {layers!r}; it must be a list of names, such as ['features.3']")
        return dict(layers) if isinstance(layers, dict) else {name: name for name in layers}

    def _fetch(self, name):
        """Return a photograph's square (3, SIZE, SIZE) and its maps; those of the last few are kept."""
        if name not in self._cache:
            square = center_crop(photo(name), SIZE)
            maps = feature_maps(self.model, square, list(self.layers.values()))
            maps = {layer: one_channel(layer, found)[0].cpu() for layer, found in maps.items()}
            self._cache[name] = square[0], maps
        self._cache.move_to_end(name)
        if len(self._cache) > KEPT:
            self._cache.popitem(last=False)
        return self._cache[name]

    def _build(self, names):
        wide = {"description_width": "initial"}
        first = next(iter(self._cache))
        self.photo = ipywidgets.Dropdown(options=names, value=first, description="photograph", style=wide)
        self.path = ipywidgets.Text(
            placeholder="path of a photograph of yours, Enter",
            continuous_update=False,
            description="or",
            style=wide,
        )
        self.layer = ipywidgets.Dropdown(
            options=self.layers, value=list(self.layers.values())[-1], description="layer", style=wide
        )
        self.number = ipywidgets.BoundedIntText(description="channel", style=wide)
        self.order = ipywidgets.Dropdown(options=[OVERALL, HERE], description="strongest", style=wide)
        sizes = (
            (self.photo, 210),
            (self.path, 290),
            (self.layer, 150),
            (self.number, 140),
            (self.order, 260),
        )
        for control, width in sizes:
            control.layout.width = f"{width}px"
        self.here, self.map_note, self.grid_note = note(), note(), note()
        self.scene, self.map = (Surface(width=270, rows=SIZE, columns=SIZE) for _ in range(2))
        self.grid = Surface(width=COLUMNS * (TILE + 2) - 2, step=TILE + 4, smooth=False)
        self.watch(self.photo, "value", self._choose_photo)
        self.watch(self.path, "value", self._choose_path)
        self.watch(self.layer, "value", self._choose_layer)
        self.watch(self.number, "value", self._choose_channel)
        self.watch(self.order, "value", self._show_grid)
        self.watch(self.scene, "point", lambda: self._point_at(self.scene))
        self.watch(self.map, "point", lambda: self._point_at(self.map))
        self.watch(self.grid, "point", self._point_grid)
        self.show(
            side_by_side(self.photo, self.path, self.layer, self.number, self.order),
            side_by_side(
                ipywidgets.VBox([note("the photograph: click a place, or use the arrow keys"), self.scene]),
                ipywidgets.VBox([self.map_note, self.map]),
                ipywidgets.VBox([self.grid_note, self.grid]),
            ),
            self.here,
        )

    def _choose_path(self):
        name = self.path.value.strip()
        if name:
            self._fetch(name)  # fails here, with a message, where it is no photograph
            with self.quiet():
                if name not in self.photo.options:
                    self.photo.options = [*self.photo.options, name]
                self.photo.value = name
            self._choose_photo()

    def _choose_photo(self):
        self.square, self._maps = self._fetch(self.photo.value)
        self.scene.image = pictures.png((255 * self.square).byte().permute(1, 2, 0).numpy())
        self.scene.label = f"photograph {self.photo.value}; the arrow keys move the framed place"
        self._choose_layer()

    def _choose_layer(self):
        self.maps = self._maps[self.layer.value]
        with self.quiet():
            self.number.max = len(self.maps) - 1
            self.order.value = OVERALL
            self.number.value = self._ranking()[0]
        self._choose_channel()
        self._show_grid()

    def _choose_channel(self):
        """Show a channel, at its strongest response."""
        self.channel = self.number.value
        width = self.maps.shape[2]
        self._go(*divmod(self.maps[self.channel].argmax().item(), width))
        self._frame_tile()

    def _point_at(self, surface):
        """Choose the unit in the middle of whose receptive field a pixel lies, or the nearest to it."""
        place = self._where[self.layer.value]
        middle = place.start + (place.size - 1) / 2
        row, column = (
            min(max(round((at - middle) / place.jump), 0), count - 1)
            for at, count in zip(surface.point, self.maps.shape[1:], strict=True)
        )
        self._go(row, column)
        if self.order.value == HERE:
            self._show_grid()

    def _point_grid(self):
        """Choose the channel of the tile that was pointed at, or of the nearest."""
        down, across = self.grid.point
        away = [abs(top + TILE / 2 - down) + abs(left + TILE / 2 - across) for top, left in self._corners]
        with self.quiet():
            self.number.value = self.channel = self.strongest[away.index(min(away))]
        if self.order.value == HERE:  # to compare channels at this place
            self._go(*self.place)
        else:
            self._go(*divmod(self.maps[self.channel].argmax().item(), self.maps.shape[2]))
        self._frame_tile()

    def _ranking(self):
        if self.order.value == HERE:
            strength = self.maps[:, self.place[0], self.place[1]]
        else:
            strength = self.maps.mean(dim=(1, 2))
        return strength.topk(min(COLUMNS * ROWS, len(strength))).indices.tolist()

    def _heat(self):
        """Return the chosen map in the photograph's size, (SIZE, SIZE), 0 to 1."""
        values = self.maps[self.channel].float().clamp(min=0)
        large = F.interpolate(values[None, None], size=(SIZE, SIZE), mode="bilinear", align_corners=False)[
            0, 0
        ]
        return (large / large.max().clamp(min=1e-9)).numpy()

    def _go(self, row, column):
        """Choose a unit of the channel, frame its receptive field and tell its value."""
        place = self._where[self.layer.value]
        self.place, self.window = (row, column), place.window(row, column)
        middle = [round(place.start + (place.size - 1) / 2 + at * place.jump) for at in self.place]
        cell = [at + side for side in (-(place.jump // 2), (place.jump + 1) // 2) for at in middle]
        frames = [[*self.window, FRAME], [*cell, CELL]]
        self.scene.boxes = self.map.boxes = frames if place.size > 30 else frames[:1]  # one hides the other
        with self.quiet():  # the arrow keys go on from here
            self.scene.point = self.map.point = [min(max(at, 0), SIZE - 1) for at in middle]
        self.scene.step = self.map.step = place.jump
        self.map.image = pictures.png(pictures.overlay(self.square.permute(1, 2, 0).numpy(), self._heat()))
        self.map.label = f"map of channel {self.channel} over the photograph; the arrow keys move the place"
        _, height, width = self.maps.shape
        say(self.map_note, f"channel {self.channel} ({height} × {width}) laid over it, in orange")
        say(self.here, self._sentence(), role="status")

    def _sentence(self):
        (row, column), window, values = self.place, self.window, self.maps[self.channel]
        size = self._where[self.layer.value].size
        inside = 1.0
        for first, last in ((window.top, window.bottom), (window.left, window.right)):
            inside *= (min(last, SIZE) - max(first, 0)) / size
        outside = f"; {1 - inside:.0%} of it lies outside the photograph" if inside < 1 else ""
        square = " The black square is its own place." if len(self.scene.boxes) > 1 else ""
        return (
            f"The unit at row {row}, column {column} of channel {self.channel}, {self.layer.label}, has the "
            f"value <b>{values[row, column]:.2f}</b> (the strongest of this map: {values.max():.2f}). It "
            f"looks at the blue frame, {size} × {size} pixels{outside}.{square}"
        )

    def _tiles(self, side=TILE):
        found = self.maps[self.strongest]
        highest = found.amax(dim=(1, 2), keepdim=True).clamp(min=1e-9)
        tiles = pictures.grey(found / highest)
        return torch.stack(
            [torch.from_numpy(pictures.resize(tile, side, side).copy()) for tile in tiles]
        ).numpy()

    def _show_grid(self):
        self.strongest = self._ranking()
        labels = [str(channel) for channel in self.strongest]
        picture, self._corners = pictures.grid(self._tiles(), COLUMNS, labels=labels)
        self.grid.rows, self.grid.columns = picture.shape[:2]
        self.grid.image = pictures.png(picture)
        self.grid.label = f"maps of channels {', '.join(labels)}; the arrow keys choose one"
        say(self.grid_note, f"the strongest channels {self.order.value}, of {len(self.maps)}: click one")
        self._frame_tile()

    def _frame_tile(self):
        if self.channel not in getattr(self, "strongest", ()):
            self.grid.boxes = []
            return
        top, left = self._corners[self.strongest.index(self.channel)]
        self.grid.boxes = [[top, left, top + TILE, left + TILE, COLORS[4]]]
        with self.quiet():
            self.grid.point = [top + TILE // 2, left + TILE // 2]

    def describe(self):
        text = self._sentence().replace("<b>", "").replace("</b>", "")
        return (
            f"The photograph {self.photo.value}, a channel of {self.layer.label} laid over it, and the maps "
            f"of the strongest channels. {text} Run the cell to choose."
        )

    def draw(self, figure):
        figure.set_size_inches(9.4, 3.4)
        scene, heat, grid = figure.subplots(1, 3, width_ratios=[1, 1, 1.6])
        scene.imshow(self.square.permute(1, 2, 0).numpy())
        scene.set_title(f"photograph: {self.photo.value}", fontsize=9)
        heat.imshow(pictures.overlay(self.square.permute(1, 2, 0).numpy(), self._heat()))
        heat.set_title(f"{self.layer.label}, channel {self.channel}", fontsize=9)
        for ax in (scene, heat):
            for top, left, bottom, right, color in self.scene.boxes:
                for style in ({"lw": 4, "ec": "white"}, {"lw": 1.8, "ec": color}):
                    ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, **style))
            ax.set(xlim=(-0.5, SIZE - 0.5), ylim=(SIZE - 0.5, -0.5))
        labels = [str(channel) for channel in self.strongest]
        grid.imshow(pictures.grid(self._tiles(), COLUMNS, labels=labels)[0])
        grid.set_title(f"the strongest channels {self.order.value}", fontsize=9)
        for ax in figure.axes:
            ax.axis("off")
