"""The CPU: loops over the lanes of a tile, of which LLVM makes SIMD."""
# mypy: ignore-errors
# ruff: noqa: D103, F821

# --- pasted from here on ---

import math
import platform

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.core.ccallback import CFunc
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

square_root = math.sqrt

_X86 = platform.machine() in ("x86_64", "AMD64")

# No fast-math: contraction and reassociation would make bits depend on processor and compiler, nnan would break
# divergence tests. Where a product is fused, the text says so; see `fused`.
# Nothing here owns memory: without numba's counting of references, which is atomic, tuples of arrays cost nothing.
_options = {"nogil": True, "error_model": "numpy", "_nrt": False}
# What only compiled code calls needs no wrapper that unpacks Python's arguments, which are tuples of arrays: that saves
# a fifth of the time to compile. What Python or another module calls is kept on disk.
device = lane_loop = tile_loop = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_options)
# What is tiny, or called from one place, is typed there and compiled nowhere else: that saves a tenth of it.
inlined = njit(inline="always", **_options)
entry = njit(cache=True, no_cfunc_wrapper=True, **_options)


def called(function):
    """A function that the engine calls by its address, as `interface` says; not compiled yet, as `numba.cfunc` would.

    Its arrays are bare pointers: an index into them is what it says, and LLVM has a fifth of the text to read.
    """
    arrays = {"deviates": NOISE, "kicks": NOISE, "rows": np.uint32, "weights": np.float64, "ends": np.int64}
    numbers = dict.fromkeys(("running", "completed", "looked"), types.int64) | {"part": from_dtype(np.dtype(REAL))}
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    kinds = [numbers.get(name) or types.CPointer(from_dtype(np.dtype(arrays.get(name, REAL)))) for name in names]
    callback = CFunc(function, (tuple(kinds), types.void), {}, _options)
    callback.enable_caching()
    return callback


@intrinsic
def call(context, address, arguments):
    """Call a function by its address; arrays become the addresses of their first elements."""

    def codegen(context, builder, signature, values):
        address, parts = values[0], cgutils.unpack_tuple(builder, values[1])
        for i, kind in enumerate(signature.args[1]):
            if isinstance(kind, types.Array):
                parts[i] = context.make_array(kind)(context, builder, parts[i]).data
        function = ir.FunctionType(ir.VoidType(), [part.type for part in parts])
        builder.call(builder.inttoptr(address, function.as_pointer()), parts)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), codegen


@intrinsic
def row_of(context, values, row, lanes):
    """``values[row * lanes : (row + 1) * lanes]`` in a tenth of the instructions: nothing is negative or too large.

    Not ``values[row * lanes + lane]`` in a loop: an index that may be negative, for all LLVM knows, makes a gather.
    """

    def codegen(context, builder, signature, arguments):
        whole = context.make_array(values)(context, builder, arguments[0])
        part = context.make_array(values)(context, builder)
        place, length = builder.mul(arguments[1], arguments[2]), arguments[2]
        if values.layout == "C":
            data = builder.gep(whole.data, [place])
        else:
            byte = ir.IntType(8).as_pointer()
            skip = builder.mul(place, builder.extract_value(whole.strides, 0))
            data = builder.bitcast(builder.gep(builder.bitcast(whole.data, byte), [skip]), whole.data.type)
        part.meminfo, part.parent = whole.meminfo, whole.parent
        part.data, part.nitems, part.itemsize, part.strides = data, length, whole.itemsize, whole.strides
        part.shape = builder.insert_value(whole.shape, length, 0)
        return part._getvalue()

    return values(values, types.int64, types.int64), codegen


@intrinsic
def fma(context, a, b, c):
    """``a*b + c``, rounded once."""
    real = types.float64 if types.float64 in (a, b, c) else types.float32

    def codegen(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return real(real, real, real), codegen


@intrinsic
def wide_vectors(context):
    """Let LLVM use 512-bit vectors where the processor has them: measured 1.25 times as fast as its default."""

    def codegen(context, builder, signature, arguments):
        # llvmlite checks attributes against a list that lacks this one; `set.add` goes past the check.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def distinct_arrays(context):
    """Promise that no two arrays of the calling function overlap: LLVM then needs no scalar copy of its loops."""

    def codegen(context, builder, signature, arguments):
        for argument in builder.function.args[2:]:  # behind where the result and the error go
            if isinstance(argument.type, ir.PointerType):
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return types.void(), codegen


def _control_register(builder, access, value):
    """Store (st) or load (ld) the control register of x86 vectors; its value before."""
    pointer = cgutils.alloca_once_value(builder, value)
    byte = ir.IntType(8).as_pointer()
    function = ir.FunctionType(ir.VoidType(), [byte])
    callee = cgutils.get_or_insert_function(builder.module, function, f"llvm.x86.sse.{access}mxcsr")
    builder.call(callee, [builder.bitcast(pointer, byte)])
    return builder.load(pointer)


@intrinsic
def flush_subnormals(context):
    """Take subnormal numbers for zero in this thread, until `restore_subnormals`: x86 is 20 times as slow with them.

    A parameter that decays to zero would stay subnormal for ever. Other processors have no such penalty.
    """

    def codegen(context, builder, signature, arguments):
        mode = ir.Constant(ir.IntType(32), 0)
        if _X86:
            mode = _control_register(builder, "st", mode)
            _control_register(builder, "ld", builder.or_(mode, mode.type(0x8040)))
        return mode

    return types.int32(), codegen


@intrinsic
def restore_subnormals(context, mode):
    def codegen(context, builder, signature, arguments):
        if _X86:
            _control_register(builder, "ld", arguments[0])
        return context.get_dummy_value()

    return types.void(types.int32), codegen


@intrinsic
def always_inline(context):
    """Inline the calling function before LLVM looks for vectors: it thinks Box-Muller too long, and 0.8 become 7 ns.

    numba's own inline="always" does it too, but types every copy anew: measured three times the compile time where
    there are many.
    """

    def codegen(context, builder, signature, arguments):
        builder.function.attributes.add("alwaysinline")
        return context.get_dummy_value()

    return types.void(), codegen


LANE_STRIDE = 1


@inlined
def mirrored(lane):
    return lane & 1


@inlined
def first_lane():
    return 0


@inlined
def is_leader():
    return True


@inlined
def total(count):
    return count


@inlined
def barrier():
    return None


@inlined
def add_one(counts, index):
    counts[index] += np.uint32(1)
