"""What a run leaves behind: scores, tables, exports and feedback, over a life of resuming and regrading.

A made-up grader takes the verdicts from the notebooks themselves, so that no jail is needed; the last test
grades with the real one, as an instructor would.
"""

import csv
import errno
import hashlib
import io
import itertools
import json
import os
import shutil
import zipfile
from pathlib import Path

import nbformat
import pytest
from chromium import chromium
from notebook_tools import read

from cnnlib.course.command_line import main
from cnnlib.course.exercises import exercises, judge, make_exam
from cnnlib.course.grading import batch, jail, lms, scores, store
from cnnlib.course.grading.course_book import gradebook
from cnnlib.course.grading.scores import read_overrides, scored
from cnnlib.course.grading.similarity import form, similar
from cnnlib.course.grading.tables import csv_text, inert, shown
from cnnlib.ground.env import NOTEBOOKS
from cnnlib.ground.errors import ParameterError

needs_jail = pytest.mark.skipif(not jail.available(), reason="this machine has no namespaces for a jail")

LESSON = NOTEBOOKS / "02_parts_of_a_cnn.ipynb"
FIRST, SECOND = "02.output_shape", "02.count_conv_parameters"


def verdict(status, source="", cases=(0, 4), message=""):
    passed, total = (4, 4) if status == "pass" else cases
    return {"status": status, "message": message, "source": source, "passed_cases": passed, "cases": total}


RIGHT = {FIRST: verdict("pass"), SECOND: verdict("pass")}
HALF = {FIRST: verdict("pass"), SECOND: verdict("fail", "return 1", (3, 4), "it returned 1")}


def fake(job):
    """Grade as the notebooks say: {"fake": {exercise id: verdict}}; anything else is no notebook."""
    exams = batch.plain.loads((Path(job["folder"]) / "exams.bin").read_bytes())["exams"]
    return {key: fake_one(Path(path).read_bytes(), exams) for key, path in job["paths"].items()}


def fake_one(content, exams):
    sha256 = hashlib.sha256(content).hexdigest()
    GRADED.append(sha256)
    try:
        verdicts = json.loads(content)["fake"]
    except (ValueError, KeyError):
        return scores.UNREADABLE | {"sha256": sha256, "message": "it is no notebook"}
    entries = {
        exam["id"]: {"seconds": 0.1, "max_score": exam["points"], "again": False}
        | verdicts[exam["id"]]
        | {"score": exam["points"] if verdicts[exam["id"]]["status"] == "pass" else 0}
        for exam in exams
    }
    return {"sha256": sha256, "status": "graded", "message": "", "flags": [], "exercises": entries}


