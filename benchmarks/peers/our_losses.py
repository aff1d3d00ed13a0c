"""The losses of the second table from the catalogue, and polynomials of the size of those that are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.jobs import Job
from benchmarks.losses import SETTINGS
from sgdsim.loss import Loss
from sgdsim.losses import CATALOGUE
from sgdsim.vectors import gather

_ARGUMENTS = {"permutation": {"inputs": "normal"}}  # else than by default


def catalogue_loss(job: Job) -> Loss:
    """With the constants of the job; a ``teacher`` among them is an argument."""
    values: dict[str, Any] = gather(job.constants)
    vectors = {name: value for name, value in values.items() if isinstance(value, list)}
    constants = {name: value for name, value in values.items() if name not in vectors}
    return CATALOGUE[job.model](**_ARGUMENTS.get(job.model, {}), **vectors, constants=constants)


def least_squares_classification(job: Job) -> Loss:
    """The logistic loss of a sample with ``(1 + z)^2/2`` in place of ``log(1 + exp(z))``."""
    return replace(catalogue_loss(job), formula="(1 - y*dot(w, x))**2/2", name="least_squares_classification")


def linear_neurons(job: Job) -> Loss:
    """Two neurons without their tanh."""
    return replace(catalogue_loss(job), formula="(u*x + w*x - y)**2/2", name="linear_neurons")


LOSSES: dict[str, Callable[[Job], Loss]] = dict.fromkeys(SETTINGS, catalogue_loss)
POLYNOMIALS = {"logistic": least_squares_classification, "permutation": linear_neurons}
