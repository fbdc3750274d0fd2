"""features, geometry and hooks against PyTorch's own results, gradients and closed formulas."""

import contextlib
import copy
import io
import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cnnlib.ground.errors import ParameterError
from cnnlib.inside import features
from cnnlib.inside.geometry import Window, cut
from cnnlib.models import pretrained
from cnnlib.models.efficientnet import SameConv2d


@pytest.fixture
def model():
    """Two convolutions with ReLUs that work in place, a pooling and a classifier, from fixed weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )


@pytest.fixture
def images():
    return torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(1))


def hooks_of(model):
    return [hook for module in model.modules() for hook in module._forward_hooks]


# feature_maps


def test_feature_maps_are_what_the_layers_compute(model, images):
    maps = features.feature_maps(model, images, ["3", "0", "7"])
    assert list(maps) == ["3", "0", "7"]
    first = model[0](images)
    torch.testing.assert_close(maps["0"], first)  # although the ReLU after it works in place
    torch.testing.assert_close(maps["3"], model[3](model[2](F.relu(first))))
    torch.testing.assert_close(maps["7"], model(images))
    assert not any(m.requires_grad for m in maps.values())


def test_feature_maps_take_bytes_and_floats_alike(model, images):
    pixels = (images * 255).to(torch.uint8)
    a = features.feature_maps(model, pixels, ["3"])["3"]
    torch.testing.assert_close(a, features.feature_maps(model, pixels / 255, ["3"])["3"])


def test_feature_maps_end_the_pass_when_they_have_all(model, images):
    ran = []
    model[3].register_forward_hook(lambda *_: ran.append(3))
    features.feature_maps(model, images, ["1"])
    assert not ran
    features.feature_maps(model, images, ["4"])
    assert ran == [3]


def test_feature_maps_run_in_evaluation_mode_and_restore_each_layer(images):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    model.train()
    model[1].eval()  # a frozen batch norm must stay frozen
    before = model[1].running_mean.clone()
    first, second = (features.feature_maps(model, images, ["2"])["2"] for _ in range(2))
    torch.testing.assert_close(first, second)
    assert [m.training for m in model] == [True, False, True]
    torch.testing.assert_close(model[1].running_mean, before)


def test_no_hook_and_no_mode_is_left_behind_after_an_error(model):
    model.train()
    with pytest.raises(ParameterError, match=r"cannot take images of shape \(1, 3, 1, 1\)"):
        features.feature_maps(model, torch.rand(1, 3, 1, 1), ["7"])
    assert not hooks_of(model)
    assert model.training

    def fail(*_):
        raise KeyboardInterrupt

    handle = model[2].register_forward_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        features.feature_maps(model, torch.rand(1, 3, 8, 8), ["7"])
    handle.remove()
    assert not hooks_of(model)


def test_an_unknown_layer_is_answered_with_close_names():
    with pytest.raises(ParameterError, match=r"no layer 'features.222'.*features\.22"):
        features.feature_maps(pretrained.vgg16_features(), torch.rand(1, 3, 32, 32), ["features.222"])


@pytest.mark.parametrize("layers", ["3", ["nope"], [""], [3]])
def test_bad_layers_are_refused(model, images, layers):
    with pytest.raises(ParameterError, match=r"layers is the string|has no layer"):
        features.feature_maps(model, images, layers)


def test_a_layer_that_does_not_run_or_returns_no_tensor_is_named(images):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused, self.pair = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1), nn.LSTM(20, 4)

        def forward(self, images):
            return self.pair(self.used(images)[:, 0])[0]

    with pytest.raises(ParameterError, match="does not use layer 'unused'"):
        features.feature_maps(Odd(), images, ["unused"])
    with pytest.raises(ParameterError, match="layer 'pair' returns a tuple"):
        features.feature_maps(Odd(), images, ["pair"])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([[1.0]], "images are a list"),
        (torch.rand(8, 8, 3), r"images.permute\(2, 0, 1\).unsqueeze\(0\)"),
        (torch.rand(3, 8, 8), r"shape \(3, 8, 8\); they must be a tensor \(N, C, H, W\)"),
        (torch.rand(0, 3, 8, 8), r"shape \(0, 3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), "torch.int64; they must be uint8"),
        (torch.rand(1, 1, 8, 8), r"1 channels, but the model takes 3; make grey images colour ones"),
        (torch.rand(1, 3, 8, 8) * 255, "divide pixels by 255"),
        (torch.rand(1, 3, 8, 8) - 0.5, "between 0 and 1"),
        (torch.full((1, 3, 8, 8), float("nan")), "images go from nan"),
    ],
)
def test_bad_images_are_refused(model, bad, message):
    for call in (
        lambda: features.feature_maps(model, bad, ["0"]),
        lambda: features.grad_cam(model, bad, "3"),
        lambda: features.top_patches(model, [bad], [("3", 0)]),
    ):
        with pytest.raises(ParameterError, match=message):
            call()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_models_and_images_of_another_dtype_are_measured_alike(model, images, dtype):
    expected = features.feature_maps(model, images, ["3"])["3"]
    cam = features.grad_cam(model, images, "3")
    unit = features.top_patches(model, list(images[:1].split(1)), [("3", 0)], 1, progress=False)["3", 0]
    torch.testing.assert_close(
        features.feature_maps(model, images.to(dtype), ["3"])["3"], expected, rtol=0.1, atol=0.1
    )
    model.to(dtype)
    for given in (images, images.to(dtype)):
        maps = features.feature_maps(model, given, ["3"])["3"]
        assert maps.dtype == dtype
        torch.testing.assert_close(maps.float(), expected, rtol=0.1, atol=0.1)
        torch.testing.assert_close(features.grad_cam(model, given, "3").float(), cam, rtol=0.2, atol=0.2)
    again = features.top_patches(model, list(images[:1].split(1)), [("3", 0)], 1, progress=False)["3", 0]
    assert again[0].value == pytest.approx(unit[0].value, rel=0.1)
    image, values = features.maximize_unit(model, "0", 0, size=12, steps=3, progress=False)
    assert image.shape == (1, 3, 12, 12)
    assert values[-1] > values[0]


def test_what_is_no_model_is_named(images):
    for call in (features.feature_maps, features.grad_cam):
        with pytest.raises(ParameterError, match=r"it must be a torch.nn.Module, built"):
            call(nn.ReLU, images, "0" if call is features.grad_cam else ["0"])


def test_the_convolution_that_runs_decides_about_the_channels(images):
    class Branches(nn.Module):
        """Registers the convolution of four channels before the one that takes the images."""

        def __init__(self):
            super().__init__()
            self.second, self.first = nn.Conv2d(4, 2, 3), nn.ConvTranspose2d(3, 4, 3)

        def forward(self, images):
            return self.second(self.first(images))

    model = Branches()
    maps = features.feature_maps(model, images, ["second"])["second"]
    torch.testing.assert_close(maps, model(images).detach())
    with pytest.raises(ParameterError, match="5 channels, but the model takes 4"):
        features.feature_maps(model, torch.rand(1, 5, 8, 8), ["second"])
    with pytest.raises(ParameterError, match=r"cannot take images of shape \(1, 4, 8, 8\)"):
        features.feature_maps(model, torch.rand(1, 4, 8, 8), ["second"])
    lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.Conv2d(4, 2, 3))
    assert features.feature_maps(lazy, images, ["1"])["1"].shape == (2, 2, 12, 16)


# receptive fields


def test_receptive_fields_of_vgg16_are_the_known_ones():
    block = [(3, 1), (3, 1), (2, 2)]
    assert features.receptive_field([]) == (1, 1)
    assert features.receptive_field(block) == (6, 2)
    assert features.receptive_field(block * 2) == (16, 4)
    deep = block * 2 + [(3, 1), *block] * 3
    assert features.receptive_field(deep) == (212, 32)
    assert features.receptive_field(deep[:-1]) == (196, 16)


@pytest.mark.parametrize("bad", [(0, 1), (3, 0), (3, 1.5), (True, 1), (3,), 3])
def test_bad_layers_of_a_receptive_field_are_named(bad):
    with pytest.raises(ParameterError, match=r"layer 1 (is|has)"):
        features.receptive_field([(3, 1), bad])


def assert_geometry_is_where_the_gradient_is(chain, name, row, column):
    """With positive weights nothing cancels: the gradient shows exactly what a unit depends on."""
    for parameter in chain.parameters():
        nn.init.constant_(parameter, 0.1)
    seen = []
    handle = chain.get_submodule(name).register_forward_hook(lambda _, inputs, output: seen.append(output))
    images = torch.ones(1, 1, 40, 44, requires_grad=True)
    chain(images)
    handle.remove()
    seen[0][0, 0, row, column].backward()
    rows, columns = (images.grad[0, 0].sum(dim=d).nonzero().flatten() for d in (1, 0))
    window = features.geometry(chain, name).window(row, column)
    # Dilation leaves holes inside the window, not at its edges.
    assert rows.min() == max(window.top, 0)
    assert rows.max() + 1 == min(window.bottom, 40)
    assert columns.min() == max(window.left, 0)
    assert columns.max() + 1 == min(window.right, 44)
    return window


@pytest.mark.parametrize(("name", "unit"), [("0", (3, 7)), ("2", (4, 5)), ("3", (0, 6)), ("3", (7, 4))])
def test_geometry_is_where_the_gradient_is(name, unit):
    chain = nn.Sequential(
        nn.Conv2d(1, 1, 5, stride=2, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(3, stride=2, padding=1),
        nn.Conv2d(1, 1, 3, padding=2, dilation=2),
    )
    assert_geometry_is_where_the_gradient_is(chain, name, *unit)


def test_geometry_of_a_module_that_runs_several_times():
    pool, block = nn.AvgPool2d(2), nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())
    chain = nn.Sequential(nn.Conv2d(1, 1, 3), pool, nn.Conv2d(1, 1, 3), pool, block, block, nn.ReLU())
    assert_geometry_is_where_the_gradient_is(chain, "6", 1, 2)
    assert features.geometry(chain, "1") == (4, 2, 0)  # the first run, as in feature_maps
    assert_geometry_is_where_the_gradient_is(chain, "4", 1, 2)
    image = torch.rand(1, 1, 40, 44)
    best = features.top_patches(chain, [image], [("6", 0)], count=1)["6", 0][0]
    window = torch.zeros_like(image)
    rows, columns = slice(best.window.top, best.window.bottom), slice(best.window.left, best.window.right)
    window[..., rows, columns] = image[..., rows, columns]  # what is outside the window does not matter
    maps = features.feature_maps(chain, window, ["6"])["6"]
    place = features.geometry(chain, "6")
    at = (best.window.top // place.jump, best.window.left // place.jump)
    assert maps[0, 0, at[0], at[1]].item() == pytest.approx(best.value)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # it may be slow
@pytest.mark.parametrize("unit", [(2, 1), (20, 9), (37, 41)])
def test_geometry_knows_same_padding(unit):
    ours = nn.Sequential(SameConv2d(1, 1, 3), nn.ReLU(), SameConv2d(1, 1, 5))
    assert_geometry_is_where_the_gradient_is(ours, "2", *unit)
    assert features.geometry(ours, "2") == (7, 1, -3)
    even = nn.Sequential(
        nn.Conv2d(1, 1, 4, padding="same"),
        nn.Conv2d(1, 1, 2, padding="same", dilation=3),
        nn.Conv2d(1, 1, 1, padding="valid"),
    )
    assert_geometry_is_where_the_gradient_is(even, "2", *unit)


def test_geometry_agrees_with_the_formula_on_the_real_networks():
    vgg = pretrained.vgg16_features()
    found = [features.geometry(vgg, name) for name in pretrained.VGG16_BLOCKS.values()]
    assert [tuple(g) for g in found] == [(5, 1, -2), (14, 2, -6), (40, 4, -18), (92, 8, -42), (196, 16, -90)]
    assert tuple(features.geometry(vgg, "features"))[:2] == (212, 32)
    assert tuple(features.geometry(pretrained.alexnet_features(), "features.0")) == (11, 4, -2)


def test_geometry_refuses_what_is_no_chain():
    resnet = torchvision.models.resnet18(weights=None)
    with pytest.raises(ParameterError, match="the model is a ResNet, whose order of layers is unknown"):
        features.geometry(resnet, "layer1")
    with pytest.raises(ParameterError, match="layer '1' is a BasicBlock"):
        features.geometry(nn.Sequential(nn.Conv2d(3, 64, 3), resnet.layer1[0]), "1.conv1")
    with pytest.raises(ParameterError, match="'1' is a Linear"):
        features.geometry(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Linear(3, 3)), "1")
    with pytest.raises(ParameterError, match=r"'0' has kernel_size \(3, 5\)"):
        features.geometry(nn.Sequential(nn.Conv2d(1, 1, (3, 5))), "0")
    with pytest.raises(ParameterError, match=r"'0' is a SameConv2d of stride 2.*depends on the image's size"):
        features.geometry(nn.Sequential(SameConv2d(1, 1, 3, stride=2)), "0")
    with pytest.raises(ParameterError, match="'0' has padding_mode 'circular'"):
        features.geometry(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")), "0")


def test_geometry_refuses_a_forward_of_ones_own():
    class Backwards(nn.Sequential):
        def forward(self, images):
            for layer in reversed(self):
                images = layer(images)
            return images

    class Strided(nn.MaxPool2d):
        def forward(self, images):
            return super().forward(images)[:, :, ::2, ::2]

    class Plain(nn.Sequential):
        """A class of one's own that runs as nn.Sequential does."""

    layers = (nn.Conv2d(1, 1, 3), nn.MaxPool2d(2))
    with pytest.raises(ParameterError, match="the model is a Backwards, whose order of layers is unknown"):
        features.geometry(Backwards(*layers), "1")
    with pytest.raises(ParameterError, match="'1' is a Strided: what its units see is unknown"):
        features.geometry(nn.Sequential(layers[0], Strided(2)), "1")
    changed = nn.MaxPool2d(2)
    changed.forward = lambda images: images
    with pytest.raises(ParameterError, match="'1' is a MaxPool2d: what its units see is unknown"):
        features.geometry(nn.Sequential(layers[0], changed), "1")
    assert features.geometry(Plain(*layers, Backwards(nn.ReLU())), "1") == (4, 2, 0)


