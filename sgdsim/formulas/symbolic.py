"""The functions of formulas as SymPy nodes over the reals, and the limits on the size of every expression.

This module defines its own functions where SymPy's derivatives would contain distributions (``abs``, ``sign``, ``min``,
``max``, ``where``) or would lose digits far from the origin (``tanh``, ``sigmoid``, ``softplus``), and where SymPy's
search for imaginary parts and multiples of pi may not end (``sinh``, ``cosh``, ``tan``, ``atan``). They print as the
text of a formula, evaluate only numbers, and have derivatives made of functions of this module.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import mpmath
import sympy

from sgdsim.formulas.limits import MAX_POWER

# Largest root that stays exact. Other fractional exponents become floats; powers of numbers then become decimals.
_MAX_ROOT = 12
_MAX_ROOT_BITS = 1100  # bits of a number whose root is taken exactly, as SymPy factorises it
_MAX_BITS = 4096  # bits of a numerator or denominator: 17 digits to the power of 64
_MAX_NODES = 50_000
_MAX_DEPTH = 60  # levels of an expression; SymPy recurses, with about ten calls a level
_MAX_LEVELS = 10  # functions within functions; SymPy's time grows exponentially with this number
_MAX_CONSTANT_LEVELS = 5  # the same without symbols: fewer, because SymPy evaluates constants to find their signs
_LARGEST = sympy.Integer(2) ** 1024


class RealFunction(sympy.Function):  # type: ignore[misc]
    """A real function of a real argument, with its value at zero, and its value anywhere in multiple precision."""

    is_real = True
    origin: Any = sympy.S.Zero
    deciding: int | None = None  # number of first arguments that must not be NaN; None for all
    at: Callable[..., Any]

    @classmethod
    def eval(cls, *arguments: Any) -> Any:
        return cls.origin if arguments[0] is sympy.S.Zero else None

    def _eval_mpmath(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        def at(*arguments: Any) -> Any:
            real = [mpmath.nan if isinstance(argument, mpmath.mpc) else argument for argument in arguments]
            value = mpmath.mpf(self.at(*real))
            if mpmath.isnan(value) or any(map(mpmath.isnan, real[: self.deciding])):
                raise ValueError("undefined")
            return value

        return at, self.args

    def _eval_evalf(self, prec: int) -> Any:
        try:
            return super()._eval_evalf(prec)
        except (ValueError, ArithmeticError):
            return None


class sinh(RealFunction):
    """The hyperbolic sine."""

    at = staticmethod(mpmath.sinh)

    def fdiff(self, argindex: int = 1) -> Any:
        return cosh(self.args[0])


class cosh(RealFunction):
    """The hyperbolic cosine."""

    is_positive = True
    origin = sympy.S.One
    at = staticmethod(mpmath.cosh)

    def fdiff(self, argindex: int = 1) -> Any:
        return sinh(self.args[0])


class tan(RealFunction):
    """The tangent."""

    at = staticmethod(mpmath.tan)

    def fdiff(self, argindex: int = 1) -> Any:
        return 1 + self**2


class atan(RealFunction):
    """The arc tangent."""

    at = staticmethod(mpmath.atan)

    def fdiff(self, argindex: int = 1) -> Any:
        return 1 / (1 + self.args[0] ** 2)


class tanh(RealFunction):
    """The hyperbolic tangent. In double precision ``1 - tanh(x)**2`` is zero beyond x = 19; `tanh_slope` is exact."""

    at = staticmethod(mpmath.tanh)

    def fdiff(self, argindex: int = 1) -> Any:
        return tanh_slope(self.args[0])


class tanh_slope(RealFunction):
    """The slope of the hyperbolic tangent, which kernels compute from the same exponential; it prints as a formula."""

    is_positive = True
    origin = sympy.S.One

    def fdiff(self, argindex: int = 1) -> Any:
        return -2 * tanh(self.args[0]) * tanh_slope(self.args[0])

    def _sympystr(self, printer: Any) -> str:
        x = printer.doprint(self.args[0])
        return f"(4*sigmoid(2*({x}))*sigmoid(-2*({x})))"

    @staticmethod
    def at(x: Any) -> Any:
        return mpmath.sech(x) ** 2


class sigmoid(RealFunction):
    """``1/(1 + exp(-x))``; ``sigmoid(-x)`` stands for one minus it."""

    is_positive = True
    origin = sympy.S.Half

    def fdiff(self, argindex: int = 1) -> Any:
        return sigmoid(self.args[0]) * sigmoid(-self.args[0])

    @staticmethod
    def at(x: Any) -> Any:
        e = mpmath.exp(-mpmath.fabs(x))
        return (e if x < 0 else 1) / (1 + e)


class softplus(RealFunction):
    """``log(1 + exp(x))``, which follows x for large x."""

    is_positive = True
    origin = sympy.log(2)

    def fdiff(self, argindex: int = 1) -> Any:
        return sigmoid(self.args[0])

    @staticmethod
    def at(x: Any) -> Any:
        return (x if x > 0 else 0) + mpmath.log1p(mpmath.exp(-mpmath.fabs(x)))


class Kinked(RealFunction):
    """A function made of straight lines. Its method `at` evaluates numbers of SymPy and of mpmath alike."""

    @classmethod
    def eval(cls, *arguments: Any) -> Any:
        return sympy.sympify(cls.at(*arguments)) if _numbers(*arguments) else None


class step(Kinked):
    """The unit step: 1 for positive x, else 0."""

    is_nonnegative = True

    def fdiff(self, argindex: int = 1) -> Any:
        return sympy.S.Zero

    @staticmethod
    def at(x: Any) -> Any:
        return 1 if x > 0 else 0


class relu(Kinked):
    """The rectified linear unit: x for positive x, else 0."""

    is_nonnegative = True

    def fdiff(self, argindex: int = 1) -> Any:
        return step(self.args[0])

    @staticmethod
    def at(x: Any) -> Any:
        return x if x > 0 else 0


class sign(Kinked):
    """The sign of x: -1, 0 or 1."""

    def fdiff(self, argindex: int = 1) -> Any:
        return sympy.S.Zero

    @staticmethod
    def at(x: Any) -> Any:
        return 1 if x > 0 else -1 if x < 0 else 0


class abs(Kinked):
    """The absolute value, whose slope ``sign(x)`` is 0 at x = 0."""

    is_nonnegative = True

    def fdiff(self, argindex: int = 1) -> Any:
        return sign(self.args[0])

    @staticmethod
    def at(x: Any) -> Any:
        return -x if x < 0 else x


class min(Kinked):
    """The smaller of two numbers a and b; a where they are equal."""

    def _eval_derivative(self, symbol: Any) -> Any:
        a, b = self.args
        return where(b, a, b.diff(symbol), a.diff(symbol))

    @staticmethod
    def at(a: Any, b: Any) -> Any:
        return b if b < a else a


class max(Kinked):
    """The larger of two numbers a and b; a where they are equal."""

    def _eval_derivative(self, symbol: Any) -> Any:
        a, b = self.args
        return where(a, b, b.diff(symbol), a.diff(symbol))

    @staticmethod
    def at(a: Any, b: Any) -> Any:
        return b if a < b else a


class where(Kinked):
    """The choice ``where(a, b, x, y)``: x where a < b, else y. It prints as ``where(a < b, x, y)``."""

    deciding = 2

    @classmethod
    def eval(cls, *arguments: Any) -> Any:
        a, b, x, y = arguments
        return cls.at(a, b, x, y) if x == y or _numbers(a, b) else None

    def _eval_derivative(self, symbol: Any) -> Any:
        # Not by the chain rule: 0 times the infinite slope of the branch not taken would be NaN.
        a, b, x, y = self.args
        return where(a, b, x.diff(symbol), y.diff(symbol))

    def _sympystr(self, printer: Any) -> str:
        a, b, x, y = map(printer.doprint, self.args)
        return f"where({a} < {b}, {x}, {y})"

    @staticmethod
    def at(a: Any, b: Any, x: Any, y: Any) -> Any:
        return x if x == y or a < b else y


def _numbers(*arguments: Any) -> bool:
    return all(argument.is_Number and argument is not sympy.nan for argument in arguments)


def _ours(expression: Any) -> Any:
    """The expression with nodes of this module in place of those that SymPy's simplification of powers brings in."""
    if expression.has(sympy.Abs):
        expression = expression.replace(sympy.Abs, abs)
    return expression.replace(
        lambda node: node.is_Pow and _is_high(node.exp),
        lambda root: _decimal(*root.args) if root.base.is_Rational else root.base ** sympy.Float(root.exp),
    )


