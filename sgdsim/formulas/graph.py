"""A graph of array operations, into which a formula with matrices is turned; equal operations are computed once.

Operations are few, so that few rules differentiate, evaluate and print them:

- ``name`` and ``number``: an array that is given by name, and a constant;
- the elementwise ones, keys of `sgdsim.formulas.walker.NUMERIC`: of arrays of one shape, and of numbers;
- ``product``: the sum over indices of products of two arrays, by letters as in `numpy.einsum`: ``("ij", "j", "i")``;
- ``total``: the sum over the axes that are not kept;
- ``view``: the entries of an array at other indices, a transpose, say, an entry, or a row; nothing is computed;
- ``place``: the entries of an array at other indices of a larger one that is zero elsewhere, the adjoint of ``view``;
- ``stack``: an array of numbers, one by one.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from sgdsim.formulas.arrays import Algebra, Shape
from sgdsim.formulas.walker import NUMERIC

Axes = tuple[int, ...]
"""For each axis of the viewed array, the axis of the view along it, or ~i if its index is fixed at i."""


@dataclass(frozen=True, eq=False)
class Node:
    """An array that a graph computes.

    Attributes
    ----------
    operation
        One of the operations listed at the top of this module.
    arguments
        The nodes from which it is computed.
    shape
        Shape of the array.
    detail
        The name, the number, the letters, or the axes.
    place
        Number of the node in the order of creation; a node comes after its arguments.
    """

    operation: str
    arguments: tuple[Node, ...]
    shape: Shape
    detail: Any
    place: int

    @property
    def size(self) -> int:
        """Number of entries of the array."""
        return prod(self.shape)

    @property
    def is_elementwise(self) -> bool:
        """True if each entry is computed from the same entry of the arguments."""
        return self.operation in NUMERIC


class Graph(Algebra):
    """An algebra whose values are nodes; equal nodes are created once.

    Examples
    --------
    >>> graph = Graph()
    >>> w, x = graph.name("w", (2, 3)), graph.name("x", (3,))
    >>> graph.apply("@", (2,), w, x) is graph.apply("@", (2,), w, x)
    True
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Node] = {}

    # The methods of an algebra.

    def number(self, value: Any) -> Node:
        """A number in the text of the formula, as a value of the algebra."""
        return self._node("number", (), (), float(value))

    def named(self, value: Any) -> Node:
        """The node of a name's value, which is a node or a number."""
        return value if isinstance(value, Node) else self.number(value)

    def shape(self, value: Node) -> Shape:
        """The shape of a node."""
        return value.shape

    def apply(self, operation: str, shape: Shape, *arguments: Any) -> Node:
        """The result of an operation of formulas."""
        match operation, arguments:
            case "index", [whole, index]:
                rest = range(len(whole.shape) - len(index))
                found = self.view(whole, (*(~i for i in index), *rest), shape)
            case "transpose", [matrix]:
                found = self.view(matrix, (1, 0), shape)
            case "eye", []:
                found = self.placed(self.filled(1.0, shape[:1]), (0, 0), shape)
            case "diag", [vector] if len(shape) == 2:
                found = self.placed(vector, (0, 0), shape)
            case "diag", [matrix]:
                found = self.view(matrix, (0, 0), shape)
            case "trace", [matrix]:
                found = self.total(self.view(matrix, (0, 0), matrix.shape[:1]))
            case "sum", [whole]:
                found = self.total(whole)
            case "outer", [left, right]:
                found = self.product("i", "j", "ij", left, right)
            case "@", [left, right]:
                rows, columns = "i"[: len(left.shape) - 1], "j"[: len(right.shape) - 1]
                found = self.product(f"{rows}k", f"k{columns}", f"{rows}{columns}", left, right)
            case _:
                found = self.elementwise(operation, *arguments)
        return found

    # Methods that create nodes.

    def name(self, name: str, shape: Shape) -> Node:
        """The node of an array that is given by name."""
        return self._node("name", (), shape, name)

    def elementwise(self, operation: str, *arguments: Node) -> Node:
        """The node of an elementwise operation; an operation without effect, such as adding zero, is left out."""
        shape = max((argument.shape for argument in arguments), key=len)
        simple = self._simplified(operation, arguments, shape)
        if simple is not None:
            return simple
        if all(argument.operation == "number" for argument in arguments):
            with np.errstate(all="ignore"):
                value = float(NUMERIC[operation](*(np.float64(argument.detail) for argument in arguments)))
            if np.isfinite(value):
                return self.number(value)
        return self._node(operation, arguments, shape)

    def _simplified(self, operation: str, arguments: Sequence[Node], shape: Shape) -> Node | None:
        """A simpler node of the same value, as SymPy would write it; None if there is nothing to simplify."""
        first, *others = arguments
        second = others[0] if others else first
        found: Node | None = None
        match operation, _number_in(first), _number_in(second):
            case ("+", 0.0, _) | ("*", 1.0, _):
                found = second
            case ("+" | "-", _, 0.0) | ("*" | "/" | "**", _, 1.0):
                found = first
            case ("*", 0.0, _) | ("*", _, 0.0) | ("/", 0.0, _):
                found = self.number(0.0)
            case "-", 0.0, _:
                found = self.elementwise("negative", second)
            case "**", _, 0.5:
                found = self.elementwise("sqrt", first)
            case "+", _, _ if first is second:
                found = self.elementwise("*", self.number(2.0), first)
            case "*", None, float(_):
                found = self.elementwise("*", second, first)
            case "*", float(_), None if second.operation == "*" and _number_in(second.arguments[0]) is not None:
                inner, rest = second.arguments
                found = self.elementwise("*", self.elementwise("*", first, inner), rest)
            case "negative", _, _ if first.operation == "negative":
                found = first.arguments[0]
        if found is None or found.shape == shape:
            return found
        return self.filled(found, shape)

    def product(self, left: str, right: str, letters: str, first: Node, second: Node) -> Node:
        """The sum of products over the letters that the result lacks."""
        if (not left and right == letters) or (not right and left == letters):
            return self.elementwise("*", first, second)
        names = dict(zip(dict.fromkeys(letters + left + right), "ijkl", strict=False))
        spelled = tuple("".join(map(names.__getitem__, word)) for word in (left, right, letters))
        sizes = dict(zip(left + right, first.shape + second.shape, strict=True))
        return self._node("product", (first, second), tuple(map(sizes.__getitem__, letters)), spelled)

    def total(self, whole: Node, kept: Axes = ()) -> Node:
        """The sum over all axes that are not kept."""
        if len(kept) == len(whole.shape):
            return whole
        if whole.operation == "*" and not kept and all(factor.shape == whole.shape for factor in whole.arguments):
            letters = "ij"[: len(whole.shape)]
            return self.product(letters, letters, "", *whole.arguments)
        return self._node("total", (whole,), tuple(whole.shape[axis] for axis in kept), kept)

    def view(self, whole: Node, axes: Axes, shape: Shape) -> Node:
        """An array of the entries of another one."""
        if whole.operation == "view":
            inner = tuple(axes[axis] if axis >= 0 else axis for axis in whole.detail)
            return self.view(whole.arguments[0], inner, shape)
        if shape == whole.shape and axes == tuple(range(len(shape))):
            return whole
        return self._node("view", (whole,), shape, axes)

    def placed(self, part: Node, axes: Axes, shape: Shape) -> Node:
        """An array that holds the part and zeros elsewhere: ``view(result, axes, part.shape)`` is the part."""
        return self._node("place", (part,), shape, axes)

    def filled(self, value: Node | float, shape: Shape) -> Node:
        """An array of equal entries."""
        return self.view(value if isinstance(value, Node) else self.number(value), (), shape)

    def stack(self, parts: Iterable[Node], shape: Shape) -> Node:
        """An array of single numbers, each a node."""
        return self._node("stack", tuple(parts), shape)

    def _node(self, operation: str, arguments: Sequence[Node], shape: Shape, detail: Any = None) -> Node:
        key = operation, *(argument.place for argument in arguments), shape, detail
        if key not in self._known:
            self._known[key] = Node(operation, tuple(arguments), shape, detail, len(self._known))
        return self._known[key]


