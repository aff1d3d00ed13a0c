"""NumPy on the losses of the second table, float64, vectorised over trajectories, the gradient by hand."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.jobs import Job
from benchmarks.peers import Models, Simulate, State
from benchmarks.peers.gradients import GRADIENTS, by_parameter, input_shape, start, vectors


def walk(job: Job, threads: int) -> Simulate:
    """All trajectories at once, step by step."""
    gradient = partial(GRADIENTS[job.model], np)
    constants = vectors(np, job.constants, np.float64)
    rng = np.random.default_rng(1)

    def simulate() -> State:
        theta = start(np, job, np.float64)
        for _ in range(job.steps):
            x, e = rng.standard_normal(input_shape(job)), rng.standard_normal(job.trajectories)
            for name, slope in gradient(theta, x, e, constants).items():
                theta[name] -= job.learning_rate * slope
        return by_parameter(theta, job)

    return simulate


MODELS: Models = {model: {"float64": walk} for model in GRADIENTS}
