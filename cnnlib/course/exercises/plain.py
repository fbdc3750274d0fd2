"""Plain data: what an exercise takes and returns, and all that crosses between a grader and an answer.

Plain are None, bool, int, float, str, lists, dicts with string keys, and arrays of numbers. As bytes they
are a JSON text followed by the arrays' raw buffers. Reading such bytes builds no object of any other kind
and runs no code, whoever wrote them; that is why it is this and not pickle.
"""

import json
import struct
import sys
from collections.abc import Iterable

import numpy as np

from cnnlib.ground.errors import CnnlibError, kind_of

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
ARRAY = "$array"
DEPTH = 20
"""Lists and dicts may be nested this deep."""
INT_BITS = 4096
"""An int may have this many bits; Python writes no int in decimal that has 4,300 digits."""
ITEMS = 1 << 20
"""A list or dict may hold this many values; an array may hold more."""


class NotPlain(CnnlibError):  # noqa: N818 - read aloud where it appears
    """A value, or bytes, that are not plain data."""


def simplify(value, depth=DEPTH):
    """Return a value as plain data: tensors become arrays, tuples lists, NumPy's scalars numbers.

    Raises:
        NotPlain: the value, or one inside it, is of another kind.
    """
    if depth < 0:
        raise NotPlain(f"a value is nested more than {DEPTH} deep")
    torch = sys.modules.get("torch")  # where nobody has imported it, nothing is a tensor
    if torch and isinstance(value, torch.Tensor):
        if str(value.dtype).removeprefix("torch.") not in DTYPES or value.layout is not torch.strided:
            raise NotPlain(
                f"a tensor {value.dtype}, {value.layout} is not plain data; use a dense one of floats or ints"
            )
        value = value.detach().cpu().resolve_neg().numpy()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        if value.dtype.name not in DTYPES:
            raise NotPlain(
                f"an array of {value.dtype.name} is not plain data; use one of {', '.join(DTYPES)}"
            )
        return np.ascontiguousarray(value).reshape(value.shape)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int) and value.bit_length() > INT_BITS:
        raise NotPlain(f"an int of {value.bit_length():,} bits is not plain data; at most {INT_BITS:,} are")
    for kind in (bool, int, float):  # a subclass, such as an enum, becomes what it is underneath
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, (list, tuple, dict)) and len(value) > ITEMS:  # to look at each would take minutes
        raise NotPlain(
            f"{kind_of(value)} of {len(value):,} values is not plain data; at most {ITEMS:,} are: "
            "use a tensor"
        )
    if isinstance(value, (list, tuple)):
        return [simplify(item, depth - 1) for item in value]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                kind = type(key).__name__
                raise NotPlain(
                    f"a dict with a key of type {kind} is not plain data; its keys must be strings"
                )
        return {_text(key): simplify(item, depth - 1) for key, item in value.items()}
    if value is None:
        return None
    way_out = "; list(…) makes a list of it" if isinstance(value, Iterable) else ""
    raise NotPlain(
        f"a value of type {type(value).__name__} is not plain data: numbers, strings, tensors, and lists or "
        f"dicts of these{way_out}"
    )


def to_tensors(value):
    """Return plain data with each array as a tensor of its own memory: the form in which answers get it."""
    import torch

    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, list):
        return [to_tensors(item) for item in value]
    if isinstance(value, dict):
        return {key: to_tensors(item) for key, item in value.items()}
    return value


def dumps(value):
    """Return plain data as bytes.

    Raises:
        NotPlain: the value is not plain.
    """
    buffers = []

    def described(item):
        if isinstance(item, np.ndarray):
            buffers.append(item.astype(item.dtype.newbyteorder("<"), copy=False).tobytes())
            return {ARRAY: [item.dtype.name, *item.shape]}
        if isinstance(item, list):
            return [described(i) for i in item]
        if isinstance(item, dict):
            if ARRAY in item:
                raise NotPlain(f"a dict may not have the key {ARRAY!r}")
            return {key: described(i) for key, i in item.items()}
        return item

    text = json.dumps(described(simplify(value))).encode()
    return struct.pack(">I", len(text)) + text + b"".join(buffers)


def loads(data):
    """Read plain data from bytes that anybody may have written.

    Returns:
        The value; arrays are NumPy arrays that cannot be written to.

    Raises:
        NotPlain: the bytes are no plain data, or do not end where it does.
    """
    try:
        (length,) = struct.unpack_from(">I", data)
        value, end = _build(json.loads(data[4 : 4 + length]), data, 4 + length, DEPTH)
    except (struct.error, ValueError, TypeError, RecursionError) as error:
        raise NotPlain(f"the bytes are no plain data: {error}") from None
    if end != len(data):
        raise NotPlain(f"{len(data)} bytes hold {end} bytes of plain data")
    return value


def _build(item, data, start, depth):
    """Return (value, position after its buffers) of what the JSON text described."""
    if depth < -1:
        raise ValueError(f"nested more than {DEPTH} deep")
    if isinstance(item, list):
        built = []
        for part in item:
            part, start = _build(part, data, start, depth - 1)
            built.append(part)
        return built, start
    if isinstance(item, dict) and ARRAY in item:
        name, *shape = item[ARRAY]
        if name not in DTYPES or len(shape) > 16:
            raise ValueError(f"an array of {name!r}, {len(shape)} axes")
        if not all(type(size) is int and 0 <= size <= len(data) for size in shape):
            raise ValueError(f"an array of shape {shape}")
        dtype = np.dtype(name).newbyteorder("<")
        count = 1
        for size in shape:
            count *= size
        if start + count * dtype.itemsize > len(data):
            raise ValueError("an array that is longer than the bytes")
        array = np.frombuffer(data, dtype, count, start) if count else np.empty(0, dtype)
        return array.reshape(shape), start + count * dtype.itemsize
    if isinstance(item, dict):
        built = {}
        for key, part in item.items():
            built[_text(key)], start = _build(part, data, start, depth - 1)
        return built, start
    return (_text(item) if isinstance(item, str) else item), start


def _text(value):
    try:
        value.encode()  # half of a surrogate pair is a str, but no text that could be written to a file
    except UnicodeEncodeError as error:
        raise NotPlain(f"a string is not valid text: {error}") from None
    return str(value)
