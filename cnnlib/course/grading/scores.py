"""From verdicts to what counts: shares of cases, the late policy, a person's decisions, the best attempt.

`overrides.csv` in the run's folder holds a line for each decision: student_id, exercise (blank: the total),
points (blank: as they are), comment. It is read whenever the reports are written, so it survives a regrade.
"""

import math
import os

from cnnlib.course.grading.collect import Submission, slug
from cnnlib.course.grading.roster import without_zeros
from cnnlib.course.grading.tables import check_width, columns_at, read_table, shown
from cnnlib.ground.errors import ParameterError

UNREADABLE = {"sha256": "", "status": "unreadable", "message": "", "flags": [], "exercises": {}}
MISSING = UNREADABLE | {"status": "missing", "message": "No submission."}
NOT_YET = UNREADABLE | {"status": "grader error", "message": "It is not graded yet; go on with --resume."}
ANOTHERS = "none of the exercises that count is in the notebook; perhaps it is another lesson's"
OVERRIDES = ("student_id", "exercise", "points", "comment")


def read_overrides(path, exams, students):
    """Read the decisions of a person about scores.

    Args:
        path: Path of overrides.csv; where there is none, nothing was decided.
        exams: list of dicts with "id" and "points".
        students: ids of all learners of the run.

    Returns:
        dict from (student id, exercise id or "") to (points or None, comment).

    Raises:
        ParameterError: a column is missing, a line names nobody or no exercise, its points are no number from
            0 to what the exercise is worth, or two lines are about the same; the lines are named.
    """
    if not path.exists():
        return {}
    columns, lines = read_table(path)
    try:
        at = columns_at(columns, OVERRIDES)
    except ParameterError as error:
        raise ParameterError(f"{path} cannot be read: {error}") from None
    missing = [name for name in OVERRIDES if name not in at]
    if missing:
        raise ParameterError(f"{path} lacks the column {missing[0]}; it must have {', '.join(OVERRIDES)}")
    check_width(path, columns, lines)
    worth = {exam["id"]: exam["points"] for exam in exams}
    worth[""] = sum(worth.values())
    called = _without_zeros(students)
    found, wrong = {}, []
    for number, row in lines:
        student, exercise, points, comment = (row[at[name]].strip() for name in OVERRIDES)
        if not (student or exercise or points or comment):
            continue
        value, student = _number(points), student if student in students else called.get(student, student)
        if student not in students:
            wrong.append(f"line {number}: there is no learner {student!r}")
        elif exercise not in worth:
            wrong.append(
                f"line {number}: there is no exercise {exercise!r}; {', '.join(filter(None, worth))}"
            )
        elif points and (value is None or not 0 <= value <= worth[exercise]):
            wrong.append(f"line {number}: points are {points!r}, and go from 0 to {worth[exercise]:g}")
        elif (student, exercise) in found:
            wrong.append(f"line {number}: {student} {exercise or 'total'} stands there twice")
        found[student, exercise] = (value if points else None, comment)
    if wrong:
        raise ParameterError(f"{path}: {'; '.join(wrong[:5])}")
    return found


def _without_zeros(students):
    """Return {what a spreadsheet makes of an id that begins with zeros: the id}, where one alone is meant."""
    found = {}
    for student in students:
        found.setdefault(without_zeros(student), []).append(student)
    return {short: several[0] for short, several in found.items() if short and len(several) == 1}


def _number(text):
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def is_blank(result):
    """Tell whether there is no score: nothing was decided, or nothing handed in and nothing given by hand."""
    return result["score"] is None or (result["status"] == "missing" and not result["score"])


