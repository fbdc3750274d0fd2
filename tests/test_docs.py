"""What the documents promise is there."""

import re

import pytest
from notebook_tools import LESSONS, read

from cnnlib.course.exercises import exercises
from cnnlib.ground.env import ROOT


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "data/README.md"])
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)#\s]+)\)", text(name)):
        if not target.startswith("http"):
            assert ((ROOT / name).parent / target).exists(), target


def test_the_readme_lists_every_lesson():
    listed = re.findall(r"\(notebooks/(\d\d_\w+\.ipynb)\)", text("README.md").split("## Lessons")[1])
    assert listed == [path.name for path in LESSONS]


def test_contributing_names_every_module():
    package = ROOT / "cnnlib"
    folders = [path for path in package.rglob("*/") if path.name[0] not in "_." and path.name != "plugin"]
    one_a_family = [path.stem for path in (package / "models").glob("*.py")]
    one_a_lesson = [path.stem for path in (package / "course" / "exercises").glob("lesson_*.py")]
    inside = [path.stem for path in (package / "course" / "widgets").glob("*.py")]
    modules = {path.stem for path in package.rglob("[!_]*.py") if path.parent.name != "plugin"}
    modules -= {*one_a_family, *one_a_lesson, *inside}
    modules |= {"layers", "batch_norm", "hooks", "pretrained"} | {f"{path.name}/" for path in folders}
    assert {name for name in modules if f"`{name}`" not in text("CONTRIBUTING.md")} == set()


def test_continuous_integration_runs_the_command_of_the_readme():
    assert "make test " in text("README.md")
    assert text(".ci/run").splitlines()[-2:] == ["make test", "make seeds"]


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^(\w+):", text("Makefile"), flags=re.M))
    assert set(re.findall(r"\bmake (\w+)", text("README.md") + text("CONTRIBUTING.md"))) <= targets


def test_the_tested_versions_are_pinned():
    pins = dict(line.split("==") for line in text("constraints.txt").splitlines() if "==" in line)
    assert (pins["torch"], pins["torchvision"]) == ("2.13.0", "0.28.0")
    declared = re.findall(r'^    "([a-z]+)', text("pyproject.toml").split("dependencies = [")[1], flags=re.M)
    assert {name for name in declared if name not in pins} == set()


def test_images_are_used_and_drawn_by_a_script():
    used = "".join(cell.source for path in LESSONS for cell in read(path).cells)
    scripts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tools").glob("draw_*.py"))
    for image in (ROOT / "img").iterdir():
        assert f"../img/{image.name}" in used, image.name
        assert image.stem in scripts, image.name


def test_the_number_of_exercises_is_right():
    (count,) = re.findall(r"(\d+) functions and modules to write", text("README.md"))
    assert int(count) == sum(len(exercises(path.stem)) for path in LESSONS)
