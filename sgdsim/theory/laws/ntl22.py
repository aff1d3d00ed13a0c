"""NTL-22: where the entropic force holds a river that has no noise of its own. To order eta^2 inclusive.

The river is trapped where c' and the force of the walls cancel: with D1 and D2 of NTL-20,

    <y> = m + O(eta^3),    D1(m) + D1''(m)*S/2 = 0,    S = -D2/D1',
    Var y = a'^2*v^2/(2*(2a + B)*Phi'') + O(eta^3),    v = T/a,    B = c'' + a''*v/2,    Phi'' = B - a'^2*v/(2a),

at leading order the minimum of ``c + (T/2)*ln(a)``. At rest, and exactly, the mean slope vanishes: ``<c'> +
<a'*x^2>/2 = 0``. Tested over learning rates, to the power eta^2, of which both formulas have the exact coefficient.

Entropic trapping is claimed in arXiv:2505.10559; the formulas are re-derived.
"""

from __future__ import annotations

import numpy as np

from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Moment, NotApplicable, Prediction, Rival
from sgdsim.theory.law import Law, name_of
from sgdsim.theory.laws.ntl20 import Drift, bend_of, slope_of
from sgdsim.theory.methods.rivers import River, river

ID = "NTL-22"
_FORGOTTEN = 1e-4


def _slope_observable(known: River) -> Observable:
    return Observable("mean_slope", f"population_gradient({known.slow})")


def trap(known: River) -> float:
    """The stable root of D1 with the shift by fluctuations, followed from the start of the run.

    Raises
    ------
    NotApplicable
        Where there is none.
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
    """Var y in the trap, to leading order."""
    a, slope, v = float(known.a(y)), float(known.a(y, 1)), known.temperature / float(known.a(y))
    b = float(known.c(y, 2)) + float(known.a(y, 2)) * v / 2.0
    return slope**2 * v**2 / (2.0 * (2.0 * a + b) * (b - slope**2 * v / (2.0 * a)))


def _records(run: Run) -> Recorder:
    return Recorder(observables=(_slope_observable(river(run)),))


def _at_point(run: Run) -> list[Prediction]:
    known = river(run)
    if known.river_noise:
        raise NotApplicable(f"{known.slow} has noise of its own, that is NTL-23's")
    if known.is_flat:
        raise NotApplicable("the river is flat: nothing opposes its walls")
    y = trap(known)
    memory = float(np.exp(run.steps * slope_of(Drift(known).first, y)))
    if memory > _FORGOTTEN:
        raise NotApplicable(f"the start of {known.slow} is still remembered, to {memory:.1g}")
    conditions = f"eta*a = {known.rate * float(known.a(y)):.3g}, start remembered to {memory:.1g}"
    spread = variance(known, y)
    identity = Moment("mean", name_of(run, _slope_observable(known)), run.steps)
    rows = [Prediction(ID, "mean slope of the loss along the river", identity, 0.0, "exact", conditions=conditions)]
    leading = _leading(known, y)
    for statistic, value, rival in (("mean", y, Rival("leading order", leading)), ("variance", spread, None)):
        rows.append(
            Prediction(
                ID,
                f"{statistic}({known.slow}) in the trap",
                Moment(statistic, known.slow, run.steps),
                value,
                2,
                conditions=conditions,
                rival=rival,
                learning_rate=known.rate,
                series=f"{ID} {known.series} {known.noise}",
            )
        )
    return rows


def _leading(known: River, near: float) -> float:
    """The minimum of ``c + (T/2)*ln(a)``."""
    from scipy.optimize import fsolve

    def force(y: np.ndarray) -> np.ndarray:
        return np.asarray(known.c(y, 1) + known.temperature / 2.0 * known.a(y, 1) / known.a(y))

    return float(fsolve(force, near)[0])


LAW = Law(
    ID,
    "the entropic trap: where it is, how wide, and that forces cancel in it",
    "re-derived, sgdsim handbook NTL-22; trapping is claimed in arXiv:2505.10559",
    _records,
    _at_point,
    finite_order=True,
)
