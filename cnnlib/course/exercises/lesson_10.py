"""Exercises of lesson 10, why batch normalisation works."""

import torch

from cnnlib.course.exercises import Exercise, normal


def stable_lr(x):
    """Return the learning rate beyond which gradient descent on a linear model diverges.

    x: (N, C) float tensor of inputs. The model is w · x + b, with a weight for each input and a
    bias b; its loss is the mean over the N examples of ½ (w · x + b − y)². The labels y do not
    matter: the limit is 2 / (largest eigenvalue of the Hessian with respect to w and b together).
    Returns a float.
    """
    inputs = torch.cat([x, torch.ones(len(x), 1)], dim=1)  # the bias is the weight of a constant 1
    hessian = inputs.T @ inputs / len(x)
    return 2 / torch.linalg.eigvalsh(hessian)[-1].item()


def stable_half(x):
    return stable_lr(x) / 2


def stable_without_bias(x):
    return 2 / torch.linalg.eigvalsh(x.T @ x / len(x))[-1].item()


def stable_summed(x):
    return stable_lr(x) / len(x)


def stable_centred(x):
    return stable_lr(x - x.mean(dim=0))


def stable_cases(rng):
    cases = [[torch.tensor([[1.0, 0.0], [0.0, 1.0]])], [torch.tensor([[2.0]])]]
    return cases + [[normal(rng, n, c) + shift] for n, c, shift in ((8, 3, 0.5), (50, 5, 3.0), (3, 6, -1.0))]


def delivered_share(hessian, theta, lr):
    """Return which share of the fall that the gradient promises a step of SGD delivers.

    The loss is ½ θᵀ H θ with H = hessian, a symmetric (D, D) float tensor, and θ = theta, (D,). The
    step is −lr · g with the gradient g at theta, which is not zero; promised is a fall of the loss
    by lr · ‖g‖². Returns a float, 1 for the whole promise, below 0 where the loss rises.
    """
    gradient = hessian @ theta
    curvature = gradient @ hessian @ gradient / (gradient @ gradient)
    return (1 - lr * curvature / 2).item()


def delivered_full(hessian, theta, lr):
    return 2 * delivered_share(hessian, theta, lr) - 1


def delivered_largest(hessian, theta, lr):
    return (1 - lr * torch.linalg.eigvalsh(hessian)[-1] / 2).item()


def delivered_at_theta(hessian, theta, lr):
    return (1 - lr * (theta @ hessian @ theta) / (theta @ theta) / 2).item()


def delivered_unsquared(hessian, theta, lr):
    return delivered_share(hessian, theta, lr) * (hessian @ theta).norm().item()


def delivered_cases(rng):
    fixed = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    cases = [[fixed, torch.tensor([1.0, 1.0]), 0.5], [torch.tensor([[4.0]]), torch.tensor([3.0]), 1.0]]
    for size, lr in ((3, 0.2), (6, 0.5), (10, 1.0)):
        root = normal(rng, size, size)
        cases.append([root @ root.T / size + 0.5 * torch.eye(size), normal(rng, size) + 2, lr])
    return cases


def distribution_shift(before, after):
    """Return by how much each channel's distribution has moved, shape and all, in its own sd.

    before, after: (N, C, H, W) float tensors, what a layer gets before and after an update. The
    distance of a channel is the mean of |a − b| where its N · H · W values of `before` and those of
    `after`, each sorted, are paired by rank (the Wasserstein distance W₁). It is divided by the sd
    (biased) of the channel in `before`. Returns (C,).
    """
    first, second = (x.transpose(0, 1).flatten(1) for x in (before, after))  # (C, N · H · W)
    distance = (second.sort(dim=1).values - first.sort(dim=1).values).abs().mean(dim=1)
    return distance / first.std(dim=1, correction=0)


def distribution_means(before, after):
    change = after.mean(dim=(0, 2, 3)) - before.mean(dim=(0, 2, 3))
    return change.abs() / before.std(dim=(0, 2, 3), correction=0)


def distribution_unsorted(before, after):
    return (after - before).abs().mean(dim=(0, 2, 3)) / before.std(dim=(0, 2, 3), correction=0)


def distribution_each_image(before, after):
    first, second = before.flatten(2).sort(dim=2).values, after.flatten(2).sort(dim=2).values
    return (second - first).abs().mean(dim=(0, 2)) / before.std(dim=(0, 2, 3), correction=0)


