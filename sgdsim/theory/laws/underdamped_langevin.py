"""Underdamped Langevin dynamics by BAOAB: its stationary law, at any time step."""

from __future__ import annotations

from collections.abc import Iterator
from math import exp

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Prediction, require
from sgdsim.theory.law import law
from sgdsim.theory.laws.momentum_and_decay import check_momentum_forgotten
from sgdsim.theory.methods.directions import directions
from sgdsim.theory.methods.mode_rows import stationary_rows
from sgdsim.theory.methods.modes import constant_rate, steady_modes


def baoab_variance(step: float, curvature: float, temperature: float, friction: float, noise: float = 0.0) -> float:
    """Stationary variance of the position; `noise` is the variance of the gradient noise.

    Examples
    --------
    >>> baoab_variance(1.5, 1.0, 1.0, 0.3), round(baoab_variance(0.5, 1.0, 1.0, 1.0, 1.0), 6)
    (1.0, 1.272199)
    """
    kept, stiffness = exp(-friction * step), curvature * step**2
    heated = noise * step**2 * (1.0 + kept) / (1.0 - kept) / (4.0 - stiffness) if noise else 0.0
    return (temperature + heated) / curvature


def _records(run: Run) -> Recorder:
    return Recorder(observables=tuple(one.fast_loss(run.loss) for one in directions(run.loss, noisy=False)))


@law(
    "underdamped-langevin",
    "BAOAB: stationary variance and fast loss, the temperature's own at any time step, and what gradient noise adds",
    source="re-derived",
    holds="BAOAB in a valley at a constant time step, the start forgotten",
    records=_records,
)
def underdamped_langevin(run: Run) -> Iterator[Prediction]:
    """BAOAB in a valley with the time step h, friction f and temperature T. Exact in the stationary state.

    Half kick, half drift, friction with noise, half drift, half kick: with ``c = exp(-f*h)`` and without gradient noise

        Var x = T/a

    at every stable h, ``a*h^2 < 4``, with ``Var v = T*(1 - a*h^2/4)``. The first half kick and drift turn this law into
    one with a velocity of variance T, uncorrelated with the position. Friction leaves that as it is, and the second
    half drift and kick undo the first, since the motion is reversible. Gradient noise of variance sigma^2, the same in
    the last half kick of a step and the first of the next, adds

        sigma^2*h^2*(1 + c) / (a*(1 - c)*(4 - a*h^2)),

    by the solution of Lyapunov's equation for x and v; at small h that is the heat ``sigma^2*h/(2*f)``. Euler's method
    for the overdamped dynamics, ``langevin``, has ``T/(a*(1 - eta*a/2))``.

    Re-derived.
    """
    require(run.optimizer.name == "baoab", f"holds for baoab, the optimizer is {run.optimizer.name}")
    require(not run.optimizer.decay, "holds without weight decay")
    step, values = constant_rate(run), run.optimizer.values
    for mode in steady_modes(run, noisy=False):
        require(values["friction"] or not mode.noise_variance, "without friction gradient noise heats for ever")
        check_momentum_forgotten(mode, step)
        variance = baoab_variance(step, mode.curvature, values["temperature"], values["friction"], mode.noise_variance)
        conditions = f"{mode.parameter}: a*h^2 = {mode.curvature * step**2:.4g}, f*h = {values['friction'] * step:.4g}"
        rival = ("without heating", values["temperature"] / 2.0) if mode.noise_variance else None
        yield from stationary_rows(mode, variance, mode.centre, conditions, rival)
