"""NTL-30: detailed balance of a valley at rest, and how skewed noise breaks it. Exact.

For normal noise a valley at rest looks the same backwards: ``<x^2*x'> = <x*x'^2>`` for neighbouring states, at any
learning rate. Noise w of third cumulant k3(w) breaks it,

    <x^2*x'> - <x*x'^2> = k3*(r - r^2),    k3 = -eta^3*k3(w)/(1 - r^3),    r = 1 - eta*a,

about the centre of the valley. Our own statement.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import NotApplicable, PathMean, Prediction
from sgdsim.theory.law import Law
from sgdsim.theory.methods.fast_directions import Mode, modes

ID = "NTL-30"
_FORGOTTEN = 1e-6


def asymmetry(rate: float, curvature: float, third: float) -> float:
    """``<x^2*x'> - <x*x'^2>`` at rest, from the third cumulant of the gradient noise.

    Examples
    --------
    >>> round(asymmetry(0.5, 1.0, 2.0), 6)  # centred exponential noise
    -0.071429
    """
    r = 1.0 - rate * curvature
    return -(rate**3) * third / (1.0 - r**3) * (r - r * r)


def _applicable(run: Run) -> list[Mode]:
    found = [mode for mode in modes(run) if mode.constant_rate and not mode.adiabatic and not mode.decay]
    found = [mode for mode in found if abs(mode.memory(0, run.steps - 1)) < _FORGOTTEN]
    if not found:
        raise NotApplicable("no valley of constant curvature is at rest at the end, at a constant rate")
    return found


def _records(run: Run) -> Recorder:
    _applicable(run)
    return Recorder(snapshots=(run.steps - 1, run.steps))


def _at_point(run: Run) -> list[Prediction]:
    steps = (run.steps - 1, run.steps)
    if not set(steps) <= set(run.recorder.snapshots):
        raise NotApplicable("the last two states are not kept")
    return [_row(mode, steps) for mode in _applicable(run)]


def _row(mode: Mode, steps: tuple[int, int]) -> Prediction:
    predicted = asymmetry(float(mode.rates[0]), float(mode.curvature[0]), mode.noise_cumulants[2])
    third_power = mode.cumulants(mode.run.steps)[1] ** 1.5
    about = partial(_difference, mode.centre)
    quantity = f"<x^2 x'> - <x x'^2> of {mode.parameter} at rest"
    measure = PathMean(mode.parameter, steps, about)
    return Prediction(ID, quantity, measure, predicted, "exact", 0.02 * third_power, conditions=mode.conditions)


def _difference(centre: float, x: np.ndarray) -> np.ndarray:
    before, after = x - centre
    return np.asarray(before**2 * after - before * after**2)


LAW = Law(
    ID,
    "detailed balance at rest, and how skewed noise breaks it",
    "our own statement, sgdsim handbook NTL-30",
    _records,
    _at_point,
)
