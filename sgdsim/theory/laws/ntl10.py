"""NTL-10: RMSProp without epsilon, whose mean square includes the present gradient.

*Long memory, exact as alpha -> 1.* The denominator is then a constant, found self-consistently: with ``k =
eta*a/sigma``,

    h = (k/4)*(sqrt(k^2 + 16) - k),    eta_eff = h/a,    v_inf = eta_eff*sigma^2/(a*(2 - h)).

``h < 2`` for every eta: it never diverges. To leading order ``<U> = eta*sigma/4``: equipartition at the temperature
``eta*sigma/2``, linear in sigma.

*Finite memory, small k.* x is slow against the noise xi, and a step ``eta*xi/sqrt(W)`` of unit noise has, with ``W =
(1 - alpha)*sum_j alpha^j*xi_j^2``, the diffusion ``E xi^2/W`` and, by a small shift of all xi, the pull ``E
xi^2/sqrt(W)``. Their ratio makes

    v = v_inf*R(alpha),    R = E[xi^2/W]/E[xi^2/sqrt(W)],

two integrals of ``E exp(-s*W) = prod_j (1 + 2*s*(1 - alpha)*alpha^j)^(-1/2)``. For a long memory ``R = 1 - (3/8)*(1 -
alpha)``, and ``1 + (5/8)*(1 - alpha)`` where W excludes the present xi; alpha = 0 is SignSGD. W is also correlated with
x^2, over 1/(1 - alpha) steps: of its three sources, the diffusion and pull that W makes, the heat ``a^2*x^2`` that W
takes up, and the xi that they share, the first two cancel, and the third vanishes, whichever memory is longer. What is
left out is of order ``(1 - alpha)*k``: tested to order 1 in ``1 - alpha``, with k in proportion to it, by averages over
late times.

A mean square that excludes the present gradient begins as that of the first gradient alone, by which the next steps are
divided: their variance is infinite, and stays so. To it R does not apply from such a start.

Re-derived.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable, Prediction
from sgdsim.theory.law import Law
from sgdsim.theory.laws.adaptive import adaptive_rows, adaptive_walls, finite_memory_row, is_long, late_losses
from sgdsim.theory.methods.gradient_flow import constant_rate

ID = "NTL-10"


def rmsprop_variance(rate: float, curvature: float, sigma: float) -> float:
    """Stationary variance with a constant denominator.

    Examples
    --------
    >>> round(rmsprop_variance(0.05, 1.0, 1.0), 6), round(rmsprop_variance(5.0, 1.0, 1.0), 4)
    (0.025314, 7.127)
    """
    k = rate * curvature / sigma
    h = k / 4.0 * (np.sqrt(k * k + 16.0) - k)
    return float(h * sigma**2 / (curvature**2 * (2.0 - h)))


@lru_cache(maxsize=64)
def finite_memory(alpha: float, *, excluding: bool = False) -> float:
    """R, the variance at small k in units of that of a long memory.

    Examples
    --------
    >>> round(finite_memory(0.98), 5), round(finite_memory(0.98, excluding=True), 5)
    (0.99298, 1.01267)
    """
    share = 1.0 - alpha
    weights = share * alpha ** np.arange(np.ceil(np.log(1e-18) / np.log(alpha)) + 1)
    # The trapezoidal rule in log(s): its error falls exponentially.
    s = np.exp(np.arange(-70.0, 16.0, 0.05))
    present = 1.0 if excluding else 1.0 / (1.0 + 2.0 * s * share)
    seen = present * np.exp([-np.log1p(2.0 * one * weights).sum() / 2.0 for one in s])
    return float(np.sqrt(np.pi) * np.sum(s * seen) / np.sum(np.sqrt(s) * seen))


def _at_point(run: Run) -> list[Prediction]:
    optimizer = run.optimizer
    if optimizer.name == "rmsprop_excluding":
        raise NotApplicable("rmsprop_excluding first divides by one gradient alone, and its variance is infinite")
    if optimizer.name != "rmsprop" or optimizer.decay:
        raise NotApplicable(f"holds for rmsprop without weight decay, the optimizer is {optimizer.name}")
    rate, alpha = constant_rate(run), optimizer.values["alpha"]
    long = is_long(run, "alpha")
    rows: list[Prediction] = []
    for wall in adaptive_walls(run, "alpha"):
        variance = rmsprop_variance(rate, wall.curvature, wall.sigma)
        if long:
            rows += adaptive_rows(ID, wall, variance, alpha)
        elif not wall.is_normal:
            raise NotApplicable("a finite memory: holds for normal noise")
        else:
            rows.append(finite_memory_row(ID, wall, "alpha", variance, finite_memory(alpha)))
    return rows


LAW = Law(
    ID,
    "RMSProp: variance and fast loss with a constant denominator, and what a finite memory changes",
    "re-derived, sgdsim handbook NTL-10",
    lambda run: late_losses(run, "alpha"),
    _at_point,
)
