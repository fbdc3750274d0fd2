"""What `fit` and `predict` save by laying a model's weights out as the CPU's kernels want them.

    .venv/bin/python benchmarks/channels_last.py [--rounds 5] [--images 1280]

Each model of `cnnlib.models.MODELS` is trained for one epoch and asked once, with one thread, in PyTorch's
own layout and in the one that `cnnlib.models.hooks.channels_last` gives it, in turn. Printed is processor
time, the fastest of the rounds, and the ratio of the two.
"""

import argparse
import contextlib
import time

import torch

from cnnlib.data import load
from cnnlib.ground.env import report, set_seed
from cnnlib.models import MODELS, make_model
from cnnlib.train import evaluate, fit, loop


def seconds(name, data, layout):
    """Return the processor time of one epoch and of one evaluation of a fresh model."""
    loop.channels_last = layout
    set_seed(0)
    model = make_model(name)
    times = [time.process_time()]
    fit(model, data, epochs=1, device="cpu", progress=False)
    times.append(time.process_time())
    evaluate(model, data)
    times.append(time.process_time())
    return times[1] - times[0], times[2] - times[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each; default: 5")
    parser.add_argument("--images", type=int, default=1280)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, quick = load("fashion_mnist")[: arguments.images], loop.channels_last
    print(
        f"torch {report()['torch']}, one thread, {arguments.images:,} images, fastest of {arguments.rounds}\n"
    )
    print(f"{'':20}{'train':>8}{'turned':>8}{'ratio':>7}{'ask':>9}{'turned':>8}{'ratio':>7}")
    for name in MODELS:
        seconds(name, data, quick)  # warm up
        layouts = (contextlib.nullcontext, quick)
        rounds = [[seconds(name, data, layout) for layout in layouts] for _ in range(arguments.rounds)]
        (train, ask), (quick_train, quick_ask) = (
            map(min, zip(*times, strict=True)) for times in zip(*rounds, strict=True)
        )
        print(
            f"{name:20}{train:8.2f}{quick_train:8.2f}{quick_train / train:7.2f}"
            f"{ask:9.2f}{quick_ask:8.2f}{quick_ask / ask:7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
