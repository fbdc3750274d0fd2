"""The models against torchvision's, and against the numbers that their papers print."""

import cnnlib  # noqa: F401 - it repairs a torchvision that cannot be imported

# isort: split
import pytest
import torch
from torch import nn
from torchvision import models as torchvision_models
from torchvision.ops import SqueezeExcitation as TorchvisionSqueezeExcitation

from cnnlib.course.exercises.lesson_07 import DenseBlock, InvertedResidual  # the blocks are exercises
from cnnlib.ground.errors import ParameterError
from cnnlib.measure.complexity import count_macs, count_parameters
from cnnlib.models import IMAGENET_MODELS, MODELS, make_model
from cnnlib.models.convnext import ConvNeXtBlock
from cnnlib.models.densenet import DenseLayer
from cnnlib.models.efficientnet import FusedMBConv, MBConv, SqueezeExcitation
from cnnlib.models.inception import GoogLeNet, InceptionBlock
from cnnlib.models.init import kaiming, untrained
from cnnlib.models.lenet import C3_TABLE, LeNet5, LeNet5Paper, SparseConv2d, Subsampling, digit_codes
from cnnlib.models.resnet import BasicBlock, Bottleneck, deep_net

PARAMETERS = {
    "lenet5_paper": 60_000,  # LeCun et al. 1998, sec. II-B
    "lenet5": 61_706,
    "alexnet_2012": 60_965_224,
    "alexnet": 61_100_840,
    "vgg11": 132_863_336,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "googlenet": 6_624_904,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "resnext50_32x4d": 25_028_904,
    "efficientnet_b0": 5_288_548,
}
IN_TORCHVISION = {  # what their constructor needs, and the images' side: as small as the model allows
    "alexnet": ({}, 63),
    "vgg11": ({"init_weights": False}, 32),
    "vgg16_bn": ({"init_weights": False}, 32),
    "googlenet": ({"aux_logits": False, "init_weights": False}, 64),
    "resnet18": ({}, 64),
    "resnet50": ({}, 64),
    "resnext50_32x4d": ({}, 64),
    "efficientnet_b0": ({}, 64),
}


def on_meta(name):
    """Build a published model without memory for its weights."""
    with torch.device("meta"):
        return make_model(name, in_channels=3, num_classes=1000)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_ones(name):
    model = make_model(name) if name in MODELS else on_meta(name)
    assert count_parameters(model) == PARAMETERS[name]


def published(name):
    """Return torchvision's record of a model's first ImageNet weights."""
    return torchvision_models.get_model_weights(name).IMAGENET1K_V1.meta


@pytest.mark.parametrize("name", [n for n in IMAGENET_MODELS if n != "alexnet_2012"])
def test_parameters_and_macs_agree_with_torchvisions_metadata(name):
    model, meta = on_meta(name), published(name)
    assert count_parameters(model) == meta["num_params"]
    assert count_macs(model, (3, 224, 224)) / 1e9 == pytest.approx(meta["_ops"], abs=0.002)


@pytest.mark.parametrize("name", IN_TORCHVISION)
def test_torchvisions_weights_give_torchvisions_outputs(name):
    options, side = IN_TORCHVISION[name]
    torch.manual_seed(0)
    theirs = getattr(torchvision_models, name)(**options)
    ours = make_model(name, in_channels=3, num_classes=1000)
    for module in theirs.modules():  # fresh statistics would hide a norm that is left out
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    state = theirs.state_dict()
    if name == "efficientnet_b0":  # the same tensors in the same order; only their names differ
        state = dict(zip(ours.state_dict(), state.values(), strict=True))
    ours.load_state_dict(state)
    images = torch.rand(2, 3, side, side)
    with torch.inference_mode():
        expected = theirs.eval()(images)
        assert expected.std() > 0
        torch.testing.assert_close(ours.eval()(images), expected, rtol=1e-5, atol=1e-6)


def test_blocks_train_as_torchvisions_do():
    around = nn.Sequential(nn.Conv2d(16, 32, 1, stride=2, bias=False), nn.BatchNorm2d(32))
    theirs = torchvision_models.resnet.Bottleneck(16, 8, 2, around, groups=4, base_width=32)
    ours = Bottleneck(16, 32, stride=2, width=16, groups=4)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(4, 16, 8, 8)
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, msg=name)
    torch.testing.assert_close(ours.bn2.running_var, theirs.bn2.running_var)


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_small_models_return_logits_and_reach_every_weight(name, in_channels):
    torch.manual_seed(0)
    model = make_model(name, in_channels, num_classes=7)
    logits = model(torch.rand(4, in_channels, 28, 28))
    assert logits.shape == (4, 7)
    logits.logsumexp(dim=1).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", [n for n in MODELS if n.endswith(("_small", "_small_bn"))])
def test_small_models_share_one_budget(name):
    """Lessons 06 and 07 say: LeNet-5's 61,706 parameters, give or take a fifth."""
    assert count_parameters(make_model(name)) == pytest.approx(61_706, rel=0.2)
    assert count_macs(make_model(name), (1, 28, 28)) < 2.5e6


