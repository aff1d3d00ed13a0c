"""What RMSProp and Adam, NTL-10 and NTL-11, share: walls, and rows of a long and of a finite memory of the squares."""

from __future__ import annotations

from functools import partial

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, Rival, over
from sgdsim.theory.law import name_of
from sgdsim.theory.laws.late import late
from sgdsim.theory.methods.gradient_flow import constant_rate
from sgdsim.theory.methods.walls import Wall, check_forgotten, stationary_rows, wall_losses, walls

MOST_FORGETFUL = 2.5e-3
"""1 - alpha, in parts of which the variance of a long memory is off."""

_SHORTEST = 0.25  # 1 - alpha, beyond which a test to order 1 says little
_LARGEST = 0.5  # eta*a/sigma, likewise
_SMALL = 1e-5  # epsilon in units of sigma


def adaptive_walls(run: Run, averaging: str) -> list[Wall]:
    """The walls of a run with an adaptive optimizer whose average has forgotten its start.

    Raises
    ------
    NotApplicable
        For an epsilon that counts, and a short run.
    """
    found, kept = walls(run), run.optimizer.values[averaging]
    for wall in found:
        if run.optimizer.values["epsilon"] > _SMALL * wall.sigma:
            raise NotApplicable(f"holds without epsilon, which is {run.optimizer.values['epsilon']:g}")
        check_forgotten(wall, kept**run.steps)
    return found


def adaptive_rows(id: str, wall: Wall, variance: float, kept: float) -> list[Prediction]:
    """Rows of a wall, with equipartition at ``eta*sigma/2`` as the rival."""
    rate = constant_rate(wall.run)
    strength = f"eta*a/sigma = {rate * wall.curvature / wall.sigma:.4g}"
    conditions = f"{wall.parameter}: {strength}, neglects parts of order {1.0 - kept:.1g}"
    leading = ("leading order", rate * wall.sigma / 4.0)
    return stationary_rows(id, wall, variance, wall.centre, conditions, leading)


def is_long(run: Run, averaging: str) -> bool:
    """Whether what a finite memory changes is neglected.

    Raises
    ------
    NotApplicable
        Where the memory is too short, or the learning rate too large, for either formula.
    """
    share = 1.0 - run.optimizer.values[averaging]
    if share > _SHORTEST:
        raise NotApplicable(f"holds as {averaging} goes to 1, and {share:.2g} is farther than {_SHORTEST:g}")
    return share <= MOST_FORGETFUL


def late_losses(run: Run, averaging: str) -> Recorder:
    """The fast losses, and of a finite memory their averages over the last half of a run."""
    if run.optimizer.name not in ("adam", "rmsprop") or is_long(run, averaging):
        return wall_losses(run)
    return wall_losses(run, *(late(wall.direction.fast_loss(run.loss), run.steps) for wall in walls(run)))


def finite_memory_row(id: str, wall: Wall, averaging: str, long: float, ratio: float) -> Prediction:
    """The late fast loss in units of that of a long memory, to order 1 in the share of the present gradient."""
    run, a = wall.run, wall.curvature
    share, k = 1.0 - run.optimizer.values[averaging], constant_rate(run) * a / wall.sigma
    if k > _LARGEST:
        raise NotApplicable(f"{wall.parameter}: eta*a/sigma = {k:.4g}, expected at most {_LARGEST:g}")
    check_forgotten(wall, max(1.0 - k, 1.0 - share) ** (run.steps // 2))
    name = name_of(run, late(wall.direction.fast_loss(run.loss), run.steps))
    others = {**run.optimizer.values, averaging: None}
    return Prediction(
        id,
        f"mean({name}) over that of a long memory, in powers of 1 - {averaging}",
        Function("ratio", partial(over, a * long / 2.0), (Moment("mean", name, run.steps),)),
        ratio,
        1,
        3.0 / 16.0 * share,  # half of what a long memory is off by
        conditions=f"{wall.parameter}: eta*a/sigma = {k / share:.4g}*(1 - {averaging})",
        rival=Rival("a long memory", 1.0),
        learning_rate=share,
        series=f"{id} {wall.parameter} {run.optimizer.name} {others} {k / share:.6g}",
    )
