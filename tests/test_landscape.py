import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.ground.errors import ParameterError
from cnnlib.inside.landscape import (
    NoisyBatchNorm2d,
    along_gradient,
    gradient_shift,
    gradient_step,
    input_shift,
    layer_moments,
    loss_and_gradient,
)


def batch(n=8):
    generator = torch.Generator().manual_seed(3)
    return torch.rand(n, 1, 8, 8, generator=generator), torch.arange(n) % 4


def network(norm=nn.BatchNorm2d):
    torch.manual_seed(0)
    parts = (nn.Conv2d(1, 3, 3), norm(3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.ReLU())
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 4))


def state(model):
    return [tensor.clone() for tensor in model.state_dict().values()], torch.get_rng_state()


def unchanged(model, before):
    after = state(model)
    return torch.equal(before[1], after[1]) and all(map(torch.equal, before[0], after[0]))


class TestNoisyBatchNorm:
    def test_each_channel_gets_a_mean_and_a_scale_within_the_limits(self):
        torch.manual_seed(0)
        layer, images = NoisyBatchNorm2d(200, mean=0.5, scale=0.25, spread=0), torch.randn(64, 200, 4, 4)
        out = layer(images)
        means, scales = out.mean(dim=(0, 2, 3)), out.std(dim=(0, 2, 3))
        assert means.abs().max() < 0.5 + 1e-4
        assert means.min() < -0.4 < 0.4 < means.max()
        assert 0.99 < scales.min() < 1.02
        assert 1.23 < scales.max() < 1.26
        assert not torch.equal(out, layer(images))

    def test_each_value_gets_noise_of_its_own_besides(self):
        torch.manual_seed(0)
        layer, images = NoisyBatchNorm2d(4, mean=0, scale=0, spread=0.1), torch.randn(64, 4, 16, 16)
        plain = nn.BatchNorm2d(4)(images)
        noise = (layer(images) - plain).detach()
        assert noise.mean().abs() < 2e-3
        assert noise.std() == pytest.approx(0.1, rel=0.03)
        assert torch.corrcoef(noise.transpose(0, 1).flatten(1)).fill_diagonal_(0).abs().max() < 0.04
        assert (noise[:, :, :, 1:] * noise[:, :, :, :-1]).mean().abs() < 3e-4

    def test_without_noise_and_in_evaluation_it_is_batch_norm(self):
        images = torch.randn(4, 3, 5, 5)
        ours, theirs = NoisyBatchNorm2d(3, mean=0, scale=0, spread=0), nn.BatchNorm2d(3)
        assert torch.equal(ours(images), theirs(images))
        noisy = NoisyBatchNorm2d(3, mean=9, scale=9)
        noisy.load_state_dict(theirs.state_dict())
        assert torch.equal(noisy.eval()(images), theirs.eval()(images))

    @pytest.mark.parametrize(
        "bad",
        [
            *({"mean": -0.1}, {"scale": float("inf")}, {"spread": -1.0}, {"mean": "a"}, {"scale": None}),
            *({"num_features": 0}, {"num_features": 2.5}),
        ],
    )
    def test_it_refuses_a_noise_that_is_none(self, bad):
        with pytest.raises(ParameterError, match=rf"{next(iter(bad))} is .*; it must be a"):
            NoisyBatchNorm2d(**{"num_features": 3, **bad})


def test_the_gradient_is_autograds():
    model, (images, labels) = network(), batch()
    loss, gradient = loss_and_gradient(model, images, labels)
    expected = F.cross_entropy(model(images), labels)
    expected.backward()
    assert loss == expected.item()
    assert torch.equal(gradient, torch.cat([p.grad.flatten() for p in model.parameters()]))


def test_two_gradients_see_the_same_noise():
    model = network(lambda channels: NoisyBatchNorm2d(channels, 5, 5))
    first, second = (loss_and_gradient(model, *batch()) for _ in range(2))
    assert first[0] == second[0]
    assert torch.equal(first[1], second[1])


