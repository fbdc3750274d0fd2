"""How Sphinx turns the lessons into a web site that works offline; `build.py` starts it."""

import json
import re
from pathlib import Path

from docutils import nodes

project = html_title = "Convolutional neural networks, measured"
language = "en"
extensions = ["myst_nb"]
templates_path = ["_templates"]
smartquotes = False  # a page says what the notebook says, character by character

# The pages show the outputs that are committed, which nbval checks; building the site executes nothing.
nb_execution_mode = "off"
# A claim is stored as HTML for readers and as data for the runner; myst-nb passes over the data, as it
# should, and says so each time. That every output has a form that is shown is a test of tests/test_book.py.
suppress_warnings = ["mystnb.unknown_mime_type"]
nb_render_markdown_format = "myst"  # a list of lessons that a cell displays links to pages, not to files
# A page has no kernel: `alive.py` brings the course's widgets alive, and no script of Jupyter's is loaded.
nb_ipywidgets_js = {}
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
nb_render_image_options = {"alt": "The figure that the code above draws"}
myst_enable_extensions = ["amsmath", "attrs_inline", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_favicon = "_static/favicon.svg"
html_copy_source = False  # a lesson's notebook is offered without its outputs, which the page shows
html_show_copyright = False
html_use_index = False  # the lessons define no index entries, so the page would be empty
html_theme_options = {"top_of_page_buttons": ["view"]}  # our template makes it a download

# One file of MathJax that draws formulas as SVG needs no font files. What would load more files is left
# out: the menu, and `require` and `autoload`, which fetch TeX packages that the file holds anyway. Without
# `noerrors` and `noundefined` a formula with a mistake stands out, and tests/test_book.py finds it.
mathjax_path = "mathjax/tex-svg-full.js"
mathjax3_config = {
    "tex": {"packages": {"[-]": ["require", "autoload", "noerrors", "noundefined"]}},
    "options": {"enableMenu": False},
    "svg": {"fontCache": "global"},
}


def fold_setup(app, doctree):
    """Fold the cells tagged `setup`: imports and constants, which a reader may want to skip."""
    for cell in doctree.findall(
        lambda node: "tag_setup" in getattr(node, "attributes", {}).get("classes", ())
    ):
        cell["hide_mode"] = "input"  # what myst-nb's own tag `hide-input` would set
        cell["prompt_show"] = "Set-up: show imports and constants"
        cell["prompt_hide"] = "Set-up: hide imports and constants"


def give_figures_room(app, doctree):
    """Put each figure into a box of its own, in which it may be wider than a phone and scroll."""
    for image in list(doctree.findall(nodes.image)):
        if isinstance(image.parent, nodes.paragraph) and len(image.parent) == 1:
            image.parent["classes"].append("figure-box")
        else:
            box = nodes.container(classes=["figure-box"])
            image.replace_self(box)
            box += image


TOGETHER = re.compile(r"(?<=\d) (?=[%±×])|(?<=[±×]) (?=\d)|(?<=\bn) (?== \d)|(?<=\bn =) (?=\d)")
"""The spaces within "98.7 ± 0.1 % (n = 3)" and "3 × 3"."""
APART = (nodes.title, nodes.literal, nodes.literal_block, nodes.math, nodes.math_block)


def keep_together(app, doctree):
    """Let no line end within a number with its signs, in prose and in what claims and tables say."""
    for text in list(doctree.findall(nodes.Text)):
        around, raw = text.parent, isinstance(text.parent, nodes.raw)
        while around is not None and not isinstance(around, APART):
            around = around.parent
        if around is None and not (raw and "<script" in text):  # a widget's state stays as it is
            text.parent.replace(text, nodes.Text(TOGETHER.sub("\N{NO-BREAK SPACE}", text)))


def sections(doctree):
    """Yield (title, id, text) of a page's sections; id is "" for the first.

    An exercise ends with its check: what follows belongs to the section around it. Outputs are left out.
    """
    found, current, around, left = {}, None, None, False
    for node in doctree.findall():
        if isinstance(node, nodes.section):
            around, current, left = current if not left else around, node, False
            found[node] = []
        is_text = isinstance(node, (nodes.paragraph, nodes.literal_block)) and current is not None
        if is_text and "cell_output" not in node.parent.get("classes", ()):
            found[current if not left else around].append(node.astext())
        if "tag_check" in getattr(node, "attributes", {}).get("classes", ()):
            left = True
    for number, (section, texts) in enumerate(found.items()):
        title = section.next_node(nodes.title).astext()
        yield title, section["ids"][0] if number else "", re.sub(r"\s+", " ", " ".join(texts)).strip()


def write_sections(app, error):
    """Write what `search.js` searches: [page, section, address, text] of each section."""
    if error is None:
        rows = []
        for page in sorted(app.env.all_docs):
            each = list(sections(app.env.get_doctree(page)))
            rows += [[each[0][0], t, f"{page}.html{i and '#'}{i}", text] for t, i, text in each]
        text = f"const SECTIONS = {json.dumps(rows, ensure_ascii=False)};\n"
        Path(app.outdir, "_static", "sections.js").write_text(text, encoding="utf-8")


def setup(app):
    app.connect("doctree-read", fold_setup)
    app.connect("doctree-read", give_figures_room)
    app.connect("doctree-read", keep_together)
    app.connect("build-finished", write_sections)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
