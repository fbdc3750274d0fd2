"""What the tests need to look into notebooks."""

import functools

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from cnnlib.ground.env import NOTEBOOKS

LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def read(path):
    return nbformat.read(path, as_version=4)


def tags(cell):
    return cell.metadata.get("tags", [])


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def definitions(path):
    """Return the names that a lesson defines in view and that cnnlib holds too: its `defines-NAME` tags."""
    prefix = "defines-"
    return [t.removeprefix(prefix) for c in code_cells(read(path)) for t in tags(c) if t.startswith(prefix)]


@functools.cache
def namespace(lesson):
    """Return what a lesson's `setup` cells and `defines-…` cells bind, run in order, and no other cell."""
    bound = {}
    for cell in code_cells(read(NOTEBOOKS / f"{lesson}.ipynb")):
        if "setup" in tags(cell) or any(t.startswith("defines-") for t in tags(cell)):
            source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
            exec(compile(source, f"{lesson}:{cell.id}", "exec"), bound)
    return bound


PARAMETERS = '''seed = 0  # first random seed
lr = 0.1  # learning rate
shuffle = False  # whether to shuffle
sizes = [1, 2]  # layers
profile = "fast"  # "fast" or "full"'''


def write_lesson(folder, *sources, parameters=PARAMETERS, name="05_test.ipynb"):
    """Write a notebook with the parameters above and the given code cells; return its Path."""
    cell = new_code_cell(parameters)
    cell.metadata["tags"] = ["parameters"]
    cells = [new_markdown_cell("# 05 · A test\n\ntext"), cell, *map(new_code_cell, sources)]
    for number, each in enumerate(cells):
        each["id"] = f"cell-{number}"
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / name)
    return folder / name


def claims(*holds):
    """Return the source of a cell that makes claims which hold or do not."""
    lines = [
        f"claim('claim {i}', lambda x: x > 0, {{'x': {int(hold)}}}, {{'nothing': {{'x': -1}}}})"
        for i, hold in enumerate(holds)
    ]
    return "\n".join(["from cnnlib.measure import claim", *lines])
