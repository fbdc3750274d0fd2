"""Batch normalisation against PyTorch's, in all that it computes and stores."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cnnlib.ground.errors import ParameterError
from cnnlib.models import make_model
from cnnlib.models.batch_norm import (
    BatchNorm2d,
    batch_norm,
    batch_norm_backward,
    fold_batch_norm,
    reestimate_statistics,
)


@pytest.fixture
def pair():
    """Our layer and PyTorch's, float64, with the same random γ and β."""
    torch.manual_seed(0)
    ours, theirs = BatchNorm2d(4, eps=1e-3, momentum=0.3).double(), nn.BatchNorm2d(4, 1e-3, 0.3).double()
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def batch(*shape):
    return torch.randn(*shape, dtype=torch.float64) * 3 + 2


def test_training_and_evaluation_equal_pytorch(pair):
    ours, theirs = pair
    for shape in ((2, 4, 1, 1), (8, 4, 3, 5), (1, 4, 6, 2)):
        x = batch(*shape)
        torch.testing.assert_close(ours(x), theirs(x))
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    assert ours.num_batches_tracked == 3
    x = batch(1, 4, 1, 1)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_gradients_equal_pytorch_and_the_formula(pair):
    ours, theirs = pair
    x, grad = batch(5, 4, 3, 2), batch(5, 4, 3, 2)
    results = []
    for layer in (ours, theirs):
        images = x.clone().requires_grad_()
        layer(images).backward(grad)
        results.append((images.grad, layer.weight.grad, layer.bias.grad))
    results.append(batch_norm_backward(x, ours.weight.detach(), grad, eps=1e-3))
    for result in results[1:]:
        for a, b in zip(results[0], result, strict=True):
            torch.testing.assert_close(a, b)


def test_evaluation_leaves_the_statistics(pair):
    ours, _ = pair
    before = copy.deepcopy(ours.state_dict())
    ours.eval()(batch(3, 4, 2, 2))
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_one_value_a_channel_is_refused_in_training(pair):
    ours, _ = pair
    with pytest.raises(ParameterError, match=r"\(1, 4, 1, 1\): one value a channel"):
        ours(batch(1, 4, 1, 1))
    assert ours.num_batches_tracked == 0


def test_other_shapes_are_refused(pair):
    """One channel would be stretched to four, by our formula only."""
    ours, theirs = pair
    for x in (batch(3, 1, 2, 2), batch(3, 5, 2, 2), batch(3, 4, 2), batch(4)):
        for training in (True, False):
            before = copy.deepcopy(ours.state_dict())
            with pytest.raises((RuntimeError, ValueError)):
                theirs.train(training)(x)
            with pytest.raises(ParameterError, match=r"the input has shape .*must be \(N, 4, H, W\)"):
                ours.train(training)(x)
            assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
    with pytest.raises(ParameterError, match=r"\(3, 1, 2, 2\); it must be \(N, 4, H, W\)"):
        batch_norm_backward(batch(3, 1, 2, 2), ours.weight, batch(3, 1, 2, 2))


@pytest.mark.parametrize("other", [np.ones(4), [1.0] * 4, 1.0, None, torch.ones(4, dtype=torch.int64)])
def test_batch_norm_asks_for_tensors_of_floats(other):
    x, one = batch(3, 4, 2, 2), torch.ones(4)
    for place, name in enumerate(("mean", "var", "weight", "bias")):
        vectors = [one] * 4
        vectors[place] = other
        with pytest.raises(ParameterError, match=f"{name} must be a tensor of floats, not"):
            batch_norm(x, *vectors)
    with pytest.raises(ParameterError, match="weight must be a tensor of floats"):
        batch_norm_backward(x, other, x)
    for call in (
        lambda: batch_norm(other, one, one, one, one),
        lambda: BatchNorm2d(4)(other),
        lambda: batch_norm_backward(other, one, x),
    ):
        with pytest.raises(ParameterError, match="the input must be a tensor of floats"):
            call()
    with pytest.raises(ParameterError, match="grad must be a tensor of floats"):
        batch_norm_backward(x, one, other)


