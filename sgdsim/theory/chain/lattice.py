"""Chains whose step takes finitely many values, as that of SignSGD: exact on the lattice that a start can reach."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base import budget
from sgdsim.formulas.evaluation import evaluate
from sgdsim.formulas.expansion import expanded
from sgdsim.prediction import NotApplicable
from sgdsim.theory.chain.operator import leading_eigenvalues, node_count, states_after
from sgdsim.theory.chain.settings import EDGE, ENTRIES, EPSILON, SEVERAL, STATES, UNBOUNDED
from sgdsim.theory.chain.step import Step
from sgdsim.theory.quadrature.rules import Level

if TYPE_CHECKING:
    import sympy


@dataclass(frozen=True, eq=False)
class Lattice:
    """The states that a start can reach by steps of finitely many values, with the stationary probability of each."""

    step: Step
    points: np.ndarray
    matrix: Any
    weights: np.ndarray

    def means(self, expression: sympy.Expr, more: Mapping[str, float]) -> np.ndarray:
        """The expression at each state, its magnitude, and zeros for the share far out, shape (3, state)."""
        values = {**self.step.values(self.points), **more}
        found = np.broadcast_to(evaluate([expression], values)[0], len(self.points))
        return np.array([found, np.abs(found), np.zeros(len(found))])

    def rounding(self, means: np.ndarray) -> float:
        """The rounding error of an expectation, whose weights have a few digits less than a double."""
        return float(64 * EPSILON * (np.abs(self.weights) @ np.abs(means)))

    def eigenvalues(self, count: int) -> np.ndarray:
        """The largest eigenvalues of P by magnitude."""
        return leading_eigenvalues(self.matrix, count)


def finite_moves(step: Step) -> np.ndarray | None:
    """The displacements of a step, shape (move, parameter); None where they are not finitely many numbers."""
    import sympy

    from sgdsim.formulas.symbolic import sign
    from sgdsim.formulas.symbolic import step as step_function

    discrete = [source for source in step.sources if source.noise is not None and source.is_discrete]
    switches = sorted(sympy.Tuple(*step.after).atoms(sign, step_function), key=str)
    names = {node: sympy.Symbol(f"switch__{number}", real=True) for number, node in enumerate(switches)}
    changes = [
        expanded(after.xreplace(names) - symbol) for after, symbol in zip(step.after, step.run.loss.theta, strict=True)
    ]
    allowed = {*names.values(), *(sympy.Symbol(source.names[0], real=True) for source in discrete)}
    free = set().union(*(change.free_symbols for change in changes))
    if {symbol for symbol in free if symbol.name not in step.known} - allowed:
        return None
    choices: dict[str, list[float]] = {s.name: [-1.0, 0.0, 1.0] for s in names.values() if s in free}
    for source in discrete:
        assert source.noise is not None
        if sympy.Symbol(source.names[0], real=True) in free:
            choices[source.names[0]] = [float(value) for value, _ in source.noise.atoms()]
    if np.prod([len(values) for values in choices.values()]) > _MOST_MOVES:
        return None
    grid = np.array(list(itertools.product(*choices.values()))).reshape(-1, len(choices)).T
    found = evaluate(changes, {**step.known, **dict(zip(choices, grid, strict=True))})
    columns = np.array([np.broadcast_to(column, grid.shape[1] if choices else 1) for column in found]).T
    return np.asarray(np.unique(np.round(columns, 14), axis=0))


_MOST_MOVES = 100  # combinations of the values of discrete noise and signs


def _chances(step: Step, points: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """The probability of each move from each point."""
    edges = list(dict.fromkeys([*step.edges]))
    found = np.zeros((len(points), len(moves)))
    continuous = sum(not source.is_discrete for source in step.sources)
    level = (Level(16 if continuous < 2 else 8, 1),) * len(step.sources)
    parts = [np.unique(column) for column in moves.T]
    table = np.zeros([len(values) for values in parts], dtype=np.int64)
    places = [np.searchsorted(values, column) for values, column in zip(parts, moves.T, strict=True)]
    table[tuple(places)] = np.arange(len(moves))
    count = node_count(step, edges, level, points[:1])
    chunk = max(1, ENTRIES // (4 * count))
    for start in range(0, len(points), chunk):
        budget.check()
        part = slice(start, start + chunk)
        after, weights = states_after(step, edges, points[part], level)
        nearest = tuple(
            np.searchsorted((values[1:] + values[:-1]) / 2, column - points[part, n][:, None])
            for n, (values, column) in enumerate(zip(parts, after, strict=True))
        )
        rows = np.arange(len(weights))[:, None] * len(moves)
        sums = np.bincount((rows + table[nearest]).ravel(), weights.ravel(), len(weights) * len(moves))
        found[part] = sums.reshape(len(weights), -1)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def reachable(step: Step, start: np.ndarray, moves: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, Any] | None:
    """All states within a box that a start can reach, and P on them; None if they are too many.

    A move that would leave the box is not made.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import breadth_first_order

    sizes = np.abs(moves)[np.abs(moves) > 0]
    if not len(sizes):
        return start[None], csr_matrix(np.ones((1, 1)))
    unit = float(sizes.min())

    def keys(points: np.ndarray) -> list[tuple[int, ...]]:
        return [tuple(row) for row in np.round((points - start) / unit * 1e6).astype(np.int64).tolist()]

    index = {keys(start[None])[0]: 0}
    states, frontier = [start], [start]
    while frontier:
        budget.check()
        targets = (np.array(frontier)[:, None] + moves).reshape(-1, len(start))
        targets = targets[((targets >= box[0]) & (targets <= box[1])).all(axis=1)]
        frontier = []
        for key, target in zip(keys(targets), targets, strict=True):
            if key not in index:
                index[key] = len(states)
                states.append(target)
                frontier.append(target)
        if len(states) > STATES:
            return None
    points = np.array(states)
    chances = _chances(step, points, moves)
    targets = points[:, None] + moves
    places = np.array([index.get(key, -1) for key in keys(targets.reshape(-1, len(start)))]).reshape(chances.shape)
    stays = np.broadcast_to(np.arange(len(points))[:, None], chances.shape)
    columns = np.where(places >= 0, places, stays)
    matrix = csr_matrix((chances.ravel(), (stays.ravel(), columns.ravel())), shape=(len(points), len(points)))
    matrix.eliminate_zeros()
    reached = np.sort(breadth_first_order(matrix, 0, return_predecessors=False))
    return points[reached], matrix[reached][:, reached]


