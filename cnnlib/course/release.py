"""The learners' copy of the course: everything that they need, and no solution.

An instructor's own lessons (CNNLIB_EXERCISES) are part of it.
"""

import shutil

from cnnlib.course.exercises import (
    PUBLIC_SEED,
    RELEASED,
    exercises,
    lesson_numbers,
    make_exam,
    own_folder,
    plain,
)
from cnnlib.ground.env import ROOT
from cnnlib.ground.errors import ParameterError
from cnnlib.ground.files import atomic_path

FILES = ("constraints.txt", ".gitignore", "CITATION.cff", "LICENSE", "LICENSE-CC-BY-SA-4.0.txt")
WITHOUT = ("# Several processes", "check:", "test:", "seeds:", "bench:")
"""How the paragraphs of the Makefile begin that need folders which learners do not get."""
FOLDERS = ("notebooks", "img", "data", "book")
PIP = "\t$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt"
JUNK = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "mnist.csv")


def release(folder):
    """Write the learners' copy of the course.

    Args:
        folder: Path that does not exist yet, or is empty.

    Raises:
        ParameterError: the folder has something in it, or lies inside the course.
    """
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ParameterError(f"{folder} is not empty; name a folder that does not exist yet")
    if any(
        folder.is_relative_to(ROOT / name) for name in (*FOLDERS, "cnnlib", "tests", "tools", "benchmarks")
    ):
        raise ParameterError(f"{folder} lies inside the course; name a folder outside {ROOT}")
    release_package(folder / "cnnlib")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=JUNK)
    if own_folder() and (own_folder() / "notebooks").is_dir():
        shutil.copytree(own_folder() / "notebooks", folder / "notebooks", ignore=JUNK, dirs_exist_ok=True)
    release_files(folder)


def release_files(folder):
    """Write the files of the course's own folder: as they are, or without what learners do not need."""
    for name in FILES:
        shutil.copy2(ROOT / name, folder / name)

    def write(name, change):
        text = (ROOT / name).read_text(encoding="utf-8")
        (folder / name).write_text(change(text), encoding="utf-8", newline="\n")

    write("README.md", _readme)
    write("Makefile", _makefile)
    write("environment.yml", lambda text: text.replace(".[dev]", "."))
    write("pyproject.toml", lambda text: _without_lines(text, ("grading = ", "dev = ")))


def _readme(text):
    before, _, after = text.partition("\n## For instructors")
    licence = after.partition("\n## Licence")
    unfit = ("make test", "make check", "make bench", "git clone", "For `ADDRESS`", "Or download its archive")
    before = _without_lines(before, (*unfit, "In a container: "))
    before = before.replace(" `git restore notebooks/03_mnist_cnn.ipynb` brings one back.", "")
    before = before.replace(
        "`git checkout -- data`", "take the folder `data` once more from where you got the course"
    )
    before = before.replace("cd cnn-course && ", "").replace("\n\n\n", "\n\n")  # where a paragraph was
    return before + "".join(licence[1:])


def _makefile(text):
    parts = [part for part in text.split("\n\n") if not part.startswith(WITHOUT)]
    install = f"{PIP} --editable '.[book]'\n"
    changes = {
        f"{PIP} --editable '.[dev]'\n": f"{PIP} --editable .\n",
        "run lab book check test seeds bench clean": "run lab book clean",
        "\t$(BIN)/python book/build.py": f"{install}\t$(BIN)/python book/build.py",
    }
    text = "\n\n".join(parts)
    for old, new in changes.items():
        if old not in text:
            raise ValueError(f"the Makefile no longer holds {old!r}")
        text = text.replace(old, new)
    return text


def _without_lines(text, beginnings):
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(beginnings))


def release_package(folder, numbers=None):
    """Write cnnlib without the grader and without solutions: their cases and results stand in one data file.

    Args:
        folder: Path of the new package, which must not exist.
        numbers: of the lessons whose exercises it can check, such as ["02"]; None: all.
    """
    package = ROOT / "cnnlib"
    ours = ("__pycache__", "grading", "release.py", "lesson_[0-9][0-9].py")
    shutil.copytree(package, folder, ignore=shutil.ignore_patterns(*ours))
    exams = [make_exam(e, PUBLIC_SEED) for number in numbers or lesson_numbers() for e in exercises(number)]
    with atomic_path(folder / "course" / "exercises" / RELEASED.name) as temporary:
        temporary.write_bytes(plain.dumps(exams))
