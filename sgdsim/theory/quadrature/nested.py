"""Expectations over the noise and the data of a loss that have no closed form.

Continuous noise is integrated by the rules of `sgdsim.theory.quadrature.rules`, nested where the kinks of one
variable depend on others; discrete noise and rows of data are summed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base.errors import InputError, shortened
from sgdsim.formulas.evaluation import evaluate, kinks
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.prediction import NotApplicable
from sgdsim.theory.quadrature.rules import Level, atoms, coordinate_of, is_discrete, mean_count, mean_rule, rule_at

if TYPE_CHECKING:
    import sympy

EVALUATIONS = 10_000_000
"""Most evaluations of an integrand, all points of the parameters together."""

MOST_NODES = 2**25
"""Most nodes of the noise at one point of the parameters: a few arrays of them are made, of 0.25 GB each."""

_CHUNK = 2**20  # evaluations at once
_MANY = 4  # number of sources from which on the nodes are counted before they are made
_CLOSED = 500  # most operations of an expression for which a closed form is tried
_LOOSE = 0.02  # largest relative change of E|f| between two levels: if it exceeds that, E f may not exist
_EPSILON = float(np.finfo(np.float64).eps)
_BISECTIONS = 60
# Levels of refinement, one after the other: Gauss rules for smooth functions, then panels.
_SMOOTH = (Level(12), Level(24), Level(48), Level(96))
_PANELS = tuple(Level(count, pieces) for count, pieces in ((8, 1), (12, 1), (16, 2), (16, 4), (16, 8), (16, 32)))


@dataclass(frozen=True)
class Numerical:
    """A number, or an array of them, with an estimate of its error.

    Attributes
    ----------
    value
        The number.
    error
        Its change when all that it was computed with was refined, and rounding.
    """

    value: Any
    error: Any


@dataclass(frozen=True, eq=False)
class Source:
    """One random variable, or several whose joint values are listed in a table.

    Attributes
    ----------
    names
        The names of the variables in formulas.
    noise
        The distribution of a single variable; None with a table.
    table, shares
        The joint values, shape (outcome, name), and the probability of each outcome.
    samples
        Number of independent draws of the noise whose mean the variable is. Functions of a mean of several have no
        kinks.
    """

    names: tuple[str, ...]
    noise: Noise | None = None
    table: np.ndarray | None = None
    shares: np.ndarray | None = None
    samples: int = 1

    @property
    def is_discrete(self) -> bool:
        """True if the source takes finitely many values."""
        return self.noise is None or is_discrete(self.noise)

    @property
    def outcomes(self) -> int:
        """Number of values of a discrete source."""
        if self.noise is not None:
            return len(atoms(self.noise)[0])
        assert self.shares is not None
        return len(self.shares)


def sources(loss: Loss, used: Sequence[str]) -> list[Source]:
    """Sources for those of some names that are random in a loss: rows of data, discrete noise, continuous noise.

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
        For every name an array that broadcasts with the others: the first axis counts points, then each source has one.
    weights
        The weight of each node, with the same axes.
    far
        True for nodes far out in a tail, with the same axes.
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
        The random sources; the kinks of each are looked for at the values of those before it.
    edges
        Expressions that vanish at kinks.
    values
        A number, or an array of one axis, for each other name.
    level
        The fineness of the rules: one for all sources, or one for each.

    Raises
    ------
    NotApplicable
        For more nodes than `MOST_NODES`.

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
    many = node_number(given, level, edges) if axes >= _MANY else 1
    if many > MOST_NODES:
        raise NotApplicable(
            f"{axes} random variables have {many:,} nodes, expected at most {MOST_NODES:,}; simulate instead"
        )
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
            means, shares = mean_rule(source.noise, source.samples, mean_count(fineness))
            known[source.names[0]] = _on_axis(means, axis, axes)
            weights = weights * _on_axis(shares, axis, axes)
            continue
        breaks = [] if source.is_discrete else _breaks(source, _of(edges, source.names[0], later), known)
        shape = np.broadcast_shapes(*(np.shape(point) for point in breaks)) if breaks else (1,) * (axes + 1)
        breaks = [np.broadcast_to(point, shape).reshape(shape[:axis]) for point in breaks]
        found = (_fit(part, axis, axes) for part in rule_at(source.noise, fineness, breaks))
        known[source.names[0]], shares, beyond = found
        weights, far = weights * shares, far | beyond
    return Nodes(known, weights, far)


def _spread(value: Any, axes: int) -> Any:
    array = np.asarray(value, dtype=np.float64)
    return array.reshape((-1,) + (1,) * axes) if array.ndim else array[()]


def _on_axis(array: np.ndarray, axis: int, axes: int) -> np.ndarray:
    return array.reshape((1,) * axis + (-1,) + (1,) * (axes - axis))


