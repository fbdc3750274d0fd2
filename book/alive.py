"""What the widgets of the lessons need to be alive on a page that has no kernel.

A lesson's output holds the state from which a widget's view starts (`cnnlib.course.widgets.base`). A page of
the book gets it, and the same script that JupyterLab runs, with a small host, `host.js`. What a kernel would
be asked for later lies in files beside the page: photographs, and VGG16's maps of them.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

from cnnlib.course.widgets import base

BOOK = Path(__file__).resolve().parent
FINEST = 56  # rows and columns of a map in the book, at most: more would take too much room
FOLDER = "_static/widgets"
MISSING = f"The figure does not come alive here: the book lacks its file {FOLDER}/widgets.js."


def enliven(notebook):
    """Put beside each widget's figure the element in which `host.js` shows it alive; return the states."""
    states = []
    for cell in notebook["cells"]:
        for output in list(cell.get("outputs", ())):
            state = output.get("data", {}).pop(base.MIME, None)
            if state:
                cell["outputs"].append(_element(state, first=not states))
                states.append(state)
    return states


def _element(state, first):
    inside = json.dumps(state, ensure_ascii=False).replace("<", "\\u003c")  # no tag can end the script
    html = f'<div class="cnnlib-widget"><script type="application/json">{inside}</script></div>'
    if first:
        html += f'<link rel="stylesheet" href="../{FOLDER}/widgets.css">'
        tell = f"document.querySelectorAll('.cnnlib-widget').forEach((place) => place.append('{MISSING}'))"
        html += f'<script defer src="../{FOLDER}/widgets.js" onerror="{tell}"></script>'
    return {"output_type": "display_data", "metadata": {}, "data": {"text/html": html, "text/plain": ""}}


def write(folder, states, cache):
    """Write the script, the style sheet and what the views ask for.

    Args:
        folder: Path of the site's folder for it, which is new.
        states: list of dicts, as `enliven` returns them.
        cache: Path of a folder that keeps VGG16's maps from one build to the next.
    """
    folder.mkdir(parents=True)
    host = (BOOK / "host.js").read_text(encoding="utf-8")
    (folder / "widgets.js").write_text(f"(() => {{\n{base.script()}\n{host}}})();\n", encoding="utf-8")
    (folder / "widgets.css").write_text(base.style(), encoding="utf-8")
    views = {state["view"]: state for state in states}
    if "kernel" in views:
        from cnnlib.course.widgets import explore_kernel

        explorer = explore_kernel()
        _answers(folder / "kernel", explorer, [(name,) for name in views["kernel"]["photos"]])
    if "features" in views:
        shutil.copytree(_maps(views["features"], cache), folder / "features")


def _answers(folder, explorer, keys):
    """Write a file for each key under which a view may ask."""
    folder.mkdir(parents=True)
    for key in keys:
        file = f"{folder.name}/{'-'.join(key)}.js"
        answer = json.dumps(base.packed(explorer.look_up(*key)))
        (folder / Path(file).name).write_text(f'cnnlib.arrived("{file}", {answer});\n', encoding="utf-8")


def _maps(state, cache):
    """Return a folder with a model's maps of all photographs, from the cache where they are known."""
    from cnnlib.course.widgets import features

    sources = [Path(module.__file__).read_bytes() for module in (features, base)]
    known = json.dumps([state["weights"], state["layers"], state["photos"], FINEST]).encode()
    digest = hashlib.sha256(b"".join([known, *sources])).hexdigest()[:16]
    folder = cache / digest / "features"
    if not folder.exists():
        explorer = features.FeatureExplorer(photos=state["photos"])
        if explorer.weights != state["weights"]:
            raise SystemExit(
                "the lesson's feature explorer shows another model than VGG16; the book has no maps"
            )
        explorer.finest = FINEST
        keys = [
            (name, *layer)
            for name in state["photos"]
            for layer in [(), *((each,) for each in state["layers"])]
        ]
        shutil.rmtree(cache, ignore_errors=True)
        unfinished = cache / f"{digest}.{os.getpid()}" / "features"
        _answers(unfinished, explorer, keys)
        unfinished.parent.rename(folder.parent)
    return folder
