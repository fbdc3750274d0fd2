"""Exercises of lesson 09, batch normalisation."""

import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.course.exercises import Exercise, normal


def settling_steps(momentum, share):
    """Return after how many training steps at most `share` of a running mean's start is left.

    The start is the initial value, before any batch was seen.
    momentum: float, 0 < momentum < 1, as nn.BatchNorm2d takes it; share: float, 0 < share ≤ 1.
    Returns the smallest such number of steps, an int.
    """
    steps, left = 0, 1.0
    while left > share:
        left *= 1 - momentum
        steps += 1
    return steps


def settling_optimizer(momentum, share):
    return settling_steps(1 - momentum, share)


def settling_linear(momentum, share):
    steps = 0
    while 1 - steps * momentum > share:
        steps += 1
    return steps


def settling_early(momentum, share):
    return max(settling_steps(momentum, share) - 1, 0)


def settling_late(momentum, share):
    return settling_steps(momentum, 1 - share) if share < 1 else 0


def settling_cases(rng):
    cases = [[0.1, 0.35], [0.01, 0.05], [0.3, 1.0]]
    for _ in range(4):
        momentum, steps = float(rng.uniform(0.02, 0.4)), int(rng.integers(2, 60))
        cases.append([momentum, (1 - momentum) ** (steps - 0.5)])  # half-way: no rounding decides
    return cases


def masked_batch_norm(x, mask):
    """Normalise each channel by the mean and the biased variance of its valid values in the batch.

    Images of several sizes were padded to one. x: (N, C, H, W) float tensor; mask: (N, H, W) bool
    tensor, True where a pixel is valid, False in the padding, where x holds any finite numbers.
    Uses eps = 1e-5, without γ and β. Returns (N, C, H, W), exactly 0 in the padding.
    """
    valid = mask[:, None].to(x.dtype)  # (N, 1, H, W)
    count = valid.sum()
    mean = (x * valid).sum(dim=(0, 2, 3), keepdim=True) / count
    var = ((x - mean).square() * valid).sum(dim=(0, 2, 3), keepdim=True) / count
    return (x - mean) / (var + 1e-5).sqrt() * valid


def masked_everything(x, mask):
    return F.batch_norm(x, None, None, training=True) * mask[:, None]


def masked_zeros_count(x, mask):
    return F.batch_norm(x * mask[:, None], None, None, training=True) * mask[:, None]


def masked_each_image(x, mask):
    images = zip(x.split(1), mask.split(1), strict=True)
    return torch.cat([masked_batch_norm(*image) for image in images])


def masked_left(x, mask):
    values = x.movedim(1, -1)[mask]  # (valid pixels, C)
    mean, var = values.mean(0), values.var(0, correction=0)
    return (x - mean[:, None, None]) / (var + 1e-5).sqrt()[:, None, None]


def masked_cases(rng):
    cases = []
    for n, c, h, w in ((2, 1, 4, 4), (3, 4, 6, 5), (4, 2, 3, 7)):
        mask = torch.zeros(n, h, w, dtype=torch.bool)
        for i in range(n):
            mask[i, : int(rng.integers(2, h)), : int(rng.integers(2, w))] = True
        cases.append([normal(rng, n, c, h, w) * 2 + 3, mask])
    alone = torch.zeros(2, 4, 4, dtype=torch.bool)
    alone[0] = True  # the second image is nothing but padding
    full = torch.ones(3, 5, 2, dtype=torch.bool)
    return [*cases, [normal(rng, 2, 3, 4, 4) - 1, alone], [normal(rng, 3, 2, 5, 2), full]]


def sync_statistics(means, variances, counts):
    """Return the mean and the biased variance, channel by channel, of all devices' values together.

    Each of B devices holds a part of a batch, and has computed of each channel the mean and the
    biased variance of its own values. means, variances: (B, C) float tensors; counts: (B,) int64
    tensor, how many values of a channel a device holds. Returns [mean, variance], (C,) each.
    """
    shares = (counts / counts.sum())[:, None]  # (B, 1)
    mean = (shares * means).sum(dim=0)
    within, between = variances, (means - mean).square()
    return [mean, (shares * (within + between)).sum(dim=0)]


def sync_within(means, variances, counts):
    shares = (counts / counts.sum())[:, None]
    return [(shares * means).sum(0), (shares * variances).sum(0)]


def sync_unweighted(means, variances, counts):
    return sync_statistics(means, variances, torch.ones_like(counts))


def sync_unbiased(means, variances, counts):
    mean, variance = sync_statistics(means, variances, counts)
    return [mean, variance * counts.sum() / (counts.sum() - 1)]


