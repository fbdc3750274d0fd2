"""cnnlib.models.pretrained: the real weights, at torchvision's values, and predictions that are right."""

import shutil

import pytest
import torch
import torchvision
from torch import nn
from torchvision.transforms import v2

from cnnlib.data import photo
from cnnlib.ground.env import DATA
from cnnlib.ground.errors import DataError, ParameterError
from cnnlib.models import pretrained
from cnnlib.models.efficientnet import EfficientNetB0, EfficientNetLite0, MBConv, SameConv2d


@pytest.fixture(scope="module")
def lite0():
    return pretrained.efficientnet_lite0()


def convolutions(model):
    return [m for m in model.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize(
    ("build", "name", "count"), [("vgg16_features", "vgg16", 13), ("alexnet_features", "alexnet", 5)]
)
def test_features_have_torchvisions_structure(build, name, count):
    mine = getattr(pretrained, build)()
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name, weights=None).features
    assert [str(a) for a in mine.features] == [
        str(b).replace(", inplace=True", "").replace("inplace=True", "") for b in theirs
    ]
    assert len(convolutions(mine)) == count
    assert not mine.training
    assert {p.dtype for p in mine.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in mine.parameters())


def test_features_compute_what_torchvisions_module_computes_on_normalised_images():
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for mine, name in ((pretrained.vgg16_features(), "vgg16"), (pretrained.alexnet_features(), "alexnet")):
        with torch.device("meta"):
            theirs = torchvision.models.get_model(name, weights=None).features
        theirs.load_state_dict(mine.features.state_dict(), assign=True)
        torch.testing.assert_close(mine(images), theirs((images - mean) / std))


def test_weights_are_torchvisions_to_half_precision():
    vgg, alexnet = pretrained.vgg16_features().features[0], pretrained.alexnet_features().features[0]
    torch.testing.assert_close(
        vgg.weight[0, 0, 0], torch.tensor([-0.5537, 0.1427, 0.5290]), atol=4e-4, rtol=0
    )
    torch.testing.assert_close(
        vgg.bias[:5], torch.tensor([0.4034, 0.3778, 0.4644, -0.3228, 0.3940]), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        alexnet.weight[0, 0, 0, [0, 1, 2, 8]],
        torch.tensor([0.11864, 0.09407, 0.09544, 0.05582]),
        atol=1e-4,
        rtol=0,
    )


def test_layer_names_are_readable(lite0):
    names = dict(pretrained.vgg16_features().named_modules())
    assert {"normalize", "features.0", "features.22", *pretrained.VGG16_BLOCKS.values()} <= set(names)
    assert all(isinstance(names[name], nn.ReLU) for name in pretrained.VGG16_BLOCKS.values())
    assert {"normalize", "stem", "blocks.15", "head", "classifier"} <= set(dict(lite0.named_modules()))


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("chelsea", {"Egyptian cat", "tabby", "tiger cat"}),
        ("coffee", {"espresso"}),
        ("camera", {"tripod"}),
        ("china", {"palace"}),
        ("motorcycle", {"moped", "motor scooter"}),
        ("rocket", {"missile", "projectile"}),
    ],
)
def test_efficientnet_lite0_is_right_on_the_photographs(lite0, name, answers):
    logits = lite0(pretrained.center_crop(photo(name)))
    assert logits.shape == (1, 1000)
    assert pretrained.imagenet_classes()[logits.argmax()] in answers


def test_imagenet_classes_are_a_thousand():
    classes = pretrained.imagenet_classes()
    assert len(classes) == 1000
    assert (classes[0], classes[281], classes[999]) == ("tench", "tabby", "toilet tissue")


# Damaged files


@pytest.fixture
def copied(tmp_path, monkeypatch):
    (tmp_path / "weights").mkdir()
    shutil.copy(DATA / "SHA256SUMS", tmp_path)
    path = tmp_path / "weights" / "alexnet_features.safetensors"
    shutil.copy(DATA / "weights" / path.name, path)
    monkeypatch.setattr(pretrained, "DATA", tmp_path)
    return path


def test_missing_damaged_and_changed_weights_are_refused(copied):
    pretrained.alexnet_features()
    data = copied.read_bytes()
    for damaged in (data[:1000], b"", data[:-1] + bytes([data[-1] ^ 1])):
        copied.write_bytes(damaged)
        with pytest.raises(DataError, match=r"SHA-256.*git checkout"):
            pretrained.alexnet_features()
    copied.unlink()
    with pytest.raises(DataError, match=r"are missing.*git checkout"):
        pretrained.alexnet_features()


