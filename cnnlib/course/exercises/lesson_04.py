"""Exercises of lesson 04, reading results."""

import math

import numpy as np
import torch

from cnnlib.course.exercises import Exercise
from cnnlib.measure import wilson_interval


def zero_mistakes(total, level):
    """Return the largest error rate that is compatible with no mistake among `total` images.

    An error rate is compatible when a model that has it makes no mistake on `total` random images
    with a probability of at least 1 − level. total: int ≥ 1; level: float between 0 and 1, such
    as 0.95. Returns a float.
    """
    return 1 - (1 - level) ** (1 / total)


def zero_three(total, level):
    return min(3 / total, 1.0)


def zero_level(total, level):
    return 1 - level ** (1 / total)


def zero_wilson(total, level):
    return 1.96**2 / (total + 1.96**2)


def zero_one_image(total, level):
    return (1 - level) / total


def zero_cases(rng):
    drawn = [[int(rng.integers(20, 3000)), float(rng.uniform(0.7, 0.9))] for _ in range(4)]
    return [[1500, 0.95], [10, 0.99], [1, 0.5], *drawn]


def rarest_class(recall, false_alarms, precision):
    """Return the smallest share of positives at which a detector reaches a precision.

    recall: share of the positives to which it says yes, above 0. false_alarms: share of the
    negatives to which it says yes, from 0 on. precision: what is asked for, between 0 and 1. None of
    the two shares changes when a class gets rarer. All are floats. Returns a float from 0 to 1.
    """
    return precision * false_alarms / (precision * false_alarms + recall * (1 - precision))


def rarest_odds(recall, false_alarms, precision):
    return precision * false_alarms / (recall * (1 - precision))


def rarest_exchanged(recall, false_alarms, precision):
    return rarest_class(false_alarms, recall, precision) if false_alarms else 1.0


def rarest_proportional(recall, false_alarms, precision):
    balanced = recall / (recall + false_alarms)
    return min(1.0, 0.5 * precision / balanced)


def rarest_negatives(recall, false_alarms, precision):
    return 1 - rarest_class(recall, false_alarms, precision)


def rarest_cases(rng):
    drawn = [[float(v) for v in rng.uniform((0.5, 0.01, 0.3), (0.99, 0.2, 0.95))] for _ in range(4)]
    return [[0.8, 0.1, 0.5], [1.0, 1.0, 0.25], [0.6, 0.0, 0.9], *drawn]


def average_precision(scores, is_one):
    """Return the average precision of scores, of which several may be equal.

    A threshold says yes to every image whose score is at least as high; lower it from one score to
    the next. The average precision is the sum over all thresholds of the precision at the threshold
    times the rise of the recall since the threshold before (at first, since 0). It depends on the
    scores and not on the order in which the images come.
    scores: (N,) float tensor; is_one: (N,) bool tensor, at least one True. Returns a float.
    """
    _, place = scores.unique(return_inverse=True)
    answered = place.bincount().flip(0).cumsum(dim=0)
    found = place.bincount(weights=is_one.double()).flip(0).cumsum(dim=0)
    rise = found.diff(prepend=torch.zeros(1)) / found[-1]
    return (rise * found / answered).sum().item()


def ap_by_order(scores, is_one):
    hits = is_one[scores.argsort(descending=True, stable=True)].double()
    answered = torch.arange(1, len(hits) + 1)
    precision = hits.cumsum(dim=0) / answered
    return (precision * hits).sum().item() / hits.sum().item()


def ap_hits_first(scores, is_one):
    order = is_one.int().argsort(descending=True, stable=True)
    return ap_by_order(scores[order], is_one[order])


def ap_mean_precision(scores, is_one):
    _, place = scores.unique(return_inverse=True)
    answered = place.bincount().flip(0).cumsum(dim=0)
    found = place.bincount(weights=is_one.double()).flip(0).cumsum(dim=0)
    return (found / answered).mean().item()


def ap_ascending(scores, is_one):
    return average_precision(-scores, is_one)


