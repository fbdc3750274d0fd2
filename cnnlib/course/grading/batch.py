"""Grading a batch of submissions: with any executor, with progress, and resumable to the same grades."""

import datetime
import importlib.util
import os
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import nbformat

from cnnlib.course import runner
from cnnlib.course.exercises import exercises, make_exam, plain, squeezed
from cnnlib.course.grading import jail, lms, reports
from cnnlib.course.grading.collect import collect
from cnnlib.course.grading.one import grade_submissions, stop_notebooks
from cnnlib.course.grading.roster import read_roster, recogniser
from cnnlib.course.grading.scores import OVERRIDES, read_overrides, standings, submissions_of
from cnnlib.course.grading.store import LOCK, alone_in, read_json, read_stored, stored_at, write_json
from cnnlib.course.grading.tables import shown
from cnnlib.course.jobs import run_jobs
from cnnlib.course.release import release_package
from cnnlib.ground.env import DATA
from cnnlib.ground.errors import ParameterError, check_whole
from cnnlib.ground.files import atomic_path

FIXED = {
    "isolation": "namespaces",
    "seed": None,
    "pattern": None,
    "attempt": "latest",
    "exercises": None,
    "points": {},
    "partial": False,
}
"""Options that hold for the whole of a run, and what they are unless given."""
FREE = {"late_penalty": 0, "export": [], "assignment": None}
"""Options that only the reports need; they may change when a run is gone on with."""
CHUNK = 200
"""So many submissions at most share a kernel that decides. To start one, and a warden, costs as much as a
dozen submissions."""
ROUNDS, ENOUGH = 3, 25
"""So many jobs a worker, where there are several and each job has so many submissions: who is done early
helps the one whose submissions take long."""
AGAIN = "regrading"
"""A folder in a run's own, where `regrade` grades before anything of the run changes."""
COMPLETE = "complete"
"""A file in it when all is graded: from then on it takes the run's place, whatever comes between."""


def grade(lesson, what, output, *, executor=None, resume=False, roster=None, progress=print, **options):
    """Grade every submission of a lesson and write the reports.

    Args:
        lesson: Path of the lesson's notebook, as it was handed out.
        what: Path of what was handed in: a folder, a zip or a notebook; see `collect.collect`.
        output: Path of the run's folder, new or (with `resume`) that of an interrupted run.
        executor: concurrent.futures.Executor; None: one submission after the other in this process.
        resume: go on with the run in `output`; what is graded already stays, and so do options and roster.
        roster: Path of a CSV file, see `roster.read_roster`; who did not submit is listed too. Or None.
        progress: function that is given a line of text for each submission, about when it is decided.
        options: None, or not given, means the default or, with `resume`, what the run has.
            isolation: one of jail.LEVELS. Default: "namespaces".
            seed: int that decides the cases. Default: a fresh one, which the run logs.
            pattern: regular expression for the submissions' paths, see `collect.collect`.
            attempt: "latest" or "best" of several submissions of a learner. Default: "latest".
            exercises: ids of those that count. Default: all of the lesson.
            points: dict from an exercise's id to what it is worth here.
            partial: whether a wrong answer gets the share of its cases that came out right.
            late_penalty: percent that are taken off a late submission's score.
            export: "canvas" and "moodle", as a list: files for import besides that of the roster's kind.
            assignment: part of the name of the assignment in Canvas's gradebook.

    Returns:
        list of results in the order of the students; see `one.grade_submissions` and `scores.scored`.

    Raises:
        ParameterError: a folder that is missing or not empty, no exercises, a roster that cannot be read, an
            option that is wrong or is not the run's, or a folder into which another one writes.
        jail.JailError: the isolation is not available.
    """
    lesson, output = Path(lesson), Path(output)
    given = {name: value for name, value in options.items() if value is not None}
    if unknown := given.keys() - FIXED.keys() - FREE.keys():
        raise TypeError(f"grade() has no option {', '.join(sorted(unknown))}")
    if not exercises(lesson.stem):
        raise ParameterError(f"{lesson.stem} has no exercises")
    with alone_in(output):
        old = _old_run(output, lesson, given, resume)
        run = (old or FIXED | FREE) | given
        _check(lesson, run)
        if roster or not old:
            run["roster"] = read_roster(roster) if roster else None
        kind = run["roster"]["kind"] if run["roster"] else ""
        if run["assignment"] and "canvas" not in (kind, *run["export"]):
            raise ParameterError(
                "--assignment names a column of canvas.csv, which is written with Canvas's gradebook as "
                "--roster, or with --export canvas"
            )
        if kind == "canvas":
            lms.assignment_column(run["roster"]["columns"], run | {"title": runner.read_title(lesson)})
        if not old:
            _check_machine(output, run)
            run["seed"] = secrets.randbelow(2**31) if run["seed"] is None else run["seed"]
        recognise = recogniser(run["roster"]) if run["roster"] else None
        found, passed_over, run["layout"] = collect(
            what, output, lesson.stem, pattern=run["pattern"], attempt=run["attempt"], recognise=recognise
        )
        run |= {
            "lesson": str(lesson.resolve()),
            "what": str(Path(what).resolve()),
            "submissions": [asdict(submission) for submission in found],
            "passed_over": passed_over,
        }
        if old:  # a wrong line is told before hours of grading
            read_overrides(output / "overrides.csv", _exams(output), _students(run))
            write_json(output / "run.json", run)
        else:
            run = _prepare(output, run)
        return _report(output, run, _grade_all(output, run, _paths(output, run), executor, progress))