def test_cut_pads_with_grey_where_the_window_sticks_out():
    image = torch.arange(12.0).view(1, 1, 3, 4) / 12
    assert torch.equal(cut(image, Window(0, 1, 2, 3)), image[0, :, 0:2, 1:3])
    patch = cut(image, Window(-1, -2, 4, 5))  # (1, 5, 7)
    assert torch.equal(patch[:, 1:4, 2:6], image[0])
    outside = torch.ones(5, 7, dtype=torch.bool)
    outside[1:4, 2:6] = False
    assert (patch[0, outside] == 0.5).all()
    assert (cut(image, Window(-9, -9, -5, -5)) == 0.5).all()
    assert (cut(image, Window(7, 7, 9, 9)) == 0.5).all()


# top patches


def test_top_patches_find_a_planted_pattern():
    """A kernel that looks for a bright cross finds each one, at its place, the brighter first."""
    cross = torch.tensor([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]])
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, bias=False))
    with torch.no_grad():
        model[0].weight[:] = torch.stack([cross, -cross]).unsqueeze(1)
    images = [torch.zeros(1, 1, 12, 9), torch.zeros(1, 1, 7, 20)]
    images[0][0, 0, 3:6, 2:5] = cross * 0.5
    images[1][0, 0, 2:5, 12:15] = cross
    found = features.top_patches(model, images, [("0", 0)], count=2)["0", 0]
    assert [(p.image, p.window) for p in found] == [(1, Window(2, 12, 5, 15)), (0, Window(3, 2, 6, 5))]
    assert [p.value for p in found] == pytest.approx([5, 2.5])
    torch.testing.assert_close(found[0].pixels, cross[None])


