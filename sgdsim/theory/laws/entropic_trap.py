"""Entropic traps: the places at which a river is held, and the conditions under which it passes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Moment, NotApplicable, Prediction, Rival, require
from sgdsim.theory.law import law, ratio_row, row
from sgdsim.theory.laws.entropic_force import Drift, bend_of, shift_row, slope_of
from sgdsim.theory.methods.rivers import FORGOTTEN, River, check_remembered, river
from sgdsim.theory.recorded_names import name_of


def _slope_observable(known: River) -> Observable:
    return Observable("mean_slope", f"population_gradient({known.slow})")


def trap(known: River) -> float:
    """The place at which y is held: the stable root of D1, with the shift by fluctuations, next to the start.

    Raises
    ------
    NotApplicable
        If there is none.
    """
    from scipy.optimize import brentq

    drift = Drift(known)

    def shifted(y: float) -> float:
        falling = min(float(slope_of(drift.first, y)), -1e-300)
        spread = -float(drift.second(y)) / falling
        return float(drift.first(y) + bend_of(drift.first, y) * spread / 2.0)

    y = known.start
    direction = np.sign(float(drift.first(y)))
    for step in np.geomspace(1e-3, 20.0, 400):
        end = y + direction * step
        if np.isfinite(drift.first(end)) and np.sign(float(drift.first(end))) == -direction:
            root = brentq(drift.first, y, end, xtol=1e-14)
            width = max(1e-6, 0.05 * step, 2.0 * abs(shifted(root) / float(slope_of(drift.first, root))))
            try:
                return float(brentq(shifted, root - width, root + width, xtol=1e-14))
            except ValueError:
                raise NotApplicable("the trap is so soft that its fluctuations leave it") from None
    raise NotApplicable(f"nothing holds {known.slow}: its drift keeps its sign")


def variance(known: River, y: float) -> float:
    """The variance of y in the trap, to leading order."""
    a, slope, v = float(known.a(y)), float(known.a(y, 1)), known.temperature / float(known.a(y))
    b = float(known.c(y, 2)) + float(known.a(y, 2)) * v / 2.0
    return slope**2 * v**2 / (2.0 * (2.0 * a + b) * (b - slope**2 * v / (2.0 * a)))


@law(
    "entropic-trap",
    "the entropic trap: where it is, how wide, and that forces cancel in it",
    source="re-derived; trapping is claimed in arXiv:2505.10559",
    holds="a river that its walls hold against its own slope, at rest, over learning rates",
    records=lambda run: Recorder(observables=(_slope_observable(river(run)),)),
    finite_order=True,
)
def entropic_trap(run: Run) -> Iterator[Prediction]:
    """The trap in which the entropic force holds a river without noise of its own. To order eta^2 inclusive.

    The river is trapped where c' and the force of the walls cancel: with D1 and D2 of entropic-force,

        <y> = m + O(eta^3),    D1(m) + D1''(m)*S/2 = 0,    S = -D2/D1',
        Var y = a'^2*v^2/(2*(2a + B)*Phi'') + O(eta^3),    v = T/a,    B = c'' + a''*v/2,    Phi'' = B - a'^2*v/(2a),

    at leading order the minimum of ``c + (T/2)*ln(a)``. At rest, and exactly, the mean slope vanishes: ``<c'> +
    <a'*x^2>/2 = 0``. Tested over learning rates up to the power eta^2, whose coefficient is exact in both formulas.

    Entropic trapping is claimed in arXiv:2505.10559; the formulas are re-derived.
    """
    known = river(run)
    require(not known.river_noise, f"{known.slow} has noise of its own, that is noisy-river's")
    require(not known.is_flat, "the river is flat: nothing opposes its walls")
    y = trap(known)
    memory = float(np.exp(run.steps * slope_of(Drift(known).first, y)))
    check_remembered(known, memory)
    conditions = f"eta*a = {known.rate * float(known.a(y)):.3g}, start remembered to {memory:.1g}"
    identity = Moment("mean", name_of(run, _slope_observable(known)), run.steps)
    yield row(identity, 0.0, "mean slope of the loss along the river", conditions=conditions)
    leading = Rival("leading order", _leading(known, y))
    for statistic, value, rival in (("mean", y, leading), ("variance", variance(known, y), None)):
        yield row(
            Moment(statistic, known.slow, run.steps),
            value,
            f"{statistic}({known.slow}) in the trap",
            order=2,
            conditions=conditions,
            rival=rival,
            small=known.rate,
            series=f"entropic-trap {known.series} {known.noise}",
        )


def _leading(known: River, near: float) -> float:
    """The minimum of ``c + (T/2)*ln(a)``."""
    from scipy.optimize import fsolve

    def force(y: np.ndarray) -> np.ndarray:
        return np.asarray(known.c(y, 1) + known.temperature / 2.0 * known.a(y, 1) / known.a(y))

    return float(fsolve(force, near)[0])


_STEP = 1e-2  # step of the search along the river


def root(known: River) -> float:
    """The place at which a river that runs to larger y is held, without fluctuations.

    Raises
    ------
    NotApplicable
        If nothing holds it.
    """
    from scipy.optimize import brentq

    def slope(y: float) -> float:
        return float(known.c(y, 1) + known.a(y, 1) * known.rest(y) / 2.0)

    y = known.start
    require(slope(y) < 0.0, f"{known.slow} does not run to larger values from its start")
    while known.rate * float(known.a(y + _STEP)) < 2.0:
        if slope(y + _STEP) >= 0.0:
            return float(brentq(slope, y, y + _STEP, xtol=1e-14))
        if float(known.a(y + _STEP)) <= float(known.a(y)):
            break
        y += _STEP
    raise NotApplicable(f"nothing holds {known.slow} at a place where its walls close in")


def fluctuations(known: River, y: float) -> tuple[float, float, float]:
    """Shift of the mean, Var y, and the factor by which a step shrinks the slowest displacement."""
    from scipy.linalg import solve_discrete_lyapunov

    rate, v = known.rate, known.rest(y)
    a, a1, a2, a3 = (float(known.a(y, order)) for order in range(4))
    c2, c3 = float(known.c(y, 2)), float(known.c(y, 3))
    r, bend = 1.0 - rate * a, c2 + a2 * v / 2.0
    h, h1, h2 = a * (2.0 - rate * a), 2.0 * a1 * r, 2.0 * a2 * r - 2.0 * rate * a1**2
    matrix = np.array([[r * r, -2.0 * rate * a1 * r * v], [-rate * a1 / 2.0, 1.0 - rate * bend]])
    covariance = solve_discrete_lyapunov(matrix, np.diag([2.0 * v * v * (1.0 - r**4), 0.0]))
    mixed, spread = float(covariance[0, 1]), float(covariance[1, 1])
    forces = c3 * spread / 2.0 + a2 * mixed / 2.0 + a3 * v * spread / 4.0
    forces -= a1 / (2.0 * h) * (h1 * mixed + h2 * v * spread / 2.0)
    return -forces / (bend - a1 * h1 * v / (2.0 * h)), spread, float(np.max(np.abs(np.linalg.eigvals(matrix))))


def rivals(known: River, y: float, spread: float) -> tuple[float, float]:
    """Rival formulas: the shift by the force of walls at rest, and Var y between walls without memory."""

    def force(y: float) -> float:
        return float(known.c(y, 1) + known.a(y, 1) * known.rest(y) / 2.0)

    pull = slope_of(force, y)
    kick = known.rate * float(known.a(y, 1)) * known.rest(y)  # the variance of eta*a'*x^2/2 is half of its square
    return -bend_of(force, y) * spread / (2.0 * pull), kick**2 / (4.0 * known.rate * pull)


@law(
    "edge-of-stability",
    "a river held at the edge of stability",
    source="re-derived; trapping is claimed in arXiv:2505.10559",
    holds="a river held where its walls become unstable, over small steps of the river",
    finite_order=True,
)
def edge_of_stability(run: Run) -> Iterator[Prediction]:
    """A river that runs into the edge of stability, and is held by it. Any eta*a, leading order in its step.

    A river of constant slope meets walls whose heat diverges at ``eta*a = 2``. It rests, without fluctuations, where

        c' + a'*v/2 = 0,    v = eta*sigma^2/h,    h = a*(2 - eta*a),

    on ``c = -g*y`` in walls ``e^(ky)`` at ``eta*a = 2 - k*eta*sigma^2/(2*g)``. The small parameter is not eta but the
    step of the river in units of the width of its walls, ``gamma = eta*|c'|*a'/a``: x remembers ``1/|ln|r||`` steps,
    in which y moves by little. Exactly, at rest, ``<c'> + <a'*x^2>/2 = 0`` and ``<h*x^2> = eta*sigma^2``. Expanded
    about the root, with ``w = x^2 - v`` and the covariances S of (w, y) from the discrete Lyapunov equation

    S = M*S*M^T + diag(2*v^2*(1 - r^4), 0),    M = [[r^2, -2*eta*a'*r*v], [-eta*a'/2, 1 - eta*B]],    B = c'' + a''*v/2,

    they give ``<y> = root + m`` and ``Var y = S_yy`` to leading order in gamma,

        m = -[c'''*S_yy/2 + a''*S_wy/2 + a'''*v*S_yy/4 - (a'/(2h))*(h'*S_wy + h''*v*S_yy/2)]/(B - a'*h'*v/(2h)).

    Tested over four or more slopes g with sigma^2 in proportion, so that the root stays where it is: measured shift and
    variance, in units of these, go to 1 as gamma, which stands in place of the learning rate, goes to 0. The rival of
    the variance are walls without memory, whose heat is drawn anew at every step: ``(eta*a'*v)^2/(4*eta*F')``, F the
    force ``c' + a'*v/2`` of walls at rest. The rival of the shift is this force alone, ``-F''*S_yy/(2*F')``.
    Re-derived.
    """
    known = river(run)
    require(
        known.bed[2] == 0 and not (known.river_noise or known.is_flat),
        "speaks of a river of constant slope without noise of its own",
    )
    y, slope = root(known), abs(float(known.c(0.0, 1)))
    shift, spread, left = fluctuations(known, y)
    travel = abs(y - known.start) / (known.rate * slope)
    memory = left ** max(run.steps - travel, 0.0)
    require(memory < FORGOTTEN, f"{known.slow} gets there after {travel:.0f} steps, and remembers them to {memory:.1g}")
    gamma, edge = known.rate * slope * float(known.a(y, 1) / known.a(y)), known.rate * float(known.a(y))
    at_rest, forgetful = rivals(known, y, spread)
    for statistic, text, origin, value, rival in (
        ("mean", f"shift of {known.slow} from the root", y, shift, ("the force of walls at rest", at_rest)),
        ("variance", f"variance({known.slow})", 0.0, spread, ("walls that do not remember", forgetful)),
    ):
        yield shift_row(
            Moment(statistic, known.slow, run.steps),
            origin,
            value,
            f"{text} at the edge of stability over edge-of-stability",
            conditions=f"eta*a = {edge:.4g}, gamma = {gamma:.3g}, root {y:.6g}, {value:.6g}",
            rival=Rival(rival[0], rival[1] / value),
            small=gamma,
            small_name="gamma",
            series=f"edge-of-stability {known.walls[0]} {known.rate:.9g} {edge:.6g}",
        )


def threshold(known: River) -> float:
    """The threshold temperature T_c of a river of constant slope between parabolic walls.

    Raises
    ------
    NotApplicable
        For other walls, or another river.
    """
    slope, bend = float(known.c(0.0, 1)), float(known.a(0.0, 2))
    parabola = known.walls[3] == 0 and float(known.a(0.0, 1)) == 0.0 and bend > 0.0 and float(known.a(0.0)) > 0.0
    require(
        parabola and known.bed[2] == 0 and slope < 0.0 and not known.river_noise,
        "speaks of a river -g*y without noise of its own, in walls a0*(1 + k*y^2)",
    )
    return float(-2.0 * slope / np.sqrt(_k(known)))


@law(
    "trap-threshold",
    "a river between parabolic walls: held above T_c, and how long it takes to pass below",
    source="re-derived; trapping is claimed in arXiv:2505.10559",
    holds="a river in parabolic walls, above and below the temperature at which they hold it",
    finite_order=True,
)
def trap_threshold(run: Run) -> Iterator[Prediction]:
    """A river of constant slope between parabolic walls: held above T_c, passing below. With first corrections.

    On ``c = -g*y`` in walls ``a0*(1 + k*y^2)`` the force of the walls is largest at ``k*y^2 = 1``. To leading order

        T_c = 2*g/sqrt(k),    y* = (T/(2*g))*(1 - sqrt(1 - (T_c/T)^2))

    is the place at which a river is held above T_c (a root with + is unstable); below T_c no river is. With D1 and D2
    of entropic-force,

        trapped, T > T_c:  <y> = m,  D1(m) + D1''(m)*S/2 = 0,  S = -D2/D1'  (entropic-trap),
        passing, T < T_c:  <n> = integral from y_0 to b of [1/D1 + D2*D1'/D1^3] dy + delta*g/(a(b)*D1(b)),

    n the steps of the first passage of b, from the backward equation ``D1*u' + D2*u'' = -1`` to first order in D2.
    Neglected are terms of the relative size of the squares of ``eta*a``, ``k*T/a`` and of the memory ``g*sqrt(k)/a``.
    They are of order eta^2 if g is proportional to eta, which keeps T/T_c: so the law is tested over learning rates
    with g in proportion.

    When y first passes b, x is not at rest: y runs by ``g - a'*x^2/2``, so b is passed while x is small. The quantity
    that drifts by D1 is ``y - (a'/(4a))*(x^2 - T/a)``; it is then beyond b by ``delta*g/a(b)`` in the mean, and the
    time is longer by ``delta*g/(a(b)*D1(b))``, of first order too. With z = x/sqrt(T/a) at rest, time in units of 1/a
    and y in g/a from b,

        (1 - s*z^2)*u_y + u_zz - z*u_z = -1,    s = a'*T/(2*a*g),    u = 0 at y = 0 for s*z^2 < 1,

    is the mean time to pass; far below, ``(1 - s)*u = -y + (s/2)*(z^2 - 1) + delta``. It is solved in Hermite
    polynomials; delta has no closed form, as y can turn back before b is passed for the last time. If it could not,
    delta would be ``s^2/(1 - s)``, a shift of b by D2/D1.

    Only trajectories that pass have a time; a row is not decided if some have not. Re-derived.
    """
    known = river(run)
    ratio = known.temperature / threshold(known)
    series = f"trap-threshold {known.walls[0]} {known.start:g} {ratio:.6g} {_k(known):.6g} {known.noise:.9g}"
    yield _trapped(known, ratio, series) if ratio > 1.0 else _passing(known, ratio, series)


def _k(known: River) -> float:
    return float(known.a(0.0, 2) / (2.0 * known.a(0.0)))


def leading_trap(known: River) -> float:
    """The place y* of the trap, to leading order."""
    heat, slope = known.temperature, -float(known.c(0.0, 1))
    return float(heat / (2.0 * slope) * (1.0 - np.sqrt(1.0 - (threshold(known) / heat) ** 2)))


def transit(known: River, end: float, leading: bool = False) -> float:
    """Mean number of steps until y first exceeds `end`.

    Raises
    ------
    NotApplicable
        If the drift turns on the way.
    """
    from scipy.integrate import quad

    drift = Drift(known)

    def steps_along(y: float) -> float:
        if leading:
            return float(1.0 / (drift.leading(y) - known.rate * known.c(y, 1)))
        first = float(drift.first(y))
        return float(1.0 / first + drift.second(y) * slope_of(drift.first, y) / first**3)

    y = known.start
    if not leading:  # y starts where it is when x has come to rest, as if that took no time
        y -= float(known.a(y, 1) / (4.0 * known.a(y))) * (known.start_heat - known.rest(y))
    require(np.all(drift.first(np.linspace(y, end, 200)) > 0.0), f"the drift holds {known.slow} before {end:g}")
    steps = float(quad(steps_along, y, end, epsrel=1e-9)[0])
    return steps if leading else steps + _late(known, end)


def _late(known: River, end: float) -> float:
    """Number of steps by which the passage is later since x is not at rest then, to leading order."""
    a, slope, run_by_itself = float(known.a(end)), float(known.a(end, 1)), -float(known.c(end, 1))
    s = slope * known.temperature / (2.0 * a * run_by_itself)
    return lead_at_passage(s) / (known.rate * a * (1.0 - s))


def lead_at_passage(s: float, terms: int = 40) -> float:
    """The mean ``delta`` by which the slow coordinate is beyond b when y first passes it, in units of g/a.

    Even modes ``exp(rate*y)*f(z)``, ``-(f'' - z*f') = rate*(1 - s*z^2)*f``, that vanish far below b are fitted to the
    condition at b, for those z at which y runs outwards.

    Examples
    --------
    It is near s^2/(1 - s) if y hardly ever turns back.

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


def _trapped(known: River, ratio: float, series: str) -> Prediction:
    y = trap(known)
    left = float(np.exp(known.run.steps * slope_of(Drift(known).first, y)))
    memory = left * abs(known.start / y - 1.0)
    check_remembered(known, max(memory, left**2))  # memory of the start in the mean, and in the variance
    return row(
        Moment("mean", known.slow, known.run.steps),
        y,
        f"mean({known.slow}) in the trap at T/T_c = {ratio:.4g}",
        order=1,
        conditions=f"{_conditions(known, y)}, start remembered to {memory:.1g}",
        rival=Rival("leading order", leading_trap(known)),
        small=known.rate,
        series=series,
    )


def _passing(known: River, ratio: float, series: str) -> Prediction:
    name, end = _passage(known)
    predicted, leading = transit(known, end), transit(known, end, leading=True)
    return ratio_row(
        Moment("mean", name, known.run.steps),
        predicted,
        f"steps of {known.slow} to {end:g} over trap-threshold, at T/T_c = {ratio:.4g}",
        order=1,
        conditions=f"{predicted:.6g} steps, {_conditions(known, end)}",
        rival=Rival("leading order", leading / predicted),
        small=known.rate,
        series=f"{series} {end:g}",
    )


def _conditions(known: River, y: float) -> str:
    a = float(known.a(y))
    memory = abs(float(known.c(y, 1))) * np.sqrt(_k(known)) / float(known.a(0.0))
    heat = _k(known) * known.temperature / float(known.a(0.0))
    return f"eta*a up to {known.rate * a:.3g}, k*T/a0 = {heat:.3g}, sqrt(k)*g/a0 = {memory:.3g}"


def _passage(known: River) -> tuple[str, float]:
    """The name of the recorded first passage of y, and the value that is passed."""
    y = known.run.loss.symbols[known.slow]
    constants = {known.run.loss.symbols[name]: value for name, value in known.run.loss.constants.items()}
    for one in known.run.recorder.observables:
        if one.kind != "passage":
            continue
        level = (y - known.run.loss.expand(one.formula)).subs(constants).expand()
        if level.is_number and float(level) > known.start:
            return one.name, float(level)
    raise NotApplicable(f"no first_passage({known.slow} > …) is recorded")
