"""Mean numbers of steps until a formula is positive for the first time."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base.errors import shortened
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable
from sgdsim.theory.chain.domain import Domain, noise_levels, panels_and_order, sign_changes
from sgdsim.theory.chain.lattice import finite_moves, reachable
from sgdsim.theory.chain.mesh import Map
from sgdsim.theory.chain.operator import backward_operator, mean_of_values
from sgdsim.theory.chain.settings import EPSILON, PHASES
from sgdsim.theory.chain.step import Step, start_points
from sgdsim.theory.quadrature.nested import Numerical

if TYPE_CHECKING:
    import sympy

_STARTS = (24, 32)  # points of a drawn start, or of each panel of it, on the two meshes whose difference is the error


def passage_on_mesh(step: Step, domain: Domain, formula: str, run: Run) -> Numerical:
    """Mean number of steps until a formula is positive, from the start of a run.

    Raises
    ------
    NotApplicable
        If the formula is hardly ever positive, or depends on two parameters together.
    """
    expression = step.expression(formula)
    number = _moving(step, expression)
    points, _ = _start(run, _STARTS[0])
    domain, passed = _domain(step, domain, expression, points, number)
    if (step.evaluate(expression, points) > 0).all():
        return Numerical(0.0, 0.0)
    found = []
    first = 2 - len(step.after)
    for fineness, wider, count in zip((first, first + 1), (domain, domain.widened(0.05)), _STARTS, strict=True):
        points, shares = _start(run, count, {run.loss.parameters[number]: passed})
        begun = step.evaluate(expression, points) > 0
        panels, order = panels_and_order(step, fineness)
        mesh = wider.mesh(panels, order)
        level = noise_levels(step, wider, fineness)
        matrix, _ = backward_operator(step, mesh, level)
        times = _times(matrix, step.evaluate(expression, mesh.points) <= 0, formula)
        at_start = np.where(begun, 0.0, 1.0 + mean_of_values(step, mesh, level, points, times))
        found.append(float(shares @ at_start))
    error = abs(found[1] - found[0]) + 64 * EPSILON * abs(found[1]) * max(1.0, abs(found[1]))
    if not found[1] >= 0 or error > 0.5 * abs(found[1]) + 1e-300:
        raise NotApplicable(_rare(formula))
    return Numerical(found[1], error)


def passage_on_lattice(step: Step, visited: np.ndarray, formula: str, run: Run) -> Numerical:
    """Mean number of steps until a formula is positive, on the lattices that the start of a run can reach.

    The lattices reach beyond the states that the stationary chain visits: the wider they are, the less is cut off.
    """
    expression = step.expression(formula)
    moves = finite_moves(step)
    assert moves is not None
    found = []
    for share_out, count in ((0.5, PHASES + 1), (1.0, PHASES)):
        points, shares = start_points(run, count)
        total = 0.0
        reach = share_out * np.ptp(visited, axis=0) + 4 * np.abs(moves).max(axis=0)
        for point, share in zip(points, shares, strict=True):
            low, high = np.minimum(visited.min(axis=0), point), np.maximum(visited.max(axis=0), point)
            made = reachable(step, point, moves, np.array([low - reach, high + reach]))
            if made is None:
                raise NotApplicable("the lattice has too many states; simulate instead")
            states, matrix = made
            total += share * _times(matrix, step.evaluate(expression, states) <= 0, formula)[0]
        found.append(total)
    return Numerical(found[1], abs(found[1] - found[0]) + 64 * EPSILON * found[1] * max(1.0, found[1]))


def _rare(formula: str) -> str:
    return f"{shortened(formula)} > 0 is so rare, or so far out, that its mean time is not settled; simulate instead"


def _times(matrix: Any, open_: np.ndarray, formula: str) -> np.ndarray:
    """Mean number of steps from each state until the formula is positive: 0 from a state that is not open."""
    from scipy.sparse import identity, issparse
    from scipy.sparse.linalg import splu

    if open_.all():
        raise NotApplicable(_rare(formula))
    inside = np.flatnonzero(open_)
    times = np.zeros(len(open_))
    if not len(inside):
        return times
    if issparse(matrix):
        inner = matrix[inside][:, inside]
        times[inside] = splu((identity(len(inside)) - inner).tocsc()).solve(np.ones(len(inside)))
    else:
        times[inside] = np.linalg.solve(np.eye(len(inside)) - matrix[np.ix_(inside, inside)], np.ones(len(inside)))
    if not (np.isfinite(times) & (times < 1e12)).all():
        raise NotApplicable(_rare(formula))
    return times


def _start(run: Run, count: int, breaks: Mapping[str, Sequence[float]] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Points of the start and their weights, without the weights that are too small for any sum: those far in tails."""
    points, shares = start_points(run, count, breaks=breaks or {})
    kept = shares > EPSILON**2
    return points[kept], shares[kept]


def _moving(step: Step, expression: sympy.Expr) -> int:
    """The number of the parameter that a formula depends on."""
    moving = [number for number, symbol in enumerate(step.run.loss.theta) if symbol in expression.free_symbols]
    if len(moving) != 1:
        raise NotApplicable(
            "a passage is computed where the formula depends on one of the parameters; simulate instead"
        )
    return moving[0]


def _domain(
    step: Step, domain: Domain, expression: sympy.Expr, points: np.ndarray, number: int
) -> tuple[Domain, list[float]]:
    """A domain whose panels end where a formula vanishes, wide enough for the start; and the zeros of the formula."""
    theta = step.run.loss.theta
    if len(theta) > 1 and np.count_nonzero(domain.mapping.matrix - np.diag(np.diag(domain.mapping.matrix))):
        corners = np.array(list(itertools.product(*domain.box)))
        around = domain.mapping.outwards(corners)
        scale = np.sqrt((domain.mapping.matrix**2).sum(axis=1))
        mapping = Map(domain.mapping.centre, np.diag(scale))
        inside = mapping.inwards(list(around.T))
        domain = replace(domain, mapping=mapping, box=tuple((float(v.min()), float(v.max())) for v in inside))
    inside = domain.mapping.inwards(list(points.T))
    box = tuple(
        (min(low, float(v.min()) - 0.02 * (high - low)), max(high, float(v.max()) + 0.02 * (high - low)))
        for (low, high), v in zip(domain.box, inside, strict=True)
    )
    ends = domain.mapping.outwards(np.array(box).T)[:, number]
    found = sign_changes(expression, theta[number].name, step.known, float(ends[0]), float(ends[1]))
    if not found:
        raise NotApplicable(_rare(str(expression)))
    return replace(domain, box=box, breaks=(*domain.breaks, *((number, root) for root in found))), found