def ap_cases(rng):
    scores = torch.tensor([0.9, 0.5, 0.5, 0.5, 0.5, 0.2])
    cases = [[scores, torch.tensor([True, False, True, True, False, False])]]
    cases.append([torch.full((5,), 0.3), torch.tensor([False, False, False, True, True])])
    for n in (12, 40, 100):
        is_one = np.arange(n) % 3 == 0
        score = np.where(is_one, rng.random(n) ** 0.5, rng.random(n))
        cases.append([torch.from_numpy(np.round(score, 1)).float(), torch.from_numpy(is_one)])
    return cases


def macro_f1(labels, predictions, num_classes):
    """Return the F1 score of each class, averaged over the classes with equal weight.

    F1 of a class is the harmonic mean of its recall and its precision. It is 0 where one of them is 0
    or is not defined, because no image has the class or none was taken for it.
    labels, predictions: (N,) int64 tensors; num_classes: int. Returns a float.
    """
    scores = []
    for k in range(num_classes):
        true, found = labels == k, predictions == k
        tp = int((true & found).sum())
        counted = int(true.sum()) + int(found.sum())  # = 2 TP + FP + FN
        scores.append(2 * tp / counted if counted else 0.0)
    return sum(scores) / num_classes


def f1_micro(labels, predictions, num_classes):
    return (labels == predictions).double().mean().item()


def f1_weighted(labels, predictions, num_classes):
    total = 0.0
    for k in range(num_classes):
        true, found = labels == k, predictions == k
        counted = int(true.sum()) + int(found.sum())
        total += int(true.sum()) * 2 * int((true & found).sum()) / max(counted, 1)
    return total / len(labels)


def f1_present(labels, predictions, num_classes):
    return macro_f1(labels, predictions, num_classes) * num_classes / len(labels.unique())


def f1_of_means(labels, predictions, num_classes):
    recalls, precisions = [], []
    for k in range(num_classes):
        true, found = labels == k, predictions == k
        tp = int((true & found).sum())
        recalls.append(tp / max(int(true.sum()), 1))
        precisions.append(tp / max(int(found.sum()), 1))
    recall, precision = sum(recalls) / num_classes, sum(precisions) / num_classes
    return 2 * recall * precision / max(recall + precision, 1e-12)


def f1_cases(rng):
    fixed = [[0, 0, 0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 2, 1, 0, 2]]
    cases = [[*(torch.tensor(x) for x in fixed), 5]]
    for n, k in ((12, 3), (50, 10), (7, 2)):
        labels = rng.integers(0, k, n)
        noisy = np.where(rng.random(n) < 0.4, rng.integers(0, k, n), labels)
        cases.append([torch.from_numpy(labels), torch.from_numpy(noisy), k])
    return cases


def equal_mass_ece(confidence, correct, bins):
    """Return the expected calibration error with bins that hold equally many images.

    Sort the images by confidence and cut them into `bins` groups, from the least sure on; of N
    images the first N % bins groups get one more than the others. The error is the mean over the
    images of |accuracy − mean confidence| of their group.
    confidence: (N,) float tensor without ties, N ≥ bins; correct: (N,) bool tensor; bins: int.
    Returns a float.
    """
    order = confidence.argsort()
    pairs = zip(confidence[order].tensor_split(bins), correct[order].tensor_split(bins), strict=True)
    gaps = [len(c) * (c.double().mean() - p.double().mean()).abs() for p, c in pairs]
    return (sum(gaps) / len(confidence)).item()


def ece_equal_width(confidence, correct, bins):
    index = (confidence * bins).long().clamp(max=bins - 1)
    total = 0.0
    for k in index.unique():
        inside = index == k
        gap = correct[inside].double().mean() - confidence[inside].double().mean()
        total += inside.sum().item() * abs(gap.item())
    return total / len(confidence)


def ece_unsorted(confidence, correct, bins):
    pairs = zip(confidence.tensor_split(bins), correct.tensor_split(bins), strict=True)
    gaps = [len(c) * (c.double().mean() - p.double().mean()).abs() for p, c in pairs]
    return (sum(gaps) / len(confidence)).item()


def ece_signed(confidence, correct, bins):
    return (correct.double().mean() - confidence.double().mean()).abs().item()


def ece_of_groups(confidence, correct, bins):
    order = confidence.argsort()
    pairs = zip(confidence[order].tensor_split(bins), correct[order].tensor_split(bins), strict=True)
    return (sum((c.double().mean() - p.double().mean()).abs() for p, c in pairs) / bins).item()


