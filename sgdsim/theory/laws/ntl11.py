"""NTL-11: Adam, without epsilon; and decoupled weight decay without momentum.

*Long memory, exact as beta2 -> 1.* With ``c_1 = (1 - beta1)/(1 + beta1)`` and ``k = eta*a/sigma``, h solves ``h^2*(1 +
h/(2 - c_1*h)) = k^2``, and

    v = (h/a)*sigma^2 / (a*(2 - c_1*h)).

To leading order as RMSProp, NTL-10: beta1 drops out. What is left out is of order 1 - beta2, and a memory of the
gradient, 1/(1 - beta1), that is not short beside that of its square.

*Finite memory, small k*, as in NTL-10. The steps are correlated: with ``q = 1 - beta2, p = 1 - beta1``, the mean square
1 + d of unit noise, ``S = E d^2 = q/(1 - q/2)`` and ``A(x) = (1 + x)/(1 - x)`` from the sum over lags,

    diffusion   1 - p^2*q*[A(beta1) + A(beta1*beta2)]/(1 - beta1^2*beta2) + (3/4)*S
                  + (1/4)*S*p^2*A(beta1*beta2)/(1 - beta1^2),
    pull        1 - q*p/(1 - beta1*beta2) + (3/8)*S,

both to second order in d. Their ratio is R, ``1 - (3/8)*q`` where q is small beside p: beta1 drops out of it, too.

*Decoupled decay lambda*, RMSProp of a long memory: with ``r = 1 - eta*lambda - eta_eff*a`` and the mean x_m,

    v = eta_eff^2*sigma^2/(1 - r^2),    x_m = eta_eff*a*x_0/(1 - r),
    eta_eff = eta/sqrt(sigma^2 + a^2*(v + (x_m - x_0)^2)).

Re-derived.
"""

from __future__ import annotations

from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable, Prediction
from sgdsim.theory.law import Law
from sgdsim.theory.laws.adaptive import adaptive_rows, adaptive_walls, finite_memory_row, is_long, late_losses
from sgdsim.theory.methods.gradient_flow import constant_rate
from sgdsim.theory.methods.walls import Wall, check_forgotten, stationary_rows, wall_losses

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


def finite_memory(beta1: float, beta2: float) -> float:
    """R, the variance at small k in units of that of a long memory, to first order in 1 - beta2.

    Examples
    --------
    >>> round((finite_memory(0.5, 0.9999) - 1.0) / 1e-4, 3)
    -0.375
    """
    p, q = 1.0 - beta1, 1.0 - beta2
    spread = q / (1.0 - q / 2.0)
    short, both = (1.0 + beta1) / (1.0 - beta1), (1.0 + beta1 * beta2) / (1.0 - beta1 * beta2)
    shared = p * p * q * (short + both) / (1.0 - beta1 * beta1 * beta2)
    diffusion = 1.0 - shared + spread * (3.0 + p * p * both / (1.0 - beta1 * beta1)) / 4.0
    return diffusion / (1.0 - q * p / (1.0 - beta1 * beta2) + 3.0 / 8.0 * spread)


def decayed(rate: float, curvature: float, sigma: float, decay: float, centre: float = 0.0) -> tuple[float, float]:
    """Mean and variance of RMSProp of a long memory with decoupled decay.

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


def _adam(run: Run) -> list[Prediction]:
    values, rate = run.optimizer.values, constant_rate(run)
    beta1, beta2 = values["beta1"], values["beta2"]
    long = is_long(run, "beta2")
    if long and 10.0 * (1.0 - beta2) > 1.0 - beta1:
        raise NotApplicable("holds where the mean gradient forgets ten times faster than the mean square")
    rows: list[Prediction] = []
    for wall in adaptive_walls(run, "beta2"):
        variance = adam_variance(rate, wall.curvature, wall.sigma, beta1)
        if long:
            rows += adaptive_rows(ID, wall, variance, beta2)
        elif not wall.is_normal:
            raise NotApplicable("a finite memory: holds for normal noise")
        else:
            rows.append(finite_memory_row(ID, wall, "beta2", variance, finite_memory(beta1, beta2)))
    return rows


def _decoupled(run: Run) -> list[Prediction]:
    if run.optimizer.values["weight_decay"]:
        raise NotApplicable("holds for decoupled weight decay, and there is a coupled one")
    if not is_long(run, "alpha"):
        raise NotApplicable("decoupled weight decay: holds as alpha goes to 1")
    return [row for wall in adaptive_walls(run, "alpha") for row in _decayed_rows(wall)]


def _decayed_rows(wall: Wall) -> list[Prediction]:
    rate, decay = constant_rate(wall.run), wall.run.optimizer.decay
    mean, variance = decayed(rate, wall.curvature, wall.sigma, decay, wall.centre)
    check_forgotten(wall, max(1.0 - rate * decay, 0.0) ** wall.run.steps)
    conditions = f"{wall.parameter}: eta*lambda = {rate * decay:.4g}, neglects parts of 1 - alpha"
    return stationary_rows(ID, wall, variance, mean, conditions, ("no decay", rate * wall.sigma / 4.0))


def _at_point(run: Run) -> list[Prediction]:
    name, decay = run.optimizer.name, run.optimizer.decay
    if name == "adam" and not decay:
        return _adam(run)
    if name == "rmsprop" and decay:
        return _decoupled(run)
    raise NotApplicable(
        f"holds for adam without weight decay, and rmsprop with decoupled; the optimizer is {name} with {decay:g}"
    )


LAW = Law(
    ID,
    "Adam: variance and fast loss with a constant denominator, a finite memory; decoupled decay without momentum",
    "re-derived, sgdsim handbook NTL-11",
    lambda run: late_losses(run, "beta2") if run.optimizer.name == "adam" else wall_losses(run),
    _at_point,
)
