"""What a lesson builds in view and cnnlib holds too must be the same thing.

`CHECKS` holds one function for each `defines-NAME` tag of each lesson. It gets the lesson's object and
asserts that cnnlib's gives equal results.
"""

import itertools

import pytest
import torch
from notebook_tools import LESSONS, definitions, namespace
from torch import nn

from cnnlib import data, train
from cnnlib.inside import features, gratings, landscape
from cnnlib.measure import complexity, metrics
from cnnlib.models import (
    alexnet,
    batch_norm,
    convnext,
    densenet,
    efficientnet,
    fast,
    inception,
    layers,
    lenet,
    make_model,
    pretrained,
    resnet,
    vgg,
)
from cnnlib.models.init import kaiming, untrained
from cnnlib.train import augment, identity

CHECKS = {}


def check(lesson, name):
    """Register a function as the check of one definition."""

    def register(function):
        CHECKS[lesson, name] = function
        return function

    return register


TABLES = (
    ("06_architectures_classic", "C3_TABLE", lenet.C3_TABLE),
    ("06_architectures_classic", "LENET5", lenet.LENET5),
    ("06_architectures_classic", "TWO_GPUS", alexnet.TWO_GPUS),
    ("06_architectures_classic", "ONE_COLUMN", alexnet.ONE_COLUMN),
    ("06_architectures_classic", "ALEXNET_SMALL", alexnet.SMALL),
    ("06_architectures_classic", "VGG16", vgg.VGG16),
    ("07_architectures_modern", "GOOGLENET", inception.GOOGLENET),
    ("07_architectures_modern", "RESNET18", resnet.RESNET18),
    ("07_architectures_modern", "RESNET50", resnet.RESNET50),
    ("07_architectures_modern", "STAGES", efficientnet.STAGES),
)


def is_the_same(table):
    def compare(shown):
        assert shown == table

    return compare


for lesson, name, table in TABLES:
    check(lesson, name)(is_the_same(table))


@check("02_parts_of_a_cnn", "output_size")
def _(shown):
    for case in itertools.product(range(5, 12), (1, 2, 5), (1, 2, 3), (0, 1, 2), (1, 2)):
        if case[4] * (case[1] - 1) + 1 <= case[0] + 2 * case[3]:
            assert shown(*case) == layers.output_size(*case)


@check("02_parts_of_a_cnn", "conv2d")
def _(shown):
    generator = torch.Generator().manual_seed(0)
    images, weight, bias = (torch.randn(s, generator=generator) for s in ((2, 3, 9, 8), (4, 3, 3, 2), (4,)))
    for options in ({}, {"stride": 2, "padding": 1}, {"dilation": 2}):
        assert torch.equal(
            shown(images, weight, bias, **options), layers.conv2d(images, weight, bias, **options)
        )
        assert torch.equal(shown(images, weight, **options), layers.conv2d(images, weight, **options))


@check("02_parts_of_a_cnn", "max_pool2d")
def _(shown):
    images = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    for options in ({}, {"stride": 1}, {"stride": 3}):
        assert torch.equal(shown(images, 2, **options), layers.max_pool2d(images, 2, **options))


