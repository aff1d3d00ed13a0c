"""The simulator of CUDA: its threads are Python's, and only those that it has started know their number."""
# mypy: ignore-errors
# ruff: noqa: D103, F821

# --- pasted from here on ---

import numpy as np
from numba import cuda
from numba.cuda.simulator.kernel import _get_kernel_context as running

from sgdsim.kernels.fused import fma  # noqa: F401

square_root = np.sqrt


def _plain(function):
    return function


device = lane_loop = tile_loop = inlined = called = _plain
kernel = cuda.jit


def wide_vectors():
    pass


def distinct_arrays():
    pass


def always_inline():
    pass


LANE_STRIDE = TILE


def first_lane():
    return running().threadIdx.x


def mirrored(lane):
    return running().threadIdx.x & 1


def is_leader():
    return running().threadIdx.x == 0


def total(count):
    return running().syncthreads_count(count)


def barrier():
    running().syncthreads()


def add_one(counts, index):
    running().atomic.add(counts, index, np.uint32(1))
