"""Formulas: the one way from text to mathematics, by a parser that knows nothing but what is listed here.

Python's grammar reads the text, a walker of ours admits numbers, names, ``+ - * / **``, indices ``w[0]`` and the
functions of `FUNCTIONS`, and computes either with SymPy (`Formula.expression`) or with NumPy (`Formula.evaluate`).
Nothing is ever executed, and SymPy is imported only where an expression is built.

A name stands for a number or a vector. Operators and functions act on vectors elementwise, together with numbers or
vectors of the same length; ``sum``, ``dot`` and ``norm2`` make numbers of them.

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

The text of such an expression, ``str(expression)``, is a formula again (with 15 digits of a ``Float``), unless it has
an ``E`` or is too long.
"""

from __future__ import annotations

import ast
import functools
import keyword
import math
import operator
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NoReturn, overload

import numpy as np

from sgdsim.base.errors import InputError, unknown_name
from sgdsim.formulas.limits import MAX_LENGTH, MAX_NESTING, MAX_POWER

if TYPE_CHECKING:
    import sympy

_ONE_ARGUMENT = (
    *("exp", "log", "sqrt", "sin", "cos", "tan", "tanh", "sinh", "cosh", "atan", "erf"),
    *("abs", "sign", "step", "relu", "softplus", "sigmoid"),
)

#: Each function of formulas with its usage.
FUNCTIONS: Mapping[str, str] = {name: f"{name}(x)" for name in _ONE_ARGUMENT} | {
    "min": "min(a, b, …)",
    "max": "max(a, b, …)",
    "where": "where(a < b, x, y)",
    "sum": "sum(w)",
    "dot": "dot(v, w)",
    "norm2": "norm2(w)",
}

_GRAMMAR = "numbers, names, + - * / **, indices such as w[0], and functions such as exp(x)"
_WORDS = {
    ast.Attribute: "an attribute",
    ast.JoinedStr: "a string",
    ast.Lambda: "a lambda",
    ast.NamedExpr: "an assignment",
    ast.Starred: "a starred argument",
    ast.ListComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.Call: "a call of what is not a function",
}
_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}


# Functions of a name become names of their own, of the same length, so that a message points at the right column.
_FUNCTION = re.compile(r"\b(next|gradient|population_gradient|charge)\s*\(\s*(\w+)\s*(\[\s*\d+\s*\])?\s*\)")
_ALIAS = re.compile(r"(next|gradient|population_gradient|charge)__")


class FormulaError(InputError):
    """A text is not a formula, or has no value; `column` is where in the stripped text, counted from 0."""

    column: int = 0


def _error(problem: str, text: str, column: int, where: str, expected: str = "") -> FormulaError:
    """Point at a column of the text, of which only the surroundings are shown if it is long."""
    column = max(0, min(column, len(text)))
    start, stop = max(0, column - 60), column + 40
    before, after = "…" if start else "", "…" if stop < len(text) else ""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[start:stop])
    caret = " " * (column - start + len(before)) + "^"
    lines = [f"{where}: {problem}", f"  {before}{shown}{after}", f"  {caret}"]
    error = FormulaError("\n".join(lines + [f"expected {expected}"] * bool(expected)))
    error.column = column
    return error


