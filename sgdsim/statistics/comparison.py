"""Prediction against estimate: z, p, what would have been seen, and a verdict.

The only module that knows both theory and estimators. The rules:

- *disagrees*: rejected by Holm's procedure over all rows at the family-wise level alpha;
- *agrees*: not rejected, and a deviation of the size of the resolution would have been seen with 90 % power,
  at the level alpha/m of m rows (Bonferroni's, the most that Holm's procedure may ask of a row);
- *inconclusive*: anything else, or a reason not to trust z: diverged trajectories, too few groups for a
  standard error, a distribution of the groups' values too skewed even for a bootstrap.

A resolution that is not given is 1 % of the predicted value. Where that is 0, a mean is held to 1 % of the
measured standard deviation and a covariance to 1 % of the product of both, skewness, kurtosis and correlation,
which have a scale of their own, to 0.05, and other statistics to nothing: they stay inconclusive. Each point of a
curve is held to 1 % of its value, but not less than a tenth of the curve's largest. Distributions and densities are
held to 0.01 in probability, exponents of tails to 10 %.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from math import copysign, isfinite, isinf, isnan, nan, prod, sqrt
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sgdsim.prediction import (
    FEWEST_RATES,
    Correlation,
    Curve,
    Density,
    Distance,
    DriftCurve,
    Function,
    Moment,
    Order,
    PathMean,
    Prediction,
    Tail,
)
from sgdsim.statistics import control_variates, estimators, goodness
from sgdsim.statistics.estimators import Estimate, NotMeasured, PowerFit
from sgdsim.statistics.order_test import OrderTest, Series, advise, order_test
from sgdsim.statistics.scores import Score, detectable, distrust, ratio, score, sidak, sidak_level, two_sided

if TYPE_CHECKING:
    from sgdsim.ensemble import Ensemble

__all__ = [
    "FEWEST_RATES",
    "Comparison",
    "compare",
    "compare_parts",
    "detectable",
    "format_table",
    "holm",
    "to_json",
    "two_sided",
]

Verdict = Literal["agrees", "disagrees", "inconclusive"]

ALPHA = 1e-3
RELATIVE_RESOLUTION = 0.01
PROBABILITY_RESOLUTION = 0.01
STANDARDISED_RESOLUTION = 0.05
TAIL_RESOLUTION = 0.1
SMALL_IN_CURVE = 0.1
"""Part of a curve's largest value below which a value is held to the scale of that."""

_REFUSED = "chi-square accepts no power series: learning rates too large, or too few of them"


@dataclass(frozen=True)
class Comparison:
    """One row of the table.

    Attributes
    ----------
    id, quantity, point, statistic, order
        As in the prediction.
    predicted, measured, stderr
        NaN where they cannot be had; a `Distance` and a `Density` have no standard error. Of a `Curve`, at the point
        that is furthest off.
    z, p
        Deviation in standard errors, and its two-sided probability: by Student's t, or by a bootstrap where the note
        says so; for a `Curve` that of any of its points. For a `Distance` and a `Density`, p is Kolmogorov's and that
        of chi-square, and z the normal deviate of the same p; for a `Tail`, p is that of a gamma distribution.
    p_adjusted
        By Holm, over all rows.
    detectable
        The deviation that would have been seen with 90 % power.
    resolution
        Smallest deviation worth seeing.
    verdict
        ``agrees``, ``disagrees`` or ``inconclusive``.
    note
        Why, and what else there is to know.
    expect
        The verdict that a right simulation must find: ``disagrees`` of a negative control.
    part
        Of a scenario with parts, the one it belongs to.
    """

    id: str
    quantity: str
    point: int | None
    statistic: str
    predicted: float
    measured: float
    stderr: float
    z: float
    p: float
    p_adjusted: float
    detectable: float
    resolution: float
    order: Order
    verdict: Verdict
    note: str = ""
    expect: str = "agrees"
    part: str = ""

    @property
    def outcome(self) -> Verdict:
        """The verdict on the file: a control that is rejected agrees, any other disagrees with what it must show."""
        if self.expect == "agrees":
            return self.verdict
        return "agrees" if self.verdict == self.expect else "disagrees"


