"""Estimates with error bars, from an ensemble alone.

Trajectories are independent, and every sum in a file is kept for 64 groups of them. Leaving out one group at
a time gives replicates of any estimate, and from these its standard error, also of ratios, of correlations
and of differences between sweep points that share their noise. Groups may differ in size, so the jackknife is
the one for unequal groups (Busing, Meijer & van der Leeden, Statistics and Computing 9, 3 (1999)); for equal
groups it is Quenouille's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sgdsim.base.errors import unknown_name
from sgdsim.statistics.moments import Moments

if TYPE_CHECKING:
    from sgdsim.ensemble import Ensemble

GROUPS = 64
FEWEST_GROUPS = 16
"""Below this the standard errors come from the moments themselves."""

STATISTICS: dict[str, Callable[[Moments], np.ndarray]] = {
    "mean": lambda moments: moments.mean,
    "variance": lambda moments: moments.variance,
    "std": lambda moments: np.sqrt(moments.variance),
    "skewness": lambda moments: moments.skewness,
    "kurtosis": lambda moments: moments.kurtosis,
}
"""Of one observable; a covariance is one of two."""


class NotMeasured(LookupError):
    """The ensemble does not hold what an estimate needs."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number with its standard error.

    Parameters
    ----------
    value, stderr
        NaN where it cannot be had.
    freedom
        Degrees of freedom of the standard error.
    replicates
        The value with one group left out, one a group; None where the error does not come from groups.
    shares
        Each group's part of the trajectories, likewise.
    note
        For the table.
    sample
        How many values a standard error from groups rests on, where the groups themselves are not kept.

    Examples
    --------
    >>> estimate = Estimate.jackknife(2.5, np.array([3.0, 8 / 3, 7 / 3, 2.0]), np.full(4, 0.25))
    >>> round(estimate.stderr, 4)  # the standard error of the mean of 1, 2, 3, 4
    0.6455
    """

    value: float
    stderr: float
    freedom: float
    replicates: np.ndarray | None = None
    shares: np.ndarray | None = None
    note: str = ""
    sample: float = 0.0

    @classmethod
    def jackknife(cls, value: float, replicates: np.ndarray, shares: np.ndarray) -> Estimate:
        """An estimate from its replicates."""
        stderr = float(np.sqrt(np.sum(deviations(value, replicates, shares) ** 2)))
        return cls(float(value), stderr, len(replicates) - 1, replicates, shares)

    @property
    def groups(self) -> int:
        """How many groups the standard error rests on; 0 where it does not come from groups."""
        return 0 if self.replicates is None else len(self.replicates)

    @property
    def deviations(self) -> np.ndarray:
        """Each group's part in the error: their squares add up to ``stderr**2``, products to covariances."""
        assert self.replicates is not None
        assert self.shares is not None
        return deviations(self.value, self.replicates, self.shares)

    @property
    def skewness(self) -> float:
        """Skewness of the groups' values; 0 where there are none."""
        if self.replicates is None:
            return 0.0
        centred = self.deviations - self.deviations.mean()
        spread = np.mean(centred**2)
        return float(np.mean(centred**3) / spread**1.5) if spread > 0 else 0.0


