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


def stretched_curvature(hessian, count, factor):
    """Return the largest curvature where the weights in front of a normalisation are longer.

    hessian: symmetric (D, D) float tensor, second derivatives of a loss by D parameters at a point.
    The first `count` of them are ALL the weights in front of normalisations (multiply them by any
    factor > 0, together, and the loss stays); the rest is not. Move to the point where those `count`
    are `factor` times as long, and return the largest eigenvalue of the Hessian there, a float.
    """
    scale = torch.ones(len(hessian))
    scale[:count] = 1 / factor  # L(c w, v) = L(w, v): each derivative by c w is one by w, divided by c
    return torch.linalg.eigvalsh(scale[:, None] * hessian * scale)[-1].item()


def stretched_block(hessian, count, factor):
    there = hessian.clone()
    there[:count, :count] /= factor**2
    return torch.linalg.eigvalsh(there)[-1].item()


def stretched_whole(hessian, count, factor):
    return torch.linalg.eigvalsh(hessian)[-1].item() / factor**2


def stretched_once(hessian, count, factor):
    return stretched_curvature(hessian, count, factor**0.5)


def stretched_up(hessian, count, factor):
    return stretched_curvature(hessian, count, 1 / factor)


def stretched_cases(rng):
    fixed = torch.tensor([[4.0, 1.0, 2.0], [1.0, 3.0, 1.0], [2.0, 1.0, 2.0]])
    cases = [[fixed, 2, 3.0], [fixed, 1, 0.5], [fixed, 3, 2.0], [fixed, 0, 5.0]]
    for size, count, factor in ((4, 2, 2.0), (7, 4, 3.0)):
        root = normal(rng, size, size) + 1
        cases.append([root @ root.T / size, count, factor])
    return cases


def chain_orders(weights, x, lr):
    """Return the terms of a chain's answer after one step, sorted by their order in lr.

    The answer of a chain of n layers with one weight each is x w₁ w₂ … w_n. Gradient descent is to
    make the ANSWER smaller: every weight moves at once by −lr times the derivative of the answer.
    weights: list of n ≥ 1 floats; x, lr: floats. Returns a list of n + 1 floats: the answer before
    the step, all terms with lr¹ in sum, those with lr², …, lrⁿ; their sum is the answer after it.
    """
    terms = [x]
    for i, weight in enumerate(weights):
        step = -lr * x
        for j, other in enumerate(weights):
            step *= other if j != i else 1.0
        stay, move = [*terms, 0.0], [0.0, *terms]  # multiply the polynomial by weight + step · t
        terms = [a * weight + b * step for a, b in zip(stay, move, strict=True)]
    return terms


def orders_two(weights, x, lr):
    terms = chain_orders(weights, x, lr)
    return [*terms[:2], sum(terms[2:]), *[0.0] * (len(weights) - 2)] if len(weights) > 2 else terms


def orders_counted_often(weights, x, lr):
    terms, count = chain_orders(weights, x, lr), 1
    for k in range(2, len(terms)):
        count *= k
        terms[k] *= count
    return terms


def orders_uphill(weights, x, lr):
    return chain_orders(weights, x, -lr)


def orders_one_by_one(weights, x, lr):
    terms, moved = [x], list(weights)
    for i, weight in enumerate(weights):
        step = -lr * x
        for j, other in enumerate(moved):
            step *= other if j != i else 1.0
        moved[i] += step
        terms = [a * weight + b * step for a, b in zip([*terms, 0.0], [0.0, *terms], strict=True)]
    return terms


def orders_cases(rng):
    cases = [[[2.0, 0.5, 1.5], 1.0, 0.1], [[1.5], 2.0, 0.1], [[2.0, 0.0, -1.0, 1.0], 1.0, 0.2]]
    for layers in (2, 4, 6):
        cases.append([rng.uniform(0.7, 1.4, layers).tolist(), float(rng.uniform(0.8, 1.5)), 0.2])
    return cases


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


