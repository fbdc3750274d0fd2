"""Exercises: each with a solution, fresh random cases, wrong solutions that its check must reject, and hints.

A lesson asks for a function or a module; `check("02.output_shape", output_shape)` compares what it computes
with what the solution does, on cases drawn from a public seed. A grader does the same with a seed of its own.
Where the lesson hands out code with a fault (`given`), the task is to mend it.
"""

import ast
import contextlib
import functools
import html
import importlib
import importlib.util
import inspect
import linecache
import os
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cnnlib.course.exercises import plain
from cnnlib.course.exercises.clock import TimeIsUp, time_limit
from cnnlib.course.exercises.judge import AnswerEnded, Verdict, describe, examine
from cnnlib.ground.errors import CnnlibError, ParameterError, kind_of

PUBLIC_SEED = 0
RELEASED = Path(__file__).with_name("released.bin")
"""In a learner copy this file stands in the place of the modules with the solutions."""
CELL_LIMIT = 200_000
"""Characters of a cell; a longer one is no answer."""
METHODS = ("__init__", "forward")
"""What a learner is asked to write of a module."""


class ExerciseFailed(CnnlibError):  # noqa: N818 - read aloud where it appears
    """An exercise that is wrong or not attempted, where CNNLIB_STRICT=1 asks for all of them."""


@dataclass(frozen=True)
class Exercise:
    """An exercise of a lesson.

    Attributes:
        id: the lesson's number, a dot and the name of the function or class: "02.output_shape".
        points: what a right answer is worth, int >= 1.
        reference: the solution, a function from plain data to plain data, or a class derived from nn.Module
            whose forward returns one tensor. Its signature and docstring are the task that the lesson shows.
        cases: function of a numpy.random.Generator that returns at least three cases of several shapes, so
            that an answer which fits one shape by chance is found out. A function's case is a list of
            arguments, plain data; a module's is a dict with "arguments" (of the constructor, by name),
            "training" and "inputs", to which `module.fill` adds random parameters, buffers and a gradient.
        mutants: dict from a plausible mistake, as a phrase that follows "an answer that …", to a function
            or class that makes it; at least three.
        hints: strings, from a nudge to nearly the solution.
        rtol, atol: relative and absolute tolerance of floats.
        seconds: time for all cases together.
        given: one of the mutants, which the lesson hands out to be mended; None: the lesson asks for the
            whole. No feedback says what its mistake is.
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
    given: Callable | None = None

    @property
    def name(self):
        return self.id.partition(".")[2]

    @property
    def stub(self):
        """The source that a learner starts from: the task without a body, or with the body of `given`."""
        source = inspect.getsource(self.reference)
        head, _ = _head_and_body(source)
        if self.given:
            body = _head_and_body(inspect.getsource(self.given))[1].rstrip()
        elif inspect.isclass(self.reference):
            methods = [node for node in ast.parse(source).body[0].body if isinstance(node, ast.FunctionDef)]
            asked = [ast.get_source_segment(source, m, padded=True) for m in methods if m.name in METHODS]
            body = "\n\n".join(f"{_head_and_body(m)[0]}\n        raise NotImplementedError" for m in asked)
        else:
            body = "    raise NotImplementedError"
        if inspect.isclass(self.reference):
            body = f"\n{body}"
        return f"# exercise {self.id}\n{head}\n{body}"

    @property
    def solution(self):
        """The source of the reference."""
        return f"# exercise {self.id}\n{inspect.getsource(self.reference).rstrip()}"


def normal(rng, *shape):
    """Return a float32 tensor of standard normal numbers."""
    import torch  # here, for the kernel that grades compares arrays and needs none

    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def own_folder():
    """Return the folder of an instructor's own exercises, which CNNLIB_EXERCISES names, or None.

    It holds `lesson_NN.py`, written like those of this package, and `notebooks/NN_name.ipynb`.

    Raises:
        ParameterError: there is no such folder.
    """
    name = os.environ.get("CNNLIB_EXERCISES")
    if not name:
        return None
    if not Path(name).is_dir():
        raise ParameterError(
            f"CNNLIB_EXERCISES is {name!r}, and there is no such folder; name the one that holds your "
            "lesson_NN.py and notebooks/, or unset it"
        )
    return Path(name).resolve()


def exercises(lesson):
    """Return the exercises of a lesson in their order, [] where it has none.

    Args:
        lesson: "02" or a lesson's whole name.

    Raises:
        ParameterError: a module of the instructor's own has the number of a lesson of the course, or does not
            define EXERCISES of its own number.
    """
    number = lesson[:2]
    ours = Path(__file__).with_name(f"lesson_{number}.py")
    own = own_folder() and own_folder() / ours.name
    if own is None or not own.exists():
        if not ours.exists():
            return []
        return list(importlib.import_module(f"cnnlib.course.exercises.lesson_{number}").EXERCISES)
    if ours.exists():
        raise ParameterError(f"{own}: the course has exercises {number} already; give yours another number")
    found = getattr(_own_module(own), "EXERCISES", None)
    if not found or not all(isinstance(e, Exercise) and e.id.startswith(f"{number}.") for e in found):
        raise ParameterError(f'{own} must define EXERCISES, a list of Exercise("{number}.name", …)')
    return list(found)


def lesson_numbers():
    """Return the numbers, such as "02", of the lessons with exercises, the instructor's own among them."""
    folders = [folder for folder in (Path(__file__).parent, own_folder()) if folder]
    return sorted(path.stem[-2:] for folder in folders for path in folder.glob("lesson_[0-9][0-9].py"))


