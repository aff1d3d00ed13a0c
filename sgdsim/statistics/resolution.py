"""The smallest deviation worth seeing, for a prediction that does not state one.

It is 1 % of the predicted value. If that is 0, it is 1 % of the measured standard deviation for a mean, and 1 % of the
product of both for a covariance. Skewness, kurtosis and correlation have a scale of their own: theirs is 0.05. Other
statistics have none and stay inconclusive. For a point of a curve it is 1 % of the point's value, or of a tenth of
the curve's largest value if that is more. For distributions and densities it is 0.01 in probability, for exponents of
tails 10 %.
"""

from __future__ import annotations

from math import nan, prod

from sgdsim.prediction import Curve, Density, Distance, DriftCurve, Moment, Prediction, Tail
from sgdsim.statistics.measured import Points, moment_estimate

RELATIVE = 0.01  # resolution of a number in units of the predicted value
PROBABILITY = 0.01  # resolution of distributions and densities, in probability
STANDARDISED = 0.05  # resolution of a skewness, kurtosis or correlation that is predicted to vanish
TAIL = 0.1  # resolution of a tail's exponent, in units of the predicted one
SMALL_IN_CURVE = 0.1
"""Part of a curve's largest value that stands in place of smaller values as their scale."""


def resolution_of(prediction: Prediction, points: Points) -> float:
    """The resolution of one number or distribution; NaN if there is none."""
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
    """The resolution of a moment that is predicted to vanish, on the scale of the measured spread."""
    if moment.statistic in ("skewness", "kurtosis"):
        return STANDARDISED
    if moment.statistic in ("mean", "covariance"):
        names = moment.observable.split(", ")
        spreads = (moment_estimate(Moment("std", name, moment.step, moment.point), point, points) for name in names)
        return RELATIVE * prod(spread.value for spread in spreads)
    return nan
