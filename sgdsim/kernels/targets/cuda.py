"""A GPU: a thread is a lane, a block of threads a tile."""
# mypy: ignore-errors
# ruff: noqa: D103, F821

# --- pasted from here on ---

import math

import numpy as np
from numba import cuda

square_root = math.sqrt

# A step that is not inlined could not hold its arrays in registers.
device = cuda.jit(device=True, forceinline=True)
lane_loop = tile_loop = inlined = called = device if IN_STEP else cuda.jit(device=True)
kernel = cuda.jit(cache=True)


@device
def fma(a, b, c):
    return cuda.fma(a, b, c)


@device
def wide_vectors():
    pass


@device
def distinct_arrays():
    pass


@device
def always_inline():
    pass


LANE_STRIDE = TILE


@device
def first_lane():
    return cuda.threadIdx.x


@device
def mirrored(lane):
    return cuda.threadIdx.x & 1


@device
def is_leader():
    return cuda.threadIdx.x == 0


@device
def total(count):
    return cuda.syncthreads_count(count)


@device
def barrier():
    cuda.syncthreads()


@device
def add_one(counts, index):
    cuda.atomic.add(counts, index, np.uint32(1))
