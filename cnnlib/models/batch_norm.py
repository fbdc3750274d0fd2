"""Batch normalisation, written out: forward, backward, running statistics, and folding it away."""

import copy

import torch
from torch import nn

from cnnlib.ground.errors import ParameterError
from cnnlib.models.hooks import evaluation

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

    Source: Ioffe & Szegedy 2015, "Batch Normalization", algorithm 1 and sec. 3.2.
    First built in: notebooks/09_batch_norm.ipynb
    """
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

    Source: Ioffe & Szegedy 2015, sec. 3 (the six equations, here put together).
    First built in: notebooks/09_batch_norm.ipynb
    """
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

    Shape: (N, C, H, W) float → the same shape.

    Raises:
        ParameterError: in training, an input with one value a channel: it has no variance.

    Source: Ioffe & Szegedy 2015, algorithms 1 and 2.
    First built in: notebooks/09_batch_norm.ipynb
    """

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))  # γ
        self.bias = nn.Parameter(torch.zeros(num_features))  # β
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x):
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
        return batch_norm(x, mean, var, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return f"{len(self.weight)}, eps={self.eps}, momentum={self.momentum}"


def fold_batch_norm(conv, norm):
    """Return one convolution that computes what a convolution and a batch normalisation after it do.

    It uses the running statistics, so it stands for the two layers in evaluation mode.

    Args:
        conv: nn.Conv2d
        norm: BatchNorm2d or nn.BatchNorm2d with as many channels as `conv` has output channels.

    Returns:
        nn.Conv2d with a bias; the arguments stay as they are.

    Raises:
        ParameterError: the channels do not fit together.

    Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", eq. 14.
    First built in: notebooks/09_batch_norm.ipynb
    """
    if len(norm.running_mean) != conv.out_channels:
        raise ParameterError(
            f"the convolution has {conv.out_channels} output channels and the normalisation "
            f"{len(norm.running_mean)}; fold a normalisation into the convolution right before it"
        )
    folded = copy.deepcopy(conv).requires_grad_(False)
    scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()  # (out_channels,)
    before = 0 if conv.bias is None else conv.bias.detach()
    folded.weight.mul_(scale.view(-1, 1, 1, 1))
    folded.bias = nn.Parameter((before - norm.running_mean) * scale + norm.bias.detach())
    return folded.requires_grad_(True)


def reestimate_statistics(model, images, batch_size=256):
    """Set the running statistics of a model's batch normalisations to the mean over batches of images.

    The weights stay as they are, and so does the mode of each layer.

    Args:
        model: module with batch normalisation layers.
        images: (N, C, H, W) float 0–1, training images in random order, at least one batch.
        batch_size: images a batch, as large as in training or larger; a smaller rest is left out.

    Raises:
        ParameterError: fewer images than one batch.

    Source: Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm", sec. 3.1 ("precise BatchNorm").
    First built in: notebooks/09_batch_norm.ipynb
    """
    if len(images) < batch_size:
        raise ParameterError(f"{len(images)} images do not fill one batch of {batch_size}; lower batch_size")
    norms = [m for m in model.modules() if isinstance(m, (BatchNorm2d, nn.BatchNorm2d))]
    momenta = [norm.momentum for norm in norms]
    with evaluation(model), torch.no_grad():
        for norm in norms:
            norm.train()
        for count, batch in enumerate(images.split(batch_size), start=1):
            if len(batch) == batch_size:
                for norm in norms:
                    norm.momentum = 1 / count  # the running value becomes the mean of all batches so far
                model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
