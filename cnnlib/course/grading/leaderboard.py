"""The open challenge for all who handed in: one draw, one budget, jails for each entry, a leaderboard."""

import contextlib
import hashlib
import html
import json
import queue
import secrets
import shutil
from dataclasses import asdict
from pathlib import Path

import nbformat
import torch

from cnnlib.course import runner
from cnnlib.course.challenge import ENTRIES, MAX_NUMBERS, SECONDS
from cnnlib.course.grading import entries, jail
from cnnlib.course.grading.batch import check_same, goes_on, new_run_id, providers
from cnnlib.course.grading.collect import Submission, collect, slug
from cnnlib.course.grading.one import OPTIMIZER, imported
from cnnlib.course.grading.reports import (
    colophon,
    document,
    headline,
    passed_over,
    write_feedback,
    write_texts,
)
from cnnlib.course.grading.roster import read_roster, recogniser
from cnnlib.course.grading.scores import called, people, who
from cnnlib.course.grading.store import alone_in, read_json, read_stored, stored_at, write_json
from cnnlib.course.grading.submission import SubmissionError, code_cells, find_entry, read_bytes
from cnnlib.course.grading.tables import csv_text, shown
from cnnlib.course.jobs import run_jobs
from cnnlib.course.release import release_package
from cnnlib.data import Dataset, load
from cnnlib.ground.errors import ParameterError, check_whole
from cnnlib.measure import mcnemar, wilson_interval

CELL = "challenge-entry"
"""Id of the lesson's cell that was handed out for the entry."""
FIXED = {"isolation": "namespaces", "seconds": SECONDS, "seed": None, "pattern": None}
"""Options that hold for the whole of a run, and what they are unless given."""
SIZES = (60_000, 10_000)
"""Images that train, and that judge."""
LEVEL = 0.05
"""The first is called better than another where McNemar's exact p-value is below this."""
OURS = "ours: "
COLUMNS = ("rank", "student_id", "name", "accuracy", "low", "high", "level_with_first", "numbers", "steps")
COLUMNS += ("seconds", "ended", "bytes", "why_not", "late", "isolation", "sha256")


def challenge(
    what, output, *, executor=None, resume=False, roster=None, sizes=None, progress=print, **options
):
    """Train and ask every entry, and ours; write the leaderboard, and a page of feedback for each learner.

    Args:
        what, output, resume, roster, progress: as for `batch.grade`.
        executor: of threads in this process; None: one entry after the other, which disturbs none.
        sizes: how many images train, and how many judge; None: SIZES.
        options: None, or not given, means the default or, with `resume`, what the run has.
            isolation: one of jail.LEVELS. Default: "namespaces".
            seconds: processor seconds of one core that each entry has. Default: 60.
            seed: int that draws which images train, and starts each training. Default: a fresh one.
            pattern: regular expression for the submissions' paths, see `collect.collect`.

    Returns:
        list of dicts, the rows of the leaderboard: what `COLUMNS` names, those without a rank last.

    Raises:
        ParameterError: a folder that is missing or not empty, a roster or an option that is wrong.
        jail.JailError: the isolation is not available.
    """
    output, lesson = Path(output), runner.find_lesson("11")
    given = {name: value for name, value in options.items() if value is not None}
    if unknown := given.keys() - FIXED.keys():
        raise TypeError(f"challenge() has no option {', '.join(sorted(unknown))}")
    with alone_in(output):
        old = _begun(output, given, resume)
        run = old or FIXED | given | {"sizes": list(sizes or SIZES)}
        if not 0.1 <= run["seconds"] <= 3600:
            raise ParameterError(f"--seconds is {run['seconds']!r}; it must be a number from 0.1 to 3600")
        seed = secrets.randbelow(2**31) if run["seed"] is None else run["seed"]
        run["seed"] = check_whole("--seed", seed, 0)
        jail.check(run["isolation"])
        if roster or "roster" not in run:
            run["roster"] = read_roster(roster) if roster else None
        recognise = recogniser(run["roster"]) if run["roster"] else None
        found, passed, _ = collect(what, output, lesson.stem, pattern=run["pattern"], recognise=recognise)
        run |= {
            "run_id": run.get("run_id") or new_run_id(),
            "submissions": [asdict(submission) for submission in found],
            "passed_over": passed,
        }
        if not old:
            shutil.rmtree(output / "course", ignore_errors=True)  # of a run that was killed
            release_package(output / "course" / "cnnlib", ["00"])  # no exercises, and no data beside it
        write_json(output / "challenge.json", run)
        asked, refused = _asked(output, found, _stub(lesson))
        results = _decide_all(output, run, lesson, asked, executor, progress)
        rows = _rows(run, found, results, refused)
        _write_reports(output, run, rows, results)
        return rows


