"""A number over a grid of two swept values, and the line on which it is predicted to vanish: a phase diagram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sgdsim.plots.panel import Cells, Drawing, Panel
from sgdsim.plots.subject import Subject, arrays, require, statistic_label, swept_name
from sgdsim.prediction import Moment

UNDECIDED = 3.0
"""Standard errors within which a number is not told from zero."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Two swept keys in every combination.

    Attributes
    ----------
    keys
        Their names.
    axes
        The values of each, ascending.
    places
        (2, point), which value each point has.
    """

    keys: tuple[str, str]
    axes: tuple[np.ndarray, np.ndarray]
    places: np.ndarray


def grid_of(subject: Subject) -> Grid | None:
    """The grid of a sweep; None where it is none of two numbers."""
    several = {key: values for key, values in subject.sweep.items() if len(set(values.tolist())) > 1}
    if len(several) != 2 or any(values.dtype.kind not in "fiu" for values in several.values()):
        return None
    found = [np.unique(values, return_inverse=True) for values in several.values()]
    places = np.array([place for _, place in found])
    axes = found[0][0], found[1][0]
    if places.shape[1] != len(axes[0]) * len(axes[1]) or len(set(map(tuple, places.T.tolist()))) != places.shape[1]:
        return None
    first, second = several
    return Grid((first, second), axes, places)


def drawing(subject: Subject) -> Drawing:
    """One panel, of the first moment that is predicted at every point."""
    grid = grid_of(subject)
    require(grid is not None, "diagram", "a sweep over two numbers in every combination: [sweep.grid]")
    assert grid is not None
    claims: dict[tuple[str, str, int], dict[int, float]] = {}
    for prediction, moment, value in subject.claims():
        if prediction.expect == "agrees":
            claims.setdefault((moment.statistic, moment.observable, moment.step), {})[moment.point or 0] = value
    whole = [key for key, values in claims.items() if len(values) == len(subject.points)]
    require(whole, "diagram", "a prediction at every point of the sweep")
    statistic, name, step = whole[0]
    moments = [Moment(statistic, name, step, point) for point in range(len(subject.points))]
    values, stderrs = arrays([subject.estimate(moment) for moment in moments])
    shape, at = tuple(len(axis) for axis in grid.axes[::-1]), (grid.places[1], grid.places[0])
    cells, predicted, undecided = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    cells[at], undecided[at] = values, np.abs(values) < UNDECIDED * stderrs
    predicted[at] = [claims[whole[0]][point] for point in range(len(subject.points))]
    label = statistic_label(statistic, name)
    part = Cells(grid.axes[0], grid.axes[1], cells, label, predicted, undecided)
    title = f"{statistic} of {subject.formula(name)} at step {step}"
    panel = Panel(title, swept_name(grid.keys[0]), swept_name(grid.keys[1]), (part,))
    note = f"Black: where it is predicted to vanish. Crossed: within {UNDECIDED:g} standard errors of zero."
    return Drawing((panel,), tuple(f"{one[0]} of {one[1]}" for one in whole[1:]), (note,))
