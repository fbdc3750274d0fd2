"""Exercises of lesson 11, the capstone: design, analysis and variance shift."""

from itertools import product

import numpy as np
import torch

from cnnlib.course.exercises import Exercise, normal


def factorial_effects(table, factors):
    """Return an effect in a 2 × 2 × 2 experiment, within each run.

    table: (runs, 2, 2, 2) float tensor of accuracies; axes 1, 2 and 3 are factors: 0 no, 1 yes.
    factors: list of one to three different axes: [2] is the main effect of the second factor,
    [1, 3] the interaction of the first and the third. An effect is the difference yes − no along
    each axis of `factors`, and the mean over the other factors. Returns (runs,).
    """
    for axis in (3, 2, 1):  # from the last on, so that the others keep their places
        no, yes = table.select(axis, 0), table.select(axis, 1)
        table = yes - no if axis in factors else (yes + no) / 2
    return table


def factorial_sums(table, factors):
    return factorial_effects(table, factors) * 2 ** (3 - len(factors))


def factorial_at_no(table, factors):
    for axis in (3, 2, 1):
        no, yes = table.select(axis, 0), table.select(axis, 1)
        table = yes - no if axis in factors else no
    return table


def factorial_halved(table, factors):
    return factorial_effects(table, factors) / 2 ** (len(factors) - 1)


def factorial_reversed(table, factors):
    return factorial_effects(table, factors) * (-1) ** len(factors)


def factorial_cases(rng):
    factors = ([2], [1, 3], [3, 2], [1], [1, 2, 3])
    return [
        [normal(rng, runs, 2, 2, 2), chosen] for runs, chosen in zip((4, 6, 3, 1, 5), factors, strict=True)
    ]


def pairing_gain(first, second):
    """Return how many times as many runs an unpaired comparison needs for the same standard error.

    first, second: lists of n ≥ 2 floats, the accuracies of two networks in n paired runs.
    The paired standard error comes from the differences; the unpaired one takes both lists for
    independent. Their squares both fall as 1 / n. Returns a float, below 1 where pairing hurts.
    """

    def variance(values):
        mean = sum(values) / len(values)
        return sum((v - mean) ** 2 for v in values) / (len(values) - 1)

    differences = [a - b for a, b in zip(first, second, strict=True)]
    return (variance(first) + variance(second)) / variance(differences)


def pairing_root(first, second):
    return pairing_gain(first, second) ** 0.5


def pairing_inverse(first, second):
    return 1 / pairing_gain(first, second)


def pairing_one(first, second):
    return float(np.var(first) / np.var(np.subtract(first, second)))


def pairing_difference(first, second):
    return float(abs(np.var(first) - np.var(second)) / np.var(np.subtract(first, second)))


def pairing_cases(rng):
    cases = [[[0.80, 0.84, 0.88, 0.82], [0.81, 0.86, 0.89, 0.82]], [[0.7, 0.8], [0.9, 0.7]]]
    for runs in (3, 6, 12):
        shared, a, b = rng.normal(0, 1, (3, runs))
        first, second = 80 + 2 * shared + a, 82 + 2 * shared + 0.5 * b
        cases.append([first.tolist(), second.tolist()])
    return cases


def sign_flip_p(differences):
    """Return the exact two-sided p value of paired differences, by flipping their signs.

    differences: list of 1 to 10 ints: by how many images network A beats network B in each run.
    Were they alike, each difference could as well have the other sign. Returns the share of all 2ⁿ
    patterns of signs whose sum is, in absolute value, at least as large as the observed one.
    """
    observed, extreme = abs(sum(differences)), 0
    for signs in product((-1, 1), repeat=len(differences)):
        flipped = sum(s * d for s, d in zip(signs, differences, strict=True))
        extreme += abs(flipped) >= observed
    return extreme / 2 ** len(differences)


def _flipped(differences):
    signs = np.array(list(product((-1, 1), repeat=len(differences))))
    return signs @ np.array(differences)


def flip_one_sided(differences):
    return float((_flipped(differences) >= sum(differences)).mean())


def flip_strict(differences):
    return float((abs(_flipped(differences)) > abs(sum(differences))).mean())


def flip_signs_only(differences):
    return sign_flip_p([int(np.sign(d)) for d in differences])


def flip_cases(rng):
    cases = [[[5, 3, 4, 6, -1, 2]], [[7]], [[0, 0, 0]], [[-30, -12, -5, -9]]]
    return cases + [[(rng.integers(-20, 40, n)).tolist()] for n in (3, 6, 10)]


def holm(p_values, alpha):
    """Return which of m effects are found, with at most a chance of alpha of any false alarm.

    p_values: list of m floats; alpha: float. Holm's method takes them from the smallest to the
    largest: the smallest must be ≤ alpha / m, the next ≤ alpha / (m − 1), …, the largest ≤ alpha.
    At the first that fails it stops: that one and all larger ones are undecided. Returns a list of
    m bools, in the order of p_values, True for "found".
    """
    found = [False] * len(p_values)
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, i in enumerate(order):
        if p_values[i] > alpha / (len(p_values) - rank):
            break
        found[i] = True
    return found


def holm_none(p_values, alpha):
    return [p <= alpha for p in p_values]


def holm_bonferroni(p_values, alpha):
    return [p <= alpha / len(p_values) for p in p_values]


def holm_never_stops(p_values, alpha):
    ranks = np.argsort(np.argsort(p_values))
    return [bool(p <= alpha / (len(p_values) - rank)) for p, rank in zip(p_values, ranks, strict=True)]


