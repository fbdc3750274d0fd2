"""The widgets without a browser: traits are set as the browser would set them, and checked with oracles."""

import io
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from cnnlib import data
from cnnlib.course import runner
from cnnlib.course.widgets import base, digit, draw_digit, explore_features, explore_kernel, pictures
from cnnlib.course.widgets.ink import like_mnist, rasterize
from cnnlib.course.widgets.kernel import OWN, PRESETS, grey_image
from cnnlib.course.widgets.spelled import read_number, short
from cnnlib.ground.errors import CnnlibError, DataError, ParameterError
from cnnlib.inside import features, geometry
from cnnlib.models import make_model, pretrained

STROKE = [[[0.5, 0.2], [0.5, 0.8]]]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return make_model("simple_cnn")


@pytest.fixture(scope="module")
def vgg():
    return pretrained.vgg16_features()


@pytest.fixture
def explorer(vgg):
    return explore_features(vgg, ["chelsea", "coffee"])


def center_of_mass(image):
    """Return (row, column) of an image's centre of mass, in pixels."""
    image = image.double().squeeze()
    along = torch.arange(28, dtype=torch.float64)
    return tuple(((image.sum(dim=1 - axis) * along).sum() / image.sum()).item() for axis in (0, 1))


# --- a drawing in the form of MNIST's digits ---------------------------------------------------------


@pytest.mark.parametrize("size", [(5, 60), (60, 5), (33, 47), (200, 140), (1, 1), (20, 20)])
@pytest.mark.parametrize("corner", [(0, 0), (60, 130)])
def test_a_drawing_is_scaled_to_20_pixels_and_centred_by_its_mass(size, corner):
    ink, generator = torch.zeros(280, 280), torch.Generator().manual_seed(0)
    (height, width), (top, left) = size, corner
    ink[top : top + height, left : left + width] = 0.5 + 0.5 * torch.rand(size, generator=generator)
    image = like_mnist(ink)
    assert (image.shape, image.dtype) == ((1, 1, 28, 28), torch.uint8)
    rows, columns = (image[0, 0].amax(dim=axis).nonzero().flatten() for axis in (1, 0))
    extent = (rows[-1] - rows[0] + 1).item(), (columns[-1] - columns[0] + 1).item()
    assert extent == tuple(max(1, round(20 * side / max(size))) for side in size)
    assert center_of_mass(image) == pytest.approx((14, 14), abs=0.51)


def test_an_empty_drawing_is_an_empty_image():
    assert not like_mnist(torch.zeros(280, 280)).any()
    assert not rasterize([]).any()


def test_no_ink_leaves_the_frame():
    """A heavy blob at the end of a long thin line would be pushed out of the frame by its centre of mass."""
    ink = torch.zeros(280, 280)
    ink[10:270, 96:104] = 0.2
    ink[10:60, 60:140] = 1
    image = like_mnist(ink)
    assert image[0, 0].amax(dim=1).count_nonzero() == 20


def test_a_digit_of_mnist_in_a_corner_and_enlarged_comes_back():
    digit = data.load("mnist", "test").images[0, 0] / 255
    ink = torch.zeros(280, 280)
    ink[:140, 140:] = F.interpolate(digit[None, None], size=(140, 140), mode="bilinear")[0, 0].clamp(0, 1)
    back = like_mnist(ink)[0, 0] / 255
    assert torch.corrcoef(torch.stack([back.flatten(), digit.flatten()]))[0, 1] > 0.9


def test_strokes_become_ink_of_the_pens_width():
    ink = rasterize([[[0.25, 0.5], [0.75, 0.5]]], pen=0.1, size=200)
    assert ink[:, 100].sum().item() == pytest.approx(20, abs=1)  # 0.1 · 200
    assert ink[100].sum().item() == pytest.approx(100 + 20, abs=1)  # round ends reach half a pen further
    dot = rasterize([[[0.5, 0.5]]], pen=0.1, size=200)
    assert dot.sum().item() == pytest.approx(
        3.14159 * 10**2, rel=0.06
    )  # whole pixels, drawn at twice the size


# --- draw_digit --------------------------------------------------------------------------------------


def test_the_logits_are_the_models_own(model):
    reader = draw_digit(model)
    reader.pad.strokes = STROKE
    assert torch.equal(reader.image, like_mnist(rasterize(STROKE)))
    with torch.no_grad():
        expected = model(data.to_float(reader.image))[0]
    torch.testing.assert_close(reader.logits, expected)
    torch.testing.assert_close(reader.probabilities, expected.softmax(dim=0))
    assert "reads <b" in reader.verdict.value
    assert f">{expected.argmax()}</b>" in reader.verdict.value
    for logit in expected.tolist():
        assert f"{logit:.1f}".replace("-", "−") in reader.bars.value


