"""Sweeps: a lesson run with many values of its parameters, to see which claims hold and how the numbers move.

    cnnlib sweep 07_dropout -p seed=0..9

Every run leaves its executed notebook and, when it has ended, a small result file, by which a sweep that was
interrupted goes on. All results make one table and one plot.
"""

import concurrent.futures
import csv
import hashlib
import io
import itertools
import json
import re
from collections import Counter
from pathlib import Path

import nbformat
import numpy as np

from cnnlib import runner
from cnnlib.errors import ParameterError
from cnnlib.files import atomic_path

LARGEST = 10_000
"""Runs of one sweep; a larger grid is taken for a slip."""

NUMBER = re.compile(r"(?<![\w.])[-−+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def parse_values(text):
    """Return the values that a command line gives for one parameter, as strings.

    "0..9" are the whole numbers from 0 to 9; "0.1,0.01" are two values; a comma inside brackets separates
    nothing.

    Raises:
        ParameterError: an empty value, or a range that goes down.
    """
    if span := re.fullmatch(r"(-?\d+)\.\.(-?\d+)", text.strip()):
        first, last = map(int, span.groups())
        if last < first:
            raise ParameterError(f"the range {text} is empty; write the smaller number first")
        if last - first >= LARGEST:
            raise ParameterError(f"the range {text} has more than {LARGEST:,} values")
        return [str(value) for value in range(first, last + 1)]
    values = [value.strip() for value in re.split(r",(?![^\[\](){}]*[\])}])", text)]
    if not all(values):
        raise ParameterError(f"{text!r} holds an empty value; write values as a,b,c or as 0..9")
    return values


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
    """Run a lesson with every combination of values, and write the table and the plot.

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
        (dicts with text, holds, evidence) and output (the executed notebook, relative to the folder).

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

    if executor is None:
        for position, job in waiting.items():
            finish(position, run_one(*job))
    else:
        futures = {executor.submit(run_one, *job): position for position, job in waiting.items()}
        try:
            for future in concurrent.futures.as_completed(futures):
                finish(futures[future], future.result())
        except BaseException:
            for future in futures:
                future.cancel()
            raise
    results = [found[position] for position in range(len(runs))]
    with atomic_path(output / "results.csv") as temporary:
        temporary.write_text(table(results), encoding="utf-8")
    with atomic_path(output / "results.png") as temporary:
        figure = plot(results, runner.read_title(path))
        figure.savefig(temporary, format="png", dpi=100, bbox_inches="tight")
    return results


def run_one(path, output, parameters, lesson_sha256, timeout):
    """Run a lesson once and store what came of it: the job that an executor takes."""
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


def table(results):
    """Return a CSV text with a row for each claim of each run; a run without claims has one row."""
    names = list(results[0]["parameters"])
    header = [*names, "status", "seconds", "claim", "holds", "evidence", "problem", "output"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for result in results:
        values = [result["parameters"][name] for name in names]
        for claim in result["claims"] or [{"text": "", "holds": "", "evidence": ""}]:
            measured = [claim["text"], claim["holds"], claim["evidence"], result["problem"], result["output"]]
            writer.writerow([*values, result["status"], f"{result['seconds']:.1f}", *measured])
    return text.getvalue()


def summarize(results):
    """Return a text: each claim, in how many runs it held, and its evidence with numbers as mean ± sd."""
    lines = [f"{sum(r['status'] == 'ok' for r in results)} of {len(results)} runs ok"]
    for text, found in by_claim(results).items():
        held = sum(claim["holds"] for claim in found.values())
        lines.append(
            f"\n{held} of {len(found)}  {text}\n  {_averaged([c['evidence'] for c in found.values()])}"
        )
    lines += [f"{label(r['parameters'])}: {r['problem']}" for r in results if r["problem"]]
    return "\n".join(lines)


def by_claim(results):
    """Return {claim's text: {position of the run: claim}} in the order of the lesson."""
    found = {}
    for position, result in enumerate(results):
        for claim in result["claims"]:
            found.setdefault(claim["text"], {})[position] = claim
    return found


def numbers(evidence):
    """Return the numbers in a text, and the words before each of them.

    Returns:
        (list of floats, list of str): "none 91.2 %, dropout 92 %" gives [91.2, 92.0] and ["none", "dropout"].
    """
    values, words, end = [], [], 0
    for match in NUMBER.finditer(evidence):
        values.append(float(match.group().replace(",", "").replace("−", "-")))
        before = evidence[end : match.start()]
        words.append(re.split(r"[,;%]", before)[-1].strip(" :=(±") or before.strip(" ,;:="))
        end = match.end()
    return values, words


def plot(results, title):
    """Return a figure: a panel for each claim with the numbers of its evidence; red where it failed."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from cnnlib.plots import COLORS

    claims = by_claim(results) or {"no claim was reached": {}}
    columns = min(2, len(claims))
    rows = -(-len(claims) // columns)
    figure = Figure(figsize=(5.5 * columns, 0.6 + 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    x, xlabel = _horizontal(results)
    for ax, (text, found) in zip(axes, claims.items(), strict=False):
        series = _series(found, len(results))
        for color, (words, values) in zip(itertools.cycle(COLORS[:6]), series, strict=False):
            ax.plot(x, values, ".-", color=color, linewidth=1, label=words[:28] or None)
        for position, claim in found.items():
            if not claim["holds"]:
                ax.axvline(x[position], color="#D55E00", alpha=0.25, linewidth=8)
        held = sum(claim["holds"] for claim in found.values())
        ax.set_title(
            f"{text[:60]}{'…' if len(text) > 60 else ''}\nheld in {held} of {len(results)}", fontsize=8
        )
        ax.set_xlabel(xlabel, fontsize=8)
        ax.tick_params(labelsize=7)
        if all(float(value).is_integer() for value in x):
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if 1 <= len(series) <= 4 and any(words for words, _ in series):
            ax.legend(fontsize=6, loc="best")
    for ax in itertools.islice(figure.axes, len(claims), None):
        ax.remove()
    figure.suptitle(f"{title}: {len(results)} runs", fontsize=10)
    return figure


def label(parameters):
    """Return parameters as one text: "seed=3, lr=0.1"."""
    return ", ".join(f"{name}={value}" for name, value in parameters.items())


def _horizontal(results):
    """Return (values of the axis, its label): the one number that was swept, or the run's position."""
    swept = [
        name for name in results[0]["parameters"] if len({repr(r["parameters"][name]) for r in results}) > 1
    ]
    if len(swept) == 1:
        values = [result["parameters"][swept[0]] for result in results]
        if all(type(value) in (int, float) for value in values):
            return values, swept[0]
    return list(range(len(results))), "run"


def _series(found, runs):
    """Return [(words, values)] for each number of a claim's evidence; NaN where a run has no such number."""
    parsed = {position: numbers(claim["evidence"]) for position, claim in found.items()}
    if not parsed:
        return []
    usual = Counter(len(values) for values, _ in parsed.values()).most_common(1)[0][0]
    series = np.full((usual, runs), np.nan)
    words = []
    for position, (values, labels) in parsed.items():
        if len(values) == usual:
            series[:, position], words = values, labels
    return list(zip(words, series, strict=True))


def _averaged(texts):
    """Return the evidence of several runs as one text, each number that varies as mean ± sd."""
    parsed = [numbers(text)[0] for text in texts]
    usual = Counter(map(len, parsed)).most_common(1)[0][0]
    kept = [(text, values) for text, values in zip(texts, parsed, strict=True) if len(values) == usual]
    if len(kept) < 2:
        return texts[0]
    columns = iter(np.array([values for _, values in kept]).T)

    def averaged(match):
        values = next(columns)
        sd = values.std(ddof=1)
        return match.group() if sd == 0 else f"{values.mean():.4g} (± {sd:.2g})"

    return NUMBER.sub(averaged, kept[0][0])


def _name(parameters):
    """Return a file name for a run: readable, and different for different values."""
    readable = re.sub(r"[^A-Za-z0-9=._-]+", "_", label(parameters))[:60]
    return f"{readable}-{hashlib.sha256(repr(sorted(parameters.items())).encode()).hexdigest()[:8]}"


def _stored(output, parameters):
    path = output / "runs" / f"{_name(parameters)}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
