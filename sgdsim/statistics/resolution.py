"""The smallest deviation worth seeing, of a prediction that does not say it.

It is 1 % of the predicted value. Where that is 0, a mean is held to 1 % of the measured standard deviation and a
covariance to 1 % of the product of both, skewness, kurtosis and correlation, which have a scale of their own, to 0.05,
and other statistics to nothing: they stay inconclusive. Each point of a curve is held to 1 % of its value, but not less
than a tenth of the curve's largest. Distributions and densities are held to 0.01 in probability, exponents of tails to
10 %.
"""

from __future__ import annotations

from math import nan, prod

from sgdsim.prediction import Curve, Density, Distance, DriftCurve, Moment, Prediction, Tail
from sgdsim.statistics.measured import Points, moment_estimate

RELATIVE = 0.01
PROBABILITY = 0.01
STANDARDISED = 0.05
TAIL = 0.1
SMALL_IN_CURVE = 0.1
"""Part of a curve's largest value below which a value is held to the scale of that."""


def resolution_of(prediction: Prediction, points: Points) -> float:
    """The resolution of one number or distribution; NaN where there is none."""
    if prediction.resolution is not None:
        return prediction.resolution
    if isinstance(prediction.measure, Distance | Density):
        return PROBABILITY
    if isinstance(prediction.measure, Tail):
        return TAIL * abs(prediction.predicted)
    if prediction.predicted != 0.0:
        return RELATIVE * abs(prediction.predicted)
    if isinstance(prediction.measure, Moment):
        return _of_nothing(prediction.measure, prediction.point, points)
    return STANDARDISED if prediction.statistic == "correlation" else nan


def resolutions_along(prediction: Prediction, curve: Curve | DriftCurve, points: Points) -> list[float]:
    """The resolution at each point of a curve."""
    if prediction.resolution is not None:
        return [prediction.resolution] * len(curve.values)
    least = SMALL_IN_CURVE * max(map(abs, curve.values))
    if least == 0.0 and isinstance(curve, Curve):
        return [_of_nothing(moment, prediction.point, points) for moment in curve.moments]
    return [RELATIVE * max(abs(value), least) for value in curve.values]


def _of_nothing(moment: Moment, point: int | None, points: Points) -> float:
    """The resolution of a moment that is predicted to vanish: on the scale of what is measured."""
    if moment.statistic in ("skewness", "kurtosis"):
        return STANDARDISED
    if moment.statistic in ("mean", "covariance"):
        names = moment.observable.split(", ")
        spreads = (moment_estimate(Moment("std", name, moment.step, moment.point), point, points) for name in names)
        return RELATIVE * prod(spread.value for spread in spreads)
    return nan
