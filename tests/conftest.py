"""What every test runs under: few threads, no display, a small data set."""

import matplotlib as mpl
import pytest
import torch

from cnnlib.data import Dataset

mpl.use("agg")


@pytest.fixture
def blobs():
    """120 images of 28 × 28 in three classes that are easy to tell apart: one bright third each."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 60, (120, 1, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.arange(120) % 3
    for k in range(3):
        images[labels == k, :, 9 * k : 9 * k + 9] += 150
    return Dataset(images, labels)
