"""Exercises: each with a solution, fresh random cases, wrong solutions that its check must reject, and hints.

A lesson asks for a function; `check("02.avg_pool2d", avg_pool2d)` compares what it returns with what the
solution returns, on cases drawn from a public seed. A grader does the same with a seed of its own.
"""

import html
import importlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cnnlib.course.exercises import plain
from cnnlib.course.exercises.judge import AnswerEnded, Verdict, examine
from cnnlib.ground.errors import CnnlibError, ParameterError

PUBLIC_SEED = 0
RELEASED = Path(__file__).with_name("released.bin")
"""In a learner copy this file stands in the place of the modules with the solutions."""


class ExerciseFailed(CnnlibError):  # noqa: N818 - read aloud where it appears
    """An exercise that is wrong or not attempted, where CNNLIB_STRICT=1 asks for all of them."""


@dataclass(frozen=True)
class Exercise:
    """An exercise of a lesson.

    Attributes:
        id: the lesson's number, a dot and the function's name: "02.avg_pool2d".
        points: what a right answer is worth, int >= 1.
        reference: the solution. Its signature and docstring are the task that the lesson shows.
        cases: function of a numpy.random.Generator that returns at least three lists of arguments: plain
            data, several shapes, so that an answer which fits one shape by chance is found out.
        mutants: dict from a plausible mistake, as a phrase that follows "an answer that …", to a function
            that makes it; at least three.
        hints: strings, from a nudge to nearly the solution.
        rtol, atol: relative and absolute tolerance of floats.
        seconds: time for all cases together.
    """

    id: str
    points: int
    reference: Callable
    cases: Callable
    mutants: dict
    hints: tuple
    rtol: float = 1e-4
    atol: float = 1e-5
    seconds: float = 20.0

    @property
    def name(self):
        return self.id.partition(".")[2]

    @property
    def stub(self):
        """The source that a learner starts from: the reference's signature and docstring, and no body."""
        lines = inspect.getsource(self.reference).splitlines()
        quotes = [i for i, line in enumerate(lines) if line.count('"""')]
        end = quotes[0] if lines[quotes[0]].count('"""') == 2 else quotes[1]
        return "\n".join([f"# exercise {self.id}", *lines[: end + 1], "    raise NotImplementedError"])

    @property
    def solution(self):
        """The source of the reference."""
        return f"# exercise {self.id}\n{inspect.getsource(self.reference).rstrip()}"


def normal(rng, *shape):
    """Return a float32 tensor of standard normal numbers."""
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def exercises(lesson):
    """Return the exercises of a lesson in their order, [] where it has none.

    Args:
        lesson: "02" or a lesson's whole name.
    """
    try:
        return list(importlib.import_module(f"cnnlib.course.exercises.lesson_{lesson[:2]}").EXERCISES)
    except ModuleNotFoundError:
        return []


def make_exam(exercise, seed):
    """Return an exercise as plain data, for one seed: what `judge.examine` needs and no solution.

    Args:
        exercise: Exercise
        seed: int >= 0; it decides the cases.

    Returns:
        dict: id, points, hints, parameters (names), cases, expected, mistakes, rtol, atol, seconds.
    """
    cases = [plain.simplify(list(case)) for case in exercise.cases(np.random.default_rng(seed))]
    return {
        "id": exercise.id,
        "points": exercise.points,
        "hints": list(exercise.hints),
        "parameters": list(inspect.signature(exercise.reference).parameters)[: len(cases[0])],
        "cases": cases,
        "expected": [ask(exercise.reference, case) for case in cases],
        "mistakes": {text: _results(mutant, cases) for text, mutant in exercise.mutants.items()},
        "rtol": exercise.rtol,
        "atol": exercise.atol,
        "seconds": exercise.seconds,
    }


