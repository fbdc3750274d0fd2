"""Exercises of lesson 04, reading results."""

import numpy as np
import torch
import torch.nn.functional as F

from cnnlib.course.exercises import Exercise, normal


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


def brier_score(logits, labels):
    """Return the Brier score: the mean over the images of the squared distance of the probabilities.

    The distance is between the softmax probabilities of all K classes and a vector that has 1 at
    the label and 0 elsewhere: 0 is perfect, 2 is certain and wrong (Brier 1950).
    logits: (N, K) float tensor; labels: (N,) int64 tensor. Returns a float.
    """
    truth = F.one_hot(labels, logits.shape[1])
    return (logits.softmax(dim=1) - truth).square().sum(dim=1).mean().item()


def brier_mean(logits, labels):
    return brier_score(logits, labels) / logits.shape[1]


def brier_label_only(logits, labels):
    p = logits.softmax(dim=1).gather(1, labels[:, None])
    return (1 - p).square().mean().item()


def brier_root(logits, labels):
    truth = F.one_hot(labels, logits.shape[1])
    return (logits.softmax(dim=1) - truth).norm(dim=1).mean().item()


def brier_logits(logits, labels):
    return (logits - F.one_hot(labels, logits.shape[1])).square().sum(dim=1).mean().item()


def brier_cases(rng):
    cases = [[torch.tensor([[40.0, -40.0], [40.0, 0.0]]), torch.tensor([0, 1])]]
    for n, k in ((1, 3), (6, 10), (20, 4)):
        cases.append([2 * normal(rng, n, k), torch.from_numpy(rng.integers(0, k, n))])
    return cases


def macro_f1(labels, predictions, num_classes):
    """Return the F1 score of each class, averaged over the classes with equal weight.

    F1 of a class is 2 TP / (2 TP + FP + FN): TP images of the class were found, FN were missed,
    FP images of other classes were taken for it. A class without any of the three has F1 = 0.
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
            "TP is where both are True. The sum of both counts is 2 TP + FP + FN.",
            "Average over range(num_classes), whether or not a class occurs.",
        ),
    ),
    Exercise(
        "04.brier_score",
        1,
        brier_score,
        brier_cases,
        {
            "divides by the number of classes, too": brier_mean,
            "looks only at the probability of the label": brier_label_only,
            "takes the distance and not its square": brier_root,
            "forgets the softmax": brier_logits,
        },
        (
            "Turn logits into probabilities first, (N, K), and the labels into vectors of 0 and 1.",
            "F.one_hot makes those vectors. Sum the squares over the classes, average over the images.",
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
]
