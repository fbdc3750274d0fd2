"""What `cnnlib.train.fit` costs over a bare loop: the same steps, timed in turn, in one run.

    python benchmarks/fit_overhead.py [--repeats 41] [--images 12800] [--model fast_cnn]

The bare loop has the same network, batches, optimizer and schedule, and nothing else: no history, no checks,
no interrupt. The network is the course's fastest, so that what `fit` adds weighs the most. The ratio is taken
pair by pair; its median must be at most 1.15. That both end with the very same weights is checked.
"""

import argparse
import statistics
import time

import numpy as np
import torch

from cnnlib.data import batches, load, to_float
from cnnlib.ground.env import report, set_seed
from cnnlib.models import MODELS, make_model
from cnnlib.train import FAST, fit

LIMIT = 1.15


def bare_loop(model, train, seed):
    """Train for one epoch with the settings of `train.FAST`, and do nothing else."""
    model.to(memory_format=torch.channels_last)  # as `fit` does
    optimizer = FAST["optimizer"](model.parameters(), lr=FAST["lr"])
    steps = -(-len(train) // FAST["batch_size"])
    schedule = FAST["schedule"](optimizer, steps)
    order = torch.Generator().manual_seed(seed)
    model.train()
    for images, labels in batches(train, FAST["batch_size"], order):
        loss = FAST["loss"](model(to_float(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def with_fit(model, train, seed):
    fit(model, train, epochs=1, seed=seed, device="cpu", progress=False, **FAST)


def seconds(function, name, train, seed):
    """Return how long a function trains a fresh model, and the model."""
    set_seed(seed)
    model = make_model(name)
    started = time.perf_counter()
    function(model, train, seed)
    return time.perf_counter() - started, model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=41)
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--model", default="fast_cnn", choices=sorted(MODELS))
    arguments = parser.parse_args()

    train = load("mnist")[: arguments.images]
    for function in (bare_loop, with_fit):  # warm up: memory, caches, threads
        seconds(function, arguments.model, train[:2560], 0)
    pairs = []
    for seed in range(arguments.repeats):
        functions = (bare_loop, with_fit) if seed % 2 else (with_fit, bare_loop)
        times, models = {}, {}
        for function in functions:
            times[function], models[function] = seconds(function, arguments.model, train, seed)
        for a, b in zip(models[bare_loop].parameters(), models[with_fit].parameters(), strict=True):
            if not torch.equal(a, b):
                raise SystemExit("the two loops end with different weights: the comparison is not fair")
        pairs.append((times[bare_loop], times[with_fit]))

    facts = report()
    steps = -(-arguments.images // FAST["batch_size"])
    print(f"torch {facts['torch']}, {facts['device']}, {facts['CPU threads']} threads")
    print(f"{arguments.model}, {steps} steps of {FAST['batch_size']}, {arguments.repeats} pairs\n")
    print(f"{'':24}{'median':>10}{'fastest':>10}{'a step':>10}")
    for name, values in zip(("bare loop", "fit"), zip(*pairs, strict=True), strict=True):
        middle = statistics.median(values)
        print(f"{name:24}{middle:8.3f} s{min(values):8.3f} s{1000 * middle / steps:7.2f} ms")
    low, middle, high = np.quantile([b / a for a, b in pairs], (0.25, 0.5, 0.75))
    print(f"\nratio: median {middle:.3f}, quartiles {low:.3f} to {high:.3f}; limit {LIMIT:.2f}")
    if middle > LIMIT:
        raise SystemExit(f"fit costs {middle - 1:.0%} over a bare loop; the limit is {LIMIT - 1:.0%}")


if __name__ == "__main__":
    main()
