"""NT-20: the Lyapunov exponent of a displacement that every step multiplies. Exact.

Where the gradient of one parameter is ``h*theta`` with random h alone, ``log|theta_t| = log|theta_0| + sum log|A_s|``
with independent factors ``A = 1 - eta*(h + lambda)``, so that

    E log|theta_t| = E log|theta_0| + t*E log|A|,    Var log|theta_t| = Var log|theta_0| + t*Var log|A|,

whatever the mean of theta^2 does.
"""

from __future__ import annotations

import numpy as np

from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Moment, NotApplicable, Prediction
from sgdsim.theory.law import Law, name_of
from sgdsim.theory.methods.kesten import multiplier
from sgdsim.theory.methods.moment_recursion import is_affine

ID = "NT-20"


def is_multiplicative(run: Run) -> bool:
    """Whether the gradient of every sample is a factor times the one parameter, and random.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> is_multiplicative(Run(Loss("x**2", ("x",)), Optimizer(), Schedule("0.1"), {"x": 1.0}, 1000, 10))
    False
    """
    loss = run.loss
    if len(loss.parameters) != 1 or not is_affine(loss):
        return False
    gradient, theta = loss.gradient[0], loss.theta[0]
    is_random = any(loss.symbols[name] in gradient.free_symbols for name in loss.random)
    return bool(is_random and gradient.subs(theta, 0) == 0)


def _logarithm(run: Run) -> Observable:
    name = run.loss.parameters[0]
    return Observable("log_displacement", f"log(abs({name}))")


def _records(run: Run) -> Recorder:
    return Recorder(observables=(_logarithm(run),) if is_multiplicative(run) else ())


def _at_point(run: Run) -> list[Prediction]:
    if not is_multiplicative(run):
        raise NotApplicable("the gradient is not a random factor times one parameter")
    start = run.initial[run.loss.parameters[0]]
    if not isinstance(start, float | int) or start == 0:
        raise NotApplicable("the start is not one displacement other than zero")
    if np.ptp(run.schedule.rates(run.steps)) > 0:
        raise NotApplicable("holds for a constant learning rate")
    factor, name = multiplier(run, 0.0), name_of(run, _logarithm(run))
    exponent, spread = float(factor.lyapunov.value), float(factor.log_variance.value)
    if not np.isfinite(exponent + spread):
        raise NotApplicable("the factor vanishes with positive probability: every path ends at zero")
    mean, variance = np.log(abs(start)) + run.steps * exponent, run.steps * spread
    conditions = f"E log|1 - eta*h| = {exponent:.6g}"
    scale = 0.01 * float(np.hypot(mean, np.sqrt(variance)))
    return [
        _row(run, name, "mean", mean, scale, conditions),
        *([_row(run, name, "variance", variance, None, conditions)] if variance else []),
    ]


def _row(run: Run, name: str, statistic: str, value: float, resolution: float | None, conditions: str) -> Prediction:
    measure = Moment(statistic, name, run.steps)
    return Prediction(ID, f"{statistic}({name})", measure, float(value), "exact", resolution, conditions=conditions)


LAW = Law(
    ID,
    "Lyapunov exponent of a displacement: typical growth or collapse",
    "re-derived, sgdsim handbook NT-20; cf. arXiv:2303.13093",
    _records,
    _at_point,
)
