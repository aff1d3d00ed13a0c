"""Predicted quantities, measured in an ensemble: estimates, their errors by rounding, and missing trajectories."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import hypot, inf, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.prediction import (
    Correlation,
    Curve,
    Density,
    DriftCurve,
    Function,
    Moment,
    Number,
    PathMean,
    Prediction,
    Quantile,
)
from sgdsim.statistics import control_variates, estimators, records, snapshot_estimators
from sgdsim.statistics.control_variates import Controlled
from sgdsim.statistics.estimate import Estimate, combine
from sgdsim.statistics.scores import Score, score
from sgdsim.statistics.two_values import TwoValues

if TYPE_CHECKING:
    from sgdsim.ensemble import Ensemble


UNSEEN_EVENTS = 3.0
"""Expected number of events, for each standard error z, that may remain unseen: none of 3 z expected events is seen
with probability exp(-3 z), which is less than that of a normal deviate beyond z for all z up to 6."""

FEWEST_RARE = 30.0
"""Expected number of the rarest outcomes of the noise, from which on a sample is never without one."""


_OF_ONE_GROUP = 0.85
"""Skewness of values of which one outweighs all others, over the root of their number: 0.98 of 64, 0.9 of 16."""


_HARDLY = 0.1
"""Share of a function's standard error by which a moment may move it and still be of no concern."""


