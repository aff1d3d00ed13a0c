"""Finite data sets, shared by all trajectories or one for each. A sample is one row of the named columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import prod
from random import Random
from typing import Any

import numpy as np

from sgdsim.base import take
from sgdsim.base.errors import InputError
from sgdsim.formulas.names import normal_keys
from sgdsim.formulas.vectors import assigned
from sgdsim.model.noise import Noise

SAMPLINGS = {
    "replacement": "each sample is any row",
    "batch": "the samples of a batch are different rows",
    "epoch": "rows are shuffled anew for each epoch, in each trajectory, and taken in order",
}

MAX_CELLS = 2**17
"""Most values of a data set, as the scenario in every file contains them."""


@dataclass(frozen=True)
class Data:
    """A finite data set, from which the samples of a batch are drawn row by row.

    Parameters
    ----------
    columns
        Values of each column by its name in formulas; all columns have the same length, the number of rows.

    Raises
    ------
    InputError
        For no rows, columns of different lengths, a value that is not finite, and too many values.

    Examples
    --------
    >>> from random import Random
    >>> data = Data({"x": (1.0, -1.0), "y": (2.0, 0.0)})
    >>> data.rows, data.array.shape, data.summary
    (2, (2, 2), '2 rows of x, y')
    >>> data.row(0), data.draw(Random(1)) in (data.row(0), data.row(1))
    ({'x': 1.0, 'y': 2.0}, True)
    >>> data.moment({"x": 1, "y": 1})
    Fraction(1, 1)
    >>> data.describe()
    {'x': [1.0, -1.0], 'y': [2.0, 0.0]}
    """

    columns: Mapping[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        take.settle(self, "loss.data", columns=take.by_name(take.each(take.number)))
        object.__setattr__(self, "columns", normal_keys(self.columns, "loss.data"))
        lengths = {name: len(values) for name, values in self.columns.items()}
        if not lengths or min(lengths.values()) < 1:
            raise InputError("loss.data: there are no rows, expected columns of numbers")
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise InputError(f"loss.data: {listed} rows, expected equally many")
        if sum(lengths.values()) > MAX_CELLS:
            raise InputError(f"loss.data: {sum(lengths.values())} values, expected at most {MAX_CELLS}")

    def __hash__(self) -> int:
        return hash(tuple((name, values[:8]) for name, values in self.columns.items()))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))

    @cached_property
    def array(self) -> np.ndarray:
        """Array of all values, shape (column, row), float64."""
        return np.array(list(self.columns.values()), dtype=np.float64)

    def moment(self, powers: Mapping[str, int]) -> Fraction:
        """Mean over the rows of a product of powers of columns, computed exactly from the decimals of the values.

        Parameters
        ----------
        powers
            Exponent of each column in the product, by name.

        Returns
        -------
        fractions.Fraction
            The mean, such as ``E x*y`` for ``{"x": 1, "y": 1}``.
        """
        values = [[Fraction(repr(float(x))) ** n for x in self.columns[name]] for name, n in powers.items()]
        return sum((prod(row, start=Fraction(1)) for row in zip(*values, strict=True)), Fraction(0)) / self.rows

    def row(self, index: int) -> dict[str, float]:
        """Values of one row by column name.

        Parameters
        ----------
        index
            Number of the row, counted from 0.

        Returns
        -------
        dict
            The value of each column.
        """
        return {name: values[index] for name, values in self.columns.items()}

    def draw(self, random: Random) -> dict[str, float]:
        """Random row, used to check formulas; the rows of a simulation are drawn by its kernels.

        Parameters
        ----------
        random
            Python's source of random numbers.

        Returns
        -------
        dict
            The value of each column.
        """
        return self.row(random.randrange(self.rows))

    @property
    def summary(self) -> str:
        """Summary in words: the number of rows, and the columns."""
        return f"{self.rows} rows of {', '.join(self.columns)}"

    def describe(self) -> dict[str, Any]:
        """Data set as the table of a scenario."""
        return {name: list(values) for name, values in self.columns.items()}


@dataclass(frozen=True)
class DrawnData:
    """A data set for each trajectory, whose rows are drawn once, before the first step, and never change.

    Parameters
    ----------
    columns
        The distribution of each column; ``x[3]`` declares three columns.
    rows
        Number of rows of each trajectory.

    Raises
    ------
    InputError
        For no rows, no columns, and too many values.

    Examples
    --------
    >>> data = DrawnData({"x[2]": "normal", "e": "normal:0,0.5"}, 64)
    >>> list(data.columns), data.cells
    (['x[0]', 'x[1]', 'e'], 192)
    """

    columns: Mapping[str, Noise]
    rows: int

    def __post_init__(self) -> None:
        take.settle(self, "loss.data", columns=take.by_name(_law), rows=take.whole)
        object.__setattr__(self, "columns", assigned(normal_keys(self.columns, "loss.data"), "loss.data"))
        if not self.columns:
            raise InputError("loss.data: there are no columns, expected distributions by name")
        if self.rows < 1:
            raise InputError(f"loss.data.rows: {self.rows}, expected 1 or more")
        if self.cells > MAX_CELLS:
            raise InputError(f"loss.data: {self.cells} values in each trajectory, expected at most {MAX_CELLS}")

    def __hash__(self) -> int:
        return hash((tuple(self.columns), self.rows))

    @property
    def cells(self) -> int:
        """Number of values of a trajectory."""
        return self.rows * len(self.columns)

    def draw(self, random: Random) -> dict[str, float]:
        """Random row, used to check formulas; see `Data.draw`."""
        return {name: law.draw(random) for name, law in self.columns.items()}

    @property
    def summary(self) -> str:
        """Summary in words: the number of rows, and the columns."""
        return (
            f"{self.rows} rows of each trajectory, {', '.join(f'{name} ~ {law}' for name, law in self.columns.items())}"
        )

    def describe(self) -> dict[str, Any]:
        """Data set as the table of a scenario."""
        return {"rows": self.rows, **{name: str(law) for name, law in self.columns.items()}}


def _law(value: Any, where: str) -> Noise:
    return Noise.parse(value, where) if isinstance(value, str) else take.of_kind(Noise, "a distribution")(value, where)


def read_data(section: Mapping[str, Any], where: str = "loss.data") -> Data | DrawnData:
    """Data set of a scenario's table: columns of numbers, or distributions and the number of rows drawn from them.

    Raises
    ------
    InputError
        For a table that `read_columns` or `DrawnData` refuses, and for distributions beside numbers or without
        ``rows``.

    Examples
    --------
    >>> read_data({"x": "rademacher", "rows": 8})
    DrawnData(columns={'x': Noise(family='rademacher', arguments=())}, rows=8)
    """
    laws = {name: value for name, value in section.items() if name != "rows" or isinstance(value, str | Noise)}
    if (
        not any(isinstance(value, str | Noise) for value in laws.values())
        and take.as_number(section.get("rows")) is None
    ):
        return read_columns(section, where)
    for name, value in laws.items():
        if not isinstance(value, str | Noise):
            raise InputError(f"{where}.{name}: {value!r}, expected a distribution, such as 'normal', as of all columns")
    if "rows" in laws or "rows" not in section:
        given = f"{laws['rows']!r}" if "rows" in laws else "is missing"
        raise InputError(f"{where}.rows: {given}, expected how many rows are drawn in each trajectory")
    laws = {name: _law(law, f"{where}.{name}") for name, law in laws.items()}
    return DrawnData(laws, take.whole(section["rows"], f"{where}.rows"))


def read_columns(section: Mapping[str, Sequence[Any]], where: str = "loss.data") -> Data:
    """Data set of columns of numbers.

    Raises
    ------
    InputError
        For columns that `Data` refuses, and for a cell that is not a number, with its row and column.

    Examples
    --------
    >>> read_columns({"x": [1, 2.5]}).columns
    {'x': (1.0, 2.5)}
    """
    columns = {}
    for name, values in section.items():
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise InputError(f"{where}.{name}: {values!r}, expected a list of numbers")
        for row, value in enumerate(values):
            if take.as_number(value) is None:
                raise InputError(f"{where}.{name}: {value!r} in row {row + 1}, expected a finite number")
        columns[name] = tuple(float(value) for value in values)
    return Data(columns)
