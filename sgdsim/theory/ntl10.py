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

from functools import lru_cache, partial

import numpy as np

from sgdsim.observables import Observable
from sgdsim.run import Recorder, Run
from sgdsim.theory.flows import constant_rate
from sgdsim.theory.law import Law, name_of
from sgdsim.theory.prediction import Function, Moment, NotApplicable, Prediction, Rival
from sgdsim.theory.walls import Wall, check_forgotten, stationary_rows, wall_losses, walls

ID = "NTL-10"
MOST_FORGETFUL = 2.5e-3
"""1 - alpha, in parts of which the variance of a long memory is off."""

_SHORTEST = 0.25  # 1 - alpha, beyond which a test to order 1 says little
_LARGEST = 0.5  # eta*a/sigma, likewise
_SMALL = 1e-5  # epsilon in units of sigma


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


def adaptive_walls(run: Run, averaging: str) -> list[Wall]:
    """The walls of a run with an adaptive optimizer whose average has forgotten its start.

    Raises
    ------
    NotApplicable
        For an epsilon that counts, and a short run.
    """
    found, kept = walls(run), run.optimizer.values[averaging]
    for wall in found:
        if run.optimizer.values["epsilon"] > _SMALL * wall.sigma:
            raise NotApplicable(f"holds without epsilon, which is {run.optimizer.values['epsilon']:g}")
        check_forgotten(wall, kept**run.steps)
    return found


def adaptive_rows(id: str, wall: Wall, variance: float, kept: float) -> list[Prediction]:
    """Rows of a wall, with equipartition at ``eta*sigma/2`` as the rival."""
    rate = constant_rate(wall.run)
    strength = f"eta*a/sigma = {rate * wall.curvature / wall.sigma:.4g}"
    conditions = f"{wall.parameter}: {strength}, neglects parts of order {1.0 - kept:.1g}"
    leading = ("leading order", rate * wall.sigma / 4.0)
    return stationary_rows(id, wall, variance, wall.centre, conditions, leading)


def is_long(run: Run, averaging: str) -> bool:
    """Whether what a finite memory changes is neglected.

    Raises
    ------
    NotApplicable
        Where the memory is too short, or the learning rate too large, for either formula.
    """
    share = 1.0 - run.optimizer.values[averaging]
    if share > _SHORTEST:
        raise NotApplicable(f"holds as {averaging} goes to 1, and {share:.2g} is farther than {_SHORTEST:g}")
    return share <= MOST_FORGETFUL


def late_losses(run: Run, averaging: str) -> Recorder:
    """The fast losses, and of a finite memory their averages over the last two thirds of a run."""
    if run.optimizer.name not in ("adam", "rmsprop") or is_long(run, averaging):
        return wall_losses(run)
    return wall_losses(run, *(_late(wall) for wall in walls(run)))


def _late(wall: Wall) -> Observable:
    loss, steps = wall.direction.fast_loss(wall.run.loss), wall.run.steps
    return Observable(f"late_{loss.name}", loss.formula, (steps // 3, steps))


def finite_memory_row(id: str, wall: Wall, averaging: str, long: float, ratio: float) -> Prediction:
    """The late fast loss in units of that of a long memory, to order 1 in the share of the present gradient."""
    run, a = wall.run, wall.curvature
    share, k = 1.0 - run.optimizer.values[averaging], constant_rate(run) * a / wall.sigma
    if k > _LARGEST:
        raise NotApplicable(f"{wall.parameter}: eta*a/sigma = {k:.4g}, expected at most {_LARGEST:g}")
    check_forgotten(wall, max(1.0 - k, 1.0 - share) ** (run.steps // 3))
    name, others = name_of(run, _late(wall)), {**run.optimizer.values, averaging: None}
    return Prediction(
        id,
        f"mean({name}) over that of a long memory, in powers of 1 - {averaging}",
        Function("ratio", partial(_scaled, 2.0 / (a * long)), (Moment("mean", name, run.steps),)),
        ratio,
        1,
        3.0 / 16.0 * share,  # half of what a long memory is off by
        conditions=f"{wall.parameter}: eta*a/sigma = {k / share:.4g}*(1 - {averaging})",
        rival=Rival("a long memory", 1.0),
        learning_rate=share,
        series=f"{id} {wall.parameter} {run.optimizer.name} {others} {k / share:.6g}",
    )


def _scaled(scale: float, value: np.ndarray) -> np.ndarray:
    return np.asarray(scale * value)


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
