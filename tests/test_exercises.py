"""Every exercise: its solution passes, its mutants do not, and the lessons show its task as it is."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from IPython.core.compilerop import CachingCompiler
from notebook_tools import LESSONS, code_cells, read, tags
from torch import nn

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
from cnnlib.course.grading.submission import CodeCell, find_answers
from cnnlib.ground.errors import ParameterError

ALL = [exercise for path in LESSONS for exercise in exercises(path.stem)]
BY_ID = {exercise.id: exercise for exercise in ALL}
each = pytest.mark.parametrize("exercise", ALL, ids=lambda exercise: exercise.id)


def bare_exam(exercise, seed):
    """Return an exam that judges as any does, without what plausible mistakes return: it is made sooner."""
    return make_exam(replace(exercise, mutants={}), seed)


def verdict(exercise, answer, seed):
    exam = bare_exam(exercise, seed)
    return examine(exam, lambda case: ask(answer, case))


@each
def test_an_exercise_is_whole(exercise):
    assert re.fullmatch(r"\d\d\.[A-Za-z]\w*", exercise.id)
    assert exercise.reference.__name__ == exercise.name
    assert isinstance(exercise.points, int)
    assert exercise.points >= 1
    assert len(exercise.mutants) >= 3
    assert exercise.hints
    assert len(exercise.cases(np.random.default_rng(0))) >= 3
    assert all(re.match(r"[a-z]", text) and not text.endswith(".") for text in exercise.mutants)
    assert exercise.given is None or exercise.given in exercise.mutants.values()


@each
def test_the_solution_passes_and_every_mutant_is_rejected_with_every_seed(exercise):
    for seed in range(20):
        exam = bare_exam(exercise, seed)
        found = examine(exam, lambda case: ask(exercise.reference, case))
        assert found.passed, (seed, found)
        for text, mutant in exercise.mutants.items():
            found = examine(exam, lambda case, mutant=mutant: ask(mutant, case))
            assert found.status in ("fail", "error"), (text, seed)


@each
def test_a_constant_is_rejected(exercise):
    first = bare_exam(exercise, PUBLIC_SEED)["expected"][0]
    constant = plain.to_tensors(first)
    assert not verdict(exercise, lambda *arguments: constant, PUBLIC_SEED).passed
    assert not verdict(exercise, lambda *arguments: arguments[0], PUBLIC_SEED).passed


@each
def test_an_exam_holds_no_solution_and_survives_as_bytes(exercise):
    exam = make_exam(exercise, 3)
    again = plain.loads(plain.dumps(exam))
    assert examine(again, lambda case: ask(exercise.reference, case)).passed
    assert len(plain.dumps(exam)) < 2_000_000


@each
def test_the_solution_is_its_stub_with_a_body(exercise):
    namespace = {"torch": torch, "nn": nn, "F": F}
    exec(exercise.stub, namespace)
    found = verdict(exercise, namespace[exercise.name], PUBLIC_SEED)
    solution = iter(exercise.solution.splitlines())
    if exercise.given:
        task, _, body = exercise.stub.rpartition('"""\n')
        assert exercise.solution.startswith(f'{task}"""\n')
        assert body
        assert found.status == "fail"
    else:
        lines = exercise.stub.splitlines()
        assert all(line in solution for line in lines if line.strip() != "raise NotImplementedError")
        assert found.status == "not attempted"


@each
def test_no_feedback_says_what_is_wrong_with_the_code_that_was_handed_out(exercise):
    exam = make_exam(exercise, PUBLIC_SEED)
    hidden = {text for text, mutant in exercise.mutants.items() if mutant is exercise.given}
    assert exam["mistakes"].keys() == exercise.mutants.keys() - hidden
    assert bool(exam["given"]) == bool(exercise.given) == bool(hidden)


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


