"""The loss of a sample and its gradient in double precision, computed with whole matrices, not entry by entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from sgdsim.formulas.backpropagation import gradient
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.graph import Graph, Node, below, evaluate, operations_of
from sgdsim.formulas.names import aliased
from sgdsim.formulas.vectors import base_name, coordinates
from sgdsim.model.written_loss import WrittenLoss

Values = Mapping[str, np.ndarray]
"""Values at many points, by coordinate."""


class LossGraph:
    """The loss of a sample and its gradient at given points.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> graph = LossGraph(Loss("norm2(W@x)/2", ("W[1,2]",), {"x": [1.0, 2.0]}))
    >>> graph.slopes({"W[0,0]": np.array([3.0]), "W[0,1]": np.array([0.0])})["W"].ravel()
    array([3., 6.])
    """

    def __init__(self, loss: WrittenLoss) -> None:
        self._loss, self._graph = loss, Graph()
        given = (*loss.carried, *loss.constants, *loss.random)
        self._given = {name: loss.shapes[name] for name in dict.fromkeys(map(base_name, given))}
        self._names = {name: self._graph.name(name, shape) for name, shape in self._given.items()}
        for name, text in loss.definitions.items():
            parts = [self._read(part) for part in ([text] if isinstance(text, str) else text)]
            self._names[name] = parts[0] if isinstance(text, str) else self._graph.stack(parts, (len(parts),))

    def _read(self, text: str) -> Node:
        found: Node = Formula.parse(text).in_algebra(self._names, self._graph, vector=True, numbers=self._loss.numbers)
        return found

    @cached_property
    def loss(self) -> Node:
        """The node of the loss."""
        return self._read(self._loss.formula)

    @cached_property
    def _slopes(self) -> dict[str, Node]:
        bases = list(dict.fromkeys(map(base_name, self._loss.parameters)))
        slopes = gradient(self._graph, self.loss, [self._names[base] for base in bases])
        return dict(zip(bases, slopes, strict=True))

    def value(self, values: Values) -> np.ndarray:
        """The loss, shape (point,)."""
        return self._at([self.loss], values)[0]

    def slopes(self, values: Values) -> dict[str, np.ndarray]:
        """The gradient of the loss by parameter, each of shape (axes of the parameter…, point)."""
        return dict(zip(self._slopes, self._at(list(self._slopes.values()), values), strict=True))

    @cached_property
    def operations(self) -> int:
        """Number of floating-point operations of the gradient, or of the directions in its place, and of the states.

        A result that is used twice is counted once; a function such as the exponential counts as one operation.

        Examples
        --------
        The residual takes four operations, its product with x two.

        >>> from sgdsim.model.loss import Loss
        >>> LossGraph(Loss("(dot(w, x) - y)**2/2", ("w[0]", "w[1]"), {"x": [3.0, 4.0], "y": 1.0})).operations
        7
        """
        directions = self._loss.direction
        bases = {base_name(name) for name in directions}
        texts = [part for text in directions.values() for part in ([text] if isinstance(text, str) else text)]
        texts += [state.formula for state in self._loss.states.values()]
        slopes = self._slopes if self._loss.formula else {}
        outputs = [slope for base, slope in slopes.items() if base not in bases]
        known = {**self._names, **{f"gradient__{base}": slope for base, slope in slopes.items()}}
        known |= {f"next__{name}": node for name, node in self._names.items()}
        known |= {name: self._graph.name(name, ()) for name in ("learning_rate", "t") if name not in known}
        for text in texts:
            formula = Formula.parse(aliased(text))
            outputs.append(formula.in_algebra(known, self._graph, vector=True, numbers=self._loss.numbers))
        return sum(map(operations_of, below(outputs)))

    def _at(self, nodes: Sequence[Node], values: Values) -> list[np.ndarray]:
        everything = {**{name: np.array([value]) for name, value in self._loss.constants.items()}, **values}
        points = max(map(len, everything.values()))
        arrays = {
            name: np.stack([np.broadcast_to(everything[key], points) for key in coordinates(name, shape)])
            for name, shape in self._given.items()
        }
        shaped = {name: value.reshape(*self._given[name], points) for name, value in arrays.items()}
        return [
            np.broadcast_to(found, (*node.shape, points))
            for node, found in zip(nodes, evaluate(nodes, shaped), strict=True)
        ]
