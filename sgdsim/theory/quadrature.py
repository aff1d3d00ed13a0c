"""Expectations over the noise and the data of a loss that have no closed form.

Every continuous distribution has a coordinate in which its rules are made: itself where its tails are light, and the
inverse hyperbolic sine for Student's t, whose density then falls off exponentially. A smooth function is integrated
by the Gauss rule of the distribution; one with kinks by Gauss-Legendre rules between panels of the coordinate, of
which some end at the kinks. Discrete noise and rows of data are summed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import combinations_with_replacement
from math import comb, lgamma, log, pi, prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sgdsim.errors import InputError, shortened
from sgdsim.loss import Loss
from sgdsim.noise import Noise
from sgdsim.run import Run
from sgdsim.theory.numeric import constants, evaluate, kinks
from sgdsim.theory.prediction import NotApplicable

if TYPE_CHECKING:
    import sympy

EVALUATIONS = 10_000_000
"""How often an integrand is evaluated at most, all points of the parameters together."""

_CHUNK = 2**20  # evaluations at once
_CLOSED = 500  # operations of an expression of which a closed form is tried
_LOOSE = 0.02  # two levels of E|f| of an expectation that exists
_EPSILON = float(np.finfo(np.float64).eps)
_BISECTIONS = 60
_BATCHES = 4096  # different ones that are summed over
_MOST_OUTCOMES = 128  # of one sample, where each has a term in the gradient of a batch
_MOST_VARIABLES = 4  # of all samples of a batch
_MOST_NODES = 48  # of the rule of a mean
_LIGHT = ("uniform", "laplace", "exponential")  # that polynomials determine


@dataclass(frozen=True)
class Numerical:
    """A number, or an array of them, with an estimate of its error.

    Attributes
    ----------
    value
        The number.
    error
        How much it changed when everything that it was computed with was refined, and rounding.
    """

    value: Any
    error: Any


class Level(NamedTuple):
    """How fine a rule is.

    Attributes
    ----------
    order
        Nodes of a Gauss rule, or of each panel.
    pieces
        Into how many parts each panel is cut; 0 for one Gauss rule where there are no kinks.
    """

    order: int
    pieces: int = 0


_SMOOTH = (Level(12), Level(24), Level(48), Level(96))
_PANELS = tuple(Level(count, pieces) for count, pieces in ((8, 1), (12, 1), (16, 2), (16, 4), (16, 8), (16, 32)))


@dataclass(frozen=True)
class _Coordinate:
    """A continuous distribution in the coordinate in which its rules are made."""

    value: Callable[[Any], Any]
    inverse: Callable[[Any], Any]
    density: Callable[[Any], Any]
    edges: tuple[float, ...]
    gauss: Callable[[int], tuple[np.ndarray, np.ndarray]]
    far: float = np.inf  # beyond, there must be nothing left of an integrand


# Out to where exp(30 z) times the density is negligible, and to the smallest float.
_NORMAL_EDGES = (0.0, 1.0, 2.0, 3.0, 4.5, 6.0, 8.0, 10.5, 14.0, 20.0, 28.0, 38.0)
_EXPONENTIAL_EDGES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 700.0)
_STUDENT_EDGES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 120.0, 160.0)


def _mirrored(edges: Sequence[float]) -> tuple[float, ...]:
    return (*(-edge for edge in edges[:0:-1]), *edges)


@lru_cache(maxsize=64)
def _legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return nodes, weights


@lru_cache(maxsize=64)
def _hermite(count: int) -> tuple[np.ndarray, np.ndarray]:
    from scipy.special import roots_hermitenorm

    nodes, weights = roots_hermitenorm(count)
    return nodes, weights / weights.sum()


@lru_cache(maxsize=64)
def _laguerre(count: int) -> tuple[np.ndarray, np.ndarray]:
    from scipy.linalg import eigh_tridiagonal

    steps = np.arange(count)
    nodes, vectors = eigh_tridiagonal(2.0 * steps + 1.0, steps[1:].astype(np.float64))
    return nodes, vectors[0] ** 2


def _flat(count: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = _legendre(count)
    return nodes, weights / 2


def _two_sided(count: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = _laguerre(count)
    return np.concatenate([-nodes[::-1], nodes]), np.concatenate([weights[::-1], weights]) / 2


def _student_density(dof: float) -> Callable[[Any], Any]:
    """Of b where the variable is ``sqrt(dof)*sinh(b)``."""
    scale = lgamma((dof + 1) / 2) - lgamma(dof / 2) - log(pi) / 2
    return lambda b: np.exp(scale - dof * (np.abs(b) + np.log1p(np.exp(-2 * np.abs(b))) - log(2)))


def _student_gauss(dof: float) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    density = _student_density(dof)

    def gauss(count: int) -> tuple[np.ndarray, np.ndarray]:
        # Takahasi and Mori's double exponential rule: the trapezoid in u, where b = pi/2*sinh(u).
        steps = np.linspace(-1.0, 1.0, 2 * count + 1) * np.arcsinh(2 * _STUDENT_EDGES[-1] / pi)
        nodes = pi / 2 * np.sinh(steps)
        return nodes, density(nodes) * pi / 2 * np.cosh(steps) * (steps[1] - steps[0])

    return gauss


def _normal_density(z: Any) -> Any:
    return np.exp(-(z**2) / 2) / np.sqrt(2 * pi)


def _linear(location: float, scale: float) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Value and inverse."""
    return (lambda b: location + scale * b), (lambda x: (x - location) / scale)


