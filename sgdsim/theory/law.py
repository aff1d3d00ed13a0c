"""What a law of the handbook is: what it needs recorded, and what it predicts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.model.loss import Loss
from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import NotApplicable, Prediction
from sgdsim.theory.methods.fast_directions import Mode


@dataclass(frozen=True)
class Skipped:
    """A law that does not apply, and why; of a scenario with parts, to which."""

    id: str
    reason: str
    part: str = ""


def nothing_across(runs: Sequence[Run]) -> list[Prediction]:
    """For laws that say nothing about several sweep points together."""
    return []


@dataclass(frozen=True)
class Law:
    """A law of the handbook.

    Parameters
    ----------
    id, title
        ``NTL-1``, and what it says in a few words.
    source
        arXiv id where the handbook confirms that the paper has it, else "re-derived".
    records
        What must be recorded for one run.
    at_point
        Predictions for one run; raises `NotApplicable`.
    across
        Predictions about several sweep points; their `point` stays as it is. May raise `NotApplicable`, too.
    finite_order
        Whether it is tested to an order, over several learning rates.
    """

    id: str
    title: str
    source: str
    records: Callable[[Run], Recorder]
    at_point: Callable[[Run], list[Prediction]]
    across: Callable[[Sequence[Run]], list[Prediction]] = nothing_across
    finite_order: bool = False

    def requirements(self, run: Run) -> Recorder:
        """What must be recorded, beyond what the run records already, so that the law can be checked."""
        try:
            wanted = self.records(run)
        except NotApplicable:
            return Recorder()
        missing = (o for o in wanted.observables if _recorded_as(run, o) is None)
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
        return [replace(row, source=row.source or self.source) for row in found], texts


def _at_points(reason: str, points: Sequence[int], total: int) -> str:
    return reason if len(points) == total else f"point {', '.join(map(str, points))}: {reason}"


def name_of(run: Run, observable: Observable) -> str:
    """The name under which a run records an observable, found by what it means.

    Raises
    ------
    NotApplicable
        If it is not recorded.
    """
    name = _recorded_as(run, observable)
    if name is None:
        raise NotApplicable(f"the observable {observable.name} = {str(observable)!r} is not recorded")
    return name


def _recorded_as(run: Run, wanted: Observable) -> str | None:
    for known in run.recorder.observables:
        if known.window == wanted.window and _same(run.loss, known.formula, wanted.formula):
            return known.name
    return None


def _same(loss: Loss, one: str, other: str) -> bool:
    import sympy

    if one == other:
        return True
    try:
        return bool(sympy.expand(loss.expand(one) - loss.expand(other)) == 0)
    except InputError:  # an observable without a closed form is none of ours
        return False


def series(run: Run) -> str:
    """Everything about a run but its learning rate, as a text: points of one series differ in the rate alone."""
    tables = run.describe()
    del tables["optimizer"]["learning_rate"]
    return json.dumps(tables, sort_keys=True)


def middle_step(mode: Mode) -> int | None:
    """The recorded step, neither first nor last, at which the start is nearest to being forgotten to 1/e."""
    steps = mode.run.recorder.record_steps(mode.run.steps)[1:-1]
    if not len(steps):
        return None
    memory = np.cumprod(np.abs(1.0 - mode.pull))[steps - 1]
    return int(steps[np.argmin(np.abs(memory - np.exp(-1.0)))])


def when(mode: Mode, step: int) -> str:
    """How a step is named in a quantity: not at all for the last."""
    return "" if step == mode.run.steps else f" at step {step}"