GRADED = []


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Return a function that grades submissions {name: verdicts or bytes} with the made-up grader."""
    GRADED.clear()
    monkeypatch.setattr(batch, "grade_submissions", fake)
    monkeypatch.setattr(batch, "_check_machine", lambda output, run: None)
    monkeypatch.setattr(batch, "release_package", lambda folder, *_: folder.mkdir(parents=True))

    def grade(submissions, output="run", roster=None, **options):
        hand_in(tmp_path / "in", submissions)
        if roster:
            (tmp_path / "roster.csv").write_text(roster, encoding="utf-8")
            options["roster"] = tmp_path / "roster.csv"
        if not options.get("resume"):
            options = {"exercises": [FIRST, SECOND], "points": {FIRST: 1}, "seed": 1} | options
        return batch.grade(LESSON, tmp_path / "in", tmp_path / output, progress=LINES.append, **options)

    LINES.clear()
    return grade


LINES = []


def hand_in(folder, submissions):
    for name, content in submissions.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        content = content if isinstance(content, bytes) else json.dumps({"fake": content}).encode()
        (folder / name).write_bytes(content)


def table(path):
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))


def column(path, name):
    return {row["student_id"]: row[name] for row in table(path)}


# --- rosters, and who is listed ---------------------------------------------------------------------

OWN = "student_id,name,email,Tutor\nann,Ann Ångström,ann@x.org,T1\nbob,Bob Ode,,T2\nmia,Mia Lee,,T1\n"


def test_the_rosters_columns_stay_and_who_is_where_is_said(quick, tmp_path):
    quick({"ann.ipynb": RIGHT, "zoe.ipynb": HALF, "notes.pdf": b""}, roster=OWN)
    rows = table(tmp_path / "run" / "gradebook.csv")
    assert list(rows[0]) == [
        *(
            "student_id",
            "name",
            "email",
            "Tutor",
            "status",
            "attempt",
            "late",
            "score",
            "max_score",
            "percent",
        ),
        *(FIRST, SECOND, "comment", "flags", "isolation", "run_id", "sha256"),
    ]
    assert [(r["student_id"], r["name"], r["Tutor"], r["status"], r["score"]) for r in rows] == [
        ("ann", "Ann Ångström", "T1", "graded", "2"),
        ("bob", "Bob Ode", "T2", "missing", "0"),
        ("mia", "Mia Lee", "T1", "missing", "0"),
        ("zoe", "", "", "graded", "1"),
    ]
    assert (tmp_path / "run" / "gradebook.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    said = (tmp_path / "run" / "summary.txt").read_text()
    assert "in the roster, and nothing handed in (2):\n  bob Bob Ode\n  mia Mia Lee" in said
    assert "handed in, and nobody in the roster, or more than one, fits (1):\n  zoe" in said
    assert "passed over, all in passed_over.csv (1):\n  notes.pdf: no .ipynb file" in said


def test_resuming_keeps_the_roster_and_refuses_other_options(quick, tmp_path):
    quick({"ann.ipynb": RIGHT}, roster=OWN)
    before = (tmp_path / "run" / "gradebook.csv").read_text()
    quick({}, resume=True)
    assert (tmp_path / "run" / "gradebook.csv").read_text() == before
    assert len(GRADED) == 1
    quick({}, resume=True, seed=1, attempt="latest", exercises=[FIRST, SECOND])
    for name, value in {"seed": 2, "isolation": "process", "attempt": "best", "exercises": [FIRST]}.items():
        with pytest.raises(ParameterError, match=f"begun with {name} .* not .*go on without --{name}"):
            quick({}, resume=True, **{name: value})
    quick({}, resume=True, roster="student_id\nann\nnew\n")
    assert set(column(tmp_path / "run" / "gradebook.csv", "status")) == {"ann", "new"}


def test_resuming_grades_what_is_new_or_changed(quick, tmp_path):
    quick({"ann.ipynb": RIGHT, "bob.ipynb": RIGHT})
    quick({"bob.ipynb": HALF, "eve.ipynb": HALF}, resume=True)
    assert column(tmp_path / "run" / "gradebook.csv", "score") == {"ann": "2", "bob": "1", "eve": "1"}
    assert len(GRADED) == 2 + 2
    assert len(LINES) == 2 + 2


# --- scores -----------------------------------------------------------------------------------------


def test_points_partial_credit_and_lateness_make_the_score(quick, tmp_path):
    names = {
        "doejane_1_2_02.ipynb": HALF,
        "leeann_LATE_3_4_02.ipynb": HALF,
        "odebob_LATE_5_6_02.ipynb": RIGHT,
    }
    quick(names, points={FIRST: 2, SECOND: 6}, partial=True, late_penalty=10)
    rows = table(tmp_path / "run" / "gradebook.csv")
    assert [(r["student_id"], r["late"], r[FIRST], r[SECOND], r["score"], r["max_score"]) for r in rows] == [
        ("1", "", "2", "4.5", "6.5", "8"),
        ("3", "late", "2", "4.5", "5.85", "8"),
        ("5", "late", "2", "6", "7.2", "8"),
    ]
    page = (tmp_path / "run" / "feedback" / "leeann_LATE_3_4_feedback.html").read_text()
    assert "5.85 of 8 points" in page
    assert "3 of 4 cases came out right" in page
    assert "It was handed in late; 10 % are taken off." in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exercises": ["02.nothing"]}, "no exercise '02.nothing'"),
        ({"exercises": []}, "names none"),
        ({"points": {"02.nothing": 1}}, "no exercise '02.nothing'"),
        ({"exercises": [FIRST], "points": {SECOND: 1}}, f"leaves {SECOND} out"),
        ({"points": {FIRST: 0}}, "above 0"),
        ({"points": {FIRST: float("nan")}}, "above 0"),
        ({"late_penalty": 101}, "from 0 to 100"),
        ({"late_penalty": -1}, "from 0 to 100"),
    ],
)
def test_options_that_cannot_be_say_why(options, message, quick, tmp_path):
    with pytest.raises(ParameterError, match=message):
        quick({"ann.ipynb": RIGHT}, **options)
    assert not (tmp_path / "run").exists()
    with pytest.raises(TypeError, match="no option nonsense"):
        quick({"ann.ipynb": RIGHT}, nonsense=1)


@pytest.mark.parametrize(("attempt", "score", "number"), [("latest", "1", "2"), ("best", "2", "1")])
def test_the_latest_or_the_best_attempt_counts(attempt, score, number, quick, tmp_path):
    quick({"doejane_1_5_02.ipynb": RIGHT, "doejane_1_6_02-1.ipynb": HALF}, attempt=attempt)
    (row,) = table(tmp_path / "run" / "gradebook.csv")
    assert (row["student_id"], row["score"], row["attempt"]) == ("1", score, number)
    passed = table(tmp_path / "run" / "passed_over.csv")
    assert [row["path"] for row in passed] == (["doejane_1_5_02.ipynb"] if attempt == "latest" else [])


def exam_of(cases):
    return {
        **{"id": "99.double", "points": 1, "hints": [], "parameters": ["x"], "mistakes": {}, "given": ""},
        **{
            "rtol": 0,
            "atol": 0,
            "seconds": 1,
            "cases": [[x] for x in cases],
            "expected": [2 * x for x in cases],
        },
    }


def test_where_all_cases_are_asked_those_that_are_right_are_counted():
    def wrong_for_odd(case):
        if case[0] == 5:
            raise judge.AnswerEnded("error", "it raised")
        return 2 * case[0] if case[0] % 2 == 0 else 0

    exam = exam_of([2, 3, 4, 5, 6])
    short, whole = judge.examine(exam, wrong_for_odd), judge.examine(exam, wrong_for_odd, all_cases=True)
    assert short == whole  # status and message: of the first case that is wrong
    assert (short.passed_cases, short.cases) == (1, 5)
    assert (whole.passed_cases, whole.cases) == (3, 5)

    def killed(case):
        if case[0] == 5:
            raise judge.AnswerEnded("killed", "it ended")
        return wrong_for_odd(case)

    assert judge.examine(exam, killed, all_cases=True).passed_cases == 2
    assert judge.examine(exam, lambda case: 2 * case[0]).passed_cases == 5


# --- a person's decisions ---------------------------------------------------------------------------


def test_overrides_survive_resuming_and_regrading(quick, tmp_path):
    quick({"ann.ipynb": HALF, "bob.ipynb": HALF}, roster=OWN)
    run = tmp_path / "run"
    assert (run / "overrides.csv").read_text() == "student_id,exercise,points,comment\n"
    (run / "overrides.csv").write_text(
        f"student_id,exercise,points,comment\nann,{SECOND},0.5,half right <b>\n"
        "bob,,2,ill in May\nmia,,,excused\n"
    )
    batch.rewrite(run)
    for step in (lambda: None, lambda: quick({}, resume=True), lambda: batch.regrade(run, progress=str)):
        step()
        rows = {row["student_id"]: row for row in table(run / "gradebook.csv")}
        assert [rows[s]["score"] for s in ("ann", "bob", "mia")] == ["1.5", "2", "0"]
        assert rows["ann"][SECOND] == "0.5"
        assert rows["ann"]["comment"] == f"{SECOND}: half right <b>"
        assert rows["mia"]["comment"] == "excused"
    ann, bob, mia = (next((run / "feedback").glob(f"{s}-*")).read_text() for s in ("ann", "bob", "mia"))
    assert "points given by a person" in ann
    assert "half right &lt;b&gt;" in ann
    assert "2 of 2 points" in bob
    assert "ill in May" in bob
    assert "excused" in mia


def test_a_full_disk_leaves_no_half_of_the_overrides(quick, tmp_path, monkeypatch):
    write = Path.write_text

    def full(path, text, **options):
        write(path, "" if "overrides" in path.name else text, **options)
        if "overrides" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            quick({"ann.ipynb": HALF})
    assert not (tmp_path / "run" / "overrides.csv").exists()
    assert [result["score"] for result in quick({}, resume=True)] == [1]


def test_two_never_write_into_one_run_at_once(quick, tmp_path):
    quick({"ann.ipynb": HALF})
    run, tried = tmp_path / "run", []

    def beside(line):
        for call in (
            lambda: batch.grade(LESSON, tmp_path / "in", run, resume=True),
            lambda: batch.regrade(run),
            lambda: gradebook([run], tmp_path / "book.csv"),
        ):
            with pytest.raises(ParameterError, match="another grading writes into"):
                call()
            tried.append(line)

    results, _ = batch.regrade(run, progress=beside)
    assert len(tried) == 3
    assert [result["score"] for result in results] == [1]
    assert len(gradebook([run], tmp_path / "book.csv")) == 1
    assert not (run / store.LOCK).exists()
    (run / store.LOCK).touch()  # left by one that was killed: nobody holds it
    assert [result["score"] for result in quick({}, resume=True)] == [1]
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / store.LOCK).touch()  # killed before it had anything
    assert [result["score"] for result in quick({}, output="new")] == [1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("zoe,,1,", "line 2: there is no learner 'zoe'"),
        ("ann,02.nothing,1,", "line 2: there is no exercise '02.nothing'"),
        (f"ann,{FIRST},two,", "line 2: points are 'two', and go from 0 to 1"),
        (f"ann,{FIRST},-1,", "points are '-1'"),
        (f"ann,{FIRST},nan,", "points are 'nan'"),
        ("ann,,9,", "points are '9', and go from 0 to 2"),
        ("ann,,1,\nann,,2,", "line 3: ann total stands there twice"),
    ],
)
def test_an_override_that_cannot_be_names_its_line(line, message, quick, tmp_path):
    quick({"ann.ipynb": HALF})
    before = (tmp_path / "run" / "gradebook.csv").read_text()
    (tmp_path / "run" / "overrides.csv").write_text(f"student_id,exercise,points,comment\n{line}\n")
    for call in (
        lambda: quick({"bob.ipynb": HALF}, resume=True),
        lambda: batch.regrade(tmp_path / "run", progress=str),
        lambda: batch.rewrite(tmp_path / "run"),
    ):
        with pytest.raises(ParameterError, match=message):
            call()
    assert len(GRADED) == 1
    assert (tmp_path / "run" / "gradebook.csv").read_text() == before


def test_a_table_of_overrides_from_a_spreadsheet_is_read(tmp_path):
    (tmp_path / "o.csv").write_text(
        "\ufeffstudent_id;exercise;points;comment\nann;;1,5;well\n;;;\n", encoding="utf-8"
    )
    exams = [{"id": FIRST, "points": 2}]
    assert read_overrides(tmp_path / "o.csv", exams, {"ann"}) == {("ann", ""): (1.5, "well")}
    wide = 'sep=;\r\nStudent_ID;Exercise;Points;Comment\r\nann;;"1,5";"well; done"\r\n'
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):  # Excel's own first line, and its “Unicode Text”
        (tmp_path / "o.csv").write_text(wide, encoding=encoding, newline="")
        found = read_overrides(tmp_path / "o.csv", exams, {"ann"})
        assert found == {("ann", ""): (1.5, "well; done")}
    for line, message in (
        ("ann,,2,well, done", "more cells than columns in line 2; a text with a comma"),
        ('ann,,2,"well', "the quotation mark that opens behind line 1 is not closed"),
        ("zoe,,2,", "line 2: there is no learner 'zoe'"),
    ):
        (tmp_path / "o.csv").write_text(f"student_id,exercise,points,comment\n{line}\n")
        with pytest.raises(ParameterError, match=message):
            read_overrides(tmp_path / "o.csv", exams, {"ann"})
    (tmp_path / "o.csv").write_text("student_id,points\n")
    with pytest.raises(ParameterError, match="lacks the column exercise"):
        read_overrides(tmp_path / "o.csv", exams, {"ann"})
    (tmp_path / "o.csv").write_text(
        "student_id,exercise,points,comment\nann,,1,für dich\n", encoding="cp1252"
    )
    with pytest.raises(ParameterError, match="no text in UTF-8; save the table as “CSV UTF-8”"):
        read_overrides(tmp_path / "o.csv", exams, {"ann"})


def test_an_id_that_lost_its_zeros_in_a_spreadsheet_is_known(quick, tmp_path):
    quick({"00007.ipynb": HALF}, roster="student_id,name\n00007,Ann\n")
    (tmp_path / "run" / "overrides.csv").write_text("student_id,exercise,points,comment\n7,,2,seen\n")
    batch.rewrite(tmp_path / "run")
    assert column(tmp_path / "run" / "gradebook.csv", "score") == {"00007": "2"}
    exams = [{"id": FIRST, "points": 2}]
    path = tmp_path / "run" / "overrides.csv"
    assert list(read_overrides(path, exams, {"7", "007"})) == [("7", "")]
    with pytest.raises(ParameterError, match="there is no learner '7'"):  # which of them?
        read_overrides(path, exams, {"07", "007"})
    quick({"00007.ipynb": HALF}, output="short", roster="student_id,name\n7,Ann\n8,Bob\n")
    assert column(tmp_path / "short" / "gradebook.csv", "status") == {"7": "graded", "8": "missing"}


def test_equal_columns_are_an_error_where_they_mean_something(quick, tmp_path):
    hand_in(tmp_path / "in", {"ann.ipynb": HALF})
    for head in ("student_id,name,Name", "Student,ID,id,Section", f"Grade,{MOODLE_HEAD}"):
        with pytest.raises(ParameterError, match=r"cannot be read: the column \w+ stands there 2 times"):
            quick({}, roster=f"{head.strip()}\nann,b,c,d\n")
    quick({}, roster="student_id,Tutor,tutor\nann,T1,T2\n")
    assert column(tmp_path / "run" / "gradebook.csv", "tutor") == {"ann": "T2"}
    path = tmp_path / "run" / "overrides.csv"
    path.write_text("student_id,exercise,points,comment,points\nann,,1,,2\n")
    with pytest.raises(ParameterError, match="the column points stands there 2 times"):
        batch.rewrite(tmp_path / "run")


def test_a_page_is_readable_on_a_phone_in_the_light_and_in_the_dark(quick, tmp_path):
    long = verdict("error", "x = 1\n" + "y" * 300, message="it raised ValueError: " + "z" * 500)
    quick({f"{'a' * 90}.ipynb": {FIRST: long, SECOND: verdict("pass", "def f(): pass")}})
    (path,) = (tmp_path / "run" / "feedback").iterdir()
    with chromium() as browser:
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
            page.goto(path.as_uri())
            page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            colour = page.evaluate("getComputedStyle(document.body).color")
            assert colour == {"light": "rgb(0, 0, 0)", "dark": "rgb(255, 255, 255)"}[scheme]


def test_a_grader_error_has_no_score_until_a_person_gives_one():
    run, exams = {"partial": False, "late_penalty": 50}, [{"id": FIRST, "points": 2}]
    result = scores.MISSING | {"status": "grader error", "student_id": "ann", "late": True}
    assert scored(run, exams, result, {})["score"] is None
    assert scored(run, exams, result, {("ann", ""): (1.5, "")})["score"] == 1.5


# --- regrading --------------------------------------------------------------------------------------


def test_regrading_grades_what_was_graded_not_what_lies_there_now(quick, tmp_path):
    quick({"ann.ipynb": RIGHT, "bob.ipynb": HALF})
    hand_in(tmp_path / "in", {"ann.ipynb": HALF, "eve.ipynb": RIGHT})
    (tmp_path / "in" / "bob.ipynb").unlink()
    _, changes = batch.regrade(tmp_path / "run", progress=str)
    assert changes == []
    assert column(tmp_path / "run" / "gradebook.csv", "score") == {"ann": "2", "bob": "1"}
    kept = sorted(path.stem for path in (tmp_path / "run" / "submissions").iterdir())
    assert kept == sorted(set(GRADED))
    (tmp_path / "in").rename(tmp_path / "elsewhere")
    batch.regrade(tmp_path / "run", ["bob"], progress=str)


def test_an_interrupted_regrade_loses_nothing(quick, tmp_path, monkeypatch):
    quick({"ann.ipynb": RIGHT, "bob.ipynb": HALF})
    run = tmp_path / "run"
    before = {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}

    def interrupted(job):
        if len(GRADED) == 3:
            raise KeyboardInterrupt
        return fake(job)

    monkeypatch.setattr(batch, "CHUNK", 1)
    monkeypatch.setattr(batch, "grade_submissions", interrupted)
    with pytest.raises(KeyboardInterrupt):
        batch.regrade(run, progress=str)
    after = {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert {path: after.get(path) for path in before} == before
    monkeypatch.setattr(batch, "grade_submissions", fake)
    batch.regrade(run, progress=str)
    assert not (run / "regrading").exists()
    assert len(list(run.glob("gradebook-*.csv"))) == 1


@pytest.mark.parametrize("before", range(7))
def test_a_regrade_that_is_killed_while_it_takes_the_runs_place_is_gone_on_with(
    before, quick, tmp_path, monkeypatch
):
    """`before` counts the files and folders that have been moved or removed when the process ends."""
    quick({"ann.ipynb": RIGHT, "bob.ipynb": HALF})
    run = tmp_path / "run"
    run_id = batch.read_json(run / "run.json")["run_id"]
    take_over, steps = batch._take_over, itertools.count()

    def until(function):
        def call(*arguments, **options):
            if next(steps) == before:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        return call

    def killed(output):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", until(Path.replace))
            patch.setattr(batch.shutil, "rmtree", until(shutil.rmtree))
            take_over(output)

    monkeypatch.setattr(batch, "_take_over", killed)
    with pytest.raises(KeyboardInterrupt):
        batch.regrade(run, ["bob"], progress=str)
    monkeypatch.setattr(batch, "_take_over", take_over)
    now, results = batch.rewrite(run)
    assert now["run_id"] != run_id
    assert [result["score"] for result in results] == [2, 1]
    assert len(list(run.glob("gradebook-*.csv"))) == 1
    assert (run / "course").is_dir()
    assert not (run / batch.AGAIN).exists()


def test_what_is_not_graded_yet_is_no_zero(quick, tmp_path):
    quick({"ann.ipynb": RIGHT, "bob.ipynb": HALF})
    next((tmp_path / "run" / "results").glob("bob-*")).unlink()  # as after an interruption
    batch.rewrite(tmp_path / "run")
    assert column(tmp_path / "run" / "gradebook.csv", "score") == {"ann": "2", "bob": ""}
    assert "go on with --resume" in column(tmp_path / "run" / "gradebook.csv", "flags")["bob"]
    quick({}, resume=True)
    assert column(tmp_path / "run" / "gradebook.csv", "score") == {"ann": "2", "bob": "1"}


def test_pages_of_earlier_submissions_go(quick, tmp_path):
    quick({"doejane_1_5_02.ipynb": RIGHT})
    run = tmp_path / "run"
    assert [path.name for path in (run / "feedback").iterdir()] == ["doejane_1_5_feedback.html"]
    quick({"doejane_1_6_02-1.ipynb": HALF}, resume=True)
    assert [path.name for path in (run / "feedback").iterdir()] == ["doejane_1_6_feedback.html"]
    with zipfile.ZipFile(run / "feedback.zip") as archive:
        assert archive.namelist() == ["doejane_1_6_feedback.html"]


# --- to an LMS --------------------------------------------------------------------------------------

CANVAS = (
    "Student,ID,SIS User ID,SIS Login ID,Section,01 Layers (776),02 Parts of a CNN (777),Final Score\n"
    ",,,,,,Manual Posting,\n"
    "    Points Possible,,,,,5,10,(read only)\n"
    '"Doe, Jane",12345,u1,jane@x.org,A,3,,90\n'
    '"Lee, Ann",222,u2,ann,"A, B",,,80\n'
)
MOODLE_HEAD = (
    "Identifier,Full name,Email address,Status,Grade,Maximum Grade,Grade can be changed,"
    "Last modified (submission),Last modified (grade),Feedback comments\n"
)
MOODLE = (
    f"{MOODLE_HEAD}Participant 33333,Li Wei,li@x.org,Submitted for grading - 2 days late,,100.00,Yes,-,-,\n"
    'Participant 33334,"Ode, Bob",bob@x.org,No submission,,100.00,Yes,-,-,\n'
)


def rows_of(path):
    content = path.read_bytes()
    assert not content.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(content.decode())))


def test_canvas_gets_its_own_columns_back(quick, tmp_path):
    quick({"doejane_12345_67890_02.ipynb": HALF, "oneal_7_8_02.ipynb": HALF}, roster=CANVAS)
    assert rows_of(tmp_path / "run" / "canvas.csv") == [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "02 Parts of a CNN (777)"],
        ["    Points Possible", "", "", "", "", "10"],
        ["Doe, Jane", "12345", "u1", "jane@x.org", "A", "5"],
        ["Lee, Ann", "222", "u2", "ann", "A, B", ""],
    ]
    roster = CANVAS.replace('"A, B",,,80', '"A, B",,EX,80').replace("A,3,,90", "A,3,1,90")
    quick({"doejane_12345_67890_02.ipynb": HALF}, output="again", roster=roster)
    marks = [row[-1] for row in rows_of(tmp_path / "again" / "canvas.csv")]
    assert marks[2:] == ["5", "EX"]  # who handed in nothing keeps what stands there
    rows = table(tmp_path / "run" / "gradebook.csv")
    assert list(rows[0])[:8] == [
        *("student_id", "name", "email", "ID", "SIS User ID", "SIS Login ID", "Section", "status")
    ]
    assert rows[0]["name"] == "Doe, Jane"
    assert not (tmp_path / "run" / "moodle.csv").exists()


def test_the_assignment_may_be_named_and_is_checked_first(quick, tmp_path):
    names = {"doejane_12345_67890_02.ipynb": HALF}
    for text, message in (("Parts", "777"), ("lay", "776")):
        quick(names, output=message, roster=CANVAS, assignment=text)
        assert f"({message})" in (tmp_path / message / "canvas.csv").read_text().splitlines()[0]
    for text, message in (("xyz", "fits no assignment"), ("a", "fits 2 assignments")):
        with pytest.raises(ParameterError, match=message):
            quick(names, output="none", roster=CANVAS, assignment=text)
    assert not (tmp_path / "none").exists()
    quick(names, output="new", roster=CANVAS.replace("02 Parts of a CNN (777)", "Week 7 (777)"))
    assert rows_of(tmp_path / "new" / "canvas.csv")[:2] == [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "02 · The parts of a CNN"],
        ["    Points Possible", "", "", "", "", "2"],
    ]


def test_moodle_gets_its_worksheet_back_and_pages_in_its_folders(quick, tmp_path):
    quick(
        {"Li Wei_33333_assignsubmission_file_/02.ipynb": HALF},
        roster=MOODLE,
        late_penalty=20,
        points={FIRST: 3},
    )
    run = tmp_path / "run"
    (run / "overrides.csv").write_text("student_id,exercise,points,comment\nli@x.org,,,=well done\n")
    batch.rewrite(run)
    header, first, second = rows_of(run / "moodle.csv")
    assert ",".join(header) + "\n" == MOODLE_HEAD
    assert first == [
        *("Participant 33333", "Li Wei", "li@x.org", "Submitted for grading - 2 days late", "60", "100.00"),
        *("Yes", "-", "-", "'=well done"),
    ]
    assert second == [
        "Participant 33334",
        "Ode, Bob",
        "bob@x.org",
        "No submission",
        "",
        "100.00",
        "Yes",
        "-",
        "-",
        "",
    ]
    with zipfile.ZipFile(run / "feedback.zip") as archive:
        assert archive.namelist() == ["Li Wei_33333_assignsubmission_file_/feedback.html"]
    assert column(run / "gradebook.csv", "status") == {"bob@x.org": "missing", "li@x.org": "graded"}
    assert list(table(run / "gradebook.csv")[0])[:5] == [
        "student_id",
        "name",
        "email",
        "Identifier",
        "status",
    ]


ANONYMOUS = (
    "Identifier,Status,Grade,Maximum Grade,Grade can be changed,Last modified (submission),"
    "Last modified (grade),Feedback comments\n"
    "Participant 71,Submitted for grading,,10.00,Yes,-,-,\nParticipant 72,No submission,,10.00,Yes,-,-,\n"
)


def test_an_anonymous_worksheet_is_a_roster_and_comes_back(quick, tmp_path):
    quick({"Participant_71_assignsubmission_file/02.ipynb": HALF}, roster=ANONYMOUS)
    rows = rows_of(tmp_path / "run" / "moodle.csv")
    assert ",".join(rows[0]) + "\n" == ANONYMOUS.partition("Participant")[0]
    assert [row[:3] for row in rows[1:]] == [
        ["Participant 71", "Submitted for grading", "5"],
        ["Participant 72", "No submission", ""],
    ]
    assert column(tmp_path / "run" / "gradebook.csv", "status") == {
        "Participant 71": "graded",
        "Participant 72": "missing",
    }


def test_a_teams_submission_counts_for_each_member(quick, tmp_path):
    """The folder has the team's number, which may be the number of somebody else, and not a member's."""
    head, *rows = MOODLE.replace("33334", "77").replace("No submission", "Submitted").splitlines()
    rows.append('Participant 78,"Poe, Eve",eve@x.org,No submission,,100.00,Yes,-,-,')
    groups = ["Group", "Red Owls", "Red Owls", "Blue"]
    lines = [line.split(",") for line in (head, *(row.replace('"', "").replace(", ", " ") for row in rows))]
    text = "".join(",".join([*x[:4], g, *x[4:]]) + "\n" for x, g in zip(lines, groups, strict=True))
    quick({"Red Owls_78_assignsubmission_file/02.ipynb": HALF}, roster=text)
    assert column(tmp_path / "run" / "gradebook.csv", "score") == {
        "bob@x.org": "1",
        "eve@x.org": "0",
        "li@x.org": "1",
    }
    assert [row[5] for row in rows_of(tmp_path / "run" / "moodle.csv")] == ["Grade", "50", "50", ""]
    with zipfile.ZipFile(tmp_path / "run" / "feedback.zip") as archive:
        assert sorted(archive.namelist()) == [
            "Li Wei_33333_assignsubmission_file/feedback.html",
            "Ode Bob_77_assignsubmission_file/feedback.html",
        ]


def test_a_worksheet_of_another_assignment_is_said(quick, tmp_path):
    names = {"Li Wei_41_assignsubmission_file/02.ipynb": HALF}
    quick(names, roster=MOODLE)
    assert column(tmp_path / "run" / "gradebook.csv", "score")["li@x.org"] == "1"
    told = (
        "the worksheet is another assignment's, and Moodle will not take moodle.csv (1):\n  li@x.org Li Wei"
    )
    assert told in (tmp_path / "run" / "summary.txt").read_text()
    quick(names, output="right", roster=MOODLE.replace("33333", "41"))
    assert "another assignment" not in (tmp_path / "right" / "summary.txt").read_text()


def test_moodle_gets_comments_as_the_html_that_it_takes_them_for(quick, tmp_path):
    quick({"Li Wei_33333_assignsubmission_file_/02.ipynb": HALF}, roster=MOODLE)
    path = tmp_path / "run" / "overrides.csv"
    path.write_text("student_id,exercise,points,comment\nli@x.org,,,for k<n & n>1 it is right\n")
    batch.rewrite(tmp_path / "run")
    assert rows_of(tmp_path / "run" / "moodle.csv")[1][-1] == "for k&lt;n &amp; n&gt;1 it is right"


def test_an_export_needs_no_roster(quick, tmp_path):
    quick({"doejane_12_34_02.ipynb": HALF}, export=["canvas"])
    assert rows_of(tmp_path / "run" / "canvas.csv")[2] == ["doejane", "12", "", "", "", "1"]
    (tmp_path / "in" / "doejane_12_34_02.ipynb").unlink()
    quick({"Li Wei_7_assignsubmission_file/x.ipynb": RIGHT}, output="m", export=["moodle"])
    assert rows_of(tmp_path / "m" / "moodle.csv")[1][:6] == ["Participant 7", "Li Wei", "", "", "2", "2"]


def test_who_is_not_in_an_export_is_said(quick, tmp_path):
    quick({"ann.ipynb": RIGHT}, export=["canvas"])
    assert len(rows_of(tmp_path / "run" / "canvas.csv")) == 2
    assert f"{lms.NUMBERLESS} (1):\n  ann\n" in (tmp_path / "run" / "summary.txt").read_text()
    (tmp_path / "in" / "ann.ipynb").unlink()
    quick({"doejane_12_34_02.ipynb": HALF}, output="c", export=["canvas"])
    assert lms.NUMBERLESS not in (tmp_path / "c" / "summary.txt").read_text()


def test_names_cannot_act_in_a_spreadsheet_a_terminal_or_a_page(quick, tmp_path, capsys):
    evil = "\x1b]0;title\x07\x1b[31mred\u202e=1+1"
    quick({f"{evil}.ipynb": RIGHT, "=cmd.ipynb": b"", f"{evil}.txt": b""}, output="run")
    run = tmp_path / "run"
    for path in ("gradebook.csv", "summary.txt", "passed_over.csv", "items.csv", "similar.csv"):
        assert not set("\x1b\x07\u202e") & set((run / path).read_text(encoding="utf-8")), path
    assert not set("\x1b\x07\u202e") & set("".join(LINES))
    for page in (run / "feedback").iterdir():
        assert not set("\x1b\x07\u202e") & set(page.read_text(encoding="utf-8"))
    assert {row["student_id"] for row in table(run / "gradebook.csv")} == {"red =1+1", "'=cmd"}


def test_texts_are_made_harmless_and_stay_readable():
    assert shown("\x1b[1;31mValueError\x1b[0m: \tx\n y") == "ValueError:  x  y"
    assert shown("Ångström 李 👩‍🔬 \u200cنه") == "Ångström 李 👩‍🔬 \u200cنه"
    assert [inert(x) for x in ("=1", " +1", "-x", "@y", "-1+1")] == ["'=1", "' +1", "'-x", "'@y", "'-1+1"]
    assert [inert(x) for x in ("a;=1", "a; @b; c")] == ["a;'=1", "a; '@b; c"]
    assert [inert(x) for x in ("a=1", "", "-0.03", "-", 3)] == ["a=1", "", "-0.03", "-", 3]
    assert csv_text(["=a"], [["\x1b[31m=1", 2]]) == "\ufeff'=a\n'=1,2\n"


def test_another_lessons_notebook_is_said(quick, tmp_path):
    nothing = {FIRST: verdict("missing"), SECOND: verdict("missing")}
    quick({"ann.ipynb": nothing, "bob.ipynb": nothing | {FIRST: verdict("not attempted")}})
    run = tmp_path / "run"
    said = "none of the exercises that count is in the notebook; perhaps it is another lesson's"
    assert f"{said} (1):\n  ann\n" in (run / "summary.txt").read_text()
    assert column(run / "gradebook.csv", "flags") == {"ann": said, "bob": ""}
    pages = {page.name.partition("-")[0]: page.read_text() for page in (run / "feedback").iterdir()}
    assert ("another lesson" in pages["ann"], "another lesson" in pages["bob"]) == (True, False)


def test_nothing_is_shown_where_nothing_was_written(quick, tmp_path):
    quick({"ann.ipynb": {FIRST: verdict("missing", message="No cell."), SECOND: verdict("fail", "x = 1")}})
    page = next((tmp_path / "run" / "feedback").iterdir()).read_text()
    assert page.count("Your answer") == 1
    assert "<pre></pre>" not in page


def test_what_the_clock_or_the_system_ended_is_listed_for_a_look(quick, tmp_path):
    quick({"ann.ipynb": {FIRST: verdict("timeout"), SECOND: verdict("killed")}, "bob.ipynb": RIGHT})
    said = (tmp_path / "run" / "summary.txt").read_text()
    assert f"worth a look (2):\n  ann: {FIRST} (timeout)\n  ann: {SECOND} (killed)" in said


# --- the course's gradebook -------------------------------------------------------------------------


def run_of(folder, lesson, run_id, layout, results, worth=2):
    """Return what `rewrite` returns of a run: results {(id, name, email): score}."""
    run = {"lesson": f"/x/{lesson}.ipynb", "run_id": run_id, "layout": layout}
    found = [
        {"student_id": s, "name": n, "email": e, "score": score, "max_score": worth}
        | {"status": "missing" if score == 0 else "graded", "in_roster": bool(e)}
        for (s, n, e), score in results.items()
    ]
    return folder, (run, found)


def test_the_course_gradebook_joins_runs(monkeypatch, tmp_path):
    from cnnlib.course.grading import course_book

    runs = dict(
        [
            run_of("b", "03_x", "2", "plain", {("ann", "", ""): 1, ("bob", "Bob", ""): 3}, worth=3),
            run_of(
                "a",
                "02_x",
                "1",
                "plain",
                {("ann", "Ann", ""): 2, ("bob", "Bob", ""): 0, ("eve", "", ""): None},
            ),
            run_of("c", "02_x", "3", "plain", {("ann", "Ann", ""): 1, ("bob", "Bob", ""): 2}),
        ]
    )
    monkeypatch.setattr(course_book, "rewrite", lambda folder: runs[str(folder)])
    best = gradebook(["a", "b", "c"], tmp_path / "book.csv")
    assert best == [
        {
            "student_id": "eve",
            "name": "",
            "email": "",
            "02_x": "",
            "03_x": "",
            "total": 0,
            "max_total": 5,
            "percent": "0.0",
        },
        {
            "student_id": "ann",
            "name": "Ann",
            "email": "",
            "02_x": 2,
            "03_x": 1,
            "total": 3,
            "max_total": 5,
            "percent": "60.0",
        },
        {
            "student_id": "bob",
            "name": "Bob",
            "email": "",
            "02_x": 2,
            "03_x": 3,
            "total": 5,
            "max_total": 5,
            "percent": "100.0",
        },
    ]
    assert [row["total"] for row in table(tmp_path / "book.csv")] == ["0", "3", "5"]
    latest = gradebook(["a", "b", "c"], tmp_path / "book.csv", "latest")
    assert [row["02_x"] for row in latest] == ["", 1, 2]


def test_moodles_numbers_of_two_assignments_are_one_learner(monkeypatch, tmp_path):
    from cnnlib.course.grading import course_book

    runs = dict(
        [
            run_of("a", "02_x", "1", "moodle", {("33", "Li Wei", ""): 2, ("34", "Bob", ""): 1}),
            run_of("b", "03_x", "2", "moodle", {("98", "Li Wei", ""): 1, ("33", "Bob", ""): 2}),
        ]
    )
    monkeypatch.setattr(course_book, "rewrite", lambda folder: runs[str(folder)])
    rows = gradebook(["a", "b"], tmp_path / "book.csv")
    assert [(row["name"], row["02_x"], row["03_x"]) for row in rows] == [("Bob", 1, 2), ("Li Wei", 2, 1)]
    nobody = {("1", "Participant", ""): 2, ("2", "Participant", ""): 1}  # marked blind
    runs |= dict([run_of("d", "02_x", "4", "moodle", nobody)])
    assert len(gradebook(["d"], tmp_path / "book.csv")) == 2
    runs |= dict([run_of("c", "02_x", "3", "moodle", {("1", "Bob", ""): 2}, worth=4)])
    with pytest.raises(ParameterError, match="worth 2 and 4 points"):
        gradebook(["a", "c"], tmp_path / "book.csv")


def test_an_email_that_two_learners_share_tells_neither(monkeypatch, tmp_path):
    from cnnlib.course.grading import course_book

    family = {("ann", "Ann", "lee@x.org"): 2, ("bob", "Bob", "Lee@x.org"): 1, ("eve", "Eve", "eve@x.org"): 1}
    runs = dict(
        [
            run_of("a", "02_x", "1", "plain", family),
            run_of("b", "03_x", "2", "plain", family | {("7", "Eve", "eve@x.org"): 2}),
        ]
    )
    del runs["b"][1][2]  # Eve has another id there, and the same e-mail
    monkeypatch.setattr(course_book, "rewrite", lambda folder: runs[str(folder)])
    rows = gradebook(["a", "b"], tmp_path / "book.csv")
    assert [(row["name"], row["02_x"], row["03_x"]) for row in rows] == [
        ("Ann", 2, 2),
        ("Bob", 1, 1),
        ("Eve", 1, 2),
    ]


def test_the_gradebook_command_reads_overrides(quick, tmp_path, capsys):
    quick({"ann.ipynb": HALF})
    (tmp_path / "run" / "overrides.csv").write_text("student_id,exercise,points,comment\nann,,2,\n")
    assert main(["gradebook", str(tmp_path / "run"), "-o", str(tmp_path / "book.csv")]) == 0
    assert "1 learners" in capsys.readouterr().out
    assert table(tmp_path / "book.csv")[0]["total"] == "2"
    assert column(tmp_path / "run" / "gradebook.csv", "score") == {"ann": "2"}
    assert main(["gradebook", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main(["gradebook", str(tmp_path / "run"), "-o", str(tmp_path / "in")]) == 2
    assert capsys.readouterr().err == f"cnnlib: {tmp_path / 'in'}: Is a directory\n"


def test_one_notebook_is_graded_on_the_command_line(quick, tmp_path, capsys):
    hand_in(tmp_path, {"ann.ipynb": RIGHT, "bob.ipynb": HALF})
    command = ["grade", "02", str(tmp_path / "ann.ipynb"), "-o", str(tmp_path / "run")]
    assert main([*command, "--exercises", FIRST, "--points", f"{FIRST}=2.5"]) == 0
    said = capsys.readouterr().out
    assert "[1/1] ann: 2.5 of 2.5" in said
    assert "1 graded\n" in said
    assert main([*command, "--resume", "--seed", "1"]) == 2
    assert "go on without --seed" in capsys.readouterr().err


# --- alike answers ----------------------------------------------------------------------------------

ANSWER = '''def f(images, kernel):
    """Return it."""
    # add up
    total: float = 0
    for row in range(3):
        total += images[row] * kernel  # here
    return total
'''
RENAMED = """import torch
def f(x, k: int) -> float:
    s = 0
    for i in range(3):

        s += x[i] * k
    return s