def test_ids_are_unique_and_lessons_have_two_to_nine():
    assert len(BY_ID) == len(ALL)
    for path in LESSONS[1:]:
        assert 2 <= len(exercises(path.stem)) <= 9, path.stem


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
        (lambda x: None, r"it returned None, expected a tensor float32 \(2,\); is there a return\?\n"),
        (lambda x: [1.0], r"expected a tensor float32 \(2,\); torch.tensor\(…\) makes a tensor of a list"),
        (lambda x: [[[[1.0] * 9] * 9] * 9] * 9, r"^✗ 99.double: it returned .{160}…, expected a tensor"),
        (lambda x: (2 * x,), r"expected a tensor float32 \(2,\); leave out the brackets, or the comma"),
        (lambda x: object(), "a value of type object is not plain data"),
        (lambda x: map(float, x), r"type map is not plain data.*; list\(…\) makes a list of it"),
        (range, "it is a class, where a function is asked; it raised TypeError"),
        (zip, "it is a class, where a function is asked; it returned something else"),
        (lambda x: x.long().softmax(0), "it raised NotImplementedError: .* not implemented for 'Long'"),
        (lambda x: x.to_sparse(), "not plain data"),
        (lambda x: 1 / 0, r"it raised ZeroDivisionError: division by zero \(in the line of its lambda\)"),
        (lambda x, y: x, "raised TypeError"),
        (
            torch.ones(2, 3),  # called, not named
            r"check was given a tensor float32 \(2, 3\), and should be given the function itself, by its "
            r'name, without parentheses: check\("99.double", double\)$',
        ),
        ("2 * x", "check was given '2 \\* x', and should be given the function itself"),
        (object(), "check was given a value of type object, and"),
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


@pytest.mark.parametrize("exercise_id", ["10.delivered_share", "09.GroupNorm"])
def test_what_a_notebook_set_does_not_change_the_cases(exercise_id):
    before = plain.dumps(package._public_exam(exercise_id))
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            assert plain.dumps(package._public_exam(exercise_id)) == before
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


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
    with pytest.raises(ParameterError, match=r"no exercise 'xx'; an id is such as 02.output_shape"):
        check("xx", print)
    with pytest.raises(ParameterError, match="an exercise's id is a string, not a function; it comes first"):
        check(double.reference, "99.double")


# --- modules ------------------------------------------------------------------------------------


class Track(nn.Module):
    """weight · (x − seen); in training, seen first moves half-way to the mean of x."""

    def __init__(self, num_features):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.register_buffer("seen", torch.zeros(num_features))

    def forward(self, x):
        if self.training:
            self.seen.lerp_(x.detach().mean(dim=0), 0.5)
        return self.weight * (x - self.seen)


class TrackAlways(Track):
    def forward(self, x):
        return self.train()(x) if not self.training else super().forward(x)


class TrackWhole(Track):
    def forward(self, x):
        if self.training:
            self.seen = x.detach().mean(dim=0)
        return self.weight * (x - self.seen)


class TrackNever(Track):
    def forward(self, x):
        return self.weight * (x - self.seen)


def track_cases(rng):
    return [
        {"arguments": {"num_features": c}, "training": c != 2, "inputs": [normal(rng, n, c)]}
        for n, c in ((4, 3), (3, 2), (1, 5))
    ]


MODULE = Exercise(
    "99.Track",
    2,
    Track,
    track_cases,
    {"switches to training": TrackAlways, "forgets the past": TrackWhole, "stores nothing": TrackNever},
    ("Move it first.",),
)


@pytest.fixture
def track(monkeypatch):
    """A module exercise of its own, 99.Track."""
    monkeypatch.setattr(package, "exercises", lambda lesson: [MODULE] if lesson == "99" else [])


def test_a_module_exercise_checks_and_hides_its_body(track):
    for seed in range(20):
        assert verdict(MODULE, Track, seed).passed
        assert not [text for text, mutant in MODULE.mutants.items() if verdict(MODULE, mutant, seed).passed]
    assert repr(check("99.Track", Track)) == "✓ 99.Track: right in all 3 cases, 2 points."
    assert MODULE.stub.splitlines() == [
        "# exercise 99.Track",
        "class Track(nn.Module):",
        f'    """{Track.__doc__}"""',
        "",
        "    def __init__(self, num_features):",
        "        raise NotImplementedError",
        "",
        "    def forward(self, x):",
        "        raise NotImplementedError",
    ]


def test_a_module_may_be_built_in_other_ways(track):
    class Other(nn.Module):
        def __init__(self, num_features):
            super().__init__()
            self.register_buffer("seen", torch.full((num_features,), 9.0))
            self.register_buffer("scratch", torch.zeros(1), persistent=False)
            self.weight = nn.Parameter(torch.randn(num_features))

        def forward(self, x):
            if self.training:
                self.seen = (self.seen + x.mean(dim=0).detach()) / 2
            return x * self.weight - self.weight * self.seen

    assert check("99.Track", Other).verdict.passed


def test_the_mistake_of_a_module_is_named_with_its_case(track):
    feedback = check("99.Track", TrackWhole)
    assert re.search(r"its output: 12 of 12 values differ: at \[0, 0\] it is \S+, expected", repr(feedback))
    assert "in the case Track(num_features=3) in training mode, x = a tensor float32 (4, 3)" in repr(feedback)
    assert "behaves like an answer that forgets the past." in repr(feedback)
    assert "Move it first." in feedback._repr_html_()


