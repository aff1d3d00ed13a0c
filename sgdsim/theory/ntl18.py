"""NTL-18: the fastest possible cooling of one mode, and the bound that no schedule passes. Exact.

The second moment ``v = E (x - centre)^2`` obeys ``v' = (1 - eta*a)^2*v + eta^2*sigma^2``, least for
``eta* = a*v/(a^2*v + sigma^2)``. Since v' rises with v, the greedy choice is the best at every later step, too, and

    1/v_n = 1/v_0 + n*a^2/sigma^2    under eta*,    v_n >= 1/(1/v_0 + n*a^2/sigma^2)    under any other schedule.

From equilibrium at eta_0 this is ``eta_n* = eta_0/(2 + n*a*eta_0)``: the first move halves the learning rate, and
``U_n = U_0/(1 + n*a*eta_0/(2 - a*eta_0))``. So zero temperature is never reached in finitely many steps (NTL-31 i).
What is tested is the second moment in units of the bound.

That the best decay is about 1/t is claimed in arXiv:2505.10559; the exact law and the bound are re-derived.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from sgdsim.run import Run
from sgdsim.theory.law import Law
from sgdsim.theory.modes import Mode, modes
from sgdsim.theory.ntl2 import fast_loss_name, fast_losses
from sgdsim.theory.prediction import Function, Moment, NotApplicable, Prediction, Rival

ID = "NTL-18"


def greedy_rates(steps: int, curvature: float, noise: float, v0: float) -> np.ndarray:
    """The learning rates that cool a mode of second moment v0 fastest.

    Examples
    --------
    >>> rest = 0.2 / (2 - 0.2)  # in equilibrium at 0.2
    >>> greedy_rates(3, 1.0, 1.0, rest)  # 0.2/(2 + 0.2*n)
    array([0.1       , 0.09090909, 0.08333333])
    """
    v = 1.0 / (1.0 / v0 + np.arange(steps) * curvature**2 / noise)
    return np.asarray(curvature * v / (curvature**2 * v + noise))


def bound(steps: int, curvature: float, noise: float, v0: float) -> float:
    """The least second moment after so many steps, whatever the learning rates.

    Examples
    --------
    >>> bound(80, 1.0, 1.0, 0.05)
    0.01
    """
    return float(1.0 / (1.0 / v0 + steps * curvature**2 / noise))


def _at_point(run: Run) -> list[Prediction]:
    found = [mode for mode in modes(run) if not (mode.adiabatic or mode.decay)]
    rows = [row for mode in found if (row := _row(mode)) is not None]
    if not rows:
        raise NotApplicable("no valley has a constant curvature and noise, a start that is spread, and no weight decay")
    return rows


def _row(mode: Mode) -> Prediction | None:
    a, steps, start = float(mode.curvature[-1]), mode.run.steps, 2.0 * mode.fast_loss(0)[0] / mode.curvature[0]
    if not 0.0 < start < np.inf or mode.constant_rate:
        return None
    name, least = fast_loss_name(mode), bound(steps, a, mode.noise_variance, float(start))
    predicted = 2.0 * mode.fast_loss(steps)[0] / a / least
    best = bool(abs(predicted - 1.0) < 1e-9)
    return Prediction(
        ID,
        f"second moment of {mode.parameter} over the least that any schedule leaves",
        Function("ratio", partial(_over, 2.0 / a / least), (Moment("mean", name, steps),)),
        predicted,
        "exact",
        conditions=f"least {least:.6g}; {'this schedule is the best' if best else mode.conditions}",
        rival=None if best else Rival("the bound", 1.0),
    )


def _over(scale: float, measured: np.ndarray) -> np.ndarray:
    return np.asarray(scale * measured)


LAW = Law(
    ID,
    "the fastest possible cooling, and the bound that no schedule passes",
    "re-derived, sgdsim handbook NTL-18 and NTL-31; a decay like 1/t is claimed in arXiv:2505.10559",
    fast_losses,
    _at_point,
)