def test_the_fast_models_cost_what_their_docstrings_say():
    digits, clothes = make_model("fast_cnn"), make_model("fast_cnn_deep")
    assert (count_parameters(digits), count_macs(digits, (1, 28, 28))) == (169_962, 395_904)
    assert (count_parameters(clothes), count_macs(clothes, (1, 28, 28))) == (252_138, 8_789_760)


def test_the_fast_model_for_digits_does_not_see_the_rim():
    model = make_model("fast_cnn").eval()
    images = torch.rand(2, 1, 28, 28)
    changed = images.clone()
    changed[..., :2] = changed[..., -2:] = changed[..., :2, :] = changed[..., -2:, :] = 9.0
    assert torch.equal(model(images), model(changed))


def test_an_unknown_model_is_named():
    with pytest.raises(ParameterError, match=r"'resnet_51'.*resnet50"):
        make_model("resnet_51")


def test_lenet_of_1998_has_the_papers_connections():
    table = torch.tensor([[cell == "X" for cell in row] for row in C3_TABLE])
    assert table.shape == (6, 16)
    assert table.sum(dim=0).tolist() == [3] * 6 + [4] * 9 + [6]
    assert table.sum(dim=1).tolist() == [10] * 6
    layers = {name: count_parameters(layer) for name, layer in LeNet5Paper().named_children()}
    assert layers == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48120, "f6": 10164}


def test_a_sparse_convolution_is_a_dense_one_with_zeros():
    torch.manual_seed(0)
    sparse = SparseConv2d(("X.", "XX", ".X"), kernel_size=3)
    x = torch.randn(2, 3, 6, 6, requires_grad=True)
    weight = torch.zeros(2, 3, 3, 3)
    for kernel, (out, seen) in zip(sparse.kernels, [(0, 0), (0, 1), (1, 1), (1, 2)], strict=True):
        weight[out, seen] = kernel
    torch.testing.assert_close(sparse(x), nn.functional.conv2d(x, weight, sparse.bias))
    (seen,) = torch.autograd.grad(sparse(x)[:, 0].sum(), x)
    assert seen[:, :2].any()
    assert not seen[:, 2].any()
    assert count_macs(sparse, (3, 6, 6)) == 4 * 9 * 4 * 4  # kernels, their size, positions


def test_subsampling_starts_as_the_average():
    x = torch.rand(2, 3, 4, 6)
    torch.testing.assert_close(Subsampling(3)(x), nn.functional.avg_pool2d(x, 2))


def test_the_digit_codes_differ_and_do_not_train():
    codes = digit_codes()
    assert codes.shape == (10, 84)
    assert set(codes.unique().tolist()) == {-1.0, 1.0}
    assert torch.cdist(codes, codes).fill_diagonal_(99).min() > 4  # over four pixels apart: distance 2√4
    model = LeNet5Paper()
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(model.codes, codes)
    assert (model(images) <= 0).all()
    with pytest.raises(ParameterError, match="num_classes is 11"):
        LeNet5Paper(num_classes=11)


def test_the_wanted_code_wins():
    model = LeNet5Paper()
    with torch.no_grad():
        model.f6.weight.zero_()
        model.f6.bias.copy_(3 * model.codes[4])
    assert model(torch.rand(2, 1, 28, 28)).argmax(dim=1).tolist() == [4, 4]


