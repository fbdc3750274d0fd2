"""The learners' copy of the course: everything that they need, and no solution."""

import shutil

from cnnlib.course.exercises import PUBLIC_SEED, RELEASED, exercises, make_exam, plain
from cnnlib.ground.env import ROOT
from cnnlib.ground.errors import ParameterError

FILES = ("Makefile", "pyproject.toml", "constraints.txt", "environment.yml", ".gitignore")
FOLDERS = ("notebooks", "img", "data", "book")
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
    for name in FILES:
        shutil.copy2(ROOT / name, folder / name)
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## For instructors")[0]
    lines = [
        line
        for line in readme.splitlines(keepends=True)
        if not line.startswith(("make test", "make check", "make bench"))
    ]
    (folder / "README.md").write_text("".join(lines), encoding="utf-8")


def release_package(folder):
    """Write cnnlib without the grader and without solutions: their cases and results stand in one data file.

    Args:
        folder: Path of the new package, which must not exist.
    """
    package = ROOT / "cnnlib"
    solutions = [path.name for path in (package / "course" / "exercises").glob("lesson_*.py")]
    ours = ("__pycache__", "grading", "release.py", *solutions)
    shutil.copytree(package, folder, ignore=shutil.ignore_patterns(*ours))
    exams = [
        make_exam(exercise, PUBLIC_SEED)
        for name in sorted(solutions)
        for exercise in exercises(name.removeprefix("lesson_").removesuffix(".py"))
    ]
    (folder / "course" / "exercises" / RELEASED.name).write_bytes(plain.dumps(exams))
