"""NTL-9: SignSGD with normal noise, ``x' = x - eta*sign(a*x + sigma*xi)``. Exact.

x lives on a lattice ``delta + eta*Z``, a birth-death chain with detailed balance,

    pi(x + eta)/pi(x) = Phi(-a*x/sigma) / Phi(a*(x + eta)/sigma).

Each step moves by eta, so that the chain has period 2: an ensemble that starts at one point is, after t steps, on every
second point, with the law 2*pi there. A start that is uniform over a multiple of 2*eta mixes all phases. In both cases
the stationary variance is a sum over the lattice. Of mixed phases, exactly,

    <x s> = eta/2    (s the sign that is taken),    Corr(x_t, x_(t+1)) = 1 - eta^2/(2*v).

To leading order ``v = sqrt(pi/8)*eta*sigma/a``: equipartition holds, at a temperature that is linear in sigma.

Re-derived; arXiv:2505.10559 has a steady state of sign descent, whose formula is not known to us.
"""

from __future__ import annotations

import numpy as np

from sgdsim.noise import Noise
from sgdsim.observables import Observable
from sgdsim.run import Recorder, Run
from sgdsim.theory.flows import constant_rate
from sgdsim.theory.law import Law, name_of
from sgdsim.theory.prediction import Correlation, Moment, NotApplicable, Prediction
from sgdsim.theory.walls import Wall, check_forgotten, stationary_rows, wall_losses, walls

ID = "NTL-9"
_PHASES = 64  # of the trapezoidal rule for a periodic function
_REACH = 14.0  # standard deviations of the noise beyond which the sign is certain


