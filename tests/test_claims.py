import json
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch

import cnnlib.measure.claims
from cnnlib.ground.errors import ClaimFailed, ParameterError
from cnnlib.measure import claim, mean_se
from cnnlib.measure.claims import MIME, show_number
from cnnlib.measure.metrics import Estimate


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr(cnnlib.measure.claims, "display", lambda bundle, raw: outputs.append(bundle))
    return outputs


def above(a, b):
    return a > b + 1


def test_a_claim_shows_its_sentence_its_numbers_and_what_they_exclude(shown):
    claim("b < a", above, {"a": 3.0, "b": 1}, {"a placebo <of b>": {"a": 1.25}})
    (bundle,) = shown
    assert bundle["text/plain"] == "✓ b < a\n  a 3; b 1\n  excluded: a placebo <of b>: a 1.25"
    assert "b &lt; a" in bundle["text/html"]
    assert "a placebo &lt;of b&gt;" in bundle["text/html"]
    stored = bundle[MIME]
    assert (stored["holds"], stored["evidence"], stored["measured"]) == (True, "a 3; b 1", {"a": 3.0, "b": 1})
    (rival,) = stored["rivals"]
    assert (rival["name"], rival["numbers"], rival["excluded"]) == ("a placebo <of b>", {"a": 1.25}, True)
    json.dumps(stored)


def test_outside_of_a_notebook_a_claim_prints_its_text(capsys):
    claim("b < a", above, {"a": 3.0, "b": 1}, {"a placebo": {"a": 1.25}})
    assert capsys.readouterr().out == "✓ b < a\n  a 3; b 1\n  excluded: a placebo: a 1.25\n"


def test_no_line_breaks_within_a_number_with_its_error(shown):
    accuracy = {"accuracy": mean_se([0.926, 0.936])}
    claim("Most are right.", lambda accuracy: accuracy > 0.5, accuracy, {"b": {"accuracy": 0.1}}, form=".1%")
    (bundle,) = shown
    assert "accuracy 93.1 ± 0.5 % (mean ± standard error, n = 2)" in bundle["text/plain"]
    assert "accuracy 93.1&nbsp;±&nbsp;0.5&nbsp;% (mean" in bundle["text/html"]


def test_measured_numbers_that_do_not_pass_fail_the_run(shown):
    with pytest.raises(ClaimFailed, match=r"b < a The measured numbers do not bear it out: a 1; b 1"):
        claim("b < a", above, {"a": 1.0, "b": 1.0}, {"chance": {"a": 0.0}})
    assert shown[0][MIME]["holds"] is False
    assert shown[0]["text/plain"].startswith("✗")
    assert "What now? " in shown[0]["text/plain"]


def test_a_rival_that_passes_fails_the_run_and_is_named(shown):
    rivals = {"chance": {"a": 0.0}, "a larger network": {"a": 9.0}}
    with pytest.raises(
        ClaimFailed, match=r"does not exclude its rival, a larger network.*a 9; measured: a 3"
    ):
        claim("b < a", above, {"a": 3.0, "b": 1.0}, rivals)
    assert shown[0][MIME]["holds"] is False
    assert "NOT excluded: a larger network" in shown[0]["text/plain"]


@pytest.mark.parametrize("rivals", [None, {}, [], "chance"])
def test_a_claim_without_a_rival_is_refused(shown, rivals):
    with pytest.raises(ParameterError, match="name at least one"):
        claim("b < a", above, {"a": 3.0, "b": 1.0}, rivals)
    assert not shown


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        ({"a": "3", "b": 1}, "a is '3'; it must be a number"),
        ({"a": float("nan"), "b": 1}, "a is nan; it must be a number"),
        ({"a": []}, r"a is \[\]"),
        ({"a": {"x": [1, None]}, "b": 1}, r"a\['x'\]\[1\] is None"),
        ({"a": 1, "b": 1, "c": 1}, "does not take c; its arguments are a, b"),
        ({"a": 1}, "takes b, which is not among the measured"),
        ([1, 2], "must be a dict"),
    ],
)
def test_what_is_no_number_is_refused(shown, measured, message):
    with pytest.raises(ParameterError, match=message):
        claim("b < a", above, measured, {"chance": {"a": 0}})
    assert not shown


