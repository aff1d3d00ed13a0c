"""PyTorch, eager, vectorised over trajectories."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.jobs import Job
from benchmarks.peers import Models, Simulate, State


def river_valley(dtype: Any, job: Job, threads: int) -> Simulate:
    """The gradient by hand, without autograd."""
    torch.set_num_threads(threads)
    a0, k, c2, sigma = (job.constants[name] for name in ("a0", "k", "c2", "sigma"))
    generator = torch.Generator().manual_seed(1)

    def simulate() -> State:
        x = torch.full((job.trajectories,), job.initial["x"], dtype=dtype)
        y = torch.full((job.trajectories,), job.initial["y"], dtype=dtype)
        for _ in range(job.steps):
            xi = torch.randn(job.trajectories, generator=generator, dtype=dtype)
            gradient_x = a0 * (1 + k * y * y) * x + sigma * xi
            gradient_y = c2 * y + a0 * k * y * x * x
            x -= job.learning_rate * gradient_x
            y -= job.learning_rate * gradient_y
        return {"x": x.numpy(), "y": y.numpy()}

    return simulate


MODELS: Models = {
    "river_valley": {
        "float64": partial(river_valley, torch.float64),
        "float32": partial(river_valley, torch.float32),
    }
}