def _is_high(exponent: Any) -> bool:
    return bool(exponent.is_Rational and exponent.q > _MAX_ROOT)


def _decimal(base: Any, exponent: Any) -> Any:
    """A power of a number, as the decimal number of its double-precision value."""
    value = sympy.Pow(base, exponent, evaluate=False).evalf(17)
    if not value.is_real:
        raise ValueError("not a real number")
    return exact(float(value))


def _is_zero(expression: Any) -> bool:
    return bool(expression.is_number and expression.evalf(15) == 0)


def _divide(dividend: Any, divisor: Any) -> Any:
    if _is_zero(divisor):
        raise ZeroDivisionError("division by zero")
    return dividend / divisor


def _power(base: Any, exponent: Any) -> Any:
    if exponent.is_Number and not -MAX_POWER <= exponent <= MAX_POWER:
        raise ValueError(f"an exponent beyond {MAX_POWER}")
    if _is_zero(base) and not (exponent.is_Number and exponent >= 0):
        raise ZeroDivisionError("a power of zero whose exponent may be negative")
    if exponent.is_Integer:
        return base**exponent
    if not exponent.is_integer and base.is_negative:
        raise ValueError("a negative number to a power that is not a whole number")
    factor, rest = base.as_independent(*base.free_symbols, as_Add=False)
    if _is_high(exponent) or (exponent.is_Number and factor.has(sympy.Float)):
        # Products of exact high roots of numbers exhaust the memory, those with floats do not end.
        if factor.is_negative:
            factor, rest = -factor, -rest
        return _decimal(factor, exponent) * _ours(rest ** (sympy.Float(exponent) if _is_high(exponent) else exponent))
    if factor.is_Rational and _bits(factor) > _MAX_ROOT_BITS:
        raise ValueError("a root of too many digits")
    return _ours(base**exponent)


