"""Grading a folder of submissions, as an instructor does: damaged, hostile and honest ones together."""

import argparse
import csv
import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import nbformat
import pytest
from notebook_tools import LESSONS, read
from processes import below, wait_for_the_end_of

from cnnlib.course.command_line import main
from cnnlib.course.exercises import check, exercises
from cnnlib.course.grading import batch, jail
from cnnlib.course.grading.submission import (
    SIZE_LIMIT,
    CodeCell,
    SubmissionError,
    code_cells,
    find_answers,
    read_bytes,
)
from cnnlib.course.jobs import run_jobs
from cnnlib.ground.env import NOTEBOOKS, ROOT
from cnnlib.ground.errors import ParameterError

needs_jail = pytest.mark.skipif(not jail.available(), reason="this machine has no namespaces for a jail")

LESSON = NOTEBOOKS / "02_parts_of_a_cnn.ipynb"
ASKED = exercises("02")
WORTH = sum(exercise.points for exercise in ASKED)
FIRST, SECOND, THIRD, *_ = ASKED
SOLVED = {exercise.name: exercise.solution for exercise in ASKED}


def submission(answers=(), lesson=LESSON):
    """Return the lesson as a learner hands it in, with these answers {name: source} in their cells."""
    notebook = read(lesson)
    for cell in notebook.cells:
        if cell.id.removeprefix("exercise-") in dict(answers):
            cell.source = dict(answers)[cell.id.removeprefix("exercise-")]
    return notebook


def split_cells(notebook):
    """Split each exercise's cell after its first line, as JupyterLab does at the cursor."""
    for position in reversed(range(len(notebook.cells))):
        cell = notebook.cells[position]
        if cell.id.startswith("exercise-"):
            cell.source, rest = cell.source.split("\n", 1)
            notebook.cells.insert(position + 1, nbformat.v4.new_code_cell(rest))
    return notebook


def as_bytes(notebook):
    return nbformat.writes(notebook).encode()


def wrong(exercise):
    if exercise.given:  # the stub has a body
        return exercise.stub.rpartition('"""')[0] + '"""\n    return None'
    return exercise.stub.replace("    raise NotImplementedError", "    return None")


# --- the whole batch ----------------------------------------------------------------------------

FORGED_CHECK = "class Feedback:\n    passed = True\ndef check(*_): return Feedback()\nexamine = check"
TRANSFORMER = """import ast
class ReturnOne(ast.NodeTransformer):
    def visit_Call(self, node): return ast.Constant(1)
ip = get_ipython()
ip.ast_transformers.append(ReturnOne())
ip.input_transformers_cleanup.append(lambda lines: ["1\\n"])"""
CONFTEST = """import pytest
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    outcome.get_result().outcome = "passed"
open(__file__ + ".ran", "w").close()
"""


