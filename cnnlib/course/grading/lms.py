"""Scores in the forms that Canvas and Moodle import.

A score is put in proportion to what the LMS's own column is worth. Who handed in nothing keeps what stands
there: what that means is the LMS's to say.

Sources: Canvas, lib/gradebook_importer.rb (`header?`, `parse_assignments`); Moodle, importgradeslib.php and
locallib.php of mod/assign/feedback/offline, which skip a grade above the maximum.
"""

import html
import re

from cnnlib.course.grading.scores import is_blank
from cnnlib.course.grading.tables import columns_at, csv_as_it_is, inert, shown
from cnnlib.ground.errors import ParameterError

FOREIGN = "known by name alone: the worksheet is another assignment's, and Moodle will not take moodle.csv"
NUMBERLESS = "not in the file for import, for no name tells their number; give the LMS's own table (--roster)"
CANVAS_COLUMNS = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
MOODLE_COLUMNS = [
    *("Identifier", "Full name", "Email address", "Status", "Grade", "Maximum Grade"),
    *("Grade can be changed", "Last modified (submission)", "Last modified (grade)", "Feedback comments"),
]


def export(kind, run, results):
    """Return the text of canvas.csv or moodle.csv; see `canvas` and `moodle`."""
    return {"canvas": canvas, "moodle": moodle}[kind](run, results)


def canvas(run, results):
    """Return a gradebook with the learners' columns as Canvas wrote them and one column for the lesson."""
    roster = run["roster"] if run["roster"] and run["roster"]["kind"] == "canvas" else None
    points = f"{results[0]['max_score']:g}"
    if not roster:
        rows = [[inert(r["name"]), _number(r), "", "", "", _grade(r, points)] for r in results if _number(r)]
        title = shown(run.get("assignment") or run["title"])
        before = ["    Points Possible", "", "", "", "", points]
        return csv_as_it_is([[*CANVAS_COLUMNS, title], before, *rows])
    columns = roster["columns"]
    last = columns_at(columns)["section"] + 1
    at = assignment_column(columns, run)
    title = columns[at] if at else shown(run.get("assignment") or run["title"])
    head = next((row for row in roster["rows"] if row[0].strip() == "Points Possible"), None)
    points = head[at] if at and head and _positive(head[at]) else points
    by_row = _by_row(run, results)
    rows = [
        [*row[:last], (by_row[i] and _grade(by_row[i], points)) or (row[at] if at else "")]
        for i, row in enumerate(roster["rows"])
        if i in by_row
    ]
    before = ["    Points Possible", *[""] * (last - 1), points]
    return csv_as_it_is([[*columns[:last], title], before, *rows])


def assignment_column(columns, run):
    """Return the index of the lesson's column in Canvas's gradebook, None where it has none yet.

    Canvas writes "Title (12345)" above an assignment. The lesson's is the one that contains --assignment, or
    else begins with the lesson's number or contains its title.

    Raises:
        ParameterError: --assignment fits no column, or several do.
    """
    titles = {i: column for i, column in enumerate(columns) if re.search(r"\(\d+\)\s*$", column)}
    asked = run.get("assignment")
    if asked:
        found = [i for i, title in titles.items() if asked.casefold() in title.casefold()]
        if len(found) != 1:
            said = f"fits {len(found)} assignments" if found else "fits no assignment"
            raise ParameterError(
                f"--assignment {asked!r} {said} of the gradebook, which has: "
                f"{', '.join(titles.values()) or 'none'}"
            )
        return found[0]
    number, name = run["title"].partition(" ")[0], run["title"].rpartition("· ")[2].casefold()
    fits = [
        i
        for i, title in titles.items()
        if re.match(rf"\D*0*{int(number) if number.isdecimal() else '(?!)'}(?!\d)", title)
        or (name and name in title.casefold())
    ]
    return fits[0] if len(fits) == 1 else None


def moodle(run, results):
    """Return a grading worksheet: grades and comments filled in, all else as Moodle wrote it."""
    roster = run["roster"] if run["roster"] and run["roster"]["kind"] == "moodle" else None
    if not roster:
        rows = [
            [
                *(f"Participant {_number(r)}", inert(r["name"]), inert(r["email"]), "", _grade(r, "")),
                *(f"{r['max_score']:g}", "Yes", "-", "-", _comment(r)),
            ]
            for r in results
            if _number(r)
        ]
        return csv_as_it_is([MOODLE_COLUMNS, *rows])
    columns = roster["columns"]
    at = columns_at(columns)
    if "grade" not in at:
        raise ParameterError("the grading worksheet has no column Grade; download it from the assignment")
    by_row, rows = _by_row(run, results), []
    for i, row in enumerate(roster["rows"]):
        row, result = list(row), by_row.get(i)
        if result:
            worth = row[at["maximum grade"]] if "maximum grade" in at else ""
            row[at["grade"]] = _grade(result, worth) or row[at["grade"]]
            if "feedback comments" in at and _comment(result):
                row[at["feedback comments"]] = _comment(result)
        rows.append(row)
    return csv_as_it_is([columns, *rows])


def foreign(run, results):
    """Return the results of those whose number in Moodle's download is not the worksheet's.

    Each assignment has numbers of its own, and by them alone Moodle imports a worksheet.
    """
    if run["layout"] != "moodle" or not run["roster"] or run["roster"]["kind"] != "moodle":
        return []
    at = columns_at(run["roster"]["columns"])["identifier"]
    rows = {p["student_id"]: run["roster"]["rows"][p["row"]] for p in run["roster"]["learners"]}
    return [
        result
        for result in results
        if result["in_roster"]
        and (number := _number(result))
        and re.search(r"\d*$", rows[result["student_id"]][at].strip())[0] != number
    ]


def numberless(run, results):
    """Return the results that an export lacks, for want of the LMS's table and of a number."""
    kind = run["roster"] and run["roster"]["kind"]
    if all(name == kind for name in run["export"]):
        return []
    return [result for result in results if not is_blank(result) and not _number(result)]


def _by_row(run, results):
    """Return {index of a learner's row in the roster: result}."""
    found = {result["student_id"]: result for result in results}
    return {learner["row"]: found.get(learner["student_id"]) for learner in run["roster"]["learners"]}


def _grade(result, worth):
    """Return a score in proportion to what the LMS's column is worth, "" where there is none."""
    if is_blank(result):
        return ""
    scale = _positive(worth) / result["max_score"] if _positive(worth) else 1
    return f"{round(result['score'] * scale, 2):.10g}"


def _positive(text):
    """Return a number above 0 of a cell, 0 where it holds none; "(read only)" is none."""
    text = text.strip()
    return float(text.replace(",", ".")) if re.fullmatch(r"\d+([.,]\d+)?", text) else 0


def _comment(result):
    """Return what a learner is told, as HTML, which Moodle takes it for."""
    words = [result["comment"], result["message"] if result["status"] == "unreadable" else ""]
    return inert(html.escape("; ".join(filter(None, words)), quote=False))


def _number(result):
    """Return the LMS's number of a learner, which stands in the name of what was downloaded."""
    match = re.search(r"(?:^|_)(\d+)_(?:\d+_|assign)", result["folder"])
    return match[1] if match else ""