def draw(seed, sizes):
    """Return (images that train, images that judge), Datasets drawn from all 70,000 of Fashion-MNIST.

    Everybody has them all; which of them judge nobody knows before.
    """
    sets = [load("fashion_mnist", split) for split in ("train", "test")]
    images, labels = torch.cat([s.images for s in sets]), torch.cat([s.labels for s in sets])
    if not all(size > 0 for size in sizes) or sum(sizes) > len(images):
        raise ParameterError(f"sizes are {sizes}; they must be above 0 and {len(images):,} together at most")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, judged = order[: sizes[0]], order[sizes[0] : sum(sizes)]
    return Dataset(images[train], labels[train]), Dataset(images[judged], labels[judged])


def _begun(output, given, resume):
    """Return the run that is gone on with, or None for a new one."""
    path = output / "challenge.json"
    if not goes_on(path, resume, begun=("course", "submissions")):  # one that decided nothing begins anew
        return None
    run = read_json(path)
    check_same(output, run, given)
    return run


def _stub(lesson):
    return next(cell.source for cell in nbformat.read(lesson, as_version=4).cells if cell.id == CELL)


def _asked(output, found, stub):
    """Return ({student: sources of their entry's cells}, {student: why there is none}), ours first."""
    asked, refused = {}, {}
    for name in ENTRIES:
        source = f"from cnnlib.course.challenge import ENTRIES\nEntry, ENTRY_SETTINGS = ENTRIES[{name!r}]"
        asked[OURS + name] = [source]
    for submission in found:
        try:
            if submission.student in asked:
                raise SubmissionError("its id is that of another entry")
            if submission.problem:
                raise SubmissionError(submission.problem)
            cells, _ = code_cells(read_bytes(output / submission.path))
            sources, reason = find_entry(cells, entries.NAMES, stub)
            if not reason:
                asked[submission.student] = sources
        except SubmissionError as error:
            reason = str(error)
        if reason:
            refused[submission.student] = reason
    return asked, refused


def _decide_all(output, run, lesson, asked, executor, progress):
    """Return {student: what `entries.decide` returns, and "isolation"}; each is stored when it is there."""
    setup, results = providers(lesson), {}
    modules = [*imported(setup), *OPTIMIZER, "cnnlib.course.challenge"]
    for student in asked:
        old = read_stored(output, student)
        if old and old["source"] == _digest(asked[student]):
            results[student] = old
    todo = {student: cells for student, cells in asked.items() if student not in results}
    if not todo:
        return results
    drawn = entries.Draw(*draw(run["seed"], run["sizes"]), run["seconds"], run["seed"])
    wardens, free = [], queue.SimpleQueue()
    with contextlib.ExitStack() as undo:

        def decide(cells):
            try:
                warden = free.get_nowait()
            except queue.Empty:
                group = undo.enter_context(jail.memory_group())
                course = (output / "course").resolve()  # a warden runs in another folder
                warden = jail.Warden(course, run["isolation"], group, modules)
                wardens.append(undo.enter_context(warden))
            found = entries.decide(warden, setup, cells, drawn)
            free.put(warden)  # not where it failed
            return found | {"isolation": warden.isolation, "source": _digest(cells)}

        def finish(student, found):
            write_json(stored_at(output, student), found)
            results[student] = found
            told = found["reason"] or f"{found['correct'] / len(drawn.judged):.2%}"
            progress(f"[{len(results)}/{len(asked)}] {shown(student)}: {shown(told)[:100]}")

        def stop():
            for warden in wardens:
                warden.kill()

        run_jobs(decide, todo, executor, finish, stop=stop)
    return results