def test_a_state_is_random_valid_and_the_same_for_a_seed():
    exam = make_exam(MODULE, 5)
    assert plain.dumps(exam) == plain.dumps(make_exam(MODULE, 5)) != plain.dumps(make_exam(MODULE, 6))
    for case in exam["cases"]:
        assert (case["buffers"]["seen"] > 0).all()  # as a running variance must be
        assert len(np.unique(case["parameters"]["weight"])) == case["arguments"]["num_features"]
    before = torch.random.get_rng_state()
    make_exam(MODULE, 5)
    assert torch.equal(before, torch.random.get_rng_state())


class NoModule:
    def __init__(self, num_features):
        pass


class OtherNames(Track):
    def __init__(self, num_features):
        super().__init__(num_features)
        del self.seen
        for number in range(10):
            self.register_buffer(f"b{number}", torch.zeros(num_features))


class OneUnderscore(nn.Module):
    def _init_(self, num_features):
        pass


class NoForward(Track):
    forward = nn.Module.forward


class Renamed(Track):
    def __init__(self, channels):
        super().__init__(channels)


class NoSuper(nn.Module):
    def __init__(self, num_features):
        self.num_features = num_features


class NoParameter(Track):
    def __init__(self, num_features):
        super().__init__(num_features)
        del self.weight
        self.weight = torch.ones(num_features)


class OtherShape(Track):
    def __init__(self, num_features):
        super().__init__(1)


class MoreBuffers(Track):
    def __init__(self, num_features):
        super().__init__(num_features)
        self.register_buffer("count", torch.tensor(0))


class LearnedBuffer(Track):
    def __init__(self, num_features):
        super().__init__(num_features)
        del self.seen
        self.seen = nn.Parameter(torch.zeros(num_features))


class Frozen(Track):
    def __init__(self, num_features):
        super().__init__(num_features)
        self.weight.requires_grad_(False)


class WithGraph(Track):
    def forward(self, x):
        if self.training:
            self.seen = self.seen.lerp(x.mean(dim=0), 0.5)
        return self.weight * (x - self.seen.detach())


class InPlace(Track):
    def forward(self, x):
        if self.training:
            self.seen.lerp_(x.detach().mean(dim=0), 0.5)
        x -= self.seen
        return self.weight * x


class KeepsNothing(Track):
    def forward(self, x):
        before = self.seen.clone()
        out = super().forward(x)
        self.seen = before
        return out


def with_forward(change):
    """Return a class whose forward gives what `change` makes of it, its input and the right output."""

    class Changed(Track):
        def forward(self, x):
            return change(self, x, super().forward(x))

    return Changed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda num_features: None, "it is a function and no module; a class is asked that is derived from"),
        (Track(3), r"it is a module, built already; give check the class, Track without \(…\) behind it\n"),
        (NoModule, "it is a class and no module; a class is asked that is derived from nn.Module"),
        ("Track", r"check was given 'Track', and should be given the class itself, .*\(.99.Track., Track\)"),
        (OneUnderscore, "it has no __init__ of its own: is its name misspelt?"),
        (NoForward, "it has no method forward: is its name misspelt"),
        (Renamed, r"cannot be built with \(num_features=3\): .*channels"),
        (NoSuper, r"__init__ must begin with super\(\).__init__\(\)"),
        (NoParameter, r"its parameters are none, expected weight\n"),
        (OtherShape, r"weight, one of its parameters, has the shape \(1,\), expected \(3,\)"),
        (MoreBuffers, r"its buffers do not have the names asked for \(not asked for: count\)"),
        (LearnedBuffer, r"its parameters do not have the names asked for \(not asked for: seen\)"),
        (OtherNames, r"its buffers are b0, b1, b2, b3, b4, b5, b6, b7 and 2 more, expected seen\n"),
        (
            with_forward(lambda module, x, y: None),
            "forward returned no tensor but None; is there a return",
        ),
        (with_forward(lambda module, x, y: (y, y)), "forward returned no tensor but a tuple"),
        (with_forward(lambda module, x, y: y.T), r"its output has the shape \(3, 4\), expected \(4, 3\)"),
        (
            with_forward(lambda module, x, y: y.double()),
            "its output: it has dtype float64, expected dtype float32",
        ),
        (with_forward(lambda module, x, y: y.detach()), "its output has no gradient: no_grad, detach"),
        (with_forward(lambda module, x, y: y - x + x.detach()), "the gradient of its input 0: 12 of 12"),
        (with_forward(lambda module, x, y: module.weight * y.detach()), "its input 0 gets no gradient"),
        (with_forward(lambda module, x, y: x + (y - x).detach()), "its parameter weight gets no gradient"),
        (Frozen, "its parameter weight gets no gradient: the output does not depend on it"),
        (InPlace, "forward changed its input 0 in place"),
        (TrackAlways, "in evaluation mode"),
        (
            with_forward(lambda module, x, y: module.train(not module.training) and y),
            "forward switched between",
        ),
        (WithGraph, r"its buffer seen keeps the graph of the batch alive; store what detach\(\) returns"),
        (KeepsNothing, "its buffer seen, afterwards: 3 of 3 values differ"),
        (with_forward(lambda module, x, y: y[9]), r"IndexError: .*\(line 1 after def forward\)"),
    ],
)
def test_a_wrong_module_gets_one_clear_sentence(track, answer, message):
    feedback = check("99.Track", answer)
    assert feedback.verdict.status in ("fail", "error")
    assert re.search(message, repr(feedback)), repr(feedback)


