"""Blocks on the CPU: compiled, on threads, or in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdsim.kernels import cache
from sgdsim.kernels.accumulators import Accumulators
from sgdsim.kernels.block import Block, Common, first_after
from sgdsim.kernels.program import Program
from sgdsim.kernels.workers import Workers


class Host:
    """Runs blocks on the CPU; see `Executor`.

    Parameters
    ----------
    program, common
        What to run.
    target
        ``cpu`` or ``python``.
    workers
        Threads to run on.
    """

    block_trajectories = 2**17  # whose state of a few variables stays in the L2 caches

    def __init__(self, program: Program, common: Common, target: str, workers: Workers) -> None:
        self.name = target
        self._program = program
        self._common = common
        self._workers = workers
        self.kernel = cache.load(program, target)

    def compile(self, empty: Accumulators) -> None:
        """Compile the kernels, or load them from the cache, by running them on no trajectories at all."""
        with cache.compiling():
            self.advance(self.block(0, 0), 0, self._program.step_table(np.empty(0), 0), empty)

    def block(self, first_tile: int, tiles: int) -> Block:
        """A block at its start."""
        common, lanes = self._common, self._program.lanes
        state = _aligned((tiles, self._program.n_variables * lanes), self._program.dtype)
        status = np.zeros((tiles, lanes), np.int64)
        counter = *common.key, common.point
        self.kernel.initialize(first_tile, common.trajectories, common.arguments, counter, state, status)
        return Block(first_tile, 0, state, status, np.zeros((tiles, common.plan.drift_bins, 3)))

    def put(self, block: Block, parameter: int, values: np.ndarray) -> None:
        """Give a parameter of every trajectory a value."""
        lanes = self._program.lanes
        block.state[:, parameter * lanes : (parameter + 1) * lanes] = values

    def advance(self, block: Block, stop: int, table: np.ndarray, into: Accumulators) -> None:
        """Run a block to so many completed steps."""
        common = self._common
        still_to_come = (first_after(steps, block.step) for steps in (common.record_steps, common.snapshot_steps))
        span = block.step, stop, common.steps, *still_to_come
        self._workers.run(
            self.kernel.advance,
            block.first_tile,
            span,
            (*common.key, common.point),
            (table, common.constants, common.windows, common.weights, common.data),
            (common.record_steps, common.plan.record, common.plan.drift, common.snapshot_steps),
            (into.moments, into.counts, into.comoments, into.cells, block.changes, into.theta),
            block.state,
            block.status,
        )
        block.step = stop

    def release(self) -> None:
        """Nothing is kept from span to span."""

    def fetch(self, array: Any) -> np.ndarray:
        """A field of a block."""
        return np.asarray(array)


def _aligned(shape: tuple[int, int], dtype: str) -> np.ndarray:
    """An empty array that starts on a cache line: straddling vectors cost 5 to 8 %."""
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + size].view(dtype).reshape(shape)
