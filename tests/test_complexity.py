"""Parameters and MACs against closed formulas, and against the numbers that torchvision publishes."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

from cnnlib.ground.errors import ParameterError
from cnnlib.measure.complexity import count_macs, count_parameters, summary
from cnnlib.models import make_model
from cnnlib.models.layers import MixedPrecision, output_size


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
    [
        ("alexnet", 61_100_840, 0.714),
        ("vgg16", 138_357_544, 15.47),
        ("resnet18", 11_689_512, 1.814),
        ("swin_t", 28_288_354, 4.491),  # windows of attention, as matrix products in the forward pass
        ("vit_b_32", 88_224_232, 4.409),  # nn.MultiheadAttention
        ("convnext_tiny", 28_589_128, 4.456),  # linear layers on every pixel
    ],
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


def flops(model, images):
    """Return what PyTorch's own counter says; it does not know every operation that ours does."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model.eval()(images)
    return counter.get_total_flops()


@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2, "padding": 1}, {"groups": 2, "dilation": 2, "output_padding": 1, "stride": 3}],
)
def test_a_transposed_convolution_is_counted_by_the_formula(options):
    """Each input value is multiplied into one kernel for each output channel of its group."""
    layer = nn.ConvTranspose2d(4, 6, 3, **options)
    macs = 4 * 5 * 7 * 6 // options.get("groups", 1) * 3 * 3
    assert count_macs(layer, (4, 5, 7)) == macs == flops(layer, torch.zeros(1, 4, 5, 7)) // 2
    assert summary(layer, (4, 5, 7)).macs.tolist() == [macs]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Conv1d(4, 6, 3), (4, 9)), (nn.Conv3d(4, 6, 3), (4, 5, 6, 7)), (nn.ConvTranspose1d(4, 6, 3), (4, 9))],
)
def test_convolutions_along_other_axes(layer, shape):
    model = nn.Sequential(nn.Flatten(), nn.Unflatten(1, shape), layer)
    assert count_macs(model, (1, 1, math.prod(shape))) == flops(layer, torch.zeros(1, *shape)) // 2 > 0


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 6, 3, bias=False), nn.ConvTranspose2d(4, 6, 3)])
def test_what_is_computed_of_the_weights_counts_nothing(layer):
    """It is the same work for one image and for a thousand."""
    plain = count_macs(layer, (4, 5, 7))
    for parametrize in (
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
    ):
        model = parametrize(copy.deepcopy(layer))
        assert count_macs(model, (4, 5, 7)) == plain
        table = summary(model, (4, 5, 7))
        assert table.macs.sum() == plain
        assert table.parameters.sum() == count_parameters(model)


class Tokens(nn.Module):
    """Gives a layer the pixels as a sequence (N, H · W, C), as often as it wants them."""

    def __init__(self, layer, times=1):
        super().__init__()
        self.layer, self.times = layer, times

    def forward(self, images):
        output = self.layer(*[images.flatten(2).mT] * self.times)
        return output[0] if isinstance(output, tuple) else output


def test_attention_is_counted_by_the_formula():
    """Four projections of each token, and each token against each other one, for the weights and the sum."""
    length, width, wide = 4 * 5, 8, 32
    attention = 4 * length * width**2 + 2 * length**2 * width
    layer = nn.MultiheadAttention(width, 2, batch_first=True)
    assert count_macs(Tokens(layer, 3), (width, 4, 5)) == attention
    table = summary(Tokens(layer, 3), (width, 4, 5))
    assert table.loc["layer", "macs"] == table.macs.sum() == attention
    block = nn.TransformerEncoderLayer(width, 2, wide, batch_first=True)
    both = attention + 2 * length * width * wide
    assert count_macs(Tokens(block), (width, 4, 5)) == both
    stack = nn.TransformerEncoder(block, 3, enable_nested_tensor=False)
    assert count_macs(Tokens(stack), (width, 4, 5)) == 3 * both
    with torch.device("meta"):
        meta = Tokens(nn.TransformerEncoderLayer(width, 2, wide, batch_first=True))
    assert count_macs(meta, (width, 4, 5)) == both