def ask(function, arguments):
    """Call a function with copies of plain arguments; return its result as plain data.

    Raises:
        AnswerEnded: it raised an error, is not written yet, or returned something that is not plain.
    """
    try:
        result = function(*plain.to_tensors(arguments))
    except NotImplementedError:
        raise AnswerEnded("not attempted", "It is not written yet.") from None
    except Exception as error:
        line = _line(error, function)
        raise AnswerEnded("error", f"it raised {type(error).__name__}: {str(error)[:500]}{line}") from None
    try:
        return plain.simplify(result)
    except plain.NotPlain as error:
        raise AnswerEnded("fail", f"it returned something else than numbers or tensors: {error}") from None


def check(exercise_id, answer):
    """Say at once whether an answer to an exercise is right, and if not, what differs.

    With the environment variable CNNLIB_STRICT=1 an answer that is not right fails the cell.

    Args:
        exercise_id: such as "02.avg_pool2d"; the lesson's cell names it.
        answer: the function that was written.

    Returns:
        Feedback, which a notebook shows.

    Raises:
        ParameterError: there is no such exercise.
        ExerciseFailed: CNNLIB_STRICT=1, and the answer is wrong or not attempted.
    """
    exam = _public_exam(exercise_id)
    if callable(answer):
        verdict = examine(exam, lambda arguments: ask(answer, arguments))
    else:
        name = exercise_id.partition(".")[2]
        verdict = Verdict("error", f"{name} is {answer!r:.80}, and should be a function: `def {name}(…):`.")
    feedback = Feedback(exam, verdict)
    if os.environ.get("CNNLIB_STRICT") == "1" and not verdict.passed:
        raise ExerciseFailed(feedback.text)
    return feedback


@dataclass(frozen=True, repr=False)
class Feedback:
    """A verdict as a notebook shows it: with the hints folded away."""

    exam: dict
    verdict: Verdict

    @property
    def text(self):
        points = f"{self.exam['points']} point{'s' if self.exam['points'] != 1 else ''}"
        if self.verdict.passed:
            return f"✓ {self.exam['id']}: right in all {len(self.exam['cases'])} cases, {points}."
        if self.verdict.status == "not attempted":
            return f"○ {self.exam['id']}: not attempted yet ({points})."
        return f"✗ {self.exam['id']}: {self.verdict.message}"

    def __repr__(self):
        return self.text

    def _repr_html_(self):
        color = {"pass": "#009E73", "not attempted": "#999999"}.get(self.verdict.status, "#D55E00")
        hints = [] if self.verdict.passed else self.exam["hints"]
        folded = "".join(
            f"<details><summary>Hint {i}</summary>{html.escape(hint)}</details>"
            for i, hint in enumerate(hints, start=1)
        )
        text = html.escape(self.text).replace("\n", "<br>")
        return f'<div style="border-left: 4px solid {color}; padding: 0.3em 0.8em">{text}{folded}</div>'


def _public_exam(exercise_id):
    lesson = str(exercise_id)[:2]
    if RELEASED.exists():
        exams = {exam["id"]: exam for exam in plain.loads(RELEASED.read_bytes())}
        known = [name for name in exams if name[:2] == lesson]
    else:
        found = {exercise.id: exercise for exercise in exercises(lesson)}
        known = list(found)
    if exercise_id not in known:
        raise ParameterError(
            f"there is no exercise {exercise_id!r}; lesson {lesson} has {', '.join(known) or 'none'}"
        )
    return exams[exercise_id] if RELEASED.exists() else make_exam(found[exercise_id], PUBLIC_SEED)


def _results(function, cases):
    """Return what a wrong solution returns in each case; None where it raises an error."""
    results = []
    for case in cases:
        try:
            results.append(ask(function, case))
        except AnswerEnded:
            results.append(None)
    return results


def _line(error, function):
    """Return ", in its line N" for the line of an answer that raised an error, where it can be told."""
    code = getattr(function, "__code__", None)
    trace, line = error.__traceback__, None
    while trace:
        if trace.tb_frame.f_code is code:
            line = trace.tb_lineno - code.co_firstlineno
        trace = trace.tb_next
    return f" (line {line} after its def)" if line is not None else ""
