"""diffrax on the reference job: SGD with additive noise is Euler-Maruyama with the step eta, of noise sqrt(eta)*sigma."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Any

import diffrax
import jax
import jax.numpy as jnp

from benchmarks.jobs import Job
from benchmarks.peers import Models, Simulate, State
from benchmarks.peers.jax_scan import gpu  # noqa: F401 - of this peer too


def river_valley(dtype: Any, job: Job, threads: int) -> Simulate:
    """One trajectory as one solves it, then `vmap`; the quickest Brownian path, which a fixed step allows."""
    a0, k, c2, sigma = (dtype(job.constants[name]) for name in ("a0", "k", "c2", "sigma"))
    rate = dtype(job.learning_rate)
    start = jnp.array([job.initial["x"], job.initial["y"]], dtype)

    def drift(t: Any, theta: Any, arguments: Any) -> Any:
        x, y = theta
        return -jnp.array([a0 * (1 + k * y * y) * x, c2 * y + a0 * k * y * x * x])

    def diffusion(t: Any, theta: Any, arguments: Any) -> Any:
        return jnp.array([jnp.sqrt(rate) * sigma, 0], dtype)

    def solve(key: Any) -> Any:
        path = diffrax.UnsafeBrownianPath(jax.ShapeDtypeStruct((), dtype), key)
        solution = diffrax.diffeqsolve(
            diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(diffusion, path)),
            diffrax.Euler(),
            t0=dtype(0),
            t1=rate * job.steps,
            dt0=None,
            y0=start,
            saveat=diffrax.SaveAt(t1=True),
            stepsize_controller=diffrax.StepTo(rate * jnp.arange(job.steps + 1, dtype=dtype)),
            max_steps=job.steps,
            adjoint=diffrax.ForwardMode(),
        )
        return solution.ys[0]

    run = jax.jit(lambda key: jax.vmap(solve)(jax.random.split(key, job.trajectories)).T)
    seeds = count()

    def simulate() -> State:
        x, y = jax.block_until_ready(run(jax.random.key(next(seeds))))
        return {"x": x, "y": y}

    return simulate


MODELS: Models = {
    "river_valley": {
        f"Euler, {dtype.__name__}": partial(river_valley, dtype) for dtype in (jnp.float64, jnp.float32)
    }
}
