"""Labelled arrays and their provenance, in memory or in one HDF5 file that is always whole."""

from __future__ import annotations

import errno
import hashlib
import importlib
import io
import json
import math
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base import hdf5, take
from sgdsim.base.errors import InputError, RunError, unknown_name
from sgdsim.base.files import atomic_file, check_output
from sgdsim.base.html import html_table
from sgdsim.base.sparse import Sparse
from sgdsim.formulas.names import normal, split_names
from sgdsim.formulas.vectors import base_name, shapes

if TYPE_CHECKING:
    import pandas
    import xarray
    from matplotlib.figure import Figure

Attribute = str | int | float

SCHEMA_VERSION = 1
COMPACT_VERSION = 2
"""Of a file in which what no trajectory has is not said of each: see `_compact`."""

REQUIRED = ("parameter", "observable", "record_step")
WHOLE = ""
"""The name of the only part of a file without parts."""
STATISTICS = ("mean", "variance", "skewness", "kurtosis", "mean_stderr", "variance_stderr", "count", "excluded")
"""What is recorded of each parameter and observable at each record."""
_SWEPT = "sweep_"
_SHOWN = 20  # rows in a notebook

# Attributes that HDF5 and netCDF keep for themselves, and those that tell a boolean from an int8.
_RESERVED = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "DIMENSION_LABELS"}
_RESERVED |= {"_NCProperties", "_Netcdf4Dimid", "_Netcdf4Coordinates", "flag_values", "flag_meanings"}


@dataclass(frozen=True, eq=False)
class Variable:
    """An array whose axes have names.

    Parameters
    ----------
    dimensions
        One name an axis, none twice.
    data
        Booleans, integers, real numbers of at most 64 bits, or text; anything that `numpy.asarray` takes.
    attributes
        At least ``units`` and ``long_name``; in their absence a file says ``1`` and the variable's name.

    Raises
    ------
    InputError
        For axes without a name or with the same one, and for values or attributes that a file cannot hold.

    Examples
    --------
    >>> start = Variable(("parameter",), [1.0, 2.0], {"units": "1", "long_name": "initial value"})
    >>> start.shape
    (2,)
    """

    dimensions: tuple[str, ...]
    data: np.ndarray
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    def __post_init__(self) -> None:
        take.settle(self, "", dimensions=take.each(take.text))
        object.__setattr__(self, "data", _storable(self.data))
        object.__setattr__(self, "attributes", _allowed(self.attributes))
        if len(self.dimensions) != self.data.ndim or len(set(self.dimensions)) != self.data.ndim:
            expected = f"expected {self.data.ndim} different names, one an axis of the data"
            raise InputError(f"dimensions {self.dimensions}: {expected}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.data.shape

    @property
    def nonzero(self) -> int:
        """How many of the values are not zero."""
        return int(np.count_nonzero(self.data))

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Part of the data along the first axis."""
        return self.data[start:stop]

    def at(self, index: int) -> Variable:
        """What stands at one place of the first axis, without that axis."""
        return Variable(self.dimensions[1:], self.data[index], self.attributes)


@dataclass(frozen=True)
class _Place:
    """Where values stand in a closed file."""

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
    """A variable that is read when its data are first asked for."""

    data: np.ndarray = field(init=False, repr=False)
    place: _Place

    def __post_init__(self) -> None:
        """Nothing to check: it was checked before it was written."""

    def __getattr__(self, name: str) -> Any:
        # Called only for what is not there yet.
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


class _Implied(Variable):
    """A variable whose values follow from less than them, and take memory only when they are asked for."""

    def __init__(self, dimensions: tuple[str, ...], attributes: Mapping[str, Attribute]) -> None:
        object.__setattr__(self, "dimensions", dimensions)
        object.__setattr__(self, "attributes", attributes)

    def __getattr__(self, name: str) -> Any:
        if name != "data":
            raise AttributeError(name)
        return self.rows(0, self.shape[0])


class Rare(_Implied):
    """Whole numbers that are nearly all zero, such as the step at which each trajectory was found to diverge.

    Parameters
    ----------
    dimensions, attributes
        As of a `Variable`.
    values
        Those that are not.

    Examples
    --------
    >>> status = Rare(("trajectory",), Sparse((4,), "int32", np.array([2]), np.array([40])), {})
    >>> status.data, status.nonzero
    (array([ 0,  0, 40,  0], dtype=int32), 1)
    """

    def __init__(self, dimensions: tuple[str, ...], values: Sparse, attributes: Mapping[str, Attribute]) -> None:
        super().__init__(dimensions, attributes)
        object.__setattr__(self, "values", values)

    values: Sparse

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.values.shape

    @property
    def nonzero(self) -> int:
        """How many of the values are not zero."""
        return len(self.values.index)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Part of the data along the first axis."""
        return self.values.rows(start, stop)

    def at(self, index: int) -> Variable:
        """What stands at one place of the first axis, without that axis."""
        return Rare(self.dimensions[1:], self.values.at(index), self.attributes)


class Counted(_Implied):
    """The coordinate of a dimension that counts from 0.

    Parameters
    ----------
    name
        Of the dimension.
    size, dtype
        How many there are, and of which type.
    attributes
        As of a `Variable`.

    Examples
    --------
    >>> Counted("trajectory", 3, "int32", {}).data
    array([0, 1, 2], dtype=int32)
    """

    def __init__(self, name: str, size: int, dtype: str, attributes: Mapping[str, Attribute]) -> None:
        super().__init__((name,), attributes)
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "dtype", dtype)

    size: int
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of the axis."""
        return (self.size,)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Part of the data."""
        return np.arange(start, max(min(stop, self.size), start), dtype=self.dtype)