@functools.cache
def _own_module(path):
    spec = importlib.util.spec_from_file_location(f"cnnlib_own_{path.stem}", path)
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found  # where `inspect` looks for the source of a class
    spec.loader.exec_module(found)
    return found


def make_exam(exercise, seed):
    """Return an exercise as plain data, for one seed: what `judge.examine` needs and no solution.

    Args:
        exercise: Exercise
        seed: int >= 0; it decides the cases.

    Returns:
        dict: id, points, hints, parameters (names), cases, expected, mistakes, given (the source that was
        handed out to be mended, or ""), rtol, atol, seconds.
    """
    rng = np.random.default_rng(seed)
    cases, asked = exercise.cases(rng), exercise.reference
    if inspect.isclass(asked):
        from cnnlib.course.exercises import module

        cases = [module.fill(exercise.reference, case, rng) for case in cases]
        asked = partial(asked.forward, None)  # None: its self
    cases = [plain.simplify(case) for case in cases]
    inputs = cases[0]["inputs"] if isinstance(cases[0], dict) else cases[0]
    mutants = {text: mutant for text, mutant in exercise.mutants.items() if mutant is not exercise.given}
    return {
        "id": exercise.id,
        "points": exercise.points,
        "hints": list(exercise.hints),
        "parameters": list(inspect.signature(asked).parameters)[: len(inputs)],
        "cases": cases,
        "expected": [ask(exercise.reference, case) for case in cases],
        "mistakes": {text: _results(mutant, cases) for text, mutant in mutants.items()},
        "given": exercise.stub if exercise.given else "",
        "rtol": exercise.rtol,
        "atol": exercise.atol,
        "seconds": exercise.seconds,
    }


def ask(answer, case):
    """Ask an answer a case, with tensors of its own; return its result as plain data.

    Args:
        answer: a function, or a class derived from nn.Module.
        case: list of a function's arguments, or dict as `module.fill` returns it.

    Raises:
        AnswerEnded: it raised an error, is not written yet, or returned something that is not plain.
    """
    from cnnlib.course.exercises import module

    is_class = inspect.isclass(answer) and not isinstance(case, dict)
    kind = "is a class, where a function is asked; it " if is_class else ""
    try:
        given = plain.to_tensors(case)
        result = module.run(answer, given) if isinstance(case, dict) else answer(*given)
    except AnswerEnded:
        raise
    except Exception as error:
        if isinstance(error, NotImplementedError) and not str(error):  # PyTorch's say what is not implemented
            raise AnswerEnded("not attempted", "It is not written yet.") from None
        line = _line(error, answer)
        problem = f"it {kind}raised {type(error).__name__}: {str(error)[:500]}{line}"
        raise AnswerEnded("error", problem) from None
    try:
        return plain.simplify(result)
    except plain.NotPlain as error:
        problem = f"it {kind}returned something else than numbers or tensors: {error}"
        raise AnswerEnded("fail", problem) from None


