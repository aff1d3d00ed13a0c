"""The walk over the syntax tree of a formula, which checks it and computes its value in an algebra.

Python's grammar has read the text. The walker admits numbers, names, ``+ - * / ** @``, indices ``W[0, 2]``, ``W.T`` and
the functions of `sgdsim.formulas.names.FUNCTIONS`, and refuses all else with its place.
"""

from __future__ import annotations

import ast
import functools
import itertools
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from sgdsim.base.errors import unknown_name
from sgdsim.formulas.arrays import (
    Algebra,
    Expanded,
    Misfit,
    Shape,
    declared,
    described,
    entries,
    filled,
    fitted,
    indexed,
    shape_of,
)
from sgdsim.formulas.limits import MAX_NESTING, MAX_POWER
from sgdsim.formulas.names import FUNCTIONS, GRAMMAR, RESERVED, formula_error, unaliased

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


def check_finite(value: Any) -> None:
    """Refuse a number, or an array with one, that is infinite or not a number."""
    finite = np.isfinite(value)
    if not finite.all():
        raise ValueError(f"the value is {np.ravel(value)[np.ravel(~finite)][0]}")


def _number(value: Any) -> Any:
    return np.asarray(value, dtype=np.float64)[()]


def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1.0) / (1.0 + e)


#: Each operation on double-precision numbers and arrays.
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

NUMBERS = Expanded(NUMERIC, _number)
"""The algebra of double-precision numbers; a number may be an array of numbers, at many points."""


