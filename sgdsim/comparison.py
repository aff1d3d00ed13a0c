"""Prediction against estimate: z, p, what would have been seen, and a verdict.

The only module that knows both theory and estimation. The rules:

- *disagrees*: rejected by Holm's procedure over all rows at the family-wise level alpha;
- *agrees*: not rejected, and a deviation of the size of the resolution would have been seen with 90 % power,
  at the level alpha/m of m rows (Bonferroni's, the most that Holm's procedure may ask of a row);
- *inconclusive*: anything else, or a reason not to trust z: diverged trajectories, too few groups for a
  standard error, a skewed distribution of the groups' values.

A resolution that is not given is 1 % of the predicted value. Where that is 0, a mean is held to 1 % of the
measured standard deviation, skewness, kurtosis and correlation, which have a scale of their own, to 0.05, and
other statistics to nothing: they stay inconclusive. Distributions are held to 0.01 in probability.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from math import copysign, inf, isfinite, isinf, isnan, nan, sqrt
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from sgdsim import estimation
from sgdsim.estimation import Estimate, NotMeasured, PowerFit
from sgdsim.theory.prediction import Correlation, Distance, Function, Moment, Order, Prediction

if TYPE_CHECKING:
    from sgdsim.ensemble import Ensemble

Verdict = Literal["agrees", "disagrees", "inconclusive"]

ALPHA = 1e-3
POWER = 0.9
RELATIVE_RESOLUTION = 0.01
KS_RESOLUTION = 0.01
STANDARDISED_RESOLUTION = 0.05
FEWEST_RATES = 4
FEWEST_TRAJECTORIES = 1000
"""Below, an error from the sample's own moments misleads: at alpha 1e-3 a true variance is rejected in 5 % of Gaussian
samples of 12, 0.6 % of 100, 0.15 % of 1000."""
ASK_FOR_A_TERM = 0.05
"""Below this p of chi-square, a fit of powers gets one more."""


@dataclass(frozen=True)
class Comparison:
    """One row of the table.

    Attributes
    ----------
    id, quantity, point, statistic, order
        As in the prediction.
    predicted, measured, stderr
        NaN where they cannot be had; a `Distance` has no standard error.
    z, p
        Deviation in standard errors, and its two-sided probability by Student's t. For a `Distance`, p is
        Kolmogorov's and z the normal deviate of the same p.
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


class _Detectable(Protocol):
    def __call__(self, level: float) -> float: ...


@dataclass(frozen=True)
class _Row:
    """A prediction with its test, before the rows are adjusted for their number."""

    prediction: Prediction
    measured: float = nan
    stderr: float = nan
    z: float = nan
    p: float = nan
    detectable: _Detectable = lambda level: nan
    resolution: float = nan
    doubts: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


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
    points = _Points(ensemble)
    rows = [row for group in _grouped(predictions) for row in _test(group, points, alpha)]
    adjusted = holm([row.p for row in rows])
    level = alpha / max(sum(isfinite(row.p) for row in rows), 1)
    return [_judge(row, p, alpha, level) for row, p in zip(rows, adjusted, strict=True)]


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
        groups.setdefault(series if isinstance(prediction.order, int) else index, []).append(prediction)
    return (tuple(group) for group in groups.values())


def _test(group: Sequence[Prediction], points: _Points, alpha: float) -> list[_Row]:
    order = group[0].order
    if not isinstance(order, int):
        return [_single(group[0], points)]
    if len({prediction.learning_rate for prediction in group}) < FEWEST_RATES:
        doubt = f"a prediction of order {order} is tested at {FEWEST_RATES} learning rates or more"
        return [_doubted(_single(prediction, points), doubt) for prediction in group]
    try:
        return [_series(group, order, points, alpha)]
    except NotMeasured as reason:
        return [_Row(group[0], doubts=(str(reason),))]


def _doubted(row: _Row, *doubts: str) -> _Row:
    return replace(row, doubts=(*row.doubts, *doubts))


def _single(prediction: Prediction, points: _Points) -> _Row:
    """One number against one estimate."""
    try:
        if isinstance(prediction.measure, Distance):
            return _distribution(prediction, prediction.measure, points)
        estimate = _estimate(prediction, points)
    except NotMeasured as reason:
        return _Row(prediction, doubts=(str(reason),))
    predicted = prediction.predicted
    rounding = _rounding(prediction, estimate.value, points)
    stderr = float(np.hypot(estimate.stderr, rounding))
    z = _ratio(estimate.value - predicted, stderr)
    return _Row(
        prediction,
        estimate.value,
        estimate.stderr,
        z,
        two_sided(z, estimate.freedom),
        lambda level: detectable(stderr, estimate.freedom, level),
        _resolution(prediction, points),
        (*_doubts(prediction, points), *_distrust(estimate, rounding)),
        (*_caveats(prediction, estimate), *_against_rival(prediction, estimate, stderr)),
    )


