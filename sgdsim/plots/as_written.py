r"""TeX of formulas in the order in which they are written: those with vectors, matrices, conditions and windows.

SymPy sorts factors, which is wrong for matrices, and it lacks the functions of observables.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

_SUM, _PRODUCT, _POWER, _ATOM = range(4)
_SIGNS: dict[type, str] = {
    ast.Lt: "<",
    ast.Gt: ">",
    ast.LtE: r"\leq",
    ast.GtE: r"\geq",
    ast.Eq: "=",
    ast.NotEq: r"\neq",
}
_BRACKETS = {
    "abs": ("|", "|"),
    "norm": (r"\Vert ", r"\Vert"),
    "norm2": (r"\Vert ", r"\Vert^{2}"),
    "sqrt": (r"\sqrt{", "}"),
    "exp": ("e^{", "}"),
}
_WINDOW = {"window_mean": r"\left\langle %s\right\rangle", "window_sum": r"\sum %s", "window_max": r"\max\,%s"}
_COMMA = r",\,"
_UPRIGHT = {"trace": "tr"}


class NoTex(ValueError):
    """A formula cannot be set in a line of a figure."""


def tex(formula: str, name: Callable[[str], str]) -> str:
    r"""A formula in TeX.

    Parameters
    ----------
    formula
        The formula as the user wrote it.
    name
        Function that gives the TeX of a name.

    Raises
    ------
    NoTex
        For a text that is not a formula, and for tables of numbers.

    Examples
    --------
    >>> print(tex("trace(A@B.T)/sqrt(norm2(A))", str))
    \frac{\mathrm{tr}(A\,B^{\top})}{\Vert A\Vert}
    >>> print(tex("window_mean(k*(1 - w[2]), 10, 90)", str))
    \left\langle k\,\left(1 - w_{2}\right)\right\rangle_{10}^{90}
    """
    try:
        return _Printer(name).of(ast.parse(formula.strip(), mode="eval").body)[0]
    except (SyntaxError, RecursionError, MemoryError) as problem:
        raise NoTex(formula) from problem


class _Printer:
    """Printer that returns the TeX of each part of a formula, and how tightly its operator binds."""

    def __init__(self, name: Callable[[str], str]) -> None:
        self._name = name
        self._in_fraction = False

    def of(self, node: ast.expr) -> tuple[str, int]:
        match node:
            case ast.Constant(value=int() | float() as value):
                found = _number(value), _ATOM
            case ast.Name(id=name):
                found = self._name(name), _ATOM
            case ast.Attribute(value=matrix, attr="T"):
                found = rf"{self._within(matrix, _ATOM)}^{{\top}}", _POWER
            case ast.Subscript(value=ast.Name(id=name), slice=index):
                found = f"{self._name(name)}_{{{_index(index)}}}", _ATOM
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                found = f"- {self._within(operand, _PRODUCT)}", _PRODUCT
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                found = self.of(operand)
            case ast.BinOp():
                found = self._operation(node)
            case ast.Compare(left=left, ops=[sign], comparators=[right]) if type(sign) in _SIGNS:
                found = f"{self.of(left)[0]} {_SIGNS[type(sign)]} {self.of(right)[0]}", _SUM
            case ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]):
                found = self._call(function, arguments)
            case _:
                raise NoTex(ast.unparse(node))
        return found

    def _within(self, node: ast.expr, least: int) -> str:
        text, binds = self.of(node)
        return text if binds >= least else rf"\left({text}\right)"

    def _right(self, node: ast.expr, least: int) -> str:
        """TeX of the right side of an operator, after which no second sign may follow."""
        return self._within(node, _ATOM if isinstance(node, ast.UnaryOp) else least)

    def _operation(self, node: ast.BinOp) -> tuple[str, int]:
        left, right = node.left, node.right
        match node.op:
            case ast.Add():
                return f"{self._within(left, _SUM)} + {self._right(right, _SUM)}", _SUM
            case ast.Sub():
                return f"{self._within(left, _SUM)} - {self._right(right, _PRODUCT)}", _SUM
            case ast.Mult() | ast.MatMult():
                return rf"{self._within(left, _PRODUCT)}\,{self._right(right, _PRODUCT)}", _PRODUCT
            case ast.Div():
                return self._fraction(left, right)
            case ast.Pow():
                return f"{self._within(left, _ATOM)}^{{{self.of(right)[0]}}}", _POWER
        raise NoTex(ast.unparse(node))

    def _fraction(self, left: ast.expr, right: ast.expr) -> tuple[str, int]:
        """TeX of a quotient: a fraction, but with a slash inside another fraction, where letters would be too small."""
        if self._in_fraction:
            return f"{self._within(left, _PRODUCT)} / {self._within(right, _POWER)}", _PRODUCT
        self._in_fraction = True
        text = rf"\frac{{{self.of(left)[0]}}}{{{self.of(right)[0]}}}"
        self._in_fraction = False
        return text, _PRODUCT

    def _call(self, function: str, arguments: list[ast.expr]) -> tuple[str, int]:
        match function, arguments:
            case "sqrt", [ast.Call(func=ast.Name(id="norm2"), args=arguments)]:
                function = "norm"
        inside = [self.of(one)[0] for one in arguments]
        if function in _BRACKETS and len(inside) == 1:
            left, right = _BRACKETS[function]
            if r"\frac" in inside[0] and function != "sqrt":
                left = {"exp": r"\exp\left("}.get(function, rf"\left{left}")
                right = {"exp": r"\right)"}.get(function, rf"\right{right}")
            return f"{left}{inside[0]}{right}", _POWER if function in ("exp", "norm2") else _ATOM
        if function == "dot" and len(inside) == 2:
            return rf"{self._within(arguments[0], _POWER)} \cdot {self._within(arguments[1], _POWER)}", _PRODUCT
        if function in _WINDOW and len(inside) == 3:
            return rf"{_WINDOW[function] % inside[0]}_{{{inside[1]}}}^{{{inside[2]}}}", _POWER
        if function == "value_at" and len(inside) == 2:
            return rf"\left.{self._within(arguments[0], _PRODUCT)}\right|_{{{inside[1]}}}", _POWER
        upright = _UPRIGHT.get(function, function).replace("_", r"\_")
        return rf"\mathrm{{{upright}}}({_COMMA.join(inside)})", _ATOM


def _index(node: ast.expr) -> str:
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    if not all(isinstance(one, ast.Constant) and isinstance(one.value, int) for one in parts):
        raise NoTex(ast.unparse(node))
    return ",".join(ast.unparse(one) for one in parts)


def _number(value: float) -> str:
    digits, _, power = f"{value:.7g}".partition("e")
    return rf"{digits} \cdot 10^{{{int(power)}}}" if power else digits
