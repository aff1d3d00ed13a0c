"""Starts from the states in the file of another run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.ensemble import LastStates
from sgdsim.model.starts import Stored


def stored_values(starts: Mapping[str, Stored], trajectories: int) -> dict[str, np.ndarray]:
    """Values of each parameter from the file of a run, shape (trajectory,); each file is read once.

    Raises
    ------
    InputError
        For a file that cannot be read, that has changed since it was described, or holds too few trajectories.
    """
    opened = {file: LastStates.open(file) for file in dict.fromkeys(start.file for start in starts.values())}
    values = {}
    for name, start in starts.items():
        states = opened[start.file]
        if states.digest != start.digest or start.parameter not in states.names:
            raise InputError(f"run.from: {start.file} has changed since its snapshot was taken as a start")
        if len(states.theta) < trajectories:
            held = f"{len(states.theta)} trajectories, expected at least {trajectories}"
            raise InputError(f"run.from: {start.file} holds {held}")
        values[name] = states.theta[:trajectories, states.names.index(start.parameter)]
    return values
