"""The last step of a run, exactly, if its one or two parameters are a chain that can be computed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sgdsim.base import budget
from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Distance, Measure, Moment, NotApplicable, Prediction, require
from sgdsim.theory.chain.evolution import distribution_after, evolve
from sgdsim.theory.chain.step import Step
from sgdsim.theory.law import law, row
from sgdsim.theory.methods.moment_recursion import is_affine
from sgdsim.theory.numerical_rows import covariance_measure, known_row
from sgdsim.theory.quadrature.nested import Numerical
from sgdsim.theory.recorded_names import label_of, name_of, recorded_as

SECONDS = 2.0
"""Time limit if nobody asked for the law."""

_RESOLVED = 0.01  # relative resolution of a row
_KNOWN = 0.1  # largest error of a number in units of the resolution: a larger one decides nothing
_FINENESS = (1, 0)  # fineness of the meshes, for one and for two parameters
_NARROW = 0.1  # last rate in units of the mean rate, below which the law is rough on the scale of any mesh
_OF_A_DISTRIBUTION = 1e-6  # largest error of a distribution function, which a sample of 1e10 would resolve


def _records(run: Run) -> Recorder:
    _check(run)
    return Recorder(observables=_products(run))


def _check(run: Run) -> None:
    Step.of(run)
    kept = len(run.loss.parameters) == 1 and run.steps in run.recorder.snapshots
    require(kept or not _is_affine(run), "affine-moments says the same where gradients are affine")


def _is_affine(run: Run) -> bool:
    return is_affine(run.loss) and run.optimizer.rule.linear


def _products(run: Run) -> tuple[Observable, ...]:
    if len(run.loss.parameters) == 1:
        return ()
    first, second = run.loss.parameters
    product = f"{first}*{second}"
    return (Observable.parse(label_of(product), product),)


@law(
    "last-step",
    "exact mean, variance and distribution at the end of a run, for one or two parameters of any loss",
    source="numerical: the backward operator of the chain",
    holds="one or two parameters, an optimizer without memory",
    records=_records,
    automatic=True,
    any_field=True,
    seconds=SECONDS,
)
def last_step(run: Run) -> list[Prediction]:
    """Mean, variance and covariance of the parameters at the end of a run, and the distribution of a single one.

    The law of the parameters after n steps from the run's own start is that of a Markov chain, whose backward operator
    is applied n times on two meshes (`sgdsim.theory.chain`). Only the resolution of the meshes limits it: the error of
    the finer one is the difference to the coarser one, the chance of leaving the domain, and rounding. A row is made if
    this error is below a tenth of what the row resolves, and the number may be off by three such errors. If the run
    has forgotten its start, the law at its end is the stationary one.

    A learning rate that changes has an operator for each of its values; of more than ten values, operators at ten
    rates are interpolated. Of more than 128 values, a few steps at a time are taken at their mean rate, on the coarser
    mesh twice as many, and the difference of the meshes measures what that neglects.

    If gradients are affine, mean, variance and covariance are left to affine-moments. The distribution needs noise with
    a density that enters the step affinely, at most 64 values of the rate, and a snapshot of the last step.
    """
    _check(run)
    names, rows = run.loss.parameters, list[Prediction]()
    rates = run.schedule.rates(run.steps)
    fineness = _FINENESS[len(names) - 1] if rates.min() == rates.max() else 0  # a schedule has several operators
    if not _is_affine(run):
        products = [f"({one})*({other})" for one in names for other in names]
        found = evolve(run, [*names, *products], run.steps, fineness)
        rows += _moments(run, found[: len(names)], found[len(names) :])
    kept = len(names) == 1 and run.steps in run.recorder.snapshots
    if kept and rates[-1] >= _NARROW * rates.mean():
        rows += _distribution(run)
    require(rows, "nothing of it is known better than a tenth of what a row resolves; simulate instead")
    return rows


def _moments(run: Run, means: list[Numerical], squares: list[Numerical]) -> list[Prediction]:
    names, n = run.loss.parameters, len(means)
    variances = [_covariance(squares[i * (n + 1)], means[i], means[i]) for i in range(n)]
    spreads = [float(np.sqrt(max(one.value, 0.0))) for one in variances]
    made: list[Prediction] = []
    for name, mean, variance, spread in zip(names, means, variances, spreads, strict=True):
        scale = float(np.hypot(mean.value, spread))
        made += _row(Moment("mean", name, run.steps), mean, scale)
        made += _row(Moment("variance", name, run.steps), variance, float(variance.value))
    for observable in (one for one in _products(run) if recorded_as(run, one) is not None):
        measure = covariance_measure(name_of(run, observable), names, run.steps)
        covariance = _covariance(squares[1], *means)
        made += _row(measure, covariance, float(np.prod(spreads)), f"covariance({', '.join(names)})")
    return made


def _covariance(product: Numerical, first: Numerical, second: Numerical) -> Numerical:
    error = product.error + abs(first.value) * second.error + abs(second.value) * first.error
    return Numerical(product.value - first.value * second.value, error)


def _row(measure: Measure, found: Numerical, scale: float, quantity: str = "") -> Iterator[Prediction]:
    """A row, unless the chain is too coarse for it."""
    return known_row(measure, found, _RESOLVED * scale, _KNOWN, quantity)


def _distribution(run: Run) -> list[Prediction]:
    (name,) = run.loss.parameters
    try:
        cdf, error = distribution_after(run, run.steps)
    except (NotApplicable, budget.OutOfTime):  # rows on the moments are made without it
        return []
    known = error < _OF_A_DISTRIBUTION
    return [row(Distance(name, run.steps, cdf), 0.0, conditions=f"numerical error {error:.1g}")] if known else []
