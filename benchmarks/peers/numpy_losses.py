"""NumPy on the losses of the second table, float64, vectorised over trajectories, the gradient by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.jobs import Job
from benchmarks.losses import ADAM, ROWS, SETTINGS, data
from benchmarks.peers import Models, Simulate, State
from benchmarks.peers.gradients import GRADIENTS, Vectors, by_parameter, start, vectors


def normals(job: Job, rng: np.random.Generator) -> Iterator[Vectors]:
    """Standard normals of each step."""
    shapes = SETTINGS[job.model].noise_shapes(job.trajectories)
    for _ in range(job.steps):
        yield {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def batches(job: Job, rng: np.random.Generator) -> Iterator[Vectors]:
    """Rows of each step, every trajectory in an order of its own."""
    x, y = data()
    x, size = x.T.copy(), SETTINGS[job.model].batch_size
    order = np.tile(np.arange(ROWS), (job.trajectories, 1))
    for _ in range(job.steps * size // ROWS):
        rng.permuted(order, axis=1, out=order)
        for rows in order.T.reshape(-1, size, job.trajectories):
            yield {"x": x[:, rows], "y": y[rows]}


def sgd(theta: Vectors, rate: float) -> Callable[[Vectors], None]:
    """Changes the parameters by a gradient."""

    def update(gradient: Vectors) -> None:
        for name, slope in gradient.items():
            theta[name] -= rate * slope

    return update


def adam(theta: Vectors, rate: float) -> Callable[[Vectors], None]:
    """Likewise, with two moments of the gradient."""
    beta1, beta2, epsilon = ADAM.values()
    mean = {name: np.zeros_like(value) for name, value in theta.items()}
    square = {name: np.zeros_like(value) for name, value in theta.items()}
    done = 0

    def update(gradient: Vectors) -> None:
        nonlocal done
        done += 1
        for name, slope in gradient.items():
            mean[name] += (1 - beta1) * (slope - mean[name])
            square[name] += (1 - beta2) * (slope * slope - square[name])
            size = np.sqrt(square[name] / (1 - beta2**done)) + epsilon
            theta[name] -= rate / (1 - beta1**done) * mean[name] / size

    return update


def walk(job: Job, threads: int) -> Simulate:
    """All trajectories at once, step by step."""
    setting = SETTINGS[job.model]
    gradient, constants = GRADIENTS[job.model], vectors(np, job.constants, np.float64)
    draw = batches if setting.batch_size else normals
    rng = np.random.default_rng(1)

    def simulate() -> State:
        theta = start(np, job, np.float64)
        update = {"sgd": sgd, "adam": adam}[setting.optimizer](theta, job.learning_rate)
        for noise in draw(job, rng):
            update(gradient(np, theta, constants, **noise))
        return by_parameter(theta, job)

    return simulate


MODELS: Models = {model: {"float64": walk} for model in GRADIENTS}
