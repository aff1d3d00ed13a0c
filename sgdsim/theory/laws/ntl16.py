"""NTL-16: the heat of a valley under any schedule: Newton's law of cooling. Exact.

With ``r_t = 1 - eta_t*a`` the variance of a fast direction, and with it its mean fast loss ``<U> = a*v/2``, obey

    v_(t+1) = r_t^2*v_t + eta_t^2*sigma^2,
    <U>_(t+1) - <U>_t = -eta_t*a*(2 - eta_t*a)*(<U>_t - U_inf(eta_t)),    U_inf(eta) = eta*sigma^2/(2*(2 - eta*a)):

heat flows from the valley to the bath in proportion to their difference, with conductance ``2*eta*a`` to leading
order. At a constant rate the excess over the bath shrinks by ``r^2`` a step.

In continuous time, with theta the integral of eta, ``dv/dtheta = -2*a*v + eta*sigma^2`` has closed forms for the
named schedules, with relative errors of order ``eta*a``; they stand as rivals beside the exact value.

That annealing follows Fourier's and Newton's law is claimed in arXiv:2505.10559; all formulas here are re-derived.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import exp, gamma, pi, sqrt
from typing import Any

import numpy as np

from sgdsim.model.run import Run
from sgdsim.prediction import Curve, Function, Moment, NotApplicable, Prediction, Rival
from sgdsim.theory.law import Law
from sgdsim.theory.laws.ntl2 import fast_loss_name, fast_losses, stationary_fast_loss
from sgdsim.theory.methods.fast_directions import Mode, modes

ID = "NTL-16"


def after_exponential(rate: float, decay_steps: float, steps: int, curvature: float, noise: float, v0: float) -> float:
    """Variance under ``rate*exp(-t/decay_steps)`` in continuous time; it freezes at ``noise/(4*a^2*decay_steps)``.

    Examples
    --------
    >>> round(after_exponential(0.2, 60.0, 300, 1.0, 1.0, 0.0) / 2, 5)  # the exact recursion has 0.00243
    0.00242
    """
    end = rate * exp(-steps / decay_steps)
    left = exp(-2.0 * curvature * decay_steps * (rate - end))
    floor = 1.0 / (4.0 * curvature**2 * decay_steps)
    bath = end / (2.0 * curvature) + floor - left * (rate / (2.0 * curvature) + floor)
    return v0 * left + noise * bath


def after_linear(rate: float, steps: int, curvature: float, noise: float, v0: float) -> float:
    """Variance after `steps` under ``rate*(1 - t/steps)`` in continuous time.

    Examples
    --------
    >>> round(after_linear(0.02, 3000, 1.0, 1.0, 0.01), 6)
    0.001144
    """
    from scipy.special import erf

    a = curvature * rate / steps
    tail = sqrt(pi) * erf(sqrt(a) * steps) / (4.0 * a**1.5) - steps * exp(-a * steps**2) / (2.0 * a)
    return float(v0 * exp(-curvature * rate * steps) + noise * (rate / steps) ** 2 * tail)


def after_cosine(rate: float, steps: int, curvature: float, noise: float) -> float:
    """Variance after a cosine to zero: only its parabolic end counts, in many steps.

    Examples
    --------
    >>> round(after_cosine(0.2, 300, 1.0, 1.0) / 2, 4)  # the exact recursion has 0.0051
    0.0052
    """
    width = 6.0 * steps**2 / (curvature * rate * pi**2)
    return float(noise * (rate * pi**2 / (4.0 * steps**2)) ** 2 * gamma(5.0 / 3.0) / 3.0 * width ** (5.0 / 3.0))


def after_inverse(rate: float, decay_steps: float, steps: int, curvature: float, noise: float, v0: float) -> float:
    """Variance under ``rate/(1 + t/decay_steps)`` in continuous time.

    Examples
    --------
    >>> round(after_inverse(0.2, 10.0, 300, 1.0, 1.0, 1 / 9) / 2, 5)  # the exact recursion has 0.00216
    0.00215
    """
    s, g = 1.0 + steps / decay_steps, 2.0 * curvature * rate * decay_steps
    tail = np.log(s) if g == 1.0 else (s ** (g - 1.0) - 1.0) / (g - 1.0)
    return float(s**-g * (v0 + noise * rate**2 * decay_steps * tail))


def closed_form(mode: Mode) -> float | None:
    """Mean fast loss at the end by the closed form of the schedule in continuous time, if it has one."""
    name, _, rest = mode.run.schedule.text.partition(":")
    steps, a, noise = mode.run.steps, float(mode.curvature[-1]), mode.noise_variance
    forms: dict[str, Callable[[list[float], float], float]] = {
        "exponential": lambda given, v0: after_exponential(given[0], given[1], steps, a, noise, v0),
        "linear": lambda given, v0: after_linear(given[0], steps, a, noise, v0),
        "cosine": lambda given, v0: after_cosine(given[0], steps, a, noise),
        "inverse": lambda given, v0: after_inverse(given[0], given[1], steps, a, noise, v0),
    }
    if name.strip() not in forms or mode.decay or mode.run.schedule.table is not None:
        return None
    given = [float(part) for part in rest.split(",")]
    if name.strip() in ("linear", "cosine") and len(given) > 1 and given[1]:
        return None
    return a * forms[name.strip()](given, 2.0 * mode.fast_loss(0)[0] / a) / 2.0


def _at_point(run: Run) -> list[Prediction]:
    found = [mode for mode in modes(run) if not (mode.constant_rate or mode.adiabatic)]
    if not found:
        raise NotApplicable("the learning rate never changes, or no valley has a constant curvature")
    return [row for mode in found for row in (_history(mode), _end(mode), *_newton(mode))]


def _history(mode: Mode) -> Prediction:
    name, steps = fast_loss_name(mode), [int(step) for step in mode.run.recorder.record_steps(mode.run.steps)[1:]]
    values = tuple(mode.fast_loss(step)[0] for step in steps)
    moments = tuple(Moment("mean", name, step) for step in steps)
    quantity = f"mean({name}) over {len(steps)} records"
    return Prediction(ID, quantity, Curve(moments, values), values[-1], "exact", conditions=mode.conditions)


def _end(mode: Mode) -> Prediction:
    name, step = fast_loss_name(mode), mode.run.steps
    form = closed_form(mode)
    rival = None if form is None else Rival("closed form in continuous time", form)
    measure, exact = Moment("mean", name, step), mode.fast_loss(step)[0]
    return Prediction(ID, f"mean({name})", measure, exact, "exact", conditions=mode.conditions, rival=rival)


def _newton(mode: Mode) -> list[Prediction]:
    """The excess over the bath after a jump of the rate, as a part of what it was just after the jump."""
    span = _cooling_span(mode)
    if span is None:
        return []
    name, (start, stop) = fast_loss_name(mode), span
    bath = stationary_fast_loss(float(mode.rates[start]), float(mode.curvature[start]), mode.noise_variance)
    measure: Any = Function("excess", partial(_excess, bath), (Moment("mean", name, start), Moment("mean", name, stop)))
    predicted = float(mode.memory(start, stop) ** 2)
    quantity = f"Newton's law: excess of {name} over the bath at step {stop}, of that at step {start}"
    conditions = f"(1 - eta*a)^{2 * (stop - start)}, bath {bath:.6g}"
    return [Prediction(ID, quantity, measure, predicted, "exact", conditions=conditions)]


def _excess(bath: float, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.asarray((after - bath) / (before - bath))


def _cooling_span(mode: Mode) -> tuple[int, int] | None:
    """Two records between which the rate is constant, and the excess over a colder bath falls nearest to 1/e."""
    records = mode.run.recorder.record_steps(mode.run.steps)
    best, distance = None, 1.0  # a change of less than a factor e either way
    if mode.decay:
        return None
    for i, start in enumerate(records[:-1]):
        for stop in records[i + 1 :]:
            rates = mode.rates[start:stop]
            if np.ptp(rates) > 1e-12 * rates[0]:
                break
            bath = stationary_fast_loss(float(rates[0]), float(mode.curvature[start]), mode.noise_variance)
            if mode.fast_loss(int(start))[0] < 2.0 * bath:
                continue
            off = abs(2.0 * np.log(abs(mode.memory(int(start), int(stop))) + 1e-300) + 1.0)
            if off < distance:
                best, distance = (int(start), int(stop)), off
    return best


LAW = Law(
    ID,
    "Newton's law of cooling: the fast loss under any schedule",
    "re-derived, sgdsim handbook NTL-16; the law of cooling is claimed in arXiv:2505.10559",
    fast_losses,
    _at_point,
)
