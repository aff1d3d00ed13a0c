"""Cooling: the energy under any schedule, and the heat that a decay leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import exp, gamma, log2, pi, sqrt

import numpy as np

from sgdsim.model.run import Run
from sgdsim.prediction import Curve, Function, Moment, NotApplicable, Prediction, Rival, require, stored
from sgdsim.theory.law import law, ratio_row, row
from sgdsim.theory.laws.valley import stationary_fast_loss
from sgdsim.theory.methods.mode_rows import fast_loss_name, fast_losses
from sgdsim.theory.methods.modes import Mode, modes, plain_modes


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
    """Variance after a cosine to zero over many steps, of which only the parabolic end counts.

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
    steps, a, noise = mode.run.steps, mode.curvature, mode.noise_variance
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


@law(
    "cooling",
    "Newton's law of cooling: the fast loss under any schedule",
    source="re-derived; the law of cooling is claimed in arXiv:2505.10559",
    holds="as valley, any schedule",
    records=fast_losses,
)
def cooling(run: Run) -> Iterator[Prediction]:
    """The heat of a valley under any schedule: Newton's law of cooling. Exact.

    With ``r_t = 1 - eta_t*a`` the variance of a fast direction, and with it its mean fast loss ``<U> = a*v/2``, obey

        v_(t+1) = r_t^2*v_t + eta_t^2*sigma^2,
        <U>_(t+1) - <U>_t = -eta_t*a*(2 - eta_t*a)*(<U>_t - U_inf(eta_t)),    U_inf(eta) = eta*sigma^2/(2*(2 - eta*a)):

    heat flows from the valley to the bath in proportion to their difference, with conductance ``2*eta*a`` to leading
    order. At a constant rate the excess over the bath shrinks by ``r^2`` a step.

    In continuous time, with theta the integral of eta, ``dv/dtheta = -2*a*v + eta*sigma^2`` has closed forms for the
    named schedules, with relative errors of order ``eta*a``; they stand as rivals beside the exact value.

    That annealing follows Fourier's and Newton's law is claimed in arXiv:2505.10559; all formulas here are
    re-derived.
    """
    found = [mode for mode in modes(run) if not (mode.constant_rate or mode.adiabatic)]
    require(found, "the learning rate never changes, or no valley has a constant curvature")
    for mode in found:
        yield _history(mode)
        form = closed_form(mode)
        rival = None if form is None else Rival("closed form in continuous time", form)
        measure, exact = Moment("mean", fast_loss_name(mode), run.steps), mode.fast_loss(run.steps)[0]
        yield row(measure, exact, conditions=mode.conditions, rival=rival)
        yield from _newton(mode)


def _history(mode: Mode) -> Prediction:
    name, steps = fast_loss_name(mode), [int(step) for step in mode.run.recorder.record_steps(mode.run.steps)[1:]]
    values = tuple(mode.fast_loss(step)[0] for step in steps)
    moments = tuple(Moment("mean", name, step) for step in steps)
    quantity = f"mean({name}) over {len(steps)} records"
    return row(Curve(moments, values), values[-1], quantity, conditions=mode.conditions)


def _newton(mode: Mode) -> Iterator[Prediction]:
    """A row on the excess over the bath at a record, relative to the excess at an earlier one of the same rate."""
    span = _cooling_span(mode)
    if span is None:
        return
    name, (start, stop) = fast_loss_name(mode), span
    bath = stationary_fast_loss(float(mode.rates[start]), mode.curvature, mode.noise_variance)
    yield row(
        Function("excess", partial(_excess, bath), (Moment("mean", name, start), Moment("mean", name, stop))),
        float(mode.memory(start, stop) ** 2),
        f"Newton's law: excess of {name} over the bath at step {stop}, of that at step {start}",
        conditions=f"(1 - eta*a)^{2 * (stop - start)}, bath {bath:.6g}",
    )


