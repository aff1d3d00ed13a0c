"""The second step of a run, and covariances of the parameters after the first two, for any loss and optimizer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Function, Moment, Prediction, require
from sgdsim.theory.law import law
from sgdsim.theory.laws.first_step import check_start
from sgdsim.theory.methods.first_steps import Points, laws_after
from sgdsim.theory.numerical_rows import covariance_measure, known_row
from sgdsim.theory.quadrature.nested import Numerical
from sgdsim.theory.recorded_names import label_of, name_of

_RESOLVED = 0.02  # relative resolution of a row
_KNOWN = 0.02  # largest error of a number in units of the resolution
_NOTHING = 1e-9  # variance, in units of the mean square, that is taken for rounding
_ORDINALS = ("first", "second")


def _value(name: str, step: int) -> Observable:
    return Observable.parse(f"{_ORDINALS[step - 1]}_{label_of(name)}", f"value_at({name}, {step})")


def _pairs(run: Run) -> list[tuple[str, str]]:
    return list(itertools.combinations(run.loss.parameters, 2))


def _records(run: Run) -> Recorder:
    _check(run)
    values = [_value(name, 2) for name in run.loss.parameters]
    if pairs := _pairs(run):
        values += [_value(name, 1) for name in run.loss.parameters]
        values += [_value("*".join(pair), step) for pair in pairs for step in (1, 2)]
    return Recorder(observables=tuple(values))


def _check(run: Run) -> None:
    check_start(run)
    require(run.steps > 1, "there is one step")


@law(
    "second-step",
    "exact mean and variance after the second step, covariances after the first two, for any loss and optimizer",
    source="re-derived",
    holds="one to three parameters; batches whose noise is a few variables, in which steps are smooth",
    records=_records,
    automatic=True,
    any_field=True,
)
def second_step(run: Run) -> Iterator[Prediction]:
    """Mean, variance and covariances of the parameters after two steps from the run's own start. Exact.

    The start and the noise of two batches are points with weights, which the formulas of the optimizer move, memory
    and all. The second step shows what an optimizer remembers of its first gradient; a covariance shows the noise that
    parameters share. Two rules are used, a coarse and a fine one: a row is made if they differ by less than a fiftieth
    of what it resolves, and its number may be off by three such differences.

    A mean is resolved to 2 % of the spread and of its change, a variance to 2 % of itself, a covariance to 2 % of the
    product of the standard deviations.
    """
    _check(run)
    coarse, fine = laws_after(run, 2)
    made = [_mean_and_variance(run, name, coarse[1], fine[1]) for name in run.loss.parameters]
    made += [_covariance(run, pair, step, coarse[step - 1], fine[step - 1]) for pair in _pairs(run) for step in (1, 2)]
    rows = [one for several in made for one in several]
    require(rows, "no mean over the noise of two steps is known better than a fiftieth of what a row resolves")
    yield from rows


def _mean_and_variance(run: Run, name: str, coarse: Points, fine: Points) -> Iterator[Prediction]:
    recorded, start = name_of(run, _value(name, 2)), run.initial[name]
    mean, variance = fine.mean(name), fine.covariance(name, name)
    shift = mean - float(start if isinstance(start, float | int) else start.moment(1))
    scale = float(np.hypot(shift, np.sqrt(variance)))
    moment, quantity = Moment("mean", recorded, run.steps), f"mean({name}) after the second step"
    yield from _row(moment, mean, coarse.mean(name), scale, quantity)
    if variance > _NOTHING * scale * scale:
        moment, quantity = Moment("variance", recorded, run.steps), f"variance({name}) after the second step"
        yield from _row(moment, variance, coarse.covariance(name, name), variance, quantity)


def _covariance(run: Run, pair: tuple[str, str], step: int, coarse: Points, fine: Points) -> Iterator[Prediction]:
    spreads = [float(np.sqrt(fine.covariance(name, name))) for name in pair]
    sizes = [abs(fine.mean(name)) for name in pair]
    # Products, as the square of a Python number that is too large is an exception.
    if all(spread * spread > _NOTHING * size * size for spread, size in zip(spreads, sizes, strict=True)):
        names = ["*".join(pair), *pair]
        product, *factors = (name_of(run, _value(name, step)) for name in names)
        measure = covariance_measure(product, factors, run.steps)
        quantity = f"covariance({', '.join(pair)}) after the {_ORDINALS[step - 1]} step"
        yield from _row(measure, fine.covariance(*pair), coarse.covariance(*pair), float(np.prod(spreads)), quantity)


def _row(measure: Moment | Function, found: float, coarse: float, scale: float, quantity: str) -> Iterator[Prediction]:
    off = abs(found - coarse) + 1e-14 * abs(found)
    return known_row(measure, Numerical(found, off), _RESOLVED * scale, _KNOWN, quantity)