def test_batch_norm_names_the_shapes_that_do_not_fit():
    x, one = batch(3, 4, 2, 2), torch.ones(4)
    with pytest.raises(ParameterError, match=r"'mean': \(1,\), .*'bias': \(4,\)}; each must be \(C,\)"):
        batch_norm(x, one[:1], one, one, one)
    with pytest.raises(ParameterError, match=r"each must be \(C,\), one number a channel"):
        batch_norm(x, *[torch.ones(4, 1)] * 4)
    with pytest.raises(ParameterError, match=r"grad has shape \(1, 4, 2, 2\); it must be \(3, 4, 2, 2\)"):
        batch_norm_backward(x, one, x[:1])


def test_bfloat16_maps_are_normalised_as_pytorch_does():
    """As they come from a convolution in MixedPrecision: the statistics stay float32, the maps bfloat16."""
    torch.manual_seed(0)
    ours, theirs = BatchNorm2d(4), nn.BatchNorm2d(4)
    for _ in range(2):
        x = batch(8, 4, 5, 5).bfloat16()
        a, b = ours(x), theirs(x)
        assert a.dtype == b.dtype == torch.bfloat16
        torch.testing.assert_close(a, b)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize(
    "options", [{}, {"bias": False}, {"stride": 2, "padding": 1}, {"groups": 2, "dilation": 2}]
)
def test_a_folded_convolution_computes_what_both_did(pair, options):
    for norm in pair:
        conv = nn.Conv2d(2, 4, 3, **options).double()
        both = nn.Sequential(conv, norm)
        both(batch(4, 2, 9, 8))
        both.eval()
        weight = conv.weight.clone()
        x = batch(2, 2, 9, 8)
        folded = fold_batch_norm(conv, norm)
        torch.testing.assert_close(folded(x), both(x))
        assert torch.equal(conv.weight, weight)
        assert all(parameter.requires_grad for parameter in folded.parameters())


def test_folding_what_does_not_fit_is_refused():
    with pytest.raises(ParameterError, match="3 output channels and the normalisation 4"):
        fold_batch_norm(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(4))


@pytest.mark.parametrize("norm", [BatchNorm2d, nn.BatchNorm2d])
def test_reestimated_statistics_are_the_mean_over_batches(norm):
    torch.manual_seed(0)
    model = nn.Sequential(norm(2), nn.Dropout(0.5))
    images = torch.rand(11, 2, 3, 3)
    reestimate_statistics(model, images, batch_size=4)
    batches = images[:8].split(4)  # three images are left over
    mean = torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0)
    var = torch.stack([b.var((0, 2, 3)) for b in batches]).mean(0)
    torch.testing.assert_close(model[0].running_mean, mean)
    torch.testing.assert_close(model[0].running_var, var)
    assert model[0].momentum == 0.1
    assert model.training
    assert model[1].training


def test_a_normalisation_without_parameters_can_be_folded():
    torch.manual_seed(0)
    both = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, affine=False))
    both(torch.rand(4, 2, 9, 8))
    x = torch.rand(2, 2, 9, 8)
    torch.testing.assert_close(fold_batch_norm(*both)(x), both.eval()(x))


@pytest.mark.parametrize(
    ("conv", "norm", "message"),
    [
        (nn.ConvTranspose2d(4, 4, 3), nn.BatchNorm2d(4), "conv is a ConvTranspose2d"),
        (nn.Conv1d(4, 4, 3), nn.BatchNorm1d(4), "conv is a Conv1d"),
        (nn.Linear(4, 4), nn.BatchNorm1d(4), "conv is a Linear"),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)), nn.BatchNorm2d(4), "holds its weight"),
        (nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), "no running statistics"),
    ],
)
def test_what_cannot_be_folded_is_refused(conv, norm, message):
    with pytest.raises(ParameterError, match=message):
        fold_batch_norm(conv, norm)


