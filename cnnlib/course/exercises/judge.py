"""Judging an answer: its results against the expected ones, with the reason where they differ.

An exam is an exercise turned into plain data for one seed: arguments, expected results, tolerances, and what
plausible mistakes return. `examine` asks an answer and says what became of it.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from cnnlib.ground.errors import kind_of

POSSIBLE = ("pass", "fail", "error", "timeout", "killed", "not attempted", "missing")
"""The statuses of an answer."""
NO_MORE = "no more statements would run"
"""The message of an answer that is not asked once more; see `program.load`."""
UNWRAP = "; leave out the brackets, or the comma, around it"


@dataclass(frozen=True)
class Verdict:
    """What became of an answer: `status` is one of POSSIBLE; `message` says why, in words for the learner.

    `passed_cases` of `cases` came out as expected, among those that were asked; see `examine`.
    """

    status: str
    message: str = ""
    passed_cases: int = field(default=0, compare=False)
    cases: int = field(default=0, compare=False)

    @property
    def passed(self):
        return self.status == "pass"


class AnswerEnded(Exception):  # noqa: N818 - an answer's end, foreseen and judged
    """Raised by the function that asks an answer: it gave no result, and this is its verdict."""

    def __init__(self, status, message):
        message = message.encode(errors="replace").decode()  # halves of surrogate pairs become "?"
        super().__init__(message)
        self.verdict = Verdict(status, message)


def examine(exam, ask, all_cases=False):
    """Ask an answer every case of an exam, and judge what it returns.

    Args:
        exam: dict as `cnnlib.course.exercises.make_exam` builds it.
        ask: function from a case (plain data) to the answer's result (plain data); it raises AnswerEnded
            where there is none.
        all_cases: whether those behind one that is not as expected are asked too: then the share of those
            that are is known.

    Returns:
        Verdict on the first case that is not as expected, or a pass.
    """
    results, passed, first = [], 0, None
    for case, expected in zip(exam["cases"], exam["expected"], strict=True):
        try:
            results.append(ask(case))
        except AnswerEnded as ended:
            verdict = ended.verdict
            if verdict.status in ("not attempted", "killed", "timeout"):  # there is nobody left to ask
                first = first or verdict
                break
            results.append(None)
            verdict = replace(verdict, message=f"{verdict.message}\n{_call(exam, case)}")
        else:
            verdict = _judge(exam, case, expected, results)
        passed += verdict.passed
        if not verdict.passed:
            first = first or verdict
            if not all_cases:
                break
    return replace(first or Verdict("pass"), passed_cases=passed, cases=len(exam["cases"]))


def _judge(exam, case, expected, results):
    """Return the verdict on the last of the results, that of a case."""
    problem = difference(expected, results[-1], exam["rtol"], exam["atol"])
    if not problem:
        return Verdict("pass")
    if results[-1] is None:
        problem += "; is there a return?"
    if isinstance(case, dict):  # a module returns its output only; it has buffers and gradients
        problem = problem.replace("it returned dtype", "it has dtype").replace("it returned", "it is")
    return Verdict("fail", f"{problem}\n{_call(exam, case)}{_mistake(exam, results)}")


def difference(expected, result, rtol, atol):
    """Return in words how a result differs from the expected one, or "" where it does not.

    Kinds, shapes and dtypes must be the same; floats are close when
    |result − expected| ≤ atol + rtol |expected|, and a NaN equals a NaN only. An int may stand for a float.
    """
    if isinstance(expected, float) and type(result) is int:
        result = float(result) if abs(result) < 2**53 else result
    if type(expected) is not type(result):
        found = _cut(describe(result), 160)
        return f"it returned {found}, expected {_kind(expected)}{_way_out(expected, result)}"
    if isinstance(expected, np.ndarray):
        if expected.shape != result.shape:
            return f"it returned shape {result.shape}, expected shape {expected.shape}"
        if expected.dtype != result.dtype:
            return f"it returned dtype {result.dtype.name}, expected dtype {expected.dtype.name}"
        return _array_difference(expected, result, rtol, atol)
    if isinstance(expected, float):
        same = np.isclose(result, expected, rtol=rtol, atol=atol, equal_nan=True)
        return "" if same else _unequal(result, expected)
    if isinstance(expected, list):
        if len(expected) != len(result):
            values = f"{len(result)} value{'s' if len(result) != 1 else ''}"
            inner = len(result) == 1 and isinstance(result[0], list) and len(result[0]) == len(expected)
            return f"it returned {values}, expected {len(expected)}{UNWRAP if inner else ''}"
        pairs = enumerate(zip(expected, result, strict=True))
        problems = (f"value {i}: {p}" for i, (a, b) in pairs if (p := difference(a, b, rtol, atol)))
        return next(problems, "")
    if isinstance(expected, dict):
        if expected.keys() != result.keys():
            return f"it returned the keys {_short(sorted(result))}, expected {_short(sorted(expected))}"
        problems = (f"{k}: {p}" for k in expected if (p := difference(expected[k], result[k], rtol, atol)))
        return next(problems, "")
    return "" if expected == result else f"it returned {_short(result)}, expected {_short(expected)}"


def describe(value):
    """Return a value in a few words: small ones in full, arrays by dtype and shape."""
    if isinstance(value, np.ndarray):
        return f"a tensor {value.dtype.name} {value.shape}"
    if isinstance(value, list) and any(isinstance(item, (np.ndarray, list, dict)) for item in value):
        return f"[{', '.join(describe(item) for item in value[:4])}{', …' if len(value) > 4 else ''}]"
    return _short(value)


def _array_difference(expected, result, rtol, atol):
    if expected.dtype.kind == "f":
        wide_e, wide_r = expected.astype(np.float64), result.astype(np.float64)
        wrong = ~np.isclose(wide_r, wide_e, rtol=rtol, atol=atol, equal_nan=True)
    else:
        wrong = expected != result
    if not wrong.any():
        return ""
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    at = f"[{', '.join(map(str, where))}]" if where else "its one value"
    pair = _unequal(result[where].item(), expected[where].item())
    return f"{wrong.sum():,} of {wrong.size:,} values differ: at {at} {pair}"


def _unequal(result, expected):
    """Say that a number is not the expected one, with as many digits as tell them apart."""
    if isinstance(expected, float):
        pairs = ((f"{result:.{digits}g}", f"{expected:.{digits}g}") for digits in (6, 9, 17))
        result, expected = next((a, b) for a, b in pairs if a != b)
    return f"it returned {result}, expected {expected}"


def _way_out(expected, result):
    """Return what makes a result one of the expected kind, as the end of a sentence, or ""."""
    if isinstance(result, np.ndarray):
        if result.size == 1 and isinstance(expected, (bool, int, float)):
            return "; .item() makes a number of it"
        if isinstance(expected, list) and not any(isinstance(item, np.ndarray) for item in expected):
            return "; .tolist() makes a list of it"
    if isinstance(result, list):
        if len(result) == 1 and type(result[0]) is type(expected):
            return UNWRAP
        if isinstance(expected, np.ndarray) and not any(isinstance(item, np.ndarray) for item in result):
            return "; torch.tensor(…) makes a tensor of a list"
    if type(expected) is int and isinstance(result, float) and result.is_integer():
        return "; int(…) makes one of it"
    return ""


def _call(exam, case):
    """Say in words which case it is: the arguments of a function, or all that a module was given."""
    module = isinstance(case, dict)
    inputs = case["inputs"] if module else case
    given = ", ".join(f"{n} = {describe(v)}" for n, v in zip(exam["parameters"], inputs, strict=True))
    if not module:
        return f"in the case {given}"
    built = ", ".join(f"{name}={value!r}" for name, value in case["arguments"].items())
    mode = "training" if case["training"] else "evaluation"
    return f"in the case {exam['id'].partition('.')[2]}({built}) in {mode} mode, {given}"


def _mistake(exam, results):
    """Name the mistake whose results an answer shares: on the case that failed and on all before it."""
    for text, theirs in exam["mistakes"].items():
        pairs = zip(theirs, results, strict=False)
        if all(not difference(a, b, exam["rtol"], exam["atol"]) for a, b in pairs):
            return f"\nIt behaves like an answer that {text}."
    return ""


def _kind(value):
    if isinstance(value, np.ndarray):
        return describe(value)
    return {
        "list": "a list or tuple",
        "str": "a string",
        "int": "an int",
        "dict": "a dict",
        "NoneType": "None",
    }.get(type(value).__name__, kind_of(value))


def _short(value, limit=80):
    return _cut(repr(value), limit)


def _cut(text, limit):
    return text if len(text) <= limit else text[:limit] + "…"
