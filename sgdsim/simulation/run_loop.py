"""The run loop, which works on blocks of trajectories over spans of steps.

A unit of work is a block of at most 2^17 trajectories over a span of steps. A block runs all its steps before the
next begins, so its state stays in cache. Between units the whole state of a block is one plain value, `Block`. So a
run can be interrupted, watched, saved or moved between units, and its numbers do not depend on that. The executor
decides where a block runs and how many trajectories it has; see `kernels.block`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from sgdsim.base import take
from sgdsim.base.errors import InputError, RunError
from sgdsim.base.memory import memory_limit as limit_of
from sgdsim.base.sparse import Sparse
from sgdsim.ensemble import Ensemble
from sgdsim.kernels.accumulators import Accumulators
from sgdsim.kernels.block import Block, Common
from sgdsim.kernels.host import Host
from sgdsim.kernels.plan import Plan
from sgdsim.kernels.processor import processor
from sgdsim.kernels.program import GROUPS, Program
from sgdsim.kernels.workers import Workers
from sgdsim.model import rare_events
from sgdsim.model.data import DrawnData
from sgdsim.model.run import Run
from sgdsim.model.starts import Grid, Listed, Stored
from sgdsim.simulation import control_weights as theory_of_controls
from sgdsim.simulation import provenance
from sgdsim.simulation.assembly import assemble
from sgdsim.simulation.checkpoints import Part, at
from sgdsim.simulation.devices import Device, choose, executor
from sgdsim.simulation.kept_states import kept_step
from sgdsim.simulation.progress import Progress
from sgdsim.simulation.recorded_statistics import check_names
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
        trajectories = _piece("block_trajectories", block_trajectories) or self.executor.block_trajectories
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
        given = _piece("span_steps", span_steps)
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


def snapshot_steps(run: Run) -> np.ndarray:
    """Numbers of completed steps at the snapshots, sorted."""
    return np.array(sorted(set(run.recorder.snapshots)), dtype=np.int64)


def shapes(run: Run) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and number type of each field of `Accumulators`, except the status."""
    plan, records = Plan(run), len(run.recorder.record_steps(run.steps))
    kept = run.recorder.snapshot_trajectories or run.trajectories
    return {
        "theta": ((len(snapshot_steps(run)), kept, len(run.loss.parameters)), run.dtype),
        "moments": ((records, GROUPS, len(run.measured), 5), "float64"),
        "counts": ((records, GROUPS, plan.bins), "uint32"),
        "comoments": ((records, GROUPS, plan.pairs, 4), "float64"),
        "cells": ((records, GROUPS, plan.cells), "uint32"),
        "changes": ((GROUPS, plan.drift_bins, 3), "float64"),
        "stopped": ((2, run.trajectories if run.stop else 0), _index_dtype(run.steps)),
    }


def allocate(simulators: Sequence[Simulator], spool: Path | None = None) -> Accumulators:
    """Accumulators of all points of a sweep, with a leading axis of points; see `allocate_for`."""
    return allocate_for([simulator.run for simulator in simulators], spool)


def allocate_for(runs: Sequence[Run], spool: Path | None = None) -> Accumulators:
    """Accumulators of all runs of a sweep; the snapshots are in an unnamed file if there is a folder for it."""
    n, run = len(runs), max(runs, key=lambda one: one.steps)
    arrays = {
        name: _on_disk(spool, (n, *shape), dtype)
        if name == "theta" and spool is not None
        else np.zeros((n, *shape), dtype)
        for name, (shape, dtype) in shapes(run).items()
    }
    return Accumulators(**arrays, status=[Sparse((run.trajectories,), _index_dtype(run.steps)) for _ in runs])


