"""Exercises of lesson 09, batch normalisation."""

import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.course.exercises import Exercise, normal


class GroupNorm(nn.Module):
    """Normalise, in each image by itself, the values of num_groups groups of neighbouring channels.

    The channels 0 to num_channels / num_groups − 1 are the first group, and so on; num_groups divides
    num_channels. A group's values share one mean and one biased variance; eps is 1e-5. Then channel c
    is multiplied by weight[c], and bias[c] is added: parameters, (num_channels,) each, that begin as 1
    and as 0. Both modes do the same. x: (N, num_channels, H, W) float. Returns the same shape.
    """

    def __init__(self, num_groups, num_channels):
        super().__init__()
        self.num_groups = num_groups
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x):
        groups = x.reshape(len(x), self.num_groups, -1)  # (N, groups, values)
        return self.affine(self.standardise(groups, 2).reshape(x.shape))

    def standardise(self, x, axes, correction=0):
        mean, var = x.mean(axes, keepdim=True), x.var(axes, correction=correction, keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt()

    def affine(self, x):
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class GroupInterleaved(GroupNorm):
    def forward(self, x):
        groups = x.reshape(len(x), -1, self.num_groups, *x.shape[2:])
        return self.affine(self.standardise(groups, (1, 3, 4)).reshape(x.shape))


class GroupBatch(GroupNorm):
    def forward(self, x):
        groups = x.reshape(len(x), self.num_groups, -1)
        return self.affine(self.standardise(groups, (0, 2)).reshape(x.shape))


class GroupInstance(GroupNorm):
    def forward(self, x):
        return self.affine(self.standardise(x, (2, 3)))


class GroupPlaces(GroupNorm):
    def forward(self, x):
        groups = x.reshape(len(x), self.num_groups, -1, *x.shape[2:])
        return self.affine(self.standardise(groups, 2).reshape(x.shape))


class GroupUnbiased(GroupNorm):
    def standardise(self, x, axes, correction=1):
        return super().standardise(x, axes, correction)


def group_norm_cases(rng):
    cases = []
    for n, c, h, w, groups, training in (
        *((2, 6, 3, 2, 2, True), (3, 4, 2, 5, 4, True), (2, 4, 1, 3, 1, True)),
        *((1, 8, 2, 2, 2, True), (3, 6, 2, 2, 3, False)),
    ):
        drift = torch.arange(float(c)).view(-1, 1, 1)  # channels differ, so it matters which share a mean
        arguments = {"num_groups": groups, "num_channels": c}
        x = normal(rng, n, c, h, w) + drift + torch.arange(float(n)).view(-1, 1, 1, 1)
        cases.append({"arguments": arguments, "training": training, "inputs": [x]})
    return cases


class MaskedBatchNorm2d(nn.Module):
    """Batch norm of images that were padded to one size: the padding neither counts nor changes.

    forward(x, mask=None): x, (N, num_features, H, W) float; mask, (N, H, W) bool, True where a pixel is
    valid; None: all are. In training mode mean and biased variance of a channel's valid values normalise
    them. These values also move the running statistics, as a batch moves those of nn.BatchNorm2d; they
    normalise in evaluation mode. eps is 1e-5, momentum the share of the new batch. Parameters weight and
    bias, buffers running_mean and running_var, (num_features,) each, begin as those of nn.BatchNorm2d.
    Returns x's shape, 0 in the padding.
    """

    def __init__(self, num_features, momentum=0.1):
        super().__init__()
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x, mask=None):
        valid = torch.ones_like(x[:, :1]) if mask is None else mask[:, None].to(x.dtype)  # (N, 1, H, W)
        mean, var = self.moments(x, valid) if self.training else (self.running_mean, self.running_var)
        scale = self.weight / (var + 1e-5).sqrt()
        return ((x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]) * valid

    def moments(self, x, valid):
        count = valid.sum()
        mean = (x * valid).sum(dim=(0, 2, 3)) / count
        var = ((x - mean[:, None, None]).square() * valid).sum(dim=(0, 2, 3)) / count
        self.running_mean.lerp_(mean.detach(), self.momentum)
        self.running_var.lerp_(var.detach() * count / (count - 1), self.momentum)
        return mean, var


