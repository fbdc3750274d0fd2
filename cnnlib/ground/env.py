"""Where things lie, what machine this is, and how to make a run repeatable.

Torch takes two seconds to import, and not everything that needs a path needs torch: each function imports it.
"""

import ctypes
import importlib.util
import os
import platform
import random
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from cnnlib.ground.errors import ParameterError

ROOT = Path(os.environ.get("CNNLIB_ROOT") or Path(__file__).parents[2]).resolve()
"""The repository. The environment variable CNNLIB_ROOT overrides it."""
DATA = ROOT / "data"
IMG = ROOT / "img"
NOTEBOOKS = ROOT / "notebooks"


def no_course():
    """Say in a sentence why ROOT holds no lessons and data, and what to do; "" where it does."""
    if NOTEBOOKS.is_dir():
        return ""
    if named := os.environ.get("CNNLIB_ROOT"):
        return (
            f"CNNLIB_ROOT is {named!r}, where no course is: it has no folder notebooks. Name the folder of "
            "the course, or unset it."
        )
    return (
        f"cnnlib is installed in {Path(__file__).parents[1]}, away from the lessons and their data: install "
        "it from the folder of the course with `pip install --editable .`, or name that folder in the "
        "environment variable CNNLIB_ROOT."
    )


_torchvision_schemas = []  # keeps the declarations alive: a Library undoes them when it is collected


def repair_torchvision():
    """Let a CPU-only torch import a torchvision whose compiled operators need CUDA.

    Such a torchvision fails on import with "operator torchvision::nms does not exist", because its
    compiled library cannot be loaded (github.com/pytorch/vision/issues/9077). Declaring the schemas
    of the two operators that the import asks for is enough: models, transforms, datasets and feature
    extraction are pure Python. Nothing is declared where the library loads, or was declared before.

    Returns:
        bool: whether this call made the repair.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or _torchvision_schemas:
        return False
    import torch

    folder = Path(spec.origin).parent
    libraries = [p for pattern in ("_C*.so", "_C*.pyd") for p in folder.glob(pattern)]
    try:
        for path in libraries:
            torch.ops.load_library(path)  # what `import torchvision` itself does first
        if libraries:
            return False
    except OSError:
        pass
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _torchvision_schemas.append(library)
    return True


class RepairTorchvision:
    """A finder of modules that repairs torchvision when it is first looked for, and finds nothing itself."""

    asked = False

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "torchvision" and not cls.asked:
            cls.asked = True  # the repair itself looks for torchvision
            repair_torchvision()


def keep_freed_memory():
    """Let the C library keep the memory of freed feature maps for the next training step.

    GNU's C library gives large blocks back to the system as soon as they are free, and the system hands them
    out again page by page, cleared: in a small network's training that is an eighth of the time
    (benchmarks/freed_memory.py). Blocks of up to 32 MB are kept, 256 MB at most beyond what is in use.
    Where the environment holds a setting of its own (MALLOC_…), or on another system, nothing changes.

    Returns:
        bool: whether the C library took the settings.

    Source: the manual page mallopt(3).
    """
    own = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES"}
    if platform.libc_ver()[0] != "glibc" or own & os.environ.keys():
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in malloc.h
    library = ctypes.CDLL(None)
    return all(
        library.mallopt(name, size << 20) for name, size in ((mmap_threshold, 32), (trim_threshold, 256))
    )


def set_seed(seed):
    """Seed the generators of Python, NumPy and torch (every device), and have a GPU repeat its sums.

    The algorithms that cuDNN prefers on an NVIDIA GPU add in an order that changes from run to run, and with
    it the last digits. From here on it takes those that give the same numbers again; small networks train as
    fast with them.

    Args:
        seed: int, 0 to 2**32 − 1.

    Raises:
        ParameterError: `seed` is not such an int.

    Source: PyTorch's notes on reproducibility, section "CUDA convolution determinism".
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise ParameterError(f"seed is {seed!r}; it must be an int from 0 to {2**32 - 1}")
    import torch

    random.seed(int(seed))
    np.random.seed(int(seed))
    torch.manual_seed(int(seed))
    torch.backends.cudnn.deterministic = True