class Ensemble:
    """The result of a run: variables that share dimensions, and where they come from.

    Each dimension has a coordinate, the variable of the same name; one that is not given counts from 0.

    Parameters
    ----------
    variables
        By name.
    attributes
        Provenance: text and numbers.

    Attributes
    ----------
    variables, attributes
        As given, with the coordinates.
    sizes
        Length of each dimension.

    Raises
    ------
    InputError
        For names that a file cannot hold, and dimensions whose length differs between variables.

    Examples
    --------
    >>> mean = Variable(("record", "observable"), [[1.0, 0.0], [0.5, 0.1]])
    >>> ensemble = Ensemble({"mean": mean, "observable": Variable(("observable",), ["x", "y"])}, {"seed": 7})
    >>> ensemble.sizes
    {'record': 2, 'observable': 2}
    >>> ensemble["mean"][:, 0], ensemble["record"]
    (array([1. , 0.5]), array([0, 1]))
    """

    def __init__(self, variables: Mapping[str, Variable], attributes: Mapping[str, Attribute]) -> None:
        self.variables: dict[str, Variable] = take.by_name(take.of_kind(Variable, "a Variable"))(variables, "variables")
        self.attributes = _allowed(attributes)
        self.sizes = _sizes(self.variables)
        for name in (*self.variables, *self.sizes):
            if not name.isprintable() or "/" in name or name in {"", "."}:
                raise InputError(f"{name!r} is no name for a variable or a dimension")
        for name, size in self.sizes.items():
            labels = {"units": "1", "long_name": f"{name} index"}
            if name not in self.variables:
                self.variables[name] = Variable((name,), np.arange(size, dtype=np.int64), labels)
            if self.variables[name].dimensions != (name,):
                raise InputError(f"variable {name!r} has a dimension's name, so {name!r} must be its only dimension")

    def __getitem__(self, name: str) -> np.ndarray:
        name = normal(take.text(name, "variable"))
        if name not in self.variables:
            raise InputError(unknown_name("variable", name, self.variables))
        data: np.ndarray = self.variables[name].data
        return data

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and normal(name) in self.variables

    def __iter__(self) -> Iterator[str]:
        return iter(self.variables)

    def __repr__(self) -> str:
        return f"<Ensemble {', '.join(f'{name} {size}' for name, size in self.sizes.items())}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the last record of all that was measured, at the first points of a sweep."""
        about = f"<p><b>{escape(str(self.attributes.get('title') or 'Ensemble'))}</b>: "
        about += escape(", ".join(f"{name} {size:,}" for name, size in self.sizes.items())) + "</p>"
        if not {"mean", "variance", "observable"} <= self.variables.keys():
            return about
        kinds = [kind for kind in ("mean", "variance") if f"{kind}_stderr" in self]
        rows = []
        for place in np.ndindex(self["mean"][..., -1, :].shape):
            at = (*place[:-1], -1, place[-1])
            values = [f"{self[kind][at]:.6g} ± {self[f'{kind}_stderr'][at]:.2g}" for kind in kinds]
            rows.append([*map(str, place[:-1]), str(self["observable"][place[-1]]), *values])
        columns = (*(("point",) if "point" in self.sizes else ()), f"step {int(self.steps[-1])}", *kinds)
        more = f"<p>… and {len(rows) - _SHOWN} more rows</p>" if len(rows) > _SHOWN else ""
        return about + html_table(columns, rows[:_SHOWN]) + more

    @property
    def steps(self) -> np.ndarray:
        """Completed steps at each record."""
        return self["record_step"]

    def statistic(self, kind: str, name: str) -> np.ndarray:
        """One of `STATISTICS` of a parameter or an observable at every record, ``steps``.

        Parameters
        ----------
        kind
            Such as ``mean_stderr``.
        name
            Of the parameter or observable; of a whole vector or matrix, ``W``, or of one entry, ``W[0,2]``.

        Returns
        -------
        numpy.ndarray
            Shape (record,), and the axes of the parameter; of a sweep (point, record…).

        Raises
        ------
        InputError
            For an unknown statistic or name.

        Examples
        --------
        >>> mean = Variable(("record", "observable"), [[1.0, 0.0], [0.5, 0.1]])
        >>> Ensemble({"mean": mean, "observable": Variable(("observable",), ["x", "y"])}, {}).statistic("mean", "x")
        array([1. , 0.5])
        """
        kind = take.one_of("statistic", STATISTICS)(kind, "kind")
        return self._of(name, self["observable"], "observable", self[kind])

    def mean(self, name: str) -> np.ndarray:
        """The mean of a parameter or an observable at every record, see `statistic`."""
        return self.statistic("mean", name)

    def variance(self, name: str) -> np.ndarray:
        """The variance of a parameter or an observable at every record, see `statistic`."""
        return self.statistic("variance", name)

    def compare(self, predictions: Sequence[str] = ()) -> Any:
        """Hold it against the predictions of its scenario, see `sgdsim.app.workflow.compare_ensemble`."""
        return _of_the_app("compare_ensemble")(self, predictions)

    def plot(self, kind: str | None = None, size: tuple[float, float] | None = None, **looks: Any) -> Figure:
        """Draw it with the predictions of its scenario, see `sgdsim.app.workflow.plot_ensemble`."""
        return _of_the_app("plot_ensemble")(self, kind, size, **looks)  # type: ignore[no-any-return]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all variables."""
        return tuple(self.variables)

    def parameter(self, name: str) -> np.ndarray:
        """The snapshots of a parameter in its own shape, (snapshot, trajectory, …); of a sweep, after its points.

        Parameters
        ----------
        name
            A parameter, ``W1``, or one of its coordinates, ``W1[0,2]``.

        Raises
        ------
        InputError
            For an unknown parameter, and where no snapshots were kept.

        Examples
        --------
        >>> names = Variable(("parameter",), ["W[0,0]", "W[0,1]", "b"])
        >>> theta = Variable(("snapshot", "trajectory", "parameter"), np.zeros((1, 5, 3)))
        >>> Ensemble({"parameter": names, "theta": theta}, {}).parameter("W").shape
        (1, 5, 1, 2)
        """
        found = self._of(name, self["parameter"], "parameter", self["theta"])
        if not self.sizes["snapshot"]:
            raise InputError(f'{name}: no snapshots, expected some, of snapshots=["final"] or --snapshot final')
        return found

    def _of(self, name: str, known: np.ndarray, kind: str, values: np.ndarray) -> np.ndarray:
        """What the last axis has of a name, of a whole vector or matrix in its own shape."""
        names = [str(key) for key in known]
        name = normal(take.text(name, "name"))
        name = name if name in names else ",".join(split_names(name))  # W[0, 2]
        if name in names:
            return values[..., names.index(name)]
        places = [place for place, key in enumerate(names) if name == base_name(key)]
        if not places:
            raise InputError(unknown_name(kind, name, {*names, *map(base_name, names)}))
        shape = shapes(names[place] for place in places)[name]
        return values[..., places].reshape(*values.shape[:-1], *shape)

    def select(self, point: int) -> Ensemble:
        """One point of a sweep, as a run of its own.

        Raises
        ------
        InputError
            If there is no sweep, or no such point in it.

        Examples
        --------
        >>> sweep = Ensemble({"mean": Variable(("point", "record"), [[1.0, 0.5], [1.0, 0.25]])}, {})
        >>> sweep.select(1)["mean"]
        array([1.  , 0.25])
        """
        point = take.whole(point, "point")
        count = self.sizes.get("point", 0)
        if not 0 <= point < count:
            raise InputError(f"point {point}: expected 0 to {count - 1}" if count else "point: this is not a sweep")
        chosen = {
            name: variable.at(point) if variable.dimensions[:1] == ("point",) else variable
            for name, variable in self.variables.items()
        }
        return Ensemble(chosen, self.attributes)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write one HDF5 file, which `xarray.open_dataset` opens with no further argument.

        Parameters
        ----------
        path
            Of the file; it is whole from the moment it is there.
        overwrite
            Whether it may replace another.

        Raises
        ------
        InputError
            If the path cannot be written to, or a variable is missing without which `open` refuses.
        RunError
            If writing fails. What stood at the path is then untouched.

        Examples
        --------
        >>> from tempfile import TemporaryDirectory
        >>> names = {name: Variable((name,), ["x", "y"]) for name in ("parameter", "observable")}
        >>> steps = Variable(("record",), [0, 100])
        >>> ensemble = Ensemble({"record_step": steps, **names}, {"seed": 2**64 - 1})
        >>> with TemporaryDirectory() as folder:
        ...     ensemble.save(f"{folder}/run.h5")
        ...     again = Ensemble.open(f"{folder}/run.h5")
        >>> again["record_step"], again.attributes["seed"], again.digest() == ensemble.digest()
        (array([  0, 100]), 18446744073709551615, True)
        """
        save_parts({WHOLE: self}, path, overwrite=overwrite)

    @classmethod
    def open(cls, path: str | os.PathLike[str], part: str = "") -> Ensemble:
        """Read a file that `save` wrote; what has a dimension ``trajectory`` only once it is asked for.

        The file is not held open. If it is replaced in the meantime, reading more of it is refused.

        Parameters
        ----------
        path
            Of the file.
        part
            Of a scenario with parts, the one to read.

        Raises
        ------
        InputError
            For a file that is not there, not HDF5, damaged, not ours, or of an unknown schema; for a part that it does
            not hold, and none where it holds several.
        """
        parts = open_parts(path)
        part = take.text(part, "part")
        if part not in parts:
            if WHOLE in parts:
                raise InputError(f"{path}: has no parts, and so no {part!r}")
            known = f"holds the parts {', '.join(parts)}: name one"
            raise InputError(f"{path}: {unknown_name('part', part, parts) if part else known}")
        return parts[part]

    def to_dataframe(self) -> pandas.DataFrame:
        """Every statistic of every observable at every record, one a row, as a `pandas.DataFrame`.

        Its index has the swept values, the step and the observable, so that ``.xs("x", level="observable")`` is one.

        Raises
        ------
        RunError
            If pandas is not installed.
        """
        pandas = _imported("pandas", "to_dataframe")
        kinds = [kind for kind in STATISTICS if kind in self]
        points = range(self.sizes.get("point", 1))
        columns = {kind: np.reshape(self[kind], -1) for kind in kinds}
        swept = {name.removeprefix(_SWEPT): self[name] for name in self if name.startswith(_SWEPT)}
        rows = [
            (*(values[point] for values in swept.values()), step, name)
            for point in points
            for step in self.steps
            for name in self["observable"]
        ]
        return pandas.DataFrame(
            columns, index=pandas.MultiIndex.from_tuples(rows, names=[*swept, "step", "observable"])
        )

    def to_xarray(self) -> xarray.Dataset:
        """The same as an `xarray.Dataset`, in memory.

        What a sweep varies are indexes: where its points are all combinations of its values, each swept key is a
        dimension in place of ``point``; elsewhere each is an index along it.

        Raises
        ------
        RunError
            If xarray is not installed.
        """
        xarray = _imported("xarray", "to_xarray")
        attributes = dict(self.attributes)
        coordinates = str(attributes.pop("coordinates", "")).split()  # as xarray does when it opens the file
        dataset = xarray.Dataset(
            {name: (item.dimensions, item.data, _labelled(name, item)) for name, item in self.variables.items()},
            attrs=attributes,
        ).set_coords([name for name in coordinates if name in self.variables])
        swept = [name for name in coordinates if name.startswith(_SWEPT) and name in self.variables]
        return _unfolded(dataset, swept) if swept else dataset  # type: ignore[no-any-return]

    def digest(self) -> str:
        """SHA-256 of all variables and the resolved scenario; what a repetition of the run must reproduce.

        Names, dimensions, types, shapes and values count; other attributes, such as times, do not.

        Examples
        --------
        >>> variables = {"status": Variable(("trajectory",), [0, 12])}
        >>> Ensemble(variables, {"wall_seconds": 1.5}).digest() == Ensemble(variables, {}).digest()
        True
        """
        digest = hashlib.sha256(json.dumps(self.attributes.get("scenario", "")).encode())
        for name, variable in sorted(self.variables.items()):
            for number, piece in enumerate(_pieces(variable)):
                kind = "text" if piece.dtype.kind == "U" else piece.dtype.newbyteorder("<").str
                if number == 0:
                    digest.update(json.dumps([name, variable.dimensions, kind, variable.shape]).encode())
                digest.update(_bytes(piece))
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class LastStates:
    """The last snapshot of a single run.

    Attributes
    ----------
    names
        Of the parameters.
    theta
        Their values, shape (trajectory, parameter).
    step
        Completed steps.
    attributes
        Provenance of the run.
    """

    names: tuple[str, ...]
    theta: np.ndarray
    step: int
    attributes: Mapping[str, Attribute]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> LastStates:
        """Read the file of a run.

        Raises
        ------
        InputError
            As `Ensemble.open`; for a sweep, and for a file that holds no snapshots.
        """
        ensemble = Ensemble.open(path)
        theta, names, steps = (ensemble.variables.get(name) for name in ("theta", "parameter", "snapshot_step"))
        if theta is None or names is None or steps is None:
            raise InputError(f"{path}: holds no snapshots, expected theta, parameter and snapshot_step")
        if "point" in theta.dimensions:
            raise InputError(f"{path}: holds a sweep, expected a single run")
        if 0 in theta.shape:
            raise InputError(f"{path}: holds no snapshots; record one with --snapshot final")
        found = {"theta": theta, "parameter": names, "snapshot_step": steps}
        for (name, variable), (dimensions, kinds) in zip(found.items(), _OF_STATES, strict=True):
            if variable.dimensions != dimensions or variable.data.dtype.kind not in kinds:
                raise InputError(f"{path}: {name} is not as a run records it, expected {', '.join(dimensions)}")
        return cls(tuple(map(str, names.data)), theta.data[-1], int(steps.data[-1]), ensemble.attributes)

    @property
    def digest(self) -> str:
        """SHA-256 of the values."""
        return hashlib.sha256(np.ascontiguousarray(self.theta).tobytes()).hexdigest()


_OF_STATES = (("snapshot", "trajectory", "parameter"), "f"), (("parameter",), "U"), (("snapshot",), "iu")
"""Dimensions of theta, parameter and snapshot_step, and the kinds that their values may be of."""


def save_parts(parts: Mapping[str, Ensemble], path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write several ensembles into one HDF5 file, a group each: ``xarray.open_dataset(path, group=name)``.

    Parameters
    ----------
    parts
        By name; a single one that is called `WHOLE` stands in the file itself.
    path, overwrite
        As of `Ensemble.save`.

    Raises
    ------
    InputError, RunError
        As `Ensemble.save`.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> names = {name: Variable((name,), ["x"]) for name in ("parameter", "observable")}
    >>> one, two = (Ensemble({"record_step": Variable(("record",), [0, n]), **names}, {}) for n in (10, 20))
    >>> with TemporaryDirectory() as folder:
    ...     save_parts({"one": one, "two": two}, f"{folder}/run.h5")
    ...     list(open_parts(f"{folder}/run.h5")), Ensemble.open(f"{folder}/run.h5", "two")["record_step"]
    (['one', 'two'], array([ 0, 20]))
    """
    path, overwrite = take.path(path, "path"), take.flag(overwrite, "overwrite")
    check_output(path, overwrite)
    for ensemble in parts.values():
        _require(path, ensemble.variables)
    stored = {name: _compact(ensemble) for name, ensemble in parts.items()}
    with atomic_file(path) as temporary:
        _reserve(temporary, stored.values())
        _write(temporary, stored)


