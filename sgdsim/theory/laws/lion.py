"""Lion: its stationary variance at small learning rates."""

from __future__ import annotations

from collections.abc import Iterator
from math import pi, sqrt

import numpy as np

from sgdsim.model.observables import late
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Moment, Prediction, Rival, require
from sgdsim.theory.law import law, ratio_row
from sgdsim.theory.laws.signsgd import leading_variance
from sgdsim.theory.methods.mode_rows import check_forgotten, mode_losses
from sgdsim.theory.methods.modes import Mode, constant_rate, steady_modes
from sgdsim.theory.recorded_names import name_of

_LARGEST = 0.5  # largest pull of a step in units of 1 - beta2: beyond it a test to order 0 says little


def lion_variance(rate: float, curvature: float, sigma: float, beta1: float, beta2: float) -> float:
    """Stationary variance of Lion to leading order, for normal noise.

    Examples
    --------
    >>> round(lion_variance(1.0, 1.0, 1.0, 0.9, 0.99), 6), round(lion_variance(1.0, 1.0, 1.0, 0.0, 0.9), 6)
    (3.413897, 0.626657)
    """
    lags = np.arange(1, int(np.ceil(np.log(1e-17) / np.log(beta2))) + 1) if beta2 else np.ones(0)
    long = beta1**2 * (1.0 - beta2) / (1.0 + beta2)
    square = (1.0 - beta1) ** 2 + long
    together = (1.0 - beta1) * beta1 * (1.0 - beta2) * beta2 ** (lags - 1.0) + long * beta2**lags
    diffusion = 1.0 + 4.0 / pi * float(np.arcsin(together / square).sum())
    return rate * sigma * sqrt(square) / (2.0 * curvature) * sqrt(pi / 2.0) * diffusion


def _pull(mode: Mode, rate: float) -> float:
    """The part of a displacement that a step takes away, at small rates."""
    beta1, beta2 = (mode.run.optimizer.values[name] for name in ("beta1", "beta2"))
    sigma = mode.sigma * sqrt((1.0 - beta1) ** 2 + beta1**2 * (1.0 - beta2) / (1.0 + beta2))
    return rate * mode.curvature * sqrt(2.0 / pi) / sigma


def _records(run: Run) -> Recorder:
    return mode_losses(run, *(late(mode.direction.fast_loss(run.loss), run.steps) for mode in steady_modes(run)))


@law(
    "lion",
    "Lion with normal noise: the stationary fast loss at small learning rates",
    source="re-derived",
    holds="Lion in a valley with normal noise at a constant rate, the start forgotten, over four or more rates",
    records=_records,
    finite_order=True,
)
def lion(run: Run) -> Iterator[Prediction]:
    """Lion in a valley with normal noise. Leading order in the learning rate.

    A step has the sign of ``c_t = a*x + sum_j w_j*xi_(t-j)`` with the weights ``w_0 = 1 - beta1`` and ``w_j =
    beta1*(1 - beta2)*beta2^(j-1)``, which add up to 1, as long as x is slow beside the memory. With sigma_c^2 and rho_k
    the variance and the correlations of the noise in c,

        sigma_c^2 = sigma^2*[(1 - beta1)^2 + beta1^2*(1 - beta2)/(1 + beta2)],
        rho_k*sigma_c^2 = sigma^2*[(1 - beta1)*beta1*(1 - beta2)*beta2^(k-1) + beta1^2*(1 - beta2)*beta2^k/(1 + beta2)],

    the mean sign pulls by ``sqrt(2/pi)*a*x/sigma_c``, and signs are correlated by ``(2/pi)*asin(rho_k)``, so that

        Var x = eta*sigma_c/(2*a)*sqrt(pi/2)*[1 + (4/pi)*sum_k asin(rho_k)].

    The next order is that of a step's pull in units of 1 - beta2. beta1 = 0 is SignSGD.

    Re-derived.
    """
    require(run.optimizer.name == "lion", f"holds for lion, the optimizer is {run.optimizer.name}")
    require(not run.optimizer.decay, "holds without weight decay")
    rate, values = constant_rate(run), run.optimizer.values
    for mode in steady_modes(run):
        require(mode.has_normal_noise, "holds for normal noise")
        pull = _pull(mode, rate)
        require(
            pull <= _LARGEST * (1.0 - values["beta2"]),
            f"a step pulls {mode.parameter} by {pull:.3g}, expected at most {_LARGEST:g} of 1 - beta2",
        )
        check_forgotten(mode, (1.0 - pull) ** (run.steps // 2))
        unit = lion_variance(rate, mode.curvature, mode.sigma, values["beta1"], values["beta2"])
        name = name_of(run, late(mode.direction.fast_loss(run.loss), run.steps))
        plain = leading_variance(rate, mode.curvature, mode.sigma) / unit
        yield ratio_row(
            Moment("mean", name, run.steps),
            mode.curvature * unit / 2.0,
            f"mean({name}) over its leading order",
            order=0,
            resolution=0.02,
            conditions=f"{mode.parameter}: pull a step {pull:.3g}",
            rival=Rival("SignSGD", plain),
            small=rate,
            series=f"{mode.parameter} {values} {mode.curvature} {mode.sigma}",
        )
