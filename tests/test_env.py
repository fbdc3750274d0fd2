import ast
import os
import platform
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import cnnlib
from cnnlib.ground import files
from cnnlib.ground.env import (
    DATA,
    ROOT,
    best_device,
    own_randomness,
    random_states,
    repair_torchvision,
    report,
    set_random_states,
    set_seed,
    settings,
)
from cnnlib.ground.errors import ParameterError, check_whole


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment, cwd="/"
    )


def test_importing_cnnlib_leaves_slow_packages_alone_until_they_are_used():
    slow = ("torch", "matplotlib", "pandas", "torchvision", "ipywidgets", "papermill")
    code = f"import cnnlib, sys; print([m for m in {slow} if m in sys.modules]); cnnlib.measure.plots.montage"
    assert python(code).stdout == "[]\n"


def test_threads_wait_as_cnnlib_says():
    """OpenMP itself tells what it has read, when torch loads it."""
    shown = python("import cnnlib, torch", OMP_DISPLAY_ENV="VERBOSE").stderr
    if "OPENMP DISPLAY ENVIRONMENT" not in shown or "GOMP" not in shown:
        pytest.skip("this torch brings another OpenMP than GNU's")
    assert "GOMP_SPINCOUNT = '8000'" in shown
    assert (
        "GOMP_SPINCOUNT = '7'"
        in python("import cnnlib, torch", OMP_DISPLAY_ENV="VERBOSE", GOMP_SPINCOUNT="7").stderr
    )


def test_the_report_says_when_torch_came_too_early():
    code = "; print(cnnlib.ground.report()['threads wait'])"
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    for imports, expected in (
        ("import cnnlib", "asleep after 8000 turns"),
        ("import torch, cnnlib", "torch was imported before cnnlib"),
    ):
        command = [sys.executable, "-c", imports + code]
        shown = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
        assert expected in shown


FAULTS = """
import cnnlib, resource, torch
for _ in range(3):  # the first rounds fetch the memory
    torch.ones(5_000_000), torch.ones(2_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(5_000_000), torch.ones(2_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_kept_for_the_next_step_unless_the_environment_says_otherwise():
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("another C library than GNU's")
    kept, given_back = (int(python(FAULTS, **own).stdout) for own in ({}, {"MALLOC_TRIM_THRESHOLD_": "0"}))
    assert 5 * kept < given_back  # page faults; without keeping, each of the 20 rounds has 7,000


def test_torchvision_can_be_imported_after_cnnlib():
    result = python("import cnnlib, torchvision; print(torchvision.models.resnet18().fc.out_features)")
    assert result.stdout == "1000\n", result.stderr


def test_the_repair_is_made_once_and_only_where_it_is_needed():
    pytest.importorskip("torchvision")
    assert repair_torchvision() is False  # the import made it, or it was not needed
    code = "import torchvision"  # without cnnlib: works exactly where no repair is needed
    needed = python(code).returncode != 0
    code = "import cnnlib.ground.env as e, torchvision; print(bool(e._torchvision_schemas))"
    assert python(code).stdout == f"{needed}\n"


def test_an_unknown_submodule_is_named():
    with pytest.raises(AttributeError, match="no attribute 'modles'"):
        _ = cnnlib.modles


def test_the_root_can_be_overridden(tmp_path):
    code = "from cnnlib.ground.env import DATA; print(DATA)"
    assert python(code, CNNLIB_ROOT=str(tmp_path)).stdout == f"{tmp_path / 'data'}\n"
    assert python(code, CNNLIB_ROOT="").stdout == f"{DATA}\n"
    assert (ROOT / "pyproject.toml").is_file()


LEARNERS = [
    path
    for path in sorted((ROOT / "cnnlib").rglob("*.py"))
    if "grading" not in path.parts and path.name != "release.py"
]
ON_ONE_SYSTEM = {
    "resource",
    "fcntl",
    "termios",
    "pwd",
    "grp",
    "pty",
    "tty",
    "syslog",
    "posix",
    "_posixsubprocess",
}

WITHOUT_POSIX = """
import builtins, importlib, os, pkgutil, signal, sys
real = builtins.__import__
def no_posix(name, globals=None, *rest):
    if (globals or {{}}).get("__name__", "").startswith("cnnlib") and name.split(".")[0] in {names}:
        raise ModuleNotFoundError(name, name=name)
    return real(name, globals, *rest)
builtins.__import__ = no_posix
del signal.setitimer, signal.SIGALRM, os.fork, os.O_NOFOLLOW, os.killpg
import cnnlib
for found in pkgutil.walk_packages(cnnlib.__path__, "cnnlib."):
    if ".grading" not in found.name and ".release" not in found.name and "__main__" not in found.name:
        importlib.import_module(found.name)
