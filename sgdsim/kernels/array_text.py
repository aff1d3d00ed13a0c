"""The text of a plan: a loop over entries for each stage, with the lanes innermost, or a call of a sum of products."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from sgdsim.formulas.graph import Node
from sgdsim.kernels.array_plan import Output, Place, Plan, Stage, parts_of
from sgdsim.kernels.printer import CHOICES, ELEMENTARY, KernelPrinter, product_of

Indices = Sequence[int | str]
Spec = tuple[tuple[int, ...], tuple[tuple[int, ...], ...], tuple[bool, bool]]

_ARITHMETIC = {
    "+": "({0} + {1})",
    "-": "({0} - {1})",
    "*": "({0} * {1})",
    "/": "({0} / {1})",
    "negative": "(-{0})",
    "sqrt": "REAL(square_root({0}))",
}


class ArrayText:
    """Prints plans.

    Parameters
    ----------
    dtype
        Dtype of the state.
    lanes
        Number of lanes of a tile.
    row
        Lines that find the row of the data, for the loops that read it.

    Attributes
    ----------
    functions
        Names of the texts of `elementary` that are used.
    products
        For the arguments of each call of `products.sum_of_products`, the name of the function that it makes: product_0,
        ….
    """

    def __init__(self, dtype: str, lanes: int, row: Sequence[str] = ()) -> None:
        self._printer = KernelPrinter(dtype)
        self._entries = max(1, _VECTORISED // lanes)
        self._row = row
        self.functions = self._printer.functions
        self.products: dict[Spec, str] = {}

    def lines(self, plan: Plan, stages: Iterable[Stage]) -> list[str]:
        """The lines of some stages of a plan."""
        lines: list[str] = []
        for stage in stages:
            if stage.is_product:
                lines.append(self._product(plan, stage.writes[0]))
            elif stage.is_total:
                total = stage.writes[0]
                lines += loop(total.node.shape, [f"{total.place.entry(_names(total.node.shape))} = REAL(0.0)"])
                lines += self._loop(plan, stage)
            elif stage.writes[0].loop == "" and stage.writes[0].node.operation == "stack":
                lines += self._stack(plan, stage.writes[0])
            else:
                lines += self._loop(plan, stage)
        return lines

    def _product(self, plan: Plan, output: Output) -> str:
        node = output.node
        summed = [letter for letter in dict.fromkeys(node.detail[0] + node.detail[1]) if letter not in node.detail[2]]
        letters = [*f"{node.detail[2]:2}", *f"{''.join(summed):2}"]
        places = [output.place, *map(plan.place, node.arguments)]
        sizes: dict[str, int] = {" ": 1}
        strides = []
        for place, word, shape in zip(
            places,
            (node.detail[2], *node.detail[:2]),
            (node.shape, *(one.shape for one in node.arguments)),
            strict=True,
        ):
            assert place is not None
            sizes |= zip(word, shape, strict=True)
            by_letter = dict(zip(word, place.strides, strict=True))
            strides.append(tuple(by_letter.get(letter, 0) for letter in letters))
        _, first, second = places
        assert first is not None
        assert second is not None
        spec = tuple(map(sizes.__getitem__, letters)), tuple(strides), (first.shared, second.shared)
        name = self.products.setdefault(spec, f"product_{len(self.products)}")
        arguments = [
            f"{place.array}, {place.row((0,) * len(place.strides))}" for place in (output.place, first, second)
        ]
        return f"{name}({', '.join(arguments)})"

    def _stack(self, plan: Plan, output: Output) -> list[str]:
        """The lines that write the entries of a stack, one number after the other."""
        whole = Place(output.place.pattern, output.place.first, (1,))
        lines = [f"{whole.entry((i,))} = {self._value(plan, part, ())}" for i, part in enumerate(output.node.arguments)]
        return loop((), self._with_row(lines))

    def _with_row(self, lines: list[str]) -> list[str]:
        """Lines with those before them that find the row of a sample, if they read data."""
        return [*self._row, *lines] if any("+ row]" in line or "+ row)" in line for line in lines) else lines

    def _loop(self, plan: Plan, stage: Stage) -> list[str]:
        indices = _names(stage.shape)
        roots = [self._root(plan, output) for output in stage.writes]
        uses: Counter[int] = Counter()
        parts: dict[int, Node] = {}
        own = {output.node.place for output in stage.writes if output.loop == ""}
        for root in roots:
            if root.place in own or root.place not in plan.kept:
                parts |= {part.place: part for part in parts_of(root, plan.kept)}
        for part in parts.values():
            for argument in part.arguments:
                uses[argument.place] += 2 if part.operation in _REPEATING else 1
        for root in roots:
            uses[root.place] += 1
        named = [
            part
            for _, part in sorted(parts.items())
            if (uses[part.place] > 1 and part.shape == stage.shape and part.operation not in ("number", "view"))
            or (part.operation in ELEMENTARY and part.place not in own)
        ]
        elementary = any(part.operation in ELEMENTARY for part in parts.values())
        pieces = _pieces(stage.shape, 1 if elementary else self._entries)
        lines: list[str] = []
        for start, stop, width in pieces:
            body: list[str] = []
            for step in range(width):
                at = (*indices[:-1], f"{indices[-1]} + {step}") if step else indices
                body += self._entries_at(plan, stage, (roots, named, own), at, f"_{step}" if step else "")
            lines += loop(stage.shape, self._with_row(body), range(start, stop, width))
        return lines

    def _entries_at(
        self,
        plan: Plan,
        stage: Stage,
        parts: tuple[Sequence[Node], Sequence[Node], set[int]],
        at: Sequence[int | str],
        tail: str,
    ) -> list[str]:
        """Lines that compute the entries of a stage at one index; the variables in them have a suffix."""
        roots, named, own = parts
        lines: list[str] = []
        names: dict[int, str] = {}
        for part in named:
            lines.append(f"v_{part.place}{tail} = {self._entry(plan, part, at, names, own)}")
            names[part.place] = f"v_{part.place}{tail}"
        values = [self._entry(plan, root, at, names, own) for root in roots]
        if len(values) > 1:
            lines += [f"w_{k} = {value}" for k, value in enumerate(values)]
            values = [f"w_{k}" for k in range(len(values))]
        for output, value in zip(stage.writes, values, strict=True):
            kept = [at[axis] for axis in output.node.detail] if stage.is_total else at
            operator = "+=" if stage.is_total else output.operator
            lines.append(f"{output.place.entry(kept)} {operator} {value}")
        return lines

    def _root(self, plan: Plan, output: Output) -> Node:
        if output.loop == "" and output.node.operation == "total":
            return output.node.arguments[0]
        return output.node

    def _entry(self, plan: Plan, node: Node, indices: Indices, names: dict[int, str], own: set[int]) -> str:
        """The text of an entry in a loop: the variable of a node that has one, else its place or its computation."""
        if node.place in names:
            return names[node.place]
        if node.place in plan.kept and node.place not in own:
            return plan.kept[node.place].entry(indices if node.shape else ())
        return self._computed(plan, node, indices, names, own)

    def _value(self, plan: Plan, node: Node, indices: Indices) -> str:
        return self._entry(plan, node, indices, {}, set())

    def _computed(self, plan: Plan, node: Node, indices: Indices, names: dict[int, str], own: set[int]) -> str:
        def entry(part: Node, at: Indices) -> str:
            return self._entry(plan, part, at if part.shape else (), names, own)

        match node.operation:
            case "name":
                return plan.places[node.detail].entry(indices)
            case "number":
                return self._printer.number(node.detail)
            case "view":
                return entry(node.arguments[0], [indices[axis] if axis >= 0 else ~axis for axis in node.detail])
            case "place":
                return self._placed(node, indices, entry(node.arguments[0], _inner(node, indices)))
            case "product":
                at = dict(zip(node.detail[2], indices, strict=True))
                factors = [
                    entry(part, [at[letter] for letter in word])
                    for part, word in zip(node.arguments, node.detail[:2], strict=True)
                ]
                return _ARITHMETIC["*"].format(*factors)
        return self._operation(node, [entry(argument, indices) for argument in node.arguments])

    def _placed(self, node: Node, indices: Indices, part: str) -> str:
        """The text of an entry of a larger array: that of a part if the entry is in it, else zero."""
        inner = _inner(node, indices)
        pairs = [(index, inner[axis] if axis >= 0 else ~axis) for index, axis in zip(indices, node.detail, strict=True)]
        conditions = [f"({index} == {wanted})" for index, wanted in pairs if index != wanted]
        return f"({part} if {' & '.join(conditions)} else {self._printer.number(0.0)})" if conditions else part

    def _operation(self, node: Node, texts: list[str]) -> str:
        name = node.operation
        if name == "**":
            return self._power(node, *texts)
        if name in ELEMENTARY:
            return self._printer.called(name, *texts)
        return (_ARITHMETIC.get(name) or CHOICES[name]).format(*texts)

    def _power(self, node: Node, base: str, exponent: str) -> str:
        by = node.arguments[1]
        if by.operation != "number" or not float(by.detail).is_integer() or not 1 < abs(by.detail) <= 64:
            if by.operation == "number" and by.detail == -1.0:
                return f"({self._printer.number(1.0)} / {base})"
            return self._printer.called("power", base, exponent)
        product = product_of(base, int(abs(by.detail)))
        return product if by.detail > 0 else f"({self._printer.number(1.0)} / {product})"


_REPEATING = ("**", *CHOICES)
"""Operations whose text repeats an argument."""


def _inner(node: Node, indices: Indices) -> list[int | str]:
    """The indices of a part, from those of the larger array that it is in."""
    length = len(node.arguments[0].shape)
    return [indices[node.detail.index(axis)] for axis in range(length)]


def _names(shape: tuple[int, ...]) -> tuple[int | str, ...]:
    """Names of the indices of a loop; an axis of one entry needs none."""
    return tuple(0 if length == 1 else name for length, name in zip(shape, "ij", strict=False))


_VECTORISED = 64
"""Entries times lanes in the body of a loop from which on LLVM makes vectors of it. Smaller loops it writes out lane by
lane: that took 90 ns a step instead of 20, on 16 lanes. Each entry in the text costs compilation, so there are no
more than needed."""


_WIDEST = 7  # most entries in the body of a loop


def _pieces(shape: tuple[int, ...], least: int) -> list[tuple[int, int, int]]:
    """The last axis, cut into loops: start, stop, and number of entries in the body of each.

    If no width divides the axis, a second loop has the remaining entries. With a single entry in the body, for axes of
    11, a step of two layers of 121 parameters took 261 ns.
    """
    length = shape[-1] if shape else 1
    if length == 1 or least == 1:
        return [(0, length, 1)]
    whole = [width for width in range(2, _WIDEST + 1) if length % width == 0]
    enough = [width for width in whole if width >= least]
    if enough or least > _WIDEST:  # a tile with so few lanes has no vectors anyway
        return [(0, length, [*enough, *whole[::-1], 1][0])]
    if length < least:
        return [(0, length, length)]
    width = max(range(least, _WIDEST + 1), key=lambda width: length % width)
    end = length - length % width
    return [piece for piece in ((0, end, width), (end, length, length - end)) if piece[0] < piece[1]]


def each_row(count: int, body: Sequence[str]) -> list[str]:
    """Lines for every lane of some rows, whose index is i; unlike `loop`, a single row has an index, too."""
    return [f"for i in range({count}):", *(f"    {line}" for line in loop((), body))]


def loop(shape: tuple[int, ...], body: Sequence[str], last: range | None = None) -> list[str]:
    """Lines for every lane of every entry of a shape; along the last axis only for the entries of a range."""
    lines = ["for lane in range(LANES):", *(f"    {line}" for line in body)]
    axes = [*zip(shape, _names(shape), strict=True)]
    for axis, (length, name) in reversed([*enumerate(axes)]):
        if name:
            steps = f"{length}"
            if last is not None and axis == len(axes) - 1 and last != range(length):
                steps = f"{last.start}, {last.stop}, {last.step}"
            lines = [f"for {name} in range({steps}):", *(f"    {line}" for line in lines)]
    return lines
