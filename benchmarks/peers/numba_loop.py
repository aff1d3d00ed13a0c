"""numba as one writes it first: a loop over trajectories, a loop over steps, `np.random` inside."""

from __future__ import annotations

import numba
import numpy as np

from benchmarks.jobs import Job
from benchmarks.peers import Models, Simulate, State


def _walk(x, y, steps, learning_rate, a0, k, c2, sigma):  # type: ignore[no-untyped-def]
    for i in numba.prange(len(x)):
        for _ in range(steps):
            xi = np.random.standard_normal()  # noqa: NPY002 - all that numba knows
            gradient_x = a0 * (1 + k * y[i] * y[i]) * x[i] + sigma * xi
            gradient_y = c2 * y[i] + a0 * k * y[i] * x[i] * x[i]
            x[i] -= learning_rate * gradient_x
            y[i] -= learning_rate * gradient_y


def river_valley(job: Job, threads: int) -> Simulate:
    """The gradient by hand, in parallel over trajectories when there are threads."""
    walk = numba.njit(parallel=threads > 1)(_walk)
    constants = [job.constants[name] for name in ("a0", "k", "c2", "sigma")]

    def simulate() -> State:
        x = np.full(job.trajectories, job.initial["x"])
        y = np.full(job.trajectories, job.initial["y"])
        walk(x, y, job.steps, job.learning_rate, *constants)
        return {"x": x, "y": y}

    return simulate


MODELS: Models = {"river_valley": {"float64": river_valley}}
