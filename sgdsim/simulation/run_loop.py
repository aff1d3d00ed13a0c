"""The run loop, from the runs of a sweep to one labelled ensemble."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sgdsim.base import take
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble
from sgdsim.kernels.accumulators import Accumulators
from sgdsim.kernels.plan import Plan
from sgdsim.kernels.processor import processor
from sgdsim.kernels.program import GROUPS
from sgdsim.kernels.workers import Workers
from sgdsim.model import rare_events
from sgdsim.model.run import Run
from sgdsim.simulation import provenance
from sgdsim.simulation.assembly import assemble
from sgdsim.simulation.devices import Device, choose
from sgdsim.simulation.memory_needs import place_of_snapshots
from sgdsim.simulation.part_checkpoints import Part
from sgdsim.simulation.progress import Progress
from sgdsim.simulation.recorded_statistics import check_names
from sgdsim.simulation.result_arrays import allocate, at, snapshot_steps
from sgdsim.simulation.simulator import Simulator, program_of, size_of_piece


def work(runs: Sequence[Run]) -> int:
    """Number of trajectory-steps of all points of a sweep."""
    return sum(run.trajectories * run.steps for run in runs)


def work_of(runs: Sequence[Run], units: Sequence[tuple[int, tuple[int, int]]]) -> int:
    """Number of trajectory-steps of some groups of each run; approximate unless they are all groups."""
    parts = ((run.trajectories * run.steps, high - low) for run, (_, (low, high)) in zip(runs, units, strict=True))
    return sum(steps * groups // GROUPS for steps, groups in parts)


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
        size_of_piece(name, piece)
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
        results = allocate(runs, spool)
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
