"""The gradient of a loss of many parameters by one sweep back over its expression.

Single derivatives would differentiate the parts that they share once for each parameter; the sweep does it once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import sympy

from sgdsim.formulas import symbolic
from sgdsim.formulas.symbolic import derivative

Assignments = list[tuple[sympy.Symbol, sympy.Expr]]

_CHOICES = symbolic.where, symbolic.min, symbolic.max


def gradient(
    expression: sympy.Expr, symbols: Sequence[sympy.Symbol], names: Iterator[sympy.Symbol]
) -> tuple[Assignments, list[sympy.Expr]]:
    """The derivatives of an expression by many symbols.

    Parameters
    ----------
    expression, symbols
        The expression, and the symbols by which it is differentiated.
    names
        New symbols, for the derivatives and for the parts that they share.

    Returns
    -------
    assignments, derivatives
        Assignments, each in the symbols of those before it, and the derivatives in all of these symbols.

    Examples
    --------
    >>> a, x, y = sympy.symbols("a x y", real=True)
    >>> gradient((a * x * y - 1) ** 2 / 2, [x, y], sympy.numbered_symbols("r_"))
    ([(r_0, a*x*y - 1), (r_1, a*r_0*y), (r_2, a*r_0*x)], [r_1, r_2])
    """
    assignments: Assignments = []

    def named(value: sympy.Expr) -> sympy.Expr:
        if value.is_Atom:
            return value
        assignments.append((next(names), value))
        return assignments[-1][0]

    moving = _moving(expression, set(symbols))
    shares: dict[sympy.Expr, list[sympy.Expr]] = {node: [] for node in (*moving, *symbols)}
    shares[expression] = [sympy.Integer(1)]
    for node in reversed(moving):  # all nodes that use a node come before it
        if node.is_Symbol:
            continue
        by_node = named(sympy.Add(*shares[node]))
        for part, slope in _slopes(node, moving):
            shares[part].append(by_node * slope)
    return assignments, [named(sympy.Add(*shares[symbol])) for symbol in symbols]


def _moving(expression: sympy.Expr, symbols: Collection[sympy.Symbol]) -> dict[sympy.Expr, None]:
    """The nodes of an expression that depend on some symbols, each once and after its parts, without recursion."""
    moves: dict[sympy.Expr, bool] = {}
    waiting = [expression]
    while waiting:
        node = waiting[-1]
        if missing := [part for part in node.args if part not in moves]:
            waiting += missing
            continue
        waiting.pop()
        moves.setdefault(node, node in symbols or any(moves[part] for part in node.args))
    return dict.fromkeys(node for node, does in moves.items() if does)


def _slopes(node: sympy.Expr, moving: Collection[sympy.Expr]) -> Iterator[tuple[sympy.Expr, sympy.Expr]]:
    """The parts of a node that depend on the symbols, and its derivatives by them."""
    if isinstance(node, _CHOICES):
        # Differentiated by the symbols themselves: 0 times the infinite slope of the other branch would be NaN.
        yield from ((symbol, derivative(node, symbol)) for symbol in node.free_symbols if symbol in moving)
        return
    for i, part in enumerate(node.args):
        if part in moving:
            yield part, _by_argument(node, i)


def _by_argument(node: sympy.Expr, i: int) -> sympy.Expr:
    if node.is_Add:
        return sympy.Integer(1)
    if node.is_Mul:
        return sympy.Mul(*node.args[:i], *node.args[i + 1 :])
    variable = sympy.Dummy(real=True)
    function = node.func(*node.args[:i], variable, *node.args[i + 1 :])
    return derivative(function, variable).xreplace({variable: node.args[i]})
