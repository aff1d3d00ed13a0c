"""Plans of a graph of arrays in a step of a tile: the results that are kept, their rows of scratch, and the order.

If only one loop needs a result, once for each entry, it is computed within that loop: chains of elementwise operations
and outer products cost no memory. All others are kept in scratch, from their own loop to the last one that reads them.
Views are never computed: their entries are read at other indices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sgdsim.formulas.arrays import Shape
from sgdsim.formulas.graph import Node, below

SCRATCH = "scratch[{row} * LANES + lane]"


@dataclass(frozen=True)
class Place:
    """The place of the entries of an array.

    Attributes
    ----------
    pattern
        The text of an entry, given its row.
    first
        The row of the first entry.
    strides
        Rows from one entry to the next, along each axis.
    array
        The array that has the rows; empty if an entry is computed when it is read.
    shared
        True if a row is one number, which all lanes share.
    a_sample
        Rows from one sample of a batch to the next.
    """

    pattern: str
    first: int = 0
    strides: tuple[int, ...] = ()
    array: str = ""
    shared: bool = False
    a_sample: int = 0

    def row(self, indices: Sequence[int | str]) -> str:
        """The text of the row of an entry, from indices that are numbers or names."""
        pairs = [(*_split(index), stride) for index, stride in zip(indices, self.strides, strict=True)]
        fixed = self.first + sum(shift * stride for _, shift, stride in pairs)
        moving = [(name, stride) for name, _, stride in pairs if name and stride]
        moving += [("sample", self.a_sample)] * bool(self.a_sample)
        terms = [str(fixed)] * bool(fixed or not moving)
        terms += [index if stride == 1 else f"{index} * {stride}" for index, stride in moving]
        return f"({' + '.join(terms)})" if len(terms) > 1 or " " in terms[0] else terms[0]

    def entry(self, indices: Sequence[int | str]) -> str:
        """The text of an entry.

        Examples
        --------
        >>> Place(SCRATCH, 3, (4, 1), "scratch").entry(("i", 2))
        'scratch[(5 + i * 4) * LANES + lane]'
        """
        return self.pattern.format(row=self.row(indices))

    def viewed(self, axes: tuple[int, ...], shape: Shape) -> Place:
        """The place of a view of the array."""
        strides = [0] * len(shape)
        first = self.first
        for axis, stride in zip(axes, self.strides, strict=True):
            if axis >= 0:
                strides[axis] += stride
            else:
                first += ~axis * stride
        return Place(self.pattern, first, tuple(strides), self.array, self.shared, self.a_sample)


def _split(index: int | str) -> tuple[str, int]:
    """The name in an index, and the number that is added to it."""
    if isinstance(index, int):
        return "", index
    name, _, shift = index.partition(" + ")
    return name, int(shift or 0)


def by_rows(shape: Shape) -> tuple[int, ...]:
    """The strides of an array whose entries stand row by row.

    Examples
    --------
    >>> by_rows((6, 4)), by_rows((3,)), by_rows(())
    ((4, 1), (1,), ())
    """
    strides = []
    stride = 1
    for length in reversed(shape):
        strides.append(stride)
        stride *= length
    return tuple(reversed(strides))


@dataclass(frozen=True)
class Output:
    """An array that a function leaves behind.

    Attributes
    ----------
    place
        The place that is written to.
    node
        The node whose entries are written.
    loop
        The name of a loop: outputs of one loop, arrays of one shape, are written together.
    operator
        ``=``, or ``+=`` to add to the place.
    """

    place: Place
    node: Node
    loop: str
    operator: str = "="


@dataclass
class Stage:
    """Results that are computed together, in one loop over the entries of a shape; or one sum of products."""

    shape: Shape
    writes: list[Output]
    reads: set[int] = field(default_factory=set)
    varies: bool = False

    @property
    def is_total(self) -> bool:
        """True if the stage adds up the entries of its loop."""
        return self.writes[0].node.operation == "total" and self.writes[0].loop == ""

    @property
    def is_product(self) -> bool:
        """True if the stage is a sum of products."""
        return self.writes[0].loop == "" and is_sum_of_products(self.writes[0].node)


def is_sum_of_products(node: Node) -> bool:
    """True if a node is a product that is summed over some of its letters."""
    return node.operation == "product" and bool({*node.detail[0], *node.detail[1]} - {*node.detail[2]})


class Plan:
    """The arrays that are kept, their places, and the stages in which they are computed.

    Parameters
    ----------
    outputs
        The arrays that are wanted; formulas read the old entries of an array that is overwritten.
    places
        The place of each name.
    varying
        Names whose values differ between the samples of a batch, if stages are repeated for each sample; else None.
    taken
        Rows of scratch that are in use.

    Attributes
    ----------
    stages
        The stages, in the order in which they are computed.
    kept
        The place of each result that is kept, by the place of its node in the graph.
    rows
        Rows of scratch in use, those that were taken before among them.
    """

    def __init__(
        self,
        outputs: Sequence[Output],
        places: Mapping[str, Place],
        varying: frozenset[str] | None = None,
        taken: int = 0,
    ) -> None:
        self.places = places
        self._outputs = outputs
        self._nodes = below(output.node for output in outputs)
        self._forced: set[int] = set()
        self._choose()
        self._avoid_overwriting()
        self._repeats = varying is not None
        self.stages = self._made(varying or frozenset())
        if self._repeats:  # stages that all samples share come before the first sample
            self.stages.sort(key=lambda stage: stage.varies)
        self.rows = taken
        self.kept = self._allocated(taken)

    def place(self, node: Node) -> Place | None:
        """The place of the entries of a node; None for a node that is computed when it is read."""
        if node.place in self.kept:
            return self.kept[node.place]
        if node.operation == "name":
            return self.places[node.detail]
        if node.operation == "view":
            whole = self.place(node.arguments[0])
            return whole and whole.viewed(node.detail, node.shape)
        return None

    def _choose(self) -> None:
        """Choose the results that are kept, and for the others the loop in which they are computed."""
        users: dict[int, list[Any]] = defaultdict(list)
        for node in self._nodes:
            for argument in node.arguments:
                users[argument.place].append(node)
        for output in self._outputs:
            users[output.node.place].append(output)
        self._kept: set[int] = set()
        self._loops: dict[int, object] = {}
        self._uniform: set[int] = set()  # numbers that all lanes share: a compiler takes them out of loops
        for node in self._nodes:
            if node.shape == () and self._is_uniform(node):
                self._uniform.add(node.place)
        pointed: set[int] = set()  # nodes that a sum of products reads by their rows
        for node in reversed(self._nodes):
            if is_sum_of_products(node):
                pointed.update(argument.place for argument in node.arguments)
            if node.operation == "view" and node.place not in self._forced:
                if node.place in pointed:
                    pointed.add(node.arguments[0].place)
            elif self._is_kept(node, users[node.place], node.place in pointed):
                self._kept.add(node.place)

    def _is_kept(self, node: Node, users: Sequence[Any], pointed: bool) -> bool:
        if node.place in self._forced or is_sum_of_products(node) or node.operation in ("total", "stack"):
            return True
        if node.operation == "number" or node.place in self._uniform:
            return pointed and not (node.operation == "name" and self.places[node.detail].array)
        if node.operation == "name":
            place, alone = self.places[node.detail], len(users) == 1 and _shape_of(users[0]) == node.shape
            return not place.array and "[" in place.pattern and (pointed or not alone)
        loops = {self._loop_for(user, node) for user in users}
        if pointed or len(loops) > 1 or None in loops:
            return True
        self._loops[node.place] = loops.pop()
        return False

    def _is_uniform(self, node: Node) -> bool:
        if node.operation == "name":
            place = self.places[node.detail]
            return place.shared or "[" not in place.pattern
        made = node.is_elementwise or node.operation in ("view", "number")
        return made and all(part.place in self._uniform for part in node.arguments)

    def _loop_for(self, user: Any, node: Node) -> object:
        """The loop in which a user reads each entry of a node once, at the same index; None if it reads otherwise."""
        if isinstance(user, Output):
            return user.loop
        own = user.place if user.place in self._kept else self._loops.get(user.place)
        same = user.is_elementwise and user.shape == node.shape
        return own if same or user.operation in ("total", "stack") else None

    def _avoid_overwriting(self) -> None:
        """Keep results that would be computed from entries which their own or another loop may have overwritten."""
        written: dict[str, set[Place]] = defaultdict(set)
        for output in self._outputs:
            written[output.loop].add(output.place)
        everything = set().union(*written.values())
        arrays = {place.array for place in everything} - {""}

        def is_in_danger(node: Node, loop: str) -> bool:
            if node.place in self._kept:
                return False
            if node.operation == "name":
                place = self.places[node.detail]
                return place.array in arrays and place not in written[loop]
            same = node.is_elementwise
            return any(
                is_in_danger(part, loop) if same else _named_in(self.place_of_name(part), arrays)
                for part in node.arguments
            )

        endangered = {output.node.place for output in self._outputs if is_in_danger(output.node, output.loop)}
        if endangered:
            self._forced |= endangered
            self._choose()

    def place_of_name(self, node: Node) -> Place | None:
        """The place of a name that a node, or what it is a view of, stands for; None for other nodes."""
        while node.operation == "view":
            node = node.arguments[0]
        named = node.operation == "name" and node.place not in self._kept
        return self.places[node.detail] if named else None

    def _made(self, varying: frozenset[str]) -> list[Stage]:
        varies: set[int] = set()
        stages = []
        for node in self._nodes:
            named = node.operation == "name" and node.detail in varying
            if named or any(argument.place in varies for argument in node.arguments):
                varies.add(node.place)
            if node.place in self._kept:
                shape = node.arguments[0].shape if node.operation == "total" else node.shape
                output = Output(Place(""), node, "")
                stages.append(Stage(shape, [output], self._read_by(node), node.place in varies))
        loops: dict[str, list[Output]] = defaultdict(list)
        for output in self._outputs:
            loops[output.loop].append(output)
        for outputs in loops.values():
            reads = set().union(*(self._read_by(output.node, own=True) for output in outputs))
            stages.append(Stage(outputs[0].node.shape, outputs, reads, varies=True))
        return stages

    def _read_by(self, node: Node, own: bool = False) -> set[int]:
        """The kept nodes that are read to compute a node; with `own`, itself if it is kept."""
        if own and node.place in self._kept:
            return {node.place}
        found: set[int] = set()
        waiting = list(node.arguments)
        while waiting:
            part = waiting.pop()
            if part.place in self._kept:
                found.add(part.place)
            else:
                waiting += part.arguments
        return found

    def _allocated(self, taken: int) -> dict[int, Place]:
        """Rows of scratch for all results that are kept; rows that are not read any more are used again."""
        last = {place: index for index, stage in enumerate(self.stages) for place in stage.reads}
        steady = {stage.writes[0].node.place for stage in self.stages if self._repeats and not stage.varies}
        free = [(taken, 1 << 40)]
        found: dict[int, Place] = {}
        sizes: dict[int, int] = {}
        for index, stage in enumerate(self.stages):
            node = stage.writes[0].node
            if stage.writes[0].loop == "":
                first = _take(free, node.size)
                sizes[node.place] = node.size
                found[node.place] = Place(SCRATCH, first, by_rows(node.shape), "scratch")
                self.rows = max(self.rows, first + node.size)
                stage.writes[0] = Output(found[node.place], node, "")
            for place in [p for p in sizes if last.get(p, index) <= index and p not in steady]:
                _give(free, found[place].first, sizes.pop(place))
        return found


def _shape_of(user: Node | Output) -> Shape:
    return user.node.shape if isinstance(user, Output) else user.shape


def _named_in(place: Place | None, arrays: set[str]) -> bool:
    return place is not None and place.array in arrays


def _take(free: list[tuple[int, int]], size: int) -> int:
    """The first of enough free rows, which are then taken."""
    for index, (start, stop) in enumerate(free):
        if stop - start >= size:
            free[index : index + 1] = [(start + size, stop)] if start + size < stop else []
            return start
    raise AssertionError("the last rows have no end")


def _give(free: list[tuple[int, int]], first: int, size: int) -> None:
    """Make rows free again, and join neighbouring gaps."""
    free.append((first, first + size))
    free.sort()
    for index in range(len(free) - 1, 0, -1):
        if free[index - 1][1] == free[index][0]:
            free[index - 1 : index + 1] = [(free[index - 1][0], free[index][1])]


def parts_of(node: Node, kept: Mapping[int, Place]) -> Iterator[Node]:
    """The nodes that are computed together with a node, each once, the node itself last."""
    found: dict[int, Node] = {}
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if part.place not in found:
            found[part.place] = part
            waiting += [one for one in part.arguments if one.place not in kept]
    yield from (found[place] for place in sorted(found))
