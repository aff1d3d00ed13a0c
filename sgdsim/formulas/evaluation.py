"""Evaluation of SymPy expressions: their values for arrays of arguments, and the places of their kinks.

Theory evaluates expressions that SymPy has made. A Hessian has thousands of nodes, many of them in common: each node is
computed once for all expressions together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sgdsim.base import budget
from sgdsim.formulas.walker import NUMERIC

if TYPE_CHECKING:
    import sympy

_FUNCTIONS = {**NUMERIC, "tanh_slope": lambda x: 1.0 / np.cosh(x) ** 2}

_TWO_SIDED = ("min", "max", "where")
"""Kinked functions with the kink where their first two arguments are equal; others have it at zero."""


def evaluate(expressions: Sequence[sympy.Expr], values: Mapping[str, Any]) -> list[Any]:
    """The values of expressions in double precision.

    Parameters
    ----------
    expressions
        Expressions made of the nodes that `sgdsim.formulas.formula` lists.
    values
        A number or an array for the name of every symbol; arrays broadcast.

    Returns
    -------
    list
        A number or an array for each expression; not finite where it has no value.

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
    plan = _plan(tuple(expressions))
    known = plan.start.copy()
    with np.errstate(all="ignore"):
        for place, name in plan.symbols:
            known[place] = np.asarray(values[name], dtype=np.float64)[()]
        for place, compute, arguments in plan.steps:
            known[place] = compute(*[known[argument] for argument in arguments])
    return [known[place] for place in plan.results]


class _Plan(NamedTuple):
    """A list of steps that evaluates expressions: numbers, names of symbols, and functions of earlier steps."""

    start: list[Any]
    symbols: list[tuple[int, str]]
    steps: list[tuple[int, Callable[..., Any], tuple[int, ...]]]
    results: list[int]


@lru_cache(maxsize=256)  # a flow asks for the same expressions thousands of times: walking them took two thirds of it
def _plan(expressions: tuple[sympy.Expr, ...]) -> _Plan:
    """The steps that evaluate expressions, arguments first. It uses no recursion, as sums may be nested deeply."""
    plan, places = _Plan([], [], [], []), dict[Any, int]()
    for expression in expressions:
        waiting = [expression]
        while waiting:
            node = waiting[-1]
            missing = [] if node in places else [child for child in node.args if child not in places]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            if node in places:
                continue
            place = places[node] = len(plan.start)
            plan.start.append(None if node.args or node.is_Symbol else np.float64(node))
            if node.is_Symbol:
                plan.symbols.append((place, node.name))
            elif node.args:
                plan.steps.append((place, _function(node), tuple(places[child] for child in node.args)))
        plan.results.append(places[expression])
    return plan


def _function(node: Any) -> Callable[..., Any]:
    """The function that gives the value of a node from the values of its arguments."""
    if node.is_Add:
        return _sum
    if node.is_Mul:
        return _product
    return _power(node.exp) if node.is_Pow else _FUNCTIONS[node.func.__name__]


def _sum(first: Any, *others: Any) -> Any:
    return sum(others, start=first)


def _product(first: Any, *others: Any) -> Any:
    for factor in others:
        first = first * factor
    return first


def _power(exponent: Any) -> Callable[..., Any]:
    """The function that raises a base to this exponent. SymPy is asked once for the kind of power, as that is slow."""
    if exponent.is_Integer:
        return partial(_whole_power, int(exponent))
    return _root if exponent.is_Number and float(exponent) == 0.5 else _any_power


def _whole_power(exponent: int, base: Any, _: Any) -> Any:
    return base**exponent if exponent >= 0 else 1.0 / base**-exponent


def _root(base: Any, _: Any) -> Any:
    return np.sqrt(base)


def _any_power(base: Any, exponent: Any) -> Any:
    return base**exponent


def kinks(expressions: Iterable[sympy.Expr], variable: sympy.Symbol) -> list[sympy.Expr]:
    """Expressions that are zero where the given ones have a kink or a jump as functions of a variable.

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