SYMBOLIC: Mapping[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "**": _power,
    "negative": operator.neg,
    "exp": lambda x: _ours(sympy.exp(x)),
    "log": sympy.log,
    "sqrt": lambda x: _power(x, sympy.S.Half),
    "sin": sympy.sin,
    "cos": sympy.cos,
    "tan": tan,
    "tanh": tanh,
    "sinh": sinh,
    "cosh": cosh,
    "atan": atan,
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

_ATOMS = (sympy.Symbol, sympy.Rational, sympy.Float, type(sympy.pi), type(sympy.E))
_THEIRS = (sympy.exp, sympy.log, sympy.sin, sympy.cos, sympy.erf)
_NODES = (*_ATOMS, sympy.Add, sympy.Mul, sympy.Pow, *_THEIRS, RealFunction)


def exact(value: Any) -> Any:
    """A value as a SymPy expression; a float becomes the exact fraction of its shortest decimal form.

    Examples
    --------
    >>> exact(0.1)
    1/10
    """
    if isinstance(value, float | sympy.Float):
        if not math.isfinite(value):
            raise ValueError(f"the value is {value}")
        return sympy.Rational(repr(float(value)))
    return sympy.sympify(value, strict=True)


def derivative(expression: Any, symbol: Any) -> Any:
    """The derivative, with powers of a base combined: ``x**(a - 1)`` has a value at zero, ``x**a/x`` has none.

    Examples
    --------
    >>> x, a = sympy.Symbol("x", real=True), sympy.Symbol("a", real=True)
    >>> derivative(x**a, x)
    a*x**(a - 1)
    """
    slope = expression.diff(symbol)
    if any(power.exp.free_symbols for power in slope.atoms(sympy.Pow)):
        slope = sympy.powsimp(slope, combine="exp")
    return slope


class _Extent(NamedTuple):
    nodes: int
    depth: int
    levels: int
    constant: bool


class Bounds:
    """Checks that expressions are real and of limited size; a subexpression that occurs again is not checked again."""

    def __init__(self) -> None:
        self._extents: dict[Any, _Extent] = {}

    def check(self, expression: Any) -> None:
        """Refuse an expression that is not real and finite, or too large.

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
        if extent.depth > _MAX_DEPTH or extent.levels > _MAX_LEVELS:
            raise ValueError("functions nested too deeply")

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
            if found.constant:
                _check_constant(expression, found.levels)
        return found


def _bits(number: Any) -> int:
    return int(number.p).bit_length() + int(number.q).bit_length()


def _check_node(node: Any) -> None:
    if node is sympy.I or (node.is_Pow and node.base.is_Number and node.base < 0 and not node.exp.is_Integer):
        raise ValueError("not a real number")
    if node in (sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        raise ValueError("infinite or undefined")
    if not isinstance(node, _NODES):
        raise ValueError(f"{type(node).__name__} is not a function of formulas")
    # Twice the bound, as a derivative that is put into another formula has larger exponents.
    if node.is_Pow and node.exp.is_Number and not -2 * MAX_POWER <= node.exp <= 2 * MAX_POWER:
        raise ValueError(f"an exponent beyond {2 * MAX_POWER}")
    if node.is_Rational and _bits(node) > _MAX_BITS:
        raise ValueError("a number of too many digits")


def _check_constant(expression: Any, levels: int) -> None:
    if levels > _MAX_CONSTANT_LEVELS:
        raise ValueError("functions of numbers nested too deeply")
    number = expression if expression.is_Rational else expression.evalf(15)
    if number.has(sympy.I, sympy.nan, sympy.zoo):
        raise ValueError("not a real number")
    if number.is_Number and not -_LARGEST < number < _LARGEST:
        raise ValueError("a number beyond the largest float")
