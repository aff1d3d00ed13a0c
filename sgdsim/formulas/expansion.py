"""Expansion of products and powers of sums. The terms are counted before, as SymPy takes 1 ms a term and more."""

from __future__ import annotations

import math
from typing import Any

from sgdsim.base import budget
from sgdsim.base.errors import InputError, shortened

MAX_TERMS = 10_000
"""Most terms of an expanded expression. A sum of 19 terms to the power of 6 has 134,596."""


class TooManyTerms(InputError):
    """An expression that would be expanded into more than `MAX_TERMS` terms."""


def terms(expression: Any) -> float:
    """An upper bound on the number of terms of an expression once it is expanded.

    Examples
    --------
    >>> import sympy
    >>> x, y = sympy.symbols("x y")
    >>> terms((x + y + 1) ** 2 * (x - 1))
    12.0
    """
    if expression.is_Add:
        return float(sum(map(terms, expression.args)))
    if expression.is_Mul:
        return math.prod(map(terms, expression.args))
    if expression.is_Pow and expression.exp.is_Integer and expression.exp > 0:
        power, of_base = int(expression.exp), terms(expression.base)
        return math.prod((of_base + i) / (1 + i) for i in range(power))
    return 1.0


def bounded(expression: Any) -> Any:
    """The expression as it is, if its expansion has at most `MAX_TERMS` terms.

    Raises
    ------
    TooManyTerms
        If its expansion may have more.

    Examples
    --------
    >>> import sympy
    >>> x, y = sympy.symbols("x y")
    >>> try:
    ...     bounded((x + y) ** 20_000)
    ... except TooManyTerms as error:
    ...     print(error)
    (x + y)**20000: has up to 20,001 terms when expanded, expected at most 10,000
    """
    count = max(map(terms, _expanded_apart(expression)))
    if count > MAX_TERMS:
        many = f"{count:,.0f}" if count < 1e9 else f"{count:.0e}"
        what = shortened(expression, 60)
        raise TooManyTerms(f"{what}: has up to {many} terms when expanded, expected at most {MAX_TERMS:,}")
    return expression


def _expanded_apart(expression: Any) -> list[Any]:
    """The expression and the parts SymPy expands separately: arguments of functions, bases of roots, denominators."""
    found, waiting, known = [expression], [expression], {expression}
    while waiting:
        node = waiting.pop()
        new = set(node.args) - known
        waiting += new
        known |= new
        if node.is_Pow and node.exp.is_Integer:
            found += [1 / node] if node.exp < 0 else []
        elif not (node.is_Add or node.is_Mul):
            found += new
    return found


def expanded(expression: Any) -> Any:
    """The expression, expanded.

    Raises
    ------
    TooManyTerms
        If it may have more than `MAX_TERMS` terms.
    """
    import sympy

    budget.check()
    return sympy.expand(bounded(expression))
