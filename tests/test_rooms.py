"""The rooms of cnnlib: imports go downwards only, and the tree holds nothing that has no room."""

import ast
import subprocess
import sys

import pytest

from cnnlib.ground import ROOT

PACKAGE = ROOT / "cnnlib"
FLOORS = ("ground", "data", "models", "train", "inside", "measure", "course")
"""From the ground up."""
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(path):
    return path.relative_to(PACKAGE).parts[0] if path.parent != PACKAGE else ""


def imported(path):
    """Return the rooms that a module imports from, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("cnnlib.")}
    return found & set(FLOORS)


def test_every_module_stands_in_a_room():
    assert {room(path) for path in MODULES} == {"", *FLOORS}
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards_only(path):
    if room(path):
        above = FLOORS[FLOORS.index(room(path)) + 1 :]
        assert imported(path) & set(above) == set()


@pytest.mark.parametrize("name", FLOORS)
def test_a_room_says_what_it_is_for_and_can_be_entered_first(name):
    docstring = ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text(encoding="utf-8")))
    assert docstring.endswith(".")
    subprocess.run([sys.executable, "-c", f"import cnnlib.{name}"], check=True)