def ece_cases(rng):
    fixed = torch.tensor([0.95, 0.6, 0.9, 0.55, 0.99, 0.7, 0.97])
    right = torch.tensor([False, True, True, True, False, False, True])
    cases = [[fixed, right, 3], [fixed, right, 7]]
    for n, bins in ((11, 4), (50, 15), (203, 10)):
        confidence = torch.from_numpy(0.5 + (rng.permutation(n) + rng.random(n)) / (2 * n))
        cases.append([confidence.float(), torch.from_numpy(rng.random(n) < 0.7), bins])
    return cases


def guaranteed_threshold(confidence, correct, target):
    """Return the threshold that answers most images and guarantees the target.

    A network answers an image when its confidence is at least the threshold. A threshold guarantees
    the target when the accuracy on the images that it answers has a 95 % Wilson interval whose lower
    end is at least the target. Try every confidence that occurs; several images may share one.
    confidence: (N,) float tensor; correct: (N,) bool tensor; target: float. Returns a float;
    math.inf, which answers nothing, where no threshold guarantees the target.
    """
    for threshold in confidence.unique():  # from the smallest on, which answers most
        right = correct[confidence >= threshold]
        if wilson_interval(int(right.sum()), len(right))[0] >= target:
            return threshold.item()
    return math.inf


def guaranteed_measured(confidence, correct, target):
    for threshold in confidence.unique():
        if correct[confidence >= threshold].double().mean() >= target:
            return threshold.item()
    return math.inf


def guaranteed_first(confidence, correct, target):
    best = math.inf
    for threshold in confidence.unique().flip(0):
        right = correct[confidence >= threshold]
        good = wilson_interval(int(right.sum()), len(right))[0] >= target
        if not good and best < math.inf:
            break
        best = threshold.item() if good else best
    return best


def guaranteed_split_ties(confidence, correct, target):
    order = confidence.argsort(descending=True, stable=True)
    right = correct[order].cumsum(dim=0).tolist()
    lows = [wilson_interval(k, i)[0] for i, k in enumerate(right, start=1)]
    good = [i for i, low in enumerate(lows) if low >= target]
    return confidence[order[good[-1]]].item() if good else math.inf


def guaranteed_fewest(confidence, correct, target):
    for threshold in confidence.unique().flip(0):
        right = correct[confidence >= threshold]
        if wilson_interval(int(right.sum()), len(right))[0] >= target:
            return threshold.item()
    return math.inf


def guaranteed_anyway(confidence, correct, target):
    found = guaranteed_threshold(confidence, correct, target)
    return confidence.max().item() if found == math.inf else found


def guaranteed_cases(rng):
    tied = torch.tensor([1.0] * 30 + [0.9] * 20)
    right = torch.tensor([True] * 47 + [False] * 3)
    cases = [[tied, right, 0.87], [torch.tensor([0.9, 0.8, 0.7]), torch.tensor([True] * 3), 0.9]]
    late = torch.ones(200, dtype=torch.bool)
    late[40:50] = False  # after the mistakes the guarantee is lost, and comes back
    cases.append([1 - torch.arange(200) / 256, late, 0.9])
    for n in (80, 300):
        confidence = np.round(0.5 + rng.random(n) / 2, 2)
        correct = rng.random(n) < np.clip(2.4 * confidence - 1.1, 0, 0.99)
        cases.append([torch.from_numpy(confidence).float(), torch.from_numpy(correct), 0.8])
    return cases


def risk_coverage_area(confidence, correct):
    """Return the mean error rate of a network that refuses, over all the coverages that it can have.

    Sort the images from the surest to the least sure. With coverage k/N the network answers the k
    surest; its risk is the error rate on those. Return the mean risk over k = 1, …, N.
    confidence: (N,) float tensor without ties; correct: (N,) bool tensor. Returns a float.
    """
    wrong = (~correct)[confidence.argsort(descending=True)].double()
    answered = torch.arange(1, len(wrong) + 1)
    return (wrong.cumsum(dim=0) / answered).mean().item()


def area_ascending(confidence, correct):
    return risk_coverage_area(-confidence, correct)


