"""Values, places and trajectories in an ensemble, found by name and step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.base.errors import unknown_name
from sgdsim.formulas.names import normal
from sgdsim.statistics.estimate import (
    GROUPS,
    NotMeasured,
)

if TYPE_CHECKING:
    from sgdsim.ensemble import Ensemble

LOOK = 4
"""Steps between two looks of a run at whether trajectories have diverged."""


def record_of(ensemble: Ensemble, step: int) -> int:
    """The place of a step among the records.

    Raises
    ------
    NotMeasured
        For a step at which no moments were recorded.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> record_of(Ensemble({"record_step": Variable(("record",), [0, 9])}, {}), 9)
    1
    """
    return _position(ensemble["record_step"], step, "moments were recorded")


def index_of(ensemble: Ensemble, kind: str, name: str) -> int:
    """The place of a name among those of its kind.

    Raises
    ------
    NotMeasured
        For an unknown name, with a near match.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> index_of(Ensemble({"observable": Variable(("observable",), ["x", "y"])}, {}), "observable", "y")
    1
    """
    names, name = [str(known) for known in ensemble[kind]], normal(name)
    if name not in names:
        raise NotMeasured(unknown_name(kind, name, names))
    return names.index(name)


def snapshot(ensemble: Ensemble, parameter: str, step: int) -> np.ndarray:
    """The values of a parameter at a snapshot, shape (trajectory,); those that have diverged are not finite.

    Raises
    ------
    NotMeasured
        For a parameter or step without a snapshot.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> theta = Variable(("snapshot", "trajectory", "parameter"), [[[0.25], [np.nan]]])
    >>> names = {"parameter": Variable(("parameter",), ["x"]), "snapshot_step": Variable(("snapshot",), [9])}
    >>> snapshot(Ensemble({"theta": theta, **names}, {}), "x", 9)
    array([0.25,  nan])
    """
    if "theta" not in ensemble:
        raise NotMeasured("there are no snapshots")
    row = _position(ensemble["snapshot_step"], step, "a snapshot was taken")
    column = index_of(ensemble, "parameter", parameter)
    return np.asarray(ensemble["theta"][row, :, column], dtype=float)


def live(ensemble: Ensemble, parameter: str, step: int) -> np.ndarray:
    """The values of a parameter at a snapshot for the trajectories that have not diverged.

    Raises
    ------
    NotMeasured
        For a parameter or step without a snapshot.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> theta = Variable(("snapshot", "trajectory", "parameter"), [[[0.25], [np.nan]]])
    >>> names = {"parameter": Variable(("parameter",), ["x"]), "snapshot_step": Variable(("snapshot",), [9])}
    >>> live(Ensemble({"theta": theta, **names}, {}), "x", 9)
    array([0.25])
    """
    values = snapshot(ensemble, parameter, step)
    return np.asarray(values[np.isfinite(values)])


def group_of(ensemble: Ensemble) -> np.ndarray:
    """The group of each trajectory, shape (trajectory,): its tile's index, modulo the number of groups.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> group_of(Ensemble({"status": Variable(("trajectory",), [0, 0, 0])}, {"lanes": 2}))
    array([0, 0, 1])
    """
    lanes = int(ensemble.attributes["lanes"])
    return np.arange(ensemble.sizes["trajectory"]) // lanes % GROUPS


def diverged(ensemble: Ensemble, step: int | None = None) -> int:
    """Number of trajectories that were found to diverge.

    Parameters
    ----------
    ensemble
        The ensemble.
    step
        Completed steps; only trajectories that may have diverged until then are counted. Parameters are looked at every
        four steps. None for the whole run.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> ensemble = Ensemble({"status": Variable(("trajectory",), [0, 40, 0])}, {})
    >>> diverged(ensemble), diverged(ensemble, 36), diverged(ensemble, 37)
    (1, 0, 1)
    """
    if "status" not in ensemble:
        return 0
    status = ensemble.variables["status"]
    return status.nonzero if step is None else int(np.count_nonzero(status.others < step + LOOK))


def diverged_of(ensemble: Ensemble, observable: str, step: int) -> int:
    """Number of trajectories whose value of an observable is missing at a record, because they have diverged.

    The value of an observable along the path is known if its last step, such as the end of its window, came before the
    divergence. Old files do not tell these steps: the whole run counts.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> ensemble = Ensemble({"status": Variable(("trajectory",), [0, 40, 0])}, {"last_steps": '{"early": 2}'})
    >>> diverged_of(ensemble, "early", 100), diverged_of(ensemble, "x", 100), diverged_of(ensemble, "x", 20)
    (0, 1, 0)
    """
    ends = ensemble.attributes.get("last_steps")
    if ends is None:
        return diverged(ensemble)
    return diverged(ensemble, min(step, json.loads(str(ends)).get(normal(observable), step)))


def excluded(ensemble: Ensemble, observable: str, step: int) -> int:
    """Number of trajectories outside the moments of an observable: diverged, or with a value that is not finite.

    Raises
    ------
    NotMeasured
        For an observable or step that was not recorded.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> names = {"observable": Variable(("observable",), ["x", "y"]), "record_step": Variable(("record",), [0])}
    >>> counts = Variable(("record", "observable"), [[0, 3]])
    >>> excluded(Ensemble({"excluded": counts, **names}, {}), "y", 0)
    3
    """
    if "excluded" not in ensemble:
        return 0
    return int(ensemble["excluded"][record_of(ensemble, step), index_of(ensemble, "observable", observable)])


def _position(steps: np.ndarray, step: int, what: str) -> int:
    found = np.flatnonzero(np.asarray(steps) == step)
    if not len(found):
        raise NotMeasured(f"step {step} is none of those at which {what}")
    return int(found[0])
