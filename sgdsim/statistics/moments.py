"""Central sums to order 4, merged without cancellation (Pébay, SAND2008-6212)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """Count, mean and sums of powers 2, 3, 4 of the deviations from the mean; arrays of one shape."""

    count: np.ndarray  # type: ignore[assignment]  # hides tuple.count, which nobody wants here
    mean: np.ndarray
    m2: np.ndarray
    m3: np.ndarray
    m4: np.ndarray

    @property
    def variance(self) -> np.ndarray:
        """Unbiased variance; NaN for fewer than two values."""
        return _divide(self.m2, self.count - 1)

    @property
    def skewness(self) -> np.ndarray:
        """Third standardised moment."""
        with np.errstate(over="ignore"):
            return _divide(np.sqrt(self.count) * self.m3, self.m2**1.5)

    @property
    def kurtosis(self) -> np.ndarray:
        """Excess kurtosis: fourth standardised moment minus 3."""
        with np.errstate(over="ignore"):
            return _divide(self.count * self.m4, self.m2**2) - 3.0

    @property
    def mean_stderr(self) -> np.ndarray:
        """Standard error of the mean of independent values."""
        return np.asarray(np.sqrt(_divide(self.variance, self.count)))

    @property
    def variance_stderr(self) -> np.ndarray:
        """Standard error of the variance of independent values of any law with a fourth moment."""
        n = self.count
        with np.errstate(over="ignore", invalid="ignore"):  # heavy tails may overflow; the answer is then inf or NaN
            spread = _divide(self.m4, n) - _divide(n - 3.0, n - 1.0) * self.variance**2
            return np.asarray(np.sqrt(np.maximum(_divide(spread, n), 0.0)))


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of the union of two samples; either may be empty.

    Examples
    --------
    >>> one, two = (Moments(*map(np.asarray, (1.0, x, 0.0, 0.0, 0.0))) for x in (1.0, 3.0))
    >>> merge(one, two).variance
    array(2.)
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return _merge(a, b)


def _merge(a: Moments, b: Moments) -> Moments:
    n = a.count + b.count
    ra, rb = (np.where(n > 0, side.count / np.maximum(n, 1.0), 0.0) for side in (a, b))
    # An empty side has no mean; whatever is stored there must not enter the difference.
    delta = np.where((a.count > 0) & (b.count > 0), b.mean - a.mean, 0.0)
    mean = np.where(a.count > 0, a.mean + delta * rb, b.mean)
    between = delta * delta * a.count * rb
    m2 = a.m2 + b.m2 + between
    m3 = a.m3 + b.m3 + delta * (between * (ra - rb) + 3.0 * (ra * b.m2 - rb * a.m2))
    m4 = (
        a.m4
        + b.m4
        + delta
        * (
            delta * (between * (ra * ra - ra * rb + rb * rb) + 6.0 * (ra * ra * b.m2 + rb * rb * a.m2))
            + 4.0 * (ra * b.m3 - rb * a.m3)
        )
    )
    return Moments(n, mean, m2, m3, m4)


def merge_axis(moments: Moments, axis: int) -> Moments:
    """The moments merged along one axis, in index order, so that the result is the same however they were computed."""
    parts = [Moments(*(np.take(field, index, axis) for field in moments)) for index in range(moments.count.shape[axis])]
    total = parts[0]
    for part in parts[1:]:
        total = merge(total, part)
    return total


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)
