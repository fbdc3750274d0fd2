"""cnnlib.measure.metrics against closed formulas, brute force and counting by hand."""

import math
import pickle
import statistics

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from cnnlib.ground.errors import ParameterError
from cnnlib.measure.metrics import (
    calibration,
    confusion_matrix,
    expected_calibration_error,
    fit_temperature,
    mcnemar,
    mean_se,
    paired_bootstrap,
    wilson_interval,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class TestMeanSe:
    def test_matches_the_statistics_module(self):
        values = [0.98, 0.991, 0.987, 0.979]
        result = mean_se(values)
        assert result.mean == result == pytest.approx(statistics.mean(values))
        assert result.se == pytest.approx(statistics.stdev(values) / 2)
        assert result.n == 4

    def test_takes_tensors_and_arrays(self):
        for values in (torch.tensor([1.0, 3.0]), np.array([1.0, 3.0])):
            assert (mean_se(values).mean, mean_se(values).se, mean_se(values).n) == (2.0, 1.0, 2)

    def test_it_computes_as_a_number(self):
        assert mean_se([1.0, 3.0]) - 1 == 1.0
        assert max(mean_se([1.0, 3.0]), 1.5) == 2.0

    def test_it_crosses_to_another_process(self):
        there_and_back = pickle.loads(pickle.dumps(mean_se([1.0, 3.0])))
        assert (there_and_back, there_and_back.se, there_and_back.n) == (2.0, 1.0, 2)

    def test_one_run_has_no_error(self):
        assert math.isnan(mean_se([0.5]).se)
        assert f"{mean_se([0.5]):.1%}" == "50.0 % (n = 1)"

    def test_formats_both_numbers_alike(self):
        assert f"{mean_se([0.98, 0.99]):.1%}" == "98.5 ± 0.5 % (n = 2)"
        assert f"{mean_se([1.0, 3.0]):+.2f}" == "+2.00 ± 1.00 (n = 2)"
        assert mean_se([1.0, 3.0]).short(".1f") == "2.0 ± 1.0"

    @pytest.mark.parametrize(
        "values", [[], [0.5, math.nan], [math.inf], "12", ["a"], None, 3.0, {1: 2}, torch.ones(2, 2)]
    )
    def test_refuses_what_has_no_mean(self, values):
        with pytest.raises(ParameterError, match="one or more finite numbers"):
            mean_se(values)


class TestWilsonInterval:
    @pytest.mark.parametrize(("correct", "total"), [(1425, 1500), (9920, 10_000), (3, 7), (1, 1)])
    def test_its_ends_solve_the_defining_equation(self, correct, total):
        share, z = correct / total, 1.96
        for end in wilson_interval(correct, total, z):
            if 0 < end < 1:
                assert abs(share - end) == pytest.approx(z * math.sqrt(end * (1 - end) / total))

    def test_known_value(self):
        # Newcombe 1998, "Two-sided confidence intervals for the single proportion", Table I: 81 of 263.
        low, high = wilson_interval(81, 263, z=1.959964)
        assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)

    def test_no_mistake_is_no_proof(self):
        low, high = wilson_interval(1500, 1500)
        assert high == pytest.approx(1)
        assert low == pytest.approx(1500 / (1500 + 1.96**2))

    def test_it_holds_the_proportion_and_ends_exactly_at_0_and_1(self):
        for total in range(1, 400):
            assert wilson_interval(0, total)[0] == 0
            assert wilson_interval(total, total)[1] == 1
            for correct in (0, 1, total // 2, total):
                low, high = wilson_interval(correct, total)
                assert 0 <= low <= correct / total <= high <= 1

    def test_is_symmetric_between_right_and_wrong(self):
        low, high = wilson_interval(30, 200)
        assert wilson_interval(170, 200) == pytest.approx((1 - high, 1 - low))

    @pytest.mark.parametrize(
        ("correct", "total"), [(1, 0), (-1, 5), (6, 5), (math.nan, 5), (1, math.nan), ("one", 5)]
    )
    def test_refuses_impossible_counts(self, correct, total):
        with pytest.raises(ParameterError, match=f"{correct} correct of {total}"):
            wilson_interval(correct, total)

    @pytest.mark.parametrize("z", [0, -1, math.nan, math.inf])
    def test_refuses_a_quantile_that_turns_the_interval_round(self, z):
        with pytest.raises(ParameterError, match="z is"):
            wilson_interval(3, 5, z=z)

    def test_tensors_give_plain_numbers(self):
        interval = wilson_interval(torch.tensor(3), torch.tensor(5))
        assert interval == wilson_interval(3, 5)
        assert [type(end) for end in interval] == [float, float]


class TestConfusionMatrix:
    def test_counts_like_a_loop(self):
        labels, predictions = torch.randint(0, 5, (2, 300), generator=generator())
        expected = torch.zeros(5, 5, dtype=torch.int64)
        for label, prediction in zip(labels, predictions, strict=True):
            expected[label, prediction] += 1
        assert torch.equal(confusion_matrix(labels, predictions, 5), expected)

    def test_rows_are_labels(self):
        assert confusion_matrix(torch.tensor([0, 0]), torch.tensor([2, 2]), 3).tolist() == [
            [0, 0, 2],
            [0, 0, 0],
            [0, 0, 0],
        ]

    def test_no_images_give_an_empty_count(self):
        empty = torch.empty(0, dtype=torch.int64)
        assert confusion_matrix(empty, empty, 2).tolist() == [[0, 0], [0, 0]]

    @pytest.mark.parametrize(
        ("labels", "predictions", "message"),
        [
            (torch.tensor([0, 1]), torch.zeros(2, 3), "classes, not logits"),
            (torch.tensor([0, 1]), torch.tensor([0]), "int64 of shape"),
            (torch.tensor([0.0]), torch.tensor([0]), "labels are torch.float32"),
            (torch.tensor([0, 3]), torch.tensor([0, 0]), "labels go from 0 to 3"),
            (torch.tensor([0, 0]), torch.tensor([0, -1]), "predictions go from -1 to 0"),
        ],
    )
    def test_refuses_what_it_cannot_count(self, labels, predictions, message):
        with pytest.raises(ParameterError, match=message):
            confusion_matrix(labels, predictions, 3)


def some_logits(n=2000, k=4, scale=2.0, seed=0):
    """Logits, and labels drawn from the probabilities that they state: a calibrated classifier."""
    logits = scale * torch.randn(n, k, generator=generator(seed), dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator(seed + 1)).squeeze(1)
    return logits, labels


class TestCalibration:
    def test_matches_a_loop_over_bins(self):
        logits, labels = some_logits()
        confidence, prediction = logits.softmax(dim=1).max(dim=1)
        result, ece = calibration(logits, labels, bins=10), 0.0
        for b in range(10):
            inside = (confidence > b / 10) & (confidence <= (b + 1) / 10)
            assert result.count[b] == inside.sum()
            if inside.any():
                accuracy = (prediction == labels)[inside].double().mean()
                assert result.accuracy[b].item() == pytest.approx(accuracy.item())
                assert result.confidence[b].item() == pytest.approx(confidence[inside].mean().item())
                gap = abs(accuracy - confidence[inside].mean()).item()
                ece += gap * inside.double().mean().item()
            else:
                assert result.accuracy[b].isnan()
                assert result.confidence[b].isnan()
        assert result.ece == expected_calibration_error(logits, labels, bins=10) == pytest.approx(ece)

    def test_one_bin_compares_the_means(self):
        logits, labels = some_logits(500)
        confidence, prediction = logits.softmax(dim=1).max(dim=1)
        gap = abs(confidence.mean() - (prediction == labels).double().mean()).item()
        assert expected_calibration_error(logits, labels, bins=1) == pytest.approx(gap)

    def test_by_hand(self):
        # 60 % confidence four times, three of them right: the gap is 15 points.
        logits = torch.tensor([[0.6, 0.4]] * 4).log()
        assert expected_calibration_error(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(0.15)

    def test_a_calibrated_classifier_is_near_zero_and_an_overconfident_one_is_not(self):
        logits, labels = some_logits(20_000)
        assert expected_calibration_error(logits, labels) < 0.015
        assert expected_calibration_error(5 * logits, labels) > 0.1

    def test_certainty_falls_into_the_last_bin(self):
        result = calibration(torch.tensor([[1000.0, 0.0]]), torch.tensor([0]), bins=5)
        assert result.count.tolist() == [0, 0, 0, 0, 1]
        assert result.ece == 0

    @pytest.mark.parametrize(
        ("logits", "labels", "message"),
        [
            (torch.zeros(3, 2), torch.tensor([0, 1]), "must be"),
            (torch.zeros(3), torch.tensor([0, 1, 0]), "must be"),
            (torch.zeros(0, 2), torch.empty(0, dtype=torch.int64), "N > 0"),
            (torch.zeros(2, 2), torch.tensor([0.0, 1.0]), "torch.float32"),
            (torch.zeros(2, 2), torch.tensor([0, 2]), "for labels 0 to 1"),
        ],
    )
    @pytest.mark.parametrize("function", [calibration, fit_temperature])
    def test_refuses_logits_and_labels_that_do_not_fit(self, function, logits, labels, message):
        with pytest.raises(ParameterError, match=message):
            function(logits, labels)

    def test_refuses_no_bins(self):
        with pytest.raises(ParameterError, match="bins is 0"):
            calibration(*some_logits(10), bins=0)


class TestFitTemperature:
    def test_minimises_the_cross_entropy(self):
        logits, labels = some_logits(500)
        best = fit_temperature(logits, labels)
        losses = {t: F.cross_entropy(logits / t, labels).item() for t in (best, 0.99 * best, 1.01 * best)}
        assert min(losses, key=losses.get) == best

    @pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
    def test_finds_the_factor_by_which_calibrated_logits_were_multiplied(self, factor):
        logits, labels = some_logits(20_000)
        assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.05)

    def test_scales_exactly_with_the_logits(self):
        logits, labels = some_logits(500)
        assert fit_temperature(3 * logits, labels) == pytest.approx(3 * fit_temperature(logits, labels))

    @pytest.mark.parametrize("factor", [1e-9, 1e-4, 1e4, 1e9])
    def test_finds_it_on_any_scale(self, factor):
        logits, labels = torch.randn(500, 4, generator=generator()).double(), torch.arange(500) % 4
        logits[torch.arange(500), labels] += 1
        best = fit_temperature(logits, labels)
        assert fit_temperature(factor * logits, labels) == pytest.approx(factor * best)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_refuses_logits_of_a_model_that_diverged(self, bad):
        logits = torch.rand(4, 3)
        logits[2, 1] = bad
        for function in (fit_temperature, calibration):
            with pytest.raises(ParameterError, match=r"logits of 1 of 4 images .* of image 2; look for"):
                function(logits, torch.zeros(4, dtype=torch.int64))

    def test_refuses_predictions_that_are_all_correct(self):
        logits = torch.eye(3)
        with pytest.raises(ParameterError, match="all correct"):
            fit_temperature(logits, torch.arange(3))

    def test_refuses_predictions_no_better_than_chance(self):
        with pytest.raises(ParameterError, match="no better than chance"):
            fit_temperature(torch.eye(3), torch.tensor([1, 2, 0]))


def two_models(only_a, only_b, both=50, neither=20):
    a = torch.tensor([True] * only_a + [False] * only_b + [True] * both + [False] * neither)
    b = torch.tensor([False] * only_a + [True] * only_b + [True] * both + [False] * neither)
    return a, b


class TestPairedBootstrap:
    def test_matches_drawing_the_images_themselves(self):
        a, b = (t.numpy() for t in two_models(30, 12, both=300, neither=58))
        rng = np.random.default_rng(1)
        drawn = rng.integers(len(a), size=(20_000, len(a)))  # (resamples, images)
        slow = np.quantile(a[drawn].mean(axis=1) - b[drawn].mean(axis=1), [0.025, 0.975])
        result = paired_bootstrap(a, b, resamples=20_000)
        assert result.difference == pytest.approx(18 / 400)
        assert (result.low, result.high) == pytest.approx(tuple(slow), abs=0.003)

    def test_matches_the_closed_form_on_many_images(self):
        only_a, only_b, n = 500, 350, 10_000
        result = paired_bootstrap(*two_models(only_a, only_b, both=8000, neither=1150), resamples=100_000)
        difference = (only_a - only_b) / n
        half = 1.96 * math.sqrt(((only_a + only_b) / n - difference**2) / n)
        assert (result.low, result.high) == pytest.approx((difference - half, difference + half), abs=3e-4)

    def test_changes_sign_with_the_order(self):
        a, b = two_models(30, 12)
        one, other = paired_bootstrap(a, b, resamples=50_000), paired_bootstrap(b, a, resamples=50_000)
        assert one.difference == -other.difference
        assert one.low == pytest.approx(-other.high, abs=0.01)

    def test_equal_models_differ_by_nothing(self):
        assert paired_bootstrap(*two_models(0, 0)) == (0, 0, 0)

    def test_a_higher_level_is_a_wider_interval_and_a_seed_repeats_it(self):
        models = two_models(30, 12)
        narrow, wide = paired_bootstrap(*models, level=0.8), paired_bootstrap(*models, level=0.99)
        assert wide.low < narrow.low < narrow.high < wide.high
        assert paired_bootstrap(*models, seed=3) == paired_bootstrap(*models, seed=3)

    @pytest.mark.parametrize(
        "options",
        [
            {"level": 1.0},
            {"level": 95},
            {"level": math.nan},
            {"resamples": 0},
            {"resamples": 1.5},
            {"seed": -1},
        ],
    )
    def test_refuses_parameters_outside_their_range(self, options):
        with pytest.raises(ParameterError, match=f"{next(iter(options))} is"):
            paired_bootstrap(*two_models(3, 2), **options)


class TestMcNemar:
    @pytest.mark.parametrize(("only_a", "only_b"), [(0, 5), (3, 9), (9, 3), (7, 7), (40, 61)])
    def test_matches_all_ways_the_coin_can_fall(self, only_a, only_b):
        flips = only_a + only_b
        weights = torch.distributions.Binomial(flips, torch.tensor(0.5, dtype=torch.float64))
        probability = weights.log_prob(torch.arange(flips + 1, dtype=torch.float64)).exp()
        uneven = (torch.arange(flips + 1) - flips / 2).abs() >= abs(only_a - flips / 2)
        assert mcnemar(*two_models(only_a, only_b)) == pytest.approx(probability[uneven].sum().item())

    def test_no_discordant_image_is_no_evidence(self):
        assert mcnemar(*two_models(0, 0)) == 1

    def test_large_counts_do_not_overflow(self):
        p = mcnemar(*two_models(2600, 2400))
        assert p == pytest.approx(math.erfc(199 / math.sqrt(5000) / math.sqrt(2)), rel=0.02)


@pytest.mark.parametrize("function", [paired_bootstrap, mcnemar])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        (torch.tensor([True]), torch.tensor([True, False])),
        (torch.tensor([1, 0]), torch.tensor([True, False])),
        (torch.tensor([], dtype=torch.bool), torch.tensor([], dtype=torch.bool)),
        (torch.ones(2, 2, dtype=torch.bool), torch.ones(2, 2, dtype=torch.bool)),
    ],
)
def test_paired_comparisons_refuse_other_images(function, a, b):
    with pytest.raises(ParameterError, match="both must be bool of one shape"):
        function(a, b)


