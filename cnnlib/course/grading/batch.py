"""Grading a folder of submissions: with any executor, with progress, and resumable to the same grades."""

import csv
import datetime
import hashlib
import importlib.util
import json
import os
import re
import secrets
import shutil
from pathlib import Path

import nbformat

from cnnlib.course import runner
from cnnlib.course.exercises import exercises, make_exam, plain
from cnnlib.course.grading import jail, reports
from cnnlib.course.grading.one import grade_submission
from cnnlib.course.grading.submission import SubmissionError, read_bytes
from cnnlib.course.jobs import run_jobs
from cnnlib.course.release import release_package
from cnnlib.ground.env import DATA
from cnnlib.ground.errors import ParameterError
from cnnlib.ground.files import atomic_path


def grade(
    lesson,
    submissions,
    output,
    *,
    executor=None,
    resume=False,
    isolation="namespaces",
    roster=None,
    seed=None,
    progress=print,
):
    """Grade every submission of a lesson and write the reports.

    Args:
        lesson: Path of the lesson's notebook, as it was handed out.
        submissions: Path of a folder with one `STUDENT.ipynb` a learner, or one folder `STUDENT/` with a
            notebook in it.
        output: Path of the run's folder, new or (with `resume`) that of an interrupted run.
        executor: concurrent.futures.Executor; None: one submission after the other in this process.
        resume: go on with the run in `output`; what is graded already stays.
        isolation: one of jail.LEVELS.
        roster: Path of a CSV file with student_id, name, email; who did not submit is listed too. Or None.
        seed: int that decides the cases; None: a fresh one. The run logs it.
        progress: function that is given a line of text after each submission.

    Returns:
        list of results in the order of the students; see `one.grade_submission`.

    Raises:
        ParameterError: a folder that is missing or not empty, no exercises, a roster that cannot be read.
        jail.JailError: the isolation is not available.
    """
    output = Path(output)
    if not exercises(Path(lesson).stem):
        raise ParameterError(f"{Path(lesson).stem} has no exercises")
    found = find_submissions(Path(submissions))
    people = read_roster(roster) if roster else {}
    described = {
        "lesson": str(Path(lesson).resolve()),
        "submissions": str(Path(submissions).resolve()),
        "roster": str(Path(roster).resolve()) if roster else None,
        "isolation": isolation,
        "seed": secrets.randbelow(2**31) if seed is None else seed,
    }
    run = _open_run(output, described, resume)
    return _grade_all(output, run, found, people, executor, progress)


def regrade(output, students=(), *, executor=None, progress=print):
    """Grade again what a run has graded, after an exercise was mended: same submissions, same seed.

    The gradebook of before stays as `gradebook-RUN_ID.csv`.

    Args:
        output: Path of the run's folder.
        students: ids of those who are graded again; none: all.
        executor, progress: as in `grade`.

    Returns:
        (results, changes): results as `grade` returns them; changes is a list of (student id, exercise id,
        score before, score now), for each score that is not what it was.

    Raises:
        ParameterError: the folder holds no run, or there is no such student.
    """
    output = Path(output)
    if not (output / "run.json").exists():
        raise ParameterError(f"{output} holds no run; name the folder that `cnnlib grade` wrote")
    old = json.loads((output / "run.json").read_text(encoding="utf-8"))
    found = find_submissions(Path(old["submissions"]))
    unknown = sorted(set(students) - found.keys())
    if unknown:
        raise ParameterError(f"{', '.join(unknown)} did not submit to {old['submissions']}")
    people = read_roster(old["roster"]) if old["roster"] else {}
    before = _stored_scores(output, found)
    if (output / "gradebook.csv").exists():
        (output / "gradebook.csv").replace(output / f"gradebook-{old['run_id']}.csv")
    for student in students or found:
        _stored(output, student).unlink(missing_ok=True)
    run = _prepare(output, old)
    results = _grade_all(output, run, found, people, executor, progress)
    now = _stored_scores(output, found)
    keys = sorted(before.keys() | now.keys())
    return results, [(*key, before.get(key), now.get(key)) for key in keys if before.get(key) != now.get(key)]


def _grade_all(output, run, found, people, executor, progress):
    """Grade what has no result yet, and write the reports."""
    jobs, results = {}, {}
    for student, path in found.items():
        old = _read_stored(output, student)
        if old and old["status"] != "grader error" and old["sha256"] == _sha256(path):
            results[student] = old
        else:
            folder = str(output.resolve())
            jobs[student] = {"path": str(path), "folder": folder, "isolation": run["isolation"]}
    total = len(results) + len(jobs)

    def finish(student, result):
        _write_json(_stored(output, student), result)
        results[student] = result
        progress(f"[{len(results)}/{total}] {student}: {_in_short(result)}")

    run_jobs(grade_submission, jobs, executor, finish)
    ordered = [
        {"student_id": student, "page": f"{slug(student)}.html", "name": "", "email": ""}
        | people.get(student, {})
        | results.get(student, MISSING)
        for student in sorted(found.keys() | people.keys())
    ]
    reports.write_all(output, run, ordered)
    return ordered


