"""Gradient flows of the loss and of the entropic loss, and the modified equation of the mean.

For steps of a small learning rate eta and a time T = eta*K:

- the flow of L has the mean of SGD to order 0;
- the flow of phi has the charges of symmetries, the mean over reshuffled epochs, and the path block by block, to order
  1, but not the plain mean of independently sampled SGD;
- that mean is ``E theta_K = theta_0(T) + eta*m(T) + O(eta^2)``, with theta_0 the flow of L and

      m' = -H m - H grad L/2 - grad^3 L : S/2,    S' = -H S - S H + c*Sigma,    m(0) = S(0) = 0,

  where ``Cov theta_K = eta*S + O(eta^2)`` and c is what a batch leaves of the noise of a sample.

The modified equation is re-derived, cf. the stochastic modified equations of arXiv:1511.06251 and arXiv:1811.01558.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.base import budget
from sgdsim.formulas import evaluation
from sgdsim.model.run import Run
from sgdsim.prediction import require
from sgdsim.theory.methods.entropic_loss import EntropicLoss
from sgdsim.theory.methods.linear_response import Population, batch_noise, start_of
from sgdsim.theory.methods.modes import constant_rate
from sgdsim.theory.methods.noise_free_path import constants_of

if TYPE_CHECKING:
    import sympy

_DIFFERENCE = 1e-2  # step of a difference of fourth order: errors of 1e-8 of a higher derivative, 1e-12 by rounding
_MOST_SLOPES = 5000  # most evaluations of the gradient along a flow
_TOLERANCES = {"rtol": 1e-11, "atol": 1e-13}
_PLACES = 8  # points of the flow at which its neighbourhood is looked at
_MOST_STEP = 0.5  # largest learning rate times curvature
_MOST_LEFT = 1.0  # largest exponent that steps of finite length add to all decays together
# Largest unevenness within the spread of a path; random potentials whose fits chi-square refused at 2e5 trajectories
# had 1.9 or more.
_MOST_UNEVEN = 1.5


def flow(run: Run, potential: str = "loss", times: Sequence[float] | None = None) -> np.ndarray:
    """Gradient flow from the mean start of a run, with weight decay and a constant learning-rate matrix.

    Parameters
    ----------
    run
        A run at constant learning rate.
    potential
        ``loss`` for the flow of L, ``entropic`` for that of phi.
    times
        Times at which the flow is wanted, in units of learning rate times steps; by default the end of the run alone.

    Returns
    -------
    ndarray
        (time, parameter).

    Raises
    ------
    NotApplicable
        For an optimizer without such a potential, a rate that changes, and a flow that diverges.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> run = Run(Loss("x**2/2", ("x",)), Optimizer(), Schedule("0.01"), {"x": 1.0}, 1000, 100)
    >>> flow(run).round(6), flow(run, "entropic").round(6)  # exp(-1), and exp(-1 - 0.01/2)
    (array([[0.367879]]), array([[0.366045]]))
    """
    if potential not in ("loss", "entropic"):
        raise ValueError(f"potential {potential!r}, expected loss or entropic")
    rate, entropic = constant_rate(run), EntropicLoss(run.loss, run.optimizer)
    unit = float(entropic.time_unit)
    matrix = np.array(entropic.metric.subs(constants_of(run.loss)), dtype=np.float64)
    used = rate if potential == "entropic" else 0.0

    def slope(_: float, theta: np.ndarray) -> np.ndarray:
        named = dict(zip(run.loss.parameters, map(float, theta), strict=True))
        return np.asarray(-unit * matrix @ entropic.gradient(named, used))

    wanted = [rate * run.steps] if times is None else list(times)
    return _integrated(slope, start_of(run), wanted)


@dataclass(frozen=True, eq=False)
class ModifiedMean:
    """Mean and covariance of SGD to first order beyond the flow.

    Attributes
    ----------
    flow
        theta_0(T), (parameter,).
    mean
        ``theta_0 + eta*m``, (parameter,).
    covariance
        ``eta*S``, (parameter, parameter).
    doubt
        The reason why higher powers of the rate are not small, so that their order cannot be tested; empty if they are.
    """

    flow: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    doubt: str = ""


def modified_mean(run: Run) -> ModifiedMean:
    """The mean of independently sampled SGD after all steps of a run, to order eta inclusive.

    Raises
    ------
    NotApplicable
        For an optimizer other than plain SGD, a rate that changes, and a start that is spread.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> run = Run(Loss("x**2/2", ("x",)), Optimizer(), Schedule("0.01"), {"x": 1.0}, 1000, 100)
    >>> modified_mean(run).mean.round(5)  # (1 - 0.01)^100
    array([0.36604])
    """
    optimizer, rate = run.optimizer, constant_rate(run)
    require(
        optimizer.name in ("sgd", "gradient_descent") and not (optimizer.preconditioner or optimizer.metric),
        "the modified equation of the mean is for plain sgd",
    )
    require(
        all(isinstance(start, float | int) for start in run.initial.values()),
        "the modified equation of the mean starts from one point",
    )
    require(optimizer.sampling != "epoch", "shuffled epochs follow the flow of the entropic loss instead")
    n, equation = len(run.loss.parameters), _Equation(run)
    state = np.concatenate([start_of(run), np.zeros(n + n * n)])
    times = rate * run.steps * np.arange(1, _PLACES + 1) / _PLACES
    path = _integrated(equation.slope, state, times.tolist())
    theta, m, s = np.split(path[-1], [n, 2 * n])
    covariance = rate * s.reshape(n, n)
    moved = np.abs(theta - start_of(run)) + np.sqrt(np.maximum(np.diag(covariance), 0.0))
    require(
        not (rate * np.abs(m) > moved).any(),
        "the correction is larger than what the parameters move: too long a time for this order",
    )
    return ModifiedMean(theta, theta + rate * m, covariance, equation.doubt(path, rate, times[-1]))


@dataclass(frozen=True, eq=False)
class _Equation:
    """The right side of the modified equation."""

    run: Run

    def slope(self, _: float, state: np.ndarray) -> np.ndarray:
        """The time derivative of theta_0, m and S, one after the other in one array."""
        n = len(self.run.loss.parameters)
        theta, m, s = state[:n], state[n : 2 * n], state[2 * n :].reshape(n, n)
        about = self._population
        gradient, hessian = about.gradient(theta), about.hessian(theta)
        bend = self._bend(theta, s)
        noise = batch_noise(self.run, about.noise(theta))
        return np.concatenate(
            [-gradient, -hessian @ (m + gradient / 2.0) - bend / 2.0, (-hessian @ s - s @ hessian + noise).ravel()]
        )

    def doubt(self, path: np.ndarray, rate: float, time: float) -> str:
        """The reason why the rate is too large for a power series in it; empty if it is not.

        A step of finite length decays by more than exp(-eta h), by a further factor exp(-eta^2 h^2/2). Within the
        spread of the trajectories, curvature and noise differ from those on the path. In the next order they add to a
        variance: the mean change of the noise, in units of the noise, and twice the mean change of the curvature times
        the time, as it adds up. With that counted once, a start on a saddle passed here and was rejected by a
        simulation: its variance was 0.28, and this order predicts 0.59.
        """
        n, population = len(self.run.loss.parameters), self._population
        curved, decayed, bent, noisier = 0.0, 0.0, np.zeros(2), 0.0
        for state in path:
            theta, spread = state[:n], rate * state[2 * n :].reshape(n, n)
            curvature = _size(population.hessian(theta))
            curved, decayed = max(curved, rate * curvature), decayed + rate * curvature**2 * time / len(path)
            even, odd = _unevenness(population.hessian, theta, spread)
            bent += np.array([even, odd]) * time / len(path)
            even, odd = _unevenness(population.noise, theta, spread) / (_size(population.noise(theta)) or 1.0)
            noisier = max(noisier, even + odd**2)
        for size, most, told in (
            (curved, _MOST_STEP, "rate times curvature"),
            (decayed, _MOST_LEFT, "rate times time times the square of the curvature"),
            (
                2.0 * bent[0] + bent[1] ** 2,
                _MOST_UNEVEN,
                "the change of the curvature within the spread, times the time,",
            ),
            (noisier, _MOST_UNEVEN, "the relative change of the noise within the spread"),
        ):
            if size > most:
                return f"powers of the rate do not fall off: {told} is {size:.2g}, expected at most {most:g}"
        return ""

    @cached_property
    def _population(self) -> Population:
        return Population(self.run.loss, self.run.optimizer.decay)

    def _bend(self, theta: np.ndarray, s: np.ndarray) -> np.ndarray:
        """The vector ``grad^3 L : S``, by differences of the gradient along the axes of S, exact for quartic losses."""
        spreads, axes = np.linalg.eigh(s)
        middle, bend = self._population.gradient(theta), np.zeros_like(theta)
        for spread, axis in zip(spreads, axes.T, strict=True):
            if abs(spread) > 1e-14 * np.abs(spreads).max():
                h = _DIFFERENCE * (1.0 + np.abs(theta).max()) * axis
                ends = [self._population.gradient(theta + k * h) for k in (-2, -1, 1, 2)]
                second = (16.0 * (ends[1] + ends[2]) - ends[0] - ends[3] - 30.0 * middle) / 12.0
                bend += spread * second / (h @ h)
        return bend


def _size(matrix: np.ndarray) -> float:
    return float(np.linalg.norm(matrix, 2))


def _unevenness(of: Callable[[np.ndarray], np.ndarray], theta: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """The even and the odd change of a matrix a standard deviation away from a place, added over all directions."""
    variances, axes = np.linalg.eigh(spread)
    middle, found = of(theta), np.zeros(2)
    for variance, axis in zip(variances.clip(0.0), axes.T, strict=True):
        above, below = of(theta + np.sqrt(variance) * axis), of(theta - np.sqrt(variance) * axis)
        found += _size((above + below) / 2.0 - middle), (_size(above - below) / 2.0) ** 2
    return np.array([found[0], np.sqrt(found[1])])


def along(run: Run, formula: sympy.Expr, theta: np.ndarray) -> float:
    """The value of an expression in the loss's symbols at parameters (parameter,).

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> run = Run(Loss("a*x**2/2", ("x",), {"a": 3.0}), Optimizer(), Schedule("0.01"), {"x": 1.0}, 1000, 100)
    >>> along(run, run.loss.expression, np.array([2.0]))
    6.0
    """
    named = dict(zip(run.loss.parameters, map(float, theta), strict=True))
    return float(evaluation.evaluate([formula], {**run.loss.constants, **named})[0])


def _integrated(
    slope: Callable[[float, np.ndarray], np.ndarray], start: np.ndarray, times: Sequence[float]
) -> np.ndarray:
    from scipy.integrate import solve_ivp

    require(np.isfinite(slope(0.0, start)).all(), "the gradient is not finite at the start")
    ends, places = np.unique(times, return_inverse=True)
    slope = _counted(slope, ends[-1])
    # A valley is stiff: steps of an explicit method would be as short as the time across it, however long the flow.
    found = solve_ivp(slope, (0.0, ends[-1]), start, method="LSODA", t_eval=ends, **_TOLERANCES)
    require(
        found.success and np.isfinite(found.y).all(),
        f"the flow cannot be followed to time {ends[-1]:.4g}: {found.message}",
    )
    return np.asarray(found.y.T[places])


def _counted(slope: Callable[[float, np.ndarray], np.ndarray], end: float) -> Callable[[float, np.ndarray], np.ndarray]:
    """A slope that refuses more than `_MOST_SLOPES` calls: a flow that chatters at a kink, or diverges, never ends."""
    calls = itertools.count()

    def counted(time: float, state: np.ndarray) -> np.ndarray:
        budget.check()
        require(
            next(calls) < _MOST_SLOPES,
            f"the flow cannot be followed to time {end:.4g}: it takes more than {_MOST_SLOPES} slopes",
        )
        return slope(time, state)

    return counted