@check("02_parts_of_a_cnn", "softmax")
def _(shown):
    logits = 100 * torch.randn(5, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(shown(logits), layers.softmax(logits))


@check("02_parts_of_a_cnn", "count_parameters")
def _(shown):
    for name in ("simple_cnn", "mlp"):
        assert shown(make_model(name)) == complexity.count_parameters(make_model(name))


@check("02_parts_of_a_cnn", "count_macs")
def _(shown):
    grouped = torch.nn.Conv2d(4, 6, 3, stride=2, dilation=2, groups=2)
    for model, shape in ((make_model("simple_cnn"), (1, 28, 28)), (grouped, (4, 12, 9))):
        assert shown(model, shape) == complexity.count_macs(model, shape) > 0


@check("03_mnist_cnn", "channel_stats")
def _(shown):
    images = torch.randint(
        0, 256, (9, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    assert shown(images) == data.channel_stats(images)


@check("03_mnist_cnn", "Normalize")
def _(shown):
    images = torch.rand(4, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    statistics = (0.1, 0.5, 0.9), (0.2, 1.0, 3.0)
    ours, theirs = shown(*statistics), layers.Normalize(*statistics)
    assert torch.equal(ours(images), theirs(images))
    assert ours.state_dict().keys() == theirs.state_dict().keys()


@check("03_mnist_cnn", "SimpleCNN")
def _(shown):
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    ours = shown(in_channels=3, num_classes=7)
    torch.manual_seed(1)
    theirs = make_model("simple_cnn", in_channels=3, num_classes=7)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert torch.equal(ours(images), theirs(images))


@check("03_mnist_cnn", "batches")
def _(shown):
    digits = data.load("mnist", "test")[:100]
    for seed in (None, 3):
        ours, theirs = (
            list(f(digits, 30, None if seed is None else torch.Generator().manual_seed(seed)))
            for f in (shown, data.batches)
        )
        assert len(ours) == len(theirs) == 4
        assert all(
            torch.equal(a, b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True)
        )


@check("03_mnist_cnn", "evaluate")
def _(shown):
    digits = data.load("mnist", "test")[:1500]
    model = nn.Sequential(nn.Dropout(0.5), make_model("simple_cnn"))
    assert shown(model, digits) == pytest.approx(train.evaluate(model, digits)[:2], rel=1e-6)
    assert model.training


@check("03_mnist_cnn", "warmup_linear")
def _(shown):
    def rates(schedule):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
        scheduler = schedule(optimizer, 12)
        for _ in range(12):
            yield optimizer.param_groups[0]["lr"]
            optimizer.step()
            scheduler.step()

    assert list(rates(shown)) == list(rates(train.warmup_linear))


@check("03_mnist_cnn", "fit")
def _(shown):
    digits = data.load("mnist", "test")
    ours, theirs = make_model("simple_cnn"), make_model("simple_cnn")
    theirs.load_state_dict(ours.state_dict())
    ours.to(memory_format=torch.channels_last)  # as `fit` does: rounding depends on it
    training, val = digits[:700], digits[700:900]
    accuracies = shown(ours, training, val, epochs=2, batch_size=64, lr=3e-3, seed=5)
    history = train.fit(
        theirs,
        training,
        val,
        epochs=2,
        batch_size=64,
        lr=3e-3,
        seed=5,
        schedule=train.warmup_linear,
        device="cpu",
        progress=False,
    )
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    assert accuracies == pytest.approx(history["val_accuracy"])


def _fashion_like_logits():
    generator = torch.Generator().manual_seed(4)
    logits = 3 * torch.randn(500, 10, generator=generator)
    labels = torch.multinomial((logits / 2).softmax(dim=1), 1, generator=generator).squeeze(1)
    return logits, labels


@check("04_reading_results", "confusion_matrix")
def _(shown):
    labels, predictions = torch.randint(0, 7, (2, 300), generator=torch.Generator().manual_seed(4))
    assert torch.equal(shown(labels, predictions, 8), metrics.confusion_matrix(labels, predictions, 8))


@check("04_reading_results", "calibration")
def _(shown):
    logits, labels = _fashion_like_logits()
    for mine, library in zip(shown(logits, labels), metrics.calibration(logits, labels), strict=True):
        torch.testing.assert_close(
            torch.as_tensor(mine), torch.as_tensor(library), equal_nan=True, check_dtype=False
        )


@check("04_reading_results", "fit_temperature")
def _(shown):
    logits, labels = _fashion_like_logits()
    assert shown(logits, labels) == metrics.fit_temperature(logits, labels) > 1


@check("04_reading_results", "paired_bootstrap")
def _(shown):
    a, b = torch.rand(2, 400, generator=torch.Generator().manual_seed(4)) < 0.8
    assert shown(a, b, seed=5) == metrics.paired_bootstrap(a, b, seed=5)


def _same_model(shown, ours, images):
    """Both draw the same weights from the same seed, under the same names, and give the same outputs."""
    models = []
    for build in (shown, ours):
        torch.manual_seed(1)
        models.append(build().eval())
    a, b = (model.state_dict() for model in models)
    assert list(a) == list(b)
    assert all(torch.equal(a[name], b[name]) for name in a)
    with torch.inference_mode():
        assert torch.equal(models[0](images), models[1](images))


def _images(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@check("06_architectures_classic", "Subsampling")
def _(shown):
    _same_model(lambda: shown(3), lambda: lenet.Subsampling(3), _images(2, 3, 6, 8))


@check("06_architectures_classic", "SparseConv2d")
def _(shown):
    _same_model(
        lambda: shown(lenet.C3_TABLE, 5), lambda: lenet.SparseConv2d(lenet.C3_TABLE, 5), _images(2, 6, 9, 7)
    )
    layer = shown(lenet.C3_TABLE, 5)
    assert complexity.count_macs(layer, (6, 14, 14)) == 150_000


@check("06_architectures_classic", "scaled_tanh")
def _(shown):
    x = torch.linspace(-3, 3, 13)
    assert torch.equal(shown(x), lenet.scaled_tanh(x))


@check("06_architectures_classic", "LeNet5Paper")
def _(shown):
    _same_model(shown, lenet.LeNet5Paper, _images(2, 1, 28, 28))


@check("06_architectures_classic", "lenet_features")
def _(shown):
    stages = ((3, 3, 1), (5, 3, 0))
    _same_model(lambda: shown(stages, 2), lambda: lenet.lenet_features(stages, 2), _images(2, 2, 12, 10))


@check("06_architectures_classic", "LeNet5")
def _(shown):
    _same_model(shown, lenet.LeNet5, _images(2, 1, 28, 28))


@check("06_architectures_classic", "alexnet_features")
def _(shown):
    for stages in (alexnet.TWO_GPUS, alexnet.ONE_COLUMN):
        _same_model(
            lambda rows=stages: shown(rows),
            lambda rows=stages: alexnet.alexnet_features(rows),
            _images(1, 3, 80, 67),
        )


@check("06_architectures_classic", "linear_head")
def _(shown):
    for first in (False, True):
        assert str(shown(6, 5, 4, 0.3, first)) == str(alexnet.linear_head(6, 5, 4, 0.3, first))
    _same_model(lambda: shown(6, 5, 4), lambda: alexnet.linear_head(6, 5, 4), _images(3, 6))


@check("06_architectures_classic", "alexnet_2012")
def _(shown):
    with torch.device("meta"):
        ours, theirs = shown(), alexnet.alexnet_2012()
    assert str(ours) == str(theirs)
    assert complexity.count_macs(ours, (3, 227, 227)) == complexity.count_macs(theirs, (3, 227, 227))


@check("06_architectures_classic", "AlexNet")
def _(shown):
    with torch.device("meta"):
        ours, theirs = shown(), alexnet.AlexNet()
    assert str(ours) == str(theirs)
    assert complexity.count_macs(ours, (3, 224, 224)) == complexity.count_macs(theirs, (3, 224, 224))


@check("06_architectures_classic", "alexnet_small")
def _(shown):
    for activation in (nn.ReLU, nn.Tanh):
        _same_model(
            lambda f=activation: shown(f),
            lambda f=activation: alexnet.alexnet_small(activation=f),
            _images(2, 1, 28, 28),
        )


@check("06_architectures_classic", "vgg_features")
def _(shown):
    for norm in (False, True):
        _same_model(
            lambda n=norm: shown(((1, 4), (2, 6)), 2, n),
            lambda n=norm: vgg.vgg_features(((1, 4), (2, 6)), 2, n),
            _images(2, 2, 9, 8),
        )


@check("06_architectures_classic", "VGG")
def _(shown):
    arguments = (((1, 4), (2, 6)), 2, 5, True, 3, 7, 0.1)
    _same_model(lambda: shown(*arguments), lambda: vgg.VGG(*arguments), _images(2, 2, 16, 16))
    with torch.device("meta"):
        assert str(shown(vgg.VGG16)) == str(vgg.vgg16())


@check("06_architectures_classic", "kaiming")
def _(shown):
    _same_model(lambda: shown(nn.Conv2d(2, 3, 3)), lambda: kaiming(nn.Conv2d(2, 3, 3)), _images(2, 2, 6, 6))


@check("01_what_layers_learn", "feature_maps")
def _(shown):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Conv2d(2, 3, 3)).eval()
    images, layers = _images(2, 1, 8, 8), ["0", "2"]
    mine, theirs = shown(model, images, layers), features.feature_maps(model, images, layers)
    assert list(mine) == list(theirs) == layers
    assert all(torch.equal(mine[name], theirs[name]) for name in layers)
    assert not any(module._forward_hooks for module in model)


@check("01_what_layers_learn", "center_crop")
def _(shown):
    images = (255 * _images(2, 3, 30, 41)).to(torch.uint8)
    assert torch.equal(shown(images, 17), pretrained.center_crop(images, 17))


@check("01_what_layers_learn", "gratings")
def _(shown):
    assert torch.equal(shown(9, [3.0, 5.0]), gratings.gratings(9, [3.0, 5.0]))


@check("01_what_layers_learn", "selectivity")
def _(shown):
    responses = _images(12, 5)
    responses[:, 2] = 0  # silent
    assert torch.equal(shown(responses), gratings.selectivity(responses))


@check("01_what_layers_learn", "untrained")
def _(shown):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    mine, theirs = shown(model, 3), untrained(model, 3)
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))


@check("02_parts_of_a_cnn", "receptive_field")
def _(shown):
    for pairs in ([], [(11, 4), (3, 2), (5, 1)], [(3, 1), (3, 1), (2, 2)] * 3):
        assert shown(pairs) == features.receptive_field(pairs)


@check("05_inside_a_network", "grad_cam")
def _(shown):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(80, 3))
    images = _images(2, 1, 8, 8)
    for layer in ("0", "2"):
        mine, theirs = shown(model, images, layer, [2, 0]), features.grad_cam(model, images, layer, [2, 0])
        assert mine.max() > 0
        torch.testing.assert_close(mine, theirs)


@check("07_architectures_modern", "ConvBNReLU")
def _(shown):
    arguments = (3, 4, 5, 2, 1)
    _same_model(lambda: shown(*arguments), lambda: inception.ConvBNReLU(*arguments), _images(2, 3, 9, 8))


@check("07_architectures_modern", "InceptionBlock")
def _(shown):
    for kernel in (3, 5):
        arguments = (6, 2, (3, 4), (2, 5), 3, kernel)
        _same_model(
            lambda a=arguments: shown(*a),
            lambda a=arguments: inception.InceptionBlock(*a),
            _images(2, 6, 9, 8),
        )


@check("07_architectures_modern", "inception_small")
def _(shown):
    _same_model(shown, inception.inception_small, _images(2, 1, 28, 28))


@check("07_architectures_modern", "projection")
def _(shown):
    for arguments in ((4, 4, 1), (4, 6, 1), (4, 4, 2)):
        _same_model(
            lambda a=arguments: shown(*a), lambda a=arguments: resnet.projection(*a), _images(2, 4, 6, 6)
        )


@check("07_architectures_modern", "BasicBlock")
def _(shown):
    for arguments in ((4, 4), (4, 6, 2), (4, 6, 2, False)):
        _same_model(
            lambda a=arguments: shown(*a), lambda a=arguments: resnet.BasicBlock(*a), _images(2, 4, 6, 6)
        )


@check("07_architectures_modern", "halve")
def _(shown):
    x = _images(2, 3, 7, 8)
    assert torch.equal(shown(3)(x), inception.halve(3)(x))


@check("07_architectures_modern", "googlenet_stages")
def _(shown):
    with torch.device("meta"):
        ours, theirs = list(shown(3)), list(inception.googlenet_stages(3))
    assert [(name, str(part)) for name, part in ours] == [(name, str(part)) for name, part in theirs]


def _same_network(shown, ours):
    """A network of full size takes the other's state dict and gives equal outputs."""
    state = ours.state_dict()
    for name, value in state.items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    shown.load_state_dict(state)
    images = _images(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(shown.eval()(images), ours.eval()(images))


@check("07_architectures_modern", "GoogLeNet")
def _(shown):
    _same_network(shown(large_kernel=3), inception.GoogLeNet(large_kernel=3))


@check("07_architectures_modern", "stage")
def _(shown):
    _same_model(
        lambda: shown(resnet.BasicBlock, 3, 4, 2, 2, residual=False),
        lambda: resnet.stage(resnet.BasicBlock, 3, 4, 2, 2, residual=False),
        _images(2, 3, 6, 6),
    )


@check("07_architectures_modern", "ResNet")
def _(shown):
    _same_network(shown(resnet.BasicBlock, resnet.RESNET18), resnet.resnet18())


@check("07_architectures_modern", "ResNeXtBottleneck")
def _(shown):
    _same_model(lambda: shown(64, 64, 2), lambda: resnet.ResNeXtBottleneck(64, 64, 2), _images(2, 64, 6, 6))


@check("07_architectures_modern", "EfficientNetB0")
def _(shown):
    _same_network(shown(), efficientnet.EfficientNetB0())


@check("07_architectures_modern", "FusedMBConv")
def _(shown):
    for arguments in ((8, 8, 3), (8, 12, 5, 2), (8, 8, 3, 1, 1)):
        _same_model(
            lambda a=arguments: shown(*a),
            lambda a=arguments: efficientnet.FusedMBConv(*a),
            _images(2, 8, 7, 6),
        )


@check("07_architectures_modern", "DenseLayer")
def _(shown):
    _same_model(lambda: shown(6, 4), lambda: densenet.DenseLayer(6, 4), _images(2, 6, 5, 4))


@check("07_architectures_modern", "ConvNeXtBlock")
def _(shown):
    _same_model(lambda: shown(6, 0.5), lambda: convnext.ConvNeXtBlock(6, 0.5), _images(2, 6, 8, 9))


@check("07_architectures_modern", "deep_net")
def _(shown):
    for residual in (False, True):
        _same_model(
            lambda r=residual: shown(14, r), lambda r=residual: resnet.deep_net(14, r), _images(2, 1, 28, 28)
        )


@check("07_architectures_modern", "Bottleneck")
def _(shown):
    for arguments in ((8, 8), (8, 16, 2), (8, 16, 2, 8, 4)):
        _same_model(
            lambda a=arguments: shown(*a), lambda a=arguments: resnet.Bottleneck(*a), _images(2, 8, 6, 6)
        )


@check("07_architectures_modern", "resnet_small")
def _(shown):
    _same_model(shown, resnet.resnet_small, _images(2, 1, 28, 28))


@check("07_architectures_modern", "resnext_small")
def _(shown):
    _same_model(shown, resnet.resnext_small, _images(2, 1, 28, 28))


@check("07_architectures_modern", "ConvBlock")
def _(shown):
    for arguments in ((4, 6, 3, 2, 2), (4, 6, 1, 1, 1, nn.Identity)):
        _same_model(
            lambda a=arguments: shown(*a), lambda a=arguments: efficientnet.ConvBlock(*a), _images(2, 4, 7, 6)
        )


@check("07_architectures_modern", "SqueezeExcitation")
def _(shown):
    _same_model(lambda: shown(6, 2), lambda: efficientnet.SqueezeExcitation(6, 2), _images(2, 6, 5, 4))


@check("07_architectures_modern", "MBConv")
def _(shown):
    for arguments in ((8, 8, 3), (8, 12, 5, 2), (8, 8, 3, 1, 1)):
        _same_model(
            lambda a=arguments: shown(*a), lambda a=arguments: efficientnet.MBConv(*a), _images(2, 8, 7, 6)
        )


@check("07_architectures_modern", "efficientnet_small")
def _(shown):
    _same_model(shown, efficientnet.efficientnet_small, _images(2, 1, 28, 28))


@check("08_dropout", "Dropout")
def _(shown):
    for p in (0, 0.3, 1):
        outputs = []
        for layer in (shown(p), layers.Dropout(p)):
            torch.manual_seed(0)
            outputs.append((layer(_images(2, 3, 5, 4)), layer.eval()(_images(2, 3, 5, 4))))
        assert all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))


