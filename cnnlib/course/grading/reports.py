"""What a grading run leaves behind: tables, a page of feedback for each learner, and a summary to read first.

Everything that learners wrote is text here: escaped in pages, and kept from acting as a formula in tables.
"""

import html
import re
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import Counter

from cnnlib.course.exercises.judge import POSSIBLE
from cnnlib.course.grading import lms
from cnnlib.course.grading.scores import ANOTHERS, called
from cnnlib.course.grading.similarity import similar
from cnnlib.course.grading.tables import columns_at, csv_text, shown
from cnnlib.ground.files import atomic_path

WORDS = {
    "pass": "right",
    "fail": "wrong",
    "error": "error",
    "timeout": "too slow",
    "killed": "the process ended",
    "not attempted": "not attempted",
    "missing": "missing",
}
STYLE = """section { border-left: 4px solid #D55E00; padding: 0 1rem; margin: 1.5rem 0; }
section.pass { border-color: #009E73; }
section.not-attempted, section.missing { border-color: #999; }
h2 { font-size: 1.1rem; } pre { background: rgb(128 128 128 / 12%); padding: 1rem; overflow-x: auto; }
h1, h2, p, li { overflow-wrap: anywhere; }"""
ALIKE = ("student_a", "name_a", "student_b", "name_b", "odds", "equal", "compared", "exercises")


def write_all(output, run, exams, results):
    """Write the reports of a run into its folder, each whole or not at all, and drop those that are outdated.

    Args:
        output: Path of the run's folder.
        run: dict, what run.json holds.
        exams: list of dicts with "id", "points" and "hints": the exercises that count, in their order.
        results: list of dicts as `scores.scored` returns them, with "student_id", "name", "email", "page"
            (where the feedback goes, a path below feedback/), "attempt", "late", "folder" and "in_roster".
    """
    named = {result["student_id"]: result["name"] for result in results}
    alike = [
        pair | {f"name_{side}": named[pair[f"student_{side}"]] for side in "ab"}
        for pair in similar(results, exams)
    ]
    files = {
        "gradebook.csv": gradebook(run, exams, results),
        "items.csv": items(exams, results),
        "similar.csv": csv_text(ALIKE, [[pair[column] for column in ALIKE] for pair in alike]),
        "passed_over.csv": passed_over(run),
        "junit.xml": junit(run, exams, results),
        "summary.txt": summary(run, results, alike),
    }
    kinds = sorted({run["roster"]["kind"] if run["roster"] else "", *run["export"]} & {"canvas", "moodle"})
    files |= {f"{kind}.csv": lms.export(kind, run, results) for kind in kinds}
    write_texts(output, files)
    write_feedback(output, results, [page(run, exams, result) for result in results])


def write_texts(output, files):
    """Write {path below output: text}, each whole or not at all."""
    for name, text in files.items():
        with atomic_path(output / name) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace")


def write_feedback(output, results, pages):
    """Write each learner's page, and a zip of those that the LMS takes back; drop pages that are outdated.

    Args:
        output: Path of the run's folder.
        results: list of dicts with "page" and "folder", as `scores.who` returns them.
        pages: HTML of each.
    """
    write_texts(output / "feedback", {r["page"]: text for r, text in zip(results, pages, strict=True)})
    _remove_others(output / "feedback", {output / "feedback" / result["page"] for result in results})
    theirs = [result["page"] for result in results if result["folder"]]
    if theirs:
        with atomic_path(output / "feedback.zip") as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name in theirs:
                archive.write(output / "feedback" / name, name, zipfile.ZIP_DEFLATED)
    else:
        (output / "feedback.zip").unlink(missing_ok=True)


def _remove_others(folder, keep):
    """Remove the pages of earlier submissions, and the folders that are empty then."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.suffix == ".html" and path not in keep:
            path.unlink()


def passed_over(run):
    """Return a line for each file that was not graded, and why."""
    return csv_text(["path", "reason"], run["passed_over"])


def gradebook(run, exams, results):
    """Return one line a learner: who, the roster's columns, status, score, each exercise, comments."""
    roster = run["roster"] or {"columns": [], "rows": [], "learners": [], "kind": "plain"}
    names, kept = roster["columns"], _kept_columns(roster)
    rows_of = {learner["student_id"]: roster["rows"][learner["row"]] for learner in roster["learners"]}
    header = ["student_id", "name", "email", *(names[i] for i in kept), "status", "attempt", "late"]
    header += ["score", "max_score", "percent", *(exam["id"] for exam in exams)]
    header += ["comment", "flags", "isolation", "run_id", "sha256"]
    rows = []
    for result in results:
        marks = [result["exercises"].get(exam["id"], {}).get("score", 0) for exam in exams]
        if result["score"] is None:  # not a zero: nothing was decided
            score, percent, marks = "", "", [""] * len(exams)
        else:
            score, percent = result["score"], f"{result['percent']:.1f}"
        notes = "; ".join([*result["flags"], result["message"]] if result["message"] else result["flags"])
        cells = rows_of.get(result["student_id"], [""] * len(names))
        who = [result["student_id"], result["name"], result["email"], *(cells[i] for i in kept)]
        what = [result["status"], result["attempt"] or "", "late" if result["late"] else ""]
        isolation = result.get("isolation") or run["isolation"]
        how = [result["comment"], notes, isolation, run["run_id"], result["sha256"]]
        rows.append([*who, *what, score, result["max_score"], percent, *marks, *how])
    return csv_text(header, rows)


