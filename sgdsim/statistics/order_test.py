"""Tests of predictions of finite order: the power k of the residual must vanish; and advice on undecided ones.

A formula valid up to and including eta^k leaves ``b eta^k + c eta^(k+1) + …`` with b = 0. Let the errors grow as eta^s.
With all learning rates f times as large, and T times the trajectories, the error of b is ``f^(s-k)/sqrt(T)`` times as
large, and an omitted term of the power q counts ``f^(2(q-s)) T`` times as much in chi-square. So a fit tells at which
learning rates, and with how many trajectories, the error of b is small enough while the omitted terms are still below
the errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, inf, log10

import numpy as np

from sgdsim.statistics.estimate import Estimate
from sgdsim.statistics.power_fit import PowerFit, fit_powers
from sgdsim.statistics.scores import detectable

ASK_FOR_A_TERM = 0.05
"""Level of chi-square below which a fit of powers gets one more power."""
FACTORS = tuple(2.0 ** (exponent / 2.0) for exponent in range(-16, 7))
"""Factors on the learning rates among which the best is chosen."""
MARGIN = 2.0
"""Factor on the number of trajectories that the error of b asks for: it is uncertain, now and in the next run."""

_CONVERGES = 0.5  # largest ratio of a term to the one before, at the largest rate, if learning rates are raised
_SMALLEST_RATIO = 0.05  # smallest ratio that is assumed, as a coefficient may be small by chance
_RESOLVED = 3.0  # size of a coefficient, in standard errors, from which on it is taken as measured


@dataclass(frozen=True)
class OrderTest:
    """A prediction of order k over learning rates.

    Attributes
    ----------
    power
        Power of the tested term: k, or less if the residual is of lower order than the prediction claims.
    fit
        The shortest series that chi-square accepts; if it accepts none, the shortest from the power k on.
    guard
        A fit with one term more, from which b is taken.
    accepted
        True if chi-square accepts the fit.
    """

    power: int
    fit: PowerFit
    guard: PowerFit
    accepted: bool


@dataclass(frozen=True)
class Series:
    """A quantity at several learning rates, measured and predicted.

    Parameters
    ----------
    rates
        The learning rates, at least four of them different.
    estimates
        The estimates, all with a standard error, from the same groups.
    predicted
        The predicted value at each rate.
    order
        Power of the learning rate to which the prediction is valid.
    """

    rates: np.ndarray
    estimates: Sequence[Estimate]
    predicted: np.ndarray
    order: int

    def fitted(self, power: int, terms: int, residual: np.ndarray | None = None) -> PowerFit:
        """A fit of some powers, from one on, to the residual, or to another one with the same errors."""
        offsets = self.predicted if residual is None else [one.value for one in self.estimates] - residual
        return fit_powers(self.rates, self.estimates, offsets, range(power, power + terms))

    @property
    def most_terms(self) -> int:
        """The largest number of terms of a fit: that of different learning rates."""
        return len(set(self.rates.tolist()))


def order_test(series: Series, alpha: float) -> OrderTest:
    """The test of whether a residual begins with a higher power than the prediction's order.

    If no fit from the power k on is accepted, lower powers are tried: a residual that they describe is of lower order
    than the prediction claims, and the test is then about that power. b is taken from a fit with one more term than
    chi-square accepts, as a series that is cut off biases b before chi-square notices: without the term a true
    prediction of order 1, eta/2 for eta/(2 - eta), was rejected in 25 to 80 % of trials, with it in 0.1 %.

    Parameters
    ----------
    series
        The tested series.
    alpha
        Level below which chi-square refuses a fit.

    Examples
    --------
    >>> rates = np.array([0.1, 0.2, 0.3, 0.4])
    >>> series = Series(rates, [Estimate(x / 2 + x**2, 1e-4, 1e6) for x in rates], rates / 2, 1)
    >>> test = order_test(series, 1e-3)
    >>> test.power, test.accepted, round(float(test.fit.coefficients[1]), 6)
    (1, True, 1.0)
    """
    power, terms, fit = _first_accepted(series, alpha)
    guard = series.fitted(power, min(terms + 1, series.most_terms))
    return OrderTest(power, fit, guard, fit.p >= alpha)


def _first_accepted(series: Series, alpha: float) -> tuple[int, int, PowerFit]:
    first = None
    for power in range(series.order, -1, -1):
        for terms, limit in ((2, ASK_FOR_A_TERM), (3, alpha)):
            fit = series.fitted(power, terms)
            if fit.p >= limit:
                return power, terms, fit
        first = first or (power, terms, fit)
    assert first is not None
    return first


@dataclass(frozen=True)
class Advice:
    """Learning rates and trajectories that would decide a test of order.

    Attributes
    ----------
    factor
        Factor on all learning rates; NaN if none would decide.
    trajectories
        Factor on the number of trajectories.
    """

    factor: float
    trajectories: float

    def __str__(self) -> str:
        if not np.isfinite(self.trajectories):
            return (
                f"no {FACTORS[0]:.1g} to {FACTORS[-1]:.1g} times these learning rates would decide: "
                "expected a coarser resolution, or more of them"
            )
        parts = [f"{self.factor:.2g} times these learning rates"] if self.factor != 1 else []
        parts += [f"{_plain(self.trajectories)} times the trajectories"] if self.trajectories > 1 else []
        return f"{' with '.join(parts)} would decide" if parts else "the same once more would decide"


def advise(series: Series, resolutions: np.ndarray, level: float) -> Advice:
    """The learning rates and trajectories that would decide a test of order, as factors on the present ones.

    Parameters
    ----------
    series
        The tested series.
    resolutions
        Smallest deviation worth seeing, at each rate.
    level
        Level of the test.

    Returns
    -------
    Advice
        The factors with the fewest trajectories; the present learning rates if others save little.

    Examples
    --------
    Learning rates at which powers converge too slowly for errors as small as these.

    >>> rates = np.array([0.4, 0.6, 0.8, 1.2, 1.6])
    >>> series = Series(rates, [Estimate(x / (2 - x), 1e-6, 1e6) for x in rates], rates / 2, 1)
    >>> str(advise(series, 0.01 * rates / 2, 1e-3))
    '0.044 times these learning rates would decide'
    """
    best = min(_choices(series, resolutions, level), key=lambda choice: choice[0], default=None)
    if best is None:
        return Advice(np.nan, inf)
    _, advice = best
    return advice


def _choices(series: Series, resolutions: np.ndarray, level: float) -> Iterator[tuple[float, Advice]]:
    """The cost of every choice that would decide, and the choice."""
    k, rates = series.order, series.rates
    worth = resolutions / rates**k
    errors = np.array([estimate.stderr for estimate in series.estimates])
    s, g = (np.polyfit(np.log(rates), np.log(values), 1)[0] for values in (errors, worth))
    sizes, ratio = _sizes(series)
    shapes = [(rates / rates.max()) ** (k + term) * size for term, size in enumerate(sizes)]
    for terms in (2, 3):
        guard_terms = min(terms + 1, series.most_terms)
        fit = series.fitted(k, terms)
        seen = fit.chi_square - fit.excess if fit.p < ASK_FOR_A_TERM else 0.0
        omitted = max(seen, series.fitted(k, terms, shapes[terms]).chi_square)
        guard = series.fitted(k, guard_terms, shapes[guard_terms])
        bias, error = abs(guard.coefficients[0]), guard.stderrs[0]
        wanted = detectable(error, guard.freedom, level) / worth.min()
        for factor in FACTORS:
            if factor > 1 and ratio * factor > _CONVERGES:
                continue
            trajectories = _rounded_up(max(1.0, MARGIN * (wanted * factor ** (s - k - g)) ** 2))
            hidden = omitted * factor ** (2 * (k + terms - s)) * trajectories <= 0.3
            straight = bias * factor**guard_terms <= 0.5 * error * factor ** (s - k) / np.sqrt(trajectories)
            if hidden and straight:
                # The growth of errors with the rate is known at the present rates only: rates near them are preferred.
                other = 0.0 if factor == 1 else 0.3 + 0.2 * abs(np.log(factor))
                yield np.log(trajectories) + other, Advice(float(f"{factor:.2g}"), trajectories)


def _sizes(series: Series) -> tuple[list[float], float]:
    """Terms of the residual at the largest rate, from the power k on, and the ratio in which they fall off.

    A coefficient is taken as measured if it is seen clearly. Otherwise it follows from the one before by the ratio in
    which the known ones fall off, but is no larger than its error allows.
    """
    k, largest = series.order, float(series.rates.max())
    terms = min(4, series.most_terms)
    fits = [series.fitted(k, count) for count in range(2, terms + 1)]
    accepted = next((index for index, fit in enumerate(fits) if fit.p >= ASK_FOR_A_TERM), len(fits) - 1)
    known = [_term(fits[max(accepted, term - 1)], term, largest ** (k + term)) for term in range(1, terms)]
    ratio = _ratio_to_predicted(series, known[0][0])
    sizes = [0.0]
    for term in range(1, 6):
        value, error = known[term - 1] if term < terms else (0.0, inf)
        if value > _RESOLVED * error or term == 1:
            size = value + error
            if term > 1:
                ratio = max(ratio, min(1.0, value / sizes[-1]))
        else:
            size = min(sizes[-1] * ratio, value + 2.0 * error)
        sizes.append(size)
    return sizes, ratio


def _term(fit: PowerFit, term: int, unit: float) -> tuple[float, float]:
    return abs(float(fit.coefficients[term])) * unit, float(fit.stderrs[term]) * unit


def _ratio_to_predicted(series: Series, next_term: float) -> float:
    """The ratio in which a series falls off at the largest rate, from the prediction and the next term."""
    sizes = np.abs(series.predicted)
    largest = sizes[np.argmax(series.rates)]
    if not np.all(sizes > 0):
        return _CONVERGES
    leading = round(float(np.polyfit(np.log(series.rates), np.log(sizes), 1)[0]))
    steps = max(1, series.order + 1 - leading)
    return float(np.clip((next_term / largest) ** (1.0 / steps), _SMALLEST_RATIO, 1.0))


def _rounded_up(number: float) -> float:
    """A number rounded up to two digits, at least 1."""
    if number <= 1:
        return 1.0
    unit = 10.0 ** (int(np.floor(log10(number))) - 1)
    return ceil(number / unit) * unit


def _plain(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"
