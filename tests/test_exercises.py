"""Every exercise: its solution passes, its mutants do not, and the lessons show its task as it is."""

import re

import numpy as np
import pytest
import torch
from notebook_tools import LESSONS, code_cells, read, tags

from cnnlib.course import exercises as package
from cnnlib.course.exercises import (
    PUBLIC_SEED,
    Exercise,
    ExerciseFailed,
    ask,
    check,
    exercises,
    make_exam,
    normal,
    plain,
)
from cnnlib.course.exercises.judge import AnswerEnded, difference, examine
from cnnlib.ground.errors import ParameterError

ALL = [exercise for path in LESSONS for exercise in exercises(path.stem)]
BY_ID = {exercise.id: exercise for exercise in ALL}
each = pytest.mark.parametrize("exercise", ALL, ids=lambda exercise: exercise.id)


def verdict(exercise, answer, seed):
    exam = make_exam(exercise, seed)
    return examine(exam, lambda arguments: ask(answer, arguments))


@each
def test_an_exercise_is_whole(exercise):
    assert re.fullmatch(r"\d\d\.[a-z]\w*", exercise.id)
    assert exercise.reference.__name__ == exercise.name
    assert isinstance(exercise.points, int)
    assert exercise.points >= 1
    assert len(exercise.mutants) >= 3
    assert exercise.hints
    assert len(exercise.cases(np.random.default_rng(0))) >= 3
    assert all(re.match(r"[a-z]", text) and not text.endswith(".") for text in exercise.mutants)


@each
def test_the_solution_passes_with_every_seed(exercise):
    for seed in range(20):
        found = verdict(exercise, exercise.reference, seed)
        assert found.passed, (seed, found)


@each
def test_every_mutant_is_rejected_with_every_seed(exercise):
    for text, mutant in exercise.mutants.items():
        for seed in range(20):
            assert verdict(exercise, mutant, seed).status in ("fail", "error"), (text, seed)


@each
def test_a_constant_is_rejected(exercise):
    first = make_exam(exercise, PUBLIC_SEED)["expected"][0]
    constant = plain.to_tensors(first)
    assert not verdict(exercise, lambda *arguments: constant, PUBLIC_SEED).passed
    assert not verdict(exercise, lambda *arguments: arguments[0], PUBLIC_SEED).passed


@each
def test_an_exam_holds_no_solution_and_survives_as_bytes(exercise):
    exam = make_exam(exercise, 3)
    again = plain.loads(plain.dumps(exam))
    assert examine(again, lambda arguments: ask(exercise.reference, arguments)).passed
    assert len(plain.dumps(exam)) < 2_000_000


@each
def test_the_solution_is_its_stub_with_a_body(exercise):
    stub = exercise.stub.removesuffix("    raise NotImplementedError")
    assert exercise.solution.startswith(stub)
    namespace = {}
    exec(exercise.stub, namespace)
    assert verdict(exercise, namespace[exercise.name], PUBLIC_SEED).status == "not attempted"


@pytest.mark.parametrize("path", [p for p in LESSONS if exercises(p.stem)], ids=lambda path: path.stem)
def test_a_lesson_shows_each_exercise_and_its_check(path):
    cells = code_cells(read(path))
    shown = {cell.id: cell for cell in cells if "exercise" in tags(cell) or "check" in tags(cell)}
    expected = {}
    for exercise in exercises(path.stem):
        expected[f"exercise-{exercise.name}"] = ("exercise", exercise.stub)
        expected[f"check-{exercise.name}"] = ("check", f'check("{exercise.id}", {exercise.name})')
    assert {id: (tags(cell)[0], cell.source) for id, cell in shown.items()} == expected
    names = [exercise.name for exercise in exercises(path.stem)]
    assert [id for id in shown if id.startswith("exercise-")] == [f"exercise-{name}" for name in names]
    order = [cell.id for cell in cells]
    for exercise in exercises(path.stem):
        assert order.index(f"check-{exercise.name}") == order.index(f"exercise-{exercise.name}") + 1


def test_ids_are_unique_and_lessons_have_four_to_eight():
    assert len(BY_ID) == len(ALL)
    for path in LESSONS[1:]:
        assert 4 <= len(exercises(path.stem)) <= 8, path.stem


# --- check: what a learner sees -----------------------------------------------------------------


@pytest.fixture
def double(monkeypatch):
    """An exercise of its own, 99.double: return twice a tensor."""

    def double(x):
        """Return twice x."""
        return 2 * x

    def square(x):
        return x * x

    def cases(rng):
        return [[torch.full((2,), 2.0)], [normal(rng, 3)], [normal(rng, 2, 2)]]

    exercise = Exercise("99.double", 1, double, cases, {"squares x": square}, ("Add x <to> itself.",))
    monkeypatch.setattr(package, "exercises", lambda lesson: [exercise] if lesson == "99" else [])
    return exercise


def test_a_right_answer(double):
    feedback = check("99.double", lambda x: x + x)
    assert feedback.verdict.passed
    assert repr(feedback) == "✓ 99.double: right in all 3 cases, 1 point."
    assert "Hint" not in feedback._repr_html_()


