"""SGD and the flow of the entropic loss: charges and shuffled epochs follow it, plain means do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from sgdsim.formulas import evaluation
from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import FEWEST_RATES, Moment, NotApplicable, Prediction, require
from sgdsim.theory.law import at_enough_values, law, row, series_of
from sgdsim.theory.methods.charge_balance import balances
from sgdsim.theory.methods.gradient_flow import flow, modified_mean
from sgdsim.theory.methods.modes import constant_rate
from sgdsim.theory.recorded_names import name_of

_SLOPE = 0.1  # resolution of a mean or variance, in units of its change by order 1
_SPREAD = 0.01  # resolution of a mean in units of the spread, if that is larger
_NOTHING = 1e-9  # share of the total variance below which noise does not move a parameter to this order


def _at_one_time(runs: Sequence[Run]) -> Iterator[tuple[int, Run, str]]:
    """Each run with its point and series, cut at the time that all runs of its series reach, if that is recorded."""
    found = series_of(runs)
    times: dict[str, float] = {}
    for run, one in zip(runs, found, strict=True):
        time = constant_rate(run) * run.steps
        times[one] = min(time, times.get(one, time))
    for place, (run, one) in enumerate(zip(runs, found, strict=True)):
        steps = times[one] / constant_rate(run)
        whole = round(steps)
        if abs(steps - whole) < 1e-6 * steps and whole in run.recorder.record_steps(run.steps):
            yield place, replace(run, steps=whole, recorder=Recorder()), one


def _several_rates(run: Run) -> None:
    require(
        "sgd" in run.optimizer.name or run.optimizer.name == "gradient_descent",
        f"holds for plain sgd, the optimizer is {run.optimizer.name}",
    )
    constant_rate(run)


def _is_of_epochs(run: Run) -> bool:
    return run.optimizer.sampling == "epoch"


def _charges(run: Run) -> list[Observable]:
    if _is_of_epochs(run):
        return []
    found = [(one, run.loss.charge(one.symmetry)) for one in balances(run)]
    return [
        Observable(f"charge_{one.symmetry.name}", str(charge))
        for one, charge in found
        if charge is not None and not one.is_translation
    ]


def _records(run: Run) -> Recorder:
    return Recorder(observables=tuple(_charges(run)))


def _told(run: Run, place: int, series: str) -> dict[str, Any]:
    """The fields that all rows of a point have in common, for its run cut at the time that all points reach."""
    rate = constant_rate(run)
    conditions = f"after a time of {rate * run.steps:.4g}"
    return {"order": 1, "point": place, "small": rate, "series": series, "conditions": conditions}


def _entropic(runs: Sequence[Run]) -> list[Prediction]:
    rows: list[Prediction] = []
    for place, run, series in _at_one_time(runs):
        with suppress(NotApplicable):
            end = dict(zip(run.loss.parameters, flow(run, "entropic")[0], strict=True))
            told = _told(run, place, series)
            for one in _charges(run):
                value = evaluation.evaluate([run.loss.expand(one.formula)], {**run.loss.constants, **end})[0]
                moment = Moment("mean", name_of(runs[place], one), run.steps)
                rows.append(row(moment, float(value), **told))
            if _is_of_epochs(run) and _whole_epochs(run):
                rows += [row(Moment("mean", name, run.steps), float(value), **told) for name, value in end.items()]
    return at_enough_values(rows)


def _whole_epochs(run: Run) -> bool:
    rows = 0 if run.loss.data is None else run.loss.data.rows
    return rows % run.optimizer.batch_size == 0 and run.steps % (rows // run.optimizer.batch_size) == 0


@law(
    "entropic-flow",
    "charges, and means over shuffled epochs, follow the flow of the entropic loss to second order",
    source="arXiv:2505.12387 (the entropic loss); arXiv:2101.12176 (epochs); order re-derived",
    holds="plain SGD from one point over four or more constant rates, at the time that all of them reach and record",
    records=_records,
    across=_entropic,
    finite_order=True,
)
def entropic_flow(run: Run) -> list[Prediction]:
    """Quantities that follow the flow of the entropic loss. To order 1: the rest falls with the square of the rate.

    After a fixed time T = eta*K, with ``phi = L + (eta/4) E|g|^2`` and its flow from the same start,

    - the mean charge of a symmetry under independent sampling is that of the flow of phi, to O(eta^2);
    - so is, at the ends of epochs, the mean of every parameter over their random orders.

    The flow of L is off by O(eta). The plain mean of independently sampled SGD does not follow phi to this order, as
    ``E theta_1 = theta_0 - eta*grad L`` has no force of the noise in it: see modified-mean.
    """
    _several_rates(run)
    require(_charges(run) or _is_of_epochs(run), "the loss declares no symmetry with a charge, and there are no epochs")
    return []


def _modified(runs: Sequence[Run]) -> list[Prediction]:
    rows: list[Prediction] = []
    reasons: dict[str, None] = {}
    for place, run, series in _at_one_time(runs):
        try:
            found = modified_mean(run)
            require(not found.doubt, found.doubt)
        except NotApplicable as reason:
            reasons[str(reason)] = None
            continue
        told = _told(run, place, series)
        variances = np.diag(found.covariance)
        for name, begin, mean, variance in zip(run.loss.parameters, found.flow, found.mean, variances, strict=True):
            scale = max(_SLOPE * abs(mean - begin), _SPREAD * float(np.sqrt(variance)))
            moment = Moment("mean", name, run.steps)
            rows.append(row(moment, float(mean), resolution=scale or None, **told))
            if variance > _NOTHING * variances.sum():
                moment = Moment("variance", name, run.steps)
                rows.append(row(moment, float(variance), resolution=_SLOPE * float(variance), **told))
    rows = at_enough_values(rows)
    require(rows, "; ".join(reasons) or f"fewer than {FEWEST_RATES} rates reach and record one time")
    return rows


@law(
    "modified-mean",
    "mean and variance of independently sampled SGD at a time, by its modified equation",
    source="re-derived, cf. arXiv:1511.06251",
    holds="plain SGD from one point over four or more constant rates, at the time that all of them reach and record",
    across=_modified,
    automatic=True,
    finite_order=True,
    seconds=3.0,
)
def modified_mean_law(run: Run) -> list[Prediction]:
    """Mean and variance of independently sampled SGD after a fixed time T = eta*K. To order 1.

    With ``theta_0`` the flow of L, ``E theta_K = theta_0(T) + eta*m(T) + O(eta^2)`` and
    ``Cov theta_K = eta*S(T) + O(eta^2)``,

        m' = -H m - H grad L/2 - grad^3 L : S/2,    S' = -H S - S H + Sigma/B,    m(0) = S(0) = 0.

    The slope of the mean over eta is tested to a tenth of itself, and so is that of the variance. Rates too large for a
    power series are left out: those over half of the inverse curvature, and those at which curvature or noise differ so
    much within the spread from those on the flow that the next order is as large as this one.
    """
    _several_rates(run)
    require(not _is_of_epochs(run), "shuffled epochs follow the flow of the entropic loss instead")
    raise NotApplicable(f"orders are tested over {FEWEST_RATES} learning rates or more, at one time")
