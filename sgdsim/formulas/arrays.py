"""Vectors and matrices in formulas: the shapes of results, and the algebras that compute them.

An algebra is what a formula is computed in: numbers, SymPy expressions, shapes alone, or nodes of a graph. The walker
(`sgdsim.formulas.walker`) finds the shape of every result, with `fitted` and `indexed`, before it asks an algebra for
the result.

The elementwise operations are the keys of `sgdsim.formulas.walker.NUMERIC`, except ``sum``; a number beside an array
acts on all of its entries. The others are ``@``, ``transpose``, ``outer``, ``sum`` (of all entries), ``trace``,
``diag`` (a vector to a matrix, a matrix to a vector), ``eye`` (without arguments, from the shape), and ``index``, whose
second argument is a tuple of whole numbers. ``dot(a, b)`` is ``sum(a*b)``.
"""

from __future__ import annotations

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from sgdsim.formulas.limits import MAX_ENTRIES

Shape = tuple[int, ...]
"""Shape of a value: ``()`` for a number, ``(n,)`` for a vector, ``(n, m)`` for a matrix."""

_NEEDED = {
    "@": "vectors or matrices",
    "transpose": "a matrix",
    "outer": "two vectors",
    "sum": "a vector or a matrix",
    "trace": "a square matrix",
    "diag": "a vector or a square matrix",
}


class Misfit(ValueError):
    """Shapes do not fit; the message says what was expected."""

    def __init__(self, problem: str, expected: str = "") -> None:
        super().__init__(problem)
        self.expected = expected


def described(shape: Shape) -> str:
    """A shape in words.

    Examples
    --------
    >>> described(()), described((3,)), described((6, 4))
    ('a number', 'a vector of 3', 'a matrix of 6 by 4')
    """
    match shape:
        case ():
            return "a number"
        case (length,):
            return f"a vector of {length}"
    return f"a matrix of {' by '.join(map(str, shape))}"


def declared(shape: Shape) -> str:
    """A shape in brackets, as a declaration has it: ``[6,4]``.

    Examples
    --------
    >>> declared((3,)), declared((6, 4))
    ('[3]', '[6,4]')
    """
    return f"[{','.join(map(str, shape))}]"


@functools.lru_cache(maxsize=1024)  # a loop evaluates the same formulas at every step
def fitted(operation: str, *shapes: Shape) -> Shape:
    """The shape of the result of an operation on arguments of given shapes.

    Raises
    ------
    Misfit
        For shapes that do not fit, and for a result with too many entries.

    Examples
    --------
    >>> fitted("@", (6, 4), (4,)), fitted("+", (6, 4), ()), fitted("outer", (2,), (3,))
    ((6,), (6, 4), (2, 3))
    >>> fitted("@", (6, 4), (3,))
    Traceback (most recent call last):
    sgdsim.formulas.arrays.Misfit: shapes [6,4] and [3] do not fit
    """
    shape = _fitted(operation, shapes)
    if prod(shape) > MAX_ENTRIES:
        raise Misfit(f"{described(shape)}, {prod(shape):,} numbers", f"at most {MAX_ENTRIES:,}")
    return shape


def _fitted(operation: str, shapes: Sequence[Shape]) -> Shape:
    shape: Shape
    match operation, shapes:
        case "@", [[*rows, n], [m, *columns]]:
            if n != m:
                raise Misfit(f"shapes {' and '.join(map(declared, shapes))} do not fit", f"{n} rows on the right")
            shape = (*rows, *columns)
        case "transpose", [(n, m)]:
            shape = m, n
        case "outer", [(n,), (m,)]:
            shape = n, m
        case "sum", [[_, *_]]:
            shape = ()
        case "trace", [(n, m)] if n == m:
            shape = ()
        case "diag", [(n,)]:
            shape = n, n
        case "diag", [(n, m)] if n == m:
            shape = (n,)
        case "eye", [square]:
            shape = square
        case _ if operation in _NEEDED:
            raise Misfit(f"not {_NEEDED[operation]}, but {' and '.join(map(described, shapes))}")
        case _:
            different = list(dict.fromkeys(shape for shape in shapes if shape))
            if len(different) > 1:
                raise Misfit(f"shapes {' and '.join(map(declared, different))} do not fit", "equal shapes, or a number")
            shape = different[0] if different else ()
    return shape


