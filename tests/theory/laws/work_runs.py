"""Valleys whose work and heat are recorded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.theory import find_law


def make_run(
    id: str, rate: str = "0.2", steps: int = 40, x: float | Noise = 0.0, noise: str = "normal", **options
) -> Run:
    loss = river_valley(a="a0", c="0", noise=noise, constants={"a0": 1.0, "sigma": 1.0})
    run = Run(loss, Optimizer(), Schedule(rate), {"x": x, "y": 0.0}, 1000, steps, **options)
    return replace(run, recorder=run.recorder.merge(find_law(id).requirements(run)))


def rest(rate: float) -> float:
    return rate / (2.0 - rate)


def normal(variance: float, mean: float = 0.0) -> Noise:
    return Noise("normal", (mean, float(np.sqrt(variance))))
