"""Numbers that say how good a model is, and how sure one can be of it."""

import math
import re
import statistics
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from cnnlib.ground.errors import ParameterError, check_positive, check_whole


class Estimate(float):
    """The mean of one measurement that was repeated over seeds, with its standard error.

    It is a float, the mean, and computes as one. f"{estimate:.1%}" is "98.7 ± 0.1 % (n = 5)".

    Attributes:
        mean: float.
        se: its standard error, the sample standard deviation / √n; NaN where n is 1.
        n: how many values it is the mean of.
    """

    def __new__(cls, mean, se, n):
        self = super().__new__(cls, mean)
        self.se, self.n = float(se), int(n)
        return self

    def __getnewargs__(self):  # pickle and copy build it by these
        return float(self), self.se, self.n

    @property
    def mean(self):
        return float(self)

    def short(self, spec):
        """Return mean and standard error in one format, without n: "98.7 ± 0.1 %"."""
        spec = without_minus_zero(spec)
        scale, number, end = (100, spec[:-1] + "f", " %") if spec.endswith("%") else (1, spec, "")
        error = f" ± {scale * self.se:{number.lstrip('+')}}" if self.n > 1 else ""
        return f"{scale * float(self):{number}}{error}{end}"

    def __format__(self, spec):
        return f"{self.short(spec)} (n = {self.n})"

    def __repr__(self):
        return f"{self:.4g}"


def without_minus_zero(spec):
    """Return the format of a float that shows what rounds to zero without a minus: "0.0", "+0.0"."""
    sign = re.match(r"(.?[<>=^])?[-+ ]?", spec).end()
    return spec if "z" in spec else f"{spec[:sign]}z{spec[sign:]}"


def mean_se(values):
    """Return the mean of a measurement over seeds, with its standard error.

    Two means differ by more than noise when the difference is several times √(se₁² + se₂²); of runs that
    share their seeds take the differences first, run by run, and then their mean.

    Args:
        values: at least one finite number, one a seed.

    Returns:
        Estimate

    Raises:
        ParameterError: no values, or one that is not finite.
    """
    given = values = _array(values)
    try:
        values = [] if isinstance(values, (str, dict)) else [float(v) for v in values]
    except (TypeError, ValueError):  # one number alone, words, rows of numbers
        values = []
    if not values or not all(map(math.isfinite, values)):
        raise ParameterError(f"mean_se needs one or more finite numbers, not {values or given!r:.200}")
    se = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(statistics.fmean(values), se, len(values))


def wilson_interval(correct, total, z=1.96):
    """Return the Wilson score interval of a proportion, such as an accuracy on `total` images.

    Args:
        correct: number of successes, 0 to total.
        total: number of trials, at least 1.
        z: standard normal quantile; 1.96 gives 95 % coverage.

    Returns:
        (low, high): two floats between 0 and 1.

    Raises:
        ParameterError: counts outside those ranges or no whole numbers, or z not above 0.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    First built in: notebooks/03_mnist_cnn.ipynb
    """
    given = f"{correct} correct of {total}"
    try:
        correct, total, z = float(correct), float(total), float(z)
    except (RuntimeError, TypeError, ValueError):
        raise ParameterError(f"{given}, z = {z!r}: they must be numbers") from None
    if not 1 <= total < math.inf or not 0 <= correct <= total:  # written so that NaN fails too
        raise ParameterError(f"{given}: need total >= 1 and 0 <= correct <= total")
    if not (correct.is_integer() and total.is_integer()):
        raise ParameterError(
            f"{given}: they must be counts, whole numbers; of an accuracy give round(accuracy * total)"
        )
    if not 0 < z < math.inf:
        raise ParameterError(f"z is {z!r}; it must be a finite number above 0, such as 1.96")
    p = correct / total
    center = (p + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    # Rounding must not push the interval past the proportion itself, which at 0 and 1 is one of its ends.
    return min(p, max(0.0, center - half)), max(p, min(1.0, center + half))


def confusion_matrix(labels, predictions, num_classes):
    """Count how often each class was predicted as each class.

    Args:
        labels: (N,) int64, the true classes, 0 to num_classes − 1.
        predictions: (N,) int64, the predicted classes.
        num_classes: int K, at least 1.

    Returns:
        (K, K) int64 tensor: row = label, column = prediction, so that a row sums to the class's images
        and the diagonal holds the correct ones.

    Raises:
        ParameterError: tensors of other shapes or dtypes, or a class outside the range.

    First built in: notebooks/04_reading_results.ipynb
    """
    labels, predictions = _tensor("labels", labels), _tensor("predictions", predictions)
    num_classes = check_whole("num_classes", num_classes)
    for name, value in (("labels", labels), ("predictions", predictions)):
        if value.dtype != torch.int64 or value.ndim != 1 or len(value) != len(labels):
            raise ParameterError(
                f"{name} are {value.dtype} of shape {tuple(value.shape)}; labels and predictions must both "
                "be int64 of shape (N,): classes, not logits; .long() makes whole numbers int64"
            )
        if len(value) and not 0 <= int(value.min()) <= int(value.max()) < num_classes:
            raise ParameterError(
                f"{name} go from {int(value.min())} to {int(value.max())}; with num_classes={num_classes} "
                f"they must lie between 0 and {num_classes - 1}"
            )
    pairs = num_classes * labels + predictions  # one number for each (label, prediction)
    return torch.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


class Calibration(NamedTuple):
    """A reliability diagram's numbers, one entry a bin of confidence; empty bins hold nan."""

    confidence: torch.Tensor  # (bins,) mean confidence of the bin's predictions
    accuracy: torch.Tensor  # (bins,) share of them that is correct
    count: torch.Tensor  # (bins,) how many they are
    ece: float  # expected calibration error, 0 to 1


def calibration(logits, labels, bins=15):
    """Compare a classifier's confidence with its accuracy, bin by bin.

    A prediction's confidence is its largest softmax probability. The bins are of equal width on
    (0, 1]. The expected calibration error (ECE) is the mean over all predictions of the gap between
    their bin's accuracy and confidence.

    Args:
        logits: (N, K) float, N at least 1.
        labels: (N,) int64.
        bins: int, at least 1.

    Returns:
        Calibration: confidence, accuracy, count (each (bins,)) and ece.

    Raises:
        ParameterError: logits and labels that do not fit together, a logit that is not finite, or `bins`
            below 1.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", eq. 3.
    First built in: notebooks/04_reading_results.ipynb
    """
    logits, labels = _logits_and_labels(logits, labels)
    bins = check_whole("bins", bins)
    confidence, prediction = logits.softmax(dim=1).max(dim=1)  # (N,) each
    correct = (prediction == labels).double()
    bin_of = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)  # (0, 1/bins] is bin 0
    count, total_confidence, total_correct = (
        torch.bincount(bin_of, weights=w, minlength=bins) for w in (None, confidence, correct)
    )
    ece = (total_correct - total_confidence).abs().sum().item() / len(labels)
    return Calibration(total_confidence / count, total_correct / count, count, ece)


