"""The book: it builds without a warning, and every page works in a browser, offline."""

import functools
import hashlib
import http.server
import importlib
import math
import re
import shutil
import subprocess
import sys
import threading
import zlib
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch
import torch.nn.functional as F
from chromium import chromium
from notebook_tools import LESSONS, code_cells, read, tags
from torch import nn

from cnnlib.course.widgets import base, chain, explore_features, explore_kernel
from cnnlib.ground.env import NOTEBOOKS, ROOT
from cnnlib.models import make_model
from cnnlib.models.layers import Normalize

BOOK = ROOT / "book"
LESSON_PAGES = [f"notebooks/{path.stem}.html" for path in LESSONS]
PAGES = ["index.html", *LESSON_PAGES, "data/README.html", "search.html"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book") / "site"
    built = subprocess.run([sys.executable, BOOK / "build.py", folder], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert f"Open {folder / 'index.html'}" in built.stdout
    return folder


class Page(HTMLParser):
    """What a page is linked to: its anchors, its links, what it loads, and its images."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.images = set(), [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        self.ids |= {a[name] for name in ("id", "name") if a.get(name)}
        if tag == "a" and "href" in a:
            self.links.append(a)
        if tag == "img":
            self.images.append(a)
        self.loads += [a[name] for name in ("src", "srcset", "data") if a.get(name)]
        if tag == "link":
            self.loads.append(a["href"])


def is_elsewhere(url):
    return url.startswith(("http://", "https://", "//"))


# Without a browser


def test_the_pages_are_the_lessons_and_what_belongs_to_them(site):
    assert sorted(p.relative_to(site).as_posix() for p in site.rglob("*.html")) == sorted(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_names_the_lessons_in_order(site, page):
    text = (site / page).read_text(encoding="utf-8")
    sidebar = re.search(r'class="sidebar-tree">(.*?)</aside>', text, re.S)[1]
    linked = re.findall(r'href="([^"]+)"', sidebar)
    targets = [((site / page).parent / name).resolve() for name in linked if name != "#"]
    current = [(site / page).resolve()] if "#" in linked else []
    known = [(site / name).resolve() for name in LESSON_PAGES]
    assert [t for t in sorted({*targets, *current}) if t in known] == known
    assert [t for t in targets if t in known] == [t for t in known if t in targets]


def test_the_front_page_tells_what_each_lesson_is_about(site):
    front = (site / "index.html").read_text(encoding="utf-8")
    table = re.search(r"<table.*?</table>", front, re.S)[0]
    assert re.findall(r'href="(notebooks/[^"]+)"', table) == LESSON_PAGES
    assert "<!--" not in table
    assert "make lab" in re.sub(r"<[^>]+>", "", front)


def test_next_leads_through_the_whole_course(site):
    page, walked = site / "index.html", []
    while found := re.search(r'<a class="next-page" href="([^"]+)"', page.read_text(encoding="utf-8")):
        page = (page.parent / found[1]).resolve()
        walked.append(page.relative_to(site.resolve()).as_posix())
    assert walked == [*LESSON_PAGES, "data/README.html"]


def test_every_link_inside_leads_somewhere(site):
    parsed = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    for path, page in parsed.items():
        inside = [a["href"] for a in page.links if not is_elsewhere(a["href"])]
        for url in [*inside, *page.loads]:
            parts = urlsplit(url)
            assert not parts.scheme, f"{path.name}: {url}"
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name} links to {url}"
            assert target.is_relative_to(site.resolve()), f"{path.name} links out of the site: {url}"
            # The icons of the theme are drawn from symbols within the page, and # alone is the page's top.
            if parts.fragment and target in parsed:
                assert unquote(parts.fragment) in parsed[target].ids, f"{path.name} links to {url}"


def test_images_say_what_they_show(site):
    for path in site.rglob("*.html"):
        for image in Page(path).images:
            assert image.get("alt", "").strip(), f"{path.name}: {image['src']}"
            assert not image["alt"].startswith("_images"), f"{path.name}: {image['src']}"
            if image["src"].endswith(".svg"):  # from the prose, which describes each of them
                assert len(image["alt"]) > 20
            assert not image["alt"].startswith("The figure that"), f"{path.name}: {image['src']}"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_picture_keeps_the_words_of_its_description_apart(site, path):
    told = [image["alt"] for image in Page(site / "notebooks" / f"{path.stem}.html").images]
    prose = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    for text in re.findall(r"!\[([^\]]+)\]", prose):
        assert " ".join(text.split()) in told


def test_a_figure_is_described_by_the_words_that_its_code_writes_into_it(monkeypatch):
    monkeypatch.syspath_prepend(BOOK)
    figures = importlib.import_module("build")
    source = """%config InlineBackend.figure_formats = ["jpeg"]
fig, ax = plt.subplots()
ax.plot(x, label=f"median: {x:.0f}")
ax.set(title="What is this?", xlabel="pixels", ylabel=unknown)
print("not in the figure")
plots.montage(tiles, title="")
fig.suptitle("Two halves")"""
    drawn = {"cell_type": "code", "source": source, "metadata": {}, "outputs": [{"data": {"image/jpeg": ""}}]}
    bare = drawn | {"source": "show(maps)", "metadata": {}}
    quiet = drawn | {"outputs": [], "metadata": {}}
    heading = {"cell_type": "markdown", "source": "# A\n\n## 3 · The `map` of *all*\n\ntext", "metadata": {}}
    figures.describe_figures({"cells": [heading, drawn, bare, quiet]})
    alt = drawn["metadata"]["mystnb"]["image"]["alt"]
    assert alt == "Figure: What is this?; Two halves. Axes: pixels. Labels: median: …"
    assert bare["metadata"]["mystnb"]["image"]["alt"] == "Figure: The map of all."
    assert quiet["metadata"] == {}


@pytest.mark.parametrize("page", LESSON_PAGES)
def test_no_line_ends_within_a_number_with_its_signs(site, page):
    text = (site / page).read_text(encoding="utf-8")
    article = re.search(r"<article.*</article>", text, re.S)[0]
    bare = re.sub(r"<(pre|code|script|style|h[1-6])\b.*?</\1>", "", article, flags=re.S)
    words = re.sub(r"\\\(.*?\\\)|<[^>]+>", "", bare, flags=re.S)
    assert re.findall(r".{9}(?:\d %|\d ±|± \d|\d × \d|\bn = \d).{9}", words) == []
    assert re.search(r"\d\N{NO-BREAK SPACE}[±×%]", words)
    code = "".join(re.findall(r"<pre.*?</pre>", article, re.S))
    assert "\N{NO-BREAK SPACE}" not in code  # what may be copied and run


def test_styles_and_scripts_ask_for_nothing_elsewhere(site):
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\([\"']?(https?:)?//", text), path.name


def test_pages_name_no_machine(site):
    for path in [*site.rglob("*.html"), *site.glob("*.js")]:
        text = path.read_text(encoding="utf-8")
        for name in (str(ROOT), str(site.parent), str(Path.home()) + "/", "site-packages", ".book-"):
            assert name not in text, path.name
        assert not re.search(r"(?<![\w.~-])/(home|Users|root|tmp|var)/\w", text), path.name


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_offers_its_notebook_as_it_is_before_it_is_run(site, path):
    page = site / "notebooks" / f"{path.stem}.html"
    (link,) = [a for a in Page(page).links if "download" in a and a["href"].endswith(".ipynb")]
    offered, lesson = read(page.parent / link["href"]), read(path)
    for cell in code_cells(lesson):
        cell.outputs, cell.execution_count = [], None
    assert offered == lesson


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_exercises_are_sections_with_their_hints_folded(site, path):
    text = (site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
    exercises = [cell for cell in code_cells(read(path)) if "exercise" in tags(cell)]
    for cell in exercises:
        name = cell.source.splitlines()[0].removeprefix("# exercise ")
        assert len(re.findall(rf"<h[23]>Exercise {re.escape(name)}<", text)) == 1
        assert f'">Exercise {name}</a>' in text  # in the contents
    checks = [str(cell.outputs) for cell in code_cells(read(path)) if "check" in tags(cell)]
    assert text.count("<summary>Hint 1</summary>") >= sum("<summary>Hint 1</summary>" in c for c in checks)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_each_widget_cell_has_a_figure_and_a_place_where_it_is_alive(site, path):
    page = site / "notebooks" / f"{path.stem}.html"
    widgets = [cell for cell in code_cells(read(path)) if "widget" in tags(cell)]
    assert page.read_text(encoding="utf-8").count('class="cnnlib-widget"') == len(widgets)
    alts = [image["alt"] for image in Page(page).images]
    for cell in widgets:
        described = cell.outputs[0].data["text/plain"].partition(" Run the cell")[0]
        assert described in alts


def test_the_book_stays_small(site):
    sizes = {path: path.stat().st_size for path in site.rglob("*") if path.is_file()}
    alive = sum(size for path, size in sizes.items() if "widgets" in path.parts)
    print(f"\nthe book has {sum(sizes.values()) / 1e6:.1f} MB, {alive / 1e6:.1f} MB of it for the widgets")
    assert alive < 15e6
    assert not (site / "_sources").exists()


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_set_up_cells_are_folded_and_exercises_marked(site, path):
    text = (site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
    used = [tag for cell in code_cells(read(path)) for tag in tags(cell)]
    assert text.count("Set-up: show") == used.count("setup")
    assert len(re.findall(r'class="[^"]*\btag_exercise\b', text)) == used.count("exercise")


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_output_has_a_form_that_a_page_can_show(path):
    # conf.py silences the warning about forms that it cannot show.
    shown = {"text/html", "text/markdown", "image/png", "image/jpeg", "image/svg+xml"}
    for cell in code_cells(read(path)):
        for output in cell.outputs:
            data = set(output.get("data", {}))
            assert data & shown or data <= {"text/plain"}, f"cell {cell.id!r}: {data}"


def test_what_is_not_ours_is_unchanged():
    rows = re.findall(r"^\| `(\S+)` \|.*\| `([0-9a-f]{64})` \|$", (BOOK / "README.md").read_text(), re.M)
    listed = {BOOK / name for name, _ in rows}
    assert listed == set((BOOK / "_static" / "mathjax").iterdir())
    for name, digest in rows:
        assert hashlib.sha256((BOOK / name).read_bytes()).hexdigest() == digest, name


def run_build(*arguments, before="pass"):
    """Run build.py in a process of its own, after some statements that change it."""
    code = f"import sys, build; from pathlib import Path; {before}; sys.exit(build.build(Path(sys.argv[1])))"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=BOOK, capture_output=True, text=True)


def test_a_warning_fails_the_build_and_the_earlier_site_stays(site, tmp_path):
    earlier = tmp_path / "site"
    earlier.mkdir()
    (earlier / "_static").mkdir()
    shutil.copy2(site / "_static" / "sections.js", earlier / "_static")
    failed = run_build(earlier, before="build.PAGES = ('data/README.md',)")
    assert failed.returncode == 1
    assert "WARNING" in failed.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    assert [path.name for path in earlier.rglob("*.*")] == ["sections.js"]


def test_the_learners_copy_links_to_no_script_that_it_lacks(tmp_path):
    copy = tmp_path / "copy"
    (copy / "data").mkdir(parents=True)
    for name in ("README.md", "data/README.md", "data/SHA256SUMS"):
        shutil.copy2(ROOT / name, copy / name)
    gather = f"build.ROOT = Path('{copy}'); build.gather(Path('{tmp_path}/pages')); sys.exit()"
    gathered = run_build(before=gather)
    assert gathered.returncode == 0, gathered.stderr
    text = (tmp_path / "pages" / "data" / "README.md").read_text(encoding="utf-8")
    assert "`tools/build_data.py` built" in text
    assert "](SHA256SUMS)" in text


def test_it_refuses_a_folder_that_holds_something_else(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    refused = run_build(tmp_path)
    assert refused.returncode == 1
    assert "another folder" in refused.stderr
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_an_option_that_it_does_not_know_is_no_folder(tmp_path):
    refused = subprocess.run(
        [sys.executable, BOOK / "build.py", "--hlep"], cwd=tmp_path, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "--hlep" in refused.stderr
    assert list(tmp_path.iterdir()) == []


# In a browser


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server(site):
    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}/"
        served.shutdown()
        thread.join()


@pytest.fixture(scope="module", params=["file", "server"])
def home(request, site):
    """The address of the site, once opened from its folder and once from a server."""
    return site.as_uri() + "/" if request.param == "file" else request.getfixturevalue("server")


@pytest.fixture
def visit(browser, home):
    """Return a function that opens a page of the site; at the end, nothing may have gone wrong on it."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    wrong = []

    def note_request(request):
        if not request.url.startswith((home, "data:", "blob:")):
            wrong.append(f"asked for {request.url}")

    def note_console(message):
        if message.type in {"error", "warning"}:
            wrong.append(f"{message.type} in the console: {message.text}")

    def note_response(response):
        if response.status >= 400:
            wrong.append(f"{response.status}: {response.url}")

    context.on("request", note_request)
    context.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    context.on("response", note_response)
    context.on("console", note_console)
    context.on("weberror", lambda error: wrong.append(f"raised: {error.error}"))

    def visit(page):
        tab = context.new_page()
        tab.goto(home + page, wait_until="load")
        tab.evaluate("() => window.MathJax?.startup?.promise")
        tab.wait_for_function(ALIVE)
        return tab

    yield visit
    context.close()
    assert wrong == []


# Each widget has drawn its view, and what it asked for has arrived.
ALIVE = """() => [...document.querySelectorAll(".cnnlib-widget")].every((place) => {
    const drawn = place.querySelector(".cnnlib-live canvas[aria-label]");
    return drawn && place.querySelector("[role='status']").textContent;
})"""

FACTS = r"""() => {
    const article = document.querySelector("article");
    const all = (selector) => [...article.querySelectorAll(selector)];
    const prose = article.cloneNode(true);
    prose.querySelectorAll("pre, code, mjx-container, script").forEach((node) => node.remove());
    return {
        formulas: all(".math").length,
        typeset: all(".math > mjx-container").length,
        mistakes: all("mjx-merror, [data-mml-node='merror']").map((node) => node.textContent),
        left: prose.textContent.match(/\\[()\[\]]|\\[a-z]{2,}|\$/g) || [],
        blank: all("img").filter((image) => !(image.complete && image.naturalWidth)).map((i) => i.src),
    };
}"""

TOO_WIDE = """() => {
    document.querySelectorAll("details").forEach((details) => { details.open = true; });
    // On a phone, the theme lets its content scroll sideways where the page does not.
    return [document.documentElement, document.querySelector(".content")]
        .map((box) => box.scrollWidth - box.clientWidth);
}"""

# Tables of pandas, plain or styled, that are cut off or whose columns touch each other.
BAD_TABLES = """() => [...document.querySelectorAll("article .output.text_html table")].filter((table) => {
    const [box, cell] = [table.closest(".output.text_html"), table.querySelector("td")];
    const crowded = parseFloat(getComputedStyle(cell).paddingLeft) < 4;
    return !box.querySelector(".cnnlib-widget") && (crowded || box.scrollWidth > box.clientWidth);
}).map((table) => table.innerText)"""


@pytest.mark.parametrize("page", PAGES)
def test_a_page_works(visit, page):
    tab = visit(page)
    facts = tab.evaluate(FACTS)
    assert facts.pop("typeset") == facts.pop("formulas")
    assert facts == {"mistakes": [], "left": [], "blank": []}
    for width in (390, 1100, 1500):
        tab.set_viewport_size({"width": width, "height": 844})
        assert tab.evaluate(TOO_WIDE) == [0, 0], f"{width} pixels wide"
        assert width < 1000 or tab.evaluate(BAD_TABLES) == [], f"{width} pixels wide"


CUT_OFF = """() => [...document.querySelectorAll("article :is(pre, .output.text_html, .table-wrapper)")]
    .filter((box) => box.checkVisibility() && !box.querySelector(".cnnlib-widget"))
    .filter((box) => box.scrollWidth > box.clientWidth).map((box) => box.innerText)"""


@pytest.mark.parametrize("page", [LESSON_PAGES[2], LESSON_PAGES[7], LESSON_PAGES[11], "data/README.html"])
def test_on_paper_nothing_is_cut_off(visit, page):
    tab = visit(page)
    tab.set_viewport_size({"width": 720, "height": 1000})  # a sheet of A4 with margins
    assert tab.evaluate(CUT_OFF) != []
    tab.emulate_media(media="print")
    assert tab.evaluate(CUT_OFF) == []


# What stays where it is while the rest scrolls: on paper it would lie over the text of every sheet.
FIXED = """() => [...document.querySelectorAll("body *")].filter((node) => {
    const { left, right } = node.getBoundingClientRect(); // the theme's drawers wait beside the page
    const { position } = getComputedStyle(node);
    return position === "fixed" && node.checkVisibility() && right > 0 && left < innerWidth;
}).map((node) => node.outerHTML)"""


def test_on_paper_a_page_is_still_light_and_without_what_serves_a_keyboard(visit):
    tab = visit("notebooks/03_mnist_cnn.html")
    tab.set_viewport_size({"width": 720, "height": 1000})
    figures = tab.locator(".cell_output:has(.cnnlib-widget)")
    assert [figure.locator("img").is_visible() for figure in figures.all()] == [False, False]
    tab.emulate_media(media="print", color_scheme="dark")
    assert tab.evaluate(FIXED) == []
    assert [figure.locator("img").is_visible() for figure in figures.all()] == [True, True]
    assert not tab.locator(".cnnlib-widget").first.is_visible()
    boxes = "document.querySelectorAll('article .figure-box')"
    filters = f"() => [...{boxes}].map((box) => getComputedStyle(box).filter)"
    assert set(tab.evaluate(filters)) == {"none"}
    tab.goto(tab.url.replace("notebooks/03_mnist_cnn", "index"))
    begin = "getComputedStyle(document.querySelector('a.begin'))"
    assert tab.evaluate(f"{begin}.backgroundColor") == "rgba(0, 0, 0, 0)"  # which printers leave out
    assert tab.evaluate(CONTRAST, "a.begin") >= 4.5


def test_in_the_dark_only_links_are_underlined(visit):
    tab = visit("notebooks/02_parts_of_a_cnn.html")
    tab.emulate_media(color_scheme="dark")
    names = tab.locator(".highlight :is(.nc, .nn)")
    assert names.count() > 5
    assert {name.evaluate("n => getComputedStyle(n).textDecorationLine") for name in names.all()} == {"none"}


# Pairs of boxes that touch: what is folded and what follows it, an output and the next.
TOUCHING = """(selector) => [...document.querySelectorAll(selector)].filter((node) => {
    const next = node.nextElementSibling;
    const [above, below] = [node, next].map((box) => box?.getBoundingClientRect());
    return below?.height && above.height && below.top - above.bottom < 8;
}).map((node) => node.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize("page", [LESSON_PAGES[6], LESSON_PAGES[10]])
def test_what_is_folded_and_outputs_keep_their_distance(visit, page):
    tab = visit(page)
    assert tab.locator("section > details").count() > 2
    assert tab.evaluate(TOUCHING, "section > details, .cell_output > *") == []


@pytest.mark.parametrize(
    ("page", "selector"),
    [
        ("notebooks/07_architectures_modern.html", "table.docutils:has(th:nth-child(4)) td + td"),
        ("data/README.html", "#photographs td + td"),
    ],
)
def test_a_table_that_scrolls_on_a_phone_has_room_for_sentences(visit, page, selector):
    cells = visit(page).locator(selector).all()
    assert cells
    assert min(cell.bounding_box()["width"] for cell in cells) >= 140


def test_checksums_leave_room_for_what_a_file_is(visit):
    tab = visit("data/README.html")
    tab.set_viewport_size({"width": 1280, "height": 900})
    assert tab.evaluate(CUT_OFF) == []
    sums = tab.locator("table.docutils td:last-child").all()
    assert {len(each.inner_text().strip()) for each in sums} == {64}


# Of each figure: its own width, the width that it is shown with, and how much of it its box hides.
FIGURES = """() => [...document.querySelectorAll("article .figure-box img")].map((image) => {
    const box = image.closest(".figure-box");
    return [image.naturalWidth, Math.round(image.width), box.scrollWidth - box.clientWidth];
})"""


def test_a_figure_scrolls_on_a_phone_and_nowhere_else(visit):
    tab = visit("notebooks/09_batch_norm.html")
    figures = tab.evaluate(FIGURES)
    assert len(figures) > 10
    for own, shown, hidden in figures:
        assert shown == min(own, 640)  # there its words are still about eight pixels high
        assert hidden > 0
    tab.set_viewport_size({"width": 1280, "height": 900})
    assert {hidden for _, _, hidden in tab.evaluate(FIGURES)} == {0}


def test_in_the_dark_a_figure_lies_on_a_card(visit):
    tab = visit("notebooks/09_batch_norm.html")
    style = """() => [...document.querySelectorAll("article .figure-box")].map(getComputedStyle)
        .map((box) => [box.padding, box.borderRadius, box.backgroundColor, box.filter].join("; "))"""
    for scheme, card in (
        ("light", "0px; 3.2px; rgb(255, 255, 255); none"),
        ("dark", "8px; 9.6px; rgb(255, 255, 255); brightness(0.88)"),
    ):
        tab.emulate_media(color_scheme=scheme)
        assert set(tab.evaluate(style)) == {card}


def test_formulas_are_found_at_all(visit):
    assert visit("notebooks/09_batch_norm.html").evaluate(FACTS)["typeset"] > 20


def search(tab, text):
    tab.set_viewport_size({"width": 1500, "height": 844})
    tab.get_by_role("textbox", name="Search").first.fill(text)
    with tab.expect_navigation():
        tab.keyboard.press("Enter")


def test_search_finds_sections_shows_excerpts_and_leads_there(visit):
    tab = visit("notebooks/00_start_here.html")
    search(tab, "receptive field")
    result = tab.locator("#search-results li").filter(has=tab.locator("a[href*='02_parts_of_a_cnn']")).first
    result.wait_for()
    assert "02 · The parts of a CNN › " in result.inner_text()
    assert {text.lower() for text in result.locator("mark").all_inner_texts()} >= {"receptive", "field"}
    anchor = result.locator("a").get_attribute("href").partition("#")[2]
    result.locator("a").click()
    tab.wait_for_url("**/02_parts_of_a_cnn.html*")  # until it is loaded whole
    assert "02 · The parts of a CNN" in tab.title()
    assert "receptive field" in tab.locator(f"section[id='{anchor}']").inner_text().lower()


def test_search_finds_exercises_by_name_and_says_so_when_there_is_nothing(visit):
    tab = visit("index.html")
    search(tab, "PrintedNet")
    first = tab.locator("#search-results a").first
    assert first.inner_text() == "03 · A CNN for handwritten digits › Exercise 03.PrintedNet"
    search(tab, "zyzzyva")
    assert "No sections have “zyzzyva”" in tab.locator("#search-summary").inner_text()


@pytest.mark.parametrize(
    "text", ["Grad-CAM", "cross_entropy", "3 × 3", "(N, C, H, W)", "center_crop()", "1e-3"]
)
def test_search_takes_words_with_signs_in_them(visit, text):
    tab = visit("index.html")
    search(tab, text)
    assert tab.locator("#search-results li").count() > 0
    assert f"“{text}”" in tab.locator("#search-summary").inner_text()


def test_search_for_signs_alone_finds_nothing_and_says_so(visit):
    tab = visit("index.html")
    search(tab, "×")
    assert "No sections have “×”" in tab.locator("#search-summary").inner_text()


def test_an_excerpt_of_the_search_cuts_no_word_in_two(visit):
    tab = visit("search.html?q=padding")
    texts = dict(tab.evaluate("SECTIONS.map(([, , address, text]) => [address, ` ${text} `])"))
    items = tab.locator("#search-results li").all()
    assert len(items) > 20
    for item in items:
        file, _, rest = item.locator("a").get_attribute("href").partition("?highlight=padding")
        part = item.locator("p").inner_text().removeprefix("… ").removesuffix(" …")
        assert f" {part} " in texts[file + rest]


def test_icons_do_not_touch_on_a_phone(visit):
    tab = visit("notebooks/00_start_here.html")
    icons = tab.locator(".mobile-header .header-right > *").all()
    boxes = sorted((box for icon in icons if (box := icon.bounding_box())), key=lambda box: box["x"])
    assert len(boxes) == 2
    assert boxes[1]["x"] - boxes[0]["x"] - boxes[0]["width"] > 4


# The smallest contrast of the text that a selector finds, as WCAG 2.2 defines it (success criterion 1.4.3).
CONTRAST = """(selector) => {
    const rgba = (color) => { const n = color.match(/[0-9.]+/g).map(Number); return [...n, 1].slice(0, 4); };
    const luminance = (color) => color.slice(0, 3)
        .map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (node) => {
        const color = rgba(getComputedStyle(node).backgroundColor), part = color[3];
        if (part === 1 || !node.parentElement) return color;
        return ground(node.parentElement).map((below, i) => color[i] * part + below * (1 - part));
    };
    const found = [...document.querySelectorAll(selector)].filter((node) => node.textContent.trim());
    const ratios = found.map((node) => {
        const pair = [luminance(rgba(getComputedStyle(node).color)), luminance(ground(node))].sort();
        return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    });
    return Math.min(...ratios);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_in_dark(visit, scheme):
    tab = visit("notebooks/02_parts_of_a_cnn.html")
    tab.emulate_media(color_scheme=scheme)
    assert tab.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    claims = ".output.text_html > div[style^='border-left']"
    for selector in (
        "article p",
        "article a",
        f"{claims}, {claims} b, {claims} summary",
        "table.dataframe :is(th, td)",
        "table[id^='T_'] :is(th, td)",
        "table.docutils :is(th, td)",
        ".cell_input pre, .cell_input span",
        ".output.stream pre",
        "details.hide p",
        "mjx-container",
    ):
        assert tab.evaluate(CONTRAST, selector) >= 4.5, selector


def test_what_the_search_marks_can_be_read_in_the_dark(visit):
    tab = visit("search.html?q=padding")
    tab.emulate_media(color_scheme="dark")
    assert tab.locator("mark").count() > 20
    assert tab.evaluate(CONTRAST, "mark") >= 4.5


# What a finger has to hit and is smaller than 24 CSS pixels (WCAG 2.2, success criterion 2.5.8). A number's
# cell belongs to the number.
TARGETS = """() => {
    const found = "article :is(button, select, input, summary), .content-icon-container a";
    return [...document.querySelectorAll(found)].filter((node) => {
        const { width, height } = (node.closest(".cnnlib-window td") ?? node).getBoundingClientRect();
        return node.checkVisibility() && Math.min(width, height) < 24;
    }).map((node) => node.outerHTML);
}"""


@pytest.mark.parametrize("page", LESSON_PAGES[1:4])
def test_what_a_finger_has_to_hit_is_large_enough(visit, page):
    assert visit(page).evaluate(TARGETS) == []


def test_without_javascript_a_sentence_says_what_is_missing(browser, home):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(home + "notebooks/03_mnist_cnn.html")
    assert "Without JavaScript, formulas stand" in tab.locator("article").inner_text()
    assert tab.locator(".cell_output:has(.cnnlib-widget) img").first.is_visible()
    tab.goto(home + "search.html")
    assert "The search needs JavaScript" in tab.locator("article").inner_text()
    context.close()


@pytest.mark.parametrize(
    "lacks", ["the book lacks its file _static/widgets/widgets.js", "DecompressionStream"]
)
def test_a_figure_that_cannot_come_alive_stays_and_says_why(browser, site, lacks):
    context = browser.new_context()
    if lacks.startswith("the book"):
        context.route("**/widgets.js", lambda route: route.abort())
    else:
        context.add_init_script("delete window.DecompressionStream")  # as in a browser of 2022
    tab = context.new_page()
    tab.goto(site.as_uri() + "/notebooks/03_mnist_cnn.html")
    figures = tab.locator(".cell_output:has(.cnnlib-widget)")
    for figure in figures.all():
        until(tab, lambda figure=figure: lacks in figure.inner_text())
        assert "does not come alive here" in figure.inner_text()
        assert figure.locator("img").is_visible()
    assert figures.count() == 2
    context.close()


def test_the_notebook_can_be_downloaded(visit, home):
    tab = visit("notebooks/03_mnist_cnn.html")
    button = tab.get_by_title("Download this notebook")
    if home.startswith("file:"):  # the browser shows the notebook, since it is on the disk already
        button.click()
        tab.wait_for_url("**/03_mnist_cnn.ipynb")
        return
    with tab.expect_download() as download:
        button.click()
    assert download.value.suggested_filename == "03_mnist_cnn.ipynb"


# The widgets, alive on the page

from_a_folder = pytest.mark.parametrize("home", ["file"], indirect=True)


def states(lesson):
    """Return the states of a lesson's widgets, by view, as its outputs hold them."""
    cells = [cell for cell in code_cells(read(NOTEBOOKS / f"{lesson}.ipynb")) if "widget" in tags(cell)]
    found = [cell.outputs[0].data[base.MIME] for cell in cells]
    return {state["view"]: state for state in found}


def floats(packed):
    return torch.frombuffer(bytearray(zlib.decompress(b64decode(packed["deflate"]))), dtype=torch.float32)


def run_stored(network, image):
    """Compute a stored network with PyTorch: return its layers' outputs, from the image on."""
    found = [image]
    for layer in network:
        x = found[-1]
        if layer["kind"] == "normalize":
            x = (x - layer["mean"][0]) / layer["std"][0]
        elif layer["kind"] == "conv":
            shape = len(floats(layer["bias"])), x.shape[1], *layer["window"]
            weight = floats(layer["weight"]).view(shape)
            x = F.conv2d(x, weight, floats(layer["bias"]), layer["stride"], layer["padding"])
        elif layer["kind"] == "crop":
            x = x[:, :, layer["rim"] : -layer["rim"], layer["rim"] : -layer["rim"]]
        elif layer["kind"] == "pool":
            x = F.max_pool2d(x, layer["window"], layer["stride"])
        elif layer["kind"] == "relu":
            x = x.relu()
        else:
            bias = floats(layer["bias"])
            x = F.linear(x.flatten(1), floats(layer["weight"]).view(len(bias), -1), bias)
        found.append(x)
    return found


def number(text):
    return float(text.strip().replace("−", "-"))


def pixels(canvas):
    """Return a canvas of grey pixels as floats 0–1, (1, 1, rows, columns)."""
    code = "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    side = int(canvas.get_attribute("width"))
    return torch.tensor(canvas.evaluate(code)).view(1, side, side, 4)[..., 0][None].float() / 255


def at(canvas, across, down):
    """Return the place on the screen of a point of a canvas, given from 0 to 1."""
    canvas.evaluate(
        "c => c.scrollIntoView({ block: 'center', behavior: 'instant' })"
    )  # not under the bar on top
    box = canvas.bounding_box()
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def live(tab, view):
    """Return the part of a page in which a widget is alive."""
    place = tab.locator(".cnnlib-widget").filter(has=tab.locator(SIGNS[view]))
    place.scroll_into_view_if_needed()
    return place.locator(".cnnlib-live")


def choice(widget, label):
    return widget.get_by_role("combobox", name=label, exact=True)


SIGNS = {
    "digit": ".cnnlib-bar",
    "kernel": ".cnnlib-kernel",
    "features": ".cnnlib-grid",
    "network": ".cnnlib-apart",
}


@pytest.fixture
def blank(browser, site):
    """An empty page that knows the script of the book's widgets."""
    page = browser.new_page()
    page.goto("about:blank")
    page.evaluate("document.body.append(document.createElement('script'))")
    source = (site / "_static" / "widgets" / "widgets.js").read_text(encoding="utf-8")
    # an inline script has no address, from which the book's files would be loaded
    page.add_script_tag(content=source.replace("document.currentScript.src", "'https://nowhere.invalid/'"))
    yield page
    page.close()


class Cropped(nn.Sequential):
    """A chain that cuts a rim off the images, as lesson 03's LeanCNN does."""

    def forward(self, images):
        return super().forward(images[:, :, 2:-2, 2:-2])


def other_layers():
    """A network with the kinds of layer that the lesson's has not, away from their defaults."""
    layers = [
        nn.Conv2d(1, 5, (3, 5), stride=2, padding=2, bias=False),
        nn.BatchNorm2d(5),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(3, stride=2),
        nn.Conv2d(5, 7, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(7, 6),
        nn.ReLU(),
        nn.Linear(6, 10, bias=False),
    ]
    with torch.no_grad():
        for tensor in (layers[1].weight, layers[1].bias, layers[1].running_mean, layers[1].running_var):
            tensor.uniform_(0.2, 2)
    return nn.Sequential(Normalize([0.13], [0.31]), Cropped(*layers))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(Normalize([0.13], [0.31]), make_model("simple_cnn")),
        lambda: make_model("lenet5"),
        other_layers,
    ],
    ids=["simple_cnn", "lenet5", "other layers"],
)
def test_the_pages_arithmetic_is_pytorchs(blank, make):
    torch.manual_seed(0)
    model = make().eval()
    image = torch.rand(1, 1, 28, 28)
    network = chain.export(model)
    seen, handles = {}, []
    for name, module in model.named_modules():
        keep = functools.partial(seen.__setitem__, name)
        handles.append(module.register_forward_hook(lambda _m, _i, out, keep=keep: keep(out[0].clone())))
    with torch.no_grad():
        model(image)
    code = """async ([network, pixels]) => {
        const layers = cnnlib.prepare(await cnnlib.unpacked(network));
        const image = { shape: [1, 28, 28], values: Float32Array.from(pixels) };
        const results = cnnlib.forward(layers, image);
        const sums = layers.map((layer, i) => {
            if (layer.kind !== "conv" && layer.kind !== "linear") return null;
            const { shape: [count, rows, columns], values } = results[i + 1];
            const place = [count - 1, rows - 1, Math.floor(columns / 2)];
            return [cnnlib.takeApart(layer, results[i], place).value,
                    values[(place[0] * rows + place[1]) * columns + place[2]]];
        });
        return { values: results.map(({ values }) => [...values]), sums: sums.filter(Boolean) };
    }"""
    found = blank.evaluate(code, [base.packed(network), image.flatten().tolist()])
    largest = 0.0
    for layer, values in zip(network, found["values"][1:], strict=True):
        if layer["kind"] == "crop":
            continue  # what follows could not be right
        expected = seen[layer["name"]]
        assert len(values) == expected.numel(), layer["name"]
        largest = max(largest, (torch.tensor(values) - expected.flatten()).abs().max().item())
    print(f"\nlargest difference from PyTorch: {largest:.1e}")
    assert largest < 2e-5
    for apart, whole in found["sums"]:
        assert apart == pytest.approx(whole, abs=1e-5)


def like_mnist(ink):
    """The oracle of `ink.js`: scaled to 20 pixels with PyTorch, its centre of mass in the middle."""
    rows, columns = (ink.amax(dim=axis).nonzero().flatten() for axis in (1, 0))
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    size = [max(1, round(20 * side / max(box.shape))) for side in box.shape]
    small = F.interpolate(box[None, None], size=size, mode="bilinear", antialias=True)[0, 0].clamp(0, 1)
    image = torch.zeros(28, 28)
    corner = []
    for axis, side in enumerate(size):
        middle = (small.sum(dim=1 - axis) * torch.arange(side)).sum() / small.sum()
        corner.append(min(max(round(14 - middle.item()), 0), 28 - side))
    image[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]] = (255 * small).round()
    return image


def test_a_drawing_is_brought_into_the_form_of_mnists_digits(blank):
    generator = torch.Generator().manual_seed(0)
    inks = []
    for top, left, height, width in [
        (0, 0, 5, 60),
        (30, 65, 97, 47),
        (60, 0, 61, 140),
        (3, 2, 20, 20),
    ]:
        ink = torch.zeros(140, 140)
        ink[top : top + height, left : left + width] = 0.5 + 0.5 * torch.rand(
            height, width, generator=generator
        )
        inks.append(ink)
    heavy = torch.zeros(140, 140)  # its centre of mass would push the long thin line out of the frame
    heavy[10:130, 46:54] = 0.2
    heavy[10:30, 20:77] = 1
    code = "ink => [...cnnlib.likeMnist(Float32Array.from(ink), 140)]"
    for ink in [*inks, heavy]:
        image = torch.tensor(blank.evaluate(code, ink.flatten().tolist())).view(28, 28)
        assert (image - like_mnist(ink)).abs().max() <= 1
    dot = torch.zeros(140, 140)
    dot[9, 9] = 1
    image = torch.tensor(blank.evaluate(code, dot.flatten().tolist()))
    assert image.sum() == image.max() * 400 == 255 * 400  # 20 × 20 pixels
    assert not any(blank.evaluate("[...cnnlib.likeMnist(cnnlib.rasterize([]))]"))


def test_strokes_become_ink_of_the_pens_width(blank):
    code = "strokes => [...cnnlib.rasterize(strokes, 0.1, 200)]"
    ink = torch.tensor(blank.evaluate(code, [[[0.25, 0.5], [0.75, 0.5]]])).view(200, 200)
    assert ink[:, 100].sum().item() == pytest.approx(20, abs=0.5)  # 0.1 · 200
    assert ink[100].sum().item() == pytest.approx(100 + 20, abs=1)  # round ends reach half a pen further
    dot = torch.tensor(blank.evaluate(code, [[[0.5, 0.5]]]))
    assert dot.sum().item() == pytest.approx(math.pi * 10**2, rel=0.01)


def until(tab, condition):
    """Wait until condition() holds: files arrive, and fingers are heard, a little later."""
    for _ in range(100):
        if condition():
            return
        tab.wait_for_timeout(50)
    raise AssertionError(f"it did not happen; the page says:\n{tab.locator('article').inner_text()[-3000:]}")


def shown_logits(widget):
    cells = widget.locator("table tr td:nth-child(3)").all_inner_texts()
    return torch.tensor([number(text) for text in cells])


@from_a_folder
def test_a_widgets_parts_stand_side_by_side_on_a_usual_screen(visit):
    tab = visit("notebooks/01_what_layers_learn.html")
    tab.set_viewport_size({"width": 1280, "height": 900})
    columns = live(tab, "features").locator(".cnnlib-column")
    assert len({column.bounding_box()["y"] for column in columns.all()}) == 1
    tab.goto(tab.url.replace("01_what_layers_learn", "03_mnist_cnn"))
    parts = live(tab, "digit").locator(".cnnlib-beside").first.locator(":scope > *")
    assert len({part.bounding_box()["y"] for part in parts.all()}) == 1
    digits = tab.locator(".cnnlib-digits button")
    assert digits.count() == 20
    assert len({digit.bounding_box()["y"] for digit in digits.all()}) == 2  # a row in each widget


@from_a_folder
def test_no_printed_sentence_is_cut_off_on_a_wide_page(visit):
    tab = visit("notebooks/02_parts_of_a_cnn.html")
    tab.set_viewport_size({"width": 1300, "height": 900})
    cut = (
        "() => [...document.querySelectorAll('.output.stream pre')].map((p) => p.scrollWidth - p.clientWidth)"
    )
    hidden = tab.evaluate(cut)
    assert len(hidden) > 5
    assert max(hidden) <= 0


@from_a_folder
def test_a_digit_drawn_on_the_page_is_read_as_pytorch_reads_it(visit):
    tab = visit("notebooks/03_mnist_cnn.html")
    tab.set_viewport_size({"width": 1300, "height": 900})
    digit, network = live(tab, "digit"), states("03_mnist_cnn")["digit"]["network"]
    pad, seen = digit.locator("canvas").nth(0), digit.locator("canvas").nth(1)
    assert "It reads 7" in digit.inner_text()
    before = [shown_logits(digit), *(c.evaluate("c => c.toDataURL()") for c in digit.locator("canvas").all())]
    tab.mouse.move(*at(pad, 0.5, 0.15))
    tab.mouse.down()
    tab.mouse.move(*at(pad, 0.52, 0.85), steps=12)
    assert "It reads 1" in digit.inner_text()  # while the button is down
    tab.mouse.up()
    after = [shown_logits(digit), *(c.evaluate("c => c.toDataURL()") for c in digit.locator("canvas").all())]
    assert all(a != b for a, b in zip(before[1:], after[1:], strict=True))  # pad, image, and maps
    assert len(after) == 1 + 4
    expected = run_stored(network, pixels(seen))[-1][0]
    difference = (after[0] - expected).abs().max().item()
    print(f"\nlargest difference of a logit shown with one decimal from PyTorch's: {difference:.3f}")
    assert difference < 0.0501
    assert not torch.allclose(before[0], after[0], atol=1)
    digit.get_by_role("button", name="Clear").click()
    assert "Nothing is drawn" in digit.inner_text()


@from_a_folder
def test_the_pad_can_be_reached_and_drawn_on_with_keys(visit):
    tab = visit("notebooks/03_mnist_cnn.html")
    digit = live(tab, "digit")
    digit.get_by_role("button", name="Clear").click()
    tab.keyboard.press("Shift+Tab")
    assert digit.locator("canvas").nth(0).evaluate("canvas => document.activeElement === canvas")
    for _ in range(3):
        tab.keyboard.press("Shift+ArrowUp")
    assert "Nothing is drawn" in digit.inner_text()  # the pen moves, lifted
    tab.keyboard.press("Space")
    for _ in range(5):
        tab.keyboard.press("Shift+ArrowDown")
    assert "It reads 1" in digit.inner_text()
    tab.keyboard.press("Space")
    tab.keyboard.press("Delete")
    assert "Nothing is drawn" in digit.inner_text()


@from_a_folder
def test_a_value_is_taken_apart_down_to_the_pixels(visit):
    tab = visit("notebooks/03_mnist_cnn.html")
    tab.set_viewport_size({"width": 1300, "height": 900})
    state = states("03_mnist_cnn")["network"]
    apart = live(tab, "network")
    details, tiles = apart.locator(".cnnlib-details"), apart.locator(".cnnlib-tiles")
    image = pixels(live(tab, "digit").locator("canvas").nth(1))  # both begin with the same 7
    layers = run_stored(state["network"], image)
    layers.append(layers[-1].softmax(dim=1))

    def value():
        index, channel, row, column = apart.evaluate("el => el.parentElement.model.get('chosen')")
        found = layers[index][0]
        return (found[channel] if found.ndim == 1 else found[channel, row, column]).item()

    def told():
        return number(details.locator("b").first.inner_text())

    kinds = [layer["kind"] for layer in state["network"]]
    for index in range(1 + len(kinds) + 1):  # a value of each layer, the image and the softmax included
        tab.mouse.click(*at(tiles.nth(index), 0.3, 0.7))
        assert apart.evaluate("el => el.parentElement.model.get('chosen')[0]") == index
        assert told() == pytest.approx(value(), abs=6e-4)
    conv = max(i for i, kind in enumerate(kinds) if kind == "conv")
    tab.mouse.click(*at(tiles.nth(conv + 1), 0.2, 0.3))
    terms = [number(text) for text in details.locator(".cnnlib-terms .cnnlib-number").all_inner_texts()]
    bias = number(details.locator("i").inner_text().replace("+ ", "").replace("− ", "-").partition(" ")[0])
    assert sum(terms) + bias == pytest.approx(value(), abs=5e-3)
    assert details.locator(".cnnlib-sum b").inner_text() == details.locator("b").first.inner_text()
    assert f"{len(terms) * 25} products" in details.inner_text()
    products = [number(t.rpartition("=")[2]) for t in details.locator(".cnnlib-window td").all_inner_texts()]
    opened = number(details.locator("tr.cnnlib-open .cnnlib-number").inner_text())
    assert sum(products) == pytest.approx(opened, abs=25 * 0.005)
    for _ in range(20):  # each number leads on to the value that it stands for, down to a pixel
        if "A pixel, the byte" in details.inner_text():
            break
        details.locator(".cnnlib-link").first.click()
        assert told() == pytest.approx(value(), abs=6e-4)
    assert "A pixel, the byte" in details.inner_text()
    tab.keyboard.press("Tab")
    tiles.nth(0).focus()
    before = apart.evaluate("el => el.parentElement.model.get('chosen')")
    tab.keyboard.press("ArrowRight" if before[3] < 27 else "ArrowLeft")
    assert apart.evaluate("el => el.parentElement.model.get('chosen')") != before


@from_a_folder
def test_a_kernel_is_taken_apart_on_the_page(visit):
    tab = visit("notebooks/02_parts_of_a_cnn.html")
    tab.set_viewport_size({"width": 1300, "height": 900})
    kernel = live(tab, "kernel")
    before, after = kernel.locator("canvas").all()
    image = explore_kernel("coffee").image.double()
    choice(kernel, "photograph").select_option("coffee")
    until(tab, lambda: "coffee" in before.get_attribute("aria-label"))
    choice(kernel, "kernel").select_option("emboss")
    choice(kernel, "stride").select_option("2")
    choice(kernel, "padding").select_option("1")
    weight = torch.tensor([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=torch.float64)
    expected = F.conv2d(image, weight[None, None], None, 2, 1)[0, 0]
    tab.mouse.click(*at(after, 0.5, 0.25))
    assert "output row 20, column 40: " in kernel.inner_text()
    assert number(kernel.locator("b").inner_text()) == expected[20, 40].item()
    tab.keyboard.press("ArrowRight")
    assert number(kernel.locator("b").inner_text()) == expected[20, 41].item()
    tab.mouse.click(*at(before, 0.003, 0.003))
    assert number(kernel.locator("b").inner_text()) == expected[0, 0].item()
    drawn = after.evaluate("c => c.toDataURL()")
    field = kernel.get_by_label("kernel, row 2, column 2")
    for text in ("one", "1/0", "1001", "", "1+1", "1e999"):
        field.fill(text)
        field.press("Enter")
        assert "it must" in kernel.get_by_role("alert").inner_text()
    assert after.evaluate("c => c.toDataURL()") == drawn  # a bad number changes nothing
    field.fill("−0,5")
    field.press("Enter")
    assert kernel.get_by_role("alert").count() == 0
    assert number(kernel.locator("b").inner_text()) == expected[0, 0].item() - 1.5 * image[0, 0, 0, 0].item()
    assert choice(kernel, "kernel").input_value() == "my own"


@from_a_folder
def test_a_photograph_that_arrives_late_does_not_replace_the_one_chosen_last(visit):
    tab = visit("notebooks/02_parts_of_a_cnn.html")
    kernel = live(tab, "kernel")
    slow = """el => {
        const model = el.parentElement.model, answer = model.answer.bind(model);
        model.answer = async ([number, name]) => {
            if (name === "coffee") await new Promise((arrive) => { window.arrive = arrive; });
            return answer([number, name]);
        };
    }"""
    kernel.evaluate(slow)
    choice(kernel, "photograph").select_option("coffee")
    choice(kernel, "photograph").select_option("china")
    photo = kernel.locator("canvas").first
    until(tab, lambda: "china" in photo.get_attribute("aria-label"))
    shown = photo.evaluate("c => c.toDataURL()")
    china = kernel.evaluate("el => el.parentElement.model.get('answer').number")
    tab.evaluate("window.arrive()")
    until(tab, lambda: kernel.evaluate("el => el.parentElement.model.get('answer').number") < china)
    tab.wait_for_timeout(200)
    assert choice(kernel, "photograph").input_value() == "china"
    assert "china" in photo.get_attribute("aria-label")
    assert photo.evaluate("c => c.toDataURL()") == shown


@from_a_folder
def test_vgg16s_maps_are_walked_through_on_the_page(visit):
    tab = visit("notebooks/01_what_layers_learn.html")
    tab.set_viewport_size({"width": 1300, "height": 900})
    walk = live(tab, "features")
    scene, over, grid = walk.locator("canvas").all()

    def seen():
        return [canvas.evaluate("c => c.toDataURL()") for canvas in (scene, over, grid)]

    def told():
        return float(walk.locator("b").inner_text())

    explorer = explore_features(photos=["coffee"])
    first = seen()
    choice(walk, "photograph").select_option("coffee")
    until(tab, lambda: "coffee" in scene.get_attribute("aria-label"))
    changed = seen()
    assert all(a != b for a, b in zip(first, changed, strict=True))
    assert int(walk.locator("input[type=number]").input_value()) == explorer.strongest[0]
    assert told() == pytest.approx(explorer.maps[explorer.strongest[0]].max().item(), abs=0.01)
    choice(walk, "layer").select_option("block2")
    until(tab, lambda: ", block2, " in walk.inner_text())
    assert seen()[1:] != changed[1:]
    assert "every second row and column" in walk.inner_text()
    tab.mouse.click(*at(scene, 0.4, 0.6))
    row, column, channel = map(
        int, re.search(r"row (\d+), column (\d+) of channel (\d+), block2", walk.inner_text()).groups()
    )
    explorer.layer = "block2"
    value = explorer.maps[channel, row, column].item()
    assert told() == pytest.approx(value, abs=explorer.maps[channel].max().item() / 255 + 0.005)
    choice(walk, "strongest").select_option("at the framed place")
    tab.mouse.click(*at(grid, 0.4, 0.12))
    assert str(channel) != walk.locator("input[type=number]").input_value()
    assert f"row {row}, column {column} " in walk.inner_text()  # comparing channels keeps the place


@from_a_folder
def test_every_photograph_has_its_maps_and_the_last_choice_counts(visit):
    tab = visit("notebooks/01_what_layers_learn.html")
    walk, state = live(tab, "features"), states("01_what_layers_learn")["features"]
    photos, layers = state["photos"], list(state["layers"])
    for number, photo in enumerate(reversed(photos)):
        for layer in layers[number % 2 :: 2]:  # chosen before what was chosen last has arrived
            choice(walk, "photograph").select_option(photo)
            choice(walk, "layer").select_option(layer)
        until(tab, lambda photo=photo: photo in walk.locator("canvas").first.get_attribute("aria-label"))
        until(tab, lambda layer=layer: f", {layer}, " in walk.get_by_role("status").inner_text())
        assert choice(walk, "photograph").input_value() == photo
        assert choice(walk, "layer").input_value() == layer


@from_a_folder
def test_a_finger_that_scrolls_the_page_chooses_nothing(visit):
    tab = visit("notebooks/03_mnist_cnn.html")
    session = tab.context.new_cdp_session(tab)
    apart = live(tab, "network")
    across, down = at(apart.locator(".cnnlib-tiles").nth(3), 0.3, 0.6)
    chosen, top = apart.evaluate("el => el.parentElement.model.get('chosen')"), tab.evaluate("scrollY")
    session.send(
        "Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": across, "y": down}]}
    )
    for step in range(1, 12):
        place = {"x": across, "y": down - 15 * step}
        session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [place]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    until(tab, lambda: tab.evaluate("scrollY") > top + 50)
    assert apart.evaluate("el => el.parentElement.model.get('chosen')") == chosen