def _number_in(node: Node) -> float | None:
    """The constant that all entries of a node are equal to; None if there is none."""
    if node.operation == "view":
        node = node.arguments[0]
    return float(node.detail) if node.operation == "number" else None


def below(outputs: Iterable[Node]) -> list[Node]:
    """All nodes that are needed for the outputs, including these; each after its arguments."""
    found: dict[int, Node] = {}
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node.place not in found:
            found[node.place] = node
            waiting += node.arguments
    return [found[place] for place in sorted(found)]


def operations_of(node: Node) -> int:
    """Number of floating-point operations that compute a node from its arguments.

    Examples
    --------
    >>> graph = Graph()
    >>> operations_of(graph.apply("@", (2,), graph.name("w", (2, 3)), graph.name("x", (3,))))
    12
    """
    if node.is_elementwise:
        return node.size
    if node.operation == "total":
        return node.arguments[0].size - node.size
    if node.operation != "product":
        return 0
    sizes: dict[str, int] = {}
    for word, argument in zip(node.detail, node.arguments, strict=False):
        sizes |= dict(zip(word, argument.shape, strict=True))
    products = prod(sizes.values())
    return products if products == node.size else 2 * products


def evaluate(outputs: Sequence[Node], values: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The values of nodes for many trajectories.

    Parameters
    ----------
    outputs
        Nodes of one graph.
    values
        For each name an array (axes of the node…, trajectory).

    Returns
    -------
    list
        For each output an array (axes of the node…, trajectory).

    Examples
    --------
    >>> graph = Graph()
    >>> w = graph.name("w", (2,))
    >>> evaluate([graph.total(w)], {"w": np.array([[1.0, 2.0], [3.0, 4.0]])})
    [array([4., 6.])]
    """
    known: dict[int, np.ndarray] = {}
    with np.errstate(all="ignore"):
        for node in below(outputs):
            known[node.place] = _value(node, [known[argument.place] for argument in node.arguments], values)
    return [known[node.place] for node in outputs]


def _value(node: Node, arguments: list[np.ndarray], values: Mapping[str, np.ndarray]) -> np.ndarray:
    match node.operation:
        case "name":
            found = np.asarray(values[node.detail])
        case "number":
            found = np.full(1, node.detail)
        case "product":
            left, right, letters = node.detail
            found = np.asarray(np.einsum(f"{left}...,{right}...->{letters}...", *arguments))
        case "total":
            axes = tuple(axis for axis in range(len(node.arguments[0].shape)) if axis not in node.detail)
            found = arguments[0].sum(axis=axes)
        case "view":
            part = arguments[0][_at(node.detail, node.shape)]
            found = part if node.detail else np.broadcast_to(part, (*node.shape, *part.shape))
        case "place":
            found = np.zeros((*node.shape, arguments[0].shape[-1]))
            found[_at(node.detail, node.arguments[0].shape)] = arguments[0]
        case "stack":
            parts = np.stack(np.broadcast_arrays(*arguments))
            found = parts.reshape(*node.shape, parts.shape[-1])
        case elementwise:
            found = np.asarray(NUMERIC[elementwise](*arguments))
    return found


def _at(axes: Axes, shape: Shape) -> tuple[Any, ...]:
    """NumPy index that picks the entries of a view of this shape."""
    if not shape:
        return tuple(map(operator.invert, axes))
    grid = np.indices(shape, sparse=False)
    return tuple(grid[axis] if axis >= 0 else np.full(shape, ~axis) for axis in axes)
