"""A number with its standard error, and the jackknife over groups of trajectories that it comes from.

Trajectories are independent, and every sum in a file is kept for 64 groups of them. Leaving out one group at
a time gives replicates of any estimate, and from these its standard error, also of ratios, of correlations
and of differences between sweep points that share their noise. Groups may differ in size, so the jackknife is
the one for unequal groups (Busing, Meijer & van der Leeden, Statistics and Computing 9, 3 (1999)); for equal
groups it is Quenouille's.

The jackknife is of first order: it treats an estimate as a sum over groups. The second order, to which the groups'
errors contribute in pairs, follows from leaving out two groups at a time. If it is not small next to the first order,
no standard error describes the estimate: an example is the variance of two equally likely values, whose first order
vanishes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Any

import numpy as np

from sgdsim.statistics.moments import Moments

GROUPS = 64
FEWEST_GROUPS = 16
"""Fewest groups for a jackknife: with fewer, standard errors come from the moments themselves."""
OVERFLOW = "its sums overflow"
"""Note on a statistic whose sums of powers overflow, as values are too large or too different."""


class NotMeasured(LookupError):
    """The error for an estimate that needs more than the ensemble holds."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number with its standard error.

    Parameters
    ----------
    value, stderr
        The number and its standard error; NaN if they cannot be computed.
    freedom
        Degrees of freedom of the standard error.
    replicates
        For each group, the value without that group; None if the error does not come from groups.
    shares
        Each group's part of the trajectories; None if the error does not come from groups.
    note
        A note for the table.
    sample
        Number of values that the estimate rests on; NaN if that is not known.
    pairs
        For each group, the value without that group and the next; None if it is not known.
    skewed
        Skewness of the groups' values that follows from the law of the averaged values; None if it is not known.
    second_order
        Standard deviation of the part of the error that is of second order in the groups' errors.

    Examples
    --------
    >>> estimate = Estimate.jackknife(2.5, np.array([3.0, 8 / 3, 7 / 3, 2.0]), np.full(4, 0.25))
    >>> round(estimate.stderr, 4)  # the standard error of the mean of 1, 2, 3, 4
    0.6455
    """

    value: float
    stderr: float
    freedom: float
    replicates: np.ndarray | None = None
    shares: np.ndarray | None = None
    note: str = ""
    sample: float = nan
    pairs: np.ndarray | None = None
    second_order: float = 0.0
    skewed: float | None = None

    @classmethod
    def jackknife(
        cls,
        value: float,
        replicates: np.ndarray,
        shares: np.ndarray,
        pairs: np.ndarray | None = None,
        sample: float = nan,
    ) -> Estimate:
        """An estimate from its replicates."""
        stderr = float(np.linalg.norm(deviations(value, replicates, shares)))
        bent = 0.0 if pairs is None else second_order(value, replicates, pairs, shares)
        return cls(float(value), stderr, len(replicates) - 1, replicates, shares, "", sample, pairs, bent)

    @classmethod
    def of_unions(cls, values: np.ndarray, counts: np.ndarray) -> Estimate:
        """An estimate from its values for the unions of groups that `all_left_out_and_pairs` lists.

        Parameters
        ----------
        values
            The value for each union.
        counts
            Number of values in each group.
        """
        groups, sample = len(counts), float(counts.sum())
        left_out, pairs = values[1 : groups + 1], values[groups + 1 :]
        return cls.jackknife(values[0], left_out, counts / sample, pairs, sample)

    @property
    def groups(self) -> int:
        """Number of groups that the standard error rests on; 0 if it does not come from groups."""
        return 0 if self.replicates is None else len(self.replicates)

    @property
    def size(self) -> float:
        """Number of values that the estimate rests on; NaN if it is not known."""
        return self.freedom + 1.0 if isnan(self.sample) and not self.groups else self.sample

    @property
    def deviations(self) -> np.ndarray:
        """Each group's part in the error: squares add up to ``stderr**2``, products of two estimates to covariances."""
        assert self.replicates is not None
        assert self.shares is not None
        return deviations(self.value, self.replicates, self.shares)

    @property
    def skewness(self) -> float:
        """Skewness of the groups' values, or of their law if that is less: 64 values may be skewed by chance."""
        if self.replicates is None:
            return self.skewed or 0.0
        centred = self.deviations - self.deviations.mean()
        scale = np.max(np.abs(centred))
        if not 0 < scale < np.inf:
            return 0.0
        centred /= scale  # cubes of very small or large numbers would underflow or overflow
        found = float(np.mean(centred**3) / np.mean(centred**2) ** 1.5)
        return found if self.skewed is None else min(found, self.skewed, key=abs)


