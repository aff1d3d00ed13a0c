"""PyTorch, vectorised over trajectories: eager, and through its compiler where that has a compiler of C++."""

from __future__ import annotations

import shutil
from functools import partial
from typing import Any

import torch

from benchmarks.jobs import Job
from benchmarks.peers import Models, Simulate, State, torch_losses

COMPILES = any(map(shutil.which, ("c++", "g++", "clang++")))


def river_valley(dtype: Any, device: str, compiled: bool, job: Job, threads: int) -> Simulate:
    """The gradient by hand, without autograd."""
    torch.set_num_threads(threads)
    a0, k, c2, sigma = (job.constants[name] for name in ("a0", "k", "c2", "sigma"))
    generator = torch.Generator(device).manual_seed(1)

    def step(x: Any, y: Any, xi: Any) -> tuple[Any, Any]:
        gradient_x = a0 * (1 + k * y * y) * x + sigma * xi
        gradient_y = c2 * y + a0 * k * y * x * x
        return x - job.learning_rate * gradient_x, y - job.learning_rate * gradient_y

    if compiled:
        step = torch.compile(step)

    def simulate() -> State:
        x = torch.full((job.trajectories,), job.initial["x"], dtype=dtype, device=device)
        y = torch.full((job.trajectories,), job.initial["y"], dtype=dtype, device=device)
        for _ in range(job.steps):
            xi = torch.randn(job.trajectories, generator=generator, dtype=dtype, device=device)
            x, y = step(x, y, xi)
        if device == "cuda":
            torch.cuda.synchronize()
        return {"x": x, "y": y}

    return simulate


def models(device: str) -> Models:
    """On a device."""
    by_hand = {
        f"by hand{', compiled' if compiled else ''}, {name}": partial(river_valley, dtype, device, compiled)
        for compiled in ((False, True) if COMPILES else (False,))
        for name, dtype in torch_losses.DTYPES.items()
    }
    return {"river_valley": by_hand, **torch_losses.models(device)}


MODELS: Models = models("cpu")