def _kept_columns(roster):
    """Return the indices of the roster's columns that tell more of who it is than ours.

    In an LMS's table the learner's columns end with Section, or before Status; scores follow.
    """
    at = columns_at(roster["columns"])
    ours = {
        "plain": ("student_id", "name", "email"),
        "canvas": ("student",),
        "moodle": ("full name", "email address"),
    }[roster["kind"]]
    end = {"canvas": "section", "moodle": "status"}.get(roster["kind"])
    last = at[end] + (end == "section") if end in at else len(roster["columns"])
    told = {at[name] for name in ours if name in at}
    return [i for i in range(last) if i not in told]


def summary(run, results, alike):
    """Return what an instructor should know at once, as lines of text."""
    counts = Counter(result["status"] for result in results)
    lines = [", ".join(f"{count} {status}" for status, count in sorted(counts.items()))]
    absent = [called(result) for result in results if result["status"] == "missing"]
    strangers = [called(result) for result in results if run["roster"] and not result["in_roster"]]
    others = [called(result) for result in results if ANOTHERS in result["flags"]]
    look = [
        f"{called(result)}: {exercise} ({entry['status']})"
        for result in results
        for exercise, entry in result["exercises"].items()
        if entry["status"] in ("timeout", "killed") and not entry.get("by_hand")
    ]
    broken = [f"{called(r)}: {r['message']}" for r in results if r["status"] == "unreadable"]
    passed = [
        f"{path}: {reason}" for path, reason in run["passed_over"] if not reason.startswith("a system's")
    ]
    pairs = [
        f"{called({'student_id': pair['student_a'], 'name': pair['name_a']})} and "
        f"{called({'student_id': pair['student_b'], 'name': pair['name_b']})}: "
        f"{pair['equal']} of {pair['compared']}"
        for pair in alike
    ]
    late = [called(result) for result in results if result["late"]]
    off = f", {run['late_penalty']:g} % off" if run["late_penalty"] else ""
    for title, items_ in (
        ("unreadable", broken),
        (ANOTHERS, others),
        ("in the roster, and nothing handed in", absent),
        ("handed in, and nobody in the roster, or more than one, fits", strangers),
        (lms.FOREIGN, [called(result) for result in lms.foreign(run, results)]),
        (lms.NUMBERLESS, [called(result) for result in lms.numberless(run, results)]),
        (f"late{off}", late),
        ("passed over, all in passed_over.csv", passed),
        ("ended by the clock or the system, worth a look", look),
        ("alike beyond chance, see similar.csv", pairs),
    ):
        if items_:
            some = [shown(item)[:200] for item in items_[:10]]
            more = [f"… and {len(items_) - 10} more"] if len(items_) > 10 else []
            lines += [f"{title} ({len(items_)}):", *(f"  {item}" for item in [*some, *more])]
    return "\n".join(lines) + "\n"


def items(exams, results):
    """Return one line an exercise: how many learners passed, how well it tells strong from weak, each status.

    `discrimination` is the correlation between passing the exercise and the score on all the others.
    """
    graded = [result for result in results if result["status"] == "graded"]
    rows = []
    for exam in exams:
        asked = [result for result in graded if exam["id"] in result["exercises"]]
        mine = [result["exercises"][exam["id"]] for result in asked]
        passed = [int(e["status"] == "pass") for e in mine]
        rest = [
            sum(e["score"] for e in result["exercises"].values()) - e["score"]
            for result, e in zip(asked, mine, strict=True)
        ]
        counts = Counter(e["status"] for e in mine)
        share = f"{sum(passed) / len(passed):.3f}" if passed else ""
        rows.append(
            [exam["id"], exam["points"], len(mine), share, _correlation(passed, rest)]
            + [counts[s] for s in POSSIBLE]
        )
    return csv_text(["exercise", "points", "graded", "share_passed", "discrimination", *POSSIBLE], rows)