def test_a_rival_may_not_name_what_the_test_does_not_take():
    with pytest.raises(ParameterError, match="the rival 'chance': the test does not take x"):
        claim("b < a", above, {"a": 3, "b": 1}, {"chance": {"x": 0}})


@pytest.mark.parametrize("verdict", ["yes", 1, None, torch.tensor([True, True]), np.array(0.3)])
def test_a_test_that_returns_no_bool_is_refused(shown, verdict):
    with pytest.raises(ParameterError, match="it must return one bool"):
        claim("x", lambda a: verdict, {"a": 1}, {"chance": {"a": 0}})


@pytest.mark.parametrize("test", [True, "a > b", None])
def test_a_test_is_a_function(test):
    with pytest.raises(ParameterError, match="it must be a function of the named numbers"):
        claim("x", test, {"a": 1}, {"chance": {"a": 0}})


@pytest.mark.parametrize("text", ["", " ", None])
def test_a_claim_says_something(text):
    with pytest.raises(ParameterError, match="must be a string that says something"):
        claim(text, above, {"a": 3, "b": 1}, {"chance": {"a": 0}})


@pytest.mark.parametrize("yes", [True, np.bool_(True), np.array([True]), torch.tensor(True)])
def test_tests_may_return_bools_of_numpy_and_torch(shown, yes):
    claim("x", lambda a: yes if a > 0 else ~np.array(True), {"a": 1}, {"none": {"a": 0}})
    assert shown[0][MIME]["holds"] is True


def test_numbers_come_in_lists_arrays_tensors_and_dicts(shown):
    claim(
        "Each step is lower.",
        lambda steps, by_name: all(x > y for x, y in pairwise(steps)) and by_name["b"] > 1,
        {"steps": np.array([3.0, 2.0, 1.0]), "by_name": {"a": torch.tensor(1.5), "b": 2}},
        {"no change": {"steps": torch.tensor([2.0, 2.0, 2.0])}},
        form={"steps": ".1f nats", "by_name": ".0%"},
    )
    assert "steps 3.0 nats, 2.0 nats, 1.0 nats; by name a: 150 %, b: 200 %" in shown[0]["text/plain"]


def test_a_difference_of_shares_is_shown_in_points(shown):
    lead = {"lead": mean_se([0.02, 0.04]), "alone": 0.104}
    claim("It leads.", lambda lead, alone: lead > 0.01, lead, {"none": {"lead": -1e-9}}, "+.1% points")
    text = shown[0]["text/plain"]
    assert "lead +3.0 ± 1.0 points; alone +10.4 points (mean" in text
    assert "lead +0.0 points" in text  # no "-0.0"


@pytest.mark.parametrize(
    ("form", "text"), [(".1f", "0.0"), ("+.1%", "+0.0 %"), (".3g", "0"), (",.0f nats", "0 nats"), ("", "0.0")]
)
def test_what_rounds_to_zero_has_no_minus(form, text):
    assert show_number(-0.0, form) == text
    if form != ".3g":
        assert show_number(Estimate(-1e-9 if form else -0.0, 0.0, 1), form) == text


def test_a_name_that_ends_in_a_number_is_told_from_its_number(shown):
    coverage = {"95.0% of 1,500": 0.95, "p = 0.2:": 0.2}
    claim("It holds.", lambda at: min(at.values()) > 0.1, {"at": coverage}, {"none": {"at": {"a": 0}}}, ".1%")
    assert "at 95.0% of 1,500: 95.0 %, p = 0.2: 20.0 %\n" in shown[0]["text/plain"]


