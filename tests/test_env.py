import os
import platform
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

import cnnlib
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
    slow = ("matplotlib", "pandas", "torchvision", "ipywidgets", "papermill")
    code = f"import cnnlib, sys; print([m for m in {slow} if m in sys.modules]); cnnlib.measure.plots.montage"
    assert python(code).stdout == "[]\n"


def test_threads_wait_as_cnnlib_says():
    """OpenMP itself tells what it has read, when torch loads it."""
    shown = python("import cnnlib", OMP_DISPLAY_ENV="VERBOSE").stderr
    if "OPENMP DISPLAY ENVIRONMENT" not in shown or "GOMP" not in shown:
        pytest.skip("this torch brings another OpenMP than GNU's")
    assert "GOMP_SPINCOUNT = '8000'" in shown
    assert (
        "GOMP_SPINCOUNT = '7'"
        in python("import cnnlib", OMP_DISPLAY_ENV="VERBOSE", GOMP_SPINCOUNT="7").stderr
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
    assert repair_torchvision() is False  # `import cnnlib` made it, or it was not needed
    code = "import torchvision"  # without cnnlib: works exactly where no repair is needed
    needed = python(code).returncode != 0
    code = "import cnnlib.ground.env as e; print(bool(e._torchvision_schemas))"
    assert python(code).stdout == f"{needed}\n"


def test_an_unknown_submodule_is_named():
    with pytest.raises(AttributeError, match="no attribute 'modles'"):
        _ = cnnlib.modles


def test_the_root_can_be_overridden(tmp_path):
    code = "from cnnlib.ground.env import DATA; print(DATA)"
    assert python(code, CNNLIB_ROOT=str(tmp_path)).stdout == f"{tmp_path / 'data'}\n"
    assert python(code, CNNLIB_ROOT="").stdout == f"{DATA}\n"
    assert (ROOT / "pyproject.toml").is_file()


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
    cpu = torch.device("cpu")
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(1)
    torch.rand(2)
    before = torch.get_rng_state()
    with own_randomness(7, cpu):
        assert torch.equal(torch.rand(3), expected)
    assert torch.equal(torch.get_rng_state(), before)
    with own_randomness(None, cpu):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), inside)


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
    assert set(states) == {"cpu", kind}
    module.state = torch.tensor([2], dtype=torch.uint8)
    torch.rand(1)
    set_random_states(device, {"cpu": states["cpu"]})  # of a run on the CPU
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