def open_parts(path: str | os.PathLike[str]) -> dict[str, Ensemble]:
    """Read all parts of a file; see `Ensemble.open`. Of one without parts, the name is `WHOLE`.

    Raises
    ------
    InputError
        As `Ensemble.open`.
    """
    import h5py

    path = take.path(path, "path")
    with hdf5.opened(path) as file:
        path = Path(path).absolute()  # where its values are read when they are asked for
        attributes = _attributes(file)
        if attributes.get("source") != "sgdsim" or "schema_version" not in attributes:
            raise InputError(f"{path}: an HDF5 file, but not one written by sgdsim")
        if (version := attributes["schema_version"]) not in (SCHEMA_VERSION, COMPACT_VERSION):
            known = f"{SCHEMA_VERSION} and {COMPACT_VERSION}"
            raise InputError(f"{path}: unknown schema_version {version}, this sgdsim reads {known}")
        parts = {name: item for name, item in _members(file).items() if isinstance(item, h5py.Group)}
        return {name: _ensemble(path, group) for name, group in (parts or {WHOLE: file}).items()}


def to_datatree(parts: Mapping[str, Ensemble]) -> xarray.DataTree:
    """The parts of a file as an `xarray.DataTree`, each under its name.

    Parameters
    ----------
    parts
        As `open_parts` gives them.

    Raises
    ------
    RunError
        If xarray is not installed.
    """
    parts = take.by_name(take.of_kind(Ensemble, "an Ensemble"))(parts, "parts")
    xarray = _imported("xarray", "to_datatree")
    return xarray.DataTree.from_dict(  # type: ignore[no-any-return]
        {f"/{name}": part.to_xarray() for name, part in parts.items()}
    )