def _on_disk(folder: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Array of zeros in a file that ends with the process; its space is reserved, as a full disk would crash later."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    try:
        with TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                os.ftruncate(file.fileno(), size)
            return np.asarray(np.memmap(file, dtype, "r+", shape=shape))
    except OSError as error:
        raise RunError(f"{folder}: no place for {size / 1e9:.3g} GB of snapshots: {error.strerror}") from None


def work(runs: Sequence[Run]) -> int:
    """Number of trajectory-steps of all points of a sweep."""
    return sum(run.trajectories * run.steps for run in runs)


def work_of(runs: Sequence[Run], units: Sequence[tuple[int, tuple[int, int]]]) -> int:
    """Number of trajectory-steps of some groups of each run; approximate unless they are all groups."""
    parts = ((run.trajectories * run.steps, high - low) for run, (_, (low, high)) in zip(runs, units, strict=True))
    return sum(steps * groups // GROUPS for steps, groups in parts)


def output_bytes(runs: Sequence[Run]) -> int:
    """Bytes of the results of all points of a sweep, in memory and nearly the same in their file."""
    run, plan = max(runs, key=lambda one: one.steps), Plan(runs[0])
    measured = len(run.measured)
    ended = 2 * run.trajectories * np.dtype(_index_dtype(run.steps)).itemsize if run.stop else 0  # step and bound
    a_record = GROUPS * (measured * 5 * 8 + plan.bins * 4 + plan.pairs * 4 * 8 + plan.cells * 4)
    statistics = len(run.recorder.record_steps(run.steps)) * a_record + GROUPS * plan.drift_bins * 3 * 8
    return snapshot_bytes(runs) + len(runs) * (ended + statistics)


def snapshot_bytes(runs: Sequence[Run]) -> int:
    """Bytes of the snapshots of all points of a sweep."""
    run = max(runs, key=lambda one: one.steps)
    kept = run.recorder.snapshot_trajectories or run.trajectories
    a_state = len(run.loss.parameters) * np.dtype(run.dtype).itemsize
    return len(runs) * kept * len(run.recorder.snapshots) * a_state


def tiles_of_a_block(program: Program, trajectories: int) -> int:
    """Number of tiles of a block, such that it has ``trajectories`` of them, or fewer if the steps are costly."""
    tiles = max(trajectories // program.lanes, 1)
    return max(tiles // program.weight, min(tiles, GROUPS))


def data_bytes(run: Run) -> int:
    """Bytes of the data that trajectories have of their own, for those that run together on the CPU."""
    data = run.loss.data
    if not isinstance(data, DrawnData):
        return 0
    program = program_of(run, Plan(run))
    tiles = min(tiles_of_a_block(program, Host.block_trajectories), -(-run.trajectories // program.lanes))
    return tiles * program.lanes * data.cells * np.dtype(run.dtype).itemsize


def kept_bytes(runs: Sequence[Run]) -> int:
    """Bytes of the kept states of all trajectories on the disk, with their snapshots; see `kept_states`."""
    run = runs[0]
    a_state = program_of(run, Plan(run)).n_variables * np.dtype(run.dtype).itemsize + 8  # and its status
    return snapshot_bytes(runs) + len(runs) * run.trajectories * a_state


def _index_dtype(largest: int) -> str:
    """Type of step counters: 32 bits if the largest value fits, to save half of the memory."""
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
    checkpoints: Part | None = None,
    memory_limit: float | str | None = None,
) -> Ensemble:
    """Simulate all points of a sweep.

    Parameters
    ----------
    runs
        The run of each point; all have arrays of the same shapes.
    scenario
        The resolved scenario as TOML, which is stored with the results.
    common_noise
        True if all points draw the same noise.
    sweep
        The swept values by key; None for a single run without a dimension ``point``.
    title
        Title of the file.
    device
        ``cpu``; ``cuda``, or ``cuda:1`` for the second GPU; ``auto`` for the one that should finish first; or
        ``python``, which runs the kernels without compiling them.
    threads
        Number of threads of the CPU; by default as many as the process may use.
    block_trajectories, span_steps
        Number of trajectories of a block and steps of a span, each at least 1; the results do not depend on them.
    progress
        True to show a bar on standard error, if that is a terminal.
    checkpoints
        Checkpoints from which the run continues, and to which more are added.
    memory_limit
        Bytes that results may take, also as ``"4GB"``; by default 80 % of the free memory. With checkpoints, snapshots
        that do not fit are kept on the disk.

    Raises
    ------
    InputError
        For too much memory, too many threads, or an unknown device.
    RunError
        For a GPU that cannot be used.
    """
    check_names(runs[0])
    pieces = block_trajectories, span_steps
    computed = compute(
        runs,
        common_noise=common_noise,
        device=device,
        threads=threads,
        pieces=pieces,
        progress=progress,
        checkpoints=checkpoints,
        memory_limit=memory_limit,
    )
    return labelled(runs, computed, scenario=scenario, sweep=sweep, title=title)


@dataclass
class Computed:
    """Results of a simulation before they are labelled.

    Attributes
    ----------
    results
        Accumulators of all points.
    target, lanes, layout_version
        Device, and layout of the random numbers; see `provenance.attributes`.
    started, compile_seconds, seconds
        Start of the run (UTC), and seconds to compile and to simulate.
    processor
        Processor for which the kernels were compiled; of shards, the processors of all.
    reason
        Reason for the device, if it was chosen for the user.
    """

    results: Accumulators
    target: str
    lanes: int
    layout_version: int
    started: str
    compile_seconds: float
    seconds: float
    processor: str
    reason: str = ""


def compute(
    runs: Sequence[Run],
    *,
    common_noise: bool = False,
    device: str = "cpu",
    threads: int | None = None,
    pieces: tuple[int | None, int | None] = (None, None),
    progress: bool = False,
    checkpoints: Part | None = None,
    units: Sequence[tuple[int, tuple[int, int]]] | None = None,
    memory_limit: float | str | None = None,
) -> Computed:
    """Simulate all points of a sweep, or only some groups of trajectories of some points.

    Parameters
    ----------
    runs, common_noise, device, threads, progress, checkpoints, memory_limit
        See `simulate_runs`.
    pieces
        Number of trajectories of a block and of steps of a span; see `simulate_runs`.
    units
        The point of each run, and the first and last (excluded) of its groups; by default all groups of all points.
    """
    progress = take.flag(progress, "progress")
    for name, piece in zip(("block_trajectories", "span_steps"), pieces, strict=True):
        _piece(name, piece)
    units = [(point, (0, GROUPS)) for point in range(len(runs))] if units is None else units
    spool = place_of_snapshots(runs, None if checkpoints is None else checkpoints.folder, memory_limit)
    total = work_of(runs, units)
    count = thread_count(threads)
    chosen, reason = choose(Device.parse(device), total * program_of(runs[0], Plan(runs[0])).weight, count)
    workers = Workers(count if chosen.target == "cpu" else 1)
    # Diverging trajectories overflow in plain Python; they are counted, so NumPy's warnings are switched off.
    with workers, Progress(total, progress) as bar, np.errstate(all="ignore"):
        simulators = [
            Simulator(
                run,
                0 if common_noise else point,
                chosen,
                workers,
                groups,
                checkpoints is not None and checkpoints.keeps,
            )
            for run, (point, groups) in zip(runs, units, strict=True)
        ]
        results = allocate(simulators, spool)
        started = provenance.now()
        began = time.perf_counter()
        with bar.announcing(simulators[0].executor.notice() or "compiling the kernels …"):
            for simulator in simulators:
                simulator.compile()
        compiled = time.perf_counter()
        if checkpoints is not None:
            bar.begin(checkpoints.restore(simulators, results))
        for index, simulator in enumerate(simulators):
            into = at(results, index)
            if checkpoints is not None:
                checkpoints.simulate(index, simulator, into, bar, *pieces)
            else:
                for block in simulator.blocks(pieces[0]):
                    for done in simulator.spans(block, into, pieces[1]):
                        bar.update(done)
            simulator.executor.release()
    return Computed(
        results,
        simulators[0].executor.name,
        simulators[0].lanes,
        max(simulator.program.layout_version for simulator in simulators),
        started,
        compiled - began,
        time.perf_counter() - compiled + (0.0 if checkpoints is None else checkpoints.seconds),
        processor(),
        reason,
    )


def labelled(
    runs: Sequence[Run],
    computed: Computed,
    *,
    scenario: str,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    title: str = "",
) -> Ensemble:
    """Ensemble of the results of a simulation; see `simulate_runs`."""
    attributes = provenance.attributes(
        title=title,
        scenario=scenario,
        seed=str(runs[0].seed) if len({run.seed for run in runs}) == 1 else "swept",
        target=computed.target,
        dtype=runs[0].dtype,
        lanes=computed.lanes,
        processor=computed.processor,
        layout_version=computed.layout_version,
        started=computed.started,
        compile_seconds=computed.compile_seconds,
        seconds=computed.seconds,
        trajectory_steps=work(runs),
    )
    if computed.reason:
        attributes["device_choice"] = computed.reason
    if runs[0].antithetic:
        attributes["antithetic"] = 1  # trajectories are not independent, which all statistics must take into account
    attributes |= rare_events.attributes(runs)
    attributes["last_steps"] = json.dumps(_last_steps(runs))
    # By the CF conventions, xarray treats these variables as coordinates.
    attributes["coordinates"] = " ".join(
        ["record_step", "snapshot_step", "time", *(f"sweep_{key}" for key in sweep or {})]
    )
    steps = [one.recorder.record_steps(one.steps) for one in runs], [snapshot_steps(one) for one in runs]
    variables = assemble(runs, *steps, computed.results, sweep)
    return Ensemble(variables, attributes)


def _last_steps(runs: Sequence[Run]) -> dict[str, int]:
    """Last step that the value of each observable along the path is about; the latest of all points of a sweep."""
    ends = dict[str, int]()
    for one in (one for run in runs for one in run.observables):
        if one.last_step is not None:
            ends[one.name] = max(one.last_step, ends.get(one.name, 0))
    return ends


def _piece(name: str, value: int | None) -> int | None:
    """Size of a block or span that the caller has chosen, at least 1."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InputError(f"{name}: {value!r}, expected a whole number from 1")
    return value


def place_of_snapshots(
    runs: Sequence[Run], folder: Path | None, memory_limit: float | str | None = None
) -> Path | None:
    """Folder for snapshots that do not fit into the memory; None if they fit.

    Raises
    ------
    InputError
        For a run that does not fit even with its snapshots on the disk.
    """
    (most,) = limits_of_parts([runs], folder, memory_limit)
    return None if _bytes_of(runs) <= most else folder


def _bytes_of(runs: Sequence[Run]) -> int:
    """Bytes of memory that a sweep takes if its points run one after the other."""
    return output_bytes(runs) + max(map(data_bytes, runs))


def limits_of_parts(
    parts: Sequence[Sequence[Run]], folder: Path | None, memory_limit: float | str | None = None
) -> list[float]:
    """Bytes of memory that each part of a scenario may take, so that all together stay within a limit.

    Raises
    ------
    InputError
        For a run that does not fit even with its snapshots on the disk.
    """
    whole, limit = [float(_bytes_of(runs)) for runs in parts], limit_of(memory_limit)
    if sum(whole) <= limit:
        return whole
    statistics = [size - snapshot_bytes(runs) for size, runs in zip(whole, parts, strict=True)]
    needed = sum(whole if folder is None else statistics)
    if folder is None or needed > limit:
        asked = "" if memory_limit is None else "memory_limit: "
        raise InputError(
            f"{asked}the run needs {needed / 1e9:.3g} GB of memory, and may take {limit / 1e9:.3g} GB: take fewer "
            f"trajectories, snapshots or sweep points, or record less often{_about_data(parts)}"
        )
    return statistics


def _about_data(parts: Sequence[Sequence[Run]]) -> str:
    """Part of a message: the bytes of the data that trajectories have of their own."""
    size = max(data_bytes(run) for runs in parts for run in runs)
    return f"; {size} bytes of it are the data of the trajectories that run together, take fewer rows" if size else ""


def thread_count(threads: int | None) -> int:
    """Number of threads: the user's choice, or one for each processor that this process may use."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = max(available, os.cpu_count() or 1)
    if threads is None:
        return available
    threads = take.whole(threads, "--threads")
    if not 1 <= threads <= most:
        raise InputError(f"--threads: {threads}, expected 1 to {most} on this machine")
    return threads