def test_a_wrong_value_is_named_with_its_place_its_case_and_the_mistake(double):
    feedback = check("99.double", double.mutants["squares x"])
    assert feedback.verdict.status == "fail"
    assert re.search(r"of 3 values differ: at \[0\] it returned \S+, expected \S+", repr(feedback))
    assert "in the case x = a tensor float32 (3,)" in repr(feedback)
    assert "behaves like an answer that squares x." in repr(feedback)
    assert "Add x &lt;to&gt; itself." in feedback._repr_html_()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: (2 * x).double(), "dtype float64, expected dtype float32"),
        (lambda x: (2 * x)[:1], r"shape \(1,\), expected shape \(2,\)"),
        (lambda x: 2 * x * float("nan"), "it returned nan, expected 4"),
        (lambda x: None, "it returned None, expected a tensor"),
        (lambda x: [1.0], "expected a tensor float32"),
        (lambda x: object(), "a object is not plain data"),
        (lambda x: x.to_sparse(), "not plain data"),
        (lambda x: 1 / 0, r"it raised ZeroDivisionError: division by zero \(line 0"),
        (lambda x, y: x, "raised TypeError"),
        ("2 * x", "should be a function"),
    ],
)
def test_a_wrong_answer_gets_a_message_that_helps(double, answer, message):
    feedback = check("99.double", answer)
    assert feedback.verdict.status in ("fail", "error")
    assert re.search(message, repr(feedback)), repr(feedback)


def test_an_answer_cannot_change_the_cases_of_the_next_check(double):
    def greedy(x):
        x *= 2
        return x

    assert check("99.double", greedy).verdict.passed
    assert check("99.double", double.reference).verdict.passed


def test_strict_mode_raises(double, monkeypatch):
    def unwritten(x):
        raise NotImplementedError

    assert "not attempted yet" in repr(check("99.double", unwritten))
    monkeypatch.setenv("CNNLIB_STRICT", "1")
    for answer in (unwritten, lambda x: x):
        with pytest.raises(ExerciseFailed, match=r"99\.double"):
            check("99.double", answer)
    assert check("99.double", lambda x: 2 * x).verdict.passed


def test_an_unknown_exercise_is_named(double):
    with pytest.raises(ParameterError, match=r"no exercise '99.dubble'; lesson 99 has 99.double"):
        check("99.dubble", print)
    with pytest.raises(ParameterError, match="has none"):
        check("xx", print)


# --- judging and plain data ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "result", "problem"),
    [
        (1.0, 1.0 + 1e-7, ""),
        (2.0, 2, ""),
        (2, 2.0, "expected an int"),
        (True, 1, "expected a bool"),
        (1.0, float("nan"), "returned nan"),
        (float("nan"), float("nan"), ""),
        (1.0, 10**400, "expected a float"),
        ([1, 2], [1], "1 values, expected 2"),
        ([1, [2, 3]], [1, [2, 4]], "value 1: value 1: it returned 4, expected 3"),
        ({"a": 1}, {"b": 1}, "keys ['b'], expected ['a']"),
        ({"a": 1}, {"a": 2}, "'a': it returned 2"),
        ("cat", "dog", "returned 'dog', expected 'cat'"),
        (3.0, np.array(3.0), ".item()"),
        (np.array([1, 2]), np.array([1, 3]), "1 of 2 values differ: at [1]"),
        (np.float32([np.inf, np.nan]), np.float32([np.inf, np.nan]), ""),
        (np.float32([0.0]), np.float32([np.inf]), "returned inf"),
    ],
)
def test_difference(expected, result, problem):
    found = difference(expected, result, 1e-4, 1e-5)
    assert (problem in found) if problem else found == "", found


def test_an_exam_ends_with_what_ended_the_answer():
    exam = make_exam(next(iter(ALL)), 0)

    def ended(arguments):
        raise AnswerEnded("timeout", "too slow")

    assert examine(exam, ended).status == "timeout"


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -(2**70),
        1e300,
        "a\n\0ü",
        [],
        {},
        [1, [2.5, {"a": None}]],
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.float16(1.5) * np.ones((2, 0, 3), dtype=np.float16),
        np.array(True),
        {"a": np.ones(3), "b": [np.zeros((1, 1), dtype=np.uint8)]},
    ],
)
def test_plain_data_survives_as_bytes(value):
    again = plain.loads(plain.dumps(value))
    assert difference(plain.simplify(value), again, 0, 0) == ""


@pytest.mark.parametrize(
    "value",
    [object(), print, {1: 2}, b"x", 1j, torch.ones(2).to_sparse(), torch.zeros(1, dtype=torch.complex64),
     torch.zeros(1, dtype=torch.bfloat16), np.array(["a"]), np.array([None]), {"$array": 1}, "\ud800" * 2],
)  # fmt: skip
def test_what_is_not_plain_is_refused(value):
    with pytest.raises(plain.NotPlain):
        plain.dumps(value)


def test_deep_nesting_is_refused():
    deep = []
    for _ in range(3000):
        deep = [deep]
    with pytest.raises(plain.NotPlain, match="deep"):
        plain.dumps(deep)


def frame(text, buffers=b""):
    return len(text).to_bytes(4, "big") + text + buffers


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0",
        frame(b"{"),
        frame(b"1", b"x"),
        frame(b"1")[:-1],
        frame(b"[" * 100_000),
        frame(b"[" * 40 + b"]" * 40),
        frame(b'{"$array": ["float32", 2]}', b"1234"),
        frame(b'{"$array": ["float32", -1]}'),
        frame(b'{"$array": ["float32", 1e3]}', b"1234" * 1000),
        frame(b'{"$array": ["float32", 99999999, 99999999, 99999999]}'),
        frame(b'{"$array": ["object", 1]}', b"12345678"),
        frame(b'{"$array": []}'),
        frame(b'{"$array": 3}'),
        frame(b'{"$array": [["float32"], 1]}', b"1234"),
        frame(b"\xff\xfe"),
        frame(b'"\\ud800"'),
        b"\xff\xff\xff\xff1",
    ],
)
def test_forged_bytes_are_refused(data):
    with pytest.raises(plain.NotPlain):
        plain.loads(data)
