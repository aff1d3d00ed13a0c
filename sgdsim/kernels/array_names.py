"""The names in formulas of a loss, as nodes of a graph whose entries stand in rows of an array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sgdsim.formulas.arrays import Shape
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.graph import Graph, Node
from sgdsim.formulas.vectors import base_name
from sgdsim.kernels.array_plan import Place, by_rows
from sgdsim.model.loss import Loss

STATE = "state[{row} * LANES + lane]"


class ArrayNames:
    """Nodes of a graph by name, and where their entries are.

    Parameters
    ----------
    loss
        The loss whose formulas are read.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.graph = Graph()
        self.places: dict[str, Place] = {}

    def _arrays(
        self, keys: Sequence[str], prefix: str, first: int, pattern: str = STATE, a_sample: int = 0
    ) -> dict[str, Node]:
        """Arrays whose entries stand in an array in the order of some keys, from the first row on."""
        rows: dict[str, list[int]] = {}
        for row, key in enumerate(keys, first):
            rows.setdefault(base_name(key), []).append(row)
        return {
            base: self._located(f"{prefix}{base}", self.loss.shapes[base], found, pattern, a_sample)
            for base, found in rows.items()
        }

    def _located(self, name: str, shape: Shape, rows: Sequence[int], pattern: str, a_sample: int = 0) -> Node:
        """The array whose entries stand in given rows; if they are not evenly spaced, a stack of single numbers."""
        computed = "mirrored" in pattern or "+ row" in pattern
        array = "" if computed else pattern.removeprefix("REAL(").partition("[")[0]
        shared = array in ("constants", "arguments")
        step = rows[1] - rows[0] if len(rows) > 1 else 1
        if list(rows) == list(range(rows[0], rows[0] + step * len(rows), step)):
            strides = tuple(step * stride for stride in by_rows(shape))
            self.places[name] = Place(pattern, rows[0], strides, array, shared, a_sample)
            return self.graph.name(name, shape)
        for index, row in enumerate(rows):
            self.places[f"{name}#{index}"] = Place(pattern, row, (), array, shared, a_sample)
        return self.graph.stack([self.graph.name(f"{name}#{i}", ()) for i in range(len(rows))], shape)

    def _local(self, name: str, text: str) -> Node:
        """A number that a function has in a variable."""
        self.places[name] = Place(text)
        return self.graph.name(name, ())

    def _defined(self, namespace: dict[str, Node]) -> dict[str, Node]:
        """The names, with the definitions that can be computed from them."""
        for name, text in self.loss.definitions.items():
            parts = [Formula.parse(part) for part in ([text] if isinstance(text, str) else text)]
            if all(part.names <= {*namespace, "pi"} for part in parts):
                nodes = [self._read(part.text, namespace) for part in parts]
                namespace[name] = nodes[0] if isinstance(text, str) else self.graph.stack(nodes, (len(nodes),))
        return namespace

    def _read(self, text: str, namespace: Mapping[str, Node]) -> Node:
        """The node of a formula, with the loss's numbers in exponents."""
        found: Node = Formula.parse(text).in_algebra(namespace, self.graph, vector=True, numbers=self.loss.numbers)
        return found