def test_top_patches_of_one_image_keep_apart_and_are_sorted(model):
    image = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(3))
    found = features.top_patches(model, [image], [("3", 1), ("0", 2)], count=5)
    place = features.geometry(model, "3")
    assert {len(patches) for patches in found.values()} == {5}
    for patches in found.values():
        assert [p.value for p in patches] == sorted((p.value for p in patches), reverse=True)
    windows = [p.window for p in found["3", 1]]
    maps = features.feature_maps(model, image, ["3"])["3"]
    assert found["3", 1][0].value == pytest.approx(maps[0, 1].max().item())
    for i, a in enumerate(windows):
        for b in windows[:i]:
            assert max(abs(a.top - b.top), abs(a.left - b.left)) >= place.size / 2


def test_top_patches_refuse_bad_units_and_counts(model, images):
    with pytest.raises(ParameterError, match="channel is 6; layer '3' has channels 0 to 5"):
        features.top_patches(model, [images[:1]], [("3", 6)])
    with pytest.raises(ParameterError, match=r"len\(images\) is 0"):
        features.top_patches(model, [], [("3", 0)])
    for count in (0, 2.5, True):
        with pytest.raises(ParameterError, match=f"count is {count}"):
            features.top_patches(model, [images[:1]], [("3", 0)], count=count)
    for units in (["3"], ("3", 0)):
        with pytest.raises(ParameterError, match="pairs"):
            features.top_patches(model, [images[:1]], units)
    nn.init.constant_(model[0].weight, float("nan"))
    with pytest.raises(ParameterError, match="responds to image 0 with NaN"):
        features.top_patches(model, [images[:1]], [("0", 0)])
    with pytest.raises(ParameterError, match="image 0 has 2 images"):
        features.top_patches(model, [images], [("3", 0)])


