"""Initial states that are neither a number nor drawn: a grid, one value a trajectory, and the end of another run."""

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
    """Values known in advance, of which theory asks for moments."""

    @abstractmethod
    def moment(self, order: int) -> float:
        """The mean of a power over the trajectories."""

    def cumulant(self, order: int) -> float:
        """The cumulant over the trajectories, about the mean so that nothing cancels."""
        if order == 1:
            return self.moment(1)
        second, third, fourth = (self._central(n) for n in (2, 3, 4))
        return {2: second, 3: third, 4: fourth - 3 * second**2}[order]

    def _central(self, order: int) -> float:
        mean = self.moment(1)
        return sum(comb(order, k) * self.moment(k) * (-mean) ** (order - k) for k in range(order + 1))


@dataclass(frozen=True)
class Grid(_Given):
    """Equidistant values, one trajectory after the other, and again when they are used up.

    Parameters
    ----------
    low, high
        The first and the last value.
    points
        How many there are; 0 for one a trajectory.
    trajectories
        Over which moments are taken; 0 until it is known.

    Examples
    --------
    >>> Grid(-1.0, 1.0, 3).values(0, 4)
    array([-1.,  0.,  1., -1.])
    """

    low: float
    high: float
    points: int
    trajectories: int = 0

    @classmethod
    def parse(cls, text: str, where: str = "initial") -> Grid:
        """Read ``grid:low,high`` or ``grid:low,high,points``.

        Raises
        ------
        InputError
            For anything else.
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
        """Of so many trajectories, with as many points unless it says how many."""
        return replace(self, points=self.points or max(trajectories, 2), trajectories=trajectories)

    def __str__(self) -> str:
        return f"grid:{self.low!r},{self.high!r},{self.points}"

    def values(self, start: int, stop: int) -> np.ndarray:
        """Of these trajectories, shape (trajectory,)."""
        return self.low + (self.high - self.low) * (np.arange(start, stop) % self.points / (self.points - 1))

    def moment(self, order: int) -> float:
        """The mean of a power over the trajectories."""
        return float(np.mean(self.values(0, self.trajectories or self.points) ** order))


@dataclass(frozen=True)
class Stored(_Given):
    """One parameter of the last snapshot of a file, which stays there: a description opens no file.

    Parameters
    ----------
    file
        Its path.
    digest
        Of the snapshot, so that another file under the same name is noticed.
    step
        Completed steps of the snapshot.
    seeds
        Of the run that it is of, and of those that this one went on from.
    trajectories
        Over which moments are taken, the first ones.
    parameter
        Which one.
    moments
        Raw moments of order 1 to 4, so that theory needs no file.
    antithetic
        Whether trajectories 2i and 2i + 1 have mirrored noise behind them.
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
        """The mean of a power over the trajectories."""
        return 1.0 if order == 0 else self.moments[order - 1]


@dataclass(frozen=True)
class Listed(_Given):
    """One value a trajectory, which stands elsewhere: in a column of a file, or in an array of the caller.

    Parameters
    ----------
    file, column
        Where; empty for an array.
    digest
        Of the values.
    trajectories
        How many there are.
    moments
        Raw moments of order 1 to 4.
    load
        Gives the values.

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
        """Those that are given.

        Raises
        ------
        InputError
            For anything but a list of finite numbers, with finite moments.
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
        """Of all trajectories, shape (trajectory,).

        Raises
        ------
        InputError
            For a file that has changed since it was described, and an array that is no more.
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
        """The mean of a power over the trajectories."""
        return 1.0 if order == 0 else self.moments[order - 1]

    def describe(self) -> dict[str, Any]:
        """As a scenario has it, all but the values."""
        return {
            "file": self.file,
            "column": self.column,
            "digest": self.digest,
            "trajectories": self.trajectories,
            "moments": list(self.moments),
        }


_KNOWN: WeakValueDictionary[str, np.ndarray] = WeakValueDictionary()
"""Arrays of the caller that some start still has, by their digest."""


def remembered(digest: str) -> Callable[[], np.ndarray] | None:
    """What gives an array that a caller has given, for a scenario that is read again from its text."""
    array = _KNOWN.get(digest)
    return None if array is None else lambda: array


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, dtype=np.float64).tobytes()).hexdigest()


def stored(section: Mapping[str, Any]) -> dict[str, Stored]:
    """The starts that `sgdsim.input.snapshots.describe_snapshot` describes, by parameter."""
    place = section["file"], section["digest"], section["step"], tuple(section["seeds"]), section["trajectories"]
    paired = bool(section.get("antithetic"))
    return {name: Stored(*place, name, tuple(moments), paired) for name, moments in section["moments"].items()}


def describe_stored(starts: Sequence[Stored]) -> dict[str, Any]:
    """What `stored` reads, of all parameters of one file."""
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
    """The point of two parameters with a given charge and product: ``u**2 - w**2`` and ``u*w``, with u > 0.

    Raises
    ------
    InputError
        For other than two parameters and two numbers.

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
    # The larger of both squares is a sum of two that do not cancel; the other parameter follows from the product.
    larger = sqrt((abs(charge) + hypot(charge, 2 * product)) / 2)
    smaller = product / larger if larger else 0.0
    if charge >= 0:
        return {names[0]: larger, names[1]: smaller}
    return {names[0]: abs(smaller), names[1]: larger if product >= 0 else -larger}


def by_parameter(starts: Mapping[str, Any], parameters: Sequence[str]) -> dict[str, Any]:
    """Starts by coordinate; one of a whole vector or matrix is for the coordinates that have none of their own.

    Parameters
    ----------
    starts
        By parameter, ``W`` or as it is declared, ``W[2,2]``: one start, a list or rows of them, or an array
        (trajectory, axes of the parameter…).
    parameters
        All coordinates.

    Raises
    ------
    InputError
        For a list, or an array, of another shape than the vector or matrix, and one that has two starts.

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
    """The array that a list, or rows, of numbers alone is; None for anything else.

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
    """By coordinate what an array (trajectory, axes of a parameter or a constant…) gives each trajectory.

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
    """Whether a text means to be a distribution or a grid, perhaps misspelt, and is no word of another kind.

    Examples
    --------
    >>> is_start("normal"), is_start("nomal"), is_start("normla:0,1"), is_start("b")
    (True, True, True, False)
    """
    return ":" in text or bool(get_close_matches(text.strip(), (*FAMILIES, TABLE), n=1))


def start_from(value: Any, where: str = "initial") -> Start:
    """An initial value as it is written.

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