class MaskedEverything(MaskedBatchNorm2d):
    def moments(self, x, valid):
        return super().moments(x, torch.ones_like(valid))


class MaskedZerosCount(MaskedBatchNorm2d):
    def moments(self, x, valid):
        return super().moments(x * valid, torch.ones_like(valid))


class MaskedEachImage(MaskedBatchNorm2d):
    def forward(self, x, mask=None):
        masks = [None] * len(x) if mask is None else mask.split(1)
        images = zip(x.split(1), masks, strict=True)
        return torch.cat([MaskedBatchNorm2d.forward(self, *image) for image in images])


class MaskedShifted(MaskedBatchNorm2d):
    def forward(self, x, mask=None):
        out = super().forward(x, mask)
        return out if mask is None else out + self.bias[:, None, None] * ~mask[:, None]


class MaskedAlways(MaskedBatchNorm2d):
    def forward(self, x, mask=None):
        if self.training:
            return super().forward(x, mask)
        before = self.running_mean.clone(), self.running_var.clone()
        valid = torch.ones_like(x[:, :1]) if mask is None else mask[:, None].to(x.dtype)
        mean, var = self.moments(x, valid)
        self.running_mean, self.running_var = before
        scale = self.weight / (var + 1e-5).sqrt()
        return ((x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]) * valid


class MaskedStores(MaskedBatchNorm2d):
    """The mutants that store something else differ in `moved`."""

    def moments(self, x, valid):
        before = self.running_mean.clone(), self.running_var.clone()
        mean, var = super().moments(x, valid)
        count = valid.sum()
        self.running_mean, self.running_var = self.moved(*before, mean, var, count)
        return mean, var

    def moved(self, old_mean, old_var, mean, var, count):
        return old_mean.lerp(mean.detach(), self.momentum), old_var.lerp(var.detach(), self.momentum)


class MaskedOldShare(MaskedStores):
    def moved(self, old_mean, old_var, mean, var, count):
        var = var.detach() * count / (count - 1)
        return old_mean.lerp(mean.detach(), 1 - self.momentum), old_var.lerp(var, 1 - self.momentum)


class MaskedGraph(MaskedStores):
    def moved(self, old_mean, old_var, mean, var, count):
        var = var * count / (count - 1)
        return old_mean.lerp(mean, self.momentum), old_var.lerp(var, self.momentum)


def masked_cases(rng):
    cases = []
    for n, c, h, w, training in ((2, 1, 4, 4, True), (3, 4, 6, 5, True), (4, 2, 3, 7, False)):
        mask = torch.zeros(n, h, w, dtype=torch.bool)
        for i in range(n):
            mask[i, : int(rng.integers(2, h)), : int(rng.integers(2, w))] = True
        arguments = {"num_features": c, "momentum": round(float(rng.uniform(0.15, 0.4)), 3)}
        inputs = [normal(rng, n, c, h, w) * 2 + torch.arange(float(n)).view(-1, 1, 1, 1), mask]
        cases.append({"arguments": arguments, "training": training, "inputs": inputs})
    alone = torch.zeros(2, 4, 4, dtype=torch.bool)
    alone[0] = True  # the second image is nothing but padding
    for inputs in ([normal(rng, 2, 3, 4, 4) - 1, alone], [normal(rng, 3, 3, 1, 2) + 2]):
        cases.append({"arguments": {"num_features": 3}, "training": True, "inputs": inputs})
    return cases