@dataclass(frozen=True)
class _Row:
    """A prediction with its test, before the rows are adjusted for their number.

    Parameters
    ----------
    prediction, score, resolution
        As in `Comparison`.
    advice
        What would decide at a level, where that is not a matter of trajectories alone.
    """

    prediction: Prediction
    score: Score
    resolution: float = nan
    advice: Callable[[float], str] | None = None


def compare(ensemble: Ensemble, predictions: Iterable[Prediction], alpha: float = ALPHA) -> list[Comparison]:
    """Hold predictions against an ensemble.

    Parameters
    ----------
    ensemble
        A run, or a sweep with a leading dimension ``point``.
    predictions
        One row each, but those of order k: one row for all points that differ in their learning rate alone.
    alpha
        Probability of one or more false rejections in the whole table.

    Returns
    -------
    list of Comparison
        In the order of the predictions.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> sums = {"count": 400.0, "mean": 0.05, "m2": 400.0, "m3": 0.0, "m4": 1200.0}
    >>> dimensions = ("record", "group", "observable")
    >>> variables = {f"group_{key}": Variable(dimensions, np.full((1, 4, 1), sums[key])) for key in sums}
    >>> names = {"observable": Variable(("observable",), ["x"]), "record_step": Variable(("record",), [9])}
    >>> claim = Prediction("user-1", "mean(x)", Moment("mean", "x", 9), 0.0, resolution=0.5)
    >>> row = compare(Ensemble({**variables, **names}, {}), [claim])[0]
    >>> row.measured, round(row.z, 2), row.verdict
    (0.05, 2.0, 'agrees')
    """
    return compare_parts([("", ensemble, predictions)], alpha)


def compare_parts(
    parts: Iterable[tuple[str, Ensemble, Iterable[Prediction]]], alpha: float = ALPHA
) -> list[Comparison]:
    """Hold several ensembles against the predictions of each, in one table.

    Parameters
    ----------
    parts
        Name, ensemble and predictions of each.
    alpha
        Probability of one or more false rejections in the whole table.
    """
    rows: list[tuple[str, _Row]] = []
    for name, ensemble, predictions in parts:
        points = _Points(ensemble)
        rows += [(name, row) for group in _grouped(predictions) for row in _test(group, points, alpha)]
    adjusted = holm([row.score.p for _, row in rows])
    level = alpha / max(sum(isfinite(row.score.p) for _, row in rows), 1)
    judged = [_judge(row, p, alpha, level) for (_, row), p in zip(rows, adjusted, strict=True)]
    return [replace(one, part=name) for (name, _), one in zip(rows, judged, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values; NaN stays NaN and does not count.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03, float("nan")])
    [0.03, 0.06, 0.06, nan]
    """
    adjusted = [nan] * len(p_values)
    tested = sorted((p, index) for index, p in enumerate(p_values) if not isnan(p))
    largest = 0.0
    for rank, (p, index) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[index] = largest
    return adjusted


class _Points:
    """The ensemble of each sweep point."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble
        self._selected: dict[int, Ensemble] = {}
        self.epsilon = float(np.finfo(str(ensemble.attributes.get("dtype", "float64"))).eps)

    def __getitem__(self, point: int | None) -> Ensemble:
        if point is None:
            if self._ensemble.sizes.get("point") != 1:
                return self._ensemble
            point = 0  # a sweep of one value is a single run to theory
        if point not in self._selected:
            self._selected[point] = self._ensemble.select(point)
        return self._selected[point]


def _grouped(predictions: Iterable[Prediction]) -> Iterable[tuple[Prediction, ...]]:
    """Predictions of order k by series, all others alone, in the order of their first."""
    groups: dict[Any, list[Prediction]] = {}
    for index, prediction in enumerate(predictions):
        series = (prediction.id, prediction.quantity, prediction.order, prediction.series)
        in_series = isinstance(prediction.order, int) and _is_number(prediction)
        groups.setdefault(series if in_series else index, []).append(prediction)
    return (tuple(group) for group in groups.values())


