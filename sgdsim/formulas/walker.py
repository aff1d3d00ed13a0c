"""The walk over the syntax tree of a formula: what is admitted, and its value in one algebra.

Python's grammar has read the text. The walker admits numbers, names, ``+ - * / **``, indices ``w[0]`` and the functions
of `sgdsim.formulas.names.FUNCTIONS`, and refuses all else with its place.
"""

from __future__ import annotations

import ast
import functools
import itertools
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from sgdsim.base.errors import unknown_name
from sgdsim.formulas.limits import MAX_NESTING, MAX_POWER
from sgdsim.formulas.names import FUNCTIONS, GRAMMAR, formula_error, unaliased

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


class Walker:
    """Computes the value of a syntax tree in one algebra; a vector is a tuple."""

    def __init__(
        self,
        source: str,
        where: str,
        values: Mapping[str, Any],
        operations: Mapping[str, Callable[..., Any]] = NUMERIC,
        scalar: Callable[[Any], Any] = _number,
        check: Callable[[Any], None] = lambda value: None,
        numbers: Mapping[str, Any] | None = None,
    ) -> None:
        self._source = source
        self._where = where
        self._values = values
        self._operations = operations
        self._scalar = scalar
        self._check = check
        self._numbers = numbers or {}

    def result(self, tree: ast.expr, *, vector: bool = False) -> Any:
        """The value of a whole formula, which may be a vector only if that is asked for."""
        value = self.visit(tree)
        if isinstance(value, tuple) and not vector:
            self._fail(tree, f"a vector of {len(value)} numbers", "one number, such as sum(w), norm2(w) or w[0]")
        return value

    def _fail(self, node: ast.AST, problem: str, expected: str = "") -> NoReturn:
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
        raise formula_error(problem, self._source, len(source[:end].decode()), self._where, expected)

    def visit(self, node: ast.expr, depth: int = 0) -> Any:
        """The value of a node, a tuple for a vector."""
        if depth > MAX_NESTING:
            self._fail(node, "nested too deeply", f"at most {MAX_NESTING} levels")
        match node:
            case ast.Constant(value=value) if type(value) in (int, float):
                result = self._literal(node)
            case ast.Name():
                result = self._lookup(node)
            case ast.Subscript(value=ast.Name() as name, slice=ast.Constant(value=index)) if type(index) is int:
                result = self._component(node, self._lookup(name), index)
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
                self._fail(node, "an index that is not understood", "a name with a whole number, such as w[0]")
            case ast.Compare() | ast.IfExp() | ast.BoolOp() | ast.UnaryOp():
                self._fail(node, "a condition outside where", FUNCTIONS["where"])
            case ast.Call(func=ast.Name(id=name), keywords=[first, *_]):
                self._fail(first, "a named argument", FUNCTIONS.get(name, GRAMMAR))
        self._fail(node, f"{_WORDS.get(type(node), 'this')} is not part of a formula", GRAMMAR)

    def _literal(self, node: ast.Constant) -> Any:
        return self._scalar(node.value)

    def _lookup(self, node: ast.Name) -> Any:
        if node.id in FUNCTIONS:
            self._fail(node, f"{node.id} is a function", FUNCTIONS[node.id])
        if node.id not in self._values:
            self._fail(node, unknown_name("name", unaliased(node.id), map(unaliased, self._values)))
        value = self._values[node.id]
        if isinstance(value, Sequence):
            return tuple(self._guard(node, self._scalar, part) for part in value)
        return self._guard(node, self._scalar, value)

    def _component(self, node: ast.Subscript, vector: Any, index: int) -> Any:
        if not isinstance(vector, tuple):
            self._fail(node, "an index of what is not a vector", "the name of a vector")
        if index >= len(vector):
            self._fail(node, f"index {index} of a vector of {len(vector)}", f"0 to {len(vector) - 1}")
        return vector[index]

    def _binary(self, node: ast.expr, depth: int) -> Any:
        # A long sum is a deep tree; its left edge is followed without recursion.
        edge = []
        while isinstance(node, ast.BinOp):
            edge.append(node)
            node = node.left
        value = self.visit(node, depth)
        for step in reversed(edge):
            sign = _OPERATORS.get(type(step.op))
            if sign is None:
                self._fail(step, "unknown operator", "+ - * / or **, which is the power")
            right = self._exponent(step.right, depth) if sign == "**" else self.visit(step.right, depth)
            value = self._apply(step, sign, value, right)
        return value

    def _exponent(self, node: ast.expr, depth: int) -> Any:
        """An exponent, as a whole number where its names stand for numbers that make it one."""
        value, known = self.visit(node, depth), exponent_of(node, self._numbers)
        if isinstance(value, tuple) and isinstance(known, tuple):
            return tuple(itertools.starmap(self._settled, zip(value, known, strict=True)))
        return value if isinstance(value, tuple) else self._settled(value, known)

    def _settled(self, value: Any, known: Any) -> Any:
        return self._scalar(int(known)) if is_whole(known) else value

    def _call(self, node: ast.Call, name: str, depth: int) -> Any:
        if name not in FUNCTIONS:
            self._fail(node, unknown_name("function", name, FUNCTIONS))
        usage = FUNCTIONS[name]
        count = len(node.args)
        if count < 2 if "…" in usage else count != usage.count(",") + 1:
            self._fail(node, f"{name} with {count} argument{'s' * (count != 1)}", usage)
        if name == "where":
            return self._choice(node, depth)
        first, *others = (self.visit(argument, depth) for argument in node.args)
        if name in ("sum", "dot", "norm2"):
            return self._total(node, first, *(others or [first] * (name == "norm2")))
        if not others:
            return self._apply(node, name, first)
        return functools.reduce(functools.partial(self._apply, node, name), others, first)

    def _choice(self, node: ast.Call, depth: int) -> Any:
        condition, *branches = node.args
        match condition:
            case ast.Compare(ops=[ast.Lt() | ast.LtE() | ast.Gt() | ast.GtE() as comparison]):
                pair = [self.visit(side, depth) for side in (condition.left, *condition.comparators)]
            case _:
                self._fail(condition, "a condition that is not understood", "one comparison with <, <=, > or >=")
        x, y = (self.visit(branch, depth) for branch in branches)
        # Every comparison is a strict one, of swapped sides or for swapped branches.
        if isinstance(comparison, ast.Gt | ast.LtE):
            pair.reverse()
        if isinstance(comparison, ast.LtE | ast.GtE):
            x, y = y, x
        return self._apply(node, "where", *pair, x, y)

    def _total(self, node: ast.Call, *factors: Any) -> Any:
        for argument, factor in zip(node.args, factors, strict=False):
            if not isinstance(factor, tuple):
                self._fail(argument, "not a vector", "a vector")
        terms = factors[0] if len(factors) == 1 else self._apply(node, "*", *factors)
        return self._guard(node, self._operations["sum"], terms)

    def _apply(self, node: ast.AST, operation: str, *arguments: Any) -> Any:
        """Apply an operation, elementwise if any argument is a vector."""
        lengths = {len(argument) for argument in arguments if isinstance(argument, tuple)}
        if len(lengths) > 1:
            self._fail(node, f"vectors of lengths {' and '.join(map(str, sorted(lengths)))}", "equal lengths")
        function = self._operations[operation]
        if not lengths:
            return self._guard(node, function, *arguments)
        rows = zip(*(a if isinstance(a, tuple) else (a,) * max(lengths) for a in arguments), strict=True)
        return tuple(self._guard(node, function, *row) for row in rows)

    def _guard(self, node: ast.AST, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            value = function(*arguments)
            self._check(value)
        except (ValueError, ArithmeticError, RecursionError) as error:
            by_zero = function is operator.truediv and 0 in np.ravel(arguments[1])
            self._fail(node, "division by zero" if by_zero else str(error))
        return value


def exponent_of(node: ast.expr, numbers: Mapping[str, Any]) -> Any:
    """The value of an exponent in double precision; None where a name in it stands for no number."""
    if not names_in(node) <= {*numbers, "pi"}:
        return None
    with np.errstate(all="ignore"):
        return Walker("", "exponent", {**numbers, "pi": np.pi}).visit(node)


def names_in(node: ast.AST) -> set[str]:
    """The names below a node of a syntax tree that are no functions."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} - FUNCTIONS.keys()


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, of which powers are made by multiplication."""
    return isinstance(value, float) and value.is_integer() and abs(value) <= MAX_POWER


class Reader(Walker):
    """Admits a syntax tree; what depends on names is None, and the rest must have a finite value."""

    def __init__(self, source: str, where: str) -> None:
        super().__init__(source, where, {}, check=check_finite)
        self.names: set[str] = set()

    def _literal(self, node: ast.Constant) -> Any:
        value = self._guard(node, self._scalar, node.value)
        digits = (ast.get_source_segment(self._source, node) or "").lower().partition("e")[0]
        if value == 0 and re.search("[1-9]", digits):
            self._fail(node, "the number is below the smallest float", "a number from 5e-324")
        return value

    def _lookup(self, node: ast.Name) -> Any:
        if node.id in FUNCTIONS:
            return super()._lookup(node)
        if node.id == "pi":
            return np.float64(np.pi)
        self.names.add(node.id)
        return None

    def _component(self, node: ast.Subscript, vector: Any, index: int) -> Any:
        return None if vector is None else super()._component(node, vector, index)

    def _apply(self, node: ast.AST, operation: str, *arguments: Any) -> Any:
        if operation == "**" and arguments[1] is not None and abs(arguments[1]) > MAX_POWER:
            self._fail(getattr(node, "right", node), f"an exponent beyond {MAX_POWER}", "a smaller one")
        if operation == "/" and arguments[1] == 0:
            self._fail(node, "division by zero")
        return None if None in arguments else super()._apply(node, operation, *arguments)

    def _total(self, node: ast.Call, *factors: Any) -> Any:
        return None if None in factors else super()._total(node, *factors)
