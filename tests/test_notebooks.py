"""The conventions that every lesson keeps. That each of them runs is nbval's part; see the Makefile."""

import ast
import re

import pytest
from notebook_tools import LESSONS, code_cells, read, tags

from cnnlib.course import runner
from cnnlib.ground.env import ROOT

TAGS = {"parameters", "setup", "exercise", "check", "widget", "nbval-check-output"}

each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def test_lessons_are_numbered_without_duplicates():
    numbers = [path.stem[:2] for path in LESSONS]
    assert len(numbers) == len(set(numbers))
    assert numbers[0] == "00"


@each_lesson
def test_it_begins_with_its_number_and_title(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(rf"# {path.stem[:2]} · \S", first.source)


@each_lesson
def test_its_parameters_are_commented_literals(path):
    parameters = runner.read_parameters(path)
    assert {"seed", "profile", "device"} <= set(parameters)
    assert all(parameter.comment for parameter in parameters.values())
    assert (parameters["seed"].default, parameters["profile"].default) == (0, "fast")


@each_lesson
def test_its_tags_are_known(path):
    found = {tag for cell in read(path).cells for tag in tags(cell)}
    assert {tag for tag in found if not tag.startswith("defines-")} <= TAGS
    assert {"parameters", "setup"} <= found


@each_lesson
def test_cells_are_short_and_have_ids_of_their_own(path):
    notebook = read(path)
    ids = [cell.id for cell in notebook.cells]
    assert len(ids) == len(set(ids))
    for cell in code_cells(notebook):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= 15, f"cell {cell.id!r} has {len(lines)} lines"


@each_lesson
def test_it_was_run_from_top_to_bottom(path):
    cells = code_cells(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]
    assert not [o for cell in cells for o in cell.outputs if o.get("name") == "stderr"]


@each_lesson
def test_every_claim_it_shows_holds_and_excludes_its_rivals(path):
    claims = runner.claims(read(path))
    assert claims
    for claim in claims:
        assert claim["holds"], claim["text"]
        assert claim["rivals"], claim["text"]
        assert all(rival["excluded"] and rival["numbers"] for rival in claim["rivals"]), claim["text"]


@each_lesson
def test_every_claim_it_makes_names_rivals(path):
    made = 0
    for cell in code_cells(read(path)):
        for node in ast.walk(ast.parse(re.sub(r"^[%!].*", "", cell.source, flags=re.M))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "claim":
                made += 1
                named = {keyword.arg for keyword in node.keywords}
                assert len(node.args) >= 4 or "rivals" in named, f"cell {cell.id!r}"
    assert made


@each_lesson
def test_its_free_exercises_come_with_a_folded_solution_or_hint(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown" and "**Exercise" in cell.source and not cell.id.startswith("task-"):
            assert re.search(r"<details>\s*<summary>(Solution|Hint)", cell.source), f"cell {cell.id!r}"


@each_lesson
def test_it_is_small_and_names_no_machine(path):
    assert path.stat().st_size < 1_500_000
    text = path.read_text(encoding="utf-8")
    assert str(ROOT) not in text
    assert not re.search(r"/(home|Users|root|tmp)/\w", re.sub(r'"image/png": "[^"]*"', "", text))
    assert "papermill" not in read(path).metadata


@each_lesson
def test_no_line_that_told_how_far_it_was_is_left(path):
    for cell in code_cells(read(path)):
        printed = "".join(output.get("text", "") for output in cell.outputs)
        assert " so far, " not in printed, cell.id


@each_lesson
def test_its_widgets_show_a_figure_where_no_kernel_is(path):
    notebook = read(path)
    assert "widgets" not in notebook.metadata
    for cell in code_cells(notebook):
        assert not [o for o in cell.outputs if runner.WIDGET_VIEW in o.get("data", {})], cell.id
        if "widget" in tags(cell):
            (figure,) = cell.outputs
            assert len(figure.data["image/png"]) < 4 / 3 * 120_000, cell.id
            assert len(figure.data["text/plain"]) > 60, f"cell {cell.id!r}: say what is to be seen"


@each_lesson
def test_its_links_lead_somewhere(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", cell.source):
                if not target.startswith(("http://", "https://", "attachment:")):
                    assert (path.parent / target).exists(), f"cell {cell.id!r} links to {target}"
            for alt in re.findall(r"!\[([^\]]*)\]", cell.source):
                assert len(alt) > 20, f"cell {cell.id!r}: an image needs a text that says what is seen"


@each_lesson
def test_it_imports_cnnlib_before_torch(path):
    imported = []
    for cell in code_cells(read(path)):
        lines = [line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!"))]
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.ImportFrom):
                imported.append(node.module.split(".")[0])
            elif isinstance(node, ast.Import):
                imported += [name.name.split(".")[0] for name in node.names]
    assert imported.index("cnnlib") < min(
        (imported.index(name) for name in ("torch", "torchvision") if name in imported), default=len(imported)
    )