def regrade(output, students=(), *, executor=None, progress=print):
    """Grade again what a run has graded, after an exercise was mended: the same files, the same seed.

    Nothing of the run changes before all is graded. The gradebook of before stays as `gradebook-RUN_ID.csv`.

    Args:
        output: Path of the run's folder.
        students: ids of those who are graded again; none: all.
        executor, progress: as in `grade`.

    Returns:
        (results, changes): results as `grade` returns them; changes is a list of (student id, exercise id,
        score before, score now), for each score that is not what it was.

    Raises:
        ParameterError: the folder holds no run, another one writes there, or there is no such student.
    """
    output = Path(output)
    with alone_in(output):
        old = _read_run(output)
        unknown = sorted(set(students) - {submission["student"] for submission in old["submissions"]})
        if unknown:
            raise ParameterError(f"{', '.join(unknown)} did not submit to the run in {output}")
        _check(Path(old["lesson"]), old)
        read_overrides(output / "overrides.csv", _exams(output), _students(old))
        paths = _paths(output, old)
        owner = {key: submission.student for key, submission in submissions_of(old).items()}
        again = {key: path for key, path in paths.items() if not students or owner[key] in students}
        before = _stored_scores(output, paths)
        new = output / AGAIN
        shutil.rmtree(new, ignore_errors=True)
        run = _prepare(new, old)
        _grade_all(new, run, again, executor, progress)
        (new / COMPLETE).touch()
        _take_over(output)
        results = _report(output, run, {key: read_stored(output, key) for key in paths})
        now = _stored_scores(output, paths)
        keys = sorted(before.keys() | now.keys())
        return results, [
            (*key, before.get(key), now.get(key)) for key in keys if before.get(key) != now.get(key)
        ]


def _take_over(output):
    """Put what was graded again into the run's place; one that was interrupted here is gone on with."""
    new = output / AGAIN
    if not (new / COMPLETE).exists():
        return
    if (output / "gradebook.csv").exists():
        run_id = read_json(output / "run.json")["run_id"]
        (output / "gradebook.csv").replace(output / f"gradebook-{run_id}.csv")
    (output / "results").mkdir(exist_ok=True)
    for path in (new / "results").glob("*.json"):
        path.replace(output / "results" / path.name)
    if (new / "course").exists():
        shutil.rmtree(output / "course", ignore_errors=True)
    for name in ("course", "exams.bin", "run.json"):  # the last one tells that all is there
        if (new / name).exists():
            (new / name).replace(output / name)
    shutil.rmtree(new)


def rewrite(output):
    """Write the reports of a run anew, after overrides.csv was edited; return (run, results).

    Raises:
        ParameterError: the folder holds no run, another one writes there, or overrides.csv is wrong.
    """
    output = Path(output)
    with alone_in(output):
        run = _read_run(output)
        return run, _report(output, run, {key: read_stored(output, key) for key in _paths(output, run)})


