"""HDF5 files that somebody else may have written: only values within the file are read, if they fit into memory."""

from __future__ import annotations

import struct
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from mmap import ACCESS_READ, mmap
from typing import Any

from sgdsim.base.errors import InputError
from sgdsim.base.files import PathLike, about, check_input
from sgdsim.base.interrupts import held_back
from sgdsim.base.memory import available_memory

_HEAP = b"GCOL\x01"
"""Mark at the start of a global heap, in which HDF5 stores values of variable length, such as texts."""

_MOST_PACKED = 1032
"""Largest compression ratio of deflate, the best of HDF5's own filters; several filters multiply."""

_LITTLE = 2**20
"""Bytes that there always are: to ask the system, for each of many small variables, takes as long as to read them."""


@contextmanager
def opened(path: PathLike, again: bool = False) -> Iterator[Any]:
    """HDF5 file, open for reading in the block.

    Parameters
    ----------
    path
        Path of the file.
    again
        True if the file was opened before: then the checks that read all of it are not repeated.

    Raises
    ------
    InputError
        If it is not an HDF5 file, and for any error in the block, with the path.
    """
    import h5py

    check_input(path, inf)
    if not h5py.is_hdf5(path):
        raise InputError(f"{path}: is not an HDF5 file")
    damaged = "cannot be read, truncated or damaged"  # for errors without better words: in a damaged file any may occur
    with about(path, damaged):
        if not again:
            _check_heaps(path)
        with held_back(), h5py.File(path, "r", locking="best-effort") as file:
            yield file


def _check_heaps(path: PathLike) -> None:
    """Refuse a file with a damaged heap: HDF5 (2.0.0) trusts the sizes in it, and can loop in it for ever.

    The numbers of a variable may look like the mark of a heap; they are told apart by their impossible size.
    """
    with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        start = content.find(_HEAP)
        while start >= 0:
            size = int.from_bytes(content[start + 8 : start + 16], "little")
            if 4096 <= size <= len(content) - start and not _is_whole(content, start + 16, start + size):
                raise InputError(f"a heap at byte {start} is damaged")
            start = content.find(_HEAP, start + len(_HEAP))


def _is_whole(heap: mmap, start: int, stop: int) -> bool:
    """True if the objects of a heap fill it to its end."""
    while start + 16 <= stop:
        index, size = struct.unpack_from("<H6xQ", heap, start)
        if index == 0 and size < 16:  # the free space, of whose size its head is a part
            return False
        start += 16 + -(-size // 8) * 8 if index else size
    return start <= stop


def members(group: Any) -> dict[str, Any]:
    """Groups and datasets of a group by name, without soft links, which may lead anywhere.

    Raises
    ------
    InputError
        For values that are stored in other files: these may be any file that the user can read.
    """
    import h5py

    found = {}
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise _elsewhere(name)
        if isinstance(link, h5py.HardLink):
            found[name] = item = group[name]
            if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                raise _elsewhere(name)
    return found


def attributes(item: Any, but: Container[str] = ()) -> dict[str, Any]:
    """Attributes of a group or dataset: the values of texts and numbers, the name of the type for all others.

    Attributes of other types, and those whose name is in `but`, are not read. They may be lists of references, which
    HDF5 follows in memory without checking where they lead.

    Raises
    ------
    InputError
        For one that is larger than its file.
    """
    attrs, most = item.attrs, item.file.id.get_filesize()
    return {name: _attribute(attrs, name, most) for name in attrs if name not in but}


def _attribute(attrs: Any, name: str, most: int) -> Any:
    """One of the attributes of an item, whose file has so many bytes."""
    import h5py

    attribute = attrs.get_id(name)
    kind = attribute.get_type()
    if attribute.get_space().get_simple_extent_npoints() * kind.get_size() > most:
        raise InputError(f"attribute {name!r} is larger than the file")
    readable = kind.get_class() in (h5py.h5t.STRING, h5py.h5t.INTEGER, h5py.h5t.FLOAT)
    return attrs[name] if readable else str(attribute.dtype)


def axes(dataset: Any) -> tuple[str, ...] | None:
    """Name of the scale of each axis of a dataset; None if an axis has no scale or several.

    The names are read from the attributes that the specification defines. HDF5's own functions for it (2.0.0) free
    memory twice, or take all memory, where these attributes are damaged.
    """
    import h5py

    if _is_scale(dataset):
        return (_last_name(dataset),)
    if not dataset.ndim:
        return ()
    attrs, file = dataset.attrs, dataset.file
    if "DIMENSION_LIST" not in attrs:
        return None
    attribute = attrs.get_id("DIMENSION_LIST")
    inner = h5py.check_vlen_dtype(attribute.dtype)
    if attribute.shape != (dataset.ndim,) or inner is None or h5py.check_ref_dtype(inner) is not h5py.Reference:
        return None
    lists = attrs["DIMENSION_LIST"]
    if any(len(references) != 1 for references in lists):
        return None
    return tuple(_last_name(file[references[0]]) for references in lists)


def check_size(dataset: Any, index: Sequence[int | slice] = ()) -> None:
    """Refuse to read more values than the file or the memory can hold: a few bytes can claim any number of values.

    Parameters
    ----------
    dataset
        Dataset of HDF5 that is to be read.
    index
        Part of it that is to be read, along the first axes; by default all.

    Raises
    ------
    InputError
        With the size that was claimed and the size that is possible.
    """
    name, stored = dataset.name.strip("/"), dataset.id.get_storage_size()
    size = dataset.size * dataset.dtype.itemsize
    if size > stored * _MOST_PACKED ** dataset.id.get_create_plist().get_nfilters():
        raise InputError(f"{name!r} has {size} bytes of values, of which the file holds {stored}")
    part = dataset.dtype.itemsize
    for axis, length in enumerate(dataset.shape):
        where = index[axis] if axis < len(index) else slice(None)
        part *= 1 if isinstance(where, int) else len(range(*where.indices(length)))
    if part > _LITTLE and part > (available := available_memory()):
        raise InputError(f"{name!r} takes {part / 1e9:.3g} GB of memory, {available / 1e9:.3g} GB are available")


def _is_scale(dataset: Any) -> bool:
    attrs = dataset.attrs
    if "CLASS" not in attrs:
        return False
    return _attribute(attrs, "CLASS", dataset.file.id.get_filesize()) in ("DIMENSION_SCALE", b"DIMENSION_SCALE")


def _last_name(dataset: Any) -> str:
    return str(dataset.name).rpartition("/")[-1]


def _elsewhere(name: str) -> InputError:
    return InputError(f"{name!r} stands in another file, expected all values in this one")
