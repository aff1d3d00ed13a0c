"""Valleys, and a plain simulation of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from sgdsim.ensemble import Ensemble
from sgdsim.model import rare_events
from sgdsim.model.loss import Loss
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.theory import AUTOMATIC, find_law, requirements
from tests.statistics.test_estimators import synthetic

LAWS = {id: find_law(id) for id in AUTOMATIC[:5]}
"""Laws of valleys under SGD; of other optimizers in test_theory_optimizers, of charges in test_theory_nt_laws."""


CURVATURES = (0.3, 1.0, 2.2)


TRAJECTORIES = 64 * 256


def walls(curvatures: Sequence[float] = CURVATURES, noise: str = "normal", sigma: float = 1.0) -> Loss:
    """Walls of fixed curvature, no river."""
    return river_valley(a=[repr(a) for a in curvatures], c="0", noise=noise, constants={"sigma": sigma})


def make_run(loss: Loss, rate: float | str = 0.5, steps: int = 24, **options: object) -> Run:
    """A run from 1 that records what every law wants."""
    settings = {"optimizer": Optimizer(), "recorder": Recorder(every=6), "trajectories": TRAJECTORIES} | options
    initial = dict.fromkeys(loss.parameters, 1.0) | dict(settings.pop("initial", {}))  # type: ignore[call-overload]
    run = Run(loss=loss, schedule=Schedule(str(rate)), initial=initial, steps=steps, **settings)  # type: ignore[arg-type]
    return recording(run)


def recording(run: Run) -> Run:
    return replace(run, recorder=run.recorder.merge(requirements(LAWS.values(), run)))


DRAWS: Mapping[str, Callable[..., np.ndarray]] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "laplace": lambda rng, size: rng.laplace(size=size),
    "uniform": lambda rng, size: rng.uniform(-1, 1, size=size),
}


def simulate(run: Run, curvatures: Sequence[float] = CURVATURES, seed: int = 1) -> Ensemble:
    """SGD in independent quadratic walls, by a loop that any reader believes."""
    rng = np.random.default_rng(seed)
    n, dimension = run.trajectories, len(curvatures)
    draw = DRAWS[run.loss.noise["xi[0]"].family]
    sigma, decay = run.loss.constants["sigma"], run.optimizer.values["weight_decay"]
    x = np.ones((n, dimension))
    averages = np.zeros((n, dimension))
    records, snapshots = [], {}
    for step in range(run.steps + 1):
        if step in run.recorder.record_steps(run.steps):
            named = {f"x[{i}]": x[:, i].copy() for i in range(dimension)}
            named |= {f"fast_loss_x_{i}": a * x[:, i] ** 2 / 2 for i, a in enumerate(curvatures)}
            named |= {f"time_average_x_{i}": averages[:, i] * 2 / run.steps for i in range(dimension)}
            records.append(named)
        if step in run.recorder.snapshots:
            snapshots[step] = {f"x[{i}]": x[:, i].copy() for i in range(dimension)}
        if step < run.steps:
            noise = draw(rng, (run.optimizer.batch_size, n, dimension)).mean(axis=0)
            rate = run.schedule.rates(run.steps)[step]
            x = x - rate * (np.array(curvatures) * x + sigma * noise + decay * x)
            if step + 1 > run.steps // 2:
                averages += x
    steps, known = run.recorder.record_steps(run.steps).tolist(), rare_events.attributes([run])
    return synthetic(records, steps, snapshots, lanes=64, attributes=known)
