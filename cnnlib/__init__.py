"""Helpers of a course on convolutional neural networks.

Import cnnlib before torchvision: it repairs a torchvision that cannot be imported beside a CPU-only
torch. The submodules are loaded when they are first used, so that this import stays quick.
"""

import importlib

from cnnlib.env import repair_torchvision

__version__ = "0.1.0"
_SUBMODULES = (
    "claims",
    "data",
    "env",
    "errors",
    "features",
    "geometry",
    "layers",
    "metrics",
    "models",
    "plots",
    "pretrained",
    "train",
)

repair_torchvision()


def __getattr__(name):
    if name in _SUBMODULES:
        return importlib.import_module(f"cnnlib.{name}")
    raise AttributeError(f"module 'cnnlib' has no attribute {name!r}; it has {', '.join(_SUBMODULES)}")
