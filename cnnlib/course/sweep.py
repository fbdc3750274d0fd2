"""Sweeps: a lesson run with many values of its parameters, to see which claims hold and how the numbers move.

    cnnlib sweep 08_dropout -p seed=0..900:100

Every run leaves its executed notebook and, when it has ended, a small result file, by which a sweep that was
interrupted goes on. All results make one table and one plot.
"""

import hashlib
import itertools
import json
import re
from collections import Counter
from pathlib import Path

import nbformat
import numpy as np

from cnnlib.course import runner
from cnnlib.course.jobs import run_jobs
from cnnlib.course.sweep_report import label, plot, summarize, table
from cnnlib.ground.errors import ParameterError
from cnnlib.ground.files import atomic_path

LARGEST = 10_000
"""Runs of one sweep; a larger grid is taken for a slip."""


def parse_values(text):
    """Return the values that a command line gives for one parameter, as strings.

    "0..9" are the whole numbers from 0 to 9, "0..900:100" every hundredth; "0.1,0.01" are two values,
    "0,3,20..29" twelve; a comma inside brackets or quotation marks separates nothing.

    Raises:
        ParameterError: an empty value, a range that goes down, or one in steps of 0.
    """
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and (depth > 0 or not parts[-1].strip()):  # in "o'clock" it is none
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
        if character == "," and depth <= 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    parts = [part.strip() for part in parts]
    if not all(parts):
        raise ParameterError(f"{text!r} holds an empty value; write values as a,b,c or as 0..9")
    return [value for part in parts for value in _spelled_out(part)]


def _spelled_out(part):
    """Return the whole numbers of a range such as "0..9" or "0..900:100"; anything else is one value."""
    span = re.fullmatch(r"(-?\d+)\.\.(-?\d+)(?::(\d+))?", part)
    if not span:
        return [part]
    first, last, step = (int(number or 1) for number in span.groups())
    if last < first:
        raise ParameterError(f"the range {part} is empty; write the smaller number first")
    if step == 0:
        raise ParameterError(f"the range {part} goes in steps of 0; write 1 or more after the colon")
    if last - first >= LARGEST * step:
        raise ParameterError(f"the range {part} has more than {LARGEST:,} values")
    return [str(value) for value in range(first, last + 1, step)]


def grid(path, given):
    """Return the runs of a sweep: every combination of the values, checked against the lesson's parameters.

    Args:
        path: the lesson's notebook.
        given: dict from a parameter's name to its values.

    Returns:
        list of dicts from name to value, of the types of the lesson's defaults; the last name varies fastest.

    Raises:
        ParameterError: an unknown name, a value of a wrong type or given twice, too many runs.
    """
    checked = {}
    for name, values in given.items():
        checked[name] = [runner.check_parameters(path, {name: value})[name] for value in values]
        twice = [value for value, count in Counter(map(repr, checked[name])).items() if count > 1]
        if twice:
            raise ParameterError(f"parameter {name} has the value {twice[0]} twice")
    count = int(np.prod([len(values) for values in checked.values()], dtype=float))
    if count > LARGEST:
        raise ParameterError(f"these values make {count:,} runs; at most {LARGEST:,} are made")
    return [dict(zip(checked, values, strict=True)) for values in itertools.product(*checked.values())]


def sweep(path, given, output, *, executor=None, resume=False, timeout=None, progress=print):
    """Run a lesson with every combination of values, and write the table, the summary and the plot.

    Args:
        path: the lesson's notebook; see `runner.find_lesson`.
        given: dict from a parameter's name to its values.
        output: Path of the sweep's folder, new or (with `resume`) that of an interrupted sweep.
        executor: concurrent.futures.Executor; None: one run after the other.
        resume: keep the runs of the same notebook that ended "ok" or with a claim that failed. The grid may
            have grown.
        timeout: seconds a cell may take.
        progress: function that is given a line of text after each run.

    Returns:
        list of results in the order of the grid: dicts with parameters, status, seconds, problem, claims
        (see `measure.claims.MIME`) and output (the executed notebook, relative to the folder).

    Raises:
        ParameterError: see `grid`; or the folder has something in it and `resume` is false.
    """
    path, output = Path(path), Path(output)
    runs = grid(path, given)
    if output.exists() and any(output.iterdir()) and not resume:
        raise ParameterError(f"{output} is not empty; go on with it (--resume), or name another folder")
    lesson = hashlib.sha256(path.read_bytes()).hexdigest()
    found, waiting = {}, {}
    for position, parameters in enumerate(runs):
        old = _stored(output, parameters)
        if old and old["lesson_sha256"] == lesson and old["status"] in ("ok", "claim failed"):
            found[position] = old
        else:
            waiting[position] = (str(path.resolve()), str(output.resolve()), parameters, lesson, timeout)

    def finish(position, result):
        found[position] = result
        held = sum(claim["holds"] for claim in result["claims"])
        progress(
            f"[{len(found)}/{len(runs)}] {label(result['parameters'])}: {result['status']}, "
            f"{result['seconds']:.0f} s, {held} of {len(result['claims'])} claims held"
        )

    run_jobs(run_one, waiting, executor, finish, stop=runner.stop_kernels)
    results = [found[position] for position in range(len(runs))]
    with atomic_path(output / "results.csv") as temporary:
        temporary.write_text(table(results), encoding="utf-8")
    with atomic_path(output / "summary.txt") as temporary:
        temporary.write_text(summarize(results) + "\n", encoding="utf-8")
    with atomic_path(output / "results.png") as temporary:
        figure = plot(results, runner.read_title(path))
        figure.savefig(temporary, format="png", dpi=100, bbox_inches="tight")
    return results


def run_one(job):
    """Run a lesson once and store what came of it: the job that an executor takes."""
    path, output, parameters, lesson_sha256, timeout = job
    name = _name(parameters)
    result = runner.run_lesson(path, Path(output) / "runs" / f"{name}.ipynb", parameters, timeout=timeout)
    stored = {
        "parameters": parameters,
        "status": result.status,
        "seconds": result.seconds,
        "problem": result.problem,
        "claims": runner.claims(nbformat.read(result.output, as_version=4)),
        "output": f"runs/{name}.ipynb",
        "lesson_sha256": lesson_sha256,
    }
    with atomic_path(Path(output) / "runs" / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(stored, indent=1), encoding="utf-8")
    return stored


def _name(parameters):
    """Return a file name for a run: readable, and different for different values."""
    readable = re.sub(r"[^A-Za-z0-9=._-]+", "_", label(parameters))[:60]
    return f"{readable}-{hashlib.sha256(repr(sorted(parameters.items())).encode()).hexdigest()[:8]}"


def _stored(output, parameters):
    """Return the result that a run stored, or None: there is none, or it is damaged, as by a full disk."""
    try:
        return json.loads((output / "runs" / f"{_name(parameters)}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