class Lookup(nn.Module):
    """A row of numbers for each int."""

    def __init__(self, rows):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, 2))

    def forward(self, numbers):
        return self.weight[numbers]


class Idle(Lookup):
    """A row of numbers for each int, and a number that nothing depends on."""

    def __init__(self, rows):
        super().__init__(rows)
        self.idle = nn.Parameter(torch.zeros(1))


def lookup_cases(rng):
    numbers = [torch.from_numpy(rng.integers(0, rows, 4)) for rows in (2, 3, 5)]
    return [{"arguments": {"rows": 5}, "training": True, "inputs": [n]} for n in numbers]


def test_an_int_input_needs_no_gradient_and_each_parameter_of_a_reference_does():
    exercise = Exercise("99.Lookup", 1, Lookup, lookup_cases, {}, ())
    assert verdict(exercise, Lookup, 0).passed
    with pytest.raises(AnswerEnded, match="its parameter idle gets no gradient"):
        make_exam(Exercise("99.Idle", 1, Idle, lookup_cases, {}, ()), 0)


def test_a_module_that_is_not_written_is_not_attempted(track):
    class Begun(Track):
        def forward(self, x):
            raise NotImplementedError

    assert repr(check("99.Track", Begun)) == "○ 99.Track: not attempted yet (2 points)."


def test_a_module_is_no_answer_to_a_function_exercise(double):
    assert "was given 3, and should be given the function" in repr(check("99.double", 3))
    assert not check("99.double", Track).verdict.passed


# --- code with a fault, to be mended ------------------------------------------------------------


def total(values):
    """Return the sum of a list of ints."""
    result = 0
    for value in values:
        result += value
    return result


def total_early(values):
    # This is the code of a colleague.
    result = 0
    for value in values:
        result += value
        return result
    return 0


FAULTY = Exercise(
    "99.total",
    1,
    total,
    lambda rng: [[[3]], [rng.integers(1, 9, 3).tolist()], [[]]],
    {
        "stops after the first one": total_early,
        "takes the first one": lambda values: values[0] if values else 0,  # the same fault in other words
        "counts": len,
        "multiplies": lambda values: int(np.prod(values)),
    },
    ("Where is the return?",),
    given=total_early,
)


@pytest.fixture
def faulty(monkeypatch):
    """An exercise that hands out code with a fault, 99.total."""
    monkeypatch.setattr(package, "exercises", lambda lesson: [FAULTY] if lesson == "99" else [])


def as_cell(source):
    """Run a cell as a notebook does, which keeps its source; return what it defines."""
    name = CachingCompiler().cache(source)
    namespace = {}
    exec(compile(source, name, "exec"), namespace)
    return namespace["total"]


def test_the_code_that_is_handed_out_is_the_task_with_the_fault():
    assert FAULTY.stub == (
        '# exercise 99.total\ndef total(values):\n    """Return the sum of a list of ints."""\n'
        "    # This is the code of a colleague.\n    result = 0\n    for value in values:\n"
        "        result += value\n        return result\n    return 0"
    )