def _normal(mean: float, std: float) -> _Coordinate:
    return _Coordinate(*_linear(mean, std), _normal_density, _mirrored(_NORMAL_EDGES), _hermite)


def _lognormal(mu: float, sigma: float) -> _Coordinate:
    value, inverse = _linear(mu, sigma)
    return replace(_normal(mu, sigma), value=lambda b: np.exp(value(b)), inverse=lambda x: inverse(np.log(x)))


def _uniform(low: float, high: float) -> _Coordinate:
    value, inverse = _linear((low + high) / 2, (high - low) / 2)
    return _Coordinate(value, inverse, lambda b: np.full_like(b, 0.5), (-1.0, 0.0, 1.0), _flat)


def _laplace(mean: float, scale: float) -> _Coordinate:
    edges = _mirrored(_EXPONENTIAL_EDGES)
    return _Coordinate(*_linear(mean, scale), lambda b: np.exp(-np.abs(b)) / 2, edges, _two_sided)


def _exponential(scale: float) -> _Coordinate:
    return _Coordinate(*_linear(-scale, scale), lambda b: np.exp(-b), _EXPONENTIAL_EDGES, _laguerre)


def _student(dof: float) -> _Coordinate:
    root = float(np.sqrt(dof))
    return _Coordinate(
        lambda b: root * np.sinh(b),
        lambda x: np.arcsinh(x / root),
        _student_density(dof),
        _mirrored(_STUDENT_EDGES),
        _student_gauss(dof),
        _STUDENT_EDGES[-2],
    )


_COORDINATES: dict[str, Callable[..., _Coordinate]] = {
    "normal": _normal,
    "lognormal": _lognormal,
    "uniform": _uniform,
    "laplace": _laplace,
    "exponential": _exponential,
    "student_t": _student,
}


@lru_cache(maxsize=256)
def _coordinate(noise: Noise) -> _Coordinate | None:
    """None for a discrete distribution."""
    if noise.atoms() or _is_constant(noise):
        return None
    if noise.family not in _COORDINATES:
        raise InputError(f"no rule for the distribution {noise}")
    return _COORDINATES[noise.family](*noise.arguments)


def _is_constant(noise: Noise) -> bool:
    return noise.family in ("normal", "laplace", "exponential", "lognormal") and noise.arguments[-1] == 0


def _atoms(noise: Noise) -> tuple[np.ndarray, np.ndarray]:
    pairs = noise.atoms()
    if not pairs:  # a continuous distribution of width zero
        return np.array([noise.moment(1)]), np.ones(1)
    return np.array([float(value) for value, _ in pairs]), np.array([float(share) for _, share in pairs])


def is_discrete(noise: Noise) -> bool:
    """Whether a distribution has atoms alone.

    Examples
    --------
    >>> is_discrete(Noise.parse("rademacher")), is_discrete(Noise.parse("laplace"))
    (True, False)
    """
    return _coordinate(noise) is None


def density(noise: Noise, values: Any) -> Any:
    """The probability density of a continuous distribution.

    Examples
    --------
    >>> round(float(density(Noise.parse("normal"), 0.0)), 6)
    0.398942
    """
    coordinate = _coordinate(noise)
    if coordinate is None:
        raise InputError(f"{noise} is discrete, it has no density")
    with np.errstate(all="ignore"):
        b = np.asarray(coordinate.inverse(np.asarray(values, dtype=np.float64)))
        inside = (b >= coordinate.edges[0]) & (b <= coordinate.edges[-1])
        b = np.where(inside, b, 0.5)
        slope = _slope(noise, b)
        return np.where(inside, coordinate.density(b) / slope, 0.0)


def _slope(noise: Noise, b: Any) -> Any:
    """Of the value as a function of the coordinate."""
    if noise.family == "student_t":
        return np.sqrt(noise.arguments[0]) * np.cosh(b)
    if noise.family == "lognormal":
        return noise.arguments[1] * np.exp(noise.arguments[0] + noise.arguments[1] * b)
    if noise.family == "uniform":
        return (noise.arguments[1] - noise.arguments[0]) / 2
    return noise.arguments[-1]