@stored
def _excess(bath: float, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.asarray((after - bath) / (before - bath))


def _cooling_span(mode: Mode) -> tuple[int, int] | None:
    """Two records at one rate between which the excess over a colder bath falls by a factor nearest to 1/e."""
    records = mode.run.recorder.record_steps(mode.run.steps)
    best, distance = None, 1.0  # a change of less than a factor e either way
    if mode.decay:
        return None
    for i, start in enumerate(records[:-1]):
        for stop in records[i + 1 :]:
            rates = mode.rates[start:stop]
            if np.ptp(rates) > 1e-12 * rates[0]:
                break
            bath = stationary_fast_loss(float(rates[0]), mode.curvature, mode.noise_variance)
            if mode.fast_loss(int(start))[0] < 2.0 * bath:
                continue
            off = abs(2.0 * np.log(abs(mode.memory(int(start), int(stop))) + 1e-300) + 1.0)
            if off < distance:
                best, distance = (int(start), int(stop)), off
    return best


_FORGOTTEN = 1e-4  # largest part of the variance on the plateau that may be left
_LEAST_POWER = 0.1  # smallest power of the time left with which a rate ends in a decay


@dataclass(frozen=True)
class PowerEnd:
    """A plateau at `rate`, and ``rate*(left/steps)^power`` over the last `steps`."""

    rate: float
    steps: float
    power: float

    @classmethod
    def of(cls, rates: np.ndarray) -> PowerEnd | None:
        """The plateau and power-law end that the rates of a run follow; None if they do not.

        Examples
        --------
        >>> PowerEnd.of(np.array([0.4, 0.4, 0.3, 0.2, 0.1]))
        PowerEnd(rate=0.4, steps=4.0, power=1.0)
        """
        if len(rates) < 3 or not rates[-1] < rates[-2] < rates[0]:
            return None
        rate, power = float(rates[0]), log2(rates[-2] / rates[-1])
        if power < _LEAST_POWER:
            return None
        steps = (rate / float(rates[-1])) ** (1.0 / power)
        left = np.arange(len(rates), 0, -1)
        end = cls(rate, round(steps, 6), round(power, 6))
        expected = end.rate * np.minimum(1.0, left / end.steps) ** end.power
        return end if np.allclose(rates, expected, rtol=1e-6, atol=0.0) else None

    def variance(self, curvature: float, noise: float) -> float:
        """Variance that is left after the end, in continuous time.

        Examples
        --------
        >>> PowerEnd(0.2, 32000.0, 1.0).variance(1.0, 1.0) / PowerEnd(0.2, 8000.0, 1.0).variance(1.0, 1.0)
        0.5
        """
        q, n = self.power, self.steps
        p, b = (2.0 * q + 1.0) / (q + 1.0), 2.0 * curvature * self.rate / ((q + 1.0) * n**q)
        return float(noise * self.rate**2 * n ** (-2.0 * q) * gamma(p) / ((q + 1.0) * b**p))

    def freezing_rate(self, curvature: float) -> float:
        """The rate at which the mode falls out of equilibrium."""
        return float((curvature * self.rate / self.steps**self.power) ** (1.0 / (self.power + 1.0)) / curvature)

    def memory(self, curvature: float) -> float:
        """The factor that is left of the plateau's variance."""
        return float(np.exp(-2.0 * curvature * self.rate * self.steps / (self.power + 1.0)))


@law(
    "freeze-out",
    "what is left after a decay that ends as a power of the time",
    source="re-derived",
    holds="a valley under a plateau and an end of the rate like a power of the time left; over several lengths",
    records=fast_losses,
    finite_order=True,
)
def freeze_out(run: Run) -> Iterator[Prediction]:
    """The shape of the end of a decay fixes the exponent of the heat that is left. Order 0 in the freezing rate.

    Under a plateau at eta_0 and then ``eta = eta_0*(1 - t/N)^q`` over the last N steps, in continuous time,

        v_N = sigma^2*eta_0^2*N^(-2q)*Gamma(p)/((q + 1)*B^p),    p = (2q + 1)/(q + 1),    B = 2*a*eta_0/((q + 1)*N^q),

    so that ``v_N ~ N^(-q/(q+1))*eta_0^(1/(q+1))``: 1/2 for a linear end, 2/3 for a parabolic one such as a cosine's,
    and no power of this kind reaches the 1 of harmonic decay (fastest-cooling). The mode falls out of equilibrium at
    the rate ``eta_f = t_f^-1/a`` at which the relaxation time ``1/(a*eta)`` is the time that is left, ``t_f =
    (N^q/(a*eta_0))^(1/(q+1))``. Neglected are terms of relative order ``a*eta_f``: the ratio of the measured variance
    to the formula is tested to go to 1 as eta_f goes to 0, over four or more lengths of the decay.

    arXiv:2505.10559 claims only that the best decay is about 1/t; the formulas are re-derived.
    """
    end = PowerEnd.of(run.schedule.rates(run.steps))
    if end is None:
        raise NotApplicable("the learning rate does not end as a power of the steps that are left, after a plateau")
    for mode in plain_modes(run):
        a, name = mode.curvature, fast_loss_name(mode)
        require(not end.memory(a) > _FORGOTTEN, f"{mode.parameter} still remembers the plateau, to {end.memory(a):.1g}")
        predicted, freezing = a * end.variance(a, mode.noise_variance) / 2.0, end.freezing_rate(a)
        yield ratio_row(
            Moment("mean", name, run.steps),
            predicted,
            f"mean({name}) over its formula for an end of power {end.power:g}",
            order=0,
            conditions=f"{name} -> {predicted:.6g}, falls out of equilibrium at the learning rate {freezing:.4g}",
            small=freezing,
            small_name="learning rate at which it falls out of equilibrium",
            series=f"freeze-out {mode.parameter} {a} {mode.noise_variance} {end.rate} {end.power}",
        )