def _is_number(prediction: Prediction) -> bool:
    return isinstance(prediction.measure, Moment | Correlation | PathMean | Function)


def _test(group: Sequence[Prediction], points: _Points, alpha: float) -> list[_Row]:
    order = group[0].order
    if not isinstance(order, int):
        return [_single(group[0], points, alpha)]
    if not _is_number(group[0]):
        doubt = f"an order is tested of numbers: a {group[0].statistic} of order {order} as several predictions"
        return [_doubted(_single(group[0], points, alpha), doubt)]
    if len({prediction.learning_rate for prediction in group}) < FEWEST_RATES:
        doubt = f"a prediction of order {order} is tested at {FEWEST_RATES} learning rates or more"
        return [_doubted(_single(prediction, points, alpha), doubt) for prediction in group]
    try:
        return [_series(group, order, points, alpha)]
    except NotMeasured as reason:
        return [_Row(group[0], Score(doubts=(str(reason),)))]


def _doubted(row: _Row, *doubts: str) -> _Row:
    return replace(row, score=replace(row.score, doubts=(*row.score.doubts, *doubts)))


def _single(prediction: Prediction, points: _Points, alpha: float) -> _Row:
    """One prediction that is tested on its own."""
    try:
        is_curve = isinstance(prediction.measure, Curve | DriftCurve)
        row = _curve(prediction, points) if is_curve else _one(prediction, points, alpha)
        lost = _lost(prediction, points)
    except NotMeasured as reason:
        return _Row(prediction, Score(doubts=(str(reason),)))
    adiabatic = ("adiabatic",) if prediction.order == "adiabatic" else ()
    found = replace(row.score, doubts=(*lost, *row.score.doubts), remarks=(*adiabatic, *row.score.remarks))
    return replace(row, score=found)


def _one(prediction: Prediction, points: _Points, alpha: float) -> _Row:
    """One number, or one distribution."""
    ensemble = points[prediction.point]
    found = _goodness(prediction, ensemble, alpha, points)
    if found is not None and "antithetic" in ensemble.attributes:
        found = replace(found, doubts=(*found.doubts, "antithetic trajectories are not independent of each other"))
    if found is None:
        estimate, rounding = _estimate(prediction, points)
        found = score(estimate, prediction.predicted, rounding)
        found = replace(found, remarks=(*found.remarks, *_against_rival(prediction, estimate, rounding)))
    return _Row(prediction, found, _resolution(prediction, points))


def _goodness(prediction: Prediction, ensemble: Ensemble, alpha: float, points: _Points) -> Score | None:
    """The score of a measure that is not of one number with a standard error from groups."""
    measure = prediction.measure
    if isinstance(measure, Distance):
        distance, n = estimators.ks_distance(ensemble, measure.parameter, measure.step, measure.cdf)
        # Values that are off by a part d move a distribution function by d*sup|x*f(x)|, which is below d for one peak.
        allowed = min(_rounding(measure.step, 1.0, points), distance)
        return goodness.kolmogorov_smirnov(distance - allowed, n) if n else Score(doubts=("no live trajectories",))
    if isinstance(measure, Density):
        counts, edges = estimators.histogram(ensemble, measure.observable, measure.step)
        stretch = 1.0 + _rounding(measure.step, 1.0, points)
        held, moved = (np.diff([0.0, *measure.cdf(scale * edges), 1.0]) for scale in (1.0, stretch))
        return goodness.chi_square(counts, held, moved - held)
    if isinstance(measure, Tail):
        values = estimators.live(ensemble, measure.parameter, measure.step)
        rounding = _rounding(measure.step, 1.0, points)
        return goodness.tail(values, prediction.predicted, measure.fraction, alpha, rounding)
    return None


def _estimate(prediction: Prediction, points: _Points) -> tuple[Estimate, float]:
    """A number, and what rounding may have added to it."""
    measure = prediction.measure
    if isinstance(measure, Function):
        return _of_moments(measure, prediction.point, points)
    if isinstance(measure, Moment):
        return _with_rounding(_moment(measure, prediction.point, points), measure.step, points)
    if isinstance(measure, Correlation):
        found = estimators.correlation(points[prediction.point], measure.parameter, measure.steps)
    else:
        assert isinstance(measure, PathMean)
        found = estimators.path_mean(points[prediction.point], measure.parameter, measure.steps, measure.function)
    return _with_rounding(found, max(measure.steps), points)


