"""The Hessian of the population loss in numbers, at one point, without SymPy.

Formulas are evaluated in an algebra of their own: a value is a polynomial in the noise, whose coefficients are numbers
with their gradients. Its expectation needs moments of the noise only, and is exact. Most coefficients have no part in
it, and second derivatives are taken only of those that have. SymPy takes 20 s for the Hessian of a diagonal network of
40 parameters.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite, pi, prod, sqrt
from typing import Any

import numpy as np

from sgdsim.formulas.arrays import Expanded
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import FormulaError
from sgdsim.formulas.vectors import gather
from sgdsim.formulas.walker import NUMERIC, is_whole
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss

_MOST_CASES = 64  # most rows times noise values that are summed if a loss is no polynomial, as in `Loss.expectation`
_MOST_PRODUCTS = 10_000  # most products of coefficients, which take 0.1 to 0.2 s

Monomial = tuple[tuple[str, int], ...]


class _UnknownError(Exception):
    """The error for a loss that is no polynomial in the noise, or takes too long."""


@dataclass(frozen=True, eq=False)
class _Jet:
    """A number with its gradient, and with the numbers that it was made from, from which `_hessian` follows.

    Parameters
    ----------
    value, slope
        The number and its gradient, which is the number 0 for a constant.
    parents
        The numbers that it was made from, each with the first derivative by it.
    bends
        Pairs of parents, each with the coefficient of their product in the expansion to second order.
    number
        A number that counts the jets: parents have lower ones.
    """

    value: Any
    slope: Any = 0.0
    parents: tuple[tuple[_Jet, Any], ...] = ()
    bends: tuple[tuple[_Jet, _Jet, Any], ...] = ()
    number: int = field(default_factory=itertools.count().__next__)

    @property
    def is_constant(self) -> bool:
        """True if the number depends on no parameter."""
        return not np.ndim(self.slope)

    def __add__(self, other: _Jet) -> _Jet:
        return _Jet(self.value + other.value, self.slope + other.slope, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other: _Jet) -> _Jet:
        bends = () if self.is_constant or other.is_constant else ((self, other, 1.0),)
        slope = self.value * other.slope + other.value * self.slope
        return _Jet(self.value * other.value, slope, ((self, other.value), (other, self.value)), bends)

    def chain(self, value: Any, first: Any, second: Any) -> _Jet:
        """A function of the number, given by the function's value and first two derivatives there."""
        if self.is_constant:
            return _Jet(value)
        return _Jet(value, first * self.slope, ((self, first),), ((self, self, second / 2),))


def _hessian(jet: _Jet, n: int) -> np.ndarray:
    """The Hessian of a number by all parameters: a sum over all bends between it and the parameters.

    Each bend adds the outer product of two parents' gradients, times the derivative of the whole by their child.
    """
    slopes, waiting = {jet: 1.0}, [(-jet.number, jet)]
    left, right = [np.zeros(n)], [np.zeros(n)]
    while waiting:
        _, node = heapq.heappop(waiting)
        slope = slopes[node]
        for a, b, weight in node.bends:
            if weight:  # zero times an infinite slope is no contribution either
                left.append(slope * weight * a.slope)
                right.append(b.slope)
        for parent, weight in node.parents:
            if parent.is_constant:
                continue
            if parent not in slopes:
                slopes[parent] = 0.0
                heapq.heappush(waiting, (-parent.number, parent))
            slopes[parent] += slope * weight
    half = np.array(left).T @ np.array(right)
    return half + half.T


_ONE = _Jet(np.float64(1.0))
_TWO = _Jet(np.float64(2.0))
_MINUS_ONE = _Jet(np.float64(-1.0))

_sigmoid = NUMERIC["sigmoid"]

_SLOPES: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "exp": (np.exp, np.exp),
    "log": (lambda x: 1 / x, lambda x: -1 / x**2),
    "sqrt": (lambda x: 0.5 / np.sqrt(x), lambda x: -0.25 / np.sqrt(x) ** 3),
    "sin": (np.cos, lambda x: -np.sin(x)),
    "cos": (lambda x: -np.sin(x), lambda x: -np.cos(x)),
    "tan": (lambda x: 1 + np.tan(x) ** 2, lambda x: 2 * np.tan(x) * (1 + np.tan(x) ** 2)),
    "tanh": (lambda x: np.cosh(x) ** -2, lambda x: -2 * np.tanh(x) * np.cosh(x) ** -2),
    "sinh": (np.cosh, np.sinh),
    "cosh": (np.sinh, np.cosh),
    "atan": (lambda x: 1 / (1 + x**2), lambda x: -2 * x / (1 + x**2) ** 2),
    "erf": (lambda x: 2 / sqrt(pi) * np.exp(-(x**2)), lambda x: -4 * x / sqrt(pi) * np.exp(-(x**2))),
    "softplus": (_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
    "sigmoid": (
        lambda x: _sigmoid(x) * _sigmoid(-x),
        lambda x: _sigmoid(x) * _sigmoid(-x) * (_sigmoid(-x) - _sigmoid(x)),
    ),
    "abs": (np.sign, lambda x: 0.0),
    "relu": (NUMERIC["step"], lambda x: 0.0),
    "sign": (lambda x: 0.0, lambda x: 0.0),
    "step": (lambda x: 0.0, lambda x: 0.0),
}
"""The first two derivatives of each function."""


