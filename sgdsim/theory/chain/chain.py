"""The exact chain of a run with one or two parameters, as a referee for laws and simulations.

A step of a memoryless optimizer at a constant rate is a Markov chain. Its backward operator

    P f(x) = E f(x'(x, z)) = sum_k w_k f(x'(x, z_k))

is computed by quadrature, or an exact sum, over the noise, with f interpolated by polynomials on panels of the state
space. Stationary expectations are those of the left null vector of 1 - P, by a linear system: powers of a matrix of
high-degree interpolation may grow. Steps that take finitely many values, as those of SignSGD, make a lattice of the
start, on which the chain is exact.

What is computed, is computed twice: with more panels, more nodes and a wider domain; the difference is the estimate
of the error.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base.errors import InputError, shortened
from sgdsim.formulas.evaluation import evaluate, kinks
from sgdsim.formulas.formula import Formula
from sgdsim.model.noise import Noise
from sgdsim.model.run import Run
from sgdsim.model.starts import Grid, Stored
from sgdsim.prediction import NotApplicable
from sgdsim.theory.methods.batch_gradient import batch_rule
from sgdsim.theory.quadrature.nested import Numerical, Source, nodes
from sgdsim.theory.quadrature.rules import Level, density, rule

if TYPE_CHECKING:
    import sympy

_EPSILON = float(np.finfo(np.float64).eps)
_SEED = 20251121  # of the pilot
_PILOT = 512  # trajectories
_BLOCK = 100  # steps of the pilot between looks
_ENTRIES = 4_000_000  # of the operator that are computed at once
_EDGE = 1e-13  # share of the fourth moment at the edge of a domain in one dimension
_LEAK, _LOST, _WIDENED = 1e-8, 1e-3, 6  # of a step in two, where it is too much, and how often it is mended
_GAP = 1e-9  # between the eigenvalue 1 and the next
_STATES = 40_000  # of a lattice
_NEGLIGIBLE = (1e-60, 1e-18)  # weights of nodes, by dimension
_FAR = 1e-40  # weights of nodes from which nothing may come
_LEAST = 1e-7  # at an edge in any case
_WIDEST = 150.0  # a domain in units of the spread, before it is one of inverse hyperbolic sines,
_LONGEST = 80.0  # and the widest of these
_PATIENCE, _CROWDED = 12, 0.01  # domains that are tried while so much is at an edge
_PHASES, _MOST_PHASES = 32, 100  # of lattices of a start that is drawn, and that is listed
_TOLERANCE, _LONG_TOLERANCE = (1e-10, 1e-5), 1e-7  # by dimension, and of long tails


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a run, in symbols.

    Attributes
    ----------
    run
        Whose step it is.
    after
        Each parameter after it, in parameters, constants and the names of the sources.
    sources
        What is random.
    edges
        What vanishes where the step has a kink as a function of a continuous variable.
    """

    run: Run
    after: tuple[sympy.Expr, ...]
    sources: tuple[Source, ...]
    edges: tuple[sympy.Expr, ...]

    @property
    def known(self) -> Mapping[str, float]:
        """The constants of the loss."""
        return self.run.loss.constants

    def values(self, points: np.ndarray) -> dict[str, Any]:
        """Parameters at points of shape (point, parameter), and constants."""
        return {**self.known, **dict(zip(self.run.loss.parameters, points.T, strict=True))}


def step(run: Run) -> Step:
    """The step of a run.

    Raises
    ------
    NotApplicable
        For an optimizer with memory, a rate that changes, and batches that are too many to sum over.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
    >>> step(Run(loss, Optimizer(), Schedule("0.5"), {"x": 0.0}, 100, 10)).after
    (-a*x/2 + x - z/2,)
    """
    import sympy

    optimizer, loss = run.optimizer, run.loss
    if optimizer.rule.state:
        raise NotApplicable(
            f"{optimizer.name} remembers {', '.join(optimizer.rule.state)} from step to step, so that its parameters "
            "alone are no Markov chain; simulate instead"
        )
    rates = run.schedule.rates(run.steps)
    if rates.min() != rates.max():
        raise NotApplicable(
            f"the learning rate goes from {rates[0]:g} to {rates[-1]:g}, and a chain has one law at a constant rate "
            "only; simulate instead, or take one rate"
        )
    batch = batch_rule(run)
    values = {**optimizer.values, "learning_rate": float(rates[0])}
    theta, slope = sympy.Symbol("theta", real=True), sympy.Symbol("gradient", real=True)
    direction, kick = sympy.Symbol("direction", real=True), sympy.Symbol("xi", real=True)
    inner: dict[str, Any] = {**values, "theta": theta, "gradient": slope}
    for name, text in optimizer.inner:
        inner[name] = Formula.parse(text).expression(inner)
    pairs = zip(loss.theta, batch.gradient, strict=True)
    directions = [inner["direction"].xreplace({theta: x, slope: g}) for x, g in pairs]
    matrix = optimizer.matrix(loss)
    if matrix is not None:
        directions = list(matrix * sympy.Matrix(directions))
    final = Formula.parse(optimizer.final).expression({**values, "theta": theta, "direction": direction, "xi": kick})
    kicks = {symbol: sympy.Symbol(f"xi__{symbol.name}", real=True) for symbol in loss.theta}
    after = tuple(
        final.xreplace({theta: x, direction: d, kick: kicks[x]}) for x, d in zip(loss.theta, directions, strict=True)
    )
    given = [*batch.sources]
    if kick in final.free_symbols:
        given += [Source((symbol.name,), Noise("normal", (0.0, 1.0))) for symbol in kicks.values()]
    return Step(run, after, tuple(given), tuple(_noise_kinks(after, given)))


def _noise_kinks(expressions: Iterable[sympy.Expr], given: Iterable[Source]) -> list[sympy.Expr]:
    import sympy

    expressions = list(expressions)
    found: dict[Any, None] = {}
    for source in given:
        if not source.is_discrete:
            found |= dict.fromkeys(kinks(expressions, sympy.Symbol(source.names[0], real=True)))
    return list(found)


# The pilot


def _draw(source: Source, random: np.random.Generator, number: int) -> dict[str, np.ndarray]:
    if source.noise is None:
        assert source.table is not None
        chosen = random.choice(len(source.table), size=number, p=source.shares)
        return dict(zip(source.names, source.table[chosen].T, strict=True))
    draws = _noise_draws(source.noise, random, (source.samples, number))
    return {source.names[0]: draws.mean(axis=0)}