def test_modern_lenet_counts_by_layer():
    counts = [count_parameters(m) for m in LeNet5().modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert counts == [156, 2416, 48120, 10164, 850]


def test_an_inception_block_stacks_its_branches():
    block = InceptionBlock(16, 4, (6, 8), (2, 5), 3).eval()
    x = torch.rand(2, 16, 9, 7)
    parts = [b(x) for b in (block.branch1, block.branch2, block.branch3, block.branch4)]
    assert [p.shape[1] for p in parts] == [4, 8, 5, 3]
    assert torch.equal(block(x), torch.cat(parts, dim=1))
    assert block.out_channels == 20
    with torch.device("meta"):
        assert count_parameters(GoogLeNet(large_kernel=5)) > PARAMETERS["googlenet"]


def test_a_residual_block_is_the_identity_plus_what_it_learns():
    x = torch.rand(2, 8, 6, 6)
    block = BasicBlock(8, 8).eval()
    nn.init.zeros_(block.bn2.weight)
    assert torch.equal(block(x), x)
    plain = BasicBlock(8, 8, residual=False).eval()
    nn.init.zeros_(plain.bn2.weight)
    assert not plain(x).any()
    assert count_parameters(block) == count_parameters(plain)


@pytest.mark.parametrize("depth", [8, 20, 56])
def test_deep_nets_have_the_depth_that_is_asked(depth):
    for residual in (True, False):
        model = deep_net(depth, residual)
        weights = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        assert len([m for m in weights if getattr(m, "kernel_size", 0) != (1, 1)]) == depth
        assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("depth", [2, 9, 21, 0])
def test_other_depths_are_refused(depth):
    with pytest.raises(ParameterError, match=f"depth is {depth}"):
        deep_net(depth)


def test_mbconv_adds_its_input_where_shapes_agree():
    x = torch.rand(2, 8, 6, 6)
    same, strided, wider = MBConv(8, 8, 3).eval(), MBConv(8, 8, 3, stride=2).eval(), MBConv(8, 16, 5).eval()
    nn.init.zeros_(same.project[1].weight)
    assert torch.equal(same(x), x)
    assert strided(x).shape == (2, 8, 3, 3)
    assert wider(x).shape == (2, 16, 6, 6)


def _give_equal_outputs(ours, theirs, x):
    """Load their tensors, in order, into ours; compare outputs with statistics of batch norm that matter."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():  # a scale of 1e-6 or a shift of 0 would hide a mistake
            parameter.add_(0.1 * torch.randn_like(parameter))
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 1.5)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    with torch.inference_mode():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-5)


def test_a_dense_layer_equals_torchvisions():
    theirs = torchvision_models.densenet._DenseLayer(6, growth_rate=4, bn_size=4, drop_rate=0.0)
    ours = DenseLayer(6, 4)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    _give_equal_outputs(ours, theirs, torch.randn(2, 6, 5, 4))


def test_a_dense_block_equals_torchvisions_and_keeps_its_input():
    theirs = torchvision_models.densenet._DenseBlock(3, 6, bn_size=4, growth_rate=4, drop_rate=0.0)
    ours, x = DenseBlock(6, 4, layers=3), torch.randn(2, 6, 5, 4)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    _give_equal_outputs(ours, theirs, x)
    assert ours(x).shape == (2, 18, 5, 4)
    assert torch.equal(ours(x)[:, :6], x)


@pytest.mark.parametrize(
    ("out_channels", "stride", "expand_ratio"), [(8, 1, 6), (12, 1, 6), (8, 2, 6), (8, 1, 1)]
)
def test_the_inverted_residual_equals_torchvisions(out_channels, stride, expand_ratio):
    theirs = torchvision_models.mobilenetv2.InvertedResidual(8, out_channels, stride, expand_ratio)
    ours = InvertedResidual(8, out_channels, stride, expand_ratio)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    _give_equal_outputs(ours, theirs, 8 * torch.randn(2, 8, 6, 5))


def test_convnexts_block_equals_torchvisions():
    theirs = torchvision_models.convnext.CNBlock(6, layer_scale=1e-6, stochastic_depth_prob=0.0)
    ours = ConvNeXtBlock(6)
    assert torch.equal(ours.scale, theirs.layer_scale)
    _give_equal_outputs(ours, theirs, torch.randn(2, 6, 9, 8))


@pytest.mark.parametrize(("out_channels", "stride", "expand_ratio"), [(8, 1, 1), (8, 1, 4), (12, 2, 4)])
def test_the_fused_block_equals_torchvisions(out_channels, stride, expand_ratio):
    config = torchvision_models.efficientnet.FusedMBConvConfig(expand_ratio, 3, stride, 8, out_channels, 1)
    theirs = torchvision_models.efficientnet.FusedMBConv(config, 0.0, nn.BatchNorm2d)
    _give_equal_outputs(
        FusedMBConv(8, out_channels, 3, stride, expand_ratio), theirs, torch.randn(2, 8, 6, 6)
    )


@pytest.mark.parametrize(("out_channels", "stride", "expand_ratio"), [(8, 1, 1), (8, 1, 6), (12, 2, 6)])
def test_without_excitation_mbconv_is_mobilenets_block(out_channels, stride, expand_ratio):
    theirs = torchvision_models.mobilenetv2.InvertedResidual(8, out_channels, stride, expand_ratio)
    ours = MBConv(8, out_channels, 3, stride, expand_ratio, se_ratio=None, activation=nn.ReLU6)
    _give_equal_outputs(ours, theirs, torch.randn(2, 8, 6, 6))


def test_squeeze_excitation_equals_torchvisions():
    theirs = TorchvisionSqueezeExcitation(12, 3, activation=nn.SiLU)
    ours = SqueezeExcitation(12, 3)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(2, 12, 5, 5)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("numbers", [{"num_classes": 0}, {"num_classes": 10.0}, {"in_channels": "1"}])
def test_channels_and_classes_are_whole_numbers(numbers):
    with pytest.raises(ParameterError, match="must be a whole number, 1 or more"):
        make_model("simple_cnn", **numbers)


@pytest.mark.parametrize("model", [None, BasicBlock])
def test_only_a_built_model_gets_new_weights(model):
    for function in (kaiming, lambda it: untrained(it, 0)):
        with pytest.raises(ParameterError, match=r"model is .*; it must be a torch.nn.Module, built"):
            function(model)
    with pytest.raises(ParameterError, match=r"seed is 0.5; it must be a whole number"):
        untrained(BasicBlock(2, 2), 0.5)
