"""A training in a process of its own: what benchmarks time where a setting is read once, at its start."""

import os
import subprocess
import sys

TRAIN = """
import resource, statistics, time
from cnnlib.data import load
from cnnlib.ground import set_seed
from cnnlib.models import make_model
from cnnlib.train import fit
digits = load("mnist", "train")[:3_200]
seconds = []
for _ in range(5):  # the first one warms up
    set_seed(0)
    model = make_model("simple_cnn")
    started = time.perf_counter()
    fit(model, digits, epochs=1, batch_size=64, progress=False, device="cpu")
    seconds.append(time.perf_counter() - started)
print(statistics.median(seconds[1:]), resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def train(**environment):
    """Train `simple_cnn` on 3,200 digits, five times, in a fresh process with these environment variables.

    Returns:
        (seconds, page faults): the median time of the last four, and how often the whole process was handed
        out a page of memory.
    """
    command, settings = [sys.executable, "-c", TRAIN], os.environ | environment
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=True)
    return tuple(map(float, done.stdout.split()))
