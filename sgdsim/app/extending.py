"""Runs that are made longer or larger: from what a finished one has kept, to the bits of one that was so before."""

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
"""Keys of a longer or larger run; what follows from them is compared by its numbers."""


def extending(output: PathLike, described: Description, now: Sequence[Sequence[Run]]) -> Description:
    """A run as it is to be resumed: where its output holds a shorter or smaller one, it goes on from that.

    Parameters
    ----------
    output
        Of both.
    described, now
        The run that is wanted: of each part one a sweep point.

    Raises
    ------
    InputError
        If the states of that one were not kept, and for what refers to the number of steps or of trajectories.
    """
    if not os.path.isfile(output) or described.overwrite or description_beside(output) is not None:
        return described
    there = [(part, str(one.attributes.get("scenario", ""))) for part, one in open_parts(output).items()]
    here = [(part, text) for part, _, text in described.scenarios]
    kept = Kept.beside(output)
    is_kept = kept is not None and run_ids(output) == {kept.run["id"]}
    if [part for part, _ in there] != [part for part, _ in here]:
        return described  # which is refused where the file is looked at
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
    """Let a run that makes another one longer or larger begin with what that has kept.

    Raises
    ------
    InputError
        If it is gone, or damaged; for workers of Dask, where states are to be kept.
    """
    if client is not None and run.described.keeps:
        raise InputError(f"--keep-state: states of {run.output} on workers of Dask are not kept, expected it without")
    kept = Kept.beside(run.output) if run.described.extends else None
    if kept is not None and kept.run["id"] == run.described.extends:
        run.extend(kept, [one.runs for one in scenarios_of(Description.read(kept.run, kept.folder), run.output)], now)
    elif run.described.extends and (kept is None or kept.run["id"] != run.described.id):
        raise InputError(f"{folder_of(run.output)}: is gone, expected what the run before has left")


def not_kept(output: PathLike) -> InputError:
    """That a run can be made neither longer nor larger."""
    return InputError(f"{output}: its states were not kept: a run with --keep-state can be made longer or larger")


def changed(described: Description, overrides: Mapping[str, int], output: PathLike) -> Description:
    """The same run with other numbers of steps or of trajectories.

    Raises
    ------
    InputError
        For a number that each point of a sweep has of its own.
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
