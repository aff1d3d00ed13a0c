"""JAX on the losses of the second table: `jit` of a `lax.scan`; `vmap` of `grad`, or the gradient by hand."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.jobs import Job
from benchmarks.losses import ADAM, LINEAR_NETWORKS, ROWS, SETTINGS, data
from benchmarks.peers import Models, Simulate, State
from benchmarks.peers.gradients import GRADIENTS, Vectors, by_parameter, start, vectors


def rescaling(theta: Vectors, c: Vectors, x: Any, e: Any) -> Any:
    return (theta["u"] * theta["w"] * x - (c["slope"] * x + c["sigma"] * e)) ** 2 / 2


def linear_regression(theta: Vectors, c: Vectors, x: Any, e: Any) -> Any:
    return (jnp.dot(theta["w"] - c["teacher"], x) - c["sigma"] * e) ** 2 / 2


def diagonal_network(theta: Vectors, c: Vectors, x: Any, e: Any) -> Any:
    return (jnp.dot(theta["u"] * theta["w"] - c["teacher"], x) - c["sigma"] * e) ** 2 / 2


def two_layer_network(theta: Vectors, c: Vectors, x: Any, e: Any) -> Any:
    u, w = theta["u"].reshape(4, 4), theta["w"].reshape(4, 4)
    return jnp.sum((w @ (u @ x) - (c["teacher"] * x + c["sigma"] * e)) ** 2) / 2


def deep_linear_network(theta: Vectors, c: Vectors, x: Any, e: Any) -> Any:
    return jnp.sum((theta["W3"] @ (theta["W2"] @ (theta["W1"] @ x)) - x - c["sigma"] * e) ** 2) / 2


def tanh_network(theta: Vectors, c: Vectors, x: Any, e: Any) -> Any:
    return ((theta["W2"] @ jnp.tanh(theta["W1"] @ x))[0] - jnp.dot(c["teacher"], x) - c["sigma"] * e) ** 2 / 2


def tanh_network_batch(theta: Vectors, c: Vectors, x: Any, e: Any) -> Any:
    """The mean over a batch: inputs (sample, coordinate)."""
    return jnp.mean(jax.vmap(tanh_network, in_axes=(None, None, 0, 0))(theta, c, x, e))


def linear_network(theta: Vectors, c: Vectors, x: Any, e: Any) -> Any:
    return jnp.sum((theta["W2"] @ (theta["W1"] @ x) - x - c["sigma"] * e) ** 2) / 2


def adam_river_valley(theta: Vectors, c: Vectors, xi: Any) -> Any:
    x, y = theta["x"], theta["y"]
    return c["c2"] * y**2 / 2 + c["a0"] * (1 + c["k"] * y**2) * x**2 / 2 + c["sigma"] * xi * x


def minibatches(theta: Vectors, c: Vectors, x: Any, y: Any) -> Any:
    """The mean over a batch: inputs (row, coordinate), labels (row,)."""
    return jnp.mean((x @ theta["w"] - y) ** 2) / 2


def logistic(theta: Vectors, c: Vectors, x: Any, e: Any) -> Any:
    y = jnp.sign(jnp.dot(c["teacher"], x) + c["sigma"] * e)
    return jax.nn.softplus(-y * jnp.dot(theta["w"], x))


def permutation(theta: Vectors, c: Vectors, x: Any, e: Any) -> Any:
    return (jnp.tanh(theta["u"] * x) + jnp.tanh(theta["w"] * x) - (c["mu"] + c["sigma"] * e)) ** 2 / 2


def relu_network(theta: Vectors, c: Vectors, x: Any, e: Any) -> Any:
    y = c["slope"] * jax.nn.relu(x) + c["sigma"] * e
    return (theta["a"] * jax.nn.relu(theta["w"] * x + theta["b"]) - y) ** 2 / 2


LOSSES = {
    function.__name__: function
    for function in (
        rescaling,
        linear_regression,
        diagonal_network,
        two_layer_network,
        deep_linear_network,
        tanh_network,
        tanh_network_batch,
        adam_river_valley,
        minibatches,
        logistic,
        permutation,
        relu_network,
    )
} | dict.fromkeys(LINEAR_NETWORKS, linear_network)


def by_hand(model: str) -> Any:
    """The gradient of all trajectories, written out; the trajectory is last but for minibatches."""
    return minibatches_by_hand if model == "minibatches" else partial(GRADIENTS[model], jnp)


def minibatches_by_hand(theta: Vectors, c: Vectors, x: Any, y: Any) -> Vectors:
    """Trajectory first: with it last, XLA gathers the rows twice and takes more than twice as long."""
    error = jnp.einsum("nbi,ni->nb", x, theta["w"]) - y
    return {"w": jnp.einsum("nb,nbi->ni", error, x) / y.shape[1]}


def vmap_of_grad(model: str) -> Any:
    """The gradient of all trajectories, from the loss of one sample; the trajectory is first."""
    return jax.vmap(jax.grad(LOSSES[model]), in_axes=(0, None))


def sgd(rate: Any, theta: Vectors, state: Any, gradient: Vectors) -> Any:
    return jax.tree.map(lambda value, slope: value - rate * slope, theta, gradient), state


def adam(rate: Any, theta: Vectors, state: Any, gradient: Vectors) -> Any:
    beta1, beta2, epsilon = ADAM.values()
    mean, square, done = state
    done = done + 1
    mean = jax.tree.map(lambda m, slope: beta1 * m + (1 - beta1) * slope, mean, gradient)
    square = jax.tree.map(lambda s, slope: beta2 * s + (1 - beta2) * slope**2, square, gradient)
    first, second = 1 - beta1**done, 1 - beta2**done
    theta = jax.tree.map(
        lambda value, m, s: value - rate * (m / first) / (jnp.sqrt(s / second) + epsilon), theta, mean, square
    )
    return theta, (mean, square, done)


def walk(make_gradient: Any, axis: int, generator: str, dtype: Any, job: Job, threads: int) -> Simulate:
    """One compiled function from the key to the final state; trajectories are along the axis."""
    setting = SETTINGS[job.model]
    gradient, constants = make_gradient(job.model), vectors(jnp, job.constants, dtype)
    optimizer = partial({"sgd": sgd, "adam": adam}[setting.optimizer], dtype(job.learning_rate))
    shapes = {name: shape[:: 1 if axis else -1] for name, shape in setting.noise_shapes(job.trajectories).items()}
    inputs, labels = (jnp.asarray(array, dtype) for array in data())

    def step(carry: Any, noise: Vectors) -> Any:
        theta, state = carry
        return optimizer(theta, state, gradient(theta, constants, **noise)), None

    def draw_and_step(carry: Any, key: Any) -> Any:
        keys = dict(zip(shapes, jax.random.split(key, max(len(shapes), 1)), strict=False))
        return step(carry, {name: jax.random.normal(keys[name], shape, dtype) for name, shape in shapes.items()})

    def batch_step(carry: Any, rows: Any) -> Any:
        return step(carry, {"x": inputs[rows], "y": labels[rows]})

    def epoch(carry: Any, key: Any) -> Any:
        # As `argsort` of uniform numbers: half the time of `jax.random.permutation` along an axis, which sorts twice.
        each = jax.lax.broadcasted_iota(jnp.int32, (job.trajectories, ROWS), 1)
        order = jax.lax.sort_key_val(jax.random.uniform(key, each.shape, jnp.float32), each)[1]
        return jax.lax.scan(batch_step, carry, order.reshape(job.trajectories, -1, setting.batch_size).swapaxes(0, 1))

    def scan(key: Any) -> Any:
        theta = {name: jnp.moveaxis(value, -1, axis) for name, value in start(jnp, job, dtype).items()}
        zeros = jax.tree.map(jnp.zeros_like, theta)
        carry = theta, ((zeros, zeros, jnp.zeros((), dtype)) if setting.optimizer == "adam" else ())
        if setting.batch_size:
            keys = jax.random.split(key, job.steps * setting.batch_size // ROWS)
            return jax.lax.scan(epoch, carry, keys)[0][0]
        return jax.lax.scan(draw_and_step, carry, jax.random.split(key, job.steps))[0][0]

    run = jax.jit(scan)
    seeds = count()

    def simulate() -> State:
        theta = jax.block_until_ready(run(jax.random.key(next(seeds), impl=generator)))
        return by_parameter({name: jnp.moveaxis(value, axis, -1) for name, value in theta.items()}, job)

    return simulate


MODELS: Models = {
    model: {
        f"{name}, {dtype.__name__}": partial(walk, make_gradient, axis, generator, dtype)
        for name, make_gradient, axis, generator in (
            ("vmap of grad", vmap_of_grad, 0, "threefry2x32"),
            ("by hand", by_hand, 0 if model == "minibatches" else -1, "threefry2x32"),
            ("by hand with rbg", by_hand, 0 if model == "minibatches" else -1, "rbg"),
        )
        for dtype in (jnp.float32, jnp.float64)
    }
    for model in LOSSES
}