def _caveats(prediction: Prediction, estimate: Estimate) -> list[str]:
    return [text for text in ("adiabatic" if prediction.order == "adiabatic" else "", estimate.note) if text]


def _estimate(prediction: Prediction, points: _Points) -> Estimate:
    measure = prediction.measure
    if isinstance(measure, Moment):
        return _moment(measure, prediction.point, points)
    if isinstance(measure, Correlation):
        return estimation.correlation(points[prediction.point], measure.parameter, measure.steps)
    assert isinstance(measure, Function)
    moments = [_moment(moment, prediction.point, points) for moment in measure.moments]
    return estimation.combine(measure.function, moments)


def _moment(moment: Moment, point: int | None, points: _Points) -> Estimate:
    ensemble = points[point if moment.point is None else moment.point]
    return estimation.statistic(ensemble, moment.statistic, moment.observable, moment.step)


def _rounding(prediction: Prediction, measured: float, points: _Points) -> float:
    """Rounding errors of a run, taken as a random walk, for quantities without noise of their own."""
    measure = prediction.measure
    steps = [moment.step for moment in _moments(prediction)]
    if isinstance(measure, Correlation):
        steps = list(measure.steps)
    return 16.0 * points.epsilon * sqrt(max(steps) + 1.0) * max(abs(measured), abs(prediction.predicted))


def _moments(prediction: Prediction) -> tuple[Moment, ...]:
    measure = prediction.measure
    if isinstance(measure, Moment):
        return (measure,)
    return measure.moments if isinstance(measure, Function) else ()


def _doubts(prediction: Prediction, points: _Points) -> list[str]:
    """Trajectories that are missing from the estimate."""
    moments = _moments(prediction)
    used = {prediction.point if moment.point is None else moment.point for moment in moments} or {prediction.point}
    lost = sum(estimation.diverged(points[point]) for point in used)
    if lost:
        return [f"{lost} trajectories diverged"]
    for moment in moments:
        ensemble = points[prediction.point if moment.point is None else moment.point]
        missing = estimation.excluded(ensemble, moment.observable, moment.step)
        if missing:
            return [f"{moment.observable} is not finite in {missing} trajectories"]
    return []


def _distrust(estimate: Estimate, rounding: float = 0.0) -> list[str]:
    """Reasons not to trust a z-score."""
    if isnan(estimate.stderr) or isnan(estimate.value):
        return ["no standard error"]
    if estimate.stderr <= rounding:
        return []
    groups = estimate.groups
    if not groups and estimate.freedom + 1 < FEWEST_TRAJECTORIES:
        return [f"z not trusted: fewer than {FEWEST_TRAJECTORIES} trajectories"]
    # Beyond 1, and for few groups beyond three standard errors of the skewness of as many normal values.
    limit = max(1.0, 3.0 * sqrt(6.0 * (groups - 2) / ((groups + 1.0) * (groups + 3.0)))) if groups else inf
    if abs(estimate.skewness) > limit:
        return [f"z not trusted: skewness of the groups' values is {estimate.skewness:.1f}"]
    return []


def _against_rival(prediction: Prediction, estimate: Estimate, stderr: float) -> list[str]:
    rival = prediction.rival
    if rival is None:
        return []
    z = _ratio(estimate.value - rival.predicted, stderr)
    return [f"{rival.name} gives {rival.predicted:.6g}: z = {z:+.1f}"]


def _resolution(prediction: Prediction, points: _Points) -> float:
    if prediction.resolution is not None:
        return prediction.resolution
    if isinstance(prediction.measure, Distance):
        return KS_RESOLUTION
    if prediction.predicted != 0.0:
        return RELATIVE_RESOLUTION * abs(prediction.predicted)
    if prediction.statistic in ("skewness", "kurtosis", "correlation"):
        return STANDARDISED_RESOLUTION
    if isinstance(prediction.measure, Moment) and prediction.statistic == "mean":
        moment = prediction.measure
        spread = Moment("std", moment.observable, moment.step, moment.point)
        return RELATIVE_RESOLUTION * _moment(spread, prediction.point, points).value
    return nan


