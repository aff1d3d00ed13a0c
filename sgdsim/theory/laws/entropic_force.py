"""Entropic forces: the push of fluctuating walls on a river."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from sgdsim.model.run import Run
from sgdsim.model.starts import Grid
from sgdsim.prediction import (
    DriftCurve,
    Function,
    Moment,
    NotApplicable,
    Order,
    Prediction,
    Rival,
    change_over,
    require,
    stored,
)
from sgdsim.theory.law import law, ratio_row, row
from sgdsim.theory.methods.modes import constant_rate
from sgdsim.theory.methods.rivers import River, RoughRiver, first_record_at_rest, river, rough_river, single_start

_FORGOTTEN = 1e-3  # largest part of the heat at the start that may be left


@dataclass(frozen=True, eq=False)
class Drift:
    """Drift and diffusion of a river in one step."""

    river: River

    def leading(self, y: Any) -> Any:
        """The drift to leading order, ``-(eta*T/2)*a'/a``; with momentum beta each eta in it is over ``1 - beta``."""
        known = self.river
        slow = 1.0 - known.run.optimizer.values.get("momentum", 0.0)
        return -known.rate * known.temperature / slow**2 / 2.0 * known.a(y, 1) / known.a(y)

    def first(self, y: Any) -> Any:
        """The drift D1, with its first corrections."""
        known = self.river
        a, slope, bend, heat, bed = known.a(y), known.a(y, 1), known.a(y, 2), known.temperature, known.c(y, 1)
        corrections = known.rate * a / 2.0 + heat / (4.0 * a) * (slope / a) ** 2 - heat / (2.0 * a) * bend / a
        return -known.rate * bed + self.leading(y) * (1.0 + corrections - slope * bed / (2.0 * a**2))

    def second(self, y: Any) -> Any:
        """The diffusion D2."""
        known = self.river
        return known.rate * known.temperature**2 * known.a(y, 1) ** 2 / (4.0 * known.a(y) ** 3)

    def conditional(self, y: Any) -> Any:
        """The mean of y' - y given y, at uniform density."""
        return self.first(y) - slope_of(self.second, y)

    def path(self, steps: int) -> np.ndarray:
        """Mean of y after 0, 1, … steps; y starts where it is when x has come to rest, as if that took no time."""
        from scipy.integrate import solve_ivp

        known, y = self.river, self.river.start
        mean = y - float(known.a(y, 1) / (4.0 * known.a(y))) * (known.start_heat - known.rest(y))
        solved = solve_ivp(
            lambda _, state: self._rates(state),
            (0.0, float(steps)),
            [mean, 0.0],
            t_eval=np.arange(steps + 1.0),
            rtol=1e-9,
            atol=1e-13,
        )
        require(solved.success, f"the drift leaves the numbers within {steps} steps")
        return np.asarray(solved.y[0])

    def _rates(self, state: np.ndarray) -> np.ndarray:
        y, spread = state
        first = self.first(y) + bend_of(self.first, y) * spread / 2.0
        return np.array([first, 2.0 * slope_of(self.first, y) * spread + 2.0 * self.second(y)])


def slope_of(function: Any, y: Any, h: float = 1e-3) -> Any:
    """The first derivative, by differences of fourth order.

    Examples
    --------
    >>> float(round(slope_of(np.exp, 0.0), 9))
    1.0
    """
    return (8.0 * (function(y + h) - function(y - h)) - function(y + 2 * h) + function(y - 2 * h)) / (12.0 * h)


def bend_of(function: Any, y: Any, h: float = 1e-2) -> Any:
    """The second derivative, by differences of fourth order.

    Examples
    --------
    >>> float(round(bend_of(np.exp, 0.0), 7))
    1.0
    """
    near, far = function(y + h) + function(y - h), function(y + 2 * h) + function(y - 2 * h)
    return (16.0 * near - far - 30.0 * function(y)) / (12.0 * h * h)


def _first_record(known: River) -> int:
    """The first record after x has forgotten its start."""
    beta = known.run.optimizer.values.get("momentum", 0.0)
    r = abs(1.0 - known.rate / (1.0 - beta) * float(known.a(known.start)))
    return first_record_at_rest(known.run, np.log(_FORGOTTEN) / np.log(max(r**2, beta, 1e-9)), known.fast)