def hand_in(folder):
    """Write submissions of every sort into a folder; return {student: (status, score) that it must get}."""
    folder.mkdir()

    def file(student, notebook):
        content = notebook if isinstance(notebook, bytes) else as_bytes(notebook)
        (folder / f"{student}.ipynb").write_bytes(content)

    expected = {"ann": ("graded", WORTH), "zoe": ("graded", WORTH), "bob": ("graded", 0)}
    file("ann", submission(SOLVED))
    file("bob", submission())
    file("zoe", submission(SOLVED))
    file("sue", split_cells(submission(SOLVED)))
    expected["sue"] = ("graded", WORTH)

    forger = submission({exercise.name: wrong(exercise) for exercise in ASKED})
    for cell in forger.cells:
        if cell.id.startswith("check-"):
            cell.source = "1"
            cell.outputs = [nbformat.v4.new_output("stream", text=f"✓ {cell.id}: right")]
    forger.cells[:0] = [nbformat.v4.new_code_cell(FORGED_CHECK), nbformat.v4.new_code_cell(TRANSFORMER)]
    (folder / "eve").mkdir()
    (folder / "eve" / "02.ipynb").write_bytes(as_bytes(forger))
    for name in (
        "conftest.py",
        "sitecustomize.py",
        "usercustomize.py",
        "nbval_outcomes.py",
        "ipython_config.py",
    ):
        (folder / "eve" / name).write_text(CONFTEST)
        (folder / name).write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --collect-only\n")
    expected["eve"] = ("graded", 0)

    killer = {
        FIRST.name: f"import os\n{FIRST.stub}\n    os._exit(0)".replace("raise", "0 #"),
        SECOND.name: f"import ctypes\n{SECOND.stub}\n    ctypes.string_at(0)".replace("raise", "0 #"),
    }
    file("mal", submission(SOLVED | killer))
    expected["mal"] = ("graded", WORTH - FIRST.points - SECOND.points)

    file("<script>alert(1)<", submission({FIRST.name: f"{FIRST.stub} # </pre><script>alert(2)</script>"}))
    expected["<script>alert(1)<"] = ("graded", 0)
    file("=1+1", b"")
    expected["=1+1"] = ("unreadable", 0)
    file("page", b"<!DOCTYPE html><html></html>")
    expected["page"] = ("unreadable", 0)
    traversal = "x\\..\\..\\%2e%2e%2f;$(touch y)\n"
    file(traversal, b"{}")
    expected[traversal] = ("unreadable", 0)
    os.symlink(folder / "ann.ipynb", folder / "link.ipynb")
    expected["link"] = ("unreadable", 0)
    (folder / "none").mkdir()
    expected["none"] = ("unreadable", 0)
    with open(os.fsencode(folder) + b"/caf\xe9.ipynb", "wb") as nameless:
        nameless.write(b"[]")
    expected["caf\ufffd"] = ("unreadable", 0)
    expected["absent"] = ("missing", 0)
    return expected


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A run over all sorts of submissions: (folder of the run, of the submissions, results, expected)."""
    base = tmp_path_factory.mktemp("batch")
    expected = hand_in(base / "submissions")
    roster = base / "roster.csv"
    people = [("ann", "Ann Ångström", "ann@example.org"), ("absent", "=HYPERLINK(1)", "+1")]
    text = "".join(f"{s},{n},{e}\n" for s, n, e in people)
    roster.write_text(f"\ufeffstudent_id,name,email\n{text}", encoding="utf-8")
    with ThreadPoolExecutor(2) as executor:
        results = batch.grade(
            LESSON,
            base / "submissions",
            base / "run",
            executor=executor,
            roster=roster,
            seed=11,
            progress=str,
        )
    return base / "run", base / "submissions", results, expected


def table(path):
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))


@needs_jail
def test_everyone_gets_what_they_earned_whoever_else_is_in_the_batch(graded):
    *_, results, expected = graded
    found = {
        r["student_id"]: (r["status"], sum(e["score"] for e in r["exercises"].values())) for r in results
    }
    assert found == expected


@needs_jail
def test_statuses_keep_apart_what_happened(graded):
    by_student = {result["student_id"]: result["exercises"] for result in graded[2]}
    assert {e["status"] for e in by_student["ann"].values()} == {"pass"}
    assert {e["status"] for e in by_student["bob"].values()} == {"not attempted"}
    assert {e["status"] for e in by_student["eve"].values()} <= {"fail", "error"}
    assert by_student["mal"][FIRST.id]["status"] == by_student["mal"][SECOND.id]["status"] == "killed"


@needs_jail
def test_no_file_beside_a_submission_is_run(graded):
    assert not list(graded[1].rglob("*.ran"))


@needs_jail
def test_the_gradebook_has_a_row_for_each_and_no_formula(graded):
    run, _, results, expected = graded
    rows = table(run / "gradebook.csv")
    assert list(rows[0]) == [
        *("student_id", "name", "email", "status", "attempt", "late", "score", "max_score", "percent"),
        *(exercise.id for exercise in ASKED),
        *("comment", "flags", "isolation", "run_id", "sha256"),
    ]
    assert len(rows) == len(results) == len(expected)
    assert not [value for row in rows for value in row.values() if value[:1] in ("=", "+", "-", "@")]
    by_student = {row["student_id"]: row for row in rows}
    assert by_student["ann"]["name"] == "Ann Ångström"
    assert by_student["ann"]["percent"] == "100.0"
    assert by_student["ann"]["isolation"] == "namespaces"
    assert len(by_student["ann"]["sha256"]) == 64
    assert by_student["absent"]["name"] == "'=HYPERLINK(1)"
    assert "'=1+1" in by_student
    assert "it is a link" in by_student["link"]["flags"]
    assert "exactly one" in by_student["none"]["flags"]
    assert len({row["run_id"] for row in rows}) == 1


@needs_jail
def test_the_items_tell_how_each_exercise_went(graded):
    rows = table(graded[0] / "items.csv")
    assert [row["exercise"] for row in rows] == [exercise.id for exercise in ASKED]
    first, third = rows[0], rows[2]
    assert (first["graded"], first["pass"], first["killed"]) == ("7", "3", "1")
    assert (third["pass"], third["share_passed"]) == ("4", "0.571")
    assert float(third["discrimination"]) > 0.5


@needs_jail
def test_the_junit_file_counts_what_it_holds(graded):
    root = ElementTree.parse(graded[0] / "junit.xml").getroot()
    assert len(root) == len(graded[2])
    for suite in root:
        for count, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(count)) == len(suite.findall(f"testcase/{tag}")), suite.get("name")
        assert int(suite.get("tests")) == len(suite.findall("testcase"))


@needs_jail
def test_pages_show_what_learners_wrote_as_text(graded):
    run, _, results, _ = graded
    pages = sorted(path.name for path in (run / "feedback").iterdir())
    assert pages == sorted(result["page"] for result in results)
    assert all(re.fullmatch(r"[\w-]+\.html", page) for page in pages)
    for path in (run / "feedback").iterdir():
        tags = Tags(path.read_text(encoding="utf-8")).found
        assert tags <= INERT, path
    (evil,) = [r["page"] for r in results if r["student_id"].startswith("<script>")]
    assert "&lt;script&gt;alert(2)" in (run / "feedback" / evil).read_text()


INERT = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "strong", "section"}
INERT |= {"br", "details", "summary", "ol", "ul", "li", "pre"}


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.add(tag)
        assert not [name for name, _ in attributes if name.startswith("on") or name in ("href", "src")]


@needs_jail
def test_a_run_is_not_written_over(graded):
    run, submissions, *_ = graded
    with pytest.raises(ParameterError, match="holds a run already"):
        batch.grade(LESSON, submissions, run)
    with pytest.raises(ParameterError, match="a run of 02_parts_of_a_cnn"):
        batch.grade(NOTEBOOKS / "07_architectures_modern.ipynb", submissions, run, resume=True)


@needs_jail
def test_regrading_changes_only_what_changed(graded, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(graded[0], run, symlinks=True)
    old_id = json.loads((run / "run.json").read_text())["run_id"]
    stored = next(p for p in (run / "results").iterdir() if p.name.startswith("bob"))
    result = json.loads(stored.read_text())
    result["exercises"][FIRST.id]["score"] = FIRST.points  # as if an exercise had been judged wrongly
    stored.write_text(json.dumps(result))
    results, changes = batch.regrade(run, ["bob"], progress=str)
    assert changes == [("bob", FIRST.id, FIRST.points, 0)]
    assert {r["student_id"]: r["status"] for r in results} == {
        r["student_id"]: r["status"] for r in graded[2]
    }
    assert (run / f"gradebook-{old_id}.csv").exists()
    assert {row["run_id"] for row in table(run / "gradebook.csv")} != {old_id}
    with pytest.raises(ParameterError, match="nobody did not submit"):
        batch.regrade(run, ["nobody"])
    with pytest.raises(ParameterError, match="holds no run"):
        batch.regrade(tmp_path)


# --- interrupted, and elsewhere -----------------------------------------------------------------


@pytest.fixture
def three(tmp_path):
    folder = tmp_path / "three"
    folder.mkdir()
    answers = {"a": SOLVED, "b": {FIRST.name: wrong(FIRST), SECOND.name: SECOND.solution}, "c": {}}
    for student, answer in answers.items():
        (folder / f"{student}.ipynb").write_bytes(as_bytes(submission(answer)))
    return folder


def without_run_id(path):
    return [{k: v for k, v in row.items() if k != "run_id"} for row in table(path)]


@needs_jail
def test_a_run_that_was_killed_resumes_to_identical_grades(three, tmp_path, capsys):
    killed = tmp_path / "killed"
    late = f"import time\n{FIRST.solution}\nquick = {FIRST.name}\n"
    late += f"def {FIRST.name}(*sizes):\n    time.sleep(1)\n    return quick(*sizes)"
    (three / "b.ipynb").write_bytes(as_bytes(submission({FIRST.name: late})))
    arguments = ["grade", "02", str(three), "--seed", "5", "--exercises", f"{FIRST.id},{SECOND.id}", "-o"]
    with subprocess.Popen(
        [sys.executable, "-m", "cnnlib", *arguments, str(killed)], stdout=subprocess.PIPE
    ) as process:
        assert b"[1/3] a:" in process.stdout.readline()
        left = below(process.pid)  # pytest, the kernel, a warden, perhaps a jail
        process.kill()
    assert len(left) >= 3
    wait_for_the_end_of(left)
    assert len(list((killed / "results").iterdir())) == 1
    assert not (killed / "gradebook.csv").exists()
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    capsys.readouterr()
    assert main([*arguments, str(killed), "--resume"]) == 0
    assert capsys.readouterr().out.count("[") == 2  # the first is not graded again
    assert without_run_id(killed / "gradebook.csv") == without_run_id(tmp_path / "whole" / "gradebook.csv")
    assert (killed / "items.csv").read_text() == (tmp_path / "whole" / "items.csv").read_text()


@needs_jail
def test_a_cluster_gives_the_same_grades(three, tmp_path, cluster):
    folder = tmp_path / "run"
    command = ["grade", "02", str(three), "--seed", "5", "--exercises", f"{FIRST.id},{SECOND.id}"]
    assert main([*command, "-o", str(folder), "--dask", cluster]) == 0
    scores = {row["student_id"]: int(row["score"]) for row in table(tmp_path / "run" / "gradebook.csv")}
    assert scores == {"a": FIRST.points + SECOND.points, "b": SECOND.points, "c": 0}


@needs_jail
def test_a_failure_of_the_grader_is_no_zero(three, tmp_path, monkeypatch):
    from cnnlib.course.grading import one

    monkeypatch.setattr(one, "PLUGIN", tmp_path / "nowhere")
    results = batch.grade(LESSON, three, tmp_path / "run", seed=1, exercises=[FIRST.id], progress=str)
    assert {result["status"] for result in results} == {"grader error"}
    rows = table(tmp_path / "run" / "gradebook.csv")
    assert {row["score"] for row in rows} == {""}
    monkeypatch.undo()
    results = batch.grade(LESSON, three, tmp_path / "run", resume=True, progress=str)
    assert {result["status"] for result in results} == {"graded"}


@needs_jail
def test_what_a_shared_kernel_does_not_tell_is_graded_alone(three, tmp_path, monkeypatch):
    from cnnlib.course.grading import one

    whole, asked_for = one.graded_notebook, []

    def damaged(asked):
        asked_for.append(list(asked))
        notebook = whole(asked)
        if len(asked) > 1:
            notebook.cells = [cell for cell in notebook.cells if not cell.id.startswith("check-1")]
        return notebook

    monkeypatch.setattr(one, "graded_notebook", damaged)
    two = [FIRST.id, SECOND.id]
    results = batch.grade(LESSON, three, tmp_path / "run", seed=5, exercises=two, progress=str)
    assert asked_for == [["a", "b", "c"], ["b"]]
    scores = {r["student_id"]: sum(e["score"] for e in r["exercises"].values()) for r in results}
    assert scores == {"a": FIRST.points + SECOND.points, "b": SECOND.points, "c": 0}


@pytest.mark.parametrize(
    ("broken", "most", "lost"), [({90}, 20, 1), ({3, 150}, 40, 2), (range(200), 10, 200)]
)
def test_what_breaks_a_shared_kernel_is_found_by_halves(broken, most, lost, monkeypatch):
    from cnnlib.course.grading import one

    groups = []

    def decide(asked, setup, job, keep):
        groups.append(list(asked))
        end = next((i for i, key in enumerate(asked) if key in broken), len(asked))
        return {key: {} if i < end else one.GraderError() for i, key in enumerate(asked)}

    monkeypatch.setattr(one, "_decide", decide)
    found = one._decide_all({key: {} for key in range(200)}, {}, {}, lambda found: None)
    assert list(found) == list(range(200))
    assert sum(isinstance(verdicts, one.GraderError) for verdicts in found.values()) == lost
    assert len(groups) <= most


def test_an_interrupt_ends_what_the_threads_grade_at_once(tmp_path, monkeypatch):
    from cnnlib.course.command_line import executor_of
    from cnnlib.course.grading import one

    start, begun = subprocess.Popen, time.monotonic()
    monkeypatch.setattr(one.subprocess, "Popen", lambda _, **options: start(["sleep", "60"], **options))
    ended = []

    def job(seconds):
        time.sleep(seconds)  # one of them does not run yet when the interrupt comes
        try:
            one._nbval(tmp_path, 60, 60, str)
        except KeyboardInterrupt as error:
            ended.append(error)
            raise

    def interrupt():
        if one.RUNNING:
            raise KeyboardInterrupt

    with executor_of(argparse.Namespace(dask=None, jobs=2)) as executor, pytest.raises(KeyboardInterrupt):
        run_jobs(job, {"now": 0, "soon": 3, "never": 0}, executor, print, interrupt, one.stop_notebooks)
    assert time.monotonic() - begun < 30
    assert len(ended) == 2
    assert not one.RUNNING | one.STOPPED


def test_what_a_busy_machine_may_have_spoilt_is_tried_again_alone(three, tmp_path, monkeypatch):
    jobs = []

    def grade_submissions(job):
        jobs.append((sorted(job["paths"]), job["only"]))
        entries = {}
        for e in ASKED:
            late = e is FIRST and "a" in job["paths"] and not job["only"]
            entry = {"status": "timeout" if late else "pass", "score": 0 if late else e.points, "again": late}
            entries[e.id] = entry | {"message": "", "max_score": e.points, "seconds": 0, "source": ""}
        if job["only"]:
            entries = {FIRST.id: entries[FIRST.id]}
        return {
            key: {"sha256": "", "status": "graded", "message": "", "flags": [], "exercises": entries}
            for key in job["paths"]
        }

    monkeypatch.setattr(batch, "grade_submissions", grade_submissions)
    monkeypatch.setattr(batch, "CHUNK", 1)
    ann, *_ = batch.grade(LESSON, three, tmp_path / "run", isolation="process", progress=str)
    assert jobs == [(["a"], {}), (["b"], {}), (["c"], {}), (["a"], {"a": [FIRST.id]})]
    assert ann["score"] == WORTH
    assert f"{FIRST.id}: tried again alone, pass" in ann["flags"]
    row = table(tmp_path / "run" / "gradebook.csv")[0]
    assert "tried again alone" in row["flags"]


@pytest.mark.parametrize(
    ("count", "workers", "sizes"),
    [
        (500, 1, [167, 167, 166]),
        (1000, 2, [167] * 5 + [165]),
        (60, 4, [15] * 4),
        (100, 1, [100]),
        (100, 2, [25] * 4),
        (300, 2, [50] * 6),
        (0, 2, []),
    ],
)
def test_few_jobs_but_enough_for_all_workers(count, workers, sizes):
    paths = {str(i): "" for i in range(count)}
    with ThreadPoolExecutor(workers) as executor:
        chunks = batch._chunks(paths, executor if workers > 1 else None)
    assert [len(chunk) for chunk in chunks] == sizes
    assert {key: path for chunk in chunks for key, path in chunk.items()} == paths


def test_grading_without_its_packages_says_which(three, tmp_path, monkeypatch):
    monkeypatch.setattr(batch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ParameterError, match=r"pip install -e '\.\[grading\]'"):
        batch.grade(LESSON, three, tmp_path / "run")


def test_a_bug_that_one_submission_finds_stops_no_other(three, tmp_path, monkeypatch):
    from cnnlib.course.grading import one

    def buggy(cells, exercises):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(one, "find_answers", buggy)
    results = batch.grade(LESSON, three, tmp_path / "run", isolation="process", progress=str)
    assert [(r["status"], r["message"]) for r in results] == [
        ("grader error", "ZeroDivisionError: a bug")
    ] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grade", "02", "nowhere"], "there is no file or folder nowhere"),
        (["grade", "02", "bad.csv"], "bad.csv is no folder, zip or notebook"),
        (["grade", "42", "."], "42"),
        (["grade", "00", "subs"], "has no exercises"),
        (["grade", "02", "subs", "--roster", "nowhere.csv"], "cannot be read"),
        (["grade", "02", "subs", "--roster", "bad.csv"], "must have the columns student_id, name, email"),
        (["grade", "02", "empty"], "empty holds nothing to grade: it has no .ipynb file"),
        (["grade", "02", "subs", "-o", "subs"], "is not empty"),
        (["grade", "02", "subs", "-j", "0"], "-j"),
        (["grade", "02", "subs", "--pattern", "("], "is no regular expression"),
        (["grade", "02", "subs", "--assignment", "02"], "--assignment names a column of canvas.csv"),
        (["grade", "02", "subs", "--exercises", "02.x"], "there is no exercise '02.x'"),
        (["grade", "02", "subs", "--points", "02.output_shape=0"], "must be a number above 0"),
        (["grade", "02", "subs", "--seed", "-1"], "--seed is -1"),
        (["grade", "02", "subs", *["--points", "02.output_shape=1"] * 2], "02.output_shape is given twice"),
        (["grade", "02", "subs", "-o", "bad.csv/out"], "cnnlib: bad.csv/out"),
        (["regrade", "empty"], "holds no run"),
        (["regrade", "board"], "cnnlib challenge WHAT --seed 7 -o ANOTHER_FOLDER"),
        (["gradebook", "half"], "half/run.json is damaged"),
        (["regrade", "list"], "list/run.json is damaged"),
        (["release", "subs"], "is not empty"),
        (["release", str(ROOT / "notebooks" / "copy")], "lies inside the course"),
    ],
)
def test_foreseeable_mistakes_get_a_message(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("subs", "empty"):
        (tmp_path / folder).mkdir()
    (tmp_path / "subs" / "a.ipynb").write_text("{}")
    (tmp_path / "bad.csv").write_text("id;name\n1;Ann\n")
    for name, text in {"board/challenge": '{"seed": 7}', "half/run": "{", "list/run": "[]"}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / f"{name}.json").write_text(text)
    if arguments[0] == "grade" and "-o" not in arguments:
        arguments = [*arguments, "-o", "out"]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_full_when_a_folder_is_copied_is_said_in_a_line(tmp_path, monkeypatch, capsys):
    def copy(source, target, **_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(source), None, os.fspath(target))

    monkeypatch.setattr(shutil, "copyfile", copy)
    assert main(["release", str(tmp_path / "copy")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"cnnlib: \[Errno \d+\] No space left on device: '[^']+' -> '[^']+'", line)


@pytest.mark.parametrize("text", ["02.a", "02.a=x", "02.a=nan", "02.a=2,5", "=2"])
def test_points_that_are_none_say_how_they_are_written(text, capsys):
    with pytest.raises(SystemExit):
        main(["grade", "02", "subs", "--points", text])
    assert "is not of the form 02.a=3 or 02.a=2.5" in capsys.readouterr().err


# --- damaged files ------------------------------------------------------------------------------


def found(content):
    cells, flags = code_cells(content)
    answers = find_answers(cells, [{"id": e.id, "stub": e.stub} for e in ASKED])
    return {i: answer.source or answer.status for i, answer in answers.items()}, flags, answers


WHOLE = as_bytes(submission(SOLVED))
ALL_FOUND = {exercise.id: exercise.solution for exercise in ASKED}

UNREADABLE = {
    "empty": (b"", "it is empty"),
    "blank": (b" \n\n", "it is empty"),
    "truncated": (WHOLE[: len(WHOLE) // 2], "not a whole notebook"),
    "a web page": (b"\n<html>Sign in</html>", "a web page"),
    "a list": (b"[]", "no notebook"),
    "a number": (b"3", "no notebook"),
    "no cells": (b'{"metadata": {}}', "no cells"),
    "cells that are none": (b'{"cells": "x"}', "no cells"),
    "nested too deep": (b"[" * 200_000, "nested too deep"),
    "too many cells": (b'{"cells": [' + b"{}, " * 20_000 + b"{}]}", "it has 20,001 cells; at most 20,000"),
    "a huge number": (b"1" * 10_000, "another kind of file"),
    "binary": (bytes(range(256)) * 20, "another kind of file"),
    "a script": (b"# coding: utf-8\nimport torch\n", "another kind of file"),
}


@pytest.mark.parametrize(("content", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_is_no_notebook_says_why(content, message):
    with pytest.raises(SubmissionError, match=message):
        code_cells(content)


def changed(change):
    notebook = submission(SOLVED)
    change(notebook)
    return json.dumps(notebook).encode()


def as_v3(notebook):
    cells = [
        {"cell_type": "code", "input": c.source, "outputs": []}
        for c in notebook.cells
        if c.cell_type == "code"
    ]
    return json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}]}).encode()


def without_ids(notebook):
    for cell in notebook.cells:
        del cell["id"]


def without_markers_and_ids(notebook):
    without_ids(notebook)
    for cell in notebook.cells:
        cell.source = "\n".join(x for x in cell.source.splitlines() if not x.startswith("# exercise"))


def duplicated(notebook):
    for exercise in ASKED:
        for source in (exercise.stub, wrong(exercise)):
            notebook.cells.insert(0, nbformat.v4.new_code_cell(source))


def odd_cells(notebook):
    notebook.cells += [
        None,
        3,
        {"cell_type": "code"},
        {"cell_type": "code", "source": [1, None, "x"], "id": {}},
    ]


REPAIRED = {
    "a byte order mark": (b"\xef\xbb\xbf" + WHOLE, ["byte order mark"]),
    "utf-16": (WHOLE.decode().encode("utf-16"), ["utf-16"]),
    "format 3": (as_v3(submission(SOLVED)), ["notebook format 3"]),
    "ids stripped": (changed(without_ids), []),
    "reordered": (changed(lambda notebook: notebook.cells.reverse()), []),
    "duplicated": (changed(duplicated), []),
    "odd cells": (changed(odd_cells), []),
    "an unknown kernel": (changed(lambda n: n.metadata.kernelspec.update(name="nowhere")), []),
    "another language": (
        changed(lambda n: n.metadata.kernelspec.update(language="R")),
        ["kernel language 'R'"],
    ),
    "no metadata": (changed(lambda n: n.pop("metadata")), []),
}


@pytest.mark.parametrize(("content", "expected"), REPAIRED.values(), ids=REPAIRED)
def test_a_damaged_notebook_is_graded_all_the_same(content, expected):
    answers, flags, _ = found(content)
    assert answers == ALL_FOUND
    assert flags == expected


def test_answers_without_id_and_marker_are_found_by_name():
    answers, _, detail = found(changed(without_markers_and_ids))
    assert {i: f"# exercise {i}\n{source}" for i, source in answers.items()} == ALL_FOUND
    assert detail[FIRST.id].flags == ["found by the function's name"]


def test_an_answer_in_a_cell_that_was_split_is_found_and_flagged():
    answers, _, detail = found(as_bytes(split_cells(submission(SOLVED))))
    assert {i: f"# exercise {i}\n{source}" for i, source in answers.items()} == ALL_FOUND
    assert detail[FIRST.id].flags == ["found by the function's name"]


def test_missing_and_unattempted_cells_are_told_apart():
    def damage(notebook):
        notebook.cells = [c for c in notebook.cells if c.id != f"exercise-{FIRST.name}"]
        for cell in notebook.cells:
            if cell.id == f"exercise-{SECOND.name}":
                cell.source = SECOND.stub + "\n\n"
            if cell.id == f"exercise-{THIRD.name}":
                cell.source = f"# exercise {THIRD.id}\n# I gave up"

    answers, *_ = found(changed(damage))
    assert [answers[e.id] for e in (FIRST, SECOND, THIRD)] == ["missing", "not attempted", "not attempted"]


def test_the_answer_in_its_own_cell_counts_and_a_second_one_is_flagged():
    _, _, detail = found(changed(duplicated))
    assert detail[FIRST.id].flags == ["several answers"]


def test_an_answer_of_a_million_characters_is_none():
    def huge(notebook):
        for cell in notebook.cells:
            if cell.id == f"exercise-{FIRST.name}":
                cell.source += "\n" * 1_000_000

    _, _, detail = found(changed(huge))
    assert detail[FIRST.id].status == "fail"
    assert "too many" in detail[FIRST.id].message


@pytest.mark.parametrize(
    "text", ["import(" * 20_000, "check('02.x', " * 10_000, "; " * 60_000, "x = " * 40_000, "\"'" * 70_000]
)
def test_a_cell_of_any_text_is_searched_in_seconds(text):
    started = time.process_time()
    find_answers([CodeCell("", f"{FIRST.name}\n{text}")] * 5, [{"id": FIRST.id, "stub": FIRST.stub}])
    assert time.process_time() - started < 5


def test_what_is_no_regular_small_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(SIZE_LIMIT + 1)
    os.symlink("/etc/passwd", tmp_path / "link")
    for name, message in (
        ("pipe", "not a regular file"),
        ("large", "bytes; at most 20,971,520 are read: clear the outputs"),
        ("link", "it is a link"),
        ("nowhere", "cannot be read"),
    ):
        with pytest.raises(SubmissionError, match=message):
            read_bytes(tmp_path / name)


# --- the learners' copy, and the simple route ---------------------------------------------------


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release") / "course"
    assert main(["release", str(folder)]) == 0
    return folder


def in_copy(copy, code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), **environment},
        capture_output=True,
        text=True,
    )


def test_the_learners_copy_holds_no_solution(copy):
    everything = [exercise for path in LESSONS for exercise in exercises(path.stem)]
    bodies = {exercise.id: exercise.solution.rpartition('"""')[2].strip() for exercise in everything}
    assert all(len(body) > 10 for body in bodies.values())
    texts = [
        p.read_text(errors="replace") for p in copy.rglob("*.*") if p.suffix in (".py", ".ipynb", ".bin")
    ]
    assert len(texts) > 30
    for exercise_id, body in bodies.items():
        assert not [text for text in texts if body in text], exercise_id
    assert not (copy / "cnnlib" / "course" / "grading").exists()
    assert not (copy / "cnnlib" / "course" / "release.py").exists()
    assert not (copy / "tests").exists()