def holm_sorted(p_values, alpha):
    return holm(sorted(p_values), alpha)


def holm_cases(rng):
    cases = [[[0.2, 0.02, 0.01], 0.05], [[0.01, 0.04, 0.03, 0.005], 0.05], [[0.03], 0.05]]
    return cases + [[(rng.uniform(0, 0.6, m) ** 2).tolist(), 0.1] for m in (3, 6, 12)]


def shift_ratio(x, weight, p):
    """Return evaluation variance / training variance of a linear unit that follows a dropout.

    x: (N, C) float tensor, N examples taken for the whole population (divide by N); weight: (C,).
    In evaluation the unit is z = Σ weight[c] · x[c]. In training each x[c] is 0 with probability p,
    else x[c] / (1 − p), independently for each channel and example; 0 ≤ p < 1. The training
    variance is over examples and masks: computed exactly, not by drawing. Returns a float.
    """
    evaluation = (x @ weight).var(correction=0)
    noise = p / (1 - p) * (weight.square() * x.square().mean(dim=0)).sum()
    return (evaluation / (evaluation + noise)).item()


def shift_output(x, weight, p):
    z = x @ weight
    train = z.square().mean() / (1 - p) - z.mean().square()
    return (z.var(correction=0) / train).item()


def shift_independent(x, weight, p):
    evaluation = (weight.square() * x.var(0, correction=0)).sum()
    noise = p / (1 - p) * (weight.square() * x.square().mean(0)).sum()
    return (evaluation / (evaluation + noise)).item()


def shift_centred(x, weight, p):
    evaluation = (x @ weight).var(correction=0)
    noise = p / (1 - p) * (weight.square() * x.var(0, correction=0)).sum()
    return (evaluation / (evaluation + noise)).item()


def shift_unscaled(x, weight, p):
    evaluation = (x @ weight).var(correction=0)
    noise = p * (1 - p) * (weight.square() * x.square().mean(0)).sum()
    return (evaluation / (evaluation * (1 - p) ** 2 + noise)).item()


def shift_cases(rng):
    fixed = torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 3.0]])
    cases = [[fixed, torch.tensor([1.0, 1.0]), 0.5], [fixed, torch.tensor([1.0, -1.0]), 0.0]]
    for n, c, p in ((20, 1, 0.3), (50, 4, 0.5), (30, 9, 0.2)):
        cases.append([(normal(rng, n, c) + normal(rng, n, 1)).relu() + 0.1, normal(rng, c) + 0.5, p])
    return cases


EXERCISES = [
    Exercise(
        "11.factorial_effects",
        points=2,
        reference=factorial_effects,
        cases=factorial_cases,
        mutants={
            "adds up over the other factors instead of taking the mean": factorial_sums,
            "looks only at the cells where the other factors are off": factorial_at_no,
            "halves an interaction": factorial_halved,
            "subtracts yes from no": factorial_reversed,
        },
        hints=(
            "Go through the axes 1, 2 and 3: each is either subtracted away or averaged away.",
            "Begin with the last axis, or use keepdim, so that the axes left over keep their numbers.",
        ),
    ),
    Exercise(
        "11.pairing_gain",
        points=1,
        reference=pairing_gain,
        cases=pairing_cases,
        mutants={
            "compares standard errors; the number of runs goes with their squares": pairing_root,
            "divides the paired variance by the unpaired one": pairing_inverse,
            "counts the variance of one network only": pairing_one,
            "subtracts the variances of two independent networks instead of adding them": pairing_difference,
        },
        hints=(
            "Which variance belongs to a difference of two independent numbers?",
            "(variance of first + variance of second) / variance of the differences.",
        ),
        rtol=1e-3,
    ),
    Exercise(
        "11.sign_flip_p",
        points=2,
        reference=sign_flip_p,
        cases=flip_cases,
        mutants={
            "counts sums on one side only": flip_one_sided,
            "leaves out the patterns that are exactly as extreme, the observed one too": flip_strict,
            "looks at the signs of the differences and not at their sizes": flip_signs_only,
        },
        hints=(
            "itertools.product((-1, 1), repeat=n) gives all patterns of signs.",
            "Count those with abs(sum) ≥ abs(observed sum), and divide by 2ⁿ.",
        ),
    ),
    Exercise(
        "11.holm",
        points=2,
        reference=holm,
        cases=holm_cases,
        mutants={
            "compares each p value with alpha, however many there are": holm_none,
            "compares each p value with alpha / m": holm_bonferroni,
            "goes on after the first p value that fails": holm_never_stops,
            "returns the answers in the order of the sorted p values": holm_sorted,
        },
        hints=(
            "Sort the places, not the values: sorted(range(m), key=lambda i: p_values[i]).",
            "At rank 0, 1, 2, … the threshold is alpha / (m − rank); leave the loop at the first failure.",
        ),
    ),
    Exercise(
        "11.shift_ratio",
        points=3,
        reference=shift_ratio,
        cases=shift_cases,
        mutants={
            "drops the unit's output instead of its inputs": shift_output,
            "takes the inputs for independent of one another": shift_independent,
            "computes the noise of the masks from the inputs' variance, not their mean square": shift_centred,
            "does not divide by 1 − p what dropout keeps": shift_unscaled,
        },
        hints=(
            "Law of total variance: the variance of the mean given x, plus the mean of the variance given x.",
            "Given x, the masks leave the mean of z as it is. mask / (1 − p) has the variance p / (1 − p).",
            "So training adds p / (1 − p) · Σ weight[c]² · E[x[c]²] to the evaluation variance.",
        ),
        rtol=1e-3,
    ),
]
