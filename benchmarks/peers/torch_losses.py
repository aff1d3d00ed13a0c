"""PyTorch on the losses of the second table: eager, vectorised over trajectories, the gradient by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.jobs import Job
from benchmarks.losses import ADAM, ROWS, SETTINGS, data
from benchmarks.peers import Models, Simulate, State
from benchmarks.peers.gradients import GRADIENTS, Vectors, by_parameter, start, vectors


def normals(job: Job, dtype: Any, device: str, generator: Any) -> Iterator[Vectors]:
    """Standard normals of each step."""
    shapes = SETTINGS[job.model].noise_shapes(job.trajectories)
    for _ in range(job.steps):
        yield {
            name: torch.randn(shape, generator=generator, dtype=dtype, device=device) for name, shape in shapes.items()
        }


def batches(job: Job, dtype: Any, device: str, generator: Any) -> Iterator[Vectors]:
    """Rows of each step, every trajectory in an order of its own."""
    x, y = (torch.asarray(array, dtype=dtype, device=device) for array in data())
    x, size = x.T.contiguous(), SETTINGS[job.model].batch_size
    for _ in range(job.steps * size // ROWS):
        order = torch.rand(job.trajectories, ROWS, generator=generator, device=device).argsort(dim=1)
        for rows in order.T.reshape(-1, size, job.trajectories):
            yield {"x": x[:, rows], "y": y[rows]}


def sgd(theta: Vectors, rate: float) -> Callable[[Vectors], None]:
    """Changes the parameters by a gradient."""

    def update(gradient: Vectors) -> None:
        for name, slope in gradient.items():
            theta[name] -= rate * slope

    return update


def adam(theta: Vectors, rate: float) -> Callable[[Vectors], None]:
    """Likewise by PyTorch's own optimizer, which acts on each coordinate alone."""
    optimizer = torch.optim.Adam(theta.values(), rate, (ADAM["beta1"], ADAM["beta2"]), ADAM["epsilon"])

    def update(gradient: Vectors) -> None:
        for name, slope in gradient.items():
            theta[name].grad = slope
        optimizer.step()

    return update


def walk(dtype: Any, device: str, job: Job, threads: int) -> Simulate:
    """All trajectories at once, step by step."""
    torch.set_num_threads(threads)
    setting = SETTINGS[job.model]
    gradient = GRADIENTS[job.model]
    constants = {
        name: value.to(device) if torch.is_tensor(value) else value
        for name, value in vectors(torch, job.constants, dtype).items()
    }
    draw = batches if setting.batch_size else normals
    generator = torch.Generator(device).manual_seed(1)

    def simulate() -> State:
        theta = {name: value.to(device) for name, value in start(torch, job, dtype).items()}
        update = {"sgd": sgd, "adam": adam}[setting.optimizer](theta, job.learning_rate)
        for noise in draw(job, dtype, device, generator):
            update(gradient(torch, theta, constants, **noise))
        if device == "cuda":
            torch.cuda.synchronize()
        return by_parameter(theta, job)

    return simulate


def models(device: str) -> Models:
    """On a device."""
    return {
        model: {f"by hand, {name}": partial(walk, dtype, device) for name, dtype in DTYPES.items()}
        for model in GRADIENTS
    }


DTYPES = {"float32": torch.float32, "float64": torch.float64}
