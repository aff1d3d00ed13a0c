"""NTL-24: the speed of a river that runs against the entropic force. First correction included.

With the drift D1 and diffusion D2 of NTL-20, memory included, the mean follows ``dm/dn = D1 + D1''*S/2``. On c = -g*y
in walls ``a0*e^(ky)`` the speed is

    eta*{g - (k*T/2)*[1 + eta*a/2 + k*g/(2a) - k^2*T/(4a)]},

to leading order fastest at ``eta = 2*g/(k*sigma^2)`` and reversed above ``4*g/(k*sigma^2)``: a larger learning rate
is slower.

The correction with k*g/(2a) does not vanish with eta: rivers must be gentle, ``|c'*a'|/(2a^2)`` small. Re-derived.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, Rival
from sgdsim.theory.law import Law
from sgdsim.theory.laws.ntl20 import Drift
from sgdsim.theory.methods.rivers import River, river

ID = "NTL-24"
_GENTLE = 0.05


def _at_point(run: Run) -> list[Prediction]:
    known = river(run)
    if known.is_flat or known.river_noise:
        raise NotApplicable("the river is flat, or has noise of its own")
    y = known.start
    if float(known.c(y, 1)) == 0.0:
        raise NotApplicable(f"{known.slow} starts where the river has no slope")
    memory = abs(float(known.c(y, 1) * known.a(y, 1) / (2.0 * known.a(y) ** 2)))
    if memory > _GENTLE:
        raise NotApplicable(f"the river is not gentle: |c' a'|/(2 a^2) = {memory:.3g}, that is NTL-21's")
    start = _first_record(known)
    path = Drift(known).path(run.steps)
    predicted = float(path[-1] - path[start])
    leading = -known.rate * float(known.c(y, 1)) + float(Drift(known).leading(y))
    span = run.steps - start
    moments = tuple(Moment("mean", known.slow, step) for step in (start, run.steps))
    scale = known.rate * abs(float(known.c(y, 1)))
    return [
        Prediction(
            ID,
            f"speed of {known.slow} over that without walls, steps {start} to {run.steps}",
            Function("speed", partial(_speed, scale * span), moments),
            predicted / (scale * span),
            1,
            conditions=f"{predicted / span:.6g} a step, |c' a'|/(2 a^2) = {memory:.3g}",
            rival=Rival("leading order", leading / scale),
            learning_rate=known.rate,
            series=f"{ID} {known.series} {known.noise}",
        )
    ]


def _speed(scale: float, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.asarray((after - before) / scale)


def _first_record(known: River) -> int:
    a = known.rate * float(known.a(known.start))
    steps = 7.0 / (2.0 * a)
    usable = [int(step) for step in known.run.recorder.record_steps(known.run.steps)[:-1] if step >= steps]
    if not usable:
        raise NotApplicable(f"no record after {steps:.0f} steps and before the last, when {known.fast} is at rest")
    return usable[0]


LAW = Law(
    ID,
    "speed of a gentle river against the entropic force",
    "re-derived, sgdsim handbook NTL-24",
    lambda run: Recorder(),
    _at_point,
    finite_order=True,
)
