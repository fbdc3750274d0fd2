"""What a training step meets: the loss along the gradient, and how far layers shift under each other.

All measurements work on a copy: the model's weights, its running statistics and the random generators
are afterwards as they were before. They run the model in the mode that it is in, which for a network
with batch normalisation should be the training mode: that is the loss that the optimizer descends.
Random layers draw the same noise in each of the evaluations that are compared.
A parameter that is frozen, or that the loss does not depend on, has the gradient 0 and stays where it is.
"""

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.ground.env import own_randomness
from cnnlib.ground.errors import ParameterError, check_list, check_positive, check_whole
from cnnlib.models.hooks import (
    as_input,
    check_gradients,
    check_labels,
    check_logits,
    check_model,
    check_tensor,
    check_values,
    run,
)


class NoisyBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose output gets a random mean and scale per channel, and noise per value.

    In training mode channel c becomes scale_c · output + mean_c, with scale_c uniform between 1 and
    1 + `scale` and mean_c uniform between −`mean` and `mean`. Besides, each value gets normal noise of its
    own, independent of all others. In evaluation mode there is no noise.

    Args:
        num_features: channels.
        mean: float >= 0, largest mean that is added, in units of the output.
        scale: float >= 0, largest relative increase of the output.
        spread: float >= 0, standard deviation of the noise of each value.

    Shape: (N, num_features, H, W) float → the same.

    Raises:
        ParameterError: a negative or infinite `mean`, `scale` or `spread`, or no channels.

    Source: Santurkar et al. 2018, "How Does Batch Normalization Help Optimization?", arXiv 1805.11604,
        sec. 2.1 (the idea; the noise of a value is additive here).
    First built in: notebooks/10_why_batch_norm_works.ipynb
    """

    def __init__(self, num_features, mean=0.5, scale=0.25, spread=0.1):
        for name, value in (("mean", mean), ("scale", scale), ("spread", spread)):
            check_positive(name, value, zero=True)
        super().__init__(check_whole("num_features", num_features))
        self.noise_mean, self.noise_scale, self.noise_spread = mean, scale, spread

    def forward(self, x):
        out = super().forward(x)
        if not self.training:
            return out
        mean, scale = torch.rand(2, 1, self.num_features, 1, 1, device=x.device)
        own = self.noise_spread * torch.randn_like(out)
        return out * (1 + self.noise_scale * scale) + self.noise_mean * (2 * mean - 1) + own


def loss_and_gradient(model, images, labels):
    """Return the cross-entropy and its gradient by all parameters, with the noise of random layers fixed.

    Two calls see the same noise, because the random generators are put back. The model's running
    statistics do advance, if it is in training mode; give a copy where that matters.

    Args:
        model: torch.nn.Module that returns logits.
        images: (N, C, H, W) uint8 or float, as the model takes them.
        labels: (N,) int64.

    Returns:
        (loss, gradient): a float in nats, and a (P,) float tensor in the order of `model.parameters()`.

    Raises:
        ParameterError: no parameter can be trained, torch computes no gradients here, images or labels that
            the model cannot take, or a loss or a gradient that is not finite.

    First built in: notebooks/10_why_batch_norm_works.ipynb
    """
    check_gradients("loss_and_gradient")
    images = _inputs(model, images)
    with own_randomness(None, images.device):
        logits = run(model, images)
    check_logits(logits, images)
    check_labels(labels, logits)
    if len(labels) != len(images):
        raise ParameterError(f"there are {len(labels)} labels for {len(images)} images; give one for each")
    loss = F.cross_entropy(logits, labels.to(logits.device))
    if not loss.requires_grad:
        raise ParameterError(
            "the loss depends on none of the model's parameters that can be trained; unfreeze some with "
            "requires_grad_(True)"
        )
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = iter(torch.autograd.grad(loss, learned, materialize_grads=True))
    gradients = [next(found) if p.requires_grad else torch.zeros_like(p) for p in model.parameters()]
    value, gradient = loss.item(), _joined(gradients)
    if not (loss.isfinite() and gradient.isfinite().all()):
        raise ParameterError(
            f"the loss is {value:.4g} and its gradient {gradient.norm().item():.4g} long; both must be "
            "finite: take a smaller step or lr, or look for where the training diverged"
        )
    return value, gradient


class Slice(NamedTuple):
    """The loss along a straight line against the gradient; `along_gradient` measures it.

    loss: float, nats, at the start. gradient_norm: float, at the start. step_sizes: (P,) as given.
    losses: (P,) nats, after each step. distances: (P,) length of each step. gradient_changes: (P,)
    Euclidean distance between the gradient after each step and that at the start.
    """

    loss: float
    gradient_norm: float
    step_sizes: torch.Tensor
    losses: torch.Tensor
    distances: torch.Tensor
    gradient_changes: torch.Tensor

    @property
    def smoothness(self):
        """Effective smoothness β: the largest change of the gradient per distance. Smaller is smoother."""
        return (self.gradient_changes / self.distances).max().item()

    @property
    def predicted(self):
        """(P,) losses that the gradient at the start predicts: a straight line."""
        return self.loss - self.step_sizes * self.gradient_norm**2


def along_gradient(model, images, labels, step_sizes):
    """Measure loss and gradient after gradient steps of several sizes, each from where the model is.

    Args:
        model: torch.nn.Module that returns logits; it is left as it was.
        images: (N, C, H, W) uint8 or float, as the model takes them.
        labels: (N,) int64.
        step_sizes: positive floats; the step is −size × gradient, so that a size is a learning rate.

    Returns:
        Slice

    Raises:
        ParameterError: no step sizes, one that is not a finite number above 0, or a gradient of 0 at the
            start; besides, what `loss_and_gradient` raises.

    Source: Santurkar et al. 2018, arXiv 1805.11604, sec. 3.2 and figure 4.
    First built in: notebooks/10_why_batch_norm_works.ipynb
    """
    try:
        sizes = [check_positive("a step size", size) for size in step_sizes]
    except (ParameterError, TypeError):
        sizes = []
    if not sizes:
        raise ParameterError(
            f"step_sizes are {step_sizes!r}; they must be one or more finite numbers above 0"
        )
    probe = copy.deepcopy(model)
    loss, gradient = loss_and_gradient(probe, images, labels)
    start = _joined(probe.parameters())
    if not gradient.any():
        raise ParameterError("the gradient is 0, so that no step leaves the start; take other images")
    losses, changes = [], []
    for size in sizes:
        _place(start - size * gradient, probe)
        there = loss_and_gradient(probe, images, labels)
        losses.append(there[0])
        changes.append((there[1] - gradient).norm().item())
    sizes, norm = torch.tensor(sizes), gradient.norm().item()
    return Slice(loss, norm, sizes, torch.tensor(losses), sizes * norm, torch.tensor(changes))


def gradient_step(model, images, labels, lr):
    """Return a copy of a model after one step of gradient descent; the model itself stays.

    Args:
        model: torch.nn.Module that returns logits.
        images: (N, C, H, W) uint8 or float, as the model takes them.
        labels: (N,) int64.
        lr: float > 0, learning rate.

    Returns:
        torch.nn.Module

    Raises:
        ParameterError: `lr` is not a finite number above 0; besides, what `loss_and_gradient` raises.

    First built in: notebooks/10_why_batch_norm_works.ipynb
    """
    check_positive("lr", lr)
    moved = copy.deepcopy(model)
    _, gradient = loss_and_gradient(moved, images, labels)
    _place(_joined(moved.parameters()) - lr * gradient, moved)
    return moved


class GradientShift(NamedTuple):
    """How the gradients of layers change by updates of the layers before; see `gradient_shift`.

    distance: (L,) Euclidean distance ‖G' − G‖. relative: (L,) ‖G' − G‖ / ‖G‖. cosine: (L,) of the
    angle between G and G'. A layer without a gradient has NaN in the last two.
    """

    distance: torch.Tensor
    relative: torch.Tensor
    cosine: torch.Tensor


def gradient_shift(model, images, labels, lr):
    """Measure internal covariate shift as the change that a layer's gradient suffers from the layers before.

    For a layer's weight, G is its gradient where the model is; G' is its gradient on the same images
    after one gradient step of all parameters before it, while it and all after it stay.

    Args:
        model: torch.nn.Module that returns logits, with parameters in the order of the data's way; it is
            left as it was.
        images: (N, C, H, W) uint8 or float, as the model takes them.
        labels: (N,) int64.
        lr: float > 0, learning rate of the gradient step.

    Returns:
        GradientShift, with one entry for each convolution and linear layer but the first.

    Raises:
        ParameterError: `lr` is not a finite number above 0, or the model has fewer than two such layers;
            besides, what `loss_and_gradient` raises.

    Source: Santurkar et al. 2018, arXiv 1805.11604, definition 2.1.
    First built in: notebooks/10_why_batch_norm_works.ipynb
    """
    check_positive("lr", lr)
    probe = copy.deepcopy(model)
    _, gradient = loss_and_gradient(probe, images, labels)
    parameters = list(probe.parameters())
    gradients = _split(gradient, parameters)
    weights = [i for i, parameter in enumerate(parameters) if parameter.ndim > 1]
    if len(weights) < 2:
        raise ParameterError(f"the model has {len(weights)} layers with weights; a shift needs at least 2")
    rows, moved = [], 0
    for index in weights[1:]:
        with torch.no_grad():
            for i in range(moved, index):
                parameters[i] -= lr * gradients[i]
        moved = index
        before = gradients[index].flatten()
        after = _split(loss_and_gradient(probe, images, labels)[1], parameters)[index].flatten()
        distance = (after - before).norm()
        cosine = (after @ before) / (after.norm() * before.norm())
        rows.append((distance, distance / before.norm(), cosine))
    return GradientShift(*torch.tensor(rows).T)


def layer_moments(model, images, noise_seed=0):
    """Return mean and standard deviation of each channel that enters a layer, over images and positions.

    Args:
        model: torch.nn.Module; it is left as it was.
        images: (N, C, H, W) uint8 or float, as the model takes them.
        noise_seed: int; random layers draw the noise of this seed.

    Returns:
        list of (2, channels) float tensors, mean and standard deviation, one for each convolution but the
            first.

    Raises:
        ParameterError: fewer than two convolutions, images that the model cannot take, or moments that are
            not finite; `noise_seed` is no whole number from 0 on.

    First built in: notebooks/10_why_batch_norm_works.ipynb
    """
    noise_seed = check_whole("noise_seed", noise_seed, least=0)
    images = _inputs(model, images)
    probe, moments = copy.deepcopy(model), []
    convolutions = [module for module in probe.modules() if isinstance(module, nn.Conv2d)]
    if len(convolutions) < 2:
        raise ParameterError(f"the model has {len(convolutions)} convolutions; moments need at least 2")

    def keep(_, inputs):
        moments.append(torch.stack((inputs[0].mean(dim=(0, 2, 3)), inputs[0].std(dim=(0, 2, 3)))))

    for conv in convolutions[1:]:
        conv.register_forward_pre_hook(keep)
    with own_randomness(noise_seed, images.device), torch.no_grad():
        run(probe, images)
    if not all(m.isfinite().all() for m in moments):
        raise ParameterError(
            "a convolution gets channels without a finite mean and standard deviation; give more than one "
            "value a channel, or look for where the training diverged"
        )
    return moments


def input_shift(before, after):
    """Measure internal covariate shift as the change of the means that layers get, in standard deviations.

    Args:
        before: what `layer_moments` returns before an update.
        after: what it returns after, for the same images.

    Returns:
        (L,) float tensor, one a layer: the root mean square, over channels, of the change of the mean,
        divided by the root mean square of the standard deviation before.

    Raises:
        ParameterError: the two are no lists of moments, or do not belong to the same layers.

    Source: Ioffe & Szegedy 2015, "Batch Normalization", arXiv 1502.03167, sec. 2 (the idea, not a
        measure).
    First built in: notebooks/10_why_batch_norm_works.ipynb
    """
    shapes = [
        [tuple(getattr(m, "shape", ())) for m in check_list(name, moments, "what layer_moments returns")]
        for name, moments in (("before", before), ("after", after))
    ]
    if shapes[0] != shapes[1] or not shapes[0] or not all(s[:1] == (2,) for s in shapes[0]):
        raise ParameterError(
            f"moments have shapes {shapes[0]} before, {shapes[1]} after; they must be alike, "
            "(2, channels) each"
        )
    return torch.stack(
        [
            ((a[0] - b[0]).square().mean() / b[1].square().mean()).sqrt()
            for b, a in zip(before, after, strict=True)
        ]
    )


def _inputs(model, images):
    """Return images as a model takes them, checked to be some."""
    check_model(model)
    check_values(model)
    check_tensor(images)
    if not images.numel():
        raise ParameterError(f"images have shape {tuple(images.shape)}: there are no images to measure on")
    return as_input(model, images)


def _joined(tensors):
    """Return a (P,) vector of tensors' values in reading order, however they lie in memory."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _place(vector, model):
    """Give a model's parameters the values of a (P,) vector; how they lie in memory stays."""
    parameters = list(model.parameters())
    with torch.no_grad():
        for parameter, part in zip(parameters, _split(vector, parameters), strict=True):
            parameter.copy_(part)


def _split(vector, parameters):
    """Cut a (P,) vector into tensors of the parameters' shapes."""
    parts = vector.split([parameter.numel() for parameter in parameters])
    return [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]
