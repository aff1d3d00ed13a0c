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

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.run import Recorder, Run
from sgdsim.theory import numeric
from sgdsim.theory.flows import constant_rate
from sgdsim.theory.law import Law
from sgdsim.theory.prediction import Function, Moment, NotApplicable, Prediction

if TYPE_CHECKING:
    import sympy

ID = "NTL-20d"
_RELAXATIONS = 3.5  # of x, before the first record


@dataclass(frozen=True, eq=False)
class Walls:
    """A flat river y along walls a(y), with noise whose variance depends on y.

    Attributes
    ----------
    fast, slow
        Names of x and y.
    a, slope, variance
        The curvature, its derivative, and the variance of one step's gradient of x, of y.
    """

    fast: str
    slow: str
    a: Callable[[float], float]
    slope: Callable[[float], float]
    variance: Callable[[float], float]


def walls(run: Run) -> Walls:
    """The walls of a run.

    Raises
    ------
    NotApplicable
        For other losses.
    """
    loss = run.loss
    if run.optimizer.name != "sgd" or run.optimizer.preconditioner or run.optimizer.metric or run.optimizer.decay:
        raise NotApplicable("holds for sgd without weight decay and with one learning rate")
    if len(loss.parameters) != 2 or len(loss.noise) != 1:
        raise NotApplicable("speaks of one fast direction, one river and one noise")
    (noise,) = loss.noise
    if loss.noise[noise].cumulant(1) != 0.0 or not loss.noise[noise].cumulant(2) < np.inf:
        raise NotApplicable(f"the noise {noise} has a mean, or no variance")
    for index, fast in enumerate(loss.parameters):
        slow = loss.parameters[1 - index]
        x, y, xi = loss.symbols[fast], loss.symbols[slow], loss.symbols[noise]
        gradient = loss.gradient[index]
        a, coupling = gradient.diff(x), gradient.diff(xi)
        flat = (loss.population - a * x**2 / 2).expand().diff(y) == 0
        simple = (
            not (a.free_symbols | coupling.free_symbols) & {x, xi} and (gradient - a * x - coupling * xi).expand() == 0
        )
        if flat and simple and y in a.free_symbols and y in coupling.free_symbols:
            share = loss.noise[noise].cumulant(2) / run.optimizer.batch_size
            return Walls(fast, slow, *(partial(_at, run, slow, of) for of in (a, a.diff(y), share * coupling**2)))
    raise NotApplicable("no flat river sets the curvature, and the noise, of a fast direction")


def _at(run: Run, slow: str, expression: sympy.Expr, y: float) -> float:
    return float(numeric.evaluate([expression], {**numeric.constants(run.loss), slow: y})[0])


def displacement(run: Run, start: int, stop: int) -> float:
    """Of y between two steps, to leading order."""
    from scipy.integrate import solve_ivp

    known, rate = walls(run), constant_rate(run)

    def drift(_: float, y: np.ndarray) -> np.ndarray:
        at = float(y[0])
        return np.array([-(rate**2) * known.variance(at) / 4.0 * known.slope(at) / known.a(at)])

    solved = solve_ivp(drift, (0.0, float(stop)), [_start(run, known)], t_eval=[start, stop], rtol=1e-9, atol=1e-13)
    if not solved.success:
        raise NotApplicable(f"the drift leaves the numbers within {stop} steps")
    return float(solved.y[0, 1] - solved.y[0, 0])


def _start(run: Run, known: Walls) -> float:
    start = run.initial[known.slow]
    if not isinstance(start, float | int):
        raise NotApplicable(f"{known.slow} starts from more than one point")
    return float(start)


def _at_point(run: Run) -> list[Prediction]:
    known, rate = walls(run), constant_rate(run)
    y = _start(run, known)
    steps = _RELAXATIONS / (rate * known.a(y))
    usable = [int(step) for step in run.recorder.record_steps(run.steps)[:-1] if step >= steps]
    if not usable:
        raise NotApplicable(f"no record after {steps:.0f} steps and before the last, when {known.fast} is at rest")
    start = usable[0]
    predicted = displacement(run, start, run.steps)
    if not predicted:
        raise NotApplicable(f"{known.slow} starts where the walls do not push it")
    power = known.a(y) * _slope(known.variance, y) / (known.variance(y) * known.slope(y))
    moments = tuple(Moment("mean", known.slow, step) for step in (start, run.steps))
    return [
        Prediction(
            ID,
            f"displacement of {known.slow} over NTL-20d at q = {power:.4g}, steps {start} to {run.steps}",
            Function("ratio", partial(_over, predicted), moments),
            1.0,
            0,
            conditions=f"{known.slow} moves by {predicted:.6g}; eta*a = {rate * known.a(y):.3g}",
            learning_rate=rate,
            series=f"{ID} {run.loss.population} {y:g} {power:.6g} {known.variance(y):.9g}",
        )
    ]


def _slope(function: Callable[[float], float], y: float, h: float = 1e-5) -> float:
    return (function(y + h) - function(y - h)) / (2.0 * h)


def _over(predicted: float, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.asarray((after - before) / predicted)


LAW = Law(
    ID,
    "entropic force of noise that depends on the river",
    "re-derived, sgdsim handbook NTL-20",
    lambda run: Recorder(),
    _at_point,
    finite_order=True,
)
