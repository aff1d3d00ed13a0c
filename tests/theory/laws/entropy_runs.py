"""A valley whose entropy is asked for."""

from __future__ import annotations

from dataclasses import replace

from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import Prediction
from sgdsim.theory import find_law


def noisy_valley(optimizer: str = "sgd", rate: float = 0.3, sigma: float = 1.0, start: str = "normal:0,1") -> Run:
    loss = Loss("a*x**2/2 + s*z*x", ("x",), {"a": 1.0, "s": sigma}, {"z": Noise.parse("normal")})
    return Run(loss, Optimizer(optimizer), Schedule(repr(rate)), {"x": Noise.parse(start)}, 1000, 200)


def rows_of(id: str, *runs: Run) -> list[Prediction]:
    recorded = [replace(run, recorder=run.recorder.merge(find_law(id).requirements(run))) for run in runs]
    return find_law(id).predictions(recorded)