def backward_from_output(y, weight, bias, std, grad, training):
    """Return the gradients of a loss with respect to x, γ and β of a batch norm that kept only its output.

    y: (N, C, H, W), its output; the input x was not kept, to save memory. weight (nowhere 0) and bias:
    (C,), γ and β; std: (C,), the √(σ² + ε) that it divided by, of the batch if training, else of the
    running statistics, which are constants. grad: (N, C, H, W), the gradient with respect to y.
    Returns [grad_x, grad_weight, grad_bias], (N, C, H, W), (C,) and (C,).
    """
    axes = (0, 2, 3)
    gamma, beta, std = (v[:, None, None] for v in (weight, bias, std))
    x_hat = (y - beta) / gamma
    rest = grad
    if training:
        rest = grad - grad.mean(axes, keepdim=True) - x_hat * (grad * x_hat).mean(axes, keepdim=True)
    return [gamma / std * rest, (grad * x_hat).sum(axes), grad.sum(axes)]


def output_always_training(y, weight, bias, std, grad, training):
    return backward_from_output(y, weight, bias, std, grad, True)


def output_constants(y, weight, bias, std, grad, training):
    return backward_from_output(y, weight, bias, std, grad, False)


def output_for_x_hat(y, weight, bias, std, grad, training):
    x_hat = backward_from_output(y, torch.ones_like(weight), torch.zeros_like(bias), std, grad, training)
    return [x_hat[0] * weight[:, None, None], *x_hat[1:]]


def output_without_gamma(y, weight, bias, std, grad, training):
    grads = backward_from_output(y, weight, bias, std, grad, training)
    return [grads[0] / weight[:, None, None], *grads[1:]]


def output_mean_only(y, weight, bias, std, grad, training):
    grads = backward_from_output(y, weight, bias, std, grad, False)
    if training:
        grads[0] = grads[0] - grads[0].mean((0, 2, 3), keepdim=True)
    return grads


def output_cases(rng):
    cases = []
    shapes = ((2, 3, 2, 4, True), (6, 4, 1, 1, True), (3, 2, 3, 3, False), (1, 5, 2, 3, True))
    for n, c, h, w, training in shapes:
        x, grad = normal(rng, n, c, h, w) * 2 + 1, normal(rng, n, c, h, w) + 0.5
        sign = torch.where(normal(rng, c) > 0, 1.0, -1.0)
        weight, bias = sign * (normal(rng, c).abs() + 0.4), normal(rng, c)
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        if not training:
            mean, var = mean + normal(rng, c), var + normal(rng, c).abs()
        y = F.batch_norm(x, mean, var, weight, bias)
        cases.append([y, weight, bias, (var + 1e-5).sqrt(), grad, training])
    return cases


def watch_training(batches, val, epochs):
    """Train a net, and return its logits of val, (M, 2), after each epoch: (epochs, M, 2).

    batches: list of [images (N, 2, 4, 4) float, labels (N,) int64, 0 or 1], in order; val: (M, 2, 4, 4).
    Each step learns in training mode; each answer that is returned is given in evaluation mode.
    """
    net, found = nn.Sequential(nn.BatchNorm2d(2), nn.AvgPool2d(4), nn.Flatten()), []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for _ in range(epochs):
        net.train()
        for images, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimizer.step()
        found.append(net.eval()(val).detach())
    return torch.stack(found)


def watch_stays(batches, val, epochs):
    net, found = nn.Sequential(nn.BatchNorm2d(2), nn.AvgPool2d(4), nn.Flatten()), []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for _ in range(epochs):
        for images, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimizer.step()
        found.append(net.eval()(val).detach())
    return torch.stack(found)


def _watch(batches, val, epochs, answer, frozen=False, early=False):
    """Train as watch_training does, with another way to answer or to train: for its mutants."""
    net, found = nn.Sequential(nn.BatchNorm2d(2), nn.AvgPool2d(4), nn.Flatten()), []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for _ in range(epochs):
        if early:
            found.append(answer(net, val))
        net.train(not frozen)
        for images, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimizer.step()
        if not early:
            found.append(answer(net, val))
    return torch.stack(found)


def _answer(net, val):
    return net.eval()(val).detach()


def watch_company(batches, val, epochs):
    return _watch(batches, val, epochs, lambda net, val: net(val).detach())


def watch_leak(batches, val, epochs):
    def answer(net, val):
        net(val)
        return _answer(net, val)

    return _watch(batches, val, epochs, answer)


