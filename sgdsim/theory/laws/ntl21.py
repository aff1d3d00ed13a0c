"""NTL-21: the entropic force on a steep river, with its memory. Exact in eta, first order in sigma^2.

Along the noise-free path ``y0' = y0 - eta*c'(y0)`` the heat of the walls and what it does to y obey

    V' = (1 - eta*a(y0))^2*V + eta^2*sigma^2,    y1' = (1 - eta*c''(y0))*y1 - (eta/2)*a'(y0)*V,

all of the step before, with V_0 = E x^2 at the start, and ``<y> = y0 + y1 + O(sigma^4)``. V lags behind its
stationary value: where the valley narrows along the flow it is hotter, and pushes more, than the *adiabatic* force
``-(eta/2)*a'*v(y0)`` says, which stands as a rival. For c = -g*y, a = a0*e^(ky) and small eta, ``<a*x^2> =
T*s*e^(-s)*Ei(s)`` with ``s = 2a/(g*k)``, which is about ``T*(1 + k*g/(2a))``.

Tested over four or more noises: the measured shift over y1 goes to 1 with sigma^2, which stands in place of the
learning rate. Updates are simultaneous; if y' used x', V' would stand in place of V. Re-derived.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, Rival
from sgdsim.theory.law import Law
from sgdsim.theory.methods.rivers import River, river

ID = "NTL-21"


def path(known: River, adiabatic: bool = False) -> tuple[float, float]:
    """y0 and y1 at the end of a run; with the stationary heat in place of V for the adiabatic force."""
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
    """Heat ``<a*x^2>/T`` where a grows by e in ``s/2`` of its own relaxation times: ``s*e^(-s)*Ei(s)``.

    Examples
    --------
    >>> round(lag(20.0), 3)  # 1 + 1/s + 2/s^2 + ...
    1.056
    """
    from scipy.special import expi

    return float(s * np.exp(-s) * expi(s))


def _at_point(run: Run) -> list[Prediction]:
    known = river(run)
    if known.is_flat:
        raise NotApplicable("the river is flat, that is NTL-20's")
    if known.river_noise:
        raise NotApplicable(f"{known.slow} has noise of its own")
    end, shift = path(known)
    _, rival = path(known, adiabatic=True)
    if not (shift != 0.0 and np.isfinite(shift)):
        raise NotApplicable("the walls do not move the river")
    measure = Function("ratio", partial(_over, end, shift), (Moment("mean", known.slow, run.steps),))
    return [
        Prediction(
            ID,
            f"shift of {known.slow} by its walls over NTL-21",
            measure,
            1.0,
            0,
            conditions=f"{known.slow} = {end:.6g} without noise, shifted by {shift:.6g}, sigma^2 = {known.noise:.4g}",
            rival=Rival("adiabatic force", rival / shift),
            learning_rate=known.noise,
            series=f"{ID} {known.series} {known.rate}",
        )
    ]


def _over(end: float, shift: float, measured: np.ndarray) -> np.ndarray:
    return np.asarray((measured - end) / shift)


LAW = Law(
    ID,
    "entropic force on a steep river, with its memory",
    "re-derived, sgdsim handbook NTL-21",
    lambda run: Recorder(),
    _at_point,
    finite_order=True,
)
