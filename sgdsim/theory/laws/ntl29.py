"""NTL-29: the equality of Hatano and Sasa, for any schedule, at any learning rate. Exact.

From a start in the stationary law of the first rate, with v_t the stationary variance of the rate of step t and
``phi_t(x) = x^2/(2*v_t) + ln(2*pi*v_t)/2``, let

    Y = sum_t [phi_(t+1)(x_(t+1)) - phi_t(x_(t+1))],

where x_(t+1) is produced with the rate of step t. Then for every protocol

    <e^(-Y)> = 1,    <Y> = sum_t [V_(t+1)*(1/v_(t+1) - 1/v_t) + ln(v_(t+1)/v_t)]/2 >= 0,

V_t the variance of x: excess entropy is produced, in the mean, by any schedule, and only in the mean.

Strong heating from a cold start gives the weights heavy tails. Our own statement, after Hatano and Sasa (2001).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import NotApplicable, PathMean, Prediction
from sgdsim.theory.law import Law
from sgdsim.theory.laws.ntl1 import stationary_variance
from sgdsim.theory.methods.fast_directions import Mode, modes

ID = "NTL-29"


def rests(mode: Mode) -> np.ndarray:
    """Stationary variance at the rate of each step."""
    a, noise = float(mode.curvature[0]), mode.noise_variance
    return np.array([stationary_variance(float(rate), a, noise) for rate in mode.rates])


def changes(mode: Mode) -> tuple[int, ...]:
    """Completed steps after which the rate changes."""
    return tuple(int(step) + 1 for step in np.flatnonzero(np.diff(mode.rates)))


def excess_entropy(before: np.ndarray, after: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Y of trajectories x (change, trajectory), from the stationary variances before and after each change.

    Examples
    --------
    >>> excess_entropy(np.array([1.0]), np.array([1.0]), np.array([[3.0]]))
    array([0.])
    """
    return np.asarray((x**2 * (1 / after - 1 / before)[:, None] + np.log(after / before)[:, None]).sum(axis=0) / 2.0)


def mean_excess(mode: Mode) -> float:
    """``<Y>``."""
    v, steps = rests(mode), changes(mode)
    heats = np.array([mode.cumulants(step)[1] for step in steps])
    before, after = v[np.array(steps) - 1], v[np.array(steps)]
    return float(np.sum(heats * (1 / after - 1 / before) + np.log(after / before)) / 2.0)


def _applicable(run: Run) -> list[Mode]:
    found = [mode for mode in modes(run) if mode.is_gaussian and not (mode.adiabatic or mode.decay)]
    if not found or found[0].constant_rate:
        raise NotApplicable("speaks of a Gaussian valley of constant curvature at a rate that changes")
    for mode in found:
        mean, variance, *_ = mode.cumulants(0)
        if abs(variance / rests(mode)[0] - 1.0) > 1e-9 or mean != 0.0 or mode.centre != 0.0:
            raise NotApplicable(f"{mode.parameter} does not start in the stationary law of the first learning rate")
    return found


def _records(run: Run) -> Recorder:
    return Recorder(snapshots=changes(_applicable(run)[0]))


def _at_point(run: Run) -> list[Prediction]:
    rows = []
    for mode in _applicable(run):
        steps, v = changes(mode), rests(mode)
        if not set(steps) <= set(run.recorder.snapshots):
            raise NotApplicable("the states at which the learning rate changes are not kept")
        index = np.array(steps)
        about = partial(excess_entropy, v[index - 1], v[index])
        conditions = f"{len(steps)} changes of the rate, from {mode.rates[0]:.4g} to {mode.rates[-1]:.4g}"
        mean = mean_excess(mode)
        rows += [
            Prediction(
                ID,
                "<exp(-Y)>, Y the excess entropy",
                PathMean(mode.parameter, steps, partial(_weight, about)),
                1.0,
                "exact",
                0.02,
                conditions=conditions,
            ),
            Prediction(
                ID, "<Y>", PathMean(mode.parameter, steps, about), mean, "exact", 0.02 * mean, conditions=conditions
            ),
        ]
    return rows


def _weight(about: partial[np.ndarray], x: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-about(x)))


LAW = Law(
    ID,
    "the equality of Hatano and Sasa under any schedule",
    "our own statement after Hatano and Sasa, sgdsim handbook NTL-29",
    _records,
    _at_point,
)