def area_unsorted(confidence, correct):
    return risk_coverage_area(-torch.arange(len(correct)), correct)


def area_accuracy(confidence, correct):
    return 1 - risk_coverage_area(confidence, correct)


def area_of_all(confidence, correct):
    wrong = (~correct)[confidence.argsort(descending=True)].double()
    return (wrong.cumsum(dim=0) / len(wrong)).mean().item()


def area_cases(rng):
    fixed = [torch.tensor([0.6, 0.9, 0.3, 0.8, 0.7]), torch.tensor([False, True, False, True, True])]
    cases = [fixed, [torch.tensor([0.4]), torch.tensor([False])]]
    for n in (8, 40, 200):
        confidence = torch.from_numpy(rng.permutation(n) + rng.random(n)) / n
        correct = torch.from_numpy(rng.random(n)) < confidence
        cases.append([confidence.float(), correct])
    return cases


def best_of(seen, new, k):
    """Return what the best of k networks scores on average, where it was chosen and on new images.

    Draw k of the R networks at random, no network twice, and choose the one with the largest `seen`.
    Return the mean of its `seen` and the mean of its `new` over all possible draws: exactly, although
    there may be too many to try them all.
    seen, new: lists of R floats, one a network, those in `seen` all different; k: int, 1 to R.
    Returns a list of two floats.
    """
    order = sorted(range(len(seen)), key=lambda i: seen[i])  # from the worst to the best
    draws = [math.comb(rank, k - 1) for rank in range(len(seen))]  # in which it is the best
    total = math.comb(len(seen), k)
    return [sum(w * values[i] for w, i in zip(draws, order, strict=True)) / total for values in (seen, new)]


def best_with_repetition(seen, new, k):
    r, order = len(seen), sorted(range(len(seen)), key=lambda i: seen[i])
    weights = [((rank + 1) / r) ** k - (rank / r) ** k for rank in range(r)]
    return [sum(w * values[i] for w, i in zip(weights, order, strict=True)) for values in (seen, new)]


def best_of_each(seen, new, k):
    return [best_of(seen, new, k)[0], best_of(new, new, k)[0]]


def best_of_all(seen, new, k):
    best = max(range(len(seen)), key=lambda i: seen[i])
    return [seen[best], new[best]]


def best_of_first(seen, new, k):
    best = max(range(k), key=lambda i: seen[i])
    return [seen[best], new[best]]


def best_in_groups(seen, new, k):
    groups = [range(i, min(i + k, len(seen))) for i in range(0, len(seen), k)]
    best = [max(group, key=lambda i: seen[i]) for group in groups]
    return [sum(values[i] for i in best) / len(best) for values in (seen, new)]


def best_cases(rng):
    cases = [[[0.7, 0.9, 0.8, 0.6], [0.75, 0.7, 0.85, 0.65], 2]]
    for runs, k in ((5, 3), (9, 2), (16, 8), (40, 20)):
        true = 0.8 + 0.05 * rng.standard_normal(runs)
        noisy = true + 0.05 * rng.standard_normal(runs)
        cases.append([noisy.tolist(), true.tolist(), k])
    return cases