def _grade_all(output, run, found, executor, progress):
    """Grade what has no result yet.

    Args:
        output: Path of the folder that holds `course`, `exams.bin` and the results.
        run: dict, what run.json holds.
        found: dict from a key, which progress shows, to the Path of a kept copy, named by its SHA-256.

    Returns:
        dict from each key to its result.
    """
    todo, results = {}, {}
    for key, path in found.items():
        old = read_stored(output, key)
        if old and old["status"] != "grader error" and old["sha256"] == path.stem:
            results[key] = old
        else:
            stored_at(output, key).unlink(missing_ok=True)
            todo[key] = str(path)

    def job(paths, only):
        folder = str(output.resolve())
        return {"folder": folder, "isolation": run["isolation"], "paths": paths, "only": only}

    def tell(key, result):
        results[key] = result
        progress(f"[{len(results)}/{len(found)}] {shown(key)}: {_in_short(result)}")

    def watch():
        for key in [key for key in todo if key not in results]:
            if stored := read_stored(output, key):
                tell(key, stored)

    def finish(_, graded):
        for key, result in graded.items():
            if key not in results:
                write_json(stored_at(output, key), result)
                tell(key, result)

    def finish_alone(_, graded):
        for key, alone in graded.items():
            result = results[key] = _tried_again(results[key], alone)
            write_json(stored_at(output, key), result)
            progress(f"{shown(key)}, tried again alone: {_in_short(result)}")

    shutil.rmtree(output / "working", ignore_errors=True)  # of a run that was killed
    jobs = {i: job(chunk, {}) for i, chunk in enumerate(_chunks(todo, executor))}
    with ThreadPoolExecutor(1) as thread:  # this one watches
        executor = executor or thread
        run_jobs(grade_submissions, jobs, executor, finish, watch, stop_notebooks)
        again = {key: [i for i, e in r["exercises"].items() if e["again"]] for key, r in results.items()}
        again = {key: ids for key, ids in again.items() if ids}
        if again:  # one job, and nothing beside it
            jobs = {0: job({key: str(found[key]) for key in again}, again)}
            run_jobs(grade_submissions, jobs, executor, finish_alone, stop=stop_notebooks)
    shutil.rmtree(output / "working", ignore_errors=True)
    return results


