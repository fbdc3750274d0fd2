"""What a sweep shows: one table, one plot and a summary of all its runs.

Every claim stores its named numbers and those of its rivals, so they can be followed from run to run: as
lines in the plot, as mean ± standard error in the summary, with the smallest margin that a rival left.
"""

import csv
import io
import itertools
import json

import numpy as np

from cnnlib.measure.claims import show_number
from cnnlib.measure.metrics import mean_se

APART = 100
"""Seeds so far apart share no run of a lesson, whose run k uses seed + k."""
NO_CLAIM = {"text": "", "holds": "", "evidence": "", "rivals": []}


def table(results):
    """Return a CSV text with a row for each claim of each run; a run without claims has one row.

    `measured` and `rivals` hold the numbers as JSON; `margin` is the smallest over the rivals: the share of
    the way to a rival's numbers that the measured ones could go before the claim would fail.
    """
    names = list(results[0]["parameters"])
    header = [*names, "status", "seconds", "claim", "holds", "margin", "evidence", "excluded"]
    header += ["measured", "rivals", "problem", "output"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for result in results:
        values = [result["parameters"][name] for name in names]
        for claim in result["claims"] or [NO_CLAIM]:
            rivals = claim["rivals"]
            margin = smallest_margin(claim)
            numbers = {rival["name"]: rival["numbers"] for rival in rivals}
            row = [claim["text"], claim["holds"], "" if margin is None else margin[0], claim["evidence"]]
            row.append(
                "; ".join(f"{rival['name']}: {rival['shown']}" for rival in rivals if rival["excluded"])
            )
            row += [json.dumps(claim.get("measured", {})), json.dumps(numbers)]
            writer.writerow(
                [
                    *values,
                    result["status"],
                    f"{result['seconds']:.1f}",
                    *row,
                    result["problem"],
                    result["output"],
                ]
            )
    return text.getvalue()


def summarize(results):
    """Return a text: each claim, in how many runs it held, its numbers, its rivals', the smallest margin."""
    lines = [f"{sum(r['status'] == 'ok' for r in results)} of {len(results)} runs ok"]
    for text, found in by_claim(results).items():
        held = sum(claim["holds"] for claim in found.values())
        forms = next(iter(found.values()))["forms"]
        lines.append(f"\n{held} of {len(found)}  {text}")
        groups = _groups(results)
        for words, positions in groups.items():
            part = {position: found[position] for position in positions if position in found}
            if not part:
                continue
            what = f"{words}: " if len(groups) > 1 else ""
            lines.append(f"  {what}{_averaged([claim['measured'] for claim in part.values()], forms)}")
            for name, numbers in _rivals(part).items():
                lines.append(f"  {what}excluded: {name}: {_averaged(list(numbers.values()), forms)}")
        margins = [(*m, p) for p, claim in found.items() if (m := smallest_margin(claim)) is not None]
        if margins:
            margin, rival, position = min(margins)
            lines.append(
                f"  smallest margin {margin:.2f}, {label(results[position]['parameters'])}, to: {rival}"
            )
    lines += [f"{label(r['parameters'])}: {r['problem']}" for r in results if r["problem"]]
    seeds = sorted({r["parameters"].get("seed", 0) for r in results})
    if near := [pair for pair in itertools.pairwise(seeds) if pair[1] - pair[0] < APART]:
        lines.append(
            f"\nSeeds {near[0][0]} and {near[0][1]} may share runs, for run k of a lesson uses seed + k: "
            "what is ± over the seeds may be too small. In steps of "
            f"{APART} they share none: -p seed=0..900:{APART}"
        )
    return "\n".join(lines)


def _groups(results):
    """Return {text: positions} of the runs that differ in their seed only, over which one may average."""
    groups = {}
    for position, result in enumerate(results):
        others = {name: value for name, value in result["parameters"].items() if name != "seed"}
        groups.setdefault(label(others), []).append(position)
    return groups


def by_claim(results):
    """Return {claim's text: {position of the run: claim}} in the order of the lesson."""
    found = {}
    for position, result in enumerate(results):
        for claim in result["claims"]:
            found.setdefault(claim["text"], {})[position] = claim
    return found


def smallest_margin(claim):
    """Return (margin, name) of the rival that came nearest to passing, or None where none was tried."""
    return min(((r["margin"], r["name"]) for r in claim["rivals"] if r["margin"] is not None), default=None)


def flat(numbers, name=""):
    """Return a claim's numbers as {name: number}: "lead", "accuracy cnn", "step 0"; an estimate's mean."""
    if isinstance(numbers, dict) and numbers.keys() == {"mean", "se", "n"}:
        return {name: numbers["mean"]}
    if isinstance(numbers, (dict, list)):
        items = numbers.items() if isinstance(numbers, dict) else enumerate(numbers)
        return {k: v for key, item in items for k, v in flat(item, f"{name} {key}".strip()).items()}
    return {name: float(numbers)}


def _rivals(found):
    """Return {rival's name: {position of the run: its numbers}}."""
    rivals = {}
    for position, claim in found.items():
        for rival in claim["rivals"]:
            rivals.setdefault(rival["name"], {})[position] = rival["numbers"]
    return rivals


def _averaged(numbers, forms):
    """Return the numbers of several runs as one text; those that vary as mean ± standard error over runs."""
    columns = {}
    for one in numbers:
        for name, value in one.items():
            for key, number in flat(value, name).items():
                columns.setdefault((name, key), []).append(number)
    parts = []
    for (name, key), values in columns.items():
        finite = [value for value in values if np.isfinite(value)]
        value = mean_se(finite) if len(set(finite)) > 1 else values[0]
        value = int(value) if type(value) is float and value.is_integer() else value
        shown = key.replace("_", " ") + (":" if key != name else "")  # a nested name may end in a number
        parts.append(f"{shown} {show_number(value, forms.get(name, '.3g'))}")
    runs = f" (mean ± standard error over {len(numbers)} runs)" if any("±" in part for part in parts) else ""
    return "; ".join(parts) + runs


def plot(results, title):
    """Return a figure: a panel for each claim with its numbers, its rivals' dotted; red where it failed.

    Numbers of different forms (a share and a count) have panels of their own. Runs that differ in their seed
    only are drawn one by one where the seed is all that was swept, else as mean ± standard error. Numbers
    that are the same in every run are left out: they would only stretch the axis.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from cnnlib.measure.plots import COLORS

    panels = _panels(results)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.5 * columns, 0.6 + 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    x, xlabel, ticks = _horizontal(results)
    for ax, (text, found, series) in zip(axes, panels, strict=False):
        if found and not series:
            ax.text(0.5, 0.5, "the same in every run", ha="center", va="center", transform=ax.transAxes)
            ax.set_yticks([])
            ax.set_xlim(min(x) - 0.5, max(x) + 0.5)
        colors = dict(
            zip(dict.fromkeys(name for name, _, _ in series), itertools.cycle(COLORS[:6]), strict=False)
        )
        for name, rival, values in series:
            words = f"{name.replace('_', ' ')}, {rival}" if rival else name.replace("_", " ")
            style = {"linestyle": ":", "alpha": 0.8} if rival else {}
            at, mean, se = _over_seeds(x, values)
            style |= {"marker": ".", "color": colors[name], "linewidth": 1, "label": words[:40]}
            if se is None:
                ax.plot(at, mean, **style)
            else:
                ax.errorbar(at, mean, yerr=se, capsize=2, **style)
        for position, claim in found.items():
            if not claim["holds"]:
                ax.axvline(x[position], color="#D55E00", alpha=0.25, linewidth=8)
        held = sum(claim["holds"] for claim in found.values())
        ax.set_title(
            f"{text[:60]}{'…' if len(text) > 60 else ''}\nheld in {held} of {len(results)}", fontsize=8
        )
        ax.set_xlabel(xlabel, fontsize=8)
        ax.tick_params(labelsize=7)
        if ticks:
            ax.set_xticks(range(len(ticks)), ticks, rotation=20, ha="right")
        elif all(float(value).is_integer() for value in x):
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if 1 <= len(series) <= 6:
            ax.legend(fontsize=6, loc="best")
    for ax in itertools.islice(figure.axes, len(panels), None):
        ax.remove()
    figure.suptitle(f"{title}: {len(results)} runs", fontsize=10)
    return figure


def _panels(results):
    """Return [(claim's text, {position of the run: claim}, series)]: one for each form of its numbers."""
    panels = []
    for text, found in by_claim(results).items():
        by_form = {}
        for form, *line in _series(found, len(results)):
            if np.nanmax(line[2]) > np.nanmin(line[2]):
                by_form.setdefault(form, []).append(line)
        panels += [(text, found, series) for series in by_form.values() or [[]]]
    return panels or [("no claim was reached", {}, [])]


def _over_seeds(x, values):
    """Return places, means and standard errors of what was measured several times at a place; else None."""
    places = sorted({place for place, value in zip(x, values, strict=True) if np.isfinite(value)})
    measured = [
        [v for place, v in zip(x, values, strict=True) if place == at and np.isfinite(v)] for at in places
    ]
    if max(map(len, measured)) == 1:
        return x, values, None
    estimates = [mean_se(each) if len(each) > 1 else None for each in measured]
    means = [each[0] if e is None else float(e) for each, e in zip(measured, estimates, strict=True)]
    return places, means, [0 if e is None else e.se for e in estimates]


def label(parameters):
    """Return parameters as one text: "seed=3, lr=0.1"."""
    return ", ".join(f"{name}={value}" for name, value in parameters.items())


def _horizontal(results):
    """Return (each run's place on the axis, its label, names of the places where they are no numbers).

    The axis is the one number that was swept, a parameter's before the seed's; else the combinations.
    """
    parameters = [result["parameters"] for result in results]
    swept = [name for name in parameters[0] if len({repr(each[name]) for each in parameters}) > 1]
    others = [name for name in swept if name != "seed"] or swept
    if len(others) == 1:
        values = [each[others[0]] for each in parameters]
        if all(type(value) in (int, float) for value in values):
            return values, others[0], []
    if not others:
        return list(range(len(results))), "run", []
    words = [label({name: each[name] for name in others}) for each in parameters]
    names = list(dict.fromkeys(words))
    return [names.index(word) for word in words], "", names


def _series(found, runs):
    """Return [(form, number's name, rival's name or "", values)]; NaN where a run has no such number."""
    sources = {"": {position: claim["measured"] for position, claim in found.items()}} | _rivals(found)
    forms = next(iter(found.values()))["forms"]
    series = {}
    for rival, numbers in sources.items():
        for position, named in numbers.items():
            for argument, number in named.items():
                form = forms.get(argument, ".3g")
                for name, value in flat(number, argument).items():
                    series.setdefault((form, name, rival), np.full(runs, np.nan))[position] = value
    return [(*key, values) for key, values in series.items()]
