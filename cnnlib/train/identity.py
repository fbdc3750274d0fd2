"""Whose run a checkpoint is: functions, objects and data described, so that two runs can be compared."""

import enum
import functools
import itertools
import re
import types
import zlib

import numpy as np
import torch
from torch import nn

from cnnlib.ground.errors import CheckpointError


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
    return text if len(text) <= 100 else "another one"


def describe(value, known=()):
    """Describe a function, or an object that is called, so that another run's can be compared with it.

    Equal are two that would compute the same: in the next process too, where all lies at other addresses.
    So a function is its name, code, default arguments and closure, and an object its class and its settings;
    functions of torch and of this package are their names. What may change while a run goes on is told by
    its kind alone: lists, dicts and sets that a function or an object keeps, learned tensors, what is known.

    Args:
        value: a function, a functools.partial, a class, a module, any callable.
        known: objects that are described elsewhere, such as a model and its parts.

    Returns:
        str: the name with its settings; behind it, in brackets, a checksum of what they do not show.
    """
    hidden = []
    text = _text(value, hidden, tuple(known))
    return f"{text} [{zlib.crc32(repr(hidden).encode()):08x}]" if hidden else text


def without_addresses(text):
    """Return a text, such as an object's repr, without the places in memory that it names."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _text(value, hidden, known):
    """Return what is shown of a value, and append to `hidden` what is not."""
    if any(value is other for other in known):
        return f"the {type(value).__name__}"
    known = (*known, value)

    def settings(named):
        return ", ".join(f"{name}={_text(item, hidden, known)}" for name, item in named)

    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, enum.Enum, np.generic)):
        return repr(value.item() if isinstance(value, np.generic) else value)
    if isinstance(value, (tuple, list, set, frozenset)):
        items = [_text(item, hidden, known) for item in value]
        return f"({', '.join(sorted(items) if isinstance(value, (set, frozenset)) else items)})"
    if isinstance(value, dict):
        return f"({settings(value.items())})"
    if isinstance(value, functools.partial):
        given = [_text(item, hidden, known) for item in value.args]
        given += [settings([pair]) for pair in value.keywords.items()]
        return f"{_text(value.func, hidden, known)}({', '.join(given)})"
    if isinstance(value, np.ndarray):
        value = torch.as_tensor(value)
    if isinstance(value, torch.Tensor):
        checksum = "" if value.requires_grad else f" {checksum_of(value):08x}"
        return f"{tuple(value.shape)} {value.dtype}{checksum}"
    if isinstance(value, types.MethodType):
        return f"{_text(value.__self__, hidden, known)}.{_text(value.__func__, hidden, known)}"
    if isinstance(value, types.FunctionType):
        if not _is_library(value):
            cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
            defaults = [*enumerate(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).items()]
            hidden += [_code(value.__code__), settings(map(_lasting, [*_contents(cells), *defaults]))]
        return value.__qualname__
    if isinstance(value, type):
        for kind in itertools.takewhile(lambda kind: not _is_library(kind), value.__mro__):
            functions = [f for f in vars(kind).values() if isinstance(f, types.FunctionType)]
            hidden += [_code(function.__code__) for function in functions]
        return value.__qualname__
    if not callable(value):
        return f"a {type(value).__qualname__}"
    if not hasattr(value, "__dict__") or isinstance(value, types.BuiltinFunctionType):
        return getattr(value, "__qualname__", without_addresses(repr(value)))
    named = [(name, item) for name, item in vars(value).items() if not name.startswith("_")]
    if isinstance(value, nn.Module):
        named = [pair for pair in named if pair[0] != "training"]
        for tensors in (value.named_parameters(recurse=False), value.named_buffers(recurse=False)):
            named += tensors
        named += value.named_children()
    return f"{_text(type(value), hidden, known)}({settings(map(_lasting, named))})"


def _is_library(kind):
    return (kind.__module__ or "").split(".")[0] in ("torch", "cnnlib", "builtins")


def _contents(cells):
    for name, cell in cells:
        try:
            yield name, cell.cell_contents
        except ValueError:  # a name that has no value yet
            yield name, None


def _lasting(pair):
    """Replace what a run may change by its kind."""
    name, item = pair
    return name, f"a {type(item).__name__}" if isinstance(item, (list, dict, set)) else item


def _code(code):
    """Describe compiled code, without the file and the lines that it comes from."""

    def constant(value):
        if isinstance(value, types.CodeType):
            return _code(value)
        return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)

    names = code.co_names, code.co_varnames, code.co_freevars
    return code.co_code.hex(), names, [constant(value) for value in code.co_consts]


def checksum_of(tensor, before=0):
    """Return the CRC-32 of a tensor's values in reading order, however they lie in memory."""
    values = tensor.detach().cpu().contiguous().reshape(-1)
    return zlib.crc32(values.view(torch.uint8).numpy(), before)
