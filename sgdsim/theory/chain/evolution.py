"""Expectations after a number of steps from the start of a run, by powers of the backward operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.base import budget
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable
from sgdsim.theory.chain.domain import Domain, axis_breaks, noise_levels, panels_and_order, state_breaks
from sgdsim.theory.chain.lattice import finite_moves, reachable
from sgdsim.theory.chain.mesh import Map
from sgdsim.theory.chain.operator import backward_operator, mean_of_formula
from sgdsim.theory.chain.pilot import sampled_starts, sampled_states
from sgdsim.theory.chain.settings import BLOCK, EPSILON, PHASES, SEED
from sgdsim.theory.chain.step import Step, start_points
from sgdsim.theory.quadrature.nested import Numerical

if TYPE_CHECKING:
    import sympy


_SECONDS_AN_ENTRY = 2e-9  # of a product with a vector, of a matrix that is in no cache


_TRIALS = 20  # of domains, each wider
_LOOK = 32  # steps between two looks at what has left


def evolve(run: Run, formulas: Sequence[str], steps: int) -> list[Numerical]:
    """Expectations of formulas after so many steps from the start of a run.

    Parameters
    ----------
    run
        A memoryless optimizer at a constant rate, with one or two parameters.
    formulas
        In the parameters and constants.
    steps
        How many.

    Returns
    -------
    list
        The error counts the chance of leaving the domain of the computation as well.

    Raises
    ------
    NotApplicable
        As `chain`, but not for want of a stationary law.

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
    moves = finite_moves(step)
    if moves is not None and (found := _walked(step, moves, expressions, steps)) is not None:
        return found
    return _evolved(step, expressions, steps)


def _walked(step: Step, moves: np.ndarray, expressions: Sequence[sympy.Expr], steps: int) -> list[Numerical] | None:
    """Exact on the lattice of each start."""
    totals, sizes = np.zeros((2, len(expressions))), np.zeros(len(expressions))
    for side, count in enumerate((PHASES // 2, PHASES)):
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


def _evolved(step: Step, expressions: Sequence[sympy.Expr], steps: int) -> list[Numerical]:
    domain = _travelled(step, steps)
    found = []
    for fineness in (1, 2):
        points, shares = start_points(step.run, (32, 48)[fineness - 1])
        for trial in range(_TRIALS):
            panels, order = panels_and_order(step, fineness)
            mesh = domain.widened(0.04 * (fineness - 1)).mesh(panels, order)
            level = noise_levels(step, domain, fineness)
            matrix, outside = backward_operator(step, mesh, level)
            what = f"{steps} steps on a mesh of {len(matrix)} states"
            budget.require(_SECONDS_AN_ENTRY * 2 * steps * matrix.size, what)
            indices, factors, beyond = mesh.basis(list(points.T))
            is_last = fineness == 2 or trial == _TRIALS - 1
            start = _Start(shares, indices, factors, beyond)
            lost = start.lost(matrix, outside, steps, inf if is_last else 1e-13 * steps)
            if abs(lost) < 1e-13 * steps or is_last:
                break
            domain = domain.widened(0.1)
        columns = np.array([mean_of_formula(step, e, mesh.points, level, {}) for e in expressions])
        values = np.vstack([columns[:, 0], columns[:, 1]]).T
        for _ in range(steps - 1):
            budget.check()
            values = matrix @ values
        found.append(shares @ (values[indices] * factors[..., None]).sum(axis=1))
    number = len(expressions)
    sizes = np.abs(found[1][number : 2 * number]) + np.abs(found[1][:number])
    if not np.isfinite(found[1]).all() or abs(lost) > 0.01:
        raise NotApplicable(
            f"the chain leaves every domain that was tried within {steps} steps, or grows too fast; simulate instead"
        )
    errors = np.abs(found[1] - found[0])[:number] + sizes * (abs(lost) + 16 * EPSILON * np.sqrt(steps))
    return [Numerical(float(v), float(e)) for v, e in zip(found[1][:number], errors, strict=True)]


@dataclass(frozen=True)
class _Start:
    """The start of a run on a mesh: its points, and what of it is beyond the mesh."""

    shares: np.ndarray
    indices: np.ndarray
    factors: np.ndarray
    beyond: np.ndarray

    def lost(self, matrix: np.ndarray, outside: np.ndarray, steps: int, most: float) -> float:
        """The chance to leave the mesh within so many steps, which grows with each; or any that is over the most."""
        left, found = np.zeros(len(outside)), 0.0
        for number in range(1, steps + 1):
            budget.check()
            left = outside + matrix @ left
            if number % _LOOK == 0 or number == steps:
                found = float(self.shares @ ((left[self.indices] * self.factors).sum(axis=-1) + self.beyond))
                if found > most:
                    break
        return found


def _travelled(step: Step, steps: int) -> Domain:
    """Where a trial was on its way."""
    random = np.random.default_rng(SEED)
    state = sampled_starts(step.run, random)
    low, high = state.min(axis=0), state.max(axis=0)
    left = min(steps, 50 * BLOCK)
    while left > 0:
        states = sampled_states(step, state, random, min(left, BLOCK))
        left -= len(states)
        state = states[-1]
        if not np.isfinite(states).all():
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
