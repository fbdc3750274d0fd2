"""What it saves that cnnlib lets the C library keep freed memory for the next training step.

    .venv/bin/python benchmarks/freed_memory.py

Each measurement is a fresh process that trains `simple_cnn` on 3,200 digits with one thread, as a worker of
`side_by_side` does, and reports the median of four. The two settings take turns; printed is the ratio pair by
pair, and how often the system had to hand out a page of memory.
"""

import argparse
import statistics
import subprocess
import sys

TRAIN = """
import platform, resource, statistics, time
if {switched_off}:
    platform.libc_ver = lambda *_: ("", "")  # cnnlib then changes nothing, as on another C library
import cnnlib
import torch
from cnnlib.data import load
from cnnlib.ground import set_seed
from cnnlib.models import make_model
from cnnlib.train import fit
torch.set_num_threads(1)
digits = load("mnist", "train")[:3_200]
seconds = []
for _ in range(5):
    set_seed(0)
    model = make_model("simple_cnn")
    started = time.perf_counter()
    fit(model, digits, epochs=1, batch_size=64, progress=False, device="cpu")
    seconds.append(time.perf_counter() - started)
print(statistics.median(seconds[1:]), resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def measure(switched_off):
    """Return (seconds, page faults) of one process."""
    code = TRAIN.format(switched_off=switched_off)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return tuple(map(float, done.stdout.split()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="measurements of each; default: 6")
    count = parser.parse_args().rounds
    ratios = []
    for _ in range(count):
        (given_back, many), (kept, few) = measure(True), measure(False)
        ratios.append(kept / given_back)
        print(
            f"given back {given_back:.2f} s, {many:,.0f} pages; kept {kept:.2f} s, {few:,.0f} pages",
            flush=True,
        )
    low, median, high = statistics.quantiles(ratios, n=4)
    print(f"kept / given back: {median:.2f} of the time (quartiles {low:.2f}–{high:.2f}, n = {count})")


if __name__ == "__main__":
    main()