def _chunks(paths, executor):
    """Split {key: path} into jobs: few, for each starts a kernel and torch, but enough for all processors."""
    workers = getattr(executor, "_max_workers", os.cpu_count()) if executor else 1
    worthwhile = min(ROUNDS, len(paths) // (workers * ENOUGH)) if workers > 1 else 1
    rounds = max(-(-len(paths) // (workers * CHUNK)), worthwhile, 1)
    size = -(-len(paths) // (workers * rounds)) or 1
    items = list(paths.items())
    return [dict(items[start : start + size]) for start in range(0, len(items), size)]


def _tried_again(result, alone):
    """Return a result with the verdicts on answers that were tried again when nothing else ran."""
    if alone["status"] != "graded":
        return result | {"status": "grader error", "message": alone["message"]}
    new = {i: entry | {"again": False} for i, entry in alone["exercises"].items()}
    flags = [f"{i}: tried again alone, {entry['status']}" for i, entry in new.items()]
    return result | {"exercises": result["exercises"] | new, "flags": result["flags"] + flags}


def _in_short(result):
    if result["status"] != "graded":
        return f"{result['status']}: {shown(result['message'])[:80]}"
    entries = result["exercises"].values()
    return f"{sum(e['score'] for e in entries):g} of {sum(e['max_score'] for e in entries):g}"


def _report(output, run, graded):
    """Score the results, write the reports, and return what counts."""
    exams = _exams(output)
    if not (output / "overrides.csv").exists():
        reports.write_texts(output, {"overrides.csv": f"{','.join(OVERRIDES)}\n"})
    overrides = read_overrides(output / "overrides.csv", exams, _students(run))
    results = standings(run, exams, graded, overrides)
    reports.write_all(output, run, exams, results)
    return results


def _students(run):
    """Return the ids of all learners, whether they submitted or not."""
    people = run["roster"]["learners"] if run["roster"] else []
    return {s["student"] for s in run["submissions"]} | {learner["student_id"] for learner in people}


def _paths(output, run):
    """Return {key: Path of the kept copy} of what can be graded."""
    return {key: output.resolve() / s.path for key, s in submissions_of(run).items() if s.path}


def _read_run(output):
    path = output / "run.json"
    if (output / "challenge.json").exists():
        seed = read_json(output / "challenge.json").get("seed")
        raise ParameterError(
            f"{output} holds a run of the open challenge, which has no scores; to train all entries anew on "
            f"the same images: cnnlib challenge WHAT --seed {seed} -o ANOTHER_FOLDER"
        )
    if not path.exists():
        raise ParameterError(f"{output} holds no run; name the folder that `cnnlib grade` wrote")
    _take_over(output)
    run = read_json(path)
    if not isinstance(run.get("submissions"), list):
        raise ParameterError(f"{output} holds a run of an earlier version; grade into another folder")
    return run


def _old_run(output, lesson, given, resume):
    """Return the run that is gone on with, or None for a new one.

    Raises:
        ParameterError: there is a run and no `resume`, it is another lesson's, or an option is not the run's.
    """
    # A run that was interrupted before it had a description has graded nothing: it begins anew.
    if not goes_on(output / "run.json", resume, begun=("course", "exams.bin", "submissions")):
        return None
    run = _read_run(output)
    if Path(run["lesson"]).stem != lesson.stem:
        raise ParameterError(f"{output} holds a run of {Path(run['lesson']).stem}; name another folder")
    check_same(output, run, {name: value for name, value in given.items() if name in FIXED})
    return run


def goes_on(description, resume, begun=()):
    """Tell whether a folder holds a run that is gone on with.

    Args:
        description: Path of the file in the run's folder that a run has.
        resume: whether one may go on with it.
        begun: names of what may stand in the folder of a new run.

    Raises:
        ParameterError: there is a run and no `resume`, or something else stands in the folder.
    """
    output = description.parent
    if description.exists():
        if not resume:
            raise ParameterError(
                f"{output} holds a run already; go on with it (--resume), or name another folder"
            )
        return True
    if output.exists() and any(entry.name not in (LOCK, *begun) for entry in output.iterdir()):
        raise ParameterError(f"{output} is not empty; name a folder that does not exist yet")
    return False


def check_same(output, run, given):
    """Check that options are those of a run that is gone on with.

    Raises:
        ParameterError: one is not.
    """
    for name, value in given.items():
        if value != run[name]:
            raise ParameterError(
                f"the run in {output} was begun with {name} {run[name]!r}, not {value!r}; "
                f"go on without --{name}, or name another folder"
            )


def _check(lesson, run):
    """Check the options that name exercises and numbers; return the exercises that count."""
    found = {exercise.id: exercise for exercise in exercises(lesson.stem)}
    named = [*(run["exercises"] or ()), *run["points"]]
    if unknown := [name for name in named if name not in found]:
        raise ParameterError(f"there is no exercise {unknown[0]!r}; {lesson.stem} has {', '.join(found)}")
    asked = [e for e in found.values() if run["exercises"] is None or e.id in run["exercises"]]
    if not asked:
        raise ParameterError("--exercises names none; at least one must count")
    for name, points in run["points"].items():
        if name not in {exercise.id for exercise in asked}:
            raise ParameterError(f"--points {name} is given, and --exercises leaves {name} out")
        if not 0 < points < 1e6:
            raise ParameterError(f"--points {name} is {points!r}; it must be a number above 0")
    if run["seed"] is not None:
        check_whole("--seed", run["seed"], 0)
    if not 0 <= run["late_penalty"] <= 100:
        raise ParameterError(f"--late-penalty is {run['late_penalty']!r}; it must be from 0 to 100 percent")
    return asked


def _check_machine(output, run):
    if not all(map(importlib.util.find_spec, ("pytest", "nbval"))):
        raise ParameterError(
            "grading needs pytest and nbval: pip install -e '.[grading]' in the folder of the course"
        )
    jail.check(run["isolation"])


def _exams(output):
    return plain.loads((output / "exams.bin").read_bytes())["exams"]


def _prepare(output, described):
    """Write what answers are graded with: the exams, the learners' package, the run's description."""
    lesson = Path(described["lesson"])
    asked = _check(lesson, described)
    output.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(output / "course", ignore_errors=True)
    release_package(output / "course" / "cnnlib", [lesson.stem[:2]])
    (output / "course" / "data").symlink_to(DATA)
    exams = [make_exam(e, described["seed"]) for e in asked]
    for exam in exams:
        exam["points"] = described["points"].get(exam["id"], exam["points"])
        exam["partial"] = described["partial"]
    setup = {
        "exercises": [{"id": e.id, "stub": e.stub} for e in asked],
        "exams": exams,
        "providers": providers(lesson),
        "lesson": ["", *(squeezed(c.source) for c in _code(lesson))],
    }
    with atomic_path(output / "exams.bin") as temporary:
        temporary.write_bytes(plain.dumps(setup))
    run = described | {"run_id": new_run_id(), "title": runner.read_title(lesson)}
    write_json(output / "run.json", run)  # last: a folder that has it is complete
    return run


def new_run_id():
    """Return a name for a run that no other has: the time, and a few digits by lot."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def providers(lesson):
    """Return the cells of the pristine lesson that answers may build on: its imports and definitions."""
    wanted = [c for c in _code(lesson) if "exercise" not in c.metadata.get("tags", [])]
    tagged = [
        c for c in wanted if any(t == "setup" or t.startswith("defines-") for t in c.metadata.get("tags", []))
    ]
    return [cell.source for cell in tagged]


def _code(lesson):
    return [c for c in nbformat.read(lesson, as_version=4).cells if c.cell_type == "code"]


def _stored_scores(output, students):
    """Return {(student id, exercise id): score} of what is stored."""
    stored = {student: read_stored(output, student) for student in students}
    return {
        (student, name): entry["score"]
        for student, result in stored.items()
        if result
        for name, entry in result["exercises"].items()
    }
