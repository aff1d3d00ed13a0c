"""Formulas: text read as mathematics, by a parser that admits only what is listed here.

Python's grammar reads the text; `sgdsim.formulas.walker` admits numbers, names, ``+ - * / ** @``, indices ``w[0]`` and
the functions of `sgdsim.formulas.names.FUNCTIONS`, and computes with SymPy (`Formula.expression`), with NumPy
(`Formula.evaluate`), with shapes alone (`Formula.shape`), or in an algebra of the caller's (`Formula.in_algebra`).
Nothing is ever executed, and SymPy is imported only where an expression is built.

A name stands for a number, a vector or a matrix. Operators and functions act on them elementwise, together with numbers
or what has the same shape; `sgdsim.formulas.arrays` has the operations on whole arrays.

Nodes of an expression, and of its derivatives of any order, with real symbols for the names:

- ``Symbol``, ``Integer``, ``Rational``, ``pi``, ``E``; ``Float`` for exponents such as 1.234, so in factors of their
  derivatives, and where a caller's value has one;
- ``Add``, ``Mul``, ``Pow``, whose exponent is a whole number, a fraction (square roots are powers of 1/2), a float or
  any expression, which means ``exp(exponent*log(base))``;
- SymPy's ``exp``, ``log``, ``sin``, ``cos``, ``erf``;
- of `sgdsim.formulas.symbolic`, with the names that they print: ``tan``, ``atan``, ``sinh``, ``cosh``, ``tanh``,
  ``sigmoid``, ``softplus``, ``relu``, ``step`` (1 for x > 0, else 0), ``sign``, ``abs``; with two arguments ``min(a,
  b)`` and ``max(a, b)``, both a where a equals b; with four arguments ``where(a, b, x, y)``: x where a < b, else y;
  and the derivative of ``tanh``, which prints as what it is made of.

The text of such an expression, by `sgdsim.formulas.expressions.formula_text`, is a formula again unless it is too long.
"""

from __future__ import annotations

import ast
import functools
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from sgdsim.formulas.arrays import Algebra, Expanded, Shape, Shapes, entries, shape_of
from sgdsim.formulas.limits import MAX_LENGTH
from sgdsim.formulas.names import GRAMMAR, check_name, formula_error
from sgdsim.formulas.walker import NUMBERS, NUMERIC, Reader, Walker, check_finite, exponent_of, is_whole, names_in

if TYPE_CHECKING:
    import sympy


