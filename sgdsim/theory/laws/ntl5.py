"""NTL-5: momentum. Exact in the stationary state.

The heavy ball, its moving average (EMA) and Nesterov's form make of a wall an ARMA process,

    x_t = phi_1*x_(t-1) + phi_2*x_(t-2) + theta_0*xi_t + theta_1*xi_(t-1),
    v = [(theta_0^2 + theta_1^2)*(1 - phi_2) + 2*theta_0*theta_1*phi_1] / [(1 + phi_2)*((1 - phi_2)^2 - phi_1^2)],

for the heavy ball ``v = eta*sigma^2*(1 + beta)/(a*(1 - beta)*(2*(1 + beta) - eta*a))``. To leading order its
temperature is ``eta*sigma^2/(2*(1 - beta))``; that of EMA does not depend on beta. The velocity of the heavy ball has
the variance ``2*sigma^2/((1 - beta)*(2*(1 + beta) - eta*a))``.

Re-derived.
"""

from __future__ import annotations

import numpy as np

from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Moment, NotApplicable, Prediction
from sgdsim.theory.law import Law, name_of
from sgdsim.theory.methods.gradient_flow import constant_rate
from sgdsim.theory.methods.walls import Wall, check_forgotten, stationary_rows, wall_losses, walls

ID = "NTL-5"
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
    """Stationary variance of a wall's coordinate for gradient noise of variance 1, with weight decay (NTL-6).

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
        if kept != 1.0:
            raise NotApplicable("holds without decoupled weight decay")
        r = 1.0 - rate * curvature
        return arma_variance((1.0 + beta) * r, -beta * r, rate * (1.0 + beta), -rate * beta)
    if optimizer.name not in ("sgd", "momentum", "ema"):
        raise NotApplicable(f"holds for sgd, momentum, ema and nesterov, the optimizer is {optimizer.name}")
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
    if not radius < 1:
        raise NotApplicable(f"{wall.parameter} is unstable: a step multiplies a displacement by {radius:.4g}")
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


def _records(run: Run) -> Recorder:
    return wall_losses(run, *_velocities(run))


def _at_point(run: Run) -> list[Prediction]:
    if run.optimizer.name not in MOMENTUM:
        raise NotApplicable(f"holds for {', '.join(MOMENTUM)}, the optimizer is {run.optimizer.name}")
    if run.optimizer.decay:
        raise NotApplicable("with weight decay it is NTL-6")
    rate, beta = constant_rate(run), run.optimizer.values["momentum"]
    rows: list[Prediction] = []
    for wall in walls(run):
        check_momentum_forgotten(wall, rate)
        variance = wall.noise_variance * momentum_variance(run.optimizer, rate, wall.curvature)
        conditions = f"{wall.parameter}: eta*a = {rate * wall.curvature:.4g}, beta = {beta:g}"
        warmer = 1.0 if run.optimizer.name == "ema" else 1.0 / (1.0 - beta)
        leading = ("leading order", rate * wall.noise_variance * warmer / 4.0)
        rows += stationary_rows(ID, wall, variance, wall.centre, conditions, leading)
        if _velocities(run):
            rows.append(_velocity(wall, rate, beta, conditions))
    return rows


def _velocity(wall: Wall, rate: float, beta: float, conditions: str) -> Prediction:
    variance = 2.0 * wall.noise_variance / ((1.0 - beta) * (2.0 * (1.0 + beta) - rate * wall.curvature))
    name = name_of(wall.run, _of_velocity(wall))
    return Prediction(ID, f"mean({name})", Moment("mean", name, wall.run.steps), variance, conditions=conditions)


LAW = Law(
    ID,
    "momentum, EMA, Nesterov: stationary variance, fast loss and velocity",
    "re-derived, sgdsim handbook NTL-5",
    _records,
    _at_point,
)