def test_the_maps_are_those_of_the_layers_that_were_asked_for(model):
    reader = draw_digit(model)
    assert list(reader.maps) == ["block1.0", "block2.0"]
    chosen = draw_digit(model, ["block2.1"])
    chosen.pad.strokes = STROKE
    expected = features.feature_maps(model, chosen.image, ["block2.1"])["block2.1"][0]
    torch.testing.assert_close(chosen.maps["block2.1"], expected)
    assert "block2.1: 32 maps of 14 × 14; black is 0" in chosen.pictures.value


@pytest.mark.parametrize(
    ("probability", "text"),
    [(1.0, "100.0%"), (0.9999, "over 99.9%"), (0.5, "50.0%"), (0.0004, "under 0.1%"), (0.0, "0.0%")],
)
def test_no_probability_is_rounded_to_a_certainty(probability, text):
    assert digit._share(probability) == text


def test_training_goes_on_with_the_same_widget(model):
    reader = draw_digit(model)
    before = reader.logits
    with torch.no_grad():
        model.classifier.bias += 1
    reader.example(7)  # another 7
    reader._used[7] = -1
    reader.example(7)  # the first one again
    torch.testing.assert_close(reader.logits, before + 1)


def test_drawing_leaves_the_models_mode_and_hooks_alone(model):
    model.train()
    reader = draw_digit(model)
    reader.pad.strokes = STROKE
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_clearing_empties_the_pad_the_bars_and_the_verdict(model):
    reader = draw_digit(model)
    reader.pad.strokes = STROKE
    reader.clear.click()
    assert (reader.pad.strokes, reader.pad.image) == ([], b"")
    assert reader.logits is None
    assert reader.probabilities is None
    assert "Nothing is drawn" in reader.verdict.value
    assert reader.bars.value.count("–") == 20
    assert "empty pad" in reader.describe()
    assert reader.figure_png()


def test_examples_are_test_digits_one_after_the_other(model):
    reader, test = draw_digit(model), data.load("mnist", "test")
    fives = test.images[test.labels == 5]
    for k in range(3):
        reader.digits[5].click()
        assert torch.equal(reader.image[0], fives[k])
    assert reader.pad.image
    reader.pad.strokes = STROKE
    assert not reader.pad.image  # the first stroke takes the example's place


class Twice(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layer = nn.Conv2d(1, classes, 28)

    def forward(self, images):
        return self.layer(images).flatten(1), None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "model", "model is a str; it must be a torch.nn.Module"),
        (lambda: make_model("simple_cnn", 3, 10), "images have 1 channels, but the model takes 3"),
        (lambda: make_model("simple_cnn", 1, 7), r"into \(1, 7\); it must return logits \(1, 10\)"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(9, 10)),
            r"cannot take images of shape \(1, 1, 28, 28\)",
        ),
        (lambda: Twice(10), "into tuple; it must return logits"),
    ],
)
def test_models_that_do_not_fit_are_explained(make, message):
    with pytest.raises(ParameterError, match=message):
        draw_digit(make())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["block9.0"], "the model has no layer 'block9.0'"),
        ("block1.0", r"layers is the string 'block1.0'; it must be a list of names, \['block1.0'\]"),
        (["classifier"], r"layer 'classifier' returns \(1, 10\)"),
    ],
)
def test_layers_that_do_not_fit_are_explained(model, layers, message):
    with pytest.raises(ParameterError, match=message):
        draw_digit(model, layers)


def test_an_exception_in_a_callback_is_shown_and_goes_away(model):
    reader = draw_digit(model)
    forward = model.forward
    model.forward = lambda images: 1 / 0
    reader.pad.strokes = STROKE
    assert 'role="alert"' in reader.problem.value
    assert "ZeroDivisionError: division by zero" in reader.problem.value
    model.forward = forward
    reader.clear.click()
    assert reader.problem.value == ""


