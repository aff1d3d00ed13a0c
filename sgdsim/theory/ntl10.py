"""NTL-10: RMSProp, whose mean square includes the present gradient, without epsilon. Exact as alpha -> 1.

The denominator is then a constant, found self-consistently: with ``k = eta*a/sigma``,

    h = (k/4)*(sqrt(k^2 + 16) - k),    eta_eff = h/a,    v = eta_eff*sigma^2/(a*(2 - h)).

``h < 2`` for every eta: it never diverges. To leading order ``<U> = eta*sigma/4``: equipartition at the temperature
``eta*sigma/2``, linear in sigma. What is left out is of order 1 - alpha, ``-(3/8)*(1 - alpha)`` of v at small k.

Re-derived.
"""

from __future__ import annotations

import numpy as np

from sgdsim.run import Run
from sgdsim.theory.flows import constant_rate
from sgdsim.theory.law import Law
from sgdsim.theory.prediction import NotApplicable, Prediction
from sgdsim.theory.walls import Wall, check_forgotten, stationary_rows, wall_losses, walls

ID = "NTL-10"
MOST_FORGETFUL = 2.5e-3
"""1 - alpha, in parts of which the variance is off."""

_SMALL = 1e-5  # epsilon in units of sigma


def rmsprop_variance(rate: float, curvature: float, sigma: float) -> float:
    """Stationary variance with a constant denominator.

    Examples
    --------
    >>> round(rmsprop_variance(0.05, 1.0, 1.0), 6), round(rmsprop_variance(5.0, 1.0, 1.0), 4)
    (0.025314, 7.127)
    """
    k = rate * curvature / sigma
    h = k / 4.0 * (np.sqrt(k * k + 16.0) - k)
    return float(h * sigma**2 / (curvature**2 * (2.0 - h)))


def adaptive_walls(run: Run, name: str, averaging: str) -> list[Wall]:
    """The walls of a run with an adaptive optimizer that averages long, and has forgotten its start.

    Raises
    ------
    NotApplicable
        For another optimizer, weight decay, an epsilon that counts, averages that are too short, and a short run.
    """
    optimizer = run.optimizer
    if optimizer.name != name or optimizer.decay:
        raise NotApplicable(f"holds for {name} without weight decay, the optimizer is {optimizer.name}")
    found = walls(run)
    kept = optimizer.values[averaging]
    if 1.0 - kept > MOST_FORGETFUL:
        raise NotApplicable(f"holds as {averaging} goes to 1, and {1.0 - kept:.2g} is farther than {MOST_FORGETFUL:g}")
    for wall in found:
        if optimizer.values["epsilon"] > _SMALL * wall.sigma:
            raise NotApplicable(f"holds without epsilon, which is {optimizer.values['epsilon']:g}")
        check_forgotten(wall, kept**run.steps)
    return found


def adaptive_rows(id: str, wall: Wall, variance: float, kept: float) -> list[Prediction]:
    """Rows of a wall, with equipartition at ``eta*sigma/2`` as the rival."""
    rate = constant_rate(wall.run)
    strength = f"eta*a/sigma = {rate * wall.curvature / wall.sigma:.4g}"
    conditions = f"{wall.parameter}: {strength}, neglects parts of order {1.0 - kept:.1g}"
    leading = ("leading order", rate * wall.sigma / 4.0)
    return stationary_rows(id, wall, variance, wall.centre, conditions, leading)


def _at_point(run: Run) -> list[Prediction]:
    found = adaptive_walls(run, "rmsprop", "alpha")
    rate, kept = constant_rate(run), run.optimizer.values["alpha"]
    return [
        row
        for wall in found
        for row in adaptive_rows(ID, wall, rmsprop_variance(rate, wall.curvature, wall.sigma), kept)
    ]


LAW = Law(
    ID,
    "RMSProp: variance and fast loss with a constant denominator",
    "re-derived, sgdsim handbook NTL-10",
    wall_losses,
    _at_point,
)
