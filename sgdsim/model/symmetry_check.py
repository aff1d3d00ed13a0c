"""The check that a loss has its declared symmetries: by algebra, and numerically at random points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from sgdsim.base.errors import InputError, shortened
from sgdsim.formulas.evaluation import evaluate
from sgdsim.formulas.expansion import TooManyTerms, expanded
from sgdsim.formulas.vectors import coordinates
from sgdsim.model.loss_graph import LossGraph
from sgdsim.model.symmetry import Symmetry
from sgdsim.model.written_loss import WrittenLoss

if TYPE_CHECKING:
    import sympy

_ROUNDING = 1e-9  # largest sum that counts as zero, relative to the sum of the magnitudes of its terms
_POINTS = 50  # random points at which a loss is tested for a change that algebra leaves open


def check_by_algebra(
    loss: WrittenLoss, symmetry: Symmetry, directions: Mapping[str, sympy.Expr], expression: sympy.Expr
) -> None:
    """Refuse a loss that changes under a symmetry for some sample: by algebra, or in 50 digits at random points.

    Parameters
    ----------
    loss, symmetry
        The loss, and a symmetry that it declares.
    directions
        The generator by coordinate, or the images.
    expression
        The loss of a sample.

    Raises
    ------
    InputError
        With the change of the loss; and if a direction depends on the noise.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> loss = Loss("x**2", ("x",))
    >>> (sign,) = Symmetry.parse("sign:x").written_out({"x": ()})
    >>> check_by_algebra(loss, sign, loss.directions(sign), loss.expression)
    """
    import sympy

    from sgdsim.formulas.symbolic import exact

    _check_is_fixed(loss, symmetry, directions)
    moved = {loss.symbols[name]: value for name, value in directions.items()}
    if symmetry.is_continuous:
        terms = [value * expression.diff(symbol) for symbol, value in moved.items()]
    else:
        terms = [expression.xreplace(moved), -expression]
    constants = {loss.symbols[name]: exact(value) for name, value in loss.constants.items()}
    terms = [term.xreplace(constants) for term in terms]
    change = sympy.Add(*terms)
    with suppress(TooManyTerms):  # too long for algebra: the numerical test decides alone
        change = expanded(change)
    if change != 0 and not _cancel(loss, terms):
        how = "along its generator" if symmetry.is_continuous else "under it"
        by = shortened(change)
        raise InputError(f"loss.symmetry {symmetry.name!r}: {how} the loss of a sample changes by {by}, expected 0")


def _check_is_fixed(loss: WrittenLoss, symmetry: Symmetry, directions: Mapping[str, sympy.Expr]) -> None:
    """Refuse a symmetry that depends on the sample."""
    random = set(loss.random) & {symbol.name for value in directions.values() for symbol in value.free_symbols}
    if random:
        raise InputError(f"loss.symmetry {symmetry.name!r}: depends on the noise {', '.join(sorted(random))}")


def check_neighbours(loss: WrittenLoss, name: str, first: str, second: str) -> None:
    """Refuse layers if a change of basis between them changes the loss, at random points in double precision.

    Parameters
    ----------
    loss
        The loss that declares the symmetry.
    name
        Name of the symmetry, for messages.
    first, second
        Names of the two matrices. The change of basis acts on the rows of the first and the columns of the second.

    Raises
    ------
    InputError
        With the change of the loss, and the generator of the change of basis.

    Examples
    --------
    >>> loss = WrittenLoss("norm2(V@W)", ("V[1,2]", "W[2,2]"))
    >>> check_neighbours(loss, "basis", "W", "V")
    """
    points = _points(loss)
    slopes = LossGraph(loss).slopes(points)
    width = loss.shapes[first][0]
    pairs = []
    for layer, rows in ((first, (width, -1)), (second, (-1, width))):
        theta = np.array([points[key] for key in coordinates(layer, loss.shapes[layer])])
        pairs.append([part.reshape(*rows, theta.shape[-1]) for part in (theta, slopes[layer])])
    (before, before_slope), (after, after_slope) = pairs
    change = _together(before_slope, before) - _together(after.swapaxes(0, 1), after_slope.swapaxes(0, 1))
    size = _together(abs(before_slope), abs(before))
    size += _together(abs(after).swapaxes(0, 1), abs(after_slope).swapaxes(0, 1))
    usable = _usable(name, change, size)
    wrong = np.argwhere((abs(change) > _ROUNDING * size)[..., usable].any(axis=-1))
    if wrong.size:
        i, j = sorted(wrong[0])
        _refuse_change(f"{name}_{i}_{j}", "along its generator", change[i, j, usable])


def check_by_numbers(loss: WrittenLoss, symmetry: Symmetry, directions: Mapping[str, sympy.Expr]) -> None:
    """Refuse a loss that changes under a symmetry for some sample, at random points in double precision.

    Parameters
    ----------
    loss, symmetry, directions
        The loss, the symmetry, and its generator or images; see `check_by_algebra`.

    Raises
    ------
    InputError
        With the change of the loss; if a direction depends on the noise; and if the loss is NaN at most points.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> loss = Loss("x**2", ("x",))
    >>> (sign,) = Symmetry.parse("sign:x").written_out({"x": ()})
    >>> check_by_numbers(loss, sign, loss.directions(sign))
    """
    _check_is_fixed(loss, symmetry, directions)
    points, graph = _points(loss), LossGraph(loss)
    moved = dict(zip(directions, evaluate(list(directions.values()), {**loss.constants, **points}), strict=True))
    if symmetry.is_continuous:
        slopes = {
            key: slope
            for base, array in graph.slopes(points).items()
            for key, slope in zip(coordinates(base, loss.shapes[base]), array.reshape(-1, array.shape[-1]), strict=True)
        }
        terms, how = np.array([slopes[key] * value for key, value in moved.items()]), "along its generator"
    else:
        terms, how = np.array([graph.value({**points, **moved}), -graph.value(points)]), "under it"
    change, size = terms.sum(axis=0), abs(terms).sum(axis=0)
    usable = _usable(symmetry.name, change, size)
    if (abs(change) > _ROUNDING * size)[usable].any():
        _refuse_change(symmetry.name, how, change[usable])


def _together(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The products of each row of one matrix with each row of another, at every point."""
    return np.asarray(np.einsum("ikp,jkp->ijp", left, right))


