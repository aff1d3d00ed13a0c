"""Runs that continue from the end of another run: the description of its file that a scenario keeps."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from sgdsim.base import toml
from sgdsim.base.errors import InputError, shortened
from sgdsim.ensemble import Attribute, LastStates

_WHOLE = re.compile("[0-9]{1,20}")


def describe_snapshot(path: str | os.PathLike[str], trajectories: int | None) -> dict[str, Any]:
    """Description of a file from whose last snapshot a scenario starts.

    Parameters
    ----------
    path
        A file of a single run.
    trajectories
        Number of trajectories that are taken, from the first on; None for all.

    Returns
    -------
    dict
        ``file``, ``digest``, ``step``, ``seeds`` (of this run and of the runs that it continued), ``antithetic`` if it
        is true, ``trajectories``, and ``moments`` by parameter.

    Raises
    ------
    InputError
        For a file that sgdsim did not write, a sweep, a file without snapshots, too few trajectories, or diverged ones.
    """
    states = LastStates.open(path)
    number = len(states.theta) if trajectories is None else trajectories
    if number > len(states.theta):
        raise InputError(f"run.from: {path} holds {len(states.theta)} trajectories, expected at least {number}")
    taken = states.theta[:number].astype(np.float64)
    if not np.isfinite(taken).all():
        row = int(np.argmin(np.isfinite(taken).all(axis=1)))
        raise InputError(f"run.from: trajectory {row} of {path} has diverged, expected finite values")
    columns = dict(zip(states.names, taken.T, strict=True))
    with np.errstate(over="ignore"):
        moments = {name: [float(np.mean(x**k)) for k in range(1, 5)] for name, x in columns.items()}
    if not np.isfinite(list(moments.values())).all():
        raise InputError(f"run.from: the states in {path} are too large, expected finite moments")
    return {
        "file": os.fspath(path),
        "digest": states.digest,
        "step": states.step,
        "seeds": _seeds(path, states.attributes),
        **({"antithetic": True} if "antithetic" in states.attributes else {}),
        "trajectories": number,
        "moments": moments,
    }


def _seeds(path: str | os.PathLike[str], attributes: Mapping[str, Attribute]) -> list[int]:
    """The seeds of a run and of the runs that it continued."""
    start: Any = toml.loads(str(attributes.get("scenario", "")), f"the scenario in {path}")
    for key in ("run", "from", "seeds"):
        start = start.get(key) if isinstance(start, Mapping) else None
    seeds = [attributes.get("seed"), *(start if isinstance(start, list) else [])]
    for seed in seeds:
        if isinstance(seed, bool) or not _WHOLE.fullmatch(str(seed)) or int(str(seed)) >= 2**64:
            found = "no seed" if seed is None else f"the seed {shortened(repr(seed), 40)}"
            raise InputError(f"run.from: {path} has {found}, expected a whole number of at most 64 bits")
    return [int(str(seed)) for seed in seeds]
