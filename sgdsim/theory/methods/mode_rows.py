"""Rows about a mode, a fast direction of a run, with the observables they need and the conditions they rest on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Condition, Function, Measure, Moment, Prediction, Rival, require
from sgdsim.theory.law import row
from sgdsim.theory.methods.directions import candidate_directions, directions
from sgdsim.theory.methods.modes import Mode
from sgdsim.theory.recorded_names import name_of

FORGOTTEN = 1e-3
"""Largest part of a displacement at the start that may be left."""


def fast_losses(run: Run) -> Recorder:
    """A recorder of the fast loss of every direction."""
    return Recorder(observables=tuple(one.fast_loss(run.loss) for one in candidate_directions(run)))


def mode_losses(run: Run, *others: Observable, snapshots: Iterable[int] = ()) -> Recorder:
    """A recorder of the fast loss of every direction, and of other observables and snapshots."""
    losses = tuple(one.fast_loss(run.loss) for one in directions(run.loss))
    return Recorder(observables=(*losses, *others), snapshots=tuple(snapshots))


def fast_loss_name(mode: Mode) -> str:
    """The name under which a mode's fast loss is recorded."""
    return name_of(mode.run, mode.direction.fast_loss(mode.run.loss))


def of_mode(
    mode: Mode, measure: Measure, predicted: float, quantity: str = "", resolution: float | None = None, **others: Any
) -> Prediction:
    """A row about a mode under the conditions of the mode: exact if its curvature is constant, else adiabatic.

    Parameters
    ----------
    mode
        The mode that the row is about.
    measure, predicted, quantity, resolution, **others
        Parameters of `sgdsim.theory.law.row`; a moment that is not of the last step is named with its step.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.noise import Noise
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> from sgdsim.theory.methods.modes import modes
    >>> loss = Loss("x**2/2 + z*x", ("x",), {}, {"z": Noise.parse("normal")})
    >>> (mode,) = modes(Run(loss, Optimizer(), Schedule("0.5"), {"x": 0.0}, 1000, 100))
    >>> of_mode(mode, Moment("variance", "x", 50), mode.cumulants(50)[1]).quantity
    'variance(x) at step 50'
    """
    found = row(measure, predicted, quantity, mode.order, resolution, **{**mode.about, **others})
    if quantity or not isinstance(measure, Moment):
        return found
    return replace(found, quantity=found.quantity + when(mode, measure.step))


def at_point(point: int, conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """The conditions of `Mode.assumes`, measured at one point of a sweep."""
    found = []
    for condition in conditions:
        assert isinstance(condition.measure, Function)
        moments = tuple(replace(moment, point=point) for moment in condition.measure.moments)
        found.append(replace(condition, measure=replace(condition.measure, moments=moments)))
    return tuple(found)


def middle_step(mode: Mode) -> int | None:
    """The recorded step, neither first nor last, at which the memory of the start is nearest to 1/e; None if none."""
    steps = mode.run.recorder.record_steps(mode.run.steps)[1:-1]
    if not len(steps):
        return None
    memory = np.cumprod(np.abs(1.0 - mode.pull))[steps - 1]
    return int(steps[np.argmin(np.abs(memory - np.exp(-1.0)))])


def when(mode: Mode, step: int) -> str:
    """The words for a step in the name of a quantity; none for the last step."""
    return "" if step == mode.run.steps else f" at step {step}"


def check_forgotten(mode: Mode, left: float) -> None:
    """Refuse a run that still remembers its start.

    Raises
    ------
    NotApplicable
        For such a run; the message tells which part of a displacement is left.
    """
    require(
        left < FORGOTTEN, f"{mode.parameter} remembers {left:.2g} of its start, at most {FORGOTTEN:g} can be neglected"
    )


def stationary_rows(
    mode: Mode, variance: float, mean: float, conditions: str, rival: tuple[str, float] | None = None
) -> Iterator[Prediction]:
    """Rows on the mean fast loss of a mode, with its rival, and on the variance and mean of its coordinate."""
    name, steps = mode.parameter, mode.run.steps
    loss = mode.curvature * (variance + (mean - mode.centre) ** 2) / 2.0
    spread = 0.02 * float(np.hypot(mean, np.sqrt(variance)))
    other = Rival(*rival) if rival else None
    yield row(Moment("mean", fast_loss_name(mode), steps), loss, conditions=conditions, rival=other)
    yield row(Moment("variance", name, steps), variance, conditions=conditions)
    yield row(Moment("mean", name, steps), mean, resolution=spread, conditions=conditions)
