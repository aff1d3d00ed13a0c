"""NTL-11: Adam, without epsilon. Exact as beta2 -> 1.

With ``c_1 = (1 - beta1)/(1 + beta1)`` and ``k = eta*a/sigma``, h solves ``h^2*(1 + h/(2 - c_1*h)) = k^2``, and

    v = (h/a)*sigma^2 / (a*(2 - c_1*h)).

To leading order as RMSProp, NTL-10: beta1 drops out. What is left out is of order 1 - beta2, and a memory of the
gradient, 1/(1 - beta1), that is not short beside that of its square.

Re-derived.
"""

from __future__ import annotations

from sgdsim.run import Run
from sgdsim.theory.flows import constant_rate
from sgdsim.theory.law import Law
from sgdsim.theory.ntl10 import adaptive_rows, adaptive_walls
from sgdsim.theory.prediction import NotApplicable, Prediction
from sgdsim.theory.walls import wall_losses

ID = "NTL-11"


def adam_variance(rate: float, curvature: float, sigma: float, beta1: float) -> float:
    """Stationary variance with a constant denominator.

    Examples
    --------
    >>> round(adam_variance(0.05, 1.0, 1.0, 0.9), 6), round(adam_variance(5.0, 1.0, 1.0, 0.9), 4)
    (0.024729, 1.6655)
    """
    from scipy.optimize import brentq

    k, share = rate * curvature / sigma, (1.0 - beta1) / (1.0 + beta1)
    highest = min(k, 2.0 / share * (1.0 - 1e-12))
    h = float(brentq(lambda h: h * h * (1.0 + h / (2.0 - share * h)) - k * k, 0.0, highest, xtol=1e-15))
    return h * sigma**2 / (curvature**2 * (2.0 - share * h))


def _at_point(run: Run) -> list[Prediction]:
    found = adaptive_walls(run, "adam", "beta2")
    values, rate = run.optimizer.values, constant_rate(run)
    if 10.0 * (1.0 - values["beta2"]) > 1.0 - values["beta1"]:
        raise NotApplicable("holds where the mean gradient forgets ten times faster than the mean square")
    rows: list[Prediction] = []
    for wall in found:
        variance = adam_variance(rate, wall.curvature, wall.sigma, values["beta1"])
        rows += adaptive_rows(ID, wall, variance, values["beta2"])
    return rows


LAW = Law(
    ID,
    "Adam: variance and fast loss with a constant denominator",
    "re-derived, sgdsim handbook NTL-11",
    wall_losses,
    _at_point,
)
