"""Laws of theory: functions of a run that yield rows, each declared by the decorator `law`.

The docstring of the function is the derivation of the law. `LAWS` has all that are declared.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any

import numpy as np

from sgdsim.base import budget
from sgdsim.base.budget import OutOfTime
from sgdsim.base.errors import InputError
from sgdsim.formulas.expansion import TooManyTerms
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import (
    FEWEST_RATES,
    Distance,
    Function,
    Measure,
    Moment,
    NotApplicable,
    Order,
    Prediction,
    Tail,
    over,
    require,
)
from sgdsim.theory.guard import guarded
from sgdsim.theory.potential import require_gradient, require_simple_steps
from sgdsim.theory.recorded_names import recorded_as

REFUSALS = (NotApplicable, TooManyTerms, OutOfTime)
"""The errors by which a law says that it does not apply."""

Rows = Callable[[Run], Iterable[Prediction]]
RowsAcross = Callable[[Sequence[Run]], Iterable[Prediction]]


@dataclass(frozen=True)
class Skipped:
    """A law that does not apply, and the reason.

    With the part of the scenario that it does not apply to, if there are several; and whether the user asked for it.
    """

    id: str
    reason: str
    part: str = ""
    asked: bool = False


def nothing_recorded(run: Run) -> Recorder:
    """An empty recorder, for laws that need no more than every run records."""
    return Recorder()


def nothing_across(runs: Sequence[Run]) -> Iterable[Prediction]:
    """No rows, for laws that say nothing about several sweep points together."""
    return []


@dataclass(frozen=True)
class Law:
    """A prediction of theory about one quantity of a run, with its derivation and its range.

    Parameters
    ----------
    id
        The name of the law: ``equipartition``.
    title
        The law in a few words.
    source
        arXiv id if the paper has the formula, else "re-derived".
    holds
        The conditions under which it holds, in words.
    derivation
        The assumptions it follows from, and what it neglects.
    at_point
        Function that yields rows about one run; raises `NotApplicable`.
    records
        Function that gives what must be recorded in a run.
    across
        Function that yields rows about several sweep points; their `point` stays as it is. May raise `NotApplicable`.
    automatic
        True if an ensemble of the user's own is held against the law without being asked. Other laws take long, or
        speak of one optimizer's stationary state, which the recursion of moments covers where it is linear.
    finite_order
        True if the law is tested to an order, over several values of a small parameter.
    any_field
        True if it holds for any step of the parameters, not only for gradients of a loss.
    seconds
        Time that it may take at a point if the user did not ask for it.
    """

    id: str
    title: str
    source: str
    holds: str
    derivation: str
    at_point: Rows
    records: Callable[[Run], Recorder] = nothing_recorded
    across: RowsAcross = nothing_across
    automatic: bool = False
    finite_order: bool = False
    any_field: bool = False
    seconds: float = budget.SECONDS

    def _refusal(self, run: Run) -> str:
        """The reason why a law of this kind says nothing about a run; empty if it may say something."""
        try:
            require_simple_steps(run)
            run.loss.require_small()
            if not self.any_field:
                require_gradient(run.loss)
        except (NotApplicable, InputError) as reason:
            return str(reason)
        return ""

    def requirements(self, run: Run, seconds: float = inf) -> Recorder:
        """All that must be recorded, beyond what the run records already, so that the law can be checked.

        Parameters
        ----------
        run
            The run that the law is checked on.
        seconds
            Time that the law may take to tell; if it takes more, nothing is recorded for it.
        """
        if self._refusal(run):
            return Recorder()
        try:
            with budget.limited(seconds), guarded():
                wanted = self.records(run)
        except REFUSALS:
            return Recorder()
        missing = (o for o in wanted.observables if recorded_as(run, o) is None)
        return Recorder(snapshots=wanted.snapshots, observables=tuple(missing))

    def predictions(self, runs: Sequence[Run]) -> list[Prediction]:
        """All that the law says about the points of a sweep, or about one run.

        Raises
        ------
        NotApplicable
            If the law says nothing at any point.
        """
        found, reasons = self.evaluate(runs)
        require(found, "; ".join(reasons) or "nothing that it speaks of is recorded")
        return found

    def evaluate(self, runs: Sequence[Run], seconds: float = inf) -> tuple[list[Prediction], list[str]]:
        """Predictions, and the reasons of the points at which there are none.

        Parameters
        ----------
        runs
            The run at each point of the sweep.
        seconds
            Time that the law may take at a point; if it takes more, the following points are not tried either.
        """
        found: list[Prediction] = []
        reasons: dict[str, list[int]] = {}
        refusals = [self._refusal(run) for run in runs]
        for point, (run, refusal) in enumerate(zip(runs, refusals, strict=True)):
            if refusal:
                reasons.setdefault(refusal, []).append(point)
                continue
            try:
                with budget.limited(seconds), guarded():
                    budget.check()  # many points that take little time each take long together
                    rows = _finite(list(self.at_point(run)))
            except OutOfTime as reason:
                reasons[self._over(reason)] = list(range(point, len(runs)))
                break
            except REFUSALS as reason:
                reasons.setdefault(str(reason), []).append(point)
                continue
            found += [replace(row, point=point) if len(runs) > 1 else row for row in rows]
        try:
            with budget.limited(seconds), guarded():
                together = _finite(list(self.across(runs))) if len(runs) > 1 and not any(refusals) else []
        except REFUSALS as reason:
            together = []
            text = self._over(reason) if isinstance(reason, OutOfTime) else str(reason)
            reasons[text] = list(range(len(runs)))
        if together and not found:
            reasons = {}  # the law speaks of the points together, though of none alone
        found += together
        texts = [_at_points(reason, points, len(runs)) for reason, points in reasons.items()]
        return [replace(row, id=self.id, source=row.source or self.source) for row in found], texts

    def _over(self, reason: OutOfTime) -> str:
        return f"{reason}; --predict {self.id} sets no limit, and budget in [[predict]] another"


LAWS: dict[str, Law] = {}
"""Every law that is declared, by its id."""


def law(
    id: str,
    title: str,
    *,
    source: str,
    holds: str,
    records: Callable[[Run], Recorder] = nothing_recorded,
    across: RowsAcross = nothing_across,
    automatic: bool = False,
    finite_order: bool = False,
    any_field: bool = False,
    seconds: float = budget.SECONDS,
) -> Callable[[Rows], Rows]:
    """Declare the function below as a law; the keywords are those of `Law`, the derivation is its docstring.

    Examples
    --------
    >>> @law("at-home", "it stays where it is", source="ours", holds="for a loss without slope")
    ... def at_home(run):
    ...     '''No slope, no step.'''
    ...     yield row(Moment("mean", "x", run.steps), run.initial["x"])
    >>> LAWS.pop("at-home").derivation
    'No slope, no step.'
    """

    def declare(function: Rows) -> Rows:
        assert id not in LAWS, f"{id} is declared twice"
        derivation = inspect.cleandoc(function.__doc__ or "")
        flags = automatic, finite_order, any_field, seconds
        LAWS[id] = Law(id, title, source, holds, derivation, function, records, across, *flags)
        return function

    return declare


def row(
    measure: Measure,
    predicted: float,
    quantity: str = "",
    order: Order = "exact",
    resolution: float | None = None,
    **others: Any,
) -> Prediction:
    """A row of a law; it gets the law's name when the law is evaluated.

    Parameters
    ----------
    measure, predicted, order, resolution, **others
        Parameters of `Prediction`.
    quantity
        The quantity in words for people; by default the name of the measure.

    Examples
    --------
    >>> row(Moment("variance", "x", 100), 0.5, conditions="eta*a = 0.1").quantity
    'variance(x)'
    """
    return Prediction("", quantity or _called(measure), measure, predicted, order, resolution, **others)


def _finite(rows: Sequence[Prediction]) -> list[Prediction]:
    """The rows whose predicted number is finite; refuses if there are rows, and none of them is finite."""
    kept = [row for row in rows if np.isfinite(row.predicted)]
    if rows and not kept:
        raise NotApplicable(f"its numbers overflow: {rows[0].quantity} is {rows[0].predicted:g}")
    return kept


def _called(measure: Measure) -> str:
    if isinstance(measure, Moment):
        return f"{measure.statistic}({measure.observable})"
    if isinstance(measure, Tail):
        return f"tail({measure.parameter})"
    assert isinstance(measure, Distance), f"a {measure.statistic} has no name of its own"
    return f"distribution of {measure.parameter}"


def ratio_row(
    moments: Moment | Iterable[Moment],
    unit: float,
    quantity: str,
    value: float = 1.0,
    order: Order = "exact",
    resolution: float | None = None,
    function: Callable[..., Any] = over,
    statistic: str = "ratio",
    **others: Any,
) -> Prediction:
    """A row about a moment, or several together, in units of what a formula gives for them.

    Parameters
    ----------
    moments
        The measured moments.
    unit
        The number that they are divided by.
    quantity
        The ratio in words for people.
    value
        The predicted ratio.
    order, resolution, **others
        Parameters of `Prediction`.
    function
        `over` for the sum of the moments, `change_over` for the difference of two.
    statistic
        The name of the ratio in a table.

    Examples
    --------
    >>> found = ratio_row(Moment("mean", "energy", 9), 0.5, "mean(energy) over T/2", order=1, small=0.1)
    >>> float(found.measure.function(0.45)), found.predicted
    (0.9, 1.0)
    """
    measured = (moments,) if isinstance(moments, Moment) else tuple(moments)
    return row(Function(statistic, partial(function, unit), measured), value, quantity, order, resolution, **others)


def at_enough_values(rows: Iterable[Prediction]) -> list[Prediction]:
    """The rows of each series that has enough values of its small parameter for a test of the order."""
    found: dict[str, list[Prediction]] = {}
    for one in rows:
        found.setdefault(one.series, []).append(one)
    return [one for group in found.values() if len({one.small for one in group}) >= FEWEST_RATES for one in group]


def series(run: Run, steps: bool = True) -> str:
    """Everything about a run but its learning rate, as a text: points of one series differ in the rate alone.

    Parameters
    ----------
    run
        The run.
    steps
        True if its length and what it records count. They do not for runs compared at one time, or at rest.
    """
    tables = run.describe()
    del tables["optimizer"]["learning_rate"]
    if not steps:
        del tables["run"]["steps"], tables["record"]
    return json.dumps(tables, sort_keys=True)


def series_of(runs: Sequence[Run]) -> list[str]:
    """The series of each point of a sweep: runs of one series differ in the learning rate alone.

    Where runs of several rates last for the same time, their numbers of steps and their records may differ too.

    Examples
    --------
    >>> from sgdsim import Loss, Optimizer, Schedule
    >>> runs = [Run(Loss("x**2/2", ("x",)), Optimizer(), Schedule(f"1/{n}"), {"x": 1.0}, 9, 4 * n) for n in (2, 4)]
    >>> len({series(run) for run in runs}), len({*series_of(runs)})
    (2, 1)
    """
    times = [f"{run.schedule.times(run.steps)[-1]:.9g}" for run in runs]
    if len(set(times)) >= len({run.steps for run in runs}):
        return [series(run) for run in runs]
    return [
        f"time {time} {series(replace(run, steps=1, recorder=Recorder()))}"
        for time, run in zip(times, runs, strict=True)
    ]


def _at_points(reason: str, points: Sequence[int], total: int) -> str:
    return reason if len(points) == total else f"point {', '.join(map(str, points))}: {reason}"