def deviations(value: Any, replicates: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Each group's part in the error of an estimate: along the last axis, squares add up to its variance.

    Parameters
    ----------
    value
        The estimate from all groups, of one dimension less than the replicates.
    replicates
        The estimate with one group left out.
    shares
        Each group's part of the trajectories.

    Examples
    --------
    >>> deviations(2.0, np.array([2.5, 2.0, 1.5]), np.full(3, 1 / 3)).round(3)
    array([-0.408,  0.   ,  0.408])
    """
    groups = replicates.shape[-1]
    value = np.asarray(value)[..., None]
    # In the paper's names: h_j = 1/share_j, pseudo-values h_j*value - (h_j - 1)*replicate_j.
    inverse = 1.0 / shares
    pseudo = inverse * value - (inverse - 1.0) * replicates
    centre = groups * value - np.sum((1.0 - shares) * replicates, axis=-1, keepdims=True)
    return np.asarray((pseudo - centre) / np.sqrt((inverse - 1.0) * groups))


def unite(groups: Moments, keep: np.ndarray) -> Moments:
    """The moments of unions of groups.

    Pébay's update for any number of sets at once: sums of powers about the common mean, from those about each
    set's.

    Parameters
    ----------
    groups
        Fields of shape (…, group), no group empty.
    keep
        Which groups stand in which union, (union, group).

    Returns
    -------
    Moments
        Fields of shape (…, union).

    Examples
    --------
    >>> singles = Moments(np.ones(2), np.array([1.0, 3.0]), np.zeros(2), np.zeros(2), np.zeros(2))
    >>> unite(singles, np.array([[1, 1]])).variance
    array([2.])
    """
    count, mean, m2, m3, m4 = (field[..., None, :] for field in groups)
    n = count * keep
    total = n.sum(-1)
    reference = mean.mean(-1, keepdims=True)  # near every mean, so that nothing cancels
    shift = (n * (mean - reference)).sum(-1, keepdims=True) / total[..., None]
    d = mean - reference - shift
    nd2 = n * d * d
    return Moments(
        total,
        (reference + shift)[..., 0],
        (keep * m2 + nd2).sum(-1),
        (keep * (m3 + 3.0 * d * m2) + nd2 * d).sum(-1),
        (keep * (m4 + d * (4.0 * m3 + 6.0 * d * m2)) + nd2 * d * d).sum(-1),
    )


def all_and_left_out(groups: int) -> np.ndarray:
    """Rows of `keep`: first all groups, then all but one, for each.

    Examples
    --------
    >>> all_and_left_out(3)
    array([[1., 1., 1.],
           [0., 1., 1.],
           [1., 0., 1.],
           [1., 1., 0.]])
    """
    return np.vstack([np.ones((1, groups)), 1.0 - np.eye(groups)])


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
    if not len(groups.count):
        return Estimate(np.nan, np.nan, 0, note="no live trajectories")
    if len(groups.count) < FEWEST_GROUPS:
        total = Moments(*(field[0] for field in unite(groups, np.ones((1, len(groups.count))))))
        return _from_moments(name, total, independent="antithetic" not in ensemble.attributes)
    values = STATISTICS[name](unite(groups, all_and_left_out(len(groups.count))))
    return Estimate.jackknife(values[0], values[1:], groups.count / groups.count.sum())


def _from_moments(name: str, total: Moments, independent: bool) -> Estimate:
    """Standard formulas for independent values, for want of groups."""
    value = float(STATISTICS[name](total))
    stderr = np.nan
    if not independent:
        pass
    elif name == "mean":
        stderr = float(total.mean_stderr)
    elif name == "variance":
        stderr = float(total.variance_stderr)
    elif name == "std" and value > 0:
        stderr = float(total.variance_stderr) / (2.0 * value)
    return Estimate(value, stderr, float(total.count) - 1, note=f"fewer than {FEWEST_GROUPS} groups")


def _covariance(ensemble: Ensemble, pair: str, step: int) -> Estimate:
    """The covariance of two parameters, with a jackknife over groups."""
    if "group_comoments" not in ensemble:
        raise NotMeasured("no covariances were recorded: record.covariances")
    record, index = record_of(ensemble, step), index_of(ensemble, "pair", pair)
    groups = np.asarray(ensemble["group_comoments"][record, :, index], dtype=float)
    n, first, second, within = groups[groups[:, 0] > 0].T
    keep = all_and_left_out(len(n)) if len(n) >= FEWEST_GROUPS else np.ones((1, len(n)))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = co_moment(n, within, first, second, keep) / ((n * keep).sum(-1) - 1.0)
    if len(n) < FEWEST_GROUPS:
        return Estimate(float(values[0]), np.nan, 0, note=f"fewer than {FEWEST_GROUPS} groups")
    return Estimate.jackknife(values[0], values[1:], n / n.sum())


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
    keep = all_and_left_out(len(n)) if len(n) >= FEWEST_GROUPS else np.ones((1, len(n)))
    pairs = ((u, u, 0, 0), (v, v, 1, 1), (u, v, 0, 1))
    sxx, syy, sxy = (co_moment(n, sums(a * b), means[i], means[j], keep) for a, b, i, j in pairs)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = sxy / np.sqrt(sxx * syy)
    if len(n) < FEWEST_GROUPS:
        return Estimate(float(values[0]), np.nan, 0, note=f"fewer than {FEWEST_GROUPS} groups")
    return Estimate.jackknife(values[0], values[1:], n / n.sum())


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
    total = float(sums.sum() / n.sum())
    if len(n) < FEWEST_GROUPS:
        return Estimate(total, np.nan, 0, note=f"fewer than {FEWEST_GROUPS} groups")
    return Estimate.jackknife(total, (sums.sum() - sums) / (n.sum() - n), n / n.sum())


def co_moment(n: np.ndarray, within: np.ndarray, a: np.ndarray, b: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Sum of products of deviations from the common means of unions of groups, as in `unite`.

    Parameters
    ----------
    n, within, a, b
        Of each group: count, sum of products about its own means, and both means.
    keep
        Which groups stand in which union, (union, group).

    Examples
    --------
    >>> co_moment(np.ones(2), np.zeros(2), np.array([1.0, 3.0]), np.array([0.0, 1.0]), np.array([[1, 1]]))
    array([1.])
    """
    weights = n * keep
    da, db = (m - (weights * m).sum(-1, keepdims=True) / weights.sum(-1, keepdims=True) for m in (a, b))
    return np.asarray((keep * within + weights * da * db).sum(-1))


def combine(function: Callable[..., Any], estimates: Sequence[Estimate]) -> Estimate:
    """A function of several estimates, its error from their replicates, group by group.

    Groups are independent, so this holds whether or not the estimates come from the same trajectories, or
    from sweep points with the same noise.

    Examples
    --------
    >>> one = Estimate.jackknife(1.0, np.linspace(0.9, 1.1, 20), np.full(20, 0.05))
    >>> combine(lambda a, b: a - b, [one, one]).stderr
    0.0
    """
    value = float(function(*(estimate.value for estimate in estimates)))
    replicates = [estimate.replicates for estimate in estimates]
    if any(values is None for values in replicates):
        return Estimate(value, np.nan, 0, note=f"fewer than {FEWEST_GROUPS} groups")
    shares = estimates[0].shares
    assert shares is not None
    if any(estimate.groups != estimates[0].groups for estimate in estimates):
        return Estimate(value, np.nan, 0, note="the points differ in their groups")
    return Estimate.jackknife(value, np.asarray(function(*replicates)), shares)


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
    >>> run = {"initial": {"x": "grid:-1,1"}, "trajectories": 4096, "steps": 4, "device": "python"}
    >>> found = drift(
    ...     sgdsim.simulate(loss, learning_rate=0.1, drifts={"x": Drift("x", Histogram(-1, 1, 2))}, **run), "x"
    ... )
    >>> [one.value > 0 for one in found], found[0].freedom
    ([True, False], 63)
    """
    if f"drift_{name}_stderr" not in ensemble:
        raise NotMeasured(f"no drift of {name} was recorded")
    values, stderrs = (np.asarray(ensemble[f"drift_{name}{end}"], dtype=float) for end in ("", "_stderr"))
    if not (stderrs > 0).all():
        raise NotMeasured(f"the drift of {name} has no standard error in bin {int(np.argmin(stderrs > 0))}")
    counts = np.asarray(ensemble[f"count_{name}"], dtype=float)
    return [
        Estimate(float(v), float(e), GROUPS - 1, sample=float(n))
        for v, e, n in zip(values, stderrs, counts, strict=True)
    ]


def ks_distance(
    ensemble: Ensemble, parameter: str, step: int, cdf: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, int]:
    """Largest distance between the distribution function of a parameter at a snapshot and a given one.

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
    expected = cdf(values)
    ranks = np.arange(n + 1) / n
    return float(max(np.max(ranks[1:] - expected), np.max(expected - ranks[:-1]))), n


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
    return int(np.count_nonzero(ensemble["status"] > 0)) if "status" in ensemble else 0


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


@dataclass(frozen=True, eq=False)
class PowerFit:
    """A weighted least-squares fit of powers.

    Attributes
    ----------
    coefficients, stderrs
        One a power.
    chi_square, excess
        Of the residuals, and how many of them are free.
    p
        Probability of residuals as large as these if the powers suffice.
    freedom
        Degrees of freedom of the standard errors.
    """

    coefficients: np.ndarray
    stderrs: np.ndarray
    chi_square: float
    excess: int
    p: float
    freedom: float


def fit_powers(x: np.ndarray, estimates: Sequence[Estimate], offsets: np.ndarray, powers: Sequence[int]) -> PowerFit:
    """Fit ``estimate - offset = sum_k b_k x^k``.

    The errors, and those of the residuals, come from the covariance of the estimates over groups, so that the
    points may share their noise; the residuals are tested by Hotelling's T^2, which is chi-square for many
    groups.

    Parameters
    ----------
    x
        Abscissae, positive.
    estimates
        All with groups, or all without (then independent).
    offsets
        What is taken away from the estimates.
    powers
        No more than there are points; as many leave nothing to test the fit by.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 3.0, 4.0])
    >>> estimates = [Estimate(2.0 * value**2 + 1.0, 0.1, np.inf) for value in x]
    >>> fit_powers(x, estimates, np.ones(4), [1, 2]).coefficients.round(9) + 0.0
    array([0., 2.])
    """
    from scipy.special import chdtrc, fdtrc

    y = np.array([estimate.value for estimate in estimates]) - offsets
    stderrs = np.array([estimate.stderr for estimate in estimates])
    scale = float(np.max(x))
    design = (x[:, None] / scale) ** np.asarray(powers) / stderrs[:, None]
    parts = _standard_deviations(estimates, stderrs)
    freedom = min(estimate.freedom for estimate in estimates)
    inverse = np.linalg.pinv(design)
    coefficients = inverse @ (y / stderrs)
    errors = np.sqrt(np.sum((inverse @ parts) ** 2, axis=1))
    free = np.linalg.svd(design)[0][:, len(powers) :].T  # combinations of the data that no coefficient moves
    residuals, spread = free @ (y / stderrs), free @ parts
    excess = len(free)
    units = scale ** -np.asarray(powers, dtype=float)
    if not excess:
        return PowerFit(coefficients * units, errors * units, 0.0, 0, np.nan, freedom)
    # Points with the same noise may leave combinations without any; a millionth of an error stands for rounding.
    covariance = spread @ spread.T + 1e-12 * np.eye(excess)
    chi_square = float(residuals @ np.linalg.solve(covariance, residuals))
    if estimates[0].groups:
        rest = freedom - excess + 1
        p = float(fdtrc(excess, rest, chi_square * rest / (freedom * excess)))
    else:
        p = float(chdtrc(excess, chi_square))
    return PowerFit(coefficients * units, errors * units, chi_square, excess, p, freedom)


def _standard_deviations(estimates: Sequence[Estimate], stderrs: np.ndarray) -> np.ndarray:
    """Rows whose products are the covariances of the estimates, each in units of its standard error."""
    if not estimates[0].groups:
        return np.eye(len(estimates))
    parts = np.stack([estimate.deviations for estimate in estimates])
    return np.asarray(parts / stderrs[:, None])


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
    names = [str(known) for known in ensemble[kind]]
    if name not in names:
        raise NotMeasured(unknown_name(kind, name, names))
    return names.index(name)


def _group_of(ensemble: Ensemble) -> np.ndarray:
    """The group of each trajectory: its tile's index, modulo the number of groups."""
    lanes = int(ensemble.attributes["lanes"])
    return np.arange(ensemble.sizes["trajectory"]) // lanes % GROUPS
