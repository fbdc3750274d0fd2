"""Batch normalisation, written out: forward, backward, running statistics, and folding it away."""

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # what BatchNorm1d to 3d and SyncBatchNorm share

from cnnlib.ground.errors import ParameterError, check_positive, check_whole, kind_of
from cnnlib.models.hooks import check_model, check_tensor, evaluation, hooks, run
from cnnlib.models.layers import check_floats

AXES = (0, 2, 3)
"""A channel's mean and variance run over the images, the rows and the columns."""


def batch_norm(x, mean, var, weight, bias, eps=1e-5):
    """Normalise each channel with a given mean and variance, then scale and shift it.

    Args:
        x: (N, C, H, W) float.
        mean, var: (C,) float; the variance is not negative.
        weight, bias: (C,) float, the learned γ and β.
        eps: float above 0, added to the variance.

    Returns:
        (N, C, H, W): γ (x − mean) / √(var + eps) + β.

    Raises:
        ParameterError: something else than tensors of floats, x has other axes, or they have not C channels.

    Source: Ioffe & Szegedy 2015, "Batch Normalization", algorithm 1 and sec. 3.2.
    First built in: notebooks/09_batch_norm.ipynb
    """
    vectors = {"mean": mean, "var": var, "weight": weight, "bias": bias}
    _check_vectors(vectors)
    _check_channels(x, len(weight))
    mean, var, weight, bias = (v.view(1, -1, 1, 1) for v in (mean, var, weight, bias))  # (1, C, 1, 1)
    return weight * (x - mean) / (var + eps).sqrt() + bias


def batch_norm_backward(x, weight, grad, eps=1e-5):
    """Return the gradients of batch normalisation with the batch's own statistics.

    Args:
        x: (N, C, H, W) float, the layer's input.
        weight: (C,) float, γ.
        grad: (N, C, H, W) float, the gradient of the loss with respect to the output.
        eps: float above 0.

    Returns:
        (gradient of x (N, C, H, W), of weight (C,), of bias (C,)).

    Raises:
        ParameterError: something else than tensors of floats, x has other axes or not C channels, or grad
            another shape than x.

    Source: Ioffe & Szegedy 2015, sec. 3 (the six equations, here put together).
    First built in: notebooks/09_batch_norm.ipynb
    """
    _check_vectors({"weight": weight})
    _check_channels(x, len(weight))
    check_floats("grad", grad)
    if grad.shape != x.shape:
        raise ParameterError(
            f"grad has shape {tuple(grad.shape)}; it must be {tuple(x.shape)}, as x is: the gradient of the "
            "loss by each value of the output"
        )
    centred = x - x.mean(AXES, keepdim=True)
    std = (x.var(AXES, correction=0, keepdim=True) + eps).sqrt()  # (1, C, 1, 1)
    x_hat = centred / std
    along = (grad * x_hat).mean(AXES, keepdim=True)
    grad_x = weight.view(1, -1, 1, 1) / std * (grad - grad.mean(AXES, keepdim=True) - x_hat * along)
    return grad_x, (grad * x_hat).sum(AXES), grad.sum(AXES)


class BatchNorm2d(nn.Module):
    """Normalise each channel over the batch in training, and with running statistics in evaluation.

    Its state_dict has the names and shapes of torch.nn.BatchNorm2d's.

    Args:
        num_features: channels C, int >= 1.
        eps: added to the variance.
        momentum: share of the new batch in the running statistics, 0 to 1.

    Shape: (N, C, H, W) float → the same shape and dtype. Of a bfloat16 input, as in mixed precision, the
        statistics are computed and kept in the layer's own float32.

    Raises:
        ParameterError: a number outside its range; an input with other axes or not C channels; in training,
            one with one value a channel: it has no variance.

    Source: Ioffe & Szegedy 2015, algorithms 1 and 2.
    First built in: notebooks/09_batch_norm.ipynb
    """

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        num_features = check_whole("num_features", num_features)
        self.eps = check_positive("eps", eps, zero=True)
        self.momentum = check_positive("momentum", momentum, zero=True)
        if momentum > 1:
            raise ParameterError(f"momentum is {momentum!r}; it must be from 0 to 1")
        self.weight = nn.Parameter(torch.ones(num_features))  # γ
        self.bias = nn.Parameter(torch.zeros(num_features))  # β
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x):
        _check_channels(x, len(self.weight))
        dtype, x = x.dtype, x.to(self.running_mean.dtype)
        mean, var = self.running_mean, self.running_var
        if self.training:
            values = x[:, 0].numel()  # of one channel: N · H · W
            if values < 2:
                raise ParameterError(
                    f"the input has shape {tuple(x.shape)}: one value a channel has no "
                    "variance. Train with more images a batch, or call eval() before asking for a prediction"
                )
            mean, var = x.mean(AXES), x.var(AXES, correction=0)
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(var.detach() * values / (values - 1), self.momentum)
            self.num_batches_tracked += 1
        return batch_norm(x, mean, var, self.weight, self.bias, self.eps).to(dtype)

    def extra_repr(self):
        return f"{len(self.weight)}, eps={self.eps}, momentum={self.momentum}"