# --- explore_kernel ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_the_output_is_pytorchs(stride, padding):
    explorer = explore_kernel("coffee", "emboss")
    explorer.stride.value, explorer.padding.value = stride, padding
    kernel = torch.tensor([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=torch.float64)
    expected = F.conv2d(explorer.image.double(), kernel[None, None], None, stride, padding)[0, 0]
    torch.testing.assert_close(explorer.output, expected)
    assert f"the output, {expected.shape[0]} × {expected.shape[1]}" in explorer.output_note.value
    for at in [(0, 0), (5, 7), (expected.shape[0] - 1, expected.shape[1] - 1)]:
        explorer.after.point = list(at)
        assert explorer.place == at
        products = explorer.window() * kernel
        assert products.sum().item() == pytest.approx(expected[at].item())
        assert f"= <b>{short(expected[at].item())}</b>" in explorer.sum.value
        assert f"output row {at[0]}, column {at[1]}:" in explorer.sum.value


def test_a_pixel_of_the_photograph_chooses_the_window_around_it():
    explorer = explore_kernel(torch.arange(100.0).view(1, 1, 10, 10) / 255, "identity")
    explorer.before.point = [4, 6]
    assert explorer.place == (3, 5)
    assert explorer.output[explorer.place] == 46  # the pixel itself
    assert explorer.before.boxes[0][:4] == [3, 5, 6, 8]
    explorer.padding.value = 1
    explorer.before.point = [0, 0]
    assert explorer.place == (0, 0)
    assert explorer.before.boxes[0][:4] == [-1, -1, 2, 2]
    assert explorer.sum.value.count("dashed") == 5  # the window's cells in the padding
    explorer.stride.value = 4
    for _ in range(9):  # an arrow key in the photograph moves by a window, and stops at the last
        explorer.before.point = [min(9, explorer.before.point[0] + explorer.before.step), 0]
    assert explorer.place == (2, 0)


def test_numbers_typed_into_the_kernel_are_used():
    explorer = explore_kernel("camera", "identity")
    texts = ["1/9", "0,5", "−2", "3", "-4", "5e-1", "0", ".25", "1"]
    for cell, text in zip(explorer.cells, texts, strict=True):
        cell.value = text
    expected = [[1 / 9, 0.5, -2], [3, -4, 0.5], [0, 0.25, 1]]
    torch.testing.assert_close(explorer.kernel, torch.tensor(expected, dtype=torch.float64))
    assert explorer.preset.value == OWN
    explorer.preset.value = "sharpen"
    assert explorer.kernel[1].tolist() == [-1, 5, -1]
    for cell, text in zip(explorer.cells, PRESETS["box blur"].split(), strict=True):
        cell.value = text
    assert explorer.preset.value == "box blur"  # typed by hand, it has its name all the same


def test_a_bad_number_is_explained_and_changes_nothing():
    explorer = explore_kernel("camera", "identity")
    before = explorer.output
    explorer.cells[5].value = "one"
    assert "row 2, column 3 of the kernel is &#x27;one&#x27;; it must be a number" in explorer.problem.value
    assert torch.equal(explorer.output, before)
    explorer.cells[5].value = "0"
    assert explorer.problem.value == ""


@pytest.mark.parametrize(
    "text", ["", " ", "x", "1/0", "nan", "inf", "1e999", "1/2/3", "1001", "-1/1e-9", "1+1"]
)
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ParameterError, match=r"must be a number|must lie between"):
        read_number(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "0"), (-0.0001, "0"), (-1.5, "−1.5"), (100.0, "100"), (1 / 9, "0.111")],
)
def test_numbers_are_written_short(value, text):
    assert short(value) == text


def test_flat_grey_keeps_the_brightness_that_the_kernels_sum_gives():
    flat = torch.full((1, 1, 8, 8), 0.5)
    for kernel, level in (("box blur", 128), ("sharpen", 128), ([[1, 1, 1]] * 3, 128)):
        picture, _ = explore_kernel(flat, kernel)._colored_output()
        assert (picture == level).all()
    picture, words = explore_kernel(flat, "all edges")._colored_output()
    assert (picture == 255).all()  # 0 is white on the scale of signs
    assert "blue negative" in words


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ("nowhere", DataError, "there is no photograph 'nowhere'"),
        (torch.zeros(3, 8, 8), ParameterError, r"shape \(3, 8, 8\); it must be \(1, 1 or 3, H, W\)"),
        (torch.zeros(1, 1, 2, 8), ParameterError, "2 × 8 pixels; each side must have 3 to 512"),
        (torch.zeros(1, 1, 8, 600), ParameterError, "8 × 600 pixels"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.int64), ParameterError, "is torch.int64; it must be uint8"),
        (
            torch.full((1, 1, 8, 8), 255.0),
            ParameterError,
            "goes from 255 to 255; floats must lie between 0 and 1",
        ),
        (torch.full((1, 1, 8, 8), torch.nan), ParameterError, "goes from nan to nan"),
    ],
)
def test_images_that_do_not_fit_are_explained(image, error, message):
    with pytest.raises(error, match=message):
        explore_kernel(image)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("blurr", "kernel is 'blurr'; choose one of"),
        ([[1, 2], [3, 4]], r"shape \(2, 2\); it must be \(3, 3\)"),
        ([["a"] * 3] * 3, "it must be 3 × 3 numbers"),
        ([[float("nan")] * 3] * 3, "row 1, column 1 of the kernel is 'nan'"),
    ],
)
def test_kernels_that_do_not_fit_are_explained(kernel, message):
    with pytest.raises(ParameterError, match=message):
        explore_kernel("camera", kernel)


