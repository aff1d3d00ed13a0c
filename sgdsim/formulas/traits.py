"""Properties of a formula's value that follow from its form: the names that each term depends on, and bounds.

They are computed by the walker of formulas, in an algebra of their own. Nothing is evaluated, and SymPy is not needed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf, isfinite, isnan
from typing import Any

import numpy as np

from sgdsim.formulas.arrays import Expanded
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.walker import NUMERIC

Names = frozenset[str]

_NONE: Names = frozenset()
_MOST_TERMS = 256
"""Most terms of a product of sums that are kept apart."""


@dataclass(frozen=True)
class Traits:
    """Properties of a value that hold for all values of the names.

    Parameters
    ----------
    terms
        The names that each term depends on; the value is the sum of its terms.
    rough
        Names that enter through anything but sums and products: the value may stay the same while they change.
    low, high
        Bounds of the value, for all values of the names.

    Examples
    --------
    >>> x, y = Traits.of_name("x"), Traits.of_name("y")
    >>> found = traits("x**2 + 3*y + where(x > 0.5, 1, 0)", {"x": x, "y": y})
    >>> sorted(map(sorted, found.terms)), sorted(found.rough), found.low
    ([['x'], ['y']], ['x'], -inf)
    >>> found = traits("2 - 3*step(x)*tanh(y)**2", {"x": x, "y": y})
    >>> found.low, found.high
    (-1.0, 2.0)
    """

    terms: frozenset[Names]
    rough: Names = _NONE
    low: float = -inf
    high: float = inf

    @classmethod
    def of_name(cls, name: str) -> Traits:
        """The traits of a name, whose value is unknown."""
        return cls(frozenset([frozenset([name])]))

    @classmethod
    def of_number(cls, value: float) -> Traits:
        """The traits of a number."""
        return cls(frozenset(), _NONE, float(value), float(value))

    @property
    def names(self) -> Names:
        """All names that the value depends on."""
        return _NONE.union(*self.terms)

    @property
    def is_number(self) -> bool:
        """True if the value is the same for all values of the names."""
        return self.low == self.high


def traits(text: str, values: Mapping[str, Any], vector: bool = False) -> Any:
    """The traits of a formula.

    Parameters
    ----------
    text
        A formula.
    values
        For each name its traits or a number; for a vector or a matrix a list or an array of these.
    vector
        True if the result may be an array of objects.
    """
    with np.errstate(all="ignore"):
        return Formula.parse(text).in_algebra(values, Expanded(_OPERATIONS, _scalar), vector=vector)


def _scalar(value: Any) -> Traits:
    return value if isinstance(value, Traits) else Traits.of_number(value)


def _bounded(terms: Iterable[Names], rough: Names, ends: Iterable[Any]) -> Traits:
    """Traits of a value between the least and the largest of the given ends; without bounds if an end is NaN."""
    ends = [float(end) for end in ends]
    if any(map(isnan, ends)):
        return Traits(frozenset(terms), rough)
    return Traits(frozenset(terms), rough, min(ends), max(ends))


def _rough_of(*arguments: Traits) -> Names:
    return _NONE.union(*(one.rough for one in arguments))


def _sum(terms: Iterable[Traits]) -> Traits:
    return functools.reduce(_added, terms, Traits.of_number(0.0))


def _added(a: Traits, b: Traits) -> Traits:
    return _bounded(a.terms | b.terms, _rough_of(a, b), (a.low + b.low, a.high + b.high))


def _negative(a: Traits) -> Traits:
    return Traits(a.terms, a.rough, -a.high, -a.low)


def _product(a: Traits, b: Traits) -> Traits:
    if 0.0 == a.low == a.high or 0.0 == b.low == b.high:
        return Traits.of_number(0.0)
    # Zero times infinity is zero here: an infinite bound means that the value, which is finite, has no bound.
    ends = [0.0 if 0.0 in (x, y) else x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    if not (a.terms and b.terms):
        return _bounded(a.terms or b.terms, _rough_of(a, b), ends)
    if len(a.terms) * len(b.terms) > _MOST_TERMS:
        return _bounded([a.names | b.names], _rough_of(a, b), ends)
    return _bounded((one | other for one in a.terms for other in b.terms), _rough_of(a, b), ends)


def _quotient(a: Traits, b: Traits) -> Traits:
    ends = (-inf, inf) if b.low <= 0.0 <= b.high else (1.0 / b.low, 1.0 / b.high)
    return _product(a, _bounded(b.terms, b.rough | b.names, ends))


def _power(base: Traits, exponent: Traits) -> Traits:
    is_whole = exponent.is_number and exponent.low >= 0.0 and exponent.low % 1 == 0.0
    names = base.names | exponent.names
    rough = _rough_of(base, exponent) | exponent.names | (_NONE if is_whole else base.names)
    ends = [NUMERIC["**"](np.float64(end), exponent.low) for end in (base.low, base.high)]
    if is_whole and exponent.low % 2 == 0.0 and base.low < 0.0 < base.high:
        ends.append(np.float64(0.0))
    known = is_whole or (exponent.is_number and base.low > 0.0)
    return _bounded([names] if names else [], rough, ends if known else (-inf, inf))


def _through(ends: Callable[..., Iterable[Any]], *arguments: Traits) -> Traits:
    """Traits of a function that may be constant in some arguments, with bounds from the ends of its arguments."""
    names = _NONE.union(*(one.names for one in arguments))
    return _bounded([names] if names else [], names, ends(*arguments))


def _rising(name: str) -> Callable[[Traits], Traits]:
    return functools.partial(_through, lambda x: (NUMERIC[name](np.float64(end)) for end in (x.low, x.high)))


def _within(name: str, low: float, high: float) -> Callable[[Traits], Traits]:
    """Rule for a function with known bounds, such as the sine, whatever the bounds of its argument."""
    return functools.partial(_through, lambda x: (NUMERIC[name](x.low),) if x.is_number else (low, high))


def _both(name: str) -> Callable[[Traits, Traits], Traits]:
    function = NUMERIC[name]
    return functools.partial(_through, lambda a, b: (function(a.low, b.low), function(a.high, b.high)))


def _magnitude(x: Traits) -> Iterable[float]:
    ends = [abs(x.low), abs(x.high)]
    return [*ends, 0.0] if x.low < 0.0 < x.high else ends


def _root(x: Traits) -> Iterable[Any]:
    return np.sqrt(max(x.low, 0.0)), np.sqrt(max(x.high, 0.0))


_OPERATIONS: Mapping[str, Callable[..., Any]] = {
    **{name: _rising(name) for name in ("exp", "tanh", "sinh", "atan", "erf", "sign", "step", "relu", "softplus")},
    **{name: _within(name, -1.0, 1.0) for name in ("sin", "cos")},
    **{name: _both(name) for name in ("min", "max")},
    "sigmoid": _rising("sigmoid"),
    "tan": _within("tan", -inf, inf),
    "cosh": _within("cosh", 1.0, inf),
    "log": functools.partial(_through, lambda x: (np.log(max(x.low, 0.0)), np.log(max(x.high, 0.0)))),
    "sqrt": functools.partial(_through, _root),
    "abs": functools.partial(_through, _magnitude),
    "where": functools.partial(_through, lambda a, b, x, y: (x.low, x.high, y.low, y.high)),
    "+": _added,
    "-": lambda a, b: _added(a, _negative(b)),
    "negative": _negative,
    "*": _product,
    "/": _quotient,
    "**": _power,
    "sum": _sum,
}


def bounds(value: Traits) -> tuple[float, float] | None:
    """Both bounds of a value; None unless both are finite.

    Examples
    --------
    >>> bounds(traits("sign(x)**2", {"x": Traits.of_name("x")})), bounds(Traits.of_name("x"))
    ((0.0, 1.0), None)
    """
    return (value.low, value.high) if isfinite(value.low) and isfinite(value.high) else None
