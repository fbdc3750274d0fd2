"""What training costs beside other busy processes, with the short spin that cnnlib sets and with OpenMP's.

    .venv/bin/python benchmarks/busy_machine.py

Each measurement is a fresh process, since OpenMP reads its settings once: it trains `simple_cnn` on 3,200
digits four times and reports the median. The two settings take turns, so that a busy moment of the machine
hits both. Printed are the seconds (median and quartiles over the rounds) and, for each number of foreign busy
processes, the ratio to the quiet time with OpenMP's own setting. On the quiet machine the ratio is the cost
of the short spin: at most 1.03 is wanted; beside one busy process at most 2.5.
"""

import argparse
import statistics
import subprocess
import sys

import numpy as np
from fresh_process import train

OWN = "300000"  # what GNU's OpenMP does where nobody says anything


BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"  # it ends with this benchmark


def rounds(count, busy):
    """Return {setting: seconds of each round} beside so many busy processes."""
    found = {"OpenMP's own": [], "short spin": []}
    foreign = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    try:
        for _ in range(count):
            found["OpenMP's own"].append(train(GOMP_SPINCOUNT=OWN)[0])
            found["short spin"].append(train()[0])
    finally:
        for process in foreign:
            process.kill()
            process.wait()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="measurements of each; default: 6")
    count = parser.parse_args().rounds
    from cnnlib.ground import report  # after the environment is settled; it also says which machine this is

    print(", ".join(f"{name} {value}" for name, value in report().items()), flush=True)
    print(f"{'busy':>4}  {'setting':<13}  {'seconds':>18}  {'ratio to quiet':>14}")
    quiet = None
    for busy in (0, 1, 2):
        found = rounds(count, busy)
        quiet = quiet or statistics.median(found["OpenMP's own"])
        for setting, seconds in found.items():
            low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75))
            print(f"{busy:>4}  {setting:<13}  {middle:5.2f} ({low:.2f}–{high:.2f})  {middle / quiet:>14.2f}")
        pairs = [b / a for a, b in zip(*found.values(), strict=True)]
        print(f"      run by run, short spin / OpenMP's own: {statistics.median(pairs):.2f}", flush=True)


if __name__ == "__main__":
    main()
