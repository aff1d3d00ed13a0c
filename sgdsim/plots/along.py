"""What laws say at every record: a run that ends at a record is a run too, and a law speaks of its last step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from sgdsim.base.budget import SECONDS, OutOfTime, check, limited
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.plots.panel import spread
from sgdsim.prediction import Moment, NotApplicable, Prediction
from sgdsim.theory.law import Law

MOST_RECORDS = 40
_SECONDS_BETWEEN = 5.0  # of one law


def predictions_along(laws: Sequence[Law], runs: Sequence[Run]) -> list[Prediction]:
    """What laws say of moments at the records before the last, as far as it is exact.

    An adiabatic law rests on slow parameters that have come to rest, which they have not in general before the end;
    laws that speak of the middle of a run leave it out there, too.

    Parameters
    ----------
    laws
        Of the scenario.
    runs
        One a sweep point.

    Examples
    --------
    >>> from sgdsim import Loss, Noise, Optimizer
    >>> from sgdsim.theory import find_law
    >>> loss = Loss("x**2/2 + z*x", ("x",), noise={"z": Noise.parse("normal")})
    >>> run = Run(loss, Optimizer(), Schedule("0.5"), {"x": 1.0}, 100, 3, recorder=Recorder(every=1))
    >>> found = predictions_along([find_law("valley")], [run])
    >>> [row.predicted for row in found if row.statistic == "mean"]
    [0.5, 0.25]
    """
    if len({run.steps for run in runs}) > 1:
        return []
    steps = runs[0].recorder.record_steps(runs[0].steps)[1:-1]
    return _at(laws, runs, steps[spread(len(steps), MOST_RECORDS)].tolist(), SECONDS)


def predictions_on_the_way(laws: Sequence[Law], runs: Sequence[Run]) -> list[Prediction]:
    """Likewise between the records, where these are few and what happens is fast: the more densely, the earlier.

    Parameters
    ----------
    laws, runs
        As of `predictions_along`.
    """
    steps = runs[0].recorder.record_steps(runs[0].steps)[1:-1]
    if not 1 <= len(steps) < MOST_RECORDS:
        return []
    dense = np.unique(np.geomspace(1, runs[0].steps, MOST_RECORDS).round().astype(int)).tolist()
    return _at(laws, runs, sorted({*dense} - {*steps.tolist(), runs[0].steps}), _SECONDS_BETWEEN)


def _at(laws: Sequence[Law], runs: Sequence[Run], steps: Sequence[int], seconds: float) -> list[Prediction]:
    found: list[Prediction] = []
    for law in laws:
        with suppress(OutOfTime), limited(seconds):  # of a law that takes long the first steps are enough
            for step in steps:
                shorter = [_until(run, step) for run in runs]
                with suppress(NotApplicable):
                    found += [row for row in law.predictions(shorter) if _is_of_end(row, shorter[0])]
                check()
    return found


def _until(run: Run, step: int) -> Run:
    """The same run, ended after so many steps, with the moments of what is known by then."""
    rates = run.schedule.rates(run.steps)[:step]
    constant = bool(np.all(rates == rates[0]))
    schedule = Schedule(repr(float(rates[0]))) if constant else Schedule(run.schedule.text, tuple(rates.tolist()))
    known = tuple(one for one in run.recorder.observables if not one.window or one.window[1] <= step)
    return replace(run, steps=step, schedule=schedule, recorder=Recorder(observables=known))


def _is_of_end(row: Prediction, run: Run) -> bool:
    measure = row.measure
    return isinstance(measure, Moment) and row.order == "exact" and measure.step == run.steps
