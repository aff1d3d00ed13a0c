"""NTL-20: the entropic force on a flat river. First correction in eta included; for the heavy ball leading order.

The walls move the river towards where they are wide: y drifts, after adiabatic elimination of x, by

    D1(y) = -eta*c' - (eta*T/2)*(a'/a)*{1 + eta*a/2 + (T/(4a))*(a'/a)^2 - (T/(2a))*(a''/a) - a'*c'/(2a^2) + O(eta^2)}

a step, the last term being the memory of the walls where a gentle river runs by itself (NTL-24); this law is for c =
0; T = eta*sigma^2/2: to leading order the force of the entropy ``S = -ln(a)/2``. The three corrections belong to one
order. Beside it stands the diffusion ``D2 = eta*T^2*a'^2/(4*a^3)``, of the fluctuations of x^2 that last 1/(2*eta*a)
steps. The mean follows ``dm/dn = D1 + D1''*S/2, dS/dn = 2*D1'*S + 2*D2``. What is tested over learning rates is the
measured displacement between two records over this.

The *conditional* drift that is recorded, the mean of y' - y given y, is not D1: x^2 and the y that it has just moved
are correlated. At a density p of y it is, to the same order,

    D1 - (D2*p)'/p,

which follows from the moments ``E[x^2; y]`` with one correction beyond ``(T/a)*p``. It is tested at uniform density.

For the heavy ball ``D1 = -(eta/(1 - beta))*(T_m/2)*(a'/a)`` with ``T_m = eta*sigma^2/(2*(1 - beta))``, leading order.

That there is an entropic force is claimed in arXiv:2505.10559; all formulas are re-derived.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.model.starts import Grid
from sgdsim.prediction import DriftCurve, Function, Moment, NotApplicable, Prediction, Rival, change_over
from sgdsim.theory.law import Law
from sgdsim.theory.methods.rivers import River, river

ID = "NTL-20"
_FORGOTTEN = 1e-3  # of the heat at the start


@dataclass(frozen=True, eq=False)
class Drift:
    """Drift and diffusion of a river, a step."""

    river: River

    def leading(self, y: Any) -> Any:
        """``-(eta*T/2)*a'/a``; with momentum beta both eta over ``1 - beta``."""
        known = self.river
        slow = 1.0 - known.run.optimizer.values.get("momentum", 0.0)
        return -known.rate * known.temperature / slow**2 / 2.0 * known.a(y, 1) / known.a(y)

    def first(self, y: Any) -> Any:
        """D1."""
        known = self.river
        a, slope, bend, heat, bed = known.a(y), known.a(y, 1), known.a(y, 2), known.temperature, known.c(y, 1)
        corrections = known.rate * a / 2.0 + heat / (4.0 * a) * (slope / a) ** 2 - heat / (2.0 * a) * bend / a
        return -known.rate * bed + self.leading(y) * (1.0 + corrections - slope * bed / (2.0 * a**2))

    def second(self, y: Any) -> Any:
        """D2."""
        known = self.river
        return known.rate * known.temperature**2 * known.a(y, 1) ** 2 / (4.0 * known.a(y) ** 3)

    def conditional(self, y: Any) -> Any:
        """The mean of y' - y given y, at uniform density."""
        return self.first(y) - slope_of(self.second, y)

    def path(self, steps: int) -> np.ndarray:
        """Mean of y after 0, 1, … steps; x is taken as cooled at once, with what it moved y until then."""
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
        if not solved.success:
            raise NotApplicable(f"the drift leaves the numbers within {steps} steps")
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
    """The second derivative, likewise.

    Examples
    --------
    >>> float(round(bend_of(np.exp, 0.0), 7))
    1.0
    """
    near, far = function(y + h) + function(y - h), function(y + 2 * h) + function(y - 2 * h)
    return (16.0 * near - far - 30.0 * function(y)) / (12.0 * h * h)