def junit(run, exams, results):
    """Return JUnit XML: a suite for each learner, a case for each exercise."""
    suites = ElementTree.Element("testsuites", name=f"{run['title']} {run['run_id']}")
    for result in results:
        cases = result["exercises"]
        failed = [e for e in cases.values() if e["status"] in ("fail",)]
        skipped = [e for e in cases.values() if e["status"] in ("not attempted", "missing")]
        errors = len(cases) - len(failed) - len(skipped) - sum(e["status"] == "pass" for e in cases.values())
        if not cases:
            errors = 1
        suite = ElementTree.SubElement(
            suites,
            "testsuite",
            name=_xml(result["student_id"]),
            tests=str(len(cases) or 1),
            failures=str(len(failed)),
            errors=str(errors),
            skipped=str(len(skipped)),
        )
        if not cases:
            case = ElementTree.SubElement(suite, "testcase", name="submission", classname=run["title"])
            ElementTree.SubElement(case, "error", message=_xml(f"{result['status']}: {result['message']}"))
        for exercise, entry in cases.items():
            case = ElementTree.SubElement(suite, "testcase", name=exercise, classname=run["title"])
            case.set("time", str(entry["seconds"]))
            kind = {"pass": None, "fail": "failure", "not attempted": "skipped", "missing": "skipped"}
            if tag := kind.get(entry["status"], "error"):
                ElementTree.SubElement(case, tag, message=_xml(f"{entry['status']}: {entry['message']}"))
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True)


def page(run, exams, result):
    """Return a learner's feedback as an HTML page that loads nothing and runs nothing."""
    escape = html.escape
    parts = []
    for exam in exams:
        entry = result["exercises"].get(exam["id"])
        if entry is None:
            continue
        hints = "" if entry["status"] == "pass" else "".join(f"<li>{escape(h)}</li>" for h in exam["hints"])
        answer = f"<pre>{escape(entry['source'])}</pre>" if entry["source"].strip() else ""
        cases = ""
        if run["partial"] and entry["status"] != "pass" and entry.get("cases"):
            cases = f"<p>{entry.get('passed_cases', 0)} of {entry['cases']} cases came out right.</p>"
        message = escape(shown_lines(_sentence(entry["message"]))).replace("\n", "<br>")
        parts.append(
            f'<section class="{entry["status"].replace(" ", "-")}"><h2>{escape(exam["id"])} · '
            f"{entry['score']} of {entry['max_score']} · {WORDS[entry['status']]}"
            + (" · points given by a person" if entry.get("by_hand") else "")
            + "</h2>"
            + (f"<p>{message}</p>" if message else "")
            + cases
            + (f"<p><strong>{escape(entry['comment'])}</strong></p>" if entry.get("comment") else "")
            + (f"<details><summary>Hints</summary><ol>{hints}</ol></details>" if hints else "")
            + (f"<details><summary>Your answer</summary>{answer}</details>" if answer else "")
            + "</section>"
        )
    notes = "".join(f"<li>{escape(shown(note))}</li>" for note in _notes(run, result))
    body = f"""<h1>{escape(run["title"])}</h1>
{headline(result, _headline(result))}
{"".join(parts)}
{f"<h2>Notes</h2><ul>{notes}</ul>" if notes else ""}
{colophon(run, result)}"""
    return document(f"{run['title']}: {shown(result['student_id'])}", STYLE, body)


def headline(result, text):
    """Return who a page is for, and what it comes to, as HTML."""
    return f"<p>{html.escape(shown(called(result)))}: <strong>{html.escape(shown(text))}</strong></p>"


def colophon(run, result):
    """Return by what a page can be traced, as HTML."""
    file = (
        f"the file that was read has SHA-256 {html.escape(result['sha256'])}"
        if result["sha256"]
        else ("no file was read")
    )
    return f"<p>Run {html.escape(run['run_id'])}; {file}.</p>"


def document(title, style, body):
    """Return a page of HTML that loads nothing and runs nothing; `title` is text, `body` is HTML."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; }}
{style}
</style></head><body>
{body}
</body></html>
"""


def _headline(result):
    if result["score"] is None:
        return "Not graded yet: the grader failed. This is not your fault."
    if result["exercises"] or result["by_hand"]:
        return f"{result['score']} of {result['max_score']} points"
    return f"Not graded: {result['message']}"


def _notes(run, result):
    """Return what else a learner should know: a comment on the whole, lateness, what was unusual."""
    notes = [result["total_comment"]] if result["total_comment"] else []
    if result["by_hand"]:
        notes.append("The total was set by a person.")
    elif result["late"]:
        off = f"; {run['late_penalty']:g} % are taken off" if run["late_penalty"] else ""
        notes.append(f"It was handed in late{off}.")
    return notes + result["flags"]


def shown_lines(text):
    """Return a text of several lines without control characters, terminal colours among them."""
    return "\n".join(shown(line) for line in text.splitlines())


def _sentence(message):
    return message[:1].upper() + message[1:]


def _xml(value):
    """Return a text without the characters that XML does not allow, and without a terminal's colours."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "�", shown_lines(value))


def _correlation(passed, rest):
    n = len(passed)
    if n < 2 or len(set(passed)) < 2 or len(set(rest)) < 2:
        return ""
    mean_p, mean_r = sum(passed) / n, sum(rest) / n
    covariance = sum((p - mean_p) * (r - mean_r) for p, r in zip(passed, rest, strict=True))
    spread = sum((p - mean_p) ** 2 for p in passed) * sum((r - mean_r) ** 2 for r in rest)
    return f"{covariance / spread**0.5:.2f}"
