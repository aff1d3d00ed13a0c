"""RMSProp and Adam: stationary laws with a constant denominator, and the corrections by a finite memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import numpy as np

from sgdsim.model.observables import late
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Moment, Prediction, Rival, require
from sgdsim.theory.law import law, ratio_row
from sgdsim.theory.methods.mode_rows import check_forgotten, mode_losses, stationary_rows
from sgdsim.theory.methods.modes import Mode, constant_rate, steady_modes
from sgdsim.theory.recorded_names import name_of

MOST_FORGETFUL = 2.5e-3
"""Largest 1 - alpha of a long memory: the variance with a constant denominator is off by a part of that size."""
_SHORTEST = 0.25  # largest 1 - alpha: beyond it a test to order 1 says little
_LARGEST = 0.5  # largest eta*a/sigma: beyond it a test to order 1 says little
_SMALL = 1e-5  # largest epsilon that is neglected, in units of sigma


def adaptive_modes(run: Run, averaging: str) -> list[Mode]:
    """The modes of a run with an adaptive optimizer whose average has forgotten its start.

    Raises
    ------
    NotApplicable
        For an epsilon that is not negligible, and for a run too short to forget.
    """
    found, kept = steady_modes(run), run.optimizer.values[averaging]
    for mode in found:
        require(
            not run.optimizer.values["epsilon"] > _SMALL * mode.sigma,
            f"holds without epsilon, which is {run.optimizer.values['epsilon']:g}",
        )
        check_forgotten(mode, kept**run.steps)
    return found


def adaptive_rows(
    run: Run, averaging: str, variance: Callable[[Mode], float], ratio: Callable[[], float]
) -> Iterator[Prediction]:
    """Rows on all modes of a run with an adaptive optimizer.

    Parameters
    ----------
    run, averaging
        The run, and the optimizer's option that sets the memory of the squares.
    variance
        The variance with a long memory; equipartition at ``eta*sigma/2`` is its rival.
    ratio
        The variance with a finite memory in units of that.
    """
    rate, share, long = constant_rate(run), 1.0 - run.optimizer.values[averaging], is_long(run, averaging)
    for mode in adaptive_modes(run, averaging):
        if long:
            strength = f"eta*a/sigma = {rate * mode.curvature / mode.sigma:.4g}"
            conditions = f"{mode.parameter}: {strength}, neglects parts of order {share:.1g}"
            leading = ("leading order", rate * mode.sigma / 4.0)
            yield from stationary_rows(mode, variance(mode), mode.centre, conditions, leading)
        else:
            require(mode.has_normal_noise, "a finite memory: holds for normal noise")
            yield finite_memory_row(mode, averaging, variance(mode), ratio())


def is_long(run: Run, averaging: str) -> bool:
    """True if the memory is so long that its finite length is neglected.

    Raises
    ------
    NotApplicable
        If the memory is too short for either formula.
    """
    share = 1.0 - run.optimizer.values[averaging]
    require(not share > _SHORTEST, f"holds as {averaging} goes to 1, and {share:.2g} is farther than {_SHORTEST:g}")
    return share <= MOST_FORGETFUL


def late_losses(run: Run, averaging: str) -> Recorder:
    """A recorder of the fast losses; with a finite memory, also of their averages over the last half of a run."""
    adaptive = run.optimizer.name in ("adam", "rmsprop") and averaging in run.optimizer.values
    if not adaptive or is_long(run, averaging):
        return mode_losses(run)
    return mode_losses(run, *(late(mode.direction.fast_loss(run.loss), run.steps) for mode in steady_modes(run)))


def finite_memory_row(mode: Mode, averaging: str, long: float, ratio: float) -> Prediction:
    """A row on the late fast loss in units of that with a long memory, to order 1 in the present gradient's weight."""
    run, a = mode.run, mode.curvature
    share, k = 1.0 - run.optimizer.values[averaging], constant_rate(run) * a / mode.sigma
    require(not k > _LARGEST, f"{mode.parameter}: eta*a/sigma = {k:.4g}, expected at most {_LARGEST:g}")
    check_forgotten(mode, max(1.0 - k, 1.0 - share) ** (run.steps // 2))
    name = name_of(run, late(mode.direction.fast_loss(run.loss), run.steps))
    others = {**run.optimizer.values, averaging: None}
    return ratio_row(
        Moment("mean", name, run.steps),
        a * long / 2.0,
        f"mean({name}) over that of a long memory, in powers of 1 - {averaging}",
        ratio,
        order=1,
        resolution=3.0 / 16.0 * share,  # half of the first correction to a long memory
        conditions=f"{mode.parameter}: eta*a/sigma = {k / share:.4g}*(1 - {averaging})",
        rival=Rival("a long memory", 1.0),
        small=share,
        small_name=f"1 - {averaging}",
        series=f"{mode.parameter} {run.optimizer.name} {others} {k / share:.6g}",
    )


def rmsprop_variance(rate: float, curvature: float, sigma: float) -> float:
    """Stationary variance of RMSProp with a constant denominator.

    Examples
    --------
    >>> round(rmsprop_variance(0.05, 1.0, 1.0), 6), round(rmsprop_variance(5.0, 1.0, 1.0), 4)
    (0.025314, 7.127)
    """
    k = rate * curvature / sigma
    h = k / 4.0 * (np.sqrt(k * k + 16.0) - k)
    return float(h * sigma**2 / (curvature**2 * (2.0 - h)))


@lru_cache(maxsize=64)
def rmsprop_finite_memory(alpha: float, *, excluding: bool = False) -> float:
    """The ratio R of RMSProp: the variance at small k in units of that of a long memory.

    Examples
    --------
    >>> round(rmsprop_finite_memory(0.98), 5), round(rmsprop_finite_memory(0.98, excluding=True), 5)
    (0.99298, 1.01267)
    """
    share = 1.0 - alpha
    weights = share * alpha ** np.arange(np.ceil(np.log(1e-18) / np.log(alpha)) + 1)
    # The trapezoidal rule in log(s): its error falls exponentially.
    s = np.exp(np.arange(-70.0, 16.0, 0.05))
    present = 1.0 if excluding else 1.0 / (1.0 + 2.0 * s * share)
    seen = present * np.exp([-np.log1p(2.0 * one * weights).sum() / 2.0 for one in s])
    return float(np.sqrt(np.pi) * np.sum(s * seen) / np.sum(np.sqrt(s) * seen))


@law(
    "rmsprop",
    "RMSProp: variance and fast loss with a constant denominator, and what a finite memory changes",
    source="re-derived",
    holds="RMSProp in a valley at a constant rate with a long memory, the start forgotten",
    records=lambda run: late_losses(run, "alpha"),
)
def rmsprop(run: Run) -> Iterator[Prediction]:
    """RMSProp without epsilon, whose mean square includes the present gradient.

    *Long memory, exact as alpha -> 1.* The denominator is then a constant, found self-consistently: with ``k =
    eta*a/sigma``,

        h = (k/4)*(sqrt(k^2 + 16) - k),    eta_eff = h/a,    v_inf = eta_eff*sigma^2/(a*(2 - h)).

    ``h < 2`` for every eta: it never diverges. To leading order ``<U> = eta*sigma/4``: equipartition at the
    temperature ``eta*sigma/2``, linear in sigma.

    *Finite memory, small k.* x is slow against the noise xi, and a step ``eta*xi/sqrt(W)`` of unit noise has, with
    ``W = (1 - alpha)*sum_j alpha^j*xi_j^2``, the diffusion ``E xi^2/W`` and, by a small shift of all xi, the pull ``E
    xi^2/sqrt(W)``. Their ratio makes

        v = v_inf*R(alpha),    R = E[xi^2/W]/E[xi^2/sqrt(W)],

    two integrals of ``E exp(-s*W) = prod_j (1 + 2*s*(1 - alpha)*alpha^j)^(-1/2)``. For a long memory ``R = 1 -
    (3/8)*(1 - alpha)``, and ``1 + (5/8)*(1 - alpha)`` where W excludes the present xi; alpha = 0 is SignSGD. W is
    also correlated with x^2, over 1/(1 - alpha) steps. There are three sources: the diffusion and pull that W sets, the
    heat ``a^2*x^2`` that W takes up, and the xi that they share. The first two cancel, and the third vanishes,
    whichever memory is longer. Neglected are terms of order ``(1 - alpha)*k``: the law is tested to order 1 in
    ``1 - alpha``, with k in proportion to it, by averages over late times.

    A mean square that excludes the present gradient begins as the square of the first gradient alone, by which the
    next steps are divided: their variance is infinite, and stays so. From such a start R does not apply.

    Re-derived.
    """
    optimizer = run.optimizer
    require(
        optimizer.name != "rmsprop_excluding",
        "rmsprop_excluding first divides by one gradient alone, and its variance is infinite",
    )
    require(
        optimizer.name == "rmsprop" and not optimizer.decay,
        f"holds for rmsprop without weight decay, the optimizer is {optimizer.name}",
    )
    rate, ratio = constant_rate(run), partial(rmsprop_finite_memory, optimizer.values["alpha"])
    return adaptive_rows(run, "alpha", lambda mode: rmsprop_variance(rate, mode.curvature, mode.sigma), ratio)


def adam_variance(rate: float, curvature: float, sigma: float, beta1: float) -> float:
    """Stationary variance of Adam with a constant denominator.

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


def adam_finite_memory(beta1: float, beta2: float) -> float:
    """The ratio R of Adam: the variance at small k in units of that of a long memory, to first order in 1 - beta2.

    Examples
    --------
    >>> round((adam_finite_memory(0.5, 0.9999) - 1.0) / 1e-4, 3)
    -0.375
    """
    p, q = 1.0 - beta1, 1.0 - beta2
    spread = q / (1.0 - q / 2.0)
    short, both = (1.0 + beta1) / (1.0 - beta1), (1.0 + beta1 * beta2) / (1.0 - beta1 * beta2)
    shared = p * p * q * (short + both) / (1.0 - beta1 * beta1 * beta2)
    diffusion = 1.0 - shared + spread * (3.0 + p * p * both / (1.0 - beta1 * beta1)) / 4.0
    return diffusion / (1.0 - q * p / (1.0 - beta1 * beta2) + 3.0 / 8.0 * spread)


def decayed(rate: float, curvature: float, sigma: float, decay: float, centre: float = 0.0) -> tuple[float, float]:
    """Mean and variance at rest under RMSProp with a long memory and decoupled decay.

    Examples
    --------
    >>> mean, variance = decayed(0.2, 1.0, 1.0, 0.5)
    >>> mean, round(variance, 6)
    (0.0, 0.074446)
    """
    from scipy.optimize import brentq

    def at(effective: float) -> tuple[float, float]:
        r = 1.0 - rate * decay - effective * curvature
        return effective * curvature * centre / (1.0 - r), effective**2 * sigma**2 / (1.0 - r * r)

    def excess(effective: float) -> float:
        mean, variance = at(effective)
        return effective**2 * (sigma**2 + curvature**2 * (variance + (mean - centre) ** 2)) - rate**2

    highest = min(rate / sigma, (2.0 - rate * decay) / curvature * (1.0 - 1e-12))
    return at(float(brentq(excess, 0.0, highest, xtol=1e-15)))


@law(
    "adam",
    "Adam: variance and fast loss with a constant denominator, a finite memory; decoupled decay without momentum",
    source="re-derived",
    holds="Adam in a valley at a constant rate with a long memory, the start forgotten; AdamW without momentum",
    records=lambda run: late_losses(run, "beta2"),
)
def adam(run: Run) -> Iterator[Prediction]:
    """Adam, without epsilon; and decoupled weight decay without momentum.

    *Long memory, exact as beta2 -> 1.* With ``c_1 = (1 - beta1)/(1 + beta1)`` and ``k = eta*a/sigma``, h solves
    ``h^2*(1 + h/(2 - c_1*h)) = k^2``, and

        v = (h/a)*sigma^2 / (a*(2 - c_1*h)).

    To leading order this is the variance of RMSProp (rmsprop): beta1 drops out. Neglected are terms of order
    1 - beta2, and a memory of the gradient, 1/(1 - beta1), that is not short beside that of its square.

    *Finite memory, small k*, as in rmsprop. The steps are correlated: with ``q = 1 - beta2, p = 1 - beta1``, the mean
    square 1 + d of unit noise, ``S = E d^2 = q/(1 - q/2)`` and ``A(x) = (1 + x)/(1 - x)`` from the sum over lags,

        diffusion   1 - p^2*q*[A(beta1) + A(beta1*beta2)]/(1 - beta1^2*beta2) + (3/4)*S
                      + (1/4)*S*p^2*A(beta1*beta2)/(1 - beta1^2),
        pull        1 - q*p/(1 - beta1*beta2) + (3/8)*S,

    both to second order in d. Their ratio is R. If q is small beside p it is ``1 - (3/8)*q``: beta1 drops out of it,
    too.

    *Decoupled decay lambda*, RMSProp of a long memory: with ``r = 1 - eta*lambda - eta_eff*a`` and the mean x_m,

        v = eta_eff^2*sigma^2/(1 - r^2),    x_m = eta_eff*a*x_0/(1 - r),
        eta_eff = eta/sqrt(sigma^2 + a^2*(v + (x_m - x_0)^2)).

    Re-derived.
    """
    name, decay = run.optimizer.name, run.optimizer.decay
    if name == "rmsprop" and decay:
        return _decoupled(run)
    require(
        name == "adam" and not decay,
        f"holds for adam without weight decay, and rmsprop with decoupled; the optimizer is {name} with {decay:g}",
    )
    rate, beta1, beta2 = constant_rate(run), run.optimizer.values["beta1"], run.optimizer.values["beta2"]
    require(
        not is_long(run, "beta2") or 10.0 * (1.0 - beta2) <= 1.0 - beta1,
        "holds where the mean gradient forgets ten times faster than the mean square",
    )
    ratio = partial(adam_finite_memory, beta1, beta2)
    return adaptive_rows(run, "beta2", lambda mode: adam_variance(rate, mode.curvature, mode.sigma, beta1), ratio)


def _decoupled(run: Run) -> Iterator[Prediction]:
    require(not run.optimizer.values["weight_decay"], "holds for decoupled weight decay, and there is a coupled one")
    require(is_long(run, "alpha"), "decoupled weight decay: holds as alpha goes to 1")
    rate, decay = constant_rate(run), run.optimizer.decay
    for mode in adaptive_modes(run, "alpha"):
        mean, variance = decayed(rate, mode.curvature, mode.sigma, decay, mode.centre)
        check_forgotten(mode, max(1.0 - rate * decay, 0.0) ** run.steps)
        conditions = f"{mode.parameter}: eta*lambda = {rate * decay:.4g}, neglects parts of 1 - alpha"
        yield from stationary_rows(mode, variance, mean, conditions, ("no decay", rate * mode.sigma / 4.0))
