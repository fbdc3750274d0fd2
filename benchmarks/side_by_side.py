"""Several seeds side by side, one thread each, against one after the other with all threads.

    .venv/bin/python benchmarks/side_by_side.py

Both train `simple_cnn` on 6,000 digits with the same seeds; they take turns, and the printed ratio is that of
each round. Workers are started before the clock is, as they are in a lesson after its first cell of runs.
"""

import argparse
import statistics
import time

from cnnlib.data import load
from cnnlib.ground import report, set_seed
from cnnlib.models import make_model
from cnnlib.train import evaluate, fit, side_by_side


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=6)
    options = parser.parse_args()
    digits = load("mnist", "train")
    train, val = digits[:6_000], digits[50_000:51_000]

    def run(seed):
        set_seed(seed)
        model = make_model("simple_cnn")
        fit(model, train, epochs=1, batch_size=64, seed=seed, progress=False, device="cpu")
        return evaluate(model, val).accuracy

    print(", ".join(f"{name} {value}" for name, value in report().items()), flush=True)
    side_by_side(run, range(2), progress=False)
    ratios, equal = [], True
    for _ in range(options.rounds):
        started = time.perf_counter()
        in_turn = [run(seed) for seed in range(options.seeds)]
        middle = time.perf_counter()
        together = side_by_side(run, range(options.seeds), progress=False)
        ended = time.perf_counter()
        ratios.append((middle - started) / (ended - middle))
        one_worker = side_by_side(run, range(2), workers=1, progress=False)
        equal &= one_worker == together[:2]
        print(
            f"in turn, all threads {middle - started:.1f} s; side by side {ended - middle:.1f} s: "
            f"× {ratios[-1]:.2f}; accuracy {statistics.mean(in_turn):.3f}, {statistics.mean(together):.3f}",
            flush=True,
        )
    low, median, high = statistics.quantiles(ratios, n=4)
    print(
        f"{options.seeds} seeds: side by side is {median:.2f} times faster (quartiles {low:.2f}–{high:.2f})"
    )
    print(f"one worker and several give the same numbers: {equal}")


if __name__ == "__main__":
    main()
