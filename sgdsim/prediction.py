"""Predictions: what theory, or the user, says that a measurement will give.

A prediction holds a number and *what to measure*, as plain data. It knows nothing of how an estimate is made:
that is `sgdsim.statistics.estimators`'s, and only `sgdsim.statistics.comparison` brings the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan
from typing import Any, ClassVar, Literal, cast

import numpy as np

from sgdsim.base import take

STATISTICS = ("mean", "variance", "std", "skewness", "kurtosis")
"""Statistics of one observable over the ensemble; kurtosis is the excess over 3."""

FEWEST_RATES = 4
"""Learning rates at which a prediction of order k is tested."""

EXPECTED = ("agrees", "disagrees")
"""Verdicts that are asked of a prediction: ``disagrees`` makes it a negative control."""

UNNAMED = "user-"
"""What the ids of claims begin with to which the user has given none: ``user-1``, for machines."""

Order = int | Literal["exact", "adiabatic"]


def is_named(id: str) -> bool:
    """Tell whether an id is that of a law, or one that the user has chosen, and so one for people.

    Examples
    --------
    >>> is_named("valley"), is_named("user-1")
    (True, False)
    """
    return not id.startswith(UNNAMED)


class NotApplicable(Exception):
    """A law does not hold for this run; the message says why, with the numbers."""


def require(condition: object, reason: str) -> None:
    """Refuse a run for which a law does not hold.

    Raises
    ------
    NotApplicable
        With the reason, where the condition is false.
    """
    if not condition:
        raise NotApplicable(reason)


@dataclass(frozen=True)
class Moment:
    """A statistic of one observable after so many steps.

    Parameters
    ----------
    statistic
        One of `STATISTICS`.
    observable
        A parameter or a recorded observable.
    step
        Completed steps; one of the record's.
    point
        Sweep point; None for the point of the prediction.
    """

    statistic: str
    observable: str
    step: int
    point: int | None = None

    def __post_init__(self) -> None:
        take.settle(self, "moment", statistic=take.text, observable=take.text, step=take.whole)
        take.settle(self, "moment", point=take.optional(take.whole))


@dataclass(frozen=True)
class Quantile:
    """The value of a parameter at a snapshot below which it is with a given probability.

    Parameters
    ----------
    observable
        The parameter.
    step
        Of the snapshot.
    probability
        Between 0 and 1; a half for the median.
    point
        As of a `Moment`.
    """

    observable: str
    step: int
    probability: float
    point: int | None = None
    statistic: ClassVar[str] = "quantile"


@dataclass(frozen=True)
class Correlation:
    """Pearson's correlation, over trajectories, of a parameter at two snapshots."""

    parameter: str
    steps: tuple[int, int]
    statistic: ClassVar[str] = "correlation"


@dataclass(frozen=True)
class PathMean:
    """The mean, over trajectories, of a function of one parameter's values at several snapshots.

    Parameters
    ----------
    parameter
        Whose values.
    steps
        Of the snapshots.
    function
        Of an array (step, trajectory); gives a value for each trajectory.
    """

    parameter: str
    steps: tuple[int, ...]
    function: Callable[[np.ndarray], np.ndarray]
    statistic: ClassVar[str] = "path"


@dataclass(frozen=True)
class Distance:
    """Largest distance of the distribution function of a parameter at a snapshot from a given one (KS)."""

    parameter: str
    step: int
    cdf: Callable[[np.ndarray], np.ndarray]
    statistic: ClassVar[str] = "ks"


@dataclass(frozen=True)
class Function:
    """A function of several moments and quantiles, perhaps of several sweep points.

    Parameters
    ----------
    statistic
        What it is called.
    function
        Takes one value, or one array of replicates, for each of the moments.
    moments
        Its arguments.
    """

    statistic: str
    function: Callable[..., Any]
    moments: tuple[Moment | Quantile, ...]


def over(unit: float, *measured: np.ndarray) -> np.ndarray:
    """A moment, or the sum of several, in units of a known number, for a `Function`."""
    return np.asarray(sum(measured) / unit)