@dataclass(frozen=True)
class Formula:
    """A formula that has been read.

    Attributes
    ----------
    text
        The formula as it was written.
    names
        Names that it uses; a vector or matrix by its base name.

    Examples
    --------
    >>> formula = Formula.parse("a*x**2/2 + sum(w)")
    >>> sorted(formula.names)
    ['a', 'w', 'x']
    >>> formula.evaluate({"a": 2.0, "x": 3.0, "w": [1.0, 0.5]})
    10.5
    """

    text: str
    names: frozenset[str]
    _tree: ast.expr = field(repr=False, compare=False)
    _where: str = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str, *, where: str = "formula") -> Formula:
        """Read a formula.

        Parameters
        ----------
        text
            The formula as the user wrote it.
        where
            Name of the formula, for messages.

        Raises
        ------
        FormulaError
            For anything that is not a formula, with the place, what is expected and a near match.

        Examples
        --------
        >>> Formula.parse("2*sinn(x)")
        Traceback (most recent call last):
        sgdsim.formulas.names.FormulaError: formula: unknown function 'sinn': did you mean 'sin'?
          2*sinn(x)
            ^
        """
        return _read(text, where)

    def require(self, known: Iterable[str]) -> None:
        """Refuse names that are not known.

        Raises
        ------
        FormulaError
            At the first unknown name, with a near match.

        Examples
        --------
        >>> Formula.parse("2*x").require(["x", "y"])
        """
        known = {*known, "pi"}
        nodes = [n for n in ast.walk(self._tree) if isinstance(n, ast.Name) and n.id in self.names - known]
        if nodes:
            first = min(nodes, key=lambda node: node.col_offset)
            self._walker(dict.fromkeys(known), NUMBERS).visit(first)

    def shape(self, shapes: Mapping[str, Shape], *, vector: bool = True) -> Shape:
        """The shape of the value, given those of the names.

        Raises
        ------
        FormulaError
            For an unknown name; for shapes that do not fit, with the operation; and for a result that is an array, if
            `vector` is False.

        Examples
        --------
        >>> Formula.parse("norm2(W@x - y)/2 + W.T[0]").shape({"W": (2, 3), "x": (3,), "y": (2,)})
        (2,)
        """
        found: Shape = self.in_algebra(shapes, Shapes(), vector=vector)
        return found

    @overload
    def expression(
        self, values: Mapping[str, Any], numbers: Mapping[str, Any] | None = ..., *, vector: Literal[False] = ...
    ) -> sympy.Expr: ...

    @overload
    def expression(
        self, values: Mapping[str, Any], numbers: Mapping[str, Any] | None = ..., *, vector: bool
    ) -> Any: ...

    def expression(
        self, values: Mapping[str, Any], numbers: Mapping[str, Any] | None = None, *, vector: bool = False
    ) -> Any:
        """The formula as a SymPy expression, of the node types listed at the top of this module.

        Parameters
        ----------
        values
            For each name an expression, an exact or floating-point number, or an array of objects or a list of these.
        numbers
            Numbers for some of the names, used in exponents only: an exponent that is whole for these numbers becomes
            that number, so that a power of a negative base has a value.
        vector
            True if the result may be an array of objects.

        Raises
        ------
        FormulaError
            For an unknown name, shapes that do not fit, a value that is complex, infinite or undefined, and an
            expression that is too large.

        Examples
        --------
        >>> import sympy
        >>> x = sympy.Symbol("x", real=True)
        >>> Formula.parse("softplus(-0.5*x)").expression({"x": x}).diff(x)
        -sigmoid(-x/2)/2
        >>> Formula.parse("a*x**(2*a)").expression({"x": x, "a": sympy.Symbol("a")}, {"a": 1.0})
        a*x**2
        """
        import sympy

        from sgdsim.formulas.symbolic import SYMBOLIC, Bounds, exact

        algebra = Expanded(SYMBOLIC, exact, Bounds().check)
        return self._walker({**values, "pi": sympy.pi}, algebra, numbers).result(self._tree, vector=vector)

    def evaluate(self, values: Mapping[str, Any], *, vector: bool = False) -> Any:
        """The value of the formula in double precision.

        Parameters
        ----------
        values
            For each name a number, or an array of numbers to evaluate at all of them; for a vector or a matrix a list,
            or an array of objects, of these.
        vector
            True if the result may be an array of objects.

        Returns
        -------
        float or ndarray
            An array if any value in use is one.

        Raises
        ------
        FormulaError
            For an unknown name, shapes that do not fit, or a result that is not finite.

        Examples
        --------
        >>> Formula.parse("0.1/(1 + t)").evaluate({"t": np.arange(3.0)})
        array([0.1       , 0.05      , 0.03333333])
        """
        values = {**values, "pi": np.pi}
        with np.errstate(all="ignore"):
            result = self._walker(values, NUMBERS).result(self._tree, vector=vector)
            if not all(np.isfinite(entry).all() for entry in entries(result)):
                self._walker(values, Expanded(NUMERIC, NUMBERS.number, check_finite)).result(self._tree, vector=vector)
        return result if shape_of(result) or np.ndim(result) else float(result)

    def in_algebra(
        self,
        values: Mapping[str, Any],
        algebra: Algebra,
        *,
        vector: bool = False,
        numbers: Mapping[str, Any] | None = None,
    ) -> Any:
        """The formula in an algebra of the caller's.

        Parameters
        ----------
        values
            Value of each name, in the form that the algebra takes.
        algebra
            The algebra that computes.
        vector
            True if the result may be a vector or a matrix.
        numbers
            Numbers for some of the names, used in exponents only; see `expression`.
        """
        values = {"pi": algebra.number(np.pi), **values}
        return self._walker(values, algebra, numbers).result(self._tree, vector=vector)

    def whole_exponents(self, numbers: Mapping[str, Any]) -> tuple[Any, ...]:
        """The exponents of the formula for these numbers: each as a number where it is whole, else None.

        The result of `expression` depends on the numbers through these exponents alone.

        Examples
        --------
        >>> sorted(Formula.parse("x**mu + x**(2*mu)").whole_exponents({"mu": 1.5}), key=str)
        [3.0, None]
        """
        powers = [node for node in ast.walk(self._tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)]
        values = [exponent_of(power.right, numbers) for power in powers]
        parts = [part for value in values for part in entries(value)]
        return tuple(float(part) if is_whole(part) else None for part in parts if part is not None)

    def is_partial(self, numbers: Mapping[str, Any]) -> bool:
        """True if the formula may be undefined for some finite values of its names: a root, a logarithm, a division.

        Parameters
        ----------
        numbers
            Numbers for some of the names: a division by them and whole powers by them are always defined.

        Examples
        --------
        >>> Formula.parse("x**mu/2").is_partial({"mu": 2.0}), Formula.parse("x**mu/2").is_partial({"mu": 2.5})
        (False, True)
        """
        return any(_is_partial(node, numbers) for node in ast.walk(self._tree))

    def __reduce__(self) -> tuple[Any, ...]:
        # The tree of a long sum is too deep to be pickled.
        return functools.partial(Formula.parse, where=self._where), (self.text,)

    def _walker(self, values: Mapping[str, Any], algebra: Algebra, numbers: Mapping[str, Any] | None = None) -> Walker:
        return Walker(_one_line(self.text), self._where, values, algebra, numbers)