class Points:
    """The ensemble of each sweep point."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble
        self._selected: dict[int, Ensemble] = {}
        attributes = ensemble.attributes
        self.epsilon = float(np.finfo(str(attributes.get("dtype", "float64"))).eps)
        self.independent = "antithetic" not in attributes
        self._certain = {
            is_start: frozenset(str(attributes.get(key, "")).split(", "))
            for is_start, key in ((False, "certain"), (True, "certain_at_start"))
        }
        self._rarest = {
            is_start: float(attributes.get(key, 1.0))
            for is_start, key in ((False, "rarest_noise"), (True, "rarest_start"))
        }
        self._ranges = json.loads(str(attributes.get("ranges", "{}")))

    def __getitem__(self, point: int | None) -> Ensemble:
        if point is None:
            if self._ensemble.sizes.get("point") != 1:
                return self._ensemble
            point = 0  # a sweep of one value is a single run to theory
        if point not in self._selected:
            self._selected[point] = self._ensemble.select(point)
        return self._selected[point]

    def rounding(self, step: int, measured: float) -> float:
        """The standard error of a quantity by rounding, taken for a random walk of 16 epsilon a step.

        In float64 it matters only to quantities without noise of their own; in float32 it is 1e-4 after 3,000 steps.
        """
        return 16.0 * self.epsilon * sqrt(step + 1.0) * abs(measured)

    def is_certain(self, names: str, step: int) -> bool:
        """True if no rare event could hide in an observable, or in any of several; see `sgdsim.model.rare_events`."""
        return self._certain[step == 0].issuperset(names.split(", "))

    def expected(self, step: int, trajectories: float) -> float:
        """The expected number of the rarest outcomes of starts and noise up to a step, in a number of trajectories."""
        drawn = ((self._rarest[True], 1), (self._rarest[False], step))
        return min((p * times * trajectories for p, times in drawn if p < 1.0 and times), default=inf)

    def bounds(self, name: str) -> tuple[float, float] | None:
        """The lowest and the highest value that an observable can have; None if its formula does not tell."""
        pair = self._ranges.get(name)
        return None if pair is None else (pair[0], pair[1])


def moment_estimate(moment: Moment | Quantile, point: int | None, points: Points) -> Estimate:
    """The estimate of a moment or quantile."""
    ensemble = points[point if moment.point is None else moment.point]
    if isinstance(moment, Quantile):
        return snapshot_estimators.quantile(ensemble, moment.observable, moment.step, moment.probability)
    if moment.statistic == "mean":
        return control_variates.best_mean(ensemble, moment.observable, moment.step)
    return estimators.statistic(ensemble, moment.statistic, moment.observable, moment.step)


def number_estimate(measure: Number, point: int | None, points: Points) -> tuple[Estimate, float]:
    """The estimate of a number, and its standard error by rounding."""
    if isinstance(measure, Function):
        return _of_moments(measure, point, points)
    if isinstance(measure, Moment | Quantile):
        return with_rounding(moment_estimate(measure, point, points), measure.step, points)
    if isinstance(measure, Correlation):
        found = snapshot_estimators.correlation(points[point], measure.parameter, measure.steps)
    else:
        found = snapshot_estimators.path_mean(points[point], measure.parameter, measure.steps, measure.function)
    return with_rounding(found, max(measure.steps), points)


def _of_moments(measure: Function, point: int | None, points: Points) -> tuple[Estimate, float]:
    """The estimate of a function of moments, and its error by the rounding of each: large if moments nearly cancel."""
    moments = [moment_estimate(moment, point, points) for moment in measure.moments]
    roundings = [points.rounding(moment.step, one.value) for moment, one in zip(measure.moments, moments, strict=True)]
    found = combine(measure.function, moments)
    return found, _moved(measure.function, [moment.value for moment in moments], roundings)


def _moved(function: Callable[..., Any], values: Sequence[float], errors: Sequence[float] | np.ndarray) -> float:
    """The error of a function by those of its arguments, as the root of the sum of squares."""
    at = np.array(values, dtype=float)
    # One replicate for each argument, but one call: a slope over 289 points has 867 arguments and as many formulas.
    moved = function(*(at[:, np.newaxis] + np.diag(errors)))
    return float(np.linalg.norm(np.asarray(moved, dtype=float) - function(*at)))


def with_rounding(estimate: Estimate, step: int, points: Points) -> tuple[Estimate, float]:
    """An estimate, and its standard error by rounding."""
    return estimate, points.rounding(step, estimate.value)


def number_score(
    measure: Number, predicted: float, point: int | None, points: Points, *, is_allowed: bool = False
) -> Score:
    """The score of a measured number: by the binomial law if it is of two values, else by its standard error."""
    estimate, rounding = number_estimate(measure, point, points)
    if isinstance(measure, Moment):
        two = _two_values(measure, estimate, rounding, predicted, point, points)
        if two is not None:
            return two.score(measure.statistic, estimate, predicted, rounding)
    unseen, doubts = hidden_events(measure, estimate, rounding, point, points)
    if doubts and estimate.stderr <= rounding:
        return Score(estimate.value, doubts=doubts)
    found = score(estimate, predicted, hypot(rounding, unseen), is_allowed=is_allowed)
    return replace(found, doubts=(*found.doubts, *doubts, *_of_one_group(measure, estimate, point, points)))


def _of_one_group(measure: Number, estimate: Estimate, point: int | None, points: Points) -> Iterator[str]:
    """Doubts of a function of moments that one group makes.

    Of tails so heavy that any few trajectories outweigh all others, a mean over its standard deviation is the same
    whichever group is left out: one over the root of their number, with next to no error. A mean that hardly moves the
    function raises no doubt, such as the share of a rare state, seen once, in an entropy. Its bounds tell: without any,
    the values that were not drawn may outweigh all others by far.
    """
    if not isinstance(measure, Function):
        return
    measured = [number_estimate(moment, point, points) for moment in measure.moments]
    values = [found.value for found, _ in measured]
    for i, (moment, (found, rounding)) in enumerate(zip(measure.moments, measured, strict=True)):
        if found.groups and rounding < found.stderr < inf and abs(found.skewness) > _OF_ONE_GROUP * sqrt(found.groups):
            bounds = points.bounds(moment.observable) if moment.statistic == "mean" else None
            if bounds is not None:
                errors = np.zeros(len(values))
                errors[i] = np.maximum(found.stderr, _furthest(found, bounds) / found.size)
                if _moved(measure.function, values, errors) < _HARDLY * estimate.stderr:
                    continue
            yield f"z not trusted: one group of trajectories makes the {moment.statistic} of {moment.observable}"


def _furthest(mean: Estimate, bounds: tuple[float, float]) -> float:
    """The largest distance of a value within bounds from the mean."""
    return max(mean.value - bounds[0], bounds[1] - mean.value)


def _two_values(
    moment: Moment, estimate: Estimate, rounding: float, predicted: float, point: int | None, points: Points
) -> TwoValues | None:
    """The two values of the measured observable; None if there are more.

    They follow from the moments of the sample, or from known bounds if the sample shows a single value.
    """
    if moment.statistic == "covariance" or isinstance(estimate, Controlled) or not points.independent:
        return None
    ensemble = points[point if moment.point is None else moment.point]
    total, bounds = estimators.total(ensemble, moment.observable, moment.step), points.bounds(moment.observable)
    if not estimate.stderr <= rounding:
        return TwoValues.of_moments(total)
    if bounds is None or moment.statistic in ("skewness", "kurtosis"):
        return None
    if points.is_certain(moment.observable, moment.step):
        return None
    other = predicted if moment.statistic == "mean" else sum(bounds) / 2.0
    return TwoValues.of_one(float(total.mean), bounds, float(total.count), other)


def hidden_events(
    measure: Number, estimate: Estimate, rounding: float, point: int | None, points: Points
) -> tuple[float, tuple[str, ...]]:
    """The standard error of an estimate by events that are too rare for any trajectory to show.

    Parameters
    ----------
    measure, point
        The measured quantity, and the sweep point.
    estimate, rounding
        Its estimate, and the standard error of that by rounding.
    points
        The ensemble of each sweep point.

    Returns
    -------
    tuple
        The error, if bounds tell how large it can be, and the doubts if nothing tells it.
    """
    without = estimate.stderr <= rounding
    if isinstance(measure, Function):
        return _hidden_in_function(measure, without, point, points)
    if isinstance(measure, Quantile):  # events that are so rare do not move a quantile
        return 0.0, ()
    if isinstance(measure, Moment):
        name, step = measure.observable, measure.step
        is_certain = points.is_certain(name, step)
    else:
        name, last = measure.parameter, max(measure.steps)
        is_certain = points.is_certain(name, last)
        if isinstance(measure, PathMean):  # any function of the path is certain if the path is
            paths = [records.live(points[point], name, step) for step in measure.steps]
            is_certain = is_certain and all(np.ptp(path) <= points.rounding(last, path[0]) for path in paths)
        step = last
    return 0.0, () if is_certain else _doubts_of(name, step, without, estimate, points)


def _doubts_of(name: str, step: int, without: bool, estimate: Estimate, points: Points) -> tuple[str, ...]:
    """Doubts about a quantity in which rare events could hide: it has no spread, or rare outcomes of noise may lack."""
    if without:
        return (f"all trajectories show the same {name}, and an event too rare for them could change it",)
    expected = points.expected(step, estimate.size)
    return (f"the rarest outcome of the noise is expected {expected:.2g} times",) if expected < FEWEST_RARE else ()


def _hidden_in_function(
    measure: Function, without: bool, point: int | None, points: Points
) -> tuple[float, tuple[str, ...]]:
    """The error by rare events, and the doubts, for a function of several moments: events may hide in any of them."""
    values: list[float] = []
    errors: list[float] = []
    doubts: list[str] = []
    for moment in measure.moments:
        estimate, rounding = number_estimate(moment, point, points)
        values.append(estimate.value)
        errors.append(0.0)
        if isinstance(moment, Quantile) or points.is_certain(moment.observable, moment.step):
            continue
        bounds, is_still = points.bounds(moment.observable), estimate.stderr <= rounding
        if is_still and bounds is not None and moment.statistic == "mean" and points.independent and not without:
            errors[-1] = UNSEEN_EVENTS * _furthest(estimate, bounds) / estimate.size
        else:
            doubts += _doubts_of(moment.observable, moment.step, without or is_still, estimate, points)
    return _moved(measure.function, values, errors), tuple(dict.fromkeys(doubts))


def along(prediction: Prediction, measure: Curve | DriftCurve, points: Points) -> list[Score]:
    """The scores of all values of a curve, one after the other."""
    point = prediction.point
    if isinstance(measure, Curve):
        scores = []
        for moment, value in zip(measure.moments, measure.values, strict=True):
            here = replace(prediction, predicted=value).nearest(number_estimate(moment, point, points)[0].value)
            scores.append(number_score(moment, here, point, points))
        return scores
    # The rounding of positions is in the spread of their differences already; here it is that of numbers in a step.
    estimates = (with_rounding(one, 0, points) for one in estimators.drift(points[point], measure.observable))
    return [score(one, value, error) for (one, error), value in zip(estimates, measure.values, strict=True)]


def moments_of(prediction: Prediction) -> tuple[Moment | Quantile, ...]:
    """The moments and quantiles that a prediction is about."""
    measure = prediction.measure
    if isinstance(measure, Moment | Quantile):
        return (measure,)
    return measure.moments if isinstance(measure, Function | Curve) else ()


def lost(prediction: Prediction, points: Points) -> list[str]:
    """A sentence on trajectories that are missing from the estimate; empty if none is."""
    observed = list(_observed(prediction))
    if not observed:
        return _told_diverged(records.diverged(points[prediction.point]))
    diverged = dict[int | None, int]()  # of each point
    for name, step, point, _ in observed:
        diverged[point] = max(records.diverged_of(points[point], name, step), diverged.get(point, 0))
    if any(diverged.values()):
        return _told_diverged(sum(diverged.values()))
    for name, step, point, is_recorded in observed:
        missing = records.excluded(points[point], name, step) if is_recorded else 0
        if missing:
            return [f"{name} is not finite in {missing} trajectories"]
    return []


def _observed(prediction: Prediction) -> Iterator[tuple[str, int, int | None, bool]]:
    """Each observable of a prediction with its step and point, and whether that step is a record, not a snapshot."""
    measure = prediction.measure
    if isinstance(measure, Density):
        yield measure.observable, measure.step, prediction.point, True
    for moment in moments_of(prediction):
        point = prediction.point if moment.point is None else moment.point
        for name in moment.observable.split(", "):  # a covariance has two
            yield name, moment.step, point, isinstance(moment, Moment)


def _told_diverged(trajectories: int) -> list[str]:
    return [f"{trajectories} trajectories diverged"] if trajectories else []
