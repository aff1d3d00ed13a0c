"""The losses of the second table, most from the catalogue, and polynomials of the size of those that are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.jobs import Job
from benchmarks.losses import LINEAR_NETWORKS, SETTINGS, data
from sgdsim.formulas.arrays import is_array
from sgdsim.formulas.vectors import coordinates, gather
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer

_ARGUMENTS = {"permutation": {"inputs": "normal"}}  # else than by default


def catalogue_loss(job: Job) -> Loss:
    """With the constants of the job; a ``teacher`` among them is an argument."""
    values: dict[str, Any] = gather(job.constants)
    vectors = {name: value.tolist() for name, value in values.items() if is_array(value)}
    constants = {name: value for name, value in values.items() if name not in vectors}
    return CATALOGUE[job.model](**_ARGUMENTS.get(job.model, {}), **vectors, constants=constants)


def two_layer_network(job: Job) -> Loss:
    """``|W U x - y|^2/2`` with y = teacher x + sigma e by coordinate; both matrices are 4 x 4, by rows."""
    constants = {name.replace("[", "_").rstrip("]"): value for name, value in job.constants.items()}
    hidden = tuple(" + ".join(f"u[{4 * i + j}]*x[{j}]" for j in range(4)) for i in range(4))
    error = tuple(
        " + ".join(f"w[{4 * i + j}]*h[{j}]" for j in range(4)) + f" - teacher_{i}*x[{i}] - sigma*e[{i}]"
        for i in range(4)
    )
    noise = {name: Noise.parse("normal") for vector in ("x", "e") for name in coordinates(vector, 4)}
    return Loss(
        "norm2(error)/2", tuple(job.initial), constants, noise, {"h": hidden, "error": error}, name="two_layer_network"
    )


def deep_linear_network(job: Job) -> Loss:
    """``|W3 W2 W1 x - x - sigma e|^2/2``, 4-8-8-4."""
    noise = {name: Noise.parse("normal") for name in ("x[4]", "e[4]")}
    formula = "norm2(W3@(W2@(W1@x)) - x - sigma*e)/2"
    return Loss(formula, tuple(job.initial), job.constants, noise, name="deep_linear_network")


def tanh_network(job: Job) -> Loss:
    """``|W2 tanh(W1 x) - y|^2/2`` with y = teacher x + sigma e."""
    noise = {name: Noise.parse("normal") for name in ("x[8]", "e")}
    formula = "(sum(W2@tanh(W1@x)) - dot(teacher, x) - sigma*e)**2/2"
    return Loss(formula, tuple(job.initial), job.constants, noise, name=job.model)


def linear_network(job: Job) -> Loss:
    """``|W2 W1 x - x - sigma e|^2/2``."""
    n = SETTINGS[job.model].noise["x"]
    noise = {name: Noise.parse("normal") for name in (f"x[{n}]", f"e[{n}]")}
    return Loss("norm2(W2@(W1@x) - x - sigma*e)/2", tuple(job.initial), job.constants, noise, name=job.model)


def minibatches(job: Job) -> Loss:
    """Linear regression over the rows of the data set."""
    inputs, labels = data()
    columns = {f"x{i}": tuple(map(float, column)) for i, column in enumerate(inputs.T)}
    error = " + ".join(f"w[{i}]*x{i}" for i in range(len(columns)))
    rows = Data({**columns, "y": tuple(map(float, labels))})
    return Loss(f"({error} - y)**2/2", tuple(job.initial), data=rows, name="minibatches")


def optimizer(job: Job) -> Optimizer:
    """Plain SGD unless the setting says otherwise."""
    if job.model not in SETTINGS:
        return Optimizer()
    setting = SETTINGS[job.model]
    if setting.batch_size:
        return Optimizer(setting.optimizer, batch_size=setting.batch_size, sampling="epoch")
    return Optimizer(setting.optimizer, batch_size=setting.samples)


def noiseless_river_valley(job: Job) -> Loss:
    """The reference job without its noise."""
    constants = {name: value for name, value in job.constants.items() if name != "sigma"}
    formula = "c2*y**2/2 + a0*(1 + k*y**2)*x**2/2"
    return Loss(formula, tuple(job.initial), constants, name="noiseless_river_valley")


def least_squares_classification(job: Job) -> Loss:
    """The logistic loss of a sample with ``(1 + z)^2/2`` in place of ``log(1 + exp(z))``."""
    return replace(catalogue_loss(job), formula="(1 - y*dot(w, x))**2/2", name="least_squares_classification")


def linear_neurons(job: Job) -> Loss:
    """Two neurons without their tanh."""
    return replace(catalogue_loss(job), formula="(u*x + w*x - y)**2/2", name="linear_neurons")


LOSSES: dict[str, Callable[[Job], Loss]] = {
    **dict.fromkeys(SETTINGS, catalogue_loss),
    "two_layer_network": two_layer_network,
    "deep_linear_network": deep_linear_network,
    **dict.fromkeys(("tanh_network", "tanh_network_batch"), tanh_network),
    **dict.fromkeys(LINEAR_NETWORKS, linear_network),
    "adam_river_valley": lambda job: river_valley(constants=job.constants),
    "minibatches": minibatches,
}
POLYNOMIALS = {"logistic": least_squares_classification, "permutation": linear_neurons}
