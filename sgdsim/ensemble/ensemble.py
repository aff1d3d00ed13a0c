"""Labelled arrays and their provenance, in memory or in one HDF5 file that is always whole."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base import hdf5, take
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.base.files import atomic_file, check_output
from sgdsim.base.packages import imported
from sgdsim.ensemble.conversions import RECORDED, as_dataframe, as_dataset, as_html
from sgdsim.ensemble.digest import digest
from sgdsim.ensemble.reading import read_parts, require_variables
from sgdsim.ensemble.variable import WHOLE, Attribute, Contents, Variable, allowed, sizes_of
from sgdsim.ensemble.writing import write_parts
from sgdsim.formulas.names import normal, split_names
from sgdsim.formulas.vectors import base_name, shapes

if TYPE_CHECKING:
    import pandas
    import xarray
    from matplotlib.figure import Figure


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
        self.attributes = allowed(attributes)
        self.sizes = sizes_of(self.variables)
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
        """The view in a notebook: the last record of all that was measured, at the first points of a sweep."""
        return as_html(self.variables, self.attributes)

    @property
    def steps(self) -> np.ndarray:
        """Completed steps at each record."""
        return self["record_step"]

    def statistic(self, kind: str, name: str) -> np.ndarray:
        """A statistic of a parameter or an observable at every record, ``steps``.

        Parameters
        ----------
        kind
            ``mean``, ``variance``, ``skewness``, ``kurtosis``, ``mean_stderr``, ``variance_stderr``, ``count`` or
            ``excluded``.
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
        kind = take.one_of("statistic", RECORDED)(kind, "kind")
        return self._of(name, self["observable"], "observable", self[kind])

    def mean(self, name: str) -> np.ndarray:
        """The mean of a parameter or an observable at every record, see `statistic`."""
        return self.statistic("mean", name)

    def variance(self, name: str) -> np.ndarray:
        """The variance of a parameter or an observable at every record, see `statistic`."""
        return self.statistic("variance", name)

    def compare(self, predictions: Sequence[str] = ()) -> Any:
        """Hold it against the predictions of its scenario, see `sgdsim.app.verdicts.compare_ensemble`."""
        return _of_the_app("verdicts", "compare_ensemble")(self, predictions)

    def plot(self, kind: str | None = None, size: tuple[float, float] | None = None, **looks: Any) -> Figure:
        """Draw it with the predictions of its scenario, see `sgdsim.app.figures.plot_ensemble`."""
        return _of_the_app("figures", "plot_ensemble")(self, kind, size, **looks)  # type: ignore[no-any-return]

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

    def drawn(self, name: str) -> np.ndarray:
        """What each trajectory has of its own, a constant or a column of data: (trajectory, …), (trajectory, row, …).

        It is drawn again, from the seed, as `sgdsim.app.drawn_values.drawn_values` says.
        """
        return _of_the_app("drawn_values", "drawn_values")(self, name)  # type: ignore[no-any-return]

    def _of(self, name: str, known: np.ndarray, kind: str, values: np.ndarray) -> np.ndarray:
        """The entries of the last axis that have a name, of a whole vector or matrix in its own shape."""
        names = [str(key) for key in known]
        name = normal(take.text(name, "name"))
        name = name if name in names else ",".join(split_names(name))  # W[0, 2]
        if name in names:
            return np.asarray(values[..., names.index(name)])
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
        return as_dataframe(self.variables)

    def to_xarray(self) -> xarray.Dataset:
        """All variables as an `xarray.Dataset`, in memory.

        What a sweep varies are indexes: where its points are all combinations of its values, each swept key is a
        dimension in place of ``point``; elsewhere each is an index along it.

        Raises
        ------
        RunError
            If xarray is not installed.
        """
        return as_dataset(Contents(self.variables, self.attributes))

    def digest(self) -> str:
        """SHA-256 of all variables and the resolved scenario; what a repetition of the run must reproduce.

        Names, dimensions, types, shapes and values count; other attributes, such as times, do not, nor what theory
        says, along ``prediction`` and ``claim``.

        Examples
        --------
        >>> variables = {"status": Variable(("trajectory",), [0, 12])}
        >>> Ensemble(variables, {"wall_seconds": 1.5}).digest() == Ensemble(variables, {}).digest()
        True
        """
        return digest(self.variables, self.attributes.get("scenario", ""))


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
        require_variables(path, ensemble.variables)
    contents = {name: Contents(ensemble.variables, ensemble.attributes) for name, ensemble in parts.items()}
    with atomic_file(path) as temporary:
        write_parts(temporary, contents)


def open_parts(path: str | os.PathLike[str]) -> dict[str, Ensemble]:
    """Read all parts of a file; see `Ensemble.open`. Of one without parts, the name is `WHOLE`.

    Raises
    ------
    InputError
        As `Ensemble.open`.
    """
    path = take.path(path, "path")
    with hdf5.opened(path) as file:
        # Absolute, since values are read when they are asked for.
        return {name: Ensemble(*contents) for name, contents in read_parts(Path(path).absolute(), file).items()}


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
    xarray = imported("xarray", "to_datatree")
    return xarray.DataTree.from_dict(  # type: ignore[no-any-return]
        {f"/{name}": part.to_xarray() for name, part in parts.items()}
    )


def _of_the_app(module: str, name: str) -> Any:
    """A call of the room that knows theory and figures; its methods stand here, where a user looks for them."""
    return getattr(importlib.import_module(f"sgdsim.app.{module}"), name)
