"""diffrax on the reference job: with additive noise SGD is Euler-Maruyama of step eta and diffusion sqrt(eta)*sigma."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import lineax

from benchmarks.jobs import Job
from benchmarks.peers import Models, Simulate, State
from benchmarks.peers.jax_scan import gpu  # noqa: F401 - of this peer too


def river_valley(dtype: Any, job: Job, threads: int) -> Simulate:
    """All trajectories as one equation, and the quickest Brownian path, which fixed steps allow.

    `vmap` of the equation of one trajectory took four times as long.
    """
    a0, k, c2, sigma = (dtype(job.constants[name]) for name in ("a0", "k", "c2", "sigma"))
    rate = dtype(job.learning_rate)
    each = jax.ShapeDtypeStruct((job.trajectories,), dtype)
    steps = rate * jnp.arange(job.steps + 1, dtype=dtype)

    def drift(t: Any, theta: Any, arguments: Any) -> Any:
        x, y = theta
        return -a0 * (1 + k * y * y) * x, -(c2 * y + a0 * k * y * x * x)

    def diffusion(t: Any, theta: Any, arguments: Any) -> Any:
        """On x alone."""
        return lineax.FunctionLinearOperator(lambda dw: (jnp.sqrt(rate) * sigma * dw, jnp.zeros_like(dw)), each)

    @jax.jit
    def run(key: Any) -> Any:
        path = diffrax.UnsafeBrownianPath(each, key)
        solution = diffrax.diffeqsolve(
            diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(diffusion, path)),
            diffrax.Euler(),
            t0=steps[0],
            t1=steps[-1],
            dt0=None,
            y0=tuple(jnp.full(each.shape, job.initial[name], dtype) for name in ("x", "y")),
            saveat=diffrax.SaveAt(t1=True),
            stepsize_controller=diffrax.StepTo(steps),
            max_steps=job.steps,
            adjoint=diffrax.ForwardMode(),
        )
        return solution.ys

    seeds = count()

    def simulate() -> State:
        x, y = jax.block_until_ready(run(jax.random.key(next(seeds))))
        return {"x": x[-1], "y": y[-1]}

    return simulate


MODELS: Models = {
    "river_valley": {f"Euler, {dtype.__name__}": partial(river_valley, dtype) for dtype in (jnp.float64, jnp.float32)}
}