from cnnlib.course import command_line, exercises
from cnnlib.course.exercises import check, clock
try:
    with clock.time_limit(0.2):
        while True:
            pass
except clock.TimeIsUp:
    print("stopped")
print(check("02.output_shape", None))
print(*(command_line.main(arguments) for arguments in (["grade", "02", "."], ["regrade", "."])))
print(command_line.main(["run", "--help"]))
"""


def test_a_learner_needs_nothing_that_only_posix_has():
    done = python(WITHOUT_POSIX.format(names=ON_ONE_SYSTEM))
    lines = done.stdout.splitlines()
    assert lines[0] == "stopped", done.stderr
    assert lines[1].startswith("✗ 02.output_shape: check was given None, and should be given the function")
    assert lines[2] == "2 2"  # grade and regrade refuse
    assert "usage: cnnlib run" in done.stdout
    no_grading = "cnnlib: grading needs Linux or macOS"
    assert [line.startswith(no_grading) for line in done.stderr.splitlines()] == [True, True]


def calls(path):
    """Return the names and keywords of all calls in a file: [(name, node)]."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "id", getattr(node.func, "attr", "")), node


@pytest.mark.parametrize("folder", ["cnnlib", "book", "tools"])
def test_texts_are_read_and_written_as_utf_8_whatever_the_locale(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        for name, node in calls(path):
            modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            owner = getattr(getattr(node.func, "value", None), "id", "")
            if name in ("read_text", "write_text") or (
                name == "open"
                and owner not in ("os", "Image", "tarfile", "archive", "webbrowser")
                and not any("b" in mode for mode in modes if len(mode) < 4)
                and not any("/proc" in ast.unparse(a) or "/dev" in ast.unparse(a) for a in node.args)
            ):
                named = {keyword.arg for keyword in node.keywords}
                system = "grading" in path.parts  # its files of the kernel and of its own are ASCII
                assert "encoding" in named or system, f"{path}:{node.lineno}"


def test_nothing_is_opened_with_the_encoding_of_the_locale():
    """Python itself tells, while lessons are read and a table is written."""
    code = """
import warnings
warnings.filterwarnings("error", category=EncodingWarning, module="cnnlib")
import tempfile, pathlib, cnnlib.data.formats, torch
from cnnlib.course import progress, runner
from cnnlib.data import Dataset, write_csv
runner.check_parameters(runner.find_lesson("03"), {"seed": 1}); progress.table()
with tempfile.TemporaryDirectory() as folder:
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    write_csv(Dataset(images, torch.tensor([0, 1])), pathlib.Path(folder) / "x.csv")
print("done")
"""
    done = python(code, PYTHONWARNDEFAULTENCODING="1")
    assert done.stdout == "done\n", done.stderr


def command(*arguments, **environment):
    call = [sys.executable, "-m", "cnnlib", *arguments]
    return subprocess.run(call, capture_output=True, text=True, env=os.environ | environment)


def test_a_wrong_root_is_one_clear_sentence(tmp_path):
    for call in (["lessons"], ["run"], ["run", "03"], ["progress"]):
        done = command(*call, CNNLIB_ROOT=str(tmp_path / "nowhere"))
        assert done.returncode == 2, call
        assert f"CNNLIB_ROOT is '{tmp_path / 'nowhere'}', where no course is" in done.stderr
        assert done.stderr.count("\n") == 1
    done = python("from cnnlib import data; data.load('mnist')", CNNLIB_ROOT=str(tmp_path))
    assert "where no course is: it has no folder notebooks" in done.stderr.splitlines()[-1]


def test_a_package_away_from_the_course_says_how_to_install_it(tmp_path):
    shutil.copytree(
        ROOT / "cnnlib", tmp_path / "site" / "cnnlib", ignore=shutil.ignore_patterns("__pycache__")
    )
    call = "from cnnlib.course.command_line import main; raise SystemExit(main(['lessons']))"
    environment = {k: v for k, v in os.environ.items() if k != "CNNLIB_ROOT"} | {
        "PYTHONPATH": str(tmp_path / "site")
    }
    done = subprocess.run(
        [sys.executable, "-c", call], capture_output=True, text=True, env=environment, cwd="/"
    )
    assert done.returncode == 2
    assert f"cnnlib is installed in {tmp_path / 'site'}" in done.stderr
    assert "pip install --editable ." in done.stderr


def test_what_restores_a_file_depends_on_how_the_course_came(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROOT", tmp_path)
    assert files.restore() == "Take the folder data once more from where you got the course."
    (tmp_path / ".git").mkdir()
    assert "git checkout -- data" in files.restore()


def test_help_does_not_wait_for_what_runs_lessons():
    slow = ("torch", "nbformat", "papermill", "pandas", "matplotlib")
    code = "import sys\nfrom cnnlib.course.command_line import main\n"
    code += "try: main(['--help'])\nexcept SystemExit: pass\n"
    done = python(code + f"print([m for m in {slow} if m in sys.modules])")
    assert done.stdout.splitlines()[-1] == "[]"


def test_each_command_and_each_argument_is_explained():
    code = """import argparse
from cnnlib.course.command_line import parse_arguments
made, init = [], argparse.ArgumentParser.__init__
argparse.ArgumentParser.__init__ = lambda parser, **options: (init(parser, **options), made.append(parser))[0]
parse_arguments(["lessons"])
print(len(made))
for parser in made:
    if not parser.description:
        print(parser.prog)
    for action in parser._actions:
        if not action.help and not isinstance(action, argparse._SubParsersAction):
            print(parser.prog, action.dest)
"""
    done = python(code)
    count, *unexplained = done.stdout.splitlines()
    assert int(count) > 6, done.stderr
    assert unexplained == []


def test_a_seed_repeats_every_generator():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    set_seed(5)
    first = draw()
    set_seed(np.int64(5))
    assert draw() == first
    set_seed(6)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "7", True, None])
