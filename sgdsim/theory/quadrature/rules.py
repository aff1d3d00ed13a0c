"""Gauss rules of distributions of one variable, and of the mean of several draws.

Every continuous distribution has a coordinate in which its rules are made: itself where its tails are light, and the
inverse hyperbolic sine for Student's t, whose density then falls off exponentially. A smooth function is integrated
by the Gauss rule of the distribution; one with kinks by Gauss-Legendre rules between panels of the coordinate, of
which some end at the kinks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import lgamma, log, pi
from typing import Any, NamedTuple

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.model.noise import Noise

_MOST_NODES = 48  # most nodes of the rule of a mean
_TOLD = 1e-26  # least weight of a node that eigenvectors tell from rounding
_LARGEST = 1e150  # largest value of a polynomial whose square is still a float


class Level(NamedTuple):
    """The fineness of a quadrature rule.

    Attributes
    ----------
    order
        Nodes of a Gauss rule, or of each panel.
    pieces
        Number of parts into which each panel is cut; 0 for one Gauss rule where there are no kinks.
    """

    order: int
    pieces: int = 0


@dataclass(frozen=True)
class Coordinate:
    """A continuous distribution in the coordinate in which its rules are made."""

    value: Callable[[Any], Any]
    inverse: Callable[[Any], Any]
    density: Callable[[Any], Any]
    edges: tuple[float, ...]
    gauss: Callable[[int], tuple[np.ndarray, np.ndarray]]
    far: float = np.inf  # coordinate beyond which nothing may be left of an integrand


# Edges of the panels, in each distribution's coordinate: out to where exp(30 z) times the normal density is
# negligible, and to where the others reach the smallest float.
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


def _golub_welsch(diagonal: np.ndarray, beside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the Gauss rule that belongs to a Jacobi matrix, by its eigenvectors (Golub, Welsch 1969).

    The matrix holds the three-term recurrence of the orthonormal polynomials: its diagonal and the entries beside it.
    """
    # By NumPy: SciPy's algorithm for three diagonals differs between its versions, by 1e-13 in the weights.
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    weights = vectors[0] ** 2
    # Far out, rounding leaves weights of 1e-32 that should be smaller: a rule of sums would have its nodes there.
    weights = np.where(weights > _TOLD, weights, np.minimum(weights, _christoffel(nodes, diagonal, beside)))
    return nodes, weights / weights.sum()


