"""Labelled arrays of an ensemble, built from the sums that the kernels have accumulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sgdsim.base.sparse import Sparse, stacked
from sgdsim.ensemble import Counted, Rare, Variable
from sgdsim.kernels.accumulators import Accumulators
from sgdsim.model.run import Run
from sgdsim.simulation.recorded_statistics import bin_coordinates, coordinate, over, statistics
from sgdsim.statistics.moments import Moments, merge_axis

_STATISTICS = {
    "mean": "mean over live trajectories",
    "variance": "unbiased variance over live trajectories",
    "skewness": "skewness over live trajectories",
    "kurtosis": "excess kurtosis over live trajectories",
    "mean_stderr": "standard error of the mean",
    "variance_stderr": "standard error of the variance",
}


def assemble(
    runs: Sequence[Run],
    record_steps: Sequence[np.ndarray],
    snapshot_steps: Sequence[np.ndarray],
    results: Accumulators,
    sweep: Mapping[str, Sequence[Any]] | None,
) -> dict[str, Variable]:
    """Labelled arrays of all points of a sweep, by name.

    Parameters
    ----------
    runs
        The run of each point.
    record_steps, snapshot_steps
        Numbers of completed steps at records and snapshots, for each point.
    results
        Accumulated sums, with a leading axis of points.
    sweep
        The swept values by key; None for a single run, whose arrays have no dimension ``point``.
    """
    run = runs[0]
    fields = Moments(*np.moveaxis(results.moments, -1, 0))
    merged = merge_axis(fields, axis=2)
    ends = stacked(results.status)
    undefined = ends.values < 0
    status = replace(ends, values=np.where(undefined, -1 - ends.values, ends.values))
    rates, times = (
        np.stack([function(run, steps) for run, steps in zip(runs, record_steps, strict=True)])
        for function in (_rates_at, _times_at)
    )
    variables = {
        "theta": over(f"snapshot {_kept(run)} parameter", results.theta, "parameters after snapshot_step steps"),
        "status": _rare(status, "completed steps when divergence was found, 0 = never"),
        "time": over("record", times, "sum of the learning rates of all steps up to the record"),
        "learning_rate": over("record", rates, "learning rate of the step that led to the record"),
        "count": over("record observable", merged.count.astype(np.int64), "finite values of live trajectories"),
        "excluded": over(
            "record observable",
            run.trajectories - merged.count.astype(np.int64),
            "diverged or non-finite values",
        ),
    }
    # If every step of the rule is defined, a value that is NaN has come from numbers that were too large before.
    if undefined.any() and any(run.may_be_undefined for run in runs):
        places = Sparse(ends.shape, "int8", ends.index[undefined], np.ones(undefined.sum(), np.int64))
        variables["not_a_number"] = _rare(places, "1 = the state became not a number, by no overflow")
    if run.stop:
        by, at = results.stopped[:, 0], results.stopped[:, 1]
        bounds = ", ".join(f"{number} {text}" for number, text in enumerate(run.stop, 1))
        variables["stopped_by"] = over("trajectory", by.astype(np.int16), f"which bound has ended it: 0 none, {bounds}")
        variables["stopped_at"] = over("trajectory", at, "completed steps when it ended, -1 = never")
    for name, meaning in _STATISTICS.items():
        variables[name] = over("record observable", getattr(merged, name), meaning)
    variables["mean"] = over("record observable", np.where(merged.count > 0, merged.mean, np.nan), _STATISTICS["mean"])
    for name, field in zip(("count", "mean", "m2", "m3", "m4"), fields, strict=True):
        data = field.astype(np.int64) if name == "count" else field
        variables[f"group_{name}"] = over("record group observable", data, f"{name} of one group of trajectories")
    variables |= statistics(run, record_steps[0], results)
    # Points with different numbers of steps have records at different steps.
    for name, dimension, steps in (
        ("record_step", "record", record_steps),
        ("snapshot_step", "snapshot", snapshot_steps),
    ):
        same = all(np.array_equal(one, steps[0]) for one in steps)
        meaning = "completed steps"
        variables[name] = (
            coordinate(dimension, steps[0], meaning) if same else over(dimension, np.stack(steps), meaning)
        )
    if sweep is None:
        variables = {n: v.at(0) if v.dimensions[0] == "point" else v for n, v in variables.items()}
    else:
        variables["point"] = coordinate("point", np.arange(len(runs)), "sweep point")
        for key, values in sweep.items():
            variables[f"sweep_{key}"] = Variable(
                ("point",), _as_array(values), {"long_name": f"swept value of {key}", "units": "1"}
            )
    return variables | _coordinates(run) | bin_coordinates(run)


def _rare(values: Sparse, meaning: str) -> Variable:
    return Rare(("point", "trajectory"), values, {"long_name": meaning, "units": "1"})


def _kept(run: Run) -> str:
    """Name of the dimension of the trajectories whose snapshots are kept."""
    return "trajectory" if run.recorder.snapshot_trajectories is None else "snapshot_trajectory"


def _coordinates(run: Run) -> dict[str, Variable]:
    labels = {"long_name": "trajectory index", "units": "1"}
    return {
        "trajectory": Counted("trajectory", run.trajectories, "int32" if run.trajectories < 2**31 else "int64", labels),
        "parameter": coordinate("parameter", np.array(run.loss.parameters, dtype=object), "parameter"),
        "observable": coordinate("observable", np.array(run.measured, dtype=object), "observable"),
    }


def _rates_at(run: Run, record_steps: np.ndarray) -> np.ndarray:
    rates = np.concatenate([[np.nan], run.schedule.rates(run.steps)])
    return np.take(rates, record_steps)


def _times_at(run: Run, record_steps: np.ndarray) -> np.ndarray:
    return np.take(run.schedule.times(run.steps), record_steps)


def _as_array(values: Sequence[Any]) -> np.ndarray:
    numeric = all(isinstance(value, int | float) for value in values)
    return np.array(values, dtype=np.float64 if numeric else object)
