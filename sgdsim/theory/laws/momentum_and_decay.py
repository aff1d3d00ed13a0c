"""Momentum and weight decay: what a valley's stationary law becomes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Moment, Prediction, require
from sgdsim.theory.law import law, row
from sgdsim.theory.methods.fast_directions import constant_rate
from sgdsim.theory.methods.walls import Wall, check_forgotten, stationary_rows, wall_losses, walls
from sgdsim.theory.recorded_names import name_of

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
    """Stationary variance of a wall's coordinate for gradient noise of variance 1, with weight decay.

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


def check_momentum_forgotten(wall: Wall, rate: float) -> None:
    """Refuse a wall that is unstable, or remembers its start.

    Raises
    ------
    NotApplicable
        For both.
    """
    matrix = wall.run.optimizer.step_matrix(wall.curvature, rate)
    assert matrix is not None
    radius = float(np.abs(np.linalg.eigvals(matrix)).max())
    require(radius < 1, f"{wall.parameter} is unstable: a step multiplies a displacement by {radius:.4g}")
    check_forgotten(wall, radius**wall.run.steps)


def _velocities(run: Run) -> tuple[Observable, ...]:
    """The square of the heavy ball's velocity in the last step."""
    if run.optimizer.name != "momentum" or "learning_rate" in run.loss.namespace_names or run.optimizer.decay:
        return ()
    return tuple(map(_of_velocity, walls(run)))


def _of_velocity(wall: Wall) -> Observable:
    name, last = wall.parameter, (wall.run.steps - 1, wall.run.steps)
    label = name.replace("[", "_").replace("]", "")
    return Observable(f"velocity_squared_{label}", f"(({name} - next({name}))/learning_rate)**2", last)


def _momentum_records(run: Run) -> Recorder:
    return wall_losses(run, *_velocities(run))


@law(
    "momentum",
    "momentum, EMA, Nesterov: stationary variance, fast loss and velocity",
    source="re-derived",
    holds="a valley at a constant rate, heavy ball, Nesterov or averaged momentum, the start forgotten",
    records=_momentum_records,
)
def momentum(run: Run) -> Iterator[Prediction]:
    """Momentum. Exact in the stationary state.

    The heavy ball, its moving average (EMA) and Nesterov's form make of a wall an ARMA process,

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
    for wall in walls(run):
        check_momentum_forgotten(wall, rate)
        variance = wall.noise_variance * momentum_variance(run.optimizer, rate, wall.curvature)
        conditions = f"{wall.parameter}: eta*a = {rate * wall.curvature:.4g}, beta = {beta:g}"
        warmer = 1.0 if run.optimizer.name == "ema" else 1.0 / (1.0 - beta)
        leading = ("leading order", rate * wall.noise_variance * warmer / 4.0)
        yield from stationary_rows(wall, variance, wall.centre, conditions, leading)
        if _velocities(run):
            yield _velocity(wall, rate, beta, conditions)


def _velocity(wall: Wall, rate: float, beta: float, conditions: str) -> Prediction:
    variance = 2.0 * wall.noise_variance / ((1.0 - beta) * (2.0 * (1.0 + beta) - rate * wall.curvature))
    name = name_of(wall.run, _of_velocity(wall))
    return row(Moment("mean", name, wall.run.steps), variance, conditions=conditions)


@law(
    "weight-decay",
    "weight decay, coupled and decoupled: mean, variance and fast loss",
    source="re-derived",
    holds="a valley at a constant rate with weight decay, the start forgotten",
    records=wall_losses,
)
def weight_decay(run: Run) -> Iterator[Prediction]:
    """Weight decay lambda. Exact in the stationary state.

    It makes a wall stiffer and not hotter, ``a -> a + lambda`` in the dynamics, so that the fast loss is

        <U> = (a/(a + lambda)) * eta*sigma^2 / (2*(2 - eta*(a + lambda)))

    about the bottom of the valley where that is at zero: directions with ``a < lambda`` are cold, and equipartition
    fails. A bottom at x0 draws to ``<x> = a*x0/(a + lambda)``. With momentum, coupled decay is momentum with ``a +
    lambda``; decoupled decay, ``x' = (1 - eta*lambda)*x - eta*m'``, has ``phi_1 = 1 - eta*lambda + beta - eta*a``,
    ``phi_2 = -beta*(1 - eta*lambda)``.

    Re-derived.
    """
    require(run.optimizer.decay, "there is no weight decay")
    rate = constant_rate(run)
    for wall in walls(run):
        unit = momentum_variance(run.optimizer, rate, wall.curvature)
        check_momentum_forgotten(wall, rate)
        undecayed = _without_decay(wall, rate)
        conditions = f"{wall.parameter}: eta*a = {rate * wall.curvature:.4g}, lambda = {run.optimizer.decay:g}"
        yield from stationary_rows(wall, wall.noise_variance * unit, _mean(wall), conditions, undecayed)


def _without_decay(wall: Wall, rate: float) -> tuple[str, float]:
    """The fast loss as it would be without decay, to leading order."""
    values = wall.run.optimizer.values
    warmer = 1.0 if wall.run.optimizer.name == "ema" else 1.0 / (1.0 - values.get("momentum", 0.0))
    return "equipartition", rate * wall.noise_variance * warmer / 4.0


def _mean(wall: Wall) -> float:
    """Where decay and mean gradient balance; the heavy ball adds up gradients, but not decoupled decay."""
    values = wall.run.optimizer.values
    share = 1.0 if wall.run.optimizer.name == "ema" else 1.0 - values.get("momentum", 0.0)
    stiffness = wall.curvature + values["weight_decay"] + values["decoupled_weight_decay"] * share
    return wall.curvature * wall.centre / stiffness
