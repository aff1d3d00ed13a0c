"""Recorded statistics beyond moments: histograms, quantiles, covariances, autocorrelations, drifts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.ensemble import Variable
from sgdsim.formulas.names import split_names
from sgdsim.kernels.accumulators import Accumulators
from sgdsim.model.observables import control_for
from sgdsim.model.recorder import Histogram, Plane
from sgdsim.model.run import Run
from sgdsim.statistics.control_variates import Controlled, Groups, regression
from sgdsim.statistics.estimate import Estimate, NotMeasured, all_and_left_out, co_moment, deviations, unite
from sgdsim.statistics.estimators import STATISTICS
from sgdsim.statistics.moments import Moments, merge_axis

_COMOMENTS = ("count", "mean_1", "mean_2", "product")


def over(dimensions: str, data: np.ndarray, meaning: str) -> Variable:
    """Variable with a value for every point of a sweep."""
    return Variable(("point", *dimensions.split()), data, {"long_name": meaning, "units": "1"})


def coordinate(dimension: str, data: np.ndarray, meaning: str) -> Variable:
    """Variable of the values along a dimension, the same for every point."""
    return Variable((dimension,), data, {"long_name": meaning, "units": "1"})


def statistics(run: Run, record_steps: np.ndarray, results: Accumulators) -> dict[str, Variable]:
    """Variables of all statistics beyond moments, with a leading axis of points.

    Parameters
    ----------
    run
        Run of one of the points, which all measure the same.
    record_steps
        Numbers of completed steps at the records.
    results
        Accumulators of all points.
    """
    return {
        **(_errors_of_pairs(results.moments) if run.antithetic else {}),
        **_controlled(run, results),
        **_histograms(run, results.counts),
        **_planes(run, results.cells),
        **_covariances(run, results),
        **_autocorrelations(run, record_steps, results),
        **_drifts(run, results.changes),
    }


def check_names(run: Run) -> None:
    """Refuse recorders if two of them would have a variable or a dimension of the same name.

    Raises
    ------
    InputError
        With the name, before the run.
    """
    taken: dict[str, str] = {}
    for recorder, names in _names(run):
        for name in names:
            if name in taken:
                raise InputError(f"{recorder}: makes a variable {name!r}, as {taken[name]} does; rename an observable")
            taken[name] = recorder


def _names(run: Run) -> Iterator[tuple[str, list[str]]]:
    """Names of each recorder and of its variables and dimensions."""
    recorder = run.recorder
    for name, bins in recorder.histograms.items():
        label = _label(name)
        quantiles = [f"quantile_{name}", f"quantile_{name}_stderr"] if recorder.quantiles else []
        if isinstance(bins, Plane):
            parts = [f"histogram_{label}", f"outside_{label}"]
            parts += [part for axis in (1, 2) for part in _bin_names(f"{label}_{axis}")]
        else:
            counts = [f"{kind}_{name}" for kind in ("histogram", "underflow", "overflow")]
            parts = [*counts, *quantiles, *_bin_names(name)]
        yield f"record.histograms.{name}", parts
    for name in recorder.autocorrelations:
        parts = [f"autocorrelation_{name}", f"autocorrelation_{name}_stderr", f"lag_{name}"]
        yield f"record.autocorrelation.{name}", parts
    for name, drift in recorder.drifts.items():
        parts = [f"{kind}_{name}{end}" for kind in ("drift", "diffusion") for end in ("", "_stderr")]
        parts += [f"drift_{name}_skewness", f"groups_{name}"]
        shared = _drift_label(run, name) == name and name in recorder.histograms and drift.by == name
        yield (
            f"record.drift.{name}",
            [*parts, f"count_{name}", *([] if shared else _bin_names(_drift_label(run, name)))],
        )


def _bin_names(label: str) -> list[str]:
    return [f"bin_{label}", f"edges_{label}", f"edge_{label}"]


def bin_coordinates(run: Run) -> dict[str, Variable]:
    """Centres and edges of all bins, and other coordinates of the statistics."""
    recorder = run.recorder
    coordinates: dict[str, Variable] = {}
    for name, histogram in recorder.histograms.items():
        if isinstance(histogram, Plane):
            for axis, part in zip((1, 2), split_names(name), strict=True):
                bins = histogram.first if axis == 1 else histogram.second
                coordinates |= _bins(f"{_label(name)}_{axis}", bins, part)
        else:
            coordinates |= _bins(name, histogram, name)
    if recorder.quantiles and any(isinstance(bins, Histogram) for bins in recorder.histograms.values()):
        coordinates["quantile"] = coordinate("quantile", np.array(recorder.quantiles), "probability")
    pairs = recorder.pairs(run.loss.parameters)
    if pairs:
        names = np.array([", ".join(pair) for pair in pairs], dtype=object)
        coordinates["pair"] = coordinate("pair", names, "pairs of observables")
        coordinates["comoment"] = coordinate("comoment", np.array(_COMOMENTS, dtype=object), "part of a comoment")
    if recorder.covariances:
        names = np.array(run.loss.parameters, dtype=object)
        coordinates["parameter_2"] = coordinate("parameter_2", names, "parameter")
    if recorder.controls:
        names = np.array(recorder.controls, dtype=object)
        coordinates["controlled"] = coordinate("controlled", names, "observables with controls")
    for name, autocorrelation in recorder.autocorrelations.items():
        coordinates[f"lag_{name}"] = coordinate(f"lag_{name}", np.array(autocorrelation.lags), "steps between")
    for name, drift in recorder.drifts.items():
        coordinates |= _bins(_drift_label(run, name), drift.bins, drift.by)
    return coordinates


def _label(name: str) -> str:
    return re.sub(r",\s*", "_", name)


def _drift_label(run: Run, name: str) -> str:
    """Name of the bins of a drift: that of the drift, unless a histogram of this name has other bins."""
    histogram, drift = run.recorder.histograms.get(name), run.recorder.drifts[name]
    same = histogram is None or (histogram == drift.bins and drift.by == name)
    return name if same else f"drift_{name}"


def _bins(label: str, histogram: Histogram, meaning: str) -> dict[str, Variable]:
    centres = (histogram.edges[1:] + histogram.edges[:-1]) / 2
    return {
        f"bin_{label}": coordinate(f"bin_{label}", centres, f"bin centers of {meaning}"),
        f"edges_{label}": coordinate(f"edge_{label}", histogram.edges, f"bin edges of {meaning}"),
    }


def _errors_of_pairs(moments: np.ndarray) -> dict[str, Variable]:
    """Standard errors of means and variances by leaving out one group at a time, as mirrored trajectories depend.

    Parameters
    ----------
    moments
        Moments of each group, shape (point, record, group, observable, 5).
    """
    errors = {name: np.full((*moments.shape[:2], moments.shape[3]), np.nan) for name in ("mean", "variance")}
    for place in np.ndindex(*errors["mean"].shape):
        groups = moments[place[0], place[1], :, place[2]]
        groups = groups[groups[:, 0] > 0]
        if len(groups) > 1:
            # Trajectories that diverge overflow here.
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                unions = unite(Moments(*groups.T), all_and_left_out(len(groups)))
                for name, error in errors.items():
                    values = STATISTICS[name](unions)
                    error[place] = Estimate.jackknife(values[0], values[1:], groups[:, 0] / groups[:, 0].sum()).stderr
    meaning = "standard error of the {}, from the groups"
    return {f"{name}_stderr": over("record observable", e, meaning.format(name)) for name, e in errors.items()}


def _controlled(run: Run, results: Accumulators) -> dict[str, Variable]:
    """Means at the last record of all quantities with a control variate."""
    names = run.recorder.controls
    if not names:
        return {}
    found = [[_regression(run, results, point, name) for name in names] for point in range(len(results.moments))]
    meanings = {
        "controlled_mean": ("value", "mean at the last record with the noise of its control taken away"),
        "controlled_mean_stderr": ("stderr", "standard error"),
        "controlled_gain": ("gain", "how many times smaller the variance is than that of the plain mean"),
    }
    return {
        variable: over("controlled", np.array([[getattr(one, key) for one in row] for row in found]), meaning)
        for variable, (key, meaning) in meanings.items()
    }


def _regression(run: Run, results: Accumulators, point: int, name: str) -> Controlled:
    """Mean with its control variate; NaN if trajectories are excluded, which biases the control, or with few groups."""
    control = control_for(name, name).name
    index = [run.measured.index(name), run.measured.index(control)]
    count, mean, m2 = np.moveaxis(results.moments[point, -1][:, index], -1, 0)[:3]
    product = results.comoments[point, -1, :, run.recorder.pairs(run.loss.parameters).index((name, control)), 3]
    within = None if run.antithetic else np.array([[m2[:, 0], product], [product, m2[:, 1]]])
    try:
        if (count.sum(axis=0) < run.trajectories).any():
            raise NotMeasured
        return regression(Groups(count[:, 0], mean.T, within))
    except NotMeasured:
        return Controlled(np.nan, np.nan, 0)


def _histograms(run: Run, counts: np.ndarray) -> dict[str, Variable]:
    """Histograms as counts over all groups; they are integers, so the order of summation does not matter."""
    total = counts.sum(axis=2, dtype=np.int64)
    variables: dict[str, Variable] = {}
    start = 0
    for name, histogram in run.recorder.histograms.items():
        if isinstance(histogram, Plane):
            continue
        stop = start + histogram.bins + 2
        part = total[..., start:stop]
        variables[f"histogram_{name}"] = over(f"record bin_{name}", part[..., 1:-1], f"counts of {name}")
        variables[f"underflow_{name}"] = over("record", part[..., 0], f"values of {name} below the first edge")
        variables[f"overflow_{name}"] = over("record", part[..., -1], f"values of {name} at or above the last edge")
        if run.recorder.quantiles:
            variables |= _quantiles(name, histogram, part, run.recorder.quantiles, paired=run.antithetic)
        start = stop
    return variables


def _quantiles(
    name: str, histogram: Histogram, counts: np.ndarray, probabilities: Sequence[float], paired: bool
) -> dict[str, Variable]:
    """Quantiles from a histogram, linear within a bin; NaN outside of it. Mirrored pairs give no standard error."""
    shape = (*counts.shape[:-1], len(probabilities))
    values, errors = np.full(shape, np.nan), np.full(shape, np.nan)
    width = (histogram.high - histogram.low) / histogram.bins
    for place in np.ndindex(*counts.shape[:-1]):
        below = np.cumsum(counts[place])[:-1]  # fraction below every edge but the first
        n = counts[place].sum()
        for i, p in enumerate(probabilities):
            bin_ = int(np.searchsorted(below, p * n, side="left")) - 1
            if n and 0 <= bin_ < histogram.bins:
                inside = counts[place][bin_ + 1]
                values[(*place, i)] = histogram.edges[bin_] + width * (p * n - below[bin_]) / inside
                errors[(*place, i)] = np.nan if paired else np.sqrt(p * (1 - p) * n) * width / inside
    return {
        f"quantile_{name}": over("record quantile", values, f"quantiles of {name}"),
        f"quantile_{name}_stderr": over("record quantile", errors, "standard error, from the density at the quantile"),
    }


def _planes(run: Run, cells: np.ndarray) -> dict[str, Variable]:
    total = cells.sum(axis=2, dtype=np.int64)
    variables: dict[str, Variable] = {}
    start = 0
    for name, plane in run.recorder.histograms.items():
        if isinstance(plane, Histogram):
            continue
        shape = plane.first.bins, plane.second.bins
        stop = start + shape[0] * shape[1]
        label = _label(name)
        counts = total[..., start:stop].reshape(*total.shape[:2], *shape)
        variables[f"histogram_{label}"] = over(f"record bin_{label}_1 bin_{label}_2", counts, f"counts of {name}")
        variables[f"outside_{label}"] = over("record", total[..., stop], f"values of {name} outside of the bins")
        start = stop + 1
    return variables


def _covariances(run: Run, results: Accumulators) -> dict[str, Variable]:
    """Comoments of all pairs by group, and the covariance matrix of the parameters."""
    pairs = run.recorder.pairs(run.loss.parameters)
    if not pairs:
        return {}
    meaning = "count, means and central sum of products of one group of trajectories"
    variables = {"group_comoments": over("record group pair comoment", results.comoments, meaning)}
    if not run.recorder.covariances:
        return variables
    parameters = run.loss.parameters
    n = len(parameters)
    merged = merge_axis(Moments(*np.moveaxis(results.moments[..., :n, :], -1, 0)), axis=2)
    value = np.zeros((*results.comoments.shape[:2], n, n))
    error = np.zeros_like(value)
    spread = _errors_of_pairs(results.moments)["variance_stderr"].data[..., :n] if run.antithetic else None
    value[..., range(n), range(n)] = merged.variance
    error[..., range(n), range(n)] = merged.variance_stderr if spread is None else spread
    first, second = np.triu_indices(n, 1)
    covariances, stderrs = _covariance_of(results.comoments[..., : len(first), :])
    value[..., first, second] = value[..., second, first] = covariances
    error[..., first, second] = error[..., second, first] = stderrs
    over_both = "record parameter parameter_2"
    return variables | {
        "covariance": over(over_both, value, "unbiased covariance over live trajectories"),
        "covariance_stderr": over(over_both, error, "standard error of the covariance, from the groups"),
    }


def _covariance_of(comoments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Covariances of pairs and their standard errors by leaving one group out, each (point, record, pair).

    Parameters
    ----------
    comoments
        Comoments of each group, shape (point, record, group, pair, 4).
    """
    groups = np.moveaxis(comoments, 2, 3)
    alive = (groups[..., 0] > 0).any(axis=(0, 1, 2))
    n, x, y, within = np.moveaxis(groups[..., alive, :], -1, 0)
    total = n.sum(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        dx, dy = (means - (n * means).sum(-1, keepdims=True) / total for means in (x, y))
        product = (within + n * dx * dy).sum(-1, keepdims=True)
        without = product - within - n * dx * dy * (total / (total - n))
        value = product[..., 0] / (total[..., 0] - 1)
        replicates = without / (total - n - 1)
        stderr = np.sqrt((deviations(value, replicates, n / total) ** 2).sum(-1))
    return value, np.where(alive.sum() > 1, stderr, np.nan)


def _autocorrelations(run: Run, record_steps: np.ndarray, results: Accumulators) -> dict[str, Variable]:
    pairs = run.recorder.pairs(run.loss.parameters)
    variables: dict[str, Variable] = {}
    # Pairs of covariances stand before those of autocorrelations, pairs of controls after.
    first = len(pairs) - len(run.recorder.controls) - len(run.recorder.autocorrelations)
    for pair, (name, one) in enumerate(run.recorder.autocorrelations.items(), start=first):
        index = [run.measured.index(part) for part in pairs[pair]]
        shape = (results.comoments.shape[0], len(one.lags))
        value, error = np.full(shape, np.nan), np.full(shape, np.nan)
        for point, (i, lag) in ((p, il) for p in range(shape[0]) for il in enumerate(one.lags)):
            record = int(np.searchsorted(record_steps, one.start + lag))
            products = results.comoments[point, record, :, pair]
            alive = products[:, 0] > 0
            moments = results.moments[point, record][:, index]
            if (moments[..., 0] != products[:, :1]).any():
                continue  # some trajectories have a value at only one of the times: the spread of the others is unknown
            groups, moments = products[alive], moments[alive]
            keep = all_and_left_out(len(groups))
            with np.errstate(divide="ignore", invalid="ignore"):
                n, x, y, within = groups.T
                (_, mean_1, sum_1, *_), (_, mean_2, sum_2, *_) = np.moveaxis(moments, 0, -1)
                spreads = co_moment(n, sum_1, mean_1, mean_1, keep) * co_moment(n, sum_2, mean_2, mean_2, keep)
                values = co_moment(n, within, x, y, keep) / np.sqrt(spreads)
            value[point, i] = values[0]
            if len(n) > 1:
                error[point, i] = Estimate.jackknife(values[0], values[1:], n / n.sum()).stderr
        variables[f"autocorrelation_{name}"] = over(f"lag_{name}", value, f"of {name} from step {one.start} on")
        variables[f"autocorrelation_{name}_stderr"] = over(f"lag_{name}", error, "standard error, from the groups")
    return variables


def _drifts(run: Run, changes: np.ndarray) -> dict[str, Variable]:
    """Mean and mean square of the change in a step, in bins, with standard errors from the groups."""
    variables: dict[str, Variable] = {}
    start = 0
    for name, drift in run.recorder.drifts.items():
        part = changes[:, :, start : start + drift.bins.bins]
        start += drift.bins.bins
        count = part[..., 0].sum(axis=1)
        dimension = f"bin_{_drift_label(run, name)}"
        groups = (part[..., 0] > 0).sum(axis=1)
        variables[f"groups_{name}"] = over(dimension, groups, "groups of trajectories in which such changes were seen")
        skewness = _skewness(part[..., 1], part[..., 0])
        variables[f"drift_{name}_skewness"] = over(dimension, skewness, "skewness of the sums of changes in the groups")
        found = {"drift": part[..., 1], "diffusion": part[..., 2]}
        variables[f"count_{name}"] = over(dimension, count.astype(np.int64), f"changes of {name} by {drift.by} before")
        for kind, sums in found.items():
            value, error = _ratio(sums, part[..., 0])
            power = "" if kind == "drift" else "squared "
            meaning = f"mean {power}change of {name} per step, by {drift.by} before"
            variables[f"{kind}_{name}"] = over(dimension, value, meaning)
            variables[f"{kind}_{name}_stderr"] = over(dimension, error, "standard error, from the groups")
    return variables


def _ratio(sums: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratio of two sums over groups, (point, group, bin), and its standard error; NaN in a bin without counts."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        n = counts.sum(axis=1)
        value = sums.sum(axis=1) / n
        residual = sums - value[:, None] * counts
        groups = (counts > 0).sum(axis=1)
        variance = (residual**2).sum(axis=1) / n**2 * groups / (groups - 1)
    return value, np.where(groups > 1, np.sqrt(variance), np.nan)


def _skewness(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Skewness, over groups, of their contributions to the error of a ratio of two sums, as in `_ratio`."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        residual = sums - (sums.sum(axis=1) / counts.sum(axis=1))[:, None] * counts
        residual /= np.max(np.abs(residual), axis=1, keepdims=True)
        groups = (counts > 0).sum(axis=1)
        return np.asarray((residual**3).sum(axis=1) / (residual**2).sum(axis=1) ** 1.5 * np.sqrt(groups))