def check(exercise_id, answer):
    """Say at once whether an answer to an exercise is right, and if not, what differs.

    With the environment variable CNNLIB_STRICT=1 an answer that is not right fails the cell.

    Args:
        exercise_id: such as "02.output_shape"; the lesson's cell names it.
        answer: the function or class that was written.

    Returns:
        Feedback, which a notebook shows.

    Raises:
        ParameterError: there is no such exercise.
        ExerciseFailed: CNNLIB_STRICT=1, and the answer is wrong or not attempted.
    """
    exam = _public_exam(exercise_id)
    handed_out = exam["given"] and squeezed(_cell(answer)) == squeezed(exam["given"])
    if handed_out:
        exam |= {"mistakes": {}}  # to name what it does wrong would be the solution
    if callable(answer):
        try:
            with time_limit(exam["seconds"]):
                verdict = examine(exam, lambda arguments: ask(answer, arguments))
        except TimeIsUp:
            verdict = Verdict(
                "timeout",
                f"It was stopped after {exam['seconds']:g} s. Is there a loop that never ends?",
            )
    else:
        name = exercise_id.partition(".")[2]
        wanted = "function" if isinstance(exam["cases"][0], list) else "class"
        verdict = Verdict(
            "error",
            f"check was given {_described(answer)}, and should be given the {wanted} itself, by its name, "
            f'without parentheses: check("{exercise_id}", {name})',
        )
    if handed_out and not verdict.passed:
        verdict = Verdict("not attempted", f"What was handed out goes wrong: {verdict.message}")
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
            symptom = f" {self.verdict.message}" if self.exam["given"] else ""
            return f"○ {self.exam['id']}: not attempted yet ({points}).{symptom}"
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
    if not isinstance(exercise_id, str):
        raise ParameterError(
            f"an exercise's id is a string, not {kind_of(exercise_id)}; it comes first: "
            'check("02.output_shape", output_shape)'
        )
    lesson = exercise_id[:2]
    if RELEASED.exists():
        exams = {exam["id"]: exam for exam in plain.loads(RELEASED.read_bytes())}
        known = [name for name in exams if name[:2] == lesson]
    else:
        found = {exercise.id: exercise for exercise in exercises(lesson)}
        known = list(found)
    if exercise_id not in known:
        others = f"lesson {lesson} has {', '.join(known)}" if known else "an id is such as 02.output_shape"
        raise ParameterError(f"there is no exercise {exercise_id!r}; {others}")
    if RELEASED.exists():
        return exams[exercise_id]
    with _usual_torch():
        return make_exam(found[exercise_id], PUBLIC_SEED)


@contextlib.contextmanager
def _usual_torch():
    """Undo for a while what a notebook may have set, for the solution relies on float32 and gradients."""
    import torch

    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(dtype)


def _described(value):
    """Return in a few words what is no function."""
    try:
        return describe(plain.simplify(value))
    except plain.NotPlain:
        return f"a value of type {type(value).__name__}"


def _results(function, cases):
    """Return what a wrong solution returns in each case; None where it raises an error."""
    results = []
    for case in cases:
        try:
            results.append(ask(function, case))
        except AnswerEnded:
            results.append(None)
    return results


def squeezed(source):
    """Return a source without what makes no difference: empty lines, trailing spaces, a common indent."""
    lines = (line.rstrip() for line in textwrap.dedent(source).splitlines())
    return "\n".join(line for line in lines if line)


def _head_and_body(source):
    """Split a definition's source behind its docstring; where it has none, behind its signature."""
    lines = source.splitlines()
    node = ast.parse(textwrap.dedent(source)).body[0]
    if ast.get_docstring(node) is None:
        end = next(i for i, line in enumerate(lines, start=1) if line.endswith(":"))
    else:
        end = node.body[0].end_lineno
    return "\n".join(lines[:end]), "\n".join(lines[end:])


def _codes(answer):
    """Return the code objects of a function, or of a class's methods."""
    parts = vars(answer).values() if inspect.isclass(answer) else [answer]
    return [part.__code__ for part in parts if hasattr(part, "__code__")]


def _cell(answer):
    """Return the source of the cell or file that defines an answer; "" where there is none."""
    codes = _codes(answer)
    return "".join(linecache.getlines(codes[0].co_filename)) if codes else ""


def _line(error, answer):
    """Return " (line N after its def)" for the line of an answer that raised an error, where it can be told.

    What stands in the line of the def itself, as in a lambda, is "in the line of" it.
    """
    names = {code: f"def {code.co_name}" if inspect.isclass(answer) else "its def" for code in _codes(answer)}
    names = {code: "its lambda" if code.co_name == "<lambda>" else name for code, name in names.items()}
    trace, found = error.__traceback__, ""
    while trace:
        code = trace.tb_frame.f_code
        if code in names:
            lines = trace.tb_lineno - code.co_firstlineno
            found = (
                f" (line {lines} after {names[code]})" if lines > 0 else f" (in the line of {names[code]})"
            )
        trace = trace.tb_next
    return found