def _check_vectors(vectors):
    """Check that named arguments are tensors of floats, one number a channel."""
    for name, vector in vectors.items():
        check_floats(name, vector)
    shapes = {name: tuple(vector.shape) for name, vector in vectors.items()}
    if len(set(shapes.values())) > 1 or len(next(iter(shapes.values()))) != 1:
        raise ParameterError(f"the shapes are {shapes}; each must be (C,), one number a channel")


def _check_channels(x, channels):
    """One channel would pass silently: PyTorch stretches it to any number of them."""
    check_floats("the input", x)
    if x.ndim != 4 or x.shape[1] != channels:
        raise ParameterError(
            f"the input has shape {tuple(x.shape)}; it must be (N, {channels}, H, W), for this is batch "
            f"normalisation of {channels} channels: give it as many as come out of the layer before it"
        )


def fold_batch_norm(conv, norm):
    """Return one convolution that computes what a convolution and a batch normalisation after it do.

    It uses the running statistics, so it stands for the two layers in evaluation mode.

    Args:
        conv: nn.Conv2d, without a parametrization such as weight_norm.
        norm: BatchNorm2d or nn.BatchNorm2d with as many channels as `conv` has output channels, and with
            running statistics; affine or not.

    Returns:
        nn.Conv2d with a bias; the arguments stay as they are.

    Raises:
        ParameterError: another kind of layer, a weight that is computed, no running statistics, or
            channels that do not fit together.

    Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", eq. 14.
    First built in: notebooks/09_batch_norm.ipynb
    """
    if not isinstance(conv, nn.Conv2d) or "weight" not in dict(conv.named_parameters()):
        raise ParameterError(
            f"conv is {kind_of(conv)}; it must be an nn.Conv2d that holds its weight (of one with "
            "weight_norm or the like, torch.nn.utils.parametrize.remove_parametrizations first)"
        )
    if not isinstance(norm, (BatchNorm2d, _BatchNorm)):
        raise ParameterError(f"norm is {kind_of(norm)}; it must be a BatchNorm2d, ours or PyTorch's")
    if norm.running_mean is None:
        raise ParameterError(
            "the normalisation keeps no running statistics (track_running_stats=False): it depends on each "
            "batch, and no convolution does"
        )
    if len(norm.running_mean) != conv.out_channels:
        raise ParameterError(
            f"the convolution has {conv.out_channels} output channels and the normalisation "
            f"{len(norm.running_mean)}; fold a normalisation into the convolution right before it"
        )
    folded = copy.deepcopy(conv).requires_grad_(False)
    gamma, beta = (
        default if parameter is None else parameter.detach()  # affine=False has none
        for parameter, default in ((norm.weight, 1), (norm.bias, 0))
    )
    scale = gamma / (norm.running_var + norm.eps).sqrt()  # (out_channels,)
    before = 0 if conv.bias is None else conv.bias.detach()
    folded.weight.mul_(scale.view(-1, 1, 1, 1))
    folded.bias = nn.Parameter(((before - norm.running_mean) * scale + beta).to(conv.weight.dtype))
    return folded.requires_grad_(True)


def reestimate_statistics(model, images, batch_size=256):
    """Set the running statistics of a model's batch normalisations to the mean over batches of images.

    The weights stay as they are, and so do the mode and the momentum of each layer, whatever happens. A
    normalisation that runs several times in a pass gets the mean over all of its runs.

    Args:
        model: module with batch normalisation layers: BatchNorm2d, or any of PyTorch's.
        images: (N, C, H, W) uint8 or float 0–1, training images in random order, at least one batch.
        batch_size: images a batch, as large as in training or larger; a smaller rest is left out.

    Raises:
        ParameterError: fewer images than one batch, or images that the model cannot take.

    Source: Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm", sec. 3.1 ("precise BatchNorm").
    First built in: notebooks/09_batch_norm.ipynb
    """
    check_model(model)
    check_tensor(images)
    batch_size = check_whole("batch_size", batch_size)
    if len(images) < batch_size:
        raise ParameterError(f"{len(images)} images do not fill one batch of {batch_size}; lower batch_size")
    norms = [m for m in model.modules() if isinstance(m, (BatchNorm2d, _BatchNorm))]
    momenta, runs = [norm.momentum for norm in norms], dict.fromkeys(norms, 1)

    def next_share(norm, *_):
        runs[norm] += 1
        norm.momentum = 1 / runs[norm]  # the running value becomes the mean of all batches so far

    try:
        with evaluation(model), hooks(*((norm, next_share) for norm in norms)), torch.no_grad():
            for norm in norms:
                norm.train()
                norm.momentum = 1  # the first batch replaces what was there
            for batch in images.split(batch_size):
                if len(batch) == batch_size:
                    run(model, batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
