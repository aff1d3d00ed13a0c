"""The exact chain: mean and variance without sampling."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sgdsim.model.run import Run
from sgdsim.prediction import Moment, NotApplicable, Prediction, Rival, require
from sgdsim.theory.chain.evolution import evolve
from sgdsim.theory.law import law, row
from sgdsim.theory.methods.linear_response import response
from sgdsim.theory.methods.modes import constant_rate
from sgdsim.theory.quadrature.nested import Numerical


@law(
    "exact-chain",
    "exact chain: mean and variance at the end of a run, for one or two parameters",
    source="numerical: the backward operator of the chain",
    holds="one or two parameters, an optimizer without memory",
    any_field=True,
)
def exact_chain(run: Run) -> Iterator[Prediction]:
    """The exact chain as a law of its own: means and variances at the end of a run, for one or two parameters.

    SGD is a Markov chain; `sgdsim.theory.chain` applies its backward operator numerically, with an estimate of
    the error. If asymptotic theory and a simulation differ, this law tells which of them is wrong; linear response is
    the rival beside it. It takes seconds, so that it must be asked for.
    """
    names = run.loss.parameters
    values = evolve(run, [*names, *(f"({name})**2" for name in names)], run.steps)
    leading = _leading(run)
    for name, mean, square in zip(names, values, values[len(names) :], strict=False):
        yield from _rows(run, name, mean, square, leading.get(name))


def _rows(run: Run, name: str, mean: Numerical, square: Numerical, leading: float | None) -> Iterator[Prediction]:
    centre, variance = float(mean.value), float(square.value) - float(mean.value) ** 2
    spread = float(np.sqrt(max(variance, 0.0)))
    off = float(square.error) + 2.0 * abs(centre) * float(mean.error)
    yield _row(Moment("mean", name, run.steps), centre, float(mean.error), 0.01 * float(np.hypot(centre, spread)))
    if variance > 0:
        rival = None if leading is None else Rival("linear response", leading)
        yield _row(Moment("variance", name, run.steps), variance, off, 0.01 * variance, rival)


def _row(measure: Moment, value: float, error: float, resolution: float, rival: Rival | None = None) -> Prediction:
    require(
        error < resolution,
        f"the {measure.statistic} of {measure.observable} is only known to {error:.2g}, worse than {resolution:.2g}",
    )
    return row(measure, value, resolution=resolution, conditions=f"numerical error {error:.1g}", rival=rival)


def _leading(run: Run) -> dict[str, float]:
    """Variances by linear response for a stable run at one rate that has forgotten its start; empty for others."""
    try:
        constant_rate(run)
        found = response(run)
    except NotApplicable:
        return {}
    if found.flat_directions or found.radius**run.steps > 1e-3:
        return {}
    return dict(zip(run.loss.parameters, map(float, np.diag(found.covariance)), strict=True))
