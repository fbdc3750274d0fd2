"""The course's gradebook: the scores of all lessons' runs, a row for each learner."""

from collections import Counter
from pathlib import Path

from cnnlib.course.grading.batch import rewrite
from cnnlib.course.grading.scores import is_blank
from cnnlib.course.grading.tables import csv_text
from cnnlib.ground.errors import ParameterError
from cnnlib.ground.files import atomic_path


def gradebook(runs, output, attempt="best"):
    """Write the reports of runs anew, and a table of all their scores.

    A learner is the same in two runs by e-mail, where the rosters hold one that nobody else has, else by id.
    Without a roster Moodle's numbers differ from assignment to assignment, and the name takes their place.

    Args:
        runs: Paths of folders that `cnnlib grade` wrote.
        output: Path of the CSV file.
        attempt: "best" or "latest": which score counts where several runs are of one lesson.

    Returns:
        list of dicts, the rows: student_id, name, email, a column for each lesson, total, max_total, percent.
        A lesson that was not handed in is blank, and counts as 0.

    Raises:
        ParameterError: a folder holds no run, or its overrides.csv is wrong.
    """
    loaded = sorted((rewrite(Path(folder)) for folder in runs), key=lambda pair: pair[0]["run_id"])
    people, worth = {}, {}
    for run, results in loaded:
        lesson = Path(run["lesson"]).stem
        most = results[0]["max_score"]
        if worth.setdefault(lesson, most) != most:
            raise ParameterError(
                f"the runs of {lesson} are worth {worth[lesson]:g} and {most:g} points; name one kind"
            )
        counts = {part: Counter(result[part].casefold() for result in results) for part in ("name", "email")}
        for result in results:
            person = people.setdefault(_identity(run, result, counts), {"scores": {}})
            person |= {name: result[name] or person.get(name, "") for name in ("student_id", "name", "email")}
            earlier, score = person["scores"].get(lesson), result["score"]
            if is_blank(result):
                continue
            if earlier is None or attempt == "latest" or score > earlier:
                person["scores"][lesson] = score
    lessons, total = sorted(worth), sum(worth.values())
    rows = []
    for person in sorted(
        people.values(), key=lambda person: (person["name"].casefold(), person["student_id"])
    ):
        points = round(sum(person["scores"].values()), 2)
        rows.append(
            {name: person[name] for name in ("student_id", "name", "email")}
            | {lesson: person["scores"].get(lesson, "") for lesson in lessons}
            | {"total": points, "max_total": total, "percent": f"{100 * points / total:.1f}"}
        )
    with atomic_path(output) as temporary:
        text = csv_text(list(rows[0]), [list(row.values()) for row in rows])
        temporary.write_text(text, encoding="utf-8")
    return rows


def _identity(run, result, counts):
    """Return by what a learner is known; what several have, such as the name "Participant", tells nobody."""
    name, email = result["name"].casefold(), result["email"].casefold()
    if email and counts["email"][email] == 1:
        return email
    if run["layout"] == "moodle" and not result["in_roster"] and name and counts["name"][name] == 1:
        return name
    return result["student_id"]
