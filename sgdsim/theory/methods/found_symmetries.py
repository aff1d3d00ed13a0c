"""Symmetries that a loss has and does not declare: affine generators by algebra, signs and permutations by trial.

A generator ``v = A theta + b`` leaves every sample's loss unchanged if ``g . v = 0`` at all parameters and noises, with
g the gradient of a sample. At random points these are linear equations for the entries of A and b. Their null space
holds all affine generators; multiples ``(c . theta) b`` of a translation b, which are nothing new, are left out. The
space is spanned by translations first, then by diagonal matrices (rescalings), symmetric ones, which have a charge,
antisymmetric ones (rotations), and the rest, each with entries that are fractions of small numbers.

Discrete symmetries are signed permutations of parameters. Those are tried that move few parameters, or the same
coordinates of several vectors. A product of symmetries that were found already is no new one.

A symmetry that is found in numbers is kept only if it is proven like a declared one: see `sgdsim.model.loss`. Constants
count with their values: equal ones may make a symmetry.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from random import Random

import numpy as np

from sgdsim.base import budget
from sgdsim.base.errors import InputError
from sgdsim.formulas import evaluation
from sgdsim.formulas.vectors import base_name
from sgdsim.model.loss import Loss
from sgdsim.model.symmetry import Symmetry
from sgdsim.prediction import require
from sgdsim.theory.potential import require_gradient

MOST_PARAMETERS = 24
"""Most parameters of a loss: the generators of 24 have 600 entries, and to find them takes a second."""

_SINGULAR = 1e-9  # relative size of a singular value, or of a change of the loss, that counts as zero
_ZERO = 1e-6  # size of an entry of a generator that counts as zero
_LARGEST = 60  # largest denominator of an entry
_POINTS = 24  # points at which a discrete symmetry is tried
_MOST_SIGNS = 6  # most parameters for which all combinations of signs are tried
_MOST_MAPS = 2_000  # most products of known discrete symmetries that are computed, to tell new ones from them

Map = tuple[tuple[int, int], ...]
"""A signed permutation: for each parameter, the number of the one that it is mapped to, and the sign."""


def undeclared(loss: Loss) -> tuple[Symmetry, ...]:
    """The symmetries of a loss that do not follow from those that it declares.

    Raises
    ------
    NotApplicable
        For very many parameters, and parameters that move by rules of their own.

    Examples
    --------
    >>> from sgdsim.model.noise import Noise
    >>> loss = Loss("(u*w*x - y)**2/2", ("u", "w"), {}, {n: Noise.parse("normal") for n in "xy"})
    >>> [(one.name, one.generator or one.image) for one in undeclared(loss)]
    [('rescale', {'u': '1*u', 'w': '-1*w'}), ('sign', {'u': '-u', 'w': '-w'}), ('permutation', {'u': 'w', 'w': 'u'})]
    """
    return (*generators(loss), *_discrete(loss))


@lru_cache(maxsize=32)
def generators(loss: Loss) -> tuple[Symmetry, ...]:
    """The continuous symmetries of a loss that do not follow from those that it declares.

    Raises
    ------
    NotApplicable
        For very many parameters, and parameters that move by rules of their own.

    Examples
    --------
    >>> from sgdsim.model.noise import Noise
    >>> loss = Loss("(u - w)**2/2 + z*(u - w)", ("u", "w"), {}, {"z": Noise.parse("normal")})
    >>> [(one.name, one.generator) for one in generators(loss)]
    [('translation', {'u': '1', 'w': '1'})]
    """
    require_gradient(loss)
    require(
        len(loss.parameters) <= MOST_PARAMETERS,
        f"there are {len(loss.parameters)} parameters, expected at most {MOST_PARAMETERS}",
    )
    return tuple(_continuous(loss))


def _points(loss: Loss, count: int) -> dict[str, np.ndarray]:
    """Random values of all that a sample depends on. Every other point has positive parameters, for roots and logs."""
    random = Random(0)
    values: dict[str, np.ndarray] = {}
    for name in loss.carried:
        drawn = np.array([random.gauss(0.0, 1.0) for _ in range(count)])
        values[name] = np.where(np.arange(count) % 2, drawn, np.abs(drawn))
    for name, noise in loss.noise.items():
        values[name] = np.array([noise.draw(random) for _ in range(count)])
    if loss.data is not None:
        rows = [loss.data.draw(random) for _ in range(count)]
        values |= {name: np.array([row[name] for row in rows]) for name in loss.columns}
    return values


def _continuous(loss: Loss) -> list[Symmetry]:
    n = len(loss.parameters)
    equations = _equations(loss)
    known = _declared(loss)
    found: list[Symmetry] = []
    # A translation times a linear function is no new generator: the matrices A of the others have no part along b.
    translations = _null_space(equations[:, n * n :])
    along = [np.kron(b, np.eye(n)) for b in translations]
    rows = np.hstack([np.vstack([np.zeros((0, n * n)), *along]), np.zeros((n * len(along), n))])
    whole = _null_space(np.vstack([equations, rows]))
    for label, constraint in _classes(n).items():
        budget.check()
        space = np.hstack([np.zeros((len(translations), n * n)), translations]) if label == "translation" else whole
        kept = _null_space((space @ constraint).T) @ space if constraint.size and len(space) else space
        for vector in _reduced(kept):
            if _rank([*known, vector]) == len(known):
                continue
            symmetry = _generator(loss, label, vector)
            if symmetry is not None:
                known.append(vector)
                found.append(symmetry)
    return found


def _equations(loss: Loss) -> np.ndarray:
    """The equations ``g . (A theta + b) = 0``, one row for each random point; columns are entries of A, then of b."""
    n = len(loss.parameters)
    values = _points(loss, 3 * (n * n + n) + 20)
    slopes = evaluation.evaluate(loss.gradient, {**loss.constants, **values})
    count = len(values[loss.parameters[0]])
    g = np.stack([np.broadcast_to(slope, count) for slope in slopes], axis=1)
    theta = np.stack([values[name] for name in loss.parameters], axis=1)
    rows = np.hstack([(g[:, :, None] * theta[:, None, :]).reshape(count, n * n), g])
    size = np.linalg.norm(rows, axis=1)
    usable = np.isfinite(rows).all(axis=1) & (size > 0)
    require(usable.sum() > n * n + n, "the gradient of a sample vanishes, or has no value, at most points")
    return np.asarray(rows[usable] / size[usable, None])


def _classes(n: int) -> dict[str, np.ndarray]:
    """For each class of generators the linear conditions that define it, as columns; the most special classes first."""
    a = np.eye(n * n + n)[:, : n * n].reshape(n * n + n, n, n)
    b = np.eye(n * n + n)[:, n * n :]
    off = ~np.eye(n, dtype=bool)
    return {
        "translation": np.zeros((n * n + n, 0)),
        "rescale": np.hstack([a[:, off], b]),
        "charged": (a - a.transpose(0, 2, 1)).reshape(n * n + n, -1),
        "rotation": np.hstack([(a + a.transpose(0, 2, 1)).reshape(n * n + n, -1), b]),
        "linear": np.zeros((n * n + n, 0)),
    }


def _null_space(matrix: np.ndarray) -> np.ndarray:
    """Orthonormal rows that span the null space of a matrix."""
    if not len(matrix):
        return np.eye(matrix.shape[1])
    _, values, rows = np.linalg.svd(matrix)
    rank = int((values > _SINGULAR * max(1.0, values.max(initial=0.0))).sum())
    return np.asarray(rows[rank:])


def _reduced(space: np.ndarray) -> list[np.ndarray]:
    """A basis in reduced echelon form, in which most entries are 0 and 1."""
    rows, place = space.copy(), 0
    for column in range(space.shape[1]):
        if place == len(rows):
            break
        pivot = place + int(np.abs(rows[place:, column]).argmax())
        if abs(rows[pivot, column]) < _ZERO:
            continue
        rows[[place, pivot]] = rows[[pivot, place]]
        rows[place] /= rows[place, column]
        others = np.arange(len(rows)) != place
        rows[others] -= np.outer(rows[others, column], rows[place])
        place += 1
    return list(rows[:place])


def _rank(vectors: Sequence[np.ndarray]) -> int:
    return int(np.linalg.matrix_rank(np.array(vectors), tol=_ZERO))


def _generator(loss: Loss, label: str, vector: np.ndarray) -> Symmetry | None:
    """The symmetry of a generator; None if its entries are no short fractions, or the loss does not have it."""
    fractions = [Fraction(float(entry)).limit_denominator(_LARGEST) for entry in vector]
    if max(abs(float(q) - entry) for q, entry in zip(fractions, vector, strict=True)) > _ZERO:
        return None
    n, names = len(loss.parameters), loss.parameters
    texts = {}
    for i, name in enumerate(names):
        row = fractions[n * i : n * (i + 1)]
        terms = [f"{_number(q)}*{source}" for q, source in zip(row, names, strict=True) if q]
        terms += [_number(fractions[n * n + i])] if fractions[n * n + i] else []
        if terms:
            texts[name] = " + ".join(terms)
    factors = {q for q in fractions if q}
    pairs = len(texts) == 2
    name = {"charged": "linear", "rotation": "rotation" if pairs else "linear"}.get(label, label)
    return _proven(loss, Symmetry("scale" if label == "rescale" and factors == {1} else name, texts))


def _number(q: Fraction) -> str:
    return str(q) if q.denominator == 1 else f"({q})"


def _proven(loss: Loss, symmetry: Symmetry) -> Symmetry | None:
    try:
        replace(loss, symmetries=(symmetry,))
    except InputError:
        return None
    return symmetry


def _declared(loss: Loss) -> list[np.ndarray]:
    """The declared generators that are affine, as vectors of the entries of A and b."""
    import sympy

    found = []
    for symmetry in loss.symmetries:
        if not symmetry.is_continuous:
            continue
        directions = loss.directions(symmetry)
        values = [directions.get(name) for name in loss.parameters]
        slopes = [[0 if v is None else v.diff(theta) for theta in loss.theta] for v in values]
        at_zero = [0 if v is None else v.xreplace(dict.fromkeys(loss.theta, 0)) for v in values]
        entries = [*itertools.chain(*slopes), *at_zero]
        constants = {loss.symbols[name]: value for name, value in loss.constants.items()}
        numbers = [sympy.sympify(entry).xreplace(constants) for entry in entries]
        if all(number.is_number for number in numbers):
            found.append(np.array([float(number) for number in numbers]))
    return found


def _discrete(loss: Loss) -> list[Symmetry]:
    values = {**loss.constants, **_points(loss, _POINTS)}
    theta = [values[name] for name in loss.parameters]
    (before,) = evaluation.evaluate([loss.expression], values)
    known = _products({_map_of(loss, one) for one in loss.symmetries if not one.is_continuous} - {None})
    found: list[Symmetry] = []
    for candidate in _candidates(loss):
        if candidate in known:
            continue
        budget.check()
        images = zip(loss.parameters, candidate, strict=True)
        moved = {name: sign * np.asarray(theta[i]) for name, (i, sign) in images}
        (after,) = evaluation.evaluate([loss.expression], {**values, **moved})
        if not np.allclose(before, after, rtol=_SINGULAR, atol=_SINGULAR, equal_nan=True):
            continue
        symmetry = _proven(loss, _symmetry(loss, candidate))
        if symmetry is not None:
            found.append(symmetry)
            known = _products({*known, candidate})
    return found


def _candidates(loss: Loss) -> Iterator[Map]:
    """Signed permutations to try: signs of few parameters, then exchanges with and without signs.

    Two parameters are exchanged, or two coordinates of all vectors, or two whole vectors.
    """
    names, n = loss.parameters, len(loss.parameters)
    resting = tuple((i, 1) for i in range(n))
    sizes = range(1, n + 1) if n <= _MOST_SIGNS else (1, 2, n)
    vectors: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        vectors.setdefault(base_name(name), []).append(i)
    for size in sizes:
        for chosen in itertools.combinations(range(n), size):
            yield tuple((i, -1 if i in chosen else 1) for i in range(n))
    if n > _MOST_SIGNS:
        for several in vectors.values():
            yield tuple((i, -1 if i in several else 1) for i in range(n))
    exchanges: list[Map] = [((i, j),) for i, j in itertools.combinations(range(n), 2)]
    longest = max(map(len, vectors.values()))
    for i, j in itertools.combinations(range(longest), 2):
        exchanges.append(tuple((v[i], v[j]) for v in vectors.values() if len(v) > j))
    for first, second in itertools.combinations([v for v in vectors.values() if len(v) > 1], 2):
        if len(first) == len(second):
            exchanges.append(tuple(zip(first, second, strict=True)))
    for swaps in exchanges:
        for one, other in ((1, 1), (-1, -1), (1, -1)):
            image = dict(enumerate(resting))
            for i, j in swaps:
                image[i], image[j] = (j, one), (i, other)
            yield tuple(image[i] for i in range(n))


def _symmetry(loss: Loss, image: Map) -> Symmetry:
    moved = {
        name: f"{'-' if sign < 0 else ''}{loss.parameters[i]}"
        for place, (name, (i, sign)) in enumerate(zip(loss.parameters, image, strict=True))
        if (i, sign) != (place, 1)
    }
    is_sign = all(i == place for place, (i, _) in enumerate(image))
    return Symmetry("sign" if is_sign else "permutation", image=moved)


def _map_of(loss: Loss, symmetry: Symmetry) -> Map | None:
    """A declared symmetry as a signed permutation; None for other symmetries."""
    found, directions = [], loss.directions(symmetry)
    places = {symbol: i for i, symbol in enumerate(loss.theta)}
    for place, name in enumerate(loss.parameters):
        value = directions.get(name, loss.theta[place])
        if value in places:
            found.append((places[value], 1))
        elif -value in places:
            found.append((places[-value], -1))
        else:
            return None
    return tuple(found)


def _products(maps: Iterable[Map | None]) -> set[Map]:
    """The maps and their products, at most some `_MOST_MAPS` of them."""
    generators = [one for one in maps if one is not None]
    group, new = set(generators), set(generators)
    while new and len(group) < _MOST_MAPS:
        new = {_product(one, other) for one in new for other in generators} - group
        group |= new
    return group


def _product(one: Map, other: Map) -> Map:
    return tuple((other[i][0], sign * other[i][1]) for i, sign in one)
