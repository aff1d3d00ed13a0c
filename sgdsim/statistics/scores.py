"""How far a measurement is from what was predicted: z, p, and the deviation that would have been seen.

A number with a standard error from groups is judged by Student's t. Where the groups are too skewed for that, a
bootstrap over groups takes its place, as far as that is to be trusted (`sgdsim.statistics.bootstrap`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import copysign, expm1, hypot, inf, isnan, log1p, nan, sqrt

from sgdsim.statistics import bootstrap
from sgdsim.statistics.estimators import Estimate

POWER = 0.9
FEWEST_TRAJECTORIES = 1000
"""Below, an error from the sample's own moments misleads: at alpha 1e-3 a true variance is rejected in 5 % of Gaussian
samples of 12, 0.6 % of 100, 0.15 % of 1000."""


def _nothing_seen(level: float) -> float:
    return nan


@dataclass(frozen=True)
class Score:
    """A measurement held against a prediction.

    Parameters
    ----------
    measured, stderr
        NaN where they cannot be had.
    z, p
        Deviation in standard errors, and its two-sided probability.
    detectable
        The deviation that is seen with 90 % power by a test of a given level.
    floor
        The smallest p that there can be.
    doubts
        Why not to trust z and p.
    remarks
        What else there is to know.
    """

    measured: float = nan
    stderr: float = nan
    z: float = nan
    p: float = nan
    detectable: Callable[[float], float] = _nothing_seen
    floor: float = 0.0
    doubts: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def score(estimate: Estimate, predicted: float, rounding: float = 0.0) -> Score:
    """An estimate against a predicted number.

    Parameters
    ----------
    estimate, predicted
        What is compared.
    rounding
        Standard error from rounding alone.

    Examples
    --------
    >>> one = score(Estimate(0.2, 0.1, 1e6), 0.0)
    >>> round(one.z, 9), round(one.p, 4), round(one.detectable(0.05), 3)
    (2.0, 0.0455, 0.324)
    """
    stderr = hypot(estimate.stderr, rounding)
    z = ratio(estimate.value - predicted, stderr)
    remarks = (estimate.note,) if estimate.note else ()
    skewness = abs(estimate.skewness)
    if estimate.stderr > rounding and most_skewed(estimate.groups) < skewness <= bootstrap.MOST_SKEWED:
        t = bootstrap.studentised(estimate.deviations)
        return Score(
            estimate.value,
            estimate.stderr,
            z,
            bootstrap.p_value(t, z),
            lambda level: stderr * bootstrap.detectable(t, level, POWER),
            bootstrap.FLOOR,
            remarks=(*remarks, f"bootstrap over groups, whose skewness is {estimate.skewness:.1f}"),
        )
    return Score(
        estimate.value,
        estimate.stderr,
        z,
        two_sided(z, estimate.freedom),
        partial(detectable, stderr, estimate.freedom),
        doubts=distrust(estimate, rounding),
        remarks=remarks,
    )


def distrust(estimate: Estimate, rounding: float = 0.0) -> tuple[str, ...]:
    """Reasons not to trust Student's t.

    Examples
    --------
    >>> distrust(Estimate(0.2, 0.1, 99))
    ('z not trusted: fewer than 1000 trajectories',)
    """
    if isnan(estimate.stderr) or isnan(estimate.value):
        return ("no standard error",)
    if estimate.stderr <= rounding:
        return ()
    if not estimate.groups and max(estimate.freedom + 1, estimate.sample) < FEWEST_TRAJECTORIES:
        return (f"z not trusted: fewer than {FEWEST_TRAJECTORIES} trajectories",)
    if abs(estimate.skewness) > most_skewed(estimate.groups):
        return (f"z not trusted: skewness of the groups' values is {estimate.skewness:.1f}",)
    return ()


def most_skewed(groups: int) -> float:
    """Skewness of the groups' values up to which Student's t is trusted.

    1, and for few groups three standard errors of the skewness of as many normal values.

    Examples
    --------
    >>> most_skewed(64), round(most_skewed(16), 2)
    (1.0, 1.53)
    """
    return max(1.0, 3.0 * sqrt(6.0 * (groups - 2) / ((groups + 1.0) * (groups + 3.0)))) if groups else inf


def ratio(deviation: float, stderr: float) -> float:
    """Deviation over standard error; without an error a deviation is infinitely many.

    Examples
    --------
    >>> ratio(1.0, 0.5), ratio(-1.0, 0.0), ratio(0.0, 0.0)
    (2.0, -inf, 0.0)
    """
    if stderr > 0 or isnan(stderr):
        return deviation / stderr
    return 0.0 if deviation == 0 else copysign(inf, deviation)


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


def normal_deviate(p: float) -> float:
    """The deviation, in standard errors, that has this two-sided p.

    Examples
    --------
    >>> round(normal_deviate(0.05), 2)
    1.96
    """
    from scipy.special import ndtri

    return float(-ndtri(max(p, 1e-300) / 2.0))


def sidak(p: float, tests: int) -> float:
    """The probability of so small a p in any of several tests.

    Examples
    --------
    >>> round(sidak(0.01, 5), 4)
    0.049
    """
    return 1.0 if p >= 1 else -expm1(tests * log1p(-p))


def sidak_level(level: float, tests: int) -> float:
    """The level of each of several tests, of which any rejects with the given probability.

    Examples
    --------
    >>> round(sidak_level(sidak(0.01, 5), 5), 9)
    0.01
    """
    return -expm1(log1p(-level) / tests)
