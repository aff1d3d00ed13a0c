"""JAX: `jit` of a `lax.scan`; the gradient by hand, or by `vmap` of `grad`; threefry, its default generator, or rbg."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.jobs import Job
from benchmarks.peers import Models, Simulate, State, jax_losses

jax.config.update("jax_enable_x64", True)


def gpu() -> str:
    """Its name."""
    try:
        return str(jax.devices("gpu")[0].device_kind)
    except Exception as error:  # an AssertionError without a word, where this JAX was made for the CPU alone
        raise RuntimeError(f"JAX finds no GPU {error}".strip()) from None


def river_valley(dtype: Any, by_hand: bool, generator: str, job: Job, threads: int) -> Simulate:
    """One compiled function from the key to the final state."""
    constants = [dtype(job.constants[name]) for name in ("a0", "k", "c2", "sigma")]
    a0, k, c2, sigma = constants
    rate = dtype(job.learning_rate)

    def loss(theta: Any, xi: Any) -> Any:
        x, y = theta
        return c2 * y**2 / 2 + a0 * (1 + k * y**2) * x**2 / 2 + sigma * xi * x

    def gradient_by_hand(theta: Any, xi: Any) -> Any:
        x, y = theta
        return a0 * (1 + k * y * y) * x + sigma * xi, c2 * y + a0 * k * y * x * x

    gradient = gradient_by_hand if by_hand else jax.vmap(jax.grad(loss))

    def step(theta: Any, key: Any) -> Any:
        xi = jax.random.normal(key, (job.trajectories,), dtype)
        g = gradient(theta, xi)
        return (theta[0] - rate * g[0], theta[1] - rate * g[1]), None

    def scan(key: Any) -> Any:
        theta = tuple(jnp.full(job.trajectories, job.initial[name], dtype) for name in ("x", "y"))
        return jax.lax.scan(step, theta, jax.random.split(key, job.steps))[0]

    run = jax.jit(scan)
    seeds = count()

    def simulate() -> State:
        x, y = jax.block_until_ready(run(jax.random.key(next(seeds), impl=generator)))
        return {"x": x, "y": y}

    return simulate


MODELS: Models = {
    "river_valley": {
        f"{way}{note}, {dtype.__name__}": partial(river_valley, dtype, way == "by hand", generator)
        for way, note, generator in (
            ("by hand", "", "threefry2x32"),
            ("by hand", " with rbg", "rbg"),
            ("vmap of grad", "", "threefry2x32"),
        )
        for dtype in (jnp.float64, jnp.float32)
    },
    **jax_losses.MODELS,
}
