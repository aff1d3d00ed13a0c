"""NTL-3: correlations in time. Exact.

    rho_k = r^k,    relaxation time -1/ln|r| of the mean, half of it of U (rho_k of U is r^(2k)),

    Var of the mean of N successive states = (v/N)*[(1 + r)/(1 - r) - 2*r*(1 - r^N)/(N*(1 - r)^2)]
                                           -> sigma^2/(a^2*N), independent of eta.

Tested: correlations between snapshots a few steps apart at the end of the run, the variance of a time average
over its second half, and, where the start lies off the bottom of the valley, the decay of the mean. All from
the exact recursions, ``Corr(x_s, x_t) = prod r * sqrt(v_s/v_t)``, so that nothing waits for stationarity;
they need no Gaussian noise.

Re-derived.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Correlation, Function, Moment, NotApplicable, Prediction
from sgdsim.theory.law import Law, middle_step, name_of, when
from sgdsim.theory.methods.fast_directions import Mode, candidate_directions, modes

ID = "NTL-3"
LAGS = (1, 2, 5)


def stationary_time_average_variance(variance: float, r: float, count: int) -> float:
    """Variance of the mean of `count` successive states of a stationary mode.

    Examples
    --------
    >>> round(stationary_time_average_variance(0.3 / 1.7, 0.7, 2000), 7)
    0.0004993
    """
    tail = 2.0 * r * (1.0 - r**count) / (count * (1.0 - r) ** 2)
    return variance / count * ((1.0 + r) / (1.0 - r) - tail)


def _window(run: Run) -> tuple[int, int]:
    return run.steps // 2, run.steps


def _records(run: Run) -> Recorder:
    averages = tuple(direction.time_average(*_window(run)) for direction in candidate_directions(run))
    snapshots = tuple(run.steps - lag for lag in (0, *LAGS) if lag < run.steps) if averages else ()
    return Recorder(snapshots=tuple(sorted(snapshots)), observables=averages)


def _at_point(run: Run) -> list[Prediction]:
    rows: list[Prediction] = []
    for mode in modes(run):
        rows += _correlations(mode) + _time_average(mode) + _decay_of_mean(mode)
    if not rows:
        raise NotApplicable("neither snapshots a few steps apart nor a time average is recorded")
    return rows


def _correlations(mode: Mode) -> list[Prediction]:
    stop = mode.run.steps
    starts = [stop - lag for lag in LAGS if lag < stop and {stop, stop - lag} <= set(mode.run.recorder.snapshots)]
    # Correlations are judged on their own scale, from -1 to 1: r^k may be as small as it likes.
    return [
        _row(
            mode,
            f"correlation of {mode.parameter}, lag {stop - start}",
            Correlation(mode.parameter, (start, stop)),
            mode.correlation(start, stop),
            0.01,
        )
        for start in starts
    ]


def _time_average(mode: Mode) -> list[Prediction]:
    window = _window(mode.run)
    try:
        name = name_of(mode.run, mode.direction.time_average(*window))
    except NotApplicable:
        return []
    measure = Moment("variance", name, mode.run.steps)
    return [_row(mode, f"variance({name})", measure, mode.time_average_variance(*window))]


def _decay_of_mean(mode: Mode) -> list[Prediction]:
    """Only where the start lies beyond one standard deviation of where the mean goes."""
    step = middle_step(mode)
    if step is None or mode.adiabatic:
        return []
    start, rest = mode.cumulants(0)[0], _resting_mean(mode)
    if abs(start - rest) < np.sqrt(mode.cumulants(step)[1]):
        return []
    measure = Function(
        "relaxation",
        partial(_remaining, start=start, rest=rest),
        (Moment("mean", mode.parameter, step),),
    )
    quantity = f"remaining displacement of {mode.parameter}{when(mode, step)}"
    # A part of the whole, from 1 to 0, and judged as that.
    return [_row(mode, quantity, measure, mode.memory(0, step), 0.01)]


def _resting_mean(mode: Mode) -> float:
    """Where the mean gradient, with weight decay, vanishes."""
    stiffness = mode.pull[0] / mode.rates[0]
    return float((mode.curvature[0] * mode.centre - mode.noise_cumulants[0]) / stiffness)


def _remaining(mean: np.ndarray, start: float, rest: float) -> np.ndarray:
    return np.asarray((mean - rest) / (start - rest))


def _row(
    mode: Mode,
    quantity: str,
    measure: Moment | Correlation | Function,
    value: float,
    resolution: float | None = None,
) -> Prediction:
    return Prediction(ID, quantity, measure, value, mode.order, resolution, conditions=mode.conditions)


LAW = Law(
    ID,
    "correlations in time: autocorrelation, relaxation, variance of a time average",
    "re-derived, sgdsim handbook NTL-3",
    _records,
    _at_point,
)