# progress


@pytest.mark.parametrize(
    ("call", "last"),
    [
        (
            lambda model, images, **o: features.maximize_unit(model, "3", 0, size=16, steps=3, **o),
            "3 of 3 steps",
        ),
        (
            lambda model, images, **o: features.top_patches(model, images.split(1), [("3", 0)], **o),
            "2 of 2 images",
        ),
    ],
)
def test_long_loops_tell_how_far_they_are(model, images, call, last, capsys, monkeypatch):
    monkeypatch.setattr("cnnlib.ground.progress.LOG_SECONDS", 0)
    call(model, images)
    shown = capsys.readouterr().out
    assert last in shown
    assert " left" in shown
    call(model, images, progress=False)
    with contextlib.redirect_stdout(io.StringIO()) as caught:  # as a run of side_by_side is
        call(model, images)
    assert (capsys.readouterr().out, caught.getvalue()) == ("", "")


# activation maximisation


def test_maximize_unit_raises_the_unit_and_is_repeatable():
    vgg = pretrained.vgg16_features()
    image, values = features.maximize_unit(vgg, "features.5", 3, size=24, steps=12, seed=5)
    assert image.shape == (1, 3, 24, 24)
    assert image.min() >= 0
    assert image.max() <= 1
    assert len(values) == 12
    assert values[-1] > values[0] + 1
    again, _ = features.maximize_unit(vgg, "features.5", 3, size=24, steps=12, seed=5)
    assert torch.equal(image, again)
    other, _ = features.maximize_unit(vgg, "features.5", 3, size=24, steps=12, seed=6)
    assert not torch.equal(image, other)
    assert not hooks_of(vgg)
    assert all(p.grad is None for p in vgg.parameters())