@check("09_batch_norm", "batch_norm")
def _(shown):
    x, mean, weight, bias = _images(2, 3, 5, 4), *torch.randn(3, 3)
    var = torch.rand(3)
    for eps in (1e-5, 0.1):
        arguments = (x, mean, var, weight, bias, eps)
        assert torch.equal(shown(*arguments), batch_norm.batch_norm(*arguments))


@check("09_batch_norm", "BatchNorm2d")
def _(shown):
    ours, theirs = shown(3, 1e-3, 0.2), batch_norm.BatchNorm2d(3, 1e-3, 0.2)
    for shape in ((4, 3, 5, 2), (2, 3, 1, 1)):
        x = _images(*shape)
        assert torch.equal(ours(x), theirs(x))
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), name
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


@check("09_batch_norm", "batch_norm_backward")
def _(shown):
    x, grad, weight = _images(4, 3, 5, 2), _images(4, 3, 5, 2).flip(0), torch.randn(3)
    for a, b in zip(shown(x, weight, grad), batch_norm.batch_norm_backward(x, weight, grad), strict=True):
        assert torch.equal(a, b)


@check("09_batch_norm", "fold_batch_norm")
def _(shown):
    for bias in (True, False):
        conv, norm = nn.Conv2d(2, 3, 3, bias=bias), nn.BatchNorm2d(3)
        norm(_images(4, 3, 5, 2))
        ours, theirs = shown(conv, norm), batch_norm.fold_batch_norm(conv, norm)
        assert torch.equal(ours.weight, theirs.weight)
        assert torch.equal(ours.bias, theirs.bias)


