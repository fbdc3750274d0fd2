"""Checkpoints: the whole state of a training run in one file that is complete or absent."""

import pickle
from pathlib import Path

import torch

from cnnlib.ground.errors import CheckpointError
from cnnlib.ground.files import atomic_path

_FORMAT = 1


def save_checkpoint(path, state):
    """Write a checkpoint; whatever happens meanwhile, `path` holds the old one or the new one.

    Args:
        path: the file to write.
        state: dict of tensors, numbers, strings, lists and dicts, such as state dicts.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        torch.save({"cnnlib_checkpoint": _FORMAT, **state}, temporary)


def load_checkpoint(path):
    """Read a checkpoint. Only plain data is admitted, so that opening a stranger's file runs no code.

    Args:
        path: a file that `save_checkpoint` wrote.

    Returns:
        dict: the state, its tensors on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, or no checkpoint of this package.
    """
    path = Path(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}; check the path") from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else "the file ends early"
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({first_line[:100]}); delete it to start afresh"
        ) from None
    if not isinstance(state, dict) or state.get("cnnlib_checkpoint") != _FORMAT:
        raise CheckpointError(f"{path} was not written by save_checkpoint; use another path")
    return state


def check_identity(path, found, expected):
    """Refuse to resume a run from the checkpoint of another one.

    Args:
        path: the checkpoint, for the message.
        found: dict that describes the run that was saved.
        expected: dict that describes the run that would go on.

    Raises:
        CheckpointError: the two differ; the message names each difference.
    """
    differences = [
        f"{key} was {_short(found.get(key))}, is now {_short(value)}"
        for key, value in expected.items()
        if found.get(key) != value
    ]
    if differences:
        raise CheckpointError(
            f"{path} belongs to another run: {'; '.join(differences)}. "
            "Delete it to start afresh, or give this run a path of its own"
        )


def _short(value):
    text = str(value)
    return text if len(text) <= 60 else "another one"