def distribution_raw(before, after):
    return distribution_shift(before, after) * before.std(dim=(0, 2, 3), correction=0)


def distribution_cases(rng):
    cases = []
    for n, c, h, w in ((2, 3, 4, 4), (4, 1, 3, 5), (3, 5, 2, 2)):
        cases.append([normal(rng, n, c, h, w) * 2, normal(rng, n, c, h, w) * 3 + 1])
    base = normal(rng, 4, 2, 3, 3)
    return [*cases, [base, base.flip(0)], [base, 1 - 2 * base]]


def scale_invariant_norms(weight, target, lr, steps):
    """Return how the length of a weight vector grows when the loss depends on its direction only.

    weight, target: (D,) float tensors. The loss is 1 − cos(angle between weight and target), as
    behind a normalisation, where only the direction counts. Do `steps` steps of plain gradient
    descent with learning rate lr. Returns the lengths of the weight, (steps + 1,), the first one
    before any step.
    """
    goal = target / target.norm()
    norms = [weight.norm()]
    for _ in range(steps):
        direction = weight / norms[-1]
        gradient = -(goal - (goal @ direction) * direction) / norms[-1]  # orthogonal to the weight
        weight = weight - lr * gradient
        norms.append(weight.norm())
    return torch.stack(norms)


def _walk(weight, target, lr, steps, gradient, renormalise=False):
    goal, norms = target / target.norm(), [weight.norm()]
    for _ in range(steps):
        length = weight.norm()
        weight = weight - lr * gradient(goal, weight / length, length)
        weight = weight / weight.norm() * length if renormalise else weight
        norms.append(weight.norm())
    return torch.stack(norms)


def norms_unscaled(weight, target, lr, steps):
    return _walk(weight, target, lr, steps, lambda goal, d, length: (goal @ d) * d - goal)


def norms_whole(weight, target, lr, steps):
    return _walk(weight, target, lr, steps, lambda goal, d, length: -goal / length)


def norms_kept(weight, target, lr, steps):
    return _walk(weight, target, lr, steps, lambda goal, d, length: ((goal @ d) * d - goal) / length, True)


def norms_uphill(weight, target, lr, steps):
    return _walk(weight, target, lr, steps, lambda goal, d, length: (goal - (goal @ d) * d) / length)


def norms_cases(rng):
    fixed = torch.tensor([3.0, 4.0]), torch.tensor([2.0, 0.0])
    cases = [[fixed[0] / 10, fixed[1], 0.5, 6], [*fixed, 2.0, 4], [*fixed, 1.0, 0]]
    for size, steps in ((3, 5), (8, 10)):
        cases.append([normal(rng, size) + 3, normal(rng, size), 0.8, steps])
    return cases


def chain_gradient_shift(weights, x, y, lr):
    """Return the internal covariate shift of each layer's gradient, G′ − G, in a chain of layers.

    The network has one number a layer: its answer is w₁ w₂ … w_n x, its loss ½ (answer − y)².
    weights: list of n ≥ 1 floats; x, y, lr: floats. G[i] is the derivative of the loss by weight i.
    For G′[i] the layers BEFORE i have made their step, −lr · G; layer i and all after it have not.
    Returns a list of n floats, G′[i] − G[i].
    """

    def gradient(values, i):
        others = x
        for j, value in enumerate(values):
            others *= value if j != i else 1.0
        return (others * values[i] - y) * others

    first = [gradient(weights, i) for i in range(len(weights))]
    moved = [w - lr * g for w, g in zip(weights, first, strict=True)]
    return [gradient(moved[:i] + weights[i:], i) - first[i] for i in range(len(weights))]


def _chain(weights, x, y):
    """Return the derivative of the loss by each weight."""
    values = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad((values.prod() * x - y) ** 2 / 2, values)[0].tolist()


def _step(weights, x, y, lr):
    return [w - lr * g for w, g in zip(weights, _chain(weights, x, y), strict=True)]


def chain_all_move(weights, x, y, lr):
    after = _chain(_step(weights, x, y, lr), x, y)
    return [a - b for a, b in zip(after, _chain(weights, x, y), strict=True)]


def chain_later_move(weights, x, y, lr):
    moved, first = _step(weights, x, y, lr), _chain(weights, x, y)
    return [_chain(weights[: i + 1] + moved[i + 1 :], x, y)[i] - g for i, g in enumerate(first)]


