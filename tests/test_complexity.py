"""Parameters and MACs against closed formulas, and against the numbers that torchvision publishes."""

import pytest
import torch
from torch import nn

from cnnlib.ground.errors import ParameterError
from cnnlib.measure.complexity import count_macs, count_parameters, summary
from cnnlib.models import make_model
from cnnlib.models.layers import output_size


def published(name):
    """Return a model of torchvision without memory or values, and what torchvision says about it."""
    from torchvision.models import get_model, get_model_weights  # after cnnlib, which repairs torchvision

    with torch.device("meta"):
        return get_model(name, weights=None), get_model_weights(name).IMAGENET1K_V1.meta


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("bias", [False, True])
def test_a_convolution_is_counted_by_the_formula(kernel_size, stride, dilation, groups, bias):
    layer = nn.Conv2d(
        6, 12, kernel_size, stride=stride, padding=1, dilation=dilation, groups=groups, bias=bias
    )
    height, width = (output_size(size, kernel_size, stride, 1, dilation) for size in (17, 14))
    weights = 12 * 6 // groups * kernel_size**2
    assert count_parameters(layer) == weights + 12 * bias
    assert count_macs(layer, (6, 17, 14)) == weights * height * width


def test_a_linear_layer_is_counted_by_the_formula():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 5 * 4, 7))
    assert count_parameters(model) == 3 * 5 * 4 * 7 + 7
    assert count_macs(model, (3, 5, 4)) == 3 * 5 * 4 * 7


def test_a_linear_layer_on_every_pixel_counts_as_the_convolution_that_it_is():
    assert count_macs(nn.Linear(8, 5), (3, 4, 8)) == 3 * 4 * 8 * 5


@pytest.mark.parametrize(
    ("name", "parameters", "gmacs"),
    [("alexnet", 61_100_840, 0.714), ("vgg16", 138_357_544, 15.47), ("resnet18", 11_689_512, 1.814)],
)
def test_torchvisions_published_numbers(name, parameters, gmacs):
    model, meta = published(name)
    assert count_parameters(model) == parameters == meta["num_params"]
    macs = count_macs(model, (3, 224, 224))
    assert macs / 1e9 == pytest.approx(gmacs, abs=5e-4 if gmacs < 10 else 5e-3)
    assert macs / 1e9 == pytest.approx(meta["_ops"], abs=5e-4)  # torchvision's "GFLOPS" are multiply–adds


def test_the_courses_own_models():
    assert count_parameters(make_model("simple_cnn")) == 28_938
    assert count_parameters(make_model("mlp")) == 203_530
    assert count_macs(make_model("simple_cnn"), (1, 28, 28)) == 28**2 * 16 * 25 + 14**2 * 32 * 400 + 15_680
    assert count_macs(make_model("mlp"), (1, 28, 28)) == 784 * 256 + 2560


class Odd(nn.Module):
    """A layer used twice, a weight shared by two layers, a parameter of its own, a layer that never runs."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.tied = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.tied.weight = self.twice.weight
        self.norm = nn.BatchNorm2d(4)
        self.idle = nn.Linear(10, 10)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return self.scale * self.norm(self.tied(self.twice(self.twice(images))))


def test_the_table_adds_up_whatever_the_model_does():
    model = Odd()
    table = summary(model, (4, 8, 8))
    one_pass = 4 * 4 * 9 * 64
    assert table.index.tolist() == ["twice", "tied", "norm", "model", "idle"]
    assert table.macs.tolist() == [2 * one_pass, one_pass, 0, 0, 0]
    assert table.parameters.tolist() == [144, 0, 8, 1, 110]
    assert table.output.tolist() == [*["4 × 8 × 8"] * 4, "did not run"]
    assert table.parameters.sum() == count_parameters(model)
    assert table.macs.sum() == count_macs(model, (4, 8, 8))


def test_the_table_of_the_simple_cnn():
    table = summary(make_model("simple_cnn"), (1, 28, 28))
    assert table.columns.tolist() == ["kind", "output", "parameters", "macs"]
    assert table.loc["block2.0"].tolist() == ["Conv2d", "32 × 14 × 14", 12_832, 2_508_800]
    assert table.loc["classifier"].tolist() == ["Linear", "10", 15_690, 15_680]


def test_counting_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2).eval(), nn.Dropout(0.5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_macs(model, (1, 8, 8))
    assert [m.training for m in model] == [True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("shape", [(28, 28), (1, 1, 28, 28), (1, 0, 28), (1, 28.0, 28), 28, "mnist", None])
def test_the_input_shape_must_be_one_images(shape):
    with pytest.raises(ParameterError, match=r"input_shape is .*\(C, H, W\) of one image"):
        count_macs(make_model("simple_cnn"), shape)


def test_images_that_the_model_cannot_take():
    model = make_model("simple_cnn")
    with pytest.raises(ParameterError, match=r"cannot take images of shape \(1, 3, 28, 28\).*channels"):
        count_macs(model, (3, 28, 28))
    with pytest.raises(ParameterError, match=r"cannot take images of shape \(1, 1, 32, 32\)"):
        summary(model, (1, 32, 32))
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())


def test_a_layer_without_a_shape_cannot_be_counted():
    with pytest.raises(ParameterError, match="weight has no shape yet; pass one batch"):
        count_parameters(nn.Sequential(nn.Flatten(), nn.LazyLinear(10)))