@check("09_batch_norm", "reestimate_statistics")
def _(shown):
    results = []
    for reestimate in (shown, batch_norm.reestimate_statistics):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)
        )
        reestimate(model, _images(10, 1, 8, 8), batch_size=4)
        results.append(model.state_dict())
    assert all(torch.equal(results[0][name], value) for name, value in results[1].items())


@check("10_why_batch_norm_works", "NoisyBatchNorm2d")
def _(shown):
    for arguments in ((3,), (3, 1.0, 2.0)):
        torch.manual_seed(0)
        theirs = landscape.NoisyBatchNorm2d(*arguments)
        images, outputs = _images(2, 3, 5, 4), []
        for layer in (shown(*arguments), theirs):
            torch.manual_seed(1)
            outputs.append((layer(images), layer.eval()(images)))
        assert all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))


def _noisy_net():
    torch.manual_seed(0)
    parts = (nn.Conv2d(1, 3, 3), landscape.NoisyBatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.ReLU())
    model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 4))
    return model, _images(6, 1, 8, 8), torch.arange(6) % 4


@check("10_why_batch_norm_works", "loss_and_gradient")
def _(shown):
    (loss, gradient), (theirs, other) = shown(*_noisy_net()), landscape.loss_and_gradient(*_noisy_net())
    assert loss == theirs
    assert torch.equal(gradient, other)


