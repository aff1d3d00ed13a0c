"""Expectations after a number of steps from the start of a run, by products of backward operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.base import budget
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable, require, stored
from sgdsim.theory.chain.density import check_density, distribution_at_nodes
from sgdsim.theory.chain.domain import Domain, axis_breaks, noise_levels, panels_and_order, state_breaks
from sgdsim.theory.chain.lattice import finite_moves, reachable
from sgdsim.theory.chain.legs import Leg, MeshedRun, legs_of, rates_of
from sgdsim.theory.chain.mesh import Map, Mesh
from sgdsim.theory.chain.operator import MeshLaw, mean_of_formula
from sgdsim.theory.chain.pilot import sampled_starts, sampled_states
from sgdsim.theory.chain.settings import BLOCK, EPSILON, PHASES, SEED
from sgdsim.theory.chain.step import Step, start_points
from sgdsim.theory.quadrature.nested import Numerical

if TYPE_CHECKING:
    import sympy


_FINER = 5  # time on the finer mesh in units of the time on the coarser one
_TRIALS = 20  # domains that are tried, each wider than the one before
_LEAK = (1e-9, 1e-13)  # chance of leaving the domain in a step, by fineness, below which it is not widened
_LOST = 1e-6  # chance of leaving the domain in a run, below which it is widened only as long as that helps
_STARTS = (49, 48)  # points of a drawn start on the two meshes: they alternate, so that no jump escapes both
_LEGS = (64, 128)  # most legs of a schedule on the two meshes, whose difference then shows the error of legs
_RATES = (8, 10)  # most rates with operators on the two meshes, whose difference then shows the interpolation's error


def evolve(run: Run, formulas: Sequence[str], steps: int, fineness: int = 1) -> list[Numerical]:
    """Expectations of formulas after a number of steps from the start of a run.

    Parameters
    ----------
    run
        A memoryless optimizer, with one or two parameters.
    formulas
        Expressions in the parameters and constants.
    steps
        Number of steps.
    fineness
        0 or 1, for the coarser of the two meshes.

    Returns
    -------
    list
        A number with its error for each formula. The error includes the chance of leaving the domain of the
        computation.

    Raises
    ------
    NotApplicable
        For the reasons of `chain`; a stationary law and a constant rate are not needed.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.noise import Noise
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
    >>> run = Run(loss, Optimizer(), Schedule("0.5"), {"x": 1.0}, 100, 10)
    >>> [round(found.value, 12) for found in evolve(run, ["x", "x**2"], 2)]
    [0.25, 0.375]
    """
    step = Step.of(run)
    expressions = [step.expression(formula) for formula in formulas]
    if steps == 0:
        points, shares = start_points(run, 64)
        return [Numerical(float(shares @ step.evaluate(e, points)), 0.0) for e in expressions]
    rates = run.schedule.rates(max(steps, run.steps))[:steps]
    moves = finite_moves(step) if rates.min() == rates.max() else None  # a lattice belongs to one rate
    if moves is not None and (found := _walked(step, moves, expressions, steps)) is not None:
        return found
    return _evolved(step, rates, expressions, fineness)


def _walked(step: Step, moves: np.ndarray, expressions: Sequence[sympy.Expr], steps: int) -> list[Numerical] | None:
    """Expectations after some steps on the lattice of each start, exact but for rounding; None for too many states."""
    totals, sizes = np.zeros((2, len(expressions))), np.zeros(len(expressions))
    for side, count in enumerate((PHASES + 1, PHASES)):
        points, shares = start_points(step.run, count)
        for point, share in zip(points, shares, strict=True):
            reach = (steps + 0.5) * np.abs(moves).max(axis=0)
            made = reachable(step, point, moves, np.array([point - reach, point + reach]))
            if made is None:
                return None
            states, matrix = made
            law = np.zeros(len(states))
            law[0] = 1.0
            back = matrix.T.tocsr()
            for _ in range(steps):
                budget.check()
                law = back @ law
            for number, expression in enumerate(expressions):
                values = step.evaluate(expression, states)
                totals[side, number] += share * float(law @ values)
                sizes[number] = max(sizes[number], float(law @ np.abs(values)))
    errors = np.abs(totals[1] - totals[0]) + 16 * EPSILON * sizes * np.sqrt(steps)
    return [Numerical(float(v), float(e)) for v, e in zip(totals[1], errors, strict=True)]


def _evolved(step: Step, rates: np.ndarray, expressions: Sequence[sympy.Expr], fineness: int) -> list[Numerical]:
    number, largest = len(expressions), np.zeros(len(expressions))

    def through(meshed: MeshedRun) -> np.ndarray:
        """Expectations of the formulas, those of their magnitudes, and the chance of leaving the mesh."""
        nonlocal largest
        last, level = meshed.step.at(meshed.legs[-1].rate), meshed.level
        columns = np.array([mean_of_formula(last, e, meshed.mesh.points, level, {}) for e in expressions])
        largest = np.abs(columns[:, 1]).max(axis=1)
        inside = np.vstack([columns[:, 0], columns[:, 1], meshed.leaves(last.rate)]).T
        values = np.vstack([inside, np.append(np.zeros(2 * number), 1.0)])
        for leg in reversed(meshed.legs[:-1]):
            values = meshed.applied(leg, values)
        return np.asarray(meshed.start @ values)

    found = np.array([means for _, means in _on_two_meshes(step, rates, fineness, through)])
    (values, sizes), lost = np.split(found[:, :-1], 2, axis=1), abs(found[1, -1])
    if not np.isfinite(found[1]).all() or lost > 0.01:
        raise NotApplicable(
            f"the chain leaves every domain that was tried within {len(rates)} steps, or grows too fast; "
            "simulate instead"
        )
    # Probability that has left is beyond the domain: there a formula is taken to be as large as its maximum within.
    rounding = (np.abs(values[1]) + np.abs(sizes[1])) * 16 * EPSILON * len(rates)
    errors = np.abs(values[1] - values[0]) + rounding + largest * lost
    return [Numerical(float(v), float(e)) for v, e in zip(values[1], errors, strict=True)]


def distribution_after(run: Run, steps: int) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """The distribution function of the only parameter after some steps from the start of a run, and its error.

    Parameters
    ----------
    run
        A run that `evolve` takes, with one parameter and continuous noise that enters its step affinely.
    steps
        Number of steps, at least one.

    Raises
    ------
    NotApplicable
        For the reasons of `evolve`, for a law without density, and for a rate of more values than there are legs.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.noise import Noise
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
    >>> cdf, error = distribution_after(Run(loss, Optimizer(), Schedule("0.5"), {"x": 1.0}, 100, 10), 2)
    >>> cdf([0.25, 0.25 + 0.3125**0.5]).round(6), error < 1e-8
    (array([0.5     , 0.841345]), True)
    """
    step = Step.of(run)
    check_density(step)
    rates = run.schedule.rates(max(steps, run.steps))[:steps]
    number = len(np.unique(rates))
    require(
        number <= _LEGS[0], f"the learning rate has {number} values, expected at most {_LEGS[0]} for a distribution"
    )

    def through(meshed: MeshedRun) -> np.ndarray:
        """Weights of the states before the last step, and the chance of leaving the mesh within all steps."""
        weights = meshed.start
        for leg in meshed.legs[:-1]:
            weights = meshed.carried(leg, weights)
        leaves = np.append(meshed.leaves(meshed.legs[-1].rate), 1.0)
        return np.append(weights[:-1], weights @ leaves)

    laws, sums, lost = [], [], 0.0
    for meshed, weights in _on_two_meshes(step, rates, 1, through):
        laws.append(MeshLaw(step.at(rates[-1]), meshed.mesh, meshed.level, weights[:-1]))
        sums.append(distribution_at_nodes(laws[-1]))
        lost = abs(weights[-1])

    coarse, fine = (partial(_interpolated, law.mesh, at_nodes) for law, (at_nodes, _) in zip(laws, sums, strict=True))
    nodes = np.concatenate([law.mesh.points[:, 0] for law in laws])
    error = np.abs(fine(nodes) - coarse(nodes)).max() + abs(sums[1][1] - 1.0) + lost
    return fine, float(error)


@stored
def _interpolated(mesh: Mesh, at_nodes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values of a distribution function at points, from those at the nodes of a mesh."""
    indices, factors, _ = mesh.basis([np.asarray(points, dtype=np.float64)])
    return np.asarray(np.clip((at_nodes[indices] * factors).sum(axis=-1), 0.0, 1.0))


