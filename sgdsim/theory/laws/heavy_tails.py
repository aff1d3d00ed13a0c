"""Heavy tails: typical growth or collapse, and the exponent of a stationary law's tail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Curve, Moment, NotApplicable, Prediction, Tail, require
from sgdsim.theory.law import law, row
from sgdsim.theory.methods.kesten import Multiplier, multiplier
from sgdsim.theory.methods.linear_response import Population, minimum, start_of
from sgdsim.theory.methods.modes import constant_rate
from sgdsim.theory.methods.moment_recursion import is_affine
from sgdsim.theory.recorded_names import name_of


def is_multiplicative(run: Run) -> bool:
    """True if the gradient of every sample is a random factor times the only parameter.

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


def _lyapunov_records(run: Run) -> Recorder:
    return Recorder(observables=(_logarithm(run),) if is_multiplicative(run) else ())


@law(
    "lyapunov",
    "Lyapunov exponent of a displacement: typical growth or collapse",
    source="re-derived; cf. arXiv:2303.13093",
    holds="a gradient that is a random factor times one parameter",
    records=_lyapunov_records,
    automatic=True,
    any_field=True,
)
def lyapunov(run: Run) -> Iterator[Prediction]:
    """The Lyapunov exponent of a displacement that every step multiplies. Exact.

    If the gradient of the only parameter is ``h*theta`` with a random h, ``log|theta_t| = log|theta_0| + sum log|A_s|``
    with independent factors ``A = 1 - eta*(h + lambda)``, so that

        E log|theta_t| = E log|theta_0| + t*E log|A|,    Var log|theta_t| = Var log|theta_0| + t*Var log|A|,

    whatever the mean of theta^2 does.
    """
    require(is_multiplicative(run), "the gradient is not a random factor times one parameter")
    start = run.initial[run.loss.parameters[0]]
    if not isinstance(start, float | int) or start == 0:
        raise NotApplicable("the start is not one displacement other than zero")
    constant_rate(run)
    factor, name = multiplier(run, 0.0), name_of(run, _logarithm(run))
    exponent, spread = float(factor.lyapunov.value), float(factor.log_variance.value)
    require(np.isfinite(exponent + spread), "the factor vanishes with positive probability: every path ends at zero")
    mean, variance = np.log(abs(start)) + run.steps * exponent, run.steps * spread
    conditions = f"E log|1 - eta*h| = {exponent:.6g}"
    scale = 0.01 * float(np.hypot(mean, np.sqrt(variance)))
    yield row(Moment("mean", name, run.steps), float(mean), resolution=scale, conditions=conditions)
    if variance:
        yield row(Moment("variance", name, run.steps), float(variance), conditions=conditions)


def _collapse_across(runs: Sequence[Run]) -> list[Prediction]:
    """A list with one row on all points of a sweep."""
    moments, values = [], []
    for point, run in enumerate(runs):
        start, factor = run.initial[run.loss.parameters[0]], multiplier(run, 0.0)
        if not isinstance(start, float | int) or start == 0:
            raise NotApplicable("the start is not one displacement other than zero")
        moments.append(Moment("mean", name_of(run, _logarithm(run)), run.steps, point))
        values.append(float(np.log(abs(start)) + run.steps * factor.lyapunov.value))
    require(np.isfinite(values).all(), "the factor vanishes with positive probability: every path ends at zero")
    several = f"over {len(runs)} points, of which {sum(value < 0 for value in values)} collapse"
    curve = Curve(tuple(moments), tuple(values))
    return [row(curve, max(values, key=abs), f"mean({moments[0].observable}) {several}")]


