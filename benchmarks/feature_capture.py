"""What feature capture costs: a forward pass alone against one that keeps five layers, in one run.

    python benchmarks/feature_capture.py [--repeats 15] [--size 224] [--batch 1]

Both run VGG16's convolutions on the same photograph, in turn, so that whatever else the machine does
meets both alike. The ratio is taken pair by pair; its median must be at most 1.10.
"""

import argparse
import statistics
import time

import numpy as np
import torch

from cnnlib.data import photo
from cnnlib.ground.env import report
from cnnlib.inside.features import feature_maps
from cnnlib.models import pretrained

LIMIT = 1.10


def measure(model, images, layers, repeats):
    """Return the seconds of both calls, two lists with one number a repeat."""

    def plain():
        with torch.no_grad():
            model(images)

    def capture():
        feature_maps(model, images, layers)

    seconds = {plain: [], capture: []}
    for function in (plain, capture, plain, capture):  # warm up: memory, caches, threads
        function()
    for repeat in range(repeats):
        for function in (plain, capture) if repeat % 2 else (capture, plain):
            started = time.perf_counter()
            function()
            seconds[function].append(time.perf_counter() - started)
    return seconds[plain], seconds[capture]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--batch", type=int, default=1, help="images a pass")
    arguments = parser.parse_args()

    model = pretrained.vgg16_features()
    images = pretrained.center_crop(photo("chelsea"), arguments.size).repeat(arguments.batch, 1, 1, 1)
    layers = list(pretrained.VGG16_BLOCKS.values())
    plain, capture = measure(model, images, layers, arguments.repeats)
    ratios = [b / a for a, b in zip(plain, capture, strict=True)]
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))

    facts = report()
    print(f"torch {facts['torch']}, {facts['device']}, {facts['CPU threads']} threads")
    print(f"VGG16, {arguments.batch} × {arguments.size} × {arguments.size}, {arguments.repeats} pairs\n")
    print(f"{'':24}{'median':>10}{'fastest':>10}")
    for name, values in (("forward pass", plain), ("feature_maps, 5 layers", capture)):
        print(f"{name:24}{1000 * statistics.median(values):7.1f} ms{1000 * min(values):7.1f} ms")
    print(f"\nratio: median {middle:.3f}, quartiles {low:.3f} to {high:.3f}; limit {LIMIT:.2f}")
    if middle > LIMIT:
        raise SystemExit(
            f"feature capture costs {middle - 1:.0%} over a forward pass; the limit is {LIMIT - 1:.0%}"
        )


if __name__ == "__main__":
    main()
