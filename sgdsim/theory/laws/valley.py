"""Valleys: the law of a fast direction, its energy, correlations, and equipartition over several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import (
    Correlation,
    Distance,
    Function,
    Moment,
    NotApplicable,
    Prediction,
    Rival,
    over,
    require,
    stored,
)
from sgdsim.theory.law import law, row
from sgdsim.theory.methods.directions import candidate_directions
from sgdsim.theory.methods.mode_rows import fast_loss_name, fast_losses, middle_step, of_mode, when
from sgdsim.theory.methods.modes import Mode, modes
from sgdsim.theory.recorded_names import name_of

LAGS = (1, 2, 5)
"""Steps between the snapshots whose correlation is tested."""


def stationary_variance(rate: float, curvature: float, noise_variance: float) -> float:
    """Stationary variance of a fast direction, once the start is forgotten.

    Examples
    --------
    >>> stationary_variance(0.5, 1.0, 1.0)
    0.3333333333333333
    """
    return rate * noise_variance / (curvature * (2.0 - rate * curvature))


def _snapshot_of_gaussian(run: Run) -> Recorder:
    gaussian = any(direction.is_gaussian(run) for direction in candidate_directions(run))
    return Recorder(snapshots=(run.steps,) if gaussian else ())


@law(
    "valley",
    "law of a fast direction: mean, variance, distribution, cumulants",
    source="stationary variance arXiv:2505.10559; transient and cumulants re-derived",
    holds=(
        "SGD in a direction whose gradient is affine with noise of its own, 0 < eta*a < 2; any noise, start, "
        "schedule, batch and decay; adiabatic where the curvature depends on slower parameters"
    ),
    records=_snapshot_of_gaussian,
    automatic=True,
)
def valley(run: Run) -> Iterator[Prediction]:
    """The law of a fast direction at fixed learning rate, and on the way there. Exact.

        x ~ N(0, v),    v = eta*sigma^2 / (a*(2 - eta*a)),    0 < eta*a < 2,
        v_t = v + (v_0 - v)*r^(2t),    m_t = r^t*m_0,    r = 1 - eta*a,

    and for any noise ``kappa_j(x) = (-eta*sigma)^j*kappa_j(xi)/(1 - r^j)``, so that the excess kurtosis is that
    of the noise times ``(1 - r^2)/(1 + r^2)``. What is tested is the law at the recorded step itself, from the
    recursion of cumulants in `sgdsim.theory.methods.modes`, which is exact for any schedule, start, batch
    size and weight decay (weight-decay, minibatches).

    The stationary variance is in arXiv:2505.10559; transient and cumulants are re-derived.
    """
    for mode in modes(run):
        yield from _mean_and_variance(mode, run.steps)
        middle = middle_step(mode)
        if middle is not None and not mode.adiabatic:
            yield from _mean_and_variance(mode, middle)
        if not mode.is_gaussian:
            yield from _shape(mode)
        elif run.steps in run.recorder.snapshots:
            mean, variance, *_ = mode.cumulants(run.steps)
            cdf = partial(_normal_cdf, mean, float(np.sqrt(variance)))
            yield of_mode(mode, Distance(mode.parameter, run.steps, cdf), 0.0)


def _mean_and_variance(mode: Mode, step: int) -> Iterator[Prediction]:
    mean, variance, *_ = mode.cumulants(step)
    # A mean near zero is judged on the scale of the distribution.
    resolution = 0.01 * float(np.hypot(mean, np.sqrt(variance)))
    yield of_mode(mode, Moment("mean", mode.parameter, step), mean, resolution=resolution)
    yield of_mode(mode, Moment("variance", mode.parameter, step), variance)


def _shape(mode: Mode) -> Iterator[Prediction]:
    _, k2, k3, k4 = mode.cumulants(mode.run.steps)
    for name, value in {"skewness": k3 / k2**1.5, "kurtosis": k4 / k2**2}.items():
        if np.isfinite(value):
            # Judged on the scale of a standardised variable: 1 % of a small kurtosis would take billions of
            # trajectories.
            resolution = 0.05 * max(1.0, abs(value))
            yield of_mode(mode, Moment(name, mode.parameter, mode.run.steps), value, resolution=resolution)


@stored
def _normal_cdf(mean: float, std: float, values: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return np.asarray(ndtr((values - mean) / std))


def temperature(rate: float, noise_variance: float) -> float:
    """The temperature ``T = eta*sigma^2/2``: SGD with additive Gaussian noise is Euler-Maruyama of step eta at this T.

    Examples
    --------
    >>> temperature(0.1, 4.0)
    0.2
    """
    return rate * noise_variance / 2.0


def stationary_fast_loss(rate: float, curvature: float, noise_variance: float) -> float:
    """Mean of ``a*x^2/2`` once the start is forgotten: ``T_eff/2 = T/(2 - eta*a)``.

    Examples
    --------
    >>> round(stationary_fast_loss(0.02, 1.0, 1.0), 7)
    0.0050505
    """
    return temperature(rate, noise_variance) / (2.0 - rate * curvature)


@law(
    "valley-energy",
    "fast loss and temperature: <U> = T_eff/2 and Var U",
    source="re-derived; leading order claimed in arXiv:2505.10559",
    holds="as valley, noise with a fourth moment for the variance",
    records=fast_losses,
    automatic=True,
)
def valley_energy(run: Run) -> Iterator[Prediction]:
    """Mean fast loss and temperature. Exact.

        U = a*x^2/2,    <U> = eta*sigma^2 / (2*(2 - eta*a)) = T_eff/2,    Var U = 2*<U>^2 for Gaussian noise.

    To leading order ``<U> = eta*sigma^2/4 = T/2`` with the temperature ``T = eta*sigma^2/2``: equipartition,
    independent of the curvature. Tested at the last step from the exact cumulants of x, for any noise: ``Var U =
    a^2*(kappa_4 + 2*kappa_2^2)/4`` for a centred valley. With weight decay lambda the mean is ``a/(a + lambda)``
    times that of curvature ``a + lambda`` (weight-decay).

    Equipartition to leading order is claimed in arXiv:2505.10559; the formulas follow from its stationary
    variance and are re-derived.
    """
    for mode in modes(run):
        name = fast_loss_name(mode)
        conditions = f"{name} = {mode.direction.fast_loss(run.loss)}; {mode.conditions}"
        for statistic, value in zip(("mean", "variance"), mode.fast_loss(run.steps), strict=True):
            if np.isfinite(value):
                yield of_mode(mode, Moment(statistic, name, run.steps), value, conditions=conditions)


def _window(run: Run) -> tuple[int, int]:
    return run.steps // 2, run.steps


def _averages_and_snapshots(run: Run) -> Recorder:
    averages = tuple(direction.time_average(*_window(run)) for direction in candidate_directions(run))
    snapshots = tuple(run.steps - lag for lag in (0, *LAGS) if lag < run.steps) if averages else ()
    return Recorder(snapshots=tuple(sorted(snapshots)), observables=averages)


@law(
    "correlations",
    "correlations in time: autocorrelation, relaxation, variance of a time average",
    source="re-derived",
    holds="as valley",
    records=_averages_and_snapshots,
    automatic=True,
)
def correlations(run: Run) -> Iterator[Prediction]:
    """Correlations in time. Exact.

        rho_k = r^k,    relaxation time -1/ln|r| of the mean, half of it of U (rho_k of U is r^(2k)),

        Var of the mean of N successive states = (v/N)*[(1 + r)/(1 - r) - 2*r*(1 - r^N)/(N*(1 - r)^2)]
                                               -> sigma^2/(a^2*N), independent of eta.

    Tested: correlations between snapshots a few steps apart at the end of the run, the variance of a time average
    over its second half, and, where the start lies off the bottom of the valley, the decay of the mean. All from
    the exact recursions, ``Corr(x_s, x_t) = prod r * sqrt(v_s/v_t)``, so that nothing waits for stationarity;
    they need no Gaussian noise.

    Re-derived.
    """
    rows = [row for mode in modes(run) for part in (_correlations, _time_average, _decay_of_mean) for row in part(mode)]
    require(rows, "neither snapshots a few steps apart nor a time average is recorded")
    yield from rows


def _correlations(mode: Mode) -> Iterator[Prediction]:
    stop, snapshots = mode.run.steps, mode.run.recorder.snapshots
    for lag in LAGS:
        if lag < stop and {stop, stop - lag} <= set(snapshots):
            measure = Correlation(mode.parameter, (stop - lag, stop))
            quantity = f"correlation of {mode.parameter}, lag {lag}"
            # Correlations are judged on their own scale, from -1 to 1: r^k may be as small as it likes.
            yield of_mode(mode, measure, mode.correlation(stop - lag, stop), quantity, 0.01)


def _time_average(mode: Mode) -> Iterator[Prediction]:
    window = _window(mode.run)
    try:
        name = name_of(mode.run, mode.direction.time_average(*window))
    except NotApplicable:
        return
    # Trajectories whose curvature differs from the path's for a while change the average for good.
    assumes = mode.assumes_at(mode.run.recorder.record_steps(mode.run.steps))
    moment = Moment("variance", name, mode.run.steps)
    yield of_mode(mode, moment, mode.time_average_variance(*window), assumes=assumes)


def _decay_of_mean(mode: Mode) -> Iterator[Prediction]:
    """A row on the decay of the mean, if its start lies more than a standard deviation off its resting place."""
    step = middle_step(mode)
    if step is None or mode.adiabatic:
        return
    start, rest = mode.cumulants(0)[0], _resting_mean(mode)
    if abs(start - rest) < np.sqrt(mode.cumulants(step)[1]):
        return
    remaining = partial(_remaining, start=start, rest=rest)
    measure = Function("relaxation", remaining, (Moment("mean", mode.parameter, step),))
    quantity = f"remaining displacement of {mode.parameter}{when(mode, step)}"
    # The remaining part goes from 1 to 0, and is judged on that scale.
    yield of_mode(mode, measure, mode.memory(0, step), quantity, 0.01)


def _resting_mean(mode: Mode) -> float:
    """The resting place of the mean, where the mean gradient with weight decay vanishes."""
    stiffness = mode.pull[0] / mode.rates[0]
    return float((mode.curvature * mode.centre - mode.noise_cumulants[0]) / stiffness)


@stored
def _remaining(mean: np.ndarray, start: float, rest: float) -> np.ndarray:
    return np.asarray((mean - rest) / (start - rest))


@law(
    "equipartition",
    "equipartition over fast directions, and their number",
    source="re-derived; leading order claimed in arXiv:2505.10559",
    holds="as valley; counts directions that share one temperature, without weight decay",
    records=fast_losses,
    automatic=True,
)
def equipartition(run: Run) -> Iterator[Prediction]:
    """Equipartition over fast directions of distinct curvature. Exact for each.

        <U_i> = eta*sigma_i^2 / (2*(2 - eta*a_i)),

    sharp directions being hotter by ``1/(1 - eta*a_i/2)``. To leading order each has ``eta*sigma^2/4``, whatever
    its curvature, and the total counts the directions: ``N = lim 4*<U_total>/(eta*sigma^2)``. At finite eta this
    estimator gives ``sum_i 1/(1 - eta*a_i/2)``. The leading-order formula stands beside every row as a rival,
    from which a measurement at eta*a > 0.5 must tell the exact one.

    Equipartition and the counting of valley directions are claimed in arXiv:2505.10559; the exact form and the
    estimator are re-derived.
    """
    found = modes(run)
    for mode in found:
        rival = Rival("leading order", _leading(mode))
        yield of_mode(mode, Moment("mean", fast_loss_name(mode), run.steps), mode.fast_loss(run.steps)[0], rival=rival)
    if len(found) > 1:
        yield _sum(found, "total fast loss", "total", 1.0, sum(map(_leading, found)))
    temperatures = [final_temperature(mode) for mode in found]
    # With weight decay soft directions are colder, and the total no longer counts the directions.
    if not found[0].decay and np.ptp(temperatures) <= 1e-12 * max(temperatures):
        yield _sum(found, "number of fast directions", "valley_count", temperatures[0] / 2.0, len(found))


def final_temperature(mode: Mode) -> float:
    """The temperature of a mode at the last learning rate."""
    return temperature(float(mode.rates[-1]), mode.noise_variance)


def _leading(mode: Mode) -> float:
    curvature = mode.curvature
    return final_temperature(mode) / 2.0 * curvature / (curvature + mode.decay)


def _sum(found: Sequence[Mode], quantity: str, statistic: str, unit: float, rival: float) -> Prediction:
    step = found[0].run.steps
    moments = tuple(Moment("mean", fast_loss_name(mode), step) for mode in found)
    return row(
        Function(statistic, partial(over, unit), moments),
        sum(mode.fast_loss(step)[0] for mode in found) / unit,
        quantity,
        "adiabatic" if any(mode.adiabatic for mode in found) else "exact",
        conditions="; ".join(mode.conditions for mode in found),
        assumes=tuple(condition for mode in found for condition in mode.assumes),
        rival=Rival("leading order", float(rival)),
    )
