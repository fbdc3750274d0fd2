"""What the documents promise is there."""

import re
import subprocess
import tomllib

import pytest
import yaml
from notebook_tools import LESSONS, read

import cnnlib
from cnnlib.course import release
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


def test_the_version_is_the_same_everywhere():
    assert cnnlib.__version__ == tomllib.loads(text("pyproject.toml"))["project"]["version"]
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["version"] == cnnlib.__version__
    latest, date = re.findall(r"^## (\S+) \((\S+)\)$", text("CHANGELOG.md"), flags=re.M)[0]
    assert (latest, date) == (cnnlib.__version__, str(citation["date-released"]))
    assert re.fullmatch(r"\d+\.\d+\.\d+", latest)


def test_the_citation_has_what_its_format_requires():
    """The required keys of the Citation File Format 1.2.0; an author with a `name` is an entity."""
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert all(citation[key] for key in ("authors", "message", "title"))
    assert citation["type"] in ("software", "dataset")
    assert all(author.get("name") or author.get("family-names") for author in citation["authors"])


def test_licences_are_there_and_named():
    project = tomllib.loads(text("pyproject.toml"))["project"]
    assert (project["license"], project["license-files"]) == ("MIT", ["LICENSE"])
    assert text("LICENSE").startswith("MIT License")
    assert "Attribution-ShareAlike 4.0 International" in text("LICENSE-CC-BY-SA-4.0.txt")
    assert yaml.safe_load(text("CITATION.cff"))["license"] == ["MIT", "CC-BY-SA-4.0"]
    assert {"LICENSE", "LICENSE-CC-BY-SA-4.0.txt", "CITATION.cff"} <= set(release.FILES)


def test_the_workflow_runs_the_one_command_on_the_oldest_and_the_newest_python():
    (job,) = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    oldest = tomllib.loads(text("pyproject.toml"))["project"]["requires-python"].removeprefix(">=")
    assert job["strategy"]["matrix"]["python"][0] == oldest
    for step in job["steps"]:
        for path in [step.get("with", {}).get("cache-dependency-path")]:
            assert path is None or (ROOT / path).exists()


def test_the_container_is_built_from_what_is_there():
    lines = text("Dockerfile").replace("\\\n", " ").splitlines()
    instructions = [line.split() for line in lines if line and line[0] not in "#&"]
    copied = [words for words in instructions if words[0] == "COPY"]
    for _, *sources, _ in copied:
        for source in sources:
            assert source.startswith("--") or (ROOT / source).exists(), source
    first = next(i for i, words in enumerate(instructions) if words[:3] == ["RUN", "pip", "install"])
    before = {source for words in instructions[:first] if words[0] == "COPY" for source in words[1:-1]}
    # what `pip install --editable .` reads
    project = tomllib.loads(text("pyproject.toml"))["project"]
    needed = {"pyproject.toml", "constraints.txt", project["readme"], *project["license-files"]}
    assert needed | {"cnnlib/__init__.py"} == before
    assert ["COPY", "--chown=${NB_UID}", ".", "."] in instructions[first:]
    assert instructions.index(["USER", "${NB_USER}"]) > first
    ignored = text(".dockerignore").split()
    assert {".git", ".venv", "outputs"} <= set(ignored)
    assert not set(ignored) & {"data", "notebooks", "img", "book"}


def test_the_learners_copy_has_what_learners_need_and_no_more(tmp_path):
    release.release_files(tmp_path)
    made = (tmp_path / "Makefile").read_text(encoding="utf-8")
    assert set(re.findall(r"^([a-z]+):", made, flags=re.M)) == {"run", "lab", "book", "clean"}
    for word in ("tests", "benchmarks", "pytest", "ruff", "[dev]"):
        assert word not in made
    for target in ("run", "lab", "book", "clean"):
        call = ["make", "-n", "-C", str(tmp_path), target]
        shown = subprocess.run(call, capture_output=True, text=True, check=True).stdout
        assert ("--editable .\n" in shown) == (target != "clean")
        assert ("--editable '.[book]'" in shown) == (target == "book")
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]) == {"book", "dask"}
    assert (tmp_path / project["license-files"][0]).exists()
    assert ".[dev]" not in (tmp_path / "environment.yml").read_text(encoding="utf-8")
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "make lab" in readme
    for word in ("make test", "make check", "make bench", "cnnlib grade", "ADDRESS", "cnn-course", "Docker"):
        assert word not in readme
    assert "## Licence" in readme
    for target in re.findall(r"\]\(([^)#\s]+)\)", readme):
        if not target.startswith("http"):
            copied = (*release.FOLDERS, *release.FILES, "README.md")
            assert target.split("/")[0] in copied, target


def test_the_readme_begins_with_a_picture_and_how_to_begin():
    first = text("README.md").partition("\n## ")[0]
    assert "](img/front.png)" in first
    assert "git clone" in first
    assert "make lab" in first
    assert (ROOT / "img" / "front.png").stat().st_size < 300_000
    assert "py -m venv" in text("README.md")
    assert "uv pip install" in text("README.md")


def test_images_are_used_and_drawn_by_a_script():
    used = "".join(cell.source for path in LESSONS for cell in read(path).cells)
    used += text("README.md").replace("(img/", "(../img/")
    scripts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tools").glob("draw_*.py"))
    for image in (ROOT / "img").iterdir():
        assert f"../img/{image.name}" in used, image.name
        assert image.stem in scripts, image.name


def test_the_number_of_exercises_is_right():
    (count,) = re.findall(r"(\d+) functions and modules to write", text("README.md"))
    assert int(count) == sum(len(exercises(path.stem)) for path in LESSONS)
