"""Predictions: numbers from theory, or from the user, for the result of a measurement.

A prediction holds a number and *what to measure*, as plain data. It does not know how an estimate is made: that is the
task of `sgdsim.statistics.estimators`, and only `sgdsim.statistics.comparison` compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan
from typing import Any, ClassVar, Literal, TypeVar, cast

import numpy as np

from sgdsim.base import take

STATISTICS = ("mean", "variance", "std", "skewness", "kurtosis")
"""Statistics of one observable over the ensemble; kurtosis is the excess over 3."""

FEWEST_RATES = 4
"""Fewest learning rates at which a prediction of order k is tested."""

EXPECTED = ("agrees", "disagrees")
"""Verdicts that a prediction may be expected to get: ``disagrees`` makes it a negative control."""

UNNAMED = "user-"
"""Beginning of the ids of claims to which the user has given no name: ``user-1``."""

Order = int | Literal["exact", "adiabatic"]
Measuring = TypeVar("Measuring", bound=Callable[..., Any])


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
        With the reason, if the condition is false.
    """
    if not condition:
        raise NotApplicable(reason)


@dataclass(frozen=True)
class Moment:
    """A statistic of one observable after a number of steps.

    Parameters
    ----------
    statistic
        One of `STATISTICS`.
    observable
        A parameter or a recorded observable.
    step
        Number of completed steps, one of those at which moments are recorded.
    point
        Point of the sweep; None for the point of the prediction.
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
    """A quantile of a parameter at a snapshot: the value below which it is with a given probability.

    Parameters
    ----------
    observable
        The parameter.
    step
        Number of completed steps at the snapshot.
    probability
        Probability between 0 and 1; 1/2 for the median.
    point
        Point of the sweep; None for the point of the prediction.
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
        The parameter.
    steps
        Numbers of completed steps at the snapshots.
    function
        Function of an array (step, trajectory), which returns a value for each trajectory.
    """

    parameter: str
    steps: tuple[int, ...]
    function: Callable[[np.ndarray], np.ndarray]
    statistic: ClassVar[str] = "path"


@dataclass(frozen=True)
class Distance:
    """Largest distance between the distribution function of a parameter at a snapshot and a given one (KS distance)."""

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
        Name of the function in tables.
    function
        Function of one value, or one array of replicates, for each of the moments.
    moments
        The moments and quantiles that are its arguments.
    """

    statistic: str
    function: Callable[..., Any]
    moments: tuple[Moment | Quantile, ...]


STORED: dict[str, Any] = {}
"""Functions and data classes by which rows measure and which files may name, by ``module:name``."""


def stored(value: Measuring) -> Measuring:
    """Let files name a function or a data class of a row; it must be harmless for any numbers that a file gives it."""
    STORED[f"{value.__module__}:{value.__name__}"] = value
    return value


@stored
def over(unit: float, *measured: np.ndarray) -> np.ndarray:
    """A moment, or the sum of several, divided by a known number; for a `Function`."""
    return np.asarray(sum(measured) / unit)


@stored
def change_over(predicted: float, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The change of a moment divided by the predicted change; for a `Function`."""
    return np.asarray((after - before) / predicted)


@dataclass(frozen=True)
class Curve:
    """Several moments, each with a predicted value. They make one row, judged where the deviation is largest.

    Parameters
    ----------
    moments
        The same statistic at several steps, or at several points of a sweep.
    values
        The predicted value of each.
    """

    moments: tuple[Moment, ...]
    values: tuple[float, ...]
    statistic: ClassVar[str] = "curve"


@dataclass(frozen=True)
class DriftCurve:
    """The recorded drift of an observable in bins. It makes one row, judged in the bin with the largest deviation.

    Parameters
    ----------
    observable
        The observable whose mean change in a step is recorded in bins.
    values
        The predicted mean change in each bin.
    """

    observable: str
    values: tuple[float, ...]
    statistic: ClassVar[str] = "drift"


@dataclass(frozen=True)
class Density:
    """The recorded histogram of an observable, compared with a distribution function by chi-square over its bins."""

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
    """Another formula for the same quantity, which the measurement should be able to reject."""

    name: str
    predicted: float


def _order(value: Any, where: str) -> Order:
    if isinstance(value, str):
        return cast(Order, take.one_of("order", ("exact", "adiabatic"))(value, where))
    return take.whole(value, where)


Number = Moment | Quantile | Correlation | PathMean | Function
"""Measures that give one number with a standard error."""


@dataclass(frozen=True)
class Condition:
    """A condition of a prediction that a measurement can test: a number must lie within bounds.

    Parameters
    ----------
    words
        The condition in words that complete "its condition that … fails": ``the start is forgotten``.
    measure
        What to measure, in the ensemble with which the prediction is compared.
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
    """A predicted number from theory or from the user, and what to measure to test it.

    Parameters
    ----------
    id
        ``valley`` for a law, ``user-1`` for the user's own.
    quantity
        Name of the quantity in tables: ``variance(x) at step 40``.
    measure
        What to measure.
    predicted
        The number; 0 for a `Distance`.
    order
        ``exact``; ``adiabatic``, which is exact along the noise-free path of slow parameters and is tested as if it
        were exact; or k for a prediction that is valid up to and including the power k of a small parameter.
    resolution
        Smallest deviation worth seeing, in the units of `predicted`; None for the default of the comparison.
    point
        Point of the sweep; None without a sweep, or for a row about several points.
    source
        arXiv id and equation, or how the prediction was found.
    conditions
        Conditions under which it holds, in words with numbers.
    rival
        Another formula for the same number, if there is one.
    expect
        One of `EXPECTED`: the verdict that a right simulation must give.
    small, small_name, series
        For a prediction of order k: the small parameter, mostly the learning rate; its name; and a text that is equal
        for points which differ in this parameter alone.
    assumes
        Conditions that are measured in the ensemble. If one fails, the prediction does not hold here, unless the user
        asked for it.
    allowed
        Tolerances below and above `predicted`, within which the truth may lie; one of them is infinite for a bound.
        Zero for the number of a distribution or a tail.
    asked
        True if the user asked for the prediction, by the name of its law or as a formula. Then it is judged even if
        its conditions fail, which the note tells.

    Raises
    ------
    InputError
        For an argument of the wrong type, an unknown order, and an unknown expected verdict.

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
        """The allowed number that is nearest to a measured one.

        Parameters
        ----------
        measured
            The measured number, in the units of `predicted`.

        Returns
        -------
        float
            The measured number itself if it is allowed, else a bound.

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
        """Name of the measured statistic, in one word."""
        return self.measure.statistic