class Twice(nn.Module):
    """Runs one normalisation on two inputs."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, images):
        return self.norm(self.norm(images) ** 2 + 3 * images)


@pytest.mark.parametrize(
    "build",
    [lambda: make_model("fast_cnn"), lambda: make_model("vgg_small_bn"), Twice, lambda: nn.BatchNorm2d(1)],
)
def test_reestimated_statistics_equal_pytorchs_update_bn(build):
    torch.manual_seed(0)
    images = torch.rand(192, 1, 28, 28)
    ours = build()
    theirs = copy.deepcopy(ours)
    reestimate_statistics(ours, images, batch_size=64)
    torch.optim.swa_utils.update_bn(images.split(64), theirs)
    found = ours.state_dict()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(found[name], value)


def test_reestimating_takes_1_and_3_axes_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm3d(2), nn.Flatten(), nn.BatchNorm1d(2 * 3 * 3 * 3))
    theirs, images = copy.deepcopy(model), torch.rand(12, 2, 3, 3, 3)
    reestimate_statistics(model, images, batch_size=4)
    torch.optim.swa_utils.update_bn(images.split(4), theirs)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)


def test_reestimating_restores_mode_and_momentum_after_an_error():
    model = nn.Sequential(
        nn.BatchNorm2d(1, momentum=0.3), nn.BatchNorm2d(1, momentum=None).eval(), nn.Linear(9, 1)
    )
    with pytest.raises(ParameterError, match="in layer '2', a Linear, mat1 and mat2"):
        reestimate_statistics(model, torch.rand(8, 1, 2, 2), batch_size=4)
    assert [norm.momentum for norm in model[:2]] == [0.3, None]
    assert [layer.training for layer in model] == [True, False, True]
    assert not any(layer._forward_hooks for layer in model)


def test_reestimating_needs_a_whole_batch():
    with pytest.raises(ParameterError, match="3 images do not fill one batch of 4"):
        reestimate_statistics(nn.Sequential(nn.BatchNorm2d(1)), torch.rand(3, 1, 2, 2), batch_size=4)


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 4), nn.ReLU(), None, nn.InstanceNorm2d(4)])
def test_only_batch_norms_are_folded(norm):
    with pytest.raises(ParameterError, match=r"norm is an? .*; it must be a BatchNorm2d"):
        fold_batch_norm(nn.Conv2d(3, 4, 1), norm)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_folded_convolution_is_of_one_dtype(dtype):
    folded = fold_batch_norm(nn.Conv2d(3, 4, 1).to(dtype), nn.BatchNorm2d(4))
    assert folded.weight.dtype == folded.bias.dtype == dtype
    assert folded(torch.rand(1, 3, 5, 5, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("arguments", [(0,), ("4",), (4, -1.0), (4, 1e-5, 2.0), (4, 1e-5, None)])
def test_a_batch_norm_of_other_numbers_is_refused(arguments):
    with pytest.raises(ParameterError, match=r"(num_features|eps|momentum) is"):
        BatchNorm2d(*arguments)


def test_statistics_of_bytes_are_those_of_floats():
    images = torch.randint(256, (32, 1, 8, 8), dtype=torch.uint8)
    ours, theirs = (nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    reestimate_statistics(ours, images, 8)
    torch.optim.swa_utils.update_bn((images / 255).split(8), theirs)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)


@pytest.mark.parametrize(
    ("model", "images", "batch_size"),
    [
        (None, torch.rand(8, 1, 8, 8), 8),
        (nn.BatchNorm2d(1), [1, 2], 1),
        (nn.BatchNorm2d(1), torch.rand(8, 1, 8, 8), 2.5),
        (nn.BatchNorm2d(1), torch.rand(8, 1, 8, 8), 0),
        (nn.BatchNorm2d(3), torch.rand(8, 1, 8, 8), 8),
        (nn.BatchNorm2d(1, device="meta"), torch.rand(8, 1, 8, 8), 8),
    ],
)
def test_reestimating_names_what_it_cannot_use(model, images, batch_size):
    with pytest.raises(ParameterError):
        reestimate_statistics(model, images, batch_size)
