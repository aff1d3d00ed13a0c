"""The variables of an HDF5 file that `sgdsim.ensemble.writing` wrote; large ones are read when they are first used."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sgdsim.base import hdf5
from sgdsim.base.errors import InputError
from sgdsim.ensemble.compact import COMPACT_VERSION, SCHEMA_VERSION, expanded
from sgdsim.ensemble.variable import RESERVED, WHOLE, Attribute, Contents, Variable, plain

REQUIRED = ("parameter", "observable", "record_step")


def read_parts(path: Path, file: Any) -> dict[str, Contents]:
    """The contents of all parts of an open file by name; the name is `WHOLE` if the file has no parts.

    Parameters
    ----------
    path, file
        The path under which the file is found later, and the open file, from `sgdsim.base.hdf5.opened`.

    Raises
    ------
    InputError
        If sgdsim did not write the file, or for an unknown version of its format.
    """
    import h5py

    attributes = _attributes(file)
    if attributes.get("source") != "sgdsim" or "schema_version" not in attributes:
        raise InputError(f"{path}: an HDF5 file, but not one written by sgdsim")
    if (version := attributes["schema_version"]) not in (SCHEMA_VERSION, COMPACT_VERSION):
        known = f"{SCHEMA_VERSION} and {COMPACT_VERSION}"
        raise InputError(f"{path}: unknown schema_version {version}, this sgdsim reads {known}")
    parts = {name: item for name, item in _members(file).items() if isinstance(item, h5py.Group)}
    return {name: _contents(path, group) for name, group in (parts or {WHOLE: file}).items()}


@dataclass(frozen=True)
class _Place:
    """The place of values in a closed file."""

    path: Path
    stamp: tuple[int, ...]
    name: str
    shape: tuple[int, ...]
    index: tuple[int, ...] = ()

    def read(self, *part: slice) -> np.ndarray:
        with hdf5.opened(self.path, again=True) as file:
            if _stamp(self.path) != self.stamp:
                raise InputError(f"{self.path}: the file has changed since it was opened")
            return _values(file[self.name], (*self.index, *part))


@dataclass(frozen=True, eq=False, kw_only=True)
class _Stored(Variable):
    """A variable whose data are read from the file when they are first used."""

    data: np.ndarray = field(init=False, repr=False)
    place: _Place

    def __post_init__(self) -> None:
        """Skip the checks of `Variable`, which were made before the file was written."""

    def __getattr__(self, name: str) -> Any:
        # Python calls this only for an attribute that does not exist yet.
        if name != "data":
            raise AttributeError(name)
        return self.__dict__.setdefault("data", self.place.read())

    @property
    def shape(self) -> tuple[int, ...]:
        return self.place.shape

    def rows(self, start: int, stop: int) -> np.ndarray:
        return self.data[start:stop] if "data" in self.__dict__ else self.place.read(slice(start, stop))

    def at(self, index: int) -> Variable:
        if "data" in self.__dict__:
            return super().at(index)
        place = replace(self.place, shape=self.shape[1:], index=(*self.place.index, index))
        return _Stored(self.dimensions[1:], self.attributes, place=place)


def _contents(path: Path, group: Any) -> Contents:
    import h5py

    datasets = {name: item for name, item in _members(group).items() if isinstance(item, h5py.Dataset)}
    require_variables(path, datasets)
    variables = {name: _variable(path, name, dataset) for name, dataset in datasets.items()}
    return expanded(Contents(variables, _attributes(group)))


def _stamp(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _members(group: Any) -> dict[str, Any]:
    items = hdf5.members(group)
    for name in group.keys() - items.keys():
        raise InputError(f"{name!r} is a link, expected the values themselves")
    return items


def _variable(path: Path, name: str, dataset: Any) -> Variable:
    dimensions = hdf5.axes(dataset)
    if dimensions is None:
        raise InputError(f"{path}: {name!r} has an axis without a dimension scale, or with several")
    if "trajectory" in dimensions:
        return _Stored(dimensions, _attributes(dataset), place=_Place(path, _stamp(path), dataset.name, dataset.shape))
    return Variable(dimensions, _values(dataset, ()), _attributes(dataset))


def _values(dataset: Any, index: tuple[int | slice, ...]) -> np.ndarray:
    hdf5.check_size(dataset, index)
    if dataset.dtype.kind == "O":
        return np.asarray(dataset.asstr()[index], dtype=np.str_)
    values = np.asarray(dataset[index])
    return values.astype(np.bool_) if "flag_values" in dataset.attrs else values


def _attributes(item: Any) -> dict[str, Attribute]:
    """Attributes that are text or one number; others, which sgdsim did not write, as text."""
    attributes = {}
    for name, value in hdf5.attributes(item, but=RESERVED).items():
        single = isinstance(value, str | np.generic | np.ndarray) and np.size(value) == 1
        attributes[name] = plain(name, value if single else str(value))
    return attributes


def require_variables(path: object, names: Container[str]) -> None:
    """Refuse a file that lacks a variable which every run records.

    Raises
    ------
    InputError
        With the first variable that is missing.

    Examples
    --------
    >>> require_variables("run.h5", {"parameter", "observable", "record_step"})
    """
    for name in REQUIRED:
        if name not in names:
            raise InputError(f"{path}: not a result of a run, the variable {name!r} is missing")
