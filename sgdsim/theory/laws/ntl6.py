"""NTL-6: weight decay lambda. Exact in the stationary state.

It makes a wall stiffer and not hotter, ``a -> a + lambda`` in the dynamics, so that the fast loss is

    <U> = (a/(a + lambda)) * eta*sigma^2 / (2*(2 - eta*(a + lambda)))

about the bottom of the valley where that is at zero: directions with ``a < lambda`` are cold, and equipartition fails.
A bottom at x0 draws to ``<x> = a*x0/(a + lambda)``. With momentum, coupled decay is NTL-5 with ``a + lambda``;
decoupled decay, ``x' = (1 - eta*lambda)*x - eta*m'``, has ``phi_1 = 1 - eta*lambda + beta - eta*a``,
``phi_2 = -beta*(1 - eta*lambda)``.

Re-derived.
"""

from __future__ import annotations

from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable, Prediction
from sgdsim.theory.law import Law
from sgdsim.theory.laws.ntl5 import check_momentum_forgotten, momentum_variance
from sgdsim.theory.methods.gradient_flow import constant_rate
from sgdsim.theory.methods.walls import Wall, stationary_rows, wall_losses, walls

ID = "NTL-6"


def _at_point(run: Run) -> list[Prediction]:
    if not run.optimizer.decay:
        raise NotApplicable("there is no weight decay")
    rate = constant_rate(run)
    rows: list[Prediction] = []
    for wall in walls(run):
        unit = momentum_variance(run.optimizer, rate, wall.curvature)
        check_momentum_forgotten(wall, rate)
        undecayed = _without_decay(wall, rate)
        conditions = f"{wall.parameter}: eta*a = {rate * wall.curvature:.4g}, lambda = {run.optimizer.decay:g}"
        rows += stationary_rows(ID, wall, wall.noise_variance * unit, _mean(wall), conditions, undecayed)
    return rows


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


LAW = Law(
    ID,
    "weight decay, coupled and decoupled: mean, variance and fast loss",
    "re-derived, sgdsim handbook NTL-6",
    wall_losses,
    _at_point,
)
