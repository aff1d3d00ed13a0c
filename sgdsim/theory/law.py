"""What a law is: what it needs recorded, and what it predicts.

A law is a function of a run that gives rows, declared where it stands by `law`; its docstring is its derivation. All
that are declared are in `LAWS`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Measure, NotApplicable, Order, Prediction
from sgdsim.theory.recorded_names import recorded_as


@dataclass(frozen=True)
class Skipped:
    """A law that does not apply, and why; of a scenario with parts, to which."""

    id: str
    reason: str
    part: str = ""


def nothing_recorded(run: Run) -> Recorder:
    """For laws that need no more than what every run records."""
    return Recorder()


def nothing_across(runs: Sequence[Run]) -> list[Prediction]:
    """For laws that say nothing about several sweep points together."""
    return []


@dataclass(frozen=True)
class Law:
    """What theory says about one quantity of a run.

    Parameters
    ----------
    id
        What it is called: ``equipartition``.
    title
        What it says in a few words.
    source
        arXiv id where the paper has the formula, else "re-derived".
    holds
        Where it holds, in words.
    derivation
        What it follows from, and what it neglects.
    at_point
        Predictions for one run; raises `NotApplicable`.
    records
        What must be recorded for one run.
    across
        Predictions about several sweep points; their `point` stays as it is. May raise `NotApplicable`, too.
    automatic
        Whether an ensemble of the user's own is held against it without being asked. Others take long, or speak of one
        optimizer's stationary state, which the recursion of moments covers where it is linear.
    finite_order
        Whether it is tested to an order, over several learning rates.
    """

    id: str
    title: str
    source: str
    holds: str
    derivation: str
    at_point: Callable[[Run], Sequence[Prediction]]
    records: Callable[[Run], Recorder] = nothing_recorded
    across: Callable[[Sequence[Run]], Sequence[Prediction]] = nothing_across
    automatic: bool = False
    finite_order: bool = False

    def requirements(self, run: Run) -> Recorder:
        """What must be recorded, beyond what the run records already, so that the law can be checked."""
        try:
            wanted = self.records(run)
        except NotApplicable:
            return Recorder()
        missing = (o for o in wanted.observables if recorded_as(run, o) is None)
        return Recorder(snapshots=wanted.snapshots, observables=tuple(missing))

    def predictions(self, runs: Sequence[Run]) -> list[Prediction]:
        """All that the law says about the points of a sweep, or about one run.

        Raises
        ------
        NotApplicable
            Where it says nothing at any point.
        """
        found, reasons = self.evaluate(runs)
        if not found:
            raise NotApplicable("; ".join(reasons) or "nothing that it speaks of is recorded")
        return found

    def evaluate(self, runs: Sequence[Run]) -> tuple[list[Prediction], list[str]]:
        """Predictions, and the reasons of the points at which there are none."""
        found: list[Prediction] = []
        reasons: dict[str, list[int]] = {}
        for point, run in enumerate(runs):
            try:
                rows = self.at_point(run)
            except NotApplicable as reason:
                reasons.setdefault(str(reason), []).append(point)
                continue
            found += [replace(row, point=point) if len(runs) > 1 else row for row in rows]
        try:
            together = self.across(runs) if len(runs) > 1 else []
        except NotApplicable as reason:
            together = []
            reasons[str(reason)] = list(range(len(runs)))
        if together and not found:
            reasons = {}  # it speaks of the points together, if of none alone
        found += together
        texts = [_at_points(reason, points, len(runs)) for reason, points in reasons.items()]
        return [replace(row, id=self.id, source=row.source or self.source) for row in found], texts


LAWS: dict[str, Law] = {}
"""Every law that is declared, by its id."""


def law(
    id: str,
    title: str,
    *,
    source: str,
    holds: str,
    records: Callable[[Run], Recorder] = nothing_recorded,
    across: Callable[[Sequence[Run]], Sequence[Prediction]] = nothing_across,
    automatic: bool = False,
    finite_order: bool = False,
) -> Callable[[Callable[[Run], list[Prediction]]], Callable[[Run], list[Prediction]]]:
    """Declare the function below as a law; the keywords are those of `Law`, the derivation is its docstring.

    Examples
    --------
    >>> from sgdsim.prediction import Moment
    >>> @law("at-home", "it stays where it is", source="ours", holds="for a loss without slope")
    ... def at_home(run):
    ...     '''No slope, no step.'''
    ...     return [row("mean(x)", Moment("mean", "x", run.steps), run.initial["x"])]
    >>> LAWS.pop("at-home").derivation
    'No slope, no step.'
    """

    def declare(function: Callable[[Run], list[Prediction]]) -> Callable[[Run], list[Prediction]]:
        assert id not in LAWS, f"{id} is declared twice"
        derivation = inspect.cleandoc(function.__doc__ or "")
        LAWS[id] = Law(id, title, source, holds, derivation, function, records, across, automatic, finite_order)
        return function

    return declare


def row(
    quantity: str,
    measure: Measure,
    predicted: float,
    order: Order = "exact",
    resolution: float | None = None,
    **others: Any,
) -> Prediction:
    """A row of a law, which is named when the law is evaluated; the arguments are those of `Prediction` but its id."""
    return Prediction("", quantity, measure, predicted, order, resolution, **others)


def _at_points(reason: str, points: Sequence[int], total: int) -> str:
    return reason if len(points) == total else f"point {', '.join(map(str, points))}: {reason}"


def series(run: Run) -> str:
    """Everything about a run but its learning rate, as a text: points of one series differ in the rate alone."""
    tables = run.describe()
    del tables["optimizer"]["learning_rate"]
    return json.dumps(tables, sort_keys=True)
