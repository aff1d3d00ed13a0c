"""NTL-22c: a river that runs into the edge of stability, and is held by it. Any eta*a, leading order in its step.

A river of constant slope meets walls whose heat diverges at ``eta*a = 2``. It rests, without fluctuations, where

    c' + a'*v/2 = 0,    v = eta*sigma^2/h,    h = a*(2 - eta*a),

on ``c = -g*y`` in walls ``e^(ky)`` at ``eta*a = 2 - k*eta*sigma^2/(2*g)``. The small parameter is not eta but the step
of the river in units of the width of its walls, ``gamma = eta*|c'|*a'/a``: x remembers ``1/|ln|r||`` steps, in which y
moves by little. Exactly, at rest, ``<c'> + <a'*x^2>/2 = 0`` and ``<h*x^2> = eta*sigma^2``. Expanded about the root,
with ``w = x^2 - v`` and the covariances S of (w, y) from the discrete Lyapunov equation

    S = M*S*M^T + diag(2*v^2*(1 - r^4), 0),    M = [[r^2, -2*eta*a'*r*v], [-eta*a'/2, 1 - eta*B]],    B = c'' + a''*v/2,

they give ``<y> = root + m`` and ``Var y = S_yy`` to leading order in gamma,

    m = -[c'''*S_yy/2 + a''*S_wy/2 + a'''*v*S_yy/4 - (a'/(2h))*(h'*S_wy + h''*v*S_yy/2)]/(B - a'*h'*v/(2h)).

Tested over four or more slopes g with sigma^2 in proportion, so that the root stays where it is: both measured over
these go to 1 with gamma, which stands in place of the learning rate. Rivals are, for the variance, walls that do not
remember, whose heat is drawn anew at every step: ``(eta*a'*v)^2/(4*eta*F')``, F the force ``c' + a'*v/2`` of walls at
rest. For the shift it is this force alone, ``-F''*S_yy/(2*F')``. Re-derived.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, Rival, over
from sgdsim.theory.law import Law
from sgdsim.theory.laws.ntl20 import bend_of, slope_of
from sgdsim.theory.methods.rivers import River, river

ID = "NTL-22c"
_FORGOTTEN = 1e-4
_STEP = 1e-2


def root(known: River) -> float:
    """Where a river that runs to larger y is held, without fluctuations.

    Raises
    ------
    NotApplicable
        Where nothing holds it.
    """
    from scipy.optimize import brentq

    def slope(y: float) -> float:
        return float(known.c(y, 1) + known.a(y, 1) * known.rest(y) / 2.0)

    y = known.start
    if not slope(y) < 0.0:
        raise NotApplicable(f"{known.slow} does not run to larger values from its start")
    while known.rate * float(known.a(y + _STEP)) < 2.0:
        if slope(y + _STEP) >= 0.0:
            return float(brentq(slope, y, y + _STEP, xtol=1e-14))
        if float(known.a(y + _STEP)) <= float(known.a(y)):
            break
        y += _STEP
    raise NotApplicable(f"nothing holds {known.slow} at a place where its walls close in")


def fluctuations(known: River, y: float) -> tuple[float, float, float]:
    """Shift of the mean, Var y, and what is left of a displacement after one step."""
    from scipy.linalg import solve_discrete_lyapunov

    rate, v = known.rate, known.rest(y)
    a, a1, a2, a3 = (float(known.a(y, order)) for order in range(4))
    c2, c3 = float(known.c(y, 2)), float(known.c(y, 3))
    r, bend = 1.0 - rate * a, c2 + a2 * v / 2.0
    h, h1, h2 = a * (2.0 - rate * a), 2.0 * a1 * r, 2.0 * a2 * r - 2.0 * rate * a1**2
    matrix = np.array([[r * r, -2.0 * rate * a1 * r * v], [-rate * a1 / 2.0, 1.0 - rate * bend]])
    covariance = solve_discrete_lyapunov(matrix, np.diag([2.0 * v * v * (1.0 - r**4), 0.0]))
    mixed, spread = float(covariance[0, 1]), float(covariance[1, 1])
    forces = c3 * spread / 2.0 + a2 * mixed / 2.0 + a3 * v * spread / 4.0
    forces -= a1 / (2.0 * h) * (h1 * mixed + h2 * v * spread / 2.0)
    return -forces / (bend - a1 * h1 * v / (2.0 * h)), spread, float(np.max(np.abs(np.linalg.eigvals(matrix))))


def rivals(known: River, y: float, spread: float) -> tuple[float, float]:
    """The shift by the force of walls at rest, and Var y between walls that do not remember."""

    def force(y: float) -> float:
        return float(known.c(y, 1) + known.a(y, 1) * known.rest(y) / 2.0)

    pull = slope_of(force, y)
    kick = known.rate * float(known.a(y, 1)) * known.rest(y)  # eta*a'*x^2/2 varies by half of its square
    return -bend_of(force, y) * spread / (2.0 * pull), kick**2 / (4.0 * known.rate * pull)


def _at_point(run: Run) -> list[Prediction]:
    known = river(run)
    if known.river_noise or known.is_flat or known.bed[2] != 0:
        raise NotApplicable("speaks of a river of constant slope without noise of its own")
    y = root(known)
    shift, spread, left = fluctuations(known, y)
    travel = abs(y - known.start) / (known.rate * abs(float(known.c(y, 1))))
    memory = left ** max(run.steps - travel, 0.0)
    if not memory < _FORGOTTEN:
        raise NotApplicable(f"{known.slow} gets there after {travel:.0f} steps, and remembers them to {memory:.1g}")
    gamma = known.rate * abs(float(known.c(y, 1))) * float(known.a(y, 1) / known.a(y))
    edge = known.rate * float(known.a(y))
    conditions = f"eta*a = {edge:.4g}, gamma = {gamma:.3g}, root {y:.6g}"
    at_rest, forgetful = rivals(known, y, spread)
    measured = {"mean": partial(_shift_over, y, shift), "variance": partial(over, spread)}
    return [
        Prediction(
            ID,
            f"{text} at the edge of stability over NTL-22c",
            Function("ratio", measured[statistic], (Moment(statistic, known.slow, run.steps),)),
            1.0,
            0,
            conditions=f"{conditions}, {value:.6g}",
            rival=Rival(name, other / value),
            learning_rate=gamma,
            series=f"{ID} {known.walls[0]} {known.rate:.9g} {edge:.6g}",
        )
        for statistic, text, value, name, other in (
            ("mean", f"shift of {known.slow} from the root", shift, "the force of walls at rest", at_rest),
            ("variance", f"variance({known.slow})", spread, "walls that do not remember", forgetful),
        )
    ]


def _shift_over(root: float, shift: float, measured: np.ndarray) -> np.ndarray:
    return np.asarray((measured - root) / shift)


LAW = Law(
    ID,
    "a river held at the edge of stability",
    "re-derived, sgdsim handbook NTL-22c; trapping is claimed in arXiv:2505.10559",
    lambda run: Recorder(),
    _at_point,
    finite_order=True,
)