@dataclass(frozen=True)
class Formula:
    """A formula that has been read.

    Attributes
    ----------
    text
        As given.
    names
        Names that it uses, vectors by their base name.

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
            What the user wrote.
        where
            What it is, for messages.

        Raises
        ------
        FormulaError
            For anything that is not a formula, with the place, what is expected and a near match.

        Examples
        --------
        >>> Formula.parse("2*sinn(x)")
        Traceback (most recent call last):
        sgdsim.formulas.formula.FormulaError: formula: unknown function 'sinn': did you mean 'sin'?
          2*sinn(x)
            ^
        """
        tree = _syntax_tree(text, where)
        reader = _Reader(_one_line(text), where)
        with np.errstate(all="ignore"):
            reader.visit(tree)
        return cls(text, frozenset(reader.names), tree, where)

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
            self._walker(dict.fromkeys(known)).visit(first)

    @overload
    def expression(self, values: Mapping[str, Any], *, vector: Literal[False] = ...) -> sympy.Expr: ...

    @overload
    def expression(self, values: Mapping[str, Any], *, vector: bool) -> sympy.Expr | tuple[sympy.Expr, ...]: ...

    def expression(self, values: Mapping[str, Any], *, vector: bool = False) -> sympy.Expr | tuple[sympy.Expr, ...]:
        """The formula as a SymPy expression, of the node types listed at the top of this module.

        Parameters
        ----------
        values
            For each name an expression, an exact or floating-point number, or for a vector a sequence of these.
        vector
            Whether the result may be a vector; it is then a tuple.

        Raises
        ------
        FormulaError
            For an unknown name, vectors that do not fit, a value that is complex, infinite or undefined, and an
            expression that is too large.

        Examples
        --------
        >>> import sympy
        >>> x = sympy.Symbol("x", real=True)
        >>> Formula.parse("softplus(-0.5*x)").expression({"x": x}).diff(x)
        -sigmoid(-x/2)/2
        """
        import sympy

        from sgdsim.formulas.symbolic import SYMBOLIC, Bounds, exact

        walker = self._walker({**values, "pi": sympy.pi}, SYMBOLIC, exact, Bounds().check)
        return walker.result(self._tree, vector=vector)

    def evaluate(self, values: Mapping[str, Any]) -> float | np.ndarray:
        """The value of the formula in double precision.

        Parameters
        ----------
        values
            For each name a number, or an array of numbers to evaluate at all of them; for a vector a list or tuple
            of these.

        Returns
        -------
        float or ndarray
            An array if any value in use is one.

        Raises
        ------
        FormulaError
            For an unknown name, vectors that do not fit, or a result that is not finite.

        Examples
        --------
        >>> Formula.parse("0.1/(1 + t)").evaluate({"t": np.arange(3.0)})
        array([0.1       , 0.05      , 0.03333333])
        """
        values = {**values, "pi": np.pi}
        with np.errstate(all="ignore"):
            result = np.asarray(self._walker(values).result(self._tree), dtype=np.float64)
            if not np.isfinite(result).all():
                self._walker(values, check=_check_finite).result(self._tree)
        return result if result.ndim else float(result)

    def __reduce__(self) -> tuple[Any, ...]:
        # The tree of a long sum is too deep to be pickled.
        return functools.partial(Formula.parse, where=self._where), (self.text,)

    def _walker(self, values: Mapping[str, Any], *algebra: Any, **options: Any) -> _Walker:
        return _Walker(_one_line(self.text), self._where, values, *algebra, **options)


def definition(text: str, where: str = "definition") -> tuple[str, Formula]:
    """Read ``name = formula``.

    Raises
    ------
    FormulaError
        For anything else, or a name that no formula could use.

    Examples
    --------
    >>> name, formula = definition("y = 0.8*x + e")
    >>> name, formula.text
    ('y', '0.8*x + e')
    """
    name, equals, formula = text.partition("=")
    if not equals:
        raise _error("not a definition", text, len(text), where, "name = formula")
    return check_name(name.strip(), where), Formula.parse(formula.strip(), where=where)


def aliased(text: str) -> str:
    """Write ``next(u)``, ``gradient(u)``, … as names that formulas know.

    Examples
    --------
    >>> aliased("next(u) - u"), aliased("gradient(w[0])"), aliased("next(charge(scale))")
    ('next__u - u', 'gradient__w[0]', 'next__charge__scale')
    """

    def alias(match: re.Match[str]) -> str:
        name = f"{match[1]}__{match[2]}{match[3] or ''}"
        return name.ljust(len(match[0]))

    while (outer := _FUNCTION.sub(alias, text)) != text:  # next(charge(rescale)): from the inside
        text = outer
    return text


