"""Data sets and photographs: loading, splitting and batching them, and the file formats that they come in."""

from cnnlib.data.datasets import (
    CLASS_NAMES,
    Dataset,
    batches,
    channel_stats,
    load,
    photo,
    photo_names,
    read_csv,
    split,
    to_float,
    write_csv,
)

__all__ = [
    "CLASS_NAMES",
    "Dataset",
    "batches",
    "channel_stats",
    "load",
    "photo",
    "photo_names",
    "read_csv",
    "split",
    "to_float",
    "write_csv",
]
