"""Order of vanishing: how a formula's value changes where some names leave zero.

A loss that is even in a parameter, or in which each term has its square, has no slope there, whatever the noise: a
trajectory that begins at zero stays. This is found by the walker of formulas, in an algebra of its own, without SymPy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from sgdsim.formulas.arrays import Expanded
from sgdsim.formulas.formula import Formula


@dataclass(frozen=True)
class Nearby:
    """A value where some names are near zero, all of one order e.

    Parameters
    ----------
    vanishes
        True if the value is zero where these names are.
    power
        The value differs from that by a term of the order e**power or smaller; infinity if it does not change at all.
    number
        The value itself, if it is a number in the formula; an exponent must be one.

    Examples
    --------
    >>> x, z = Nearby(True, 1.0), Nearby(False, inf)
    >>> nearby("z*x**2 + cosh(x)", {"x": x, "z": z}).power, nearby("z*x + sin(x)**2", {"x": x, "z": z}).power
    (2.0, 1.0)
    """

    vanishes: bool
    power: float
    number: float | None = None


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
    return value if isinstance(value, Nearby) else Nearby(float(value) == 0.0, inf, float(value))


def _added(a: Nearby, b: Nearby) -> Nearby:
    return Nearby(a.vanishes and b.vanishes, min(a.power, b.power))


def _sum(terms: Iterable[Nearby]) -> Nearby:
    return functools.reduce(_added, terms, Nearby(True, inf))


def _product(a: Nearby, b: Nearby) -> Nearby:
    if _is_nothing(a) or _is_nothing(b):
        return Nearby(True, inf)
    changes = (inf if b.vanishes else a.power, inf if a.vanishes else b.power, a.power + b.power)
    return Nearby(a.vanishes or b.vanishes, min(changes))


def _is_nothing(a: Nearby) -> bool:
    return a.vanishes and a.power == inf


def _quotient(a: Nearby, b: Nearby) -> Nearby:
    return Nearby(False, 0.0) if b.vanishes else _product(a, b)


def _power(base: Nearby, exponent: Nearby) -> Nearby:
    n = exponent.number
    if base.power == exponent.power == inf:
        return Nearby(base.vanishes and n is not None and n > 0, inf)
    if n is None or (base.vanishes and n <= 0):
        return Nearby(False, 0.0)
    return Nearby(True, n * base.power) if base.vanishes else Nearby(False, base.power)


def _odd(a: Nearby) -> Nearby:
    """A smooth function of one number that is zero at zero."""
    return Nearby(a.vanishes, a.power)


def _smooth(a: Nearby) -> Nearby:
    return Nearby(False, a.power)


def _even(a: Nearby) -> Nearby:
    return Nearby(False, 2.0 * a.power if a.vanishes else a.power)


def _rough(*arguments: Nearby) -> Nearby:
    return Nearby(False, inf if all(one.power == inf for one in arguments) else 0.0)


def _either(a: Nearby, b: Nearby) -> Nearby:
    return Nearby(a.vanishes and b.vanishes, min(a.power, b.power))


def _where(a: Nearby, b: Nearby, x: Nearby, y: Nearby) -> Nearby:
    return _either(x, y) if a.power == b.power == inf else Nearby(False, 0.0)


_OPERATIONS: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("tanh", "sinh", "atan", "erf", "sin", "tan", "negative", "relu", "abs"), _odd),
    **dict.fromkeys(("exp", "sigmoid", "softplus", "log"), _smooth),
    **dict.fromkeys(("cosh", "cos"), _even),
    **dict.fromkeys(("sign", "step"), _rough),
    "sqrt": lambda a: Nearby(a.vanishes, a.power / 2.0 if a.vanishes else a.power),
    "min": _either,
    "max": _either,
    "where": _where,
    "+": _added,
    "-": _added,
    "*": _product,
    "/": _quotient,
    "**": _power,
    "sum": _sum,
}