def _of_moments(measure: Function, point: int | None, points: _Points) -> tuple[Estimate, float]:
    """Rounding of each moment moves the function, much where moments nearly cancel."""
    moments = [_moment(moment, point, points) for moment in measure.moments]
    found, values = estimators.combine(measure.function, moments), [moment.value for moment in moments]
    moved = [
        measure.function(*values[:i], values[i] + _rounding(moment.step, values[i], points), *values[i + 1 :])
        for i, moment in enumerate(measure.moments)
    ]
    return found, float(np.linalg.norm(np.array(moved, dtype=float) - found.value))


def _with_rounding(estimate: Estimate, step: int, points: _Points) -> tuple[Estimate, float]:
    return estimate, _rounding(step, estimate.value, points)


def _moment(moment: Moment, point: int | None, points: _Points) -> Estimate:
    ensemble = points[point if moment.point is None else moment.point]
    if moment.statistic == "mean":
        return control_variates.best_mean(ensemble, moment.observable, moment.step)
    return estimators.statistic(ensemble, moment.statistic, moment.observable, moment.step)


def _rounding(step: int, measured: float, points: _Points) -> float:
    """What rounding may have added to a quantity, as a standard error: errors of 16 epsilon a step, a random walk.

    In float64 it matters to quantities without noise of their own alone; in float32 it is 1e-4 after 3,000 steps.
    """
    return 16.0 * points.epsilon * sqrt(step + 1.0) * abs(measured)


def _moments(prediction: Prediction) -> tuple[Moment, ...]:
    measure = prediction.measure
    if isinstance(measure, Moment):
        return (measure,)
    return measure.moments if isinstance(measure, Function | Curve) else ()


def _lost(prediction: Prediction, points: _Points) -> list[str]:
    """Trajectories that are missing from the estimate."""
    moments, measure = _moments(prediction), prediction.measure
    used = {prediction.point if moment.point is None else moment.point for moment in moments} or {prediction.point}
    lost = sum(estimators.diverged(points[point]) for point in used)
    if lost:
        return [f"{lost} trajectories diverged"]
    observed = [(moment.observable, moment.step, moment.point) for moment in moments]
    if isinstance(measure, Density):
        observed = [(measure.observable, measure.step, None)]
    for names, step, point in observed:
        for name in names.split(", "):  # of a covariance there are two
            missing = estimators.excluded(points[prediction.point if point is None else point], name, step)
            if missing:
                return [f"{name} is not finite in {missing} trajectories"]
    return []


def _against_rival(prediction: Prediction, estimate: Estimate, rounding: float) -> list[str]:
    rival = prediction.rival
    if rival is None:
        return []
    z = ratio(estimate.value - rival.predicted, float(np.hypot(estimate.stderr, rounding)))
    return [f"{rival.name} gives {rival.predicted:.6g}: z = {z:+.1f}"]


def _resolution(prediction: Prediction, points: _Points) -> float:
    if prediction.resolution is not None:
        return prediction.resolution
    if isinstance(prediction.measure, Distance | Density):
        return PROBABILITY_RESOLUTION
    if isinstance(prediction.measure, Tail):
        return TAIL_RESOLUTION * abs(prediction.predicted)
    if prediction.predicted != 0.0:
        return RELATIVE_RESOLUTION * abs(prediction.predicted)
    if isinstance(prediction.measure, Moment):
        return _of_nothing(prediction.measure, prediction.point, points)
    return STANDARDISED_RESOLUTION if prediction.statistic == "correlation" else nan


def _of_nothing(moment: Moment, point: int | None, points: _Points) -> float:
    """The resolution of a moment that is predicted to vanish: on the scale of what is measured."""
    if moment.statistic in ("skewness", "kurtosis"):
        return STANDARDISED_RESOLUTION
    if moment.statistic in ("mean", "covariance"):
        names = moment.observable.split(", ")
        spreads = (_moment(Moment("std", name, moment.step, moment.point), point, points).value for name in names)
        return RELATIVE_RESOLUTION * prod(spreads)
    return nan


