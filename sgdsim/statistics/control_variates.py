"""Means with less noise, by control variates: quantities known to average to zero that move with the target.

A control M has mean zero, exactly. Then ``mean(f) - beta mean(M)`` has the mean of f whatever beta is. Its variance is
smallest if beta is the regression coefficient of f on M: ``1 - rho^2`` times that of the plain mean, with rho their
correlation. Beta is estimated from the same trajectories; the standard error comes from leaving out one group at a
time, beta included.

If the covariances of trajectories are recorded, beta comes from these. For other controls it comes from the means of
the groups alone, which costs ``1/(groups - 2)`` of the variance for each control.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.model.observables import control_for
from sgdsim.statistics.estimate import FEWEST_GROUPS, Estimate, NotMeasured, co_moment, unions_of
from sgdsim.statistics.estimators import statistic
from sgdsim.statistics.records import index_of, record_of

if TYPE_CHECKING:
    from sgdsim.ensemble import Ensemble

_ROUNDING = 1e-15
"""Variance that is left, in units of the target's, which cannot be told from zero."""


@dataclass(frozen=True, eq=False)
class Controlled(Estimate):
    """A mean with controls.

    Parameters
    ----------
    gain
        The variance of the plain mean of the same trajectories, in units of that with controls.
    coefficients
        The coefficient beta of each control.
    """

    gain: float = nan
    coefficients: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Groups:
    """Moments of the groups, for the target first and then for its controls.

    Parameters
    ----------
    count
        Number of trajectories, (group,).
    mean
        Means, (variable, group).
    within
        Sums of products of deviations from these means, (variable, variable, group); None if they are not known.
    """

    count: np.ndarray
    mean: np.ndarray
    within: np.ndarray | None = None

    @property
    def used(self) -> Groups:
        """The groups that are not empty."""
        used = self.count > 0
        within = None if self.within is None else self.within[..., used]
        return Groups(self.count[used], self.mean[:, used], within)


def controlled(ensemble: Ensemble, target: str, controls: Sequence[str] = (), step: int | None = None) -> Controlled:
    """The mean of an observable over the trajectories, with controls.

    Parameters
    ----------
    ensemble
        A run, or one sweep point.
    target
        A parameter or a recorded observable.
    controls
        Recorded observables whose mean is known to be zero; by default the one that ``record.controls`` makes.
    step
        A recorded step, by default the last, for which the controls of ``record.controls`` are made.

    Raises
    ------
    NotMeasured
        For a mean that was not recorded; if trajectories are left out, as controls have mean zero only over all; and
        for fewer than 16 groups, where the covariances of single trajectories are not known or pairs are not
        independent.

    Examples
    --------
    >>> from sgdsim import Loss, Noise, simulate
    >>> loss = Loss("(x - z)**2/2", ("x",), noise={"z": Noise.parse("normal")})
    >>> ensemble = simulate(
    ...     loss, learning_rate=0.5, initial={"x": 1.0}, trajectories=100, steps=2, controls=["x"], device="python"
    ... )
    >>> estimate = controlled(ensemble, "x")
    >>> round(estimate.value, 6), estimate.stderr < 1e-7, estimate.gain > 1e12  # the mean is 1/4
    (0.25, True, True)
    """
    names = [target, *(controls or [control_for(target, target).name])]
    record = record_of(ensemble, int(ensemble["record_step"][-1]) if step is None else step)
    index = [index_of(ensemble, "observable", name) for name in names]
    left_out = int(np.max(np.asarray(ensemble["excluded"])[record, index]))
    if left_out:
        raise NotMeasured(f"{left_out} trajectories are left out, and a control has mean zero over all of them alone")
    count, mean, m2 = (np.asarray(ensemble[f"group_{key}"][record], dtype=float) for key in ("count", "mean", "m2"))
    within = None if "antithetic" in ensemble.attributes else _within(ensemble, names, record, m2[:, index])
    return regression(Groups(count[:, index[0]], mean[:, index].T, within))


def best_mean(ensemble: Ensemble, target: str, step: int) -> Estimate:
    """The mean of an observable with its control, if one is recorded for this step; else the plain mean.

    Raises
    ------
    NotMeasured
        For an observable or step that was not recorded.

    Examples
    --------
    >>> from sgdsim import Loss, Noise, simulate
    >>> loss = Loss("(x - z)**2/2", ("x",), noise={"z": Noise.parse("normal")})
    >>> rest = {"initial": {"x": 1.0}, "trajectories": 100, "steps": 2, "device": "python"}
    >>> ensemble = simulate(loss, learning_rate=0.5, controls=["x"], **rest)
    >>> round(best_mean(ensemble, "x", 2).value, 6), best_mean(ensemble, "x", 0).value
    (0.25, 1.0)
    """
    control = control_for(target, target).name
    if step == ensemble["record_step"][-1] and control in list(ensemble["observable"]):
        try:
            found = controlled(ensemble, target, step=step)
            note = "; ".join(filter(None, (found.note, f"with its control: {found.gain:.2g} times less variance")))
            return replace(found, note=note)
        except NotMeasured:
            pass
    return statistic(ensemble, "mean", target, step)


