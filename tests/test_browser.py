"""The widgets in a real JupyterLab, in headless Chromium: drawn on, clicked, typed into, reopened."""

import json
import re
import urllib.request

import jupyterlab_page as lab
import nbformat
import pytest
from chromium import chromium
from nbformat.v4 import new_code_cell, new_notebook
from notebook_tools import LESSONS, code_cells, read, tags

from cnnlib.course import runner

KERNELSPEC = {"name": "python3", "display_name": "Python 3", "language": "python"}
SETUP = """
import torch
from cnnlib.models import pretrained
from cnnlib.data import load
from cnnlib.models.layers import Normalize
from cnnlib.models import make_model
from cnnlib.train import fit

seed = 0
torch.manual_seed(0)
model = torch.nn.Sequential(Normalize([0.13], [0.31]), make_model("simple_cnn"))
history = fit(model, load("mnist")[:6_000], epochs=2, lr=4e-3, seed=0, progress=False)
models = {seed: model}
vgg = pretrained.vgg16_features()
"""
LIVE = ".cnnlib-live"


def widget_cells():
    """Return the widget cells of the lessons, as they are committed."""
    return [cell for path in LESSONS for cell in code_cells(read(path)) if "widget" in tags(cell)]


def write(path, cells):
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = KERNELSPEC
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def problems():
    """What went wrong in the browser so far; the last test requires that it is empty."""
    return []


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory):
    """A JupyterLab over two notebooks: the lessons' widget cells as committed, and the same to be run."""
    root, home = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("home")
    cells = widget_cells()
    assert len(cells) == 4
    write(root / "committed.ipynb", cells)
    fresh = [new_code_cell(source) for source in (SETUP, *(cell.source for cell in cells))]
    write(root / "live.ipynb", fresh)
    with lab.server(root, home) as (address, token):
        yield root, address, token


@pytest.fixture(scope="module")
def page(browser, site, problems):
    page = lab.new_page(browser, site[1], problems)
    yield page
    page.close()  # before its server ends


@pytest.fixture(scope="module")
def live(site, page):
    """The page with the four widgets alive."""
    lab.open_notebook(page, *site[1:], "live.ipynb")
    lab.run_all(page)
    error = page.locator("[data-mime-type='application/vnd.jupyter.error']")
    until(page, lambda: page.locator(f"{LIVE} canvas").count() > 25 or error.count(), seconds=120)
    assert not error.count(), error.all_inner_texts()
    return page


def widget(page, order):
    """Return the view of one widget: features, kernel, digit, network, in the order of the lessons."""
    view = page.locator(LIVE).nth(order)
    view.scroll_into_view_if_needed()
    until(page, view.inner_text)  # JupyterLab shows a cell that was far away a moment later
    return view


@pytest.fixture
def features(live):
    return widget(live, 0)


@pytest.fixture
def kernel(live):
    return widget(live, 1)


@pytest.fixture
def digit(live):
    return widget(live, 2)


@pytest.fixture
def network(live):
    return widget(live, 3)


def server(site, method, path):
    """Return what the server of JupyterLab says to a request."""
    _, address, token = site
    url = f"{address}/api/{path}?token={token}"
    with urllib.request.urlopen(urllib.request.Request(url, method=method)) as reply:
        return json.loads(reply.read() or "null")


def until(page, condition, seconds=20):
    """Wait until condition() holds, while the page goes on working."""
    for _ in range(seconds * 20):
        if condition():
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"it did not happen; the page says:\n{page.locator('body').inner_text()[-2000:]}")


def pixels(canvas):
    return canvas.evaluate("canvas => canvas.toDataURL()")