def _on_two_meshes(
    step: Step, rates: np.ndarray, fineness: int, through: Callable[[MeshedRun], np.ndarray]
) -> Iterator[tuple[MeshedRun, np.ndarray]]:
    """The run on a coarse mesh, then on a fine one, each with what `through` computes on it.

    The domains are widened until hardly anything leaves them. The last number computed is the chance of leaving.
    """
    legs = [legs_of(rates, most) for most in _LEGS]
    domain, before = _travelled(step, legs[1]), inf
    for number in range(2):
        fine = fineness + number
        points, shares = start_points(step.run, _STARTS[number])
        nodes = rates_of(legs[number], _RATES[number])
        for trial in range(_TRIALS):
            panels, order = panels_and_order(step, fine)
            mesh = domain.widened(0.04 * number).mesh(panels, order)
            indices, factors, beyond = mesh.basis(list(points.T))
            start = np.bincount(indices.ravel(), (shares[:, None] * factors).ravel(), minlength=mesh.size)
            start = np.append(start, shares @ beyond)
            meshed = MeshedRun(step, mesh, noise_levels(step, domain, fine), legs[number], nodes, start)
            meshed.require_time(1 if number else 1 + _FINER)
            found = through(meshed)
            lost = abs(found[-1])
            if lost < _LEAK[fineness] * len(rates) or number == 1 or trial == _TRIALS - 1:
                break
            if before / 2 < lost < _LOST:  # trajectories that diverge leave every domain
                break
            domain, before = domain.widened(0.1), lost
        yield meshed, found


def _travelled(step: Step, legs: Sequence[Leg]) -> Domain:
    """The domain that a trial of a few hundred trajectories crossed within the steps."""
    random = np.random.default_rng(SEED)
    state = sampled_starts(step.run, random)
    low, high = state.min(axis=0), state.max(axis=0)
    left = 50 * BLOCK
    for leg in legs:
        ends = [*range(0, min(leg.steps, left), BLOCK), min(leg.steps, left)]
        left -= ends[-1]
        for begin, end in pairwise(ends):
            states = sampled_states(step.at(leg.rate), state, random, end - begin)
            state = states[-1]
            if not np.isfinite(states).all():
                steps = sum(one.steps for one in legs)
                raise NotApplicable(f"the chain diverges within {steps} steps: a trial of it left all bounds")
            low, high = np.minimum(low, states.min(axis=(0, 1))), np.maximum(high, states.max(axis=(0, 1)))
    width = high - low
    width = np.where(width > 0, width, np.maximum(np.abs(low), 1.0) * 1e-3)
    centre = (low + high) / 2
    if len(step.after) == 1:
        breaks = state_breaks(step, float((low - 3 * width)[0]), float((high + 3 * width)[0]))
    else:
        breaks = axis_breaks(step)
    return Domain(tuple((-0.8, 0.8) for _ in width), Map(centre, np.diag(width)), breaks)
