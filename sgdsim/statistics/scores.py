"""Scores of a measurement against a prediction: z, p, and the deviation that would have been seen.

A number with a standard error from groups is judged by Student's t. If the groups are too skewed for that, a
bootstrap over groups takes its place, as far as it can be trusted (`sgdsim.statistics.bootstrap`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import copysign, expm1, hypot, inf, isfinite, isinf, isnan, log1p, nan, sqrt

from sgdsim.statistics import bootstrap
from sgdsim.statistics.estimate import OVERFLOW, Estimate

POWER = 0.9  # probability with which a deviation must be seen to count as detectable
FEWEST_TRAJECTORIES = 1000
"""Fewest trajectories for an error from the sample's own moments: at alpha 1e-3 a true variance is rejected in 5 % of
Gaussian samples of 12, 0.6 % of 100, 0.15 % of 1000."""


MOST_BENT = 0.1
"""Largest part of a standard error that may be of second order in the errors of the groups. Beyond, the standard error
depends too much on the values drawn: for the variance of two equally likely values it is a multiple of the surplus of
one of them."""

SQUARES_SKEWED = 6.0
"""Skewness of 64 squares of normal values that one sample in a thousand exceeds: at an extremum the groups' values
are squares, and skewed for that reason alone."""

OVERFLOWS = "not finite: the values are too large, or too different, for the powers that are taken of them"


def _nothing_seen(level: float) -> float:
    return nan


@dataclass(frozen=True)
class Score:
    """A measurement held against a prediction.

    Parameters
    ----------
    measured, stderr
        The measured number and its standard error; NaN if there is none.
    z, p
        Deviation in standard errors, and its two-sided probability.
    detectable
        Function of the level that gives the deviation which a test sees with 90 % power.
    floor
        The smallest p that there can be.
    doubts
        Reasons not to trust z and p.
    remarks
        Anything else worth knowing.
    trajectories
        Function of a level and a deviation that gives the factor on the number of trajectories which shows it; None if
        the detectable deviation falls as the root of their number.
    """

    measured: float = nan
    stderr: float = nan
    z: float = nan
    p: float = nan
    detectable: Callable[[float], float] = _nothing_seen
    floor: float = 0.0
    doubts: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    trajectories: Callable[[float, float], float] | None = None

    def factor(self, level: float, resolution: float) -> float:
        """The factor on the number of trajectories with which a deviation of the size of the resolution is seen."""
        if self.trajectories is not None:
            return self.trajectories(level, resolution)
        return (self.detectable(level) / resolution) ** 2


def score(estimate: Estimate, predicted: float, rounding: float = 0.0, *, is_allowed: bool = False) -> Score:
    """The score of an estimate against a predicted number.

    Parameters
    ----------
    estimate, predicted
        The estimate, and the predicted number.
    rounding
        Standard error by rounding alone.
    is_allowed
        True if the predicted number is one of many that are right. Then an estimate at an extremum, with an error of
        second order, can be judged, by the largest error that both orders can add up to.

    Examples
    --------
    >>> one = score(Estimate(0.2, 0.1, 1e6), 0.0)
    >>> round(one.z, 9), round(one.p, 4), round(one.detectable(0.05), 3)
    (2.0, 0.0455, 0.324)
    """
    stderr = hypot(estimate.stderr, rounding)
    if is_allowed and _is_at_extremum(estimate, rounding):
        return _score_at_extremum(estimate, predicted, stderr, rounding)
    z = ratio(estimate.value - predicted, stderr)
    bent = min(ratio(estimate.second_order, stderr), MOST_BENT) if estimate.second_order > rounding else 0.0
    remarks = (estimate.note,) if estimate.note else ()
    skewness = abs(estimate.skewness)
    if estimate.groups and estimate.stderr > rounding and most_skewed(estimate) < skewness <= bootstrap.MOST_SKEWED:
        t = bootstrap.studentised(estimate.deviations)
        return Score(
            estimate.value,
            estimate.stderr,
            z,
            bootstrap.p_value(t, straight(z, bent)),
            lambda level: stderr * curved(bootstrap.detectable(t, level, POWER), bent),
            bootstrap.FLOOR,
            distrust(estimate, rounding, most=bootstrap.MOST_SKEWED),
            (*remarks, f"bootstrap over groups, whose skewness is {estimate.skewness:.1f}"),
        )
    return Score(
        estimate.value,
        estimate.stderr,
        z,
        two_sided(straight(z, bent), estimate.freedom),
        lambda level: stderr * curved(detectable(1.0, estimate.freedom, level), bent),
        doubts=distrust(estimate, rounding),
        remarks=remarks,
    )


def _is_at_extremum(estimate: Estimate, rounding: float) -> bool:
    """True if the error of second order is not small against that of first order, which vanishes at an extremum."""
    return estimate.second_order > max(MOST_BENT * estimate.stderr, rounding)


def _score_at_extremum(estimate: Estimate, predicted: float, stderr: float, rounding: float) -> Score:
    """The score by the errors of both orders together: a slope that is small by chance cannot make them small."""
    both = hypot(stderr, estimate.second_order)
    bent = estimate.second_order / both
    z = (estimate.value - predicted) / both
    return Score(
        estimate.value,
        both,
        z,
        two_sided(straight(z, bent), estimate.freedom),
        lambda level: both * curved(detectable(1.0, estimate.freedom, level), bent),
        doubts=distrust(estimate, rounding, most=SQUARES_SKEWED, bent=inf),
        remarks=(*((estimate.note,) if estimate.note else ()), "at an extremum, where the error is of second order"),
    )


def straight(z: float, bent: float) -> float:
    """The deviation, in standard errors, of the part of first order; the second order makes it look larger.

    Let an estimate be the parabola ``u + bent*(u^2 - 1)/sqrt(2)`` of a normal deviate u, and its standard error the
    slope there. A deviation of z standard errors is then one of u with ``z = u - bent*(u^2 + 1)/sqrt(2)``: on one side
    of the truth the error is small if the estimate is far off. The side is not known, so u is the smaller one. Without
    this, true predictions with ``bent`` up to 0.05 were rejected up to 1.6 times as often as they should be at 1e-3,
    and up to 5 times at 1e-5.

    Parameters
    ----------
    z
        Deviation over standard error.
    bent
        Part of the standard error that is of second order.

    Examples
    --------
    >>> straight(-4.0, 0.0), round(straight(-4.0, 0.05), 2)
    (-4.0, -3.53)
    """
    c = sqrt(2.0) * bent
    if not c > 0.0 or not isfinite(z):
        return z
    room = abs(z) - 0.5 * c
    return copysign((sqrt(1.0 + 2.0 * c * room) - 1.0) / c, z) if room > 0.0 else 0.0


def curved(u: float, bent: float) -> float:
    """The deviation, in standard errors, that goes with one of u in the part of first order: the inverse of `straight`.

    Examples
    --------
    >>> round(curved(straight(4.0, 0.05), 0.05), 9)
    4.0
    """
    return u + bent * (u**2 + 1.0) / sqrt(2.0) if isfinite(u) else u


def distrust(
    estimate: Estimate, rounding: float = 0.0, most: float | None = None, bent: float = MOST_BENT
) -> tuple[str, ...]:
    """Reasons not to trust Student's t.

    Parameters
    ----------
    estimate, rounding
        The estimate, and its standard error by rounding.
    most
        Largest skewness of the groups' values that is trusted; None for that of Student's t.
    bent
        Largest part of the standard error that may be of second order.

    Examples
    --------
    >>> distrust(Estimate(0.2, 0.1, 99))
    ('z not trusted: fewer than 1000 trajectories',)
    """
    if not (isfinite(estimate.value) and isfinite(estimate.stderr)):
        overflows = isinf(estimate.value) or isinf(estimate.stderr) or estimate.note == OVERFLOW
        return (OVERFLOWS if overflows else "no standard error",)
    if estimate.stderr <= rounding:
        return ()
    return tuple(f"z not trusted: {reason}" for reason in _misgivings(estimate, rounding, most, bent))


def _misgivings(estimate: Estimate, rounding: float, most: float | None, bent: float) -> Iterator[str]:
    if estimate.size < FEWEST_TRAJECTORIES:
        yield f"fewer than {FEWEST_TRAJECTORIES} trajectories"
    elif abs(estimate.skewness) > (most_skewed(estimate) if most is None else most):
        yield f"skewness of the groups' values is {estimate.skewness:.1f}"
    elif estimate.second_order > max(bent * estimate.stderr, rounding):
        size = f"{estimate.second_order:.2g} is of second order"
        yield f"the error of first order is small, by chance or at an extremum, {size}: a claim with tolerance= is told"


def most_skewed(estimate: Estimate) -> float:
    """Largest skewness of the groups' values at which Student's t is trusted.

    It is 1, or for few groups three standard errors of the skewness of as many normal values, if that is more.

    Examples
    --------
    >>> most_skewed(Estimate(0.0, 1.0, 63)), round(most_skewed(Estimate(0.0, 1.0, 15)), 2)
    (1.0, 1.53)
    """
    groups = min(estimate.groups or estimate.freedom + 1.0, 1e9)
    return max(1.0, 3.0 * sqrt(6.0 * (groups - 2.0) / ((groups + 1.0) * (groups + 3.0))))


def ratio(deviation: float, stderr: float) -> float:
    """Deviation over standard error; infinite for a deviation without an error.

    Examples
    --------
    >>> ratio(1.0, 0.5), ratio(-1.0, 0.0), ratio(0.0, 0.0)
    (2.0, -inf, 0.0)
    """
    if stderr > 0 or isnan(stderr):
        return deviation / stderr
    return 0.0 if deviation == 0 else copysign(inf, deviation)


def two_sided(z: float, freedom: float) -> float:
    """Two-sided p-value of Student's t.

    Examples
    --------
    >>> round(two_sided(2.0, 63), 4)
    0.0498
    """
    from scipy.special import stdtr

    return nan if isnan(z) else float(2.0 * stdtr(freedom, -abs(z)))


def detectable(stderr: float, freedom: float, level: float) -> float:
    """The deviation that a two-sided test of a level sees with 90 % power.

    Examples
    --------
    >>> round(detectable(1.0, 1e9, 0.05), 2)
    3.24
    """
    from scipy.special import stdtrit

    return float(stderr * (stdtrit(freedom, 1.0 - level / 2.0) + stdtrit(freedom, POWER)))


def normal_deviate(p: float) -> float:
    """The deviation, in standard errors of a normal law, that has a given two-sided p-value.

    Examples
    --------
    >>> round(normal_deviate(0.05), 2)
    1.96
    """
    from scipy.special import ndtri

    return float(-ndtri(max(p, 1e-300) / 2.0))


def sidak(p: float, tests: int) -> float:
    """The probability of a p-value as small as a given one in any of several tests.

    Examples
    --------
    >>> round(sidak(0.01, 5), 4)
    0.049
    """
    return 1.0 if p >= 1 else -expm1(tests * log1p(-p))


def sidak_level(level: float, tests: int) -> float:
    """The level of each of several tests such that any of them rejects with a given probability.

    Examples
    --------
    >>> round(sidak_level(sidak(0.01, 5), 5), 9)
    0.01
    """
    return -expm1(log1p(-level) / tests)
