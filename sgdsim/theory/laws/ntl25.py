"""NTL-25: a river of constant slope between parabolic walls: held above T_c, passing below. With first corrections.

On ``c = -g*y`` in walls ``a0*(1 + k*y^2)`` the force of the walls is largest at ``k*y^2 = 1``. To leading order

    T_c = 2*g/sqrt(k),    y* = (T/(2*g))*(1 - sqrt(1 - (T_c/T)^2))

is where a river is held above T_c (a root with + is unstable), and below T_c none is. With D1 and D2 of NTL-20,

    trapped, T > T_c:  <y> = m,  D1(m) + D1''(m)*S/2 = 0,  S = -D2/D1'  (NTL-22),
    passing, T < T_c:  <n> = integral from y_0 to b of [1/D1 + D2*D1'/D1^3] dy + delta*g/(a(b)*D1(b)),

n the steps of the first passage of b, from the backward equation ``D1*u' + D2*u'' = -1`` to first order in D2. What is
neglected has the relative size of the squares of ``eta*a``, ``k*T/a`` and of the memory ``g*sqrt(k)/a``, of order eta^2
where g is proportional to eta: then T/T_c stays as it is. So it is tested over learning rates with g in proportion.

Where y first passes b, x is not at rest: y runs by ``g - a'*x^2/2``, so b is passed where x is small. What drifts by D1
is ``y - (a'/(4a))*(x^2 - T/a)``; it is beyond b by ``delta*g/a(b)`` in the mean, and the time is longer by
``delta*g/(a(b)*D1(b))``, of first order too. With z = x/sqrt(T/a) at rest, time in units of 1/a and y in g/a from b,

    (1 - s*z^2)*u_y + u_zz - z*u_z = -1,    s = a'*T/(2*a*g),    u = 0 at y = 0 for s*z^2 < 1,

is the mean time to pass; far below, ``(1 - s)*u = -y + (s/2)*(z^2 - 1) + delta``. It is solved in Hermite polynomials;
delta has no closed form, as y can turn back before b is passed for the last time. If it could not, delta would be
``s^2/(1 - s)``, a shift of b by D2/D1.

Only trajectories that pass have a time; a row is not decided if some have not. Re-derived.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, Rival, over
from sgdsim.theory.law import Law
from sgdsim.theory.laws.ntl20 import Drift, slope_of
from sgdsim.theory.laws.ntl22 import trap
from sgdsim.theory.methods.rivers import River, river

ID = "NTL-25"
_FORGOTTEN = 1e-4


def threshold(known: River) -> float:
    """T_c of a river of constant slope between parabolic walls.

    Raises
    ------
    NotApplicable
        For other walls, or another river.
    """
    slope, bend = float(known.c(0.0, 1)), float(known.a(0.0, 2))
    parabola = known.walls[3] == 0 and float(known.a(0.0, 1)) == 0.0 and bend > 0.0 and float(known.a(0.0)) > 0.0
    if not (parabola and known.bed[2] == 0 and slope < 0.0) or known.river_noise:
        raise NotApplicable("speaks of a river -g*y without noise of its own, in walls a0*(1 + k*y^2)")
    return float(-2.0 * slope / np.sqrt(_k(known)))


def _k(known: River) -> float:
    return float(known.a(0.0, 2) / (2.0 * known.a(0.0)))


def leading_trap(known: River) -> float:
    """y*."""
    heat, slope = known.temperature, -float(known.c(0.0, 1))
    return float(heat / (2.0 * slope) * (1.0 - np.sqrt(1.0 - (threshold(known) / heat) ** 2)))


def transit(known: River, end: float, leading: bool = False) -> float:
    """Mean steps until y first exceeds `end`.

    Raises
    ------
    NotApplicable
        Where the drift turns on the way.
    """
    from scipy.integrate import quad

    drift = Drift(known)

    def steps_along(y: float) -> float:
        if leading:
            return float(1.0 / (drift.leading(y) - known.rate * known.c(y, 1)))
        first = float(drift.first(y))
        return float(1.0 / first + drift.second(y) * slope_of(drift.first, y) / first**3)

    y = known.start
    if not leading:  # x cools at once, with what it moves y until then
        y -= float(known.a(y, 1) / (4.0 * known.a(y))) * (known.start_heat - known.rest(y))
    if not np.all(drift.first(np.linspace(y, end, 200)) > 0.0):
        raise NotApplicable(f"the drift holds {known.slow} before {end:g}")
    steps = float(quad(steps_along, y, end, epsrel=1e-9)[0])
    return steps if leading else steps + _late(known, end)


def _late(known: River, end: float) -> float:
    """Steps by which the passage is later, as x is not at rest there; to leading order."""
    a, slope, run_by_itself = float(known.a(end)), float(known.a(end, 1)), -float(known.c(end, 1))
    s = slope * known.temperature / (2.0 * a * run_by_itself)
    return lead_at_passage(s) / (known.rate * a * (1.0 - s))


def lead_at_passage(s: float, terms: int = 40) -> float:
    """``delta``: how far the slow coordinate is beyond b where y first passes it, in units of g/a.

    Even modes ``exp(rate*y)*f(z)``, ``-(f'' - z*f') = rate*(1 - s*z^2)*f``, that vanish far below b are fitted to the
    condition at b, for those z with which y runs out.

    Examples
    --------
    It is near s^2/(1 - s) where y hardly ever turns back.

    >>> round(lead_at_passage(0.1), 4), round(0.1**2 / 0.9, 4)
    (0.011, 0.0111)
    """
    degrees = 2.0 * np.arange(terms)  # of normalised Hermite polynomials
    beside = np.sqrt((degrees[:-1] + 1.0) * (degrees[:-1] + 2.0))
    speed = np.eye(terms) - s * (np.diag(2.0 * degrees + 1.0) + np.diag(beside, 1) + np.diag(beside, -1))
    scale = 1.0 / np.sqrt(degrees[1:])
    inner = speed[1:, 1:] - np.outer(speed[0, 1:], speed[0, 1:]) / speed[0, 0]  # modes carry nothing: <speed*f> = 0
    inverse_rates, modes = np.linalg.eigh(scale[:, None] * inner * scale)
    modes = scale[:, None] * modes[:, inverse_rates > 0.0]
    modes = np.vstack([-(speed[0, 1:] @ modes) / speed[0, 0], modes])
    nodes, weights = np.polynomial.legendre.leggauss(10 * terms)
    z = (1.0 + nodes) / (2.0 * np.sqrt(s))
    hermite = [np.ones_like(z), z]
    for degree in range(1, 2 * terms - 2):
        hermite.append((z * hermite[-1] - np.sqrt(degree) * hermite[-2]) / np.sqrt(degree + 1.0))
    weight = np.sqrt(weights * np.exp(-(z**2) / 2.0) * (1.0 - s * z**2))
    columns = np.column_stack([np.array(hermite[::2]).T @ modes, np.ones_like(z)])
    wanted = -s / 2.0 * (z**2 - 1.0)
    solved, *_ = np.linalg.lstsq(columns * weight[:, None], wanted * weight, rcond=1e-12)
    return float(solved[-1])


def _at_point(run: Run) -> list[Prediction]:
    known = river(run)
    ratio = known.temperature / threshold(known)
    series = f"{ID} {known.walls[0]} {known.start:g} {ratio:.6g} {_k(known):.6g} {known.noise:.9g}"
    return [_trapped(known, ratio, series)] if ratio > 1.0 else [_passing(known, ratio, series)]


def _trapped(known: River, ratio: float, series: str) -> Prediction:
    y = trap(known)
    left = float(np.exp(known.run.steps * slope_of(Drift(known).first, y)))
    memory = left * abs(known.start / y - 1.0)
    if not max(memory, left**2) < _FORGOTTEN:  # by the mean, and by its variance
        raise NotApplicable(f"the start of {known.slow} is still remembered, to {max(memory, left**2):.1g}")
    return Prediction(
        ID,
        f"mean({known.slow}) in the trap at T/T_c = {ratio:.4g}",
        Moment("mean", known.slow, known.run.steps),
        y,
        1,
        conditions=f"{_conditions(known, y)}, start remembered to {memory:.1g}",
        rival=Rival("leading order", leading_trap(known)),
        learning_rate=known.rate,
        series=series,
    )


def _passing(known: River, ratio: float, series: str) -> Prediction:
    name, end = _passage(known)
    predicted, leading = transit(known, end), transit(known, end, leading=True)
    return Prediction(
        ID,
        f"steps of {known.slow} to {end:g} over NTL-25, at T/T_c = {ratio:.4g}",
        Function("ratio", partial(over, predicted), (Moment("mean", name, known.run.steps),)),
        1.0,
        1,
        conditions=f"{predicted:.6g} steps, {_conditions(known, end)}",
        rival=Rival("leading order", leading / predicted),
        learning_rate=known.rate,
        series=f"{series} {end:g}",
    )


def _conditions(known: River, y: float) -> str:
    a = float(known.a(y))
    memory = abs(float(known.c(y, 1))) * np.sqrt(_k(known)) / float(known.a(0.0))
    heat = _k(known) * known.temperature / float(known.a(0.0))
    return f"eta*a up to {known.rate * a:.3g}, k*T/a0 = {heat:.3g}, sqrt(k)*g/a0 = {memory:.3g}"


def _passage(known: River) -> tuple[str, float]:
    """The first passage of y that is recorded: its name, and what is passed."""
    y = known.run.loss.symbols[known.slow]
    constants = {known.run.loss.symbols[name]: value for name, value in known.run.loss.constants.items()}
    for one in known.run.recorder.observables:
        if one.kind != "passage":
            continue
        level = (y - known.run.loss.expand(one.formula)).subs(constants).expand()
        if level.is_number and float(level) > known.start:
            return one.name, float(level)
    raise NotApplicable(f"no first_passage({known.slow} > …) is recorded")


LAW = Law(
    ID,
    "a river between parabolic walls: held above T_c, and how long it takes to pass below",
    "re-derived, sgdsim handbook NTL-25; trapping is claimed in arXiv:2505.10559",
    lambda run: Recorder(),
    _at_point,
    finite_order=True,
)