class _Polynomial:
    """A polynomial in the noise, as the coefficient of each product of powers."""

    def __init__(self, terms: Mapping[Monomial, _Jet]) -> None:
        self.terms = terms

    @property
    def jet(self) -> _Jet:
        """The only coefficient of a polynomial that does not depend on the noise."""
        if self.terms.keys() - {()}:
            raise _UnknownError
        return self.terms.get((), _Jet(np.float64(0.0)))


def _of_jet(jet: _Jet) -> _Polynomial:
    return _Polynomial({(): jet})


def _scalar(value: Any) -> _Polynomial:
    return value if isinstance(value, _Polynomial) else _of_jet(_Jet(np.float64(value)))


def _total(polynomials: Iterable[_Polynomial]) -> _Polynomial:
    terms: dict[Monomial, _Jet] = {}
    for polynomial in polynomials:
        for monomial, jet in polynomial.terms.items():
            terms[monomial] = terms[monomial] + jet if monomial in terms else jet
    return _Polynomial(terms)


def _joined(first: Monomial, second: Monomial) -> Monomial:
    if not (first and second):
        return first or second
    powers = dict(first)
    for name, power in second:
        powers[name] = powers.get(name, 0) + power
    return tuple(sorted(powers.items()))


def _function(name: str) -> Callable[[_Polynomial], _Polynomial]:
    value, (first, second) = NUMERIC[name], _SLOPES[name]

    def of(polynomial: _Polynomial) -> _Polynomial:
        jet = polynomial.jet
        return _of_jet(jet.chain(value(jet.value), first(jet.value), second(jet.value)))

    return of


def _where(a: _Polynomial, b: _Polynomial, x: _Polynomial, y: _Polynomial) -> _Polynomial:
    return x if a.jet.value < b.jet.value else y


