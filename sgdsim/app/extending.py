"""Runs that are made longer or larger, from the kept state of a finished run; results are as of a single run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sgdsim.app.in_shards import scenarios_of
from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.base.files import PathLike
from sgdsim.ensemble import open_parts
from sgdsim.input.sweep import read_sweep
from sgdsim.model.run import Run
from sgdsim.simulation.kept_states import Kept, check, folder_of
from sgdsim.simulation.unfinished import (
    Description,
    Unfinished,
    description_beside,
    refuse_another,
    run_ids,
)

_MAY_DIFFER = (
    *("title", "predict", "run.steps", "run.time", "run.trajectories"),
    *("record.every", "record.records", "record.snapshots"),
)
"""Keys that may differ in a longer or larger run; their effects are compared as numbers."""


def extending(output: PathLike, described: Description, now: Sequence[Sequence[Run]]) -> Description:
    """Description of a run that continues the shorter or smaller run in its output, if there is one.

    Parameters
    ----------
    output
        Path of the output of both runs.
    described, now
        Description of the wanted run, and its runs: for each part, one for each point of the sweep.

    Raises
    ------
    InputError
        If the states of the earlier run were not kept, and for settings that depend on the number of steps or of
        trajectories.
    """
    if not os.path.isfile(output) or described.overwrite or description_beside(output) is not None:
        return described
    there = [(part, str(one.attributes.get("scenario", ""))) for part, one in open_parts(output).items()]
    here = [(part, text) for part, _, text in described.scenarios]
    kept = Kept.beside(output)
    is_kept = kept is not None and run_ids(output) == {kept.run["id"]}
    if [part for part, _ in there] != [part for part, _ in here]:
        return described  # another scenario, which is refused later, when the file is read
    if there == here:
        if described.keeps and not is_kept:
            raise InputError(f"{output}: is finished, and its states were not kept: --overwrite computes it anew")
        return described
    for (_, was), (_, text) in zip(there, here, strict=True):
        refuse_another(str(output), was, text, may_differ=_MAY_DIFFER)
    if kept is None or not is_kept:
        raise not_kept(output)
    before = Description.read(kept.run, kept.folder)
    for one, runs in zip(scenarios_of(before, output), now, strict=True):
        check(one.runs, runs)
    if before.device != described.device:
        raise InputError(f"--device: {described.device}, expected {before.device}, where {output} was computed")
    return replace(described, overwrite=True, keeps=True, extends=before.id)


def go_on(run: Unfinished, now: Sequence[Sequence[Run]], client: Any = None) -> None:
    """Let a run that extends an earlier one begin with its kept state.

    Raises
    ------
    InputError
        If the state is missing or damaged; and for workers of Dask, if states are to be kept.
    """
    if client is not None and run.described.keeps:
        raise InputError(f"--keep-state: states of {run.output} on workers of Dask are not kept, expected it without")
    kept = Kept.beside(run.output) if run.described.extends else None
    if kept is not None and kept.run["id"] == run.described.extends:
        run.extend(kept, [one.runs for one in scenarios_of(Description.read(kept.run, kept.folder), run.output)], now)
    elif run.described.extends and (kept is None or kept.run["id"] != run.described.id):
        raise InputError(f"{folder_of(run.output)}: is gone, expected what the run before has left")


def not_kept(output: PathLike) -> InputError:
    """Error that a run can be made neither longer nor larger."""
    return InputError(f"{output}: its states were not kept: a run with --keep-state can be made longer or larger")


def changed(described: Description, overrides: Mapping[str, int], output: PathLike) -> Description:
    """Description of the run with another number of steps or of trajectories.

    Raises
    ------
    InputError
        For a number that is swept.
    """
    texts = []
    for part, name, text in described.scenarios:
        data = toml.loads(text, f"the scenario of {output}")
        swept = read_sweep(data.get("sweep", {}))
        for key, number in overrides.items():
            if key in swept:
                raise InputError(f"--{key.removeprefix('run.')}: {number}, but {output} has a sweep of {key}")
            toml.set_key(data, key, number)
        if "run.steps" in overrides:
            data["run"].pop("time", None)
        texts.append((part, name, toml.dumps(data)))
    return replace(described, scenarios=tuple(texts))
