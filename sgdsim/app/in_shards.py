"""A run in shards: each is computed separately and has its own file; merged, they are bit-identical to a single run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sgdsim.base.errors import InputError
from sgdsim.base.files import PathLike
from sgdsim.ensemble import Ensemble
from sgdsim.input.scenario import Scenario
from sgdsim.simulation.devices import Device
from sgdsim.simulation.memory_needs import limits_of_parts
from sgdsim.simulation.part_checkpoints import Part
from sgdsim.simulation.progress import Progress
from sgdsim.simulation.run_loop import Computed, compute, labelled, work_of
from sgdsim.simulation.shards import Merging, Shard, Unit, identity, merged, write
from sgdsim.simulation.unfinished import Description, refuse_another, unfinished

Compute = Callable[[Description, Sequence[Shard], Path], Iterator[Shard]]
"""Function that writes the files of shards of a run into a folder, in any order, and yields each finished shard."""


def run_in_shards(
    scenarios: Sequence[Scenario],
    described: Description,
    folder: Path,
    of: int,
    compute: Compute,
    progress: bool,
    memory_limit: float | str | None = None,
) -> list[Ensemble]:
    """Compute the shards of a run that are still missing, and merge all of them.

    Parameters
    ----------
    scenarios
        Scenarios of all parts, from `load_parts`.
    described
        Description of the run.
    folder, of
        Folder of the files of shards, and number of shards.
    compute
        Function that computes the missing shards.
    progress
        True to show a bar on standard error, if that is a terminal.
    memory_limit
        Bytes that the merged results may take, see `run_scenario`.

    Returns
    -------
    list of Ensemble
        An ensemble for each part.

    Raises
    ------
    InputError
        If the results do not fit into the memory, before anything is computed.
    """
    limits_of_parts([one.runs for one in scenarios], folder, memory_limit)
    shards = [Shard(number, of) for number in range(1, of + 1)]
    missing = [shard for shard in shards if not _is_there(folder / shard.file_name)]
    steps = {shard: _work(scenarios, shard) for shard in shards}
    with Progress(sum(steps.values()), progress) as bar:
        bar.begin(sum(steps[shard] for shard in shards if shard not in missing))
        for shard in compute(described, missing, folder):
            bar.update(steps[shard])
    return list(put_together(scenarios, *merged(folder), memory_limit).values())


def check_device(device: str) -> None:
    """Refuse to let every shard choose its device: shards of different devices cannot be merged.

    Raises
    ------
    InputError
        For ``auto``, and for an unknown device.
    """
    if Device.parse(device).target == "auto":
        raise InputError(
            "--device: 'auto', expected cpu or cuda for a run in shards, each of which would choose its own"
        )


def one_after_the_other(
    threads: int | None = None, every: float | None = None, memory_limit: float | str | None = None
) -> Compute:
    """Function that computes shards in this process, with checkpoints of their own."""

    def computing(described: Description, shards: Sequence[Shard], folder: Path) -> Iterator[Shard]:
        for shard in shards:
            compute_shard(described, shard, folder, threads=threads, every=every, memory_limit=memory_limit)
            yield shard

    return computing


def compute_shard(
    described: Description,
    shard: Shard,
    folder: Path,
    *,
    threads: int | None = None,
    every: float | None = None,
    memory_limit: float | str | None = None,
) -> Path:
    """Compute or continue one shard of a run, and write its file."""
    path = folder / shard.file_name
    own = replace(described, shard=str(shard))
    how: dict[str, Any] = {"every": every, "threads": threads, "memory_limit": memory_limit}
    return write_shard(scenarios_of(described, path), own, path, resume=True, **how)


def scenarios_of(described: Description, where: PathLike) -> list[Scenario]:
    """Scenarios of all parts in a description."""
    return [
        replace(Scenario.parse(text, name, where=f"the scenario of {where}"), part=part)
        for part, name, text in described.scenarios
    ]


def write_shard(
    scenarios: Sequence[Scenario],
    described: Description,
    output: Path,
    *,
    resume: bool,
    every: float | None,
    threads: int | None,
    progress: bool = False,
    memory_limit: float | str | None = None,
) -> Path:
    """Simulate the shard that is described, save checkpoints on the way, and write its file."""
    shard = Shard.parse(described.shard)
    parts = shard.units([len(one.runs) for one in scenarios])
    with unfinished(output, described, total=_work(scenarios, shard), every=every, resume=resume) as run:
        if output.is_file() and resume and not run.described.overwrite:
            _, there = identity(output)
            for (_, _, was), (_, _, now) in zip(there.scenarios, described.scenarios, strict=True):
                refuse_another(str(output), was, now)
            return output
        runs = [[one.runs[point] for point, _ in units] for one, units in zip(scenarios, parts, strict=True)]
        limits = iter(limits_of_parts([some for some in runs if some], run.checkpoints.folder, memory_limit))
        found: list[tuple[Sequence[Unit], Computed | None]] = []
        for index, (one, own, units) in enumerate(zip(scenarios, runs, parts, strict=True)):
            options: dict[str, Any] = {
                "threads": threads,
                "progress": progress,
                "checkpoints": Part(run.checkpoints, index),
            }
            options |= {"common_noise": one.common_noise, "device": run.described.device}
            found.append((units, compute(own, units=units, memory_limit=next(limits), **options) if own else None))
        write(output, shard, run.described, found)
    return output


def put_together(
    scenarios: Sequence[Scenario],
    described: Description,
    merging: Merging,
    memory_limit: float | str | None = None,
) -> dict[str, Ensemble]:
    """Ensembles of all parts of a scenario, merged from all shards."""
    made, limits = {}, limits_of_parts([one.runs for one in scenarios], merging.folder, memory_limit)
    for index, (one, (part, name, text)) in enumerate(zip(scenarios, described.scenarios, strict=True)):
        ensemble = labelled(
            one.runs,
            merging.part(index, one.runs, limits[index]),
            scenario=text,
            sweep=one.sweep or None,
            title=str(one.data["title"]),
        )
        ensemble.attributes |= {"scenario_name": name, "shards": merging.count}
        made[part] = ensemble
    return made


def _is_there(path: Path) -> bool:
    """Tell whether the file of a shard exists and is undamaged; a damaged file is removed."""
    if not path.is_file():
        return False
    try:
        identity(path)
    except InputError:
        path.unlink()
        return False
    return True


def _work(scenarios: Sequence[Scenario], shard: Shard) -> int:
    """Approximate number of trajectory-steps of a shard, see `work_of`."""
    parts = shard.units([len(one.runs) for one in scenarios])
    return sum(
        work_of([one.runs[point] for point, _ in units], units) for one, units in zip(scenarios, parts, strict=True)
    )