def _moved(
    known: River | RoughRiver, start: int, unit: float, over: str, value: float = 1.0, order: Order = 0, **others: Any
) -> Prediction:
    """A row on the displacement of a river from a record to the last one, in units of that by a formula.

    The first record at rest depends on the learning rate. So it stands in the conditions, and not in the name of the
    quantity, which all points of a series share.
    """
    others["conditions"] = "; ".join(filter(None, (f"steps {start} to {known.run.steps}", others.get("conditions"))))
    return ratio_row(
        (Moment("mean", known.slow, start), Moment("mean", known.slow, known.run.steps)),
        unit,
        over,
        value,
        order,
        function=change_over,
        small=constant_rate(known.run),
        **others,
    )


@law(
    "entropic-force",
    "entropic force on a flat river: displacement and conditional drift",
    source="re-derived; the force is claimed in arXiv:2505.10559",
    holds=("a flat river in walls that depend on it, additive noise across; SGD, or the heavy ball to leading order"),
    finite_order=True,
)
def entropic_force(run: Run) -> Iterator[Prediction]:
    """The entropic force on a flat river. First correction in eta included; for the heavy ball leading order.

    The walls move the river towards where they are wide: y drifts, after adiabatic elimination of x, by

      D1(y) = -eta*c' - (eta*T/2)*(a'/a)*{1 + eta*a/2 + (T/(4a))*(a'/a)^2 - (T/(2a))*(a''/a) - a'*c'/(2a^2) + O(eta^2)}

    a step, with T = eta*sigma^2/2: to leading order the force of the entropy ``S = -ln(a)/2``. The last term is the
    memory of the walls if a gentle river runs by itself (river-speed); this law is for c = 0. The three other
    corrections belong to one order. Besides, y diffuses by ``D2 = eta*T^2*a'^2/(4*a^3)``, through fluctuations of x^2
    that last 1/(2*eta*a) steps. The mean follows ``dm/dn = D1 + D1''*S/2, dS/dn = 2*D1'*S + 2*D2``. Over learning rates
    the measured displacement between two records is tested, in units of this one.

    The *conditional* drift that is recorded, the mean of y' - y given y, is not D1: x^2 and the y that it has just
    moved are correlated. At a density p of y it is, to the same order,

        D1 - (D2*p)'/p,

    which follows from the moments ``E[x^2; y]`` with one correction beyond ``(T/a)*p``. It is tested at uniform
    density.

    For the heavy ball ``D1 = -(eta/(1 - beta))*(T_m/2)*(a'/a)`` with ``T_m = eta*sigma^2/(2*(1 - beta))``, leading
    order.

    That there is an entropic force is claimed in arXiv:2505.10559; all formulas are re-derived.
    """
    known = river(run, ("sgd", "momentum"))
    require(known.is_flat and not known.river_noise, "the river is not flat, or has noise of its own")
    heavy, drift = known.run.optimizer.name == "momentum", Drift(known)
    is_recorded = not heavy and known.slow in run.recorder.drifts
    if heavy or not isinstance(run.initial[known.slow], Grid):
        yield _heavy_displacement(drift) if heavy else _displacement(drift)
    else:
        require(is_recorded, f"{known.slow} starts from more than one point, and its drift is not recorded")
    if is_recorded:
        yield _conditional(drift)


def _displacement(drift: Drift) -> Prediction:
    known, start = drift.river, _first_record(drift.river)
    path = drift.path(known.run.steps)
    predicted = float(path[-1] - path[start])
    leading = float(drift.leading(known.start)) * (known.run.steps - start)
    return _moved(
        known,
        start,
        predicted,
        f"displacement of {known.slow} over entropic-force",
        order=1,
        conditions=f"{known.slow} moves by {predicted:.6g}, to leading order by {leading:.6g}",
        rival=Rival("leading order", leading / predicted),
        series=f"entropic-force {known.series} {known.noise}",
    )


def _heavy_displacement(drift: Drift) -> Prediction:
    """A row on the displacement of the river under the heavy ball, to leading order."""
    known, start = drift.river, _first_record(drift.river)
    predicted = float(drift.leading(known.start)) * (known.run.steps - start)
    return _moved(
        known,
        start,
        predicted,
        f"displacement of {known.slow} over entropic-force with momentum",
        conditions=f"{known.slow} moves by {predicted:.6g}",
        series=f"entropic-force {known.series} {known.noise}",
    )


