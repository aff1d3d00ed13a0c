"""A run in shards: each is a command of its own on any machine, and one more puts them together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sgdsim.app.workflow import check_runs
from sgdsim.base import take
from sgdsim.base.errors import InputError
from sgdsim.base.files import check_output
from sgdsim.ensemble import Ensemble, save_parts
from sgdsim.input.scenario import Scenario
from sgdsim.simulation.checkpoints import Part, seconds_between
from sgdsim.simulation.run_loop import Computed, compute, labelled, work_of
from sgdsim.simulation.shards import Shard, Unit, identity, merged, write
from sgdsim.simulation.unfinished import Description, description_beside, refuse_another, unfinished


def run_shard(
    scenarios: Sequence[Scenario],
    shard: str,
    folder: str | Path,
    *,
    threads: int | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: bool = False,
    resume: bool = False,
    checkpoint_every: float | str | None = None,
) -> Path:
    """Simulate one of several equal parts of a run, and write its file.

    Parameters
    ----------
    scenarios
        As `load_parts` gives them.
    shard
        Which part, such as ``"3/64"``.
    folder
        Where the files of all shards stand; it is made if it is not there.
    threads, device, overwrite, progress, resume, checkpoint_every
        As of `run_scenario`.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    InputError
        For a number out of range, and as `run_scenario`.
    """
    chosen = Shard.parse(take.text(shard, "--shard"))
    chosen.units([len(one.runs) for one in scenarios])
    folder = Path(take.path(folder, "folder"))
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot make this folder: {error.strerror}") from None
    output = folder / chosen.file_name
    check_output(output, overwrite or resume)
    for one in scenarios:
        check_runs(one.runs)
    texts = [(one.part, one.name, one.toml) for one in scenarios]
    described = Description.new(texts, overwrite, device, shard)
    return _written(scenarios, chosen, described, output, resume, seconds_between(checkpoint_every), threads, progress)


def resume_shard(
    path: str | Path,
    *,
    threads: int | None = None,
    progress: bool = False,
    checkpoint_every: float | str | None = None,
) -> Path:
    """Go on with a shard that was killed or interrupted; see `resume_file`."""
    path = Path(take.path(path, "path"))
    described = description_beside(path)
    if described is None and path.is_file():
        identity(path)
        return path
    if described is None:
        raise InputError(f"{path}: there is nothing to resume, neither the file nor checkpoints beside it")
    scenarios = _scenarios(described, path)
    every = seconds_between(checkpoint_every)
    return _written(scenarios, Shard.parse(described.shard), described, path, True, every, threads, progress)


def merge_shards(folder: str | Path, output: str | Path | None = None, *, overwrite: bool = False) -> list[Ensemble]:
    """Put the files of all shards together: to the same bits as one run.

    Parameters
    ----------
    folder
        Where they stand.
    output
        HDF5 file to write; by default beside the folder, with its name.
    overwrite
        Whether an existing file may be replaced.

    Returns
    -------
    list of Ensemble
        One a part of the scenario.

    Raises
    ------
    InputError
        If some are missing, damaged or of another run.
    """
    folder = Path(take.path(folder, "folder"))
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    target = default_merged(folder) if output is None else Path(take.path(output, "output"))
    check_output(target, overwrite)
    described, merging = merged(folder)
    scenarios = _scenarios(described, folder)
    made = {}
    for index, (one, (part, name, text)) in enumerate(zip(scenarios, described.scenarios, strict=True)):
        ensemble = labelled(
            one.runs,
            merging.part(index, one.runs),
            scenario=text,
            sweep=one.sweep or None,
            title=str(one.data["title"]),
        )
        ensemble.attributes |= {"scenario_name": name, "shards": merging.count}
        made[part] = ensemble
    save_parts(made, target, overwrite=overwrite)
    return list(made.values())


def default_merged(folder: Path) -> Path:
    """Where the shards of a folder are merged to."""
    whole = Path(os.path.normpath(folder))
    if whole.name in ("", ".."):
        whole = Path(os.path.abspath(folder))
    return whole.with_name(f"{whole.name}.h5")


def _scenarios(described: Description, where: Path) -> list[Scenario]:
    return [
        replace(Scenario.parse(text, name, where=f"the scenario of {where}"), part=part)
        for part, name, text in described.scenarios
    ]


def _written(
    scenarios: Sequence[Scenario],
    shard: Shard,
    described: Description,
    output: Path,
    resume: bool,
    every: float | None,
    threads: int | None,
    progress: bool,
) -> Path:
    parts = shard.units([len(one.runs) for one in scenarios])
    runs = [[one.runs[point] for point, _ in units] for one, units in zip(scenarios, parts, strict=True)]
    total = sum(work_of(own, units) for own, units in zip(runs, parts, strict=True))
    with unfinished(output, described, total=total, every=every, resume=resume) as run:
        if output.is_file() and resume and not run.described.overwrite:
            _, there = identity(output)
            for (_, _, was), (_, _, now) in zip(there.scenarios, described.scenarios, strict=True):
                refuse_another(str(output), was, now)
            return output
        found: list[tuple[Sequence[Unit], Computed | None]] = []
        for index, (one, units) in enumerate(zip(scenarios, parts, strict=True)):
            found.append(
                (units, _computed(one, units, run.described.device, threads, progress, run.checkpoints.part(index)))
            )
        write(output, shard, run.described, found)
    return output


def _computed(
    scenario: Scenario, units: Sequence[Unit], device: str, threads: int | None, progress: bool, checkpoints: Part
) -> Computed | None:
    if not units:
        return None
    return compute(
        [scenario.runs[point] for point, _ in units],
        common_noise=scenario.common_noise,
        device=device,
        threads=threads,
        progress=progress,
        checkpoints=checkpoints,
        units=units,
    )
