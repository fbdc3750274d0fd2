"""Exercises of lesson 08, dropout."""

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.course.exercises import Exercise, normal


class SharedDropout(nn.Module):
    """Dropout in PyTorch's convention, whose mask several values may share.

    p: the probability to drop, 0 <= p <= 1; with p = 1 everything becomes 0, and nothing NaN. shared:
    the axes along which all values have one fate: () is dropout of single values, (2, 3) of whole
    feature maps, (0,) gives all images of a batch the same mask. forward(x, dice): x, a float tensor;
    dice, int64 of x's shape, are all the randomness there is: each shows one of the numbers 0 to
    999,999, and what it decides about is dropped if it shows less than 1,000,000 · p. Along a shared
    axis the first die decides for all. Returns a tensor of x's shape.
    """

    def __init__(self, p, shared=()):
        super().__init__()
        self.p, self.shared = p, shared

    def forward(self, x, dice):
        if not self.training:
            return x
        for axis in self.shared:
            dice = dice.narrow(axis, 0, 1)  # broadcasting gives it to all the others
        mask = (dice >= 1_000_000 * self.p).to(x.dtype)
        if self.p < 1:
            mask = mask / (1 - self.p)
        return x * mask


class SharedKeep(SharedDropout):
    def __init__(self, p, shared=()):
        super().__init__(1 - p, shared)


class SharedAlways(SharedDropout):
    def forward(self, x, dice):
        return SharedDropout(self.p, self.shared)(x, dice)


class SharedUnscaled(SharedDropout):
    def forward(self, x, dice):
        out = super().forward(x, dice)
        return out * (1 - self.p) if self.training else out


class SharedOldWay(SharedDropout):
    def forward(self, x, dice):
        return super().forward(x, dice) * (1 - self.p)


class SharedCounted(SharedDropout):
    def forward(self, x, dice):
        if not self.training:
            return x
        mask = SharedDropout(self.p, self.shared)(torch.ones_like(x), dice) > 0
        return x * mask / mask.to(x.dtype).mean().clamp(min=1e-6)


class SharedNothing(SharedDropout):
    def forward(self, x, dice):
        return super().forward(x, dice) if not self.shared else SharedDropout(self.p)(x, dice)


class SharedNan(SharedDropout):
    def forward(self, x, dice):
        return super().forward(x, dice) if self.p < 1 or not self.training else x * 0 / (1 - x.new_tensor(1))


def rolled(rng, *shape):
    """Return dice with a million faces, as an int64 tensor."""
    return torch.from_numpy(rng.integers(1_000_000, size=shape))


def shared_cases(rng):
    cases = []
    for shape, p, shared, training in (
        ((6, 20), 0.3, [], True),
        ((3, 8, 4, 5), 0.5, [2, 3], True),
        ((4, 30), 0.2, [0], True),
        ((2, 3, 4, 4), 0.7, [], False),
        ((2, 5), 1.0, [], True),
        ((5, 2, 6), 0.0, [1], True),
    ):
        inputs = [normal(rng, *shape), rolled(rng, *shape)]
        cases.append({"arguments": {"p": p, "shared": shared}, "training": training, "inputs": inputs})
    return cases


def moments_under_dropout(x, weight, p):
    """Return mean and variance of a linear layer's outputs, over all masks on its inputs.

    The outputs are (m · x) @ weight.T / (1 − p), where each value of m is 0 with probability p and
    else 1, independently of the others. Nothing is to be drawn at random.
    x: (N, D) float tensor; weight: (K, D); p: float, 0 <= p < 1.
    Returns (2, N, K): the means, then the variances.
    """
    mean = x @ weight.T
    variance = p / (1 - p) * x.square() @ weight.square().T  # variances of independent terms add up
    return torch.stack([mean, variance])


def moments_unscaled(x, weight, p):
    return torch.stack([(1 - p) * x @ weight.T, p * (1 - p) * x.square() @ weight.square().T])