def test_a_check_in_the_learners_copy_says_the_same(copy):
    answer = f"{FIRST.solution}\n{wrong(SECOND)}\n"
    code = f"""{answer}
import cnnlib
from cnnlib.course.exercises import check
print(cnnlib.__file__)
print(check("{FIRST.id}", {FIRST.name}))
print(check("{SECOND.id}", {SECOND.name}))
"""
    setup = "import torch\nimport torch.nn.functional as F\n"
    done = in_copy(copy, setup + code)
    assert str(copy) in done.stdout, done.stderr
    namespace = {}
    exec(setup + answer, namespace)
    for exercise in (FIRST, SECOND):
        assert check(exercise.id, namespace[exercise.name]).text in done.stdout


def test_the_learners_readme_speaks_of_what_they_have(copy):
    text = (copy / "README.md").read_text(encoding="utf-8")
    assert "make lab" in text
    assert "make test" not in text
    assert "make bench" not in text
    assert "grade" not in text
    assert "git restore" not in text  # a copy that was handed out is no clone
    assert "git checkout" not in text
    assert "\n\n\n" not in text
    for target in re.findall(r"\]\((?!https:)([^)#\s]+)\)", text):
        assert (copy / target).exists(), target


def test_the_learners_copy_offers_no_grading(copy):
    done = in_copy(copy, "from cnnlib.course.command_line import main; main(['grade', '02', '.'])")
    assert "invalid choice: 'grade'" in done.stderr
    assert "Traceback" not in done.stderr


def strict(notebook, tmp_path):
    """Run the exercise cells of a submission under plain nbval with CNNLIB_STRICT=1; return its output."""
    wanted = {"setup", "exercise", "check"}
    notebook.cells = [c for c in notebook.cells if wanted & set(c.metadata.get("tags", []))]
    nbformat.write(notebook, tmp_path / "lesson.ipynb")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval-lax",
        "lesson.ipynb",
        "-c",
        os.devnull,
        "--rootdir",
        ".",
    ]
    done = subprocess.run(
        [*command, "--nbval-current-env", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "CNNLIB_STRICT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_plain_nbval_in_strict_mode_passes_what_is_solved_and_only_that(tmp_path):
    output = strict(submission(SOLVED | {SECOND.name: wrong(SECOND), THIRD.name: THIRD.stub}), tmp_path)
    assert f"2 failed, {2 + 2 * len(ASKED) - 2} passed" in output, output[-3000:]
    assert f"✗ {SECOND.id}" in output
    assert f"○ {THIRD.id}: not attempted yet" in output
