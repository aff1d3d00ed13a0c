"""From timings to a Markdown report and plain data."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sgdsim
from benchmarks import check, loss_table, variance_reduction
from benchmarks.bar import Bar, table
from benchmarks.loss_table import LossResults
from benchmarks.peers import PEERS
from benchmarks.processes import Processes
from benchmarks.start import STEPS, TRAJECTORIES
from benchmarks.tasks import Task, Timing, Timings, ratio, speedup
from benchmarks.variance_reduction import Gain

FLAT_FROM = {"trajectories": 10_000, "steps": 1000}


@dataclass
class Results:
    """All that was measured.

    Attributes
    ----------
    reference
        The reference job by every program, on one thread and on all.
    parts
        Ours alone: the whole step, its parts, and recording.
    threads
        Ours on one thread and on all, one large job.
    trajectories, steps
        Ours over sizes.
    losses
        The second table.
    processes
        None when not measured.
    gains
        Of the ways to reduce the variance; empty when not measured.
    """

    reference: Timings
    parts: Timings
    threads: Timings
    trajectories: Timings
    steps: Timings
    losses: LossResults
    processes: Processes | None = None
    gains: Sequence[Gain] = ()

    @property
    def timings(self) -> list[Timing]:
        """All of them."""
        return [timing for group in self.groups.values() for timing in group.values()]

    @property
    def groups(self) -> dict[str, Timings]:
        """All of them by what they are for."""
        names = "reference", "parts", "threads", "trajectories", "steps"
        timings, alone = self.losses.groups
        return {**{name: getattr(self, name) for name in names}, "losses": timings, "losses, variants": alone}


def bars(results: Results) -> list[Bar]:
    """Every figure that has a bar, but for those of other losses, which stand in a table of their own."""
    parts = {task.variant: timing for task, timing in results.parts.items()}
    noise = ratio(parts["float64"], parts["noise alone"])
    recording = (ratio(parts["recording"], parts["float64"]) - 1) * 100
    sizes, lengths = _flat(results.trajectories, "trajectories"), _flat(results.steps, "steps")
    return [
        *_ratios(results.reference),
        Bar("full step / noise generation alone", 1.5, noise, at_least=False),
        Bar("recording moments of 4 observables every 100 steps, on top", 10, recording, at_least=False, unit=" %"),
        *_speedup(results.threads),
        Bar(f"spread over trajectories, {_span(sizes, 'trajectories')}", 15, _spread(sizes), at_least=False, unit=" %"),
        Bar(f"spread over steps, {_span(lengths, 'steps')}", 15, _spread(lengths), at_least=False, unit=" %"),
        *_process_bars(results.processes),
        Bar("what all formulas share, compiled once a machine", 15, results.losses.common, at_least=False, unit=" s"),
    ]


def _ratios(timings: Timings) -> list[Bar]:
    rows = []
    for threads in sorted({task.threads for task in timings}):
        ours = next(t for task, t in timings.items() if task.threads == threads and _ours(task))
        for peer, dtype, bar in (("JAX", "float64", 10), ("JAX", "float32", 4.5), ("NumPy", "float64", 11)):
            found = [
                ratio(timing, ours)
                for task, timing in timings.items()
                if (task.peer, task.threads) == (peer, threads) and dtype in task.variant and not timing.problem
            ]
            if found or threads == 1:
                rows.append(Bar(f"{peer} {dtype} / ours, {_threads(threads)}", bar, min(found, default=None)))
    return rows


def _process_bars(processes: Processes | None) -> list[Bar]:
    allowance = 2 * TRAJECTORIES * 8 * 2 / 1e6 + 50
    run = f"peak memory of {TRAJECTORIES:,} trajectories, {STEPS} steps, one snapshot"
    warm = help_text = megabytes = None
    if processes is not None:
        warm, help_text, megabytes = processes.warm[1], processes.help[1], processes.memory and processes.memory / 1e6
    return [
        Bar("warm start of a scenario to its first step", 1.2, warm, at_least=False, unit=" s"),
        Bar("`sgdsim --help`", 0.3, help_text, at_least=False, unit=" s"),
        Bar(run, allowance, megabytes, at_least=False, unit=" MB"),
    ]


def _speedup(timings: Timings) -> list[Bar]:
    """On two; on more it stands in the table of sizes."""
    one, *more = sorted(timings.values(), key=lambda timing: timing.task.threads)
    job = one.task.job
    return [
        Bar(f"speed on 2 threads / on 1, {job.trajectories:,} trajectories", 1.65, speedup(one, many))
        for many in more
        if many.task.threads == 2
    ]


def _flat(timings: Timings, size: str) -> Timings:
    """The sizes over which the time has to be flat; below, a run takes less than its overhead."""
    timed = {task: timing for task, timing in timings.items() if not timing.problem}
    return {task: timing for task, timing in timed.items() if getattr(task.job, size) >= FLAT_FROM[size]} or timed


def _spread(timings: Timings) -> float:
    """Excess time of the slowest size over the fastest, in percent; each is compared with the first in its round."""
    first = next(iter(timings.values()))
    ratios = [ratio(timing, first) for timing in timings.values()]
    return (max(ratios) / min(ratios) - 1) * 100


def _span(timings: Timings, size: str) -> str:
    sizes = [getattr(task.job, size) for task in timings]
    return f"{min(sizes):,} … {max(sizes):,}"


def _threads(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def report(results: Results, complete: bool = True) -> str:
    """The whole report as Markdown; small jobs are not held against the bar."""
    rows = table(["figure", "bar", "measured", "met"], (bar.row() for bar in bars(results)))
    return "\n\n".join(
        [
            *(["### Against the bar", rows] if complete else []),
            "### The reference job",
            _peers_table(results.reference),
            "### Other losses",
            loss_table.report(results.losses, complete),
            "### Other losses, program by program",
            _peers_table(results.losses.timings, with_loss=True),
            "### Our step and its parts",
            _timing_table(results.parts, ("variant",)),
            "### Sizes and threads",
            _sizes_table(results),
            *_processes_table(results.processes),
            *(["### Small forces", variance_reduction.report(results.gains)] if results.gains else []),
            "### Where",
            *(f"{name}: {text}" for name, text in environment(results).items()),
        ]
    )


def _peers_table(timings: Timings, with_loss: bool = False) -> str:
    """Every program beside ours of the same job and as many threads."""
    ours = {(task.job.model, task.threads): timing for task, timing in timings.items() if _ours(task)}
    rows = []
    for task, timing in timings.items():
        figures = [timing.problem, "", ""]
        if not timing.problem:
            base = ours[task.job.model, task.threads]
            times = "" if base.problem else f"{ratio(timing, base):.2f}"
            figures = [figure(timing), times, f"{timing.first:.1f}"]
        name = [task.job.model] if with_loss else []
        rows.append([*name, task.peer, task.variant, str(task.threads), *figures, f"{timing.z or 0:.1f}"])
    head = ["program", "variant", "threads", "ns a trajectory-step", "times ours", "first call, s", "largest z"]
    return table(["loss", *head] if with_loss else head, rows)


def _ours(task: Task) -> bool:
    """True for the task with which the others are compared."""
    return (task.peer, task.variant) == ("sgdsim", "float64")


def _timing_table(timings: Timings, names: Sequence[str]) -> str:
    rows = ([str(getattr(task, name)) for name in names] + [figure(timing)] for task, timing in timings.items())
    return table([*names, "ns a trajectory-step"], rows)


def _sizes_table(results: Results) -> str:
    timings = [*results.threads.values(), *results.trajectories.values(), *results.steps.values()]
    rows = ([f"{t.task.job.trajectories:,}", f"{t.task.job.steps:,}", str(t.task.threads), figure(t)] for t in timings)
    return table(["trajectories", "steps", "threads", "ns a trajectory-step"], rows)


def _processes_table(processes: Processes | None) -> list[str]:
    if processes is None:
        return []
    rows = (
        [name, *(f"{seconds:.2f}" for seconds in pair)]
        for name, pair in (
            ("first step of `river_valley`, cold: everything compiled", processes.cold),
            ("first step of `river_valley`, warm", processes.warm),
            ("`sgdsim --help`", processes.help),
        )
    )
    return ["### Starts", table(["process", "wall, s", "processor, s"], rows)]


def figure(timing: Timing) -> str:
    """Median and range, or why there is none."""
    if timing.problem:
        return timing.problem
    samples = timing.nanoseconds
    return f"{statistics.median(samples):.2f} ({min(samples):.2f} … {max(samples):.2f})"


def environment(results: Results) -> dict[str, str]:
    """Versions, hardware by kind, and how busy it was with other things."""
    found = [peer for peer in PEERS.values() if peer.installed]
    missing = [peer.name for peer in PEERS.values() if not peer.installed]
    single = [timing for timing in results.timings if timing.task.threads == 1 and timing.wall]
    share = statistics.median(sum(timing.processor) / sum(timing.wall) for timing in single)
    return {
        "Processor": processor(),
        "Share of a processor that tasks of one thread got": f"{min(share, 1):.0%}",
        "Versions": versions([*(peer.distribution for peer in found), "llvmlite"]),
        "Not installed, so skipped": ", ".join(missing) or "none",
    }


def versions(distributions: Iterable[str]) -> str:
    """Versions of Python, of sgdsim, which may be only a folder on the path, and of installed libraries."""
    found = [f"Python {platform.python_version()}", f"sgdsim {sgdsim.__version__}"]
    for name in dict.fromkeys(distributions):
        if name != "sgdsim":
            with suppress(importlib.metadata.PackageNotFoundError):
                found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)


def processor() -> str:
    """Its model, the width of its vectors and how many cores are visible."""
    return f"{_processor_model()}, {os.cpu_count()} cores visible"


def _processor_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in values.items()}
    flags = fields.get("flags", "").split()
    width = next((bits for flag, bits in (("avx512f", 512), ("avx2", 256)) if flag in flags), 128)
    return f"{fields.get('model name', platform.machine())}, {width}-bit vectors"


def data(results: Results) -> dict[str, Any]:
    """Results as plain data."""
    return {
        "environment": environment(results),
        "z_limit": check.Z_LIMIT,
        "bars": [{**asdict(bar), "met": bar.met} for bar in (*bars(results), *loss_table.bars(results.losses))],
        "timings": [
            {"group": name, **plain(timing)} for name, group in results.groups.items() for timing in group.values()
        ],
        "compile_seconds": dict(results.losses.compilations),
        "common_compile_seconds": results.losses.common,
        "first_call_seconds_of_jax": dict(results.losses.first_calls),
        "processes": results.processes and asdict(results.processes),
        "gains": [asdict(gain) for gain in results.gains],
    }


def plain(timing: Timing) -> dict[str, Any]:
    """A timing as plain data."""
    return {
        **asdict(timing.task),
        "first_call_seconds": timing.first,
        "wall_seconds": timing.wall,
        "processor_seconds": timing.processor,
        "nanoseconds": statistics.median(timing.nanoseconds) if timing.wall else None,
        "largest_z": timing.z,
        "problem": timing.problem,
    }
