"""Measure and report: ``python -m benchmarks [--device cuda] [--quick] [--output FOLDER]``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import gpu, processes, tables, variance_reduction
from benchmarks.jobs import Job
from benchmarks.loss_table import LossResults
from benchmarks.losses import SETTINGS, VARIANTS, loss_job
from benchmarks.output import complain, write
from benchmarks.peers import PEERS
from benchmarks.tasks import Bench, Task, Timing

REFERENCE = "NumPy", "float64"  # the state of the others is held against this one's
ONLY_FLOAT64 = "NumPy", "naive numba"


@dataclass(frozen=True)
class Plan:
    """Amount of measurements.

    Parameters
    ----------
    reference, parts, threads
        Jobs of the three comparisons.
    trajectories, steps
        Sizes over which the time should be flat, with the other size of each.
    losses
        Jobs of the second table.
    variants
        Jobs of the variants that ours has of some of them.
    rounds
        Timed calls.
    complete
        Whether peers run on all threads too, all peers run the other losses, all variants of ours, whole processes and
        ways to reduce the variance are measured, and figures held against the bar.
    """

    reference: Job
    parts: Job
    threads: Job
    trajectories: tuple[Job, ...]
    steps: tuple[Job, ...]
    losses: tuple[Job, ...]
    variants: tuple[Job, ...]
    rounds: int
    complete: bool


_HEAVY = "diagonal_network", "two_layer_network", "minibatches"


def _loss_job(model: str) -> Job:
    """The larger a step, the fewer trajectories: peers take microseconds for those of a network of matrices."""
    if len(SETTINGS[model].initial) > 32:
        return loss_job(model, 2048, 256)
    return loss_job(model, 65_536, 32 if model in _HEAVY else 96)


FULL = Plan(
    reference=Job(65_536, 200),
    parts=Job(65_536, 1000),
    threads=Job(1_000_000, 200),
    trajectories=tuple(
        Job(n, steps)
        for n, steps in ((1000, 100_000), (10_000, 10_000), (100_000, 1000), (1_000_000, 500), (10_000_000, 200))
    ),
    steps=tuple(Job(2048, n) for n in (1000, 10_000, 100_000, 1_000_000)),
    losses=tuple(_loss_job(model) for model in SETTINGS),
    variants=tuple(loss_job(model, 65_536, 1000) for model in VARIANTS),
    rounds=5,
    complete=True,
)
QUICK = Plan(
    reference=Job(2048, 20),
    parts=Job(2048, 200),
    threads=Job(4096, 20),
    trajectories=(Job(1024, 20), Job(2048, 20)),
    steps=(Job(1024, 20), Job(1024, 40)),
    losses=tuple(loss_job(model, 2048, 32) for model in ("rescaling", "permutation")),
    variants=(),
    rounds=2,
    complete=False,
)


def measure(plan: Plan) -> tables.Results:
    """Carry out a plan."""
    processors = _processors()
    counts = sorted({1, processors, *(2**n for n in range(processors.bit_length()) if 2**n < processors)})
    peer_counts = sorted({1, processors}) if plan.complete else [1]
    with Bench() as bench:
        reference = bench.measure(
            [*_reference_tasks(plan.reference, peer_counts)], plan.rounds, Task(*REFERENCE, 1, plan.reference)
        )
        variants = ("float64", "noise alone", "recording", *(("noise off", "float32") if plan.complete else ()))
        return tables.Results(
            reference,
            bench.measure([_ours(plan.parts, variant=variant) for variant in variants], plan.rounds),
            bench.measure([_ours(plan.threads, threads) for threads in counts], plan.rounds),
            bench.measure([_ours(job) for job in plan.trajectories], plan.rounds),
            bench.measure([_ours(job) for job in plan.steps], plan.rounds),
            _measure_losses(bench, plan),
            processes.measure() if plan.complete else None,
            variance_reduction.measure(variance_reduction.forces(), plan.rounds) if plan.complete else (),
        )


def _measure_losses(bench: Bench, plan: Plan) -> LossResults:
    timings: dict[Task, Timing] = {}
    alone: dict[Task, Timing] = {}
    for job in plan.losses:
        tasks = _one_thread(job, [peer for peer in PEERS if plan.complete or peer not in ("JAX", "PyTorch")])
        timings |= bench.measure(tasks, plan.rounds, Task(*REFERENCE, 1, job))
    for job in plan.variants:
        variants = "float64", *VARIANTS[job.model]
        alone |= bench.measure([_ours(job, variant=variant) for variant in variants], plan.rounds)
    if not plan.complete:
        return LossResults(timings, alone)
    common, compilations = processes.compilations([*SETTINGS])
    return LossResults(timings, alone, compilations, processes.first_calls([*SETTINGS]), common)


def _one_thread(job: Job, peers: Iterable[str]) -> list[Task]:
    """Ours, in float32 too, and each installed peer that knows the model."""
    found = [_ours(job), _ours(job, variant="float32")]
    for peer in (PEERS[name] for name in peers if name != "sgdsim" and PEERS[name].installed):
        # JAX and PyTorch are quicker in float32, which is what the bars speak of.
        variants = [v for v in peer.models.get(job.model, {}) if "float32" in v or peer.name in ONLY_FLOAT64]
        found += [Task(peer.name, variant, 1, job) for variant in variants]
    return found


def _reference_tasks(job: Job, counts: Sequence[int]) -> Iterable[Task]:
    for threads in counts:
        yield _ours(job, threads)
        for peer in PEERS.values():
            if peer.name != "sgdsim" and peer.installed and (threads == 1 or peer.threaded):
                yield from (Task(peer.name, variant, threads, job) for variant in peer.models[job.model])


def _ours(job: Job, threads: int = 1, variant: str = "float64") -> Task:
    return Task("sgdsim", variant, threads, job)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> int:
    """Exit code 1 when a program fails or simulates something else."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to run")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run, and are the peers right?")
    parser.add_argument("--rounds", type=int, help="timed calls of each task")
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder for tables, data and figure")
    options = parser.parse_args()
    if options.device == "cuda":
        return gpu.main(options.quick, options.rounds, options.output)
    plan = QUICK if options.quick else FULL
    results = measure(replace(plan, rounds=options.rounds or plan.rounds))
    data = tables.data(results)
    write(options.output / "benchmark", tables.report(results, complete=plan.complete), data)
    return complain(results.timings)


if __name__ == "__main__":
    sys.exit(main())
