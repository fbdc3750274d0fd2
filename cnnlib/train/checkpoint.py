"""Checkpoints: the whole state of a training run in one file, complete or absent."""

import copy
import random
import zipfile

import numpy as np
import torch

from cnnlib.ground.errors import CheckpointError, ParameterError, kind_of
from cnnlib.ground.files import as_path, atomic_path

_FORMAT = 4


def save_checkpoint(path, state):
    """Write a checkpoint; whatever happens meanwhile, `path` holds the old one or the new one.

    Args:
        path: the file to write.
        state: dict of tensors, numbers, strings, lists and dicts, such as state dicts.

    Raises:
        ParameterError: the state holds something else, which could not be read again; see `plain`.
        OSError: the file cannot be written.
    """
    path, state = as_path("path", path), plain(state, "state")
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
    path = as_path("path", path)
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes checksums and does not look at them
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"{damaged} does not match its checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}; check the path") from None
    except (IsADirectoryError, PermissionError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({error.strerror}); use another path"
        ) from None
    except Exception as error:  # there is no end to what a damaged file makes a reader raise
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else "the file ends early"
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({first_line[:100]}); delete it to start afresh"
        ) from None
    found = state.get("cnnlib_checkpoint") if isinstance(state, dict) else None
    if type(found) is not int:
        raise CheckpointError(f"{path} was not written by save_checkpoint; use another path")
    if found != _FORMAT:
        raise CheckpointError(
            f"{path} has the format {found} of another version of cnnlib, this one reads {_FORMAT}; "
            "delete it to start afresh"
        )
    return state


def check_generators(model):
    """Refuse a model with a layer that draws from a generator of its own, whose state no checkpoint holds.

    Raises:
        ParameterError: there is one, and its layer does not give its state itself (`get_extra_state`).
    """
    kinds = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
    for name, layer in model.named_modules():
        own = [key for key, value in vars(layer).items() if isinstance(value, kinds)]
        if own and type(layer).get_extra_state is torch.nn.Module.get_extra_state:
            raise ParameterError(
                f"layer {name!r}, {kind_of(layer)}, draws from a generator of its own, {own[0]}, whose state "
                "a checkpoint cannot hold; let it draw from the global one of torch, NumPy or Python, or "
                "train without a checkpoint"
            )


def plain(value, name):
    """Return a value with plain Python numbers and strings in place of NumPy's and of their own kinds.

    Opening a checkpoint runs no code, therefore it admits no others.

    Args:
        value: tensors, numbers, strings, None, and lists, tuples and dicts of them.
        name: what the value is, for the message.

    Raises:
        ParameterError: it holds something else; the message says where.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, torch.Tensor, torch.Size, torch.dtype, torch.device)):
        return value
    for kind in (int, float, str, bytes):
        if isinstance(value, kind):
            return kind(value)
    if type(value) in (list, tuple):
        return type(value)(plain(item, f"{name}[{i}]") for i, item in enumerate(value))
    if isinstance(value, dict):
        same = copy.copy(value)  # an OrderedDict stays one, with what a state dict notes about itself
        same.clear()
        for key, item in value.items():
            same[plain(key, f"a key of {name}")] = plain(item, f"{name}[{key!r}]")
        return same
    raise ParameterError(
        f"{name} is {value!r:.80}, {kind_of(value)}, which a checkpoint cannot hold; make it of "
        "tensors, numbers, strings, lists and dicts, or train without a checkpoint"
    )
