"""What each trajectory has of its own, read back from an ensemble: drawn anew, of the same words, and never stored."""

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
from sgdsim.simulation.run_loop import Simulator


def drawn_values(ensemble: Ensemble, name: str) -> np.ndarray:
    """The values that a constant, or a column of data, has in each trajectory.

    Their random words follow from the seed and the number of the trajectory, so the kernels that began the run draw
    them again; a run of a GPU is drawn on the CPU, whose floats agree with its own within the stated bound.

    Parameters
    ----------
    ensemble
        Of a run with constants or data of each trajectory.
    name
        A constant, ``B``, a column, or one coordinate, ``B[0,2]``.

    Returns
    -------
    ndarray
        (trajectory, …), of data (trajectory, row, …); of a sweep, after its points.

    Raises
    ------
    InputError
        For a name that no trajectory has of its own, and for values of an array that is no more.
    """
    scenario = scenario_of(ensemble)
    name = normal(take.text(name, "name"))
    found = [_of_run(run, name, 0 if scenario.common_noise else point) for point, run in enumerate(scenario.runs)]
    return np.stack(found) if "point" in ensemble.sizes else found[0]


def _of_run(run: Run, name: str, point: int) -> np.ndarray:
    """Of all trajectories of a point of a sweep."""
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
