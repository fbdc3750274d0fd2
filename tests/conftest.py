"""What several tests use: no display, a small data set, a small lesson, a small cluster."""

import functools
import os
import signal
from unittest import mock

import matplotlib as mpl
import pytest
import torch
from notebook_tools import write_lesson

from cnnlib.data import Dataset

mpl.use("agg")
# What a shell starts in the background ignores interrupts, and with it all that the tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW = (
    *("test_book", "test_grading_batch", "test_grading", "test_runner", "test_sweep", "test_grading_lessons"),
    *("test_browser", "test_exercises", "test_parallel", "test_challenge_grading", "test_definitions"),
    "test_pretrained",
)
"""Files whose tests start kernels, browsers, jails or other processes: `make check` leaves them out.

The longest first, and before all others: so the workers of `make test` have work until its end.
"""


def pytest_configure(config):
    config.option.loadscopereorder = False  # pytest-xdist would begin with the files that have most tests


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: [*SLOW, item.path.stem].index(item.path.stem))
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def blobs():
    """120 images of 28 × 28 in three classes that are easy to tell apart: one bright third each."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 60, (120, 1, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.arange(120) % 3
    for k in range(3):
        images[labels == k, :, 9 * k : 9 * k + 9] += 150
    return Dataset(images, labels)


@pytest.fixture
def make(tmp_path):
    """`write_lesson` into a folder of the test's own."""
    return functools.partial(write_lesson, tmp_path)


@pytest.fixture
def cluster():
    """The address of a Dask cluster of two processes on this machine."""
    distributed = pytest.importorskip("distributed")
    # Dask writes limits on threads into the environment, where all later tests would find them.
    with (
        mock.patch.dict(os.environ),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        yield cluster.scheduler_address
