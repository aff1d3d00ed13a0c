"""The gradient of a number that a graph computes, by backpropagation, as nodes of the same graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import pi, sqrt

from sgdsim.formulas.graph import Graph, Node, below

_BRANCHES = {"where": (2, 3), "min": (0, 1), "max": (0, 1)}
"""Numbers of the arguments that a choice may leave unused, by its name."""


def gradient(graph: Graph, loss: Node, symbols: Sequence[Node]) -> list[Node]:
    """The derivatives of a number with respect to arrays, each of the shape of its array.

    Examples
    --------
    >>> from sgdsim.formulas.graph import evaluate
    >>> import numpy as np
    >>> graph = Graph()
    >>> w = graph.name("w", (2,))
    >>> slope, = gradient(graph, graph.total(graph.elementwise("*", w, w)), [w])
    >>> evaluate([slope], {"w": np.array([[1.0], [3.0]])})[0].ravel()
    array([2., 6.])
    """
    nodes = below([loss])
    moving = {symbol.place for symbol in symbols}
    for node in nodes:
        if any(argument.place in moving for argument in node.arguments):
            moving.add(node.place)
    branches = _in_branches(nodes)
    shares: dict[int, Node] = {loss.place: graph.number(1.0)}
    for node in reversed(nodes):
        share = shares.get(node.place)
        if share is None or node.place not in moving:
            continue
        unused = node.place in branches and node.operation in _SLOPES
        for argument, slope in _shares(graph, node, share):
            if argument.place not in moving:
                continue
            part = _fitted(graph, _guarded(graph, slope, share) if unused else slope, argument)
            before = shares.get(argument.place)
            shares[argument.place] = part if before is None else graph.elementwise("+", before, part)
    return [shares.get(symbol.place, graph.filled(0.0, symbol.shape)) for symbol in symbols]


def _in_branches(nodes: Sequence[Node]) -> set[int]:
    """The nodes within branches of a choice such as ``where``, whose values may not be used."""
    found: set[int] = set()
    for node in reversed(nodes):
        if node.operation in _BRANCHES:
            found.update(node.arguments[i].place for i in _BRANCHES[node.operation])
        if node.place in found:
            found.update(argument.place for argument in node.arguments)
    return found


def _guarded(graph: Graph, slope: Node, share: Node) -> Node:
    """A slope, with zero wherever the share is zero: zero times the infinite slope of a branch not taken is NaN."""
    zero = graph.number(0.0)
    return graph.elementwise("where", zero, graph.elementwise("abs", share), slope, zero)


def _fitted(graph: Graph, share: Node, argument: Node) -> Node:
    """A share in the shape of its argument: summed if the argument is a number, repeated if it is an array."""
    if share.shape == argument.shape:
        return share
    return graph.filled(share, argument.shape) if argument.shape else graph.total(share)


def _shares(graph: Graph, node: Node, share: Node) -> Iterator[tuple[Node, Node]]:
    """Pairs of each argument of a node and the share that the chain rule adds to the derivative by that argument."""
    match node.operation:
        case "product":
            left, right, letters = node.detail
            first, second = node.arguments
            yield first, graph.product(letters, right, left, share, second)
            yield second, graph.product(letters, left, right, share, first)
        case "total":
            whole = node.arguments[0]
            yield whole, graph.view(share, node.detail, whole.shape)
        case "view":
            yield node.arguments[0], _unviewed(graph, node, share)
        case "place":
            yield node.arguments[0], graph.view(share, node.detail, node.arguments[0].shape)
        case "stack":
            for i, part in enumerate(node.arguments):
                yield part, graph.view(share, _index(i, node.shape), ())
        case _:
            yield from _elementwise(graph, node, share)


def _unviewed(graph: Graph, node: Node, share: Node) -> Node:
    """The derivative by the array under a view: an entry that the view shows several times gets the sum."""
    whole, axes = node.arguments[0], node.detail
    kept = tuple(sorted({axis for axis in axes if axis >= 0}))
    part = graph.total(share, kept) if len(share.shape) > len(kept) else share
    renamed = tuple(kept.index(axis) if axis >= 0 else axis for axis in axes)
    if sorted(renamed) == list(range(len(whole.shape))):
        return graph.view(part, tuple(map(renamed.index, range(len(renamed)))), whole.shape)
    return graph.placed(part, renamed, whole.shape)


def _index(place: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    indices = []
    for length in reversed(shape):
        indices.append(~(place % length))
        place //= length
    return tuple(reversed(indices))


def _elementwise(graph: Graph, node: Node, share: Node) -> Iterator[tuple[Node, Node]]:
    e, number = graph.elementwise, graph.number
    arguments = node.arguments
    if node.operation in _SLOPES:
        yield arguments[0], _SLOPES[node.operation](graph, share, node, arguments[0])
        if node.operation == "/":
            yield arguments[1], e("negative", e("/", e("*", share, node), arguments[1]))
        elif node.operation == "**" and arguments[1].operation != "number":
            yield arguments[1], e("*", e("*", share, node), e("log", arguments[0]))
        return
    zero = number(0.0)
    match node.operation, arguments:
        case "+", [a, b]:
            yield a, share
            yield b, share
        case "-", [a, b]:
            yield a, share
            yield b, e("negative", share)
        case "negative", [a]:
            yield a, e("negative", share)
        case "*", [a, b]:
            yield a, e("*", share, b)
            yield b, e("*", share, a)
        case "min", [a, b]:  # a where they are equal
            yield a, e("where", b, a, zero, share)
            yield b, e("where", b, a, share, zero)
        case "max", [a, b]:
            yield a, e("where", a, b, zero, share)
            yield b, e("where", a, b, share, zero)
        case "where", [a, b, x, y]:
            yield x, e("where", a, b, share, zero)
            yield y, e("where", a, b, zero, share)
        case (("sign" | "step"), _):
            return


def _power(graph: Graph, share: Node, node: Node, base: Node) -> Node:
    exponent = node.arguments[1]
    less = graph.elementwise("-", exponent, graph.number(1.0))
    return graph.elementwise("*", share, graph.elementwise("*", exponent, graph.elementwise("**", base, less)))


def _by(function: Callable[..., Node]) -> Callable[[Graph, Node, Node, Node], Node]:
    """The rule of an elementwise operation: the share times the slope that the function gives."""

    def share_of(graph: Graph, share: Node, node: Node, argument: Node) -> Node:
        def e(operation: str, *arguments: Node | float) -> Node:
            return graph.elementwise(operation, *(graph.named(argument) for argument in arguments))

        return graph.elementwise("*", share, function(e, node, argument))

    return share_of


_SLOPES: dict[str, Callable[[Graph, Node, Node, Node], Node]] = {
    "/": lambda graph, share, node, _: graph.elementwise("/", share, node.arguments[1]),
    "**": _power,
    "sqrt": lambda graph, share, node, _: graph.elementwise(
        "/", share, graph.elementwise("*", graph.number(2.0), node)
    ),
    "log": lambda graph, share, _, x: graph.elementwise("/", share, x),
    "exp": _by(lambda e, y, x: y),
    "sin": _by(lambda e, y, x: e("cos", x)),
    "cos": _by(lambda e, y, x: e("negative", e("sin", x))),
    "tan": _by(lambda e, y, x: e("+", 1.0, e("*", y, y))),
    "tanh": _by(lambda e, y, x: e("-", 1.0, e("*", y, y))),
    "sinh": _by(lambda e, y, x: e("cosh", x)),
    "cosh": _by(lambda e, y, x: e("sinh", x)),
    "atan": _by(lambda e, y, x: e("/", 1.0, e("+", 1.0, e("*", x, x)))),
    "erf": _by(lambda e, y, x: e("*", 2 / sqrt(pi), e("exp", e("negative", e("*", x, x))))),
    "abs": _by(lambda e, y, x: e("sign", x)),
    "relu": _by(lambda e, y, x: e("step", x)),
    "softplus": _by(lambda e, y, x: e("sigmoid", x)),
    "sigmoid": _by(lambda e, y, x: e("*", y, e("-", 1.0, y))),
}
"""Rule for the share of the first argument, by elementwise function."""
