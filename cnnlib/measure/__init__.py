"""Measuring and showing: claims that exclude their rivals, metrics and intervals, costs, and plots."""

from cnnlib.measure.claims import claim
from cnnlib.measure.complexity import count_macs, count_parameters, summary
from cnnlib.measure.metrics import (
    Estimate,
    calibration,
    expected_calibration_error,
    fit_temperature,
    mcnemar,
    mean_se,
    paired_bootstrap,
    wilson_interval,
)

__all__ = [
    "Estimate",
    "calibration",
    "claim",
    "count_macs",
    "count_parameters",
    "expected_calibration_error",
    "fit_temperature",
    "mcnemar",
    "mean_se",
    "paired_bootstrap",
    "summary",
    "wilson_interval",
]