def _in_short(result):
    if result["status"] != "graded":
        return f"{result['status']}: {result['message'][:80]}"
    entries = result["exercises"].values()
    return f"{sum(e['score'] for e in entries)} of {sum(e['max_score'] for e in entries)}"


MISSING = {"sha256": "", "status": "missing", "message": "No submission.", "flags": [], "exercises": {}}


def find_submissions(folder):
    """Return {student id: path} of a folder of submissions; two files of one student are an error."""
    if not folder.is_dir():
        raise ParameterError(f"{folder} is no folder; name the one that holds the submissions")
    found = {}
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            inside = sorted(p for p in entry.iterdir() if p.suffix == ".ipynb")
            # With none or several there is nothing to grade; the folder itself is then what cannot be read.
            student, path = entry.name, inside[0] if len(inside) == 1 else entry
        elif entry.suffix == ".ipynb":
            student, path = entry.stem, entry
        else:
            continue
        student = os.fsencode(student).decode(errors="replace")  # a name need not be valid text
        if student in found:
            raise ParameterError(f"{student} submitted {found[student]} and {path}; leave one of them")
        found[student] = path
    if not found:
        raise ParameterError(f"{folder} holds no .ipynb file")
    return found


def read_roster(path):
    """Return {student id: {"name", "email"}} of a CSV file with the columns student_id, name, email."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"the roster {path} cannot be read: {error}") from None
    if not rows or not {"student_id", "name", "email"} <= set(rows[0]):
        raise ParameterError(
            f"the roster {path} must have the columns student_id, name, email, and a row for each student"
        )
    return {row["student_id"]: {"name": row["name"] or "", "email": row["email"] or ""} for row in rows}


def _open_run(output, described, resume):
    """Return the description of a new run, or of the one that is gone on with."""
    if (output / "run.json").exists():
        if not resume:
            raise ParameterError(
                f"{output} holds a run already; go on with it (--resume), or name another folder"
            )
        run = json.loads((output / "run.json").read_text(encoding="utf-8"))
        if Path(run["lesson"]).stem != Path(described["lesson"]).stem:
            raise ParameterError(f"{output} holds a run of {Path(run['lesson']).stem}; name another folder")
        return run
    # A run that was interrupted before it had a description has graded nothing: it begins anew.
    if output.exists() and any(entry.name not in ("course", "exams.bin") for entry in output.iterdir()):
        raise ParameterError(f"{output} is not empty; name a folder that does not exist yet")
    if not all(map(importlib.util.find_spec, ("pytest", "nbval"))):
        raise ParameterError("grading needs pytest and nbval: pip install 'cnnlib[grading]'")
    if described["isolation"] != "process" and not jail.available():
        jail.start([], output, output, described["isolation"])  # raises, and says why
    return _prepare(output, described)


def _prepare(output, described):
    """Write what answers are graded with: the exams, the learners' package, the run's description."""
    lesson = Path(described["lesson"])
    asked = exercises(lesson.stem)
    output.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(output / "course", ignore_errors=True)
    release_package(output / "course" / "cnnlib")
    (output / "course" / "data").symlink_to(DATA)
    setup = {
        "exercises": [{"id": e.id, "stub": e.stub} for e in asked],
        "exams": [make_exam(e, described["seed"]) for e in asked],
        "providers": _providers(lesson),
    }
    with atomic_path(output / "exams.bin") as temporary:
        temporary.write_bytes(plain.dumps(setup))
    now = datetime.datetime.now(datetime.UTC)
    run_id = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    run = described | {"run_id": run_id, "title": runner.read_title(lesson)}
    _write_json(output / "run.json", run)  # last: a folder that has it is complete
    return run


def _providers(lesson):
    """Return the cells of the pristine lesson that answers may build on: its imports and definitions."""
    cells = nbformat.read(lesson, as_version=4).cells
    wanted = [c for c in cells if c.cell_type == "code" and "exercise" not in c.metadata.get("tags", [])]
    tagged = [
        c for c in wanted if any(t == "setup" or t.startswith("defines-") for t in c.metadata.get("tags", []))
    ]
    return [cell.source for cell in tagged]


def slug(student):
    """Return a file name for a student id, whatever it holds; different ids have different names."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", student)[:40]
    return f"{readable}-{hashlib.sha256(os.fsencode(student)).hexdigest()[:10]}"


def _stored(output, student):
    return output / "results" / f"{slug(student)}.json"


def _read_stored(output, student):
    path = _stored(output, student)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _stored_scores(output, students):
    """Return {(student id, exercise id): score} of what is stored."""
    stored = {student: _read_stored(output, student) for student in students}
    return {
        (student, name): entry["score"]
        for student, result in stored.items()
        if result
        for name, entry in result["exercises"].items()
    }


def _sha256(path):
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except SubmissionError:
        return ""


def _write_json(path, value):
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")
