"""NTL-17: the shape of the end of a decay fixes the exponent of the heat that is left. Order 0 in the freezing rate.

Under a plateau at eta_0 and then ``eta = eta_0*(1 - t/N)^q`` over the last N steps, in continuous time,

    v_N = sigma^2*eta_0^2*N^(-2q)*Gamma(p)/((q + 1)*B^p),    p = (2q + 1)/(q + 1),    B = 2*a*eta_0/((q + 1)*N^q),

so that ``v_N ~ N^(-q/(q+1))*eta_0^(1/(q+1))``: 1/2 for a linear end, 2/3 for a parabolic one such as a cosine's, and
1 for none before harmonic decay (NTL-18). The mode falls out of equilibrium at the rate ``eta_f = t_f^-1/a`` at which
the relaxation time ``1/(a*eta)`` is the time that is left, ``t_f = (N^q/(a*eta_0))^(1/(q+1))``. What is neglected is
of relative order ``a*eta_f``: the ratio of the measured variance to the formula is tested to go to 1 as eta_f goes to
0, over four or more lengths of the decay.

Claimed in arXiv:2505.10559 is only that the best decay is about 1/t; the formulas are re-derived.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import gamma, log2

import numpy as np

from sgdsim.model.run import Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, over
from sgdsim.theory.law import Law
from sgdsim.theory.laws.ntl2 import fast_loss_name, fast_losses
from sgdsim.theory.methods.fast_directions import Mode, modes

ID = "NTL-17"
_FORGOTTEN = 1e-4
_LEAST_POWER = 0.1


@dataclass(frozen=True)
class PowerEnd:
    """A plateau at `rate`, and ``rate*(left/steps)^power`` over the last `steps`."""

    rate: float
    steps: float
    power: float

    @classmethod
    def of(cls, rates: np.ndarray) -> PowerEnd | None:
        """The one that the rates of a run are, or None.

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
        """What is left after the end, in continuous time.

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
        """What is left of the plateau's variance."""
        return float(np.exp(-2.0 * curvature * self.rate * self.steps / (self.power + 1.0)))


def _at_point(run: Run) -> list[Prediction]:
    end = PowerEnd.of(run.schedule.rates(run.steps))
    if end is None:
        raise NotApplicable("the learning rate does not end as a power of the steps that are left, after a plateau")
    found = [mode for mode in modes(run) if not (mode.adiabatic or mode.decay)]
    if not found:
        raise NotApplicable("no valley has a constant curvature and no weight decay")
    return [_row(mode, end) for mode in found]


def _row(mode: Mode, end: PowerEnd) -> Prediction:
    run, a = mode.run, float(mode.curvature[-1])
    if end.memory(a) > _FORGOTTEN:
        raise NotApplicable(f"{mode.parameter} still remembers the plateau, to {end.memory(a):.1g}")
    name, predicted = fast_loss_name(mode), a * end.variance(a, mode.noise_variance) / 2.0
    freezing = end.freezing_rate(a)
    return Prediction(
        ID,
        f"mean({name}) over its formula for an end of power {end.power:g}",
        Function("ratio", partial(over, predicted), (Moment("mean", name, run.steps),)),
        1.0,
        0,
        conditions=f"{name} -> {predicted:.6g}, falls out of equilibrium at the learning rate {freezing:.4g}",
        learning_rate=freezing,
        series=f"{ID} {mode.parameter} {a} {mode.noise_variance} {end.rate} {end.power}",
    )


LAW = Law(
    ID,
    "what is left after a decay that ends as a power of the time",
    "re-derived, sgdsim handbook NTL-17",
    fast_losses,
    _at_point,
    finite_order=True,
)