@pytest.mark.parametrize(
    "logits", [torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 3) + 0j, "ab", [[1], [1, 2]]]
)
def test_what_is_no_logit_is_refused(logits):
    with pytest.raises(ParameterError, match="logits are"):
        calibration(logits, torch.tensor([0, 1]))


def test_whole_numbers_of_other_kinds_are_told_how_to_become_labels():
    labels = np.array([0, 1], dtype=np.int32)  # NumPy's own on Windows, before its version 2
    with pytest.raises(ParameterError, match=r"int32 .*; \.long\(\) makes whole numbers int64"):
        confusion_matrix(labels, labels, 2)
    with pytest.raises(ParameterError, match=r"int32 .*; \.long\(\) makes whole numbers int64"):
        calibration(torch.eye(2), labels)


def test_columns_of_pandas_are_read_in_their_order_not_by_their_labels():
    """pytorch#51112: torch looks a Series' values up by the labels of its index."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
    index = rng.permutation(40)
    frame, column = pd.DataFrame(logits, index=index), pd.Series(labels, index=index)
    assert expected_calibration_error(frame, column) == expected_calibration_error(logits, labels)
    guesses = logits.argmax(1)
    expected = confusion_matrix(labels, guesses, 3)
    assert torch.equal(confusion_matrix(column, pd.Series(guesses, index=index[::-1]), 3), expected)
    assert mean_se(pd.Series([1.0, 2.0], index=[5, 3])) == 1.5
    with pytest.raises(ParameterError, match="one or more finite numbers"):
        mean_se(pd.DataFrame({0: [1.0, 2.0], 1: [3.0, 4.0]}))  # iterating gives the names 0 and 1


def test_probabilities_are_no_logits_and_their_logarithms_are():
    """gpleiss/temperature_scaling#29: the temperature of a softmax's output makes the calibration worse."""
    logits = 3 * torch.randn(200, 4, generator=generator())
    labels = torch.randint(4, (200,), generator=generator(1))
    labels[:100] = logits[:100].argmax(dim=1)
    with pytest.raises(ParameterError, match=r"are probabilities.*probabilities\.log\(\)"):
        fit_temperature(logits.softmax(dim=1), labels)
    ours, theirs = (fit_temperature(each, labels) for each in (logits, logits.softmax(dim=1).log()))
    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize(("correct", "total"), [(0.97, 1000), (9.5, 10), (3, 10.5)])
def test_an_accuracy_is_no_count(correct, total):
    with pytest.raises(ParameterError, match=r"must be counts.*round\(accuracy \* total\)"):
        wilson_interval(correct, total)


@pytest.mark.parametrize("level", ["0.95", None, 95, True])
def test_a_level_is_a_share(level):
    with pytest.raises(ParameterError, match="level is"):
        paired_bootstrap([True, False], [False, False], level=level)


def test_a_confidence_of_exactly_one_lies_in_the_last_bin():
    """Lightning-AI/torchmetrics#3510; here against counts by hand."""
    found = calibration(torch.tensor([[100.0, 0.0], [0.0, 2.944439]]), torch.tensor([1, 1]), bins=15)
    assert found.count.tolist() == [0] * 14 + [2]
    assert found.ece == pytest.approx(abs(1 - (1 + 0.95)) / 2, abs=1e-6)
