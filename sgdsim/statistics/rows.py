"""The test of one prediction, or of those of one order together, before the rows are adjusted for their number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isinf, isnan, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.prediction import (
    FEWEST_RATES,
    Curve,
    Density,
    Distance,
    DriftCurve,
    Number,
    Prediction,
    Tail,
)
from sgdsim.statistics import conditions, goodness, histograms, records, snapshot_estimators
from sgdsim.statistics.conditions import Checked
from sgdsim.statistics.estimate import NotMeasured
from sgdsim.statistics.measured import Points, along, hidden_events, lost, number_estimate, number_score
from sgdsim.statistics.order_test import OrderTest, Series, advise, order_test
from sgdsim.statistics.power_fit import PowerFit
from sgdsim.statistics.resolution import resolution_of, resolutions_along
from sgdsim.statistics.scores import Score, detectable, distrust, ratio, sidak, sidak_level, two_sided

if TYPE_CHECKING:
    from sgdsim.ensemble import Ensemble

_NEGLIGIBLE = 0.01  # allowed deviation, in units of the resolution, up to which a row does not mention it
_REFUSED = "chi-square accepts no power series: learning rates too large, or too few of them"


@dataclass(frozen=True)
class Row:
    """A prediction with its test.

    Parameters
    ----------
    prediction, score, resolution
        The prediction, its score, and the smallest deviation worth seeing.
    advice
        Function of the level that tells what would decide, if that is more than a number of trajectories.
    checked
        The tested conditions of the prediction.
    """

    prediction: Prediction
    score: Score
    resolution: float = nan
    advice: Callable[[float], str] | None = None
    checked: tuple[Checked, ...] = ()

    @property
    def does_not_hold(self) -> bool:
        """True if nobody asked for the prediction and one of its conditions fails."""
        return not self.prediction.asked and any(one.state == "fails" for one in self.checked)


def rows_of(predictions: Iterable[Prediction], ensemble: Ensemble, alpha: float) -> Iterable[Row]:
    """A row for each prediction that is tested alone, and for those of an order k one for each series.

    Parameters
    ----------
    predictions
        The predictions that are compared with the ensemble.
    ensemble
        A run, or a sweep with a leading dimension ``point``.
    alpha
        Level at which chi-square refuses a fit, and conditions fail.
    """
    points = Points(ensemble)
    for group in _grouped(predictions):
        rows = _test(group, points, alpha)
        for row, prediction in zip(rows, group, strict=False):  # a series has one row
            yield _with_conditions(row, group if len(rows) == 1 else (prediction,), points, alpha)


def _with_conditions(row: Row, about: Sequence[Prediction], points: Points, alpha: float) -> Row:
    """A row with the tested conditions of the predictions that it is about."""
    try:
        checked = tuple(one for prediction in about for one in conditions.check(prediction, points, alpha))
    except NotMeasured as reason:
        if not row.prediction.asked:
            return _doubted(row, str(reason))
        return replace(row, score=replace(row.score, remarks=(*row.score.remarks, str(reason))))
    return replace(row, checked=checked)


def _grouped(predictions: Iterable[Prediction]) -> Iterable[tuple[Prediction, ...]]:
    """Groups of predictions: those of order k by series, all others alone, in the order of the first of each."""
    groups: dict[Any, list[Prediction]] = {}
    for index, prediction in enumerate(predictions):
        series = (prediction.id, prediction.quantity, prediction.order, prediction.series)
        in_series = isinstance(prediction.order, int) and _is_number(prediction)
        groups.setdefault(series if in_series else index, []).append(prediction)
    return (tuple(group) for group in groups.values())


def _is_number(prediction: Prediction) -> bool:
    return isinstance(prediction.measure, Number)


def _test(group: Sequence[Prediction], points: Points, alpha: float) -> list[Row]:
    order = group[0].order
    if not isinstance(order, int):
        return [_single(group[0], points, alpha)]
    if not _is_number(group[0]):
        doubt = f"an order is tested of numbers: a {group[0].statistic} of order {order} as several predictions"
        return [_doubted(_single(group[0], points, alpha), doubt)]
    rates = len({prediction.small for prediction in group})
    if rates < FEWEST_RATES:
        doubt = (
            f"order {order} is tested at {FEWEST_RATES} learning rates or more, this quantity is predicted at {rates}"
        )
        return [_doubted(_single(prediction, points, alpha), doubt) for prediction in group]
    try:
        return [_series(group, order, points, alpha)]
    except NotMeasured as reason:
        return [Row(group[0], Score(doubts=(str(reason),)))]


def _doubted(row: Row, *doubts: str) -> Row:
    return replace(row, score=replace(row.score, doubts=(*row.score.doubts, *doubts)))


def _single(prediction: Prediction, points: Points, alpha: float) -> Row:
    """The row of a prediction that is tested on its own."""
    try:
        is_curve = isinstance(prediction.measure, Curve | DriftCurve)
        row = _curve(prediction, points, alpha) if is_curve else _one(prediction, points, alpha)
        missing = lost(prediction, points)
    except NotMeasured as reason:
        return Row(prediction, Score(doubts=(str(reason),)))
    adiabatic = ("adiabatic",) if prediction.order == "adiabatic" else ()
    found = replace(row.score, doubts=(*missing, *row.score.doubts), remarks=(*adiabatic, *row.score.remarks))
    return replace(row, score=found)


def _one(prediction: Prediction, points: Points, alpha: float) -> Row:
    """The row of one number, or of one distribution."""
    ensemble, measure = points[prediction.point], prediction.measure
    if isinstance(measure, Number):
        measured = number_estimate(measure, prediction.point, points)[0].value
        nearest, is_allowed = prediction.nearest(measured), any(prediction.allowed)
        found = number_score(measure, nearest, prediction.point, points, is_allowed=is_allowed)
        remarks = *found.remarks, *_allowance(prediction), *_against_rival(prediction, measure, points)
        found = replace(found, remarks=remarks)
    else:
        found = _goodness(prediction, ensemble, alpha, points)
        if not points.independent:
            found = replace(found, doubts=(*found.doubts, "antithetic trajectories are not independent of each other"))
    resolution = resolution_of(prediction, points)
    if isinf(max(prediction.allowed)) and prediction.nearest(found.measured) == found.measured:
        # For a number inside a bound the resolution is at least its distance from the bound.
        resolution = float(np.fmax(resolution, abs(found.measured - prediction.predicted)))
    return Row(prediction, found, resolution)


def _goodness(prediction: Prediction, ensemble: Ensemble, alpha: float, points: Points) -> Score:
    """The score of a distribution, density or tail."""
    measure = prediction.measure
    if isinstance(measure, Distance):
        off = points.rounding(measure.step, 1.0)
        distance, n = snapshot_estimators.ks_distance(ensemble, measure.parameter, measure.step, measure.cdf, off)
        return goodness.kolmogorov_smirnov(distance, n) if n else Score(doubts=("no live trajectories",))
    if isinstance(measure, Density):
        counts, edges = histograms.histogram(ensemble, measure.observable, measure.step)
        stretch = 1.0 + points.rounding(measure.step, 1.0)
        held, moved = (np.diff([0.0, *measure.cdf(scale * edges), 1.0]) for scale in (1.0, stretch))
        return goodness.chi_square(counts, held, moved - held)
    assert isinstance(measure, Tail)
    values = records.live(ensemble, measure.parameter, measure.step)
    return goodness.tail(values, prediction.predicted, measure.fraction, alpha, points.rounding(measure.step, 1.0))


def _allowance(prediction: Prediction) -> list[str]:
    """A remark on the other numbers that count as right, if they matter."""
    below, above = prediction.allowed
    if isinf(below) or isinf(above):
        return [f"expected {'at most' if isinf(below) else 'at least'} {prediction.predicted:.6g}"]
    is_seen = above > _NEGLIGIBLE * (prediction.resolution or 0.0)
    return [f"expected to within {above:.3g}"] if is_seen else []


def _against_rival(prediction: Prediction, measure: Number, points: Points) -> list[str]:
    rival = prediction.rival
    if rival is None:
        return []
    estimate, rounding = number_estimate(measure, prediction.point, points)
    z = ratio(estimate.value - rival.predicted, float(np.hypot(estimate.stderr, rounding)))
    return [f"{rival.name} gives {rival.predicted:.6g}: z = {z:+.1f}"]


def _curve(prediction: Prediction, points: Points, alpha: float) -> Row:
    """The row of several numbers, on the one that is furthest off: with Sidak's level within the row.

    The row's resolution is that of the point at which a deviation is hardest to see.
    """
    measure = prediction.measure
    assert isinstance(measure, Curve | DriftCurve)
    if (isinstance(measure, Curve) and len(measure.moments) != len(measure.values)) or not measure.values:
        return Row(prediction, Score(doubts=("a curve has as many values as moments, one or more",)))
    scores = along(prediction, measure, points)
    n, resolutions = len(scores), np.array(resolutions_along(prediction, measure, points))
    p, z = (np.array([getattr(one, name) for one in scores]) for name in ("p", "z"))
    worst = int(np.lexsort((-np.abs(z), p))[0])  # NaN comes last

    def parts(level: float) -> np.ndarray:
        """The detectable deviation at each point, in units of the point's resolution."""
        return np.asarray([one.detectable(sidak_level(level, n)) for one in scores] / resolutions)

    scale = float(resolutions[np.argmax(np.nan_to_num(parts(alpha), nan=np.inf))])
    row = Score(
        scores[worst].measured,
        scores[worst].stderr,
        scores[worst].z,
        nan if isnan(scores[worst].p) else sidak(scores[worst].p, n),
        lambda level: float(np.max(parts(level))) * scale,
        sidak(max(one.floor for one in scores), n),
        tuple(dict.fromkeys(doubt for one in scores for doubt in one.doubts)),
        (_worst_of(measure, worst), *scores[worst].remarks, *_allowance(prediction)),
    )
    return Row(replace(prediction, predicted=measure.values[worst]), row, scale)


