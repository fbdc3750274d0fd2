"""What it saves that cnnlib lets the C library keep freed memory for the next training step.

    .venv/bin/python benchmarks/freed_memory.py

Each measurement is a fresh process that trains `simple_cnn` on 3,200 digits with one thread, as a worker of
`side_by_side` does, and reports the median of four. The two settings take turns; printed is the ratio pair by
pair, and how often the system had to hand out a page of memory.
"""

import argparse

import numpy as np
from fresh_process import train

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
GIVEN_BACK = {"GLIBC_TUNABLES": ""}  # it sets nothing, and where it is there cnnlib changes nothing either


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="measurements of each; default: 6")
    count = parser.parse_args().rounds
    ratios = []
    for _ in range(count):
        (given_back, many), (kept, few) = train(**ONE_THREAD, **GIVEN_BACK), train(**ONE_THREAD)
        ratios.append(kept / given_back)
        print(
            f"given back {given_back:.2f} s, {many:,.0f} pages; kept {kept:.2f} s, {few:,.0f} pages",
            flush=True,
        )
    low, median, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    print(f"kept / given back: {median:.2f} of the time (quartiles {low:.2f}–{high:.2f}, n = {count})")


if __name__ == "__main__":
    main()