def sync_deviations(means, variances, counts):
    shares = (counts / counts.sum())[:, None]
    return [(shares * means).sum(0), (shares * variances.sqrt()).sum(0).square()]


def sync_cases(rng):
    fixed = [torch.tensor([[0.0, 1.0], [4.0, 1.0]]), torch.tensor([[1.0, 2.0], [1.0, 6.0]])]
    cases = [[*fixed, torch.tensor([6, 2])]]
    for devices, channels in ((1, 3), (2, 1), (4, 5), (8, 2)):
        counts = torch.from_numpy(rng.integers(2, 40, devices))
        cases.append([normal(rng, devices, channels), normal(rng, devices, channels).square(), counts])
    return cases


class GhostBatchNorm2d(nn.Module):
    """Batch norm for large batches: each ghost of the batch is normalised by itself.

    In training mode a ghost is ghost_size neighbouring images; the last one may be smaller. Each is
    normalised by its own mean and biased variance, and moves the running statistics as a batch of
    its own would, one ghost after the other. In evaluation mode there are no ghosts: the running
    statistics serve all images. eps is 1e-5, momentum the share of the new ghost. Parameters
    weight and bias, buffers running_mean and running_var, (num_features,) each, begin as those of
    nn.BatchNorm2d. x: (N, num_features, H, W) float. Returns the same shape.
    """

    def __init__(self, num_features, ghost_size, momentum=0.1):
        super().__init__()
        self.ghost_size, self.momentum = ghost_size, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        ghosts = x.split(self.ghost_size) if self.training else [x]
        return torch.cat([self.normalise(ghost) for ghost in ghosts])

    def normalise(self, x):
        statistics = self.running_mean, self.running_var  # in training they are moved in place
        return F.batch_norm(x, *statistics, self.weight, self.bias, self.training, self.momentum)


class GhostWhole(GhostBatchNorm2d):
    def forward(self, x):
        return self.normalise(x)


class GhostAlways(GhostBatchNorm2d):
    def forward(self, x):
        if self.training:
            return super().forward(x)
        return torch.cat(
            [F.batch_norm(g, None, None, self.weight, self.bias, True) for g in x.split(self.ghost_size)]
        )


class GhostInterleaved(GhostBatchNorm2d):
    def forward(self, x):
        if not self.training:
            return super().forward(x)
        ghosts, out = -(-len(x) // self.ghost_size), torch.empty_like(x)
        for first in range(ghosts):
            out[first::ghosts] = self.normalise(x[first::ghosts])
        return out


class GhostOnce(GhostBatchNorm2d):
    def forward(self, x):
        before = [self.running_mean.clone(), self.running_var.clone()]
        out = super().forward(x)
        if self.training:
            ghosts = x.detach().split(self.ghost_size)
            means = torch.stack([g.mean(dim=(0, 2, 3)) for g in ghosts])
            variances = torch.stack([g.var(dim=(0, 2, 3)) for g in ghosts])
            self.running_mean = before[0].lerp(means.mean(dim=0), self.momentum)
            self.running_var = before[1].lerp(variances.mean(dim=0), self.momentum)
        return out


class GhostByHand(GhostBatchNorm2d):
    """The mutants that write the statistics out differ in these."""

    correction, old, detached = 1, False, True

    def normalise(self, x):
        if not self.training:
            return super().normalise(x)
        mean, var = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), correction=self.correction)
        if self.detached:
            mean, var = mean.detach(), var.detach()
        share = 1 - self.momentum if self.old else self.momentum
        self.running_mean = (1 - share) * self.running_mean + share * mean
        self.running_var = (1 - share) * self.running_var + share * var
        return F.batch_norm(x, None, None, self.weight, self.bias, True)


class GhostBiased(GhostByHand):
    correction = 0


class GhostOldShare(GhostByHand):
    old = True


class GhostGraph(GhostByHand):
    detached = False


def ghost_cases(rng):
    cases = []
    for n, c, h, w, size, training in (
        *((4, 3, 2, 2, 2, True), (5, 2, 3, 1, 2, True), (6, 4, 2, 3, 4, True)),
        *((3, 2, 2, 2, 8, True), (5, 3, 2, 2, 2, False), (1, 2, 1, 1, 4, False)),
    ):
        arguments = {"num_features": c, "ghost_size": size}
        if n != 4:
            arguments["momentum"] = round(float(rng.uniform(0.15, 0.4)), 3)
        drift = torch.arange(float(n)).view(-1, 1, 1, 1)  # ghosts differ, so it matters which images they are
        cases.append(
            {"arguments": arguments, "training": training, "inputs": [normal(rng, n, c, h, w) + drift]}
        )
    return cases