def moments_half_scaled(x, weight, p):
    return torch.stack([x @ weight.T, p * (1 - p) * x.square() @ weight.square().T])


def moments_deviation(x, weight, p):
    mean, variance = moments_under_dropout(x, weight, p)
    return torch.stack([mean, variance.sqrt()])


def moments_together(x, weight, p):
    mean = x @ weight.T
    return torch.stack([mean, p / (1 - p) * mean.square()])


def moments_cases(rng):
    shapes = ((1, 3, 1, 0.2), (4, 5, 3, 0.5), (2, 8, 6, 0.8), (3, 2, 2, 0.0))
    return [[normal(rng, n, d), normal(rng, k, d), p] for n, d, k, p in shapes]


def paper_logits(x, layers, keep):
    """Return the logits, in evaluation, of a network trained with dropout as in the paper of 2014.

    While training, each input of layer l was kept with probability keep[l], and nothing was scaled.
    Between two layers stands a ReLU, behind the last one nothing. Evaluation drops nothing.
    x: (N, D) float tensor; layers: list of [weight, bias], float tensors (out, in) and (out,);
    keep: list of floats in (0, 1], one for each layer. Returns (N, K).
    """
    for i, ((weight, bias), kept) in enumerate(zip(layers, keep, strict=True)):
        if i > 0:
            x = x.clamp(min=0)
        x = x @ (kept * weight).T + bias  # a bias was never dropped
    return x


def paper_unscaled(x, layers, keep):
    return paper_logits(x, layers, [1.0] * len(keep))


def paper_drop(x, layers, keep):
    return paper_logits(x, layers, [1 - k for k in keep])


def paper_divided(x, layers, keep):
    return paper_logits(x, layers, [1 / k for k in keep])


def paper_biases(x, layers, keep):
    scaled = [[weight, k * bias] for (weight, bias), k in zip(layers, keep, strict=True)]
    return paper_logits(x, scaled, keep)


def paper_last_only(x, layers, keep):
    return paper_logits(x, layers, [1.0] * (len(keep) - 1) + keep[-1:])


def paper_cases(rng):
    cases = []
    for n, widths, keep in (
        (3, (5, 6, 4), [0.8, 0.5]),
        (1, (4, 3), [0.7]),
        (2, (6, 8, 8, 3), [0.9, 0.5, 0.6]),
        (4, (3, 5, 2), [1.0, 0.25]),
    ):
        layers = [[normal(rng, b, a), 1 + normal(rng, b).abs()] for a, b in itertools.pairwise(widths)]
        cases.append([normal(rng, n, widths[0]), layers, keep])
    return cases


def dropout_regression(x, y, p):
    """Return the weights of the linear regression with the smallest expected error under dropout.

    The error is Σᵢ (yᵢ − ŷᵢ)², where ŷᵢ = Σⱼ mᵢⱼ xᵢⱼ wⱼ / (1 − p), and each mᵢⱼ is 0 with
    probability p and else 1; expected means over all masks. Nothing is to be drawn at random.
    x: (N, D) float tensor, no column of it all zero; y: (N,); p: float, 0 < p < 1.
    Returns the weights w, (D,); there is no bias.
    """
    squares = x.T @ x
    penalty = p / (1 - p) * squares.diagonal()  # stronger for inputs with large values
    return torch.linalg.solve(squares + torch.diag(penalty), x.T @ y)


def _ridge(x, y, penalty):
    return torch.linalg.solve(x.T @ x + torch.diag(penalty), x.T @ y)


def regression_plain(x, y, p):
    return torch.linalg.lstsq(x, y[:, None], driver="gelsd").solution[:, 0]


def regression_ridge(x, y, p):
    return _ridge(x, y, torch.full((x.shape[1],), p / (1 - p)))


def regression_keep(x, y, p):
    return _ridge(x, y, (1 - p) / p * x.square().sum(dim=0))


