"""Every lesson's solutions, taken from the lesson and asked in the jail; apart, for it takes long."""

import functools
import json

import nbformat
import pytest
from notebook_tools import LESSONS, code_cells, read

from cnnlib.course.exercises import exercises
from cnnlib.course.grading import batch, examiner, jail, one


def run_here(folder, *_):
    """Run a graded notebook in this process, which costs no pytest and no kernel; write what nbval writes."""
    outcomes = []
    _, asker = examiner._job(str(folder))
    with asker().warden:
        for cell in code_cells(read(folder / "graded.ipynb"))[1:]:  # the first one limits the kernel's memory
            try:
                exec(cell.source, {"examine": functools.partial(examiner.examine, folder=folder)})
                outcomes.append([cell.id, True])
            except examiner.AnswerFailed:
                outcomes.append([cell.id, False])
        asker().end()
    (folder / "outcomes.jsonl").write_text("\n".join(map(json.dumps, outcomes)))
    return ""


@pytest.mark.parametrize("path", [p for p in LESSONS if exercises(p.stem)], ids=lambda path: path.stem)
def test_every_lesson_with_its_solutions_gets_full_marks(path, tmp_path, monkeypatch):
    """The answers are built on the lesson's own cells. (Whole runs are in test_grading_batch.py.)"""
    monkeypatch.setattr(one, "_nbval", run_here)
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
