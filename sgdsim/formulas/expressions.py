"""Formulas that a user gives as SymPy expressions, turned into the text that all other code reads."""

from __future__ import annotations

import functools
import sys
from typing import Any

from sgdsim.base import take


def formula_text(value: Any, where: str = "formula") -> str:
    """The text of a formula, which may be given as a SymPy expression.

    Parameters
    ----------
    value
        A text or a SymPy expression.
    where
        Name of the formula, for messages.

    Raises
    ------
    InputError
        If the value is neither.

    Examples
    --------
    >>> import sympy
    >>> x = sympy.Symbol("x")
    >>> formula_text(sympy.Abs(x) + x / 3, "loss"), formula_text("x**2/2", "loss")
    ('x/3 + abs(x)', 'x**2/2')
    >>> formula_text(sympy.E * x, "loss")
    'exp(1)*x'
    """
    sympy = sys.modules.get("sympy")  # until SymPy is imported there are no expressions; to import it takes a second
    if sympy is None or not isinstance(value, sympy.Expr):
        return take.text(value, where)
    return str(_printer().doprint(value))


@functools.cache
def _printer() -> Any:
    from sympy.printing.str import StrPrinter

    class Printer(StrPrinter):  # type: ignore[misc]
        """SymPy's text, with the names that formulas have for functions and every digit of a number."""

        def _print_Float(self, number: Any) -> str:
            return repr(float(number))

        def _print_Exp1(self, _: Any) -> str:
            return "exp(1)"

        def _renamed(self, call: Any) -> str:
            return f"{type(call).__name__.lower()}({', '.join(map(self._print, call.args))})"

        _print_Abs = _print_Max = _print_Min = _renamed

    return Printer()
