"""Sums of products on the CPU, written as vectors of lanes; `products` has their definition.

A text of loops would cost numba a second for each hundred products, and LLVM does not see that a dozen sums fit into
registers. Here a block of results is summed up in registers over all k and l, for a vector of lanes at a time: a loaded
entry is multiplied with as many others as the block has rows, or columns.
"""
# mypy: ignore-errors
# ruff: noqa: F821

# --- pasted from here on ---

import itertools
from contextlib import contextmanager

VECTOR_BYTES = 64  # vectors of AVX-512; if those of a processor are shorter, LLVM takes several
MOST_SUMS = 8  # most sums in registers at a time
ITEM_BYTES = np.dtype(REAL).itemsize


def sum_of_products(extents, strides, shared):
    """A function that sets an array to a sum of products; its parameters are those in `products`."""

    @intrinsic
    def products(context, out, out_row, first, first_row, second, second_row):
        def codegen(context, builder, signature, arguments):
            Products(builder, arguments, extents, strides, shared).write()
            return context.get_dummy_value()

        return types.void(out, types.int64, first, types.int64, second, types.int64), codegen

    return products


class Products:
    """Writer of the code of one sum of products."""

    def __init__(self, builder, arguments, extents, strides, shared):
        self.builder, self.extents, self.strides = builder, extents, strides
        self.arrays, self.first_rows = arguments[::2], arguments[1::2]
        self.shared = False, *shared
        self.width = min(VECTOR_BYTES // ITEM_BYTES, LANES)
        self.real = ir.FloatType() if ITEM_BYTES == 4 else ir.DoubleType()
        self.vector = ir.VectorType(self.real, self.width)
        name = f"llvm.fma.v{self.width}f{8 * ITEM_BYTES}"
        self.fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(self.vector, [self.vector] * 3), name)

    def write(self):
        """Write all blocks of the result, row by row."""
        n_i, n_j, _, _ = self.extents
        most_i = MOST_SUMS if n_j == 1 else 2
        most_j = MOST_SUMS // min(n_i, most_i)
        for start_i, stop_i, width_i in parts(n_i, most_i):
            for start_j, stop_j, width_j in parts(n_j, most_j):
                vectors = min(MOST_SUMS // (width_i * width_j), LANES // self.width)
                entries = [*itertools.product(range(width_i), range(width_j), range(vectors))]
                with (
                    self.loop(start_i, stop_i, width_i, within=False) as i,
                    self.loop(start_j, stop_j, width_j, within=False) as j,
                    self.loop(0, LANES, vectors * self.width, within=False) as lane,
                ):
                    self.block(i, j, lane, entries)

    def block(self, i, j, lane, entries):
        """Write the sums of some entries next to each other, for some vectors of lanes."""
        builder = self.builder
        zero = ir.Constant(self.vector, [ir.Constant(self.real, 0.0)] * self.width)
        sums = [cgutils.alloca_once(builder, self.vector) for _ in entries]
        for total in sums:
            builder.store(zero, total)
        with self.loop(0, self.extents[2], 1) as k, self.loop(0, self.extents[3], 1) as m:
            known = {}
            for entry, total in zip(entries, sums, strict=True):
                factors = [self.factor(which, (i, j, k, m), entry, lane, known) for which in (1, 2)]
                builder.store(builder.call(self.fma, (*factors, builder.load(total))), total)
        for entry, total in zip(entries, sums, strict=True):
            builder.store(builder.load(total), self.address(0, (i, j), entry, lane), align=ITEM_BYTES)

    def factor(self, which, place, entry, lane, known):
        """An entry of an array, loaded once for all sums of a block that need it."""
        moves = [step if stride else 0 for step, stride in zip(entry, self.strides[which], strict=False)]
        key = which, *moves, 0 if self.shared[which] else entry[2]
        if key not in known:
            known[key] = self.load(which, place, entry, lane)
        return known[key]

    def load(self, which, place, entry, lane):
        """A vector of lanes of an entry, as wide as the state."""
        pointer = self.address(which, place, entry, lane)
        value = self.builder.load(pointer, align=self.item_bytes(which))
        if not self.shared[which]:
            return value if value.type == self.vector else self.builder.fpext(value, self.vector)
        empty, lanes = ir.Constant(self.vector, ir.Undefined), ir.VectorType(ir.IntType(32), self.width)
        one = self.builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(one, empty, ir.Constant(lanes, [0] * self.width))

    def address(self, which, place, entry, lane):
        """The address of a vector of lanes of an entry, or of the number that all lanes share."""
        builder, array = self.builder, self.arrays[which]
        row = self.first_rows[which]
        for index, stride in zip(place, self.strides[which], strict=False):
            row = builder.add(row, builder.mul(index, number(stride)))
        row = builder.add(
            row, number(sum(s * stride for s, stride in zip(entry[:2], self.strides[which], strict=False)))
        )
        if self.shared[which]:
            return builder.gep(array, [row])
        start = builder.add(builder.mul(row, number(LANES)), builder.add(lane, number(entry[2] * self.width)))
        vector = ir.VectorType(array.type.pointee, self.width)
        return builder.bitcast(builder.gep(array, [start]), vector.as_pointer())

    def item_bytes(self, which):
        """Bytes of a number in an array; deviates may be narrower than the state."""
        return 4 if self.arrays[which].type.pointee == ir.FloatType() else 8

    @contextmanager
    def loop(self, start, stop, step, within=True):
        """Context whose code is repeated for each index of a range; LLVM may write out only the innermost loops.

        It would else write out most loops of small matrices: that is half the time to compile a step of muon.
        """
        last = number(stop) if within or stop - start <= step else self.hidden(number(stop))
        with cgutils.for_range_slice(self.builder, number(start), last, number(step), inc=True) as (index, _):
            yield index

    def hidden(self, value):
        """A number whose value LLVM cannot see."""
        kind = ir.FunctionType(value.type, [value.type])
        return self.builder.asm(kind, "", "=r,0", [value], side_effect=False)


def number(value):
    """A whole number as a constant of the code."""
    return ir.Constant(ir.IntType(64), value)


def parts(n, width):
    """An axis cut into steps of a width, with the rest at its end in one step."""
    width = min(n, width)
    whole = n // width * width
    return [(start, stop, step) for start, stop, step in ((0, whole, width), (whole, n, n - whole)) if start < stop]
