"""Batch normalisation against PyTorch's, in all that it computes and stores."""

import copy

import pytest
import torch
from torch import nn

from cnnlib.ground.errors import ParameterError
from cnnlib.models.batch_norm import (
    BatchNorm2d,
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


def test_reestimating_needs_a_whole_batch():
    with pytest.raises(ParameterError, match="3 images do not fill one batch of 4"):
        reestimate_statistics(nn.Sequential(nn.BatchNorm2d(1)), torch.rand(3, 1, 2, 2), batch_size=4)