def deviations(value: Any, replicates: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Each group's part in the error of an estimate: along the last axis, squares add up to its variance.

    Parameters
    ----------
    value
        The estimate from all groups, with one dimension less than the replicates.
    replicates
        The estimate without each group, along the last axis.
    shares
        Each group's part of the trajectories.

    Examples
    --------
    >>> deviations(2.0, np.array([2.5, 2.0, 1.5]), np.full(3, 1 / 3)).round(3)
    array([-0.408,  0.   ,  0.408])
    """
    groups = replicates.shape[-1]
    value = np.asarray(value)[..., None]
    # In the names of Busing et al.: h_j = 1/share_j, pseudo-values h_j*value - (h_j - 1)*replicate_j.
    inverse = 1.0 / shares
    pseudo = inverse * value - (inverse - 1.0) * replicates
    centre = groups * value - np.sum((1.0 - shares) * replicates, axis=-1, keepdims=True)
    return np.asarray((pseudo - centre) / np.sqrt((inverse - 1.0) * groups))


def second_order(value: float, replicates: np.ndarray, pairs: np.ndarray, shares: np.ndarray) -> float:
    """Standard deviation of the part of an estimate's error that is of second order in the errors of the groups.

    The change by leaving out two groups, less the changes by leaving out either, is the product of their errors times
    the second derivative. Pairs of neighbours stand for all pairs.

    Parameters
    ----------
    value, replicates, pairs, shares
        Those of an `Estimate`.

    Examples
    --------
    The square of a mean of 64 values about zero has no error of first order, and its variance is of second order.

    >>> values = np.random.default_rng(1).normal(size=64)
    >>> keep = all_left_out_and_pairs(64)
    >>> estimate = Estimate.of_unions((keep @ values / keep.sum(1)) ** 2, np.ones(64))
    >>> bool(0.7 < estimate.second_order / (np.sqrt(2) / 64) < 1.3)
    True
    """
    after, left = np.roll(shares, -1), 1.0 - shares
    products = (left - after) * pairs - left * replicates - (1.0 - after) * np.roll(replicates, -1) + value
    groups = len(replicates)
    return float(np.sqrt(0.5 * groups * (groups - 1) * np.mean(products**2)))


def unite(groups: Moments, keep: np.ndarray) -> Moments:
    """The moments of unions of groups.

    By Pébay's update for any number of sets at once: sums of powers about the common mean follow from those about the
    mean of each set.

    Parameters
    ----------
    groups
        Moments of the groups, fields of shape (…, group); no group is empty.
    keep
        1 for each group in a union, else 0, shape (union, group).

    Returns
    -------
    Moments
        Moments of the unions, fields of shape (…, union).

    Examples
    --------
    >>> singles = Moments(np.ones(2), np.array([1.0, 3.0]), np.zeros(2), np.zeros(2), np.zeros(2))
    >>> unite(singles, np.array([[1, 1]])).variance
    array([2.])
    """
    count, mean, m2, m3, m4 = (field[..., None, :] for field in groups)
    n = count * keep
    total = n.sum(-1)
    reference = mean.mean(-1, keepdims=True)  # near every mean, so that nothing cancels
    shift = (n * (mean - reference)).sum(-1, keepdims=True) / total[..., None]
    d = mean - reference - shift
    nd2 = n * d * d
    return Moments(
        total,
        (reference + shift)[..., 0],
        (keep * m2 + nd2).sum(-1),
        (keep * (m3 + 3.0 * d * m2) + nd2 * d).sum(-1),
        (keep * (m4 + d * (4.0 * m3 + 6.0 * d * m2)) + nd2 * d * d).sum(-1),
    )


def all_and_left_out(groups: int) -> np.ndarray:
    """Unions of groups: first all groups, then for each group all others.

    Examples
    --------
    >>> all_and_left_out(3)
    array([[1., 1., 1.],
           [0., 1., 1.],
           [1., 0., 1.],
           [1., 1., 0.]])
    """
    return np.vstack([np.ones((1, groups)), 1.0 - np.eye(groups)])


def all_left_out_and_pairs(groups: int) -> np.ndarray:
    """Unions of groups: those of `all_and_left_out`, then for each group all but that and the next.

    Examples
    --------
    >>> all_left_out_and_pairs(3)[4:]
    array([[0., 0., 1.],
           [1., 0., 0.],
           [0., 1., 0.]])
    """
    single = 1.0 - np.eye(groups)
    return np.vstack([all_and_left_out(groups), single * np.roll(single, -1, axis=0)])


def unions_of(groups: int) -> np.ndarray:
    """The unions of groups from which an estimate is made; with too few groups for an error, that of all alone."""
    return all_left_out_and_pairs(groups) if groups >= FEWEST_GROUPS else np.ones((1, groups))


def co_moment(n: np.ndarray, within: np.ndarray, a: np.ndarray, b: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Sum of products of deviations from the common means of unions of groups, as in `unite`.

    Parameters
    ----------
    n, within, a, b
        For each group: count, sum of products about its own means, and both means.
    keep
        1 for each group in a union, else 0, shape (union, group).

    Examples
    --------
    >>> co_moment(np.ones(2), np.zeros(2), np.array([1.0, 3.0]), np.array([0.0, 1.0]), np.array([[1, 1]]))
    array([1.])
    """
    weights = n * keep
    da, db = (m - (weights * m).sum(-1, keepdims=True) / weights.sum(-1, keepdims=True) for m in (a, b))
    return np.asarray((keep * within + weights * da * db).sum(-1))


@np.errstate(all="ignore")
def combine(function: Callable[..., Any], estimates: Sequence[Estimate]) -> Estimate:
    """A function of several estimates, with its error from their replicates, group by group.

    Groups are independent, so this holds whether or not the estimates come from the same trajectories, or
    from sweep points with the same noise.

    Examples
    --------
    >>> one = Estimate.jackknife(1.0, np.linspace(0.9, 1.1, 20), np.full(20, 0.05))
    >>> combine(lambda a, b: a - b, [one, one]).stderr
    0.0
    """
    value = float(function(*(np.float64(estimate.value) for estimate in estimates)))
    sample = min(estimate.sample for estimate in estimates)
    if any(estimate.replicates is None for estimate in estimates):
        return Estimate(value, np.nan, 0, note=f"fewer than {FEWEST_GROUPS} groups", sample=sample)
    shares = estimates[0].shares
    assert shares is not None
    if any(estimate.groups != estimates[0].groups for estimate in estimates):
        return Estimate(value, np.nan, 0, note="the points differ in their groups", sample=sample)
    replicates = np.asarray(function(*(estimate.replicates for estimate in estimates)))
    pairs = [estimate.pairs for estimate in estimates]
    both = None if any(one is None for one in pairs) else np.asarray(function(*pairs))
    return Estimate.jackknife(value, replicates, shares, both, sample)


def of_unions(values: np.ndarray, counts: np.ndarray) -> Estimate:
    """An estimate from its values for the unions of `unions_of`, without an error if there are few groups.

    Parameters
    ----------
    values
        The value for each union; the first is that of all groups.
    counts
        Number of trajectories in each group.

    Examples
    --------
    >>> of_unions(np.array([2.0, 1.0, 3.0]), np.array([5, 5])).note
    'fewer than 16 groups'
    """
    if len(counts) < FEWEST_GROUPS:
        note = f"fewer than {FEWEST_GROUPS} groups"
        return Estimate(float(values[0]), np.nan, 0, note=note, sample=float(counts.sum()))
    return Estimate.of_unions(values, counts)