def indexed(shape: Shape, index: Shape) -> Shape:
    """The shape of an entry or a row of an array, given its index.

    Raises
    ------
    Misfit
        For an index out of range, and for more indices than dimensions.

    Examples
    --------
    >>> indexed((6, 4), (0,)), indexed((6, 4), (5, 3))
    ((4,), ())
    """
    if not shape:
        raise Misfit("an index of what is not a vector", "the name of a vector or a matrix")
    if len(index) > len(shape) or any(i >= n for i, n in zip(index, shape, strict=False)):
        ranges = ", ".join(f"0 to {n - 1}" for n in shape)
        raise Misfit(f"index {', '.join(map(str, index))} of {described(shape)}", ranges)
    return shape[len(index) :]


class Algebra(ABC):
    """An algebra in which formulas are computed, such as numbers or SymPy expressions."""

    @abstractmethod
    def number(self, value: Any) -> Any:
        """A number in the text of the formula, as a value of the algebra."""

    @abstractmethod
    def named(self, value: Any) -> Any:
        """The value of a name, as a value of the algebra."""

    @abstractmethod
    def shape(self, value: Any) -> Shape:
        """The shape of a value of the algebra."""

    @abstractmethod
    def apply(self, operation: str, shape: Shape, *arguments: Any) -> Any:
        """The result of an operation, whose shape is known.

        Raises
        ------
        ValueError, ArithmeticError
            If there is no result, with the reason.
        """

    def settled(self, value: Any, whole: Any) -> Any:
        """An exponent; the whole number that it equals, or None, is given, or an array of these."""
        return value if whole is None or is_array(whole) else self.number(whole)


class Shapes(Algebra):
    """The algebra of shapes alone, which counts the operations on single numbers that a formula takes.

    Examples
    --------
    >>> from sgdsim.formulas.formula import Formula
    >>> shapes = Shapes()
    >>> Formula.parse("W@x - y").in_algebra({"W": (2, 3), "x": (3,), "y": (2,)}, shapes, vector=True), shapes.work
    ((2,), 8)
    """

    def __init__(self) -> None:
        self.work = 0

    def number(self, value: Any) -> Shape:
        """A number in the text of the formula, as a value of the algebra."""
        return ()

    def named(self, value: Shape) -> Shape:
        """The value of a name, as a value of the algebra."""
        return value

    def shape(self, value: Shape) -> Shape:
        """The shape of a value."""
        return value

    def apply(self, operation: str, shape: Shape, *arguments: Any) -> Shape:
        """The result of an operation."""
        if operation not in ("index", "transpose", "eye"):
            inner = arguments[0][-1] if operation == "@" else prod(arguments[0]) if operation == "sum" else 1
            self.work += prod(shape) * inner
        return shape


