"""Estimates with error bars, from the moments that an ensemble holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.statistics.estimate import (
    FEWEST_GROUPS,
    GROUPS,
    OVERFLOW,
    Estimate,
    NotMeasured,
    all_left_out_and_pairs,
    co_moment,
    of_unions,
    unions_of,
    unite,
)
from sgdsim.statistics.moments import Moments
from sgdsim.statistics.records import index_of, record_of

if TYPE_CHECKING:
    from sgdsim.ensemble import Ensemble

STATISTICS: dict[str, Callable[[Moments], np.ndarray]] = {
    "mean": lambda moments: moments.mean,
    "variance": lambda moments: moments.variance,
    "std": lambda moments: np.sqrt(moments.variance),
    "skewness": lambda moments: moments.skewness,
    "kurtosis": lambda moments: moments.kurtosis,
}
"""Statistics of one observable; a covariance is a statistic of two."""


@np.errstate(all="ignore")
def statistic(ensemble: Ensemble, name: str, observable: str, step: int) -> Estimate:
    """A statistic of one observable over the live trajectories.

    Parameters
    ----------
    ensemble
        The ensemble of a run, or of one sweep point.
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
    """Skewness of the group means of independent values, from that of all values; None if values are dependent.

    They count as dependent if the groups scatter more or less than such means do, by more than three standard errors
    of their variance.
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
        For an observable or step that was not recorded, and if no trajectory is live.
    """
    groups = _group_moments(ensemble, observable, step)
    if not len(groups.count):
        raise NotMeasured("no live trajectories")
    return _total(groups)


@np.errstate(all="ignore")
def _total(groups: Moments) -> Moments:
    return Moments(*(field[0] for field in unite(groups, np.ones((1, len(groups.count))))))


def _from_moments(name: str, total: Moments, independent: bool) -> Estimate:
    """An estimate by the standard formulas for independent values, if there are too few groups."""
    value, n = float(STATISTICS[name](total)), float(total.count)
    stderr, bent, skewed = np.nan, 0.0, 0.0
    if independent and name == "mean":
        stderr, skewed = float(total.mean_stderr), float(total.skewness) * np.sqrt(GROUPS / n)
    elif independent and name in ("variance", "std") and n > 1:
        # The mean in the variance is estimated too: the square of its error is of second order.
        stderr, bent = float(total.variance_stderr), np.sqrt(2.0) * float(total.variance) / n
        if name == "std":
            stderr, bent = (error / (2.0 * value) if value > 0 else np.nan for error in (stderr, bent))
    note = f"fewer than {FEWEST_GROUPS} groups"
    skewed = skewed if np.isfinite(skewed) else 0.0  # values without spread have no skewness
    return Estimate(value, stderr, n - 1, note=note, sample=n, second_order=bent, skewed=skewed)


def _covariance(ensemble: Ensemble, pair: str, step: int) -> Estimate:
    """The covariance of two parameters, with a jackknife over groups."""
    if "group_comoments" not in ensemble:
        raise NotMeasured("no covariances were recorded: record.covariances")
    record, index = record_of(ensemble, step), index_of(ensemble, "pair", pair)
    groups = np.asarray(ensemble["group_comoments"][record, :, index], dtype=float)
    n, first, second, within = groups[groups[:, 0] > 0].T
    keep = unions_of(len(n))
    return of_unions(co_moment(n, within, first, second, keep) / ((n * keep).sum(-1) - 1.0), n)


def drift(ensemble: Ensemble, name: str) -> list[Estimate]:
    """The mean change of a quantity in a step, for each bin of its value, with errors from the spread of the groups.

    Parameters
    ----------
    ensemble
        The ensemble of a run, or of one sweep point.
    name
        A quantity whose drift was recorded.

    Raises
    ------
    NotMeasured
        If the drift was not recorded, or a bin has too few values for an error.

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


def _group_moments(ensemble: Ensemble, observable: str, step: int) -> Moments:
    """The moments of the groups that are not empty, in order."""
    record, index = record_of(ensemble, step), index_of(ensemble, "observable", observable)
    names = ("group_count", "group_mean", "group_m2", "group_m3", "group_m4")
    fields = [np.asarray(ensemble[name][record, :, index], dtype=float) for name in names]
    used = fields[0] > 0
    return Moments(*(field[used] for field in fields))