def test_maximize_unit_finds_the_best_image_of_a_known_unit():
    """A unit that is the mean of red minus the mean of blue is driven to red."""
    model = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False))
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([1.0, 0, -1]).view(1, 3, 1, 1)
    image, values = features.maximize_unit(model, "0", 0, size=9, steps=150, lr=0.2)
    assert values[-1] > 0.7
    assert image[0, 0].mean() > 0.75
    assert image[0, 2].mean() < 0.1
    assert model[0].weight.grad is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "9"}, "no layer '9'"),
        ({"channel": 6}, "channel is 6"),
        ({"channel": -1}, "channel is -1"),
        ({"layer": "7"}, r"layer '7' returns \(1, 5\)"),
        ({"size": 0}, "size is 0"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"lr": 0}, "lr is 0"),
        ({"lr": "0.1"}, "lr is '0.1'"),
        ({"lr": float("inf")}, "lr is inf"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_maximize_unit_refuses_bad_arguments(model, arguments, message):
    with pytest.raises(ParameterError, match=message):
        features.maximize_unit(model, **({"layer": "3", "channel": 0, "size": 16} | arguments))


def test_maximize_unit_says_when_a_unit_is_off():
    model = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU())
    nn.init.constant_(model[0].bias, -100)
    with pytest.raises(ParameterError, match=r"no gradient.*before its ReLU"):
        features.maximize_unit(model, "1", 0, size=8)


