"""Valleys under a schedule, and the plain recursion of their variance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.theory import find_law, requirements
from sgdsim.theory.laws.best_schedule import Design

EQUILIBRIUM = 0.2 / (2 - 0.2)
"""Variance at rest at the rate 0.2 of curvature and noise 1."""


def make_run(
    rate: str, steps: int = 300, a: float = 1.0, start: float | None = None, ids=("cooling",), **options
) -> Run:
    loss = river_valley(a="a0", c="0", constants={"a0": a, "sigma": 1.0})
    spread = np.sqrt(EQUILIBRIUM if start is None else start)
    initial = {"x": Noise("normal", (0.0, float(spread))), "y": 0.0}
    settings = {"recorder": Recorder(every=25), "optimizer": Optimizer()} | options
    run = Run(loss=loss, schedule=Schedule(rate), initial=initial, trajectories=1000, steps=steps, **settings)
    return replace(run, recorder=run.recorder.merge(requirements([find_law(id) for id in ids], run)))


def brute_force(rates: np.ndarray, a: float = 1.0, noise: float = 1.0, v0: float = EQUILIBRIUM) -> float:
    for rate in rates:
        v0 = (1 - rate * a) ** 2 * v0 + rate**2 * noise
    return v0


def total(rates: np.ndarray) -> float:
    return sum(a * brute_force(rates, a, v0=0.2 / (a * (2 - 0.2 * a))) / 2 for a in (2.0, 1.0, 0.5))


DESIGN = Design(curvature=1.0, noise=1.0, slope=0.02, peak=0.1, steps=600)