@pytest.mark.parametrize("content", ["noise", "vgg"])
def test_weights_of_another_network_are_refused(copied, monkeypatch, content):
    monkeypatch.setattr(pretrained, "check_sha256", lambda *_: None)
    if content == "noise":
        copied.write_bytes(b"not safetensors")
    else:
        shutil.copy(DATA / "weights" / "vgg16_features.safetensors", copied)
    with pytest.raises(DataError, match="does not hold the weights of alexnet_features"):
        pretrained.alexnet_features()


# center_crop


def test_center_crop_takes_the_middle_square():
    images = torch.zeros(1, 3, 4, 8, dtype=torch.uint8)
    images[..., 2:6] = 255
    assert torch.equal(pretrained.center_crop(images, 4), torch.ones(1, 3, 4, 4))
    assert torch.equal(pretrained.center_crop(images.mT, 4), torch.ones(1, 3, 4, 4))


def test_center_crop_is_torchvisions_resize():
    images = photo("coffee")
    transform = v2.Compose(
        [v2.CenterCrop(400), v2.ToDtype(torch.float32, scale=True), v2.Resize(224, antialias=True)]
    )
    torch.testing.assert_close(pretrained.center_crop(images), transform(images), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("images", "size", "message"),
    [
        (torch.rand(3, 8, 8), 4, r"shape \(3, 8, 8\)"),
        (torch.rand(1, 1, 8, 8), 4, r"shape \(1, 1, 8, 8\)"),
        (torch.rand(1, 3, 0, 8), 4, r"shape \(1, 3, 0, 8\)"),
        ("chelsea", 4, "images are a str"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), 4, "torch.int64"),
        (torch.rand(1, 3, 8, 8) * 255, 4, r"images go from .*divide pixels by 255"),
        (torch.rand(1, 3, 8, 8) - 0.5, 4, "must lie between 0 and 1"),
        (torch.full((1, 3, 8, 8), torch.nan), 4, "images go from nan"),
        (torch.rand(1, 3, 8, 8), 0, "size is 0"),
        (torch.rand(1, 3, 8, 8), 4.0, "size is 4.0"),
    ],
)
def test_center_crop_refuses_bad_arguments(images, size, message):
    with pytest.raises(ParameterError, match=message):
        pretrained.center_crop(images, size)


# models.efficientnet


def test_efficientnet_b0_computes_what_torchvisions_does():
    torch.manual_seed(0)
    mine, theirs = EfficientNetB0().eval(), torchvision.models.efficientnet_b0(weights=None).eval()
    assert sum(p.numel() for p in mine.parameters()) == 5_288_548
    mine.load_state_dict(dict(zip(mine.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.rand(2, 3, 75, 64)
    torch.testing.assert_close(mine(images), theirs(images))


def test_efficientnet_lite0_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in EfficientNetLite0().parameters()) == 4_652_008


@pytest.mark.parametrize("size", [7, 8, 9, 16])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_is_tensorflows(size, kernel_size, stride):
    """TensorFlow's rule by hand: pad the total that ⌈size / stride⌉ outputs need, the odd one last."""
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel_size - size, 0)
    conv = SameConv2d(1, 1, kernel_size, stride, bias=False)
    image = torch.rand(1, 1, size, size)
    padded = torch.zeros(1, 1, size + total, size + total)
    padded[..., total // 2 : total // 2 + size, total // 2 : total // 2 + size] = image
    wanted = nn.functional.conv2d(padded, conv.weight, stride=stride)
    assert wanted.shape[2:] == (outputs, outputs)
    torch.testing.assert_close(conv(image), wanted)
    assert conv(torch.rand(1, 1, size, size + 1)).shape[3] == -(-(size + 1) // stride)


def test_mbconv_adds_its_input_only_where_shapes_agree():
    images = torch.rand(1, 8, 6, 6)
    same, wider, strided = MBConv(8, 8, 3), MBConv(8, 12, 3), MBConv(8, 8, 3, stride=2)
    assert [block(images).shape[1:] for block in (same, wider, strided)] == [(8, 6, 6), (12, 6, 6), (8, 3, 3)]
    same.eval()
    nn.init.zeros_(same.project[1].weight)  # the branch is silent: the input must pass
    torch.testing.assert_close(same(images), images)


def test_an_unknown_padding_is_refused():
    with pytest.raises(ParameterError, match='"torch" or "tf"'):
        MBConv(8, 8, 3, same_padding="valid")
