"""NT-28: the Kesten tail of a stationary law, ``P(|delta| > x) ~ x^-kappa`` with ``E|1 - eta*h|^kappa = 1``.

For one parameter whose gradient is affine with a random factor and noise of its own. The exponent is exact, and what is
measured is the tail of a finite sample: by Hill's estimator from the largest values about the minimum, once the start
is forgotten.
"""

from __future__ import annotations

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import NotApplicable, Prediction, Tail
from sgdsim.theory.law import Law
from sgdsim.theory.laws.nt20 import is_multiplicative
from sgdsim.theory.methods.kesten import Multiplier, multiplier
from sgdsim.theory.methods.linear_response import Population, minimum, start_of
from sgdsim.theory.methods.moment_recursion import is_affine

ID = "NT-28"
STEEPEST = 6.0
"""The largest that Hill's estimator sees: at 3 it is off by 5 % in the top 1 % of values, 1 % in the top 0.1 %."""

_GENTLE = 2.3  # up to this exponent the top 1 % is in the tail (handbook, NT-28)
_FORGOTTEN = 1e-3


def _has_tail(run: Run) -> bool:
    if len(run.loss.parameters) != 1 or run.optimizer.name != "sgd" or not is_affine(run.loss):
        return False
    slope = run.loss.gradient[0].diff(run.loss.theta[0])
    return not is_multiplicative(run) and any(run.loss.symbols[name] in slope.free_symbols for name in run.loss.random)


def _records(run: Run) -> Recorder:
    return Recorder(snapshots=(run.steps,) if _has_tail(run) else ())


def _at_point(run: Run) -> list[Prediction]:
    if not _has_tail(run):
        raise NotApplicable("no single parameter has a gradient that is affine with a random factor and with noise")
    if np.ptp(run.schedule.rates(run.steps)) > 0:
        raise NotApplicable("holds for a constant learning rate")
    if run.steps not in run.recorder.snapshots:
        raise NotApplicable("there is no snapshot of the last step")
    factor = multiplier(run)
    exponent = float(factor.kesten.value)
    if exponent > STEEPEST:
        raise NotApplicable(f"the tail exponent {exponent:.3g} is too steep to be seen in a sample")
    _check_forgotten(run, factor)
    _check_centre(run)
    name = run.loss.parameters[0]
    fraction = 1e-2 if exponent <= _GENTLE else 1e-3
    conditions = f"E|1 - eta*h|^{exponent:.6g} = 1, the top {fraction:g} of the sample"
    measure = Tail(name, run.steps, fraction)
    return [Prediction(ID, f"tail({name})", measure, exponent, "exact", 0.1 * exponent, conditions=conditions)]


def _check_centre(run: Run) -> None:
    """Hill's estimator looks at magnitudes, so the minimum must be at zero, and there must be noise at it."""
    theta = float(minimum(run.loss, start_of(run), run.optimizer.decay)[0])
    if abs(theta) > 1e-6:
        raise NotApplicable(f"the tail is about the minimum at {theta:.4g}; take the distance from it as the parameter")
    if not Population(run.loss, run.optimizer.decay).noise(np.array([theta]))[0, 0] > 0:
        raise NotApplicable("there is no noise at the minimum: paths collapse onto it")


def _check_forgotten(run: Run, factor: Multiplier) -> None:
    """A moment below the exponent comes to rest at the rate of its own growth factor."""
    order = min(1.0, 0.5 * float(factor.kesten.value))
    left = float(factor.power(order).value) ** run.steps
    if left > _FORGOTTEN:
        raise NotApplicable(f"the start is still remembered: E|A|^{order:.3g} leaves {left:.2g} of it")


LAW = Law(
    ID,
    "exponent of the power-law tail of a stationary law",
    "arXiv:2006.04740 (tails); exponents re-derived, sgdsim handbook NT-28",
    _records,
    _at_point,
)