def expected_calibration_error(logits, labels, bins=15):
    """Return the expected calibration error alone; see `calibration`."""
    return calibration(logits, labels, bins).ece


def fit_temperature(logits, labels):
    """Return the temperature T for which logits / T have the smallest cross-entropy.

    Dividing by T leaves every prediction as it is and changes the confidence: T > 1 lowers it. In
    1/T the cross-entropy is convex, so its derivative changes sign once; bisection finds where.

    Args:
        logits: (N, K) float of a validation set, on which the model was not trained.
        labels: (N,) int64.

    Returns:
        float above 0.

    Raises:
        ParameterError: logits and labels that do not fit together, a logit that is not finite, probabilities
            in their place, or no best temperature: every prediction is correct (the best T is 0), or they are
            no better than chance.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", sec. 4.2.
    First built in: notebooks/04_reading_results.ipynb
    """
    logits, labels = _logits_and_labels(logits, labels)
    sums_to_1 = (logits >= 0).all() and (logits.sum(dim=1) - 1).abs().max() < 1e-3
    if logits.shape[1] > 1 and sums_to_1 and (logits % 1).any():
        raise ParameterError(
            "the logits are probabilities: none is negative, and each row sums to 1; give the last layer's "
            "output before its softmax, or probabilities.log()"
        )
    true_logit = logits.gather(1, labels[:, None]).mean()
    if not logits.mean() < true_logit < logits.max(dim=1).values.mean():
        reason = "no better than chance" if true_logit <= logits.mean() else "all correct"
        raise ParameterError(
            f"these {len(labels)} predictions are {reason}, so no temperature is best; give fit_temperature "
            "the logits of a trained model on a validation set that holds some of its mistakes"
        )

    def overconfident(log_t):
        """Whether the cross-entropy's derivative by 1/T is positive, as it is below the best T."""
        expected = ((logits / math.exp(log_t)).softmax(dim=1) * logits).sum(dim=1).mean()
        return bool(expected > true_logit)

    for bound in (5.0, 20.0, 80.0):  # of ln T: logits of a usual scale lie well within the first
        if overconfident(-bound) and not overconfident(bound):
            break
    else:
        raise ParameterError(
            f"no temperature from e^-80 to e^80 is best for these {len(labels)} predictions: but for "
            "rounding, they are all correct or no better than chance; give fit_temperature other ones"
        )
    low, high = -bound, bound
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if overconfident(middle) else (low, middle)
    return math.exp(middle)


class PairedDifference(NamedTuple):
    """The difference of two models' accuracies on the same images, with its interval."""

    difference: float
    low: float
    high: float