def watch_frozen(batches, val, epochs):
    return _watch(batches, val, epochs, _answer, frozen=True)


def watch_early(batches, val, epochs):
    return _watch(batches, val, epochs, _answer, early=True)


def watch_cases(rng):
    cases = []
    for count, n, m, epochs in ((3, 4, 3, 3), (1, 6, 2, 2), (5, 3, 4, 4)):
        batches = []
        for _ in range(count):
            labels = torch.from_numpy(rng.integers(0, 2, n))
            ramp = F.one_hot(labels, 2).float()[:, :, None, None]
            batches.append([normal(rng, n, 2, 4, 4) * 2 + 3 * ramp + 4, labels])
        cases.append([batches, normal(rng, m, 2, 4, 4) * 2 + 5, epochs])
    return cases


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
        "09.GroupNorm",
        points=1,
        reference=GroupNorm,
        cases=group_norm_cases,
        mutants={
            "puts every num_groups-th channel into a group, instead of neighbours": GroupInterleaved,
            "mixes the images of the batch": GroupBatch,
            "normalises each channel by itself": GroupInstance,
            "normalises each place by itself": GroupPlaces,
            "divides by the unbiased variance": GroupUnbiased,
        },
        hints=(
            "Reshape x so that the values of one group of one image lie along one axis.",
            "x.reshape(N, num_groups, −1): mean and variance along the last axis, then back to x's shape.",
            "γ and β belong to channels, not to groups: multiply after reshaping back.",
        ),
        rtol=1e-3,
        atol=1e-4,
    ),
    Exercise(
        "09.MaskedBatchNorm2d",
        points=2,
        reference=MaskedBatchNorm2d,
        cases=masked_cases,
        mutants={
            "takes the padding into the statistics": MaskedEverything,
            "sets the padding to 0 and then counts the zeros as values": MaskedZerosCount,
            "normalises each image by itself": MaskedEachImage,
            "leaves β in the padding": MaskedShifted,
            "uses the statistics of the batch in evaluation mode too": MaskedAlways,
            "stores the biased variance": MaskedStores,
            "takes momentum for the share of the old statistics": MaskedOldShare,
            "stores statistics that still hang on the graph": MaskedGraph,
        },
        hints=(
            "mask[:, None] has the shape (N, 1, H, W) and fits every channel. Without a mask, take ones.",
            "A mean is a sum divided by a count: sum the valid values only, and count only those.",
            "Two variances: divided by the count to normalise, by the count − 1 to store.",
            "running.lerp_(new, momentum) moves a buffer in place; what is stored is detached first.",
        ),
        rtol=1e-3,
        atol=1e-4,
    ),
    Exercise(
        "09.backward_from_output",
        points=2,
        reference=backward_from_output,
        cases=output_cases,
        mutants={
            "takes the paths through mean and variance in evaluation mode too": output_always_training,
            "treats mean and variance as constants in training mode too": output_constants,
            "takes the output for x̂": output_for_x_hat,
            "forgets γ in the gradient of x": output_without_gamma,
            "forgets the path through the variance": output_mean_only,
        },
        hints=(
            "y = γ x̂ + β. What is x̂, if y, γ and β are known?",
            "Which of the three paths exist when mean and variance are constants?",
            "γ and β enter after x̂: their gradients have the same formula in both modes.",
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
        "09.watch_training",
        points=2,
        reference=watch_training,
        cases=watch_cases,
        mutants={
            "goes on training in evaluation mode once it has answered": watch_stays,
            "answers in training mode, with the statistics of val": watch_company,
            "lets the images of val move the running statistics": watch_leak,
            "trains in evaluation mode from the start": watch_frozen,
            "answers before each epoch instead of after it": watch_early,
        },
        hints=(
            "Follow the mode of the net, line by line, through two epochs.",
            "train() and eval() set a state, and it stays set until somebody sets it again.",
            "Where does the second epoch begin, and in which mode is the net there?",
        ),
        rtol=1e-3,
        atol=1e-4,
        given=watch_stays,
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
