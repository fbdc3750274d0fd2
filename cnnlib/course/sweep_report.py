"""What a sweep shows: one table, one plot and a summary of all its runs.

The evidence of a claim is a sentence with numbers in it. Every run gives the same sentence, so its numbers
can be followed from run to run: as lines in the plot, as mean ± sd in the summary.
"""

import csv
import io
import itertools
import re
from collections import Counter

import numpy as np

NUMBER = re.compile(r"(?<![\w.])[-−+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")


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
    """Return a figure: a panel for each claim with the numbers of its evidence; red where it failed.

    Numbers that are the same in every run are left out: they would only stretch the axis.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from cnnlib.measure.plots import COLORS

    claims = by_claim(results) or {"no claim was reached": {}}
    columns = min(2, len(claims))
    rows = -(-len(claims) // columns)
    figure = Figure(figsize=(5.5 * columns, 0.6 + 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    x, xlabel = _horizontal(results)
    for ax, (text, found) in zip(axes, claims.items(), strict=False):
        series = [line for line in _series(found, len(results)) if np.nanmax(line[1]) > np.nanmin(line[1])]
        if found and not series:
            ax.text(0.5, 0.5, "the same in every run", ha="center", va="center", transform=ax.transAxes)
            ax.set_yticks([])
            ax.set_xlim(min(x) - 0.5, max(x) + 0.5)
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
        if np.ptp(values) == 0:
            return match.group()
        return f"{values.mean():.4g} (± {values.std(ddof=1):.2g})"

    return NUMBER.sub(averaged, kept[0][0])
