"""JAX on the losses of the second table, float32: `jit` of a `lax.scan`; `vmap` of `grad`, or the gradient by hand."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.jobs import Job
from benchmarks.peers import Models, Simulate, State
from benchmarks.peers.gradients import GRADIENTS, Vectors, by_parameter, input_shape, start, vectors

DTYPE = jnp.float32


def rescaling(theta: Vectors, x: Any, e: Any, c: Vectors) -> Any:
    return (theta["u"] * theta["w"] * x - (c["slope"] * x + c["sigma"] * e)) ** 2 / 2


def linear_regression(theta: Vectors, x: Any, e: Any, c: Vectors) -> Any:
    return (jnp.dot(theta["w"] - c["teacher"], x) - c["sigma"] * e) ** 2 / 2


def diagonal_network(theta: Vectors, x: Any, e: Any, c: Vectors) -> Any:
    return (jnp.dot(theta["u"] * theta["w"] - c["teacher"], x) - c["sigma"] * e) ** 2 / 2


def logistic(theta: Vectors, x: Any, e: Any, c: Vectors) -> Any:
    y = jnp.sign(jnp.dot(c["teacher"], x) + c["sigma"] * e)
    return jax.nn.softplus(-y * jnp.dot(theta["w"], x))


def permutation(theta: Vectors, x: Any, e: Any, c: Vectors) -> Any:
    return (jnp.tanh(theta["u"] * x) + jnp.tanh(theta["w"] * x) - (c["mu"] + c["sigma"] * e)) ** 2 / 2


def relu_network(theta: Vectors, x: Any, e: Any, c: Vectors) -> Any:
    y = c["slope"] * jax.nn.relu(x) + c["sigma"] * e
    return (theta["a"] * jax.nn.relu(theta["w"] * x + theta["b"]) - y) ** 2 / 2


def by_hand(job: Job) -> Any:
    """The gradient of all trajectories, written out; the trajectory is last."""
    return partial(GRADIENTS[job.model], jnp)


def vmap_of_grad(job: Job) -> Any:
    """The gradient of all trajectories, from the loss of one sample; the trajectory is first."""
    return jax.vmap(jax.grad(LOSSES[job.model]), in_axes=(0, 0, 0, None))


def walk(make_gradient: Any, axis: int, job: Job, threads: int) -> Simulate:
    """One compiled function from the key to the final state; trajectories are along the axis."""
    gradient, constants = make_gradient(job), vectors(jnp, job.constants, DTYPE)
    rate, shape = DTYPE(job.learning_rate), input_shape(job)[:: 1 if axis else -1]

    def step(theta: Vectors, key: Any) -> Any:
        x_key, e_key = jax.random.split(key)
        x = jax.random.normal(x_key, shape, DTYPE)
        e = jax.random.normal(e_key, (job.trajectories,), DTYPE)
        return jax.tree.map(lambda value, slope: value - rate * slope, theta, gradient(theta, x, e, constants)), None

    def scan(key: Any) -> Any:
        theta = {name: jnp.moveaxis(value, -1, axis) for name, value in start(jnp, job, DTYPE).items()}
        return jax.lax.scan(step, theta, jax.random.split(key, job.steps))[0]

    run = jax.jit(scan)
    seeds = count()

    def simulate() -> State:
        theta = run(jax.random.key(next(seeds)))
        return by_parameter({name: np.moveaxis(np.asarray(value), axis, -1) for name, value in theta.items()}, job)

    return simulate


LOSSES = {
    function.__name__: function
    for function in (rescaling, linear_regression, diagonal_network, logistic, permutation, relu_network)
}
MODELS: Models = {
    model: {
        "vmap of grad, float32": partial(walk, vmap_of_grad, 0),
        "by hand, float32": partial(walk, by_hand, -1),
    }
    for model in LOSSES
}