@from_a_folder
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_a_finger_draws_and_chooses(browser, visit, scheme):
    tab = visit("notebooks/03_mnist_cnn.html")
    tab.emulate_media(color_scheme=scheme)
    session = tab.context.new_cdp_session(tab)
    digit = live(tab, "digit")
    pad = digit.locator("canvas").nth(0)

    def touch(kind, *places):
        points = [dict(zip("xy", at(pad, *place), strict=True)) for place in places]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    at(pad, 0, 0)
    top = tab.evaluate("scrollY")
    touch("touchStart", (0.5, 0.15))
    for step in range(1, 15):
        touch("touchMove", (0.5, 0.15 + 0.05 * step))
    touch("touchEnd")
    until(tab, lambda: "It reads 1" in digit.inner_text())
    assert tab.evaluate("scrollY") == top  # the finger drew, and did not scroll
    apart = live(tab, "network")
    kinds = [layer["kind"] for layer in states("03_mnist_cnn")["network"]["network"]]
    tile = apart.locator(".cnnlib-tiles").nth(1 + kinds.index("pool"))
    place = dict(zip("xy", at(tile, 0.3, 0.4), strict=True))
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [place]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    details = apart.locator(".cnnlib-details")
    until(tab, lambda: "the largest of the 4 values" in details.inner_text())
    box = details.bounding_box()
    assert 0 <= box["y"] < 844 - 40  # what was tapped and its sum are on the screen together
    assert tab.evaluate(TOO_WIDE) == [0, 0]
    for selector in (
        ".cnnlib-live .cnnlib-words",
        ".cnnlib-live td",
        ".cnnlib-live button",
        ".cnnlib-details div",
    ):
        assert tab.evaluate(CONTRAST, selector) >= 4.5, selector
