"""Order of vanishing: how a formula's value changes where some names leave zero.

A loss that is even in a parameter, or in which each term has its square, has no slope there, whatever the noise: a
trajectory that begins at zero stays. This is found by the walker of formulas, in an algebra of its own, without SymPy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf, nan
from typing import Any

import numpy as np

from sgdsim.formulas.arrays import Expanded
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.walker import NUMERIC


@dataclass(frozen=True)
class Nearby:
    """A value where some names are near zero, all of one order e.

    Parameters
    ----------
    power
        The value differs from that where these names are zero by a term of the order e**power or smaller: infinity if
        it does not change at all, 0 if it may jump, and minus infinity if it may have no bounds.
    value
        The value where these names are zero; NaN if it is not a number that follows from the formula.

    Examples
    --------
    >>> x, z = Nearby(1.0, 0.0), Nearby(inf)
    >>> nearby("z*x**2 + cosh(x)", {"x": x, "z": z}).power, nearby("z*x + sin(x)**2", {"x": x, "z": z}).power
    (2.0, 1.0)
    """

    power: float
    value: float = nan

    @property
    def vanishes(self) -> bool:
        """True if the value is known to be zero where these names are."""
        return self.value == 0.0


def nearby(text: str, values: Mapping[str, Any], vector: bool = False) -> Any:
    """The value of a formula near the zero of some names.

    Parameters
    ----------
    text
        A formula.
    values
        For each name its value near that zero, or a number; for a vector or a matrix a list or an array of these.
    vector
        True if the result may be an array of objects.
    """
    with np.errstate(all="ignore"):
        return Formula.parse(text).in_algebra(values, Expanded(_OPERATIONS, _scalar), vector=vector)


def _scalar(value: Any) -> Nearby:
    return value if isinstance(value, Nearby) else Nearby(inf, float(value))


def _least(*arguments: Nearby) -> float:
    return min(one.power for one in arguments)


def _product(a: Nearby, b: Nearby) -> float:
    if any(one.vanishes and one.power == inf for one in (a, b)):
        return inf
    together = a.power + b.power if inf not in (a.power, b.power) else inf
    return min(inf if b.vanishes else a.power, inf if a.vanishes else b.power, together)


def _quotient(a: Nearby, b: Nearby) -> float:
    return -inf if b.vanishes else _product(a, b)


def _power(base: Nearby, exponent: Nearby) -> float:
    n = exponent.value
    if base.power == exponent.power == inf:
        return inf
    if exponent.power < inf or np.isnan(n) or (base.vanishes and n <= 0):
        return -inf
    return n * base.power if base.vanishes else base.power


def _even(a: Nearby) -> float:
    return 2.0 * a.power if a.vanishes else a.power


def _root(a: Nearby) -> float:
    return a.power / 2.0 if a.vanishes else a.power


def _logarithm(a: Nearby) -> float:
    return -inf if a.vanishes else a.power


def _jump(a: Nearby) -> float:
    return inf if a.power == inf else 0.0


def _where(a: Nearby, b: Nearby, x: Nearby, y: Nearby) -> float:
    return min(_jump(a), _jump(b), x.power, y.power)


_IS_NOTHING: Mapping[str, Callable[..., bool]] = {
    "*": lambda a, b: a.vanishes or b.vanishes,
    "/": lambda a, b: a.vanishes,
    "where": lambda a, b, x, y: x.vanishes and y.vanishes,
}
"""Operations whose value may be zero where not all arguments are known."""


def _computed(name: str, power: Callable[..., float]) -> Callable[..., Nearby]:
    """An operation: its power by a function of its arguments, its value by that of numbers."""

    def found(*arguments: Nearby) -> Nearby:
        is_nothing = name in _IS_NOTHING and _IS_NOTHING[name](*arguments)
        value = 0.0 if is_nothing else NUMERIC[name](*(np.float64(one.value) for one in arguments))
        return Nearby(power(*arguments), float(value))

    return found


def _sum(terms: Iterable[Nearby]) -> Nearby:
    return functools.reduce(_OPERATIONS["+"], terms, Nearby(inf, 0.0))


_POWERS: Mapping[str, Callable[..., float]] = {
    **dict.fromkeys(("+", "-", "min", "max", "negative", "relu", "abs"), _least),
    **dict.fromkeys(("tanh", "sinh", "atan", "erf", "sin", "tan", "exp", "sigmoid", "softplus"), _least),
    **dict.fromkeys(("cosh", "cos"), _even),
    **dict.fromkeys(("sign", "step"), _jump),
    "sqrt": _root,
    "log": _logarithm,
    "where": _where,
    "*": _product,
    "/": _quotient,
    "**": _power,
}

_OPERATIONS: Mapping[str, Callable[..., Any]] = {
    **{name: _computed(name, power) for name, power in _POWERS.items()},
    "sum": _sum,
}
