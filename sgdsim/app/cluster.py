"""A run in shards: each shard is a command of its own on any machine, and a last command merges them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sgdsim.app.in_shards import check_device, put_together, scenarios_of, write_shard
from sgdsim.app.run_warnings import check_runs
from sgdsim.base import take
from sgdsim.base.errors import InputError
from sgdsim.base.files import check_output
from sgdsim.ensemble import Ensemble, save_parts
from sgdsim.input.scenario import Scenario
from sgdsim.simulation.checkpoints import seconds_between
from sgdsim.simulation.shards import Shard, identity, merged
from sgdsim.simulation.unfinished import Description, description_beside


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
    memory_limit: float | str | None = None,
) -> Path:
    """Simulate one of several equal shards of a run, and write its file.

    Parameters
    ----------
    scenarios
        Scenarios of all parts, from `load_parts`.
    shard
        Number of the shard and number of shards, such as ``"3/64"``.
    folder
        Folder for the files of all shards; it is created if it is missing.
    threads, device, overwrite, progress, resume, checkpoint_every, memory_limit
        See `run_scenario`.

    Returns
    -------
    Path
        Path of the file.

    Raises
    ------
    InputError
        For a number out of range, for the device ``auto``, and whatever `run_scenario` refuses.
    """
    chosen = Shard.parse(take.text(shard, "--shard"))
    chosen.units([len(one.runs) for one in scenarios])
    check_device(device)
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
    described = Description.new(texts, overwrite, device, str(chosen))
    how: dict[str, Any] = {"threads": threads, "progress": progress, "memory_limit": memory_limit}
    return write_shard(scenarios, described, output, resume=resume, every=seconds_between(checkpoint_every), **how)


def resume_shard(
    path: str | Path,
    *,
    threads: int | None = None,
    progress: bool = False,
    checkpoint_every: float | str | None = None,
    memory_limit: float | str | None = None,
) -> Path:
    """Continue a shard that was killed or interrupted; see `resume_file`."""
    path = Path(take.path(path, "path"))
    described = description_beside(path)
    if described is None and path.is_file():
        identity(path)
        return path
    if described is None:
        raise InputError(f"{path}: there is nothing to resume, neither the file nor checkpoints beside it")
    scenarios, every = scenarios_of(described, path), seconds_between(checkpoint_every)
    how: dict[str, Any] = {"threads": threads, "progress": progress, "memory_limit": memory_limit}
    return write_shard(scenarios, described, path, resume=True, every=every, **how)


def merge_shards(
    folder: str | Path,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    memory_limit: float | str | None = None,
) -> list[Ensemble]:
    """Merge the files of all shards; the result is bit-identical to that of a single run.

    Parameters
    ----------
    folder
        Folder of the files.
    output
        HDF5 file to write; by default beside the folder, with its name.
    overwrite
        True if an existing file may be replaced.
    memory_limit
        Bytes that the results may take, see `run_scenario`.

    Returns
    -------
    list of Ensemble
        An ensemble for each part of the scenario.

    Raises
    ------
    InputError
        If shards are missing, damaged or of another run, and if the results do not fit into the memory.
    """
    folder = Path(take.path(folder, "folder"))
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    target = default_merged(folder) if output is None else Path(take.path(output, "output"))
    check_output(target, overwrite)
    described, merging = merged(folder)
    made = put_together(scenarios_of(described, folder), described, merging, memory_limit)
    save_parts(made, target, overwrite=overwrite)
    return list(made.values())


def default_merged(folder: Path) -> Path:
    """Default path of the file into which the shards of a folder are merged."""
    whole = Path(os.path.normpath(folder))
    if whole.name in ("", ".."):
        whole = Path(os.path.abspath(folder))
    return whole.with_name(f"{whole.name}.h5")
