"""Fits of powers: calibrated, exact where nothing is random, and in trouble where a power is missing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sgdsim.statistics.estimate import Estimate
from sgdsim.statistics.power_fit import fit_powers


def _estimates(data: np.ndarray) -> list[Estimate]:
    """Means of points with their groups, from (point, group) values of equal groups."""
    groups = data.shape[1]
    shares = np.full(groups, 1.0 / groups)
    left_out = (data.sum(1, keepdims=True) - data) / (groups - 1)
    return [Estimate.jackknife(row.mean(), out, shares) for row, out in zip(data, left_out, strict=True)]


X = np.array([0.05, 0.1, 0.2, 0.4, 0.8])


@pytest.mark.parametrize("common", [pytest.param(False, marks=pytest.mark.validate), True])
def test_fits_of_powers_are_calibrated(common: bool) -> None:
    """b over its error by Student's t, and chi-square by Hotelling's F: uniform p over 1000 repetitions.

    Rejections at 0.05, 0.01 and 0.001 within binomial bands that a correct fit leaves with probability 1e-4
    each.
    """
    rng = np.random.default_rng(10)
    truth = 3.0 * X - 2.0 * X**2
    p_b, p_chi = [], []
    for _ in range(1000):
        noise = rng.normal(size=(5, 64))
        if common:
            noise = 0.2 * noise + noise[:1]
        fit = fit_powers(X, _estimates(truth[:, None] + X[:, None] * noise), np.zeros(5), (1, 2))
        z = (fit.coefficients[0] - 3.0) / fit.stderrs[0]
        p_b.append(2 * stats.t(fit.freedom).sf(abs(z)))
        p_chi.append(fit.p)
    assert fit.excess == 3
    for p in (p_b, p_chi):
        for level in (0.05, 0.01, 0.001):
            low, high = stats.binom(1000, level).ppf([1e-4, 1 - 1e-4])
            assert low <= np.count_nonzero(np.array(p) < level) <= high


def test_a_fit_finds_exact_coefficients_and_misses_a_power_it_was_not_given() -> None:
    noise = np.random.default_rng(11).normal(size=(5, 64)) * 1e-6
    data = (2.0 + 0.5 * X**2 - 0.25 * X**3)[:, None] + noise
    fit = fit_powers(X, _estimates(data), np.full(5, 2.0), (2, 3))
    assert fit.coefficients == pytest.approx([0.5, -0.25], rel=1e-4)
    assert fit.p > 1e-3
    assert fit_powers(X, _estimates(data), np.full(5, 2.0), (1, 2)).p < 1e-6


def test_a_fit_without_groups_takes_the_points_for_independent() -> None:
    estimates = [Estimate(3.0 * x, 0.1, 1e6) for x in X]
    fit = fit_powers(X, estimates, np.zeros(5), (1,))
    assert fit.coefficients[0] == pytest.approx(3.0)
    assert fit.stderrs[0] == pytest.approx(0.1 / np.sqrt(np.sum(X**2)))
    assert fit.p == pytest.approx(1.0)
