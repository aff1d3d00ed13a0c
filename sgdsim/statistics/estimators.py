"""Estimates with error bars, from an ensemble alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sgdsim.base.errors import unknown_name
from sgdsim.formulas.names import normal
from sgdsim.statistics.estimate import (
    FEWEST_GROUPS,
    GROUPS,
    OVERFLOW,
    Estimate,
    NotMeasured,
    all_left_out_and_pairs,
    co_moment,
    unions_of,
    unite,
)
from sgdsim.statistics.moments import Moments

if TYPE_CHECKING:
    from sgdsim.ensemble import Ensemble


STATISTICS: dict[str, Callable[[Moments], np.ndarray]] = {
    "mean": lambda moments: moments.mean,
    "variance": lambda moments: moments.variance,
    "std": lambda moments: np.sqrt(moments.variance),
    "skewness": lambda moments: moments.skewness,
    "kurtosis": lambda moments: moments.kurtosis,
}
"""Of one observable; a covariance is one of two."""


@np.errstate(all="ignore")
def statistic(ensemble: Ensemble, name: str, observable: str, step: int) -> Estimate:
    """A statistic of one observable over the live trajectories.

    Parameters
    ----------
    ensemble
        One sweep point.
    name
        A key of `STATISTICS`, or ``covariance``; both variance and covariance are unbiased, kurtosis is the excess.
    observable
        A parameter or a recorded observable; for a covariance two parameters, ``u, w``.
    step
        A recorded step.

    Raises
    ------
    NotMeasured
        For an observable or step that was not recorded.

    Examples
    --------
    Four groups of two trajectories each; the variance has 7 degrees of freedom.

    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> sums = {"count": 2.0, "mean": 1.0, "m2": 7.0, "m3": 0.0, "m4": 24.5}
    >>> dimensions = ("record", "group", "observable")
    >>> variables = {f"group_{key}": Variable(dimensions, np.full((1, 4, 1), sums[key])) for key in sums}
    >>> names = {"observable": Variable(("observable",), ["x"]), "record_step": Variable(("record",), [0])}
    >>> estimate = statistic(Ensemble({**variables, **names}, {}), "variance", "x", 0)
    >>> estimate.value, estimate.note
    (4.0, 'fewer than 16 groups')
    """
    if name == "covariance":
        return _covariance(ensemble, observable, step)
    groups = _group_moments(ensemble, observable, step)
    number = len(groups.count)
    if not number:
        return Estimate(np.nan, np.nan, 0, note="no live trajectories")
    if number < FEWEST_GROUPS:
        return _from_moments(name, _total(groups), independent="antithetic" not in ensemble.attributes)
    united = unite(groups, all_left_out_and_pairs(number))
    values = STATISTICS[name](united)
    estimate = Estimate.of_unions(values, groups.count)
    if name == "mean" and "antithetic" not in ensemble.attributes:
        estimate = replace(estimate, skewed=_skewness_of_groups(Moments(*(field[0] for field in united)), estimate))
    finite = np.isfinite(values).all()
    return estimate if finite or not groups.m2.any() else replace(estimate, note=OVERFLOW)


def _skewness_of_groups(total: Moments, estimate: Estimate) -> float | None:
    """Of means of as many independent values as there are in a group, from all values; None where they are dependent.

    They are, where groups scatter more or less than such means do, beyond three standard errors of their variance.
    """
    scatter = float(estimate.stderr**2 / total.mean_stderr**2)
    if not abs(scatter - 1.0) < 3.0 * np.sqrt(2.0 / (estimate.groups - 1)):
        return None
    found = float(total.skewness) * np.sqrt(estimate.groups / float(total.count))
    return found if np.isfinite(found) else None


def total(ensemble: Ensemble, observable: str, step: int) -> Moments:
    """The moments of an observable over all live trajectories.

    Raises
    ------
    NotMeasured
        For an observable or step that was not recorded, and without live trajectories.
    """
    groups = _group_moments(ensemble, observable, step)
    if not len(groups.count):
        raise NotMeasured("no live trajectories")
    return _total(groups)


@np.errstate(all="ignore")
def _total(groups: Moments) -> Moments:
    return Moments(*(field[0] for field in unite(groups, np.ones((1, len(groups.count))))))


def _from_moments(name: str, total: Moments, independent: bool) -> Estimate:
    """Standard formulas for independent values, for want of groups."""
    value, n = float(STATISTICS[name](total)), float(total.count)
    stderr, bent, skewed = np.nan, 0.0, 0.0
    if independent and name == "mean":
        stderr, skewed = float(total.mean_stderr), float(total.skewness) * np.sqrt(GROUPS / n)
    elif independent and name in ("variance", "std") and n > 1:
        # The mean is estimated too: the square of its error is of second order.
        stderr, bent = float(total.variance_stderr), np.sqrt(2.0) * float(total.variance) / n
        if name == "std":
            stderr, bent = (error / (2.0 * value) if value > 0 else np.nan for error in (stderr, bent))
    note = f"fewer than {FEWEST_GROUPS} groups"
    skewed = skewed if np.isfinite(skewed) else 0.0  # of no spread
    return Estimate(value, stderr, n - 1, note=note, sample=n, second_order=bent, skewed=skewed)


def _covariance(ensemble: Ensemble, pair: str, step: int) -> Estimate:
    """The covariance of two parameters, with a jackknife over groups."""
    if "group_comoments" not in ensemble:
        raise NotMeasured("no covariances were recorded: record.covariances")
    record, index = record_of(ensemble, step), index_of(ensemble, "pair", pair)
    groups = np.asarray(ensemble["group_comoments"][record, :, index], dtype=float)
    n, first, second, within = groups[groups[:, 0] > 0].T
    keep = unions_of(len(n))
    return _of_unions(co_moment(n, within, first, second, keep) / ((n * keep).sum(-1) - 1.0), n)


def _of_unions(values: np.ndarray, counts: np.ndarray) -> Estimate:
    """An estimate from its values for the unions of `unions_of`."""
    if len(counts) < FEWEST_GROUPS:
        note = f"fewer than {FEWEST_GROUPS} groups"
        return Estimate(float(values[0]), np.nan, 0, note=note, sample=float(counts.sum()))
    return Estimate.of_unions(values, counts)


@np.errstate(all="ignore")
def correlation(ensemble: Ensemble, parameter: str, steps: tuple[int, int]) -> Estimate:
    """Pearson's correlation over trajectories of a parameter at two snapshots, with a jackknife over groups.

    Raises
    ------
    NotMeasured
        For a parameter or step of which there is no snapshot.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> theta = Variable(("snapshot", "trajectory", "parameter"), [[[1.0], [2.0], [3.0]], [[2.0], [1.0], [3.0]]])
    >>> names = {"parameter": Variable(("parameter",), ["x"]), "snapshot_step": Variable(("snapshot",), [8, 9])}
    >>> round(correlation(Ensemble({"theta": theta, **names}, {"lanes": 1}), "x", (8, 9)).value, 12)
    0.5
    """
    first, second = (_snapshot(ensemble, parameter, step) for step in steps)
    alive = np.isfinite(first) & np.isfinite(second)
    labels = _group_of(ensemble)[alive]
    counts = np.bincount(labels, minlength=GROUPS)
    used = counts > 0
    n = counts[used].astype(float)

    def sums(values: np.ndarray) -> np.ndarray:
        return np.bincount(labels, values, minlength=GROUPS)[used]

    x, y = first[alive], second[alive]
    means = [sums(values - values.mean()) / n for values in (x, y)]  # about the common mean: nothing cancels
    position = np.cumsum(used) - 1
    u, v = (w - w.mean() - mean[position[labels]] for w, mean in zip((x, y), means, strict=True))
    keep = unions_of(len(n))
    pairs = ((u, u, 0, 0), (v, v, 1, 1), (u, v, 0, 1))
    sxx, syy, sxy = (co_moment(n, sums(a * b), means[i], means[j], keep) for a, b, i, j in pairs)
    return _of_unions(sxy / (np.sqrt(sxx) * np.sqrt(syy)), n)


@np.errstate(all="ignore")
def path_mean(
    ensemble: Ensemble, parameter: str, steps: Sequence[int], function: Callable[[np.ndarray], np.ndarray]
) -> Estimate:
    """The mean over trajectories of a function of a parameter's path through several snapshots, with a jackknife.

    Parameters
    ----------
    ensemble
        One sweep point.
    parameter, steps
        Whose values, at which snapshots.
    function
        Of an array (step, trajectory); gives a value for each trajectory.

    Raises
    ------
    NotMeasured
        For a parameter or step of which there is no snapshot.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> theta = Variable(("snapshot", "trajectory", "parameter"), [[[1.0], [2.0], [3.0]], [[2.0], [1.0], [3.0]]])
    >>> names = {"parameter": Variable(("parameter",), ["x"]), "snapshot_step": Variable(("snapshot",), [8, 9])}
    >>> path_mean(Ensemble({"theta": theta, **names}, {"lanes": 1}), "x", (8, 9), lambda x: x[0] * x[1]).value
    4.333333333333333
    """
    path = np.array([_snapshot(ensemble, parameter, step) for step in steps])
    alive = np.isfinite(path).all(axis=0)
    values, labels = function(path[:, alive]), _group_of(ensemble)[alive]
    counts = np.bincount(labels, minlength=GROUPS).astype(float)
    sums = np.bincount(labels, values, minlength=GROUPS)
    used = counts > 0
    n, sums = counts[used], sums[used]
    keep = unions_of(len(n))
    return _of_unions(keep @ sums / (keep @ n), n)


def quantile(ensemble: Ensemble, parameter: str, step: int, probability: float) -> Estimate:
    """A quantile of a parameter at a snapshot, with a jackknife over groups.

    A quantile is no smooth function of the sample: that of all groups but one depends on chance in the few values which
    it moves past, and the error from 64 of them is too uncertain for Student's t (at 4,096 normal values, true
    predictions of ``p = 0.9`` were rejected in 3.7 % at the level of 1 %). The share of values below it is smooth. A
    group that is left out changes this share, and the quantile by so much over the density (Bahadur, Ann. Math. Stat.
    37, 577 (1966)), which is taken over five standard errors of the share to either side.

    Parameters
    ----------
    ensemble, parameter, step
        Whose values.
    probability
        Between 0 and 1.

    Raises
    ------
    NotMeasured
        For a parameter or step of which there is no snapshot.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> theta = Variable(("snapshot", "trajectory", "parameter"), [[[1.0], [2.0], [4.0], [8.0]]])
    >>> names = {"parameter": Variable(("parameter",), ["x"]), "snapshot_step": Variable(("snapshot",), [9])}
    >>> quantile(Ensemble({"theta": theta, **names}, {"lanes": 1}), "x", 9, 0.5).value
    3.0
    """
    values = _snapshot(ensemble, parameter, step)
    alive = np.isfinite(values)
    labels, values = _group_of(ensemble)[alive], values[alive]
    n = len(values)
    if not n:
        return Estimate(np.nan, np.nan, 0, note="no live trajectories")
    spread = np.sort(values)
    rarer = min(probability, 1.0 - probability)
    margin = min(5.0 * np.sqrt(probability * (1.0 - probability) / n), rarer / 2.0)
    low, value, high = (
        float(np.quantile(spread, p)) for p in (probability - margin, probability, probability + margin)
    )
    near = spread[(spread >= low) & (spread <= high)]
    counts = np.bincount(labels, minlength=GROUPS)
    below = np.bincount(labels, values <= value, minlength=GROUPS)[counts > 0]
    counts = counts[counts > 0]
    sample = 2.0 * n * rarer  # of the median that is as well known
    doubt = f"fewer than {FEWEST_GROUPS} groups" if len(counts) < FEWEST_GROUPS else ""
    if low < high and len(np.unique(near)) < len(near) / 2.0:
        doubt = "many trajectories share a value there"
    if doubt:
        return Estimate(value, np.nan, 0, note=doubt, sample=sample)
    shares = (below.sum() - below) / (n - counts) - below.sum() / n
    replicates = value - shares * (high - low) / (2.0 * margin)
    return Estimate.jackknife(value, replicates, counts / n, sample=sample)


def drift(ensemble: Ensemble, name: str) -> list[Estimate]:
    """The mean change of a step of one quantity, for each bin, with errors from the spread of the groups.

    Parameters
    ----------
    ensemble
        One sweep point.
    name
        A quantity whose drift was recorded.

    Raises
    ------
    NotMeasured
        If it was not, or a bin has seen too little for an error.

    Examples
    --------
    >>> import sgdsim
    >>> from sgdsim.model.recorder import Drift, Histogram
    >>> loss = sgdsim.Loss("x**2/2 + z*x", ("x",), noise={"z": sgdsim.Noise.parse("normal")})
    >>> run = {"initial": {"x": "grid:-1,1,64"}, "trajectories": 4096, "steps": 4, "device": "python"}
    >>> found = drift(
    ...     sgdsim.simulate(loss, learning_rate=0.1, drifts={"x": Drift("x", Histogram(-1, 1, 2))}, **run), "x"
    ... )
    >>> [one.value > 0 for one in found], found[0].freedom
    ([True, False], 15.0)
    """
    if f"groups_{name}" not in ensemble:
        raise NotMeasured(f"no drift of {name} was recorded, or by a version that kept no groups of it")
    values, stderrs = (np.asarray(ensemble[f"drift_{name}{end}"], dtype=float) for end in ("", "_stderr"))
    if not (stderrs > 0).all():
        raise NotMeasured(f"the drift of {name} has no standard error in bin {int(np.argmin(stderrs > 0))}")
    counts, groups = (np.asarray(ensemble[f"{kind}_{name}"], dtype=float) for kind in ("count", "groups"))
    if groups.min() < FEWEST_GROUPS:
        raise NotMeasured(f"the drift of {name} was seen in fewer than {FEWEST_GROUPS} groups in bin {groups.argmin()}")
    skewness = np.asarray(ensemble[f"drift_{name}_skewness"], dtype=float)
    return [
        Estimate(float(v), float(e), float(g) - 1.0, sample=float(n), skewed=float(s))
        for v, e, n, g, s in zip(values, stderrs, counts, groups, skewness, strict=True)
    ]


def ks_distance(
    ensemble: Ensemble, parameter: str, step: int, cdf: Callable[[np.ndarray], np.ndarray], off: float = 0.0
) -> tuple[float, int]:
    """Largest distance between the distribution function of a parameter at a snapshot and a given one.

    Parameters
    ----------
    ensemble, parameter, step
        Whose values.
    cdf
        The given distribution function; it may have steps, at which values can be equal.
    off
        Part by which rounding may have moved the values: the distance is the least that they may have.

    Returns
    -------
    tuple
        The distance, and the number of trajectories it rests on.

    Raises
    ------
    NotMeasured
        For a parameter or step of which there is no snapshot.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> theta = Variable(("snapshot", "trajectory", "parameter"), [[[0.25], [0.5]]])
    >>> names = {"parameter": Variable(("parameter",), ["x"]), "snapshot_step": Variable(("snapshot",), [9])}
    >>> ks_distance(Ensemble({"theta": theta, **names}, {}), "x", 9, lambda values: values)
    (0.5, 2)
    """
    values = np.sort(live(ensemble, parameter, step))
    n = len(values)
    if n == 0:
        return np.nan, 0
    ranks, allowed = np.arange(n + 1) / n, off * np.abs(values)
    # A value stands at the top of its step in one distribution function, and at the bottom in the one from the left.
    up_to, below = cdf(values + allowed), cdf(np.nextafter(values - allowed, -np.inf))
    return max(float(np.max(ranks[1:] - up_to)), float(np.max(below - ranks[:-1])), 0.0), n


def live(ensemble: Ensemble, parameter: str, step: int) -> np.ndarray:
    """The values of a parameter at a snapshot, of the trajectories that have not diverged.

    Raises
    ------
    NotMeasured
        For a parameter or step of which there is no snapshot.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> theta = Variable(("snapshot", "trajectory", "parameter"), [[[0.25], [np.nan]]])
    >>> names = {"parameter": Variable(("parameter",), ["x"]), "snapshot_step": Variable(("snapshot",), [9])}
    >>> live(Ensemble({"theta": theta, **names}, {}), "x", 9)
    array([0.25])
    """
    values = _snapshot(ensemble, parameter, step)
    return np.asarray(values[np.isfinite(values)])


class Counts(NamedTuple):
    """A histogram: the counts of all bins, with those below the first edge and above the last, and the edges."""

    counts: np.ndarray
    edges: np.ndarray


def histogram(ensemble: Ensemble, name: str, step: int) -> Counts:
    """A recorded histogram of live trajectories.

    Raises
    ------
    NotMeasured
        For an observable without a histogram, or a step that was not recorded.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> bins = {"histogram_x": Variable(("record", "bin_x"), [[1, 2]]), "edges_x": Variable(("edge_x",), [0, 1, 2])}
    >>> bins |= {f"{side}flow_x": Variable(("record",), [n]) for side, n in (("under", 0), ("over", 3))}
    >>> histogram(Ensemble({**bins, "record_step": Variable(("record",), [9])}, {}), "x", 9).counts
    array([0, 1, 2, 3])
    """
    if f"histogram_{name}" not in ensemble or f"underflow_{name}" not in ensemble:
        raise NotMeasured(f"no histogram of {name} was recorded: record.histograms")
    record = record_of(ensemble, step)
    parts = (np.atleast_1d(ensemble[f"{kind}_{name}"][record]) for kind in ("underflow", "histogram", "overflow"))
    return Counts(np.concatenate(list(parts)), np.asarray(ensemble[f"edges_{name}"], dtype=float))


class Density(NamedTuple):
    """A density of equal or other bins, with a band about it."""

    centres: np.ndarray
    widths: np.ndarray
    density: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def histogram_density(ensemble: Ensemble, name: str, step: int, level: float = 1e-3) -> Density:
    """The density that a recorded histogram shows, with simultaneous confidence bands.

    Each bin has the interval of Clopper and Pearson, at the level over the number of bins, so that all of them together
    hold the probabilities of their bins but with a probability of at most the level. What lies outside of the bins
    counts too: a density that leaves them does not integrate to 1 over them.

    Parameters
    ----------
    ensemble, name, step
        As `histogram`.
    level
        Probability that the band misses the truth in any bin.

    Raises
    ------
    NotMeasured
        As `histogram`, and without live trajectories.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> bins = {"histogram_x": Variable(("record", "bin_x"), [[50, 50]]), "edges_x": Variable(("edge_x",), [0, 1, 3])}
    >>> bins |= {f"{side}flow_x": Variable(("record",), [0]) for side in ("under", "over")}
    >>> band = histogram_density(Ensemble({**bins, "record_step": Variable(("record",), [9])}, {}), "x", 9)
    >>> band.density, band.lower.round(2), band.upper.round(2)
    (array([0.5 , 0.25]), array([0.33, 0.16]), array([0.67, 0.34]))
    """
    from scipy.special import betaincinv

    counts, edges = histogram(ensemble, name, step)
    if not counts.any():
        raise NotMeasured("no live trajectories")
    independent = 0.5 if "antithetic" in ensemble.attributes else 1.0  # of pairs there may be one value each
    n, inside, widths = independent * counts.sum(), independent * counts[1:-1], np.diff(edges)
    tail = level / (2.0 * len(inside))
    with np.errstate(invalid="ignore"):
        lower = np.where(inside > 0, betaincinv(inside, n - inside + 1.0, tail), 0.0)
        upper = np.where(inside < n, betaincinv(inside + 1.0, n - inside, 1.0 - tail), 1.0)
    return Density((edges[1:] + edges[:-1]) / 2.0, widths, inside / (n * widths), lower / widths, upper / widths)


def diverged(ensemble: Ensemble) -> int:
    """Trajectories that were found to diverge.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> diverged(Ensemble({"status": Variable(("trajectory",), [0, 40, 0])}, {}))
    1
    """
    return ensemble.variables["status"].nonzero if "status" in ensemble else 0


def excluded(ensemble: Ensemble, observable: str, step: int) -> int:
    """Trajectories outside the moments of an observable: diverged, or with a value that is not finite.

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


