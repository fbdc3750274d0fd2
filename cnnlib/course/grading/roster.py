"""The roster: who is in the course, from a table of one's own or from Canvas's or Moodle's export.

Sources of the columns: Canvas, lib/gradebook_exporter.rb; Moodle, mod/assign/gradingtable.php (the grading
worksheet that an assignment offers, in English).
"""

import re
import unicodedata
from collections import Counter
from dataclasses import replace

from cnnlib.course.grading.tables import check_width, columns_at, read_table
from cnnlib.ground.errors import ParameterError

LATE = re.compile(r"\blate\b", re.IGNORECASE)
WANTED = {
    "plain": ("student_id", "name", "email", "login", "late"),
    "canvas": ("student", "lastname", "firstname", "id", "sis user id", "sis login id", "section"),
    "moodle": (
        *("identifier", "full name", "id number", "username", "email address", "status"),
        *("group", "grade", "maximum grade", "feedback comments"),
    ),
}
"""The columns that mean something in each kind of roster; each may stand there once."""


def read_roster(path):
    """Read a table with a row for each learner, see `tables.read_table`.

    Args:
        path: file with the columns student_id and perhaps name, email, login, late and others; or Canvas's
            gradebook export; or Moodle's grading worksheet, the anonymous one too.

    Returns:
        dict of plain data: "kind" ("plain", "canvas" or "moodle"), "columns" (list of str), "rows" (all below
        the columns, as lists of str), "learners" (dicts with "student_id", "name", "email", "late" and "row",
        the index into rows).

    Raises:
        ParameterError: it cannot be read, lacks a column, or an id is blank or there twice; all are named.
    """
    try:
        columns, numbered = read_table(path)
    except ParameterError as error:
        raise ParameterError(f"the roster {error}") from None
    rows = [row[: len(columns)] for _, row in numbered]
    at = columns_at(columns)
    if "id" in at and "section" in at and ("student" in at or "lastname" in at):
        kind, read = "canvas", _canvas
    elif "identifier" in at and ("full name" in at or "grade" in at):  # without names: anonymous
        kind, read = "moodle", _moodle
    elif "student_id" in at:
        kind, read = "plain", _plain
    else:
        raise ParameterError(
            f"the roster {path} must have the columns student_id, name, email, or be Canvas's gradebook or "
            f"Moodle's grading worksheet in English; it has {', '.join(columns)[:200] or 'none'}"
        )
    try:
        columns_at(columns, WANTED[kind])
    except ParameterError as error:
        raise ParameterError(f"the roster {path} cannot be read: {error}") from None
    check_width(f"the roster {path}", columns, numbered)
    learners = read(rows, at)
    if not learners:
        raise ParameterError(f"the roster {path} has no row for a learner")
    counts = Counter(learner["student_id"] for learner in learners)
    blank = [
        learner["name"] or f"line {numbered[learner['row']][0]}"
        for learner in learners
        if not learner["student_id"]
    ]
    twice = [student for student, count in counts.items() if student and count > 1]
    if blank or twice:
        said = [f"no id for {', '.join(blank[:10])}"] if blank else []
        said += [f"more than one row for {', '.join(twice[:10])}"] if twice else []
        raise ParameterError(
            f"the roster {path} has {' and '.join(said)}; each learner needs an id of their own"
        )
    return {"kind": kind, "columns": columns, "rows": rows, "learners": learners}


def _cell(row, at, *names):
    return next((row[at[name]].strip() for name in names if name in at and row[at[name]].strip()), "")


def _plain(rows, at):
    return [
        {
            "student_id": _cell(row, at, "student_id"),
            "name": _cell(row, at, "name"),
            "email": _cell(row, at, "email"),
            "late": _cell(row, at, "late").casefold() in ("1", "yes", "true", "late", "x"),
            "row": i,
        }
        for i, row in enumerate(rows)
    ]


def _canvas(rows, at):
    """Return the learners; the rows of points and of hidden columns, which come before them, are none."""
    learners = []
    for i, row in enumerate(rows):
        name = _cell(row, at, "student")
        if "lastname" in at:
            name = ", ".join(filter(None, (_cell(row, at, "lastname"), _cell(row, at, "firstname"))))
        student = _cell(row, at, "id", "sis user id", "sis login id")
        if name == "Points Possible" or (not name and not student):
            continue
        login = _cell(row, at, "sis login id")
        email = login if "@" in login else ""
        learners.append({"student_id": student, "name": name, "email": email, "late": False, "row": i})
    return learners


