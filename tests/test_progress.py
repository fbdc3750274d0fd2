"""A learner's progress: read from saved notebooks, whatever state they are in."""

import json
import re
import signal
import subprocess
import sys
import threading
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from notebook_tools import LESSONS

import cnnlib.course.exercises as package
from cnnlib.course import progress
from cnnlib.course.command_line import main
from cnnlib.course.exercises import clock, exercises
from cnnlib.ground.errors import ParameterError

LESSON = "02_parts_of_a_cnn"
FUNCTION, FAULTY = (next(e for e in exercises("02") if bool(e.given) == given) for given in (False, True))


def said(text):
    return [new_output("execute_result", {"text/plain": text}, execution_count=2)]


def notebook(path, exercise, answer, outputs, count=1):
    cells = [
        new_code_cell(answer, execution_count=count),
        new_code_cell(f'check("{exercise.id}", {exercise.name})', outputs=outputs, execution_count=2),
    ]
    nbformat.write(new_notebook(cells=cells), path)
    return path


@pytest.mark.parametrize(
    ("exercise", "answer", "outputs", "count", "status"),
    [
        (FUNCTION, FUNCTION.stub, said(f"○ {FUNCTION.id}: not attempted yet (2 points)."), 1, "untouched"),
        (FUNCTION, FUNCTION.stub, [], None, "untouched"),
        (FAULTY, FAULTY.stub, said(f"○ {FAULTY.id}: not attempted yet"), 1, "untouched"),
        (FAULTY, FAULTY.stub + "\n# a remark\n", [], 1, "untouched"),
        (FAULTY, FAULTY.solution, [], None, "tried"),
        (FUNCTION, FUNCTION.solution, [], None, "tried"),
        (FUNCTION, FUNCTION.solution, said(f"✗ {FUNCTION.id}: it returned 3"), 1, "tried"),
        (FUNCTION, FUNCTION.solution, [new_output("error", ename="E", evalue="", traceback=[])], 1, "tried"),
        (FUNCTION, FUNCTION.solution, said(f"✓ {FUNCTION.id}: right in all 6 cases"), 1, "solved"),
        (FUNCTION, FUNCTION.solution, said(f"✓ {FUNCTION.id}: right in all 6 cases"), 9, "tried"),  # since
    ],
)
def test_the_saved_notebook_tells(tmp_path, exercise, answer, outputs, count, status):
    notebook(tmp_path / "02_parts_of_a_cnn.ipynb", exercise, answer, outputs, count)
    (lesson,) = progress.read(tmp_path)
    assert (lesson.name, lesson.exercises) == ("02_parts_of_a_cnn", {exercise.id: status})


def test_every_exercise_of_the_course_is_found_and_untouched():
    found = {name: status for lesson in progress.read() for name, status in lesson.exercises.items()}
    assert list(found) == [e.id for path in LESSONS for e in exercises(path.stem) if e.id in found]
    assert set(found) == {e.id for path in LESSONS for e in exercises(path.stem)}
    assert set(found.values()) == {"untouched"}


def test_of_several_copies_the_best_answer_counts_and_the_next_is_what_was_begun(tmp_path):
    right = said(f"✓ {FUNCTION.id}: right in all 6 cases")
    notebook(tmp_path / "02_a-Copy1.ipynb", FUNCTION, FUNCTION.solution, right)
    notebook(tmp_path / "02_a.ipynb", FUNCTION, FUNCTION.stub, [])
    notebook(tmp_path / "02_a-Copy2.ipynb", FAULTY, FAULTY.solution, said("✗ wrong"))
    lessons = progress.read(tmp_path)
    shown = progress.table(lessons)
    assert f"{LESSON}  1 of 2  ✓✗" in shown
    assert "2 exercises: ✓ 1 solved, ✗ 1 tried, ○ 0 untouched" in shown
    assert shown.endswith(f"{FAULTY.id} is begun: change it and run its check again, in 02_a-Copy2.ipynb.")
    data = json.loads(progress.as_json(lessons))
    assert data["next"] == {"lesson": LESSON, "exercise": FAULTY.id}
    assert data["lessons"][0]["exercises"] == {FUNCTION.id: "solved", FAULTY.id: "tried"}
    notebook(tmp_path / "02_a-Copy2.ipynb", FAULTY, FAULTY.solution, said("✓ right"))
    assert "All are solved." in progress.table(progress.read(tmp_path))


