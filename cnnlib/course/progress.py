"""A learner's own progress: which exercises are solved, tried and untouched, read from saved notebooks.

Nothing is run. What a check cell said when it was last run tells, and where it was not run, whether the
exercise still reads as it was handed out. Whatever a notebook's file is called, its checks tell of which
lessons it holds exercises. A notebook that cannot be read is named and stops nothing.

    cnnlib progress             # the lessons in notebooks/
    cnnlib progress mine        # copies in a folder of one's own; of several copies the best answer counts
"""

import functools
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cnnlib.course.exercises import RELEASED, exercises, lesson_numbers, own_folder, plain, squeezed
from cnnlib.ground.env import NOTEBOOKS, no_course
from cnnlib.ground.errors import ParameterError

SOLVED, TRIED, UNTOUCHED = "solved", "tried", "untouched"
MARKS = {SOLVED: "✓", TRIED: "✗", UNTOUCHED: "○"}
CHECK = re.compile(r"""^check\(\s*["'](\d\d)\.(\w+)["']""", flags=re.M)


@dataclass
class Lesson:
    """What was found of a lesson.

    Attributes:
        name: such as "02_parts_of_a_cnn".
        exercises: dict from an exercise's id to "solved", "tried" or "untouched", in the lesson's order.
        places: dict from an exercise's id to the notebook in which it was found.
        problem: why a notebook could not be read, or "".
    """

    name: str
    exercises: dict = field(default_factory=dict)
    places: dict = field(default_factory=dict)
    problem: str = ""


def read(*folders):
    """Read the state of every exercise from saved notebooks.

    Args:
        *folders: folders with notebooks, or notebooks; none: the course's lessons, an instructor's own among
            them.

    Returns:
        list of Lesson, by number.

    Raises:
        ParameterError: there is no such folder, or the course's cannot be found.
    """
    if not folders:
        if problem := no_course():
            raise ParameterError(problem)
        folders = [NOTEBOOKS, *([own_folder() / "notebooks"] if own_folder() else [])]
    found = {}
    for path in (path for folder in folders for path in _notebooks(Path(folder))):
        try:
            lessons = _read_notebook(path)
        except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError) as error:
            problem = f"{path} cannot be read as a notebook ({type(error).__name__}); put a whole one there"
            lessons = [Lesson(_name(path), problem=problem)]
        for lesson in lessons:
            _merge(found.setdefault(lesson.name, lesson), lesson)
    return sorted(found.values(), key=lambda lesson: lesson.name)


def _notebooks(folder):
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise ParameterError(f"{folder} does not exist; name a folder with notebooks")
    return sorted(path for path in folder.glob("*.ipynb") if path.name[0] != ".")


def _merge(lesson, other):
    """Keep of each exercise the better answer."""
    order = list(MARKS)
    for name, status in other.exercises.items():
        if name not in lesson.exercises or order.index(status) < order.index(lesson.exercises[name]):
            lesson.exercises[name], lesson.places[name] = status, other.places[name]
    lesson.problem = lesson.problem or other.problem