def scored(run, exams, result, overrides):
    """Return a result with its score.

    Args:
        run: dict with "partial" (whether an answer gets the share of its cases that passed) and
            "late_penalty" (percent off a late submission's score).
        exams: list of dicts with "id" and "points", those that count.
        result: dict as `one.grade_submissions` returns it, with "student_id" and "late".
        overrides: as `read_overrides` returns them.

    Returns:
        dict: the result with the scores of its exercises, and "score" (None where nothing was decided),
        "max_score", "percent" and "comment", and a flag where no exercise was found. A person's points for an
        exercise come before the late penalty, those for the total in the place of all.
    """
    student, exercises, comments, total = result["student_id"], {}, [], 0
    for exam in exams:
        points, comment = overrides.get((student, exam["id"]), (None, ""))
        entry = result["exercises"].get(exam["id"])
        if entry is not None:
            entry = entry | {"score": _share(run, entry)}
            if points is not None:
                entry |= {"score": _plain(points), "by_hand": True}
            exercises[exam["id"]] = entry | ({"comment": comment} if comment else {})
        elif points is not None:
            worth = {"max_score": exam["points"], "seconds": 0, "source": "", "by_hand": True}
            exercises[exam["id"]] = worth | {"status": "missing", "message": "", "score": _plain(points)}
        total += exercises.get(exam["id"], {}).get("score", 0)
        comments += [f"{exam['id']}: {comment}"] if comment else []
    score = None if result["status"] == "grader error" else total
    if score is not None and result.get("late"):
        score = score * (1 - run.get("late_penalty", 0) / 100)
    points, comment = overrides.get((student, ""), (None, ""))
    score = points if points is not None else score
    worth = sum(exam["points"] for exam in exams)
    found = {entry["status"] for entry in result["exercises"].values()}
    return result | {
        "exercises": exercises,
        "flags": result["flags"] + [ANOTHERS] * (found == {"missing"}),
        "score": None if score is None else _plain(score),
        "max_score": worth,
        "percent": None if score is None else round(100 * score / worth, 1),
        "comment": "; ".join([comment] * bool(comment) + comments),
        "total_comment": comment,
        "by_hand": points is not None,
    }


def _share(run, entry):
    if run.get("partial") and entry["status"] != "pass" and entry.get("cases"):
        return _plain(entry["max_score"] * entry.get("passed_cases", 0) / entry["cases"])
    return entry["score"]


def _plain(number):
    """Return a number with at most two decimals, an int where it is whole."""
    rounded = round(number, 2)
    return int(rounded) if rounded == int(rounded) else rounded


def submissions_of(run):
    """Return {key: Submission}; of several by one student the first, the latest, has their id as key."""
    found = {}
    for submission in run["submissions"]:
        submission = Submission(**submission)
        again = f"{submission.student} · attempt {submission.attempt}"
        found[again if submission.student in found else submission.student] = submission
    return found


def people(run):
    """Return {student id: learner} of a run's roster, an empty one where there is none."""
    return {learner["student_id"]: learner for learner in run["roster"]["learners"]} if run["roster"] else {}


def called(result):
    """Return how a learner is called where a person reads it: the id and, where there is one, the name."""
    return f"{result['student_id']} {result['name']}".strip()


def standings(run, exams, graded, overrides):
    """Return the results that count, one for each learner, in the order of their ids.

    Args:
        run: dict, what run.json holds.
        exams, overrides: as in `scored`.
        graded: dict from the keys of `submissions_of` to results as `one.grade_submissions` returns them.

    Returns:
        list of dicts as `scored` returns them: of several attempts that with the highest score, of equal ones
        the latest; who handed in nothing has the status "missing".
    """
    known, best = people(run), {}
    for key, submission in submissions_of(run).items():
        ungraded = NOT_YET if submission.path else UNREADABLE | {"message": submission.problem}
        person = who(submission, known.get(submission.student))
        result = scored(run, exams, (graded.get(key) or ungraded) | person, overrides)
        other = best.setdefault(submission.student, result)
        if result["score"] is not None and (other["score"] is None or result["score"] > other["score"]):
            best[submission.student] = result
    for student in known.keys() - best.keys():
        person = who(Submission(student, "", attempt=0), known[student])
        best[student] = scored(run, exams, MISSING | person, overrides)
    return [best[student] for student in sorted(best)]


def who(submission, person):
    """Return what a result says of the learner; `person` is the roster's, or None."""
    folder = submission.folder if _is_plain(submission.folder) else ""
    return {
        "student_id": submission.student,
        "name": (person or {}).get("name") or submission.name,
        "email": (person or {}).get("email", ""),
        "attempt": submission.attempt,
        "late": submission.late,
        "folder": folder,
        "page": f"{folder}feedback.html" if folder else f"{slug(submission.student)}.html",
        "in_roster": person is not None,
    }


def _is_plain(folder):
    """Return whether an LMS's name for a learner's folder may be the name of ours, as it came from an LMS."""
    return folder == shown(folder) and len(os.fsencode(folder)) < 200 and not folder.startswith((".", "/"))
