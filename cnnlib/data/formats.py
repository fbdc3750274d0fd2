"""The two file formats of the data: MNIST's IDX and Kaggle's CSV, each checked while it is read."""

import math
from itertools import zip_longest

import numpy as np
import torch

from cnnlib.ground.errors import DataError
from cnnlib.ground.files import RESTORE, atomic_path

COLUMNS = ["label", *(f"pixel{i}" for i in range(784))]


def read_idx(path, ndim):
    """Read a file in MNIST's IDX format: a header of big-endian integers, then the bytes.

    Args:
        path: the file.
        ndim: how many axes it must have: 3 for images, 1 for labels.

    Returns:
        uint8 tensor with `ndim` axes.

    Raises:
        DataError: the file is missing, empty, truncated, too long, not IDX, or has other axes.

    Source: LeCun, Cortes & Burges, "The MNIST database of handwritten digits", file formats.
    """
    try:
        raw = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). {RESTORE}") from None
    # Two zero bytes, the element type (8 = unsigned byte), the number of axes, then 4 bytes an axis.
    if len(raw) < 4 or raw[0] or raw[1] or raw[2] != 8:
        raise DataError(f"{path} is no IDX file of unsigned bytes: it begins {bytes(raw[:4])!r}. {RESTORE}")
    if raw[3] != ndim:
        kinds = {1: "labels", 3: "images"}
        raise DataError(
            f"{path} has {raw[3]} axes ({kinds.get(int(raw[3]), 'neither images nor labels')}), expected "
            f"{ndim} ({kinds[ndim]}): are two files swapped? {RESTORE}"
        )
    header = 4 + 4 * ndim
    shape = raw[4:header].view(">u4").tolist() if len(raw) >= header else []
    expected = header + math.prod(shape) if shape else header
    if len(raw) != expected:
        raise DataError(f"{path} has {len(raw):,} bytes; its header asks for {expected:,}. {RESTORE}")
    return torch.from_numpy(raw[header:].reshape(shape))


def read_table(path, way_out, rows=None):
    """Read a "Digit Recognizer" table.

    Args:
        path: the CSV file: a header, then a label from 0 to 9 and 784 pixels from 0 to 255 a row.
        way_out: what to do about a wrong file; the end of every message.
        rows: how many rows there must be; default: any number above 0.

    Returns:
        (N, 785) uint8 tensor.

    Raises:
        DataError: see `cnnlib.data.read_csv`.
    """
    import pandas as pd  # here, because `import cnnlib.data` is quick without it

    def fail(problem):
        raise DataError(f"{path}: {problem} {way_out}")

    try:
        table = pd.read_csv(path, low_memory=False)
    except OSError as error:
        fail(f"cannot be read ({error.strerror}).")
    except pd.errors.EmptyDataError:
        fail("is empty.")
    except pd.errors.ParserError as error:
        fail(f"has a row with more values than the header has names ({str(error).strip()}).")
    except UnicodeDecodeError:
        fail("is not a text file.")
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus values for an index
        fail("has rows with more values than the header has names.")
    columns = list(table.columns)
    if columns == COLUMNS[1:]:
        fail('has no column "label"; it looks like Kaggle\'s test.csv, which has no labels.')
    if columns != COLUMNS:
        pairs = zip_longest(columns, COLUMNS)
        position, (found, expected) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        fail(
            f"has {len(columns)} columns, the first wrong one being number {position + 1}, {found!r} where "
            f"{expected!r} belongs; the header must be label, pixel0, …, pixel783."
        )
    if table.empty:
        fail("has a header but no rows.")
    if rows is not None and len(table) != rows:
        fail(f"has {len(table):,} rows, expected {rows:,}.")
    for column in columns:
        kind, limit = ("label", 9) if column == "label" else ("pixel", 255)
        numbers = pd.to_numeric(table[column], errors="coerce")
        good = numbers.between(0, limit) & (numbers % 1 == 0)
        if not good.all():
            row = int(good.to_numpy().argmin())
            value = table[column][row]
            shown = "missing (was the file cut off?)" if pd.isna(value) else repr(str(value))
            fail(
                f"data row {row + 1}, column {column}: the value is {shown}; "
                f"a {kind} is a whole number from 0 to {limit}."
            )
    return torch.from_numpy(table.to_numpy(dtype=np.uint8))


def write_table(values, path):
    """Write a "Digit Recognizer" table; the file appears whole or not at all.

    Args:
        values: (N, 785) uint8 tensor: a label and 784 pixels a row.
        path: the file to write.

    Raises:
        OSError: the file cannot be written.
    """
    text = [str(value) for value in range(256)]
    with atomic_path(path) as temporary, temporary.open("w") as file:
        file.write(",".join(COLUMNS) + "\n")
        # Looking each byte up is ten times as fast as pandas or NumPy, which format every number.
        file.writelines(",".join([text[b] for b in row.tobytes()]) + "\n" for row in values.numpy())