def check_name(name: str, where: str = "name") -> str:
    """Make sure that formulas can use a name, and return it as they see it.

    Python's grammar takes letters of the same meaning for the same letter, such as the micro sign for the Greek mu.

    Raises
    ------
    FormulaError
        For a text that is not an identifier, a Python keyword, ``pi``, or the name of a function.

    Examples
    --------
    >>> check_name("theta_1")
    'theta_1'
    """
    if not name.isidentifier():
        raise _error(f"{name!r} is not a name", name, 0, where, "letters, digits and underscores, no digit first")
    normal = unicodedata.normalize("NFKC", name)
    if keyword.iskeyword(normal) or normal in FUNCTIONS or normal == "pi" or _ALIAS.match(normal):
        raise _error(f"the name {name!r} is reserved", name, 0, where, f"another name, such as {name}_0")
    return normal


def parameter_name(text: str, where: str = "parameter") -> tuple[str, int | None]:
    """Split ``w[3]`` into the name and the number.

    Raises
    ------
    FormulaError
        For anything but a name, or a name with a whole number in brackets.

    Examples
    --------
    >>> parameter_name("w[3]"), parameter_name("w")
    (('w', 3), ('w', None))
    """
    name, bracket, rest = text.strip().partition("[")
    if bracket and not re.fullmatch(r"[0-9]{1,9}\]", rest):
        raise _error(f"{text!r} is not a parameter", text, len(name) + 1, where, "a name, or one such as w[3]")
    return check_name(name, where), int(rest[:-1]) if bracket else None


def _one_line(text: str) -> str:
    return re.sub(r"\s", " ", text).strip()


def _syntax_tree(text: str, where: str) -> ast.expr:
    source = _one_line(text)
    if not source:
        raise _error("there is no formula", source, 0, where, _GRAMMAR)
    if len(text) > MAX_LENGTH:
        raise _error(f"{len(text)} characters", source, MAX_LENGTH, where, f"at most {MAX_LENGTH}")
    if "#" in source:
        raise _error("'#' has no meaning here", source, source.index("#"), where, _GRAMMAR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source, mode="eval").body
    except SyntaxError as error:
        problem = error.msg.partition(". ")[0].partition(" (<")[0]
        raise _error(problem, source, (error.offset or 1) - 1, where, _GRAMMAR) from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise _error(f"not a formula: {error or 'nested too deeply'}", source, 0, where, _GRAMMAR) from None


def _check_finite(value: Any) -> None:
    finite = np.isfinite(value)
    if not finite.all():
        raise ValueError(f"the value is {np.ravel(value)[np.ravel(~finite)][0]}")


def _number(value: Any) -> Any:
    return np.asarray(value, dtype=np.float64)[()]


def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1.0) / (1.0 + e)


NUMERIC: Mapping[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
    "negative": operator.neg,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "tanh": np.tanh,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "atan": np.arctan,
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "abs": np.abs,
    "sign": np.sign,
    "step": lambda x: np.heaviside(x, 0.0),
    "relu": lambda x: np.maximum(x, 0.0),
    "softplus": lambda x: np.logaddexp(0.0, x),
    "sigmoid": _sigmoid,
    "min": np.minimum,
    "max": np.maximum,
    "where": lambda a, b, x, y: np.where(np.isnan(a) | np.isnan(b), np.nan, np.where(a < b, x, y)),
    "sum": lambda terms: functools.reduce(operator.add, terms, np.float64(0.0)),
}