def test_products_in_a_forward_of_ones_own_are_counted():
    class Own(nn.Module):
        def forward(self, images):
            rows = images.flatten(2)  # (1, 6, 20)
            first = rows @ rows.mT  # 6 · 6 · 20
            second = torch.einsum("nij,nkj->nik", rows, rows[:, :2])  # 6 · 2 · 20
            third = nn.functional.scaled_dot_product_attention(rows, rows[:, :3], rows[:, :3, :4])
            return first.sum() + second.sum() + third.sum() + rows[0, 0] @ rows[0, 1]  # … + 20

    third = 6 * 3 * 20 + 6 * 3 * 4
    assert count_macs(Own(), (6, 4, 5)) == 6 * 6 * 20 + 6 * 2 * 20 + third + 20
    table = summary(nn.Sequential(Own(), nn.Identity()), (6, 4, 5))
    assert table.macs.tolist() == [6 * 6 * 20 + 6 * 2 * 20 + third + 20, 0]


class Spectrum(nn.Module):
    def forward(self, images):
        return torch.fft.rfft2(images).abs()


class Whitened(nn.Module):
    def forward(self, images):
        return images @ torch.linalg.inv(images.mT @ images + torch.eye(images.shape[-1]))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Whitened(), r"layer 'layer' \(Whitened\) computes aten::linalg_inv_ex"),
        (
            nn.LSTM(8, 4, batch_first=True),
            r"layer 'layer' \(LSTM\) computes aten::.*rnn.*; give the layer a method",
        ),
        (nn.Bilinear(8, 8, 3), r"layer 'layer' \(Bilinear\) computes aten::_trilinear"),
        (Spectrum(), r"layer 'layer' \(Spectrum\) computes aten::_fft_r2c"),
    ],
)
def test_hidden_products_are_refused_unless_the_layer_counts_them(layer, message):
    model = Tokens(layer, 2 if isinstance(layer, nn.Bilinear) else 1)
    with pytest.raises(ParameterError, match=message):
        count_macs(model, (8, 4, 5))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    layer.macs = lambda output: 77
    assert count_macs(model, (8, 4, 5)) == summary(model, (8, 4, 5)).macs.sum() == 77


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_a_norm_costs_nothing_and_compiled_layers_are_not_counted():
    class Unit(nn.Module):
        def forward(self, images):
            return nn.functional.normalize(images) / torch.linalg.cross(images, images, dim=1).norm()

    assert count_macs(Unit(), (3, 4, 5)) == 0
    model = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, kernel_size=3)))
    with pytest.raises(ParameterError, match="cannot be looked into while it runs; give the"):
        count_macs(model, (3, 8, 8))


def test_a_layer_that_counts_itself_counts_what_runs_inside_it():
    class Half(nn.Sequential):
        def macs(self, output):
            return output.numel()

    model = nn.Sequential(Half(nn.Conv2d(4, 6, 3), Half(nn.Conv2d(6, 6, 1))), nn.Conv2d(6, 2, 1))
    assert count_macs(model, (4, 5, 5)) == 6 * 9 + 2 * 6 * 9
    assert summary(model, (4, 5, 5)).macs.sum() == 6 * 9 + 2 * 6 * 9


@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
def test_a_model_is_counted_alike_however_it_runs():
    model = make_model("resnet_small")
    macs = count_macs(model, (1, 28, 28))
    compiled = torch.compile(model.eval(), backend="eager")
    with torch.no_grad():
        compiled(torch.zeros(1, 1, 28, 28))  # from now on it takes no notice of hooks
    assert count_macs(compiled, (1, 28, 28)) == macs
    with torch.inference_mode():
        assert count_macs(model, (1, 28, 28)) == macs
        assert count_macs(make_model("resnet_small"), (1, 28, 28)) == macs
    assert count_macs(MixedPrecision(model), (1, 28, 28)) == macs
    assert count_macs(model.requires_grad_(False), (1, 28, 28)) == macs
    model.compile(backend="eager")
    with torch.no_grad():
        model(torch.zeros(1, 1, 28, 28))
    assert count_macs(model, (1, 28, 28)) == macs


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


def test_a_marked_place_costs_nothing():
    class Marked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, images):
            with torch.profiler.record_function("stem"):
                return self.conv(images)

    for model in (Marked(), nn.DataParallel(nn.Conv2d(3, 4, 3))):
        assert count_macs(model, (3, 8, 8)) == 4 * 6 * 6 * 3 * 3 * 3


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
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


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


def test_a_model_is_a_module_and_numpys_sizes_are_sizes():
    layer = nn.Conv2d(1, 2, 3)
    for count in (count_parameters, lambda model: count_macs(model, (1, 8, 8))):
        for odd in (3, nn.Conv2d, None):
            with pytest.raises(ParameterError, match=r"it must be a torch.nn.Module, built"):
                count(odd)
    assert count_macs(layer, torch.tensor([1, 8, 8]).numpy()) == count_macs(layer, (1, 8, 8)) == 2 * 9 * 36
