"""Predictions from the descriptions of a run alone; a law is one file here and one entry in `LAWS`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sgdsim.base.errors import InputError, unknown_name
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import NotApplicable, Prediction
from sgdsim.theory.claims import UserPrediction, parse_user_prediction
from sgdsim.theory.law import Law, Skipped
from sgdsim.theory.laws import (
    exact_chain,
    nt7,
    nt20,
    nt26,
    nt28,
    ntl1,
    ntl2,
    ntl3,
    ntl4,
    ntl5,
    ntl6,
    ntl7,
    ntl8,
    ntl9,
    ntl10,
    ntl11,
    ntl12,
    ntl13,
    ntl14,
    ntl15,
    ntl16,
    ntl17,
    ntl18,
    ntl19,
    ntl20,
    ntl20d,
    ntl21,
    ntl22,
    ntl22c,
    ntl23,
    ntl23b,
    ntl24,
    ntl25,
    ntl26,
    ntl27,
    ntl28,
    ntl29,
    ntl29b,
    ntl30,
    ntl31,
)

__all__ = [
    "AUTOMATIC",
    "LAWS",
    "Law",
    "NotApplicable",
    "Prediction",
    "Skipped",
    "UserPrediction",
    "law",
    "parse_user_prediction",
    "predict",
    "requirements",
]

_AUTOMATIC = (ntl1, ntl2, ntl3, ntl4, ntl12, nt7, nt20, nt26, nt28)
_ASKED = (
    ntl5,
    ntl6,
    ntl7,
    ntl8,
    ntl9,
    ntl10,
    ntl11,
    ntl13,
    ntl14,
    ntl15,
    ntl16,
    ntl17,
    ntl18,
    ntl19,
    ntl20,
    ntl20d,
    ntl21,
    ntl22,
    ntl22c,
    ntl23,
    ntl23b,
    ntl24,
    ntl25,
    ntl26,
    ntl27,
    ntl28,
    ntl29,
    ntl29b,
    ntl30,
    ntl31,
    exact_chain,
)

LAWS: dict[str, Law] = {module.LAW.id: module.LAW for module in (*_AUTOMATIC, *_ASKED)}

AUTOMATIC = tuple(module.LAW.id for module in _AUTOMATIC)
"""What an ensemble of the user's own is held against without being asked.

The others take long, or speak of one optimizer's stationary state, which the moments of NT-26 cover where it is linear.
"""


def law(id: str) -> Law:
    """A law by its identifier.

    Raises
    ------
    InputError
        For an unknown one, with a near match.

    Examples
    --------
    >>> law("NTL-2").title
    'fast loss and temperature: <U> = T_eff/2 and Var U'
    """
    if id not in LAWS:
        raise InputError(f"predict: {unknown_name('law', id, LAWS)}")
    return LAWS[id]


def requirements(laws: Iterable[Law], run: Run) -> Recorder:
    """All that must be recorded so that the laws can be checked, beyond what the run records already.

    Examples
    --------
    >>> from sgdsim.model.losses.river_valley import river_valley
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = river_valley(a="a0", c="0", constants={"a0": 2.0})
    >>> run = Run(loss, Optimizer(), Schedule("0.1"), {"x": 0.0, "y": 0.0}, 100, 10)
    >>> wanted = requirements([law("NTL-1"), law("NTL-2")], run)
    >>> wanted.snapshots, [str(observable) for observable in wanted.observables]
    ((10,), ['a0*x**2/2'])
    """
    wanted = Recorder()
    for one in laws:
        wanted = wanted.merge(one.requirements(run))
    return wanted


def predict(sources: Iterable[Law | UserPrediction], runs: Sequence[Run]) -> tuple[list[Prediction], list[Skipped]]:
    """What laws and user say about the points of a sweep, and where laws do not apply.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> run = Run(Loss("x**4", ("x",)), Optimizer(), Schedule("0.1"), {"x": 1.0}, 100, 10)
    >>> predict([law("NTL-1")], [run])[1][0].reason
    'no parameter has a gradient a*p + noise, with noise of its own and a free of both'
    """
    found: list[Prediction] = []
    skipped: list[Skipped] = []
    for source in sources:
        if isinstance(source, UserPrediction):
            found += source.predictions(runs)
            continue
        rows, reasons = source.evaluate(runs)
        found += rows
        if not rows and not reasons:
            reasons = ["nothing that it speaks of is recorded"]
        skipped += [Skipped(source.id, reason) for reason in reasons]
    return found, skipped