def _noise_draws(noise: Noise, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    arguments = noise.arguments
    if noise.atoms():
        values, shares = zip(*noise.atoms(), strict=True)
        weights = np.array(shares, dtype=np.float64)
        return random.choice(np.array(values, dtype=np.float64), size=shape, p=weights / weights.sum())
    if noise.family == "exponential":
        return np.asarray(arguments[0] * (random.standard_exponential(shape) - 1))
    draws: dict[str, Callable[..., np.ndarray]] = {
        "normal": random.normal,
        "uniform": random.uniform,
        "laplace": random.laplace,
        "lognormal": random.lognormal,
        "student_t": random.standard_t,
    }
    return np.asarray(draws[noise.family](*arguments, size=shape))


def _starts(run: Run, random: np.random.Generator) -> np.ndarray:
    """A sample of the start, shape (trajectory, parameter)."""
    columns = []
    for _, start in run.initial_items():
        if isinstance(start, Noise):
            columns.append(_noise_draws(start, random, (_PILOT,)))
        elif isinstance(start, Grid | Stored):
            number = min(run.trajectories, start.trajectories or run.trajectories)
            columns.append(np.resize(start.values(0, number)[:: max(1, number // _PILOT)], _PILOT))
        else:
            columns.append(np.full(_PILOT, float(start)))
    return np.array(columns).T


def _block(one: Step, state: np.ndarray, random: np.random.Generator, steps: int) -> np.ndarray:
    """The states of so many steps, shape (step, trajectory, parameter)."""
    states = np.empty((steps, *state.shape))
    for number in range(steps):
        values = one.values(state)
        for source in one.sources:
            values |= _draw(source, random, len(state))
        found = evaluate(one.after, values)
        state = np.array([np.broadcast_to(column, len(state)) for column in found]).T
        states[number] = state
    return states


def _pilot(one: Step) -> np.ndarray:
    """A sample of where the chain is after a while, shape (state, parameter)."""
    random = np.random.default_rng(_SEED)
    state = _starts(one.run, random)
    scales = []
    for _ in range(6):
        states = _block(one, state, random, _BLOCK)
        state = states[-1]
        if not np.isfinite(state).all() or np.abs(state).max() > 1e100:
            raise NotApplicable("the chain diverges: a trial of it left all bounds; take a lower learning rate")
        scales.append(_spread_of(states[_BLOCK // 2 :].reshape(-1, state.shape[1])))
        if len(scales) > 1 and (np.abs(scales[-1] - scales[-2]) < 0.1 * scales[-1]).all():
            break
    last = scales[-1]
    size = np.abs(state).max(axis=0)
    if (last <= 1e-12 * (1e-100 + size)).any() or (last < 1e-6 * scales[0]).any():
        raise NotApplicable(
            "the chain collapses: a trial of it runs into a point, or a line, on which nothing is random any more; "
            "evolve() gives its law after so many steps"
        )
    if (last > 1e6 * scales[0]).any():
        raise NotApplicable("the chain diverges: a trial of it spreads without bound; take a lower learning rate")
    return states[_BLOCK // 2 :].reshape(-1, state.shape[1])


def _spread_of(states: np.ndarray) -> np.ndarray:
    low, high = np.quantile(states, [0.16, 0.84], axis=0)
    spread = (high - low) / 2
    return np.asarray(np.where(spread > 0, spread, states.std(axis=0)))


# The mesh


@dataclass(frozen=True, eq=False)
class _Axis:
    """Panels of one coordinate, with so many Gauss-Legendre nodes each."""

    edges: np.ndarray
    order: int

    @cached_property
    def nodes(self) -> np.ndarray:
        points = np.polynomial.legendre.leggauss(self.order)[0]
        half = np.diff(self.edges)[:, None] / 2
        return np.asarray((self.edges[:-1, None] + half * (1 + points)).ravel())

    @cached_property
    def _transform(self) -> np.ndarray:
        """Of the values at the nodes of a panel to the coefficients of Legendre polynomials."""
        points, weights = np.polynomial.legendre.leggauss(self.order)
        degrees = np.arange(self.order)
        return (np.polynomial.legendre.legvander(points, self.order - 1) * weights[:, None] * (degrees + 0.5)).T

    def basis(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each value the index of the first node of its panel, and the factors of the nodes."""
        inside = np.clip(np.where(np.isnan(values), self.edges[0], values), self.edges[0], self.edges[-1])
        panel = np.clip(np.searchsorted(self.edges, inside, side="right") - 1, 0, len(self.edges) - 2)
        low, high = self.edges[panel], self.edges[panel + 1]
        place = (2 * inside - low - high) / (high - low)
        factors = np.polynomial.legendre.legvander(place.ravel(), self.order - 1) @ self._transform
        return panel * self.order, factors.reshape(*place.shape, self.order)

    def outside(self, values: np.ndarray) -> np.ndarray:
        """Whether a value is beyond both ends, or none."""
        return np.asarray(~((values >= self.edges[0]) & (values <= self.edges[-1])))


@dataclass(frozen=True, eq=False)
class _Map:
    """Coordinates of the panels: ``theta = centre + matrix @ v``, or ``v = sinh(u)`` where tails are long."""

    centre: np.ndarray
    matrix: np.ndarray
    long: bool = False

    def inwards(self, theta: Sequence[Any]) -> list[Any]:
        """Coordinates of parameters."""
        inverse = np.linalg.inv(self.matrix)
        shifted = [value - middle for value, middle in zip(theta, self.centre, strict=True)]
        found = [sum(factor * value for factor, value in zip(row, shifted, strict=True) if factor) for row in inverse]
        return [np.arcsinh(value) for value in found] if self.long else found

    def outwards(self, coordinates: np.ndarray) -> np.ndarray:
        """Parameters at coordinates, shape (point, parameter)."""
        v = np.sinh(coordinates) if self.long else coordinates
        return np.asarray(self.centre + v @ self.matrix.T)


@dataclass(frozen=True, eq=False)
class _Mesh:
    """The product of axes, and where functions on it may have kinks."""

    axes: tuple[_Axis, ...]
    map: _Map
    kinks: tuple[tuple[int, float], ...] = ()  # (parameter, value)

    @cached_property
    def points(self) -> np.ndarray:
        """Shape (state, parameter)."""
        grids = np.meshgrid(*(axis.nodes for axis in self.axes), indexing="ij")
        return self.map.outwards(np.array([grid.ravel() for grid in grids]).T)

    @property
    def size(self) -> int:
        """How many states there are."""
        return int(np.prod([len(axis.nodes) for axis in self.axes]))

    def basis(self, theta: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices and factors, shape (…, node), of an interpolation, and whether it is outside."""
        coordinates = self.map.inwards(theta)
        shape = np.shape(coordinates[0])
        indices, factors = np.zeros((*shape, 1), dtype=np.int32), np.ones((*shape, 1))
        outside = np.zeros(shape, dtype=bool)
        for axis, values in zip(self.axes, coordinates, strict=True):
            first, row = axis.basis(values)
            columns = first[..., None].astype(np.int32) + np.arange(axis.order, dtype=np.int32)
            indices = (indices[..., :, None] * len(axis.nodes) + columns[..., None, :]).reshape(*shape, -1)
            factors = (factors[..., :, None] * row[..., None, :]).reshape(*shape, -1)
            outside |= axis.outside(values)
        return indices, factors, outside

    @cached_property
    def growth(self) -> np.ndarray:
        """A function of the states whose expectation the law should settle: 1 in the middle, a power far out."""
        grids = np.meshgrid(*(axis.nodes for axis in self.axes), indexing="ij")
        if self.map.long:
            return np.asarray(np.cosh(grids[0].ravel()) ** 2)
        return np.asarray(1 + sum(grid.ravel() ** 4 for grid in grids))

    def masses(self, weights: np.ndarray) -> np.ndarray:
        """Sums over panels, which are probabilities, as single weights are not."""
        shape = [number for axis in self.axes for number in (len(axis.edges) - 1, axis.order)]
        return np.asarray(weights.reshape(shape).sum(axis=tuple(range(1, len(shape), 2))))

    def edge_share(self, weights: np.ndarray) -> np.ndarray:
        """What the outer panels hold: shape (axis, side)."""
        shape = tuple(len(axis.nodes) for axis in self.axes)
        found = np.empty((len(shape), 2))
        for number, axis in enumerate(self.axes):
            others = tuple(other for other in range(len(shape)) if other != number)
            marginal = np.abs(weights).reshape(shape).sum(axis=others)
            found[number] = marginal[: axis.order].sum(), marginal[-axis.order :].sum()
            found[number] /= marginal.sum()
        return found


def _mesh(
    box: Sequence[tuple[float, float]],
    mapping: _Map,
    panels: int,
    order: int,
    breaks: Sequence[tuple[int, float]] = (),
) -> _Mesh:
    """Panels of equal width, some of which end at the breaks, with finer ones beside these."""
    axes = []
    for number, (low, high) in enumerate(box):
        edges = _spaced(low, high, panels, mapping.long)
        width = (high - low) / panels
        for parameter, value in breaks:
            if parameter != number:
                continue
            point = np.zeros(len(box))
            point[number] = value
            place = mapping.inwards(list(point))[number]
            if not low < place < high:
                continue
            # Beside a kink of one parameter; two have too many states for that.
            graded = width * 0.5 ** np.arange(4) if len(box) == 1 else np.empty(0)
            edges = edges[np.abs(edges - place) > (1.2 if len(graded) else 0.4) * width]
            edges = np.concatenate([edges, [place], place - graded, place + graded])
        edges = np.unique(np.clip(edges, low, high))
        edges = edges[np.append(True, np.diff(edges) > 1e-9 * (high - low))]
        edges = np.unique(np.concatenate([[low], edges[1:-1], [high]]))
        axes.append(_Axis(edges, order))
    return _Mesh(tuple(axes), mapping, tuple(breaks))


def _spaced(low: float, high: float, panels: int, long: bool) -> np.ndarray:
    """Panels of equal width; of a long domain, half of them in the middle, and wider ones outside."""
    inner = max(low, -_MIDDLE), min(high, _MIDDLE)
    if not long or inner[0] >= inner[1]:
        return np.linspace(low, high, panels + 1)
    width = max(32.0 / panels, 0.75)
    parts = [np.linspace(*inner, panels // 2 + 1)]
    for start, stop in ((low, inner[0]), (inner[1], high)):
        if stop > start:
            parts.append(np.linspace(start, stop, 2 + int((stop - start) / width)))
    return np.unique(np.concatenate(parts))


_MIDDLE = 4.0  # of a long domain


# The operator


def _operator(one: Step, mesh: _Mesh, level: tuple[Level, ...]) -> tuple[np.ndarray, np.ndarray]:
    """P on the mesh, and the probability of a step that leaves it."""
    from scipy.sparse import csr_matrix

    edges = [*one.edges]
    if any(not source.is_discrete for source in one.sources):
        edges += [one.after[parameter] - _float(value) for parameter, value in mesh.kinks]
    size = mesh.size
    matrix, outside = np.empty((size, size)), np.empty(size)
    order = int(np.prod([axis.order for axis in mesh.axes]))
    chunk = max(1, _ENTRIES // (order * _node_count(one, edges, level, mesh.points[:1])))
    for start in range(0, size, chunk):
        part = slice(start, min(start + chunk, size))
        after, weights = _after(one, edges, mesh.points[part], level)
        indices, factors, beyond = mesh.basis(after)
        factors *= weights[..., None]
        # Not by small products of matrices, whose threads wait for each other: up to ten times slower on a busy CPU.
        pointers = np.arange(len(weights) + 1) * (indices.size // len(weights))
        found = csr_matrix((factors.ravel(), indices.ravel(), pointers), shape=(len(weights), size))
        matrix[part] = found.toarray()
        outside[part] = (beyond * weights).sum(axis=1)
    return matrix, outside


def _float(value: float) -> Any:
    from sgdsim.formulas.symbolic import exact

    return exact(float(value))


def _node_count(one: Step, edges: Sequence[sympy.Expr], level: tuple[Level, ...], point: np.ndarray) -> int:
    return int(_after(one, edges, point, level)[1].shape[1])


def _after(
    one: Step, edges: Sequence[sympy.Expr], points: np.ndarray, level: tuple[Level, ...]
) -> tuple[list[np.ndarray], np.ndarray]:
    """The parameters after a step from each point, and weights: shape (point, node)."""
    found = nodes(one.sources, edges, one.values(points), level)
    values = evaluate(one.after, found.values)
    shape = np.broadcast_shapes(found.weights.shape, *(np.shape(value) for value in values))
    shape = (len(points), *shape[1:])
    weights = np.broadcast_to(found.weights, shape).reshape(len(points), -1)
    kept = weights.max(axis=0) > _NEGLIGIBLE[len(values) - 1]
    flat = [np.broadcast_to(value, shape).reshape(len(points), -1)[:, kept] for value in values]
    return flat, weights[:, kept]


def _mean_later(one: Step, mesh: _Mesh, level: tuple[Level, ...], points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """P f at points, of a function on a mesh."""
    edges = [*one.edges, *(one.after[parameter] - _float(value) for parameter, value in mesh.kinks)]
    found = np.empty(len(points))
    for number in range(len(points)):
        after, weights = _after(one, edges, points[[number]], level)
        indices, factors, _ = mesh.basis(after)
        found[number] = ((values[indices] * factors).sum(axis=-1) * weights).sum()
    return found


def _mean_after(
    one: Step, expression: sympy.Expr, points: np.ndarray, level: tuple[Level, ...], more: Mapping[str, float]
) -> np.ndarray:
    """P f, P |f| and what of this is far out, at points, with f itself and not its interpolation; shape (3, point)."""
    loss = one.run.loss
    inner = [edge for symbol in loss.theta for edge in kinks([expression], symbol)]
    composed = dict(zip(loss.theta, one.after, strict=True))
    edges = [*one.edges, *(edge.xreplace(composed) for edge in dict.fromkeys(inner))]
    count = _node_count(one, edges, level, points[:1])
    chunk = max(1, _ENTRIES // (4 * count))
    found = np.empty((3, len(points)))
    for start in range(0, len(points), chunk):
        part = slice(start, start + chunk)
        after, weights = _after(one, edges, points[part], level)
        values = evaluate([expression], {**one.known, **more, **dict(zip(loss.parameters, after, strict=True))})[0]
        with np.errstate(all="ignore"):
            terms = np.where(weights > 0, values * weights, 0.0)
        sizes = np.abs(terms)
        found[:, part] = terms.sum(axis=1), sizes.sum(axis=1), np.where(weights < _FAR, sizes, 0.0).sum(axis=1)
    return found


# The stationary law


@dataclass(frozen=True, eq=False)
class _Solved:
    """The chain on a mesh with its stationary weights."""

    one: Step
    mesh: _Mesh
    level: tuple[Level, ...]
    matrix: np.ndarray
    outside: np.ndarray
    weights: np.ndarray
    factors: tuple[np.ndarray, np.ndarray]

    @property
    def points(self) -> np.ndarray:
        """States, shape (state, parameter)."""
        return self.mesh.points

    def means(self, expression: sympy.Expr, more: Mapping[str, float]) -> np.ndarray:
        """At each state what adds up, times its weight, to the expectation, to that of the magnitude, and far out."""
        return _mean_after(self.one, expression, self.points, self.level, more)

    def poisson(self, means: np.ndarray) -> np.ndarray:
        """What solves g - P g = f - E f."""
        from scipy.linalg import lu_solve

        growth = self.mesh.growth
        return np.asarray(growth * lu_solve(self.factors, (means - self.weights @ means) / growth))

    @cached_property
    def gap(self) -> float:
        """Between 1 and the nearest other eigenvalue of P."""
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
        """Of an expectation: that of the sum, and of the weights by what solves the Poisson equation."""
        solution = self.poisson(means)
        sizes = np.abs(self.weights)
        return float(8 * _EPSILON * (sizes @ np.abs(means) + sizes @ np.abs(solution)))

    def eigenvalues(self, count: int) -> np.ndarray:
        """The largest eigenvalues of P by magnitude."""
        growth = self.mesh.growth
        return _eigenvalues(self.matrix * growth / growth[:, None], count)


def _eigenvalues(matrix: Any, count: int) -> np.ndarray:
    from scipy.sparse.linalg import ArpackNoConvergence, eigs

    size = matrix.shape[0]
    if size < 4 * count + 40:
        found = np.linalg.eigvals(matrix if isinstance(matrix, np.ndarray) else matrix.toarray())
    else:
        begin = np.cos(np.arange(size) ** 1.5)
        options = {"which": "LM", "v0": begin, "return_eigenvectors": False, "ncv": min(size - 1, 4 * count + 20)}
        try:
            found = eigs(matrix, k=count, maxiter=20, **options)
        except ArpackNoConvergence as error:
            found = error.eigenvalues
    return np.asarray(found[np.argsort(-np.abs(found))][:count])


def _solve(one: Step, mesh: _Mesh, level: tuple[Level, ...]) -> _Solved:
    from scipy.linalg import LinAlgError, lu_factor, lu_solve

    matrix, outside = _operator(one, mesh, level)
    # For the weights times the growth, which would be lost in rounding far out; the guess is in the middle.
    growth = mesh.growth
    guess = growth**-2.0 / (growth**-2.0).sum()
    system = (np.eye(len(matrix)) - matrix + guess) * growth / growth[:, None]
    try:
        factors = lu_factor(system, check_finite=True)
    except (LinAlgError, ValueError):
        raise NotApplicable("the operator of the chain is not finite on its domain; simulate instead") from None
    weights = lu_solve(factors, guess * growth, trans=1) / growth
    weights /= weights.sum()
    solved = _Solved(one, mesh, level, matrix, outside, weights, factors)
    if not np.isfinite(weights).all():
        raise NotApplicable(_SEVERAL)
    return solved


_SEVERAL = (
    "the chain has more than one stationary law: there are parts of its space that it never, or hardly ever, leaves; "
    "evolve() gives its law after so many steps"
)
_UNBOUNDED = (
    "the chain has no stationary law that could be found: its domain had to be widened again and again, as where a "
    "parameter diffuses without bound or escapes; evolve() gives its law after so many steps"
)


@dataclass(frozen=True, eq=False)
class _Domain:
    """Where the chain is, and with which coordinates."""

    box: tuple[tuple[float, float], ...]
    mapping: _Map
    breaks: tuple[tuple[int, float], ...]

    def widened(self, share: float) -> _Domain:
        """By a share of its width on either side, but not where it is finite by itself."""
        box = tuple((low - share * (high - low), high + share * (high - low)) for low, high in self.box)
        return replace(self, box=box)

    def mesh(self, panels: int, order: int) -> _Mesh:
        """Panels of this domain."""
        return _mesh(self.box, self.mapping, panels, order, self.breaks)


def _domain(one: Step, pilot: np.ndarray) -> _Domain:
    """Widened, or narrowed, until nothing is at its edge."""
    domain = _first_domain(one, pilot)
    if pilot.shape[1] > 1:
        return _held(one, domain)
    panels, order = 20, 10
    level = _levels(one, domain, 0)
    width = max(high - low for low, high in domain.box)
    for trial in range(60):
        solved = _solve(one, domain.mesh(panels, order), level)
        shares = solved.mesh.edge_share(solved.weights * solved.mesh.growth)
        # Rounding is all that is left at an edge from where the chain hardly returns.
        least = min(_EDGE + 100 * _EPSILON / solved.gap, _LEAST)
        box = [_adapted(axis, shares[n], solved, n, least) for n, axis in enumerate(domain.box)]
        if tuple(box) == domain.box:
            return domain
        if trial > _PATIENCE and solved.mesh.edge_share(solved.weights).max() > _CROWDED:
            raise NotApplicable(_UNBOUNDED)
        domain = replace(domain, box=tuple(box))
        now = max(high - low for low, high in domain.box)
        if not domain.mapping.long and now > _WIDEST:
            domain = _long(domain, pilot)
            width = domain.box[0][1] - domain.box[0][0]
        elif domain.mapping.long and now > _LONGEST:
            return domain
        elif now < 1e-6 * width:
            raise NotApplicable("the chain collapses onto a point; evolve() gives its law after so many steps")
        elif now > 1e3 * width:
            raise NotApplicable(_UNBOUNDED)
    raise NotApplicable(_UNBOUNDED)


def _held(one: Step, domain: _Domain) -> _Domain:
    """Two parameters: widened until hardly anything leaves in a step, or as little as the mesh can tell."""
    before, mesh = np.inf, (4, 6) if one.edges or domain.breaks else (5, 8)  # as kinks take many nodes of the noise
    for _ in range(_WIDENED):
        solved = _solve(one, domain.mesh(*mesh), _levels(one, domain, 0))
        leak = abs(float(solved.weights @ solved.outside))
        if leak < _LEAK or leak > before / 3:
            break
        domain, before = domain.widened(0.12), leak
    if solved.mesh.edge_share(solved.weights).max() > 0.3 or leak > _LOST:
        raise NotApplicable(_UNBOUNDED)
    return domain


def _adapted(
    axis: tuple[float, float], shares: np.ndarray, solved: _Solved, number: int, limit: float
) -> tuple[float, float]:
    low, high = axis
    step_out = 0.15 * (high - low)
    sides = [low - step_out if shares[0] > limit else low, high + step_out if shares[1] > limit else high]
    if (shares > limit).any():
        return sides[0], sides[1]
    mesh = solved.mesh
    shape = tuple(len(one.nodes) for one in mesh.axes)
    others = tuple(other for other in range(len(shape)) if other != number)
    marginal = (
        np.abs(solved.weights * mesh.growth)
        .reshape(shape)
        .sum(axis=others)
        .reshape(-1, mesh.axes[number].order)
        .sum(axis=1)
    )
    held = np.flatnonzero(marginal > limit * 1e-4 * marginal.sum())
    edges = mesh.axes[number].edges
    if len(held) < 0.4 * len(marginal):
        first, last = max(held[0] - 1, 0), min(held[-1] + 2, len(edges) - 1)
        return float(edges[first]), float(edges[last])
    return axis


def _first_domain(one: Step, pilot: np.ndarray) -> _Domain:
    low, high = pilot.min(axis=0), pilot.max(axis=0)
    if pilot.shape[1] == 1:
        matrix = np.diag(_spread_of(pilot))
        centre = np.median(pilot, axis=0)
        breaks = _state_breaks(one, float(low[0] - 5 * (high - low)[0]), float(high[0] + 5 * (high - low)[0]))
    else:
        centre = pilot.mean(axis=0)
        matrix = np.linalg.cholesky(np.cov(pilot.T) + 1e-14 * np.diag(pilot.var(axis=0)))
        breaks = _axis_breaks(one)
        if breaks:
            matrix = np.diag(pilot.std(axis=0))
    mapping = _Map(centre, matrix)
    inside = mapping.inwards(list(pilot.T))
    box = tuple((float(v.min() - 0.3 * np.ptp(v)), float(v.max() + 0.3 * np.ptp(v))) for v in inside)
    return _Domain(box, mapping, breaks)


def _long(domain: _Domain, pilot: np.ndarray) -> _Domain:
    mapping = replace(domain.mapping, long=True)
    ((low, high),) = domain.box
    return replace(domain, mapping=mapping, box=((float(np.arcsinh(low)), float(np.arcsinh(high))),))


def _state_breaks(one: Step, low: float, high: float) -> tuple[tuple[int, float], ...]:
    """Kinks of P f in the only parameter: of the step without noise, with discrete noise, and at kinks of densities."""
    symbol = one.run.loss.theta[0]
    found: set[float] = set()
    for edge in kinks(one.after, symbol):
        for at in _singular(one.sources, {s.name for s in edge.free_symbols}):
            found |= set(_roots(edge, symbol.name, {**one.known, **at}, low, high))
    return tuple((0, value) for value in sorted(found)[:_MOST_BREAKS])


_MOST_BREAKS = 12


def _singular(given: Sequence[Source], used: set[str]) -> list[dict[str, float]]:
    """Values of what is random at which an edge makes a kink that no noise smooths; none where there are too many."""
    choices: list[list[dict[str, float]]] = []
    for source in given:
        if not used & set(source.names):
            continue
        if source.noise is None:
            assert source.table is not None
            choices.append([dict(zip(source.names, row, strict=True)) for row in source.table.tolist()])
        else:
            choices.append([{source.names[0]: value} for value in _singularities(source.noise)])
    if np.prod([len(choice) for choice in choices]) > _MOST_BREAKS:
        return []
    return [{k: v for part in parts for k, v in part.items()} for parts in itertools.product(*choices)]


def _singularities(noise: Noise) -> list[float]:
    if noise.atoms():
        return [float(value) for value, _ in noise.atoms()]
    return {
        "laplace": [noise.arguments[0]],
        "uniform": list(noise.arguments),
        "exponential": [-noise.arguments[0]],
    }.get(noise.family, [])


def _axis_breaks(one: Step) -> tuple[tuple[int, float], ...]:
    """Kinks of the step at a value of one of two parameters."""
    theta = one.run.loss.theta
    found: set[tuple[int, float]] = set()
    for number, symbol in enumerate(theta):
        for edge in kinks(one.after, symbol):
            names = {s.name for s in edge.free_symbols}
            if theta[1 - number] not in edge.free_symbols and not any(names & set(s.names) for s in one.sources):
                found |= {(number, root) for root in _roots(edge, symbol.name, one.known, -1e3, 1e3)}
    return tuple(sorted(found)[:_MOST_BREAKS])


def _roots(edge: sympy.Expr, name: str, values: Mapping[str, float], low: float, high: float) -> list[float]:
    """Sign changes between 400 points, bisected."""

    def at(x: Any) -> Any:
        return np.broadcast_to(evaluate([edge], {**values, name: x})[0], np.shape(x))

    grid = np.linspace(low, high, 401) + 1e-7 * (high - low)
    signs = at(grid) > 0
    place = np.flatnonzero(signs[1:] != signs[:-1])
    left, right = grid[place], grid[place + 1]
    for _ in range(80):
        middle = (left + right) / 2
        same = (at(middle) > 0) == signs[place]
        left, right = np.where(same, middle, left), np.where(same, right, middle)
    found = (left + right) / 2
    return [float(x) if abs(x) > 1e-15 * (high - low) else 0.0 for x in found]


def _levels(one: Step, domain: _Domain, fineness: int) -> tuple[Level, ...]:
    """Of the noise: Gauss rules where functions are smooth, panels where they are not or tails are heavy."""
    edges = [*one.edges, *(one.after[parameter] for parameter in {number for number, _ in domain.breaks})]
    later: set[str] = set()
    kinked: set[str] = set()
    for source in reversed(one.sources):  # the last one that an edge depends on
        used = [edge for edge in edges if set(source.names) & {symbol.name for symbol in edge.free_symbols}]
        fresh = [edge for edge in used if not later & {symbol.name for symbol in edge.free_symbols}]
        if not source.is_discrete:
            later |= set(source.names)
            if fresh or _is_rough(one, source, domain.mapping.long):
                kinked |= set(source.names)
    several = min(sum(not source.is_discrete for source in one.sources), 4)
    if not several:
        return tuple(Level(1) for _ in one.sources)
    smooth = ((24, 32, 48, 64), (10, 14, 18, 24), (6, 8, 10, 12), (4, 5, 6, 7))[several - 1][fineness]
    fine = several - 1 if len(one.after) == 1 else max(several - 1, 2)
    panel = ((8, 12, 16, 20), (6, 8, 10, 12), (4, 5, 6, 7), (3, 4, 5, 6))[fine][fineness]
    return tuple(Level(panel, 1) if set(source.names) & kinked else Level(smooth) for source in one.sources)


def _is_rough(one: Step, source: Source, long: bool) -> bool:
    """Whether tails are heavy, or a state far out is thrown to the middle by a narrow range of the noise."""
    import sympy

    if source.noise is not None and source.noise.family == "student_t":
        return True
    variable = sympy.Symbol(source.names[0], real=True)
    factors = {symbol for after in one.after for symbol in after.diff(variable).free_symbols}
    return long and bool(factors & set(one.run.loss.theta))


# Lattices


@dataclass(frozen=True, eq=False)
class _Lattice:
    """The states that a start can reach by steps of finitely many values, with the stationary weights of each."""

    one: Step
    points: np.ndarray
    matrix: Any
    weights: np.ndarray

    def means(self, expression: sympy.Expr, more: Mapping[str, float]) -> np.ndarray:
        """The expression itself at each state, and its magnitude."""
        values = {**self.one.values(self.points), **more}
        found = np.broadcast_to(evaluate([expression], values)[0], len(self.points))
        return np.array([found, np.abs(found), np.zeros(len(found))])

    def rounding(self, means: np.ndarray) -> float:
        """Of the sum, with weights to a few digits less than a double has."""
        return float(64 * _EPSILON * (np.abs(self.weights) @ np.abs(means)))

    def eigenvalues(self, count: int) -> np.ndarray:
        """The largest eigenvalues of P by magnitude."""
        return _eigenvalues(self.matrix, count)


def _moves(one: Step) -> np.ndarray | None:
    """The displacements of a step, shape (move, parameter); None where they are not finitely many numbers."""
    import sympy

    from sgdsim.formulas.symbolic import sign
    from sgdsim.formulas.symbolic import step as step_function

    discrete = [source for source in one.sources if source.noise is not None and source.is_discrete]
    switches = sorted(sympy.Tuple(*one.after).atoms(sign, step_function), key=str)
    names = {node: sympy.Symbol(f"switch__{number}", real=True) for number, node in enumerate(switches)}
    changes = [
        sympy.expand(after.xreplace(names) - symbol)
        for after, symbol in zip(one.after, one.run.loss.theta, strict=True)
    ]
    allowed = {*names.values(), *(sympy.Symbol(source.names[0], real=True) for source in discrete)}
    free = set().union(*(change.free_symbols for change in changes))
    if {symbol for symbol in free if symbol.name not in one.known} - allowed:
        return None
    choices: dict[str, list[float]] = {s.name: [-1.0, 0.0, 1.0] for s in names.values() if s in free}
    for source in discrete:
        assert source.noise is not None
        if sympy.Symbol(source.names[0], real=True) in free:
            choices[source.names[0]] = [float(value) for value, _ in source.noise.atoms()]
    if np.prod([len(values) for values in choices.values()]) > _MOST_MOVES:
        return None
    grid = np.array(list(itertools.product(*choices.values()))).reshape(-1, len(choices)).T
    found = evaluate(changes, {**one.known, **dict(zip(choices, grid, strict=True))})
    columns = np.array([np.broadcast_to(column, grid.shape[1] if choices else 1) for column in found]).T
    return np.asarray(np.unique(np.round(columns, 14), axis=0))


_MOST_MOVES = 100


def _chances(one: Step, points: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """The probability of each move from each point."""
    edges = list(dict.fromkeys([*one.edges]))
    found = np.zeros((len(points), len(moves)))
    continuous = sum(not source.is_discrete for source in one.sources)
    level = (Level(16 if continuous < 2 else 8, 1),) * len(one.sources)
    parts = [np.unique(column) for column in moves.T]
    table = np.zeros([len(values) for values in parts], dtype=np.int64)
    places = [np.searchsorted(values, column) for values, column in zip(parts, moves.T, strict=True)]
    table[tuple(places)] = np.arange(len(moves))
    count = _node_count(one, edges, level, points[:1])
    chunk = max(1, _ENTRIES // (4 * count))
    for start in range(0, len(points), chunk):
        part = slice(start, start + chunk)
        after, weights = _after(one, edges, points[part], level)
        nearest = tuple(
            np.searchsorted((values[1:] + values[:-1]) / 2, column - points[part, n][:, None])
            for n, (values, column) in enumerate(zip(parts, after, strict=True))
        )
        rows = np.arange(len(weights))[:, None] * len(moves)
        sums = np.bincount((rows + table[nearest]).ravel(), weights.ravel(), len(weights) * len(moves))
        found[part] = sums.reshape(len(weights), -1)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _lattice(one: Step, start: np.ndarray, moves: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, Any] | None:
    """All states within a box, and P, where a move that leaves it is not made; None for too many."""
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
        targets = (np.array(frontier)[:, None] + moves).reshape(-1, len(start))
        targets = targets[((targets >= box[0]) & (targets <= box[1])).all(axis=1)]
        frontier = []
        for key, target in zip(keys(targets), targets, strict=True):
            if key not in index:
                index[key] = len(states)
                states.append(target)
                frontier.append(target)
        if len(states) > _STATES:
            return None
    points = np.array(states)
    chances = _chances(one, points, moves)
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
        raise NotApplicable(_SEVERAL)
    members = np.flatnonzero(label == closed[0])
    weights = np.zeros(matrix.shape[0])
    if len(members) == 1:
        weights[members] = 1.0
        return weights
    inner = matrix[members][:, members]
    visits = np.ones(len(members)) / len(members)
    for _ in range(200):
        visits = (visits + visits @ inner) / 2
    reference = int(visits.argmax())
    others = np.delete(np.arange(len(members)), reference)
    system = csc_matrix(identity(len(others)) - inner[others][:, others])
    ratios = splu(system.T.tocsc()).solve(np.asarray(inner[[reference]][:, others].todense()).ravel())
    found = np.empty(len(members))
    found[reference], found[others] = 1.0, ratios
    weights[members] = found / found.sum()
    return weights


def _solved_lattice(one: Step, start: np.ndarray, moves: np.ndarray, pilot: np.ndarray) -> list[_Lattice] | None:
    """On a domain with nothing at its edge, and on a wider one."""
    reach = np.abs(moves).max(axis=0)
    low, high = np.minimum(pilot.min(axis=0), start) - 4 * reach, np.maximum(pilot.max(axis=0), start) + 4 * reach
    found: list[_Lattice] = []
    for _ in range(40):
        made = _lattice(one, start, moves, np.array([low, high]))
        if made is None:
            return None
        points, matrix = made
        weights = _lattice_weights(matrix)
        at_edge = ((points < low + 2 * reach) | (points > high - 2 * reach)).any(axis=1)
        size = 1 + (((points - pilot.mean(axis=0)) / (reach + pilot.std(axis=0))) ** 4).sum(axis=1)
        share = float(weights[at_edge] @ size[at_edge] / (weights @ size))
        if share <= _EDGE:
            found.append(_Lattice(one, points, matrix, weights))
        if len(found) == 2:
            return found
        low, high = low - 0.25 * (high - low) - reach, high + 0.25 * (high - low) + reach
    raise NotApplicable(_UNBOUNDED)


# Starts


def _start_points(run: Run, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights of the start, shape (point, parameter) and (point,); grids and stored values go together."""
    listed = [n for n, (_, start) in enumerate(run.initial_items()) if isinstance(start, Grid | Stored)]
    points, weights = np.zeros((1, len(run.initial))), np.ones(1)
    if listed:
        found = np.zeros((run.trajectories, len(run.initial)))
        for number, (_, start) in enumerate(run.initial_items()):
            if isinstance(start, Grid | Stored):
                found[:, number] = start.values(0, run.trajectories)
        points, counts = np.unique(found, axis=0, return_counts=True)
        weights = counts / counts.sum()
    for number, (_, start) in enumerate(run.initial_items()):
        if isinstance(start, Noise):
            values, shares = rule(start, count)
            points, several = np.repeat(points, len(values), axis=0), len(points)
            points[:, number] = np.tile(values, several)
            weights = np.outer(weights, shares).ravel()
        elif not isinstance(start, Grid | Stored):
            points[:, number] = float(start)
    return points[weights > 0], weights[weights > 0]


# What is asked


@dataclass(frozen=True, eq=False)
class Chain:
    """The stationary law of a run, computed at two finenesses.

    Attributes
    ----------
    one
        The step.
    fine, coarse
        Shares, and the chain of each: one on a mesh, or one a phase of a lattice.
    domain
        Of the mesh; None for lattices.
    """

    one: Step
    fine: tuple[tuple[float, _Solved | _Lattice], ...]
    coarse: tuple[tuple[float, _Solved | _Lattice], ...]
    domain: _Domain | None = None

    def expectation(self, formula: str) -> Numerical:
        """The stationary expectation of a formula in the parameters and constants.

        Raises
        ------
        NotApplicable
            Where it does not exist, or the chain does not settle it.

        Examples
        --------
        >>> from sgdsim.model.loss import Loss
        >>> from sgdsim.model.optimizers import Optimizer
        >>> from sgdsim.model.schedules import Schedule
        >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
        >>> law = chain(Run(loss, Optimizer(), Schedule("0.5"), {"x": 0.0}, 100, 10))
        >>> round(law.expectation("x**2").value, 12)
        0.333333333333
        """
        return self._mean(_expression(self.one.run, formula), formula)

    def variance(self, formula: str) -> Numerical:
        """The stationary variance of a formula.

        Examples
        --------
        >>> from sgdsim.model.loss import Loss
        >>> from sgdsim.model.optimizers import Optimizer
        >>> from sgdsim.model.schedules import Schedule
        >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("rademacher")})
        >>> law = chain(Run(loss, Optimizer(), Schedule("0.5"), {"x": 0.0}, 100, 10))
        >>> round(law.variance("x").value, 12)
        0.333333333333
        """
        import sympy

        expression = _expression(self.one.run, formula)
        mean = self._mean(expression, formula).value
        middle = sympy.Symbol("mean__", real=True)
        found = self._mean((expression - middle) ** 2, f"({formula} - its mean)**2", {"mean__": mean})
        bias = self._mean(expression - middle, formula, {"mean__": mean})
        return Numerical(
            found.value - bias.value**2, found.error + 2 * bias.error * np.sqrt(abs(found.value)) * _EPSILON
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
        if not np.isfinite(error) or error > _HOPELESS * sizes:
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
            Where fewer are settled, and for a start that is drawn on a lattice.

        Examples
        --------
        >>> from sgdsim.model.loss import Loss
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

    def _spectral(self) -> list[_Solved | _Lattice]:
        """On one panel where the noise smooths nothing: on several, functions with jumps have eigenvalues too."""
        fine = self.fine[0][1]
        long = self.domain is not None and self.domain.mapping.long
        smoothed = any(not source.is_discrete for source in self.one.sources)
        if self.domain is None or isinstance(fine, _Lattice) or long or smoothed:
            return [fine, self.coarse[0][1]]
        return [_solve(self.one, self.domain.mesh(1, order), fine.level) for order in (64, 48)]

    def passage(self, formula: str, start: Mapping[str, float] | None = None) -> Numerical:
        """The mean number of steps until a formula is positive for the first time; 0 where it is at the start.

        Parameters
        ----------
        formula
            In the parameters and constants.
        start
            A number for each parameter; None for the start of the run.

        Raises
        ------
        NotApplicable
            Where it hardly ever is, and for two parameters that it depends on together.

        Examples
        --------
        >>> from sgdsim.model.loss import Loss
        >>> from sgdsim.model.optimizers import Optimizer
        >>> from sgdsim.model.schedules import Schedule
        >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
        >>> law = chain(Run(loss, Optimizer(), Schedule("1"), {"x": 0.0}, 100, 10))
        >>> round(law.passage("x").value, 10)  # x' = -z is positive every other time
        2.0
        """
        expression = _expression(self.one.run, formula)
        run = self.one.run if start is None else replace(self.one.run, initial=dict(start))
        if self.domain is None:
            return self._lattice_passage(expression, formula, run)
        points, shares = _start_points(run, 48)
        domain = _passage_domain(self.one, self.domain, expression, points)
        if (_values(self.one, expression, points) > 0).all():
            return Numerical(0.0, 0.0)
        found = []
        first = 2 - len(self.one.after)
        for fineness, wider in ((first, domain), (first + 1, domain.widened(0.05))):
            panels, order = _fineness(self.one, fineness)
            mesh = wider.mesh(panels, order)
            level = _levels(self.one, wider, fineness)
            matrix, _ = _operator(self.one, mesh, level)
            open_ = _values(self.one, expression, mesh.points) <= 0
            times = _passage_times(matrix, open_, formula)
            begun = _values(self.one, expression, points) > 0
            at_start = np.where(begun, 0.0, 1.0 + _mean_later(self.one, mesh, level, points, times))
            found.append(float(shares @ at_start))
        error = abs(found[1] - found[0]) + 64 * _EPSILON * abs(found[1]) * max(1.0, abs(found[1]))
        if not found[1] >= 0 or error > 0.5 * abs(found[1]) + 1e-300:
            raise NotApplicable(_rare(formula))
        return Numerical(found[1], error)

    def _lattice_passage(self, expression: sympy.Expr, formula: str, run: Run) -> Numerical:
        pilot = np.concatenate([solved.points for _, solved in self.fine])
        moves = _moves(self.one)
        assert moves is not None
        points, shares = _start_points(run, _PHASES)
        found = []
        for share_out in (0.5, 1.0):
            total = 0.0
            reach = share_out * np.ptp(pilot, axis=0) + 4 * np.abs(moves).max(axis=0)
            for point, share in zip(points, shares, strict=True):
                box = np.array(
                    [np.minimum(pilot.min(axis=0), point) - reach, np.maximum(pilot.max(axis=0), point) + reach]
                )
                made = _lattice(self.one, point, moves, box)
                if made is None:
                    raise NotApplicable("the lattice has too many states; simulate instead")
                open_ = _values(self.one, expression, made[0]) <= 0
                total += share * _passage_times(made[1], open_, formula)[0]
            found.append(total)
        return Numerical(found[1], abs(found[1] - found[0]) + 64 * _EPSILON * found[1] * max(1.0, found[1]))

    def density(self, points: Any) -> np.ndarray:
        """The stationary density of the only parameter.

        Raises
        ------
        NotApplicable
            For two parameters, and where no continuous noise enters the step affinely.

        Examples
        --------
        >>> from sgdsim.model.loss import Loss
        >>> from sgdsim.model.optimizers import Optimizer
        >>> from sgdsim.model.schedules import Schedule
        >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
        >>> law = chain(Run(loss, Optimizer(), Schedule("1"), {"x": 0.0}, 100, 10))
        >>> law.density([0.0]).round(6)
        array([0.398942])
        """
        solved = self._smooth_law()
        points = np.asarray(points, dtype=np.float64)
        found = np.empty(points.size)
        for start in range(0, points.size, 64):
            part = slice(start, start + 64)
            found[part] = solved.weights @ _arrival(self.one, solved.points, points.ravel()[part], solved.level)
        return found.reshape(points.shape)

    def cdf(self, points: Any) -> np.ndarray:
        """The stationary distribution function of the only parameter.

        Raises
        ------
        NotApplicable
            As `density`, but not for lattices.

        Examples
        --------
        >>> from sgdsim.model.loss import Loss
        >>> from sgdsim.model.optimizers import Optimizer
        >>> from sgdsim.model.schedules import Schedule
        >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
        >>> law = chain(Run(loss, Optimizer(), Schedule("1"), {"x": 0.0}, 100, 10))
        >>> law.cdf([0.0, 1.0]).round(6)
        array([0.5     , 0.841345])
        """
        points = np.asarray(points, dtype=np.float64)
        if self.domain is None and len(self.one.after) == 1:
            atoms = np.concatenate([solved.points[:, 0] for _, solved in self.fine])
            shares = np.concatenate([share * solved.weights for share, solved in self.fine])
            order = np.argsort(atoms)
            sums = np.append(0.0, np.cumsum(shares[order]))
            return np.asarray(sums[np.searchsorted(atoms[order], points, side="right")])
        mesh, values = self._distribution
        indices, factors, _ = mesh.basis([points])
        return np.asarray(np.clip((values[indices] * factors).sum(axis=-1), 0.0, 1.0))

    @cached_property
    def _distribution(self) -> tuple[_Mesh, np.ndarray]:
        """The integral of the density at the nodes of the mesh, and one more at the end of each panel."""
        solved = self._smooth_law()
        mesh, axis = solved.mesh, solved.mesh.axes[0]
        slope = np.cosh(axis.nodes) if mesh.map.long else np.ones_like(axis.nodes)
        heights = (self.density(solved.points[:, 0]) * slope * mesh.map.matrix[0, 0]).reshape(-1, axis.order)
        nodes_, weights = np.polynomial.legendre.leggauss(axis.order)
        half = np.diff(axis.edges)[:, None] / 2
        series = np.polynomial.legendre.legfit(nodes_, heights.T, axis.order - 1)
        integral = np.polynomial.legendre.legint(series, lbnd=-1)
        within = half * np.polynomial.legendre.legval(nodes_, integral)
        panels = (half * heights * weights).sum(axis=1)
        before = np.append(0.0, np.cumsum(panels)[:-1])[:, None]
        return mesh, ((before + within) / panels.sum()).ravel()

    def _smooth_law(self) -> _Solved:
        solved = self.fine[0][1]
        if len(self.one.after) > 1:
            raise NotApplicable("a density is computed of one parameter alone; ask for expectations")
        if isinstance(solved, _Lattice) or _smooth_source(self.one) is None:
            raise NotApplicable(_NO_DENSITY)
        return solved


_NO_DENSITY = (
    "no continuous noise enters the step affinely with a factor that is not random itself, and the law may have no "
    "density; ask for expectations, such as of step(x - 1)"
)
_HOPELESS = 0.3


def _rare(formula: str) -> str:
    return f"{shortened(formula)} > 0 is so rare, or so far out, that its mean time is not settled; simulate instead"


def _expression(run: Run, formula: str) -> sympy.Expr:
    loss = run.loss
    expression = loss.expand(formula, "formula")
    random = sorted({symbol.name for symbol in expression.free_symbols} & set(loss.random))
    if random:
        raise InputError(f"formula: {formula!r} depends on the noise {', '.join(random)}, expected parameters alone")
    return expression


def _values(one: Step, expression: sympy.Expr, points: np.ndarray) -> np.ndarray:
    return np.broadcast_to(evaluate([expression], one.values(points))[0], len(points))


def _passage_times(matrix: Any, open_: np.ndarray, formula: str) -> np.ndarray:
    """At each state; 0 where the formula is positive."""
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


def _passage_domain(one: Step, domain: _Domain, expression: sympy.Expr, points: np.ndarray) -> _Domain:
    """With panels that end where the formula vanishes, wide enough for the start."""
    theta = one.run.loss.theta
    moving = [number for number, symbol in enumerate(theta) if symbol in expression.free_symbols]
    if len(moving) != 1:
        raise NotApplicable(
            "a passage is computed where the formula depends on one of the parameters; simulate instead"
        )
    number = moving[0]
    if len(theta) > 1 and np.count_nonzero(domain.mapping.matrix - np.diag(np.diag(domain.mapping.matrix))):
        corners = np.array(list(itertools.product(*domain.box)))
        around = domain.mapping.outwards(corners)
        scale = np.sqrt((domain.mapping.matrix**2).sum(axis=1))
        mapping = _Map(domain.mapping.centre, np.diag(scale))
        inside = mapping.inwards(list(around.T))
        domain = replace(domain, mapping=mapping, box=tuple((float(v.min()), float(v.max())) for v in inside))
    inside = domain.mapping.inwards(list(points.T))
    box = tuple(
        (min(low, float(v.min()) - 0.02 * (high - low)), max(high, float(v.max()) + 0.02 * (high - low)))
        for (low, high), v in zip(domain.box, inside, strict=True)
    )
    ends = domain.mapping.outwards(np.array(box).T)[:, number]
    roots = _roots(expression, theta[number].name, one.known, float(ends[0]), float(ends[1]))
    if not roots:
        raise NotApplicable(_rare(str(expression)))
    return replace(domain, box=box, breaks=(*domain.breaks, *((number, root) for root in roots)))


def _smooth_source(one: Step) -> Source | None:
    """Continuous noise in which the step is affine, with a factor that is not random itself."""
    import sympy

    random = {name for source in one.sources for name in source.names}
    for source in one.sources:
        if source.is_discrete or source.samples > 1:
            continue
        variable = sympy.Symbol(source.names[0], real=True)
        slope = one.after[0].diff(variable)
        if slope != 0 and not random & {symbol.name for symbol in slope.free_symbols}:
            return source
    return None


def _arrival(one: Step, points: np.ndarray, targets: np.ndarray, level: tuple[Level, ...]) -> np.ndarray:
    """The probability density of a step from each point to each target."""
    import sympy

    source = _smooth_source(one)
    assert source is not None
    assert source.noise is not None
    variable = sympy.Symbol(source.names[0], real=True)
    slope = one.after[0].diff(variable)
    others = [other for other in one.sources if other is not source]
    edges = [edge for edge in one.edges if variable not in edge.free_symbols]
    levels = [fine for fine, other in zip(level, one.sources, strict=True) if other is not source]
    found = nodes(others, edges, one.values(points), levels)
    base, factor = evaluate([one.after[0], slope], {**found.values, variable.name: 0.0})
    shape = np.broadcast_shapes(found.weights.shape, np.shape(base), np.shape(factor))
    shape = (len(points), *shape[1:])
    base, factor, weights = (
        np.broadcast_to(a, shape).reshape(len(points), -1, 1) for a in (base, factor, found.weights)
    )
    with np.errstate(all="ignore"):
        heights = density(source.noise, (targets - base) / factor) / np.abs(factor)
    return np.asarray((weights * np.nan_to_num(heights)).sum(axis=1))


def _fineness(one: Step, fineness: int) -> tuple[int, int]:
    """Panels and their order: in one dimension by doubling."""
    if len(one.after) == 1:
        return (24, 48, 72)[fineness], 10
    return ((4, 6), (5, 8), (7, 8))[fineness]


def chain(run: Run, tolerance: float | None = None) -> Chain:
    """The stationary law of a run of one or two parameters.

    Parameters
    ----------
    run
        A memoryless optimizer at a constant rate.
    tolerance
        At which refinement stops, relative, for bounded functions and squares; None for 1e-10 in one dimension (1e-7
        where tails are long) and 1e-5 in two.

    Raises
    ------
    NotApplicable
        With a sentence on why, and on what can be had instead.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("(x**2 - 1)**2/4 + z*x", ("x",), noise={"z": Noise.parse("normal")})
    >>> law = chain(Run(loss, Optimizer(), Schedule("0.1"), {"x": 1.0}, 100, 10))
    >>> found = law.expectation("x*(x**3 - x)")  # virial: (eta/2) (<V'^2> + 1)
    >>> abs(found.value - 0.05*(law.expectation("(x**3 - x)**2").value + 1)) < 1e-9
    True
    """
    _check_size(run)
    one = step(run)
    pilot = _pilot(one)
    moves = _moves(one)
    if moves is not None and (found := _phases(one, moves, pilot)) is not None:
        return found
    domain = _domain(one, pilot)
    if tolerance is None:
        tolerance = _LONG_TOLERANCE if domain.mapping.long else _TOLERANCE[len(one.after) - 1]
    return _refined(one, domain, tolerance)


def _check_size(run: Run) -> None:
    number = len(run.loss.parameters)
    if number > 2:
        raise NotApplicable(f"there are {number} parameters, and a chain is computed of one or two; simulate instead")


def _refined(one: Step, domain: _Domain, tolerance: float) -> Chain:
    """Mesh after mesh until a few functions settle, each in a wider domain."""
    if len(one.after) == 1:
        ladder: tuple[tuple[int, int], ...] = ((16, 10), (32, 10), (64, 10), (128, 10))
    else:
        ladder = ((4, 8), (5, 8), (6, 8)) if one.edges or domain.breaks else ((4, 8), (6, 8), (7, 9))
    before: tuple[_Solved, np.ndarray] | None = None
    for number, (panels, order) in enumerate(ladder):
        level = _levels(one, domain, number)
        solved = _solve(one, domain.widened(0.03 * number).mesh(panels, order), level)
        tests = _tests(solved, domain)
        if before is not None and (np.abs(tests - before[1]) <= tolerance).all():
            break
        if number + 1 < len(ladder):
            before = solved, tests
    assert before is not None
    if solved.gap < _GAP:
        crowded = solved.mesh.edge_share(solved.weights).max() > _CROWDED
        raise NotApplicable(_UNBOUNDED if crowded else _SEVERAL)
    if (
        np.abs(tests - before[1])[: 2 * len(one.after)].max() > _HOPELESS
        or solved.mesh.masses(solved.weights).min() < -_CROWDED
    ):
        raise NotApplicable(
            "the stationary law is not settled on the finest mesh: it is too narrow, or made of too many parts; "
            "simulate instead"
        )
    return Chain(one, ((1.0, solved),), ((1.0, before[0]),), domain)


def _tests(solved: _Solved, domain: _Domain) -> np.ndarray:
    """Expectations of a few functions, bounded ones first, of the size of one."""
    coordinates = np.array(domain.mapping.inwards(list(solved.points.T)))
    if domain.mapping.long:
        coordinates = np.sinh(coordinates)
    functions = np.array([np.tanh(coordinates / 2), np.tanh(coordinates / 2) ** 2]).reshape(-1, len(solved.points))
    more = [] if domain.mapping.long else [coordinates, coordinates[:1] ** 4]
    functions = np.concatenate([functions, coordinates**2, *more])
    found = functions @ solved.weights
    return np.asarray(found / np.maximum(1.0, np.abs(found)))


def _phases(one: Step, moves: np.ndarray, pilot: np.ndarray) -> Chain | None:
    """The chain on the lattices of its start."""
    sides: list[list[tuple[float, _Lattice]]] = [[], []]
    counts = (_PHASES // 2, _PHASES)
    drawn = any(not isinstance(start, float | int) for start in one.run.initial.values())
    for side, count in enumerate(counts):
        points, shares = _start_points(one.run, count)
        if len(points) > _MOST_PHASES:  # of a grid
            points = points[np.linspace(0, len(points) - 1, count).astype(np.int64)]
            shares = np.full(count, 1.0 / count)
        for point, share in zip(points, shares, strict=True):
            found = _solved_lattice(one, point, moves, pilot)
            if found is None:
                return None
            sides[side].append((float(share), found[side]))
        if not drawn:
            sides = [[(1.0, found[0])], [(1.0, found[1])]] if found else sides
            break
    return Chain(one, tuple(sides[1]), tuple(sides[0]))


# Finite times


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
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
    >>> run = Run(loss, Optimizer(), Schedule("0.5"), {"x": 1.0}, 100, 10)
    >>> [round(found.value, 12) for found in evolve(run, ["x", "x**2"], 2)]
    [0.25, 0.375]
    """
    _check_size(run)
    expressions = [_expression(run, formula) for formula in formulas]
    one = step(run)
    if steps == 0:
        points, shares = _start_points(run, 64)
        return [Numerical(float(shares @ _values(one, e, points)), 0.0) for e in expressions]
    moves = _moves(one)
    if moves is not None and (found := _walked(one, moves, expressions, steps)) is not None:
        return found
    return _evolved(one, expressions, steps)


def _walked(one: Step, moves: np.ndarray, expressions: Sequence[sympy.Expr], steps: int) -> list[Numerical] | None:
    """Exact on the lattice of each start."""
    totals, sizes = np.zeros((2, len(expressions))), np.zeros(len(expressions))
    for side, count in enumerate((_PHASES // 2, _PHASES)):
        points, shares = _start_points(one.run, count)
        for point, share in zip(points, shares, strict=True):
            reach = (steps + 0.5) * np.abs(moves).max(axis=0)
            made = _lattice(one, point, moves, np.array([point - reach, point + reach]))
            if made is None:
                return None
            states, matrix = made
            law = np.zeros(len(states))
            law[0] = 1.0
            back = matrix.T.tocsr()
            for _ in range(steps):
                law = back @ law
            for number, expression in enumerate(expressions):
                values = _values(one, expression, states)
                totals[side, number] += share * float(law @ values)
                sizes[number] = max(sizes[number], float(law @ np.abs(values)))
    errors = np.abs(totals[1] - totals[0]) + 16 * _EPSILON * sizes * np.sqrt(steps)
    return [Numerical(float(v), float(e)) for v, e in zip(totals[1], errors, strict=True)]


def _evolved(one: Step, expressions: Sequence[sympy.Expr], steps: int) -> list[Numerical]:
    domain = _travelled(one, steps)
    found = []
    for fineness in (1, 2):
        points, shares = _start_points(one.run, (32, 48)[fineness - 1])
        for _ in range(20):
            panels, order = _fineness(one, fineness)
            mesh = domain.widened(0.04 * (fineness - 1)).mesh(panels, order)
            level = _levels(one, domain, fineness)
            matrix, outside = _operator(one, mesh, level)
            columns = np.array([_mean_after(one, e, mesh.points, level, {}) for e in expressions])
            values = np.vstack([columns[:, 0], columns[:, 1]]).T
            left = np.zeros(len(outside))
            for _ in range(steps - 1):
                left = outside + matrix @ left
                values = matrix @ values
            left = outside + matrix @ left
            indices, factors, beyond = mesh.basis(list(points.T))
            lost = float(shares @ ((left[indices] * factors).sum(axis=-1) + beyond))
            if abs(lost) < 1e-13 * steps or fineness == 2:
                break
            domain = domain.widened(0.1)
        at_start = (values[indices] * factors[..., None]).sum(axis=1)
        found.append(shares @ at_start)
    number = len(expressions)
    sizes = np.abs(found[1][number : 2 * number]) + np.abs(found[1][:number])
    if not np.isfinite(found[1]).all() or abs(lost) > 0.01:
        raise NotApplicable(
            f"the chain leaves every domain that was tried within {steps} steps, or grows too fast; simulate instead"
        )
    errors = np.abs(found[1] - found[0])[:number] + sizes * (abs(lost) + 16 * _EPSILON * np.sqrt(steps))
    return [Numerical(float(v), float(e)) for v, e in zip(found[1][:number], errors, strict=True)]


def _travelled(one: Step, steps: int) -> _Domain:
    """Where a trial was on its way."""
    random = np.random.default_rng(_SEED)
    state = _starts(one.run, random)
    low, high = state.min(axis=0), state.max(axis=0)
    left = min(steps, 50 * _BLOCK)
    while left > 0:
        states = _block(one, state, random, min(left, _BLOCK))
        left -= len(states)
        state = states[-1]
        if not np.isfinite(states).all():
            raise NotApplicable(f"the chain diverges within {steps} steps: a trial of it left all bounds")
        low, high = np.minimum(low, states.min(axis=(0, 1))), np.maximum(high, states.max(axis=(0, 1)))
    width = high - low
    width = np.where(width > 0, width, np.maximum(np.abs(low), 1.0) * 1e-3)
    centre = (low + high) / 2
    if len(one.after) == 1:
        breaks = _state_breaks(one, float((low - 3 * width)[0]), float((high + 3 * width)[0]))
    else:
        breaks = _axis_breaks(one)
    return _Domain(tuple((-0.8, 0.8) for _ in width), _Map(centre, np.diag(width)), breaks)