def regression_mean(x, y, p):
    return _ridge(x, y, p / (1 - p) * x.square().mean(dim=0))


def regression_share(x, y, p):
    return _ridge(x, y, p * x.square().sum(dim=0))


def regression_cases(rng):
    cases = []
    for n, d, p in ((20, 3, 0.2), (12, 4, 0.5), (30, 5, 0.8), (3, 5, 0.6)):  # the last: more inputs than rows
        x = normal(rng, n, d) * torch.linspace(0.5, 2, d)
        cases.append([x, 3 * x.sum(dim=1) + normal(rng, n), p])
    return cases


def thinned_average(hidden, weight, bias, p):
    """Return the true average of the probabilities that all thinned networks give.

    Each hidden value is dropped with probability p, independently, or else divided by 1 − p; then a
    linear layer and a softmax follow. Nothing is to be drawn at random.
    hidden: (N, n) float tensor, n <= 8; weight: (K, n); bias: (K,); p: float, 0 <= p < 1.
    Returns (N, K): the arithmetic mean over all 2ⁿ masks, each weighted by its probability.
    """
    n = hidden.shape[1]
    mean = 0
    for number in range(2**n):  # its binary digits are the mask
        mask = torch.tensor([number >> i & 1 for i in range(n)], dtype=hidden.dtype)
        kept = int(mask.sum())
        probability = (1 - p) ** kept * p ** (n - kept)
        logits = (mask * hidden / (1 - p)) @ weight.T + bias
        mean = mean + probability * logits.softmax(dim=1)
    return mean


def _thinned(hidden, p, scale=True):
    """Return hidden under every mask, (masks, N, n), and the masks' probabilities, (masks, 1, 1)."""
    n = hidden.shape[1]
    masks = (torch.arange(2**n)[:, None] >> torch.arange(n) & 1).to(hidden.dtype)
    kept = masks.sum(dim=1)
    probability = (1 - p) ** kept * p ** (n - kept)
    return masks[:, None] * hidden / (1 - p if scale else 1), probability[:, None, None]


def thinned_equal(hidden, weight, bias, p):
    thinned, _ = _thinned(hidden, p)
    return (thinned @ weight.T + bias).softmax(dim=2).mean(dim=0)


def thinned_geometric(hidden, weight, bias, p):
    return (hidden @ weight.T + bias).softmax(dim=1)  # what one pass gives: the mean of the logits


def thinned_unscaled(hidden, weight, bias, p):
    thinned, probability = _thinned(hidden, p, scale=False)
    return (probability * (thinned @ weight.T + bias).softmax(dim=2)).sum(dim=0)


def thinned_keep(hidden, weight, bias, p):
    thinned, probability = _thinned(hidden, 1 - p if p else 0.0)
    return (probability * (thinned @ weight.T + bias).softmax(dim=2)).sum(dim=0)


def thinned_cases(rng):
    shapes = ((2, 3, 4, 0.3), (1, 1, 2, 0.5), (3, 6, 3, 0.8), (2, 8, 10, 0.2), (2, 2, 3, 0.0))
    return [[1 + normal(rng, n, d).abs(), 2 * normal(rng, k, d), normal(rng, k), p] for n, d, k, p in shapes]


