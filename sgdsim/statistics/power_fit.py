"""Weighted least-squares fits of powers to estimates that may share their noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sgdsim.statistics.estimate import Estimate


@dataclass(frozen=True, eq=False)
class PowerFit:
    """A weighted least-squares fit of powers.

    Attributes
    ----------
    coefficients, stderrs
        Coefficient and standard error of each power.
    chi_square, excess
        Chi-square of the residuals, and the number of them that are free.
    p
        Probability of residuals as large as these if the powers suffice.
    freedom
        Degrees of freedom of the standard errors.
    """

    coefficients: np.ndarray
    stderrs: np.ndarray
    chi_square: float
    excess: int
    p: float
    freedom: float


def fit_powers(x: np.ndarray, estimates: Sequence[Estimate], offsets: np.ndarray, powers: Sequence[int]) -> PowerFit:
    """Fit ``estimate - offset = sum_k b_k x^k``.

    The errors, and those of the residuals, come from the covariance of the estimates over groups, so that the
    points may share their noise; the residuals are tested by Hotelling's T^2, which is chi-square for many
    groups.

    Parameters
    ----------
    x
        Abscissae, positive.
    estimates
        The estimates: all with groups, or all without (then independent).
    offsets
        Numbers that are subtracted from the estimates.
    powers
        The powers, no more than there are points; if they are as many, the fit cannot be tested.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 3.0, 4.0])
    >>> estimates = [Estimate(2.0 * value**2 + 1.0, 0.1, np.inf) for value in x]
    >>> fit_powers(x, estimates, np.ones(4), [1, 2]).coefficients.round(9) + 0.0
    array([0., 2.])
    """
    from scipy.special import chdtrc, fdtrc

    y = np.array([estimate.value for estimate in estimates]) - offsets
    stderrs = np.array([estimate.stderr for estimate in estimates])
    scale = float(np.max(x))
    design = (x[:, None] / scale) ** np.asarray(powers) / stderrs[:, None]
    parts = _standard_deviations(estimates, stderrs)
    freedom = min(estimate.freedom for estimate in estimates)
    inverse = np.linalg.pinv(design)
    coefficients = inverse @ (y / stderrs)
    errors = np.sqrt(np.sum((inverse @ parts) ** 2, axis=1))
    free = np.linalg.svd(design)[0][:, len(powers) :].T  # combinations of the data that no coefficient changes
    residuals, spread = free @ (y / stderrs), free @ parts
    excess = len(free)
    units = scale ** -np.asarray(powers, dtype=float)
    if not excess:
        return PowerFit(coefficients * units, errors * units, 0.0, 0, np.nan, freedom)
    # If points share their noise, some combinations may have none: a millionth of an error stands for rounding.
    covariance = spread @ spread.T + 1e-12 * np.eye(excess)
    chi_square = float(residuals @ np.linalg.solve(covariance, residuals))
    if estimates[0].groups:
        rest = freedom - excess + 1
        p = float(fdtrc(excess, rest, chi_square * rest / (freedom * excess)))
    else:
        p = float(chdtrc(excess, chi_square))
    return PowerFit(coefficients * units, errors * units, chi_square, excess, p, freedom)


def _standard_deviations(estimates: Sequence[Estimate], stderrs: np.ndarray) -> np.ndarray:
    """Rows whose products are the covariances of the estimates, each in units of its standard error."""
    if not estimates[0].groups:
        return np.eye(len(estimates))
    parts = np.stack([estimate.deviations for estimate in estimates])
    return np.asarray(parts / stderrs[:, None])
