"""Numbers that say how good a model is, and how sure one can be of it."""

import math
import statistics
from typing import NamedTuple

from cnnlib.errors import ParameterError


class MeanSd(NamedTuple):
    """Mean and sample standard deviation of one measurement repeated over seeds."""

    mean: float
    sd: float
    runs: int

    def __format__(self, spec):
        """Format both numbers alike: f"{result:.2f}" is "98.71 ± 0.08", f"{result:.1%}" "98.7 ± 0.1 %"."""
        if spec.endswith("%"):
            scaled = MeanSd(100 * self.mean, 100 * self.sd, self.runs)
            return f"{scaled:{spec[:-1]}f} %"
        return f"{self.mean:{spec}} ± {self.sd:{spec}}"


def mean_sd(values):
    """Return the mean and the sample standard deviation (n − 1) of a measurement over seeds.

    Args:
        values: at least one finite number, one a seed. The deviation of a single one is 0.

    Returns:
        MeanSd

    Raises:
        ParameterError: no values, or one that is not finite.
    """
    values = [float(v) for v in values]
    if not values or not all(map(math.isfinite, values)):
        raise ParameterError(f"mean_sd needs one or more finite numbers, not {values}")
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    return MeanSd(statistics.fmean(values), sd, len(values))


def wilson_interval(correct, total, z=1.96):
    """Return the Wilson score interval of a proportion, such as an accuracy on `total` images.

    Args:
        correct: number of successes, 0 to total.
        total: number of trials, at least 1.
        z: standard normal quantile; 1.96 gives 95 % coverage.

    Returns:
        (low, high): two floats between 0 and 1.

    Raises:
        ParameterError: counts outside those ranges.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    First built in: notebooks/03_mnist_cnn.ipynb
    """
    if total < 1 or not 0 <= correct <= total:
        raise ParameterError(f"{correct} correct of {total}: need total >= 1 and 0 <= correct <= total")
    p = correct / total
    center = (p + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    return max(0.0, center - half), min(1.0, center + half)
