"""NTL-26: the entropic force under SignSGD. Leading order.

With noise on both coordinates, of standard deviations sigma and sigma_y, and a river whose slope is far below
sigma_y, the mean sign of the river's gradient is ``sqrt(2/pi)/sigma_y`` of its mean, and the walls have the
temperature ``T_s = eta*sigma*sqrt(pi/8)`` (NTL-9), so that

    d<y>/dn = -eta*sqrt(2/pi)/sigma_y*[c' + (T_s/2)*a'/a],

while y diffuses by eta a step. Where c' and a'/a are constants this holds whatever the spread of y. Tested over
learning rates: the measured displacement between two records over this one goes to 1. The rival, from which it must be
told, has in place of T_s the temperature of SGD, ``eta*sigma^2/2``. Re-derived.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, Rival, change_over
from sgdsim.theory.law import Law
from sgdsim.theory.methods.rivers import River, river

ID = "NTL-26"


def drift(known: River, heat: float | None = None) -> float:
    """Of y, a step, between walls of the temperature T_s, or of another."""
    y, heat = known.start, _temperature(known) if heat is None else heat
    force = float(known.c(y, 1)) + heat / 2.0 * float(known.a(y, 1) / known.a(y))
    return float(-known.rate * np.sqrt(2.0 / np.pi / known.river_noise) * force)


def _temperature(known: River) -> float:
    return float(known.rate * np.sqrt(np.pi * known.noise / 8.0))


def _at_point(run: Run) -> list[Prediction]:
    known = river(run, ("signsgd",))
    if not known.river_noise > 0:
        raise NotApplicable(f"{known.slow} has no noise: its sign is that of the walls")
    if any(run.loss.noise[name].family != "normal" for name in run.loss.noise):
        raise NotApplicable("the mean sign is that of normal noise")
    if not _is_constant(known):
        raise NotApplicable("the slope of the river, or a'/a, changes along it")
    start = _first_record(known)
    predicted = drift(known) * (run.steps - start)
    moments = tuple(Moment("mean", known.slow, step) for step in (start, run.steps))
    return [
        Prediction(
            ID,
            f"displacement of {known.slow} over NTL-26, steps {start} to {run.steps}",
            Function("ratio", partial(change_over, predicted), moments),
            1.0,
            0,
            conditions=f"{known.slow} moves by {predicted:.6g}",
            rival=Rival("the temperature of SGD", drift(known, known.temperature) / drift(known)),
            learning_rate=known.rate,
            series=f"{ID} {known.series} {known.noise} {known.river_noise}",
        )
    ]


def _is_constant(known: River) -> bool:
    y = known.start + np.linspace(-1.0, 1.0, 5)
    force, slope = known.a(y, 1) / known.a(y), np.broadcast_to(known.c(y, 1), 5)
    return bool(np.ptp(force) < 1e-9 * np.abs(force).max() and np.ptp(slope) <= 1e-9 * np.abs(slope).max())


def _first_record(known: River) -> int:
    """After x has come to rest: its pull is ``eta*a*sqrt(2/pi)/sigma``."""
    pull = known.rate * float(known.a(known.start)) * np.sqrt(2.0 / np.pi / known.noise)
    steps = 7.0 / (2.0 * pull)
    usable = [int(step) for step in known.run.recorder.record_steps(known.run.steps)[:-1] if step >= steps]
    if not usable:
        raise NotApplicable(f"no record after {steps:.0f} steps and before the last, when {known.fast} is at rest")
    return usable[0]


LAW = Law(
    ID,
    "entropic force under SignSGD",
    "re-derived, sgdsim handbook NTL-26",
    lambda run: Recorder(),
    _at_point,
    finite_order=True,
)
