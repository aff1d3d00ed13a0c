"""The benchmark on a GPU: ``python -m benchmarks --device cuda``, with whatever of the programs is installed.

Every program simulates small ensembles first, which are held against NumPy's on the CPU, and then the large ones that
are timed, on the wall until the GPU is done. Compilation runs in processes side by side; timed calls run alone.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import check, tables
from benchmarks.bar import Bar, table
from benchmarks.jobs import Job
from benchmarks.losses import loss_job
from benchmarks.output import complain, write
from benchmarks.peers import GPU_PEERS, PEERS
from benchmarks.tasks import Bench, Task, Timing, ratio
from benchmarks.worker import PeerError, Worker

MODELS = "rescaling", "diagonal_network", "two_layer_network", "adam_river_valley", "minibatches"
H100_RATE = 2e11  # trajectory-steps a second of the reference job in float32
DISTRIBUTIONS = "numba", "numba-cuda", "numpy", "jax", "torch", "diffrax"
FULL, NOISE = "float32", "noise alone, float32"


@dataclass(frozen=True)
class Plan:
    """Sizes.

    Parameters
    ----------
    check
        Trajectories and steps of the runs that are compared.
    reference, losses
        Trajectories of the timed runs, our steps, and the steps of the others.
    sizes
        Trajectories and steps of ours over sizes.
    rounds
        Timed calls.
    """

    check: tuple[int, int]
    reference: tuple[int, int, int]
    losses: tuple[int, int, int]
    sizes: tuple[tuple[int, int], ...]
    rounds: int


COMPLETE = Plan(
    check=(32_768, 32),
    reference=(4_194_304, 10_000, 200),
    losses=(1_048_576, 2000, 96),
    sizes=(
        *((10_000, 100_000), (100_000, 50_000), (1_000_000, 10_000)),
        *((10_000_000, 1000), (100_000_000, 500)),
    ),
    rounds=3,
)
QUICK = Plan((4096, 32), (65_536, 400, 32), (65_536, 64, 32), ((10_000, 400), (100_000, 400)), 2)


@dataclass
class Results:
    """All that was measured.

    Attributes
    ----------
    devices
        The GPU as each program that sees one names it.
    missing
        Why the others were skipped.
    groups
        The reference job, other losses, and ours over sizes.
    seconds
        That all of it took.
    """

    devices: Mapping[str, str]
    missing: Mapping[str, str]
    groups: dict[str, list[Timing]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def timings(self) -> list[Timing]:
        """All of them."""
        return [timing for group in self.groups.values() for timing in group]


def main(quick: bool, rounds: int | None, output: Path) -> int:
    """Exit code 0 where there is no GPU at all, and nothing was measured; else as `complain` says."""
    began = time.perf_counter()
    results = Results(*find())
    if "sgdsim" not in results.devices:
        print("Nothing was measured on a GPU.", *(f"{name}: {why}" for name, why in results.missing.items()), sep="\n")
        return int(bool(results.devices))
    plan = QUICK if quick else COMPLETE
    with Bench("cuda") as bench:
        measure(bench, replace(plan, rounds=rounds or plan.rounds), results)
    results.seconds = time.perf_counter() - began
    write(output / "benchmark_gpu", report(results), data(results))
    return complain(timing for name in ("reference", "losses") for timing in results.groups[name])


def find() -> tuple[dict[str, str], dict[str, str]]:
    """The GPU by the name of each program that sees one, and why others do not."""
    devices: dict[str, str] = {}
    missing = {name: "not installed" for name, peer in GPU_PEERS.items() if not peer.installed}

    def ask(name: str) -> None:
        with Worker(name, device="cuda") as worker:
            try:
                devices[name] = worker.greeting()
            except PeerError as error:
                missing[name] = str(error)

    with ThreadPoolExecutor() as pool:
        list(pool.map(ask, [name for name in GPU_PEERS if name not in missing]))
    return {name: devices[name] for name in GPU_PEERS if name in devices}, missing


def measure(bench: Bench, plan: Plan, results: Results) -> None:
    """Compile and compare, side by side; then time one after the other."""
    peers = [*results.devices]
    small = [_river(*plan.check), *(loss_job(model, *plan.check) for model in MODELS)]
    pairs = [(peer, job, variant) for job in small for peer in peers for variant in _variants(peer, job.model)]
    groups: dict[str, list[Timing]] = {"reference": [], "losses": []}
    by_worker: dict[tuple[str, str], list[tuple[Timing, Timing]]] = {}
    for peer, job, variant in pairs:
        size = plan.reference if job.model == "river_valley" else plan.losses
        steps = size[1] if peer == "sgdsim" else size[2]
        timed = Timing(Task(peer, variant, 1, replace(job, trajectories=size[0], steps=steps)))
        groups["reference" if job.model == "river_valley" else "losses"].append(timed)
        by_worker.setdefault((peer, job.model), []).append((Timing(Task(peer, variant, 1, job)), timed))
    with ThreadPoolExecutor(max((os.cpu_count() or 1) - 1, 1)) as pool:
        states = [pool.submit(_prepare, bench, entries) for entries in by_worker.values()]
        expected = {job.model: check.statistics(PEERS["NumPy"].models[job.model]["float64"](job, 1)()) for job in small}
    for future in states:
        for timing, found in future.result():
            if "noise" not in timing.task.variant and not timing.error:
                timing.z = check.deviation(found, expected[timing.task.job.model])
    groups["trajectories"] = [Timing(Task("sgdsim", FULL, 1, _river(*size))) for size in plan.sizes]
    for group in groups.values():
        for timing in group:
            if not timing.problem and not timing.first:
                bench.warm_up(timing)
        bench.time(group, plan.rounds)
    results.groups = groups


def _prepare(bench: Bench, entries: Sequence[tuple[Timing, Timing]]) -> list[tuple[Timing, check.Statistics]]:
    """The first call of each in small, and a warm call in the size that is timed, whose kernels may be others."""
    found = []
    for small, timed in entries:
        state = bench.prepare(small)
        timed.first, timed.error = small.first, small.error
        if not timed.error:
            bench.warm_up(timed)
        found.append((timed, state))
    return found


def _river(trajectories: int, steps: int) -> Job:
    return Job(trajectories, steps)


def _variants(peer: str, model: str) -> list[str]:
    """Variants of a peer that are timed: all for the reference job, those in float32 for other losses."""
    variants = GPU_PEERS[peer].models.get(model, {})
    return [name for name in variants if model == "river_valley" or "float32" in name]


def bars(results: Results) -> list[Bar]:
    """Bars that the GPU must meet; the bar on the rate is for one model of GPU."""
    ours = {t.task.variant: t for t in results.groups["reference"] if t.task.peer == "sgdsim" and not t.problem}
    step, noise = ours.get(FULL), ours.get(NOISE)
    found = []
    if "H100" in results.devices["sgdsim"]:
        rate = _rates(step)[0] / 1e11 if step else None
        found.append(Bar("reference job, float32, 1e11 trajectory-steps a second", H100_RATE / 1e11, rate))
    share = ratio(step, noise) if step and noise else None
    return [*found, Bar("full step / noise drawn and summed, float32", 1.6, share, at_least=False)]


def report(results: Results) -> str:
    """The tables as Markdown."""
    ours = {
        (timing.task.job.model, timing.task.variant): timing
        for timing in results.timings[: -len(results.groups["trajectories"])]
        if timing.task.peer == "sgdsim" and not timing.problem
    }
    head = ["job", "program", "variant", "trajectories", "steps", "trajectory-steps a second"]
    rows = [_row(timing, ours) for timing in results.timings]
    return "\n\n".join(
        [
            "### On a GPU, against the bar",
            table(["figure", "bar", "measured", "met"], (bar.row() for bar in bars(results))),
            "### On a GPU, program by program",
            table([*head, "times as long as ours", "first call, s", "largest z"], rows),
            "### Where",
            *(f"{name}: {text}" for name, text in environment(results).items()),
        ]
    )


def _row(timing: Timing, ours: Mapping[tuple[str, str], Timing]) -> list[str]:
    task = timing.task
    rates = _rates(timing)
    base = ours.get((task.job.model, task.variant[-len("float32") :]))
    figures = [timing.problem, "", ""]
    if not timing.problem:
        first = f"{timing.first:.1f}" if timing.first else ""
        figures = [f"{rates[0]:.3g} ({rates[1]:.3g} … {rates[2]:.3g})", f"{ratio(timing, base):.3g}" if base else ""]
        figures.append(first)
    size = f"{task.job.trajectories:,}", f"{task.job.steps:,}"
    return [task.job.model, task.peer, task.variant, *size, *figures, "" if timing.z is None else f"{timing.z:.1f}"]


def _rates(timing: Timing) -> tuple[float, float, float]:
    """Trajectory-steps a second: median, least and most."""
    times = timing.nanoseconds or [float("nan")]
    return 1e9 / statistics.median(times), 1e9 / max(times), 1e9 / min(times)


def environment(results: Results) -> dict[str, str]:
    """Hardware by kind, and versions."""
    skipped = "; ".join(f"{name} ({why})" for name, why in results.missing.items())
    return {
        "GPU": _card() or results.devices["sgdsim"],
        "Processor": tables.processor(),
        "Versions": tables.versions(DISTRIBUTIONS),
        "Skipped": skipped or "none",
        "All of it took": f"{results.seconds:.0f} s",
    }


def _card() -> str:
    """Name, driver and memory."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    name, driver, memory = said.splitlines()[0].split(", ")
    return f"{name}, driver {driver}, {memory}"


def data(results: Results) -> dict[str, Any]:
    """Results as plain data."""
    return {
        "environment": environment(results),
        "z_limit": check.Z_LIMIT,
        "bars": [{**asdict(bar), "met": bar.met} for bar in bars(results)],
        "timings": [
            {"group": name, **tables.plain(timing)} for name, group in results.groups.items() for timing in group
        ],
    }


if __name__ == "__main__":
    sys.exit(main(quick=False, rounds=None, output=Path("results")))