def _christoffel(nodes: np.ndarray, diagonal: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """The weights of a Gauss rule from Christoffel's sum of squared polynomials.

    The polynomials lose their digits between large nodes, and not beyond.
    """
    before, here = np.zeros_like(nodes), np.ones_like(nodes)
    total = here.copy()
    for step, after in enumerate(beside):
        last = beside[step - 1] if step else 0.0
        found = ((nodes - diagonal[step]) * here - last * before) / after
        before, here = here, found.clip(-_LARGEST, _LARGEST)
        total += here**2
    return np.asarray(1.0 / total)


def _flat(count: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = _legendre(count)
    return nodes, weights / 2


def _two_sided(count: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = _laguerre(count)
    return np.concatenate([-nodes[::-1], nodes]), np.concatenate([weights[::-1], weights]) / 2


def _student_density(dof: float) -> Callable[[Any], Any]:
    """The probability density of b, where Student's t variable is ``sqrt(dof)*sinh(b)``."""
    scale = lgamma((dof + 1) / 2) - lgamma(dof / 2) - log(pi) / 2
    return lambda b: np.exp(scale - dof * (np.abs(b) + np.log1p(np.exp(-2 * np.abs(b))) - log(2)))


def _student_gauss(dof: float) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    density = _student_density(dof)

    def gauss(count: int) -> tuple[np.ndarray, np.ndarray]:
        # Takahasi and Mori's double exponential rule: the trapezoidal rule in u, where b = pi/2*sinh(u).
        steps = np.linspace(-1.0, 1.0, 2 * count + 1) * np.arcsinh(2 * _STUDENT_EDGES[-1] / pi)
        nodes = pi / 2 * np.sinh(steps)
        return nodes, density(nodes) * pi / 2 * np.cosh(steps) * (steps[1] - steps[0])

    return gauss


def _normal_density(z: Any) -> Any:
    return np.exp(-(z**2) / 2) / np.sqrt(2 * pi)


def _linear(location: float, scale: float) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """The value at a coordinate b, and the coordinate of a value, for ``x = location + scale*b``."""
    return (lambda b: location + scale * b), (lambda x: (x - location) / scale)


def _normal(mean: float, std: float) -> Coordinate:
    return Coordinate(*_linear(mean, std), _normal_density, _mirrored(_NORMAL_EDGES), _hermite)


def _lognormal(mu: float, sigma: float) -> Coordinate:
    value, inverse = _linear(mu, sigma)
    return replace(_normal(mu, sigma), value=lambda b: np.exp(value(b)), inverse=lambda x: inverse(np.log(x)))


def _uniform(low: float, high: float) -> Coordinate:
    value, inverse = _linear((low + high) / 2, (high - low) / 2)
    return Coordinate(value, inverse, lambda b: np.full_like(b, 0.5), (-1.0, 0.0, 1.0), _flat)


def _laplace(mean: float, scale: float) -> Coordinate:
    edges = _mirrored(_EXPONENTIAL_EDGES)
    return Coordinate(*_linear(mean, scale), lambda b: np.exp(-np.abs(b)) / 2, edges, _two_sided)


def _exponential(scale: float) -> Coordinate:
    return Coordinate(*_linear(-scale, scale), lambda b: np.exp(-b), _EXPONENTIAL_EDGES, _laguerre)


def _student(dof: float) -> Coordinate:
    root = float(np.sqrt(dof))
    return Coordinate(
        lambda b: root * np.sinh(b),
        lambda x: np.arcsinh(x / root),
        _student_density(dof),
        _mirrored(_STUDENT_EDGES),
        _student_gauss(dof),
        _STUDENT_EDGES[-2],
    )


_COORDINATES: dict[str, Callable[..., Coordinate]] = {
    "normal": _normal,
    "lognormal": _lognormal,
    "uniform": _uniform,
    "laplace": _laplace,
    "exponential": _exponential,
    "student_t": _student,
}


@lru_cache(maxsize=256)
def coordinate_of(noise: Noise) -> Coordinate | None:
    """The coordinate of a continuous distribution; None for a discrete one.

    Examples
    --------
    >>> coordinate_of(Noise.parse("uniform:0,2")).value(0.5)
    1.5
    """
    if noise.atoms() or _is_constant(noise):
        return None
    if noise.family not in _COORDINATES:
        raise InputError(f"no rule for the distribution {noise}")
    return _COORDINATES[noise.family](*noise.arguments)


def _is_constant(noise: Noise) -> bool:
    return noise.family in ("normal", "laplace", "exponential", "lognormal") and noise.arguments[-1] == 0


def atoms(noise: Noise) -> tuple[np.ndarray, np.ndarray]:
    """The values of a discrete distribution and their probabilities.

    Examples
    --------
    >>> atoms(Noise.parse("rademacher"))
    (array([-1.,  1.]), array([0.5, 0.5]))
    """
    pairs = noise.atoms()
    if not pairs:  # a continuous distribution of width zero
        return np.array([noise.moment(1)]), np.ones(1)
    return np.array([float(value) for value, _ in pairs]), np.array([float(share) for _, share in pairs])


def is_discrete(noise: Noise) -> bool:
    """True if a distribution takes discrete values only.

    Examples
    --------
    >>> is_discrete(Noise.parse("rademacher")), is_discrete(Noise.parse("laplace"))
    (True, False)
    """
    return coordinate_of(noise) is None


def density(noise: Noise, values: Any) -> Any:
    """The probability density of a continuous distribution.

    Examples
    --------
    >>> round(float(density(Noise.parse("normal"), 0.0)), 6)
    0.398942
    """
    coordinate = coordinate_of(noise)
    if coordinate is None:
        raise InputError(f"{noise} is discrete, it has no density")
    with np.errstate(all="ignore"):
        b = np.asarray(coordinate.inverse(np.asarray(values, dtype=np.float64)))
        inside = (b >= coordinate.edges[0]) & (b <= coordinate.edges[-1])
        b = np.where(inside, b, 0.5)
        slope = _slope(noise, b)
        return np.where(inside, coordinate.density(b) / slope, 0.0)


def _slope(noise: Noise, b: Any) -> Any:
    """The derivative of the value with respect to the coordinate b."""
    if noise.family == "student_t":
        return np.sqrt(noise.arguments[0]) * np.cosh(b)
    if noise.family == "lognormal":
        return noise.arguments[1] * np.exp(noise.arguments[0] + noise.arguments[1] * b)
    if noise.family == "uniform":
        return (noise.arguments[1] - noise.arguments[0]) / 2
    return noise.arguments[-1]


def rule(noise: Noise, count: int, breaks: Sequence[Any] = (), pieces: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Values and weights of a quadrature rule: weighted sums of a function at the values are its expectations.

    Parameters
    ----------
    noise
        The distribution; the rule of a discrete one is its values.
    count
        Nodes of the Gauss rule of the distribution, or of each panel if there are breaks or pieces.
    breaks
        Values at which functions of the variable have kinks: numbers, or arrays of one shape, with NaN for none.
    pieces
        Number of parts into which each panel is cut; 0 to cut none, and for a Gauss rule if there are no breaks.

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
    values, weights, _ = rule_at(noise, Level(count, pieces), breaks)
    return values, weights


def rule_at(noise: Noise, level: Level, breaks: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values and weights of a rule, and True for each node that is far out in the tails."""
    coordinate = coordinate_of(noise)
    if coordinate is None:
        values, weights = atoms(noise)
        return values, weights, np.zeros(len(values), dtype=bool)
    if breaks or level.pieces:
        nodes, weights = _panels(coordinate, level, breaks)
    else:
        nodes, weights = coordinate.gauss(level.order)
    return coordinate.value(nodes), weights, np.abs(nodes) > coordinate.far


def _panels(coordinate: Coordinate, level: Level, breaks: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
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


def mean_count(level: Level) -> int:
    """Number of nodes of the rule of a mean.

    Examples
    --------
    >>> mean_count(Level(12, 2))
    24
    """
    return min(level.order * max(level.pieces, 1), _MOST_NODES)


@lru_cache(maxsize=64)
def mean_rule(noise: Noise, samples: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The Gauss rule of the mean of independent draws.

    The rule of a sum of two variables is made from the sums of their nodes. It is as exact as theirs, with as many
    nodes.
    """
    coordinate = coordinate_of(noise)
    assert coordinate is not None
    nodes, weights = coordinate.gauss(count)
    told = weights > _TOLD  # smaller weights are rounding, if the rule was made by eigenvectors
    one = _compressed(coordinate.value(nodes[told]), weights[told], count)
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
    values, shares = _golub_welsch(diagonal[:count], beside[: count - 1])
    return values, weights.sum() * shares
