"""Deciding one entry to the open challenge: read, trained and asked, each in a jail of its own.

    reading jail     the notebook's cells          → the statements that the entry needs; runs none of them
    training jail    statements, images, labels    → tensors
    judging jail     statements, tensors, images   → labels, which are compared out here

What an entry may do to the process that trains it does not matter: its processor time is the kernel's count,
its numbers are counted here, and neither a name nor an object crosses, only tensors in their order. The
process that is asked has no label and no training image. So an answer can come from nowhere but the numbers
and the statements; these are few, see `SOURCE_LIMIT`.
"""

import math
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnlib.course.challenge import MAX_NUMBERS
from cnnlib.course.exercises.judge import AnswerEnded
from cnnlib.course.grading.client import Answer
from cnnlib.course.grading.jail import STARVED
from cnnlib.data import Dataset

NAMES = ("Entry", "ENTRY_SETTINGS")
"""What a learner hands in."""
SOURCE_LIMIT = 3_000
"""Bytes of an entry's statements, without comments, docstrings, and what the lesson's setup cells hold.

All 70,000 images are public, so a text could say which of them has which label, or carry weights that were
trained for hours. Seven bits at the least name an image of so many and its label: 3,000 bytes that are
nothing else name 3,400, five in a hundred, and 20,000 weights would have 1.2 bits each. Such a text looks
like none that builds a network, and it is kept where a person can read it.
"""
READ_SECONDS, JUDGE_SECONDS = 20, 20
"""Processor seconds for reading a notebook, and for answering about all images."""
SPARE = 1.05, 3.0
"""Share, and seconds on top, that training may take beyond its budget: for the last step and the way out."""
PATIENCE = 6, 60
"""How many times its processor time a jail may take by the clock, and seconds on top: the machine is busy."""
TENSORS = 2_000
ENDS = ("done", "budget", "diverged")


class Draw(NamedTuple):
    """What all entries of a run are trained on and asked: the data, and the budget."""

    train: Dataset
    judged: Dataset
    seconds: float
    seed: int


class Refused(Exception):  # noqa: N818 - it is no error of ours
    """An entry that gets no rank; the message says why."""


def decide(warden, setup, cells, draw):
    """Decide one entry.

    Args:
        warden: jail.Warden.
        setup: sources of the lesson's cells that entries may build on.
        cells: sources of the notebook's cells, up to the last that defines one of `NAMES`.
        draw: Draw

    Returns:
        dict of plain data: "reason", why it has no rank, "" where it has; "entry", its statements; "bytes";
        "numbers", "steps", "ended" and "seconds" of training; "right": for each judged image whether its
        label was found, an array of bool packed as text in hexadecimal; "correct", how many.

    Raises:
        jail.JailError: there is no jail to be had.
    """
    found = {"reason": "", "entry": "", "bytes": 0, "numbers": 0, "steps": 0, "ended": "", "seconds": 0.0}
    found |= {"right": "", "correct": 0}
    try:
        parts = _read(warden, setup, cells, found)
        state = _train(warden, parts, draw, found)
        right = _judge(warden, parts, state, draw)
        found |= {"right": np.packbits(right).tobytes().hex(), "correct": int(right.sum())}
    except Refused as refused:
        found["reason"] = str(refused)
    return found


def unpacked(right, count):
    """Return "right" of `decide` as an array of bool for `count` images."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(right), np.uint8), count=count).astype(bool)


def _read(warden, setup, cells, found):
    request = [setup, cells, list(NAMES), SOURCE_LIMIT]
    reply, _ = _ask(warden, "read", request, READ_SECONDS, "its notebook was read")
    if reply["missing"]:
        raise Refused(f"no statement binds {' or '.join(reply['missing'])}")
    found |= {"bytes": reply["bytes"], "entry": "\n\n".join(reply["parts"])}
    if reply["bytes"] > SOURCE_LIMIT:
        raise Refused(
            f"its statements have {reply['bytes']:,} bytes without comments and docstrings; "
            f"at most {SOURCE_LIMIT:,} are allowed"
        )
    return [*setup, *reply["parts"]]


def _train(warden, parts, draw, found):
    """Return the entry's state, a list of arrays that were counted here."""
    request = [parts, draw.train.images, draw.train.labels, draw.seconds, draw.seed]
    reply, found["seconds"] = _ask(
        warden,
        "train",
        request,
        draw.seconds,
        "it was trained",
        math.ceil(SPARE[0] * draw.seconds + SPARE[1]),
    )
    if not (
        isinstance(reply, list)
        and len(reply) == 3
        and isinstance(reply[0], list)
        and all(isinstance(value, np.ndarray) for value in reply[0])
        and type(reply[1]) is int
        and 0 <= reply[1] < 1e9
        and reply[2] in ENDS
    ):
        raise Refused("its training sent back something else than tensors")
    state, found["steps"], found["ended"] = reply
    found["numbers"] = sum(value.size for value in state)
    if found["numbers"] > MAX_NUMBERS or len(state) > TENSORS:
        raise Refused(
            f"it learned {found['numbers']:,} numbers in {len(state):,} tensors; "
            f"at most {MAX_NUMBERS:,} are allowed"
        )
    if found["ended"] == "diverged":
        raise Refused(f"its loss was no longer finite after {found['steps']:,} steps")
    if any(value.dtype.kind == "f" and np.isnan(value).any() for value in state):
        raise Refused("there is NaN among the numbers that it learned")
    return state


def _judge(warden, parts, state, draw):
    """Return for each judged image whether the entry, asked anew, finds its label: array of bool."""
    request = [parts, state, draw.judged.images]
    labels, _ = _ask(warden, "judge", request, JUDGE_SECONDS, "it was asked")
    shape = (len(draw.judged),)
    if not (isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and labels.shape == shape):
        raise Refused("its answers are no labels, one for each image")
    return labels == draw.judged.labels.numpy()


def _ask(warden, name, request, seconds, what, most=None):
    """Call a function of `entrant` in a fresh jail; return (plain data, processor seconds of the whole jail).

    Raises:
        Refused: it failed, ended, or took more than `most` seconds (None: `seconds`); `what` says when.
    """
    most = most or math.ceil(seconds)
    clock = PATIENCE[0] * most + PATIENCE[1]
    deadline, program, verdict, reply = time.monotonic() + clock, _program(), None, None
    with Answer(warden) as answer:
        try:
            for function, case in (("limit", [most]), (name, request)):
                answer.load(function, deadline, program, [])
                reply = answer.call(function, deadline, case)
        except AnswerEnded as ended:
            verdict = ended.verdict
        spent = answer.end()
    if spent["seconds"] > most or (verdict and spent["code"] == -9 and spent["seconds"] > most - 1):
        raise Refused(
            f"while {what}, it took {spent['seconds']:.1f} s of processor time, with all that it started; "
            f"it has {seconds:g}"
        )
    if verdict is None:
        return reply, round(spent["seconds"], 2)
    message = verdict.message
    if verdict.status == "timeout":
        message = (
            f"it took more than {clock:,} s by the clock, and had {spent['seconds']:.0f} of the processor"
        )
    elif spent["starved"]:
        message = STARVED
    raise Refused(f"while {what}, {message.removeprefix('it raised ParameterError: ')}")


def _program():
    return Path(__file__).with_name("entrant.py").read_text(encoding="utf-8")