def definition(text: str, where: str = "definition") -> tuple[str, Formula]:
    """The name and the formula of a definition ``name = formula``.

    Raises
    ------
    FormulaError
        For any other text, and for a name that formulas cannot use.

    Examples
    --------
    >>> name, formula = definition("y = 0.8*x + e")
    >>> name, formula.text
    ('y', '0.8*x + e')
    """
    name, equals, formula = text.partition("=")
    if not equals:
        raise formula_error("not a definition", text, len(text), where, "name = formula")
    return check_name(name.strip(), where), Formula.parse(formula.strip(), where=where)


def _is_partial(node: ast.AST, numbers: Mapping[str, Any]) -> bool:
    known = {*numbers, "pi"}
    match node:
        case ast.Call(func=ast.Name(id="sqrt" | "log")):
            return not names_in(node) <= known
        case ast.BinOp(op=ast.Div(), right=right):
            return not names_in(right) <= known
        case ast.BinOp(op=ast.Pow(), left=left, right=right):
            exponent = exponent_of(right, numbers)
            return not all(is_whole(part) and part >= 0 for part in entries(exponent)) and not names_in(left) <= known
    return False


@functools.lru_cache(maxsize=1024)
def _read(text: str, where: str) -> Formula:
    """The formula of a text, kept for later calls: points of a sweep and checks of a run read the same texts."""
    tree = _syntax_tree(text, where)
    reader = Reader(_one_line(text), where)
    with np.errstate(all="ignore"):
        reader.visit(tree)
    return Formula(text, frozenset(reader.names), tree, where)


def _one_line(text: str) -> str:
    return re.sub(r"\s", " ", text).strip()


def _syntax_tree(text: str, where: str) -> ast.expr:
    source = _one_line(text)
    if not source:
        raise formula_error("there is no formula", source, 0, where, GRAMMAR)
    if len(text) > MAX_LENGTH:
        raise formula_error(f"{len(text)} characters", source, MAX_LENGTH, where, f"at most {MAX_LENGTH}")
    if "#" in source:
        raise formula_error("'#' has no meaning here", source, source.index("#"), where, GRAMMAR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source, mode="eval").body
    except SyntaxError as error:
        problem = error.msg.partition(". ")[0].partition(" (<")[0]
        raise formula_error(problem, source, (error.offset or 1) - 1, where, GRAMMAR) from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise formula_error(f"not a formula: {error or 'nested too deeply'}", source, 0, where, GRAMMAR) from None
