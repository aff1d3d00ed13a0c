"""Walls: fast directions of constant curvature under any optimizer, for laws of the stationary state.

A *wall* is a `sgdsim.theory.methods.fast_directions.Direction` whose curvature is a number: the gradient of a sample is
``a*(x - centre) + noise``. What an optimizer makes of it is each law's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Moment, Prediction, Rival, require
from sgdsim.theory.law import row
from sgdsim.theory.methods.fast_directions import Direction, directions
from sgdsim.theory.recorded_names import name_of

if TYPE_CHECKING:
    import sympy

FORGOTTEN = 1e-3
"""What may be left of a displacement at the start."""


@dataclass(frozen=True, eq=False)
class Wall:
    """A wall of one run, in numbers.

    Attributes
    ----------
    run, direction
        Whose wall it is.
    curvature, centre
        Numbers.
    noise_variance
        Of one step's gradient, sigma^2/B.
    """

    run: Run
    direction: Direction
    curvature: float
    centre: float
    noise_variance: float

    @property
    def parameter(self) -> str:
        """The coordinate."""
        return self.direction.parameter

    @property
    def sigma(self) -> float:
        """Standard deviation of one step's gradient."""
        return float(np.sqrt(self.noise_variance))

    @property
    def is_normal(self) -> bool:
        """Whether its noise is."""
        return all(self.run.loss.noise[name].family == "normal" for name in self.direction.couplings)

    @property
    def fast_loss(self) -> str:
        """The name under which ``a*(x - centre)^2/2`` is recorded."""
        return name_of(self.run, self.direction.fast_loss(self.run.loss))


def walls(run: Run, *, finite: bool = True) -> list[Wall]:
    """The walls of a run, in the order of its parameters.

    Parameters
    ----------
    run
        Any.
    finite
        Whether the noise must have a variance, and the mean 0.

    Raises
    ------
    NotApplicable
        For a loss without any, rows of data, a matrix of learning rates, and noise that is nothing or has no variance.

    Examples
    --------
    >>> from sgdsim.model.losses.river_valley import river_valley
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = river_valley(a=["2", "a0"], c="0", constants={"a0": 0.5, "sigma": 2.0})
    >>> run = Run(loss, Optimizer("signsgd", batch_size=4), Schedule("0.1"), dict.fromkeys(loss.parameters, 0.0), 9, 9)
    >>> [(wall.parameter, wall.curvature, wall.noise_variance) for wall in walls(run)]
    [('x[0]', 2.0, 1.0), ('x[1]', 0.5, 1.0)]
    """
    loss, optimizer = run.loss, run.optimizer
    require(
        not (optimizer.preconditioner or optimizer.metric),
        "holds for one learning rate, the optimizer has a matrix of them",
    )
    found = []
    for direction in directions(loss):
        if direction.curvature.free_symbols & set(loss.theta):
            continue
        factors = {name: number(run, factor) for name, factor in direction.couplings.items()}
        variance = sum(factor**2 * loss.noise[name].cumulant(2) for name, factor in factors.items())
        shift = sum(factor * loss.noise[name].cumulant(1) for name, factor in factors.items())
        curvature, centre = number(run, direction.curvature), number(run, direction.centre)
        require(
            variance > 0 and curvature > 0 and (np.isfinite(variance) or not finite),
            f"{direction.parameter} has curvature {curvature:.4g}, noise of variance {variance:.4g}",
        )
        require(not (finite and shift), f"the gradient noise of {direction.parameter} has the mean {shift:.4g}, not 0")
        found.append(Wall(run, direction, curvature, centre, variance / optimizer.batch_size))
    require(found, "no parameter has a gradient a*p + noise, with noise of its own and a constant")
    return found


def number(run: Run, expression: sympy.Expr) -> float:
    """The value of an expression of constants."""
    return float(expression.subs({run.loss.symbols[name]: value for name, value in run.loss.constants.items()}))


def wall_losses(run: Run, *others: Observable, snapshots: Iterable[int] = ()) -> Recorder:
    """The fast loss of every direction, and what else a law wants."""
    losses = tuple(one.fast_loss(run.loss) for one in directions(run.loss))
    return Recorder(observables=(*losses, *others), snapshots=tuple(snapshots))


def check_forgotten(wall: Wall, left: float) -> None:
    """Refuse a run that still remembers its start.

    Raises
    ------
    NotApplicable
        With what is left of a displacement.
    """
    require(
        left < FORGOTTEN, f"{wall.parameter} remembers {left:.2g} of its start, at most {FORGOTTEN:g} can be neglected"
    )


def stationary_rows(
    wall: Wall, variance: float, mean: float, conditions: str, rival: tuple[str, float] | None = None
) -> Iterator[Prediction]:
    """Mean fast loss of a wall, for which the rival stands, and variance and mean of its coordinate."""
    name, steps = wall.parameter, wall.run.steps
    loss = wall.curvature * (variance + (mean - wall.centre) ** 2) / 2.0
    spread = 0.02 * float(np.hypot(mean, np.sqrt(variance)))
    other = Rival(*rival) if rival else None
    yield row(Moment("mean", wall.fast_loss, steps), loss, conditions=conditions, rival=other)
    yield row(Moment("variance", name, steps), variance, conditions=conditions)
    yield row(Moment("mean", name, steps), mean, resolution=spread, conditions=conditions)
