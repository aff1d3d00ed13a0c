"""Tests for quantities that take two values, by the binomial law: exact even for rare events.

If events are so rare that many samples show none, a standard error says nothing: without an event it is zero. The
number of events has a binomial law, whatever their probability is, and each statistic of two values is a function of
that probability. A claim about a statistic is a claim about the probability, or about one of several. Its p-value is
that of Clopper and Pearson's intervals, Biometrika 26, 404 (1934): twice the smaller tail. It never rejects a truth
more often than it says.

The moments of a sample tell whether it has only two values. For standardised values z the skewness g and the kurtosis k
obey ``k - 1 - g^2 = min over all lines of <(z^2 - line)^2> >= 0`` (Pearson). If this is zero, a parabola vanishes at
every value, and so there are two values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import copysign, inf, isfinite, nan, pi, sqrt

import numpy as np

from sgdsim.statistics.estimate import Estimate
from sgdsim.statistics.moments import Moments
from sgdsim.statistics.scores import FEWEST_TRAJECTORIES, POWER, Score, normal_deviate

SAME = 1e-12
"""Largest part of the variance that may come from other than the two values: from rounding. A sample with heavy tails
whose largest value dominates its variance looks like one of two values; for laws with a mean, 1e-6 of samples do."""

_POINTS = 2400
"""Probabilities at which the power is computed, evenly spaced in the arc sine of their root, where errors are alike."""

_MOST_ROUNDS = 60  # most doublings of the number of trajectories


@dataclass(frozen=True)
class TwoValues:
    """A sample in which two values are found, or could be.

    Parameters
    ----------
    low, high
        The two values.
    events
        Number of trajectories that show the higher one.
    sample
        Number of all trajectories.

    Examples
    --------
    >>> few = TwoValues(0.0, 1.0, 3, 100_000)
    >>> few.statistic("mean", np.array([3e-5])), few.probabilities("variance", 0.25)
    (array([3.e-05]), [0.5])
    """

    low: float
    high: float
    events: int
    sample: int

    @classmethod
    def of_moments(cls, total: Moments) -> TwoValues | None:
        """The two values that follow from the moments of a sample; None if it has more than two values, or one.

        Parameters
        ----------
        total
            Moments of the sample.

        Examples
        --------
        >>> sample = np.array([0.0, 0.0, 0.0, 2.0])
        >>> sums = (np.asarray(np.sum((sample - 0.5) ** k)) for k in (2, 3, 4))
        >>> TwoValues.of_moments(Moments(np.asarray(4.0), np.asarray(0.5), *sums))
        TwoValues(low=0.0, high=2.0, events=1, sample=4)
        """
        n, mean, m2, m3, m4 = map(float, total)
        if not (1e-100 < m2 < 1e100 and isfinite(m4)):  # else powers of m2 underflow or overflow
            return None
        skewness, kurtosis = sqrt(n) * m3 / m2**1.5, n * m4 / m2**2
        rounding = float(np.finfo(float).eps) * abs(mean) / sqrt(m2 / n)
        if abs(kurtosis - 1.0 - skewness**2) > (SAME + rounding) * kurtosis:
            return None
        root = sqrt(4.0 + skewness**2)
        rarer = 2.0 / (root * (root + abs(skewness)))
        events = round(n * rarer)
        if not 1 <= events < n or abs(n * rarer - events) > 0.1:
            return None
        if skewness < 0.0:
            events = int(n) - events
        p = events / n
        distance = sqrt(m2 / n / (p * (1.0 - p)))
        ends = mean - p * distance, mean + (1.0 - p) * distance
        low, high = (0.0 if abs(end) < SAME * distance else end for end in ends)  # zero but for rounding
        return cls(low, high, events, int(n))

    @classmethod
    def of_one(cls, value: float, bounds: tuple[float, float], sample: float, other: float) -> TwoValues | None:
        """The value that a whole sample shows, and a bound of the quantity as the unseen one; None without another.

        An unseen event changes a mean most if it leads from the value to a bound: for a given change it is then least
        likely. So the p-values for these two values are upper bounds of the true ones.

        Parameters
        ----------
        value, sample
            The value that all trajectories show, and their number.
        bounds
            The lowest and the highest value that there can be.
        other
            A number on the side of the unseen value: its bound is taken, the upper one if the number is the value
            itself.
        """
        low, high = bounds
        if high > value and (other >= value or not low < value):
            return cls(value, high, 0, int(sample))
        return cls(low, value, int(sample), int(sample)) if low < value else None

    def __str__(self) -> str:
        if 0 < self.events < self.sample:
            return f"{self.events:,} of {self.sample:,} trajectories show {self.high:.6g}, the others {self.low:.6g}"
        seen, other = (self.high, self.low) if self.events else (self.low, self.high)
        return f"all {self.sample:,} trajectories show {seen:.6g}, none {other:.6g}"

    def statistic(self, name: str, p: np.ndarray) -> np.ndarray:
        """A statistic of the two values, for given probabilities of the higher one."""
        distance, product = self.high - self.low, p * (1.0 - p)
        with np.errstate(divide="ignore"):
            found = {
                "mean": self.low + distance * p,
                "variance": distance**2 * product,
                "std": distance * np.sqrt(product),
                "skewness": (1.0 - 2.0 * p) / np.sqrt(product),
                "kurtosis": 1.0 / product - 6.0,
            }
        return np.asarray(found[name])

    def probabilities(self, name: str, value: float) -> list[float]:
        """The probabilities of the higher value at which a statistic has a given value; empty if none gives it."""
        distance = self.high - self.low
        if name == "mean":
            found = [(value - self.low) / distance]
        elif name == "skewness":
            found = [0.5 * (1.0 - value / sqrt(4.0 + value**2))]
        else:
            product = {
                "variance": value / distance**2,
                "std": copysign(value**2, value) / distance**2,
                "kurtosis": 1.0 / (value + 6.0) if value > -6.0 else inf,
            }[name]
            apart = 1.0 - 4.0 * product
            if abs(apart) <= 4.0 * SAME:
                return [0.5]
            found = [0.5 * (1.0 + sign * sqrt(apart)) for sign in (-1.0, 1.0)] if apart > 0.0 else []
        return [min(max(p, 0.0), 1.0) for p in found if -SAME <= p <= 1.0 + SAME]

    def score(self, name: str, estimate: Estimate, predicted: float, rounding: float = 0.0) -> Score:
        """The score of a statistic of the sample against a predicted value.

        Parameters
        ----------
        name
            Name of the statistic.
        estimate, predicted
            The estimate, and the predicted value.
        rounding
            Deviation by rounding, which is not held against the prediction.

        Examples
        --------
        No event in a hundred thousand trajectories, if a third of one is expected, and if ten are.

        >>> none, measured = TwoValues(0.0, 1.0, 0, 100_000), Estimate(0.0, 0.0, 63)
        >>> [float(f"{none.score('mean', measured, p).p:.2g}") for p in (3.3e-6, 1e-4)]
        [1.0, 9.1e-05]
        >>> round(1e5 * none.score("mean", measured, 3.3e-6).detectable(1e-3), 1)
        6.3
        """
        measured = estimate.value
        held = predicted + min(max(measured - predicted, -rounding), rounding)
        claimed = self.probabilities(name, held)
        p = max((two_sided(self.events, self.sample, one) for one in claimed), default=0.0)
        seen = partial(self._detectable, name, held, claimed)
        few = self.sample < FEWEST_TRAJECTORIES
        return Score(
            measured,
            estimate.stderr if estimate.stderr > rounding else nan,
            z=copysign(normal_deviate(p), measured - predicted),
            p=p,
            detectable=partial(seen, self.sample),
            doubts=(f"fewer than {FEWEST_TRAJECTORIES} trajectories",) if few else (),
            remarks=(f"binomial law: {self}",),
            trajectories=partial(self._trajectories, seen),
        )

    def _detectable(self, name: str, predicted: float, claimed: list[float], sample: float, level: float) -> float:
        """The largest deviation that more than one in ten samples of a size would miss."""
        if not claimed:
            return nan
        sample = float(round(sample))
        accepted = [_accepted(p, sample, level) for p in claimed]
        if len(accepted) == 2 and accepted[1][0] <= accepted[0][1]:
            accepted = [(accepted[0][0], accepted[1][1])]
        width = (normal_deviate(level) + 8.0) / (2.0 * sqrt(sample))
        grids = [np.arcsin(np.sqrt(p)) + np.linspace(-width, width, _POINTS + 1) for p in claimed]
        at = np.sin(np.clip(np.concatenate(grids), 0.0, pi / 2.0)) ** 2
        missed = np.sum([_between(low, high, sample, at) for low, high in accepted], axis=0)
        return float(np.max(np.abs(self.statistic(name, at[missed > 1.0 - POWER]) - predicted)))

    def _trajectories(self, seen: Callable[[float, float], float], level: float, resolution: float) -> float:
        """The factor on the number of trajectories that shows a deviation of the size of the resolution."""
        few, many = 1.0, 2.0
        while seen(self.sample * many, level) > resolution:
            few, many = many, 2.0 * many
            if many > 2.0**_MOST_ROUNDS:
                return inf
        while many / few > 1.01:
            middle = sqrt(few * many)
            few, many = (middle, many) if seen(self.sample * middle, level) > resolution else (few, middle)
        return many


def two_sided(events: int, sample: int, p: float) -> float:
    """Two-sided p-value of a number of events: twice the probability of as many or more, or as few or fewer.

    The smaller of the two counts, and the p-value is at most 1.

    Examples
    --------
    >>> two_sided(0, 10, 0.0), round(two_sided(0, 10, 0.5), 6)
    (1.0, 0.001953)
    """
    return min(1.0, 2.0 * min(float(_at_least(events, sample, p)), float(_at_most(events, sample, p))))


def _at_least(events: float, sample: float, p: float | np.ndarray) -> np.ndarray:
    from scipy.special import betainc

    return np.asarray(betainc(events, sample - events + 1.0, p)) if events > 0 else np.ones_like(p, dtype=float)


def _at_most(events: float, sample: float, p: float | np.ndarray) -> np.ndarray:
    from scipy.special import betaincc

    if events >= sample:
        return np.ones_like(p, dtype=float)
    return np.asarray(betaincc(events + 1.0, sample - events, p)) if events >= 0 else np.zeros_like(p, dtype=float)


def _between(low: float, high: float, sample: float, p: np.ndarray) -> np.ndarray:
    """Probability of a number of events between two numbers, these included."""
    return np.asarray(_at_most(high, sample, p) - _at_most(low - 1.0, sample, p))


def _accepted(p: float, sample: float, level: float) -> tuple[float, float]:
    """The fewest and the most events at which a probability is not rejected at a level."""
    fewest = _first(sample, lambda events: float(_at_most(events, sample, p)) > level / 2.0)
    most = _first(sample, lambda events: float(_at_least(events + 1.0, sample, p)) <= level / 2.0)
    return fewest, most


def _first(most: float, holds: Callable[[float], bool]) -> float:
    """The smallest whole number from which on a condition holds, or the most."""
    low, high = 0, int(most)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(float(middle)) else (middle + 1, high)
    return float(low)