class DropBlock(nn.Module):
    """Dropout of squares of neighbouring values, for each feature map by itself.

    p: 0 <= p < 1; size: odd int, the side of a square. forward(x, dice): x (N, C, H, W) float; dice,
    int64 of x's shape, each shows one of the numbers 0 to 999,999. In training a square has its
    centre wherever a die shows less than 1,000,000 γ. Squares may overlap and reach over the edge.
    γ is such that a value, all of whose size × size surroundings lie inside the map, is dropped with
    probability p exactly. What is not dropped is multiplied by (number of values) / (number of kept
    values), both counted over the whole tensor; if nothing is kept, everything is 0. In evaluation
    nothing changes. Returns x's shape.
    """

    def __init__(self, p, size):
        super().__init__()
        self.p, self.size = p, size

    def forward(self, x, dice):
        if not self.training:
            return x
        kept = 1 - self.grown((dice < 1_000_000 * self.gamma()).to(x.dtype))
        return x * kept * self.scale(kept)

    def gamma(self):
        return 1 - (1 - self.p) ** (1 / self.size**2)  # kept: no centre at any of size² places

    def grown(self, centres):
        return F.max_pool2d(centres, self.size, stride=1, padding=self.size // 2)

    def scale(self, kept):
        return kept.numel() / kept.sum().clamp(min=1)


class BlockValues(DropBlock):
    def gamma(self):
        return self.p


class BlockFirstOrder(DropBlock):
    def gamma(self):
        return self.p / self.size**2


class BlockSide(DropBlock):
    def gamma(self):
        return 1 - (1 - self.p) ** (1 / self.size)


class BlockExpected(DropBlock):
    def scale(self, kept):
        return 1 / (1 - self.p)


class BlockNan(DropBlock):
    def scale(self, kept):
        return kept.numel() / kept.sum()


class BlockAlways(DropBlock):
    def forward(self, x, dice):
        return DropBlock(self.p, self.size)(x, dice)


class BlockAllMaps(DropBlock):
    def grown(self, centres):
        return super().grown(centres.amax(dim=1, keepdim=True).expand_as(centres).contiguous())


class BlockCorner(DropBlock):
    def grown(self, centres):
        margin = self.size - 1
        return F.max_pool2d(F.pad(centres, (margin, 0, margin, 0)), self.size, stride=1)


def block_cases(rng):
    cases = []
    for shape, p, size, training in (
        ((2, 3, 12, 10), 0.5, 3, True),
        ((3, 2, 9, 14), 0.3, 5, True),
        ((1, 6, 8, 8), 0.7, 3, True),
        ((2, 2, 6, 6), 0.4, 1, True),
        ((2, 2, 7, 5), 0.6, 3, False),
    ):
        inputs = [normal(rng, *shape), rolled(rng, *shape)]
        cases.append({"arguments": {"p": p, "size": size}, "training": training, "inputs": inputs})
    inputs = [normal(rng, 1, 1, 3, 3), torch.zeros(1, 1, 3, 3, dtype=torch.int64)]  # nothing is kept
    return [*cases, {"arguments": {"p": 0.2, "size": 3}, "training": True, "inputs": inputs}]


def images_to_label(probabilities, n):
    """Return the n images to label next: those about which the passes disagree most.

    probabilities: (passes, N, K) float tensor, from passes with dropout on; they sum to 1 over the
    K classes. Some are exactly 0; 0 · log 0 counts as 0. n: int, 1 <= n <= N.
    An image's disagreement is its mutual information: the entropy of its mean probabilities minus
    the mean of the passes' entropies.
    Returns the images' indices, an int64 tensor (n,), the largest disagreement first.
    """
    uncertain = torch.special.entr(probabilities.mean(dim=0)).sum(dim=1)  # entr(p) = −p log p, 0 at 0
    noisy = torch.special.entr(probabilities).sum(dim=2).mean(dim=0)
    return (uncertain - noisy).argsort(descending=True)[:n]


def label_uncertain(probabilities, n):
    return torch.special.entr(probabilities.mean(dim=0)).sum(dim=1).argsort(descending=True)[:n]


def label_noisy(probabilities, n):
    return torch.special.entr(probabilities).sum(dim=2).mean(dim=0).argsort(descending=True)[:n]


def label_least(probabilities, n):
    return images_to_label(probabilities, probabilities.shape[1]).flip(0)[:n]


def label_nan(probabilities, n):
    mean = probabilities.mean(dim=0)
    noisy = -(probabilities * probabilities.log()).sum(dim=2).mean(dim=0)
    return (-(mean * mean.log()).sum(dim=1) - noisy).argsort(descending=True)[:n]


def label_geometric(probabilities, n):
    mean = probabilities.log().mean(dim=0).softmax(dim=1)
    noisy = torch.special.entr(probabilities).sum(dim=2).mean(dim=0)
    return (torch.special.entr(mean).sum(dim=1) - noisy).argsort(descending=True)[:n]


def label_as_given(probabilities, n):
    mean = probabilities.log().mean(dim=0).softmax(dim=1)
    unsure = -(mean * mean.log()).sum(dim=1)
    noisy = -(probabilities * probabilities.log()).sum(dim=2).mean(dim=0)
    return (unsure - noisy).argsort()[:n]


def label_cases(rng):
    # image 0: all passes are sure of one class; image 1: all say half and half; image 2: they contradict
    first = [[0.0, 0.0, 1.0], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]
    second = [[0.0, 0.0, 1.0], [0.5, 0.5, 0.0], [0.0, 0.8, 0.2]]
    cases = [[torch.tensor([first, second]), 1]]
    # the geometric mean of the passes ranks the second and the third of these the other way round
    first, second = [[0.9, 0.1], [0.999, 0.001], [0.8, 0.2]], [[0.1, 0.9], [0.5, 0.5], [0.3, 0.7]]
    cases.append([torch.tensor([first, second]), 3])
    for passes, images, classes, n in ((5, 6, 3, 2), (10, 8, 10, 4), (20, 5, 4, 5)):
        sure = False
        while not sure:  # two images with nearly equal values could be ranked either way
            sharpness = torch.from_numpy(rng.uniform(0.3, 4, (images, 1)).astype("float32"))
            p = (sharpness * normal(rng, passes, images, classes) + 2 * normal(rng, images, classes)).softmax(
                2
            )
            p = torch.where(p < 0.02, 0.0, p)
            p = p / p.sum(dim=2, keepdim=True)
            ranked = torch.special.entr(p.mean(dim=0)).sum(1) - torch.special.entr(p).sum(2).mean(0)
            sure = bool(ranked.sort().values.diff().min() > 1e-4)
        cases.append([p, n])
    return cases


EXERCISES = [
    Exercise(
        "08.SharedDropout",
        points=2,
        reference=SharedDropout,
        cases=shared_cases,
        mutants={
            "takes p for the probability to keep": SharedKeep,
            "drops in evaluation too": SharedAlways,
            "does not scale what is kept": SharedUnscaled,
            "multiplies by 1 − p in evaluation, and does not scale while training": SharedOldWay,
            "scales by the share that happens to be kept": SharedCounted,
            "rolls a die for every value, whatever is shared": SharedNothing,
            "divides by 0 where p is 1": SharedNan,
        },
        hints=(
            "self.training says in which mode the module is; evaluation has nothing to do.",
            "dice.narrow(axis, 0, 1) keeps the first along an axis, and broadcasting does the rest.",
            "Multiply x by a mask of zeros and 1 / (1 − p). Dividing by 1 − p is what p = 1 must avoid.",
        ),
    ),
    Exercise(
        "08.moments_under_dropout",
        points=1,
        reference=moments_under_dropout,
        cases=moments_cases,
        mutants={
            "forgets to divide by 1 − p": moments_unscaled,
            "takes the variance of the mask alone, before it is divided by 1 − p": moments_half_scaled,
            "returns standard deviations": moments_deviation,
            "drops all inputs of an output together": moments_together,
        },
        hints=(
            "What are the mean and the variance of m / (1 − p), where m is 1 with probability 1 − p, else 0?",
            "The mean is 1, the variance p / (1 − p).",
            "Var(Σ wⱼ xⱼ mⱼ / (1 − p)) = Σ wⱼ² xⱼ² p / (1 − p), as the masks are independent.",
        ),
    ),
    Exercise(
        "08.paper_logits",
        points=1,
        reference=paper_logits,
        cases=paper_cases,
        mutants={
            "scales nothing in evaluation either": paper_unscaled,
            "takes keep for the probability to drop": paper_drop,
            "divides by keep, as one does while training": paper_divided,
            "scales the biases too": paper_biases,
            "scales the last layer only": paper_last_only,
        },
        hints=(
            "In training a layer received, on average, keep times what it receives now.",
            "Multiply each layer's weight, or its input, by its keep. Was the bias ever dropped?",
        ),
    ),
    Exercise(
        "08.dropout_regression",
        points=3,
        reference=dropout_regression,
        cases=regression_cases,
        mutants={
            "solves the regression without dropout": regression_plain,
            "penalises all weights alike, whatever their inputs' size": regression_ridge,
            "takes p for the probability to keep": regression_keep,
            "divides the penalty by the number of rows, and the error not": regression_mean,
            "forgets to divide by 1 − p in the penalty": regression_share,
        },
        hints=(
            "The lesson's formula gives the expected error: a sum of squares and a penalty for each weight.",
            "Set the derivative with respect to w to 0. It is linear in w.",
            "(XᵀX + p / (1 − p) · diag(XᵀX)) w = Xᵀy; torch.linalg.solve solves it.",
        ),
        rtol=1e-3,
        atol=1e-4,
    ),
    Exercise(
        "08.thinned_average",
        points=2,
        reference=thinned_average,
        cases=thinned_cases,
        mutants={
            "gives every mask the same weight": thinned_equal,
            "averages the logits, as one scaled pass does": thinned_geometric,
            "forgets to divide what is kept by 1 − p": thinned_unscaled,
            "takes p for the probability to keep": thinned_keep,
        },
        hints=(
            "itertools.product((0, 1), repeat=n) gives all masks.",
            "A mask with k ones has the probability (1 − p)ᵏ pⁿ⁻ᵏ.",
            "Take the softmax under each mask, and average the probabilities, not the logits.",
        ),
    ),
    Exercise(
        "08.DropBlock",
        points=3,
        reference=DropBlock,
        cases=block_cases,
        mutants={
            "takes γ = p": BlockValues,
            "takes γ = p / size²": BlockFirstOrder,
            "counts only one side of the square": BlockSide,
            "scales by 1 / (1 − p), whatever was dropped": BlockExpected,
            "divides by 0 where nothing is kept": BlockNan,
            "drops in evaluation too": BlockAlways,
            "drops the same squares in all maps": BlockAllMaps,
            "lets the squares begin at their centres": BlockCorner,
        },
        hints=(
            "Around how many places must there be no centre for a value to be kept? They are independent.",
            "(1 − γ) to the power size² is 1 − p.",
            "A maximum over a window of size × size is 1 wherever a centre is near enough: "
            "F.max_pool2d(centres, size, stride=1, padding=size // 2) keeps the shape.",
            "Guard the division: kept.sum().clamp(min=1) is never 0.",
        ),
    ),
    Exercise(
        "08.images_to_label",
        points=2,
        reference=images_to_label,
        cases=label_cases,
        mutants={
            "picks where the mean probabilities are most uncertain": label_uncertain,
            "picks where the single passes are most uncertain": label_noisy,
            "picks where the passes agree most": label_least,
            "computes 0 · log 0, which is NaN": label_nan,
            "takes the geometric mean of the passes": label_geometric,
            "makes three mistakes, as the code that was handed out": label_as_given,
        },
        hints=(
            "There is more than one fault. Try the code on two images and two passes whose answer you know.",
            "Which mean of the passes does the task name, and which does the code take? Which end of a "
            "ranking is its beginning?",
            "torch.special.entr(p) is −p log p, and 0 where p is 0.",
        ),
        given=label_as_given,
    ),
]
