"""Expectations after a number of steps from the start of a run, by powers of the backward operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base import budget
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable
from sgdsim.theory.chain.density import check_density, distribution_at_nodes
from sgdsim.theory.chain.domain import Domain, axis_breaks, noise_levels, panels_and_order, state_breaks
from sgdsim.theory.chain.lattice import finite_moves, reachable
from sgdsim.theory.chain.mesh import Map, Mesh
from sgdsim.theory.chain.operator import MeshLaw, backward_operator, mean_of_formula
from sgdsim.theory.chain.pilot import sampled_starts, sampled_states
from sgdsim.theory.chain.settings import BLOCK, EPSILON, PHASES, SEED
from sgdsim.theory.chain.step import Step, start_points
from sgdsim.theory.quadrature.nested import Numerical
from sgdsim.theory.quadrature.rules import Level

if TYPE_CHECKING:
    import sympy


_SECONDS_AN_ENTRY = 2e-9  # to multiply one entry of a matrix that is in no cache with a vector
_SPARSE = 0.3  # share of non-zero entries below which a matrix is stored as a sparse one
_TRIALS = 20  # domains that are tried, each wider than the one before
_LEAK = (1e-9, 1e-13)  # chance of leaving the domain in a step, by fineness, below which it is not widened
_STARTS = (49, 48)  # points of a drawn start on the two meshes: they alternate, so that no jump escapes both
_LOOK = 32  # steps between two looks at the probability that has left


def evolve(run: Run, formulas: Sequence[str], steps: int, fineness: int = 1) -> list[Numerical]:
    """Expectations of formulas after a number of steps from the start of a run.

    Parameters
    ----------
    run
        A memoryless optimizer at a constant rate, with one or two parameters.
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
        For the reasons of `chain`; a stationary law is not needed.

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
    return _evolved(step, expressions, steps, fineness)


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


def _evolved(step: Step, expressions: Sequence[sympy.Expr], steps: int, fineness: int) -> list[Numerical]:
    found, largest, lost = [], np.zeros(len(expressions)), 0.0
    for meshed in _meshed(step, steps, fineness):
        columns = np.array([mean_of_formula(step, e, meshed.mesh.points, meshed.level, {}) for e in expressions])
        values = np.vstack([columns[:, 0], columns[:, 1]]).T
        largest, lost = np.abs(columns[:, 1]).max(axis=1), abs(meshed.lost)
        for number in range(1, steps):
            budget.check()
            values = meshed.matrix @ values
            if number % _LOOK == 0 and _is_constant(values):
                break
        found.append(meshed.start.mean(values))
    number = len(expressions)
    sizes = np.abs(found[1][number:]) + np.abs(found[1][:number])
    if not np.isfinite(found[1]).all() or lost > 0.01:
        raise NotApplicable(
            f"the chain leaves every domain that was tried within {steps} steps, or grows too fast; simulate instead"
        )
    # Probability that has left is beyond the domain: there a formula is taken to be as large as its maximum within.
    errors = np.abs(found[1] - found[0])[:number] + sizes * 16 * EPSILON * np.sqrt(steps) + largest * lost
    return [Numerical(float(v), float(e)) for v, e in zip(found[1][:number], errors, strict=True)]


def _is_constant(values: np.ndarray) -> bool:
    """True if no expectation depends on the state any more: the start is forgotten, and more steps change nothing."""
    return bool((np.ptp(values, axis=0) <= EPSILON * np.abs(values).max(axis=0)).all())


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
        For the reasons of `evolve`, and for a law without density.

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
    laws, sums, lost = [], [], 0.0
    for meshed in _meshed(step, steps, 1):
        weights, lost = meshed.start.weights(meshed.mesh.size), abs(meshed.lost)
        for _ in range(steps - 1):
            budget.check()
            weights = weights @ meshed.matrix
        laws.append(MeshLaw(step, meshed.mesh, meshed.level, weights))
        sums.append(distribution_at_nodes(laws[-1]))

    coarse, fine = (partial(_interpolated, law.mesh, at_nodes) for law, (at_nodes, _) in zip(laws, sums, strict=True))
    nodes = np.concatenate([law.mesh.points[:, 0] for law in laws])
    error = np.abs(fine(nodes) - coarse(nodes)).max() + abs(sums[1][1] - 1.0) + lost
    return fine, float(error)


def _interpolated(mesh: Mesh, at_nodes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A distribution function between the nodes of a mesh."""
    indices, factors, _ = mesh.basis([np.asarray(points, dtype=np.float64)])
    return np.asarray(np.clip((at_nodes[indices] * factors).sum(axis=-1), 0.0, 1.0))


@dataclass(frozen=True, eq=False)
class _Meshed:
    """The chain on a mesh with its start, and the probability of leaving the mesh within the steps."""

    mesh: Mesh
    level: tuple[Level, ...]
    matrix: Any
    start: _Start
    lost: float


def _meshed(step: Step, steps: int, fineness: int) -> Iterator[_Meshed]:
    """The chain on a coarse mesh, then on a fine one; their domains are widened until hardly anything leaves them."""
    domain, most = _travelled(step, steps), _LEAK[fineness] * steps
    for number in range(2):
        fine = fineness + number
        points, shares = start_points(step.run, _STARTS[number])
        for trial in range(_TRIALS):
            panels, order = panels_and_order(step, fine)
            mesh = domain.widened(0.04 * number).mesh(panels, order)
            level = noise_levels(step, domain, fine)
            dense, outside = backward_operator(step, mesh, level)
            matrix = _thinned(dense)
            what = f"{steps} steps on a mesh of {mesh.size} states"
            budget.require(_SECONDS_AN_ENTRY * 2 * steps * matrix.size, what)
            indices, factors, beyond = mesh.basis(list(points.T))
            is_last = number == 1 or trial == _TRIALS - 1
            start = _Start(shares, indices, factors, beyond)
            lost = start.lost(matrix, outside, steps, inf if is_last else most)
            if abs(lost) < most or is_last:
                break
            domain = domain.widened(0.1)
        yield _Meshed(mesh, level, matrix, start, lost)


def _thinned(matrix: np.ndarray) -> Any:
    """The matrix as a sparse one if few entries are not zero: where steps are short, a state reaches few panels."""
    from scipy.sparse import csr_matrix

    return csr_matrix(matrix) if np.count_nonzero(matrix) < _SPARSE * matrix.size else matrix


@dataclass(frozen=True)
class _Start:
    """The start of a run on a mesh: interpolation at its points, and which of them are beyond the mesh."""

    shares: np.ndarray
    indices: np.ndarray
    factors: np.ndarray
    beyond: np.ndarray

    def mean(self, values: np.ndarray) -> np.ndarray:
        """The mean over the start of functions on the mesh, shape (state, function)."""
        return np.asarray(self.shares @ (values[self.indices] * self.factors[..., None]).sum(axis=1))

    def weights(self, size: int) -> np.ndarray:
        """Weights of the states of the mesh that stand for the start."""
        shares = (self.shares[:, None] * self.factors).ravel()
        return np.bincount(self.indices.ravel(), shares, minlength=size)

    def lost(self, matrix: Any, outside: np.ndarray, steps: int, most: float) -> float:
        """The probability of leaving the mesh within some steps; some value above `most` if it exceeds that."""
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
    """The domain that a trial of a few hundred trajectories crossed within the steps."""
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
