"""The point of an orbit at which gradients balance, and how fast a charge comes to rest there.

Along the orbit ``theta(c) = exp(c A) theta`` of a minimum, for a symmetric generator A, the covariance of the batch's
gradient noise is ``C(c) = exp(-c A) C exp(-c A)``, and with weight decay lambda the mean change of the charge
``Q = theta^T A theta/2`` in a step is ``(eta^2/2) f(c)``,

    f = tr A C - k Q,    k = (2/eta^2)*(1 - (1 - eta*lambda)^2),
    f' = -2 tr A C A - k |A theta|^2 < 0,

so there is one balanced point at most. Near it the charge relaxes by ``-(eta^2/2) f'/Q'`` a step, with
``Q' = |A theta|^2``. To leading order in eta. With a constant learning-rate matrix P that commutes with A all of this
is said of ``P^(-1/2) theta``, whose gradient is ``P^(1/2) g``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sgdsim.model.run import Run
from sgdsim.prediction import require
from sgdsim.theory.methods.charge_balance import Balance
from sgdsim.theory.methods.linear_response import Population, batch_noise, minimum, start_of
from sgdsim.theory.methods.modes import constant_rate

_FARTHEST = 40.0  # largest exponent c*A along the orbit: exp(40) is beyond all parameters


@dataclass(frozen=True)
class BalancedPoint:
    """The point of an orbit at which the charge of a symmetry comes to rest.

    Attributes
    ----------
    charge
        The charge there.
    size
        ``|A theta|^2`` there, the scale on which a charge is large or small.
    relaxation
        Number of steps in which the charge forgets its start.
    """

    charge: float
    size: float
    relaxation: float


def balanced_point(run: Run, balance: Balance) -> BalancedPoint:
    """The balanced point on the orbit of the minimum below the start.

    Raises
    ------
    NotApplicable
        If there is none: the loss has no noise at the minimum, or the charge only grows.

    Examples
    --------
    >>> from sgdsim import Loss, Noise, Optimizer, Schedule
    >>> from sgdsim.model.symmetry import Symmetry
    >>> from sgdsim.theory.methods.charge_balance import balances
    >>> noise, symmetries = {"z": Noise.parse("normal")}, (Symmetry.parse("rescale:u:1,w:-1"),)
    >>> loss = Loss("(u*w - 1 - z)**2/2", ("u", "w"), {}, noise, symmetries=symmetries)
    >>> run = Run(loss, Optimizer(), Schedule("0.1"), {"u": 2.0, "w": 0.5}, 1000, 10)
    >>> found = balanced_point(run, balances(run)[0])
    >>> round(found.charge, 6), round(found.relaxation, 6)  # 1/(eta^2 sigma^2)
    (0.0, 100.0)
    """
    from scipy.optimize import brentq

    rate, powers, theta, noise = _along_orbit(run, balance)
    lost = 1.0 - balance.kept(rate)

    def change(c: float) -> float:
        """Mean change of Q in a step at the point c of the orbit."""
        push = powers * noise * np.exp(-2.0 * c * powers)
        return float(rate**2 / 2.0 * push.sum() - lost / 2.0 * (powers * theta * np.exp(2.0 * c * powers)).sum())

    end = _FARTHEST / np.abs(powers).max()
    require(
        change(-end) > 0 > change(end),
        "no point of the orbit is balanced: the noise at the minimum, or weight decay, pushes the charge one way alone",
    )
    c = float(brentq(change, -end, end, xtol=1e-14))
    there, noise_there = theta * np.exp(2.0 * c * powers), noise * np.exp(-2.0 * c * powers)
    size = float((powers**2 * there).sum())
    return BalancedPoint(
        float((powers * there).sum() / 2.0),
        size,
        size / float((powers**2 * (rate**2 * noise_there + lost * there)).sum()),
    )


def _along_orbit(run: Run, balance: Balance) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """The learning rate; and in the eigenbasis of A, its eigenvalues, squared parameters and gradient variances."""
    rate = constant_rate(run)
    powers, axes = np.linalg.eigh(generator_of(run, balance))
    root = np.sqrt(_rates(run))
    theta = minimum(run.loss, start_of(run))
    noise = batch_noise(run, Population(run.loss).noise(theta))
    return rate, powers, (axes.T @ (theta / root)) ** 2, np.diag(axes.T @ (root[:, None] * noise * root) @ axes)


def generator_of(run: Run, balance: Balance) -> np.ndarray:
    """The symmetric matrix A of a symmetry.

    Raises
    ------
    NotApplicable
        For a generator that is no symmetric matrix, or does not commute with the matrix of learning rates.
    """
    require(balance.is_linear, f"the generator of {balance.symmetry.name} is no matrix")
    matrix = np.array(balance.jacobian.subs(_constants(run)).tolist(), dtype=float)
    require(np.array_equal(matrix, matrix.T), f"the generator of {balance.symmetry.name} is no symmetric matrix")
    rates = _rates(run)
    require(
        np.array_equal(matrix * rates, matrix * rates[:, None]),
        f"the matrix of learning rates does not commute with the generator of {balance.symmetry.name}",
    )
    return matrix


def _rates(run: Run) -> np.ndarray:
    """The diagonal of the learning-rate matrix."""
    matrix = run.optimizer.matrix(run.loss)
    if matrix is None:
        return np.ones(len(run.loss.parameters))
    require(
        matrix.is_diagonal() and not matrix.free_symbols & set(run.loss.theta),
        "the matrix of learning rates is not diagonal and constant",
    )
    return np.array(matrix.subs(_constants(run)).diagonal().tolist()[0], dtype=float)


def _constants(run: Run) -> dict[object, float]:
    return {run.loss.symbols[name]: value for name, value in run.loss.constants.items()}
