"""NTL-1: the law of a fast direction at fixed learning rate, and on the way there. Exact.

    x ~ N(0, v),    v = eta*sigma^2 / (a*(2 - eta*a)),    0 < eta*a < 2,
    v_t = v + (v_0 - v)*r^(2t),    m_t = r^t*m_0,    r = 1 - eta*a,

and for any noise ``kappa_j(x) = (-eta*sigma)^j*kappa_j(xi)/(1 - r^j)``, so that the excess kurtosis is that
of the noise times ``(1 - r^2)/(1 + r^2)``. What is tested is the law at the recorded step itself, from the
recursion of cumulants in `sgdsim.theory.methods.fast_directions`, which is exact for any schedule, start, batch size
and weight decay (NTL-6, NTL-7c).

The stationary variance is in arXiv:2505.10559; transient and cumulants are re-derived.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Distance, Moment, Prediction
from sgdsim.theory.law import Law, middle_step, when
from sgdsim.theory.methods.fast_directions import Mode, candidate_directions, modes

ID = "NTL-1"


def stationary_variance(rate: float, curvature: float, noise_variance: float) -> float:
    """Variance of x once the start is forgotten.

    Examples
    --------
    >>> stationary_variance(0.5, 1.0, 1.0)
    0.3333333333333333
    """
    return rate * noise_variance / (curvature * (2.0 - rate * curvature))


def stationary_kurtosis(rate: float, curvature: float, noise_kurtosis: float) -> float:
    """Excess kurtosis of x once the start is forgotten.

    Examples
    --------
    >>> round(stationary_kurtosis(0.5, 1.0, 3.0), 12)  # Laplace
    1.8
    """
    square = (1.0 - rate * curvature) ** 2
    return noise_kurtosis * (1.0 - square) / (1.0 + square)


def _records(run: Run) -> Recorder:
    gaussian = any(direction.is_gaussian(run) for direction in candidate_directions(run))
    return Recorder(snapshots=(run.steps,) if gaussian else ())


def _at_point(run: Run) -> list[Prediction]:
    rows: list[Prediction] = []
    for mode in modes(run):
        rows += _mean_and_variance(mode, run.steps)
        middle = middle_step(mode)
        if middle is not None and not mode.adiabatic:
            rows += _mean_and_variance(mode, middle)
        if mode.is_gaussian and run.steps in run.recorder.snapshots:
            rows.append(_distribution(mode, run.steps))
        if not mode.is_gaussian:
            rows += _shape(mode, run.steps)
    return rows


def _mean_and_variance(mode: Mode, step: int) -> list[Prediction]:
    mean, variance, *_ = mode.cumulants(step)
    # A mean near zero is judged on the scale of the distribution.
    resolution = 0.01 * float(np.hypot(mean, np.sqrt(variance)))
    return [_row(mode, "mean", step, mean, resolution), _row(mode, "variance", step, variance)]


def _shape(mode: Mode, step: int) -> list[Prediction]:
    _, k2, k3, k4 = mode.cumulants(step)
    values = {"skewness": k3 / k2**1.5, "kurtosis": k4 / k2**2}
    # On the scale of a standardised variable: 1 % of a small kurtosis would ask for billions of trajectories.
    return [
        _row(mode, name, step, value, 0.05 * max(1.0, abs(value)))
        for name, value in values.items()
        if np.isfinite(value)
    ]


def _distribution(mode: Mode, step: int) -> Prediction:
    mean, variance, *_ = mode.cumulants(step)
    measure = Distance(mode.parameter, step, _normal_cdf(mean, float(np.sqrt(variance))))
    quantity = f"distribution of {mode.parameter}{when(mode, step)}"
    return Prediction(ID, quantity, measure, 0.0, mode.order, conditions=mode.conditions)


def _normal_cdf(mean: float, std: float) -> Callable[[np.ndarray], np.ndarray]:
    def cdf(values: np.ndarray) -> np.ndarray:
        from scipy.special import ndtr

        return np.asarray(ndtr((values - mean) / std))

    return cdf


def _row(mode: Mode, statistic: str, step: int, predicted: float, resolution: float | None = None) -> Prediction:
    quantity = f"{statistic}({mode.parameter}){when(mode, step)}"
    measure = Moment(statistic, mode.parameter, step)
    return Prediction(ID, quantity, measure, predicted, mode.order, resolution, conditions=mode.conditions)


LAW = Law(
    ID,
    "law of a fast direction: mean, variance, distribution, cumulants",
    "stationary variance arXiv:2505.10559; transient and cumulants re-derived, sgdsim handbook NTL-1",
    _records,
    _at_point,
)
