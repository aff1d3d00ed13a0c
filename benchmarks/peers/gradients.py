"""Gradients by hand, all trajectories at once: arrays with the trajectory last, of NumPy, JAX or PyTorch.

Each takes the library ``xp``, the parameters and the constants by name, and the noise of the step; it returns the
gradient of each parameter.
"""

from __future__ import annotations

from typing import Any

from benchmarks.jobs import Job
from benchmarks.losses import LINEAR_NETWORKS
from sgdsim.formulas.arrays import is_array
from sgdsim.formulas.vectors import gather

Vectors = dict[str, Any]


def rescaling(xp: Any, theta: Vectors, c: Vectors, x: Any, e: Any) -> Vectors:
    u, w = theta["u"], theta["w"]
    slope = (u * w * x - (c["slope"] * x + c["sigma"] * e)) * x
    return {"u": slope * w, "w": slope * u}


def linear_regression(xp: Any, theta: Vectors, c: Vectors, x: Any, e: Any) -> Vectors:
    error = xp.sum((theta["w"] - c["teacher"][:, None]) * x, axis=0) - c["sigma"] * e
    return {"w": error * x}


def diagonal_network(xp: Any, theta: Vectors, c: Vectors, x: Any, e: Any) -> Vectors:
    u, w = theta["u"], theta["w"]
    error = xp.sum((u * w - c["teacher"][:, None]) * x, axis=0) - c["sigma"] * e
    slope = error * x
    return {"u": slope * w, "w": slope * u}


def two_layer_network(xp: Any, theta: Vectors, c: Vectors, x: Any, e: Any) -> Vectors:
    """Both layers are 4 x 4 matrices, by rows."""
    u, w = theta["u"].reshape(4, 4, -1), theta["w"].reshape(4, 4, -1)
    hidden = xp.sum(u * x, axis=1)
    error = xp.sum(w * hidden, axis=1) - (c["teacher"][:, None] * x + c["sigma"] * e)
    back = xp.sum(w * error[:, None], axis=0)
    return {"u": (back[:, None] * x).reshape(16, -1), "w": (error[:, None] * hidden).reshape(16, -1)}


def deep_linear_network(xp: Any, theta: Vectors, c: Vectors, x: Any, e: Any) -> Vectors:
    """Three matrices, 4-8-8-4."""
    one, two, three = theta["W1"], theta["W2"], theta["W3"]
    first = xp.einsum("ijn,jn->in", one, x)
    second = xp.einsum("ijn,jn->in", two, first)
    error = xp.einsum("ijn,jn->in", three, second) - x - c["sigma"] * e
    back = xp.einsum("ijn,in->jn", three, error)
    further = xp.einsum("ijn,in->jn", two, back)
    return {"W1": further[:, None] * x, "W2": back[:, None] * first, "W3": error[:, None] * second}


def tanh_network(xp: Any, theta: Vectors, c: Vectors, x: Any, e: Any) -> Vectors:
    """Two matrices, 8-16-1."""
    one, two = theta["W1"], theta["W2"]
    hidden = xp.tanh(xp.einsum("ijn,jn->in", one, x))
    error = xp.sum(two[0] * hidden, axis=0) - xp.sum(c["teacher"][:, None] * x, axis=0) - c["sigma"] * e
    back = two[0] * error * (1 - hidden * hidden)
    return {"W1": back[:, None] * x, "W2": (error * hidden)[None]}


def tanh_network_batch(xp: Any, theta: Vectors, c: Vectors, x: Any, e: Any) -> Vectors:
    """Gradient of the tanh network averaged over a batch: inputs (coordinate, sample, trajectory)."""
    one, two = theta["W1"], theta["W2"]
    hidden = xp.tanh(xp.einsum("ijn,jbn->ibn", one, x))
    error = xp.einsum("in,ibn->bn", two[0], hidden) - xp.einsum("j,jbn->bn", c["teacher"], x) - c["sigma"] * e
    back = two[0][:, None] * error * (1 - hidden * hidden)
    size = x.shape[1]
    return {
        "W1": xp.einsum("ibn,jbn->ijn", back, x) / size,
        "W2": (xp.einsum("bn,ibn->in", error, hidden) / size)[None],
    }


def linear_network(xp: Any, theta: Vectors, c: Vectors, x: Any, e: Any) -> Vectors:
    """Two matrices, as many outputs as inputs."""
    one, two = theta["W1"], theta["W2"]
    hidden = xp.einsum("ijn,jn->in", one, x)
    error = xp.einsum("ijn,jn->in", two, hidden) - x - c["sigma"] * e
    return {"W1": xp.einsum("ijn,in->jn", two, error)[:, None] * x, "W2": error[:, None] * hidden}


def adam_river_valley(xp: Any, theta: Vectors, c: Vectors, xi: Any) -> Vectors:
    x, y = theta["x"], theta["y"]
    return {
        "x": c["a0"] * (1 + c["k"] * y * y) * x + c["sigma"] * xi,
        "y": c["c2"] * y + c["a0"] * c["k"] * y * x * x,
    }


def minibatches(xp: Any, theta: Vectors, c: Vectors, x: Any, y: Any) -> Vectors:
    """Gradient of linear regression over a batch: inputs (coordinate, row, trajectory), labels (row, trajectory)."""
    error = xp.sum(theta["w"][:, None] * x, axis=0) - y
    return {"w": xp.sum(error * x, axis=1) / len(y)}


def logistic(xp: Any, theta: Vectors, c: Vectors, x: Any, e: Any) -> Vectors:
    y = xp.sign(c["teacher"] @ x + c["sigma"] * e)
    margin = y * xp.sum(theta["w"] * x, axis=0)
    return {"w": -y / (1 + xp.exp(margin)) * x}


def permutation(xp: Any, theta: Vectors, c: Vectors, x: Any, e: Any) -> Vectors:
    a, b = xp.tanh(theta["u"] * x), xp.tanh(theta["w"] * x)
    slope = (a + b - (c["mu"] + c["sigma"] * e)) * x
    return {"u": slope * (1 - a * a), "w": slope * (1 - b * b)}


def relu_network(xp: Any, theta: Vectors, c: Vectors, x: Any, e: Any) -> Vectors:
    inside = theta["w"] * x + theta["b"]
    out = inside.clip(min=0)
    error = theta["a"] * out - (c["slope"] * x.clip(min=0) + c["sigma"] * e)
    slope = xp.where(inside > 0, error * theta["a"], 0)
    return {"a": error * out, "w": slope * x, "b": slope}


GRADIENTS = {
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


def vectors(xp: Any, values: Any, dtype: Any) -> Vectors:
    """Numbers by name, those of a vector as one array."""
    return {
        name: xp.asarray(value.tolist(), dtype=dtype) if is_array(value) else value
        for name, value in gather(values).items()
    }


def start(xp: Any, job: Job, dtype: Any) -> Vectors:
    """The parameters of all trajectories."""
    numbers = {name: value.tolist() if is_array(value) else value for name, value in gather(job.initial).items()}
    values = {name: xp.asarray(value, dtype=dtype)[..., None] for name, value in numbers.items()}
    return {name: xp.tile(value, (job.trajectories,)) for name, value in values.items()}


def by_parameter(theta: Vectors, job: Job) -> Vectors:
    """The coordinates of all arrays one by one, as the job names them."""
    rows = [row for name in gather(job.initial) for row in theta[name].reshape(-1, theta[name].shape[-1])]
    return dict(zip(job.initial, rows, strict=True))