def lattice_law(rate: float, curvature: float, sigma: float, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """The points ``phase + eta*Z`` that matter, in order, and the stationary probability of each.

    Examples
    --------
    >>> points, weights = lattice_law(1.0, 1.0, 0.5, 0.0)
    >>> points[weights > 0.01], weights[weights > 0.01].round(4)
    (array([-1.,  0.,  1.]), array([0.25  , 0.4886, 0.25  ]))
    """
    from scipy.special import log_ndtr

    most = int(np.ceil(_REACH * sigma / (curvature * rate))) + 3
    points = phase + rate * np.arange(-most, most + 1)
    u = curvature * points / sigma
    steps = log_ndtr(-u[:-1]) - log_ndtr(u[1:])
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    weights = np.exp(logs - logs.max())
    return points, weights / weights.sum()


def parity_moments(rate: float, curvature: float, sigma: float, phase: float) -> tuple[float, float]:
    """Mean and variance on the sublattice ``phase + 2*eta*Z``, where all of an ensemble is at once.

    Examples
    --------
    >>> round(parity_moments(2.0, 1.0, 1.0, 0.0)[1], 4), round(mixed_variance(2.0, 1.0, 1.0), 4)
    (0.364, 2.1415)
    """
    points, weights = lattice_law(rate, curvature, sigma, phase)
    middle = len(points) // 2
    points, weights = points[middle % 2 :: 2], weights[middle % 2 :: 2]
    mean = float(np.average(points, weights=weights))
    return mean, float(np.average((points - mean) ** 2, weights=weights))


def mixed_variance(rate: float, curvature: float, sigma: float) -> float:
    """Variance where all phases are mixed uniformly.

    Examples
    --------
    >>> round(mixed_variance(0.02, 1.0, 1.0), 7)
    0.0126118
    """
    phases = 2.0 * rate * np.arange(_PHASES) / _PHASES
    squares = [sum(m * m + v for m, v in [parity_moments(rate, curvature, sigma, phase)]) for phase in phases]
    return float(np.mean(squares))


def leading_variance(rate: float, curvature: float, sigma: float) -> float:
    """``sqrt(pi/8)*eta*sigma/a``.

    Examples
    --------
    >>> round(leading_variance(0.1, 1.0, 1.0), 6)
    0.062666
    """
    return float(np.sqrt(np.pi / 8.0)) * rate * sigma / curvature


def _pull(wall: Wall) -> Observable:
    """``x*s`` over the last two steps, that is over both sublattices."""
    name, steps = wall.parameter, wall.run.steps
    label = name.replace("[", "_").replace("]", "")
    return Observable(f"{label}_times_sign", f"{name}*({name} - next({name}))/learning_rate", (steps - 2, steps))


def _records(run: Run) -> Recorder:
    if not any(_is_mixed(wall, constant_rate(run)) for wall in _walls(run)):
        return wall_losses(run)
    pulls = () if "learning_rate" in run.loss.namespace_names else tuple(map(_pull, _walls(run)))
    return wall_losses(run, *pulls, snapshots=(run.steps - 1, run.steps))


def _walls(run: Run) -> list[Wall]:
    if run.optimizer.name != "signsgd" or run.optimizer.decay:
        raise NotApplicable(f"holds for signsgd without weight decay, the optimizer is {run.optimizer.name}")
    found = walls(run)
    if not all(wall.is_normal for wall in found):
        raise NotApplicable("holds for normal noise")
    if run.steps < 2:
        raise NotApplicable("needs two steps or more")
    return found


def _is_mixed(wall: Wall, rate: float) -> bool:
    """Whether the start mixes all phases, or is a number."""
    start = wall.run.initial[wall.parameter]
    if isinstance(start, float | int):
        return False
    if not isinstance(start, Noise) or start.family != "uniform":
        raise NotApplicable(f"{wall.parameter} starts neither at a number nor uniformly: its phases are not known")
    periods = (start.arguments[1] - start.arguments[0]) / (2.0 * rate)
    if round(periods) < 1 or abs(periods - round(periods)) > 1e-9:
        raise NotApplicable(f"{wall.parameter} starts over {periods:.4g} periods of the lattice, not a whole number")
    return True


def _at_point(run: Run) -> list[Prediction]:
    rate = constant_rate(run)
    rows: list[Prediction] = []
    for wall in _walls(run):
        mixed = mixed_variance(rate, wall.curvature, wall.sigma)
        check_forgotten(wall, max(1.0 - rate**2 / (2.0 * mixed), 0.0) ** run.steps)
        leading = "leading order", wall.curvature * leading_variance(rate, wall.curvature, wall.sigma) / 2.0
        strength = f"eta*a/sigma = {rate * wall.curvature / wall.sigma:.4g}"
        if _is_mixed(wall, rate):
            rows += stationary_rows(ID, wall, mixed, wall.centre, f"{wall.parameter}: all phases, {strength}", leading)
            rows += _identities(wall, rate, mixed)
        else:
            rows += _at_one_parity(wall, rate, strength, leading)
    return rows


def _at_one_parity(wall: Wall, rate: float, strength: str, leading: tuple[str, float]) -> list[Prediction]:
    start = float(wall.run.initial[wall.parameter])  # type: ignore[arg-type]
    phase = (start - wall.centre + rate * (wall.run.steps % 2)) % (2.0 * rate)
    mean, variance = parity_moments(rate, wall.curvature, wall.sigma, phase)
    conditions = f"{wall.parameter}: every second point of the lattice, {strength}"
    return stationary_rows(ID, wall, variance, wall.centre + mean, conditions, leading)


def _identities(wall: Wall, rate: float, variance: float) -> list[Prediction]:
    run, steps = wall.run, wall.run.steps
    rows = []
    if wall.centre == 0 and "learning_rate" not in run.loss.namespace_names:
        name = name_of(run, _pull(wall))
        rows.append(Prediction(ID, f"mean({name})", Moment("mean", name, steps), rate / 2.0, conditions="identity"))
    if {steps - 1, steps} <= set(run.recorder.snapshots):
        measure = Correlation(wall.parameter, (steps - 1, steps))
        quantity = f"correlation of {wall.parameter}, lag 1"
        rows.append(Prediction(ID, quantity, measure, 1.0 - rate**2 / (2.0 * variance), "exact", 0.01))
    return rows


LAW = Law(
    ID,
    "SignSGD with normal noise: the law on its lattice, at one parity or with mixed phases",
    "re-derived, sgdsim handbook NTL-9; a steady state of sign descent is quoted in arXiv:2505.10559",
    _records,
    _at_point,
)
