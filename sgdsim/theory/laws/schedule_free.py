"""Schedule-free SGD: mean and variance of the average at any step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sgdsim.base import budget
from sgdsim.model.run import Run
from sgdsim.prediction import Moment, Prediction, require
from sgdsim.theory.law import law, row
from sgdsim.theory.methods.mode_rows import fast_loss_name, mode_losses
from sgdsim.theory.methods.modes import Mode, steady_modes


def averages(mode: Mode) -> tuple[float, float]:
    """Mean and variance of the average at the end of a run."""
    run, a = mode.run, mode.curvature
    values, start = run.optimizer.values, run.initial[mode.parameter]
    beta, pull = values["momentum"], a + run.optimizer.decay
    x = z = float(start) if isinstance(start, float | int) else float(start.moment(1))
    xx = xz = zz = 0.0 if isinstance(start, float | int) else float(start.moment(2)) - x**2
    top = weights = 0.0
    for t, rate in enumerate(run.schedule.rates(run.steps).tolist()):
        budget.check()
        before, top = top, max(top, rate)
        weights = 1.0 + weights * (t / (t + 1.0)) ** values["weight_power"] * (before / top) ** 2
        c, from_z, from_x = 1.0 / weights, 1.0 - rate * pull * (1.0 - beta), -rate * pull * beta
        z = from_z * z + from_x * x + rate * a * mode.centre
        x = (1.0 - c) * x + c * z
        # Covariances of z after the step: with x before the step, and with itself.
        zx = from_z * xz + from_x * xx
        zz = from_z**2 * zz + 2.0 * from_z * from_x * xz + from_x**2 * xx + rate**2 * mode.noise_variance
        xx = (1.0 - c) ** 2 * xx + 2.0 * c * (1.0 - c) * zx + c**2 * zz
        xz = (1.0 - c) * zx + c * zz
    return x, xx


@law(
    "schedule-free",
    "schedule-free SGD: mean, variance and fast loss of the average",
    source="re-derived",
    holds="schedule-free SGD in a valley, any schedule and start",
    records=mode_losses,
)
def schedule_free(run: Run) -> Iterator[Prediction]:
    """Schedule-free SGD in a valley. Exact at any step.

    With ``y = (1 - beta)*z + beta*x`` and the weight c of the step among all so far,

        z' = z - eta*((a + lambda)*y - a*x_0 + w),    x' = (1 - c)*x + c*z',

    is linear, so that the means and covariances of (z, x) are known at every step. With ``c = 1/(t + 1)`` the average x
    has no stationary law, but ``t*Var x -> (sigma/a)^2/(1 - beta^2)`` at every rate: by the factor ``1/(1 - beta^2)``
    more than the mean of plain SGD's iterates. z has ``Var z -> eta*sigma^2/(a*(1 - beta)*(2 - eta*a*(1 - beta)))``.

    Re-derived.
    """
    require(run.optimizer.name == "schedule_free_sgd", f"holds for schedule_free_sgd, not for {run.optimizer.name}")
    for mode in steady_modes(run):
        mean, variance = averages(mode)
        conditions = f"{mode.parameter}: beta = {run.optimizer.values['momentum']:g}"
        spread = 0.02 * float(np.hypot(mean - mode.centre, np.sqrt(variance)))
        yield row(Moment("mean", mode.parameter, run.steps), mean, resolution=spread, conditions=conditions)
        yield row(Moment("variance", mode.parameter, run.steps), variance, conditions=conditions)
        loss = mode.curvature * (variance + (mean - mode.centre) ** 2) / 2.0
        yield row(Moment("mean", fast_loss_name(mode), run.steps), loss, conditions=conditions)