def paired_bootstrap(correct_a, correct_b, level=0.95, resamples=10_000, seed=0):
    """Return model A's accuracy minus model B's on the same images, with a percentile interval.

    Images are drawn with replacement, each with both models' results, so that what makes an image
    hard for both cancels. Only three kinds of image matter (A alone correct, B alone correct, neither
    alone), so drawing their counts from a multinomial distribution equals drawing the images.

    The interval is about other images for these two trained models. It says nothing about what other
    seeds would have given: repeat the training for that.

    Args:
        correct_a: (N,) bool, whether A is correct on each image.
        correct_b: (N,) bool, the same for B, in the same order.
        level: the interval's nominal coverage, between 0 and 1.
        resamples: how many test sets are drawn, at least 1.
        seed: int.

    Returns:
        PairedDifference: difference, low, high, as shares of 1.

    Raises:
        ParameterError: other shapes or dtypes, no images, `level` or `resamples` outside the range.

    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", ch. 13 (percentile interval).
    First built in: notebooks/04_reading_results.ipynb
    """
    only_a, only_b, n = _discordant(correct_a, correct_b)
    if not 0 < check_positive("level", level, zero=True) < 1:
        raise ParameterError(f"level is {level!r}; level must lie between 0 and 1")
    resamples, seed = check_whole("resamples", resamples), check_whole("seed", seed, least=0)
    shares = [only_a / n, only_b / n, 1 - (only_a + only_b) / n]
    draws = np.random.default_rng(seed).multinomial(n, shares, size=resamples)  # (resamples, 3)
    differences = (draws[:, 0] - draws[:, 1]) / n
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return PairedDifference((only_a - only_b) / n, float(low), float(high))


def mcnemar(correct_a, correct_b):
    """Return the exact p-value for "on images like these, A and B are equally often correct".

    Images on which both are correct, or both wrong, say nothing about which is better. Of the others
    each should favour A or B with probability one half, as a fair coin does.

    Args:
        correct_a: (N,) bool, whether A is correct on each image.
        correct_b: (N,) bool, the same for B, in the same order.

    Returns:
        float in (0, 1]: the two-sided p-value; 1 where the two never differ.

    Raises:
        ParameterError: other shapes or dtypes, or no images.

    Source: McNemar 1947, "Note on the Sampling Error of the Difference between Correlated Proportions
        or Percentages"; here with the exact binomial distribution.
    First built in: notebooks/04_reading_results.ipynb
    """
    only_a, only_b, _ = _discordant(correct_a, correct_b)
    flips = only_a + only_b
    log_all = math.lgamma(flips + 1) - flips * math.log(2)
    tail = (math.exp(log_all - math.lgamma(k + 1) - math.lgamma(flips - k + 1)) for k in range(flips + 1))
    return min(1.0, 2 * sum(islice(tail, min(only_a, only_b) + 1)))


def _discordant(correct_a, correct_b):
    """Return how many images only A has right, how many only B, and how many there are."""
    correct_a, correct_b = _tensor("correct_a", correct_a), _tensor("correct_b", correct_b)
    for name, value in (("correct_a", correct_a), ("correct_b", correct_b)):
        if value.dtype != torch.bool or value.ndim != 1 or not len(value) or len(value) != len(correct_a):
            raise ParameterError(
                f"{name} is {value.dtype} of shape {tuple(value.shape)}; both must be bool of one shape "
                "(N,), N > 0: whether each of the same images was predicted correctly"
            )
    only_a, only_b = (int(mask.sum()) for mask in (correct_a & ~correct_b, correct_b & ~correct_a))
    return only_a, only_b, len(correct_a)


def _array(value):
    """Return a table or a column of pandas as an array: torch would look its values up by their labels."""
    return value.to_numpy(copy=True) if hasattr(value, "to_numpy") else value


def _tensor(name, value):
    """Return a tensor, an array, a column of pandas or a list of numbers as a tensor on the CPU."""
    try:
        return torch.as_tensor(_array(value)).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ParameterError(
            f"{name} are {value!r:.80}; they must be a tensor, or a list of numbers of one shape"
        ) from None


def _logits_and_labels(logits, labels):
    """Check that they fit together, and return them on the CPU, the logits in double precision."""
    logits, labels = _tensor("logits", logits), _tensor("labels", labels)
    if logits.dtype == torch.bool or logits.is_complex():
        raise ParameterError(f"logits are {logits.dtype}; they must be real numbers, not answers")
    shapes = f"logits are {tuple(logits.shape)}, labels {labels.dtype} of shape {tuple(labels.shape)}"
    if logits.ndim != 2 or not len(logits) or labels.dtype != torch.int64 or labels.shape != logits.shape[:1]:
        raise ParameterError(
            f"{shapes}; they must be (N, K) and int64 of shape (N,), N > 0; .long() makes whole numbers int64"
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
        raise ParameterError(
            f"labels go from {int(labels.min())} to {int(labels.max())}, but there are {logits.shape[1]} "
            f"logits, for labels 0 to {logits.shape[1] - 1}"
        )
    if not logits.isfinite().all():
        images = (~logits.isfinite()).any(dim=1).nonzero().flatten().tolist()
        raise ParameterError(
            f"the logits of {len(images)} of {len(logits)} images hold NaN or an infinite number, first "
            f"those of image {images[0]}; look for where the model's training diverged"
        )
    return logits.double(), labels
