"""PyTorch on the losses of the second table: eager, all trajectories at once; networks by `vmap` of `grad` too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.jobs import Job
from benchmarks.losses import ADAM, LINEAR_NETWORKS, ROWS, SETTINGS, data
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


def deep_linear_network(theta: Vectors, c: Vectors, x: Any, e: Any) -> Any:
    return torch.sum((theta["W3"] @ (theta["W2"] @ (theta["W1"] @ x)) - x - c["sigma"] * e) ** 2) / 2


def tanh_network(theta: Vectors, c: Vectors, x: Any, e: Any) -> Any:
    """Loss of the tanh network for one sample, or its mean over a batch, inputs (coordinate, sample)."""
    out = (theta["W2"] @ torch.tanh(theta["W1"] @ x))[0]
    return torch.mean((out - c["teacher"] @ x - c["sigma"] * e) ** 2) / 2


def linear_network(theta: Vectors, c: Vectors, x: Any, e: Any) -> Any:
    return torch.sum((theta["W2"] @ (theta["W1"] @ x) - x - c["sigma"] * e) ** 2) / 2


NETWORKS = {
    "deep_linear_network": deep_linear_network,
    "tanh_network": tanh_network,
    "tanh_network_batch": tanh_network,
    **dict.fromkeys(LINEAR_NETWORKS, linear_network),
}
"""The loss of one trajectory by its model."""


def by_hand(model: str) -> Callable[..., Vectors]:
    """The gradient of all trajectories, written out."""
    return partial(GRADIENTS[model], torch)


def vmap_of_grad(model: str) -> Callable[..., Vectors]:
    """Gradient of all trajectories by vmap from the loss of one; the trajectory is the last axis."""
    each = torch.func.vmap(torch.func.grad(NETWORKS[model]), in_dims=(-1, None, -1, -1), out_dims=-1)

    def gradient(theta: Vectors, c: Vectors, x: Any, e: Any) -> Vectors:
        found: Vectors = each(theta, c, x, e)
        return found

    return gradient


def walk(make_gradient: Any, dtype: Any, device: str, job: Job, threads: int) -> Simulate:
    """All trajectories at once, step by step."""
    torch.set_num_threads(threads)
    setting = SETTINGS[job.model]
    gradient = make_gradient(job.model)
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
            update(gradient(theta, constants, **noise))
        if device == "cuda":
            torch.cuda.synchronize()
        return by_parameter(theta, job)

    return simulate


def models(device: str) -> Models:
    """On a device."""
    return {
        model: {
            f"{how}, {name}": partial(walk, make_gradient, dtype, device)
            for how, make_gradient in (("by hand", by_hand), ("vmap of grad", vmap_of_grad))
            for name, dtype in DTYPES.items()
            if how == "by hand" or model in NETWORKS
        }
        for model in GRADIENTS
    }


DTYPES = {"float32": torch.float32, "float64": torch.float64}