def _digest(cells):
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


# --- reports --------------------------------------------------------------------------------------


def _rows(run, found, results, refused):
    """Return the leaderboard's rows: those with a rank by it, then the others by their ids."""
    total = run["sizes"][1]
    known = people(run)
    absent = known.keys() - {submission.student for submission in found}
    handed_in = found + [Submission(s, "", problem="nothing handed in") for s in sorted(absent)]
    rows = []
    ours = [Submission(OURS + name, "") for name in ENTRIES if OURS + name in results]
    for submission in ours + handed_in:
        refusal = refused.get(submission.student) if submission in handed_in else ""
        result = {} if refusal else results.get(submission.student, {})
        reason = refusal or result.get("reason", submission.problem)
        row = dict.fromkeys(COLUMNS, "") | who(submission, known.get(submission.student))
        row |= {
            "ours": submission not in handed_in,
            "entry": result.get("entry", ""),
            "why_not": reason,
            "late": "late" if submission.late else "",
            "sha256": Path(submission.path).stem,
        }
        if result:
            row |= {name: result[name] for name in ("numbers", "steps", "seconds", "bytes", "isolation")}
            row |= {"ended": result["ended"], "correct": result["correct"]}
        if not reason:
            low, high = wilson_interval(result["correct"], total)
            row |= {
                "accuracy": f"{result['correct'] / total:.4f}",
                "low": f"{low:.4f}",
                "high": f"{high:.4f}",
            }
        rows.append(row)
    ranked = sorted((r for r in rows if not r["why_not"]), key=lambda r: (-r["correct"], r["student_id"]))
    for row in ranked:
        row["rank"] = 1 + sum(other["correct"] > row["correct"] for other in ranked)
        first, other = (
            torch.from_numpy(entries.unpacked(results[r["student_id"]]["right"], total))
            for r in (ranked[0], row)
        )
        level = row is not ranked[0] and mcnemar(first, other) >= LEVEL
        row["level_with_first"] = "level" if level else ""
    return ranked + [row for row in rows if row["why_not"]]


def _write_reports(output, run, rows, results):
    files = {
        "leaderboard.csv": csv_text(COLUMNS, [[row[column] for column in COLUMNS] for row in rows]),
        "leaderboard.html": _board(run, rows),
        "passed_over.csv": passed_over(run),
    }
    shutil.rmtree(output / "entries", ignore_errors=True)
    for student, result in results.items():
        if result["entry"]:
            files[f"entries/{slug(student)}.py"] = f"# {shown(student)}\n\n{result['entry']}\n"
    write_texts(output, files)
    learners = [row for row in rows if not row["ours"]]
    write_feedback(output, learners, [_feedback(run, rows, row) for row in learners])


STYLE = """body { max-width: 70rem; } table { border-collapse: collapse; } .ours { font-style: italic; }
th, td { text-align: left; padding: 0.2rem 0.8rem 0.2rem 0; border-bottom: 1px solid #8886; }
td { vertical-align: top; }
td.n { text-align: right; }
pre { background: rgb(128 128 128 / 12%); padding: 1rem; overflow-x: auto; }
h1, p, td { overflow-wrap: anywhere; }"""
ENDED = {
    "done": "all epochs were over",
    "budget": "the time was up",
    "diverged": "the loss was no longer finite",
}