# Grad-CAM


def test_grad_cam_is_the_class_activation_map_before_a_linear_classifier(model, images):
    """With mean pooling and one linear layer behind it, Grad-CAM has a closed form (Zhou et al. 2016)."""
    maps = features.feature_maps(model, images, ["4"])["4"]  # (2, 6, h, w)
    for targets in ([3, 1], 2, torch.tensor([0, 4])):
        chosen = torch.as_tensor(targets).expand(2)
        weights = model[7].weight[chosen].detach() / maps[0, 0].numel()
        wanted = torch.relu(torch.einsum("nk,nkhw->nhw", weights, maps))
        wanted = F.interpolate(wanted[:, None], size=(16, 20), mode="bilinear")[:, 0]
        torch.testing.assert_close(features.grad_cam(model, images, "4", targets), wanted)
    assert wanted.max() > 0


def test_grad_cam_explains_the_predicted_class_by_default(model, images):
    with torch.no_grad():
        predicted = model(images).argmax(dim=1)
    torch.testing.assert_close(
        features.grad_cam(model, images, "3"), features.grad_cam(model, images, "3", predicted)
    )


def test_grad_cam_leaves_the_model_as_it_was(model, images):
    model.train()
    features.grad_cam(model, images, "3")
    model.requires_grad_(False)
    with torch.no_grad():  # it works under no_grad too, and on frozen weights
        features.grad_cam(model, images, "3")
    assert model.training
    assert not hooks_of(model)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("byte_images", [False, True])
def test_gradients_work_inside_inference_mode(model, images, byte_images):
    """Whatever of the arguments was made there too."""
    images = (images * 255).byte() if byte_images else images
    wanted, best = features.grad_cam(model, images, "3", [1, 2]), features.maximize_unit(model, "3", 1, 8, 3)
    with torch.inference_mode():
        for made_here in (images, images.clone()):
            torch.testing.assert_close(features.grad_cam(model, made_here, "3", torch.tensor([1, 2])), wanted)
            features.grad_cam(model, made_here, "3")
        image, values = features.maximize_unit(model, "3", 1, 8, 3)
        built_here = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert torch.equal(image, best[0])
    assert values == best[1]
    for call in (
        lambda: features.grad_cam(built_here, images, "0"),
        lambda: features.maximize_unit(built_here, "0", 0, 8),
    ):
        with pytest.raises(ParameterError, match=r"0\.weight was made inside torch\.inference_mode"):
            call()