@np.errstate(all="ignore")
def regression(groups: Groups) -> Controlled:
    """The mean of a target with controls, from the moments of their groups.

    Raises
    ------
    NotMeasured
        For fewer than 16 groups without the sums within them.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> control = rng.normal(size=64)
    >>> estimate = regression(Groups(np.full(64, 100), np.stack([5 + 2*control + 0.01*rng.normal(size=64), control])))
    >>> round(estimate.value, 2), round(estimate.coefficients[0], 2), estimate.gain > 1e4
    (5.0, 2.0, True)
    """
    groups = groups.used
    number, controls = len(groups.count), len(groups.mean) - 1
    if number < FEWEST_GROUPS and groups.within is None:
        raise NotMeasured(f"fewer than {FEWEST_GROUPS} groups, and no covariances of independent trajectories")
    keep = unions_of(number)
    total = keep @ groups.count
    means = keep @ (groups.count * groups.mean).T / total[:, None]
    products = _products(groups, keep)
    coefficients = _coefficients(products)
    values = means[:, 0] - np.sum(coefficients * means[:, 1:], axis=1)
    spread, shared = products[0, 0, 0], products[0, 0, 1:]
    residual = max(float(spread - coefficients[0] @ shared), _ROUNDING * float(spread))
    samples = number if groups.within is None else float(total[0])
    gain = float(spread / residual * (samples - 1 - controls) / (samples - 1)) if residual else nan
    beta = tuple(map(float, coefficients[0]))
    if number < FEWEST_GROUPS:
        freedom = max(samples - 1 - controls, 0.0)
        stderr = float(np.sqrt(residual / freedom / samples)) if freedom else nan
        note = f"fewer than {FEWEST_GROUPS} groups"
        sample = float(total[0])
        return Controlled(float(values[0]), stderr, freedom, note=note, sample=sample, gain=gain, coefficients=beta)
    plain = Estimate.of_unions(values, groups.count)
    freedom = plain.freedom - (controls if groups.within is None else 0)
    kept = plain.replicates, plain.shares, "", plain.sample, plain.pairs, plain.second_order
    return Controlled(plain.value, plain.stderr, freedom, *kept, gain=gain, coefficients=beta)


def _products(groups: Groups, keep: np.ndarray) -> np.ndarray:
    """Sums of products of deviations from the common means of unions of groups, (union, variable, variable)."""
    n = len(groups.mean)
    found = np.empty((len(keep), n, n))
    none = np.zeros(len(groups.count))
    for i, j in zip(*np.triu_indices(n), strict=True):
        within = none if groups.within is None else groups.within[i, j]
        found[:, i, j] = found[:, j, i] = co_moment(groups.count, within, groups.mean[i], groups.mean[j], keep)
    return found


def _coefficients(products: np.ndarray) -> np.ndarray:
    """Coefficients of the regression on the controls, (union, control); 0 for a control without spread."""
    spread = np.sqrt(np.einsum("uii->ui", products[:, 1:, 1:]))
    scale = np.where(spread > 0, spread, 1.0)
    matrix = products[:, 1:, 1:] / (scale[:, :, None] * scale[:, None, :])
    inverse = np.linalg.pinv(matrix, rcond=1e-10, hermitian=True)
    return np.asarray(np.einsum("uij,uj->ui", inverse, products[:, 0, 1:] / scale) / scale)


def _within(ensemble: Ensemble, names: Sequence[str], record: int, m2: np.ndarray) -> np.ndarray | None:
    """Sums of products within groups, (variable, variable, group); None if not all are recorded."""
    pairs = [str(pair) for pair in ensemble["pair"]] if "pair" in ensemble else []
    n = len(names)
    found = np.empty((n, n, len(m2)))
    for i in range(n):
        found[i, i] = m2[:, i]
        for j in range(i):
            pair = next((p for p in (f"{names[j]}, {names[i]}", f"{names[i]}, {names[j]}") if p in pairs), None)
            if pair is None:
                return None
            found[i, j] = found[j, i] = np.asarray(ensemble["group_comoments"])[record, :, pairs.index(pair), 3]
    return found
