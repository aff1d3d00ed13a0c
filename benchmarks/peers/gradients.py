"""Gradients by hand, all trajectories at once: arrays with the trajectory last, of NumPy or of JAX.

Each takes the library ``xp``, the parameters, the input x and the label noise e, and the constants, all but the library
by name; it returns the gradient of each parameter.
"""

from __future__ import annotations

from typing import Any

from benchmarks.jobs import Job
from sgdsim.vectors import gather

Vectors = dict[str, Any]


def rescaling(xp: Any, theta: Vectors, x: Any, e: Any, c: Vectors) -> Vectors:
    u, w = theta["u"], theta["w"]
    slope = (u * w * x - (c["slope"] * x + c["sigma"] * e)) * x
    return {"u": slope * w, "w": slope * u}


def linear_regression(xp: Any, theta: Vectors, x: Any, e: Any, c: Vectors) -> Vectors:
    error = xp.sum((theta["w"] - c["teacher"][:, None]) * x, axis=0) - c["sigma"] * e
    return {"w": error * x}


def diagonal_network(xp: Any, theta: Vectors, x: Any, e: Any, c: Vectors) -> Vectors:
    u, w = theta["u"], theta["w"]
    error = xp.sum((u * w - c["teacher"][:, None]) * x, axis=0) - c["sigma"] * e
    slope = error * x
    return {"u": slope * w, "w": slope * u}


def logistic(xp: Any, theta: Vectors, x: Any, e: Any, c: Vectors) -> Vectors:
    y = xp.sign(c["teacher"] @ x + c["sigma"] * e)
    margin = y * xp.sum(theta["w"] * x, axis=0)
    return {"w": -y / (1 + xp.exp(margin)) * x}


def permutation(xp: Any, theta: Vectors, x: Any, e: Any, c: Vectors) -> Vectors:
    a, b = xp.tanh(theta["u"] * x), xp.tanh(theta["w"] * x)
    slope = (a + b - (c["mu"] + c["sigma"] * e)) * x
    return {"u": slope * (1 - a * a), "w": slope * (1 - b * b)}


def relu_network(xp: Any, theta: Vectors, x: Any, e: Any, c: Vectors) -> Vectors:
    inside = theta["w"] * x + theta["b"]
    out = xp.maximum(inside, 0)
    error = theta["a"] * out - (c["slope"] * xp.maximum(x, 0) + c["sigma"] * e)
    slope = xp.where(inside > 0, error * theta["a"], 0)
    return {"a": error * out, "w": slope * x, "b": slope}


GRADIENTS = {
    function.__name__: function
    for function in (rescaling, linear_regression, diagonal_network, logistic, permutation, relu_network)
}


def vectors(xp: Any, values: Any, dtype: Any) -> Vectors:
    """Numbers by name, those of a vector as one array."""
    return {
        name: xp.asarray(value, dtype) if isinstance(value, list) else value for name, value in gather(values).items()
    }


def start(xp: Any, job: Job, dtype: Any) -> Vectors:
    """The parameters of all trajectories."""
    values = {name: xp.asarray(value, dtype)[..., None] for name, value in gather(job.initial).items()}
    return {name: xp.tile(value, job.trajectories) for name, value in values.items()}


def input_shape(job: Job) -> tuple[int, ...]:
    """Of x, trajectory last."""
    inputs = sum(name.startswith("teacher") for name in job.constants)
    return (inputs, job.trajectories) if inputs else (job.trajectories,)


def by_parameter(theta: Vectors, job: Job) -> Vectors:
    """The coordinates of all vectors one by one, as the job names them."""
    arrays = [theta[name] for name in gather(job.initial)]
    rows = [row for array in arrays for row in (array if array.ndim > 1 else [array])]
    return dict(zip(job.initial, rows, strict=True))
