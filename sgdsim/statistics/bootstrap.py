"""Studentised bootstrap over groups, for estimates whose groups are too skewed for Student's t.

What is resampled is each group's part in the error of an estimate. The seed is a constant, so that a file always has
the same p-values. A p-value is the larger of the equal-tailed and the symmetric one (Hall, Ann. Statist. 16, 927
(1988)): the first rejects too often where groups are symmetric with heavy tails, the second where they are skewed.

How far it is to be trusted was measured on 64 groups drawn from lognormal laws, 20,000 ensembles each, with 9,999
draws; true predictions rejected at 1e-3:

==========================  ======  ======  ======  ======  ======
skewness of the law           1.13    1.75    3.26    6.18    33.5
median skewness of a draw     0.89    1.28    1.93    2.56    3.70
Student's t                 0.0022  0.0035  0.0076  0.0163  0.0591
this bootstrap              0.0009  0.0011  0.0016  0.0031  0.0098
==========================  ======  ======  ======  ======  ======

Beyond a skewness of 2 it rejects truths more than twice as often as it says: the doubt stays. Levels far below 1e-3, of
one among hundreds of tests, are an extrapolation: to measure them would take millions of ensembles.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

RESAMPLES = 999_999  # draws: with them the smallest p is below 1e-3 over the number of rows, up to 500 rows
FLOOR = 2.0 / (RESAMPLES + 1)
"""The smallest p-value."""
MOST_SKEWED = 2.0
"""Skewness of the groups' values up to which the false alarms are those of the level, within a factor of two."""

_SEED = 20251121
_BLOCK = 4096  # draws at once


def studentised(parts: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """Student's t of resampled groups, sorted along the last axis.

    Parameters
    ----------
    parts
        Each group's part in the error of an estimate, (…, group); see `Estimate.deviations`.
    resamples
        Number of times that groups are drawn with replacement.

    Examples
    --------
    >>> t = studentised(np.arange(20.0))
    >>> t.shape, bool(abs(np.median(t)) < 0.05)
    ((999999,), True)
    """
    groups = parts.shape[-1]
    centred = (parts - parts.mean(-1, keepdims=True)).reshape(-1, groups).T
    both = np.concatenate([centred, centred**2], axis=1)
    times = _times(groups, resamples)
    t = np.empty((resamples, centred.shape[1]), np.float32)  # single precision, as a curve keeps them for all points
    for start in range(0, resamples, _BLOCK):
        sums, squares = np.split(times[start : start + _BLOCK].astype(float) @ both, 2, axis=1)
        spread = np.sqrt(np.maximum(squares - sums**2 / groups, 0.0) * groups / (groups - 1.0))
        # A spread that vanishes next to the sum means that one group was drawn every time.
        t[start : start + _BLOCK] = np.divide(sums, spread, out=np.zeros_like(sums), where=spread > 1e-9 * abs(sums))
    return np.sort(t.T, axis=-1).reshape(*parts.shape[:-1], resamples)


@lru_cache(maxsize=2)
def _times(groups: int, resamples: int) -> np.ndarray:
    """The number of times that each group is in each resample, (resample, group)."""
    rng = np.random.default_rng(_SEED)
    times = np.empty((resamples, groups), dtype=np.uint8)
    for start in range(0, resamples, _BLOCK):
        drawn = rng.integers(groups, size=(min(_BLOCK, resamples - start), groups))
        places = drawn + groups * np.arange(len(drawn))[:, None]
        times[start : start + _BLOCK] = np.bincount(places.ravel(), minlength=drawn.size).reshape(drawn.shape)
    return times


def p_value(t: np.ndarray, z: float) -> float:
    """Two-sided p-value of a deviation of z standard errors, from resampled values of Student's t.

    Parameters
    ----------
    t
        The values of `studentised` for one estimate.
    z
        Deviation over standard error.

    Examples
    --------
    >>> p_value(np.linspace(-3.0, 3.0, 999), 3.5)
    0.002
    """
    above, below = len(t) - np.searchsorted(t, z, "left"), np.searchsorted(t, z, "right")
    beyond = len(t) - np.searchsorted(t, abs(z), "left") + np.searchsorted(t, -abs(z), "right")
    equal_tailed, symmetric = 2.0 * (1 + min(above, below)), 1.0 + beyond
    return float(min(1.0, max(equal_tailed, symmetric) / (len(t) + 1)))


def detectable(t: np.ndarray, level: float, power: float) -> float:
    """The deviation, in standard errors, that is seen with a given power whatever its sign; infinite if none is.

    Examples
    --------
    >>> t = np.linspace(-3.0, 3.0, 9999)
    >>> round(detectable(t, 0.05, 0.9), 2), detectable(t, 1e-4, 0.9)
    (5.25, inf)
    """
    one_tail, two_tails = (int(np.floor(level * (len(t) + 1) / tails)) - 1 for tails in (2, 1))
    if one_tail < 0:
        return np.inf
    symmetric = np.partition(np.abs(t), -1 - two_tails)[-1 - two_tails]
    upper, lower = max(t[-1 - one_tail], symmetric), max(-t[one_tail], symmetric)
    rare, usual = np.quantile(t, [1.0 - power, power])
    return float(max(upper - rare, lower + usual))