def _lattice_weights(matrix: Any) -> np.ndarray:
    """The stationary law of a finite chain, in its only closed class."""
    from scipy.sparse import csc_matrix, identity
    from scipy.sparse.csgraph import connected_components
    from scipy.sparse.linalg import splu

    number, label = connected_components(matrix, directed=True, connection="strong")
    pairs = matrix.tocoo()
    leaves = np.zeros(number, dtype=bool)
    leaves[label[pairs.row[label[pairs.row] != label[pairs.col]]]] = True
    closed = np.flatnonzero(~leaves)
    if len(closed) > 1:
        raise NotApplicable(SEVERAL)
    members = np.flatnonzero(label == closed[0])
    weights = np.zeros(matrix.shape[0])
    if len(members) == 1:
        weights[members] = 1.0
        return weights
    inner = matrix[members][:, members]
    visits = np.ones(len(members)) / len(members)
    for _ in range(200):
        budget.check()
        visits = (visits + visits @ inner) / 2
    reference = int(visits.argmax())
    others = np.delete(np.arange(len(members)), reference)
    system = csc_matrix(identity(len(others)) - inner[others][:, others])
    ratios = splu(system.T.tocsc()).solve(np.asarray(inner[[reference]][:, others].todense()).ravel())
    found = np.empty(len(members))
    found[reference], found[others] = 1.0, ratios
    weights[members] = found / found.sum()
    return weights


def solve_lattice(step: Step, start: np.ndarray, moves: np.ndarray, pilot: np.ndarray) -> list[Lattice] | None:
    """The chain on two lattices with hardly any probability at their edges, one wider; None for too many states."""
    reach = np.abs(moves).max(axis=0)
    low, high = np.minimum(pilot.min(axis=0), start) - 4 * reach, np.maximum(pilot.max(axis=0), start) + 4 * reach
    found: list[Lattice] = []
    for _ in range(40):
        made = reachable(step, start, moves, np.array([low, high]))
        if made is None:
            return None
        points, matrix = made
        weights = _lattice_weights(matrix)
        at_edge = ((points < low + 2 * reach) | (points > high - 2 * reach)).any(axis=1)
        size = 1 + (((points - pilot.mean(axis=0)) / (reach + pilot.std(axis=0))) ** 4).sum(axis=1)
        share = float(weights[at_edge] @ size[at_edge] / (weights @ size))
        if share <= EDGE:
            found.append(Lattice(step, points, matrix, weights))
        if len(found) == 2:
            return found
        low, high = low - 0.25 * (high - low) - reach, high + 0.25 * (high - low) + reach
    raise NotApplicable(UNBOUNDED)
