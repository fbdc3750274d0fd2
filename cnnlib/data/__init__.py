"""Data sets and pictures: loading, splitting and batching them, and the file formats that they come in."""

from cnnlib.data.datasets import (
    CLASS_NAMES,
    Dataset,
    batches,
    channel_stats,
    load,
    read_csv,
    split,
    to_float,
    write_csv,
)
from cnnlib.data.pictures import from_folder, photo, photo_names

__all__ = [
    "CLASS_NAMES",
    "Dataset",
    "batches",
    "channel_stats",
    "from_folder",
    "load",
    "photo",
    "photo_names",
    "read_csv",
    "split",
    "to_float",
    "write_csv",
]
