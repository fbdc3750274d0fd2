"""Every lesson's solutions, taken from the lesson and asked in the jail; apart, for it takes long."""

import nbformat
import pytest
from notebook_tools import LESSONS, read

from cnnlib.course.exercises import exercises
from cnnlib.course.grading import batch, jail


@pytest.mark.parametrize("path", [p for p in LESSONS if exercises(p.stem)], ids=lambda path: path.stem)
def test_every_lesson_with_its_solutions_gets_full_marks(path, tmp_path):
    """The answers are built on the lesson's own cells."""
    solutions = {f"exercise-{e.name}": e.solution for e in exercises(path.stem)}
    notebook = read(path)
    for cell in notebook.cells:
        cell.source = solutions.get(cell.id, cell.source)
    (tmp_path / "solved.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
    isolation = "namespaces" if jail.available() else "process"
    (result,) = batch.grade(
        path, tmp_path / "solved.ipynb", tmp_path / "run", seed=3, isolation=isolation, progress=str
    )
    assert {i: e["status"] for i, e in result["exercises"].items()} == {
        e.id: "pass" for e in exercises(path.stem)
    }, result
