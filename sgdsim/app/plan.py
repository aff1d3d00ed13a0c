"""Estimates of the time, memory and disk that a run will take, from its speed measured on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sgdsim.base import pieces, take
from sgdsim.base.errors import InputError
from sgdsim.input.scenario import Scenario
from sgdsim.kernels.program import GROUPS
from sgdsim.kernels.workers import Workers
from sgdsim.model.run import Run
from sgdsim.simulation.memory_needs import output_bytes
from sgdsim.simulation.result_arrays import allocate, at
from sgdsim.simulation.run_loop import thread_count, work
from sgdsim.simulation.simulator import Simulator

SECONDS = 1.0
"""Seconds during which the speed of a run is measured."""

_MOST_TRAJECTORIES = 2**20  # trajectories of the run whose speed is measured: eight blocks
_PIECE_BYTES = 2**24  # bytes that are written and read to measure a disk


@dataclass(frozen=True)
class Plan:
    """The time, memory and disk that a run takes.

    Attributes
    ----------
    steps
        Number of trajectory-steps.
    rate
        Trajectory-steps per second of one worker.
    workers, threads
        Number of workers, and of threads of each.
    shards
        Largest number of shards into which the run can be divided.
    memory
        Bytes of the results of the whole run, nearly the size of its file.
    disk_rate
        Bytes per second that are written, read and checked.
    """

    steps: int
    rate: float
    workers: int
    threads: int
    shards: int
    memory: int
    disk_rate: float

    @property
    def seconds(self) -> float:
        """Seconds of the whole run, without compilation; as shards have equal size, some workers may get one fewer."""
        return self.steps / self.rate / min(self.workers, self.shards)

    @property
    def merge_seconds(self) -> float:
        """Seconds to merge all shards: to read them twice, and to write the file."""
        return 3 * self.memory / self.disk_rate if self.workers > 1 else 0.0

    def text(self) -> str:
        """Text of the plan, in lines.

        Examples
        --------
        >>> print(Plan(10**12, 5e8, 4, 2, 64, 10**9, 1e8).text())
        work    1e+12 trajectory-steps
        rate    5e+08 trajectory-steps/s with 2 threads, measured here
        time    8 min 20 s with 4 workers, and a minute for those that compile
        memory  1 GB
        disk    1 GB, and again as much until the run is finished
        shards  at most 64: --shard 1/4 to --shard 4/4
        merge   30 s
        """
        shards = min(self.workers, self.shards)
        many = f"{self.workers} workers" if self.workers > 1 else "1 worker"
        cut = f": --shard 1/{shards} to --shard {shards}/{shards}" if shards > 1 else ""
        lines = {
            "work": f"{self.steps:.3g} trajectory-steps",
            "rate": f"{self.rate:.3g} trajectory-steps/s with {self.threads} threads, measured here",
            "time": f"{_duration(self.seconds)} with {many}, and a minute for those that compile",
            "memory": _size(self.memory),
            "disk": f"{_size(self.memory)}, and again as much until the run is finished",
            "shards": f"at most {self.shards}{cut}",
        }
        if self.workers > 1:
            lines["merge"] = _duration(self.merge_seconds)
        return "\n".join(f"{name:6}  {text}" for name, text in lines.items())


def plan(scenarios: Sequence[Scenario], workers: int = 1, threads: int | None = None) -> Plan:
    """Plan a run, from a second of it.

    Parameters
    ----------
    scenarios
        Scenarios of all parts, from `load_parts`.
    workers
        Number of processes or machines like this one.
    threads
        Number of threads of each; by default as many as the process may use.

    Raises
    ------
    InputError
        For less than one worker.
    """
    if (workers := take.whole(workers, "--workers")) < 1:
        raise InputError(f"--workers: {workers}, expected a whole number from 1")
    count = thread_count(threads)
    total = sum(work(one.runs) for one in scenarios)
    # Parts, and points, with other formulas have another speed: each part is measured at its first point.
    seconds = sum(work(one.runs) / measured_rate(one.runs[0], count) for one in scenarios)
    return Plan(
        total,
        total / seconds,
        workers,
        count,
        GROUPS * sum(len(one.runs) for one in scenarios),
        sum(output_bytes(one.runs) for one in scenarios),
        _disk_rate(),
    )


def measured_rate(run: Run, threads: int) -> float:
    """Trajectory-steps per second of a run, after its kernels are compiled."""
    kept = run.recorder.snapshot_trajectories
    recorder = replace(run.recorder, snapshot_trajectories=None if kept is None else min(kept, _MOST_TRAJECTORIES))
    run = replace(run, trajectories=min(run.trajectories, _MOST_TRAJECTORIES), recorder=recorder)
    with Workers(threads) as workers, np.errstate(all="ignore"):
        simulator = Simulator(run, workers=workers)
        simulator.compile()
        into = at(allocate([simulator.run]), 0)
        done, began = 0, time.perf_counter()
        for block in simulator.blocks():
            for steps in simulator.spans(block, into):
                done += steps
                if (elapsed := time.perf_counter() - began) > SECONDS:
                    return done / elapsed
    return done / max(time.perf_counter() - began, 1e-9)


def _disk_rate() -> float:
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        pieces.write(Path(folder, "piece"), {}, {"zeros": np.zeros(_PIECE_BYTES, np.uint8)})
        pieces.read(Path(folder, "piece"))
        return 2 * _PIECE_BYTES / (time.perf_counter() - began)


def _duration(seconds: float) -> str:
    """Text of a length of time, such as ``2 h 5 min``.

    Examples
    --------
    >>> [_duration(one) for one in (0.5, 90, 7200, 2e6)]
    ['1 s', '1 min 30 s', '2 h 0 min', '23 days 3 h']
    """
    whole = max(round(seconds), 1)
    for size, name, lower, lower_name in ((86400, " days", 3600, "h"), (3600, " h", 60, "min"), (60, " min", 1, "s")):
        if whole >= size:
            return f"{whole // size}{name} {whole % size // lower} {lower_name}"
    return f"{whole} s"


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"