def rule(noise: Noise, count: int, breaks: Sequence[Any] = (), pieces: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Values and weights whose weighted sums are expectations.

    Parameters
    ----------
    noise
        The distribution; of a discrete one, the rule is its atoms.
    count
        Nodes of the Gauss rule of the distribution; of each panel where there are breaks or pieces.
    breaks
        Where functions of the variable have kinks: numbers, or arrays of one shape, with NaN where there is none.
    pieces
        Into how many parts each panel is cut; 0 for none, and for a Gauss rule where there are no breaks.

    Returns
    -------
    values, weights
        The last axis counts the nodes; the others are those of the breaks.

    Examples
    --------
    >>> values, weights = rule(Noise.parse("normal"), 3)
    >>> round(float(values**4 @ weights), 12)
    3.0
    >>> values, weights = rule(Noise.parse("normal"), 12, breaks=[0.5])
    >>> round(float(np.maximum(values - 0.5, 0.0) @ weights), 12)
    0.197796557401
    """
    values, weights, _ = _rule(noise, Level(count, pieces), breaks)
    return values, weights


def _rule(noise: Noise, level: Level, breaks: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, weights, and whether a node is far out in the tails."""
    coordinate = _coordinate(noise)
    if coordinate is None:
        values, weights = _atoms(noise)
        return values, weights, np.zeros(len(values), dtype=bool)
    if breaks or level.pieces:
        nodes, weights = _panels(coordinate, level, breaks)
    else:
        nodes, weights = coordinate.gauss(level.order)
    return coordinate.value(nodes), weights, np.abs(nodes) > coordinate.far


def _panels(coordinate: _Coordinate, level: Level, breaks: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    fixed = np.array(coordinate.edges)
    pieces = max(level.pieces, 1)
    if pieces > 1:
        parts = np.arange(pieces) / pieces
        fixed = np.append((fixed[:-1, None] + np.diff(fixed)[:, None] * parts).ravel(), fixed[-1])
    edges = fixed
    if breaks:
        found = np.stack(np.broadcast_arrays(*(np.asarray(point, dtype=np.float64) for point in breaks)), axis=-1)
        with np.errstate(all="ignore"):
            found = coordinate.inverse(found)
        found = np.clip(np.where(np.isnan(found), fixed[0], found), fixed[0], fixed[-1])
        edges = np.sort(np.concatenate([np.broadcast_to(fixed, (*found.shape[:-1], len(fixed))), found], axis=-1))
    points, shares = _legendre(level.order)
    half = np.diff(edges)[..., None] / 2
    nodes = edges[..., :-1, None] + half * (1 + points)
    weights = half * shares * coordinate.density(nodes)
    shape = (*edges.shape[:-1], -1)
    return nodes.reshape(shape), weights.reshape(shape)


@dataclass(frozen=True, eq=False)
class Source:
    """Something random: one noise variable, or several names of which a table lists the joint values.

    Attributes
    ----------
    names
        As formulas call it.
    noise
        The distribution of the one name, or
    table, shares
        the values, shape (outcome, name), and the probability of each outcome.
    samples
        Over how many independent draws of the noise the variable is the mean; its functions have no kinks then.
    """

    names: tuple[str, ...]
    noise: Noise | None = None
    table: np.ndarray | None = None
    shares: np.ndarray | None = None
    samples: int = 1

    @property
    def is_discrete(self) -> bool:
        """Whether it has a table or atoms."""
        return self.noise is None or is_discrete(self.noise)


def sources(loss: Loss, used: Sequence[str]) -> list[Source]:
    """What is random of these names of a loss: first the rows of data, then discrete noise, then continuous.

    Examples
    --------
    >>> loss = Loss("x*(y + z)", ("x",), noise={"y": Noise.parse("normal"), "z": Noise.parse("rademacher")})
    >>> [source.names for source in sources(loss, ["y", "z"])]
    [('z',), ('y',)]
    """
    found = []
    columns = tuple(name for name in loss.columns if name in used)
    if loss.data is not None and columns:
        table = np.array([loss.data.columns[name] for name in columns]).T
        found.append(Source(columns, table=table, shares=np.full(len(table), 1.0 / len(table))))
    noises = [Source((name,), noise) for name, noise in loss.noise.items() if name in used]
    return found + sorted(noises, key=lambda source: not source.is_discrete)


@dataclass(frozen=True, eq=False)
class Nodes:
    """A product of rules, nested where the kinks of one variable depend on others.

    Attributes
    ----------
    values
        Of every name an array that broadcasts with the others: the first axis counts points, one axis each source.
    weights
        That of each node, likewise.
    far
        Whether a node is far out in a tail, likewise.
    """

    values: dict[str, Any]
    weights: np.ndarray
    far: np.ndarray


def nodes(
    given: Sequence[Source],
    edges: Sequence[sympy.Expr],
    values: Mapping[str, Any],
    level: Level | Sequence[Level],
) -> Nodes:
    """The nodes over several sources at given values of all other names.

    Parameters
    ----------
    given
        What is random; the kinks of a source are looked for at given values of those before it.
    edges
        Expressions that vanish at kinks.
    values
        A number, or an array of one axis, for each other name.
    level
        How fine, for all sources or for each.

    Examples
    --------
    >>> from sympy import Symbol
    >>> x, z = Symbol("x", real=True), Symbol("z", real=True)
    >>> normal = Source(("z",), Noise.parse("normal"))
    >>> found = nodes([normal], [x - z], {"x": np.array([0.0, 1.0])}, Level(8, 1))
    >>> np.round((np.abs(found.values["x"] - found.values["z"]) * found.weights).sum(axis=1), 6)
    array([0.797885, 1.166631])
    """
    axes = len(given)
    known = {name: _spread(value, axes) for name, value in values.items()}
    weights, far = np.ones((1,) * (axes + 1)), np.zeros((1,) * (axes + 1), dtype=bool)
    later = {name for source in given for name in source.names}
    levels = [level] * axes if isinstance(level, Level) else level
    for axis, (source, fineness) in enumerate(zip(given, levels, strict=True), start=1):
        later -= set(source.names)
        if source.noise is None:
            assert source.table is not None
            assert source.shares is not None
            for name, column in zip(source.names, source.table.T, strict=True):
                known[name] = _on_axis(column, axis, axes)
            weights = weights * _on_axis(source.shares, axis, axes)
            continue
        if source.samples > 1:
            means, shares = _mean_rule(source.noise, source.samples, _mean_count(fineness))
            known[source.names[0]] = _on_axis(means, axis, axes)
            weights = weights * _on_axis(shares, axis, axes)
            continue
        breaks = [] if source.is_discrete else _breaks(source, _of(edges, source.names[0], later), known)
        shape = np.broadcast_shapes(*(np.shape(point) for point in breaks)) if breaks else (1,) * (axes + 1)
        breaks = [np.broadcast_to(point, shape).reshape(shape[:axis]) for point in breaks]
        found = (_fit(part, axis, axes) for part in _rule(source.noise, fineness, breaks))
        known[source.names[0]], shares, beyond = found
        weights, far = weights * shares, far | beyond
    return Nodes(known, weights, far)


def _spread(value: Any, axes: int) -> Any:
    array = np.asarray(value, dtype=np.float64)
    return array.reshape((-1,) + (1,) * axes) if array.ndim else array[()]


def _on_axis(array: np.ndarray, axis: int, axes: int) -> np.ndarray:
    return array.reshape((1,) * axis + (-1,) + (1,) * (axes - axis))


def _fit(array: np.ndarray, axis: int, axes: int) -> np.ndarray:
    """The last axis is the one of the source; those before it are the first ones, where there are any."""
    if array.ndim == 1:
        return _on_axis(array, axis, axes)
    return array.reshape((*array.shape, *(1,) * (axes - axis)))


def _of(edges: Sequence[sympy.Expr], name: str, later: set[str]) -> list[sympy.Expr]:
    """The edges that depend on a variable but on none of later ones."""
    found = []
    for edge in edges:
        names = {symbol.name for symbol in edge.free_symbols}
        if name in names and not names & later:
            found.append(edge)
    return found


def _breaks(source: Source, edges: Sequence[sympy.Expr], values: Mapping[str, Any]) -> list[Any]:
    """Where edges vanish as functions of a variable, NaN where they do not."""
    import sympy

    name = source.names[0]
    variable = sympy.Symbol(name, real=True)
    found: list[Any] = []
    for edge in edges:
        slope = edge.diff(variable)
        if variable not in slope.free_symbols:
            offset, rate = evaluate([edge, slope], {**values, name: 0.0})
            with np.errstate(all="ignore"):
                root = -np.asarray(offset) / rate
            found.append(np.where(np.isfinite(root), root, np.nan))
        else:
            assert source.noise is not None
            found += _bracketed(edge, name, source.noise, values)
    return found


def _bracketed(edge: sympy.Expr, name: str, noise: Noise, values: Mapping[str, Any]) -> list[np.ndarray]:
    """Sign changes of an edge between 8 parts of each panel, bisected."""
    coordinate = _coordinate(noise)
    assert coordinate is not None
    fixed = np.array(coordinate.edges)
    grid = np.unique(np.concatenate([np.linspace(low, high, 9) for low, high in itertools.pairwise(fixed)]))

    def at(b: Any) -> Any:
        return np.nan_to_num(evaluate([edge], {**values, name: coordinate.value(b)})[0])

    first = np.asarray(at(grid[0]))
    signs = np.stack(np.broadcast_arrays(*(np.asarray(at(b)) > 0 for b in grid), first)[:-1], axis=-1)
    changes = signs[..., 1:] != signs[..., :-1]
    roots = []
    for number in range(int(changes.sum(axis=-1).max(initial=0))):
        here = (np.cumsum(changes, axis=-1) == number + 1) & changes
        place = here.argmax(axis=-1)
        low, high, upwards = grid[place], grid[place + 1], ~np.take_along_axis(signs, place[..., None], -1)[..., 0]
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            below = (np.asarray(at(middle)) > 0) != upwards
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        roots.append(np.where(here.any(axis=-1), coordinate.value((low + high) / 2), np.nan))
    return roots


def expectation(
    loss: Loss, expressions: Sequence[sympy.Expr], theta: Mapping[str, Any], tolerance: float = 1e-10
) -> list[Numerical]:
    """Expectations over all noise variables and rows of data of a loss.

    Parameters
    ----------
    loss
        Whose noise, data and constants they are.
    expressions
        In its symbols.
    theta
        A number or an array for each parameter; arrays broadcast.
    tolerance
        Difference of two levels of refinement, relative to the expectation of the magnitude.

    Returns
    -------
    list
        Of each expression values and errors, of the shape of the parameters.

    Raises
    ------
    InputError
        For an expectation that does not exist, or that takes too many evaluations.

    Examples
    --------
    >>> loss = Loss("abs(x - z)", ("x",), noise={"z": Noise.parse("normal")})
    >>> found, = expectation(loss, [loss.expression], {"x": np.array([0.0, 1.0])})
    >>> np.round(found.value, 8), bool(np.all(found.error < 1e-10))
    (array([0.79788456, 1.16663094]), True)
    """
    shape = np.broadcast_shapes(*(np.shape(value) for value in theta.values()))
    flat = {name: np.broadcast_to(np.asarray(value, dtype=np.float64), shape).ravel() for name, value in theta.items()}
    found: dict[int, Numerical] = {}
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, expression in enumerate(expressions):
        used = tuple(name for name in loss.random if loss.symbols[name] in expression.free_symbols)
        if (closed := _closed(loss, expression, used, flat, tolerance)) is not None:
            found[place] = closed
        else:
            groups.setdefault(used, []).append(place)
    for used, places in groups.items():
        several = _integrate(loss, [expressions[place] for place in places], used, flat, tolerance)
        found |= zip(places, several, strict=True)
    return [_shaped(found[place], shape) for place in range(len(expressions))]


def _shaped(found: Numerical, shape: tuple[int, ...]) -> Numerical:
    value, error = (np.asarray(part).reshape(shape)[()] for part in (found.value, found.error))
    return Numerical(value, error) if shape else Numerical(float(value), float(error))


def _closed(
    loss: Loss, expression: sympy.Expr, used: Sequence[str], theta: Mapping[str, np.ndarray], tolerance: float
) -> Numerical | None:
    """What is polynomial in the noise; None where it is not, or where too many digits cancel."""
    from sympy import Add

    symbols = [loss.symbols[name] for name in used]
    if symbols and (expression.count_ops() > _CLOSED or not expression.is_polynomial(*symbols)):
        return None
    terms = Add.make_args(loss.expectation(expression))
    found = evaluate(terms, {**constants(loss), **theta})
    points = len(next(iter(theta.values())))
    value = np.broadcast_to(sum(found), points)
    with np.errstate(all="ignore"):
        error = 4 * _EPSILON * np.broadcast_to(sum(np.abs(term) for term in found), points)
        if symbols and (error > tolerance * np.abs(value)).any() and _is_light(loss, used):
            return None
    return Numerical(value, error)


def _is_light(loss: Loss, used: Sequence[str]) -> bool:
    """Whether a product of few nodes is exact for polynomials."""
    noises = [loss.noise[name] for name in used if name in loss.noise]
    return len(noises) <= 2 and all(noise.family not in ("student_t", "lognormal") for noise in noises)


def _integrate(
    loss: Loss,
    expressions: Sequence[sympy.Expr],
    used: Sequence[str],
    theta: Mapping[str, np.ndarray],
    tolerance: float,
) -> list[Numerical]:
    given = sources(loss, used)
    edges = _edges(expressions, given)
    given = _ordered(given, edges)
    points = len(next(iter(theta.values())))
    if all(source.is_discrete for source in given):
        value, magnitude, _ = _sums(loss, expressions, given, edges, theta, Level(1))
        return [Numerical(v, 4 * _EPSILON * m) for v, m in zip(value, magnitude, strict=True)]
    values, errors = np.full((2, len(expressions), points), np.nan)
    todo = np.arange(points)
    before: tuple[np.ndarray, np.ndarray] | None = None
    for level in (*(() if edges else _SMOOTH), *_PANELS):
        here = {name: array[todo] for name, array in theta.items()}
        if _cost(given, level, edges) * len(todo) > EVALUATIONS:
            break
        value, magnitude, tail = _sums(loss, expressions, given, edges, here, level)
        if before is not None:
            with np.errstate(all="ignore"):
                change = np.maximum(np.abs(value - before[0]), tail)
                settled = change <= tolerance * magnitude
                settled &= (np.abs(magnitude - before[1]) <= _LOOSE * magnitude) & np.isfinite(magnitude)
            values[:, todo] = value
            errors[:, todo] = change + 4 * _EPSILON * magnitude
            left = ~settled.all(axis=0)
            todo, value, magnitude = todo[left], value[:, left], magnitude[:, left]
        before = value, magnitude
        if not len(todo):
            return [Numerical(v, e) for v, e in zip(values, errors, strict=True)]
    raise InputError(_unsettled(loss, expressions, used, theta, todo, values, errors))


def _unsettled(
    loss: Loss,
    expressions: Sequence[sympy.Expr],
    used: Sequence[str],
    theta: Mapping[str, np.ndarray],
    todo: np.ndarray,
    values: np.ndarray,
    errors: np.ndarray,
) -> str:
    what = ", ".join(shortened(expression, 80) for expression in expressions)
    over = ", ".join(f"{name} ~ {loss.noise[name]}" if name in loss.noise else name for name in used)
    at = ", ".join(f"{name} = {array[todo[0]]:g}" for name, array in theta.items())
    with np.errstate(all="ignore"):
        reached = float(np.max(errors[:, todo[0]] / np.abs(values[:, todo[0]])))
    if not np.isfinite(reached):
        problem = f"takes more than {EVALUATIONS} evaluations"
    else:
        problem = f"has not settled (relative change {reached:.1g}) within {EVALUATIONS} evaluations"
    return (
        f"the expectation of {what} over {over} at {at} {problem}: it does not exist, or there are too many variables; "
        "expected a function that grows less, fewer variables or points, or a larger tolerance"
    )


def _edges(expressions: Sequence[sympy.Expr], given: Sequence[Source]) -> list[sympy.Expr]:
    import sympy

    continuous = [source.names[0] for source in given if not source.is_discrete]
    found: dict[Any, None] = {}
    for name in continuous:
        found |= dict.fromkeys(kinks(expressions, sympy.Symbol(name, real=True)))
    return list(found)


def _ordered(given: Sequence[Source], edges: Sequence[sympy.Expr]) -> list[Source]:
    """Variables last in which every edge is affine, so that the kinks are solved for exactly."""
    import sympy

    def last(source: Source) -> int:
        if source.is_discrete:
            return 0
        variable = sympy.Symbol(source.names[0], real=True)
        kinked = [edge for edge in edges if variable in edge.free_symbols]
        return 1 + (bool(kinked) and all(variable not in edge.diff(variable).free_symbols for edge in kinked))

    return sorted(given, key=last)


def _cost(given: Sequence[Source], level: Level, edges: Sequence[sympy.Expr]) -> int:
    """Nodes at one point, with as many breaks as there are edges."""
    total = 1
    for source in given:
        if source.is_discrete:
            total *= _size(source)
        elif source.samples > 1:
            total *= _mean_count(level)
        else:
            depends = [edge for edge in edges if source.names[0] in {symbol.name for symbol in edge.free_symbols}]
            assert source.noise is not None
            total *= len(_rule(source.noise, level, [np.nan] * len(depends))[0])
    return total


def _sums(
    loss: Loss,
    expressions: Sequence[sympy.Expr],
    given: Sequence[Source],
    edges: Sequence[sympy.Expr],
    theta: Mapping[str, np.ndarray],
    level: Level,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of the expressions, of their magnitudes, and of these far out: shape (expression, point)."""
    points = len(next(iter(theta.values())))
    size = max(1, _CHUNK // _cost(given, level, edges))
    sums = np.empty((3, len(expressions), points))
    for start in range(0, points, size):
        part = slice(start, start + size)
        found = nodes(given, edges, {**constants(loss), **{name: a[part] for name, a in theta.items()}}, level)
        axes = tuple(range(1, len(given) + 1))
        count = len(range(points)[part])
        for place, value in enumerate(evaluate(expressions, found.values)):
            with np.errstate(all="ignore"):
                # Where the weight is no float any more, a value that is none either has no say.
                terms = np.where(found.weights > 0, value * found.weights, 0.0)
                size_of = np.abs(terms)
                for kind, array in enumerate((terms, size_of, np.where(found.far, size_of, 0.0))):
                    sums[kind, place, part] = np.broadcast_to(array.sum(axis=axes), count)
    return sums[0], sums[1], sums[2]


@dataclass(frozen=True, eq=False)
class Batch:
    """The gradient of a batch, and what is random in it.

    Attributes
    ----------
    gradient
        One entry a parameter, in the parameters, constants and the names of the sources.
    sources
        Independent of each other.
    """

    gradient: tuple[sympy.Expr, ...]
    sources: tuple[Source, ...]


def batch_rule(run: Run) -> Batch:
    """The distribution of the mean gradient over a batch.

    Noise that enters affinely with the same factor in every sample is replaced by its mean over the batch: exactly
    for normal noise. Otherwise rows of data and discrete noise are summed over all batches there are, and continuous
    noise has a variable for each sample.

    Raises
    ------
    NotApplicable
        For rows that are shuffled, a population gradient without closed form, and too many batches or variables.

    Examples
    --------
    >>> from sgdsim.optimizers import Optimizer
    >>> from sgdsim.schedules import Schedule
    >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
    >>> run = Run(loss, Optimizer(batch_size=4), Schedule("0.1"), {"x": 0.0}, 100, 10)
    >>> found = batch_rule(run)
    >>> found.gradient, str(found.sources[0].noise)
    ((a*x + z,), 'normal:0.0,0.5')
    """
    loss, samples = run.loss, run.optimizer.batch_size
    if run.optimizer.rule.population:
        return Batch(_population_gradient(loss), ())
    used = [name for name in loss.random if any(loss.symbols[name] in slope.free_symbols for slope in loss.gradient)]
    if run.optimizer.sampling == "epoch" and any(name in loss.columns for name in used):
        raise NotApplicable("rows that are shuffled for each epoch are remembered from step to step; simulate instead")
    if samples == 1:
        return Batch(loss.gradient, tuple(sources(loss, used)))
    means = [source for name in used if (source := _mean(run, name)) is not None]
    others = [name for name in used if all(name not in source.names for source in means)]
    if not others:
        return Batch(loss.gradient, tuple(means))
    given = sources(loss, others)
    if all(source.is_discrete for source in given) and not (run.optimizer.sampling == "batch" and loss.data):
        rest = _all_batches(run, given)
    else:
        rest = _sample_by_sample(run, given)
    return Batch(rest.gradient, (*rest.sources, *means))


def _population_gradient(loss: Loss) -> tuple[sympy.Expr, ...]:
    try:
        return tuple(loss.population.diff(symbol) for symbol in loss.theta)
    except InputError as error:
        raise NotApplicable(f"the population gradient has no closed form: {error}") from None


def _mean(run: Run, name: str) -> Source | None:
    """The mean over the batch of a noise variable; None where the gradient of the mean is not that of the batch."""
    loss, samples = run.loss, run.optimizer.batch_size
    if name not in loss.noise:
        return None
    noise = loss.noise[name]
    factors = [slope.diff(loss.symbols[name]) for slope in loss.gradient]
    random = {loss.symbols[other] for other in loss.random}
    if any(factor.free_symbols & random for factor in factors):
        return None
    if noise.family == "normal":
        mean, std = noise.arguments
        return Source((name,), Noise("normal", (mean, std / float(np.sqrt(samples)))))
    if noise.atoms():
        table, shares = _mean_of_atoms(noise, samples)
        return None if len(shares) > _BATCHES else Source((name,), table=table[:, None], shares=shares)
    if noise.family in _LIGHT and run.optimizer.rule.linear:
        return Source((name,), noise, samples=samples)
    return None


def _mean_of_atoms(noise: Noise, samples: int) -> tuple[np.ndarray, np.ndarray]:
    law = {Fraction(0): 1.0}
    for _ in range(samples):
        after: dict[Fraction, float] = {}
        for (total, weight), (value, share) in itertools.product(law.items(), noise.atoms()):
            after[total + value] = after.get(total + value, 0.0) + weight * float(share)
        law = after
        if len(law) > _BATCHES:
            break
    return np.array([float(total / samples) for total in law]), np.array(list(law.values()))


def _mean_count(level: Level) -> int:
    return min(level.order * max(level.pieces, 1), _MOST_NODES)


@lru_cache(maxsize=64)
def _mean_rule(noise: Noise, samples: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The Gauss rule of the mean of independent draws.

    That of a sum is the Gauss rule of the sums of the nodes of both: as exact as theirs, and of as many nodes.
    """
    coordinate = _coordinate(noise)
    assert coordinate is not None
    nodes, weights = coordinate.gauss(count)
    one = _compressed(coordinate.value(nodes), weights, count)
    total: tuple[np.ndarray, np.ndarray] | None = None
    left = samples
    while left:
        if left % 2:
            total = one if total is None else _sum_rule(total, one, count)
        left //= 2
        if left:
            one = _sum_rule(one, one, count)
    assert total is not None
    return total[0] / samples, total[1]


def _sum_rule(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray]:
    nodes = (first[0][:, None] + second[0]).ravel()
    return _compressed(nodes, (first[1][:, None] * second[1]).ravel(), count)


def _compressed(nodes: np.ndarray, weights: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The Gauss rule of a discrete measure, by Lanczos with full orthogonalisation (Gragg and Harrod 1984)."""
    from scipy.linalg import eigh_tridiagonal

    kept = weights > 0
    nodes, weights = nodes[kept], weights[kept]
    count = min(count, len(nodes))
    basis = np.empty((count, len(nodes)))
    diagonal, beside = np.empty(count), np.empty(count)
    vector = np.sqrt(weights / weights.sum())
    for step in range(count):
        basis[step] = vector
        after = nodes * vector
        diagonal[step] = after @ vector
        for _ in range(2):
            after -= basis[: step + 1].T @ (basis[: step + 1] @ after)
        beside[step] = np.linalg.norm(after)
        if beside[step] <= 1e-13 * np.abs(nodes).max():
            count = step + 1
            break
        vector = after / beside[step]
    values, vectors = eigh_tridiagonal(diagonal[:count], beside[: count - 1])
    return values, weights.sum() * vectors[0] ** 2


def _all_batches(run: Run, given: Sequence[Source]) -> Batch:
    """The gradients of all outcomes of one sample, with the share of each in the batch as what is random."""
    import sympy

    from sgdsim.functions import exact

    loss, samples = run.loss, run.optimizer.batch_size
    names, outcomes, chances = _outcomes(given)
    number = len(outcomes)
    if comb(number + samples - 1, samples) > _BATCHES or number > _MOST_OUTCOMES:
        raise NotApplicable(_too_many(run, comb(number + samples - 1, samples)))
    labels = tuple(f"share__{index}" for index in range(number))
    values = [{loss.symbols[n]: exact(float(x)) for n, x in zip(names, row, strict=True)} for row in outcomes]
    gradient = tuple(
        sympy.Add(*(sympy.Symbol(s, real=True) * slope.xreplace(at) for s, at in zip(labels, values, strict=True)))
        for slope in loss.gradient
    )
    table = np.array(
        [np.bincount(chosen, minlength=number) for chosen in combinations_with_replacement(range(number), samples)]
    )
    shares = np.array([_multinomial(counts, chances) for counts in table])
    return Batch(gradient, (Source(labels, table=table / samples, shares=shares),))


def _multinomial(counts: np.ndarray, chances: np.ndarray) -> float:
    logarithm = lgamma(counts.sum() + 1) - sum(lgamma(n + 1) for n in counts)
    return float(np.exp(logarithm + sum(n * log(p) for n, p in zip(counts, chances, strict=True) if n)))


def _outcomes(given: Sequence[Source]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, and all joint values of discrete sources with their probabilities."""
    names: list[str] = []
    rows, chances = np.empty((1, 0)), np.ones(1)
    for source in given:
        names += source.names
        if source.noise is None:
            assert source.table is not None
            assert source.shares is not None
            table, shares = source.table, source.shares
        else:
            values, shares = _atoms(source.noise)
            table = values[:, None]
        rows = np.hstack([np.repeat(rows, len(table), axis=0), np.tile(table, (len(rows), 1))])
        chances = np.outer(chances, shares).ravel()
    return names, rows, chances


def _sample_by_sample(run: Run, given: Sequence[Source]) -> Batch:
    """A name for every sample's value of what is random."""
    import sympy

    loss, samples = run.loss, run.optimizer.batch_size
    noises = [source for source in given if source.noise is not None]
    variables = sum(not source.is_discrete for source in noises) * samples
    if variables > _MOST_VARIABLES:
        raise NotApplicable(
            f"a batch of {samples} samples has {variables} noise variables that do not enter through their means, "
            f"expected at most {_MOST_VARIABLES}; simulate instead"
        )
    copies = [
        {loss.symbols[name]: sympy.Symbol(f"{name}__{sample}", real=True) for s in given for name in s.names}
        for sample in range(samples)
    ]
    gradient = tuple(sympy.Add(*(slope.xreplace(copy) for copy in copies)) / samples for slope in loss.gradient)
    rows = [_rows(run, source) for source in given if source.noise is None]
    singles = [Source((f"{s.names[0]}__{k}",), s.noise) for s in noises for k in range(samples)]
    if singles and all(source.is_discrete for source in singles):
        many = prod(_size(source) for source in (*rows, *singles))
        if many > _BATCHES:
            raise NotApplicable(_too_many(run, many))
    return Batch(gradient, (*rows, *sorted(singles, key=lambda source: not source.is_discrete)))


def _size(source: Source) -> int:
    """Outcomes of a discrete source."""
    if source.noise is not None:
        return len(_atoms(source.noise)[0])
    assert source.shares is not None
    return len(source.shares)


def _rows(run: Run, source: Source) -> Source:
    """All batches of rows; their order does not matter, as the other noise of the samples is alike."""
    assert source.table is not None
    number, samples = len(source.table), run.optimizer.batch_size
    without = run.optimizer.sampling == "batch"
    many = comb(number, samples) if without else comb(number + samples - 1, samples)
    if many > _BATCHES:
        raise NotApplicable(_too_many(run, many))
    if without:
        chosen = np.array(list(itertools.combinations(range(number), samples)))
        shares = np.full(len(chosen), 1.0 / len(chosen))
    else:
        chosen = np.array(list(combinations_with_replacement(range(number), samples)))
        alike = np.full(number, 1.0 / number)
        shares = np.array([_multinomial(np.bincount(rows, minlength=number), alike) for rows in chosen])
    names = tuple(f"{name}__{sample}" for sample in range(samples) for name in source.names)
    return Source(names, table=source.table[chosen].reshape(len(chosen), -1), shares=shares)


def _too_many(run: Run, many: int) -> str:
    size = run.optimizer.batch_size
    return f"there are {many} different batches of {size} samples, expected at most {_BATCHES}; simulate instead"
