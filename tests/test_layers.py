"""The hand-written layers against PyTorch's, and what they say about shapes that do not fit."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.ground.errors import ParameterError
from cnnlib.models.batch_norm import BatchNorm2d
from cnnlib.models.layers import (
    DropBlock,
    Dropout,
    MixedPrecision,
    Normalize,
    avg_pool2d,
    conv2d,
    max_pool2d,
    output_size,
    softmax,
)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_output_size_is_what_pytorch_returns():
    tried = 0
    grid = itertools.product(range(1, 12), range(1, 6), range(1, 5), range(3), range(1, 4))
    for size, kernel_size, stride, padding, dilation in grid:
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        if dilation * (kernel_size - 1) + 1 > size + 2 * padding:
            with pytest.raises(ParameterError, match="does not fit"):
                output_size(size, kernel_size, **options)
            continue
        expected = F.conv1d(torch.zeros(1, 1, size), torch.zeros(1, 1, kernel_size), **options).shape[-1]
        assert output_size(size, kernel_size, **options) == expected
        tried += 1
    assert tried > 1000


@pytest.mark.parametrize(
    ("name", "value"),
    [("size", 0), ("kernel_size", 0), ("stride", 0), ("padding", -1), ("dilation", 0), ("stride", 1.5)],
)
def test_output_size_names_the_argument_that_is_out_of_range(name, value):
    with pytest.raises(ParameterError, match=rf"^{name} is {value}; it must be a whole number"):
        output_size(**{"size": 8, "kernel_size": 3, name: value})


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("with_bias", [False, True])
def test_conv2d_is_pytorchs(kernel, stride, padding, dilation, with_bias):
    images, weight = random(2, 3, 11, 9), random(4, 3, *kernel, seed=1)
    bias = random(4, seed=2) if with_bias else None
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    expected = F.conv2d(images, weight, bias, **options)
    torch.testing.assert_close(conv2d(images, weight, bias, **options), expected, rtol=1e-4, atol=1e-5)


def test_conv2d_has_pytorchs_gradients():
    def inputs():
        shapes = [(2, 3, 8, 7), (4, 3, 3, 3), (4,)]
        return [random(*s, seed=i).double().requires_grad_() for i, s in enumerate(shapes)]

    ours, theirs = inputs(), inputs()
    conv2d(*ours, stride=2, padding=1).square().sum().backward()
    F.conv2d(*theirs, stride=2, padding=1).square().sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize(
    ("images", "weight", "bias", "options", "message"),
    [
        ((3, 8, 8), (4, 3, 3, 3), None, {}, r"images have shape \(3, 8, 8\).*four axes.*unsqueeze"),
        ((1, 3, 8, 8), (3, 3, 3), None, {}, r"weight has shape \(3, 3, 3\)"),
        ((1, 1, 8, 8), (4, 3, 3, 3), None, {}, "images have 1 channels, but the kernels take 3"),
        ((1, 3, 8, 8), (4, 3, 3, 3), (3,), {}, r"bias has shape \(3,\); it must be \(4,\)"),
        (
            (1, 3, 8, 8),
            (4, 3, 9, 9),
            None,
            {},
            "window of 9 pixels.*does not fit into 8 pixels.*more padding",
        ),
        ((1, 3, 8, 8), (4, 3, 5, 5), None, {"dilation": 2}, "window of 9 pixels.*dilation 2"),
        (
            (1, 3, 8, 8),
            (4, 3, 3, 3),
            None,
            {"stride": 0},
            "stride is 0; it must be a whole number, 1 or more",
        ),
        ((1, 3, 8, 8), (4, 3, 3, 3), None, {"padding": -1}, "padding is -1; it must be .* 0 or more"),
    ],
)
def test_conv2d_explains_what_does_not_fit(images, weight, bias, options, message):
    bias = None if bias is None else torch.zeros(bias)
    with pytest.raises(ParameterError, match=message):
        conv2d(torch.zeros(images), torch.zeros(weight), bias, **options)


def test_conv2d_asks_for_floats():
    images, weight = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 3)
    with pytest.raises(ParameterError, match=r"uint8.*to_float"):
        conv2d(images.byte(), weight)
    for other, found in (
        (weight.tolist(), "a list"),
        (weight.numpy(), "an ndarray"),
        (weight.long(), "torch.int64"),
    ):
        with pytest.raises(
            ParameterError, match=f"weight must be a tensor of floats, not {found}: torch.as_"
        ):
            conv2d(images, other)
    with pytest.raises(ParameterError, match="bias must be a tensor of floats, not a list"):
        conv2d(images, weight, [0.0])
    for dtype in (torch.float64, torch.float16):
        with pytest.raises(ParameterError, match=f"images are {dtype} and weight torch.float32; .*one dtype"):
            conv2d(images.to(dtype), weight)


@pytest.mark.parametrize(("ours", "theirs"), [(max_pool2d, F.max_pool2d), (avg_pool2d, F.avg_pool2d)])
@pytest.mark.parametrize("kernel_size", [1, 2, 3])
@pytest.mark.parametrize("stride", [None, 1, 2, 4])
def test_pooling_is_pytorchs(ours, theirs, kernel_size, stride):
    images = random(2, 3, 9, 7)
    torch.testing.assert_close(ours(images, kernel_size, stride), theirs(images, kernel_size, stride))


@pytest.mark.parametrize("pool", [max_pool2d, avg_pool2d])
def test_pooling_explains_what_does_not_fit(pool):
    with pytest.raises(ParameterError, match=r"window of 5 pixels.*does not fit into 4 pixels"):
        pool(torch.zeros(1, 1, 8, 4), 5)
    with pytest.raises(ParameterError, match="stride is 0"):
        pool(torch.zeros(1, 1, 8, 8), 2, stride=0)
    with pytest.raises(ParameterError, match=r"images have shape \(8, 8\)"):
        pool(torch.zeros(8, 8), 2)


def test_softmax_is_pytorchs_for_logits_of_any_size():
    logits = torch.cat([random(5, 10), 1e4 * random(5, 10, seed=1)])
    torch.testing.assert_close(softmax(logits), torch.softmax(logits, dim=-1))
    torch.testing.assert_close(softmax(logits).sum(dim=-1), torch.ones(10))


@pytest.mark.parametrize(
    "logits", [[1.0, 2.0], np.ones(2), torch.tensor([1, 2], dtype=torch.uint8), 3.0, None]
)
def test_softmax_asks_for_floats(logits):
    with pytest.raises(ParameterError, match=r"logits must be a tensor of floats, not .*as_tensor"):
        softmax(logits)


def test_normalize_is_torchvisions():
    from torchvision.transforms.functional import normalize  # after cnnlib, which repairs torchvision

    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
    layer = Normalize(mean, std)
    torch.testing.assert_close(layer(images), normalize(images, mean, std))
    assert not list(layer.parameters())
    assert set(layer.state_dict()) == {"mean", "std"}


@pytest.mark.parametrize(("mean", "std"), [((0.1, 0.2), (1.0,)), ((0.1,), (0.0,)), ((0.1,), (-1.0,))])
def test_normalize_refuses_statistics_that_cannot_be(mean, std):
    with pytest.raises(ParameterError, match="every std must be above 0"):
        Normalize(mean, std)


@pytest.mark.parametrize("p", [0, 0.1, 0.3, 0.5, 0.9, 1])
@pytest.mark.parametrize("shape", [(50, 20), (4, 3, 9, 7)])
def test_dropout_has_pytorchs_masks_and_gradients(p, shape):
    results = []
    for layer in (Dropout(p), torch.nn.Dropout(p)):
        x = random(*shape).requires_grad_()
        torch.manual_seed(5)
        out = layer(x)
        (out * random(*shape, seed=1)).sum().backward()
        results.append((out.detach(), x.grad))
    (ours, our_gradient), (theirs, their_gradient) = results
    assert torch.equal(ours, theirs)
    assert torch.equal(our_gradient, their_gradient)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout_zeroes_a_share_of_p_and_keeps_the_mean(p):
    torch.manual_seed(0)
    out = Dropout(p)(torch.ones(100_000))
    torch.testing.assert_close(out.unique(), torch.tensor([0, 1 / (1 - p)]))
    assert (out == 0).float().mean() == pytest.approx(p, abs=0.01)  # more than 6 standard errors
    assert out.mean() == pytest.approx(1, abs=0.04)


def test_dropout_draws_a_new_mask_in_each_pass():
    layer, ones = Dropout(0.5), torch.ones(100)
    assert not torch.equal(layer(ones), layer(ones))


@pytest.mark.parametrize("p", [0, 0.5, 1])
def test_dropout_changes_nothing_in_evaluation(p):
    x = random(5, 7)
    state = torch.get_rng_state()
    assert torch.equal(Dropout(p).eval()(x), x)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan"), True, "0.5", None])
def test_dropout_refuses_what_is_no_probability(p):
    with pytest.raises(ParameterError, match=rf"^p is {p!r}; it must be a number from 0 to 1: .* 1 - q"):
        Dropout(p)


def test_dropout_says_its_p():
    assert repr(Dropout(0.3)) == repr(torch.nn.Dropout(0.3)).replace(", inplace=False", "")


@pytest.mark.parametrize(("p", "size"), [(0.2, 1), (0.5, 3), (0.3, 5), (0.8, 3)])
def test_drop_block_zeroes_a_share_of_p_away_from_the_edges_and_keeps_the_mean(p, size):
    torch.manual_seed(0)
    out = DropBlock(p, size)(torch.ones(60, 5, 40, 40))
    inside = out[:, :, size:-size, size:-size]
    assert (inside == 0).float().mean() == pytest.approx(p, abs=0.02)
    assert out.mean() == pytest.approx(1, abs=1e-4)
    assert len(out.unique()) == 2


def test_drop_block_zeroes_squares_and_each_map_by_itself():
    torch.manual_seed(0)
    dropped = (DropBlock(0.03, 3)(torch.ones(1, 200, 9, 9)) == 0).float()
    edges = torch.nn.functional.pad(dropped, (2, 2, 2, 2), value=1)  # beyond the edge a square may go on
    eroded = -torch.nn.functional.max_pool2d(-edges, 3, stride=1)  # centres of whole squares
    assert torch.equal(torch.nn.functional.max_pool2d(eroded, 3, stride=1), dropped)
    assert len(dropped[0].flatten(1).unique(dim=0)) > 20


@pytest.mark.parametrize("p", [0, 0.5, 1])
def test_drop_block_changes_nothing_in_evaluation_and_drops_all_at_1(p):
    x = random(2, 3, 7, 5)
    layer = DropBlock(p, 3)
    out = layer(x)
    assert torch.isfinite(out).all()
    assert torch.equal(out, x) if p == 0 else not torch.equal(out, x)
    if p == 1:
        assert (out == 0).all()
    assert torch.equal(layer.eval()(x), x)
    assert repr(layer) == f"DropBlock(p={p}, size=3)"


@pytest.mark.parametrize(("p", "size", "name"), [(1.5, 3, "p"), (0.5, 4, "size"), (0.5, 0, "size")])
def test_drop_block_refuses_what_has_no_meaning(p, size, name):
    with pytest.raises(ParameterError, match=f"^{name} is "):
        DropBlock(p, size)


def test_mixed_precision_computes_in_bfloat16_and_keeps_float32_weights_and_logits():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    images, seen = torch.rand(5, 1, 8, 8), []
    model[4].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    exact = model(images)
    logits = MixedPrecision(model)(images)
    assert seen == [torch.float32, torch.bfloat16]
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, exact, rtol=0.05, atol=0.05)
    assert not torch.equal(logits, exact)
    logits.sum().backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}


def test_mixed_precision_runs_our_own_batch_norm():
    """It computes what PyTorch's does from the bfloat16 maps, and learns the same statistics."""
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(1, 4, 3), BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    theirs = nn.Sequential(ours[0], nn.BatchNorm2d(4), *ours[2:])
    images = torch.rand(5, 1, 8, 8)
    for training in (True, False):
        logits = [MixedPrecision(model).train(training)(images) for model in (ours, theirs)]
        torch.testing.assert_close(*logits, rtol=0.02, atol=0.02)
    torch.testing.assert_close(ours[1].running_var, theirs[1].running_var)
    logits[0].sum().backward()
    assert ours[1].weight.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("mean", "std"), [("a", 1), (None, 1), (float("nan"), 1), (0, float("inf")), ([[1], [2, 3]], 1)]
)
def test_normalising_needs_finite_numbers(mean, std):
    with pytest.raises(ParameterError, match="mean"):
        Normalize(mean, std)


def test_normalising_asks_for_floats():
    """Bytes have another scale, and would come out of it as numbers without a meaning."""
    with pytest.raises(ParameterError, match=r"images are torch.uint8; a model takes floats .*to_float"):
        Normalize(0.4, 0.2)(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_normalising_makes_no_channels(channels):
    """One channel minus three means would be three channels."""
    with pytest.raises(ParameterError, match=r"they must be \(N, 3, H, W\)"):
        Normalize([0.4] * 3, [0.2] * 3)(torch.rand(2, channels, 4, 4))
    assert Normalize(0.4, 0.2)(torch.rand(2, channels, 4, 4)).shape == (2, channels, 4, 4)


def test_arrays_are_no_images_and_numpys_p_is_one():
    with pytest.raises(ParameterError, match="images are an ndarray; they must be a tensor"):
        conv2d(torch.zeros(1, 1, 4, 4).numpy(), torch.zeros(1, 1, 3, 3))
    assert Dropout(torch.tensor(0.5).numpy()[()]).p == 0.5