def _curve(prediction: Prediction, points: _Points) -> _Row:
    """Several numbers as one row, about the one that is furthest off: Sidak's level within the row.

    The resolution that the row must have seen is that of the point which is hardest to see.
    """
    measure = prediction.measure
    assert isinstance(measure, Curve | DriftCurve)
    if (isinstance(measure, Curve) and len(measure.moments) != len(measure.values)) or not measure.values:
        return _Row(prediction, Score(doubts=("a curve has as many values as moments, one or more",)))
    scores = [
        score(estimate, value, rounding)
        for (estimate, rounding), value in zip(_along(measure, prediction, points), measure.values, strict=True)
    ]
    n, resolutions = len(scores), _curve_resolutions(prediction, measure, points)
    p, z = (np.array([getattr(one, name) for one in scores]) for name in ("p", "z"))
    worst = int(np.lexsort((-np.abs(z), p))[0])  # NaN comes last

    def parts(level: float) -> list[float]:
        """What would be seen at each point, in units of its resolution."""
        return [one.detectable(sidak_level(level, n)) / each for one, each in zip(scores, resolutions, strict=True)]

    scale = resolutions[int(np.argmax(np.nan_to_num(parts(ALPHA), nan=np.inf)))]

    row = Score(
        scores[worst].measured,
        scores[worst].stderr,
        scores[worst].z,
        nan if isnan(scores[worst].p) else sidak(scores[worst].p, n),
        lambda level: float(np.max(parts(level))) * scale,
        sidak(max(one.floor for one in scores), n),
        tuple(dict.fromkeys(doubt for one in scores for doubt in one.doubts)),
        (_worst_of(measure, worst), *scores[worst].remarks),
    )
    return _Row(replace(prediction, predicted=measure.values[worst]), row, scale)


def _along(measure: Curve | DriftCurve, prediction: Prediction, points: _Points) -> Iterable[tuple[Estimate, float]]:
    """The estimates along a curve, each with its rounding error."""
    if isinstance(measure, DriftCurve):
        estimates = estimators.drift(points[prediction.point], measure.observable)
        # That of the positions is in the spread of their differences; this is of the numbers in the step.
        return [_with_rounding(one, 0, points) for one in estimates]
    estimates = [_moment(moment, prediction.point, points) for moment in measure.moments]
    steps = [moment.step for moment in measure.moments]
    return [_with_rounding(one, step, points) for one, step in zip(estimates, steps, strict=True)]


def _curve_resolutions(prediction: Prediction, curve: Curve | DriftCurve, points: _Points) -> list[float]:
    if prediction.resolution is not None:
        return [prediction.resolution] * len(curve.values)
    least = SMALL_IN_CURVE * max(map(abs, curve.values))
    if least == 0.0 and isinstance(curve, Curve):
        return [_of_nothing(moment, prediction.point, points) for moment in curve.moments]
    return [RELATIVE_RESOLUTION * max(abs(value), least) for value in curve.values]


def _worst_of(curve: Curve | DriftCurve, worst: int) -> str:
    if isinstance(curve, DriftCurve):
        return f"furthest off in bin {worst}, of {len(curve.values)}"
    moment, count = curve.moments[worst], len(curve.moments)
    where = f"step {moment.step}" if moment.point is None else f"sweep point {moment.point}, step {moment.step}"
    return f"furthest off at {where}, of {count} point{'s' * (count > 1)}"


