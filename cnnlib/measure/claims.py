"""Claims: sentences of the prose, each tied to numbers that bear it out and to rivals that they exclude.

A sentence is borne out by a measurement only if the measurement could have come out otherwise. So a claim's
test is a function of named numbers: it must pass on the measured ones, and fail on those that each rival
explanation yields: a placebo, a control, a broken twin, chance.
"""

import html
import math
import re
from collections.abc import Mapping
from inspect import signature
from numbers import Real

import numpy as np
from IPython.display import display

from cnnlib.ground.errors import ClaimFailed, ParameterError, first_line
from cnnlib.measure.metrics import Estimate, without_minus_zero

MIME = "application/vnd.cnnlib.claim+json"
"""Each claim leaves one output of this type, which the runner and sweeps read.

Its keys: text, holds (it passed and every rival is excluded), evidence (the measured numbers as shown),
measured (the numbers), forms (name → how it is shown), and rivals: dicts with name, numbers, shown, excluded,
margin.
"""
NEXT_STEP = (
    "What now? If a parameter or a cell above was changed, that may be the finding: say why. If nothing was, "
    "restart the kernel and run all cells; then try another seed: a claim must hold for each."
)
STEPS = 200  # of the way from the measured numbers to a rival's, at which a test is tried


def claim(text, test, measured, rivals, form=".3g"):
    """State a finding and show its numbers; fail the run unless they bear it out and exclude its rivals.

        claim(
            "The CNN reads more digits than the MLP.",
            lambda cnn, mlp: cnn > mlp + 0.02,
            {"cnn": mean_se(cnn_runs), "mlp": mean_se(mlp_runs)},
            rivals={"the CNN on permuted pixels": {"cnn": mean_se(permuted_runs)}},
            form=".1%",
        )

    Args:
        text: the sentence that is claimed, as the prose says it, and no more than the test tests.
        test: function of the named numbers that returns one bool. All that it compares comes in through its
            arguments, and it leaves a margin, so that it is true of any seed and not of one lucky one.
        measured: dict from an argument's name to a number, an `Estimate`, or a list, array or dict of them.
        rivals: dict from what else might be the case to the numbers that there would be, measured wherever
            possible. Numbers that a rival does not name are the measured ones. At least one.
        form: how numbers are shown: a format and, after a space, a unit: ".1%", ".2f nats", ",.0f", and
            ".1% points" for a difference of two shares. Or a dict from a name to such a form.

    Raises:
        ClaimFailed: the measured numbers do not pass, or a rival's do; the message says which.
        ParameterError: no rival, an empty text, numbers that are none, a form that is none or of no argument,
            or a test that raises an error.
    """
    if not isinstance(text, str) or not text.strip():
        raise ParameterError(f"claim's text is {text!r}; it must be a string that says something")
    names = _arguments(test)
    measured = _numbers("measured", measured, names)
    if not isinstance(rivals, Mapping) or not rivals:
        raise ParameterError(
            f"claim's rivals are {rivals!r}; name at least one: a dict from what else might be the case to "
            "the numbers that there would be. What would the numbers be if the sentence were not true?"
        )
    if missing := [name for name in names if name not in measured]:
        raise ParameterError(f"the test takes {', '.join(missing)}, which is not among the measured numbers")
    given = {rival: _numbers(f"the rival {rival!r}", numbers, names) for rival, numbers in rivals.items()}
    forms = dict(form) if isinstance(form, Mapping) else dict.fromkeys(names, form)
    for name, each in forms.items():
        if name not in names:
            raise ParameterError(
                f"claim's form names {name!r}, which the test does not take; its arguments are "
                f"{', '.join(names)}"
            )
        _check_form(each)
    holds = _passes(test, measured)
    judged = []
    for rival, numbers in given.items():
        excluded = not _passes(test, measured | numbers)
        margin = _margin(test, measured, measured | numbers) if holds and excluded else None
        shown = _shown(numbers, forms)
        judged.append(
            {
                "name": rival,
                "numbers": _plain(numbers),
                "shown": shown,
                "excluded": excluded,
                "margin": margin,
            }
        )
    evidence = _shown(measured, forms)
    _display(text, holds, evidence, {"measured": _plain(measured), "forms": forms, "rivals": judged})
    if not holds:
        raise ClaimFailed(f"{text} The measured numbers do not bear it out: {evidence}.")
    for rival in judged:
        if not rival["excluded"]:
            raise ClaimFailed(
                f"{text} It does not exclude its rival, {rival['name']}, whose numbers pass as well: "
                f"{rival['shown']}; measured: {evidence}."
            )


