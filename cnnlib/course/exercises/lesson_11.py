"""Exercises of lesson 11, the capstone: plans that are kept, splits, permutation tests, variance shift."""

import itertools

import numpy as np
import torch

from cnnlib.course.exercises import Exercise, normal


def runs_needed(noise, true, power, reach):
    """Return the smallest number of runs with which a plan finds a true effect often enough.

    noise: (T, N) float tensor: T invented experiments of N runs each, noise of one run's effect, sd 1.
    true: float above 0, the true effect in units of that sd. An experiment of n runs consists of the
    first n of a row; it finds the effect if its interval, mean ± reach[n] standard errors, lies above 0.
    A standard error is the runs' standard deviation, with n − 1 in the variance, divided by √n. reach: list
    of N + 1 floats; reach[0] and reach[1] are of no use. power: the share of experiments that must find it,
    at least. Returns an int from 2 on; 0 if N runs are not enough.
    """
    for n in range(2, noise.shape[1] + 1):
        effects = true + noise[:, :n]
        low = effects.mean(dim=1) - reach[n] * effects.std(dim=1) / n**0.5
        if (low > 0).double().mean() >= power:
            return n
    return 0


def needed_with(standard_error, found=lambda low: low > 0):
    """Return runs_needed with another standard error, or another rule of what counts as found."""

    def answer(noise, true, power, reach):
        for n in range(2, noise.shape[1] + 1):
            effects = true + noise[:, :n]
            low = effects.mean(dim=1) - reach[n] * standard_error(effects, n)
            if found(low).double().mean() >= power:
                return n
        return 0

    return answer


def needed_last(noise, true, power, reach):
    return runs_needed(noise, true, power, reach) or noise.shape[1]


def needed_by_gauss(noise, true, power, reach):
    return runs_needed(noise, true, power, [1.96] * len(reach))


REACH = [0.0, 0.0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201]


def needed_cases(rng):
    cases = []
    for times, runs, true, power in (
        (400, 12, 1.2, 0.8),
        (300, 4, 0.3, 0.9),
        (500, 12, 2.0, 0.95),
        (200, 12, 3.0, 0.5),
    ):
        cases.append([normal(rng, times, runs), true, power, REACH[: runs + 1]])
    return cases


def planned_verdict(effects, planned, reach):
    """Return the verdict of a plan on the effects of its runs, in the order in which they were made.

    effects: list of floats, one a run; somebody may have made more runs than were planned.
    planned: int, how many runs the plan names, 2 to len(effects). reach: list; the 95 % interval of n runs
    is their mean ± reach[n] standard errors. Returns "positive", "negative" or "undecided".
    The verdict must be wrong in at most 5 % of all experiments without an effect.
    """
    values = torch.tensor(effects[:planned])
    half = reach[planned] * values.std() / planned**0.5
    if values.mean() > half:
        return "positive"
    return "negative" if values.mean() < -half else "undecided"


def planned_peeking(effects, planned, reach):
    for n in range(2, planned + 1):
        values = torch.tensor(effects[:n])
        half = reach[n] * values.std() / n**0.5
        if abs(values.mean()) > half:
            return "positive" if values.mean() > 0 else "negative"
    return "undecided"


def planned_extended(effects, planned, reach):
    return planned_verdict(effects, len(effects), reach)


def planned_then_more(effects, planned, reach):
    first = planned_verdict(effects, planned, reach)
    return planned_verdict(effects, len(effects), reach) if first == "undecided" else first


def planned_one_sided(effects, planned, reach):
    return planned_verdict(effects, planned, reach).replace("negative", "undecided")


def planned_last(effects, planned, reach):
    return planned_verdict(effects[-planned:], planned, reach)


def planned_cases(rng):
    start = [0.5, 0.6, 0.55, -1.5, 0.2, -0.4]  # early runs agree by luck
    cases = [[start, 6, REACH], [[-v for v in start], 6, REACH]]
    cases.append(
        [[0.9, -0.8, 0.1, 0.4, *[1.0 + 0.1 * i for i in range(8)]], 4, REACH]
    )  # later ones would tell
    cases.append([[-1.0, -1.2, -0.9, -1.1, 3.0, 4.0], 4, REACH])
    cases += [[rng.normal(0.7, 1, n).tolist(), n - 1, REACH] for n in (5, 9)]
    return cases


def stratified_split(labels, order, share):
    """Return the places of the images that go into the validation set, sorted.

    labels: list of N ints, the classes; order: list of the N places 0 to N − 1 in random order; share:
    float between 0 and 1. Of each class with n images go the first ones in that order: share · n of them,
    rounded (round(x)), but at least one, and one stays for training. A class of one image stays whole for
    training.
    """
    places = {}
    for place in order:
        places.setdefault(labels[place], []).append(place)
    chosen = []
    for of_class in places.values():
        count = min(max(round(share * len(of_class)), 1), len(of_class) - 1)
        chosen += of_class[:count]
    return sorted(chosen)


def split_plain(labels, order, share):
    return sorted(order[: round(share * len(order))])


