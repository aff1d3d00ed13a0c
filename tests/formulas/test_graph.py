"""Graphs of array operations: their values, and gradients by one sweep back, against NumPy and finite differences."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from sgdsim.formulas.backpropagation import gradient
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.graph import Graph, Node, below, evaluate
from tests.random_arrays import Expressions

LANES = 3


def built(text: str, shapes: dict[str, tuple[int, ...]]) -> tuple[Graph, Node, dict[str, Node]]:
    graph = Graph()
    names = {name: graph.name(name, shape) for name, shape in shapes.items()}
    return graph, Formula.parse(text).in_algebra(names, graph, vector=True), names


def case(seed: int) -> tuple[str, dict[str, tuple[int, ...]]]:
    expressions = Expressions(Random(seed))
    while True:
        text = expressions.scalar(4)
        if len(text) < 1500 and expressions.shapes:
            return text, expressions.shapes


def values_of(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.uniform(0.2, 1.2, (*shape, LANES)) * rng.choice([-1, 1], (*shape, LANES))
        for name, shape in shapes.items()
    }


def entry_by_entry(text: str, values: dict[str, np.ndarray]) -> np.ndarray:
    """The value by numbers alone: each lane an array of numbers, as formulas are evaluated elsewhere."""
    lanes = [{name: value[..., lane].tolist() for name, value in values.items()} for lane in range(LANES)]
    return np.array([Formula.parse(text).evaluate(one) for one in lanes])


def differences(loss: Node, values: dict[str, np.ndarray], name: str, h: float = 1e-6) -> np.ndarray:
    """The derivative by every entry of a name, by central differences."""
    slopes = np.empty_like(values[name])
    for place in np.ndindex(slopes.shape[:-1]):
        sides = []
        for sign in (1, -1):
            moved = values[name].copy()
            moved[place] += sign * h
            sides.append(evaluate([loss], {**values, name: moved})[0])
        slopes[place] = (sides[0] - sides[1]) / (2 * h)
    return slopes


@pytest.mark.parametrize("block", range(10))
def test_random_gradients(block: int) -> None:
    """200 formulas: the value is that of the entries, and the gradient that of differences.

    A kink within 1e-6 of the point, where differences are wrong, is not met at these seeds.
    """
    for seed in range(20 * block, 20 * block + 20):
        text, shapes = case(seed)
        values = values_of(shapes, seed)
        graph, loss, names = built(text, shapes)
        np.testing.assert_allclose(
            np.broadcast_to(evaluate([loss], values)[0], LANES), entry_by_entry(text, values), rtol=1e-12, atol=1e-12
        )
        slopes = gradient(graph, loss, list(names.values()))
        for (name, node), slope in zip(names.items(), slopes, strict=True):
            assert slope.shape == node.shape
            expected = differences(loss, values, name)
            found = np.broadcast_to(evaluate([slope], values)[0], expected.shape)
            scale = max(1.0, float(abs(expected).max()))
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7 * scale, err_msg=f"{seed}: {name} of {text}")


def test_a_wrong_gradient_is_found() -> None:
    """The negative control: the slope of another formula."""
    graph, loss, names = built("norm2(W@x)", {"W": (2, 3), "x": (3,)})
    values = values_of({"W": (2, 3), "x": (3,)}, 1)
    (slope,) = gradient(graph, Formula.parse("norm2(W@x)/2").in_algebra(names, graph), [names["W"]])
    assert abs(evaluate([slope], values)[0] - differences(loss, values, "W")).max() > 0.1


def test_nothing_is_computed_twice() -> None:
    """The residual of a network is one node, however often its definition is used; the sweep uses it too."""
    graph, loss, names = built("norm2(W@x - y) + norm2(W@x - y)*sum(W@x - y)", {"W": (2, 3), "x": (3,), "y": (2,)})
    nodes = below([loss, *gradient(graph, loss, [names["W"]])])
    products = [node for node in nodes if node.operation == "product" and node.detail == ("ij", "j", "i")]
    assert len(products) == 1


@pytest.mark.parametrize("n", [4, 64])
def test_size_does_not_make_a_graph_larger(n: int) -> None:
    shapes = {"A": (n, n), "B": (n, n), "x": (n,), "y": (n,)}
    graph, loss, names = built("norm2(B@tanh(A@x) - y)/2", shapes)
    assert len(below([loss, *gradient(graph, loss, [names["A"], names["B"]])])) < 30


def test_a_branch_that_is_not_taken_has_no_slope() -> None:
    """The root of a negative number has no slope, and none is wanted."""
    graph, loss, names = built("sum(where(v < 0, v*v, sqrt(v)))", {"v": (2,)})
    (slope,) = gradient(graph, loss, [names["v"]])
    found = evaluate([slope], {"v": np.array([[-2.0, 4.0], [0.0, -1.0]])})[0]
    np.testing.assert_array_equal(found[0], [-4.0, 0.25])
    assert np.isinf(found[1, 0])  # the root is taken at zero
    assert found[1, 1] == -2.0
