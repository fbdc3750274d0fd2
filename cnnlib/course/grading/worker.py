"""The program inside the jail: it runs answers of one learner and sends back what they return.

It reads requests from a socket and writes replies to it, each a length and plain data. Nothing that it says
is believed: the other side checks each reply against what it expects.
"""

import os
import random
import struct
import sys

import IPython.core.inputtransformer2  # noqa: F401 - cells with magics need it, and it is slow to import
import numpy as np
import torch

from cnnlib.course.exercises import ask, module, plain  # noqa: F401 - module: `ask` would import it each time
from cnnlib.course.exercises.judge import AnswerEnded
from cnnlib.course.exercises.program import load

torch.set_num_threads(1)  # before the fork, which no thread survives

LOADED = ("source", "providers", "given", "own")
"""What `load` is told of an answer, besides its name."""


def serve(descriptor):
    """Answer requests until the other side has no more.

    Args:
        descriptor: of a socket; "source" loads an answer, "case" asks it.
    """
    requests, replies = os.fdopen(descriptor, "rb"), os.fdopen(os.dup(descriptor), "wb")
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115 - /dev/null
    sys.argv[1:] = []  # the warden's
    sys.path.insert(0, "")  # as a kernel has it: modules that a notebook writes lie in the working folder
    answers, ran = {}, []
    while header := requests.read(4):
        request = plain.loads(requests.read(*struct.unpack(">I", header)))
        name = request["name"]
        try:
            if "source" in request:
                _seed()
                answers[name] = load(name, *(request[key] for key in LOADED), ran)
                reply = {"loaded": name}
            else:
                reply = {"result": ask(answers[name], request["case"])}
        except AnswerEnded as ended:
            reply = {"ended": ended.verdict.status, "message": ended.verdict.message}
        except Exception as error:
            reply = {"ended": "error", "message": f"it cannot be run: {type(error).__name__}"}
        except BaseException as error:  # SystemExit, KeyboardInterrupt and what an answer derives from them
            reply = {"ended": "error", "message": f"it tried to end the program: {type(error).__name__}"}
        _send(replies, reply)


def _seed():
    """Let every answer find the same randomness."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)


def _send(stream, reply):
    data = plain.dumps(reply)
    stream.write(struct.pack(">I", len(data)) + data)
    stream.flush()
