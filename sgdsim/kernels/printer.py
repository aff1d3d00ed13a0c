"""SymPy expressions to source text that every target compiles.

Numbers are printed in the state's dtype, small integer powers as products, and functions by the name of their
text in `elementary`, whose last two characters are the width of the dtype.
"""

from __future__ import annotations

from typing import Any

import sympy
from sympy.printing.str import StrPrinter

# Functions of formulas with a text of the same name in `elementary`.
ELEMENTARY = frozenset(
    (
        *("exp", "log", "sin", "cos", "tan", "tanh", "tanh_slope", "sinh", "cosh", "atan", "erf"),
        *("sigmoid", "softplus", "relu", "step", "sign"),
    )
)


LONGEST_SUM = 64
"""Terms of a sum in one line. Each nests the text of those before it in one call of ``fma``; Python reads 200 nested
parentheses at most."""

CHOICES = {
    "abs": "abs({0})",
    "min": "({0} if ({0} <= {1}) | ({0} != {0}) else {1})",  # NaN stays NaN; `|` keeps the loop packed
    "max": "({0} if ({0} >= {1}) | ({0} != {0}) else {1})",
    "where": "({2} if {0} < {1} else {3} if {0} >= {1} else NAN)",
}
"""Texts of functions that choose one of their arguments."""


class KernelPrinter(StrPrinter):  # type: ignore[misc]
    """A printer of expressions, in the dtype of the state.

    Examples
    --------
    >>> x = sympy.Symbol("s_0")
    >>> KernelPrinter("float64").doprint(x**2 / 2 + sympy.exp(x))
    'exp64(s_0) + 0.5*(s_0*s_0)'
    """

    printmethod = "_kernel_text"  # a name that no function has: `where` would else print itself as a formula

    def __init__(self, dtype: str) -> None:
        super().__init__()
        self._dtype = dtype
        self._bits = dtype[-2:]
        self.functions: set[str] = set()
        self._sums: list[str] = []

    def assignment(self, target: str, operator: str, value: sympy.Expr) -> list[str]:
        """The lines that assign a value; of a long sum the first terms are added in lines before.

        Examples
        --------
        >>> total = sympy.Add(*sympy.symbols("s_:100"))
        >>> len(KernelPrinter("float64").assignment("y", "=", total))
        2
        """
        text = self.doprint(value)
        lines, self._sums = [*self._sums, f"{target} {operator} {text}"], []
        return lines

    def number(self, value: float) -> str:
        """A literal in the dtype of the state; a bare 0.5 would widen float32 arithmetic."""
        return repr(value) if self._dtype == "float64" else f"REAL({value!r})"

    def call(self, function: str, *arguments: Any) -> str:
        """The text of a call of a function of `elementary`."""
        return self.called(function, *map(self._print, arguments))

    def called(self, function: str, *texts: str) -> str:
        """The text of a call of a function of `elementary`, noted as used, with the texts of its arguments."""
        name = f"{function}{self._bits}"
        self.functions.add(name)
        return f"{name}({', '.join(texts)})"

    def _as_ordered_terms(self, total: sympy.Add, order: str | None = None) -> list[sympy.Expr]:
        """The terms of a sum, products last: each is fused with the sum before it (see `fused`), and rounded once."""
        terms = sorted(super()._as_ordered_terms(total, order=order), key=_is_product)
        while len(terms) > LONGEST_SUM:
            first = self._print(sympy.Add(*terms[:LONGEST_SUM], evaluate=False))
            name = f"sum_{len(self._sums)}"
            self._sums.append(f"{name} = {first}")
            terms = [sympy.Symbol(name), *terms[LONGEST_SUM:]]
        return terms

    def _print_Symbol(self, symbol: sympy.Symbol) -> str:
        return str(symbol.name)

    def _print_Integer(self, number: sympy.Integer) -> str:
        return self.number(float(number))

    def _print_Rational(self, number: sympy.Rational) -> str:
        return self.number(float(number))

    def _print_Float(self, number: sympy.Float) -> str:
        return self.number(float(number))

    def _print_NumberSymbol(self, number: sympy.NumberSymbol) -> str:
        return self.number(float(number))

    _print_Pi = _print_Exp1 = _print_NumberSymbol
    _print_Zero = _print_One = _print_NegativeOne = _print_Half = _print_Rational

    def _print_Mul(self, product: sympy.Mul) -> str:
        coefficient, factors = product.as_coeff_mul()
        numerator = [f for f in factors if not _is_reciprocal(f)]
        denominator = [1 / f for f in factors if _is_reciprocal(f)]
        parts = [self._factor(f) for f in numerator]
        sign = ""
        if coefficient == -1:
            sign = "-"
        elif coefficient != 1:
            parts.insert(0, self._factor(coefficient))
        text = sign + ("*".join(parts) or self.number(1.0))
        if denominator:
            text += "/" + "/".join(self._factor(f) for f in denominator)
        return text

    def _factor(self, expression: sympy.Expr) -> str:
        text = self._print(expression)
        return f"({text})" if expression.is_Add or text.startswith("-") or expression.is_Mul else text

    def _print_Pow(self, power: sympy.Pow, rational: bool = False) -> str:
        base, exponent = power.args
        if base == sympy.E:
            return self.call("exp", exponent)
        if exponent.is_Integer and 2 <= exponent <= 64:
            return product_of(self._factor(base), int(exponent))
        if exponent.is_Integer and exponent < 0:
            return f"({self.number(1.0)}/{self._factor(base**-exponent)})"
        if exponent == sympy.Rational(1, 2):
            return f"REAL(square_root({self._print(base)}))"
        if exponent == sympy.Rational(-1, 2):
            return f"({self.number(1.0)}/REAL(square_root({self._print(base)})))"
        return self.call("power", base, exponent)

    def _print_Function(self, function: sympy.Function) -> str:
        name = type(function).__name__
        if name in ELEMENTARY:
            return self.call(name, *function.args)
        assert name in CHOICES, f"no kernel text for {name}"
        return CHOICES[name].format(*map(self._print, function.args))


def _is_reciprocal(expression: sympy.Expr) -> bool:
    return bool(expression.is_Pow and expression.exp.is_Integer and expression.exp < 0)


def _is_product(expression: sympy.Expr) -> bool:
    """True if the last operation of an expression's text is a multiplication."""
    if expression.is_Mul:
        return not any(map(_is_reciprocal, expression.args))
    return bool(expression.is_Pow and expression.exp.is_Integer and 2 <= expression.exp <= 64)


def product_of(base: str, exponent: int) -> str:
    """A power as products of squares, ``x**5 -> (x*x)*(x*x)*x`` with the squares nested."""
    if exponent == 1:
        return base
    half = product_of(base, exponent // 2)
    return f"({half}*{half}*{base})" if exponent % 2 else f"({half}*{half})"
