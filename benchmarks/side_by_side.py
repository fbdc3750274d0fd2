"""Several seeds side by side, one thread each, against one after the other with all threads.

    .venv/bin/python benchmarks/side_by_side.py

Both train a network on 6,000 digits with the same seeds; they take turns, and the printed ratio is that of
each round. Workers are started before the clock is, as they are in a lesson after its first cell of runs.
The ratio depends on how well a network's operations use several threads: the smaller they are, the worse.
"""

import argparse
import statistics
import time

import numpy as np

from cnnlib.data import load
from cnnlib.ground import report, set_seed
from cnnlib.models import MODELS, make_model
from cnnlib.train import evaluate, fit, side_by_side


def compare(name, seeds, rounds, train, val):
    """Return the ratio of each round, and whether one worker gives the same numbers as several."""

    def run(seed):
        set_seed(seed)
        model = make_model(name)
        fit(model, train, epochs=1, batch_size=64, seed=seed, progress=False, device="cpu")
        return evaluate(model, val).accuracy

    side_by_side(run, range(2), progress=False)  # starts the workers
    run(0)
    ratios, equal = [], True
    for _ in range(rounds):
        started = time.perf_counter()
        in_turn = [run(seed) for seed in range(seeds)]
        middle = time.perf_counter()
        together = side_by_side(run, range(seeds), progress=False)
        ended = time.perf_counter()
        ratios.append((middle - started) / (ended - middle))
        equal &= side_by_side(run, range(2), workers=1, progress=False) == together[:2]
        print(
            f"{name}: in turn, all threads {middle - started:.1f} s; side by side {ended - middle:.1f} s: "
            f"× {ratios[-1]:.2f}; accuracy {statistics.mean(in_turn):.3f}, {statistics.mean(together):.3f}",
            flush=True,
        )
    return ratios, equal


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument(
        "--models", nargs="+", default=["simple_cnn", "lenet5", "mlp"], choices=sorted(MODELS)
    )
    options = parser.parse_args()
    digits = load("mnist", "train")
    train, val = digits[:6_000], digits[50_000:51_000]
    print(", ".join(f"{name} {value}" for name, value in report().items()), flush=True)
    for name in options.models:
        ratios, equal = compare(name, options.seeds, options.rounds, train, val)
        low, median, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        print(f"{name}, {options.seeds} seeds: × {median:.2f} (quartiles {low:.2f}–{high:.2f})", end="; ")
        print(f"one worker and several give the same numbers: {equal}")


if __name__ == "__main__":
    main()