def _series(group: Sequence[Prediction], order: int, points: _Points, alpha: float) -> _Row:
    """A prediction of order k over learning rates: the power k of the residual must vanish."""
    estimates, roundings = zip(*(_estimate(prediction, points) for prediction in group), strict=True)
    doubts = [doubt for prediction in group for doubt in _lost(prediction, points)]
    doubts += [doubt for estimate in estimates for doubt in distrust(estimate)]
    if any(not estimate.stderr > 0 for estimate in estimates) or len({one.groups for one in estimates}) > 1:
        doubts.append("no standard error from the same groups at every learning rate")
        return _Row(_about_power(group[0], order), Score(doubts=tuple(dict.fromkeys(doubts))))
    rates = np.array([prediction.learning_rate for prediction in group])
    series = Series(rates, estimates, np.array([prediction.predicted for prediction in group]), order)
    test = order_test(series, alpha)
    if not test.accepted:
        doubts.append(_REFUSED)
    resolutions = np.array([_resolution(prediction, points) for prediction in group])
    b = float(test.guard.coefficients[0])
    stderr = float(np.hypot(test.guard.stderrs[0], np.max(roundings / rates**test.power)))
    z = ratio(b, stderr)
    found = Score(
        b,
        stderr,
        z,
        two_sided(z, test.fit.freedom),
        partial(detectable, stderr, test.fit.freedom),
        doubts=tuple(dict.fromkeys(doubts)),
        remarks=tuple(_fit_remarks(test, order)),
    )
    advisable = found.doubts in ((), (_REFUSED,)) and bool(np.all(resolutions > 0))
    return _Row(
        _about_power(group[0], test.power),
        found,
        # At the largest rate the term in question is to be seen where it amounts to the resolution.
        float(min(resolutions / rates**order)) if test.power == order else nan,
        (lambda level: str(advise(series, resolutions, level))) if advisable else None,
    )


def _about_power(prediction: Prediction, power: int) -> Prediction:
    return Prediction(
        prediction.id,
        f"{prediction.quantity}: term of eta^{power} in the residual",
        prediction.measure,
        0.0,
        prediction.order,
        source=prediction.source,
        conditions=prediction.conditions,
        expect=prediction.expect,
    )


def _fit_remarks(test: OrderTest, order: int) -> Iterable[str]:
    fit: PowerFit = test.fit
    if test.power < order:
        yield f"the residual is of order {test.power}, not beyond {order}"
    for name, value, stderr in zip("cd", fit.coefficients[1:], fit.stderrs[1:], strict=False):
        yield f"{name} = {value:.4g} ± {stderr:.2g}"
    yield f"chi-square {fit.chi_square:.1f} on {fit.excess}, p = {fit.p:.2g}"


def _judge(row: _Row, p_adjusted: float, alpha: float, level: float) -> Comparison:
    found, prediction = row.score, row.prediction
    seen = found.detectable(level)
    verdict, reasons = _verdict(row, p_adjusted, alpha, level, seen)
    return Comparison(
        prediction.id,
        prediction.quantity,
        prediction.point,
        prediction.statistic,
        prediction.predicted,
        found.measured,
        found.stderr,
        found.z,
        found.p,
        p_adjusted,
        seen,
        row.resolution,
        prediction.order,
        verdict,
        "; ".join((*reasons, *found.remarks)),
        prediction.expect,
    )


def _verdict(row: _Row, p_adjusted: float, alpha: float, level: float, seen: float) -> tuple[Verdict, tuple[str, ...]]:
    found = row.score
    if found.doubts:
        return "inconclusive", (*found.doubts, *(() if row.advice is None else (row.advice(level),)))
    if p_adjusted <= alpha:
        return "disagrees", ()
    if found.floor <= level and seen <= row.resolution:
        return "agrees", ()
    return "inconclusive", (_what_would_decide(row, level, seen),)


def _what_would_decide(row: _Row, level: float, seen: float) -> str:
    if row.score.floor > level:
        smallest = f"{row.score.floor:.1g} is the smallest p of the bootstrap"
        return f"{smallest}, too coarse for the level {level:.1g} of one among so many tests"
    if row.advice is not None:
        return row.advice(level)
    if isnan(row.resolution):
        return "no resolution given, and none to be had from the prediction"
    return f"{(seen / row.resolution) ** 2:.2g} times the trajectories would decide"