def _moodle(rows, at):
    """Return the learners; their id is one that holds in every assignment, if the worksheet has any."""
    lasting = ("id number", "username", "email address")
    names = [n for n in lasting if n in at and len({row[at[n]].strip() for row in rows} - {""}) == len(rows)]
    return [
        {
            "student_id": _cell(row, at, names[0] if names else "identifier"),
            "name": _cell(row, at, "full name"),
            "email": _cell(row, at, "email address"),
            "late": bool(LATE.search(_cell(row, at, "status"))),
            "row": i,
        }
        for i, row in enumerate(rows)
    ]


def recogniser(roster):
    """Return a function from a submission and its layout to a list of it under the roster's ids and names.

    It is one, or one for each member of the team that handed in together, where Moodle's worksheet says who.

    A learner is known by, in this order, student_id, the LMS's id, e-mail, login, and the name, whatever its
    order, capitals and punctuation; what two learners share tells neither. The number in an LMS's own file
    names is looked for where the LMS's own table has it, and then the name. In another roster the name goes
    first, and Moodle's numbers, which each assignment draws anew, do not count.
    """
    at = columns_at(roster["columns"])
    ids = [_index(roster, lambda learner, row: [learner["student_id"]])]
    for names in (("id",), ("identifier",), ("email", "email address"), *((n,) for n in LOGINS)):
        ids.append(_index(roster, lambda learner, row, names=names: _ids(row, at, names)))
    ids.append(_index(roster, lambda learner, row: [learner["email"].partition("@")[0]]))
    numbers = {"canvas": ids[1], "moodle": ids[2]}
    teams = _teams(roster, at)
    short = _index(roster, lambda learner, row: [without_zeros(learner["student_id"])])
    names = _index(roster, lambda learner, row: name_keys(learner["name"]))

    def recognise(submission, layout):
        if layout == "moodle" and (team := teams.get(_joined(submission.name))):
            return [_as_member(submission, learner, roster["rows"][learner["row"]], at) for learner in team]
        by_id = [(index, [submission.student.casefold()]) for index in ids]
        by_id.append((short, [without_zeros(submission.student.casefold())]))
        called = [*name_keys(submission.name), *([] if layout == "moodle" else name_keys(submission.student))]
        by_name = [(names, called)]
        if layout in ("plain", "pattern"):
            order = by_id + by_name
        elif layout == roster["kind"]:  # the LMS's number stands in one column, and others hold other numbers
            order = [(numbers[layout], [submission.student.casefold()]), *by_name]
        else:
            order = by_name + (by_id if layout == "canvas" else [])
        for index, keys in order:
            hits = {index[key] for key in keys if index.get(key) is not None}
            if len(hits) == 1:
                learner = roster["learners"][hits.pop()]
                late = submission.late or learner["late"]
                return [replace(submission, student=learner["student_id"], name=learner["name"], late=late)]
        return [submission]

    return recognise


def _teams(roster, at):
    """Return {name of a group, joined: its learners}, where Moodle's assignment is handed in by groups."""
    teams = {}
    for learner in roster["learners"] if roster["kind"] == "moodle" else ():
        if name := _joined(_cell(roster["rows"][learner["row"]], at, "group")):
            teams.setdefault(name, []).append(learner)
    return teams


def _as_member(submission, learner, row, at):
    """Return a team's submission as one of a member's: Moodle numbers a team's folder by the team.

    The member's own number takes its place, for that is by which Moodle takes feedback.
    """
    (number,) = _ids(row, at, ("identifier",))
    name = re.sub(r"[\x00-\x1f&<>\"`|':\\/]", "", learner["name"].replace("_", " ")).strip() or "Participant"
    return replace(
        submission,
        student=learner["student_id"],
        name=learner["name"],
        late=submission.late or learner["late"],
        folder=f"{name}_{number}_assignsubmission_file/",
    )


def without_zeros(student):
    """Return what a spreadsheet that takes an id for a number makes of it; "" of one that is none."""
    return student.lstrip("0") if student.isdecimal() else ""


LOGINS = ("login", "username", "sis login id", "sis user id", "id number", "integration id")


def _ids(row, at, names):
    """Return the ids in some columns of a row; of Moodle's "Participant 7" the number."""
    cells = [_cell(row, at, name) for name in names]
    return [re.sub(r"^\D+(?=\d+$)", "", cell) if "identifier" in names else cell for cell in cells]


def _index(roster, keys_of):
    """Return {key: index of the learner, or None where several have it}."""
    index = {}
    for i, learner in enumerate(roster["learners"]):
        for key in {key.casefold() for key in keys_of(learner, roster["rows"][learner["row"]]) if key}:
            index[key] = None if key in index else i
    return index


def name_keys(name):
    """Return what a name may look like without spaces and punctuation, whichever part goes first."""
    words = _words(name)
    return ["".join(words[i:] + words[:i]) for i in range(len(words))]


def _words(name):
    return re.findall(r"\w+", unicodedata.normalize("NFC", name).casefold().replace("_", " "))


def _joined(name):
    return "".join(_words(name))