def _distribution(prediction: Prediction, measure: Distance, points: _Points) -> _Row:
    """Kolmogorov-Smirnov; the finite-sample argument is Stephens's, J. R. Stat. Soc. B 32, 115 (1970)."""
    from scipy.special import kolmogi, kolmogorov, ndtri

    distance, n = estimation.ks_distance(points[prediction.point], measure.parameter, measure.step, measure.cdf)
    if n == 0:
        return _Row(prediction, doubts=("no live trajectories",))
    scale = sqrt(n) + 0.12 + 0.11 / sqrt(n)
    p = float(kolmogorov(scale * distance))

    def seen(level: float) -> float:
        # Where the distribution is off by D, a sample is off by D +- sqrt(F(1 - F)/n), and F(1 - F) <= 1/4.
        return float(kolmogi(level) / scale + ndtri(POWER) * 0.5 / sqrt(n))

    return _Row(
        prediction,
        distance,
        z=float(-ndtri(max(p, 1e-300) / 2.0)),
        p=p,
        detectable=seen,
        resolution=_resolution(prediction, points),
        doubts=tuple(_doubts(prediction, points)),
    )


def _series(group: Sequence[Prediction], order: int, points: _Points, alpha: float) -> _Row:
    """A prediction of order k over learning rates: the power k of the residual must vanish.

    Where no fit from the power k on is accepted, lower powers are tried: a residual that they describe is of
    lower order than the prediction claims, and the row is then about that power.
    """
    estimates = [_estimate(prediction, points) for prediction in group]
    doubts = [doubt for prediction in group for doubt in _doubts(prediction, points)]
    doubts += [doubt for estimate in estimates for doubt in _distrust(estimate)]
    if any(not estimate.stderr > 0 for estimate in estimates) or len({one.groups for one in estimates}) > 1:
        doubts.append("no standard error from the same groups at every learning rate")
        return _Row(_about_power(group[0], order), doubts=tuple(dict.fromkeys(doubts)))
    rates = np.array([prediction.learning_rate for prediction in group])
    offsets = np.array([prediction.predicted for prediction in group])
    power, fit = _first_accepted(rates, estimates, offsets, order, alpha)
    if fit.p < alpha:
        doubts.append("chi-square accepts no power series: learning rates too large, or too few of them")
    # At the largest rate the term in question is to be seen where it amounts to the resolution.
    resolutions = [_resolution(prediction, points) / prediction.learning_rate**order for prediction in group]
    # A series that is cut off bends b before chi-square notices, so b is taken from a fit with one more term: without
    # it a true prediction of order 1, eta/2 for eta/(2 - eta), was rejected in 25 to 80 % of trials, with it in 0.1 %.
    terms = min(len(fit.coefficients) + 1, len(set(rates)))
    guard = estimation.fit_powers(rates, estimates, offsets, range(power, power + terms))
    b, stderr = float(guard.coefficients[0]), float(guard.stderrs[0])
    z = _ratio(b, stderr)
    return _Row(
        _about_power(group[0], power),
        b,
        stderr,
        z,
        two_sided(z, fit.freedom),
        lambda level: detectable(stderr, fit.freedom, level),
        float(min(resolutions)) if power == order else nan,
        tuple(dict.fromkeys(doubts)),
        tuple(_fit_remarks(fit, power, order)),
    )


def _first_accepted(
    rates: np.ndarray, estimates: Sequence[Estimate], offsets: np.ndarray, order: int, alpha: float
) -> tuple[int, PowerFit]:
    first = None
    for power in range(order, -1, -1):
        for terms, limit in ((2, ASK_FOR_A_TERM), (3, alpha)):
            fit = estimation.fit_powers(rates, estimates, offsets, range(power, power + terms))
            if fit.p >= limit:
                return power, fit
        first = first or (order, fit)
    assert first is not None
    return first


def _about_power(prediction: Prediction, power: int) -> Prediction:
    return Prediction(
        prediction.id,
        f"{prediction.quantity}: term of eta^{power} in the residual",
        prediction.measure,
        0.0,
        prediction.order,
        source=prediction.source,
        conditions=prediction.conditions,
    )


def _fit_remarks(fit: PowerFit, power: int, order: int) -> Iterable[str]:
    if power < order:
        yield f"the residual is of order {power}, not beyond {order}"
    for name, value, stderr in zip("cd", fit.coefficients[1:], fit.stderrs[1:], strict=False):
        yield f"{name} = {value:.4g} ± {stderr:.2g}"
    yield f"chi-square {fit.chi_square:.1f} on {fit.excess}, p = {fit.p:.2g}"


def _ratio(deviation: float, stderr: float) -> float:
    if stderr > 0 or isnan(stderr):
        return deviation / stderr
    return 0.0 if deviation == 0 else float(np.copysign(inf, deviation))


def two_sided(z: float, freedom: float) -> float:
    """Two-sided p of Student's t.

    Examples
    --------
    >>> round(two_sided(2.0, 63), 4)
    0.0498
    """
    from scipy.special import stdtr

    return nan if isnan(z) else float(2.0 * stdtr(freedom, -abs(z)))