def _board(run, rows):
    """Return the leaderboard as a page; the order of its columns is that of `header`."""

    def cell(value, number=False):
        return f"<td{' class=n' if number else ''}>{html.escape(shown(str(value)))}</td>"

    header = ("rank", "entry", "accuracy", "95 % interval", "", "numbers", "steps", "CPU s", "ended")
    lines = []
    for row in (r for r in rows if not r["why_not"]):
        interval = f"{float(row['low']):.1%} to {float(row['high']):.1%}"
        cells = cell(row["rank"], True) + cell(called(row))
        cells += cell(f"{float(row['accuracy']):.2%}", True) + cell(interval) + cell(row["level_with_first"])
        cells += cell(f"{row['numbers']:,}", True) + cell(f"{row['steps']:,}", True)
        cells += cell(f"{row['seconds']:.1f}", True) + cell(row["ended"])
        ours = " class=ours" if row["ours"] else ""
        lines.append(f"<tr{ours}>{cells}</tr>")
    others = "".join(f"<tr>{cell(called(r))}{cell(r['why_not'])}</tr>" for r in rows if r["why_not"])
    levels = sorted({row["isolation"] for row in rows if row["isolation"]})
    body = f"""<h1>The open challenge</h1>
{_how(run)}
<table><tr>{"".join(f"<th>{name}</th>" for name in header)}</tr>
{"".join(lines)}</table>
<p>Equal accuracies share a rank. “level”: on the same images the first is not better beyond chance (McNemar’s
exact test, {LEVEL:.0%}). The interval is Wilson’s, over images. Each network was trained once, and another
seed moves its accuracy too.</p>
{f"<h2>Without a rank</h2><table>{others}</table>" if others else ""}
<p>Run {html.escape(run["run_id"])}; isolation: {html.escape("; ".join(levels))}.</p>"""
    return document("The open challenge", STYLE, body)


def _how(run):
    train, judged = run["sizes"]
    return f"""<p>Trained on {train:,} images of Fashion-MNIST for {run["seconds"]:g} processor seconds of one
core of one machine, asked about {judged:,} others. Seed {run["seed"]} drew which; at most {MAX_NUMBERS:,}
numbers were carried over.</p>"""


def _feedback(run, rows, row):
    """Return what became of a learner's entry, as a page."""
    ranked = [other for other in rows if not other["why_not"]]
    if row["why_not"]:
        told = f"No rank: {row['why_not']}"
    else:
        told = f"Rank {row['rank']} of {len(ranked)}, {float(row['accuracy']):.2%} right"
    facts = {"Labels found": "", "Level with the first": row["level_with_first"] and "yes, within chance"}
    if not row["why_not"]:
        interval = f"95 % interval {float(row['low']):.1%} to {float(row['high']):.1%}"
        facts["Labels found"] = f"{row['correct']:,} of {run['sizes'][1]:,}; {interval}"
    if row["bytes"]:
        facts["Statements that were read"] = f"{row['bytes']:,} bytes; at most {entries.SOURCE_LIMIT:,}"
    if row["seconds"]:
        facts["Training"] = f"{row['seconds']:.1f} s of the processor, with all that was started"
    if row["ended"]:
        facts["Numbers learned"] = f"{row['numbers']:,}; at most {MAX_NUMBERS:,}"
        facts["Steps"] = f"{row['steps']:,}, until {ENDED[row['ended']]}"
    facts["Handed in"] = row["late"]
    lines = "".join(
        f"<tr><th>{name}</th><td>{html.escape(shown(value))}</td></tr>"
        for name, value in facts.items()
        if value
    )
    entry = f"<h2>What ran of it</h2><pre>{html.escape(row['entry'])}</pre>" if row["entry"] else ""
    body = f"""<h1>The open challenge</h1>
{headline(row, told)}
{_how(run)}
<table>{lines}</table>
{entry}
{colophon(run, row)}"""
    return document(f"The open challenge: {shown(row['student_id'])}", STYLE, body)