def test_a_folder_without_a_lesson_asks_for_another(tmp_path, capsys):
    assert main(["progress", str(tmp_path)]) == 0
    assert "no lesson with exercises" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    [
        *("", "no json", "[]", "3", "{}", "\udcff", "[" * 9000),
        *('{"cells": 3}', '{"cells": [3]}', '{"cells": [null]}'),
        '{"cells": [{"cell_type": "code", "source": 7}]}',
    ],
)
def test_a_damaged_notebook_is_named_and_stops_nothing(tmp_path, text):
    (tmp_path / "01_bad.ipynb").write_bytes(text.encode("utf-8", "surrogateescape"))
    notebook(tmp_path / "02_a.ipynb", FUNCTION, FUNCTION.stub, [])
    (tmp_path / "02_a-Copy1.ipynb").write_bytes((tmp_path / "01_bad.ipynb").read_bytes())
    bad, good = progress.read(tmp_path)
    assert "01_bad.ipynb cannot be read as a notebook" in bad.problem
    assert good.exercises == {FUNCTION.id: "untouched"}
    first, second, *_ = progress.table([bad, good]).splitlines()
    assert "01_bad.ipynb cannot be read" in first
    assert re.search(r"  0 of 1  ○; .*02_a-Copy1.ipynb cannot be read", second)


@pytest.mark.parametrize("name", ["my digits", "02_parts_of_a_cnn (1)", "Copy of lesson 2", "03 and more"])
def test_a_notebook_may_have_another_name(tmp_path, name):
    right = said(f"✓ {FUNCTION.id}: right in all 6 cases")
    notebook(tmp_path / f"{name}.ipynb", FUNCTION, FUNCTION.solution, right)
    (lesson,) = progress.read(tmp_path)
    assert (lesson.name, lesson.exercises) == (LESSON, {FUNCTION.id: "solved"})


def test_a_check_in_the_cell_of_its_answer_counts_in_its_own_lesson_only(tmp_path):
    """So that the one that lesson 00 shows is no exercise that its reader has tried."""
    cell = new_code_cell(f'{FUNCTION.solution}\ncheck("{FUNCTION.id}", {FUNCTION.name})')
    cell.outputs = said(f"✗ {FUNCTION.id}: it returned 3")
    for name, exercises_found in (("00_start", {}), ("02_mine", {FUNCTION.id: "tried"})):
        nbformat.write(new_notebook(cells=[cell]), tmp_path / f"{name}.ipynb")
        found = {k: v for each in progress.read(tmp_path) for k, v in each.exercises.items()}
        assert found == exercises_found


def test_outputs_that_are_odd_are_no_answer(tmp_path):
    cell = {"cell_type": "code", "source": ['check("02.x", x)'], "outputs": None, "execution_count": None}
    (tmp_path / "02_a.ipynb").write_text(json.dumps({"cells": [{"cell_type": "raw"}, cell]}))
    (lesson,) = progress.read(tmp_path)
    assert lesson.exercises == {"02.x": "untouched"}


def test_the_command(tmp_path, capsys):
    notebook(tmp_path / "02_a.ipynb", FUNCTION, FUNCTION.stub, [])
    assert main(["progress", str(tmp_path)]) == 0
    assert f"{FUNCTION.id} comes next, in 02_a.ipynb." in capsys.readouterr().out
    assert main(["progress", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["next"]["exercise"] == FUNCTION.id
    assert main(["progress", str(tmp_path / "nowhere")]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err
    with pytest.raises(ParameterError, match="does not exist"):
        progress.read(tmp_path / "nowhere")


def test_an_answer_that_never_ends_is_stopped(monkeypatch):
    exam = package._public_exam("02.output_shape") | {"seconds": 0.3}
    monkeypatch.setattr(package, "_public_exam", lambda _: exam)

    def endless(image_shape, layers):
        while True:
            try:
                time.sleep(0.01)
            except Exception:  # catches no end of the time
                continue

    handler = signal.getsignal(signal.SIGALRM)
    begun = time.monotonic()
    feedback = package.check("02.output_shape", endless)
    assert time.monotonic() - begun < 3
    assert feedback.verdict.status == "timeout"
    assert "✗ 02.output_shape: It was stopped after 0.3 s. Is there a loop that never ends?" in feedback.text
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def spin():
    while True:
        pass


@pytest.mark.parametrize("timer", [True, False])
def test_the_limit_on_the_time_works_without_a_timer_and_lets_interrupts_through(monkeypatch, timer):
    if not timer:  # as on Windows
        monkeypatch.delattr(signal, "setitimer")
    with clock.time_limit(5):
        value = 3
    assert value == 3
    with pytest.raises(KeyboardInterrupt), clock.time_limit(5):
        raise KeyboardInterrupt
    with pytest.raises(clock.TimeIsUp), clock.time_limit(0.2):
        spin()


def test_outside_the_main_thread_there_is_no_limit():
    seen = []

    def run():
        with clock.time_limit(0.05):
            time.sleep(0.2)
            seen.append(1)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [1]


def test_reading_needs_no_torch():
    """So that it answers at once. The modules with solutions, which the learners' copy lacks, import it."""
    code = "import sys, cnnlib.course.progress; print(*(m in sys.modules for m in ('torch', 'nbformat')))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "False False\n"