@check("10_why_batch_norm_works", "along_gradient")
def _(shown):
    ours, theirs = (f(*_noisy_net(), [0.1, 1.0]) for f in (shown, landscape.along_gradient))
    assert isinstance(ours, landscape.Slice)
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(ours, theirs, strict=True))


@check("10_why_batch_norm_works", "gradient_step")
def _(shown):
    ours, theirs = (f(*_noisy_net(), 0.3).state_dict() for f in (shown, landscape.gradient_step))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@check("10_why_batch_norm_works", "layer_moments")
def _(shown):
    model, images, _ = _noisy_net()
    for noise_seed in (0, 1):
        ours, theirs = (f(model, images, noise_seed) for f in (shown, landscape.layer_moments))
        assert len(ours) == len(theirs) == 1
        assert torch.equal(ours[0], theirs[0])


@check("10_why_batch_norm_works", "input_shift")
def _(shown):
    model, images, _ = _noisy_net()
    moments = [landscape.layer_moments(model, images, noise_seed) for noise_seed in (0, 1)]
    assert torch.equal(shown(*moments), landscape.input_shift(*moments))


@check("10_why_batch_norm_works", "gradient_shift")
def _(shown):
    ours, theirs = (f(*_noisy_net(), 0.3) for f in (shown, landscape.gradient_shift))
    torch.testing.assert_close(ours, torch.stack(theirs), rtol=1e-4, atol=1e-5)


