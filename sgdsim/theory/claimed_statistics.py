"""The left side of a claim: a statistic of measured values, or a function of several.

- ``mean(x)``, and others of `sgdsim.prediction.STATISTICS`, of a parameter or recorded observable;
- ``covariance(u, w)`` of two parameters;
- ``median(x)`` and ``quantile(x, 0.9)`` of a parameter with a snapshot;
- a formula in these and in what the right side may name, ``variance(x)/mean(y)**2``, in which the statistic of a matrix
  is the matrix of those of its entries, ``alignment(mean(K), mean(L))``;
- over the points of a sweep ``slope(f, g)`` of two such formulas: that of the straight line through the points
  ``(g, f)``, by least squares, each with the same weight; and formulas in slopes;
- ``density(x)`` and ``tail(x)``, alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from typing import Any

import numpy as np

from sgdsim.base.errors import InputError, unknown_name
from sgdsim.formulas.arrays import entries, filled, shape_of
from sgdsim.formulas.calls import Call, WithCalls
from sgdsim.formulas.names import FormulaError, split_names
from sgdsim.formulas.vectors import base_name, shapes
from sgdsim.model.run import Run
from sgdsim.prediction import STATISTICS, Function, Moment, Quantile

DISTRIBUTIONS = ("density", "tail")
_NUMBERS = (*STATISTICS, "covariance", "median", "quantile")
_OVER_POINTS = "slope"
_USAGE = {"quantile": "quantile(x, 0.9)", "covariance": "covariance(u, w)", "slope": "slope(f, g)"}
_NAME = re.compile(r"\w+(\[\d+(,\d+)?\])?")

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Statistic:
    """A statistic of one observable, or of two.

    Parameters
    ----------
    kind
        ``mean``, …; a median is a ``quantile``.
    names
        The observables, one or two.
    probability
        The probability of a quantile.
    text
        The statistic as the user wrote it.
    """

    kind: str
    names: tuple[str, ...]
    probability: float | None = None
    text: str = ""

    def measured(self, run: Run, where: str) -> str:
        """The name of the measured observable; for a covariance both names, in the order in which they are recorded.

        Raises
        ------
        InputError
            For a name of no parameter or observable, with a near match, and for covariances that are not recorded.
        """
        of_parameters = self.kind in ("covariance", "tail", "quantile")
        kind, known = ("parameter", run.loss.parameters) if of_parameters else ("observable", run.measured)
        for name in self.names:
            if entry := next((one for one in known if base_name(one) == name and one != name), ""):
                raise InputError(f"{where}: {name} is no number, expected an entry, such as {self.kind}({entry})")
            if name not in known:
                raise InputError(f"{where}: {unknown_name(kind, name, known)}")
        if self.kind == "covariance" and not run.recorder.covariances:
            raise self.needs("record.covariances = true, or --covariances", where)
        return ", ".join(sorted(self.names, key=run.measured.index))

    def needs(self, what: str, where: str) -> InputError:
        """The error which tells that something has to be recorded."""
        return InputError(f"{where}: {self.text} needs {what}")

    def check_snapshot(self, run: Run, step: int, where: str) -> None:
        """Refuse a step at which no snapshot is recorded."""
        if step not in run.recorder.snapshots:
            at = "final" if step == run.steps else str(step)
            raise self.needs(f"a snapshot at step {step}: record.snapshots, or --snapshot {at}", where)

    def of_entries(self, run: Run) -> Any:
        """The statistic itself; for a measured vector or matrix, the array of the statistics of its entries."""
        (name, *others), measured = self.names, run.measured
        keys = [key for key in measured if base_name(key) == name] if name not in measured else []
        if others or not keys or self.kind not in STATISTICS:
            return self
        return filled(shapes(keys)[name], (replace(self, names=(key,), text=f"{self.kind}({key})") for key in keys))

    def measure(self, run: Run, step: int, point: int | None, where: str) -> Moment | Quantile:
        """The measure of the statistic in an ensemble."""
        observable = self.measured(run, where)
        if self.probability is None:
            return Moment(self.kind, observable, step, point)
        self.check_snapshot(run, step, where)
        return Quantile(observable, step, self.probability, point)


@dataclass(frozen=True)
class Left:
    """A statistic, or a formula in statistics.

    Parameters
    ----------
    text
        The formula as the user wrote it, but for spaces.
    formula
        The formula, in which each call of a statistic or slope has a name.
    statistics, slopes
        The statistic, or the two sides of the slope, of each name.

    Examples
    --------
    >>> left = Left.parse("variance( x )/mean(y)**2", "claim")
    >>> left.text, [one.kind for one in left.statistics.values()]
    ('variance(x)/mean(y)**2', ['variance', 'mean'])
    >>> left.single is None, Left.parse("median(x)", "claim").single.probability
    (True, 0.5)
    """

    text: str
    formula: WithCalls = field(compare=False)
    statistics: Mapping[str, Statistic] = field(compare=False)
    slopes: Mapping[str, tuple[Left, Left]] = field(compare=False)

    @classmethod
    def parse(cls, text: str, where: str, functions: Sequence[str] = (*_NUMBERS, *DISTRIBUTIONS, _OVER_POINTS)) -> Left:
        """Read the left side of a claim.

        Raises
        ------
        InputError
            For a text that is no formula in statistics.
        """
        formula = WithCalls.parse(text, functions, where=where, kind="statistic")
        slopes = {name: _slope(formula, call) for name, call in formula.calls.items() if call.function == _OVER_POINTS}
        statistics = {name: _statistic(formula, call) for name, call in formula.calls.items() if name not in slopes}
        found = cls(_without_spaces(text), formula, statistics, slopes)
        for name, one in statistics.items():
            call = formula.calls[name]
            if slopes:
                raise formula.fail(call, f"{one.text} is of one point, and slope of all", "it within slope(f, g)")
            if one.kind in DISTRIBUTIONS and found.single is None:
                raise formula.fail(call, f"a {one.kind} in a formula", f"{one.text} alone")
        return found

    @property
    def single(self) -> Statistic | None:
        """The statistic, if the left side is one alone; else None."""
        name, *others = self.formula.calls
        return self.statistics.get(name) if not others and self.formula.formula.text == name else None

    @property
    def kind(self) -> str:
        """The kind of the left side in one word: that of its only statistic, ``slope`` or ``function``."""
        return self.single.kind if self.single else _OVER_POINTS if self.slopes else "function"

    @property
    def is_of_snapshots(self) -> bool:
        """True if the left side is measured from snapshots alone."""
        within = (one.is_of_snapshots for pair in self.slopes.values() for one in pair)
        return all(one.kind in ("tail", "quantile") for one in self.statistics.values()) and all(within)

    @property
    def is_over_points(self) -> bool:
        """True if the left side is about all points of a sweep together."""
        return bool(self.slopes)

    @property
    def names(self) -> frozenset[str]:
        """The names in the left side that are not measured: constants, and others of a run."""
        return self.formula.names.union(*(side.names for pair in self.slopes.values() for side in pair))

    def at_point(self, run: Run, step: int, values: Values, where: str) -> Moment | Quantile | Function:
        """The measure of the left side in one run.

        Parameters
        ----------
        run, step
            The run, and the step at which it is measured.
        values
            Values of the names that the formula may use.
        where
            The place of the claim, for messages.
        """
        if self.single is not None:
            return self.single.measure(run, step, None, where)
        made = _Measured([], {})
        return Function(self.kind, made.bound(self, run, step, None, values, where), tuple(made.moments))

    def over_points(self, runs: Sequence[Run], steps: Sequence[int], values: Sequence[Values], where: str) -> Function:
        """The measure of the left side over the points of a sweep; steps and values are given for each point.

        Raises
        ------
        InputError
            For fewer than two points, for a slope whose second formula has the same value at all points, and for a name
            outside of slopes.
        """
        if len(runs) < 2:
            raise InputError(f"{where}: {self.text} is over the points of a sweep, and this is a single run")
        self.formula.require(())
        made, pairs = _Measured([], {}), dict[str, tuple[list[_Bound], ...]]()
        for name, (f, g) in self.slopes.items():
            pairs[name] = tuple(
                [made.bound(side, run, steps[point], point, values[point], where) for point, run in enumerate(runs)]
                for side in (f, g)
            )
            along = [] if g.statistics else [g.formula.evaluate(here) for here in values]
            if along and np.ptp(along) == 0.0:
                raise InputError(
                    f"{where}: {g.text} is {along[0]:g} at every point of the sweep, expected what differs"
                )
        return Function(self.kind, _Slopes(self.formula, pairs), tuple(made.moments))


@dataclass
class _Measured:
    """The measured values that a function takes, each listed once."""

    moments: list[Moment | Quantile]
    _places: dict[Moment | Quantile, int]

    def bound(self, left: Left, run: Run, step: int, point: int | None, values: Values, where: str) -> _Bound:
        """A formula at a point of a sweep, as a function of all measured values."""
        left.formula.require(values)
        places: dict[str, Any] = {}
        for name, statistic in left.statistics.items():
            whole = statistic.of_entries(run)
            found = [self._place(one.measure(run, step, point, where)) for one in entries(whole)]
            places[name] = filled(shape_of(whole), found)
        left.formula.require_number({name: shape_of(value) for name, value in {**values, **places}.items()})
        return _Bound(left.formula, values, places)

    def _place(self, measure: Moment | Quantile) -> int:
        if measure not in self._places:
            self._places[measure] = len(self.moments)
            self.moments.append(measure)
        return self._places[measure]


@dataclass(frozen=True)
class _Bound:
    """A formula of measured values, with the values of its other names.

    The places tell which of the measured values each statistic is; for a matrix they are an array.
    """

    formula: WithCalls
    values: Values
    places: Mapping[str, Any]

    def __call__(self, *measured: Any) -> np.ndarray:
        found = {name: filled(shape_of(at), (measured[one] for one in entries(at))) for name, at in self.places.items()}
        return self.formula.of_arrays({**self.values, **found})


@dataclass(frozen=True)
class _Slopes:
    """A formula in slopes, each from a pair of functions at every point."""

    formula: WithCalls
    pairs: Mapping[str, tuple[Sequence[_Bound], ...]]

    def __call__(self, *measured: Any) -> np.ndarray:
        found = {}
        for name, sides in self.pairs.items():
            y, x = (np.stack(np.broadcast_arrays(*(one(*measured) for one in side))) for side in sides)
            x, y = np.broadcast_arrays(x.T, y.T)
            x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
            found[name] = (x * y).sum(-1) / (x * x).sum(-1)
        return self.formula.of_arrays(found)


def _slope(formula: WithCalls, call: Call) -> tuple[Left, Left]:
    if len(call.arguments) != 2:
        raise _misused(formula, call)
    f, g = (Left.parse(text, formula.where, _NUMBERS) for text in call.arguments)
    return f, g


def _statistic(formula: WithCalls, call: Call) -> Statistic:
    *names, last = call.arguments
    kind, probability = call.function, None
    if kind == "quantile":
        probability = _probability(last)
        if isnan(probability):
            raise _misused(formula, call)
    else:
        names.append(last)
    names = split_names(", ".join(names)) if names else names
    if kind == "median":
        kind, probability = "quantile", 0.5
    if len(set(names)) != (2 if kind == "covariance" else 1) or len(names) != len(set(names)):
        raise _misused(formula, call)
    if not all(map(_NAME.fullmatch, names)):
        expected = "a parameter or the name of a recorded observable, such as energy of --observable 'energy = x**2'"
        raise formula.fail(call, call.text, expected)
    return Statistic(kind, tuple(names), probability, _without_spaces(call.text))


def _misused(formula: WithCalls, call: Call) -> FormulaError:
    usage = "covariance(u, w) of two parameters, quantile(x, 0.9), slope(f, g) of two formulas, and others of one name"
    return formula.fail(call, call.text, usage)


def _probability(text: str) -> float:
    """The number between 0 and 1 that a text stands for; NaN for any other text."""
    try:
        number = float(text)
    except ValueError:
        return np.nan
    return number if 0.0 < number < 1.0 else np.nan


def _without_spaces(text: str) -> str:
    inside = re.sub(r"(?<=[(\[])\s+|\s+(?=[)\],])|(?<=\w)\s+(?=\()", "", text.strip())
    return re.sub(r"\s+", " ", re.sub(r",\s*", ", ", inside))
