"""The functions of formulas as SymPy nodes over the reals, and the bounds that every expression keeps.

Functions of our own stand where SymPy's derivative would hold distributions (``abs``, ``sign``, ``min``, ``max``,
``where``) or would lose its digits far from the origin (``tanh``, ``sigmoid``, ``softplus``). They print as the text
of a formula, fold numbers only, and their derivatives are made of functions of this module again.
"""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import mpmath
import sympy

from sgdsim.formula import MAX_POWER

_MAX_ROOT_BITS = 1100  # SymPy factorises what it takes a root of
_MAX_BITS = 4096  # of a numerator or denominator: 17 digits to the power of 64
_MAX_NODES = 50_000
_MAX_DEPTH = 60  # SymPy recurses, about ten calls a level
_MAX_LEVELS = 10  # of functions in functions; SymPy's time grows exponentially with them
_MAX_CONSTANT_LEVELS = 5  # fewer without symbols, because SymPy evaluates these to find their signs
_LARGEST = sympy.Integer(2) ** 1024


class RealFunction(sympy.Function):  # type: ignore[misc]
    """A real function of real arguments; `at` is its value in multiple precision."""

    is_real = True
    at: Callable[..., Any]

    def _eval_mpmath(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        def at(*arguments: Any) -> Any:
            real = (mpmath.nan if isinstance(argument, mpmath.mpc) else argument for argument in arguments)
            return mpmath.mpf(self.at(*real))

        return at, self.args


def _numbers(*arguments: Any) -> bool:
    return all(argument.is_Number and argument is not sympy.nan for argument in arguments)


class softplus(RealFunction):
    """``log(1 + exp(x))``, which follows x for large x."""

    is_positive = True

    @classmethod
    def eval(cls, x: Any) -> Any:
        return sympy.log(2) if x is sympy.S.Zero else None

    def fdiff(self, argindex: int = 1) -> Any:
        return sigmoid(self.args[0])

    @staticmethod
    def at(x: Any) -> Any:
        return (x if x > 0 else 0) + mpmath.log1p(mpmath.exp(-mpmath.fabs(x)))


class sigmoid(RealFunction):
    """``1/(1 + exp(-x))``; ``sigmoid(-x)`` stands for one minus it."""

    is_positive = True

    @classmethod
    def eval(cls, x: Any) -> Any:
        return sympy.S.Half if x is sympy.S.Zero else None

    def fdiff(self, argindex: int = 1) -> Any:
        return sigmoid(self.args[0]) * sigmoid(-self.args[0])

    @staticmethod
    def at(x: Any) -> Any:
        e = mpmath.exp(-mpmath.fabs(x))
        return (1 if x >= 0 else e) / (1 + e)


class tanh(sympy.tanh):  # type: ignore[misc]
    """SymPy's, but ``1 - tanh(x)**2`` is zero beyond 19 in double precision; this derivative keeps its digits."""

    def fdiff(self, argindex: int = 1) -> Any:
        return 4 * sigmoid(2 * self.args[0]) * sigmoid(-2 * self.args[0])


class step(RealFunction):
    """1 for positive x, else 0."""

    is_nonnegative = True

    @classmethod
    def eval(cls, x: Any) -> Any:
        return sympy.Integer(bool(x > 0)) if _numbers(x) else None

    def fdiff(self, argindex: int = 1) -> Any:
        return sympy.S.Zero

    @staticmethod
    def at(x: Any) -> Any:
        return x > 0


class relu(RealFunction):
    """x for positive x, else 0."""

    is_nonnegative = True

    @classmethod
    def eval(cls, x: Any) -> Any:
        return (x if x > 0 else sympy.S.Zero) if _numbers(x) else None

    def fdiff(self, argindex: int = 1) -> Any:
        return step(self.args[0])

    @staticmethod
    def at(x: Any) -> Any:
        return x if x > 0 else 0


class sign(RealFunction):
    """-1, 0 or 1."""

    @classmethod
    def eval(cls, x: Any) -> Any:
        return sympy.sign(x) if _numbers(x) else None

    def fdiff(self, argindex: int = 1) -> Any:
        return sympy.S.Zero

    at = staticmethod(mpmath.sign)


class abs(RealFunction):
    """The magnitude, with derivative ``sign(x)``, which is 0 at 0."""

    is_nonnegative = True

    @classmethod
    def eval(cls, x: Any) -> Any:
        return (-x if x < 0 else x) if _numbers(x) else None

    def fdiff(self, argindex: int = 1) -> Any:
        return sign(self.args[0])

    at = staticmethod(mpmath.fabs)


class where(RealFunction):
    """``where(a, b, x, y)`` is x where a < b, else y; it prints as ``where(a < b, x, y)``."""

    @classmethod
    def eval(cls, a: Any, b: Any, x: Any, y: Any) -> Any:
        if x == y:
            return x
        return (x if a < b else y) if _numbers(a, b) else None

    def _eval_derivative(self, symbol: Any) -> Any:
        # Not by the chain rule: 0 times the infinite slope of the branch not taken would be NaN.
        a, b, x, y = self.args
        return where(a, b, x.diff(symbol), y.diff(symbol))

    def _sympystr(self, printer: Any) -> str:
        a, b, x, y = map(printer.doprint, self.args)
        return f"where({a} < {b}, {x}, {y})"

    @staticmethod
    def at(a: Any, b: Any, x: Any, y: Any) -> Any:
        return x if a < b else y


class min(RealFunction):
    """The smaller of two, a where they are equal."""

    @classmethod
    def eval(cls, a: Any, b: Any) -> Any:
        return (b if b < a else a) if _numbers(a, b) else None

    def _eval_derivative(self, symbol: Any) -> Any:
        a, b = self.args
        return where(b, a, b.diff(symbol), a.diff(symbol))

    @staticmethod
    def at(a: Any, b: Any) -> Any:
        return b if b < a else a


class max(RealFunction):
    """The larger of two, a where they are equal."""

    @classmethod
    def eval(cls, a: Any, b: Any) -> Any:
        return (b if a < b else a) if _numbers(a, b) else None

    def _eval_derivative(self, symbol: Any) -> Any:
        a, b = self.args
        return where(a, b, b.diff(symbol), a.diff(symbol))

    @staticmethod
    def at(a: Any, b: Any) -> Any:
        return b if a < b else a


def _ours(expression: Any) -> Any:
    """Put our own functions for those that SymPy's simplification of powers and of ``tan`` brings in."""
    for theirs, own in ((sympy.Abs, abs), (sympy.cot, lambda x: 1 / sympy.tan(x))):
        if expression.has(theirs):
            expression = expression.replace(theirs, own)
    return expression


def _power(base: Any, exponent: Any) -> Any:
    if exponent.is_Number and not -MAX_POWER <= exponent <= MAX_POWER:
        raise ValueError(f"an exponent beyond {MAX_POWER}")
    if base.is_zero and not exponent.is_nonnegative:
        raise ValueError("a power of zero whose exponent may be negative")
    if base.is_negative and not exponent.is_integer:
        raise ValueError("a negative number to a power that is not a whole number")
    coefficient = base.as_coeff_Mul()[0]
    if not exponent.is_Integer and coefficient.is_Rational and _bits(coefficient) > _MAX_ROOT_BITS:
        raise ValueError("a root of too many digits")
    return _ours(base**exponent)


SYMBOLIC: Mapping[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": _power,
    "negative": operator.neg,
    "exp": lambda x: _ours(sympy.exp(x)),
    "log": sympy.log,
    "sqrt": lambda x: _power(x, sympy.S.Half),
    "sin": sympy.sin,
    "cos": sympy.cos,
    "tan": lambda x: _ours(sympy.tan(x)),
    "tanh": tanh,
    "sinh": sympy.sinh,
    "cosh": sympy.cosh,
    "atan": sympy.atan,
    "erf": sympy.erf,
    "abs": abs,
    "sign": sign,
    "step": step,
    "relu": relu,
    "softplus": softplus,
    "sigmoid": sigmoid,
    "min": min,
    "max": max,
    "where": where,
    "sum": lambda terms: sympy.Add(*terms),
}

_NODES = (
    *(
        sympy.Symbol,
        sympy.Rational,
        sympy.Float,
        type(sympy.pi),
        type(sympy.E),
        sympy.Add,
        sympy.Mul,
        sympy.Pow,
    ),
    *(sympy.exp, sympy.log, sympy.sin, sympy.cos, sympy.tan, sympy.sinh, sympy.cosh, sympy.atan, sympy.erf),
    *(tanh, RealFunction),
)


def exact(value: Any) -> Any:
    """A value as a SymPy expression, a float by the decimals that it is written with.

    Examples
    --------
    >>> exact(0.1)
    1/10
    """
    if isinstance(value, float):
        return sympy.Rational(repr(float(value)))
    return sympy.sympify(value, strict=True)


class _Extent(NamedTuple):
    nodes: int
    depth: int
    levels: int
    constant: bool


class Bounds:
    """Refuses what is no real expression of bounded size; every shared subexpression is looked at once."""

    def __init__(self) -> None:
        self._extents: dict[Any, _Extent] = {}

    def check(self, expression: Any) -> None:
        """Say what is wrong with an expression.

        Raises
        ------
        ValueError
            For a value that is infinite, undefined or complex, a foreign node, or an expression that is too large.

        Examples
        --------
        >>> Bounds().check(sympy.sqrt(-1))
        Traceback (most recent call last):
        ValueError: not a real number
        """
        extent = self._extent(expression)
        if extent.nodes > _MAX_NODES:
            raise ValueError(f"an expression of more than {_MAX_NODES} terms")
        if extent.depth > _MAX_DEPTH or extent.levels > (_MAX_CONSTANT_LEVELS if extent.constant else _MAX_LEVELS):
            raise ValueError("functions nested too deeply")
        if extent.constant:
            _check_number(expression)

    def _extent(self, expression: Any) -> _Extent:
        found = self._extents.get(expression)
        if found is None:
            _check_node(expression)
            parts = [self._extent(part) for part in expression.args]
            nests = expression.is_Function or (expression.is_Pow and not expression.exp.is_Integer)
            found = self._extents[expression] = _Extent(
                1 + sum(part.nodes for part in parts),
                1 + builtins.max((part.depth for part in parts), default=0),
                nests + builtins.max((part.levels for part in parts), default=0),
                not expression.is_Symbol and all(part.constant for part in parts),
            )
        return found


def _bits(number: Any) -> int:
    return int(number.p).bit_length() + int(number.q).bit_length()


def _check_node(node: Any) -> None:
    if node is sympy.I:
        raise ValueError("not a real number")
    if node in (sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        raise ValueError("infinite or undefined")
    if not isinstance(node, _NODES):
        raise ValueError(f"{type(node).__name__} is not a function of formulas")
    if node.is_Rational and _bits(node) > _MAX_BITS:
        raise ValueError("a number of too many digits")


def _check_number(expression: Any) -> None:
    number = expression if expression.is_Rational else expression.evalf(15)
    if number.has(sympy.I, sympy.nan, sympy.zoo):
        raise ValueError("not a real number")
    if number.is_Number and not -_LARGEST < number < _LARGEST:
        raise ValueError("a number beyond the largest float")