def _conditional(drift: Drift) -> Prediction:
    known = drift.river
    recorded = known.run.recorder.drifts[known.slow]
    require(recorded.by == known.slow, f"the drift of {known.slow} is recorded by {recorded.by}, expected by itself")
    grid = known.run.initial[known.slow]
    edges = recorded.bins.edges
    require(
        isinstance(grid, Grid) and grid.low < edges[0] and edges[-1] < grid.high,
        f"{known.slow} has no uniform density over all bins: start it from a wider grid",
    )
    nodes = np.polynomial.legendre.leggauss(4)
    centres, half = (edges[1:] + edges[:-1]) / 2.0, np.diff(edges) / 2.0
    points = centres[:, None] + half[:, None] * nodes[0]
    values = drift.conditional(points) @ nodes[1] / 2.0
    slowest = abs(1.0 - known.rate * float(np.min(known.a(points)))) ** (2 * recorded.start)
    require(
        not slowest > _FORGOTTEN, f"{known.fast} remembers its start to {slowest:.1g} where the drift is recorded first"
    )
    return row(
        DriftCurve(known.slow, tuple(map(float, values))),
        float(values[np.argmax(np.abs(values))]),
        f"conditional drift of {known.slow} over {len(values)} bins",
        order="adiabatic",
        conditions=f"valid to eta*a = {known.rate * float(np.max(known.a(points))):.3g}, its square neglected",
    )


_RELAXATIONS = 3.5  # relaxation times of x before the first record


def displacement(run: Run, start: int, stop: int, additive: bool = False) -> float:
    """The displacement of y between two steps, to leading order; `additive` keeps the noise as it is at the start.

    Raises
    ------
    NotApplicable
        If y diverges.
    """
    from scipy.integrate import solve_ivp

    known, rate = rough_river(run), constant_rate(run)
    first = single_start(run, known.slow)

    def drift(_: float, y: np.ndarray) -> np.ndarray:
        at = float(y[0])
        noise = known.variance(first if additive else at)
        return np.array([-(rate**2) * noise / 4.0 * known.a(at, 1) / known.a(at)])

    solved = solve_ivp(drift, (0.0, float(stop)), [first], t_eval=[start, stop], rtol=1e-9, atol=1e-13)
    require(solved.success, f"the drift leaves the numbers within {stop} steps")
    return float(solved.y[0, 1] - solved.y[0, 0])


@law(
    "entropic-force-state-noise",
    "entropic force of noise that depends on the river",
    source="re-derived",
    holds="a flat river whose noise across depends on it",
    finite_order=True,
)
def entropic_force_state_noise(run: Run) -> Iterator[Prediction]:
    """The entropic force of noise that depends on the river, such as that of labels. Leading order.

    Where the gradient noise of x has the variance ``sigma(y)^2``, the walls have at every y the temperature
    ``T(y) = eta*sigma(y)^2/2``, and a flat river drifts a step by ``-(eta/2)*T*a'/a``. For ``sigma^2 = s^2*a^q`` this
    is down the gradient of

        Phi = (eta*s^2/(4*q))*a^q    (q -> 0: (T/2)*ln(a)),

    so that noise of labels, q = 1, makes the river flee curvature itself, not its logarithm. A noise term
    ``sigma(y)*xi*x`` of the loss moves y, too, with the mean 0; that adds to its diffusion, and to the drift beyond
    leading order. Tested over learning rates: the measured displacement between two records, in units of this one,
    goes to 1. Re-derived.
    """
    known, rate = rough_river(run), constant_rate(run)
    y = single_start(run, known.slow)
    start = first_record_at_rest(run, _RELAXATIONS / (rate * known.a(y)), known.fast)
    predicted = displacement(run, start, run.steps)
    require(predicted, f"{known.slow} starts where the walls do not push it")
    power = known.a(y) * known.variance(y, 1) / (known.variance(y) * known.a(y, 1))
    rival = None
    with suppress(NotApplicable):  # additive noise may reach walls without curvature
        rival = Rival("noise as of the start", displacement(run, start, run.steps, additive=True) / predicted)
    yield _moved(
        known,
        start,
        predicted,
        f"displacement of {known.slow} over its leading order at q = {power:.4g}",
        conditions=f"{known.slow} moves by {predicted:.6g}; eta*a = {rate * known.a(y):.3g}",
        rival=rival,
        series=f"entropic-force-state-noise {run.loss.population} {y:g} {power:.6g} {known.variance(y):.9g}",
    )