def detectable(stderr: float, freedom: float, level: float) -> float:
    """The deviation that is seen with 90 % power by a two-sided test of this level.

    Examples
    --------
    >>> round(detectable(1.0, 1e9, 0.05), 2)
    3.24
    """
    from scipy.special import stdtrit

    return float(stderr * (stdtrit(freedom, 1.0 - level / 2.0) + stdtrit(freedom, POWER)))


def _judge(row: _Row, p_adjusted: float, alpha: float, level: float) -> Comparison:
    seen = row.detectable(level)
    verdict, reasons = _verdict(row, p_adjusted, alpha, seen)
    prediction = row.prediction
    return Comparison(
        prediction.id,
        prediction.quantity,
        prediction.point,
        prediction.statistic,
        prediction.predicted,
        row.measured,
        row.stderr,
        row.z,
        row.p,
        p_adjusted,
        seen,
        row.resolution,
        prediction.order,
        verdict,
        "; ".join((*reasons, *row.remarks)),
    )


def _verdict(row: _Row, p_adjusted: float, alpha: float, seen: float) -> tuple[Verdict, tuple[str, ...]]:
    if row.doubts:
        return "inconclusive", row.doubts
    if p_adjusted <= alpha:
        return "disagrees", ()
    if seen <= row.resolution:
        return "agrees", ()
    if isnan(row.resolution):
        return "inconclusive", ("no resolution given, and none to be had from the prediction",)
    return "inconclusive", (f"{(seen / row.resolution) ** 2:.2g} times the trajectories would decide",)


def format_table(comparisons: Sequence[Comparison], skipped: Iterable[Any] = (), alpha: float = ALPHA) -> str:
    """The rows as aligned text, a line that counts them, and a line for each law that does not apply.

    Parameters
    ----------
    comparisons
        Of one file.
    skipped
        Laws that do not apply: objects with ``id`` and ``reason``.
    alpha
        The level that the verdicts were made at.

    Examples
    --------
    >>> numbers = (0.5, 0.51, 0.02, 0.5, 0.6, 1.0, 0.1, 0.005)
    >>> row = Comparison("NTL-1", "variance(x)", None, "variance", *numbers, "exact", "inconclusive")
    >>> print(format_table([row]))
    id     quantity     predicted  measured     z      verdict
    NTL-1  variance(x)  0.5        0.51 ± 0.02  +0.50  inconclusive
    0 agree, 0 disagree, 1 inconclusive (Holm over 1 test, alpha = 0.001)
    """
    header = ("id", "quantity", "point", "predicted", "measured", "z", "verdict", "note")
    table = [header, *(_cells(row) for row in comparisons)]
    used = [column for column in zip(*table, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in used]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in zip(*used, strict=True)]
    lines.append(_summary(comparisons, alpha))
    lines += [f"{one.id} does not apply: {one.reason}" for one in skipped]
    return "\n".join(lines)


def _cells(row: Comparison) -> tuple[str, ...]:
    measured = "" if isnan(row.measured) else f"{row.measured:.6g}"
    if not isnan(row.stderr):
        measured += f" ± {row.stderr:.2g}"
    return (
        row.id,
        row.quantity,
        "" if row.point is None else str(row.point),
        f"{row.predicted:.6g}",
        measured,
        "" if isnan(row.z) else f"{row.z:+.2f}",
        row.verdict,
        row.note,
    )


def _summary(comparisons: Sequence[Comparison], alpha: float) -> str:
    agrees, disagree, inconclusive = (
        sum(row.verdict == verdict for row in comparisons) for verdict in ("agrees", "disagrees", "inconclusive")
    )
    if not comparisons:
        return "nothing to compare with: no prediction in the scenario applies"
    tests = sum(not isnan(row.p) for row in comparisons)
    plural = "" if tests == 1 else "s"
    return (
        f"{agrees} agree{'s' if agrees == 1 else ''}, {disagree} disagree{'s' if disagree == 1 else ''}, "
        f"{inconclusive} inconclusive (Holm over {tests} test{plural}, alpha = {alpha:g})"
    )


def to_json(comparisons: Iterable[Comparison], file: str, scenario: str) -> str:
    """The rows as JSON; what cannot be had is null.

    Examples
    --------
    >>> to_json([], "run.h5", "river_valley")
    '{"file": "run.h5", "scenario": "river_valley", "comparisons": []}'
    """
    names = [field.name for field in fields(Comparison) if field.name != "note"]
    rows = [{name: _finite(getattr(row, name)) for name in names} for row in comparisons]
    return json.dumps({"file": file, "scenario": scenario, "comparisons": rows}, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and isinf(value):
        return copysign(sys.float_info.max, value)  # JSON has no infinity; null is for what was not measured
    return None if isinstance(value, float) and isnan(value) else value