def random_states(device):
    """Return the states of the generators that a run on a device uses: Python's, NumPy's and torch's.

    Args:
        device: torch.device.

    Returns:
        dict: "python" and "numpy" → what their `setstate` and `set_state` take, of plain numbers; the kinds
        of device, "cpu" and its own, such as "cuda" → a uint8 tensor.
    """
    import torch

    name, keys, *rest = np.random.get_state()
    states = {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),  # a checkpoint holds no arrays
        "cpu": torch.get_rng_state(),
    }
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state(*_which(device))
    return states


def set_random_states(device, states):
    """Put the generators for a device into states that `random_states` returned, for any device."""
    import torch

    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["cpu"])
    if device.type != "cpu" and device.type in states:
        torch.get_device_module(device).set_rng_state(states[device.type], *_which(device))


def _which(device):
    return () if device.type == "mps" else (device,)  # of Apple's GPUs there is one


@contextmanager
def own_randomness(seed, device):
    """Seed Python, NumPy and torch for a block, as `set_seed` does; give the caller's state back afterwards.

    The generators of other devices are left alone: `torch.manual_seed` would seed them too, and not put them
    back.

    Args:
        seed: int from 0 on; None: the block begins with the caller's own states.
        device: torch.device on which the block computes.
    """
    import torch

    before, cudnn = random_states(device), torch.backends.cudnn
    repeats = cudnn.deterministic
    if seed is not None:
        own = {"python": random.Random(seed).getstate()}
        own["numpy"] = np.random.RandomState(seed % 2**32).get_state()  # it takes no larger one
        for kind in before.keys() - own.keys():
            own[kind] = torch.Generator(kind).manual_seed(seed).get_state()
        set_random_states(device, own)
    cudnn.deterministic = True
    try:
        yield
    finally:
        set_random_states(device, before)
        cudnn.deterministic = repeats


def best_device(name="auto"):
    """Return the device to compute on.

    Args:
        name: "auto" (CUDA where there is one, else the CPU), or a name torch knows: "cpu", "cuda:1".

    Returns:
        torch.device

    Raises:
        ParameterError: torch does not know the name, or this machine lacks the device.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError):
        found = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise ParameterError(
            f'device is {name!r}, which this machine does not have; use "auto" or one of {found}'
        ) from None
    return device


def settings(profile, **profiles):
    """Return the settings of one of a lesson's profiles.

    Args:
        profile: the profile's name, as the lesson's parameters cell gives it.
        **profiles: a dict of settings per profile, for instance fast={"runs": 3}, full={"runs": 10}.

    Returns:
        SimpleNamespace: the chosen dict's items as attributes.

    Raises:
        ParameterError: no profile has that name.
    """
    if profile not in list(profiles):
        raise ParameterError(f"profile is {profile!r}; it must be one of {list(profiles)}")
    return SimpleNamespace(**profiles[profile])


def report():
    """Return the facts that results and their speed depend on, as a dict of strings."""

    def installed(package):
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    import torch

    device = best_device()
    if device.type == "cuda":
        device = f"{device} ({torch.cuda.get_device_name(device)})"
    packages = ("torchvision", "numpy", "pandas", "matplotlib", "jupyterlab", "papermill")
    return {
        "Python": platform.python_version(),
        "torch": torch.__version__,  # tells the build too, as 2.13.0+cu130 does, where the package's may not
        **{package: installed(package) for package in packages},
        "system": f"{platform.system()} {platform.machine()}",
        "device": str(device),
        "CPU threads": str(torch.get_num_threads()),
        "threads wait": _waiting(),
    }


def _waiting():
    """Say how OpenMP's threads wait for each other; `cnnlib/__init__.py` tells why it matters."""
    import cnnlib

    if cnnlib.TORCH_WAS_FIRST:
        return "spinning for long, slow beside a browser: torch was imported before cnnlib"
    if platform.system() != "Linux":  # torch brings LLVM's OpenMP there, which has settings of its own
        return "as this system's OpenMP has it"
    return f"asleep after {os.environ['GOMP_SPINCOUNT']} turns"