def test_colours_are_averaged_and_photographs_cut_to_a_square():
    image = torch.tensor([0, 100, 200], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 5, 4)
    assert (grey_image(image) == 100).all()
    assert grey_image("china").shape == (1, 1, 160, 160)


def test_another_photograph_can_be_chosen(tmp_path):
    Image.new("L", (40, 30), 77).save(tmp_path / "mine.png")
    explorer = explore_kernel(tmp_path / "mine.png", "identity")
    assert (explorer.output == 77).all()
    explorer.photo.value = "coffee"
    assert torch.equal(explorer.image, grey_image("coffee"))
    explorer.photo.value = str(tmp_path / "mine.png")
    assert (explorer.output == 77).all()


# --- explore_features --------------------------------------------------------------------------------


def test_maps_channel_and_frame_are_those_of_the_library(vgg, explorer):
    square = pretrained.center_crop(data.photo("chelsea"))
    for layer in pretrained.VGG16_BLOCKS.values():
        explorer.layer.value = layer
        expected = features.feature_maps(vgg, square, [layer])[layer][0]
        torch.testing.assert_close(explorer.maps, expected)
        strongest = expected.mean(dim=(1, 2)).topk(24).indices.tolist()
        assert explorer.strongest == strongest
        assert explorer.channel == explorer.number.value == strongest[0]
        values = expected[explorer.channel]
        assert values[explorer.place] == values.max()
        assert explorer.window == geometry.geometry(vgg, layer).window(*explorer.place)
        assert explorer.scene.boxes == explorer.map.boxes
        assert tuple(explorer.scene.boxes[0][:4]) == explorer.window
        assert f"<b>{values.max():.2f}</b>" in explorer.here.value


def test_a_place_in_the_photograph_chooses_the_nearest_unit(explorer):
    explorer.layer.value = "features.15"  # jump 4
    for point in ([0, 0], [100, 57], [223, 223], [1, 222]):
        explorer.scene.point = point
        top, left, bottom, right = explorer.window
        for at, (first, last) in zip(point, ((top, bottom), (left, right)), strict=True):
            assert abs(at - (first + last - 1) / 2) <= 2.5  # half a jump, and the border
    explorer.scene.point = [112, 112]
    row, column = explorer.place
    explorer.scene.point = [
        at + step for at, step in zip(explorer.scene.point, (explorer.scene.step, 0), strict=True)
    ]
    assert explorer.place == (row + 1, column)  # an arrow key


def test_a_number_a_tile_and_the_order_choose_channels(explorer):
    explorer.number.value = 77
    assert explorer.channel == 77
    assert "channel 77, block5" in explorer.describe()
    top, left = explorer._corners[9]
    explorer.grid.point = [top + 20, left + 20]
    assert explorer.channel == explorer.number.value == explorer.strongest[9]
    explorer.order.value = "at the framed place"
    row, column = explorer.place
    assert explorer.strongest == explorer.maps[:, row, column].topk(24).indices.tolist()
    explorer.grid.point = [70, 70]  # comparing channels keeps the place
    assert explorer.place == (row, column)


def test_photographs_of_ones_own(explorer, tmp_path):
    Image.new("RGB", (60, 50), (200, 30, 90)).save(tmp_path / "mine.png")
    explorer.path.value = str(tmp_path / "mine.png")
    assert explorer.photo.value == str(tmp_path / "mine.png")
    assert explorer.square[:, 0, 0].tolist() == pytest.approx([200 / 255, 30 / 255, 90 / 255])
    explorer.path.value = "nowhere.png"
    assert "there is no photograph &#x27;nowhere.png&#x27;" in explorer.problem.value
    explorer.photo.value = "coffee"
    assert explorer.problem.value == ""


def test_the_model_runs_once_a_photograph(vgg, explorer):
    runs = []
    handle = vgg.features[0].register_forward_hook(lambda *_: runs.append(1))
    try:
        explorer.photo.value = "coffee"
        explorer.layer.value = "features.3"
        explorer.number.value = 5
        explorer.photo.value = "chelsea"
        explorer.photo.value = "coffee"
    finally:
        handle.remove()
    assert len(runs) == 1


