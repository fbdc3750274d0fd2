"""The book: it builds without a warning, and every page works in a browser, offline."""

import functools
import hashlib
import http.server
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from chromium import chromium
from notebook_tools import LESSONS, code_cells, read, tags

from cnnlib.ground.env import ROOT

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
def test_a_lesson_offers_its_notebook(site, path):
    page = site / "notebooks" / f"{path.stem}.html"
    (link,) = [a for a in Page(page).links if "download" in a and a["href"].endswith(".ipynb")]
    assert (page.parent / link["href"]).read_bytes() == path.read_bytes()


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
    shutil.copy2(site / "searchindex.js", earlier)
    failed = run_build(earlier, before="build.PAGES = ('data/README.md',)")
    assert failed.returncode == 1
    assert "WARNING" in failed.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    assert [path.name for path in earlier.iterdir()] == ["searchindex.js"]


def test_the_learners_copy_links_to_no_script_that_it_lacks(tmp_path):
    copy = tmp_path / "copy"
    (copy / "data").mkdir(parents=True)
    for name in ("README.md", "data/README.md", "data/SHA256SUMS"):
        shutil.copy2(ROOT / name, copy / name)
    gather = f"build.ROOT = Path('{copy}'); sys.exit(build.gather(Path('{tmp_path}/pages')))"
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
    context = browser.new_context(viewport={"width": 390, "height": 844})
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
        return tab

    yield visit
    context.close()
    assert wrong == []


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


@pytest.mark.parametrize("page", PAGES)
def test_a_page_works(visit, page):
    tab = visit(page)
    facts = tab.evaluate(FACTS)
    assert facts.pop("typeset") == facts.pop("formulas")
    assert facts == {"mistakes": [], "left": [], "blank": []}
    for width in (390, 1100, 1500):
        tab.set_viewport_size({"width": width, "height": 844})
        assert tab.evaluate(TOO_WIDE) == [0, 0], f"{width} pixels wide"


def test_formulas_are_found_at_all(visit):
    assert visit("notebooks/09_batch_norm.html").evaluate(FACTS)["typeset"] > 20


def test_search_finds_a_word_and_leads_to_it(visit):
    tab = visit("notebooks/00_start_here.html")
    tab.set_viewport_size({"width": 1500, "height": 844})
    tab.get_by_role("textbox", name="Search").fill("receptive")
    tab.keyboard.press("Enter")
    result = tab.locator("#search-results li a[href*='02_parts_of_a_cnn']").first
    result.wait_for()
    tab.wait_for_load_state("networkidle")  # excerpts of all pages are fetched: a click would break that off
    result.click()
    tab.wait_for_url("**/02_parts_of_a_cnn.html*")  # until it is loaded whole
    assert "02 · The parts of a CNN" in tab.title()
    assert "receptive" in tab.locator("article").inner_text().lower()


# The smallest contrast of the text that a selector finds, as WCAG 2.2 defines it (success criterion 1.4.3).
CONTRAST = """(selector) => {
    const rgba = (color) => { const n = color.match(/[0-9.]+/g).map(Number); return [...n, 1].slice(0, 4); };
    const luminance = (color) => color.slice(0, 3)
        .map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (node) => {
        const color = rgba(getComputedStyle(node).backgroundColor);
        return color[3] || !node.parentElement ? color : ground(node.parentElement);
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
        "table.docutils :is(th, td)",
        ".cell_input pre, .cell_input span",
        ".output.stream pre",
        "details.hide p",
        "mjx-container",
    ):
        assert tab.evaluate(CONTRAST, selector) >= 4.5, selector


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