def test_a_check_shows_where_the_code_goes_wrong_and_not_why(faulty, monkeypatch):
    feedback = check("99.total", as_cell(f"{FAULTY.stub}\n\n"))
    assert feedback.verdict.status == "not attempted"
    assert re.match(
        r"○ 99.total: not attempted yet \(1 point\). What was handed out goes wrong: it returned",
        repr(feedback),
    )
    assert "in the case values = [" in repr(feedback)
    assert "stops" not in repr(feedback)
    assert "behaves like" not in repr(feedback)
    assert "Where is the return?" in feedback._repr_html_()
    monkeypatch.setenv("CNNLIB_STRICT", "1")
    with pytest.raises(ExerciseFailed, match="not attempted"):
        check("99.total", as_cell(FAULTY.stub))


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda source: source, "not attempted"),
        (lambda source: source.replace("\n", "  \n\n"), "not attempted"),
        (lambda source: source.replace("result += value", "result = value"), "fail"),
        (lambda source: source.replace("    return result\n    return 0", "return result"), "pass"),
        (lambda source: source.replace("        return result", "    return result"), "pass"),
    ],
)
def test_check_and_grader_agree_whether_the_code_was_touched(faulty, change, status):
    source = change(FAULTY.stub)
    assert check("99.total", as_cell(source)).verdict.status == status
    asked = [{"id": FAULTY.id, "stub": FAULTY.stub}]
    answer = find_answers([CodeCell("exercise-total", source)], asked)[FAULTY.id]
    assert answer.status == ("not attempted" if status == "not attempted" else "")


def test_another_mistake_is_named(faulty):
    assert "behaves like an answer that counts." in repr(check("99.total", lambda values: len(values)))


@pytest.mark.parametrize("exercise", [MODULE, FAULTY], ids=["module", "fault"])
def test_a_learners_copy_checks_from_the_exams_alone(exercise, monkeypatch, tmp_path):
    data = plain.dumps([make_exam(exercise, PUBLIC_SEED)])
    (tmp_path / "released.bin").write_bytes(data)
    monkeypatch.setattr(package, "RELEASED", tmp_path / "released.bin")
    monkeypatch.setattr(package, "exercises", lambda lesson: [])
    assert check(exercise.id, exercise.reference).verdict.passed
    assert not [m for m in exercise.mutants.values() if check(exercise.id, m).verdict.passed]
    assert b"lerp" not in data
    assert b"stops after" not in data


# --- judging and plain data ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "result", "problem"),
    [
        (1.0, 1.0 + 1e-8, ""),
        (2.0, 2, ""),
        (2, 2.0, "it returned 2.0, expected an int; int(…) makes one of it"),
        (2, 2.5, "it returned 2.5, expected an int"),
        (2, [2], "it returned [2], expected an int; leave out the brackets, or the comma, around it"),
        (1.0, 1.00000049, "it returned 1.00000049, expected 1"),
        (np.array([1234567]), np.array([1234568]), "at [0] it returned 1234568, expected 1234567"),
        (np.array([True]), np.array([False]), "at [0] it returned False, expected True"),
        ([1, 2], np.array([1, 2]), "expected a list or tuple; .tolist() makes a list of it"),
        ([1, 2], [None, 2], "value 0: it returned None, expected an int"),
        ([1, 2, 3], [1], "it returned 1 value, expected 3"),
        ([1, 2, 3], [[1, 2, 3]], "it returned 1 value, expected 3; leave out the brackets, or the comma"),
        ("cat", 3, "it returned 3, expected a string"),
        (True, 1, "expected a bool"),
        (1.0, float("nan"), "returned nan"),
        (float("nan"), float("nan"), ""),
        (1.0, 10**400, "expected a float"),
        ([1, [2, 3]], [1, [2, 4]], "value 1: value 1: it returned 4, expected 3"),
        ({"a": 1}, {"b": 1}, "keys ['b'], expected ['a']"),
        ({"a": 1}, {"a": 2}, "a: it returned 2"),
        ("cat", "dog", "returned 'dog', expected 'cat'"),
        (3.0, np.array(3.0), ".item()"),
        (np.array([1, 2]), np.array([1, 3]), "1 of 2 values differ: at [1]"),
        (np.float32([np.inf, np.nan]), np.float32([np.inf, np.nan]), ""),
        (np.float32([0.0]), np.float32([np.inf]), "returned inf"),
    ],
)
def test_difference(expected, result, problem):
    found = difference(expected, result, 1e-7, 1e-7)
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


def test_the_line_of_an_error_reads_well_wherever_it_is(track):
    lambdas = eval("lambda x: x[9][9][9]")
    exec("def one(x): return x[9][9][9]", found := {})
    exec("def two(x):\n    y = x\n    return y[9][9][9]", found)
    for answer, place in (
        (lambdas, "in the line of its lambda"),
        (found["one"], "in the line of its def"),
        (found["two"], "line 2 after its def"),
    ):
        with pytest.raises(AnswerEnded) as ended:
            package.ask(answer, [[1.0, 2.0]])
        assert ended.value.verdict.message.endswith(f"({place})"), ended.value.verdict.message