def path(known: River, adiabatic: bool = False) -> tuple[float, float]:
    """The path y0 and the shift y1 at the end of a run; `adiabatic` takes the stationary heat in place of V."""
    y, shift, heat = known.start, 0.0, known.start_heat
    rate = known.rate
    for _ in range(known.run.steps):
        a = float(known.a(y))
        used = known.rest(y) if adiabatic else heat
        shift = (1.0 - rate * float(known.c(y, 2))) * shift - rate / 2.0 * float(known.a(y, 1)) * used
        heat = (1.0 - rate * a) ** 2 * heat + rate**2 * known.noise
        y -= rate * float(known.c(y, 1))
    return y, shift


def lag(s: float) -> float:
    """Heat ``<a*x^2>/T = s*e^(-s)*Ei(s)`` of walls whose curvature a grows by e in ``s/2`` relaxation times.

    Examples
    --------
    >>> round(lag(20.0), 3)  # 1 + 1/s + 2/s^2 + ...
    1.056
    """
    from scipy.special import expi

    return float(s * np.exp(-s) * expi(s))


@law(
    "steep-river",
    "entropic force on a steep river, with its memory",
    source="re-derived",
    holds="a river that runs by itself in walls that depend on it, weak noise",
    finite_order=True,
)
def steep_river(run: Run) -> Iterator[Prediction]:
    """The entropic force on a steep river, with its memory. Exact in eta, first order in sigma^2.

    Along the noise-free path ``y0' = y0 - eta*c'(y0)`` the heat of the walls and what it does to y obey

        V' = (1 - eta*a(y0))^2*V + eta^2*sigma^2,    y1' = (1 - eta*c''(y0))*y1 - (eta/2)*a'(y0)*V,

    with all right sides taken before the step, V_0 = E x^2 at the start, and ``<y> = y0 + y1 + O(sigma^4)``. V lags
    behind its stationary value: where the valley narrows along the flow the walls are hotter, and push more, than by
    the *adiabatic* force ``-(eta/2)*a'*v(y0)``, which stands as a rival. For c = -g*y, a = a0*e^(ky) and small eta,
    ``<a*x^2> = T*s*e^(-s)*Ei(s)`` with ``s = 2a/(g*k)``, which is about ``T*(1 + k*g/(2a))``.

    Tested over four or more noises: the measured shift in units of y1 goes to 1 as sigma^2, which stands in place of
    the learning rate, goes to 0. Updates are simultaneous; if y' used x', V' would stand in place of V. Re-derived.
    """
    known = river(run)
    require(not known.is_flat, "the river is flat, that is entropic-force's")
    require(not known.river_noise, f"{known.slow} has noise of its own")
    end, shift = path(known)
    _, rival = path(known, adiabatic=True)
    require(shift != 0.0 and np.isfinite(shift), "the walls do not move the river")
    yield shift_row(
        Moment("mean", known.slow, run.steps),
        end,
        shift,
        f"shift of {known.slow} by its walls over steep-river",
        conditions=f"{known.slow} = {end:.6g} without noise, shifted by {shift:.6g}, sigma^2 = {known.noise:.4g}",
        rival=Rival("adiabatic force", rival / shift),
        small=known.noise,
        small_name="sigma^2",
        series=f"steep-river {known.series} {known.rate}",
    )


def shift_row(moment: Moment, origin: float, shift: float, quantity: str, **others: Any) -> Prediction:
    """A row on the shift of a moment from its origin, in units of the shift by a formula, to leading order."""
    return row(Function("ratio", partial(_shift_over, origin, shift), (moment,)), 1.0, quantity, order=0, **others)


@stored
def _shift_over(origin: float, shift: float, measured: np.ndarray) -> np.ndarray:
    return np.asarray((measured - origin) / shift)


_GENTLE = 0.05  # largest memory of the walls, |c'*a'|/(2a^2), of a gentle river


