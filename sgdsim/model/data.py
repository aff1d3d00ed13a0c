"""Finite data sets: named columns, of which a sample is one row, drawn jointly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from sgdsim.base import take
from sgdsim.base.errors import InputError
from sgdsim.formulas.names import normal_keys

SAMPLINGS = {
    "replacement": "each sample is any row",
    "batch": "the samples of a batch are different rows",
    "epoch": "rows are shuffled anew for each epoch, in each trajectory, and taken in order",
}

MAX_CELLS = 2**17
"""Data stand in the scenario of every file that is made of them."""


@dataclass(frozen=True)
class Data:
    """A finite data set.

    Parameters
    ----------
    columns
        Values by the name that formulas have for the column; equally many each.

    Raises
    ------
    InputError
        For no rows, columns of different lengths, a value that is not finite, and too many of them.

    Examples
    --------
    >>> data = Data({"x": (1.0, -1.0), "y": (2.0, 0.0)})
    >>> data.rows, data.moment({"x": 1, "y": 1})
    (2, Fraction(1, 1))
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
        """How many rows there are."""
        return len(next(iter(self.columns.values())))

    @cached_property
    def array(self) -> np.ndarray:
        """All values, shape (column, row), float64."""
        return np.array(list(self.columns.values()), dtype=np.float64)

    def moment(self, powers: Mapping[str, int]) -> Fraction:
        """The mean over the rows of a product of powers of columns, exact of the decimals as they were written."""
        values = [[Fraction(repr(float(x))) ** n for x in self.columns[name]] for name, n in powers.items()]
        return sum((prod(row, start=Fraction(1)) for row in zip(*values, strict=True)), Fraction(0)) / self.rows

    def row(self, index: int) -> dict[str, float]:
        """One row by column name."""
        return {name: values[index] for name, values in self.columns.items()}


def read_columns(section: Mapping[str, Sequence[Any]], where: str = "loss.data") -> Data:
    """A data set given inline.

    Raises
    ------
    InputError
        As `Data`, and for a cell that is no number, with its row and column.

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
