"""Blocks on the CPU: compiled, on threads, or in plain Python."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from sgdsim.kernels import cache
from sgdsim.kernels.accumulators import Accumulators
from sgdsim.kernels.block import Block, Common, first_after
from sgdsim.kernels.layout import Layout, table
from sgdsim.kernels.program import Program
from sgdsim.kernels.workers import Workers


class Host:
    """The executor that runs blocks on the CPU; see `Executor`.

    Parameters
    ----------
    program, common
        The program, and the data that all blocks share.
    target
        ``cpu`` or ``python``.
    workers
        The threads that run it.
    """

    block_trajectories = 2**17  # with a few variables, their state stays in the L2 caches

    def __init__(self, program: Program, common: Common, target: str, workers: Workers) -> None:
        self.name = target
        self._lanes = program.lanes
        self._program = program = _narrow(program, common.trajectories) if target == "python" else program
        self._common = common
        self._workers = workers
        self.layout = Layout(program)
        self.kernel = cache.load_engine(program.dtype, self.layout.noise_dtype, target)
        self.formula = cache.load(program, target)
        self._counter = *common.key, common.point, self.layout.pair
        self._scratch = self._allocate()
        self._draws, self._kicks = (
            (draws.steps_a_draw, draws.words_a_step, table(draws)) for draws in (self.layout.draws, self.layout.kicks)
        )

    @cached_property
    def functions(self) -> tuple[Any, ...]:
        """The functions, or their addresses, that the engine calls; see `interface`."""
        module, running = self.formula, self._program.running
        functions = module.initial_state, module.update, module.accumulate if running else None, module.observe
        if self.name == "python":
            return functions
        return tuple(_address(function) for function in functions)

    def notice(self) -> str:
        """A message if the engine must be compiled, which takes long."""
        if self.name == "python" or cache.is_compiled(self.kernel, "advance"):
            return ""
        dtypes = f"{self._program.dtype} states and {self.layout.noise_dtype} noise"
        return f"compiling the engine for {dtypes}, once on this machine …"

    def compile(self, empty: Accumulators) -> None:
        """Compile the kernels, or load them from the cache, by running them on no trajectories."""
        with cache.compiling():
            self.advance(self.block(0, 0), 0, self._program.step_table(np.empty(0), 0), empty)

    def block(self, first_tile: int, tiles: int) -> Block:
        """A block at its start."""
        common, lanes = self._common, self._program.lanes
        state = _aligned((tiles, self._program.n_variables * self._lanes), self._program.dtype)
        status = np.zeros((tiles, self._lanes), np.int64)
        block = Block(first_tile, 0, state, status, np.zeros((tiles, common.plan.drift_bins, 3)))
        if lanes < self._lanes:
            state[:], status[:, lanes:] = np.nan, -1  # the marks of padding
        starts, constants = self.layout.starts, self.layout.constants
        with self._lanes_to_run(block) as (state, status):
            self.kernel.initialize(
                self.functions,
                first_tile,
                common.trajectories,
                (table(starts), starts.rows, table(constants), constants.rows, table(self.layout.data)),
                common.arguments,
                common.ends,
                self._counter,
                state,
                status,
                np.empty(self.layout.initial_rows * lanes, self.layout.noise_dtype),
                np.empty(4 * lanes, np.uint32),
                _aligned((1, self.formula.SCRATCH_ROWS * lanes), self._program.dtype)[0],
            )
        return block

    @contextmanager
    def _lanes_to_run(self, block: Block) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Context with state and status of a block without lanes that are padding in every tile; changes are kept."""
        whole, few = self._lanes, self._program.lanes
        if whole == few:
            yield block.state, block.status
            return
        state, status = block.state.reshape(block.tiles, self._program.n_variables, whole)[..., :few], block.status
        run = state.reshape(block.tiles, self._program.n_variables * few), status[:, :few].copy()
        yield run
        state[:], status[:, :few] = run[0].reshape(state.shape), run[1]

    def put(self, block: Block, parameter: int, values: np.ndarray) -> None:
        """Give a parameter of every trajectory a value."""
        lanes = self._lanes
        block.state[:, parameter * lanes : (parameter + 1) * lanes] = values

    def restore(self, block: Block, saved: Block) -> None:
        """Copy to a block all that a saved one holds."""
        for field in ("state", "status", "changes"):
            getattr(block, field)[:] = getattr(saved, field)
        block.step = saved.step

    def advance(self, block: Block, stop: int, step_table: np.ndarray, into: Accumulators) -> None:
        """Run a block to a number of completed steps."""
        common, plan, program = self._common, self._common.plan, self._program
        still_to_come = (first_after(steps, block.step) for steps in (common.record_steps, common.snapshot_steps))
        numbers = len(program.running), int(plan.drift_bins > 0), np.uint64(program.optimizer.substeps)
        with self._lanes_to_run(block) as (state, status):
            self._workers.run(
                self.kernel.advance,
                block.first_tile,
                (block.step, stop, common.steps, *still_to_come),
                self._counter,
                (
                    program.lanes,
                    len(program.loss.parameters),
                    self._draws,
                    self._kicks,
                    self.layout.sampling_numbers(),
                    *numbers,
                ),
                (
                    self.functions,
                    step_table,
                    common.constants,
                    common.windows,
                    common.ends,
                    common.weight_rows,
                    common.data,
                ),
                (common.record_steps, plan.record, plan.drift, common.snapshot_steps),
                (into.moments, into.counts, into.comoments, into.cells, block.changes, into.theta),
                state,
                status,
                self._scratch,
            )
        block.step = stop

    def _allocate(self) -> tuple[np.ndarray, ...]:
        """Scratch of every worker; see `cpu_loop`."""
        program, layout, real = self._program, self.layout, self._program.dtype
        values = len(program.observable_names)
        rows = (
            (layout.draws.rows, layout.noise_dtype),
            (layout.kicks.rows, layout.noise_dtype),
            (layout.words.rows, "uint32"),
            (layout.order_rows, "uint8"),
            (4, "uint32"),
            (program.path_rows, real),
            (self.formula.SCRATCH_ROWS, real),
            (values, real),
            (values, real),
            (4, "float64"),
        )
        return tuple(_aligned((self._workers.count, n * program.lanes), dtype) for n, dtype in rows)

    def release(self) -> None:
        """Do nothing, as no memory is kept from span to span."""

    def fetch(self, array: Any) -> np.ndarray:
        """A field of a block as an array of NumPy."""
        return np.asarray(array)


def _narrow(program: Program, trajectories: int) -> Program:
    """A program with fewer lanes a tile if there are few trajectories, as plain Python takes its time for each lane.

    The number of lanes is a power of two with at least one lane of padding: then sums over lanes, which go by halves,
    have the same bits.
    """
    lanes = 2 ** trajectories.bit_length()
    return replace(program, width=lanes) if lanes < program.lanes else program


def _address(function: Any) -> int:
    """The address of a function, which is compiled or loaded when it is first asked for; 0 for None."""
    if function is None:
        return 0
    if function.address is None:
        function.compile()
    return int(function.address)


def _aligned(shape: tuple[int, int], dtype: str) -> np.ndarray:
    """An empty array that starts on a cache line: vectors across two lines cost 5 to 8 %."""
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + size].view(dtype).reshape(shape)