@law(
    "collapse",
    "where a direction collapses: its typical growth over all points of a sweep, as one row",
    source="re-derived; cf. arXiv:2303.13093",
    holds="a gradient that is a random factor times one parameter, at all points of a sweep",
    records=_lyapunov_records,
    across=_collapse_across,
    any_field=True,
)
def collapse(run: Run) -> list[Prediction]:
    """The phase diagram of collapse: the law lyapunov at all points of a sweep, in one row on the point furthest off.

    Every step multiplies a displacement by ``1 - eta*(h + lambda)``, so that after t steps

        E log|theta_t| = log|theta_0| + t*E log|1 - eta*(h + lambda)|,

    and the displacement collapses onto zero if the exponent is negative, whatever its mean square does. Exact.
    """
    require(is_multiplicative(run), "the gradient is not a random factor times one parameter")
    constant_rate(run)
    return []


STEEPEST = 6.0
"""Largest exponent for Hill's estimator: at 3 it is off by 5 % in the top 1 % of values, by 1 % in the top 0.1 %."""

_GENTLE = 2.3  # largest exponent for which the top 1 % of values is in the tail
_FORGOTTEN = 1e-3  # largest part of a moment of the start that may be left


def _has_tail(run: Run) -> bool:
    if len(run.loss.parameters) != 1 or run.optimizer.name != "sgd" or not is_affine(run.loss):
        return False
    slope = run.loss.gradient[0].diff(run.loss.theta[0])
    return not is_multiplicative(run) and any(run.loss.symbols[name] in slope.free_symbols for name in run.loss.random)


def _heavy_tail_records(run: Run) -> Recorder:
    return Recorder(snapshots=(run.steps,) if _has_tail(run) else ())


@law(
    "heavy-tail",
    "exponent of the power-law tail of a stationary law",
    source="arXiv:2006.04740 (tails); exponents re-derived",
    holds="one parameter, a gradient that is affine with a random factor and noise, at rest",
    records=_heavy_tail_records,
)
def heavy_tail(run: Run) -> Iterator[Prediction]:
    """The Kesten tail of a stationary law, ``P(|delta| > x) ~ x^-kappa`` with ``E|1 - eta*h|^kappa = 1``.

    It holds for one parameter whose gradient is affine with a random factor and noise of its own. The exponent is
    exact. Measured is the tail of a finite sample: by Hill's estimator from the largest values about the minimum, once
    the start is forgotten. That these values are in the tail already is assumed, and no measurement can tell: so the
    law must be asked for, and is not tried on every run.
    """
    require(_has_tail(run), "no single parameter has a gradient that is affine with a random factor and with noise")
    constant_rate(run)
    require(run.steps in run.recorder.snapshots, "there is no snapshot of the last step")
    factor = multiplier(run)
    exponent = float(factor.kesten.value)
    require(not exponent > STEEPEST, f"the tail exponent {exponent:.3g} is too steep to be seen in a sample")
    _check_forgotten(run, factor)
    _check_centre(run)
    name = run.loss.parameters[0]
    fraction = 1e-2 if exponent <= _GENTLE else 1e-3
    conditions = f"E|1 - eta*h|^{exponent:.6g} = 1, the top {fraction:g} of the sample"
    yield row(Tail(name, run.steps, fraction), exponent, resolution=0.1 * exponent, conditions=conditions)


def _check_centre(run: Run) -> None:
    """Refuse a minimum away from zero, as Hill's estimator looks at magnitudes, and one without noise at it."""
    theta = float(minimum(run.loss, start_of(run), run.optimizer.decay)[0])
    require(
        not abs(theta) > 1e-6,
        f"the tail is about the minimum at {theta:.4g}; take the distance from it as the parameter",
    )
    require(
        Population(run.loss, run.optimizer.decay).noise(np.array([theta]))[0, 0] > 0,
        "there is no noise at the minimum: paths collapse onto it",
    )


def _check_forgotten(run: Run, factor: Multiplier) -> None:
    """Refuse a run that still remembers its start: a moment of lower order than the exponent tells its memory."""
    order = min(1.0, 0.5 * float(factor.kesten.value))
    left = float(factor.power(order).value) ** run.steps
    require(not left > _FORGOTTEN, f"the start is still remembered: E|A|^{order:.3g} leaves {left:.2g} of it")