def chain_one_after_another(weights, x, y, lr):
    first, moved, shifts = _chain(weights, x, y), list(weights), []
    for i, g in enumerate(first):
        now = _chain(moved, x, y)[i]
        shifts.append(now - g)
        moved[i] -= lr * now
    return shifts


def chain_uphill(weights, x, y, lr):
    return chain_gradient_shift(weights, x, y, -lr)


def chain_cases(rng):
    cases = [[[2.0, 0.5, 1.5], 1.0, 3.0, 0.1], [[1.5], 2.0, 1.0, 0.1], [[1.0, 2.0], 1.0, 1.0, 0.1]]
    for layers in (2, 4, 6):
        weights = rng.uniform(0.6, 1.4, layers).tolist()
        cases.append([weights, float(rng.uniform(0.5, 1.5)), float(rng.uniform(-2, 2)), 0.05])
    return cases


EXERCISES = [
    Exercise(
        "10.stable_lr",
        points=2,
        reference=stable_lr,
        cases=stable_cases,
        mutants={
            "returns 1 / λ, at which descent is fastest along that direction": stable_half,
            "leaves the bias out": stable_without_bias,
            "adds up over the examples instead of taking the mean": stable_summed,
            "takes the mean away from the inputs": stable_centred,
        },
        hints=(
            "A bias is the weight of one more input that is always 1.",
            "With X the inputs and that column of ones, the Hessian is XᵀX / N.",
            "torch.linalg.eigvalsh gives the eigenvalues of a symmetric matrix in rising order.",
        ),
        rtol=1e-3,
    ),
    Exercise(
        "10.delivered_share",
        points=1,
        reference=delivered_share,
        cases=delivered_cases,
        mutants={
            "forgets the ½ of the second order": delivered_full,
            "takes the largest curvature instead of that along the gradient": delivered_largest,
            "takes the curvature along θ instead of that along the gradient": delivered_at_theta,
            "takes lr · ‖g‖ for the promise": delivered_unsquared,
        },
        hints=(
            "g = H θ. Compute the loss at θ and at θ − lr · g; their difference is what is delivered.",
            "Or on paper: the fall is lr gᵀg − ½ lr² gᵀHg. Divide by lr gᵀg.",
        ),
        rtol=1e-3,
        atol=1e-4,
    ),
    Exercise(
        "10.distribution_shift",
        points=2,
        reference=distribution_shift,
        cases=distribution_cases,
        mutants={
            "compares the means and forgets the rest of the distribution": distribution_means,
            "pairs the values by place and not by rank": distribution_unsorted,
            "sorts within each image instead of within the batch": distribution_each_image,
            "does not divide by the standard deviation": distribution_raw,
        },
        hints=(
            "Bring each channel's values into one row: a tensor (C, N · H · W).",
            "x.transpose(0, 1).flatten(1) does it; x.sort(dim=1).values sorts each row.",
        ),
    ),
    Exercise(
        "10.chain_gradient_shift",
        points=3,
        reference=chain_gradient_shift,
        cases=chain_cases,
        mutants={
            "moves all layers, the one itself and those after it too": chain_all_move,
            "moves the layers after it instead of those before it": chain_later_move,
            "computes each layer's step anew after the layers before it have moved": chain_one_after_another,
            "steps uphill": chain_uphill,
        },
        hints=(
            "G[i] = (answer − y) · x · (the product of all other weights).",
            "All steps come from the first gradients: moved[j] = weights[j] − lr · G[j].",
            "For layer i take the derivative at moved[:i] + weights[i:].",
        ),
    ),
    Exercise(
        "10.scale_invariant_norms",
        points=3,
        reference=scale_invariant_norms,
        cases=norms_cases,
        mutants={
            "does not divide the gradient by the length of the weight": norms_unscaled,
            "keeps the gradient's component along the weight": norms_whole,
            "brings the weight back to its old length after each step": norms_kept,
            "steps uphill": norms_uphill,
        },
        hints=(
            "Let autograd find the gradient. Or derive it: which change of the weight keeps the cosine?",
            "With d = weight / ‖weight‖ and t = target / ‖target‖ the loss is 1 − t · d.",
            "Its gradient is −(t − (t · d) d) / ‖weight‖: orthogonal to the weight.",
        ),
        rtol=1e-3,
        atol=1e-4,
    ),
]