def _arguments(test):
    """Return the names of a test's arguments."""
    if not callable(test):
        raise ParameterError(
            f"claim's test is {test!r}; it must be a function of the named numbers, "
            "such as lambda a, b: a > b"
        )
    try:
        parameters = signature(test).parameters.values()
    except ValueError:  # max, and others that are written in C
        parameters = ()
    if not parameters or any(p.kind in (p.VAR_POSITIONAL, p.POSITIONAL_ONLY) for p in parameters):
        raise ParameterError(
            f"claim's test is {test!r:.80}, whose arguments have no names; write it as a function of the "
            "named numbers, such as lambda a, b: a > b"
        )
    return [parameter.name for parameter in parameters]


def _check_form(form):
    """Check that numbers can be shown in a form."""
    try:
        spec = form.partition(" ")[0]
        format(1.5, _for_floats(spec))
    except (AttributeError, TypeError, ValueError):
        raise ParameterError(
            f"claim's form is {form!r:.80}; it must be a format and, after a space, a unit: "
            '".1%", ".2f nats"'
        ) from None


def _numbers(what, numbers, names):
    """Check named numbers, and return them with arrays as lists, and NumPy's and torch's numbers plain."""
    if not isinstance(numbers, Mapping) or not numbers:
        raise ParameterError(f"{what} must be a dict from names to numbers, not {numbers!r:.80}")
    if unknown := [name for name in numbers if name not in names]:
        raise ParameterError(
            f"{what}: the test does not take {', '.join(map(str, unknown))}; "
            f"its arguments are {', '.join(names)}"
        )
    return {name: _number(f"{what}: {name}", value) for name, value in numbers.items()}