""".partition("\n")[2]


def test_names_comments_and_layout_make_no_difference():
    assert form(ANSWER) == form(RENAMED) != ""
    assert form(ANSWER.replace("range(3)", "range(4)")) != form(ANSWER)
    assert form(ANSWER.replace("* kernel", "+ kernel")) != form(ANSWER)
    assert form("def f(a, b): return a - b") != form("def f(a, b): return b - a")
    assert form("def f(a): return torch.relu(a)") != form("def f(a): return torch.tanh(a)")
    assert form("class A:\n def g(self): return 1") == form("class A:\n  def g(me):\n    'x'\n    return 1")


@pytest.mark.parametrize(
    "source",
    [
        "",
        "  \n",
        "def f(:",
        "%timeit f()",
        "x" * 30_000,
        "(" * 5000,
        "1" + "+1" * 9000,
        "-" * 15_000 + "1",
        "\0",
    ],
)
def test_what_cannot_be_parsed_is_not_compared(source):
    assert isinstance(form(source), str)


def answers_of(sources):
    exams = [{"id": f"02.e{i}", "points": 1} for i in range(len(next(iter(sources.values()))))]
    results = [
        {"student_id": student, "exercises": {f"02.e{i}": {"source": s} for i, s in enumerate(texts)}}
        for student, texts in sources.items()
    ]
    return similar(results, exams)


def test_a_pair_that_shares_rare_answers_is_listed_and_common_ones_are_not():
    common = "def f(a): return a + 1"
    sources = {
        f"s{n:02}": [common, *(f"def f(a): return a * {n} + {i} + b{n}" for i in range(5))] for n in range(20)
    }
    assert answers_of(sources) == []
    sources["s07"] = [text.replace("(a)", "(zzz)").replace(" a ", " zzz ") for text in sources["s03"]]
    (pair,) = answers_of(sources)
    assert (pair["student_a"], pair["student_b"], pair["equal"], pair["compared"]) == ("s03", "s07", 6, 6)
    assert pair["exercises"] == "02.e1 02.e2 02.e3 02.e4 02.e5"
    assert pair["odds"] > 1000
    everybody = {student: [common] * 6 for student in sources}
    assert answers_of(everybody) == []
    assert answers_of({"a": [common], "b": [common]}) == []
    assert answers_of({"a": [common]}) == []


def test_learners_who_draw_from_the_same_few_answers_are_hardly_ever_listed():
    import random

    rng = random.Random(0)
    listed = 0
    for _ in range(20):
        forms = [[f"def f(a): return a + {i} * {k}" for k in range(6)] for i in range(8)]
        sources = {f"s{n:02}": [rng.choices(f, (8, 4, 2, 1, 1, 1))[0] for f in forms] for n in range(30)}
        listed += len(answers_of(sources))
    assert listed <= 20  # one a batch is what chance is allowed


# --- an instructor's own lesson ---------------------------------------------------------------------

OWN_LESSON = '''"""Exercises of lesson 90, of one's own."""

