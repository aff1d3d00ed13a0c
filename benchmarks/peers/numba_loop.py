"""numba as one writes it first: a loop over trajectories, a loop over steps, `np.random` inside."""

from __future__ import annotations

from functools import partial
from typing import Any

import numba
import numpy as np

from benchmarks.jobs import Job
from benchmarks.losses import ADAM, SETTINGS, data
from benchmarks.peers import Models, Simulate, State
from sgdsim.formulas.arrays import is_array
from sgdsim.formulas.vectors import gather

# ruff: noqa: NPY002 - the generator that numba knows in all versions
# mypy: disable-error-code="no-untyped-def"


def river_valley(theta, steps, rate, a0, k, c2, sigma):
    for i in numba.prange(len(theta)):
        x, y = theta[i]
        for _ in range(steps):
            xi = np.random.standard_normal()
            gradient_x = a0 * (1 + k * y * y) * x + sigma * xi
            gradient_y = c2 * y + a0 * k * y * x * x
            x -= rate * gradient_x
            y -= rate * gradient_y
        theta[i, 0], theta[i, 1] = x, y


def adam_river_valley(theta, steps, rate, a0, k, c2, sigma, beta1, beta2, epsilon):
    for i in numba.prange(len(theta)):
        mean, square, gradient = np.zeros(2), np.zeros(2), np.empty(2)
        for step in range(steps):
            x, y = theta[i]
            gradient[0] = a0 * (1 + k * y * y) * x + sigma * np.random.standard_normal()
            gradient[1] = c2 * y + a0 * k * y * x * x
            for j in range(2):
                mean[j] = beta1 * mean[j] + (1 - beta1) * gradient[j]
                square[j] = beta2 * square[j] + (1 - beta2) * gradient[j] ** 2
                first, second = mean[j] / (1 - beta1 ** (step + 1)), square[j] / (1 - beta2 ** (step + 1))
                theta[i, j] -= rate * first / (np.sqrt(second) + epsilon)


def minibatches(theta, steps, rate, x, y, batch_size):
    for i in numba.prange(len(theta)):
        order, gradient = np.arange(len(y)), np.empty(theta.shape[1])
        place = len(y)
        for _ in range(steps):
            if place == len(y):
                np.random.shuffle(order)
                place = 0
            gradient[:] = 0
            for row in order[place : place + batch_size]:
                error = -y[row]
                for j in range(theta.shape[1]):
                    error += theta[i, j] * x[row, j]
                for j in range(theta.shape[1]):
                    gradient[j] += error * x[row, j] / batch_size
            place += batch_size
            for j in range(theta.shape[1]):
                theta[i, j] -= rate * gradient[j]


def two_layer_network(theta, steps, rate, teacher, sigma):
    n = len(teacher)
    for i in numba.prange(len(theta)):
        u, w = theta[i, : n * n].reshape(n, n), theta[i, n * n :].reshape(n, n)
        x, hidden, error, back = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
        for _ in range(steps):
            for j in range(n):
                x[j] = np.random.standard_normal()
            for j in range(n):
                hidden[j] = 0.0
                for m in range(n):
                    hidden[j] += u[j, m] * x[m]
            for j in range(n):
                error[j] = -teacher[j] * x[j] - sigma * np.random.standard_normal()
                for m in range(n):
                    error[j] += w[j, m] * hidden[m]
            for j in range(n):
                back[j] = 0.0
                for m in range(n):
                    back[j] += w[m, j] * error[m]
            for j in range(n):
                for m in range(n):
                    w[j, m] -= rate * error[j] * hidden[m]
                    u[j, m] -= rate * back[j] * x[m]


def prepare(loop: Any, arguments: Any, job: Job, threads: int) -> Simulate:
    """In parallel over trajectories when there are threads."""
    walk = numba.njit(parallel=threads > 1)(loop)
    numbers = arguments(job)

    def simulate() -> State:
        theta = np.tile(np.array(list(job.initial.values()), np.float64), (job.trajectories, 1))
        walk(theta, job.steps, job.learning_rate, *numbers)
        return dict(zip(job.initial, theta.T, strict=True))

    return simulate


def _constants(job: Job) -> list[Any]:
    return [value.astype(np.float64) if is_array(value) else value for value in gather(job.constants).values()]


ARGUMENTS = {
    river_valley: _constants,
    adam_river_valley: lambda job: [*_constants(job), *ADAM.values()],
    minibatches: lambda job: [*data(), SETTINGS[job.model].batch_size],
    two_layer_network: _constants,
}
MODELS: Models = {
    loop.__name__: {"float64": partial(prepare, loop, arguments)} for loop, arguments in ARGUMENTS.items()
}
