"""The exact chain of a run with one or two parameters, as a referee for laws and simulations.

A step of a memoryless optimizer at a constant rate is a Markov chain. Its backward operator

    P f(x) = E f(x'(x, z)) = sum_k w_k f(x'(x, z_k))

is computed by quadrature, or an exact sum, over the noise, with f interpolated by polynomials on panels of the state
space. Steps that take finitely many values, as those of SignSGD, make a lattice of the start, on which the chain is
exact.

What is computed, is computed twice: with more panels, more nodes and a wider domain; the difference is the estimate
of the error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base.errors import shortened
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable
from sgdsim.theory.chain.density import check_density, density_after, distribution_at_nodes
from sgdsim.theory.chain.domain import Domain, find_domain, noise_levels
from sgdsim.theory.chain.lattice import Lattice, finite_moves, solve_lattice
from sgdsim.theory.chain.operator import SolvedMesh, solve_mesh
from sgdsim.theory.chain.passage import passage_on_lattice, passage_on_mesh
from sgdsim.theory.chain.pilot import run_pilot
from sgdsim.theory.chain.settings import (
    CROWDED,
    EPSILON,
    GAP,
    HOPELESS,
    LONG_TOLERANCE,
    MOST_PHASES,
    PHASES,
    SEVERAL,
    TOLERANCE,
    UNBOUNDED,
)
from sgdsim.theory.chain.step import Step, start_points
from sgdsim.theory.quadrature.nested import Numerical

if TYPE_CHECKING:
    import sympy


@dataclass(frozen=True, eq=False)
class Chain:
    """The stationary law of a run, computed at two finenesses.

    Attributes
    ----------
    step
        The step of the run.
    fine, coarse
        Pairs of a share and a solved chain: one pair on a mesh, or one for each phase of a lattice.
    domain
        The domain of the mesh; None for lattices.
    """

    step: Step
    fine: tuple[tuple[float, SolvedMesh | Lattice], ...]
    coarse: tuple[tuple[float, SolvedMesh | Lattice], ...]
    domain: Domain | None = None

    def expectation(self, formula: str) -> Numerical:
        """The stationary expectation of a formula in the parameters and constants.

        Raises
        ------
        NotApplicable
            If the expectation does not exist, or the chain does not settle it.

        Examples
        --------
        >>> from sgdsim.model.loss import Loss
        >>> from sgdsim.model.noise import Noise
        >>> from sgdsim.model.optimizers import Optimizer
        >>> from sgdsim.model.schedules import Schedule
        >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
        >>> law = chain(Run(loss, Optimizer(), Schedule("0.5"), {"x": 0.0}, 100, 10))
        >>> round(law.expectation("x**2").value, 12)
        0.333333333333
        """
        return self._mean(self.step.expression(formula), formula)

    def variance(self, formula: str) -> Numerical:
        """The stationary variance of a formula.

        Examples
        --------
        >>> from sgdsim.model.loss import Loss
        >>> from sgdsim.model.noise import Noise
        >>> from sgdsim.model.optimizers import Optimizer
        >>> from sgdsim.model.schedules import Schedule
        >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("rademacher")})
        >>> law = chain(Run(loss, Optimizer(), Schedule("0.5"), {"x": 0.0}, 100, 10))
        >>> round(law.variance("x").value, 12)
        0.333333333333
        """
        import sympy

        expression = self.step.expression(formula)
        mean = self._mean(expression, formula).value
        middle = sympy.Symbol("mean__", real=True)
        found = self._mean((expression - middle) ** 2, f"({formula} - its mean)**2", {"mean__": mean})
        bias = self._mean(expression - middle, formula, {"mean__": mean})
        return Numerical(
            found.value - bias.value**2, found.error + 2 * bias.error * np.sqrt(abs(found.value)) * EPSILON
        )

    def _mean(self, expression: sympy.Expr, what: str, more: Mapping[str, float] | None = None) -> Numerical:
        sums, sizes, rounding = [], 0.0, 0.0
        for side in (self.coarse, self.fine):
            total, sizes, rounding = 0.0, 0.0, 0.0
            for share, solved in side:
                means, magnitudes, far = np.where(solved.weights != 0, solved.means(expression, more or {}), 0.0)
                total += share * float(solved.weights @ means)
                sizes += share * float(np.abs(solved.weights) @ magnitudes)
                rounding += share * (solved.rounding(means) + float(np.abs(solved.weights) @ far))
            sums.append(total)
        error = abs(sums[1] - sums[0]) + rounding
        if not np.isfinite(error) or error > HOPELESS * sizes:
            raise NotApplicable(
                f"the expectation of {shortened(what)} is not settled: {sums[1]:g} with an error of {error:.1g}; it "
                "may not exist, as the law has heavy tails, or the law has features that are too fine; simulate instead"
            )
        return Numerical(sums[1], error)

    def relaxation(self, count: int) -> np.ndarray:
        """The leading eigenvalues of P after 1, by magnitude.

        Raises
        ------
        NotApplicable
            If fewer eigenvalues are settled, or if the start is drawn at random and the chain lives on lattices.

        Examples
        --------
        >>> from sgdsim.model.loss import Loss
        >>> from sgdsim.model.noise import Noise
        >>> from sgdsim.model.optimizers import Optimizer
        >>> from sgdsim.model.schedules import Schedule
        >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
        >>> law = chain(Run(loss, Optimizer(), Schedule("0.5"), {"x": 0.0}, 100, 10))
        >>> law.relaxation(3)
        array([0.5  , 0.25 , 0.125])
        """
        if len(self.fine) > 1:
            raise NotApplicable("the eigenvalues depend on the start, which is drawn; expected a number for each start")
        fine, coarse = (solved.eigenvalues(count + 8) for solved in self._spectral())
        fine = np.delete(fine, np.abs(fine - 1).argmin()) if len(fine) else fine
        settled = [v for v in fine if len(coarse) and np.abs(coarse - v).min() < 1e-5 * (1 + abs(v))]
        if len(settled) < count:
            raise NotApplicable(f"only {len(settled)} eigenvalues are settled, expected {count}; ask for fewer")
        found = np.array(settled[:count])
        return found.real if (np.abs(found.imag) < 1e-9).all() else found

    def _spectral(self) -> list[SolvedMesh | Lattice]:
        """A fine and a coarse chain for the eigenvalues, on a single panel where no noise smooths the law.

        On several panels functions that jump at their ends would have eigenvalues too.
        """
        fine = self.fine[0][1]
        long = self.domain is not None and self.domain.mapping.long
        if self.domain is None or isinstance(fine, Lattice) or long or self.step.is_smoothed:
            return [fine, self.coarse[0][1]]
        return [solve_mesh(self.step, self.domain.mesh(1, order), fine.level) for order in (64, 48)]

    def passage(self, formula: str, start: Mapping[str, float] | None = None) -> Numerical:
        """The mean number of steps until a formula is positive for the first time; 0 where it is at the start.

        Parameters
        ----------
        formula
            An expression in the parameters and constants.
        start
            A number for each parameter; None for the start of the run.

        Raises
        ------
        NotApplicable
            If the formula is hardly ever positive, or depends on two parameters together.

        Examples
        --------
        >>> from sgdsim.model.loss import Loss
        >>> from sgdsim.model.noise import Noise
        >>> from sgdsim.model.optimizers import Optimizer
        >>> from sgdsim.model.schedules import Schedule
        >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
        >>> law = chain(Run(loss, Optimizer(), Schedule("1"), {"x": 0.0}, 100, 10))
        >>> round(law.passage("x").value, 10)  # x' = -z is positive every other time
        2.0
        """
        run = self.step.run if start is None else replace(self.step.run, initial=dict(start))
        if self.domain is None:
            visited = np.concatenate([solved.points for _, solved in self.fine])
            return passage_on_lattice(self.step, visited, formula, run)
        return passage_on_mesh(self.step, self.domain, formula, run)

    def density(self, points: Any) -> np.ndarray:
        """The stationary density of the only parameter.

        Raises
        ------
        NotApplicable
            For two parameters, and where no continuous noise enters the step affinely.

        Examples
        --------
        >>> from sgdsim.model.loss import Loss
        >>> from sgdsim.model.noise import Noise
        >>> from sgdsim.model.optimizers import Optimizer
        >>> from sgdsim.model.schedules import Schedule
        >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
        >>> law = chain(Run(loss, Optimizer(), Schedule("1"), {"x": 0.0}, 100, 10))
        >>> law.density([0.0]).round(6)
        array([0.398942])
        """
        return density_after(self._smooth_law, np.asarray(points, dtype=np.float64))

    def cdf(self, points: Any) -> np.ndarray:
        """The stationary distribution function of the only parameter.

        Raises
        ------
        NotApplicable
            For the reasons of `density`; lattices do have a distribution function.

        Examples
        --------
        >>> from sgdsim.model.loss import Loss
        >>> from sgdsim.model.noise import Noise
        >>> from sgdsim.model.optimizers import Optimizer
        >>> from sgdsim.model.schedules import Schedule
        >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
        >>> law = chain(Run(loss, Optimizer(), Schedule("1"), {"x": 0.0}, 100, 10))
        >>> law.cdf([0.0, 1.0]).round(6)
        array([0.5     , 0.841345])
        """
        points = np.asarray(points, dtype=np.float64)
        if self.domain is None and len(self.step.after) == 1:
            atoms = np.concatenate([solved.points[:, 0] for _, solved in self.fine])
            shares = np.concatenate([share * solved.weights for share, solved in self.fine])
            order = np.argsort(atoms)
            sums = np.append(0.0, np.cumsum(shares[order]))
            return np.asarray(sums[np.searchsorted(atoms[order], points, side="right")])
        indices, factors, _ = self._smooth_law.mesh.basis([points])
        return np.asarray(np.clip((self._distribution[indices] * factors).sum(axis=-1), 0.0, 1.0))

    @cached_property
    def _distribution(self) -> np.ndarray:
        return distribution_at_nodes(self._smooth_law)[0]

    @property
    def _smooth_law(self) -> SolvedMesh:
        check_density(self.step)
        solved = self.fine[0][1]
        assert isinstance(solved, SolvedMesh)
        return solved


def chain(run: Run, tolerance: float | None = None) -> Chain:
    """The stationary law of a run of one or two parameters.

    Parameters
    ----------
    run
        A memoryless optimizer at a constant rate.
    tolerance
        Relative change of expectations, of bounded functions and squares, at which refinement stops; None for 1e-10 in
        one dimension (1e-7 where tails are long) and 1e-5 in two.

    Raises
    ------
    NotApplicable
        If there is no such law, or it cannot be computed: the message says why, and what can be had instead.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.noise import Noise
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("(x**2 - 1)**2/4 + z*x", ("x",), noise={"z": Noise.parse("normal")})
    >>> law = chain(Run(loss, Optimizer(), Schedule("0.1"), {"x": 1.0}, 100, 10))
    >>> found = law.expectation("x*(x**3 - x)")  # virial: (eta/2) (<V'^2> + 1)
    >>> abs(found.value - 0.05*(law.expectation("(x**3 - x)**2").value + 1)) < 1e-9
    True
    """
    rates = run.schedule.rates(run.steps)
    if rates.min() != rates.max():
        raise NotApplicable(
            f"the learning rate goes from {rates[0]:g} to {rates[-1]:g}, and a chain has one law at a constant rate "
            "only; take one rate, or --predict last-step for the law at the end of the run"
        )
    step = Step.of(run)
    pilot = run_pilot(step)
    moves = finite_moves(step)
    if moves is not None and (found := _phases(step, moves, pilot)) is not None:
        return found
    domain = find_domain(step, pilot)
    if tolerance is None:
        tolerance = LONG_TOLERANCE if domain.mapping.long else TOLERANCE[len(step.after) - 1]
    return _refined(step, domain, tolerance)


def _refined(step: Step, domain: Domain, tolerance: float) -> Chain:
    """The chain on finer and finer meshes, each in a wider domain, until the expectations of a few functions settle."""
    if len(step.after) == 1:
        ladder: tuple[tuple[int, int], ...] = ((16, 10), (32, 10), (64, 10), (128, 10))
    else:
        ladder = ((4, 8), (5, 8), (6, 8)) if step.edges or domain.breaks else ((4, 8), (6, 8), (7, 9))
    before: tuple[SolvedMesh, np.ndarray] | None = None
    for number, (panels, order) in enumerate(ladder):
        level = noise_levels(step, domain, number)
        solved = solve_mesh(step, domain.widened(0.03 * number).mesh(panels, order), level)
        tests = _tests(solved, domain)
        if before is not None and _changes(tests, before[1]).max() <= tolerance:
            break
        if number + 1 < len(ladder):
            before = solved, tests
    assert before is not None
    if solved.gap < GAP:
        crowded = solved.mesh.edge_share(solved.weights).max() > CROWDED
        raise NotApplicable(UNBOUNDED if crowded else SEVERAL)
    if (
        _changes(tests, before[1])[: 2 * len(step.after)].max() > HOPELESS
        or solved.mesh.masses(solved.weights).min() < -CROWDED
    ):
        raise NotApplicable(
            "the stationary law is not settled on the finest mesh: it is too narrow, or made of too many parts; "
            "simulate instead"
        )
    return Chain(step, ((1.0, solved),), ((1.0, before[0]),), domain)


def _tests(solved: SolvedMesh, domain: Domain) -> np.ndarray:
    """Expectations of a few functions, bounded ones first."""
    coordinates = np.array(domain.mapping.inwards(list(solved.points.T)))
    if domain.mapping.long:
        coordinates = np.sinh(coordinates)
    functions = np.array([np.tanh(coordinates / 2), np.tanh(coordinates / 2) ** 2]).reshape(-1, len(solved.points))
    more = [] if domain.mapping.long else [coordinates, coordinates[:1] ** 4]
    functions = np.concatenate([functions, coordinates**2, *more])
    return np.asarray(functions @ solved.weights)


def _changes(fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Change of expectations from a coarse mesh to a fine one, relative to those that are larger than one."""
    return np.asarray(np.abs(fine - coarse) / np.maximum(1.0, np.abs(fine)))


def _phases(step: Step, moves: np.ndarray, pilot: np.ndarray) -> Chain | None:
    """The chain on the lattices that its start can reach; None if they have too many states."""
    sides: list[list[tuple[float, Lattice]]] = [[], []]
    counts = (PHASES // 2, PHASES)
    drawn = any(not isinstance(start, float | int) for start in step.run.initial.values())
    for side, count in enumerate(counts):
        points, shares = start_points(step.run, count)
        if len(points) > MOST_PHASES:  # the start is a grid of very many points
            points = points[np.linspace(0, len(points) - 1, count).astype(np.int64)]
            shares = np.full(count, 1.0 / count)
        for point, share in zip(points, shares, strict=True):
            found = solve_lattice(step, point, moves, pilot)
            if found is None:
                return None
            sides[side].append((float(share), found[side]))
        if not drawn:
            sides = [[(1.0, found[0])], [(1.0, found[1])]] if found else sides
            break
    return Chain(step, tuple(sides[1]), tuple(sides[0]))
