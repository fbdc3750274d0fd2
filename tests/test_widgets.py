"""The widgets without a browser: traits are set as the browser would set them, and checked with oracles.

What the browser computes is tested in tests/test_book.py, and in a JupyterLab in tests/test_browser.py.
"""

import io
import json
import subprocess
import sys
import zlib
from base64 import b64decode

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from cnnlib import data
from cnnlib.course import runner
from cnnlib.course.widgets import (
    base,
    chain,
    digit,
    draw_digit,
    explore_features,
    explore_kernel,
    explore_network,
    pictures,
)
from cnnlib.course.widgets.base import short
from cnnlib.course.widgets.kernel import grey_image
from cnnlib.ground.errors import CnnlibError, DataError, ParameterError
from cnnlib.inside import features, geometry
from cnnlib.models import make_model, pretrained
from cnnlib.models.layers import Normalize

DRAWN = bytes(255 * (13 < i % 28 < 16 and 4 < i // 28 < 24) for i in range(784))
"""A vertical stroke, as the browser tells it."""


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


def ask(widget, *key):
    """Ask as the view asks, and return the answer."""
    number = widget.answer.get("number", 0) + 1
    widget.wanted = [[number, *key]]
    assert widget.answer["number"] == number
    return widget.answer


def test_all_that_is_wanted_is_answered_once(explorer):
    answers = []
    explorer.observe(lambda change: answers.append(change.new), "answer")
    explorer.wanted = [[1, "coffee"], [2, "coffee", "block5"]]
    explorer.wanted = [[1, "coffee"], [2, "coffee", "block5"], [3, "nowhere.jpg"]]
    assert [answer["number"] for answer in answers] == [1, 2, 3]
    assert "pixels" in answers[0]
    assert "maps" in answers[1]
    assert "nowhere.jpg" in answers[2]["problem"]


def unpacked(value):
    """Undo `base.packed`, as book/host.js does."""
    if isinstance(value, dict):
        if set(value) == {"deflate"}:
            return zlib.decompress(b64decode(value["deflate"]))
        return {key: unpacked(each) for key, each in value.items()}
    return [unpacked(each) for each in value] if isinstance(value, list) else value


# --- draw_digit --------------------------------------------------------------------------------------


def test_the_logits_are_the_models_own(model):
    reader = draw_digit(model)
    reader.pixels = DRAWN
    assert bytes(reader.image.flatten().tolist()) == DRAWN
    with torch.no_grad():
        expected = model(data.to_float(reader.image))[0]
    torch.testing.assert_close(reader.logits, expected)
    torch.testing.assert_close(reader.probabilities, expected.softmax(dim=0))


def test_the_maps_are_those_of_the_layers_that_were_asked_for(model):
    reader = draw_digit(model)
    assert list(reader.maps) == reader.layers == ["block1.0", "block2.0"]
    chosen = draw_digit(model, ["block2.1"])
    chosen.pixels = DRAWN
    expected = features.feature_maps(model, chosen.image, ["block2.1"])["block2.1"][0]
    torch.testing.assert_close(chosen.maps["block2.1"], expected)


@pytest.mark.parametrize(
    ("probability", "text"),
    [(1.0, "100.0%"), (0.9999, "over 99.9%"), (0.5, "50.0%"), (0.0004, "under 0.1%"), (0.0, "0.0%")],
)
def test_no_probability_is_rounded_to_a_certainty(probability, text):
    assert digit._share(probability) == text


def test_the_weights_follow_when_training_goes_on_with_the_same_widget(model):
    reader = draw_digit(model)
    before, sent = reader.logits, reader.network
    reader.example(7, 1)
    assert reader.network is sent  # nothing new
    with torch.no_grad():
        model.classifier.bias += 1
    reader.example(7)
    assert reader.network[-1]["bias"] != sent[-1]["bias"]
    torch.testing.assert_close(reader.logits, before + 1)


def test_a_model_that_is_no_chain_is_computed_by_the_kernel():
    torch.manual_seed(0)
    model = make_model("resnet_small")
    reader = draw_digit(model, ["stem.0"] if "stem.0" in dict(model.named_modules()) else None)
    assert reader.network == []
    assert not reader.in_book
    reader.pixels = DRAWN
    found = torch.frombuffer(bytearray(reader.computed["logits"]), dtype=torch.float32)
    torch.testing.assert_close(found, reader.logits)
    for told, maps in zip(reader.computed["maps"], reader.maps.values(), strict=True):
        assert told["shape"] == list(maps.shape)
        assert told["values"] == maps.numpy().tobytes()
    model.forward = lambda images: 1 / 0
    reader.pixels = bytes(784)
    assert "ZeroDivisionError: division by zero" in reader.computed["problem"]


def test_a_layer_that_holds_others_is_shown_by_the_kernel(model):
    reader = draw_digit(model, ["block1"])
    assert reader.network == []
    assert reader.computed["maps"][0]["shape"] == [16, 14, 14]


def test_drawing_leaves_the_models_mode_and_hooks_alone(model):
    model.train()
    reader = draw_digit(model)
    reader.pixels = DRAWN
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_empty_pad_has_no_logits(model):
    reader = draw_digit(model)
    reader.pixels = bytes(784)
    assert reader.logits is None
    assert reader.probabilities is None
    assert "empty pad" in reader.describe()
    assert reader.figure_png()


def test_examples_are_test_digits(model):
    reader, test = draw_digit(model), data.load("mnist", "test")
    fives = test.images[test.labels == 5]
    for k in range(3):
        reader.example(5, k)
        assert torch.equal(reader.image[0], fives[k])


class Pair(nn.Module):
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
        (lambda: Pair(10), "into tuple; it must return logits"),
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


# --- a network for the browser -----------------------------------------------------------------------


def test_layers_are_exported_in_the_order_in_which_they_run(model):
    network = chain.export(nn.Sequential(Normalize([0.1], [0.3]), model))
    kinds = ["normalize", "conv", "relu", "pool", "conv", "relu", "pool", "linear"]
    assert [layer["kind"] for layer in network] == kinds
    assert [layer["name"] for layer in network][1] == "1.block1.0"
    assert network[0]["mean"] == [pytest.approx(0.1)]
    weight = torch.frombuffer(bytearray(network[4]["weight"]), dtype=torch.float32)
    assert torch.equal(weight, model.block2[0].weight.detach().flatten())
    assert network[1]["window"] == [5, 5]
    assert (network[1]["stride"], network[1]["padding"]) == (1, 2)


class Twice(nn.Module):
    """Two layers with something between them that is no layer."""

    def __init__(self, between):
        super().__init__()
        self.first, self.second, self.between = nn.Conv2d(1, 4, 3), nn.Linear(4 * 26 * 26, 10), between

    def forward(self, images):
        return self.second(self.between(self.first(images)).flatten(1))


class Rolled(nn.Sequential):
    """A rim is cut off, and not the same on all sides."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 10, 24)

    def forward(self, images):
        return self.layer(images[:, :, 1:-3, 1:-3]).flatten(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Twice(torch.relu), "between first and second the model computes something"),
        (lambda: Twice(lambda x: x.mT), "between first and second"),
        (lambda: nn.Sequential(nn.Identity(), Rolled()), "between 0 and 1.layer"),
        (lambda: make_model("resnet_small"), "only a chain of layers"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Tanh()), "Tanh.*cannot be taken apart"),
        (lambda: nn.Sequential(nn.Conv2d(1, 10, 28, dilation=1, padding_mode="circular")), "cannot be taken"),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3, stride=(1, 2))), "another stride or padding"),
        (lambda: nn.Sequential(nn.MaxPool2d(2, padding=1)), "cannot be taken apart"),
        (lambda: nn.Sequential(nn.Conv2d(1, 2000, 5, padding=2)), "at most 30,000,000"),
    ],
)
def test_networks_that_a_browser_cannot_compute_are_explained(make, message):
    torch.manual_seed(0)
    with pytest.raises(ParameterError, match=message):
        chain.export(make())


# --- explore_network ---------------------------------------------------------------------------------


def test_the_chosen_value_is_the_networks_own(model):
    explorer = explore_network(model)
    assert explorer.chosen[0] == 4  # the second convolution, at its strongest
    maps = features.feature_maps(model, explorer.image, ["block2.0"])["block2.0"][0]
    assert explorer.value == pytest.approx(maps.max().item())
    explorer.chosen = [4, 3, 0, 13]
    assert explorer.value == pytest.approx(maps[3, 0, 13].item(), rel=1e-5)
    _, _, products = explorer._parts()
    assert products.shape == (16, 5, 5)
    assert products.sum().item() + model.block2[0].bias[3].item() == pytest.approx(explorer.value, rel=1e-4)
    explorer.chosen = [7, 2, 0, 0]
    with torch.no_grad():
        assert explorer.value == pytest.approx(model(data.to_float(explorer.image))[0, 2].item(), rel=1e-4)
    explorer.chosen = [8, 2, 0, 0]  # after the last layer: the probabilities
    assert 0 < explorer.value < 1
    for chosen in ([0, 0, 3, 4], [3, 1, 2, 2]):
        explorer.chosen = chosen
        assert explorer.figure_png()
        assert f"map {chosen[1]}, row {chosen[2]}" in explorer.describe()


def test_networks_that_do_not_fit_are_explained():
    with pytest.raises(ParameterError, match="model is a str"):
        explore_network("model")
    with pytest.raises(ParameterError, match="only a chain of layers"):
        explore_network(make_model("resnet_small"))
    with pytest.raises(ParameterError, match=r"into \(1, 7\); it must return logits"):
        explore_network(make_model("simple_cnn", 1, 7))


# --- explore_kernel ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_the_output_is_pytorchs(stride, padding):
    explorer = explore_kernel("coffee", "emboss")
    explorer.stride, explorer.padding = stride, padding
    kernel = torch.tensor([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=torch.float64)
    expected = F.conv2d(explorer.image.double(), kernel[None, None], None, stride, padding)[0, 0]
    torch.testing.assert_close(explorer.output, expected)
    for at in [(0, 0), (5, 7), (expected.shape[0] - 1, expected.shape[1] - 1)]:
        explorer.place = list(at)
        assert (explorer.window() * kernel).sum().item() == pytest.approx(expected[at].item())
        assert f"row {at[0]}, column {at[1]} is {short(expected[at].item())}" in explorer.describe()


def test_it_begins_at_the_most_striking_value():
    image = torch.zeros(1, 1, 10, 10)
    image[..., 6, 3] = 1
    explorer = explore_kernel(image, "identity")
    assert explorer.place == [5, 2]
    assert explorer.output[5, 2] == 255


def test_numbers_as_the_browser_accepted_them_are_read():
    explorer = explore_kernel("camera", "identity")
    explorer.texts = ["1/9", "0,5", "−2", "3", "-4", "5e-1", "0", ".25", "1"]
    expected = [[1 / 9, 0.5, -2], [3, -4, 0.5], [0, 0.25, 1]]
    torch.testing.assert_close(explorer.kernel, torch.tensor(expected, dtype=torch.float64))
    assert explore_kernel("camera", expected).texts[:3] == ["0.111111", "0.5", "-2"]


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
        (
            torch.zeros(1, 1, 8, 8).numpy(),
            ParameterError,
            r"the image is an ndarray; it must be .*as_tensor",
        ),
        (None, ParameterError, "the image is a NoneType; it must be the name of a photograph, a path, or a"),
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
        ([[0, 0, 0], [0, 0, 1001], [0, 0, 0]], "row 2, column 3 of the kernel is '1001'"),
    ],
)
def test_kernels_that_do_not_fit_are_explained(kernel, message):
    with pytest.raises(ParameterError, match=message):
        explore_kernel("camera", kernel)


def test_colours_are_averaged_and_photographs_cut_to_a_square():
    image = torch.tensor([0, 100, 200], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 5, 4)
    assert (grey_image(image) == 100).all()
    assert grey_image("china").shape == (1, 1, 160, 160)


def test_other_photographs_are_answered(tmp_path):
    Image.new("L", (40, 30), 77).save(tmp_path / "mine.png")
    explorer = explore_kernel(tmp_path / "mine.png", "identity")
    assert not explorer.in_book
    assert explore_kernel().in_book
    assert (explorer.output == 77).all()
    answer = ask(explorer, "coffee")
    assert (answer["rows"], answer["columns"]) == (160, 160)
    assert answer["pixels"] == grey_image("coffee").numpy().tobytes()
    assert "there is no photograph 'nowhere'" in ask(explorer, "nowhere")["problem"]
    explorer.photo = "coffee"
    assert torch.equal(explorer.image, grey_image("coffee"))


# --- explore_features --------------------------------------------------------------------------------


def test_what_is_told_of_a_layer_are_the_librarys_maps(vgg, explorer):
    square = pretrained.center_crop(data.photo("chelsea"))
    pixels = torch.frombuffer(bytearray(ask(explorer, "chelsea")["pixels"]), dtype=torch.uint8)
    assert torch.equal(pixels.view(224, 224, 3), (255 * square[0]).byte().permute(1, 2, 0))
    for finest, label in ((224, "block5"), (224, "block4"), (56, "block2")):
        explorer.finest = finest
        answer = ask(explorer, "chelsea", label)
        name = pretrained.VGG16_BLOCKS[label]
        expected = features.feature_maps(vgg, square, [name])[name][0]
        step = answer["step"]
        assert step == -(-expected.shape[1] // finest)
        expected = expected[:, ::step, ::step]
        peaks = torch.frombuffer(bytearray(answer["peaks"]), dtype=torch.float32)
        torch.testing.assert_close(peaks, expected.amax(dim=(1, 2)))
        levels = torch.frombuffer(bytearray(answer["maps"]), dtype=torch.uint8).view(answer["shape"])
        off = (levels / 255 * peaks[:, None, None] - expected).abs().amax(dim=(1, 2))
        assert (off <= peaks / 509).all()  # half a level of 255
        found = geometry.geometry(vgg, name)
        assert explorer.layers[label] == {"size": found.size, "jump": found.jump, "start": found.start}


def test_it_begins_with_the_strongest_channel_at_its_strongest(vgg, explorer):
    assert (explorer.photo, explorer.layer) == ("chelsea", "block5")
    assert explorer.strongest == explorer.maps.mean(dim=(1, 2)).topk(24).indices.tolist()
    assert explorer.channel == explorer.strongest[0]
    assert explorer.maps[explorer.channel][tuple(explorer.place)] == explorer.maps[explorer.channel].max()
    assert explorer.window == geometry.geometry(vgg, "features.29").window(*explorer.place)
    assert f"value {explorer.maps[explorer.channel].max():.2f}" in explorer.describe()


def test_photographs_of_ones_own(explorer, tmp_path):
    Image.new("RGB", (60, 50), (200, 30, 90)).save(tmp_path / "my own.png")
    path = str(tmp_path / "my own.png")
    assert ask(explorer, path)["pixels"][:3] == bytes([200, 30, 90])
    assert ask(explorer, path, "block5")["shape"] == [512, 14, 14]
    assert "there is no photograph 'nowhere.png'" in ask(explorer, "nowhere.png")["problem"]


def test_the_model_runs_once_a_photograph(vgg, explorer):
    runs = []
    handle = vgg.features[0].register_forward_hook(lambda *_: runs.append(1))
    try:
        for key in (("coffee",), ("coffee", "block1"), ("coffee", "block2"), ("chelsea", "block3")):
            ask(explorer, *key)
    finally:
        handle.remove()
    assert len(runs) == 1


def test_other_models_show_their_convolutions():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 7, stride=2), nn.ReLU(), nn.Conv2d(5, 4, 3))
    explorer = explore_features(model, ["coffee"])
    assert list(explorer.layers) == ["0", "2"]
    assert len(explorer.strongest) == 4
    assert explore_features(model, ["coffee"], {"first": "1"}).layer == "first"
    assert explorer.weights != explore_features(photos=["coffee"]).weights


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
        explore_features(Pair(10), ["coffee"])
    with pytest.raises(ParameterError, match="layers is \\[\\]"):
        explore_features(nn.Sequential(nn.Flatten()), ["coffee"])


# --- what a cell leaves ------------------------------------------------------------------------------


def of_a_model(function):
    return lambda: function(make_model("simple_cnn"))


@pytest.mark.parametrize(
    "make",
    [of_a_model(draw_digit), of_a_model(explore_network), explore_kernel, explore_features],
    ids=["digit", "network", "kernel", "features"],
)
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
    assert figure[base.MIME] == shown.state()
    assert runner.WIDGET_VIEW in view
    assert shown.describe() in repr(shown)


def test_the_state_in_an_output_is_what_the_view_starts_from(model):
    chain_model = nn.Sequential(Normalize([0.1], [0.3]), model)
    for shown in (draw_digit(chain_model), explore_kernel(), explore_network(chain_model)):
        state = json.loads(json.dumps(shown.state()))
        assert state["view"] in ("digit", "kernel", "network")
        assert not {"wanted", "answer", "layout", "tooltip", "_esm"} & set(state)
        for name, value in unpacked(state).items():
            assert value == getattr(shown, name), name


def test_a_problem_is_answered_in_words(model):
    explorer = explore_kernel()
    explorer.look_up = lambda *key: 1 / 0
    assert ask(explorer, "x")["problem"] == "ZeroDivisionError: division by zero"


def test_the_browsers_half_is_one_script():
    assert set(base.PARTS) == {path.stem for path in base.BROWSER.glob("*.js")}
    assert {path.suffix for path in base.BROWSER.iterdir()} == {".js", ".css"}
    for part in base.PARTS:
        text = (base.BROWSER / f"{part}.js").read_text(encoding="utf-8")
        assert text.startswith("// ")
        assert "import " not in text
        assert "export " not in text


def test_errors_are_the_courses_own(model):
    assert issubclass(ParameterError, CnnlibError)
    assert issubclass(DataError, CnnlibError)


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (explore_kernel, {"place": [1]}, r"is \[1\]; it must be 2 whole numbers, 0 to 157 and 0 to 157"),
        (explore_kernel, {"place": [0, -1]}, r"place, the \[row, column\] in the output, is \[0, -1\]"),
        (explore_kernel, {"stride": 1000}, r"it must be 2 whole numbers, 0 to 0 and 0 to 0"),
        (explore_kernel, {"texts": ["1"] * 8}, "texts are 8; they must be 9"),
        (explore_network, {"chosen": [99, 0, 0, 0]}, r"the first number of chosen, is \[99\]; .* 0 to 8"),
        (
            explore_network,
            {"chosen": []},
            r"the first number of chosen, is \[\]; it must be 1 whole number, ",
        ),
        (
            explore_network,
            {"chosen": [0, 0, 28, 0]},
            r"after the layer 0, is \[0, 28, 0\]; it must be 3 whole",
        ),
        (draw_digit, {"pixels": b"123"}, "pixels are 3 bytes; they must be 784"),
        (explore_features, {"layer": "block9"}, r"layer is 'block9'; choose one of \['0'\]"),
        (explore_features, {"channel": -1}, r"\[channel, \*place\] is \[-1, .*\]; .*, 0 to 4, 0 to 217 and"),
        (explore_features, {"place": [218, 0]}, r", 218, 0\]; it must be 3 whole numbers"),
    ],
)
def test_states_that_a_widget_cannot_have_are_explained(model, make, changes, message):
    colors = nn.Sequential(nn.Conv2d(3, 5, 7))
    arguments = {explore_kernel: (), explore_features: (colors, ["coffee"])}.get(make, (model,))
    widget = make(*arguments)
    for name, value in changes.items():
        setattr(widget, name, value)
    for show in (widget.describe, widget.figure_png):
        with pytest.raises(ParameterError, match=message):
            show()


def test_examples_that_there_are_not_are_explained(model):
    reader = draw_digit(model)
    with pytest.raises(ParameterError, match="digit is 10; it must be a whole number, from 0 to 9"):
        reader.example(10)
    with pytest.raises(ParameterError, match="number is 6; it must be a whole number, from 0 to 5"):
        reader.example(1, 6)


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