def _unfolded(dataset: Any, swept: Sequence[str]) -> Any:
    """A data set whose swept values are indexes; see `Ensemble.to_xarray`."""
    kinds = {name: list(dict.fromkeys(dataset[name].values.tolist())) for name in swept}
    places = [
        tuple(kinds[name].index(dataset[name].values[point].item()) for name in swept)
        for point in range(dataset.sizes["point"])
    ]
    if len(set(places)) != len(places) or math.prod(map(len, kinds.values())) != len(places):
        for name in swept:
            dataset = dataset.set_xindex(name)
        return dataset
    order = np.argsort([np.ravel_multi_index(place, [*map(len, kinds.values())]) for place in places])
    attributes = {name: dataset[name].attrs for name in swept}
    dataset = dataset.isel(point=order).drop_vars(["point", *swept])
    for name, item in dataset.variables.items():
        if "point" in item.dims:
            shape = (*map(len, kinds.values()), *item.shape[1:])
            dataset = dataset.drop_vars(name).assign(
                {name: ((*swept, *item.dims[1:]), item.values.reshape(shape), item.attrs)}
            )
    return dataset.assign_coords({name: (name, values, attributes[name]) for name, values in kinds.items()})


def _imported(package: str, what: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise RunError(f"{what} needs {package}, which is not installed: pip install {package}") from None


def _of_the_app(name: str) -> Any:
    """A call of the room that knows theory and figures; its methods stand here, where a user looks for them."""
    return getattr(importlib.import_module("sgdsim.app.workflow"), name)


def _ensemble(path: Path, group: Any) -> Ensemble:
    import h5py

    datasets = {name: item for name, item in _members(group).items() if isinstance(item, h5py.Dataset)}
    _require(path, datasets)
    variables = {name: _variable(path, name, dataset) for name, dataset in datasets.items()}
    return _expanded(Ensemble(variables, _attributes(group)))


_IMPLIED = "implied_variables"
"""The attribute in which a file says what follows from less than is said of each trajectory."""


def _compact(ensemble: Ensemble) -> Ensemble:
    """The same without what grows with the trajectories, where nothing is said of each of them.

    Of a variable that is nearly always zero there are the places, counted along all its axes, and the values; of a
    coordinate that counts, and of a variable without values, nothing but a description.
    """
    along = {name: item for name, item in ensemble.variables.items() if "trajectory" in item.dimensions}
    rare = {name: item for name, item in along.items() if isinstance(item, Rare)}
    is_little = all(8 * item.nonzero < math.prod(item.shape) for item in rare.values())
    if not rare or not is_little or any(not isinstance(i, _Implied) and math.prod(i.shape) for i in along.values()):
        return ensemble
    variables = {name: item for name, item in ensemble.variables.items() if name not in along}
    told = []
    for name, item in along.items():
        values = item.values if isinstance(item, Rare) else None
        kind = "empty" if not isinstance(item, _Implied) else "count" if values is None else "rare"
        dtype = item.dtype if isinstance(item, Counted) else values.dtype if values else item.data.dtype.str
        about = {"name": name, "kind": kind, "dimensions": item.dimensions, "shape": item.shape, "dtype": dtype}
        told.append({**about, "attributes": dict(item.attributes)})
        if values is not None:
            where = {
                "units": "1",
                "long_name": f"places where {name} is not 0, counted over {', '.join(item.dimensions)}",
            }
            what = {"units": "1", "long_name": f"{name} there: {item.attributes.get('long_name', '')}"}
            variables[f"{name}_index"] = Variable((f"{name}_index",), values.index, where)
            variables[f"{name}_value"] = Variable((f"{name}_index",), values.values, what)
    return Ensemble(variables, {**ensemble.attributes, _IMPLIED: json.dumps(told)})


def _expanded(stored: Ensemble) -> Ensemble:
    """What `_compact` was made of."""
    attributes, variables = dict(stored.attributes), dict(stored.variables)
    for about in json.loads(str(attributes.pop(_IMPLIED, "[]"))):
        name, dimensions, shape = str(about["name"]), tuple(about["dimensions"]), tuple(about["shape"])
        dtype, labels = np.dtype(about["dtype"]), _allowed(about["attributes"])
        if len(shape) != len(dimensions) or any(not isinstance(n, int) or not 0 <= n < 2**62 for n in shape):
            raise InputError(f"{name!r}: shape {shape}, expected a length for each of {', '.join(dimensions)}")
        if about["kind"] == "count":
            variables[name] = Counted(dimensions[0], shape[0], dtype.str, labels)
        elif about["kind"] == "rare":
            index, values = (variables.pop(f"{name}_{what}").data for what in ("index", "value"))
            if index.dtype.kind != "i" or values.dtype.kind != "i" or not _is_sorted(index, math.prod(shape)):
                raise InputError(f"{name!r}: its places are not those of one value each")
            variables[name] = Rare(dimensions, Sparse(shape, dtype.str, index, values), labels)
        elif math.prod(shape):
            raise InputError(f"{name!r}: its values are missing")
        else:
            variables[name] = Variable(dimensions, np.empty(shape, dtype), labels)
    return Ensemble(variables, attributes)


def _is_sorted(index: np.ndarray, size: int) -> bool:
    return bool((np.diff(index) > 0).all() and (len(index) == 0 or (index[0] >= 0 and index[-1] < size)))


def _reserve(path: Path, ensembles: Iterable[Ensemble]) -> None:
    """Begin a file and take its space: HDF5 can crash the whole process when a disk fills under it."""
    import h5py

    empty = io.BytesIO()
    h5py.File(empty, "w", track_order=True).close()
    ensembles = list(ensembles)
    variables = [item for ensemble in ensembles for item in ensemble.variables.values()]
    values = sum(item.data.nbytes + 64 * item.data.size * (item.data.dtype.kind == "U") for item in variables)
    text = sum(len(str(value)) for ensemble in ensembles for value in ensemble.attributes.values())
    # Generous, since HDF5 gives back what it has not used when it closes the file.
    size = values + 4 * text + 2**14 * len(variables) + 2**20
    with path.open("wb") as file:
        file.write(empty.getvalue())
        file.flush()
        try:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise OSError(error.errno, f"{error.strerror} ({size / 2**20:.1f} MiB needed)") from error


def _write(path: Path, parts: Mapping[str, Ensemble]) -> None:
    import h5py

    try:
        with h5py.File(path, "r+", locking=False) as file:  # `atomic_file` holds its lock
            for name, ensemble in parts.items():
                if name == WHOLE:
                    _write_group(file, ensemble)
                    continue
                _write_group(file.create_group(name, track_order=True), ensemble)
                compact = (
                    COMPACT_VERSION if any(_IMPLIED in one.attributes for one in parts.values()) else SCHEMA_VERSION
                )
                file.attrs.update(_provenance({}) | {"schema_version": compact})
    except RuntimeError as error:
        # So h5py reports what goes wrong on the disk while a file is closed.
        raise OSError(str(error)) from error


def _write_group(group: Any, ensemble: Ensemble) -> None:
    for name, variable in ensemble.variables.items():
        dataset = _dataset(group, name, variable.data)
        dataset.attrs.update(_labelled(name, variable))
    for name in ensemble.sizes:
        group[name].make_scale(name)
    for name, variable in ensemble.variables.items():
        if variable.dimensions != (name,):
            for axis, dimension in enumerate(variable.dimensions):
                group[name].dims[axis].attach_scale(group[dimension])
    group.attrs.update(_provenance(ensemble.attributes))


def _dataset(file: Any, name: str, values: np.ndarray) -> Any:
    import h5py

    if values.dtype.kind == "U":
        return file.create_dataset(name, data=values.astype(object), dtype=h5py.string_dtype())
    if values.dtype.kind != "b":
        return file.create_dataset(name, data=values)
    # NetCDF has no boolean.
    dataset = file.create_dataset(name, data=values.astype(np.int8))
    dataset.attrs.update(flag_values=np.array([0, 1], np.int8), flag_meanings="false true")
    return dataset


def _provenance(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} written by sgdsim"
    return {
        **attributes,
        "Conventions": "CF-1.10",
        "schema_version": COMPACT_VERSION if _IMPLIED in attributes else SCHEMA_VERSION,
        "source": "sgdsim",
        "history": f"{attributes['history']}\n{line}" if "history" in attributes else line,
    }


def _labelled(name: str, variable: Variable) -> dict[str, Attribute]:
    return {"units": "1", "long_name": name, **variable.attributes}


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
    """Read the attributes that are text or one number; of others, which are not ours, their text."""
    attributes = {}
    for name, value in hdf5.attributes(item, but=_RESERVED).items():
        single = isinstance(value, str | np.generic | np.ndarray) and np.size(value) == 1
        attributes[name] = _plain(name, value if single else str(value))
    return attributes


def _allowed(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    attributes = take.by_name(take.anything)(attributes, "attributes")
    for name in attributes:
        if name in _RESERVED or not name.isprintable() or not name:
            raise InputError(f"attribute {name!r}: the file format reserves the name or cannot hold it")
    return {name: _plain(name, value) for name, value in attributes.items()}


def _plain(name: str, value: object) -> Attribute:
    if isinstance(value, np.ndarray | np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if isinstance(value, str):
        # A command line may hold bytes that are not UTF-8.
        return value.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return int(value)
    if isinstance(value, float):
        return value
    raise InputError(f"attribute {name!r}: {value!r} is neither text nor a number of at most 64 bits")


def _storable(data: object) -> np.ndarray:
    try:
        array = np.asarray(data)
    except Exception as error:  # whatever an object of the user's own does
        raise take.refused(data, "data", f"real numbers or text of one shape ({error})") from None
    if array.dtype.kind in "OTU":
        for text in array.flat:
            if not isinstance(text, str) or "\0" in text or text.encode(errors="replace").decode() != text:
                raise take.refused(text, "data", "real numbers of at most 64 bits, or text without NUL, valid in UTF-8")
        return array.astype(np.str_)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise InputError(f"data: values of type {array.dtype} cannot be stored, expected real numbers or text")
    return array


def _sizes(variables: Mapping[str, Variable]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name, variable in variables.items():
        for dimension, size in zip(variable.dimensions, variable.shape, strict=True):
            if sizes.setdefault(dimension, size) != size:
                others = f"others have {sizes[dimension]}"
                raise InputError(f"variable {name!r}: length {size} along {dimension!r}, {others}")
    return sizes


def _require(path: object, names: Container[str]) -> None:
    for name in REQUIRED:
        if name not in names:
            raise InputError(f"{path}: not a result of a run, the variable {name!r} is missing")


def _pieces(variable: Variable) -> Iterator[np.ndarray]:
    """Give the values in order, a part at a time: a file may be larger than the memory."""
    if not variable.shape:
        yield variable.data
        return
    step = max(1, 2**21 // max(1, math.prod(variable.shape[1:])))
    for start in range(0, max(1, variable.shape[0]), step):
        yield variable.rows(start, start + step)


def _bytes(values: np.ndarray) -> bytes | memoryview:
    if values.dtype.kind == "U":
        return b"".join(text.encode() + b"\0" for text in values.flat)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data