class Walker:
    """Computes the value of a syntax tree in one algebra."""

    def __init__(
        self,
        source: str,
        where: str,
        values: Mapping[str, Any],
        algebra: Algebra,
        numbers: Mapping[str, Any] | None = None,
    ) -> None:
        self._source = source
        self._where = where
        self._values = values
        self._algebra = algebra
        self._numbers = numbers or {}

    def result(self, tree: ast.expr, *, vector: bool = False) -> Any:
        """The value of a whole formula; a vector or a matrix is refused unless `vector` is True."""
        value = self.visit(tree)
        shape = self._algebra.shape(value)
        if shape and not vector:
            entry = f"[{','.join('0' * len(shape))}]"
            self._fail(tree, f"{described(shape)} numbers", f"one number, such as sum(w), norm2(w) or w{entry}")
        return value

    def _fail(self, node: ast.AST, problem: str, expected: str = "") -> NoReturn:
        source = self._source.encode()
        match node:
            case (
                ast.BinOp(left=ast.expr(end_col_offset=int(end)))
                | ast.Compare(left=ast.expr(end_col_offset=int(end)))
                | ast.Attribute(value=ast.expr(end_col_offset=int(end)))
            ):
                # The column of the operator or dot: parentheses, which the syntax tree omits, are skipped.
                end += len(source[end:]) - len(source[end:].lstrip(b" )"))
            case _:
                end = getattr(node, "col_offset", 0)
        raise formula_error(problem, self._source, len(source[:end].decode()), self._where, expected)

    def visit(self, node: ast.expr, depth: int = 0) -> Any:
        """The value of a node."""
        if depth > MAX_NESTING:
            self._fail(node, "nested too deeply", f"at most {MAX_NESTING} levels")
        match node:
            case ast.Constant(value=value) if type(value) in (int, float):
                result = self._literal(node)
            case ast.Name():
                result = self._lookup(node)
            case ast.Subscript(value=whole) if index := _index(node.slice):
                result = self._entry(node, self.visit(whole, depth + 1), index)
            case ast.Attribute(value=matrix, attr="T"):
                result = self._apply(node, "transpose", self.visit(matrix, depth + 1))
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                result = self.visit(operand, depth + 1)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                result = self._apply(node, "negative", self.visit(operand, depth + 1))
            case ast.BinOp():
                result = self._binary(node, depth + 1)
            case ast.Call(func=ast.Name(id=name), keywords=[]):
                result = self._call(node, name, depth + 1)
            case _:
                self._refuse(node)
        return result

    def _refuse(self, node: ast.expr) -> NoReturn:
        match node:
            case ast.Constant(value=value):
                self._fail(node, f"{value!r} is not a number", GRAMMAR)
            case ast.Subscript():
                self._fail(node, "an index that is not understood", "whole numbers, such as w[0] or W[0, 2]")
            case ast.Compare() | ast.IfExp() | ast.BoolOp() | ast.UnaryOp():
                self._fail(node, "a condition outside where", FUNCTIONS["where"])
            case ast.Call(func=ast.Name(id=name), keywords=[first, *_]):
                self._fail(first, "a named argument", FUNCTIONS.get(name, GRAMMAR))
        self._fail(node, f"{_WORDS.get(type(node), 'this')} is not part of a formula", GRAMMAR)

    def _literal(self, node: ast.Constant) -> Any:
        return self._algebra.number(node.value)

    def _lookup(self, node: ast.Name) -> Any:
        if node.id in RESERVED or (node.id in FUNCTIONS and node.id not in self._values):
            self._fail(node, f"{node.id} is a function", FUNCTIONS[node.id])
        if node.id not in self._values:
            self._fail(node, unknown_name("name", unaliased(node.id), map(unaliased, self._values)))
        return self._guard(node, self._algebra.named, self._values[node.id])

    def _entry(self, node: ast.Subscript, whole: Any, index: Shape) -> Any:
        shape = self._guard(node, indexed, self._algebra.shape(whole), index)
        return self._algebra.apply("index", shape, whole, index)

    def _binary(self, node: ast.expr, depth: int) -> Any:
        # A long sum is a deep tree; its left edge is followed without recursion.
        edge = []
        while isinstance(node, ast.BinOp):
            edge.append(node)
            node = node.left
        value = self.visit(node, depth)
        for kind, steps in itertools.groupby(reversed(edge), key=lambda step: type(step.op)):
            sign = _OPERATORS.get(kind)
            if kind is ast.MatMult:
                value = self._product(list(steps), value, depth)
                continue
            for step in steps:
                if sign is None:
                    self._fail(step, "unknown operator", "+ - * / @ or **, which is the power")
                right = self._exponent(step.right, depth) if sign == "**" else self.visit(step.right, depth)
                value = self._apply(step, sign, value, right)
        return value

    def _product(self, steps: list[ast.BinOp], first: Any, depth: int) -> Any:
        """A product of matrices; it starts at the right end if that is a vector, which takes fewer operations."""
        factors = [first, *(self.visit(step.right, depth) for step in steps)]
        dimensions = [len(self._algebra.shape(factor)) for factor in factors]
        if dimensions == [2] * len(steps) + [1]:
            value = factors.pop()
            for step in reversed(steps):
                value = self._apply(step, "@", factors.pop(), value)
            return value
        for step, right in zip(steps, factors[1:], strict=True):
            first = self._apply(step, "@", first, right)
        return first

    def _exponent(self, node: ast.expr, depth: int) -> Any:
        """An exponent, as a whole number if the numbers given for its names make it one."""
        known = exponent_of(node, self._numbers)
        whole = [int(number) if is_whole(number) else None for number in entries(known)]
        return self._algebra.settled(self.visit(node, depth), filled(shape_of(known), whole))

    def _call(self, node: ast.Call, name: str, depth: int) -> Any:
        if name not in FUNCTIONS:
            self._fail(node, unknown_name("function", name, FUNCTIONS))
        usage = FUNCTIONS[name]
        count = len(node.args)
        wanted = [one.count(",") + 1 for one in usage.split(" or ")]
        if count < 2 if "…" in usage else count not in wanted:
            self._fail(node, f"{name} with {count} argument{'s' * (count != 1)}", usage)
        if name == "where":
            return self._choice(node, depth)
        if name == "eye":
            return self._identity(node.args[0])
        return self._of_arguments(node, name, [self.visit(argument, depth) for argument in node.args])

    def _of_arguments(self, node: ast.Call, name: str, values: list[Any]) -> Any:
        """The value of a function of the formula language for given arguments."""
        if name in ("sum", "dot", "norm2", "alignment"):
            for argument, factor in zip(node.args, values, strict=True):
                self._fit(argument, "sum", factor)
        match name, values:
            case "dot", [first, second]:
                value = self._dot(node, first, second)
            case "norm2", [whole]:
                value = self._dot(node, whole, whole)
            case "alignment", [first, second]:
                value = self._cosine(node, self._dot(node, first, second), first, second)
            case "cka", [first, second, *covariance]:
                value = self._cka(node, first, second, *covariance)
            case ("outer", _) | (_, [_]):
                value = self._apply(node, name, *values)
            case _:
                value = functools.reduce(functools.partial(self._apply, node, name), values)
        return value

    def _dot(self, node: ast.AST, first: Any, second: Any) -> Any:
        shapes = self._algebra.shape(first), self._algebra.shape(second)
        if all(shapes) and shapes[0] != shapes[1]:  # a claim is read before the shapes of its statistics are known
            self._fail(node, f"shapes {' and '.join(map(declared, shapes))} do not fit", "equal shapes")
        return self._apply(node, "sum", self._apply(node, "*", first, second))

    def _cosine(self, node: ast.AST, product: Any, first: Any, second: Any) -> Any:
        """The cosine of the angle between two arrays: their product divided by both lengths."""
        lengths = [self._apply(node, "sqrt", self._dot(node, whole, whole)) for whole in (first, second)]
        return self._apply(node, "/", product, self._apply(node, "*", *lengths))

    def _cka(self, node: ast.AST, first: Any, second: Any, *covariance: Any) -> Any:
        """Kernel alignment (CKA) of two linear representations, computed from their features, which may be few."""

        def kernel(left: Any, right: Any) -> Any:
            left = self._apply(node, "@", left, *covariance) if covariance else left
            return self._apply(node, "@", left, self._apply(node, "transpose", right))

        shapes = self._algebra.shape(first), self._algebra.shape(second)
        if len(shapes[0]) == len(shapes[1]) == 2 and shapes[0][1] != shapes[1][1]:
            self._fail(node, f"shapes {' and '.join(map(declared, shapes))} do not fit", "equally many columns")
        both = kernel(first, second)
        return self._cosine(node, self._dot(node, both, both), kernel(first, first), kernel(second, second))

    def _choice(self, node: ast.Call, depth: int) -> Any:
        condition, *branches = node.args
        match condition:
            case ast.Compare(ops=[ast.Lt() | ast.LtE() | ast.Gt() | ast.GtE() as comparison]):
                pair = [self.visit(side, depth) for side in (condition.left, *condition.comparators)]
            case _:
                self._fail(condition, "a condition that is not understood", "one comparison with <, <=, > or >=")
        x, y = (self.visit(branch, depth) for branch in branches)
        # Every comparison is turned into ``a < b`` by swapping its sides or its branches.
        if isinstance(comparison, ast.Gt | ast.LtE):
            pair.reverse()
        if isinstance(comparison, ast.LtE | ast.GtE):
            x, y = y, x
        return self._apply(node, "where", *pair, x, y)

    def _identity(self, size: ast.expr) -> Any:
        n = size.value if isinstance(size, ast.Constant) else None
        if type(n) is not int or n < 1:
            self._fail(size, "a size that is not understood", f"a whole number from 1, {FUNCTIONS['eye']}")
        return self._algebra.apply("eye", self._guard(size, fitted, "eye", (n, n)))

    def _apply(self, node: ast.AST, operation: str, *arguments: Any) -> Any:
        shape = self._fit(node, operation, *arguments)
        return self._guard(node, self._algebra.apply, operation, shape, *arguments)

    def _fit(self, node: ast.AST, operation: str, *arguments: Any) -> Any:
        """The shape of a result."""
        return self._guard(node, fitted, operation, *map(self._algebra.shape, arguments))

    def _guard(self, node: ast.AST, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Misfit as error:
            self._fail(node, str(error), error.expected)
        except (ValueError, ArithmeticError, RecursionError) as error:
            self._fail(node, str(error))


def _index(node: ast.expr) -> Shape:
    """The whole numbers of an index; empty if it is anything else."""
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    found = tuple(part.value for part in parts if isinstance(part, ast.Constant) and type(part.value) is int)
    return found if len(found) == len(parts) else ()


def exponent_of(node: ast.expr, numbers: Mapping[str, Any]) -> Any:
    """The value of an exponent in double precision; None if a name in it has no number."""
    if not names_in(node) <= {*numbers, "pi"}:
        return None
    with np.errstate(all="ignore"):
        return Walker("", "exponent", {**numbers, "pi": np.pi}, NUMBERS).visit(node)


def names_in(node: ast.AST) -> set[str]:
    """The names below a node of a syntax tree, except those of functions."""
    parts = list(ast.walk(node))
    called = [part.func for part in parts if isinstance(part, ast.Call)]
    return {part.id for part in parts if isinstance(part, ast.Name) and part not in called} - RESERVED


def is_whole(value: Any) -> bool:
    """True if an exponent is a whole number small enough for the power to be computed by multiplication."""
    return isinstance(value, float) and value.is_integer() and abs(value) <= MAX_POWER


class Reader(Walker):
    """A walker that checks a syntax tree. Parts that depend on names have the value None; others must be finite."""

    def __init__(self, source: str, where: str) -> None:
        super().__init__(source, where, {}, Expanded(NUMERIC, _number, check_finite))
        self.names: set[str] = set()

    def _literal(self, node: ast.Constant) -> Any:
        value = self._guard(node, self._algebra.number, node.value)
        digits = (ast.get_source_segment(self._source, node) or "").lower().partition("e")[0]
        if value == 0 and re.search("[1-9]", digits):
            self._fail(node, "the number is below the smallest float", "a number from 5e-324")
        return value

    def _lookup(self, node: ast.Name) -> Any:
        if node.id in RESERVED:
            return super()._lookup(node)
        if node.id == "pi":
            return np.float64(np.pi)
        self.names.add(node.id)
        return None

    def _entry(self, node: ast.Subscript, whole: Any, index: Shape) -> Any:
        return None if whole is None else super()._entry(node, whole, index)

    def _exponent(self, node: ast.expr, depth: int) -> Any:
        return self.visit(node, depth)

    def _fit(self, node: ast.AST, operation: str, *arguments: Any) -> Any:
        return None if any(x is None for x in arguments) else super()._fit(node, operation, *arguments)

    def _apply(self, node: ast.AST, operation: str, *arguments: Any) -> Any:
        if operation == "**" and any(x is not None and abs(x) > MAX_POWER for x in entries(arguments[1])):
            self._fail(getattr(node, "right", node), f"an exponent beyond {MAX_POWER}", "a smaller one")
        if operation == "/" and any(x is not None and x == 0 for x in entries(arguments[1])):
            self._fail(node, "division by zero")
        return None if any(x is None for x in arguments) else super()._apply(node, operation, *arguments)
