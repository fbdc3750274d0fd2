"""Helpers of a course on convolutional neural networks.

Its rooms, from the ground up: `ground`; `data`, `models`, `train`, `inside` and `measure`, which lessons
import; `course`, the machinery around the lessons. Imports go downwards only. A room is loaded when it is
first used, so that this import stays quick.
"""

import importlib
import importlib.util
import os
import sys

# OpenMP's threads wait for each other many times in each training step, and spin while they wait: 300,000
# turns, some milliseconds, unless told otherwise. Where a browser takes one of two cores, both threads then
# burn their share of the processor in waiting. So they fall asleep sooner. 8,000 turns outlast most of the
# gaps between two operations: fewer make the quiet machine slower, since a sleeping thread is slow to wake,
# and more make the busy one slower (benchmarks/busy_machine.py). OpenMP reads this once, when torch loads;
# that is why lessons import cnnlib first.
TORCH_WAS_FIRST = "torch" in sys.modules and "GOMP_SPINCOUNT" not in os.environ
os.environ.setdefault("GOMP_SPINCOUNT", "8000")

from cnnlib.ground.env import RepairTorchvision, keep_freed_memory  # noqa: E402

__version__ = "0.8.1"

keep_freed_memory()
if "torchvision" not in sys.modules:
    sys.meta_path.insert(0, RepairTorchvision)


def __getattr__(name):
    if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
