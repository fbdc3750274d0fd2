"""The two file formats of the data: MNIST's IDX and tables like Kaggle's, each checked while it is read."""

import codecs
import csv
import functools
import lzma
import math
import operator
import tarfile
import zipfile
import zlib
from itertools import zip_longest

import numpy as np
import torch

from cnnlib.ground.errors import DataError
from cnnlib.ground.files import atomic_path, restore

COLUMNS = ["label", *(f"pixel{i}" for i in range(784))]
LABELS = ("label", "class")
_UNREADABLE = (EOFError, ImportError, OSError, ValueError, lzma.LZMAError, tarfile.TarError)
_UNREADABLE += (zipfile.BadZipFile, zlib.error)
"""What a file that is missing, or an archive that is damaged or holds several tables, makes pandas raise."""


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
        raise DataError(f"{path} cannot be read ({error.strerror}). {restore()}") from None
    # Two zero bytes, the element type (8 = unsigned byte), the number of axes, then 4 bytes an axis.
    if len(raw) < 4 or raw[0] or raw[1] or raw[2] != 8:
        raise DataError(f"{path} is no IDX file of unsigned bytes: it begins {bytes(raw[:4])!r}. {restore()}")
    if raw[3] != ndim:
        kinds = {1: "labels", 3: "images"}
        raise DataError(
            f"{path} has {raw[3]} axes ({kinds.get(int(raw[3]), 'neither images nor labels')}), expected "
            f"{ndim} ({kinds[ndim]}): are two files swapped? {restore()}"
        )
    header = 4 + 4 * ndim
    shape = raw[4:header].view(">u4").tolist() if len(raw) >= header else []
    expected = header + math.prod(shape) if shape else header
    if len(raw) != expected:
        raise DataError(f"{path} has {len(raw):,} bytes; its header asks for {expected:,}. {restore()}")
    return torch.from_numpy(raw[header:].reshape(shape))


def read_table(path, way_out, rows=None):
    """Read a table of 28 × 28 images in one of the forms that `cnnlib.data.read_csv` lists.

    Args:
        path: the file.
        way_out: what to do about a wrong file; the end of every message.
        rows: how many rows there must be; default: any number above 0.

    Returns:
        (N, 785) uint8 tensor: a label from 0 to 9 and 784 pixels from 0 to 255 a row.

    Raises:
        DataError: see `cnnlib.data.read_csv`.
    """
    import pandas as pd  # here, because `import cnnlib.data` is quick without it

    def fail(problem):
        raise DataError(f"{path}: {problem} {way_out}")

    try:
        table, names, has_header = _parse(path)
    except pd.errors.EmptyDataError:
        fail("is empty.")
    except pd.errors.ParserError as error:
        fail(f"has a row with more values than the header has names ({str(error).strip()}).")
    except UnicodeDecodeError:
        fail("is not a text file in UTF-8: save it anew as “CSV UTF-8”.")
    except _UNREADABLE as error:
        fail(f"cannot be read ({str(getattr(error, 'strerror', None) or error).splitlines()[0]}).")
    if table.shape[1] > len(names):
        fail("has rows with more values than the header has names.")
    _check_names(names, fail)
    if table.empty:
        fail("has a header but no rows.")
    if rows is not None and len(table) != rows:
        fail(f"has {len(table):,} rows, expected {rows:,}.")

    label = next((i for i, name in enumerate(names) if name in LABELS), 0)
    highest = table.drop(columns=table.columns[label]).max(numeric_only=True).max()
    if 0 < highest <= 1:
        fail("its pixels lie between 0 and 1; they must be whole numbers from 0 to 255: multiply by 255.")
    values = table.to_numpy()
    limits = np.where(np.arange(len(names)) == label, 9, 255)
    if values.dtype.kind not in "iu" or ((values < 0) | (values > limits)).any():
        first = "" if has_header else " In a table without a header the labels stand first."
        values = _numbers(table, names, limits, label, lambda problem: fail(problem + first))
    values = values.astype(np.uint8)
    if not has_header and len(table) > 1 and not values[:, label].any():
        fail("has no header, and only zeros in its first column, where the labels must be.")
    return torch.from_numpy(np.roll(values, 1, axis=1) if label else values)  # the label is first or last


def _numbers(table, names, limits, label, fail):
    """Return the whole numbers of a table column by column, those that pandas took for text among them."""
    import pandas as pd

    columns = []
    for i, (name, limit) in enumerate(zip(names, limits, strict=True)):
        column = table.iloc[:, i]
        if column.dtype == bool:  # True and False only, which are numbers for pandas
            column = column.astype(str)
        numbers = pd.to_numeric(column, errors="coerce")
        good = numbers.between(0, limit) & (numbers % 1 == 0)
        if not good.all():
            row = int(good.to_numpy().argmin())
            value = column.iloc[row]
            shown = "missing (was the file cut off?)" if pd.isna(value) else f"{str(value)!r:.40}"
            kind = "label" if i == label else "pixel"
            fail(
                f"data row {row + 1}, column {name}: the value is {shown}; "
                f"a {kind} is a whole number from 0 to {limit}."
            )
        columns.append(numbers.to_numpy())
    return np.stack(columns, axis=1)


