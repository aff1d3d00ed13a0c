"""Plain Python: nothing is compiled, and every step can be debugged."""
# mypy: ignore-errors
# ruff: noqa: D103

# --- pasted from here on ---

import numpy as np

from sgdsim.kernels.fused import fma  # noqa: F401


def _plain(function):
    return function


square_root = np.sqrt  # math.sqrt raises where the compiled one gives NaN

device = lane_loop = tile_loop = inlined = entry = called = _plain


def call(function, arguments):
    function(*arguments)


def wide_vectors():
    pass


def distinct_arrays():
    pass


def always_inline():
    pass


def flush_subnormals():
    return 0


def restore_subnormals(mode):
    pass


LANE_STRIDE = 1


def mirrored(lane):
    return lane & 1


def first_lane():
    return 0


def is_leader():
    return True


def total(count):
    return count


def barrier():
    pass


def add_one(counts, index):
    counts[index] += np.uint32(1)


def row_of(values, row, lanes):
    return values[row * lanes : (row + 1) * lanes]