def _read_notebook(path):
    """Return the lessons of which a notebook holds exercises; also one of the course's that has none."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell.get("cell_type") == "code"]
    texts = [_text(cell.get("source")) for cell in code]
    lessons = {_name(path): Lesson(_name(path))} if path.parent == NOTEBOOKS else {}
    for cell, text in zip(code, texts, strict=True):
        asked = CHECK.search(text)
        if not asked:
            continue
        written = re.compile(rf"^(def|class) {asked[2]}\b", flags=re.M)
        if written.search(text) and asked[1] != path.stem[:2]:  # lesson 00 shows what a check is
            continue
        others = [pair for pair in zip(code, texts, strict=True) if pair[0] is not cell]
        answers = [(each, source) for each, source in others if written.search(source)]
        lesson = lessons.setdefault(_name(path, asked[1]), Lesson(_name(path, asked[1])))
        exercise = f"{asked[1]}.{asked[2]}"
        lesson.exercises[exercise] = _status(exercise, cell, answers[-1:])
        lesson.places[exercise] = str(path)
    return list(lessons.values())


def _name(path, number=None):
    """Return the name of the course's lesson with a number, by default the notebook's; else its own name."""
    number = number or path.stem[:2]
    known = [lesson.stem for lesson in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb") if lesson.stem[:2] == number]
    # "13_mine-Copy1.ipynb" is JupyterLab's name of a copy
    return known[0] if known else re.sub(r"(-Copy\d+)+$", "", path.stem)


def _status(name, check, answers):
    said = "".join(map(_said, check.get("outputs") or []))
    changed = any(not _handed_out(name, source) for _, source in answers)
    # An answer that was run after its check was run is another one than was checked.
    later = any(
        (cell.get("execution_count") or 0) > (check.get("execution_count") or 0) for cell, _ in answers
    )
    if said.startswith("✓") and not later:
        return SOLVED
    if said.startswith(("✓", "✗")) or changed:
        return TRIED
    return UNTOUCHED


def _said(output):
    if output.get("output_type") == "error":
        return "✗"
    return _text((output.get("data") or {}).get("text/plain", ""))


def _handed_out(name, source):
    """Tell whether an exercise's cell reads as the lesson handed it out."""
    given = _given().get(name)
    if given is None:  # one to be written from nothing
        return "raise NotImplementedError" in source
    return squeezed(given) in squeezed(source)


@functools.cache
def _given():
    """Return {id: source} of the exercises that hand out code with a fault."""
    if RELEASED.exists():
        found = {exam["id"]: exam["given"] for exam in plain.loads(RELEASED.read_bytes())}
    else:
        found = {e.id: e.stub if e.given else "" for number in lesson_numbers() for e in exercises(number)}
    return {name: given for name, given in found.items() if given}


def _text(source):
    return source if isinstance(source, str) else "".join(source or [])


def next_exercise(lessons):
    """Return (lesson, id) of what to do next: the first lesson that is not done, there what was tried first.

    None: everything is solved.
    """
    for lesson in lessons:
        for status in (TRIED, UNTOUCHED):
            for name, found in lesson.exercises.items():
                if found == status:
                    return lesson, name
    return None


def table(lessons=None):
    """Return a text: a line for each lesson with its exercises' marks, and what to do next."""
    lessons = read() if lessons is None else lessons
    if not lessons:
        return "There is no lesson with exercises. Name the folder with your copies: cnnlib progress FOLDER"
    width = max((len(lesson.name) for lesson in lessons), default=0)
    every = [status for lesson in lessons for status in lesson.exercises.values()]
    lines = []
    for lesson in lessons:
        found = list(lesson.exercises.values())
        marks = "".join(MARKS[status] for status in found)
        solved = f"{found.count(SOLVED)} of {len(found)}  {marks}" if found else "no exercises"
        told = [solved] if found or not lesson.problem else []
        told += [lesson.problem] if lesson.problem else []
        lines.append(f"{lesson.name:<{width}}  {'; '.join(told)}")
    counts = ", ".join(f"{mark} {every.count(status)} {status}" for status, mark in MARKS.items())
    lines.append(f"\n{len(every)} exercises: {counts}")
    following = next_exercise(lessons)
    if following:
        lesson, name = following
        tried = lesson.exercises[name] == TRIED
        does = "is begun: change it and run its check again" if tried else "comes next"
        lines.append(f"{name} {does}, in {Path(lesson.places[name]).name}.")
    elif every:
        lines.append("All are solved. The questions that only prose asks are left, and other seeds.")
    return "\n".join(lines)


def as_json(lessons):
    """Return what was found as a JSON text: lessons, and next as {lesson, exercise}."""
    following = next_exercise(lessons)
    following = following and {"lesson": following[0].name, "exercise": following[1]}
    return json.dumps({"lessons": [asdict(lesson) for lesson in lessons], "next": following}, indent=1)