from cnnlib.course.exercises import Exercise


def double(x):
    """Return twice x, an int."""
    return 2 * x


EXERCISES = [
    Exercise(
        id="90.double",
        points=2,
        reference=double,
        cases=lambda rng: [[1], [0], [int(rng.integers(2, 100))], [-3]],
        mutants={
            "squares": lambda x: x * x,
            "adds two": lambda x: x + 2,
            "does nothing": lambda x: x,
        },
        hints=("How much is x and x?",),
    )
]
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return the folder of an own lesson 90."""
    folder = tmp_path / "own"
    (folder / "notebooks").mkdir(parents=True)
    (folder / "lesson_90.py").write_text(OWN_LESSON)
    monkeypatch.setenv("CNNLIB_EXERCISES", str(folder))
    (exercise,) = exercises("90")
    cell = nbformat.v4.new_code_cell
    cells = [
        nbformat.v4.new_markdown_cell("# 90 · Doubling", id="title"),
        cell("from cnnlib.course.exercises import check", id="setup", metadata={"tags": ["setup"]}),
        cell(exercise.stub, id="exercise-double", metadata={"tags": ["exercise"]}),
        cell('check("90.double", double)', id="check-double", metadata={"tags": ["check"]}),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "notebooks" / "90_doubling.ipynb")
    return folder


def test_an_own_lesson_is_checked_and_listed(own, capsys):
    from cnnlib.course.exercises import check

    assert check("90.double", lambda x: 2 * x).verdict.passed
    assert "squares" in check("90.double", lambda x: x * x).text
    assert main(["lessons"]) == 0
    assert "90_doubling" in capsys.readouterr().out.split()
    exam = make_exam(exercises("90")[0], 5)
    assert exam["expected"][0] == 2


def test_an_own_lesson_is_released_without_its_solution(own, tmp_path, monkeypatch):
    from cnnlib.course import release
    from cnnlib.course.exercises import plain

    monkeypatch.setattr(release, "FOLDERS", ())  # the course's own, and their data
    release.release(tmp_path / "copy")
    package = tmp_path / "copy" / "cnnlib"
    exams = plain.loads((package / "course" / "exercises" / "released.bin").read_bytes())
    assert {"90.double", FIRST} <= {exam["id"] for exam in exams}
    assert not list((tmp_path / "copy").rglob("lesson_*.py"))
    assert [path.name for path in (tmp_path / "copy" / "notebooks").iterdir()] == ["90_doubling.ipynb"]


def test_an_own_lesson_is_graded(own, quick, tmp_path):
    hand_in(tmp_path / "in", {"ann.ipynb": {"90.double": verdict("pass")}})
    notebook = own / "notebooks" / "90_doubling.ipynb"
    (result,) = batch.grade(notebook, tmp_path / "in", tmp_path / "run", seed=1, progress=str)
    assert (result["score"], result["max_score"]) == (2, 2)


def test_a_number_of_the_course_or_a_wrong_folder_is_refused(own, monkeypatch):
    (own / "lesson_02.py").write_text(OWN_LESSON)
    with pytest.raises(ParameterError, match="the course has exercises 02 already"):
        exercises("02")
    (own / "lesson_91.py").write_text(OWN_LESSON)
    with pytest.raises(ParameterError, match=r'must define EXERCISES, a list of Exercise\("91.name"'):
        exercises("91")
    assert exercises("92") == []
    monkeypatch.setenv("CNNLIB_EXERCISES", str(own / "nowhere"))
    with pytest.raises(ParameterError, match="there is no such folder"):
        exercises("90")


# --- the command line, with the real jail -----------------------------------------------------------


def answered(answers):
    """Return the lesson as a learner hands it in, with these answers {name: source}, as bytes."""
    notebook = read(LESSON)
    for cell in notebook.cells:
        cell.source = answers.get(cell.id.removeprefix("exercise-"), cell.source)
    return nbformat.writes(notebook).encode()


@needs_jail
@pytest.mark.slow
def test_an_instructors_evening_from_download_to_export(tmp_path, monkeypatch, capsys):
    """Two downloads of one class, Moodle's and Canvas's: grade, decide, mend an exercise, regrade, export."""
    first, second = (next(e for e in exercises("02") if e.id == i) for i in (FIRST, SECOND))
    solved = answered({e.name: e.solution for e in (first, second)})
    half = answered(
        {
            first.name: first.solution,
            second.name: second.stub.replace("raise NotImplementedError", "return 0"),
        }
    )
    with zipfile.ZipFile(tmp_path / "moodle.zip", "w") as archive:
        archive.writestr("Li Wei_33333_assignsubmission_file_/02 final.ipynb", solved)
        archive.writestr("Ode Bob_33334_assignsubmission_file_/02.ipynb.txt", half)
        archive.writestr("Eve Poe_33335_assignsubmission_file_/02.ipynb", solved[: len(solved) // 2])
        archive.writestr("Max Ray_33336_assignsubmission_onlinetext_/onlinetext.html", "see mail")
        archive.writestr("__MACOSX/._x.ipynb", "x")
    (tmp_path / "worksheet.csv").write_text(MOODLE, encoding="utf-8")
    counted = [
        "--exercises",
        f"{FIRST},{SECOND}",
        "--points",
        f"{SECOND}=4",
        "--partial",
        "--late-penalty",
        "50",
    ]
    run = tmp_path / "moodle"
    command = ["grade", "02", str(tmp_path / "moodle.zip"), "-o", str(run), "--seed", "3"]
    assert main([*command, *counted, "--roster", str(tmp_path / "worksheet.csv")]) == 0
    said = capsys.readouterr().out
    assert "2 graded, 2 unreadable" in said.replace("1 missing, ", "")
    rows = {row["student_id"]: row for row in table(run / "gradebook.csv")}
    assert rows["li@x.org"]["score"] == "3"  # all 6 points, handed in late
    assert 2 <= float(rows["bob@x.org"]["score"]) < 6
    assert "not a whole notebook" in rows["33335"]["flags"]
    assert "hand in exactly one" in rows["33336"]["flags"]
    assert rows_of(run / "moodle.csv")[1][4] == "50"

    with zipfile.ZipFile(tmp_path / "canvas.zip", "w") as archive:
        archive.writestr("doejane_12345_67890_02.ipynb", half)
        archive.writestr("leeann_LATE_222_67891_02-1.ipynb", solved)
    (tmp_path / "grades.csv").write_text(CANVAS, encoding="utf-8")
    run = tmp_path / "canvas"
    command = ["grade", "02", str(tmp_path / "canvas.zip"), "-o", str(run), "--seed", "3"]
    assert main([*command, *counted, "--roster", str(tmp_path / "grades.csv")]) == 0
    assert [row[5] for row in rows_of(run / "canvas.csv")][3] == "5"
    (run / "overrides.csv").write_text("student_id,exercise,points,comment\n222,,5,ill\n")
    capsys.readouterr()

    def mended(exercise, seed):  # what was wrong is right now
        exam = make_exam(exercise, seed)
        return exam | {"expected": [0] * len(exam["cases"])} if exercise.id == SECOND else exam

    monkeypatch.setattr(batch, "make_exam", mended)
    assert main(["regrade", str(run)]) == 0
    assert main(["gradebook", str(run), str(tmp_path / "moodle"), "-o", str(tmp_path / "book.csv")]) == 0
    assert [row[5] for row in rows_of(run / "canvas.csv")][1:] == ["10", "10", "8.33"]
    assert {row["name"]: row["02_parts_of_a_cnn"] for row in table(tmp_path / "book.csv")}["Lee, Ann"] == "5"
    assert sorted(os.listdir(run / "feedback")) == [
        "doejane_12345_67890_feedback.html",
        "leeann_LATE_222_67891_feedback.html",
    ]