class Quadratic(nn.Module):
    """A model whose cross-entropy is not quadratic but whose gradient by the weights is known."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.3, -0.2]]))

    def forward(self, images):
        return images.flatten(1)[:, :1] @ self.weight


def test_along_the_gradient_matches_a_formula():
    model, images, labels = Quadratic(), torch.ones(1, 1, 1, 1), torch.tensor([0])
    found = along_gradient(model, images, labels, [0.5, 2.0])

    def gradient(w):
        return w.softmax(dim=0) - torch.tensor([1.0, 0.0])

    w = torch.tensor([0.3, -0.2])
    g = gradient(w)
    there = [w - size * g for size in (0.5, 2.0)]
    torch.testing.assert_close(found.losses, torch.stack([-t.log_softmax(dim=0)[0] for t in there]))
    torch.testing.assert_close(found.gradient_changes, torch.stack([(gradient(t) - g).norm() for t in there]))
    torch.testing.assert_close(found.distances, torch.tensor([0.5, 2.0]) * g.norm())
    assert found.loss == pytest.approx(-w.log_softmax(dim=0)[0].item())
    ratio = [((gradient(t) - g).norm() / (t - w).norm()).item() for t in there]
    assert found.smoothness == pytest.approx(max(ratio), rel=1e-4)
    predicted = [found.loss - size * g.square().sum().item() for size in (0.5, 2.0)]
    assert found.predicted.tolist() == pytest.approx(predicted, rel=1e-5)


def test_a_step_is_that_of_sgd():
    model, (images, labels) = network(), batch()
    moved, reference = gradient_step(model, images, labels, 0.3), copy.deepcopy(model)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.3)
    F.cross_entropy(reference(images), labels).backward()
    optimizer.step()
    for ours, theirs in zip(moved.state_dict().values(), reference.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_gradient_shift_moves_just_the_layers_before():
    model, (images, labels) = network(), batch()
    shift, lr = gradient_shift(model, images, labels, 0.3), 0.3
    moved = gradient_step(model, images, labels, lr)
    mixed = copy.deepcopy(model)
    mixed[0], mixed[1], mixed[3] = moved[0], moved[1], moved[3]
    gradients = []
    for probe in (model, mixed):
        loss = F.cross_entropy(probe(images), labels)
        gradients.append(torch.autograd.grad(loss, probe[-1].weight)[0].flatten())
    before, after = gradients
    assert len(shift.distance) == 2  # the second convolution and the linear layer
    assert shift.distance[1].item() == pytest.approx((after - before).norm().item(), rel=1e-3)
    assert shift.relative[1].item() == pytest.approx(
        ((after - before).norm() / before.norm()).item(), rel=1e-3
    )
    assert shift.cosine[1].item() == pytest.approx(
        torch.cosine_similarity(after, before, dim=0).item(), rel=1e-4
    )


def test_moments_are_those_that_enter_the_layer():
    model, (images, _) = network(), batch()
    (moments,) = layer_moments(model, images)
    entering = model[:3](images)
    torch.testing.assert_close(moments[0], entering.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(moments[1], entering.std(dim=(0, 2, 3)))


def test_moments_depend_on_the_noise_seed_alone():
    model, (images, _) = network(NoisyBatchNorm2d), batch()
    first = layer_moments(model, images, 0)[0]
    torch.rand(1)
    assert torch.equal(first, layer_moments(model, images, 0)[0])
    assert not torch.equal(first, layer_moments(model, images, 1)[0])


def test_input_shift_is_in_standard_deviations():
    before = [torch.tensor([[0.0, 1.0], [2.0, 2.0]])]
    after = [torch.tensor([[1.0, 1.0], [9.0, 9.0]])]  # changes of the mean: 1 and 0
    assert input_shift(before, after).tolist() == pytest.approx([(0.5 / 4) ** 0.5])


@pytest.mark.parametrize(
    "measure",
    [
        lambda m, x, y: along_gradient(m, x, y, [0.1]),
        lambda m, x, y: gradient_shift(m, x, y, 0.1),
        lambda m, x, y: gradient_step(m, x, y, 0.1),
        lambda m, x, y: layer_moments(m, x),
    ],
)
def test_measuring_changes_neither_the_model_nor_the_generator(measure):
    model = network(NoisyBatchNorm2d)
    before = state(model)
    measure(model, *batch())
    assert unchanged(model, before)


def measurements(model, images, labels):
    """All numbers of the measurements, in one tensor."""
    loss, gradient = loss_and_gradient(copy.deepcopy(model), images, labels)
    line = along_gradient(model, images, labels, [0.1, 0.5])
    shift = gradient_shift(model, images, labels, 0.1)
    moved = gradient_step(model, images, labels, 0.1)
    numbers = [torch.tensor([loss]), gradient, line.losses, line.gradient_changes, *shift]
    return torch.cat([*numbers, *(p.detach().reshape(-1) for p in moved.parameters())])


def test_how_weights_lie_in_memory_does_not_matter():
    model, (images, labels) = network(), batch()
    expected = measurements(model, images, labels)
    turned = copy.deepcopy(model).to(memory_format=torch.channels_last)
    torch.testing.assert_close(measurements(turned, images, labels), expected, rtol=1e-4, atol=1e-5)
    moved = gradient_step(turned, images, labels, 0.1)
    assert moved[3].weight.is_contiguous(memory_format=torch.channels_last)


def test_frozen_and_unused_parameters_have_no_gradient_and_stay():
    model, (images, labels) = network(), batch()
    model.unused = nn.Parameter(torch.ones(3))
    model[0].requires_grad_(False)

    class Without(nn.Sequential):
        def forward(self, images):
            for layer in self:
                images = layer(images) if isinstance(layer, nn.Module) else images
            return images

    model.__class__ = Without
    _, gradient = loss_and_gradient(copy.deepcopy(model), images, labels)
    reference = copy.deepcopy(model)
    F.cross_entropy(reference(images), labels).backward()
    zeros = (torch.zeros_like(p) if p.grad is None else p.grad for p in reference.parameters())
    assert torch.equal(gradient, torch.cat([grad.flatten() for grad in zeros]))
    moved = gradient_step(model, images, labels, 0.3)
    torch.optim.SGD(reference.parameters(), lr=0.3).step()
    for ours, theirs in zip(moved.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert torch.equal(moved[0].weight, model[0].weight)
    assert len(gradient_shift(model, images, labels, 0.1).distance) == 2
    assert along_gradient(model, images, labels, [0.1]).gradient_norm > 0


def test_a_gradient_needs_something_that_learns_and_torch_to_record_it():
    model, (images, labels) = network(), batch()
    for context in (torch.no_grad(), torch.inference_mode()):
        with context, pytest.raises(ParameterError, match="call it outside no_grad"):
            along_gradient(model, images, labels, [0.1])
    with pytest.raises(ParameterError, match="none of the model's parameters that can be trained"):
        loss_and_gradient(model.requires_grad_(False), images, labels)


def test_the_noise_of_other_devices_is_left_alone(monkeypatch):
    model, seeded = network(NoisyBatchNorm2d), []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    layer_moments(model, batch()[0])
    assert seeded == []


@pytest.mark.parametrize("sizes", [[], [0.1, 0], [float("nan")], ["a"], 0.1, None, [True]])
def test_step_sizes_must_be_positive(sizes):
    with pytest.raises(ParameterError, match="step_sizes are"):
        along_gradient(network(), *batch(), sizes)


@pytest.mark.parametrize("lr", [0, -1, float("inf"), float("nan"), "0.1", None, [0.1], True])
def test_the_learning_rate_must_be_positive(lr):
    with pytest.raises(ParameterError, match="lr is"):
        gradient_shift(network(), *batch(), lr)
    with pytest.raises(ParameterError, match="lr is"):
        gradient_step(network(), *batch(), lr)


def test_a_shift_needs_two_layers():
    with pytest.raises(ParameterError, match="1 layers with weights"):
        gradient_shift(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), *batch(), 0.1)


def test_moments_must_belong_together():
    moments = [torch.ones(2, 3)]
    with pytest.raises(ParameterError, match="they must be alike"):
        input_shift(moments, [torch.ones(2, 4)])
    with pytest.raises(ParameterError, match="they must be alike"):
        input_shift([], [])


def test_no_images_have_no_loss():
    images, labels = batch()
    with pytest.raises(ParameterError, match="there are no images"):
        loss_and_gradient(network(), images[:0], labels[:0])


MEASURES = [
    loss_and_gradient,
    lambda model, x, y: along_gradient(model, x, y, [0.1]),
    lambda model, x, y: gradient_step(model, x, y, 0.1),
    lambda model, x, y: gradient_shift(model, x, y, 0.1),
]
MOMENTS = [lambda model, x, y: layer_moments(model, x)]


def broken():
    model = network()
    nn.init.constant_(model[0].weight, float("nan"))
    return model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, x, y: (nn.Linear, x, y), "model is .*; it must be a torch.nn.Module, built"),
        (lambda m, x, y: (nn.Flatten(), x, y), "none of the model's parameters|0 convolutions"),
        (lambda m, x, y: (m, x[:0], y[:0]), "there are no images"),
        (lambda m, x, y: (m, x[0], y[:1]), r"they must be a tensor \(N, C, H, W\): images.unsqueeze\(0\)"),
        (lambda m, x, y: (m, x.numpy(), y), "images are an ndarray; .* torch.as_tensor"),
        (lambda m, x, y: (m, x.long(), y), "images are torch.int64"),
        (lambda m, x, y: (m, x * float("nan"), y), "must be finite|without a finite mean"),
        (lambda m, x, y: (broken(), x, y), "must be finite|without a finite mean"),
    ],
)
def test_what_cannot_be_measured_is_named(change, message):
    for measure in MEASURES + MOMENTS:
        with pytest.raises(ParameterError, match=message):
            measure(*change(network(), *batch()))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda y: y + 9, "labels go from .*, but the model returns"),
        (lambda y: y - 9, "labels go from -"),
        (lambda y: y[:3], "there are 3 labels for 8 images"),
        (lambda y: y.float(), r"labels are torch.float32; they must be a tensor \(N,\) int64"),
        (lambda y: y.tolist(), "labels are list"),
        (lambda y: None, "labels are NoneType"),
    ],
)
def test_labels_that_do_not_fit_are_named(labels, message):
    images, right = batch()
    for measure in MEASURES:
        with pytest.raises(ParameterError, match=message):
            measure(network(), images, labels(right))


def test_a_step_that_leaves_the_finite_numbers_is_named():
    with pytest.raises(ParameterError, match="both must be finite: take a smaller step"):
        along_gradient(network(nn.Identity), *batch(), [0.1, 1e38])


def test_where_the_gradient_is_0_no_step_can_be_measured():
    images, labels = batch()
    model = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 4, bias=False))
    with pytest.raises(ParameterError, match="the gradient is 0, so that no step leaves the start"):
        along_gradient(model, images * 0, labels, [0.1])


def test_bytes_and_models_of_another_dtype_are_measured_alike():
    images, labels = batch()
    levels = (images.clamp(0, 1) * 255).round()
    expected = measurements(network().double(), levels.double() / 255, labels)
    torch.testing.assert_close(measurements(network().double(), levels.byte(), labels), expected)
    single = measurements(network(), levels.double() / 255, labels)
    torch.testing.assert_close(single.double(), expected.double(), rtol=1e-3, atol=1e-4)


def test_moments_need_two_convolutions_and_a_seed():
    with pytest.raises(ParameterError, match="the model has 1 convolutions; moments need at least 2"):
        layer_moments(network()[:1], batch()[0])
    for seed in (-1, 1.5, "a"):
        with pytest.raises(ParameterError, match="noise_seed is"):
            layer_moments(network(), batch()[0], seed)


@pytest.mark.parametrize("moments", [None, 3, [1], ["a"], [torch.rand(3)], []])
def test_a_shift_is_one_of_moments(moments):
    with pytest.raises(ParameterError, match=r"list of what layer_moments returns|\(2, channels\) each"):
        input_shift(moments, moments)


class TwoOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = network()

    def forward(self, x):
        return self.network(x), self.network(x)


def test_several_outputs_and_labels_of_other_shapes_are_named():
    images, labels = batch()
    with pytest.raises(ParameterError, match=r"returns a tuple for images .*let forward return the logits"):
        loss_and_gradient(TwoOutputs(), images, labels)
    for odd, message in (
        (F.one_hot(labels), r"of shape .*argmax\(dim=1\)"),
        (labels[:0], "len.labels. is 0"),
    ):
        with pytest.raises(ParameterError, match=message):
            loss_and_gradient(network(), images, odd)


def test_a_model_without_values_is_not_measured():
    with torch.device("meta"):
        empty = network()
    for measure in (lambda: loss_and_gradient(empty, *batch()), lambda: layer_moments(empty, batch()[0])):
        with pytest.raises(ParameterError, match=r'weight is on the device "meta".*to_empty'):
            measure()
