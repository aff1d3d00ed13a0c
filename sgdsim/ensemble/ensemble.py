"""Ensembles: labelled arrays and their provenance, in memory or in one HDF5 file."""

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
from sgdsim.ensemble.conversions import RECORDED, as_dataframe, as_dataset, as_html, lost
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
    """The result of a run: variables that share dimensions, and their provenance.

    Each dimension has a coordinate, the variable of the same name; a coordinate that is not given counts from 0.

    Parameters
    ----------
    variables
        Labelled arrays by name.
    attributes
        Provenance as texts and numbers: the scenario, versions, times.

    Attributes
    ----------
    variables, attributes
        The given variables together with the coordinates, and the attributes.
    sizes
        Length of each dimension.

    Raises
    ------
    InputError
        For names that a file cannot hold, and dimensions whose length differs between variables.

    Examples
    --------
    >>> import sgdsim
    >>> run = {"initial": {"x": 0.0}, "trajectories": 1000, "steps": 8, "every": 4, "device": "python"}
    >>> ensemble = sgdsim.simulate("x**2/2 + z*x", noise={"z": "normal"}, learning_rate=0.5, **run)
    >>> ensemble.steps, abs(float(ensemble.mean("x")[-1])) < 0.1, abs(float(ensemble.variance("x")[-1]) - 1 / 3) < 0.05
    (array([0, 4, 8]), True, True)
    >>> ensemble.compare(["mean(x) = 5"]).disagrees, "variance_stderr" in ensemble.names
    (True, True)
    >>> ensemble.to_dataframe().xs("x", level="observable").index.tolist()
    [0, 4, 8]
    >>> ensemble.to_xarray().sizes["record"]
    3

    An ensemble may also be made of arrays.
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
        return f"<Ensemble {', '.join(f'{name} {size}' for name, size in self.sizes.items())}{lost(self.variables)}>"

    def _repr_html_(self) -> str:
        """Table for a notebook: the last record of all measured quantities, at the first points of a sweep."""
        return as_html(self.variables, self.attributes)

    @property
    def steps(self) -> np.ndarray:
        """Number of completed steps at each record, shape (record,)."""
        return self["record_step"]

    def statistic(self, kind: str, name: str) -> np.ndarray:
        """A statistic of a parameter or an observable at every record.

        Parameters
        ----------
        kind
            ``mean``, ``variance``, ``skewness``, ``kurtosis``, ``mean_stderr``, ``variance_stderr``, ``count`` or
            ``excluded``.
        name
            Name of the parameter or observable; of a whole vector or matrix, ``W``, or of one entry, ``W[0,2]``.

        Returns
        -------
        numpy.ndarray
            Shape (record, axes of the parameter…), for a sweep (point, record, axes…). The records are at the steps
            `steps`; the values have the units of the quantity, or their power.

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
        """Mean of a parameter or an observable over the trajectories, at every record.

        Parameters
        ----------
        name
            Name of the parameter or observable; see `statistic`.

        Returns
        -------
        numpy.ndarray
            Shape (record, axes of the parameter…), for a sweep (point, record, axes…).

        Raises
        ------
        InputError
            For an unknown name.
        """
        return self.statistic("mean", name)

    def variance(self, name: str) -> np.ndarray:
        """Variance of a parameter or an observable over the trajectories, at every record.

        Parameters
        ----------
        name
            Name of the parameter or observable; see `statistic`.

        Returns
        -------
        numpy.ndarray
            Shape (record, axes of the parameter…), for a sweep (point, record, axes…).

        Raises
        ------
        InputError
            For an unknown name.
        """
        return self.statistic("variance", name)

    def compare(self, predictions: Sequence[str] = ()) -> Any:
        """Compare the ensemble with the predictions of its scenario; see `sgdsim.app.verdicts.compare_ensemble`.

        Parameters
        ----------
        predictions
            Further predictions: ids of laws, and formulas such as ``"variance(x) = learning_rate/2"``.

        Returns
        -------
        sgdsim.app.verdicts.Report
            A row with a verdict for each prediction.

        Raises
        ------
        InputError
            For an ensemble without a scenario, one point of a sweep, and a prediction that cannot be used.
        """
        return _of_the_app("verdicts", "compare_ensemble")(self, predictions)

    def plot(self, kind: str | None = None, size: tuple[float, float] | None = None, **looks: Any) -> Figure:
        """Draw the ensemble with the predictions of its scenario; see `sgdsim.app.figures.plot_ensemble`.

        Parameters
        ----------
        kind
            Kind of figure; None for the one that shows most.
        size
            Width and height in inches; None for a size that suits the content.
        **looks
            Further arguments of `sgdsim.app.figures.plot_ensemble`, such as ``only=["x"]`` and ``residuals=True``.

        Returns
        -------
        matplotlib.figure.Figure
            The figure.

        Raises
        ------
        InputError
            For a kind that nothing was recorded for.
        RunError
            If matplotlib is not installed.
        """
        return _of_the_app("figures", "plot_ensemble")(self, kind, size, **looks)  # type: ignore[no-any-return]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all variables."""
        return tuple(self.variables)

    def parameter(self, name: str) -> np.ndarray:
        """Values of a parameter in all trajectories, at the steps whose snapshots were kept.

        Parameters
        ----------
        name
            A parameter, ``W1``, or one of its coordinates, ``W1[0,2]``.

        Returns
        -------
        numpy.ndarray
            Shape (snapshot, trajectory, axes of the parameter…), for a sweep (point, snapshot, …).

        Raises
        ------
        InputError
            For an unknown parameter, and if no snapshots were kept.

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
        """Values of a constant, or of a column of data, that each trajectory has of its own.

        They are not stored, but drawn again from the seed; see `sgdsim.app.drawn_values.drawn_values`.

        Parameters
        ----------
        name
            A constant, ``B``, a column of data, or one coordinate, ``B[0,2]``.

        Returns
        -------
        numpy.ndarray
            Shape (trajectory, axes of the constant…), for data (trajectory, row, axes…); for a sweep (point, …).

        Raises
        ------
        InputError
            For a name that trajectories do not have of their own, and values of an array that is not in memory any
            more.
        """
        return _of_the_app("drawn_values", "drawn_values")(self, name)  # type: ignore[no-any-return]

    def _of(self, name: str, known: np.ndarray, kind: str, values: np.ndarray) -> np.ndarray:
        """The values of a name along the last axis; those of a whole vector or matrix in its own shape."""
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
        """Ensemble of one point of a sweep.

        Parameters
        ----------
        point
            Number of the point, counted from 0.

        Returns
        -------
        Ensemble
            The same variables, without the dimension ``point``.

        Raises
        ------
        InputError
            If this is not a sweep, or has no such point.

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
        """Write the ensemble into an HDF5 file, which `xarray.open_dataset` opens with no further argument.

        Parameters
        ----------
        path
            Path of the file, which appears only once it is whole.
        overwrite
            True if it may replace another file.

        Raises
        ------
        InputError
            If the path cannot be written to, or a variable is missing that every run records.
        RunError
            If writing fails. An older file at the path is then untouched.

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
        """Read an ensemble from a file.

        Variables with a dimension ``trajectory`` are read when they are first used. The file is not held open. If it
        is replaced in the meantime, reading more of it is refused.

        Parameters
        ----------
        path
            Path of the file.
        part
            Name of the part to read, if the scenario has parts.

        Returns
        -------
        Ensemble
            The ensemble.

        Raises
        ------
        InputError
            For a file that is missing, not HDF5, damaged, not written by sgdsim, or of an unknown version; for an
            unknown part, and for no part if the file holds several.

        Examples
        --------
        >>> from tempfile import TemporaryDirectory
        >>> names = {name: Variable((name,), ["x"]) for name in ("parameter", "observable")}
        >>> with TemporaryDirectory() as folder:
        ...     Ensemble({"record_step": Variable(("record",), [0, 5]), **names}, {}).save(f"{folder}/run.h5")
        ...     Ensemble.open(f"{folder}/run.h5").steps
        array([0, 5])
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
        """Table of all statistics, a row for each observable at each record, as a `pandas.DataFrame`.

        Its index has the swept values, the step and the observable: ``.xs("x", level="observable")`` selects one.

        Raises
        ------
        RunError
            If pandas is not installed.
        """
        return as_dataframe(self.variables)

    def to_xarray(self) -> xarray.Dataset:
        """All variables as an `xarray.Dataset`, in memory.

        The keys of a sweep become indexes. If its points are all combinations of the swept values, each key is a
        dimension in place of ``point``; otherwise each key is an index along ``point``.

        Raises
        ------
        RunError
            If xarray is not installed.
        """
        return as_dataset(Contents(self.variables, self.attributes))

    def digest(self) -> str:
        """SHA-256 of all variables and of the resolved scenario, which a repetition of the run must reproduce.

        Names, dimensions, types, shapes and values are included. Other attributes, such as times, and variables of
        theory, with the dimensions ``prediction`` and ``claim``, are not.

        Examples
        --------
        >>> variables = {"status": Variable(("trajectory",), [0, 12])}
        >>> Ensemble(variables, {"wall_seconds": 1.5}).digest() == Ensemble(variables, {}).digest()
        True
        """
        return digest(self.variables, self.attributes.get("scenario", ""))