def _parse(path):
    """Return the table without an index column, its columns' names, and whether the file gave them."""
    import pandas as pd

    # The first row as text: it may hold values, and pandas renames those of a header that come twice.
    text = {"header": None, "nrows": 1, "dtype": str, "keep_default_na": False}
    read = functools.partial(pd.read_csv, path, encoding=_encoding(path), compression=_compression(path))
    form = {"skipinitialspace": True, "skiprows": _lines_before(read, text)}
    # Commas come late, for they may be the numbers' own; and many a text that is no table holds a space.
    for form["sep"], least in ((";", 2), ("\t", 2), ("|", 2), (",", 2), (" ", 784), (",", 1)):
        first = read(**text, **form)
        if first.shape[1] >= least:
            break
    names = first.iloc[0].str.lstrip("#").str.strip().str.lower().tolist()  # NumPy writes "# label"
    while len(names) > 1 and names[-1] == "":  # each row ends with a separator
        names.pop()
    numbers = pd.to_numeric(pd.Series(names).str.replace(",", "."), errors="coerce")
    has_header = numbers.isna().any() or names in _layouts()
    form["skiprows"] += has_header
    # With as many columns as names pandas would take surplus values for an index, the first ones of a row.
    table = read(header=None, names=range(len(names) + 10), low_memory=False, **form)
    if len(table.select_dtypes("number").columns) < table.shape[1]:  # text, or numbers with decimal commas?
        table = table.apply(_with_points)
    if table.iloc[:, len(names) :].isna().all(axis=None):  # but for what follows the last separator
        table = table.iloc[:, : len(names)]
    if table.tail(1).isna().all(axis=None):  # Excel leaves rows behind that hold separators only
        table = table.dropna(how="all").reset_index(drop=True)
    if not has_header and len(names) in (784, 785):
        names = COLUMNS[-len(names) :]
    elif names[0] in ("", "id", "imageid", "index", "unnamed: 0"):
        names, table = names[1:], table.iloc[:, 1:]
    return table, names, has_header


def _lines_before(read, text):
    """Return how many lines come before a table: empty ones, and Excel's line to itself, "sep=;"."""
    # No text holds this separator, so that each row is a line as it stands.
    form = {"sep": "\1", "on_bad_lines": "skip", "quoting": csv.QUOTE_NONE, "skip_blank_lines": False}
    lines = read(**text | form | {"names": [0], "nrows": 100})[0]
    filled = [i for i, line in enumerate(lines) if line.strip('",;|\t ')]
    of_excel = bool(filled) and lines[filled[0]].lstrip('" ').lower().startswith("sep=")
    return [*filled, len(lines)][of_excel]


def _compression(path):
    """Return how a file is packed, as it begins: browsers unpack some and leave their names as they were."""
    if ".tar" in path.name:
        return "infer"
    with path.open("rb") as file:
        start = file.read(60)
    kinds = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\0": "xz", b"(\xb5/\xfd": "zstd"}
    if b".xml" not in start:  # an archive of zip that begins with such a file is a workbook of Excel
        kinds |= {b"PK\3\4": "zip", b"PK\5\6": "zip"}
    return next((kind for first, kind in kinds.items() if start.startswith(first)), None)


def _encoding(path):
    """Return the encoding that a file's first bytes name; Excel's "Unicode Text" is UTF-16."""
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8"


def _with_points(column):
    """Return a column as numbers where each is one with a decimal comma, "7,0"; else as it is."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        return column
    numbers = pd.to_numeric(column.astype(str).str.replace(",", "."), errors="coerce")
    return column if numbers.isna().any() else numbers


def _pixel_names():
    """Return the ways in which people name 784 pixels; the first is Kaggle's and ours."""
    return [
        COLUMNS[1:],
        [f"pixel{i}" for i in range(1, 785)],
        [f"{row}x{column}" for row in range(1, 29) for column in range(1, 29)],
        [str(i) for i in range(784)],
        [str(i) for i in range(1, 785)],
    ]


def _layouts():
    """Return the headers that people's tables have, lists of 785 names."""
    first = [[label, *pixels] for pixels in _pixel_names() for label in LABELS]
    last = [[*pixels, label] for pixels in _pixel_names() for label in LABELS]
    return [*first, *last, [str(i) for i in range(785)]]  # the last: an array [label, pixels] as a DataFrame


def _check_names(names, fail):
    """Call fail(problem) unless the names are a header that is known."""
    if names in _pixel_names():
        fail('has no column "label"; it looks like Kaggle\'s test.csv, which has no labels.')
    layouts = _layouts()
    if names not in layouts:
        nearest = max(layouts, key=lambda layout: sum(map(operator.eq, names, layout)))
        pairs = enumerate(zip_longest(names, nearest))
        position, (found, expected) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
        fail(
            f"has {len(names)} columns, the first wrong one being number {position + 1}, {found!r:.40} where "
            f"{expected!r} belongs; the header must be label, pixel0, …, pixel783, or another that "
            "help(cnnlib.data.read_csv) lists."
        )


def write_table(values, path):
    """Write a "Digit Recognizer" table; the file appears whole or not at all.

    Args:
        values: (N, 785) uint8 tensor: a label and 784 pixels a row.
        path: the file to write.

    Raises:
        OSError: the file cannot be written.
    """
    text = [str(value) for value in range(256)]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(",".join(COLUMNS) + "\n")
        # Looking each byte up is ten times as fast as pandas or NumPy, which format every number.
        file.writelines(",".join([text[b] for b in row.tobytes()]) + "\n" for row in values.numpy())