def test_noise_is_shown_once_and_in_one_way(shown):
    a, b = mean_se([0.9, 0.92]), mean_se([0.5, 0.5])
    claim("a is larger.", lambda a, b: a > b, {"a": a, "b": b}, {"b again": {"a": b}}, form=".1%")
    lines = shown[0]["text/plain"].splitlines()
    assert lines[1].strip() == "a 91.0 ± 1.0 %; b 50.0 ± 0.0 % (mean ± standard error, n = 2)"
    assert shown[0][MIME]["measured"]["a"] == {"mean": 0.91, "se": pytest.approx(0.01), "n": 2}


def test_a_mean_of_whole_numbers_is_shown_in_tenths(shown):
    claim("b < a", above, {"a": mean_se([3, 4]), "b": 1}, {"less": {"a": 2, "b": 1}}, ",d")
    assert "a 3.5 ± 0.5; b 1" in shown[0]["text/plain"]
    claim("b < a", above, {"a": 3.5, "b": 1}, {"less": {"a": 2.0, "b": 1}}, ",d people")
    assert "a 3.5 people; b 1 people" in shown[1]["text/plain"]


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (lambda a, b: a > b, "raised TypeError: '>' not .* numbers a 1, 2; b 1; what is an array .* a list$"),
        (lambda a, b: a[2] > b, "raised IndexError: list index out of range, with the numbers a 1, 2; b 1;"),
        (
            lambda a, b: b / (a[0] - b) > 1,
            "raised ZeroDivisionError: float division by zero, with the numbers",
        ),
    ],
)
def test_a_test_that_raises_is_told_with_its_numbers(test, message):
    with pytest.raises(ParameterError, match=message):
        claim("It holds.", test, {"a": np.array([1.0, 2.0]), "b": 1.0}, {"none": {"b": 9.0}})


def test_a_form_of_no_argument_is_named():
    with pytest.raises(ParameterError, match=r"form names 'c', which the test does not take; .* are a, b"):
        claim("b < a", above, {"a": 3.0, "b": 1.0}, {"less": {"a": 2.0}}, form={"c": ".1%"})


@pytest.mark.parametrize(
    ("rival", "margin"),
    [({"a": 1.0}, 0.5), ({"a": 2.0 - 1e-9}, 0.99), ({"a": -7.0}, 0.1), ({"b": 9.0}, 0.125)],
)
def test_the_margin_is_the_share_of_the_way_to_the_rival(shown, rival, margin):
    claim("a > b + 1", above, {"a": 3.0, "b": 1.0}, {"a rival": rival})
    assert shown[0][MIME]["rivals"][0]["margin"] == pytest.approx(margin, abs=0.011)


def test_an_exact_statement_has_no_margin(shown):
    claim("There are 13.", lambda count: count == 13, {"count": 13}, {"VGG19": {"count": 16}})
    assert shown[0][MIME]["rivals"][0]["margin"] == 0


def test_margins_of_estimates_move_mean_and_error(shown):
    claim(
        "The effect is larger than its noise.",
        lambda effect: effect - 2 * effect.se > 0,
        {"effect": mean_se([1.0, 1.2, 1.4])},
        {"the same treatment twice": {"effect": mean_se([-0.2, 0.0, 0.2])}},
    )
    assert 0.7 < shown[0][MIME]["rivals"][0]["margin"] < 0.9


@pytest.mark.parametrize("form", [None, 3, ".q", {"a": ".1x"}])
def test_a_form_that_is_none_is_refused(form):
    with pytest.raises(ParameterError, match=r"claim's form is .* a format and"):
        claim("A is large.", lambda a: a > 1, {"a": 2.5}, rivals={"small": {"a": 0.5}}, form=form)


@pytest.mark.parametrize("test", [max, lambda *numbers: True, lambda: True])
def test_a_test_without_named_arguments_is_refused(test):
    with pytest.raises(ParameterError, match="whose arguments have no names"):
        claim("A is large.", test, {"a": 2.5}, rivals={"small": {"a": 0.5}})


def test_a_fraction_is_a_number(capsys):
    claim("A is large.", lambda a: a > 1, {"a": Fraction(5, 2)}, rivals={"small": {"a": Fraction(1, 2)}})