def change_over(predicted: float, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The change of a moment in units of its prediction."""
    return np.asarray((after - before) / predicted)


@dataclass(frozen=True)
class Curve:
    """Several moments with a predicted value each: one row, judged at the point that is furthest off.

    Parameters
    ----------
    moments
        The same statistic at several steps, or at several sweep points.
    values
        What is predicted for each.
    """

    moments: tuple[Moment, ...]
    values: tuple[float, ...]
    statistic: ClassVar[str] = "curve"


@dataclass(frozen=True)
class DriftCurve:
    """The recorded conditional drift of an observable: one row, judged at the bin that is furthest off.

    Parameters
    ----------
    observable
        Whose mean change a step is recorded by bins.
    values
        What is predicted for each bin.
    """

    observable: str
    values: tuple[float, ...]
    statistic: ClassVar[str] = "drift"


@dataclass(frozen=True)
class Density:
    """The recorded histogram of an observable against a distribution function: chi-square over its bins."""

    observable: str
    step: int
    cdf: Callable[[np.ndarray], np.ndarray]
    statistic: ClassVar[str] = "density"


@dataclass(frozen=True)
class Tail:
    """Exponent of the tail of a parameter's magnitude at a snapshot, by Hill's estimator from its largest values."""

    parameter: str
    step: int
    fraction: float = 1e-3
    statistic: ClassVar[str] = "tail"


Measure = Moment | Quantile | Correlation | PathMean | Distance | Function | Curve | DriftCurve | Density | Tail


@dataclass(frozen=True)
class Rival:
    """Another formula for the same quantity, from which the measurement should tell the prediction."""

    name: str
    predicted: float


def _order(value: Any, where: str) -> Order:
    if isinstance(value, str):
        return cast(Order, take.one_of("order", ("exact", "adiabatic"))(value, where))
    return take.whole(value, where)


Number = Moment | Quantile | Correlation | PathMean | Function
"""Measures of one number, with a standard error."""


@dataclass(frozen=True)
class Condition:
    """What a prediction rests on, told by a measurement: a number that lies within bounds where the prediction holds.

    Parameters
    ----------
    words
        For people, so that "its condition that … fails" is a sentence: ``the start is forgotten``.
    measure
        What to measure, in the ensemble that the prediction is held against.
    low, high
        The bounds.

    Examples
    --------
    >>> Condition("the start is forgotten", Moment("mean", "x", 100), -0.01, 0.01).bounds
    'from -0.01 to 0.01'
    """

    words: str
    measure: Number
    low: float = -inf
    high: float = inf

    @property
    def bounds(self) -> str:
        """The bounds in words."""
        if self.low == -inf:
            return f"at most {self.high:g}"
        return f"at least {self.low:g}" if self.high == inf else f"from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Prediction:
    """A number from theory or from the user, and what to hold it against.

    Parameters
    ----------
    id
        ``valley`` for a law, ``user-1`` for the user's own.
    quantity
        For people: ``variance(x) at step 40``.
    measure
        What to measure.
    predicted
        The number; 0 for a `Distance`.
    order
        ``exact``, ``adiabatic`` (exact along the noise-free path of slow parameters; tested as if it were
        exact), or k for one valid up to and including the power k of a small parameter.
    resolution
        Smallest deviation worth seeing, in the units of `predicted`; None for the default of the comparison.
    point
        Sweep point; None without a sweep, or for a row about several points.
    source
        arXiv id and equation, or how it was found.
    conditions
        What it rests on, with numbers.
    assumes
        What it rests on and the ensemble can tell: each is measured, and where one fails the prediction does not hold
        here, unless it was asked for.
    allowed
        How far below and above `predicted` the truth may be all the same: of a claim with a tolerance, or of a bound,
        where one of them is infinite. Zero for a number of a distribution or a tail.
    asked
        Whether the user asked for it, by the name of its law or as a formula; then it is judged whatever its
        conditions come to, which the note tells.
    rival
        Optional.
    expect
        One of `EXPECTED`: what a right simulation must find.
    small, small_name, series
        For a prediction of order k: the small parameter, mostly the learning rate, what it is called, and a text that
        is equal for points which differ in it alone.

    Examples
    --------
    >>> row = Prediction("user-1", "variance(x)", Moment("variance", "x", 100), 0.5, order=1)
    >>> row.statistic
    'variance'
    """

    id: str
    quantity: str
    measure: Measure
    predicted: float
    order: Order = "exact"
    resolution: float | None = None
    point: int | None = None
    source: str = ""
    conditions: str = ""
    rival: Rival | None = None
    expect: str = "agrees"
    small: float = nan
    small_name: str = "learning rate"
    series: str = ""
    assumes: tuple[Condition, ...] = ()
    allowed: tuple[float, float] = (0.0, 0.0)
    asked: bool = True

    def __post_init__(self) -> None:
        take.settle(
            self,
            "prediction",
            id=take.text,
            quantity=take.text,
            measure=take.of_kind(Measure, "what to measure, such as Moment('mean', 'x', 100)"),
            predicted=take.real,
            order=_order,
            resolution=take.optional(take.real),
            point=take.optional(take.whole),
            source=take.text,
            conditions=take.text,
            rival=take.optional(take.of_kind(Rival, "a Rival")),
            expect=take.one_of("verdict", EXPECTED),
            small=take.real,
            series=take.text,
            assumes=take.each(take.of_kind(Condition, "a Condition")),
            allowed=take.each(take.real),
            asked=take.flag,
        )

    def nearest(self, measured: float) -> float:
        """The number, of those that are allowed, to which a measured one is nearest.

        Examples
        --------
        >>> below = Prediction("user-1", "mean(x) <", Moment("mean", "x", 100), 0.5, allowed=(inf, 0.0))
        >>> below.nearest(0.3), below.nearest(0.6)
        (0.3, 0.5)
        """
        below, above = self.allowed
        return min(max(measured, self.predicted - below), self.predicted + above)

    @property
    def statistic(self) -> str:
        """What is measured, in one word."""
        return self.measure.statistic