def test_a_wrong_seed_is_refused(seed):
    with pytest.raises(ParameterError, match="seed is"):
        set_seed(seed)


def test_own_randomness_is_that_of_a_seed_and_leaves_the_callers_as_it_was():
    def draw():
        return random.gauss(), np.random.randn(), torch.rand(1).item()

    cpu = torch.device("cpu")
    set_seed(7)
    expected = draw()
    set_seed(1)
    first = draw()  # of a normal distribution both generators keep a second number
    second = draw()
    set_seed(1)
    assert draw() == first
    with own_randomness(7, cpu):
        assert draw() == expected
    assert draw() == second
    with own_randomness(None, cpu):
        inside = draw()
    assert draw() == inside


def test_what_is_seeded_has_cudnn_repeat_its_sums(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    with own_randomness(7, torch.device("cpu")):
        assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.deterministic  # the caller's choice
    set_seed(7)
    assert torch.backends.cudnn.deterministic


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_the_state_of_a_devices_generator_is_kept_beside_the_cpus(monkeypatch, kind):
    class Module:
        """The part of torch.cuda, torch.mps, … that is used; only that of MPS takes no device."""

        state = torch.tensor([1], dtype=torch.uint8)

        def get_rng_state(self, *device):
            assert len(device) == (kind != "mps")
            return self.state

        def set_rng_state(self, state, *device):
            assert len(device) == (kind != "mps")
            self.state = state

    module, device = Module(), torch.device(kind)
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    states = random_states(device)
    assert set(states) == {"python", "numpy", "cpu", kind}
    module.state = torch.tensor([2], dtype=torch.uint8)
    torch.rand(1)
    set_random_states(device, {name: states[name] for name in states if name != kind})  # of a run on the CPU
    assert module.state == 2
    set_random_states(device, states)
    assert module.state == 1
    assert torch.equal(torch.get_rng_state(), states["cpu"])


def test_whole_numbers():
    for value in (3, np.int64(3), np.uint8(3), torch.tensor(3)):
        assert type(check_whole("n", value)) is int
        assert check_whole("n", value) == 3
    for value in (True, np.True_, torch.tensor(True), 3.0, np.float64(3), "3", None, torch.tensor([3, 4]), 2):
        with pytest.raises(ParameterError, match=r"n is .*; it must be a whole number, 3 or more"):
            check_whole("n", value, least=3)


def test_devices():
    assert best_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert best_device("cpu") == torch.device("cpu")
    for name in ("gpu", "cuda:99", "", 3.5):
        with pytest.raises(ParameterError, match="which this machine does not have"):
            best_device(name)


def test_settings_of_a_profile():
    assert settings("fast", fast={"runs": 3}, full={"runs": 10}).runs == 3
    with pytest.raises(ParameterError, match=r"profile is 'quick'; it must be one of \['fast', 'full'\]"):
        settings("quick", fast={}, full={})


def test_report_names_versions_and_device():
    facts = report()
    assert facts["torch"] == torch.__version__
    assert all(isinstance(value, str) and value for value in facts.values())
