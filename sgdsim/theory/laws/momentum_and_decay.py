"""Momentum and weight decay: the stationary law of a valley with them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Moment, Prediction, require
from sgdsim.theory.law import law, row
from sgdsim.theory.methods.mode_rows import check_forgotten, mode_losses, stationary_rows
from sgdsim.theory.methods.modes import Mode, constant_rate, steady_modes
from sgdsim.theory.recorded_names import label_of, name_of

MOMENTUM = ("momentum", "ema", "nesterov")


def arma_variance(phi_1: float, phi_2: float, theta_0: float, theta_1: float = 0.0) -> float:
    """Stationary variance of an ARMA(2, 1) process driven by noise of variance 1.

    Examples
    --------
    >>> arma_variance(0.5, 0.0, 1.0)  # 1/(1 - 0.5^2)
    1.3333333333333333
    """
    kicks = (theta_0**2 + theta_1**2) * (1.0 - phi_2) + 2.0 * theta_0 * theta_1 * phi_1
    return kicks / ((1.0 + phi_2) * ((1.0 - phi_2) ** 2 - phi_1**2))


def momentum_variance(optimizer: Optimizer, rate: float, curvature: float) -> float:
    """Stationary variance of a mode's coordinate for gradient noise of variance 1, with weight decay.

    Raises
    ------
    NotApplicable
        For another optimizer, and Nesterov's with decoupled decay.

    Examples
    --------
    >>> round(momentum_variance(Optimizer("momentum", {"momentum": 0.9}), 0.1, 1.0), 5)
    0.51351
    >>> round(momentum_variance(Optimizer("nesterov", {"momentum": 0.9}), 0.1, 1.0), 5)
    0.32177
    """
    values = optimizer.values
    beta, kept = values.get("momentum", 0.0), 1.0 - rate * values["decoupled_weight_decay"]
    curvature = curvature + values["weight_decay"]
    if optimizer.name == "nesterov":
        require(kept == 1.0, "holds without decoupled weight decay")
        r = 1.0 - rate * curvature
        return arma_variance((1.0 + beta) * r, -beta * r, rate * (1.0 + beta), -rate * beta)
    require(
        optimizer.name in ("sgd", "momentum", "ema"),
        f"holds for sgd, momentum, ema and nesterov, the optimizer is {optimizer.name}",
    )
    scale = rate * (1.0 - beta) if optimizer.name == "ema" else rate
    return arma_variance(kept + beta - scale * curvature, -beta * kept, scale)


def check_momentum_forgotten(mode: Mode, rate: float) -> None:
    """Refuse a mode that is unstable, or remembers its start.

    Raises
    ------
    NotApplicable
        For such a mode.
    """
    matrix = mode.run.optimizer.step_matrix(mode.curvature, rate)
    assert matrix is not None
    radius = float(np.abs(np.linalg.eigvals(matrix)).max())
    require(radius < 1, f"{mode.parameter} is unstable: a step multiplies a displacement by {radius:.4g}")
    check_forgotten(mode, radius**mode.run.steps)


def _velocities(run: Run) -> tuple[Observable, ...]:
    """Observables of the squared velocity of the heavy ball in the last step; none for other optimizers."""
    if run.optimizer.name != "momentum" or "learning_rate" in run.loss.namespace_names or run.optimizer.decay:
        return ()
    return tuple(map(_of_velocity, steady_modes(run)))


def _of_velocity(mode: Mode) -> Observable:
    name, last = mode.parameter, (mode.run.steps - 1, mode.run.steps)
    return Observable(f"velocity_squared_{label_of(name)}", f"(({name} - next({name}))/learning_rate)**2", last)


def _momentum_records(run: Run) -> Recorder:
    return mode_losses(run, *_velocities(run))


@law(
    "momentum",
    "momentum, EMA, Nesterov: stationary variance, fast loss and velocity",
    source="re-derived",
    holds="a valley at a constant rate, heavy ball, Nesterov or averaged momentum, the start forgotten",
    records=_momentum_records,
)
def momentum(run: Run) -> Iterator[Prediction]:
    """Momentum. Exact in the stationary state.

    Under the heavy ball, its moving average (EMA) and Nesterov's form a mode is an ARMA process,

        x_t = phi_1*x_(t-1) + phi_2*x_(t-2) + theta_0*xi_t + theta_1*xi_(t-1),
        v = [(theta_0^2 + theta_1^2)*(1 - phi_2) + 2*theta_0*theta_1*phi_1] / [(1 + phi_2)*((1 - phi_2)^2 - phi_1^2)],

    for the heavy ball ``v = eta*sigma^2*(1 + beta)/(a*(1 - beta)*(2*(1 + beta) - eta*a))``. To leading order its
    temperature is ``eta*sigma^2/(2*(1 - beta))``; that of EMA does not depend on beta. The velocity of the heavy ball
    has the variance ``2*sigma^2/((1 - beta)*(2*(1 + beta) - eta*a))``.

    Re-derived.
    """
    require(run.optimizer.name in MOMENTUM, f"holds for {', '.join(MOMENTUM)}, the optimizer is {run.optimizer.name}")
    require(not run.optimizer.decay, "of weight decay the law weight-decay speaks")
    rate, beta = constant_rate(run), run.optimizer.values["momentum"]
    for mode in steady_modes(run):
        check_momentum_forgotten(mode, rate)
        variance = mode.noise_variance * momentum_variance(run.optimizer, rate, mode.curvature)
        conditions = f"{mode.parameter}: eta*a = {rate * mode.curvature:.4g}, beta = {beta:g}"
        warmer = 1.0 if run.optimizer.name == "ema" else 1.0 / (1.0 - beta)
        leading = ("leading order", rate * mode.noise_variance * warmer / 4.0)
        yield from stationary_rows(mode, variance, mode.centre, conditions, leading)
        if _velocities(run):
            yield _velocity(mode, rate, beta, conditions)


def _velocity(mode: Mode, rate: float, beta: float, conditions: str) -> Prediction:
    variance = 2.0 * mode.noise_variance / ((1.0 - beta) * (2.0 * (1.0 + beta) - rate * mode.curvature))
    name = name_of(mode.run, _of_velocity(mode))
    return row(Moment("mean", name, mode.run.steps), variance, conditions=conditions)


@law(
    "weight-decay",
    "weight decay, coupled and decoupled: mean, variance and fast loss",
    source="re-derived",
    holds="a valley at a constant rate with weight decay, the start forgotten",
    records=mode_losses,
)
def weight_decay(run: Run) -> Iterator[Prediction]:
    """Weight decay lambda. Exact in the stationary state.

    Decay makes a mode stiffer, but not hotter: ``a -> a + lambda`` in the dynamics, so that the fast loss is

        <U> = (a/(a + lambda)) * eta*sigma^2 / (2*(2 - eta*(a + lambda)))

    for a valley with its bottom at zero: directions with ``a < lambda`` are cold, and equipartition fails. With the
    bottom at x0 the mean is ``<x> = a*x0/(a + lambda)``. With momentum, coupled decay is momentum with ``a +
    lambda``; decoupled decay, ``x' = (1 - eta*lambda)*x - eta*m'``, has ``phi_1 = 1 - eta*lambda + beta - eta*a``,
    ``phi_2 = -beta*(1 - eta*lambda)``.

    Re-derived.
    """
    require(run.optimizer.decay, "there is no weight decay")
    rate = constant_rate(run)
    for mode in steady_modes(run):
        unit = momentum_variance(run.optimizer, rate, mode.curvature)
        check_momentum_forgotten(mode, rate)
        undecayed = _without_decay(mode, rate)
        conditions = f"{mode.parameter}: eta*a = {rate * mode.curvature:.4g}, lambda = {run.optimizer.decay:g}"
        yield from stationary_rows(mode, mode.noise_variance * unit, _mean(mode), conditions, undecayed)


def _without_decay(mode: Mode, rate: float) -> tuple[str, float]:
    """Name and value of the rival: the fast loss without decay, to leading order."""
    values = mode.run.optimizer.values
    warmer = 1.0 if mode.run.optimizer.name == "ema" else 1.0 / (1.0 - values.get("momentum", 0.0))
    return "equipartition", rate * mode.noise_variance * warmer / 4.0


def _mean(mode: Mode) -> float:
    """The mean at rest, where decay and mean gradient balance.

    The heavy ball adds up gradients, but not decoupled decay.
    """
    values = mode.run.optimizer.values
    share = 1.0 if mode.run.optimizer.name == "ema" else 1.0 - values.get("momentum", 0.0)
    stiffness = mode.curvature + values["weight_decay"] + values["decoupled_weight_decay"] * share
    return mode.curvature * mode.centre / stiffness
