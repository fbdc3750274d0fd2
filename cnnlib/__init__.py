"""Helpers of a course on convolutional neural networks.

Import cnnlib before torchvision: it repairs a torchvision that cannot be imported beside a CPU-only
torch. The submodules are loaded when they are first used, so that this import stays quick.
"""

import importlib
import importlib.util

from cnnlib.env import repair_torchvision

__version__ = "0.1.0"

repair_torchvision()


def __getattr__(name):
    if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