class _Walker:
    """Computes the value of a syntax tree in one algebra; a vector is a tuple."""

    def __init__(
        self,
        source: str,
        where: str,
        values: Mapping[str, Any],
        operations: Mapping[str, Callable[..., Any]] = NUMERIC,
        scalar: Callable[[Any], Any] = _number,
        check: Callable[[Any], None] = lambda value: None,
    ) -> None:
        self._source = source
        self._where = where
        self._values = values
        self._operations = operations
        self._scalar = scalar
        self._check = check

    def result(self, tree: ast.expr, *, vector: bool = False) -> Any:
        value = self.visit(tree)
        if isinstance(value, tuple) and not vector:
            self.fail(tree, f"a vector of {len(value)} numbers", "one number, such as sum(w), norm2(w) or w[0]")
        return value

    def fail(self, node: ast.AST, problem: str, expected: str = "") -> NoReturn:
        source = self._source.encode()
        match node:
            case (
                ast.BinOp(left=ast.expr(end_col_offset=int(end)))
                | ast.Compare(left=ast.expr(end_col_offset=int(end)))
                | ast.Attribute(value=ast.expr(end_col_offset=int(end)))
            ):
                # The operator or dot, past the parentheses that the tree does not know.
                end += len(source[end:]) - len(source[end:].lstrip(b" )"))
            case _:
                end = getattr(node, "col_offset", 0)
        raise _error(problem, self._source, len(source[:end].decode()), self._where, expected)

    def visit(self, node: ast.expr, depth: int = 0) -> Any:
        if depth > MAX_NESTING:
            self.fail(node, "nested too deeply", f"at most {MAX_NESTING} levels")
        match node:
            case ast.Constant(value=value) if type(value) in (int, float):
                result = self.literal(node)
            case ast.Name():
                result = self.lookup(node)
            case ast.Subscript(value=ast.Name() as name, slice=ast.Constant(value=index)) if type(index) is int:
                result = self.component(node, self.lookup(name), index)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                result = self.visit(operand, depth + 1)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                result = self.apply(node, "negative", self.visit(operand, depth + 1))
            case ast.BinOp():
                result = self.binary(node, depth + 1)
            case ast.Call(func=ast.Name(id=name), keywords=[]):
                result = self.call(node, name, depth + 1)
            case _:
                self.refuse(node)
        return result

    def refuse(self, node: ast.expr) -> NoReturn:
        match node:
            case ast.Constant(value=value):
                self.fail(node, f"{value!r} is not a number", _GRAMMAR)
            case ast.Subscript():
                self.fail(node, "an index that is not understood", "a name with a whole number, such as w[0]")
            case ast.Compare() | ast.IfExp() | ast.BoolOp() | ast.UnaryOp():
                self.fail(node, "a condition outside where", FUNCTIONS["where"])
            case ast.Call(func=ast.Name(id=name), keywords=[first, *_]):
                self.fail(first, "a named argument", FUNCTIONS.get(name, _GRAMMAR))
        self.fail(node, f"{_WORDS.get(type(node), 'this')} is not part of a formula", _GRAMMAR)

    def literal(self, node: ast.Constant) -> Any:
        return self._scalar(node.value)

    def lookup(self, node: ast.Name) -> Any:
        if node.id in FUNCTIONS:
            self.fail(node, f"{node.id} is a function", FUNCTIONS[node.id])
        if node.id not in self._values:
            self.fail(node, unknown_name("name", node.id, self._values))
        value = self._values[node.id]
        if isinstance(value, Sequence):
            return tuple(self.guard(node, self._scalar, part) for part in value)
        return self.guard(node, self._scalar, value)

    def component(self, node: ast.Subscript, vector: Any, index: int) -> Any:
        if not isinstance(vector, tuple):
            self.fail(node, "an index of what is not a vector", "the name of a vector")
        if index >= len(vector):
            self.fail(node, f"index {index} of a vector of {len(vector)}", f"0 to {len(vector) - 1}")
        return vector[index]

    def binary(self, node: ast.expr, depth: int) -> Any:
        # A long sum is a deep tree; its left edge is followed without recursion.
        edge = []
        while isinstance(node, ast.BinOp):
            edge.append(node)
            node = node.left
        value = self.visit(node, depth)
        for step in reversed(edge):
            sign = _OPERATORS.get(type(step.op))
            if sign is None:
                self.fail(step, "unknown operator", "+ - * / or **, which is the power")
            value = self.apply(step, sign, value, self.visit(step.right, depth))
        return value

    def call(self, node: ast.Call, name: str, depth: int) -> Any:
        if name not in FUNCTIONS:
            self.fail(node, unknown_name("function", name, FUNCTIONS))
        usage = FUNCTIONS[name]
        count = len(node.args)
        if count < 2 if "…" in usage else count != usage.count(",") + 1:
            self.fail(node, f"{name} with {count} argument{'s' * (count != 1)}", usage)
        if name == "where":
            return self.where(node, depth)
        first, *others = (self.visit(argument, depth) for argument in node.args)
        if name in ("sum", "dot", "norm2"):
            return self.total(node, first, *(others or [first] * (name == "norm2")))
        if not others:
            return self.apply(node, name, first)
        return functools.reduce(functools.partial(self.apply, node, name), others, first)

    def where(self, node: ast.Call, depth: int) -> Any:
        condition, *branches = node.args
        match condition:
            case ast.Compare(ops=[ast.Lt() | ast.LtE() | ast.Gt() | ast.GtE() as comparison]):
                pair = [self.visit(side, depth) for side in (condition.left, *condition.comparators)]
            case _:
                self.fail(condition, "a condition that is not understood", "one comparison with <, <=, > or >=")
        x, y = (self.visit(branch, depth) for branch in branches)
        # Every comparison is a strict one, of swapped sides or for swapped branches.
        if isinstance(comparison, ast.Gt | ast.LtE):
            pair.reverse()
        if isinstance(comparison, ast.LtE | ast.GtE):
            x, y = y, x
        return self.apply(node, "where", *pair, x, y)

    def total(self, node: ast.Call, *factors: Any) -> Any:
        for argument, factor in zip(node.args, factors, strict=False):
            if not isinstance(factor, tuple):
                self.fail(argument, "not a vector", "a vector")
        terms = factors[0] if len(factors) == 1 else self.apply(node, "*", *factors)
        return self.guard(node, self._operations["sum"], terms)

    def apply(self, node: ast.AST, operation: str, *arguments: Any) -> Any:
        """Apply an operation, elementwise if any argument is a vector."""
        lengths = {len(argument) for argument in arguments if isinstance(argument, tuple)}
        if len(lengths) > 1:
            self.fail(node, f"vectors of lengths {' and '.join(map(str, sorted(lengths)))}", "equal lengths")
        function = self._operations[operation]
        if not lengths:
            return self.guard(node, function, *arguments)
        rows = zip(*(a if isinstance(a, tuple) else (a,) * max(lengths) for a in arguments), strict=True)
        return tuple(self.guard(node, function, *row) for row in rows)

    def guard(self, node: ast.AST, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            value = function(*arguments)
            self._check(value)
        except (ValueError, ArithmeticError, RecursionError) as error:
            by_zero = function is operator.truediv and 0 in np.ravel(arguments[1])
            self.fail(node, "division by zero" if by_zero else str(error))
        return value


class _Reader(_Walker):
    """Admits a syntax tree; what depends on names is None, and the rest must have a finite value."""

    def __init__(self, source: str, where: str) -> None:
        super().__init__(source, where, {}, check=_check_finite)
        self.names: set[str] = set()

    def literal(self, node: ast.Constant) -> Any:
        value = self.guard(node, self._scalar, node.value)
        digits = (ast.get_source_segment(self._source, node) or "").lower().partition("e")[0]
        if value == 0 and re.search("[1-9]", digits):
            self.fail(node, "the number is below the smallest float", "a number from 5e-324")
        return value

    def lookup(self, node: ast.Name) -> Any:
        if node.id in FUNCTIONS:
            return super().lookup(node)
        if node.id == "pi":
            return np.float64(np.pi)
        self.names.add(node.id)
        return None

    def component(self, node: ast.Subscript, vector: Any, index: int) -> Any:
        return None if vector is None else super().component(node, vector, index)

    def apply(self, node: ast.AST, operation: str, *arguments: Any) -> Any:
        if operation == "**" and arguments[1] is not None and abs(arguments[1]) > MAX_POWER:
            self.fail(getattr(node, "right", node), f"an exponent beyond {MAX_POWER}", "a smaller one")
        if operation == "/" and arguments[1] == 0:
            self.fail(node, "division by zero")
        return None if None in arguments else super().apply(node, operation, *arguments)

    def total(self, node: ast.Call, *factors: Any) -> Any:
        return None if None in factors else super().total(node, *factors)
