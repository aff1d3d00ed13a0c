"""Scaling of runs with workers and shards, and cost of checkpoints: ``python -m benchmarks.scaling [--quick]``."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sgdsim.app.cluster import merge_shards, run_shard
from sgdsim.app.dask_workers import connected
from sgdsim.app.workflow import run_parts
from sgdsim.input.loading import load_parts
from sgdsim.input.scenario import Scenario
from sgdsim.simulation.checkpoints import SHARE


@dataclass(frozen=True)
class Size:
    """Sizes of the measurements.

    Attributes
    ----------
    trajectories, steps
        Of the run on one worker.
    workers
        Processes of one thread each.
    shards
        Numbers of shards, which take as many groups of a sweep as there are.
    rounds
        Timed calls, of which the median counts.
    """

    trajectories: int
    steps: int
    workers: tuple[int, ...]
    shards: tuple[int, ...]
    rounds: int


FULL = Size(200_000, 5000, (1, 2), (1, 8, 64, 1000), 2)
QUICK = Size(2000, 20, (1, 2), (1, 4, 8), 1)


def main(arguments: Sequence[str] | None = None) -> str:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Small sizes, to see that it works.")
    size = QUICK if parser.parse_args(arguments).quick else FULL
    text = "\n".join([_by_workers(size), "", _by_shards(size), "", _checkpoints(size)])
    print(text)
    return text


def _by_workers(size: Size) -> str:
    """Strong scaling, the same run on more workers; weak scaling, as much more of it."""
    rows = ["| workers | strong: speed-up | weak: time, relative |", "| --- | --- | --- |"]
    first: tuple[float, float] | None = None
    for workers in size.workers:
        with connected(f"local:{workers}") as client:
            client.wait_for_workers(workers)
            strong = weak = _median(size, _scenarios(size, 1), client=client)
            if workers > 1:
                weak = _median(size, _scenarios(size, workers), client=client)
        first = first or (strong, weak)
        rows.append(f"| {workers} | {first[0] / strong:.2f} | {weak / first[1]:.2f} |")
    return "\n".join(rows)


def _by_shards(size: Size) -> str:
    """Table of the time that a shard takes beside its steps, and of the time to merge."""
    rows = ["| shards | overhead a shard, s | merge, s |", "| --- | --- | --- |"]
    for count in size.shards:
        points = -(-count // 64)
        scenarios = _scenarios(size, 1, points=points, steps=20)
        with _folder() as folder:
            run_parts(scenarios, folder / "first.h5", threads=1)  # which compiles
            whole = _seconds(partial(run_parts, scenarios, folder / "whole.h5", threads=1))
            parts = sum(
                _seconds(partial(run_shard, scenarios, f"{number}/{count}", folder / "parts", threads=1))
                for number in range(1, count + 1)
            )
            merge = _seconds(partial(merge_shards, folder / "parts"))
        rows.append(f"| {count} | {(parts - whole) / count:.3f} | {merge:.2f} |")
    return "\n".join(rows)


def _checkpoints(size: Size) -> str:
    """Line on how much longer a run takes with a checkpoint every second than without."""
    scenarios = _scenarios(size, 1)
    often, never = (_median(size, scenarios, checkpoint_every=every, threads=1) for every in ("1s", "never"))
    return f"a checkpoint every second costs {often / never - 1:+.1%} of a run's time, and may cost {SHARE:.0%}"


def _scenarios(size: Size, factor: int, points: int = 1, steps: int | None = None) -> list[Scenario]:
    settings: dict[str, Any] = {"run.trajectories": size.trajectories * factor, "run.steps": steps or size.steps}
    settings |= {"record.every": steps or size.steps}
    if points > 1:
        settings["sweep"] = {"run.seed": list(range(points))}
    return load_parts("river_valley", settings)


def _median(size: Size, scenarios: list[Scenario], **options: Any) -> float:
    found = []
    for _ in range(size.rounds + 1):  # the first one compiles
        with _folder() as folder:
            found.append(_seconds(partial(run_parts, scenarios, folder / "run.h5", **options)))
    return statistics.median(found[1:])


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="sgdsim-scaling-") as name:
        yield Path(name)


if __name__ == "__main__":
    main()