def save_parts(parts: Mapping[str, Ensemble], path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write several ensembles into one HDF5 file, a group for each: ``xarray.open_dataset(path, group=name)``.

    Parameters
    ----------
    parts
        Ensembles by name. A single ensemble with the name `WHOLE` is written without a group.
    path, overwrite
        Path of the file, and True if it may replace another file.

    Raises
    ------
    InputError, RunError
        If the file cannot be written; see `Ensemble.save`.

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
    """Read all parts of a file; see `Ensemble.open`.

    Parameters
    ----------
    path
        Path of the file.

    Returns
    -------
    dict
        Ensembles by the name of their part; a file without parts gives one with the name ``""``.

    Raises
    ------
    InputError
        For a file that is missing, not HDF5, damaged, not written by sgdsim, or of an unknown version.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> names = {name: Variable((name,), ["x"]) for name in ("parameter", "observable")}
    >>> with TemporaryDirectory() as folder:
    ...     Ensemble({"record_step": Variable(("record",), [0, 5]), **names}, {}).save(f"{folder}/run.h5")
    ...     open_parts(f"{folder}/run.h5")
    {'': <Ensemble record 2, parameter 1, observable 1>}
    """
    path = take.path(path, "path")
    with hdf5.opened(path) as file:
        # The path is made absolute, since values are read later, when they are used.
        return {name: Ensemble(*contents) for name, contents in read_parts(Path(path).absolute(), file).items()}


def to_datatree(parts: Mapping[str, Ensemble]) -> xarray.DataTree:
    """The parts of a file as an `xarray.DataTree`, each under its name.

    Parameters
    ----------
    parts
        Ensembles by name, from `open_parts`.

    Returns
    -------
    xarray.DataTree
        A node for each part, with the data set of `Ensemble.to_xarray`.

    Raises
    ------
    InputError
        For a part that is not an `Ensemble`.
    RunError
        If xarray is not installed.

    Examples
    --------
    >>> part = Ensemble({"record_step": Variable(("record",), [0, 5])}, {"coordinates": "record_step"})
    >>> list(to_datatree({"one": part, "two": part}).children)
    ['one', 'two']
    """
    parts = take.by_name(take.of_kind(Ensemble, "an Ensemble"))(parts, "parts")
    xarray = imported("xarray", "to_datatree")
    return xarray.DataTree.from_dict(  # type: ignore[no-any-return]
        {f"/{name}": part.to_xarray() for name, part in parts.items()}
    )


def _of_the_app(module: str, name: str) -> Any:
    """Function of the package `sgdsim.app`, which knows theory and figures; it is imported when a method needs it."""
    return getattr(importlib.import_module(f"sgdsim.app.{module}"), name)
