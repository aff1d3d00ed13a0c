"""From what the kernels accumulated to the labelled arrays of an ensemble, names and dimensions as documented."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sgdsim.ensemble import Variable
from sgdsim.moments import Moments, merge_axis
from sgdsim.run import Run

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
    record_steps: np.ndarray,
    snapshot_steps: np.ndarray,
    theta: np.ndarray,
    status: np.ndarray,
    moments: np.ndarray,
    counts: np.ndarray,
    sweep: Mapping[str, Sequence[Any]] | None,
) -> dict[str, Variable]:
    """Label the arrays of all sweep points.

    Parameters
    ----------
    runs
        One a point.
    record_steps, snapshot_steps
        Completed steps.
    theta, status, moments, counts
        As `simulation.Accumulators`, with a leading point axis.
    sweep
        The swept values by key, or None: then the arrays have no point dimension.
    """
    run = runs[0]
    fields = Moments(*np.moveaxis(moments, -1, 0))
    merged = merge_axis(fields, axis=2)
    rates = np.stack([_rates_at(run, record_steps) for run in runs])
    variables = {
        "theta": _over("snapshot trajectory parameter", theta, "parameters after snapshot_step steps"),
        "status": _over("trajectory", status, "completed steps when divergence was found, 0 = never"),
        "learning_rate": _over("record", rates, "learning rate of the step that led to the record"),
        "count": _over("record observable", merged.count.astype(np.int64), "finite values of live trajectories"),
        "excluded": _over(
            "record observable",
            run.trajectories - merged.count.astype(np.int64),
            "diverged or non-finite values",
        ),
    }
    for name, meaning in _STATISTICS.items():
        variables[name] = _over("record observable", getattr(merged, name), meaning)
    variables["mean"] = _over("record observable", np.where(merged.count > 0, merged.mean, np.nan), _STATISTICS["mean"])
    for name, field in zip(("count", "mean", "m2", "m3", "m4"), fields, strict=True):
        data = field.astype(np.int64) if name == "count" else field
        variables[f"group_{name}"] = _over("record group observable", data, f"{name} of one group of trajectories")
    variables |= _histograms(run, counts)
    if sweep is None:
        variables = {n: Variable(v.dimensions[1:], v.data[0], v.attributes) for n, v in variables.items()}
    else:
        variables["point"] = _coordinate("point", np.arange(len(runs)), "sweep point")
        for key, values in sweep.items():
            variables[f"sweep_{key}"] = Variable(
                ("point",), _as_array(values), {"long_name": f"swept value of {key}", "units": "1"}
            )
    return variables | _coordinates(run, record_steps, snapshot_steps)


def _over(dimensions: str, data: np.ndarray, meaning: str) -> Variable:
    return Variable(("point", *dimensions.split()), data, {"long_name": meaning, "units": "1"})


def _coordinate(dimension: str, data: np.ndarray, meaning: str) -> Variable:
    return Variable((dimension,), data, {"long_name": meaning, "units": "1"})


def _coordinates(run: Run, record_steps: np.ndarray, snapshot_steps: np.ndarray) -> dict[str, Variable]:
    index = np.int32 if run.trajectories < 2**31 else np.int64
    coordinates = {
        "trajectory": _coordinate("trajectory", np.arange(run.trajectories, dtype=index), "trajectory index"),
        "parameter": _coordinate("parameter", np.array(run.loss.parameters, dtype=object), "parameter"),
        "observable": _coordinate("observable", np.array(run.measured, dtype=object), "observable"),
        "record_step": _coordinate("record", record_steps, "completed steps"),
        "snapshot_step": _coordinate("snapshot", snapshot_steps, "completed steps"),
    }
    for name, histogram in run.recorder.histograms.items():
        centers = (histogram.edges[1:] + histogram.edges[:-1]) / 2
        coordinates[f"bin_{name}"] = _coordinate(f"bin_{name}", centers, f"bin centers of {name}")
        coordinates[f"edges_{name}"] = _coordinate(f"edge_{name}", histogram.edges, f"bin edges of {name}")
    return coordinates


def _rates_at(run: Run, record_steps: np.ndarray) -> np.ndarray:
    rates = np.concatenate([[np.nan], run.schedule.rates(run.steps)])
    return np.take(rates, record_steps)


def _histograms(run: Run, counts: np.ndarray) -> dict[str, Variable]:
    """Counts over all groups; integers, so their order is no matter."""
    total = counts.sum(axis=2, dtype=np.int64)
    variables = {}
    start = 0
    for name, histogram in run.recorder.histograms.items():
        stop = start + histogram.bins + 2
        part = total[..., start:stop]
        variables[f"histogram_{name}"] = _over(f"record bin_{name}", part[..., 1:-1], f"counts of {name}")
        variables[f"underflow_{name}"] = _over("record", part[..., 0], f"values of {name} below the first edge")
        variables[f"overflow_{name}"] = _over("record", part[..., -1], f"values of {name} at or above the last edge")
        start = stop
    return variables


def _as_array(values: Sequence[Any]) -> np.ndarray:
    numeric = all(isinstance(value, int | float) for value in values)
    return np.array(values, dtype=np.float64 if numeric else object)