EXERCISES = [
    Exercise(
        "04.zero_mistakes",
        1,
        zero_mistakes,
        zero_cases,
        {
            "uses the rule of three, which is an approximation for a level of 0.95": zero_three,
            "confuses the level with what is left of it": zero_level,
            "returns the end of Wilson's interval": zero_wilson,
            "divides the probability by the number of images": zero_one_image,
        },
        (
            "With the error rate p one image is right with probability 1 − p. And all of them?",
            "Solve (1 − p) ** total = 1 − level for p.",
        ),
        rtol=1e-6,
        atol=1e-9,
    ),
    Exercise(
        "04.rarest_class",
        2,
        rarest_class,
        rarest_cases,
        {
            "returns the positives for each negative, and not their share of all": rarest_odds,
            "exchanges the recall and the false alarms": rarest_exchanged,
            "lets the precision fall in proportion to the share": rarest_proportional,
            "returns the share of the negatives": rarest_negatives,
        },
        (
            "Which share of all images are positives with a yes, and which share negatives with a yes?",
            "Precision is the first, divided by the sum of both. Set it equal to what is asked for.",
            "Solve for the share of positives; multiply out first.",
        ),
        rtol=1e-6,
        atol=1e-9,
    ),
    Exercise(
        "04.average_precision",
        2,
        average_precision,
        ap_cases,
        {
            "goes by the order in which equal scores happen to come": ap_by_order,
            "puts the positives first among equal scores": ap_hits_first,
            "takes the mean of the precisions at all thresholds": ap_mean_precision,
            "says yes to the lowest scores first": ap_ascending,
        },
        (
            "Two images have the same score. Which of the two does a threshold answer first?",
            "Between the first and the last image of one score there is no threshold: such places in the "
            "sorted list must not count.",
            "scores.unique(return_inverse=True) numbers the different scores; bincount counts images and "
            "positives of each.",
        ),
        given=ap_by_order,
    ),
    Exercise(
        "04.macro_f1",
        2,
        macro_f1,
        f1_cases,
        {
            "counts all classes together (which is the accuracy)": f1_micro,
            "gives frequent classes more weight": f1_weighted,
            "leaves out the classes that no label has": f1_present,
            "computes one F1 from the mean recall and the mean precision": f1_of_means,
        },
        (
            "For class k, compare labels == k with predictions == k: two tensors of True and False.",
            "With TP where both are True, recall is TP / (labels of k), precision TP / (predictions of k). "
            "Their harmonic mean is 2 TP / (labels of k + predictions of k): one division, and one case to "
            "look after.",
            "Average over range(num_classes), whether or not a class occurs.",
        ),
    ),
    Exercise(
        "04.equal_mass_ece",
        3,
        equal_mass_ece,
        ece_cases,
        {
            "uses bins of equal width": ece_equal_width,
            "does not sort the images": ece_unsorted,
            "lets overconfidence in one group cancel the lack of it in another": ece_signed,
            "gives every group the same weight, however many images it has": ece_of_groups,
        },
        (
            "confidence.argsort() gives the order; apply it to both tensors.",
            "tensor_split cuts a tensor into the groups that the task describes.",
            "Weigh each group's |accuracy − mean confidence| with its number of images; divide by N at last.",
        ),
    ),
    Exercise(
        "04.guaranteed_threshold",
        3,
        guaranteed_threshold,
        guaranteed_cases,
        {
            "asks the measured accuracy and not the lower end for the target": guaranteed_measured,
            "gives up at the first threshold that loses the guarantee again": guaranteed_first,
            "tells images of one confidence apart": guaranteed_split_ties,
            "answers as few images as possible": guaranteed_fewest,
            "answers something although nothing is guaranteed": guaranteed_anyway,
        },
        (
            "The candidates are confidence.unique(), which come sorted.",
            "For each: which images have at least this confidence, how many are they, and how many of them "
            "are right? wilson_interval(right, total)[0] is the lower end.",
            "The smallest candidate that passes answers most. A later one may pass after an earlier one has "
            "failed, so no failure ends the search.",
        ),
    ),
    Exercise(
        "04.risk_coverage_area",
        2,
        risk_coverage_area,
        area_cases,
        {
            "answers the least sure images first": area_ascending,
            "does not sort the images": area_unsorted,
            "averages the accuracy and not the error rate": area_accuracy,
            "divides by all the images and not by those that were answered": area_of_all,
        },
        (
            "After sorting, the mistakes among the k surest are a cumulative sum.",
            "Divide the cumulative sum of the mistakes by 1, 2, …, N, then average.",
        ),
    ),
    Exercise(
        "04.best_of",
        3,
        best_of,
        best_cases,
        {
            "lets a network be drawn more than once": best_with_repetition,
            "chooses the best on the new images anew": best_of_each,
            "takes the best of all networks, whatever k is": best_of_all,
            "tries one draw only": best_of_first,
            "cuts the networks into groups of k": best_in_groups,
        },
        (
            "Sort the networks by `seen`. In how many draws is the one of rank i (0 is the worst) the best?",
            "It must be among the k, and all the others must come from the i that are worse.",
            "That is math.comb(i, k - 1) of the math.comb(R, k) draws: the weights of both means.",
        ),
        rtol=1e-6,
        atol=1e-9,
    ),
]