def fold_into_next(weight, bias, gamma, beta, mean, var):
    """Fold a batch norm in evaluation mode into the convolution, without padding, that FOLLOWS it.

    weight: (out_channels, in_channels, k, k), bias: (out_channels,), of the convolution.
    gamma, beta, mean, var: (in_channels,), of the batch norm before it; var is the running
    variance, eps = 1e-5. Returns [weight, bias], in the old shapes, of the convolution that does
    the work of both.
    """
    scale = gamma / (var + 1e-5).sqrt()
    shift = beta - mean * scale
    return [weight * scale[:, None, None], bias + weight.sum(dim=(2, 3)) @ shift]


def fold_outputs(weight, bias, gamma, beta, mean, var):
    scale = gamma / (var + 1e-5).sqrt()
    return [weight * scale[:, None, None, None], (bias - mean) * scale + beta]


def fold_without_shift(weight, bias, gamma, beta, mean, var):
    return [fold_into_next(weight, bias, gamma, beta, mean, var)[0], bias]


def fold_one_place(weight, bias, gamma, beta, mean, var):
    scale = gamma / (var + 1e-5).sqrt()
    return [weight * scale[:, None, None], bias + weight.mean(dim=(2, 3)) @ (beta - mean * scale)]


def fold_scaled_twice(weight, bias, gamma, beta, mean, var):
    scale = gamma / (var + 1e-5).sqrt()
    weight = weight * scale[:, None, None]
    return [weight, bias + weight.sum(dim=(2, 3)) @ (beta - mean * scale)]


def fold_cases(rng):
    cases = []
    for outputs, inputs, k in ((2, 3, 3), (4, 4, 3), (5, 2, 1), (1, 6, 5)):
        norm = [normal(rng, inputs), normal(rng, inputs), normal(rng, inputs)]
        var = normal(rng, inputs).square() + 0.2
        cases.append([normal(rng, outputs, inputs, k, k), normal(rng, outputs), *norm, var])
    return cases


def layer_norm_backward(x, weight, grad):
    """Return the gradients of a loss with respect to x, γ and β of a layer norm, by a formula.

    It normalises each IMAGE over C, H and W (biased variance, eps = 1e-5), then multiplies channel
    c by weight[c], the γ, and adds a β. x: (N, C, H, W); weight: (C,); grad: the gradient with
    respect to the output, (N, C, H, W). Returns [grad_x, grad_weight, grad_bias], (N, C, H, W),
    (C,) and (C,).
    """
    axes = (1, 2, 3)
    std = (x.var(axes, correction=0, keepdim=True) + 1e-5).sqrt()
    x_hat = (x - x.mean(axes, keepdim=True)) / std
    g = grad * weight[:, None, None]  # with respect to x_hat: γ differs within the mean, and stays inside
    along = (g * x_hat).mean(axes, keepdim=True)
    grad_x = (g - g.mean(axes, keepdim=True) - x_hat * along) / std
    return [grad_x, (grad * x_hat).sum(dim=(0, 2, 3)), grad.sum(dim=(0, 2, 3))]


def layer_backward_batch(x, weight, grad):
    axes = (0, 2, 3)
    std = (x.var(axes, correction=0, keepdim=True) + 1e-5).sqrt()
    x_hat = (x - x.mean(axes, keepdim=True)) / std
    along = (grad * x_hat).mean(axes, keepdim=True)
    grad_x = weight[:, None, None] / std * (grad - grad.mean(axes, keepdim=True) - x_hat * along)
    return [grad_x, (grad * x_hat).sum(axes), grad.sum(axes)]


def layer_backward_outside(x, weight, grad):
    grad_x = layer_norm_backward(x, torch.ones_like(weight), grad)[0]
    return [grad_x * weight[:, None, None], *layer_norm_backward(x, weight, grad)[1:]]


