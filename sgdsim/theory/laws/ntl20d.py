"""NTL-20d: the entropic force of noise that depends on the river, such as that of labels. Leading order.

Where the gradient noise of x has the variance ``sigma(y)^2``, the walls have at every y the temperature
``T(y) = eta*sigma(y)^2/2``, and a flat river drifts a step by ``-(eta/2)*T*a'/a``. For ``sigma^2 = s^2*a^q`` this is
down the gradient of

    Phi = (eta*s^2/(4*q))*a^q    (q -> 0: (T/2)*ln(a)),

so that noise of labels, q = 1, makes the river flee curvature itself, not its logarithm. A noise term
``sigma(y)*xi*x`` of the loss moves y, too, with the mean 0; that adds to its diffusion, and to the drift beyond leading
order. Tested over learning rates: the measured displacement between two records over this one goes to 1. Re-derived.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, Rival, change_over
from sgdsim.theory.law import Law
from sgdsim.theory.methods.gradient_flow import constant_rate
from sgdsim.theory.methods.rivers import rough_river, single_start

ID = "NTL-20d"
_RELAXATIONS = 3.5  # of x, before the first record


def displacement(run: Run, start: int, stop: int, additive: bool = False) -> float:
    """Of y between two steps, to leading order; or as if the noise stayed as it is at the start.

    Raises
    ------
    NotApplicable
        Where y leaves the numbers.
    """
    from scipy.integrate import solve_ivp

    known, rate = rough_river(run), constant_rate(run)
    first = single_start(run, known.slow)

    def drift(_: float, y: np.ndarray) -> np.ndarray:
        at = float(y[0])
        noise = known.variance(first if additive else at)
        return np.array([-(rate**2) * noise / 4.0 * known.a(at, 1) / known.a(at)])

    solved = solve_ivp(drift, (0.0, float(stop)), [first], t_eval=[start, stop], rtol=1e-9, atol=1e-13)
    if not solved.success:
        raise NotApplicable(f"the drift leaves the numbers within {stop} steps")
    return float(solved.y[0, 1] - solved.y[0, 0])


def _additive(run: Run, start: int, predicted: float) -> Rival | None:
    try:
        return Rival("noise as of the start", displacement(run, start, run.steps, additive=True) / predicted)
    except NotApplicable:  # it reaches walls of no curvature
        return None


def _at_point(run: Run) -> list[Prediction]:
    known, rate = rough_river(run), constant_rate(run)
    y = single_start(run, known.slow)
    steps = _RELAXATIONS / (rate * known.a(y))
    usable = [int(step) for step in run.recorder.record_steps(run.steps)[:-1] if step >= steps]
    if not usable:
        raise NotApplicable(f"no record after {steps:.0f} steps and before the last, when {known.fast} is at rest")
    start = usable[0]
    predicted = displacement(run, start, run.steps)
    if not predicted:
        raise NotApplicable(f"{known.slow} starts where the walls do not push it")
    power = known.a(y) * known.variance(y, 1) / (known.variance(y) * known.a(y, 1))
    moments = tuple(Moment("mean", known.slow, step) for step in (start, run.steps))
    return [
        Prediction(
            ID,
            f"displacement of {known.slow} over NTL-20d at q = {power:.4g}, steps {start} to {run.steps}",
            Function("ratio", partial(change_over, predicted), moments),
            1.0,
            0,
            conditions=f"{known.slow} moves by {predicted:.6g}; eta*a = {rate * known.a(y):.3g}",
            rival=_additive(run, start, predicted),
            learning_rate=rate,
            series=f"{ID} {run.loss.population} {y:g} {power:.6g} {known.variance(y):.9g}",
        )
    ]


LAW = Law(
    ID,
    "entropic force of noise that depends on the river",
    "re-derived, sgdsim handbook NTL-20",
    lambda run: Recorder(),
    _at_point,
    finite_order=True,
)
