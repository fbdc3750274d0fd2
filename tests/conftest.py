"""What several tests use: no display, a small data set, a small lesson, a small cluster."""

import os
import signal
from unittest import mock

import matplotlib as mpl
import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from cnnlib.data import Dataset

mpl.use("agg")
# What a shell starts in the background ignores interrupts, and with it all that the tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW = {
    *("test_book", "test_browser", "test_challenge_grading", "test_definitions", "test_exercises"),
    *("test_grading", "test_grading_batch", "test_grading_lessons", "test_parallel", "test_pretrained"),
    *("test_runner", "test_sweep"),
}
"""Files whose tests start kernels, browsers, jails or other processes: `make check` leaves them out."""


def pytest_collection_modifyitems(items):
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


PARAMETERS = '''seed = 0  # first random seed
lr = 0.1  # learning rate
shuffle = False  # whether to shuffle
sizes = [1, 2]  # layers
profile = "fast"  # "fast" or "full"'''


@pytest.fixture
def make(tmp_path):
    """A function that writes a notebook with the parameters above and the given code cells."""

    def write(*sources, parameters=PARAMETERS, name="05_test.ipynb"):
        cell = new_code_cell(parameters)
        cell.metadata["tags"] = ["parameters"]
        cells = [new_markdown_cell("# 05 · A test\n\ntext"), cell, *map(new_code_cell, sources)]
        for number, each in enumerate(cells):
            each["id"] = f"cell-{number}"
        notebook = new_notebook(cells=cells)
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, tmp_path / name)
        return tmp_path / name

    return write


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