def _at_point(run: Run) -> list[Prediction]:
    known = river(run, ("sgd", "momentum"))
    if not known.is_flat or known.river_noise:
        raise NotApplicable("the river is not flat, or has noise of its own")
    heavy = known.run.optimizer.name == "momentum"
    rows = [] if heavy or isinstance(run.initial[known.slow], Grid) else [_displacement(known)]
    rows += [_leading_displacement(known)] if heavy else []
    if not heavy and known.slow in run.recorder.drifts:
        rows.append(_conditional(known))
    if not rows:
        raise NotApplicable(f"{known.slow} starts from more than one point, and its drift is not recorded")
    return rows


def _records(known: River) -> tuple[int, int]:
    """Two records, the first after x has forgotten its start."""
    run, y = known.run, known.start
    beta = known.run.optimizer.values.get("momentum", 0.0)
    r = abs(1.0 - known.rate / (1.0 - beta) * float(known.a(y)))
    steps = np.log(_FORGOTTEN) / np.log(max(r**2, beta, 1e-9))
    usable = [int(step) for step in run.recorder.record_steps(run.steps)[:-1] if step >= steps]
    if not usable:
        raise NotApplicable(f"no record after {steps:.0f} steps and before the last, when {known.fast} is at rest")
    return usable[0], run.steps


def _displacement(known: River) -> Prediction:
    start, stop = _records(known)
    drift = Drift(known)
    path = drift.path(stop)
    predicted, leading = float(path[stop] - path[start]), float(drift.leading(known.start)) * (stop - start)
    quantity = f"displacement of {known.slow} over NTL-20, steps {start} to {stop}"
    conditions = f"{known.slow} moves by {predicted:.6g}, to leading order by {leading:.6g}"
    return _ratio(known, quantity, predicted, start, 1, conditions, leading / predicted)


def _leading_displacement(known: River) -> Prediction:
    start, stop = _records(known)
    predicted = float(Drift(known).leading(known.start)) * (stop - start)
    quantity = f"displacement of {known.slow} over NTL-20 with momentum, steps {start} to {stop}"
    return _ratio(known, quantity, predicted, start, 0, f"{known.slow} moves by {predicted:.6g}", None)


def _ratio(
    known: River, quantity: str, predicted: float, start: int, order: int, conditions: str, leading: float | None
) -> Prediction:
    moments = tuple(Moment("mean", known.slow, step) for step in (start, known.run.steps))
    return Prediction(
        ID,
        quantity,
        Function("ratio", partial(change_over, predicted), moments),
        1.0,
        order,
        conditions=conditions,
        rival=None if leading is None else Rival("leading order", leading),
        learning_rate=known.rate,
        series=f"{ID} {known.series} {known.noise}",
    )


def _conditional(known: River) -> Prediction:
    recorded = known.run.recorder.drifts[known.slow]
    if recorded.by != known.slow:
        raise NotApplicable(f"the drift of {known.slow} is recorded by {recorded.by}, expected by itself")
    grid = known.run.initial[known.slow]
    edges = recorded.bins.edges
    if not isinstance(grid, Grid) or not (grid.low < edges[0] and edges[-1] < grid.high):
        raise NotApplicable(f"{known.slow} has no uniform density over all bins: start it from a wider grid")
    drift, nodes = Drift(known), np.polynomial.legendre.leggauss(4)
    centres, half = (edges[1:] + edges[:-1]) / 2.0, np.diff(edges) / 2.0
    points = centres[:, None] + half[:, None] * nodes[0]
    values = drift.conditional(points) @ nodes[1] / 2.0
    slowest = abs(1.0 - known.rate * float(np.min(known.a(points)))) ** (2 * recorded.start)
    if slowest > _FORGOTTEN:
        raise NotApplicable(f"{known.fast} remembers its start to {slowest:.1g} where the drift is recorded first")
    return Prediction(
        ID,
        f"conditional drift of {known.slow} over {len(values)} bins",
        DriftCurve(known.slow, tuple(map(float, values))),
        float(values[np.argmax(np.abs(values))]),
        "adiabatic",
        conditions=f"valid to eta*a = {known.rate * float(np.max(known.a(points))):.3g}, its square neglected",
    )


LAW = Law(
    ID,
    "entropic force on a flat river: displacement and conditional drift",
    "re-derived, sgdsim handbook NTL-20; the force is claimed in arXiv:2505.10559",
    lambda run: Recorder(),
    _at_point,
    finite_order=True,
)