def _worst_of(curve: Curve | DriftCurve, worst: int) -> str:
    if isinstance(curve, DriftCurve):
        return f"furthest off in bin {worst}, of {len(curve.values)}"
    moment, count = curve.moments[worst], len(curve.moments)
    where = f"step {moment.step}" if moment.point is None else f"sweep point {moment.point}, step {moment.step}"
    return f"furthest off at {where}, of {count} point{'s' * (count > 1)}"


def _series(group: Sequence[Prediction], order: int, points: Points, alpha: float) -> Row:
    """The row of a prediction of order k over learning rates: the power k of the residual must vanish."""
    doubts = [doubt for prediction in group for doubt in lost(prediction, points)]
    estimates, roundings = [], []
    for measure, point in ((prediction.measure, prediction.point) for prediction in group):
        assert isinstance(measure, Number)
        estimate, rounding = number_estimate(measure, point, points)
        unseen, hidden = hidden_events(measure, estimate, rounding, point, points)
        doubts += [*hidden, *distrust(estimate, rounding)]
        estimates.append(estimate)
        roundings.append(float(np.hypot(rounding, unseen)))
    if any(not estimate.stderr > 0 for estimate in estimates) or len({one.groups for one in estimates}) > 1:
        doubts.append("no standard error from the same groups at every learning rate")
        return Row(_about_power(group[0], order), Score(doubts=tuple(dict.fromkeys(doubts))))
    rates = np.array([prediction.small for prediction in group])
    series = Series(rates, estimates, np.array([prediction.predicted for prediction in group]), order)
    test = order_test(series, alpha)
    if not test.accepted:
        doubts.append(_REFUSED)
    resolutions = np.array([resolution_of(prediction, points) for prediction in group])
    b = float(test.guard.coefficients[0])
    stderr = float(np.hypot(test.guard.stderrs[0], np.max(np.array(roundings) / rates**test.power)))
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
    return Row(
        _about_power(group[0], test.power),
        found,
        # The coefficient whose term amounts to the resolution at some rate, as a rule the largest.
        float(min(resolutions / rates**order)) if test.power == order else nan,
        (lambda level: str(advise(series, resolutions, level))) if advisable else None,
    )


def _about_power(prediction: Prediction, power: int) -> Prediction:
    quantity = f"{prediction.quantity}: term of eta^{power} in the residual"
    return replace(prediction, quantity=quantity, predicted=0.0, resolution=None, point=None, rival=None)


def _fit_remarks(test: OrderTest, order: int) -> Iterable[str]:
    fit: PowerFit = test.fit
    if test.power < order:
        yield f"the residual is of order {test.power}, not beyond {order}"
    for name, value, stderr in zip("cd", fit.coefficients[1:], fit.stderrs[1:], strict=False):
        yield f"{name} = {value:.4g} ± {stderr:.2g}"
    yield f"chi-square {fit.chi_square:.1f} on {fit.excess}, p = {fit.p:.2g}"
