"""What a grading run leaves behind: gradebook.csv, items.csv, junit.xml and a feedback page per learner.

Everything that learners wrote is text here: escaped in pages, and kept from acting as a formula in tables.
"""

import csv
import html
import io
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter

from cnnlib.course.exercises import plain
from cnnlib.course.exercises.judge import POSSIBLE
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


def write_all(output, run, results):
    """Write the reports of a run into its folder, each whole or not at all."""
    setup = plain.loads((output / "exams.bin").read_bytes())
    exams = setup["exams"]
    files = {
        "gradebook.csv": gradebook(run, exams, results),
        "items.csv": items(exams, results),
        "junit.xml": junit(run, exams, results),
    }
    for result in results:
        files[f"feedback/{result['page']}"] = page(run, exams, result)
    for name, text in files.items():
        with atomic_path(output / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def gradebook(run, exams, results):
    """Return one line a learner: who, status, score, percent, each exercise's score, flags."""
    header = ["student_id", "name", "email", "status", "score", "max_score", "percent"]
    header += [exam["id"] for exam in exams] + ["flags", "isolation", "run_id", "sha256"]
    worth = sum(exam["points"] for exam in exams)
    rows = []
    for result in results:
        marks = [result["exercises"].get(exam["id"], {}).get("score", 0) for exam in exams]
        if result["status"] == "grader error":
            score, percent, marks = "", "", [""] * len(exams)  # not a zero: nothing was decided
        else:
            score, percent = sum(marks), f"{100 * sum(marks) / worth:.1f}"
        notes = "; ".join([*result["flags"], result["message"]] if result["message"] else result["flags"])
        who = [result["student_id"], result["name"], result["email"], result["status"]]
        how = [notes, run["isolation"], run["run_id"], result["sha256"]]
        rows.append([*who, score, worth, percent, *marks, *how])
    return _csv(header, rows)


def items(exams, results):
    """Return one line an exercise: how many learners passed, how well it tells strong from weak, each status.

    `discrimination` is the correlation between passing the exercise and the score on all the others.
    """
    graded = [result for result in results if result["status"] == "graded"]
    rows = []
    for exam in exams:
        mine = [result["exercises"][exam["id"]] for result in graded]
        passed = [int(e["status"] == "pass") for e in mine]
        rest = [
            sum(e["score"] for e in result["exercises"].values()) - e["score"]
            for result, e in zip(graded, mine, strict=True)
        ]
        counts = Counter(e["status"] for e in mine)
        share = f"{sum(passed) / len(passed):.3f}" if passed else ""
        rows.append(
            [exam["id"], exam["points"], len(mine), share, _correlation(passed, rest)]
            + [counts[s] for s in POSSIBLE]
        )
    return _csv(["exercise", "points", "graded", "share_passed", "discrimination", *POSSIBLE], rows)


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
        for exam in exams if cases else ():
            entry = cases[exam["id"]]
            case = ElementTree.SubElement(suite, "testcase", name=exam["id"], classname=run["title"])
            case.set("time", str(entry["seconds"]))
            kind = {"pass": None, "fail": "failure", "not attempted": "skipped", "missing": "skipped"}
            if tag := kind.get(entry["status"], "error"):
                ElementTree.SubElement(case, tag, message=_xml(f"{entry['status']}: {entry['message']}"))
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True)


def page(run, exams, result):
    """Return a learner's feedback as an HTML page that loads nothing and runs nothing."""
    escape = html.escape
    total = sum(e["score"] for e in result["exercises"].values())
    worth = sum(exam["points"] for exam in exams)
    parts = []
    for exam in exams:
        entry = result["exercises"].get(exam["id"])
        if entry is None:
            continue
        hints = "" if entry["status"] == "pass" else "".join(f"<li>{escape(h)}</li>" for h in exam["hints"])
        answer = f"<pre>{escape(entry['source'])}</pre>"
        parts.append(
            f'<section class="{entry["status"].replace(" ", "-")}"><h2>{escape(exam["id"])} · '
            f"{entry['score']} of {entry['max_score']} · {WORDS[entry['status']]}</h2>"
            f"<p>{escape(_sentence(entry['message'])).replace(chr(10), '<br>')}</p>"
            + (f"<details><summary>Hints</summary><ol>{hints}</ol></details>" if hints else "")
            + f"<details><summary>Your answer</summary>{answer}</details></section>"
        )
    if result["status"] == "grader error":
        head = "Not graded yet: the grader failed. This is not your fault."
    elif parts:
        head = f"{total} of {worth} points"
    else:
        head = f"Not graded: {result['message']}"
    notes = "".join(f"<li>{escape(flag)}</li>" for flag in result["flags"])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>{escape(run["title"])}: {escape(result["student_id"])}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; }}
section {{ border-left: 4px solid #D55E00; padding: 0 1rem; margin: 1.5rem 0; }}
section.pass {{ border-color: #009E73; }}
section.not-attempted, section.missing {{ border-color: #999; }}
h2 {{ font-size: 1.1rem; }} pre {{ background: #f4f4f4; padding: 1rem; overflow-x: auto; }}
</style></head><body>
<h1>{escape(run["title"])}</h1>
<p>{escape(f"{result['student_id']} {result['name']}".strip())}: <strong>{escape(head)}</strong></p>
{"".join(parts)}
{f"<h2>Notes</h2><ul>{notes}</ul>" if notes else ""}
<p>Run {escape(run["run_id"])}; the file that was graded has SHA-256 {escape(result["sha256"]) or "none"}.</p>
</body></html>
"""


def _csv(header, rows):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_inert(value) for value in row] for row in rows)
    return text.getvalue()


def _inert(value):
    """Keep a text from being read as a formula by a spreadsheet: a leading apostrophe shows it as it is."""
    if not isinstance(value, str):
        return value
    value = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", " ", value).replace("\n", " ")
    return f"'{value}" if value.lstrip()[:1] in ("=", "+", "-", "@") and value.lstrip() else value


def _sentence(message):
    return message[:1].upper() + message[1:]


def _xml(value):
    """Return a text without the characters that XML does not allow."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "�", value)


def _correlation(passed, rest):
    n = len(passed)
    if n < 2 or len(set(passed)) < 2 or len(set(rest)) < 2:
        return ""
    mean_p, mean_r = sum(passed) / n, sum(rest) / n
    covariance = sum((p - mean_p) * (r - mean_r) for p, r in zip(passed, rest, strict=True))
    spread = sum((p - mean_p) ** 2 for p in passed) * sum((r - mean_r) ** 2 for r in rest)
    return f"{covariance / spread**0.5:.2f}"
