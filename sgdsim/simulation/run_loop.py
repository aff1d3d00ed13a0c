"""Blocks of trajectories x spans of steps: the run loop, its progress and its state.

A unit of work is a block of at most 2^17 trajectories over a span of steps. A block runs all its steps before the
next begins, so its state stays in cache. Between units the whole state of a block is one plain value, `Block`, so
a run can be interrupted, watched, saved or moved at any unit, and its numbers depend on none of that. Where a block
runs, and how many trajectories it has there, is its executor's business; see `kernels.block`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from sgdsim.base import take
from sgdsim.base.errors import InputError
from sgdsim.base.memory import available_memory
from sgdsim.ensemble import Ensemble
from sgdsim.kernels.accumulators import Accumulators
from sgdsim.kernels.block import Block, Common
from sgdsim.kernels.plan import Plan
from sgdsim.kernels.program import GROUPS, Program
from sgdsim.kernels.workers import Workers
from sgdsim.model import rare_events
from sgdsim.model.run import Run
from sgdsim.model.starts import Grid, Listed, Stored
from sgdsim.simulation import control_weights as theory_of_controls
from sgdsim.simulation import provenance
from sgdsim.simulation.assembly import assemble
from sgdsim.simulation.devices import Device, choose, executor
from sgdsim.simulation.progress import Progress
from sgdsim.simulation.recorded_statistics import check_names
from sgdsim.simulation.stored_states import stored_values

SPAN_SECONDS = 0.05
_FIRST_SPAN = 4  # steps, before the speed is known


def program_of(run: Run, plan: Plan) -> Program:
    """What the kernels of a run are made from."""
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
    """One run on one device, ready to be cut into units of work.

    Parameters
    ----------
    run
        What to simulate.
    point
        Sweep point of the counter; equal points draw equal noise.
    device
        Where; by default the CPU.
    workers
        Threads of the CPU to run on; by default the caller's alone.
    """

    def __init__(self, run: Run, point: int = 0, device: str | Device = "cpu", workers: Workers | None = None) -> None:
        self.run = run
        self._plan = Plan(run)
        self.program = program_of(run, self._plan)
        self.lanes = self.program.lanes
        self.record_steps = run.recorder.record_steps(run.steps)
        self.snapshot_steps = np.array(sorted(set(run.recorder.snapshots)), dtype=np.int64)
        self._rates = run.schedule.rates(run.steps)
        common = Common(
            run.trajectories,
            run.steps,
            (np.uint32(run.seed & 0xFFFFFFFF), np.uint32(run.seed >> 32)),
            point,
            self.program.constant_array(),
            self.program.initial_array(),
            self.program.windows(),
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
        """The generated module."""
        return self.executor.kernel

    @property
    def n_tiles(self) -> int:
        """Tiles of the ensemble, the last one padded."""
        return -(-self.run.trajectories // self.lanes)

    def shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of each field of `Accumulators`."""
        run = self.run
        records = len(self.record_steps)
        kept = run.recorder.snapshot_trajectories or run.trajectories
        return {
            "theta": ((len(self.snapshot_steps), kept, len(run.loss.parameters)), run.dtype),
            "status": ((run.trajectories,), _index_dtype(run.steps)),
            "moments": ((records, GROUPS, len(run.measured), 5), "float64"),
            "counts": ((records, GROUPS, self._plan.bins), "uint32"),
            "comoments": ((records, GROUPS, self._plan.pairs, 4), "float64"),
            "cells": ((records, GROUPS, self._plan.cells), "uint32"),
            "changes": ((GROUPS, self._plan.drift_bins, 3), "float64"),
            "stopped": ((2, run.trajectories if run.stop else 0), _index_dtype(run.steps)),
        }

    def compile(self) -> None:
        """Compile the kernels, or load them from the cache, by running them on as little as there can be."""
        empty = {name: np.empty((0,) * len(shape), dtype) for name, (shape, dtype) in self.shapes().items()}
        self.executor.compile(Accumulators(**empty))

    def first_tiles(self, block_trajectories: int | None = None) -> range:
        """Where each block begins."""
        # Four steps of a block are the least that an interrupt waits for: heavy steps get smaller blocks.
        trajectories = _piece("block_trajectories", block_trajectories) or self.executor.block_trajectories
        tiles = max(trajectories // self.lanes, 1)
        return range(0, self.n_tiles, max(tiles // self.program.weight, min(tiles, GROUPS)))

    def blocks(self, block_trajectories: int | None = None) -> Iterator[Block]:
        """The initial states of all blocks, one at a time."""
        starts, number = self.first_tiles(block_trajectories), self.run.trajectories
        given_starts = self.run.starts
        grids = {name: start for name, start in given_starts.items() if isinstance(start, Grid)}
        stored = {name: start for name, start in given_starts.items() if isinstance(start, Stored)}
        states = stored_values(stored, number)
        states |= {name: start.values() for name, start in given_starts.items() if isinstance(start, Listed)}
        for first_tile in starts:
            block = self.executor.block(first_tile, min(starts.step, self.n_tiles - first_tile))
            first, last = self._trajectories(block)
            given = {name: grid.values(first, last) for name, grid in grids.items()}
            given |= {name: column[first:last] for name, column in states.items()}
            for name, column in given.items():
                values = np.full(block.tiles * self.lanes, np.nan)
                values[: last - first] = column
                self.executor.put(block, self.program.variables.index(name), values.reshape(-1, self.lanes))
            yield block

    def advance(self, block: Block, stop: int, into: Accumulators) -> None:
        """Run a block up to `stop` completed steps, a multiple of 4 or the last step, and measure it on the way."""
        table = self.program.step_table(self._rates[block.step : stop], block.step)
        self.executor.advance(block, stop, table, into)
        if stop == self.run.steps:
            first, last = self._trajectories(block)
            into.status[first:last] = self.executor.fetch(block.status).reshape(-1)[: last - first]
            if self.run.stop:
                passages = self.final_state(block)[list(self.program.stop_rows), : last - first]
                into.stopped[:, first:last] = _stopped(passages)
            if self._plan.drift_bins:
                for tile, changes in enumerate(self.executor.fetch(block.changes), block.first_tile):
                    into.changes[tile % GROUPS] += changes

    def final_state(self, block: Block) -> np.ndarray:
        """All variables of all its trajectories, padding too, shape (variable, trajectory)."""
        state = self.executor.fetch(block.state).reshape(block.tiles, -1, self.lanes)
        return state.swapaxes(0, 1).reshape(-1, block.tiles * self.lanes)

    def spans(self, block: Block, into: Accumulators, span_steps: int | None = None) -> Iterator[int]:
        """Run a block to the end, span by span; yields the trajectory-steps of each.

        Parameters
        ----------
        block
            Changed in place.
        into
            Measured into.
        span_steps
            How many at a time, taken up to a multiple of 4; by default, what takes about `SPAN_SECONDS`. Numbers do
            not depend on it.

        Raises
        ------
        InputError
            For less than one step at a time.
        """
        first, last = self._trajectories(block)
        given = _piece("span_steps", span_steps)
        while block.step < self.run.steps:
            start, began = block.step, time.perf_counter()
            # Kernels draw the noise of four steps at a time, and look for divergence once in four.
            self.advance(block, min(start + -(-(given or self._span) // 4) * 4, self.run.steps), into)
            ratio = SPAN_SECONDS / max(time.perf_counter() - began, 1e-6)
            # One measurement on a busy machine says little: the span grows by a factor of 4 at most.
            self._span = max(4, int(self._span * min(ratio, 4.0)) // 4 * 4)
            yield (block.step - start) * (last - first)

    def _trajectories(self, block: Block) -> tuple[int, int]:
        first = block.first_tile * self.lanes
        return first, min(first + block.tiles * self.lanes, self.run.trajectories)


def _stopped(passages: np.ndarray) -> np.ndarray:
    """Of the passages of each bound, (bound, trajectory): which was the first and when, as `Accumulators` has it."""
    passed = np.isfinite(passages)
    ended = passed.any(axis=0)
    steps = np.where(ended, np.where(passed, passages, np.inf).min(axis=0), -1.0)
    return np.stack([np.where(ended, passed.argmax(axis=0) + 1, 0), steps.astype(np.int64)])


def allocate(simulators: Sequence[Simulator]) -> Accumulators:
    """Accumulators of all points of a sweep, each array with a leading point axis."""
    shapes = max(simulators, key=lambda one: one.run.steps).shapes()
    n = len(simulators)
    return Accumulators(**{name: np.zeros((n, *shape), dtype) for name, (shape, dtype) in shapes.items()})


def output_bytes(runs: Sequence[Run]) -> int:
    """What all points of a sweep hold in memory, and nearly all that their file holds."""
    run, plan = max(runs, key=lambda one: one.steps), Plan(runs[0])
    parameters, measured = len(run.loss.parameters), len(run.measured)
    kept = run.recorder.snapshot_trajectories or run.trajectories
    snapshots = len(run.recorder.snapshots) * parameters * np.dtype(run.dtype).itemsize
    status = np.dtype(_index_dtype(run.steps)).itemsize
    status *= 3 if run.stop else 1  # when, and by what
    index = np.dtype(_index_dtype(run.trajectories)).itemsize
    a_record = GROUPS * (measured * 5 * 8 + plan.bins * 4 + plan.pairs * 4 * 8 + plan.cells * 4)
    statistics = len(run.recorder.record_steps(run.steps)) * a_record + GROUPS * plan.drift_bins * 3 * 8
    return len(runs) * (kept * snapshots + run.trajectories * status + statistics) + run.trajectories * index


def _index_dtype(largest: int) -> str:
    """Half the memory for what nearly always fits."""
    return "int32" if largest < 2**31 else "int64"


def simulate_runs(
    runs: Sequence[Run],
    *,
    scenario: str,
    common_noise: bool = False,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    title: str = "",
    device: str = "cpu",
    threads: int | None = None,
    block_trajectories: int | None = None,
    span_steps: int | None = None,
    progress: bool = False,
) -> Ensemble:
    """Simulate all points of a sweep.

    Parameters
    ----------
    runs
        One a point, alike in all shapes.
    scenario
        The resolved scenario as TOML, for the record.
    common_noise
        Whether all points draw the same noise.
    sweep
        The swept values by key; None for a single run without a point dimension.
    title
        What the file says it is.
    device
        ``cpu``; ``cuda``, or ``cuda:1`` for the second GPU; ``auto`` for the one of both that should end first; or
        ``python``, which runs the text of the kernels as it stands.
    threads
        Of the CPU; default: all.
    block_trajectories, span_steps
        How the run is cut, each at least 1; no number depends on it.
    progress
        Show a bar on standard error when that is a terminal.

    Raises
    ------
    InputError
        For more memory than there is, more threads, or an unknown device.
    RunError
        For a GPU that cannot be used.
    """
    progress = take.flag(progress, "progress")
    check_names(runs[0])
    _piece("block_trajectories", block_trajectories)
    _piece("span_steps", span_steps)
    _check_memory(output_bytes(runs))
    total = sum(run.trajectories * run.steps for run in runs)
    count = _thread_count(threads)
    chosen, reason = choose(Device.parse(device), total * program_of(runs[0], Plan(runs[0])).weight, count)
    workers = Workers(count if chosen.target == "cpu" else 1)
    # Diverging trajectories overflow on the plain target; they are counted, not warned about.
    with workers, Progress(total, progress) as bar, np.errstate(all="ignore"):
        simulators = [Simulator(run, 0 if common_noise else point, chosen, workers) for point, run in enumerate(runs)]
        results = allocate(simulators)
        started = provenance.now()
        began = time.perf_counter()
        for simulator in simulators:
            bar.say(simulator.executor.notice())
            simulator.compile()
        compiled = time.perf_counter()
        for point, simulator in enumerate(simulators):
            into = Accumulators(*(getattr(results, field.name)[point] for field in fields(Accumulators)))
            for block in simulator.blocks(block_trajectories):
                for done in simulator.spans(block, into, span_steps):
                    bar.update(done)
            simulator.executor.release()
    seconds = time.perf_counter() - compiled
    attributes = provenance.attributes(
        title=title,
        scenario=scenario,
        seed=str(runs[0].seed) if len({run.seed for run in runs}) == 1 else "swept",
        target=simulators[0].executor.name,
        dtype=runs[0].dtype,
        lanes=simulators[0].lanes,
        layout_version=max(simulator.program.layout_version for simulator in simulators),
        started=started,
        compile_seconds=compiled - began,
        seconds=seconds,
        trajectory_steps=total,
    )
    if reason:
        attributes["device_choice"] = reason
    if runs[0].antithetic:
        attributes["antithetic"] = 1  # trajectories are not independent: nothing may count them as if they were
    attributes |= rare_events.attributes(runs)
    # CF: with this, xarray takes them as coordinates.
    attributes["coordinates"] = " ".join(
        ["record_step", "snapshot_step", "time", *(f"sweep_{key}" for key in sweep or {})]
    )
    steps = [one.record_steps for one in simulators], [one.snapshot_steps for one in simulators]
    variables = assemble(runs, *steps, results, sweep)
    return Ensemble(variables, attributes)


def _piece(name: str, value: int | None) -> int | None:
    """How much of a run is done at a time, if the caller says so: nothing, or less, would never end."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InputError(f"{name}: {value!r}, expected a whole number from 1")
    return value


def _check_memory(required: int) -> None:
    available = available_memory()
    if required > available:
        raise InputError(
            f"the run needs {required / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are available: take fewer "
            "trajectories, snapshots or sweep points, or record less often"
        )


def _thread_count(threads: int | None) -> int:
    """The user's choice, by default one thread a processor that this process may use."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = max(available, os.cpu_count() or 1)
    if threads is None:
        return available
    threads = take.whole(threads, "--threads")
    if not 1 <= threads <= most:
        raise InputError(f"--threads: {threads}, expected 1 to {most} on this machine")
    return threads
