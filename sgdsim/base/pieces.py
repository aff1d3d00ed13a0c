"""Files of an unfinished run, called pieces: arrays with a heading and a checksum. A damaged piece is refused.

A piece is a mark, the heading as JSON, the bytes of the arrays, and the SHA-256 of all that. It is written to a
temporary file, synced and renamed, so that it exists only as a whole. The checksum shows whether the disk has damaged
it since.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.base.files import PathLike, atomic_file, check_input, unreadable

_MARK = b"sgdsim piece 1\n"
_CHECKSUM = hashlib.sha256().digest_size
_MOST_AT_ONCE = 2**24  # bytes that are hashed and written, or read, at a time


class DamagedError(InputError):
    """A piece differs from what was written."""


def write(path: PathLike, heading: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a piece; the file appears only once it is whole.

    Parameters
    ----------
    path
        Path of the file.
    heading
        Plain data, as JSON can hold them.
    arrays
        Arrays of numbers by name.

    Raises
    ------
    RunError
        For a full disk and the like.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write(f"{folder}/a", {"step": 4}, {"state": np.ones(2)})
    ...     read(f"{folder}/a")
    ({'step': 4}, {'state': array([1., 1.])})
    """
    kinds = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    text = json.dumps({"heading": heading, "arrays": kinds}).encode()
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        digest = hashlib.sha256()
        head = memoryview(_MARK + len(text).to_bytes(8, "little") + text)
        for part in (head, *map(_bytes, arrays.values())):
            for start in range(0, len(part), _MOST_AT_ONCE):
                digest.update(part[start : start + _MOST_AT_ONCE])
                file.write(part[start : start + _MOST_AT_ONCE])
        file.write(digest.digest())


def read(path: PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Heading and arrays of a piece.

    Raises
    ------
    InputError
        If the file cannot be read; a `DamagedError` if it differs from what was written.
    """
    check_input(path, math.inf)
    damaged = DamagedError(f"{path}: damaged, its checksum is not that of what it holds")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size - _CHECKSUM
            digest = hashlib.sha256()
            for part in _parts(file, size):
                digest.update(part)
            if size < 0 or digest.digest() != file.read(_CHECKSUM):
                raise damaged
            file.seek(0)
            if file.read(len(_MARK)) != _MARK:
                raise InputError(f"{path}: not a piece of a run that this version of sgdsim can read")
            about = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            return about["heading"], {name: _array(file, dtype, shape) for name, dtype, shape in about["arrays"]}
    except OSError as error:
        raise unreadable(path, error) from None


def _parts(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0:
        part = file.read(min(size, _MOST_AT_ONCE))
        if not part:
            return
        size -= len(part)
        yield part


def _array(file: BinaryIO, dtype: str, shape: list[int]) -> np.ndarray:
    array = np.empty(shape, dtype)
    file.readinto(_bytes(array))  # type: ignore[attr-defined]
    return array


def _bytes(array: np.ndarray) -> memoryview:
    """Bytes of an array, without a copy if it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
