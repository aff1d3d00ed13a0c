"""Recorders: the quantities that a run measures, the steps at which it does, and the bins."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import numpy as np

from sgdsim.base import take
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.formulas.arrays import Shape
from sgdsim.formulas.names import normal, normal_keys
from sgdsim.model.observables import Observable, control_for

MOST_BINS = 2**24
"""Most bins of a histogram: the counts of so many in all groups take 4 GB at each record."""


@dataclass(frozen=True)
class Histogram:
    """Equal bins from low (included) to high (excluded), with counts of the values below and above.

    Parameters
    ----------
    low, high
        Bounds of the first and the last bin, in the units of the quantity.
    bins
        Number of bins, at most 2**24.

    Raises
    ------
    InputError
        For bounds that are not finite and increasing, no bins or too many, and bins that floats cannot tell apart.

    Examples
    --------
    >>> Histogram(-1.0, 1.0, 4).edges
    array([-1. , -0.5,  0. ,  0.5,  1. ])
    """

    low: float
    high: float
    bins: int

    def __post_init__(self) -> None:
        take.settle(self, "histogram", low=take.number, high=take.number, bins=take.whole)
        _check_bins(f"histogram {[self.low, self.high, self.bins]}:", self.low, self.high, self.bins)

    @property
    def edges(self) -> np.ndarray:
        """Edges of the bins, shape (bins + 1,)."""
        return np.linspace(self.low, self.high, self.bins + 1)


@dataclass(frozen=True)
class Plane:
    """Equal bins of two quantities together, for a histogram in the plane.

    Parameters
    ----------
    first, second
        Bins of each quantity.

    Raises
    ------
    InputError
        For more than 2**24 cells.

    Examples
    --------
    >>> plane = Plane(Histogram(0.0, 1.0, 2), Histogram(-1.0, 1.0, 4))
    >>> plane.first.bins * plane.second.bins
    8
    """

    first: Histogram
    second: Histogram

    def __post_init__(self) -> None:
        bins = take.of_kind(Histogram, "a Histogram")
        take.settle(self, "histogram", first=bins, second=bins)
        if self.first.bins * self.second.bins > MOST_BINS:
            raise InputError(f"{self.first.bins} by {self.second.bins} bins, expected at most {MOST_BINS} together")


def binned(numbers: Sequence[float], where: str = "histogram") -> Histogram | Plane:
    """Bins of one quantity from three numbers, low, high and the number of bins; bins of two quantities from six.

    Raises
    ------
    InputError
        For other than three or six numbers, and bounds that are not increasing.

    Examples
    --------
    >>> binned([-1, 1, 20])
    Histogram(low=-1, high=1, bins=20)
    """
    numbers = take.each(take.number)(numbers, where)
    if len(numbers) == 6:
        first, second = _histogram(numbers[:3], where), _histogram(numbers[3:], where)
        try:
            return Plane(first, second)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    return _histogram(numbers, where)


def _histogram(numbers: Sequence[float], where: str) -> Histogram:
    if len(numbers) != 3 or numbers[2] % 1:
        raise InputError(f"{where}: {list(numbers)}, expected [low, high, bins], low < high, a whole number of bins")
    _check_bins(f"{where}: {list(numbers)},", *numbers)
    return Histogram(numbers[0], numbers[1], int(numbers[2]))


def _check_bins(where: str, low: float, high: float, bins: float) -> None:
    if not (isfinite(low) and isfinite(high) and low < high and bins >= 1):
        raise InputError(f"{where} expected [low, high, bins], low < high, a whole number of bins")
    if bins > MOST_BINS:
        raise InputError(f"{where} expected at most {MOST_BINS} bins")
    width = (high - low) / bins
    # The kernels find a bin by bins/(high - low), and then compare with its edges.
    if not isfinite(width) or low + width == low or high - width == high or not isfinite(1 / width):
        raise InputError(f"{where} expected a width (high - low)/bins that floats can hold and add to both ends")


@dataclass(frozen=True)
class Drift:
    """Mean and mean square of the change of a quantity in one step, given its own or another quantity's value before.

    These are the first two Kramers-Moyal coefficients times the time of a step.

    Parameters
    ----------
    by
        The parameter or observable whose value before the step is binned.
    bins
        Bins of that value.
    every, start
        Only every ``every``-th step is taken into account, from ``start`` completed steps on.

    Raises
    ------
    InputError
        For an argument of the wrong type.

    Examples
    --------
    >>> drift = Drift("x", Histogram(-1.0, 1.0, 20), every=10, start=1000)
    >>> Recorder(drifts={"x": drift}).drifts["x"].start
    1000
    """

    by: str
    bins: Histogram
    every: int = 1
    start: int = 0

    def __post_init__(self) -> None:
        take.settle(
            self,
            "record.drift",
            by=take.text,
            bins=take.of_kind(Histogram, "a Histogram"),
            every=take.whole,
            start=take.whole,
        )
        object.__setattr__(self, "by", normal(self.by))


@dataclass(frozen=True)
class Autocorrelation:
    """Correlation over the ensemble between the values of a quantity after ``start`` steps and after ``start + lag``.

    Parameters
    ----------
    start
        Number of completed steps at the earlier value.
    lags
        Numbers of steps between the earlier and the later value.

    Raises
    ------
    InputError
        For an argument of the wrong type.

    Examples
    --------
    >>> Recorder(autocorrelations={"x": Autocorrelation(100, (0, 10, 20))}).record_steps(1000)
    array([   0,  100,  110,  120, 1000])
    """

    start: int
    lags: tuple[int, ...]

    def __post_init__(self) -> None:
        take.settle(self, "record.autocorrelation", start=take.whole, lags=take.each(take.whole))


@dataclass(frozen=True)
class Recorder:
    """Description of what a run measures, and when.

    Parameters
    ----------
    every
        Number of steps between two records of moments and histograms. Step 0 and the last step are always recorded;
        None for these alone.
    snapshots
        Numbers of completed steps after which the parameters of the trajectories are kept.
    observables
        Quantities that are measured beside the parameters.
    histograms
        Bins by the name of a parameter or observable; a `Plane` for two names together, ``u,w``.
    snapshot_trajectories
        Number of trajectories, from the first on, of which snapshots are kept; None for all.
    quantiles
        Probabilities of the quantiles that are computed from each histogram.
    covariances
        True to record the covariances of all pairs of parameters.
    autocorrelations, drifts
        Recorders of these kinds, by the name of a parameter or plain observable.
    controls
        Parameters and plain observables for which a control variate is summed along each trajectory; see
        `sgdsim.kernels.control_step`.
    records
        Number of records in place of ``every``, at equal distances up to the last step.

    Raises
    ------
    InputError
        For an argument of the wrong type, and two names that are one, such as the two signs for mu.

    Examples
    --------
    >>> recorder = Recorder(every=50, observables=(Observable.parse("r", "x**2"),), covariances=True)
    >>> recorder.record_steps(120), [one.name for one in recorder.all_observables]
    (array([  0,  50, 100, 120]), ['r'])
    >>> recorder.pairs(("x", "y")), recorder.written_out({"x": (), "y": ()}) == recorder
    ([('x', 'y')], True)
    >>> recorder.merge(Recorder(snapshots=(100,))).snapshots, recorder.describe()["observables"]
    ((100,), {'r': 'x**2'})
    """

    every: int | None = None
    snapshots: tuple[int, ...] = ()
    observables: tuple[Observable, ...] = ()
    histograms: Mapping[str, Histogram | Plane] = field(default_factory=dict)
    snapshot_trajectories: int | None = None
    quantiles: tuple[float, ...] = ()
    covariances: bool = False
    autocorrelations: Mapping[str, Autocorrelation] = field(default_factory=dict)
    drifts: Mapping[str, Drift] = field(default_factory=dict)
    controls: tuple[str, ...] = ()
    records: int | None = None

    def __post_init__(self) -> None:
        take.settle(
            self,
            "record",
            every=take.optional(take.whole),
            snapshots=take.each(take.whole),
            observables=take.each(take.of_kind(Observable, "an Observable, such as Observable.parse('r', 'x**2')")),
            histograms=take.by_name(take.of_kind(Histogram | Plane, "a Histogram, or a Plane of two")),
            snapshot_trajectories=take.optional(take.whole),
            quantiles=take.each(take.number),
            covariances=take.flag,
            autocorrelations=take.by_name(take.of_kind(Autocorrelation, "an Autocorrelation")),
            drifts=take.by_name(take.of_kind(Drift, "a Drift")),
            controls=take.each(take.text),
            records=take.optional(take.whole),
        )
        for kind in ("histograms", "autocorrelations", "drifts"):
            object.__setattr__(self, kind, normal_keys(getattr(self, kind), f"record.{kind}"))
        object.__setattr__(self, "controls", tuple(map(normal, self.controls)))

    def record_steps(self, steps: int) -> np.ndarray:
        """Numbers of completed steps at which moments are recorded.

        Parameters
        ----------
        steps
            Number of steps of the run.

        Returns
        -------
        numpy.ndarray
            Shape (record,), increasing, int64.
        """
        lagged = [one.start + lag for one in self.autocorrelations.values() for lag in one.lags]
        every = steps // self.records if self.records else self.every
        return np.unique([*range(0, steps + 1, every or max(steps, 1)), 0, steps, *lagged]).astype(np.int64)

    @property
    def all_observables(self) -> tuple[Observable, ...]:
        """All observables: the user's, the earlier values of autocorrelations, and the control variates."""
        plain = {observable.name: observable.formula for observable in self.observables}
        earlier = (
            Observable(_earlier(name, one.start), plain.get(name, name), (one.start - 1, one.start), "earlier")
            for name, one in self.autocorrelations.items()
        )
        return (*self.observables, *earlier, *(control_for(name, plain.get(name, name)) for name in self.controls))

    def written_out(self, words: Mapping[str, Shape]) -> Recorder:
        """Recorder with an observable for each entry in place of observables that are vectors or matrices.

        Parameters
        ----------
        words
            The shape of each name that formulas may use; see `Loss.words`.

        Returns
        -------
        Recorder
            The recorder with numbers as observables.
        """
        return replace(self, observables=tuple(itertools.chain(*(one.written_out(words) for one in self.observables))))

    def pairs(self, parameters: Sequence[str]) -> list[tuple[str, str]]:
        """Pairs of measured quantities whose covariance is taken at every record.

        Parameters
        ----------
        parameters
            Names of all parameters of the loss.

        Returns
        -------
        list
            Pairs of names.
        """
        covariances = list(itertools.combinations(parameters, 2)) if self.covariances else []
        earlier = [(name, _earlier(name, one.start)) for name, one in self.autocorrelations.items()]
        return covariances + earlier + [(name, control_for(name, name).name) for name in self.controls]

    def merge(self, other: Recorder) -> Recorder:
        """Recorder of everything that this one records, and of the snapshots, observables and histograms of another.

        Parameters
        ----------
        other
            The other recorder.

        Returns
        -------
        Recorder
            The merged recorder.

        Raises
        ------
        InputError
            If the recorders have observables of the same name and different formulas.
        """
        mine = {observable.name: observable for observable in self.observables}
        for observable in other.observables:
            if mine.setdefault(observable.name, observable) != observable:
                raise InputError(
                    f"record.observables.{observable.name}: a prediction needs this name for {str(observable)!r}; "
                    "choose another"
                )
        return replace(
            self,
            snapshots=tuple(sorted({*self.snapshots, *other.snapshots})),
            observables=tuple(mine.values()),
            histograms={**other.histograms, **self.histograms},
        )

    def describe(self) -> dict[str, Any]:
        """Recorder as the ``[record]`` table of a scenario."""
        return {
            "every": self.every,
            "records": self.records,
            "snapshots": list(self.snapshots),
            "snapshot_trajectories": self.snapshot_trajectories,
            "observables": {observable.name: str(observable) for observable in self.observables},
            "histograms": {name: _numbers(bins) for name, bins in self.histograms.items()},
            "quantiles": list(self.quantiles),
            "covariances": self.covariances,
            "controls": list(self.controls),
            "autocorrelation": {
                name: {"from": one.start, "lags": list(one.lags)} for name, one in self.autocorrelations.items()
            },
            "drift": {
                name: {"by": one.by, "bins": _numbers(one.bins), "every": one.every, "from": one.start}
                for name, one in self.drifts.items()
            },
        }


def _earlier(name: str, step: int) -> str:
    """Name of the observable that holds the value of another after so many steps."""
    label = re.sub(r"\W+", "_", name).strip("_")
    return f"{label}_at_{step}"


def _numbers(bins: Histogram | Plane) -> list[float]:
    if isinstance(bins, Plane):
        return [*_numbers(bins.first), *_numbers(bins.second)]
    return [bins.low, bins.high, bins.bins]


def check_measured(where: str, name: str, measured: Iterable[str]) -> None:
    """Refuse a name that is not measured.

    Raises
    ------
    InputError
        With a near match among the names that are measured.

    Examples
    --------
    >>> check_measured("record.histograms.x", "x", ["x", "y"])
    """
    if name not in measured:
        raise InputError(f"{where}: {unknown_name('observable', name, measured)}")