def chain_gradient_shift(weights, x, y, lr):
    """Return the internal covariate shift of each layer's gradient, G′ − G, in a chain of layers.

    weights: n floats. The answer is x w₁ w₂ … w_n, the loss ½ (answer − y)², G[i] its derivative by
    weight i. For G′[i] the layers BEFORE i have made the step −lr · G, and no other. A list of n.
    """

    def gradients(values):
        w = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad((w.prod() * x - y) ** 2 / 2, w)[0].tolist()

    first = gradients(weights)
    moved = [w - lr * g for w, g in zip(weights, first, strict=True)]
    return [gradients(moved[:i] + weights[i:])[i] - first[i] for i in range(len(weights))]


def chain_one_after_another(weights, x, y, lr):
    moved, shifts = list(weights), []

    def gradients(values):
        w = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad((w.prod() * x - y) ** 2 / 2, w)[0].tolist()

    for i, first in enumerate(gradients(weights)):
        now = gradients(moved)[i]
        shifts.append(now - first)
        moved[i] -= lr * now
    return shifts


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


def chain_uphill(weights, x, y, lr):
    return chain_gradient_shift(weights, x, y, -lr)


def chain_cases(rng):
    cases = [[[2.0, 0.5, 1.5], 1.0, 3.0, 0.1], [[1.5], 2.0, 1.0, 0.1], [[1.0, 2.0], 1.0, 1.0, 0.1]]
    for layers in (2, 4, 6):
        weights = rng.uniform(0.6, 1.4, layers).tolist()
        cases.append([weights, float(rng.uniform(0.5, 1.5)), float(rng.uniform(-2, 2)), 0.05])
    return cases


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
        "10.stretched_curvature",
        points=2,
        reference=stretched_curvature,
        cases=stretched_cases,
        mutants={
            "leaves the mixed derivatives, by a weight and another parameter, as they are": stretched_block,
            "treats all parameters as weights in front of a normalisation": stretched_whole,
            "divides second derivatives by the factor instead of its square": stretched_once,
            "makes the weights shorter": stretched_up,
        },
        hints=(
            "Write L(c w, v) = L(w, v) and differentiate both sides by w: what is the gradient at c w?",
            "Each derivative by one of the weights brings a 1 / c: two of them 1 / c², mixed ones 1 / c.",
            "Multiply rows and columns of the Hessian by a vector that holds 1 / factor or 1.",
        ),
        rtol=1e-3,
        atol=1e-4,
    ),
    Exercise(
        "10.chain_orders",
        points=3,
        reference=chain_orders,
        cases=orders_cases,
        mutants={
            "ends with the second order, and puts the rest there": orders_two,
            "counts a set of layers once for each order of its layers": orders_counted_often,
            "steps uphill": orders_uphill,
            "computes each layer's step after the layers before it have moved": orders_one_by_one,
        },
        hints=(
            "The derivative of the answer by one weight is x times the product of all others.",
            "Replace lr by lr · t: the answer after the step is a polynomial in t, a product of n "
            "factors w_i + t · step_i. Its coefficients are what is asked.",
            "Multiply the factors out one at a time: new[k] = old[k] · w + old[k − 1] · step.",
        ),
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
        "10.chain_gradient_shift",
        points=2,
        reference=chain_gradient_shift,
        cases=chain_cases,
        mutants={
            "moves all layers, the one itself and those after it too": chain_all_move,
            "moves the layers after it instead of those before it": chain_later_move,
            "computes each layer's step anew after the layers before it have moved": chain_one_after_another,
            "steps uphill": chain_uphill,
        },
        hints=(
            "Take three layers and a large lr, and follow on paper where each layer is when it is asked.",
            "Which gradient does SGD use for the step of layer 2: that before or that after layer 1 moved?",
            "All layers step by their FIRST gradient, lr · G.",
        ),
        given=chain_one_after_another,
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