@pytest.mark.parametrize(
    ("layer", "targets", "message"),
    [
        ("x", None, "no layer 'x'"),
        ("6", None, r"layer '6' returns \(2, 6\)"),
        ("3", 5, "classes 0 to 4"),
        ("3", -1, "classes 0 to 4"),
        ("3", [0, 1, 2], "one for each of 2 images"),
        ("3", 1.0, "give one class number"),
        ("3", [[0, 1]], "give one class number"),
    ],
)
def test_grad_cam_refuses_bad_arguments(model, images, layer, targets, message):
    with pytest.raises(ParameterError, match=message):
        features.grad_cam(model, images, layer, targets)


def test_grad_cam_needs_logits(model, images):
    with pytest.raises(ParameterError, match=r"Grad-CAM needs \(N, K\) logits"):
        features.grad_cam(model[:4], images, "0")


def test_a_grad_cam_of_several_outputs_or_of_nan_is_refused(model, images):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = copy.deepcopy(model)

        def forward(self, x):
            return self.inner(x), self.inner(x)

    with pytest.raises(ParameterError, match="returns a tuple for images"):
        features.grad_cam(Two(), images, "inner.0")
    sick = copy.deepcopy(model)
    layer = next(m for m in sick.modules() if isinstance(m, nn.Conv2d))
    layer.weight.data.fill_(math.nan)
    name = next(n for n, m in sick.named_modules() if m is layer)
    with pytest.raises(ParameterError, match=r"NaN or an infinite number.*diverged"):
        features.grad_cam(sick, images, name)


def test_units_and_images_may_come_one_by_one(model, images):
    """A generator of units was used up by the first of two loops, so that none was found."""
    name = next(n for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    expected = features.top_patches(model, list(images.split(1)), [(name, 0)], 2, progress=False)
    found = features.top_patches(
        model, (i for i in images.split(1)), (unit for unit in [(name, 0)]), 2, progress=False
    )
    assert found.keys() == expected.keys() == {(name, 0)}
    assert [p[:3] for p in found[name, 0]] == [p[:3] for p in expected[name, 0]]


@pytest.mark.parametrize(
    "use",
    [
        lambda model: features.feature_maps(model, torch.rand(1, 3, 8, 8), None),
        lambda model: features.top_patches(model, None, [("0", 0)]),
        lambda model: features.top_patches(model, [torch.rand(1, 3, 8, 8)], None),
        lambda model: features.receptive_field(3),
    ],
)
def test_what_is_no_list_is_named(model, use):
    with pytest.raises(ParameterError, match=r"are (None|3); they must be a list of"):
        use(model)


def test_a_model_without_values_is_not_looked_into():
    with torch.device("meta"):
        empty = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    images = torch.rand(2, 3, 8, 8)
    for look in (
        lambda: features.feature_maps(empty, images, ["0"]),
        lambda: features.grad_cam(empty, images, "0"),
        lambda: features.maximize_unit(empty, "0", 0, size=8, steps=1, progress=False),
        lambda: features.top_patches(empty, [images[:1]], [("0", 0)], progress=False),
    ):
        with pytest.raises(ParameterError, match=r'0\.weight is on the device "meta".*to_empty'):
            look()
    assert features.geometry(empty, "0").size == 3  # this needs no values


def test_numpys_sizes_have_receptive_fields():
    pair = torch.tensor([3, 2]).numpy()
    assert features.receptive_field([pair]) == features.receptive_field([(3, 2)]) == (3, 2)
    with pytest.raises(ParameterError, match=r"seed is .* from 0 to"):
        features.maximize_unit(nn.Sequential(nn.Conv2d(3, 1, 1)), "0", 0, seed=2**70)
