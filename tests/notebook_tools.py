"""What the tests need to look into notebooks."""

import nbformat

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


def defined(lesson, name):
    """Return an object as a lesson's `defines-NAME` cell builds it.

    The lesson's `setup` cells and its `defines-…` cells are run in order, and no other cell.
    """
    namespace = {}
    for cell in code_cells(read(NOTEBOOKS / f"{lesson}.ipynb")):
        if "setup" in tags(cell) or any(t.startswith("defines-") for t in tags(cell)):
            source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
            exec(compile(source, f"{lesson}:{cell.id}", "exec"), namespace)
    return namespace[name]


def claims(*holds):
    """Return the source of a cell that makes claims which hold or do not."""
    lines = [
        f"claim('claim {i}', lambda x: x > 0, {{'x': {int(hold)}}}, {{'nothing': {{'x': -1}}}})"
        for i, hold in enumerate(holds)
    ]
    return "\n".join(["from cnnlib.measure import claim", *lines])
