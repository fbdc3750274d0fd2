"""Build the course as a web site that works offline, from a folder or a server.

Usage:
    python book/build.py            # into outputs/book
    python book/build.py FOLDER     # into FOLDER, which is new, empty, or holds an earlier site

Every warning of Sphinx is an error. The site is replaced only when all went well, and is built anew each
time, so that no page of a lesson that was renamed stays behind.
"""

import argparse
import ast
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import alive
from sphinx.cmd.build import main as sphinx

from cnnlib.course.exercises.cells import parse

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
LESSONS = "notebooks/[0-9][0-9]_*.ipynb"
PAGES = (LESSONS, "img/*.svg", "data/README.md")
LINKED = ("data/SHA256SUMS", "tools/build_data.py")
"""Files that a page links to."""
SITE = "_static/sections.js"
"""A file by which a site of ours is known."""
TITLES, AXES = ("title", "set_title", "suptitle"), ("xlabel", "set_xlabel", "ylabel", "set_ylabel")
"""Functions and arguments by which a cell writes words into its figure, besides `label`."""
UNUSED = (
    "searchindex.js",
    "_static/searchtools.js",
    "_static/language_data.js",
    "_static/english-stemmer.js",
)
"""Of Sphinx's search, whose place is taken by ours."""


def gather(folder):
    """Copy what the site is made of into a folder, arranged as in the repository, with the front page on top.

    The front page's list of lessons is the README's, so that there is only one to keep.

    Returns:
        The states of the lessons' widgets, a list of dicts.
    """
    states = []
    for pattern in (*PAGES, *LINKED):
        for path in ROOT.glob(pattern):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
    for path in sorted(folder.glob(LESSONS)):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = on_one_line("".join(cell["source"]))
        describe_figures(notebook)
        describe_widgets(notebook)
        states += alive.enliven(notebook)
        head_exercises(notebook)
        path.write_text(json.dumps(notebook), encoding="utf-8")
    if not (ROOT / "tools").exists():  # the learners' copy of the course: the script is named, not linked
        page = folder / "data" / "README.md"
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r"\[([^\]]+)\]\(\.\./tools/[^)]+\)", r"\1", text), encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lessons = readme.partition("\n## Lessons\n")[2].partition("\n## ")[0].strip()
    index = (BOOK / "index.md").read_text(encoding="utf-8")
    index = index.replace("<!-- the table of lessons in README.md -->", lessons)
    (folder / "index.md").write_text(on_one_line(index), encoding="utf-8")
    return states


def on_one_line(text):
    """Write what describes a picture on one line: where it goes on below, the page would have no space."""
    return re.sub(r"!\[[^\]]+\]", lambda found: " ".join(found[0].split()), text)


def words(source):
    """Return the words that a cell's code writes into its figure: [(function or argument, text)], in order.

    Three dots stand for what is known only when the code runs.
    """
    found = []

    def add(name, node):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
        if re.search(r"\w", text):
            found.append((node.lineno, node.col_offset, name, " ".join(text.split())))

    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", None)
            if name in TITLES + AXES and node.args:
                add(name, node.args[0])
            for keyword in node.keywords:
                if keyword.arg in (*TITLES, *AXES, "label"):
                    add(keyword.arg, keyword.value)
    return [(name, text) for _, _, name, text in sorted(found)]


def describe_figures(notebook):
    """Give each figure that a cell draws a text: where it stands, and the words that are written into it."""
    section = ""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            section = (re.findall(r"^#+ (?:\d+ · )?(.+)$", source, re.M) or [section])[-1]
        elif any(kind.startswith("image/") for output in cell["outputs"] for kind in output.get("data", ())):
            found = list(dict.fromkeys(words(source)))
            titles = "; ".join(text for name, text in found if name in TITLES)
            axes = ", ".join(text for name, text in found if name in AXES)
            drawn = ", ".join(text for name, text in found if name == "label")
            parts = {"Figure": titles or re.sub("[*_`]", "", section), "Axes": axes, "Labels": drawn}
            text = " ".join(f"{name}: {part}." for name, part in parts.items() if part)
            cell["metadata"]["mystnb"] = {"image": {"alt": re.sub(r"(?<=[.?!…])\.", "", text)}}


def describe_widgets(notebook):
    """Give the figure of each widget the text that the widget describes it with."""
    for cell in notebook["cells"]:
        if "widget" in cell["metadata"].get("tags", ()):
            for output in cell["outputs"]:
                text = "".join(output["data"]["text/plain"]).partition(" Run the cell")[0]
                cell["metadata"]["mystnb"] = {"image": {"alt": text}}


def head_exercises(notebook):
    """Make a heading of each exercise's name, so that the table of contents and the search list it."""
    level = "##"
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            level = "###" if re.search("^## ", source, re.M) else level
            if cell["id"].startswith("task-"):
                cell["source"] = re.sub(
                    r"^\*\*(Exercise \S+)\*\* *", rf"{level} \1\n\n", source, count=1, flags=re.M
                )


def offer_notebooks(site):
    """Put each lesson's notebook beside its page, as it is before it is run."""
    for path in sorted(ROOT.glob(LESSONS)):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell |= {"outputs": [], "execution_count": None}
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        (site / path.relative_to(ROOT)).write_text(text, encoding="utf-8")


def build(site):
    """Build the site into a folder.

    Args:
        site: Path, new, empty or an earlier site.

    Returns:
        The exit status of Sphinx, 0 when there was no warning.
    """
    if site.exists() and any(site.iterdir()) and not (site / SITE).exists():
        sys.exit(f"{site} holds something other than a site; name another folder")
    site.parent.mkdir(parents=True, exist_ok=True)
    # Beside the site, so that it can be moved into place at once.
    with tempfile.TemporaryDirectory(prefix=".book-", dir=site.parent) as work:
        source, made = Path(work, "source"), Path(work, "site")
        states = gather(source)
        options = ["--fail-on-warning", "--keep-going", "--quiet", "--jobs=auto", "--conf-dir", str(BOOK)]
        status = sphinx([*options, "--doctree-dir", str(Path(work, "doctrees")), str(source), str(made)])
        if status == 0:
            alive.write(made / alive.FOLDER, states, cache=ROOT / "outputs" / ".book-maps")
            offer_notebooks(made)
            shutil.rmtree(made / "_sources", ignore_errors=True)
            for name in UNUSED:
                (made / name).unlink(missing_ok=True)
            shutil.rmtree(site, ignore_errors=True)
            made.rename(site)
    return status


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "outputs" / "book", help="of the site")
    folder = parser.parse_args().folder.resolve()
    status = build(folder)
    if status == 0:
        print(f"Open {folder / 'index.html'} in a browser.")
    sys.exit(status)