@check("12_training_speed", "fast_cnn")
def _(shown):
    models = []
    for build in (shown, fast.fast_cnn):
        torch.manual_seed(0)
        models.append(build(in_channels=2, num_classes=7))
    assert str(models[0]) == str(models[1])
    images = torch.rand(3, 2, 28, 28)
    assert torch.equal(models[0].eval()(images), models[1].eval()(images))


@check("12_training_speed", "FAST")
def _(shown):
    assert {name: identity.describe(value) for name, value in shown.items()} == {
        name: identity.describe(value) for name, value in train.FAST.items()
    }


@check("12_training_speed", "RandomShift")
def _(shown):
    images = torch.rand(50, 2, 6, 5)
    for pixels in (1, 2):
        results = []
        for layer in (shown(pixels), augment.RandomShift(pixels)):
            torch.manual_seed(0)
            results.append(layer.train()(images))
            assert torch.equal(layer.eval()(images), images)
        assert torch.equal(*results)


@check("12_training_speed", "predict_shifted")
def _(shown):
    images, model = torch.rand(5, 1, 6, 5), nn.Sequential(nn.Flatten(), nn.Linear(30, 3))
    assert torch.equal(shown(model, images, 2), augment.predict_shifted(model, images, 2))


def test_every_definition_is_checked():
    assert {(path.stem, name) for path in LESSONS for name in definitions(path)} == set(CHECKS)


@pytest.mark.parametrize(("lesson", "name"), list(CHECKS))
def test_the_lesson_and_the_library_agree(lesson, name):
    CHECKS[lesson, name](namespace(lesson)[name])