def split_rounded(labels, order, share):
    chosen = []
    for k in sorted(set(labels)):
        of_class = [place for place in order if labels[place] == k]
        chosen += of_class[: round(share * len(of_class))]
    return sorted(chosen)


def split_unshuffled(labels, order, share):
    return stratified_split(labels, sorted(order), share)


def split_equal(labels, order, share):
    count, chosen = max(1, round(share * len(labels) / len(set(labels)))), []
    for k in sorted(set(labels)):
        of_class = [place for place in order if labels[place] == k]
        chosen += of_class[: min(count, len(of_class) - 1)]
    return sorted(chosen)


def split_cases(rng):
    cases = []
    for counts, share in (((12, 5, 1), 0.25), ((20, 3, 2, 2), 0.1), ((7, 2), 0.9), ((30, 10, 4), 0.2)):
        labels = np.repeat(np.arange(len(counts)), counts)
        rng.shuffle(labels)
        cases.append([labels.tolist(), rng.permutation(len(labels)).tolist(), share])
    return cases


def blocked_p(blocks):
    """Return the exact two-sided p value of a comparison of two networks within blocks.

    blocks: list of one to four blocks; each is a list of two lists of ints, the errors of networks A and B
    that were trained on that block's images: blocks may hold different numbers of A and of B. The
    statistic: within each block the mean of A minus the mean of B, then the mean over the blocks. Were A
    and B alike, each way of calling as many of a block's numbers "A" would be as likely, independently of
    the other blocks. Returns the share of all these ways whose statistic is, in absolute value, at least
    as large as the observed one; what differs by less than 1e-9 is equal.
    """

    def differences(first, second):
        numbers = first + second
        for chosen in itertools.combinations(range(len(numbers)), len(first)):
            a = [numbers[i] for i in chosen]
            b = [v for i, v in enumerate(numbers) if i not in chosen]
            yield sum(a) / len(a) - sum(b) / len(b)

    ways = [list(differences(*block)) for block in blocks]
    observed = abs(sum(way[0] for way in ways))  # the first way is the one that happened
    found = [abs(sum(way)) >= observed - 1e-9 for way in itertools.product(*ways)]
    return sum(found) / len(found)


def _ways(blocks, statistic):
    """Return the statistic of each way, the one that happened first; statistic: of a list of (a, b)."""
    all_ways = []
    for first, second in blocks:
        numbers, ways = np.array(first + second), []
        for chosen in itertools.combinations(range(len(numbers)), len(first)):
            mask = np.isin(np.arange(len(numbers)), chosen)
            ways.append((numbers[mask], numbers[~mask]))
        all_ways.append(ways)
    return np.array([statistic(way) for way in itertools.product(*all_ways)])


def _mean_of_blocks(way):
    return np.mean([a.mean() - b.mean() for a, b in way])


def blocked_one_sided(blocks):
    found = _ways(blocks, _mean_of_blocks)
    return float((found >= found[0] - 1e-9).mean())


def blocked_strict(blocks):
    found = abs(_ways(blocks, _mean_of_blocks))
    return float((found > found[0] + 1e-9).mean())


def blocked_pooled(blocks):
    """Permutes within blocks, but compares the means of all A and all B."""
    found = abs(
        _ways(
            blocks,
            lambda way: (
                np.concatenate([a for a, _ in way]).mean() - np.concatenate([b for _, b in way]).mean()
            ),
        )
    )
    return float((found >= found[0] - 1e-9).mean())


def blocked_nowhere(blocks):
    """Permutes across blocks."""
    a, b = (list(itertools.chain(*side)) for side in zip(*blocks, strict=True))
    return blocked_p([[a, b]])


def blocked_cases(rng):
    cases = [
        [[[[3, 1], [6, 7, 5]], [[22, 24, 20], [25, 27]]]],
        [[[[5], [5]], [[5], [5]]]],
        [[[[9, 8], [4, 2]]]],
        [[[[1], [2, 3, 4]], [[11, 12, 13], [15]], [[30, 31], [29, 34]]]],
    ]
    for sizes in (((2, 3), (3, 1), (1, 2)), ((3, 2), (2, 4)), ((1, 1), (2, 1), (1, 3), (2, 2))):
        blocks = []
        for a, b in sizes:
            base = int(rng.integers(0, 60))
            blocks.append(
                [(base + rng.integers(0, 9, a)).tolist(), (base + 3 + rng.integers(0, 9, b)).tolist()]
            )
        cases.append([blocks])
    return cases


def influence(effects, reach):
    """Return the places of the runs on which the verdict hangs.

    effects: list of n floats, n ≥ 3, an effect in each run. The verdict of m runs is +1 if the interval,
    mean ± reach[m] standard errors, lies above 0, −1 if it lies below, else 0; a
    standard error is the standard deviation, with m − 1 in the variance, divided by √m. A run is influential
    if the verdict without it, of the n − 1 others, is another one than that of all. Returns a list of ints.
    """

    def verdict(values):
        values = np.array(values)
        half = reach[len(values)] * values.std(ddof=1) / len(values) ** 0.5
        return int(values.mean() > half) - int(values.mean() < -half)

    whole = verdict(effects)
    return [i for i in range(len(effects)) if verdict(effects[:i] + effects[i + 1 :]) != whole]


