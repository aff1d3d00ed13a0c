"""Numbers out of expressions: values for arrays of arguments, and where an expression has a kink.

What theory evaluates is made by SymPy, not read from text: a Hessian has thousands of nodes, many of them in common.
Each node is computed once for all expressions together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base import budget
from sgdsim.formulas.walker import NUMERIC

if TYPE_CHECKING:
    import sympy

_FUNCTIONS = {**NUMERIC, "tanh_slope": lambda x: 1.0 / np.cosh(x) ** 2}

_TWO_SIDED = ("min", "max", "where")
"""Kinked functions whose kink is where their first two arguments are equal; of others it is at zero."""


def evaluate(expressions: Sequence[sympy.Expr], values: Mapping[str, Any]) -> list[Any]:
    """The values of expressions in double precision.

    Parameters
    ----------
    expressions
        Of the nodes that `sgdsim.formulas.formula` lists.
    values
        A number or an array for the name of every symbol; arrays broadcast.

    Returns
    -------
    list
        A number or an array for each; not finite where there is no value.

    Raises
    ------
    KeyError
        For a symbol without value.

    Examples
    --------
    >>> from sympy import Symbol, exp
    >>> x = Symbol("x", real=True)
    >>> evaluate([x**2, exp(x) - 1], {"x": np.array([0.0, 1.0])})[0]
    array([0., 1.])
    """
    budget.check()
    known: dict[Any, Any] = {}
    with np.errstate(all="ignore"):
        for expression in expressions:
            _compute(expression, values, known)
    return [known[expression] for expression in expressions]


def _compute(expression: Any, values: Mapping[str, Any], known: dict[Any, Any]) -> None:
    """Compute every node below an expression, children first; without recursion, as sums may be nested deeply."""
    waiting = [expression]
    while waiting:
        node = waiting[-1]
        missing = [] if node in known else [child for child in node.args if child not in known]
        if missing:
            waiting += missing
            continue
        waiting.pop()
        if node not in known:
            known[node] = _value(node, [known[child] for child in node.args], values)


def _value(node: Any, arguments: list[Any], values: Mapping[str, Any]) -> Any:
    if node.is_Symbol:
        return np.asarray(values[node.name], dtype=np.float64)[()]
    if not arguments:
        return np.float64(node)
    if node.is_Add:
        return sum(arguments[1:], start=arguments[0])
    if node.is_Mul:
        product = arguments[0]
        for factor in arguments[1:]:
            product = product * factor
        return product
    if node.is_Pow:
        return _power(node.exp, *arguments)
    return _FUNCTIONS[node.func.__name__](*arguments)


def _power(exponent: Any, base: Any, value: Any) -> Any:
    if exponent.is_Integer:
        return base ** int(exponent) if exponent >= 0 else 1.0 / base ** int(-exponent)
    return np.sqrt(base) if exponent.is_number and value == 0.5 else base**value


def kinks(expressions: Iterable[sympy.Expr], variable: sympy.Symbol) -> list[sympy.Expr]:
    """What vanishes where an expression has a kink or a jump as a function of a variable.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.noise import Noise
    >>> loss = Loss("abs(x - z) + max(x, 2*z)", ("x",), noise={"z": Noise.parse("laplace")})
    >>> kinks([loss.expression], loss.symbols["z"])
    [x - z, x - 2*z]
    """
    from sgdsim.formulas.symbolic import Kinked

    found: dict[Any, None] = {}
    for expression in expressions:
        for node in sorted(expression.atoms(Kinked), key=str):
            edge = node.args[0] - node.args[1] if node.func.__name__ in _TWO_SIDED else node.args[0]
            if variable in edge.free_symbols:
                found[edge] = None
    return list(found)
