"""Predictions of laws at every record: a law predicts the last step of a run, so the run is cut off at each record."""

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
_SECONDS_BETWEEN = 5.0  # seconds that a law may take for predictions between records


def predictions_along(laws: Sequence[Law], runs: Sequence[Run]) -> list[Prediction]:
    """Predictions of moments at the records before the last, from laws that are exact.

    An adiabatic law assumes that slow parameters are at rest, which in general they are not before the end, so it is
    left out.

    Parameters
    ----------
    laws
        Laws of the scenario.
    runs
        The run of each point of the sweep.

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
    """Predictions of moments between the records, if these are few; denser at early steps, where change is fast.

    Parameters
    ----------
    laws, runs
        Laws of the scenario, and the run of each point of the sweep.
    """
    steps = runs[0].recorder.record_steps(runs[0].steps)[1:-1]
    if not 1 <= len(steps) < MOST_RECORDS:
        return []
    dense = np.unique(np.geomspace(1, runs[0].steps, MOST_RECORDS).round().astype(int)).tolist()
    return _at(laws, runs, sorted({*dense} - {*steps.tolist(), runs[0].steps}), _SECONDS_BETWEEN)


def _at(laws: Sequence[Law], runs: Sequence[Run], steps: Sequence[int], seconds: float) -> list[Prediction]:
    found: list[Prediction] = []
    for law in laws:
        with suppress(OutOfTime), limited(seconds):  # a law that takes long gives the first steps only
            for step in steps:
                shorter = [_until(run, step) for run in runs]
                with suppress(NotApplicable):
                    found += [row for row in law.predictions(shorter) if _is_of_end(row, shorter[0])]
                check()
    return found


def _until(run: Run, step: int) -> Run:
    """The run cut off after a number of steps, with the observables that are complete by then."""
    rates = run.schedule.rates(run.steps)[:step]
    constant = bool(np.all(rates == rates[0]))
    schedule = Schedule(repr(float(rates[0]))) if constant else Schedule(run.schedule.text, tuple(rates.tolist()))
    known = tuple(one for one in run.recorder.observables if not one.window or one.window[1] <= step)
    return replace(run, steps=step, schedule=schedule, recorder=Recorder(observables=known))


def _is_of_end(row: Prediction, run: Run) -> bool:
    measure = row.measure
    return isinstance(measure, Moment) and row.order == "exact" and measure.step == run.steps
