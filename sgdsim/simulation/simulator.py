"""One run on one device, in blocks of trajectories over spans of steps.

A unit of work is a block of at most 2^17 trajectories over a span of steps. A block runs all its steps before the
next begins, so its state stays in cache. Between units the whole state of a block is one plain value, `Block`. So a
run can be interrupted, watched, saved or moved between units, and its numbers do not depend on that. The executor
decides where a block runs and how many trajectories it has; see `kernels.block`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.kernels.accumulators import Accumulators
from sgdsim.kernels.block import Block, Common
from sgdsim.kernels.plan import Plan
from sgdsim.kernels.program import GROUPS, Program
from sgdsim.kernels.workers import Workers
from sgdsim.model.run import Run
from sgdsim.model.starts import Grid, Listed, Stored
from sgdsim.simulation import control_weights as theory_of_controls
from sgdsim.simulation.devices import Device, executor
from sgdsim.simulation.kept_states import kept_step
from sgdsim.simulation.result_arrays import shapes, snapshot_steps
from sgdsim.simulation.stored_states import stored_values

SPAN_SECONDS = 0.05
_FIRST_SPAN = 4  # steps of the first span, when the speed is not known


def program_of(run: Run, plan: Plan) -> Program:
    """Program of a run, from which its kernels are generated."""
    return Program(
        run.loss,
        run.optimizer,
        {n: 0.0 if isinstance(start, Grid | Listed | Stored) else start for n, start in run.starts.items()},
        run.observables,
        run.dtype,
        run.noise_dtype,
        drifts=bool(plan.drift_bins),
        antithetic=run.antithetic,
        stops=run.bounds,
    )


class Simulator:
    """One run on one device, divided into units of work.

    Parameters
    ----------
    run
        The run to simulate.
    point
        Number of the point in the random counter; equal numbers give equal noise.
    device
        Device on which to simulate; by default the CPU.
    workers
        Threads of the CPU to run on; by default the caller's thread alone.
    groups
        First and last (excluded) of the groups of trajectories that are simulated; by default all.
    keeps
        True if states are kept, see `kept_states`. Then blocks stop at the step from which a longer run would continue,
        and a last, partly filled tile is a block of its own.
    """

    def __init__(
        self,
        run: Run,
        point: int = 0,
        device: str | Device = "cpu",
        workers: Workers | None = None,
        groups: tuple[int, int] = (0, GROUPS),
        keeps: bool = False,
    ) -> None:
        self.run = run
        self.groups = groups
        self.keeps = keeps
        self._plan = Plan(run)
        self.program = program_of(run, self._plan)
        self.lanes = self.program.lanes
        self.record_steps = run.recorder.record_steps(run.steps)
        self.snapshot_steps = snapshot_steps(run)
        self._rates = run.schedule.rates(run.steps)
        common = Common(
            run.trajectories,
            run.steps,
            (np.uint32(run.seed & 0xFFFFFFFF), np.uint32(run.seed >> 32)),
            point,
            self.program.constant_array(),
            self.program.initial_array(),
            self.program.windows(),
            self.program.ends(),
            theory_of_controls.weights(run),
            self.program.data_array(),
            self.record_steps,
            self.snapshot_steps,
            self._plan,
        )
        self.executor = executor(Device.parse(device), self.program, common, workers or Workers(1))
        self._span = _FIRST_SPAN

    @property
    def kernel(self) -> Any:
        """Generated module of the kernels."""
        return self.executor.kernel

    @property
    def n_tiles(self) -> int:
        """Number of tiles of the ensemble; the last one is padded."""
        return -(-self.run.trajectories // self.lanes)

    def compile(self) -> None:
        """Compile the kernels, or load them from the cache, by a shortest possible run."""
        empty = {name: np.empty((0,) * len(shape), dtype) for name, (shape, dtype) in shapes(self.run).items()}
        self.executor.compile(Accumulators(**empty, status=None))

    def tiles(self) -> np.ndarray:
        """Indices of the tiles that are simulated, which belong to the chosen groups."""
        index = np.arange(self.n_tiles)
        return index[(index % GROUPS >= self.groups[0]) & (index % GROUPS < self.groups[1])]

    def work(self, before: int | None = None) -> int:
        """Number of trajectory-steps of these tiles, or of those before a given one."""
        tiles = self.tiles()
        tiles = tiles if before is None else tiles[tiles < before]
        padding = self.n_tiles * self.lanes - self.run.trajectories if self.n_tiles - 1 in tiles[-1:] else 0
        return (len(tiles) * self.lanes - padding) * self.run.steps

    def cuts(self, block_trajectories: int | None = None, begin: int = 0) -> Iterator[tuple[int, int]]:
        """First tile and number of tiles of each block, from a given tile on."""
        # An interrupt waits for at least four steps of a block, so blocks are smaller if steps take long.
        trajectories = size_of_piece("block_trajectories", block_trajectories) or self.executor.block_trajectories
        most = tiles_of_a_block(self.program, trajectories)
        low, high = self.groups
        whole = (low, high) == (0, GROUPS)
        strips = [(0, self.n_tiles)] if whole else [(row + low, row + high) for row in range(0, self.n_tiles, GROUPS)]
        if self.keeps:
            full = self.run.trajectories // self.lanes
            strips = [(0, full), (full, self.n_tiles)]
        for start, stop in strips:
            for first in range(max(start, begin), min(stop, self.n_tiles), most):
                yield first, min(most, min(stop, self.n_tiles) - first)

    def blocks(self, block_trajectories: int | None = None, begin: int = 0) -> Iterator[Block]:
        """Initial states of all blocks from a given tile on, one at a time."""
        number, given_starts = self.run.trajectories, self.run.starts
        grids = {name: start for name, start in given_starts.items() if isinstance(start, Grid)}
        stored = {name: start for name, start in given_starts.items() if isinstance(start, Stored)}
        states = stored_values(stored, number)
        states |= {name: start.values() for name, start in given_starts.items() if isinstance(start, Listed)}
        for first_tile, tiles in self.cuts(block_trajectories, begin):
            block = self.executor.block(first_tile, tiles)
            first, last = self._trajectories(block)
            given = {name: grid.values(first, last) for name, grid in grids.items()}
            given |= {name: column[first:last] for name, column in states.items()}
            for name, column in given.items():
                values = np.full(block.tiles * self.lanes, np.nan)
                values[: last - first] = column
                self.executor.put(block, self.program.variables.index(name), values.reshape(-1, self.lanes))
            yield block

    def restored(self, saved: Block) -> Block:
        """Block on this device, in the state that was saved."""
        block = self.executor.block(saved.first_tile, saved.tiles)
        self.executor.restore(block, saved)
        return block

    def trajectories_in(self, block: Block) -> int:
        """Number of trajectories of a block, without padding."""
        first, last = self._trajectories(block)
        return last - first

    def advance(self, block: Block, stop: int, into: Accumulators) -> None:
        """Run a block up to `stop` completed steps, a multiple of 4 or the last step, and measure on the way."""
        table = self.program.step_table(self._rates[block.step : stop], block.step)
        self.executor.advance(block, stop, table, into)
        if stop == self.run.steps:
            first, last = self._trajectories(block)
            status = self.executor.fetch(block.status).reshape(-1)[: last - first]
            found = np.flatnonzero(status)
            into.status.put(first, last, first + found, status[found])
            if self.run.stop:
                passages = self.final_state(block)[list(self.program.stop_rows), : last - first]
                into.stopped[:, first:last] = _stopped(passages)
            if self._plan.drift_bins:
                for tile, changes in enumerate(self.executor.fetch(block.changes), block.first_tile):
                    into.changes[tile % GROUPS] += changes

    def final_state(self, block: Block) -> np.ndarray:
        """Values of all variables in all trajectories of a block, with padding, shape (variable, trajectory)."""
        state = self.executor.fetch(block.state).reshape(block.tiles, -1, self.lanes)
        return state.swapaxes(0, 1).reshape(-1, block.tiles * self.lanes)

    def spans(self, block: Block, into: Accumulators, span_steps: int | None = None) -> Iterator[int]:
        """Run a block to the end, span by span, and yield the number of trajectory-steps of each span.

        Parameters
        ----------
        block
            The block, whose state is changed.
        into
            Accumulators to which the measurements are added.
        span_steps
            Number of steps of a span, rounded up to a multiple of 4; by default as many as take about `SPAN_SECONDS`.
            The results do not depend on it.

        Raises
        ------
        InputError
            For less than one step.
        """
        first, last = self._trajectories(block)
        given = size_of_piece("span_steps", span_steps)
        pause = kept_step(self.run.steps) if self.keeps else self.run.steps
        while block.step < self.run.steps:
            start, began = block.step, time.perf_counter()
            # Kernels draw the noise of four steps at a time, and look for divergence once in four.
            stop = pause if start < pause else self.run.steps
            self.advance(block, min(start + -(-(given or self._span) // 4) * 4, stop), into)
            ratio = SPAN_SECONDS / max(time.perf_counter() - began, 1e-6)
            # One measurement on a busy machine says little: the span grows by a factor of 4 at most.
            self._span = max(4, min(int(self._span * min(ratio, 4.0)), self.run.steps) // 4 * 4)
            yield (block.step - start) * (last - first)

    def _trajectories(self, block: Block) -> tuple[int, int]:
        first = block.first_tile * self.lanes
        return first, min(first + block.tiles * self.lanes, self.run.trajectories)


def _stopped(passages: np.ndarray) -> np.ndarray:
    """Number of the bound that each trajectory passed first, and the step, from the passages (bound, trajectory)."""
    passed = np.isfinite(passages)
    ended = passed.any(axis=0)
    steps = np.where(ended, np.where(passed, passages, np.inf).min(axis=0), -1.0)
    return np.stack([np.where(ended, passed.argmax(axis=0) + 1, 0), steps.astype(np.int64)])


def tiles_of_a_block(program: Program, trajectories: int) -> int:
    """Number of tiles of a block, such that it has ``trajectories`` of them, or fewer if the steps are costly."""
    tiles = max(trajectories // program.lanes, 1)
    return max(tiles // program.weight, min(tiles, GROUPS))


def size_of_piece(name: str, value: int | None) -> int | None:
    """Size of a block or span that the caller has chosen, at least 1."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InputError(f"{name}: {value!r}, expected a whole number from 1")
    return value
