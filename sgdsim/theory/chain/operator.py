"""The backward operator of a chain on a mesh, and the stationary law that solves it.

    P f(x) = E f(x'(x, z)) = sum_k w_k f(x'(x, z_k))

The noise z is integrated by quadrature or summed exactly. Stationary weights are the left null vector of 1 - P, by a
linear system: powers of a matrix of high-degree interpolation may grow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base import budget
from sgdsim.base.memory import available_memory
from sgdsim.formulas.evaluation import evaluate, kinks
from sgdsim.prediction import NotApplicable
from sgdsim.theory.chain.mesh import Mesh
from sgdsim.theory.chain.settings import ENTRIES, EPSILON, FAR, NEGLIGIBLE, SEVERAL
from sgdsim.theory.chain.step import Step
from sgdsim.theory.quadrature.nested import nodes
from sgdsim.theory.quadrature.rules import Level

if TYPE_CHECKING:
    import sympy


# Seconds for an entry of the operator and a node of the noise, and for a solution of n equations divided by n^3.
# Measured on one thread of a processor of 2020, where the numbers do not fit in its caches.
_SECONDS_AN_ENTRY = 3e-8
_SECONDS_A_FACTOR = 1e-10
_TOLERANCE = (0.0, 1e-9)  # of eigenvalues, for one and two parameters: with two, two meshes agree to 1e-5
_COPIES = 5  # copies of the operator that are in memory at once


def backward_operator(step: Step, mesh: Mesh, level: tuple[Level, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The matrix of P on the mesh, and for each state the probability that a step leaves the mesh."""
    from scipy.sparse import csr_matrix

    edges = [*step.edges]
    if any(not source.is_discrete for source in step.sources):
        edges += [step.after[parameter] - _float(value) for parameter, value in mesh.kinks]
    size = mesh.size
    matrix, outside = np.empty((size, size)), np.empty(size)
    order = int(np.prod([axis.order for axis in mesh.axes]))
    count = order * node_count(step, edges, level, mesh.points[:1])
    budget.require(_SECONDS_AN_ENTRY * size * count, f"a mesh of {size} states with {count} values of each step")
    if _COPIES * matrix.nbytes > (free := available_memory()):
        need = f"{_COPIES * matrix.nbytes / 1e9:.2g} GB of memory, {free / 1e9:.2g} GB are there"
        raise NotApplicable(f"a mesh of {size} states takes {need}; simulate instead")
    chunk = max(1, ENTRIES // count)
    for start in range(0, size, chunk):
        budget.check()
        part = slice(start, min(start + chunk, size))
        after, weights = states_after(step, edges, mesh.points[part], level)
        indices, factors, beyond = mesh.basis(after)
        factors *= weights[..., None]
        # A sparse sum: small matrix products, whose threads wait for each other, are up to ten times slower on a busy
        # CPU.
        pointers = np.arange(len(weights) + 1) * (indices.size // len(weights))
        found = csr_matrix((factors.ravel(), indices.ravel(), pointers), shape=(len(weights), size))
        matrix[part] = found.toarray()
        outside[part] = (beyond * weights).sum(axis=1)
    return matrix, outside


def _float(value: float) -> Any:
    from sgdsim.formulas.symbolic import exact

    return exact(float(value))


def node_count(step: Step, edges: Sequence[sympy.Expr], level: tuple[Level, ...], point: np.ndarray) -> int:
    """Number of quadrature nodes of the noise at a point."""
    return int(states_after(step, edges, point, level)[1].shape[1])


def states_after(
    step: Step, edges: Sequence[sympy.Expr], points: np.ndarray, level: tuple[Level, ...]
) -> tuple[list[np.ndarray], np.ndarray]:
    """The parameters after a step from each point, and the weights of the noise's nodes; shape (point, node)."""
    found = nodes(step.sources, edges, step.values(points), level)
    values = evaluate(step.after, found.values)
    shape = np.broadcast_shapes(found.weights.shape, *(np.shape(value) for value in values))
    shape = (len(points), *shape[1:])
    weights = np.broadcast_to(found.weights, shape).reshape(len(points), -1)
    kept = weights.max(axis=0) > NEGLIGIBLE[len(values) - 1]
    flat = [np.broadcast_to(value, shape).reshape(len(points), -1)[:, kept] for value in values]
    return flat, weights[:, kept]


def mean_of_values(
    step: Step, mesh: Mesh, level: tuple[Level, ...], points: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """P f at points, for a function f whose values on a mesh are given."""
    edges = [*step.edges, *(step.after[parameter] - _float(value) for parameter, value in mesh.kinks)]
    found = np.empty(len(points))
    for number in range(len(points)):
        budget.check()
        after, weights = states_after(step, edges, points[[number]], level)
        indices, factors, _ = mesh.basis(after)
        found[number] = ((values[indices] * factors).sum(axis=-1) * weights).sum()
    return found


def mean_of_formula(
    step: Step, expression: sympy.Expr, points: np.ndarray, level: tuple[Level, ...], more: Mapping[str, float]
) -> np.ndarray:
    """P f and P |f| of a formula f at points, and the part of P |f| from far out in the noise; shape (3, point).

    The formula itself is evaluated after the step, not an interpolation of it.
    """
    loss = step.run.loss
    inner = [edge for symbol in loss.theta for edge in kinks([expression], symbol)]
    composed = dict(zip(loss.theta, step.after, strict=True))
    edges = [*step.edges, *(edge.xreplace(composed) for edge in dict.fromkeys(inner))]
    count = node_count(step, edges, level, points[:1])
    chunk = max(1, ENTRIES // (4 * count))
    found = np.empty((3, len(points)))
    for start in range(0, len(points), chunk):
        part = slice(start, start + chunk)
        after, weights = states_after(step, edges, points[part], level)
        values = evaluate([expression], {**step.known, **more, **dict(zip(loss.parameters, after, strict=True))})[0]
        with np.errstate(all="ignore"):
            terms = np.where(weights > 0, values * weights, 0.0)
        sizes = np.abs(terms)
        found[:, part] = terms.sum(axis=1), sizes.sum(axis=1), np.where(weights < FAR, sizes, 0.0).sum(axis=1)
    return found


@dataclass(frozen=True, eq=False)
class MeshLaw:
    """A law of the parameters, as weights of the states of a mesh."""

    step: Step
    mesh: Mesh
    level: tuple[Level, ...]
    weights: np.ndarray

    @property
    def points(self) -> np.ndarray:
        """The parameters of each state, shape (state, parameter)."""
        return self.mesh.points


@dataclass(frozen=True, eq=False)
class SolvedMesh(MeshLaw):
    """The chain on a mesh with its stationary weights."""

    matrix: np.ndarray
    outside: np.ndarray
    factors: tuple[np.ndarray, np.ndarray]

    def means(self, expression: sympy.Expr, more: Mapping[str, float]) -> np.ndarray:
        """Means a step after each state: of the expression, of its magnitude, and of that far out; shape (3, state)."""
        return mean_of_formula(self.step, expression, self.points, self.level, more)

    def poisson(self, means: np.ndarray) -> np.ndarray:
        """The solution g of Poisson's equation g - P g = f - E f, for a function f on the mesh."""
        from scipy.linalg import lu_solve

        growth = self.mesh.growth
        return np.asarray(growth * lu_solve(self.factors, (means - self.weights @ means) / growth, trans=1))

    @cached_property
    def gap(self) -> float:
        """The distance from 1 to the nearest other eigenvalue of P."""
        vector = np.tanh(self.points[:, 0] - np.abs(self.weights) @ self.points[:, 0]) + 0.1 * np.cos(
            np.arange(len(self.points))
        )
        size = 1.0
        for _ in range(6):
            vector = self.poisson(vector)
            size = float(np.abs(vector / self.mesh.growth).max())
            vector /= size
        return 1.0 / size

    def rounding(self, means: np.ndarray) -> float:
        """The rounding error of an expectation: of its sum, and of the weights in it.

        The error of the weights follows from the solution of Poisson's equation; its size is told by the rows of P,
        which should sum to 1.
        """
        solution = self.poisson(means)
        sizes = np.abs(self.weights)
        relative = 8 * EPSILON + sizes @ np.abs(self.matrix.sum(axis=1) - 1.0)
        return float(relative * (sizes @ np.abs(means) + sizes @ np.abs(solution)))

    def eigenvalues(self, count: int) -> np.ndarray:
        """The largest eigenvalues of P by magnitude."""
        growth = self.mesh.growth
        scaled = self.matrix * growth
        scaled /= growth[:, None]
        return leading_eigenvalues(scaled, count, _TOLERANCE[len(self.mesh.axes) - 1])


def leading_eigenvalues(matrix: Any, count: int, tolerance: float = 0.0) -> np.ndarray:
    """The largest eigenvalues of a dense or sparse matrix by magnitude, to a relative tolerance; 0 for all digits."""
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import ArpackNoConvergence, eigs

    size = matrix.shape[0]
    if size < 4 * count + 40:
        found = np.linalg.eigvals(matrix if isinstance(matrix, np.ndarray) else matrix.toarray())
    else:
        if isinstance(matrix, np.ndarray) and np.count_nonzero(matrix) < 0.3 * matrix.size:
            matrix = csr_array(matrix)  # in two dimensions 1/8 is not zero: 1.3 s instead of 6.8 for 3,969 points
        begin = np.cos(np.arange(size) ** 1.5)
        options = {"which": "LM", "v0": begin, "return_eigenvectors": False, "ncv": min(size - 1, 2 * count + 20)}
        try:
            found = eigs(matrix, k=count, maxiter=20, tol=tolerance, **options)
        except ArpackNoConvergence as error:
            found = error.eigenvalues
    return np.asarray(found[np.argsort(-np.abs(found))][:count])


def solve_mesh(step: Step, mesh: Mesh, level: tuple[Level, ...]) -> SolvedMesh:
    """The chain on a mesh, with its stationary weights.

    Raises
    ------
    NotApplicable
        If the operator is not finite, or there is more than one stationary law.
    """
    from scipy.linalg import LinAlgError, lu_factor, lu_solve

    matrix, outside = backward_operator(step, mesh, level)
    budget.require(_SECONDS_A_FACTOR * len(matrix) ** 3, f"the equations of {len(matrix)} states")
    # The unknowns are the weights times the growth: far out, the weights alone would be lost in rounding. The guess, a
    # law in the middle, takes the place of the norm.
    growth = mesh.growth
    guess = growth**-2.0 / (growth**-2.0).sum()
    system = matrix * -growth
    system /= growth[:, None]
    system += guess * growth / growth[:, None]
    system[np.diag_indices_from(system)] += 1.0
    try:
        factors = lu_factor(system.T, overwrite_a=True)  # in the order of LAPACK, so that nothing is copied
    except (LinAlgError, ValueError):
        raise NotApplicable("the operator of the chain is not finite on its domain; simulate instead") from None
    weights = lu_solve(factors, guess * growth) / growth
    weights /= weights.sum()
    solved = SolvedMesh(step, mesh, level, weights, matrix, outside, factors)
    if not np.isfinite(weights).all():
        raise NotApplicable(SEVERAL)
    return solved
