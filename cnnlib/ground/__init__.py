"""The ground that everything stands on: the machine and its paths, errors that help, files that are whole."""

from cnnlib.ground.env import DATA, IMG, NOTEBOOKS, ROOT, best_device, report, set_seed, settings
from cnnlib.ground.errors import CnnlibError, ParameterError
from cnnlib.ground.files import check_sha256

__all__ = [
    "DATA",
    "IMG",
    "NOTEBOOKS",
    "ROOT",
    "CnnlibError",
    "ParameterError",
    "best_device",
    "check_sha256",
    "report",
    "set_seed",
    "settings",
]
