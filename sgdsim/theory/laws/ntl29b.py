"""NTL-29b: Jarzynski's equality for walls that a river closes like a clock. Leading order, and exactly at any eta.

A river ``c = -g*y`` so steep that the walls cannot slow it moves a(y), linear in y, by the clock ``y = y_0 + n*eta*g``.
From the Gibbs law ``Var x = T/a_0``, with the work ``W = sum of (a(y') - a(y))*x^2/2`` of NTL-27 done on x,

    <exp(-W/T)> = sqrt(a_0/a_1)  as eta -> 0,

whatever the speed: it is the ratio of the partition functions. At finite eta it is a Gaussian integral: with ``f_n(x) =
A_n*exp(-B_n*x^2/2)`` the mean weight of the steps from n on,

    s = eta^2*sigma^2,  r = 1 - eta*a_n,    A_n = A_(n+1)/sqrt(1 + B_(n+1)*s),
    B_n = (a_(n+1) - a_n)/T + r^2*B_(n+1)/(1 + B_(n+1)*s),    <exp(-W/T)> = A_0/sqrt(1 + B_0*Var x).

How W is measured: the walls take their work from the river, which is late by it, ``W = g*(y_0 + n*eta*g - y_n)``,
but for the back reaction, of relative size ``a'*x^2/(2g)``, which is demanded to be below 1e-4. The final y tells W,
if its last bit is far below the lateness T/g of a work T, which is demanded.

The equality is tested over learning rates to go to its limit, and at each against the exact integral. So that a
protocol takes the same time ``n*eta`` at every rate, the rate may drop to next to nothing after it. Our own statement,
after Jarzynski (1997).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import NotApplicable, PathMean, Prediction, Rival
from sgdsim.theory.law import Law
from sgdsim.theory.methods.rivers import River, river

ID = "NTL-29b"
_BACK_REACTION = 1e-4
_RESOLUTION = 0.01
_SAME = 1e-6  # relative difference of variances
_STOPPED = 1e-9
_LAST_BIT = 1e-2  # of y, over the lateness T/g that tells the work


def exact_weight(a: np.ndarray, rate: float, noise: float, start: float) -> float:
    """``<exp(-W/T)>`` for curvatures a after 0, 1, … steps, from a normal start of that variance.

    Examples
    --------
    >>> float(exact_weight(np.array([1.0, 1.0]), 0.1, 1.0, 0.05))
    1.0
    """
    heat, kick, b, logarithm = rate * noise / 2.0, rate**2 * noise, 0.0, 0.0
    for now, after in zip(a[-2::-1], a[:0:-1], strict=True):
        logarithm -= 0.5 * np.log1p(b * kick)
        b = (after - now) / heat + (1.0 - rate * now) ** 2 * b / (1.0 + b * kick)
    return float(np.exp(logarithm) / np.sqrt(1.0 + b * start))


def _moving(run: Run) -> tuple[River, np.ndarray, float]:
    """The river while it moves, y after 0, 1, … steps of that, and y at the end of the run."""
    rates = run.schedule.rates(run.steps)
    moving = rates == rates[0]
    steps = int(np.count_nonzero(moving))
    if not moving[:steps].all() or np.any(rates[steps:] > _STOPPED * rates[0]):
        raise NotApplicable(f"speaks of one learning rate, and at most {_STOPPED:g} of it after that")
    known = river(replace(run, schedule=Schedule(repr(float(rates[0])))))
    if known.river_noise or known.is_flat or known.bed[2] != 0 or known.walls[2] != 0:
        raise NotApplicable("speaks of a river of constant slope, without noise of its own, along walls linear in it")
    y = known.start - float(known.c(0.0, 1)) * np.concatenate([[0.0], np.cumsum(rates)])
    return known, y[: steps + 1], float(y[-1])


def _at_point(run: Run) -> list[Prediction]:
    known, y, end = _moving(run)
    start = run.initial[known.fast]
    if isinstance(start, float | int) or getattr(start, "family", "") != "normal" or start.cumulant(1) != 0.0:
        raise NotApplicable(f"{known.fast} does not start from a normal law about 0")
    a, slope, heat, variance = known.a(y), -float(known.c(0.0, 1)), known.temperature, float(start.cumulant(2))
    if abs(variance * a[0] / heat - 1.0) > _SAME:
        raise NotApplicable(f"{known.fast} starts with the variance {variance:.6g}, Gibbs' law has {heat / a[0]:.6g}")
    back = float(abs(known.a(0.0, 1)) * heat / (2.0 * a.min() * abs(slope)))
    if not back < _BACK_REACTION:
        raise NotApplicable(f"the walls slow the river by {back:.1g}, at most {_BACK_REACTION:g} can be neglected")
    if not (np.all(a > 0.0) and known.rate * a.max() < 2.0):
        raise NotApplicable(f"eta*a goes from {known.rate * a[0]:.3g} to {known.rate * a[-1]:.3g}, not between 0 and 2")
    last_bit = float(np.finfo(run.dtype).eps * np.abs(y).max() / (heat / abs(slope)))
    if not last_bit < _LAST_BIT:
        raise NotApplicable(
            f"{known.slow} is late by some {heat / abs(slope):.2g}, of which its last bit in {run.dtype} is "
            f'{last_bit:.1g}, at most {_LAST_BIT:g} can be neglected: expected dtype = "float64", or a less steep river'
        )
    if run.steps not in run.recorder.snapshots:
        raise NotApplicable("the states at the end are not kept")
    limit, exact = float(np.sqrt(a[0] / a[-1])), exact_weight(a, known.rate, known.noise, variance)
    conditions = f"a from {a[0]:.4g} to {a[-1]:.4g}, back reaction {back:.1g}, eta*a up to {known.rate * a.max():.3g}"
    late, final = partial(_weight, slope / heat, end), (run.steps,)
    return [
        Prediction(
            ID,
            "<exp(-W/T)> over sqrt(a_0/a_1)",
            PathMean(known.slow, final, partial(_over, limit, late)),
            1.0,
            0,
            conditions=conditions,
            learning_rate=known.rate,
            series=f"{ID} {known.walls[0]} {known.bed[0]} {heat:.9g} {a[-1]:.6g}",
        ),
        Prediction(
            ID,
            "<exp(-W/T)> at this learning rate",
            PathMean(known.slow, final, late),
            exact,
            "adiabatic",
            _RESOLUTION * exact,
            conditions=conditions,
            rival=Rival("the equality", limit),
        ),
    ]


def _weight(pull: float, end: float, y: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-pull * (end - y[0])))


def _over(limit: float, weight: partial[np.ndarray], y: np.ndarray) -> np.ndarray:
    return np.asarray(weight(y) / limit)


LAW = Law(
    ID,
    "Jarzynski's equality for walls that close by the clock",
    "our own statement after Jarzynski, sgdsim handbook NTL-29",
    lambda run: Recorder(snapshots=(run.steps,)),
    _at_point,
    finite_order=True,
)