def format_table(comparisons: Sequence[Comparison], skipped: Iterable[Any] = (), alpha: float = ALPHA) -> str:
    """The rows as aligned text, a line that counts them, and a line for each law that does not apply.

    Parameters
    ----------
    comparisons
        Of one file.
    skipped
        Laws that do not apply: objects with ``id``, ``reason`` and ``part``.
    alpha
        The level that the verdicts were made at.

    Examples
    --------
    >>> numbers = (0.5, 0.51, 0.02, 0.5, 0.6, 1.0, 0.1, 0.005)
    >>> row = Comparison("valley", "variance(x)", None, "variance", *numbers, "exact", "inconclusive")
    >>> print(format_table([row]))
    id     quantity     predicted  measured     z      verdict
    valley  variance(x)  0.5        0.51 ± 0.02  +0.50  inconclusive
    0 agree, 0 disagree, 1 inconclusive (Holm over 1 test, alpha = 0.001)
    """
    header = ("part", "id", "quantity", "point", "predicted", "measured", "z", "verdict", "note")
    table = [header, *(_cells(row) for row in comparisons)]
    used = [column for column in zip(*table, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in used]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in zip(*used, strict=True)]
    lines.append(_summary(comparisons, alpha))
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in skipped:
        reasons.setdefault((one.part, one.reason), []).append(one.id)
    for (part, reason), ids in reasons.items():
        where = f"part {part}: " if part else ""
        lines.append(f"{where}{', '.join(ids)} {'does' if len(ids) == 1 else 'do'} not apply: {reason}")
    return "\n".join(lines)


_CONTROL = {"agrees": "rejected (control)", "disagrees": "NOT REJECTED (control)"}


def _cells(row: Comparison) -> tuple[str, ...]:
    measured = "" if isnan(row.measured) else f"{row.measured:.6g}"
    if not isnan(row.stderr):
        measured += f" ± {row.stderr:.2g}"
    return (
        row.part,
        row.id,
        row.quantity,
        "" if row.point is None else str(row.point),
        f"{row.predicted + 0.0:.6g}",  # minus nought is nought
        measured,
        "" if isnan(row.z) else f"{row.z:+.2f}",
        row.verdict if row.expect == "agrees" else _CONTROL[row.outcome],
        row.note,
    )


def _summary(comparisons: Sequence[Comparison], alpha: float) -> str:
    claims, controls = (
        [row for row in comparisons if (row.expect == "agrees") is is_claim] for is_claim in (True, False)
    )
    agrees, disagree, inconclusive = (
        sum(row.verdict == verdict for row in claims) for verdict in ("agrees", "disagrees", "inconclusive")
    )
    if not comparisons:
        return "nothing to compare with: no prediction in the scenario applies"
    tests = sum(not isnan(row.p) for row in comparisons)
    plural = "" if tests == 1 else "s"
    rejected = sum(row.outcome == "agrees" for row in controls)
    of_controls = f"; {rejected} of {len(controls)} controls rejected" if controls else ""
    return (
        f"{agrees} agree{'s' if agrees == 1 else ''}, {disagree} disagree{'s' if disagree == 1 else ''}, "
        f"{inconclusive} inconclusive{of_controls} (Holm over {tests} test{plural}, alpha = {alpha:g})"
    )


def to_json(comparisons: Iterable[Comparison], file: str, scenario: str) -> str:
    """The rows as JSON; what cannot be had is null. `expect` and `part` are there only where they say something.

    Examples
    --------
    >>> to_json([], "run.h5", "river_valley")
    '{"file": "run.h5", "scenario": "river_valley", "comparisons": []}'
    """
    comparisons = list(comparisons)
    optional = {field.name: field.default for field in fields(Comparison) if field.name in ("expect", "part")}
    used = {name for name, usual in optional.items() if any(getattr(row, name) != usual for row in comparisons)}
    unused = {"note", *optional} - used
    names = [field.name for field in fields(Comparison) if field.name not in unused]
    rows = [{name: _finite(getattr(row, name)) for name in names} for row in comparisons]
    return json.dumps({"file": file, "scenario": scenario, "comparisons": rows}, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and isinf(value):
        return copysign(sys.float_info.max, value)  # JSON has no infinity; null is for what was not measured
    return None if isinstance(value, float) and isnan(value) else value