def _number(what, value):
    if isinstance(value, Estimate):
        return value
    if isinstance(value, Mapping) and value:
        return {str(key): _number(f"{what}[{key!r}]", item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and value:
        return [_number(f"{what}[{i}]", item) for i, item in enumerate(value)]
    if hasattr(value, "tolist"):  # NumPy, pandas and torch
        return _number(what, value.tolist())
    if isinstance(value, Real) and not math.isnan(value):
        return value if isinstance(value, (int, float)) else float(value)  # a Fraction cannot be shown
    raise ParameterError(f"{what} is {value!r:.80}; it must be a number, or a list or dict of numbers")


def _passes(test, numbers):
    try:
        verdict = np.asarray(test(**numbers))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ParameterError(
            f"claim's test raised {type(error).__name__}: {first_line(error)}, with the numbers "
            f"{_shown(numbers, {})}; what is an array or a tensor comes to it as a list"
        ) from None
    if verdict.dtype != bool or verdict.size != 1:
        raise ParameterError(
            f"claim's test returned {verdict.tolist()!r}; it must return one bool, such as a > b"
        )
    return verdict.item()


def _margin(test, measured, rival):
    """Return how far the numbers could move towards the rival's before the test fails: a share, 0 to 1.

    It has no unit, so that claims of any kind can be compared. An exact statement, which no change survives,
    has 0.
    """
    for step in range(1, STEPS + 1):
        try:
            if not _passes(test, _between(measured, rival, step / STEPS)):
                return (step - 1) / STEPS
        except ParameterError:
            return (step - 1) / STEPS
    return 1.0


def _between(a, b, share):
    """Return the numbers at a share of the way from a to b; what has no way between them changes at once."""
    if isinstance(a, dict) and isinstance(b, dict):
        return {key: _between(a[key], b.get(key, a[key]), share) for key in a}
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [_between(x, y, share) for x, y in zip(a, b, strict=True)]
    if isinstance(a, Real) and isinstance(b, Real) and not isinstance(a, bool) and math.isfinite(a - b):
        if isinstance(a, Estimate) and isinstance(b, Estimate):
            return Estimate((1 - share) * a + share * b, (1 - share) * a.se + share * b.se, a.n)
        return (
            Estimate((1 - share) * a + share * b, a.se, a.n)
            if isinstance(a, Estimate)
            else (1 - share) * a + share * b
        )
    return b


def _plain(value):
    """Return numbers as what JSON can hold."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Estimate):
        return {"mean": _plain(float(value)), "se": _plain(value.se), "n": value.n}
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def _shown(numbers, forms):
    """Return named numbers as one line: "cnn 97.1 ± 0.1 %, mlp 91.8 ± 0.2 % (± standard error, n = 5)"."""
    parts = [
        f"{name.replace('_', ' ')} {show_number(value, forms.get(name, '.3g'))}"
        for name, value in numbers.items()
    ]
    runs = sorted({n for value in numbers.values() for n in _runs(value)})
    note = f" (mean ± standard error, n = {' or '.join(map(str, runs))})" if runs else ""
    return "; ".join(parts) + note


def show_number(value, form):
    """Return a number, or several, in a claim's form: a format and a unit.

    "% points" is a unit too, of differences between shares: 0.029 is "2.9 points" in the form ".1% points".
    """
    if isinstance(value, dict):
        # With a colon, for a key may end in a number: "2 × 2: 0.54".
        return ", ".join(f"{key.rstrip(':')}: {show_number(item, form)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(show_number(item, form) for item in value)
    spec, _, unit = form.partition(" ")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int):
        spec = _for_floats(spec)
    if isinstance(value, Estimate):
        text = value.short(spec)
    elif isinstance(value, int) and not spec.endswith("%"):
        text = f"{value:,}"
    else:
        text = f"{value:{without_minus_zero(spec)}}".replace("%", " %")
    if spec.endswith("%") and unit.startswith("points"):
        text = text.removesuffix(" %")
    return f"{text} {unit}".rstrip()


def _for_floats(spec):
    """Return the format of a float where `spec` may be one of whole numbers: a mean of those is none."""
    return f"{spec[:-1]}.1f" if spec.endswith("d") else spec


def _runs(value):
    if isinstance(value, (dict, list)):
        return {n for item in (value.values() if isinstance(value, dict) else value) for n in _runs(item)}
    return {value.n} if isinstance(value, Estimate) and value.n > 1 else set()


class _Bundle(dict):
    """One output by media types. Outside of IPython, whose `display` prints it there, it is the text."""

    def __repr__(self):
        return self["text/plain"]


def _escape(text):
    """Return the HTML of a text; on a narrow page no line breaks within "93.1 ± 0.5 %"."""
    return re.sub(" (?=[±%])|(?<=±) ", "&nbsp;", html.escape(text))


def _display(text, holds, evidence, data):
    """Show sentence, numbers and excluded rivals, and leave them as data for the runner."""
    well = holds and all(rival["excluded"] for rival in data["rivals"])
    mark, color = ("✓", "#009E73") if well else ("✗", "#D55E00")
    lines = [
        f"{'excluded' if rival['excluded'] else 'NOT excluded'}: {rival['name']}: {rival['shown']}"
        for rival in data["rivals"]
    ]
    if not well:
        lines.append(NEXT_STEP)
    style = f"border-left: 4px solid {color}; padding: 0.3em 0.8em; margin: 0.3em 0"
    small = "".join(f'<br><span style="opacity: 0.75">{_escape(line)}</span>' for line in lines)
    body = f"<b>{mark} {_escape(text)}</b><br>{_escape(evidence)}{small}"
    bundle = {
        "text/plain": "\n  ".join([f"{mark} {text}", evidence, *lines]),
        "text/html": f'<div style="{style}">{body}</div>',
        MIME: {"text": text, "holds": well, "evidence": evidence, **data},
    }
    display(_Bundle(bundle), raw=True)
