"""The program inside the jail of an entry to the open challenge: it reads, trains or asks one entry.

The other side is `entries`, which believes nothing that a process says in which the entry itself runs; that
is all but `read`, which runs nothing of what it reads.
"""

import ast
import resource
import sys
import time
import types

from cnnlib.course.challenge import answer, train_entry
from cnnlib.course.exercises.program import Notebook, read_cell
from cnnlib.data import Dataset


def limit(seconds):
    """Let this process, and each that it starts, have so many seconds of processor time, for good."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def read(setup, cells, names, most):
    """Return the statements that an entry needs: comments and docstrings gone, the lesson's own not counted.

    Args:
        setup: sources of the lesson's cells that entries may build on.
        cells: sources of the notebook's cells, up to the last that binds one of the names.
        names: what the entry is.
        most: bytes of the statements; of more only the number is told.

    Returns:
        dict: "parts", list of str; "bytes"; "missing", those of the names that nothing binds.
    """
    given = {ast.unparse(s.tree) for source in setup for s in read_cell(source)[0]}
    plan = [s for s in Notebook([*setup, *cells]).needed(set(names)) if s.cell >= len(setup)]
    parts = [ast.unparse(_without_docstrings(s.tree)) for s in plan]
    size = sum(len(part.encode()) for part in parts if part not in given)
    missing = [name for name in names if not any(name in s.binds for s in plan)]
    return {"parts": parts if size <= most else [], "bytes": size, "missing": missing}


def train(parts, images, labels, seconds, seed):
    """Train an entry in what is left of its seconds; return [its state without names, steps, ended]."""
    build, settings = _entry(parts)
    left = max(seconds - time.process_time(), 1e-3)  # what stands outside the network is not free either
    trained = train_entry(build, settings, Dataset(images, labels), seconds=left, seed=seed)
    return [list(trained.state.values()), trained.steps, trained.ended]


def judge(parts, state, images):
    """Return the labels that an entry with this state gives to images, (N,) int64."""
    build, _ = _entry(parts)
    names = list(build().state_dict())
    if len(names) != len(state):
        raise ValueError(f"the network has {len(names)} tensors when it is asked, and had {len(state)}")
    return answer(build, dict(zip(names, state, strict=True)), images)


def _entry(parts):
    """Run an entry's statements, passing over those that fail; return what it hands in."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module  # where pickle, dataclasses and typing look names up
    problem = None
    for part in parts:
        try:
            exec(compile(part, "<entry>", "exec"), vars(module))
        except Exception as error:
            problem = problem or error
    try:
        return module.Entry, module.ENTRY_SETTINGS
    except AttributeError as error:
        raise problem or error from None


def _without_docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                node.body = node.body[1:] or [ast.Pass()]
    return tree