@law(
    "river-speed",
    "speed of a gentle river against the entropic force",
    source="re-derived",
    holds="a gentle river against the entropic force, over learning rates",
    finite_order=True,
)
def river_speed(run: Run) -> Iterator[Prediction]:
    """The speed of a river that runs against the entropic force. First correction included.

    With the drift D1 and diffusion D2 of entropic-force, memory included, the mean follows ``dm/dn = D1 + D1''*S/2``.
    On c = -g*y in walls ``a0*e^(ky)`` the speed is

        eta*{g - (k*T/2)*[1 + eta*a/2 + k*g/(2a) - k^2*T/(4a)]},

    to leading order fastest at ``eta = 2*g/(k*sigma^2)`` and reversed above ``4*g/(k*sigma^2)``: a larger learning
    rate is slower.

    The correction with k*g/(2a) does not vanish with eta: the river must be gentle, with a small ``|c'*a'|/(2a^2)``.
    Re-derived.
    """
    known = river(run)
    require(not (known.is_flat or known.river_noise), "the river is flat, or has noise of its own")
    y, drift = known.start, Drift(known)
    slope = float(known.c(y, 1))
    require(slope != 0.0, f"{known.slow} starts where the river has no slope")
    memory = abs(float(known.c(y, 1) * known.a(y, 1) / (2.0 * known.a(y) ** 2)))
    require(not memory > _GENTLE, f"the river is not gentle: |c' a'|/(2 a^2) = {memory:.3g}, that is steep-river's")
    start = first_record_at_rest(run, 7.0 / (2.0 * known.rate * float(known.a(y))), known.fast)
    path, span, scale = drift.path(run.steps), run.steps - start, known.rate * abs(slope)
    predicted, leading = float(path[-1] - path[start]), -known.rate * slope + float(drift.leading(y))
    yield _moved(
        known,
        start,
        scale * span,
        f"speed of {known.slow} over that without walls",
        predicted / (scale * span),
        order=1,
        statistic="speed",
        conditions=f"{predicted / span:.6g} a step, |c' a'|/(2 a^2) = {memory:.3g}",
        rival=Rival("leading order", leading / scale),
        series=f"river-speed {known.series} {known.noise}",
    )


def drift(known: River, heat: float | None = None) -> float:
    """The drift of y in a step between walls of the temperature T_s, or of a given one."""
    y, heat = known.start, _temperature(known) if heat is None else heat
    force = float(known.c(y, 1)) + heat / 2.0 * float(known.a(y, 1) / known.a(y))
    return float(-known.rate * np.sqrt(2.0 / np.pi / known.river_noise) * force)


@law(
    "entropic-force-signsgd",
    "entropic force under SignSGD",
    source="re-derived",
    holds="a flat river under SignSGD, over learning rates",
    finite_order=True,
)
def entropic_force_signsgd(run: Run) -> Iterator[Prediction]:
    """The entropic force under SignSGD. Leading order.

    With noise on both coordinates, of standard deviations sigma and sigma_y, and a river whose slope is far below
    sigma_y, the mean sign of the river's gradient is ``sqrt(2/pi)/sigma_y`` of its mean, and the walls have the
    temperature ``T_s = eta*sigma*sqrt(pi/8)`` (signsgd), so that

        d<y>/dn = -eta*sqrt(2/pi)/sigma_y*[c' + (T_s/2)*a'/a],

    while y diffuses by eta a step. If c' and a'/a are constants this holds whatever the spread of y. Tested over
    learning rates: the measured displacement between two records, in units of this one, goes to 1. The rival, from
    which it must be told, has in place of T_s the temperature of SGD, ``eta*sigma^2/2``. Re-derived.
    """
    known = river(run, ("signsgd",))
    require(known.river_noise > 0, f"{known.slow} has no noise: its sign is that of the walls")
    require(
        all(noise.family == "normal" for noise in run.loss.noise.values()),
        "the mean sign is that of normal noise",
    )
    require(_is_constant(known), "the slope of the river, or a'/a, changes along it")
    # A step pulls x by eta*a*sqrt(2/pi)/sigma: that sets the time in which x comes to rest.
    pull = known.rate * float(known.a(known.start)) * np.sqrt(2.0 / np.pi / known.noise)
    start = first_record_at_rest(run, 7.0 / (2.0 * pull), known.fast)
    predicted = drift(known) * (run.steps - start)
    yield _moved(
        known,
        start,
        predicted,
        f"displacement of {known.slow} over entropic-force-signsgd",
        conditions=f"{known.slow} moves by {predicted:.6g}",
        rival=Rival("the temperature of SGD", drift(known, known.temperature) / drift(known)),
        series=f"entropic-force-signsgd {known.series} {known.noise} {known.river_noise}",
    )


def _temperature(known: River) -> float:
    return float(known.rate * np.sqrt(np.pi * known.noise / 8.0))


def _is_constant(known: River) -> bool:
    y = known.start + np.linspace(-1.0, 1.0, 5)
    force, slope = known.a(y, 1) / known.a(y), np.broadcast_to(known.c(y, 1), 5)
    return bool(np.ptp(force) < 1e-9 * np.abs(force).max() and np.ptp(slope) <= 1e-9 * np.abs(slope).max())