def at(canvas, across, down):
    """Return the place on the screen of a point of a canvas, given from 0 to 1."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def test_a_committed_notebook_shows_its_figures_before_it_is_run(site, page):
    lab.open_notebook(page, *site[1:], "committed.ipynb")
    for cell in page.locator(".jp-CodeCell").all():
        cell.scroll_into_view_if_needed()
        image = cell.locator(".jp-RenderedImage img")
        image.wait_for(state="visible")
        assert image.evaluate("image => image.complete && image.naturalWidth") > 600
    assert page.locator(".jp-RenderedImage img").count() == 4
    text = page.locator(".jp-Notebook").inner_text()
    assert not re.search("error|loading widget|text/plain", text, flags=re.I)


def test_a_live_widget_hides_its_static_figure(live):
    assert live.locator(LIVE).count() == 4
    assert live.locator(".jp-RenderedImage").count() == 4
    assert live.locator(".jp-RenderedImage").locator("visible=true").count() == 0


def test_drawing_with_the_mouse_changes_logits_and_maps_while_the_button_is_down(live, digit):
    mouse, pad = live.mouse, digit.locator("canvas").nth(0)
    assert "It reads 7" in digit.inner_text()  # the example that it begins with
    digit.get_by_role("button", name="Clear").click()
    until(live, lambda: "Nothing is drawn" in digit.inner_text())
    empty = [pixels(canvas) for canvas in digit.locator("canvas").all()]
    mouse.move(*at(pad, 0.5, 0.15))
    mouse.down()
    mouse.move(*at(pad, 0.5, 0.5), steps=8)
    until(live, lambda: "It reads" in digit.inner_text())
    half = digit.locator("table").inner_text()
    mouse.move(*at(pad, 0.5, 0.85), steps=8)
    mouse.up()
    until(live, lambda: "It reads 1" in digit.inner_text())
    until(live, lambda: digit.locator("table").inner_text() != half)
    drawn = [pixels(canvas) for canvas in digit.locator("canvas").all()]
    assert len(drawn) == len(empty) == 4  # the pad, what the network sees, and the maps of two convolutions
    assert not set(drawn) & set(empty)


def test_a_second_stroke_turns_the_1_into_another_digit(live, digit):
    """The strokes of one drawing add up: the 1 of the test before gets a bow and a foot, as a 2 has."""
    pad = digit.locator("canvas").nth(0)
    digit.get_by_role("button", name="Clear").click()
    places = [(0.28, 0.3), (0.36, 0.17), (0.5, 0.12), (0.66, 0.18), (0.7, 0.32), (0.6, 0.48), (0.28, 0.82)]
    live.mouse.move(*at(pad, *places[0]))
    live.mouse.down()
    for place in places[1:]:
        live.mouse.move(*at(pad, *place), steps=5)
    live.mouse.up()
    live.mouse.move(*at(pad, 0.28, 0.82))
    live.mouse.down()
    live.mouse.move(*at(pad, 0.75, 0.82), steps=8)
    live.mouse.up()
    until(live, lambda: "It reads 2" in digit.inner_text())


def test_a_finger_draws_too(live, digit):
    pad, session = digit.locator("canvas").nth(0), live.context.new_cdp_session(live)
    digit.get_by_role("button", name="Clear").click()
    until(live, lambda: "Nothing is drawn" in digit.inner_text())

    def touch(kind, *places):
        points = [dict(zip("xy", at(pad, *place), strict=True)) for place in places]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (0.5, 0.15))
    for step in range(1, 15):
        touch("touchMove", (0.5, 0.15 + 0.05 * step))
    touch("touchEnd")
    until(live, lambda: "It reads 1" in digit.inner_text())


def test_an_example_is_read_and_gives_way_to_a_drawing(live, digit):
    digit.get_by_role("button", name="3", exact=True).click()
    until(live, lambda: "It reads 3" in digit.inner_text())
    pad = digit.locator("canvas").nth(0)
    shown = pixels(pad)
    live.mouse.click(*at(pad, 0.5, 0.5))
    until(live, lambda: pixels(pad) != shown)
    dark = "canvas => canvas.getContext('2d').getImageData(10, 10, 1, 1).data[0]"
    assert pad.evaluate(dark) == 0


def test_an_edited_kernel_changes_the_output_and_the_sum(live, kernel):
    output = kernel.locator("canvas").nth(1)
    before, table = pixels(output), kernel.locator("table").nth(1).inner_text()
    field = kernel.locator("input[type=text]").nth(4)
    field.fill("1/2")
    field.press("Enter")
    until(live, lambda: kernel.locator("table").nth(1).inner_text() != table)
    until(live, lambda: pixels(output) != before)
    assert "0.5" in kernel.locator("table").nth(1).inner_text()
    assert "its sum: 0.5" in kernel.inner_text()


def test_a_number_that_is_none_is_explained_and_then_forgiven(live, kernel):
    field = kernel.locator("input[type=text]").nth(0)
    field.fill("abc")
    field.press("Enter")
    alert = kernel.get_by_role("alert")
    alert.wait_for()
    assert "kernel, row 1, column 1 is 'abc'; it must be a number" in alert.inner_text()
    field.fill("-1")
    field.press("Enter")
    until(live, lambda: alert.count() == 0)


def test_click_and_arrow_keys_choose_the_pixel(live, kernel):
    photo = kernel.locator("canvas").nth(0)
    live.mouse.click(*at(photo, 0.5, 0.25))
    until(live, lambda: "output row 39, column 79" in kernel.inner_text())
    live.keyboard.press("ArrowRight")
    until(live, lambda: "output row 39, column 80" in kernel.inner_text())
    live.keyboard.press("Shift+ArrowDown")
    until(live, lambda: "output row 49, column 80" in kernel.inner_text())
    live.keyboard.press("Tab")  # the picture lets go of the keyboard
    assert photo.evaluate("canvas => document.activeElement !== canvas")


def test_the_mouse_wheel_still_scrolls_the_page(live, kernel):
    live.mouse.move(*at(kernel.locator("canvas").nth(0), 0.5, 0.5))
    top = kernel.bounding_box()["y"]
    live.mouse.wheel(0, -60)
    until(live, lambda: kernel.bounding_box()["y"] != top)


def test_a_network_is_taken_apart(live, network):
    details, tiles = network.locator(".cnnlib-details"), network.locator(".cnnlib-tiles")
    assert "400 products" in details.inner_text()  # 16 maps under kernels of 5 × 5
    live.mouse.click(*at(tiles.nth(2), 0.2, 0.3))
    until(live, lambda: "25 products" in details.inner_text())
    before = details.inner_text()
    live.keyboard.press("ArrowDown")
    until(live, lambda: details.inner_text() != before)
    details.locator(".cnnlib-link").first.click()
    until(live, lambda: "(" in details.inner_text() and "0.13" in details.inner_text())  # normalised


def test_the_sum_stays_in_sight_beside_the_maps_far_below(live, network):
    details, tiles = network.locator(".cnnlib-details"), network.locator(".cnnlib-tiles")
    tiles.nth(5).evaluate("node => node.scrollIntoView({block: 'center'})")
    top = "node => node.getBoundingClientRect().top"
    assert tiles.nth(0).evaluate(top) < 0 < details.evaluate(top) < 200


def test_the_feature_explorer_moves_through_layers_channels_and_places(live, features):
    scene, laid_over, grid = features.locator("canvas").all()
    assert "196 × 196 pixels" in features.inner_text()
    assert "The black square" in features.inner_text()
    before = [pixels(canvas) for canvas in (scene, laid_over, grid)]
    features.locator("select").nth(1).select_option("block2")
    until(live, lambda: "14 × 14 pixels" in features.inner_text())
    until(live, lambda: all(pixels(c) != b for c, b in zip((scene, laid_over, grid), before, strict=True)))
    live.mouse.click(*at(grid, 0.25, 0.2))  # the second tile
    number = features.locator("input[type=number]")
    channel = number.input_value()
    live.mouse.click(*at(grid, 0.4, 0.2))  # the third
    until(live, lambda: number.input_value() != channel)
    live.mouse.click(*at(scene, 0.5, 0.5))
    until(live, lambda: "row 56, column 56 " in features.inner_text())
    number.fill("7")
    number.press("Enter")
    until(live, lambda: "channel 7, block2" in features.inner_text())


def test_what_is_asked_for_while_the_kernel_is_busy_is_answered(live, features):
    """In one turn of the browser, so that the kernel cannot have heard of the first change."""
    hasty = """view => {
        const [number] = view.querySelectorAll("input[type=number]");
        const [photo, layer] = view.querySelectorAll("select");
        const change = (node, value) => {
            node.value = value;
            node.dispatchEvent(new Event("change"));
        };
        change(number, "5");
        change(layer, "block4");
        change(photo, "china");
    }"""
    features.evaluate(hasty)
    scene = features.locator("canvas").nth(0)
    until(live, lambda: "china" in scene.get_attribute("aria-label"))
    assert features.locator("select").nth(1).input_value() == "block4"


def test_another_photograph_and_a_wrong_path(live, features):
    scene = features.locator("canvas").nth(0)
    before = pixels(scene)
    features.locator("select").nth(0).select_option("coffee")
    until(live, lambda: pixels(scene) != before)
    path = features.locator("input[type=text]").nth(0)
    path.fill("nowhere.jpg")
    path.press("Enter")
    alert = features.get_by_role("alert")
    alert.wait_for()
    assert "there is no photograph 'nowhere.jpg'" in alert.inner_text()


def test_a_kernel_that_was_restarted_does_not_answer_and_this_is_said(site, live, features):
    (session,) = (s for s in server(site, "GET", "sessions") if s["path"] == "live.ipynb")
    server(site, "POST", f"kernels/{session['kernel']['id']}/restart")
    live.wait_for_timeout(1000)
    features.locator("select").nth(1).select_option("block1")
    alert = features.locator(".cnnlib-alert")
    until(live, lambda: "run the cell again" in alert.inner_text())
    assert "restarted" in alert.inner_text()


def test_a_notebook_saved_and_reopened_without_its_kernel_keeps_the_figures(site, live, problems):
    root, address, token = site
    live.locator("[data-command='docmanager:save']").first.click()
    until(live, lambda: runner.WIDGET_VIEW in (root / "live.ipynb").read_text(encoding="utf-8"))

    # The arithmetic of the pad is the browser's: it goes on where the kernel has ended.
    found = len(problems)
    for session in server(site, "GET", "sessions"):
        server(site, "DELETE", f"sessions/{session['id']}")
    pad = widget(live, 2)
    live.wait_for_timeout(500)
    pad.get_by_role("button", name="3", exact=True).click()
    until(live, lambda: "It reads 3" in pad.inner_text())
    broken = "view => getComputedStyle(view, '::before').content"
    assert {view.evaluate(broken) for view in live.locator(LIVE).all()} <= {"none", "normal"}
    live.goto("about:blank")
    lab.open_notebook(live, address, token, "live.ipynb")
    until(live, lambda: "model not found" in live.locator(".jp-Notebook").text_content())
    assert live.locator(".jp-RenderedImage").locator("visible=true").count() == 4
    said = live.locator(".jp-OutputArea-output.jupyter-widgets").first
    said = said.evaluate("node => getComputedStyle(node, '::after').content")
    assert "Run this cell to bring the figure alive." in said
    # The widget manager tells the console that the models died with their kernel and, where a click
    # falls between the kernel's end and the moment it hears of it, that its message went nowhere.
    told = ("model not found", "Could not send widget sync message Error: Cannot send")
    problems[found:] = [p for p in problems[found:] if not any(known in p for known in told)]


def test_nothing_went_wrong_in_the_browser_and_no_other_host_was_asked(live, problems):
    assert problems == []