class _Algebra:
    """The operations of formulas on polynomials in the noise, which end when too many products were taken."""

    def __init__(self) -> None:
        self._left = _MOST_PRODUCTS
        self.operations: dict[str, Callable[..., _Polynomial]] = {
            **{name: self._counted(_function(name)) for name in _SLOPES},
            "+": lambda x, y: _total((x, y)),
            "-": lambda x, y: _total((x, self._times(_of_jet(_MINUS_ONE), y))),
            "*": self._times,
            "/": lambda x, y: self._times(x, self._reciprocal(y)),
            "**": self._power,
            "negative": lambda x: self._times(_of_jet(_MINUS_ONE), x),
            "sum": _total,
            "min": lambda x, y: _where(y, x, y, x),
            "max": lambda x, y: _where(x, y, y, x),
            "where": _where,
        }

    def _count(self, products: int) -> None:
        self._left -= products
        if self._left < 0:
            raise _UnknownError

    def _counted(self, function: Callable[[_Polynomial], _Polynomial]) -> Callable[[_Polynomial], _Polynomial]:
        def counted(polynomial: _Polynomial) -> _Polynomial:
            self._count(1)
            return function(polynomial)

        return counted

    def _times(self, x: _Polynomial, y: _Polynomial) -> _Polynomial:
        is_square = x is y  # in a square each mixed product appears twice
        self._count(len(x.terms) * len(y.terms) // (1 + is_square))
        left, right = x.terms.items(), y.terms.items()
        pairs = itertools.combinations_with_replacement(left, 2) if is_square else itertools.product(left, right)
        terms: dict[Monomial, _Jet] = {}
        for (m, a), (n, b) in pairs:
            monomial, jet = _joined(m, n), (_TWO * a if is_square and m != n else a) * b
            terms[monomial] = terms[monomial] + jet if monomial in terms else jet
        return _Polynomial(terms)

    def _reciprocal(self, polynomial: _Polynomial) -> _Polynomial:
        x = polynomial.jet
        return _of_jet(x.chain(1 / x.value, -1 / x.value**2, 2 / x.value**3))

    def _power(self, base: _Polynomial, exponent: _Polynomial) -> _Polynomial:
        power = exponent.jet
        if not power.is_constant:  # the exponent depends on a parameter
            return self.operations["exp"](self._times(exponent, self.operations["log"](base)))
        if base.terms.keys() - {()}:
            if not is_whole(power.value) or power.value < 0:
                raise _UnknownError
            return self._whole_power(base, int(power.value))
        self._count(1)
        x, p = base.jet, power.value
        return _of_jet(x.chain(x.value**p, *(_slope(x.value, p, order) for order in (1, 2))))

    def _whole_power(self, base: _Polynomial, power: int) -> _Polynomial:
        if power == 0:
            return _of_jet(_ONE)
        half = self._whole_power(base, power // 2)
        square = self._times(half, half)
        return self._times(square, base) if power % 2 else square


def _slope(x: Any, power: Any, order: int) -> Any:
    """A derivative of a power x**p; it is 0 even at x = 0 if its factor p (p - 1) … is."""
    factor = prod(power - i for i in range(order))
    return factor * x ** (power - order) if factor else 0.0


def population_hessian(loss: Loss, point: Mapping[str, float]) -> np.ndarray | None:
    """The Hessian of the population loss.

    Parameters
    ----------
    loss
        The loss.
    point
        A number for each parameter.

    Returns
    -------
    ndarray or None
        The Hessian, (parameter, parameter). None if a sample's loss is no polynomial in the noise (but for a few rows
        of data and values of discrete noise, which are summed), if a moment does not exist, or if it would take long.

    Examples
    --------
    >>> from sgdsim.model.noise import Noise
    >>> loss = Loss("(x*u - z)**2/2", ("x", "u"), {}, {"z": Noise.parse("normal:1,2")})
    >>> population_hessian(loss, {"x": 2.0, "u": 1.0})
    array([[1., 3.],
           [3., 4.]])
    """
    n = len(loss.parameters)
    algebra = _Algebra()
    unit = np.eye(n)
    values = {name: _of_jet(_Jet(np.float64(x))) for name, x in loss.constants.items()}
    values |= {name: _of_jet(_Jet(np.float64(point[name]), unit[i])) for i, name in enumerate(loss.parameters)}
    values |= {name: _Polynomial({((name, 1),): _ONE}) for name in loss.random}
    try:
        with np.errstate(all="ignore"):
            hessian = _hessian(_expectation(loss, values, algebra), n)
    except (_UnknownError, FormulaError):
        return None
    return hessian


def _expectation(loss: Loss, values: Mapping[str, _Polynomial], algebra: _Algebra) -> _Jet:
    try:
        return _mean(loss, _sample(loss, values, algebra))
    except _UnknownError:
        cases = list(itertools.islice(_cases(loss), _MOST_CASES + 1))
        if len(cases) in (1, _MOST_CASES + 1):
            raise
    jets = []
    for share, fixed in cases:
        of_case = _sample(loss, {**values, **{name: _scalar(value) for name, value in fixed.items()}}, algebra)
        jets.append(_Jet(np.float64(share)) * _mean(loss, of_case))
    return functools.reduce(_Jet.__add__, jets)


def _sample(loss: Loss, values: Mapping[str, _Polynomial], algebra: _Algebra) -> _Polynomial:
    """The loss of a sample as a polynomial in the noise."""
    known: dict[str, Any] = gather(values)

    def read(text: str) -> _Polynomial:
        formula = Formula.parse(text)
        for name in formula.names & loss.definitions.keys() - known.keys():
            definition = loss.definitions[name]
            known[name] = read(definition) if isinstance(definition, str) else list(map(read, definition))
        found: _Polynomial = formula.in_algebra(known, Expanded(algebra.operations, _scalar))
        return found

    return read(loss.formula)


def _mean(loss: Loss, polynomial: _Polynomial) -> _Jet:
    """The expectation of a polynomial over the noise and the rows of data."""
    moments = {monomial: _moment(loss, dict(monomial)) for monomial in polynomial.terms}
    jets = (_Jet(moments[monomial]) * jet for monomial, jet in polynomial.terms.items() if moments[monomial])
    return functools.reduce(_Jet.__add__, jets, _Jet(0.0))


def _moment(loss: Loss, powers: Mapping[str, int]) -> Any:
    if loss.own_columns.keys() & powers.keys():  # data of its own give each trajectory a mean of its own
        raise _UnknownError
    columns = [np.array(loss.data.columns[n]) ** k for n, k in powers.items() if loss.data and n in loss.data.columns]
    factors = [loss.noise[name].moment(power) for name, power in powers.items() if name in loss.noise]
    if not all(map(isfinite, factors)):
        raise _UnknownError
    return prod(factors) * (np.prod(columns, axis=0).mean() if columns else np.float64(1.0))


def _cases(loss: Loss) -> Iterator[tuple[float, dict[str, float]]]:
    """Each row of data with each value of the discrete noise, and the probability of the pair."""
    data = loss.data if isinstance(loss.data, Data) else None
    rows = [(1.0, {})] if data is None else ((1 / data.rows, data.row(i)) for i in range(data.rows))
    discrete = {name: found for name, noise in loss.noise.items() if (found := noise.atoms())}
    for share, row in rows:
        for chosen in itertools.product(*discrete.values()):
            values = {name: float(value) for name, (value, _) in zip(discrete, chosen, strict=True)}
            yield share * prod(float(p) for _, p in chosen), {**row, **values}
