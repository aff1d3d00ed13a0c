"""The lines that find the largest eigenvalue of the Hessian of the population loss, of any number of parameters.

The Hessian is never made: its product with a direction is the gradient of the gradient along the direction, by two
sweeps back over the graph of the loss, a mean over the points of `model.population_points`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sgdsim.formulas.backpropagation import gradient
from sgdsim.formulas.graph import Node
from sgdsim.formulas.vectors import base_name
from sgdsim.kernels.array_names import STATE, ArrayNames
from sgdsim.kernels.array_plan import SCRATCH, Output, Place, Plan
from sgdsim.kernels.array_text import ArrayText
from sgdsim.kernels.fused import fused
from sgdsim.kernels.pasted import indent, pasted
from sgdsim.kernels.program import Program

PATH = "path[{row} * LANES + lane]"
_TURNS = 256  # most turns of the search; a network of 144 parameters takes 10 to 60
_CLOSE = {"float64": 1e-6, "float32": 1e-4}  # residual at which a search ends, relative to the largest eigenvalue
FOUND_AT = {STATE: 1, PATH: 2}
"""Rows of scratch for the eigenvalue at the state, and at the state before a step; row 0 has other uses."""


class Curvature(ArrayNames):
    """Writer of the search for the largest eigenvalue, see `eigenvalue`.

    Parameters
    ----------
    program
        A program that asks for the eigenvalue.
    text
        The collector of the functions that the lines call.
    """

    def __init__(self, program: Program, text: ArrayText) -> None:
        super().__init__(program.loss)
        self._program, self._text = program, text
        self._points = program.points
        self._found: dict[
            str, str
        ] = {}  # texts of functions by pattern: one is compiled once for all observables that call it
        n = len(self.loss.parameters)
        self._turns = min(4 * n, _TURNS)
        names = ("OPEN", "DIRECTION", "BEFORE", "PRODUCT", "ALPHA", "BETA")
        self._rows, row = {}, 1 + len(FOUND_AT)
        for name, size in zip(names, (1, n, n, n, self._turns, self._turns), strict=True):
            self._rows[name] = row
            row += size
        self.rows = self._free = row

    def functions(self) -> str:
        """The text of the functions of the search."""
        rows = {"FOUND": FOUND_AT[STATE], **self._rows}
        numbers = {"SIZE": len(self.loss.parameters), "TURNS": self._turns, "POINTS": float(len(self._points.values))}
        numbers |= {"CLOSE": _CLOSE[self._program.dtype], **rows}
        settings = [f"{name} = {value!r}" for name, value in numbers.items()]
        return "\n".join([*settings, fused(pasted("eigenvalue.py")), *map(fused, self._found.values())])

    def lines(self, pattern: str = STATE) -> list[str]:
        """The lines that leave the eigenvalue at the state, or at that before a step, in its row of scratch."""
        array = pattern.partition("[")[0]
        if pattern not in self._found:
            turn = [*self._product(pattern), "if search(scratch, turn) == 0:", "    break"]
            body = [
                "wide_vectors()",
                "distinct_arrays()",
                "begin_search(scratch)",
                f"for turn in range({self._turns}):",
                *indent(turn),
            ]
            signature = f"def largest_eigenvalue_of_{array}({array}, scratch, constants):"
            self._found[pattern] = "\n".join(["@device", signature, *indent(body), ""])
        find = [f"largest_eigenvalue_of_{array}({array}, scratch, constants)"]
        if pattern == STATE:
            return find
        kept, found = (f"scratch[{FOUND_AT[one]} * LANES + lane]" for one in (pattern, STATE))
        return [*find, "for lane in range(LANES):", f"    {kept} = {found}"]

    def _product(self, pattern: str) -> list[str]:
        """The product of the Hessian with the direction, a sum over the points."""
        loss, points = self.loss, self._points
        carried = self._arrays(loss.carried, "" if pattern == STATE else "before.", 0, pattern)
        constants = list(self._program.constants)
        first = len(constants) - points.values.size
        given = self._arrays(points.names, "point.", first, "constants[{row}]", len(points.names))
        fixed = [name for name in constants[:first] if name in loss.constants]
        namespace = self._defined({**carried, **self._fixed(fixed, constants), **given})
        theta = {base_name(key): carried[base_name(key)] for key in loss.parameters}
        value = self._sum([self._read(text, namespace) for text in points.formulas])
        keys = sorted(loss.parameters, key=lambda key: list(theta).index(base_name(key)))  # each array together
        direction = self._arrays(keys, "direction.", self._rows["DIRECTION"], SCRATCH)
        slopes = gradient(self.graph, value, list(theta.values()))
        along = [
            self.graph.total(self.graph.elementwise("*", slope, direction[base]))
            for base, slope in zip(theta, slopes, strict=True)
        ]
        product = gradient(self.graph, self._sum(along), list(theta.values()))
        self._arrays(keys, "product.", self._rows["PRODUCT"], SCRATCH)
        places = {base: self.places[f"product.{base}"] for base in theta}
        # The planner must not know it for the array of the direction: it would then keep a copy of each.
        apart = {base: Place(one.pattern, one.first, one.strides, "product") for base, one in places.items()}
        outputs = [Output(apart[base], node, base, "+=") for base, node in zip(theta, product, strict=True)]
        varying = frozenset(name for name in self.places if name.startswith("point."))
        plan = Plan(outputs, self.places, varying, taken=self._free)
        self.rows = max(self.rows, plan.rows)
        once = [stage for stage in plan.stages if not stage.varies]
        each = [stage for stage in plan.stages if stage.varies]
        return [
            "forget_product(scratch)",
            *self._text.lines(plan, once),
            f"for sample in range({len(points.values)}):",
            *indent(self._text.lines(plan, each)),
        ]

    def _fixed(self, names: Sequence[str], constants: Sequence[str]) -> dict[str, Node]:
        rows: dict[str, list[int]] = {}
        for name in names:
            rows.setdefault(base_name(name), []).append(constants.index(name))
        return {
            base: self._located(base, self.loss.shapes[base], found, "constants[{row}]") for base, found in rows.items()
        }

    def _sum(self, nodes: Sequence[Node]) -> Node:
        total, *rest = nodes
        for node in rest:
            total = self.graph.elementwise("+", total, node)
        return total