class Expanded(Algebra):
    """An algebra of arrays over an algebra of scalars, entry by entry; its values are NumPy arrays of objects.

    Parameters
    ----------
    operations
        Function of scalars for each key of `sgdsim.formulas.walker.NUMERIC`.
    scalar
        Function that turns a number, or the value of a name, into a scalar of the algebra.
    check
        Function that refuses a scalar by a ValueError.
    """

    def __init__(
        self,
        operations: Mapping[str, Callable[..., Any]],
        scalar: Callable[[Any], Any],
        check: Callable[[Any], None] = lambda value: None,
    ) -> None:
        self._operations = operations
        self._scalar = scalar
        self._check = check

    def number(self, value: Any) -> Any:
        """A number in the text of the formula, as a value of the algebra."""
        value = self._scalar(value)
        self._check(value)
        return value

    def named(self, value: Any) -> Any:
        """The value of a name, as a value of the algebra."""
        value = array(value)
        return filled(value.shape, map(self.number, value.flat)) if is_array(value) else self.number(value)

    def shape(self, value: Any) -> Shape:
        """The shape of a value."""
        return shape_of(value)

    def apply(self, operation: str, shape: Shape, *arguments: Any) -> Any:
        """The result of an operation."""
        if not any(map(is_array, arguments)) and operation != "eye":
            return self._one(operation, *arguments)
        match operation, arguments:
            case "index", [whole, index]:
                found = whole[index]
            case "transpose", [matrix]:
                found = matrix.T
            case "eye", []:
                found = self.named(np.eye(shape[0]).tolist())
            case "sum", [whole]:
                found = self._total(whole.flat)
            case "trace", [matrix]:
                found = self._total(matrix.diagonal())
            case "diag", [matrix] if len(shape) == 1:
                found = matrix.diagonal()
            case "diag", [vector]:
                zero, n = self.number(0), shape[0]
                found = filled(shape, (vector[i] if i == j else zero for i in range(n) for j in range(n)))
            case "outer", [left, right]:
                found = filled(shape, (self._one("*", x, y) for x in left for y in right))
            case "@", [left, right]:
                rows, columns = left.reshape(-1, left.shape[-1]), right.reshape(right.shape[0], -1).T
                found = filled(shape, (self._dot(row, column) for row in rows for column in columns))
            case _:
                parts = (whole.flat if is_array(whole) else itertools.repeat(whole, prod(shape)) for whole in arguments)
                found = filled(
                    shape, itertools.starmap(functools.partial(self._one, operation), zip(*parts, strict=True))
                )
        return found

    def settled(self, value: Any, whole: Any) -> Any:
        """An exponent, as a whole number where it is known to be one."""
        if not is_array(whole):
            return super().settled(value, whole)
        return filled(value.shape, map(super().settled, value.flat, whole.flat))

    def _dot(self, row: Iterable[Any], column: Iterable[Any]) -> Any:
        return self._total(map(functools.partial(self._one, "*"), row, column))

    def _total(self, terms: Iterable[Any]) -> Any:
        return self._one("sum", list(terms))

    def _one(self, operation: str, *arguments: Any) -> Any:
        value = self._operations[operation](*arguments)
        try:
            self._check(value)
        except ValueError:
            if operation == "/" and 0 in np.ravel(arguments[1]):
                raise ZeroDivisionError("division by zero") from None
            raise
        return value


def is_array(value: Any) -> bool:
    """True if a value is a vector or a matrix, an array of objects; an array of floats is one number at many points."""
    return isinstance(value, np.ndarray) and value.dtype == object


def shape_of(value: Any) -> Shape:
    """The shape of a value, which is an array of objects or a single number."""
    return value.shape if is_array(value) else ()


def entries(value: Any) -> list[Any]:
    """The entries of an array, row by row, or the number itself.

    Examples
    --------
    >>> entries(array([[1, 2], [3, 4]])), entries(5)
    ([1, 2, 3, 4], [5])
    """
    return list(value.flat) if is_array(value) else [value]


def filled(shape: Shape, values: Iterable[Any]) -> Any:
    """An array of a shape with these entries, row by row; of no dimensions it is the entry."""
    values = list(values)
    if not shape:
        return values[0]
    flat = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        flat[index] = value
    return flat.reshape(shape)


def array(value: Any) -> Any:
    """The array of a list of entries, or of rows; anything else as it is.

    Raises
    ------
    ValueError
        For rows of different lengths.

    Examples
    --------
    >>> array([[1, 2], [3, 4]]).shape, array(5)
    ((2, 2), 5)
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        return value
    rows = list(map(array, value))
    shapes = set(map(shape_of, rows))
    if len(shapes) != 1:
        raise ValueError("rows of different lengths" if shapes else "an empty list")
    return filled((len(rows), *shapes.pop()), itertools.chain(*map(entries, rows)))