def _fit(array: np.ndarray, axis: int, axes: int) -> np.ndarray:
    """An array with axes for all sources; its last axis becomes that of its source, those before it stay the first."""
    if array.ndim == 1:
        return _on_axis(array, axis, axes)
    return array.reshape((*array.shape, *(1,) * (axes - axis)))


def _of(edges: Sequence[sympy.Expr], name: str, later: set[str]) -> list[sympy.Expr]:
    """The edges that depend on a variable but on no later one."""
    found = []
    for edge in edges:
        names = {symbol.name for symbol in edge.free_symbols}
        if name in names and not names & later:
            found.append(edge)
    return found


def _breaks(source: Source, edges: Sequence[sympy.Expr], values: Mapping[str, Any]) -> list[Any]:
    """Values of a variable at which edges vanish, NaN where one does not vanish."""
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
    """Values of a variable at which an edge changes its sign: found between 8 parts of each panel, then bisected."""
    coordinate = coordinate_of(noise)
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
        The loss whose noise, data and constants enter.
    expressions
        Expressions in its symbols.
    theta
        A number or an array for each parameter; arrays broadcast.
    tolerance
        Difference of two levels of refinement, relative to the expectation of the magnitude, at which refinement ends.

    Returns
    -------
    list
        Values and errors of each expression, with the shape of the parameters.

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
    """The closed expectation of a polynomial in the noise; None for other formulas, and if too many digits cancel."""
    from sympy import Add

    symbols = [loss.symbols[name] for name in used]
    if symbols and (expression.count_ops() > _CLOSED or not expression.is_polynomial(*symbols)):
        return None
    terms = Add.make_args(loss.expectation(expression))
    found = evaluate(terms, {**loss.constants, **theta})
    points = len(next(iter(theta.values())))
    value = np.broadcast_to(sum(found), points)
    with np.errstate(all="ignore"):
        error = 4 * _EPSILON * np.broadcast_to(sum(np.abs(term) for term in found), points)
        if symbols and (error > tolerance * np.abs(value)).any() and _is_light(loss, used):
            return None
    return Numerical(value, error)


def _is_light(loss: Loss, used: Sequence[str]) -> bool:
    """True if a product of few quadrature nodes is exact for polynomials in these variables."""
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
        if node_number(given, level, edges) * len(todo) > EVALUATIONS:
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
    """The sources in the order of nesting: last those in which every edge is affine, whose kinks are exact."""
    import sympy

    def last(source: Source) -> int:
        if source.is_discrete:
            return 0
        variable = sympy.Symbol(source.names[0], real=True)
        kinked = [edge for edge in edges if variable in edge.free_symbols]
        return 1 + (bool(kinked) and all(variable not in edge.diff(variable).free_symbols for edge in kinked))

    return sorted(given, key=last)


def node_number(given: Sequence[Source], level: Level | Sequence[Level], edges: Sequence[sympy.Expr]) -> int:
    """Number of nodes of the noise at one point of the parameters, if every edge vanishes somewhere.

    Examples
    --------
    >>> node_number([Source(("z",), Noise.parse(text)) for text in ("normal", "student_t:9")], Level(8), [])
    136
    """
    total = 1
    for source, fineness in zip(given, [level] * len(given) if isinstance(level, Level) else level, strict=True):
        if source.is_discrete:
            total *= source.outcomes
        elif source.samples > 1:
            total *= mean_count(fineness)
        else:
            depends = [edge for edge in edges if source.names[0] in {symbol.name for symbol in edge.free_symbols}]
            assert source.noise is not None
            total *= len(rule_at(source.noise, fineness, [np.nan] * len(depends))[0])
    return total


def _sums(
    loss: Loss,
    expressions: Sequence[sympy.Expr],
    given: Sequence[Source],
    edges: Sequence[sympy.Expr],
    theta: Mapping[str, np.ndarray],
    level: Level,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums over the nodes of the expressions, of their magnitudes, and of the magnitudes far out in the tails.

    Each has the shape (expression, point).
    """
    points = len(next(iter(theta.values())))
    size = max(1, _CHUNK // node_number(given, level, edges))
    sums = np.empty((3, len(expressions), points))
    for start in range(0, points, size):
        part = slice(start, start + size)
        found = nodes(given, edges, {**loss.constants, **{name: a[part] for name, a in theta.items()}}, level)
        axes = tuple(range(1, len(given) + 1))
        count = len(range(points)[part])
        for place, value in enumerate(evaluate(expressions, found.values)):
            with np.errstate(all="ignore"):
                # Where a weight underflows to zero, a value that overflows does not count.
                terms = np.where(found.weights > 0, value * found.weights, 0.0)
                size_of = np.abs(terms)
                for kind, array in enumerate((terms, size_of, np.where(found.far, size_of, 0.0))):
                    sums[kind, place, part] = np.broadcast_to(array.sum(axis=axes), count)
    return sums[0], sums[1], sums[2]