def _verdict(values, reach, n):
    half = reach * np.std(values, ddof=1) / n**0.5
    return int(np.mean(values) > half) - int(np.mean(values) < -half)


def influence_old_reach(effects, reach):
    n = len(effects)
    return influence(effects, [0.0, 0.0, *[reach[n]] * (n - 1)])


def influence_zeroed(effects, reach):
    n, whole = len(effects), _verdict(effects, reach[len(effects)], len(effects))
    return [
        i
        for i in range(n)
        if _verdict([0.0 if j == i else v for j, v in enumerate(effects)], reach[n], n) != whole
    ]


def influence_sign(effects, reach):
    n, whole = len(effects), np.sign(np.mean(effects))
    return [i for i in range(n) if np.sign(np.mean(effects[:i] + effects[i + 1 :])) != whole]


def influence_lost_only(effects, reach):
    whole = _verdict(effects, reach[len(effects)], len(effects))
    return influence(effects, reach) if whole else []


def influence_cases(rng):
    cases = [
        [[1.0, 1.1, 0.9, 1.0, -0.8], REACH],  # without the last one the others agree
        [[0.9, 0.4, 1.1, 0.2, 0.8, 0.5], REACH],
        [[1.0, 1.2, 0.9], REACH],
        [[-0.5, -0.4, -0.7, -0.1, -0.55, -0.05], REACH],
        [[0.6, 0.5, 0.2, 0.55], REACH],  # found by four, not by some three
    ]
    return cases + [[rng.normal(0.75, 1, n).tolist(), REACH] for n in (6, 9)]


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
        "11.runs_needed",
        points=2,
        reference=runs_needed,
        cases=needed_cases,
        mutants={
            "takes the standard deviation of the runs for the standard error of their mean": needed_with(
                lambda effects, n: effects.std(dim=1)
            ),
            "takes 1.96 standard errors, however few the runs": needed_by_gauss,
            "counts intervals that lie on either side of 0, or on none": needed_with(
                lambda effects, n: effects.std(dim=1) / n**0.5, lambda low: low > -1
            ),
            "returns the largest number tried where even that is not enough": needed_last,
        },
        hints=(
            "For one n: noise[:, :n] + true are the effects of all experiments at once, a row each.",
            "The lower end is mean − reach[n] · std / √n, with n − 1 in the variance (torch's default).",
        ),
    ),
    Exercise(
        "11.planned_verdict",
        points=1,
        reference=planned_verdict,
        cases=planned_cases,
        mutants={
            "stops as soon as the interval excludes 0": planned_peeking,
            "uses all runs, also those that nobody had planned": planned_extended,
            "adds the unplanned runs when the planned ones leave it undecided": planned_then_more,
            "knows no negative effect": planned_one_sided,
            "takes the last runs instead of the first": planned_last,
        },
        hints=(
            "How often does it look at the data before it has what the plan asked for?",
            "Without an effect, each look is one more chance of a false alarm. One look is enough.",
        ),
        given=planned_peeking,
    ),
    Exercise(
        "11.influence",
        points=2,
        reference=influence,
        cases=influence_cases,
        mutants={
            "takes the reach of n runs for n − 1": influence_old_reach,
            "sets a run to 0 instead of leaving it out": influence_zeroed,
            "asks only whether the mean changes its sign": influence_sign,
            "does not see that leaving out a run can also decide what was undecided": influence_lost_only,
        },
        hints=(
            "Write the verdict of a list first, then ask for it n + 1 times.",
            "effects[:i] + effects[i + 1 :] leaves out run i: n − 1 runs, with a reach of their own.",
        ),
    ),
    Exercise(
        "11.blocked_p",
        points=3,
        reference=blocked_p,
        cases=blocked_cases,
        mutants={
            "counts statistics on one side only": blocked_one_sided,
            "leaves out the ways that are exactly as extreme, the observed one too": blocked_strict,
            "compares the mean of all A with the mean of all B": blocked_pooled,
            "exchanges numbers between blocks": blocked_nowhere,
        },
        hints=(
            "itertools.combinations(range(a + b), a) gives all ways of calling a of a block's numbers A.",
            "Make a list of each block's differences, one a way; itertools.product combines the blocks.",
            "The first combination of each block is the observed one.",
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
    Exercise(
        "11.stratified_split",
        points=2,
        reference=stratified_split,
        cases=split_cases,
        mutants={
            "takes the share of all images, whatever their class": split_plain,
            "leaves a small class without validation images, or without training images": split_rounded,
            "takes the images in the order of the files": split_unshuffled,
            "takes equally many of each class": split_equal,
        },
        hints=(
            "Go through the places in the given order and collect them class by class.",
            "Of n images take min(max(round(share · n), 1), n − 1): with n = 1 that is none.",
        ),
    ),
]