def _group_moments(ensemble: Ensemble, observable: str, step: int) -> Moments:
    """The moments of the groups that are not empty, in order."""
    record, index = record_of(ensemble, step), index_of(ensemble, "observable", observable)
    names = ("group_count", "group_mean", "group_m2", "group_m3", "group_m4")
    fields = [np.asarray(ensemble[name][record, :, index], dtype=float) for name in names]
    used = fields[0] > 0
    return Moments(*(field[used] for field in fields))


def record_of(ensemble: Ensemble, step: int) -> int:
    """Where a step stands among the records.

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


def _snapshot(ensemble: Ensemble, parameter: str, step: int) -> np.ndarray:
    if "theta" not in ensemble:
        raise NotMeasured("there are no snapshots")
    row = _position(ensemble["snapshot_step"], step, "a snapshot was taken")
    column = index_of(ensemble, "parameter", parameter)
    return np.asarray(ensemble["theta"][row, :, column], dtype=float)


def _position(steps: np.ndarray, step: int, what: str) -> int:
    found = np.flatnonzero(np.asarray(steps) == step)
    if not len(found):
        raise NotMeasured(f"step {step} is none of those at which {what}")
    return int(found[0])


def index_of(ensemble: Ensemble, kind: str, name: str) -> int:
    """Where a name stands among those of its kind.

    Raises
    ------
    NotMeasured
        For an unknown one, with a near match.

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


def _group_of(ensemble: Ensemble) -> np.ndarray:
    """The group of each trajectory: its tile's index, modulo the number of groups."""
    lanes = int(ensemble.attributes["lanes"])
    return np.arange(ensemble.sizes["trajectory"]) // lanes % GROUPS
