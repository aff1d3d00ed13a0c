"""NumPy, vectorised over trajectories."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.jobs import Job
from benchmarks.peers import Models, Simulate, State, numpy_losses


def river_valley(dtype: type, job: Job, threads: int) -> Simulate:
    """The gradient by hand, all trajectories at once."""
    a0, k, c2, sigma = (job.constants[name] for name in ("a0", "k", "c2", "sigma"))
    rng = np.random.default_rng(1)

    def simulate() -> State:
        x: np.ndarray = np.full(job.trajectories, job.initial["x"], dtype)
        y: np.ndarray = np.full(job.trajectories, job.initial["y"], dtype)
        for _ in range(job.steps):
            xi = rng.standard_normal(job.trajectories, dtype)
            gradient_x = a0 * (1 + k * y * y) * x + sigma * xi
            gradient_y = c2 * y + a0 * k * y * x * x
            x -= job.learning_rate * gradient_x
            y -= job.learning_rate * gradient_y
        return {"x": x, "y": y}

    return simulate


MODELS: Models = {
    "river_valley": {
        "float64": partial(river_valley, np.float64),
        "float32": partial(river_valley, np.float32),
    },
    **numpy_losses.MODELS,
}
