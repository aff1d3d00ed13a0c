"""Constants and data that each trajectory has of its own. They are not stored, but drawn again from the same seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sgdsim.app.verdicts import scenario_of
from sgdsim.base import take
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.ensemble.ensemble import Ensemble
from sgdsim.formulas.names import normal, split_names
from sgdsim.formulas.vectors import base_name, shapes
from sgdsim.model.run import Run
from sgdsim.simulation.simulator import Simulator


def drawn_values(ensemble: Ensemble, name: str) -> np.ndarray:
    """Values of a constant, or of a column of data, in each trajectory.

    Their random numbers follow from the seed and the number of the trajectory, so the kernels of the run can draw them
    again. For a run on a GPU they are drawn on the CPU, whose floats agree with those of the GPU within rounding.

    Parameters
    ----------
    ensemble
        Ensemble of a run with constants or data that each trajectory has of its own.
    name
        A constant, ``B``, a column, or one coordinate, ``B[0,2]``.

    Returns
    -------
    ndarray
        Shape (trajectory, axes of the constant…), for data (trajectory, row, axes…); for a sweep (point, …).

    Raises
    ------
    InputError
        For a name that trajectories do not have of their own, and for values of an array that is not in memory any
        more.
    """
    scenario = scenario_of(ensemble)
    name = normal(take.text(name, "name"))
    found = [_of_run(run, name, 0 if scenario.common_noise else point) for point, run in enumerate(scenario.runs)]
    return np.stack(found) if "point" in ensemble.sizes else found[0]


def _of_run(run: Run, name: str, point: int) -> np.ndarray:
    """Values in all trajectories at one point of a sweep."""
    loss = run.loss
    data = loss.data.rows if loss.data is not None else 0
    own = [*loss.drawn, *loss.own_columns]
    name = name if name in own else ",".join(split_names(name))  # B[0, 2]
    keys = [key for key in own if name in (key, base_name(key))]
    if not keys:
        known = dict.fromkeys(map(base_name, own))
        raise InputError(unknown_name("constant or column of each trajectory", name, known) if own else _NONE)
    simulator = Simulator(run, point)
    program = simulator.program
    if keys[0] in loss.drawn:
        rows = [program.variables.index(key) for key in keys]
        shape: Sequence[int] = () if name in own else shapes(keys)[name]
    else:
        first = [program.first_data + list(loss.own_columns).index(key) * data for key in keys]
        rows = [start + row for row in range(data) for start in first]
        shape = (data, *(() if name in own else shapes(keys)[name]))
    blocks = [simulator.final_state(block)[rows, : simulator.trajectories_in(block)] for block in simulator.blocks()]
    return np.concatenate(blocks, axis=1).T.reshape(run.trajectories, *shape)


_NONE = "no constant and no data are of each trajectory, expected some, such as constants={'b': 'normal'}"