def _usable(name: str, *found: np.ndarray) -> np.ndarray:
    """Mask of the points, along the last axis, at which all values are finite: a logarithm may be undefined."""
    usable = np.logical_and.reduce([np.isfinite(one).reshape(-1, one.shape[-1]).all(axis=0) for one in found])
    if usable.sum() < _POINTS:
        raise InputError(f"loss.symmetry {name!r}: the loss is not a number at most points, so it cannot be checked")
    return np.asarray(usable)


def _refuse_change(name: str, how: str, changes: np.ndarray) -> NoReturn:
    problem = f"{how} the loss of a sample changes by {float(abs(changes).max()):.3g} at a random point, expected 0"
    raise InputError(f"loss.symmetry {name!r}: {problem}")


def _points(loss: WrittenLoss) -> dict[str, np.ndarray]:
    drawn = list(_attempts(loss))
    return {name: np.array([point[name] for point in drawn]) for name in drawn[0]}


def _attempts(loss: WrittenLoss) -> Iterator[dict[str, float]]:
    """Random points of many sizes, more than are needed; every other point has no negative coordinates."""
    random = Random(0)
    for attempt in range(10 * _POINTS):
        values = _drawn(loss, random, 10 ** random.uniform(-1, 1))
        yield values | {name: abs(values[name]) for name in loss.carried if attempt % 2}


def _drawn(loss: WrittenLoss, random: Random, scale: float) -> dict[str, float]:
    """A random point: values of carried names, noise from its distribution, and a row of the data."""
    values = {name: random.gauss(0, scale) for name in loss.carried}
    values |= {name: noise.draw(random) for name, noise in loss.noise.items()}
    return values | ({} if loss.data is None else loss.data.draw(random))


def _cancel(loss: WrittenLoss, terms: Sequence[sympy.Expr]) -> bool:
    """True if terms add up to zero in 50 digits at random points, with noise from its distribution."""
    from sympy import Float, cse

    from sgdsim.formulas.symbolic import exact

    shared, reduced = cse(terms, order="none")  # a norm that occurs in every term is computed once
    usable = 0
    for values in _attempts(loss):
        point = {loss.symbols[name]: exact(round(value, 6)).evalf(60) for name, value in values.items()}
        for symbol, value in shared:
            point[symbol] = value.xreplace(point).evalf(60)
        numbers = [term.xreplace(point).evalf(50) for term in reduced]
        if not all(number.is_Number and number.is_finite for number in numbers):
            continue  # outside the domain of a logarithm or a root
        if abs(sum(numbers)) > Float("1e-40") * sum(abs(number) for number in numbers):
            return False
        usable += 1
        if usable == _POINTS:
            return True
    return False
