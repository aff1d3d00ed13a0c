"""HDF5 files that somebody else may have written: only what stands in the file itself is read, as far as it fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any

from sgdsim.base.errors import InputError, SgdsimError
from sgdsim.base.files import PathLike, check_input
from sgdsim.base.interrupts import held_back
from sgdsim.base.memory import available_memory


@contextmanager
def opened(path: PathLike) -> Iterator[Any]:
    """A file open for reading.

    Raises
    ------
    InputError
        For what is no HDF5 file, and for whatever goes wrong in the block, with the path.
    """
    import h5py

    check_input(path, inf)
    if not h5py.is_hdf5(path):
        raise InputError(f"{path}: is not an HDF5 file")
    try:
        with held_back(), h5py.File(path, "r", locking="best-effort") as file:
            yield file
    except SgdsimError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error
    except MemoryError:
        raise InputError(f"{path}: needs more memory than there is") from None
    except Exception as error:  # in a damaged file anything can be of the wrong kind
        problem = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read, truncated or damaged: {problem}") from error


def members(group: Any) -> dict[str, Any]:
    """The groups and datasets of a group by name, without soft links, which may lead anywhere.

    Raises
    ------
    InputError
        For values that stand in other files, which may be any that the user can read.
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


def check_fits(dataset: Any, index: Sequence[int | slice] = ()) -> None:
    """Refuse values that the memory does not hold: a file of a few bytes can say that there are many.

    Parameters
    ----------
    dataset
        Whose they are.
    index
        Which part of it, along the first axes; by default all.

    Raises
    ------
    InputError
        With both sizes.
    """
    size, available = dataset.dtype.itemsize, available_memory()
    for axis, length in enumerate(dataset.shape):
        part = index[axis] if axis < len(index) else slice(None)
        size *= 1 if isinstance(part, int) else len(range(*part.indices(length)))
    if size > available:
        name = dataset.name.strip("/")
        raise InputError(f"{name!r} takes {size / 1e9:.3g} GB of memory, {available / 1e9:.3g} GB are available")


def _elsewhere(name: str) -> InputError:
    return InputError(f"{name!r} stands in another file, expected all values in this one")