def test_other_models_show_their_convolutions():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 7, stride=2), nn.ReLU(), nn.Conv2d(5, 4, 3))
    explorer = explore_features(model, ["coffee"])
    assert list(explorer.layers) == ["0", "2"]
    assert len(explorer.strongest) == 4
    assert explore_features(model, ["coffee"], {"first": "1"}).layer.label == "first"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"photos": ["nowhere"]}, DataError, "there is no photograph 'nowhere'"),
        ({"photos": "coffee"}, ParameterError, "photos is 'coffee'; it must be a list"),
        ({"photos": []}, ParameterError, r"photos is \[\]"),
        ({"layers": ["features.99"]}, ParameterError, "the model has no layer 'features.99'"),
        ({"layers": "features.3"}, ParameterError, "layers is 'features.3'; it must be a list"),
        ({"layers": []}, ParameterError, "it must be a list of names"),
    ],
)
def test_photographs_and_layers_that_do_not_fit_are_explained(vgg, options, error, message):
    with pytest.raises(error, match=message):
        explore_features(vgg, **options)


def test_models_that_cannot_be_explored_are_explained():
    with pytest.raises(ParameterError, match=r"model is a str; it must be a torch\.nn\.Module"):
        explore_features("vgg16")
    with pytest.raises(ParameterError, match="order of layers is unknown"):
        explore_features(Twice(10), ["coffee"])
    with pytest.raises(ParameterError, match="layers is \\[\\]"):
        explore_features(nn.Sequential(nn.Flatten()), ["coffee"])


# --- what a cell leaves ------------------------------------------------------------------------------


def any_digit_reader():
    return draw_digit(make_model("simple_cnn"))


@pytest.mark.parametrize("make", [any_digit_reader, explore_kernel, explore_features])
def test_a_cell_holds_a_figure_that_says_what_is_seen(make, monkeypatch):
    shown, displayed = make(), []
    monkeypatch.setattr(base, "display", lambda data, **options: displayed.append((data, options)))
    shown._ipython_display_()
    (_, options), (figure, _), (view, _) = displayed
    assert options["metadata"] == {"cnnlib": "live"}
    with Image.open(io.BytesIO(figure["image/png"])) as image:
        assert image.width > 600
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        assert len(set(image.convert("L").tobytes())) > 20  # not an empty page
    assert len(figure["image/png"]) < 120_000
    assert "Run the cell" in figure["text/plain"]
    assert len(figure["text/plain"]) > 60
    assert runner.WIDGET_VIEW in view._repr_mimebundle_()
    assert shown.describe() in repr(shown)


def test_controls_have_names(model):
    from ipywidgets import Button, Dropdown, Text

    for shown in (draw_digit(model), explore_kernel()):
        for control in vars(shown).values():
            for each in control if isinstance(control, list) else [control]:
                if isinstance(each, (Button, Dropdown, Text)):
                    assert each.description or each.tooltip


def test_errors_are_the_courses_own(model):
    assert issubclass(ParameterError, CnnlibError)
    assert issubclass(DataError, CnnlibError)


def test_importing_the_functions_loads_no_widget_library():
    names = "('ipywidgets', 'anywidget', 'matplotlib')"
    code = f"import sys, cnnlib.course.widgets; print([m for m in {names} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


# --- pictures ----------------------------------------------------------------------------------------


def test_colours_of_signs_and_greys():
    assert pictures.signed(torch.tensor([0.0]), 1).tolist() == [[255, 255, 255]]
    high, low = pictures.signed(torch.tensor([2.0, -2.0]), 1).tolist()
    assert (high, low) == ([0xD5, 0x5E, 0x00], [0x00, 0x72, 0xB2])  # beyond the limit: the full colour
    assert pictures.grey(torch.tensor([-1.0, 0.5, 9.0]), 0, 1).tolist() == [[0] * 3, [128] * 3, [255] * 3]
    assert (pictures.signed(torch.zeros(2, 2), 0) == 255).all()


def test_a_grid_puts_tiles_where_it_says():
    tiles = pictures.grey(torch.arange(5.0).view(5, 1, 1).expand(5, 4, 6), 0, 4)
    picture, corners = pictures.grid(tiles, columns=3, gap=2)
    assert picture.shape == (10, 22, 4)
    for tile, (top, left) in zip(tiles, corners, strict=True):
        assert (picture[top : top + 4, left : left + 6, :3] == tile).all()
    assert (picture[4:6, :, 3] == 0).all()  # the gaps let the page show through