def layer_backward_constants(x, weight, grad):
    std = (x.var((1, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    return [grad * weight[:, None, None] / std, *layer_norm_backward(x, weight, grad)[1:]]


def layer_backward_mean_only(x, weight, grad):
    std = (x.var((1, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    g = grad * weight[:, None, None]
    g = (g - g.mean((1, 2, 3), keepdim=True)) / std
    return [g, *layer_norm_backward(x, weight, grad)[1:]]


def layer_backward_cases(rng):
    shapes = ((1, 2, 3, 3), (4, 3, 2, 5), (2, 6, 1, 1), (3, 4, 4, 4))
    fixed = torch.arange(1.0, 9.0)
    cases = [[normal(rng, *s) * 2 + 1, fixed[: s[1]] / 2, normal(rng, *s)] for s in shapes]
    return [*cases, [normal(rng, 2, 5, 3, 2), normal(rng, 5), normal(rng, 2, 5, 3, 2)]]


EXERCISES = [
    Exercise(
        "09.masked_batch_norm",
        points=2,
        reference=masked_batch_norm,
        cases=masked_cases,
        mutants={
            "takes the padding into the statistics": masked_everything,
            "sets the padding to 0 and then counts the zeros as values": masked_zeros_count,
            "normalises each image by itself": masked_each_image,
            "leaves something else than 0 in the padding": masked_left,
        },
        hints=(
            "mask[:, None] has the shape (N, 1, H, W) and fits every channel.",
            "A mean is a sum divided by a count: sum the valid values only, and count only those.",
            "The same for the variance: square x − mean, multiply by the mask, sum, divide by the count.",
        ),
        rtol=1e-3,
        atol=1e-4,
    ),
    Exercise(
        "09.layer_norm_backward",
        points=3,
        reference=layer_norm_backward,
        cases=layer_backward_cases,
        mutants={
            "normalises over the batch, as batch norm does": layer_backward_batch,
            "multiplies by γ last, though γ differs within one mean": layer_backward_outside,
            "treats mean and standard deviation as constants": layer_backward_constants,
            "forgets the path through the standard deviation": layer_backward_mean_only,
        },
        hints=(
            "Which values share a mean? Those axes take the place of (0, 2, 3) in the lesson's bars.",
            "First find the gradient with respect to x̂. It is grad times γ, channel by channel.",
            "With g for that one, (g − mean(g) − x̂ · mean(g · x̂)) / σ; γ and β still sum over (0, 2, 3).",
        ),
        rtol=1e-3,
        atol=1e-4,
    ),
    Exercise(
        "09.settling_steps",
        points=1,
        reference=settling_steps,
        cases=settling_cases,
        mutants={
            "takes momentum for the share of the old value, as in an optimizer": settling_optimizer,
            "lets the initial value fall by the same amount in each step": settling_linear,
            "stops one step too early": settling_early,
            "waits until `share` has been replaced, instead of until `share` is left": settling_late,
        },
        hints=(
            "Each step keeps 1 − momentum of what is there. What is left of the start after two steps?",
            "A loop will do; so will a logarithm, rounded up.",
        ),
    ),
    Exercise(
        "09.sync_statistics",
        points=2,
        reference=sync_statistics,
        cases=sync_cases,
        mutants={
            "averages the variances and forgets that the means differ": sync_within,
            "gives every device the same weight": sync_unweighted,
            "returns the unbiased variance": sync_unbiased,
            "averages standard deviations instead of variances": sync_deviations,
        },
        hints=(
            "A device's sum of values is its mean times its count. Its sum of squares?",
            "E[x²] = variance + mean², on each device and over all of them.",
            "variance = Σ counts · (variances + (means − mean)²) / Σ counts.",
        ),
        rtol=1e-3,
        atol=1e-4,
    ),
    Exercise(
        "09.GhostBatchNorm2d",
        points=3,
        reference=GhostBatchNorm2d,
        cases=ghost_cases,
        mutants={
            "normalises the batch as a whole": GhostWhole,
            "uses the statistics of ghosts in evaluation mode too": GhostAlways,
            "makes ghosts of images that are no neighbours": GhostInterleaved,
            "moves the running statistics once, towards the mean over the ghosts": GhostOnce,
            "stores the biased variance": GhostBiased,
            "takes momentum for the share of the old statistics": GhostOldShare,
            "stores statistics that still hang on the graph": GhostGraph,
        },
        hints=(
            "x.split(ghost_size) cuts along the first axis; the last part is smaller where it must be.",
            "The variance that normalises is not the one that is stored; section 2 has both, and momentum.",
            "What is stored is no part of the function that is trained: detach() it.",
            "F.batch_norm moves the running statistics that it is given, in place, when training is True.",
        ),
        rtol=1e-3,
        atol=1e-4,
    ),
    Exercise(
        "09.fold_into_next",
        points=3,
        reference=fold_into_next,
        cases=fold_cases,
        mutants={
            "folds into the convolution before it: scales the output channels": fold_outputs,
            "scales the weights and forgets the bias": fold_without_shift,
            "adds the shift once, not at each of the k × k places": fold_one_place,
            "multiplies the shift by weights that it has scaled already": fold_scaled_twice,
        },
        hints=(
            "Write the batch norm as scale · x + shift, with one scale and one shift an input channel.",
            "The convolution is linear: w * (scale · x + shift) = (w · scale) * x + w * shift.",
            "w * shift is the same everywhere: for each output channel, the sum over inputs and places.",
        ),
        rtol=1e-3,
        atol=1e-4,
    ),
]
