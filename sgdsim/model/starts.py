"""Starts that are neither a number nor random: a grid, a list of values, and the last states of another run."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from math import comb, hypot, inf, isfinite, prod, sqrt
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from sgdsim.base import take
from sgdsim.base.errors import InputError
from sgdsim.base.numbers import to_float
from sgdsim.formulas.arrays import Shape, declared, described, entries, shape_of
from sgdsim.formulas.vectors import array_of, coordinates, shapes
from sgdsim.model.noise import FAMILIES, TABLE, Noise


class _Given(ABC):
    """Starts that are known before the run; they give the moments that theory needs."""

    @abstractmethod
    def moment(self, order: int) -> float:
        """Mean of a power of the start over the trajectories.

        Parameters
        ----------
        order
            The power, a whole number.

        Returns
        -------
        float
            The raw moment.
        """

    def cumulant(self, order: int) -> float:
        """Cumulant of the start over the trajectories, from central moments, so that no digits cancel.

        Parameters
        ----------
        order
            1, 2, 3 or 4.

        Returns
        -------
        float
            The cumulant.
        """
        if order == 1:
            return self.moment(1)
        second, third, fourth = (self._central(n) for n in (2, 3, 4))
        return {2: second, 3: third, 4: fourth - 3 * second**2}[order]

    def _central(self, order: int) -> float:
        mean = self.moment(1)
        return sum(comb(order, k) * self.moment(k) * (-mean) ** (order - k) for k in range(order + 1))


@dataclass(frozen=True)
class Grid(_Given):
    """Equidistant starts, the next value for each trajectory, and from the first again when all are used.

    Parameters
    ----------
    low, high
        The first and the last value.
    points
        Number of values; 0 for as many as there are trajectories.
    trajectories
        Number of trajectories, over which moments are taken; 0 while it is not known.

    Raises
    ------
    InputError
        For a single point, a negative number of points, and bounds that are not finite.

    Examples
    --------
    >>> Grid(-1.0, 1.0, 3).values(0, 4)
    array([-1.,  0.,  1., -1.])
    >>> grid = Grid.parse("grid:-1,1").over(3)
    >>> grid, grid.moment(2) == grid.cumulant(2)
    (Grid(low=-1.0, high=1.0, points=3, trajectories=3), True)
    """

    low: float
    high: float
    points: int
    trajectories: int = 0

    @classmethod
    def parse(cls, text: str, where: str = "initial") -> Grid:
        """Grid of a text ``grid:low,high`` or ``grid:low,high,points``.

        Parameters
        ----------
        text
            The grid.
        where
            Name of the value, for messages.

        Returns
        -------
        Grid
            The grid.

        Raises
        ------
        InputError
            For any other text.
        """
        text = take.text(text, where)
        try:
            low, high, *points = (to_float(part, where) for part in text.partition(":")[2].split(","))
            good = bool(np.isfinite([low, high]).all()) and (not points or (points[0] >= 2 and points[0] % 1 == 0))
        except ValueError:
            good = False
        if not good or len(points) > 1:
            raise InputError(f"{where}: {text!r}, expected grid:low,high or grid:low,high,points with 2 points or more")
        return cls(low, high, int(points[0]) if points else 0)

    def __post_init__(self) -> None:
        take.settle(self, "initial", low=take.number, high=take.number, points=take.whole, trajectories=take.whole)
        if self.points == 1 or self.points < 0:
            raise InputError(f"initial.points: {self.points}, expected 2 or more, or 0 for one a trajectory")
        if self.trajectories < 0:
            raise InputError(f"initial.trajectories: {self.trajectories}, expected 1 or more, or 0")

    def over(self, trajectories: int) -> Grid:
        """Grid for a given number of trajectories, with a point for each unless its number of points is set.

        Parameters
        ----------
        trajectories
            Number of trajectories.

        Returns
        -------
        Grid
            The grid.
        """
        return replace(self, points=self.points or max(trajectories, 2), trajectories=trajectories)

    def __str__(self) -> str:
        return f"grid:{self.low!r},{self.high!r},{self.points}"

    def values(self, start: int, stop: int) -> np.ndarray:
        """Starts of the trajectories ``start`` to ``stop``, the last one excluded.

        Parameters
        ----------
        start, stop
            Numbers of trajectories, counted from 0.

        Returns
        -------
        numpy.ndarray
            Shape (trajectory,), float64.
        """
        return self.low + (self.high - self.low) * (np.arange(start, stop) % self.points / (self.points - 1))

    def moment(self, order: int) -> float:
        """Mean of a power of the start over the trajectories.

        Parameters
        ----------
        order
            The power, a whole number.

        Returns
        -------
        float
            The raw moment.
        """
        return float(np.mean(self.values(0, self.trajectories or self.points) ** order))


@dataclass(frozen=True)
class Stored(_Given):
    """Starts from one parameter of the last snapshot of a file; the values stay in the file until the run begins.

    Parameters
    ----------
    file
        Path of the file.
    digest
        Digest of the snapshot, so that another file under the same name is noticed.
    step
        Number of completed steps of the snapshot.
    seeds
        Seeds of the run in the file, and of the runs that it continued.
    trajectories
        Number of trajectories, from the first on.
    parameter
        Name of the parameter.
    moments
        Raw moments of order 1 to 4, so that theory need not open the file.
    antithetic
        True if trajectories 2i and 2i + 1 have mirrored noise.
    """

    file: str
    digest: str
    step: int
    seeds: tuple[int, ...]
    trajectories: int
    parameter: str
    moments: tuple[float, ...]
    antithetic: bool = False

    def moment(self, order: int) -> float:
        """Mean of a power of the start over the trajectories."""
        return 1.0 if order == 0 else self.moments[order - 1]


@dataclass(frozen=True)
class Listed(_Given):
    """Starts with a value for each trajectory, kept in a column of a file or in an array of the caller.

    Parameters
    ----------
    file, column
        Path of the file and name of the column; empty for an array.
    digest
        Digest of the values.
    trajectories
        Number of values.
    moments
        Raw moments of order 1 to 4.
    load
        Function that returns the values.

    Examples
    --------
    >>> Listed.of([1.0, 3.0]).moment(1)
    2.0
    """

    file: str
    column: str
    digest: str
    trajectories: int
    moments: tuple[float, ...]
    load: Callable[[], np.ndarray] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, values: Any, where: str = "initial", file: str = "", column: str = "") -> Listed:
        """Starts from a list or array of numbers.

        Raises
        ------
        InputError
            If the values are not a list of finite numbers with finite moments.
        """
        try:
            array = np.array(values)
        except (TypeError, ValueError):
            array = np.array(None)
        if array.ndim != 1 or not len(array) or array.dtype.kind not in "iuf":
            raise take.refused(values, where, "numbers, one a trajectory")
        array = array.astype(np.float64)
        if not np.isfinite(array).all():
            row = int(np.argmin(np.isfinite(array)))
            raise InputError(f"{where}: {array[row]} at {row}, expected finite numbers, one a trajectory")
        with np.errstate(over="ignore"):
            moments = tuple(float(np.mean(array**k)) for k in range(1, 5))
        if not np.isfinite(moments).all():
            raise InputError(f"{where}: the values are too large, expected finite moments")
        digest = _digest(array)
        _KNOWN[digest] = array
        return cls(file, column, digest, len(array), moments, lambda: array)

    def values(self) -> np.ndarray:
        """Values of all trajectories, shape (trajectory,).

        Raises
        ------
        InputError
            If the file has changed since it was described, or the array is not in memory any more.
        """
        if self.load is None:
            raise InputError(
                "run.initial: the values of an array are not in the scenario, expected it from Python again"
            )
        found = self.load()
        if _digest(found) != self.digest:
            raise InputError(
                f"run.initial: {self.file} has changed since its column {self.column!r} was taken as a start"
            )
        return found

    def moment(self, order: int) -> float:
        """Mean of a power of the start over the trajectories."""
        return 1.0 if order == 0 else self.moments[order - 1]

    def describe(self) -> dict[str, Any]:
        """Table of a scenario that describes the starts, without the values."""
        return {
            "file": self.file,
            "column": self.column,
            "digest": self.digest,
            "trajectories": self.trajectories,
            "moments": list(self.moments),
        }


_KNOWN: WeakValueDictionary[str, np.ndarray] = WeakValueDictionary()
"""Arrays of callers that a start still uses, by their digest."""


def remembered(digest: str) -> Callable[[], np.ndarray] | None:
    """Function that returns an array which a caller gave earlier, for a scenario that is read again from its text."""
    array = _KNOWN.get(digest)
    return None if array is None else lambda: array


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, dtype=np.float64).tobytes()).hexdigest()


def stored(section: Mapping[str, Any]) -> dict[str, Stored]:
    """Starts by parameter, from the table that `sgdsim.input.snapshots.describe_snapshot` made."""
    place = section["file"], section["digest"], section["step"], tuple(section["seeds"]), section["trajectories"]
    paired = bool(section.get("antithetic"))
    return {name: Stored(*place, name, tuple(moments), paired) for name, moments in section["moments"].items()}


def describe_stored(starts: Sequence[Stored]) -> dict[str, Any]:
    """Table from which `stored` reads the starts again; it describes all parameters of one file."""
    one = starts[0]
    return {
        "file": one.file,
        "digest": one.digest,
        "step": one.step,
        "seeds": list(one.seeds),
        **({"antithetic": True} if one.antithetic else {}),
        "trajectories": one.trajectories,
        "moments": {start.parameter: list(start.moments) for start in starts},
    }


def level_set(names: Sequence[str], text: str, where: str = "initial") -> dict[str, float]:
    """Values of two parameters u > 0 and w with a given charge ``u**2 - w**2`` and a given product ``u*w``.

    Raises
    ------
    InputError
        Unless there are two parameters and two numbers.

    Examples
    --------
    >>> level_set(["u", "w"], "level:3,2")
    {'u': 2.0, 'w': 1.0}
    """
    kind, _, rest = text.partition(":")
    try:
        charge, product = (to_float(part, where) for part in rest.split(","))
    except ValueError:
        charge = product = inf
    if len(names) != 2 or kind.strip() != "level" or not isfinite(charge) or not isfinite(product):
        raise InputError(f"{where}: {text!r}, expected level:charge,product of two parameters, u**2 - w**2 and u*w")
    # The larger of the two squares is a sum in which nothing cancels; the other parameter follows from the product.
    larger = sqrt((abs(charge) + hypot(charge, 2 * product)) / 2)
    smaller = product / larger if larger else 0.0
    if charge >= 0:
        return {names[0]: larger, names[1]: smaller}
    return {names[0]: abs(smaller), names[1]: larger if product >= 0 else -larger}


def by_parameter(starts: Mapping[str, Any], parameters: Sequence[str]) -> dict[str, Any]:
    """Starts by coordinate. A start of a whole vector or matrix holds for the coordinates without one of their own.

    Parameters
    ----------
    starts
        Starts by parameter, ``W`` or as it is declared, ``W[2,2]``: one start, a list or rows of starts, or an array
        (trajectory, axes of the parameter…).
    parameters
        Names of all coordinates.

    Raises
    ------
    InputError
        For a list or an array whose shape differs from the vector or matrix, and for a parameter with two starts.

    Examples
    --------
    >>> by_parameter({"W": [[1.0, 2.0]], "b": 0.0}, ["W[0,0]", "W[0,1]", "b"])
    {'W[0,0]': 1.0, 'W[0,1]': 2.0, 'b': 0.0}
    """
    known = {base: shape for base, shape in shapes(parameters).items() if shape}
    wholes = {f"{base}{end}": base for base, shape in known.items() for end in ("", declared(shape))}
    found: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, start in starts.items():
        base, where = wholes.get(name.replace(" ", "")), f"run.initial.{name}"
        if base is None:
            others[name] = start
            continue
        one_each = _by_coordinate(base, known[base], start, where)
        if found.keys() & one_each.keys():
            raise InputError(f"{where}: {base} has two starts, expected one")
        found |= one_each
    return {**found, **others}


def _by_coordinate(base: str, shape: Shape, start: Any, where: str) -> dict[str, Any]:
    """The start of each coordinate of a vector or a matrix."""
    numbers = numbers_of(start)
    if numbers is not None and numbers.shape[1:] == shape:
        return of_each_trajectory(base, numbers, "run.initial")
    found = shape_of(array_of(start, where)) if numbers is None else numbers.shape
    if found not in ((), shape):
        raise InputError(f"{where}: {described(found)}, expected {described(shape)}, or one for each trajectory")
    keys = coordinates(base, shape)
    return dict(zip(keys, entries(array_of(start, where)) if found else [start] * len(keys), strict=True))


def numbers_of(value: Any) -> np.ndarray | None:
    """Array of a list or rows of numbers; None for any other value.

    Examples
    --------
    >>> numbers_of([[1, 2]]), numbers_of(["normal", 1]), numbers_of(1.0)
    (array([[1, 2]]), None, None)
    """
    if not isinstance(value, list | tuple | np.ndarray):
        return None
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        return None
    return array if array.dtype.kind in "iuf" else None


def of_each_trajectory(base: str, values: np.ndarray, table: str) -> dict[str, Listed]:
    """Starts by coordinate from an array (trajectory, axes of a parameter or a constant…).

    Raises
    ------
    InputError
        For numbers that are not finite.

    Examples
    --------
    >>> {name: one.moment(1) for name, one in of_each_trajectory("w", np.array([[1, 2], [3, 4]]), "initial").items()}
    {'w[0]': 2.0, 'w[1]': 3.0}
    """
    keys, columns = coordinates(base, values.shape[1:]), values.reshape(len(values), prod(values.shape[1:])).T
    return {key: Listed.of(column, f"{table}.{key}") for key, column in zip(keys, columns, strict=True)}


Start = float | Noise | Grid | Listed | Stored
"""An initial value: fixed, drawn, on a grid, given for each trajectory, or from the file of a run."""


def is_start(text: str) -> bool:
    """True if a text is meant as a distribution or a grid, perhaps misspelt, rather than as any other word.

    Examples
    --------
    >>> is_start("normal"), is_start("nomal"), is_start("normla:0,1"), is_start("b")
    (True, True, True, False)
    """
    return ":" in text or bool(get_close_matches(text.strip(), (*FAMILIES, TABLE), n=1))


def start_from(value: Any, where: str = "initial") -> Start:
    """Start from its written form: a number, or the text of a distribution or grid.

    Raises
    ------
    InputError
        For a text that is neither a grid nor a distribution.

    Examples
    --------
    >>> start_from("grid:0,1,3").values(0, 3)
    array([0. , 0.5, 1. ])
    """
    if isinstance(value, list | tuple | np.ndarray) and np.ndim(value):
        return Listed.of(value, where)
    if not isinstance(value, str):
        return value  # type: ignore[no-any-return]
    value = take.text(value, where)
    return Grid.parse(value, where) if value.strip().startswith("grid:") else Noise.parse(value, where)
