"""Runs that are wrong in one way, to be held against what theory says of the right one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import sqrt

from sgdsim.model.loss import Loss
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.update_rules import OPTIMIZERS

Fault = Callable[[Run], Run | None]
"""The run with a fault; None where it makes no difference."""


def _standardised(loss: Loss, name: str) -> str:
    noise = loss.noise[name]
    return f"(({name} - {noise.moment(1)!r})/{sqrt(noise.cumulant(2))!r})"


def _replaced(run: Run, name: str, text: str) -> Run:
    """The run whose formula has another expression, of the same noise, in the place of a noise variable."""
    formula = re.sub(rf"\b{name}\b", f"({text})", run.loss.formula)
    return replace(run, loss=replace(run.loss, formula=formula))


def _drawn(run: Run) -> list[str]:
    return [] if run.optimizer.rule.population else list(run.loss.noise)


def variance_off(run: Run) -> Run | None:
    """The variance of the first noise is 3 % too large."""
    for name in _drawn(run):
        mean = run.loss.noise[name].moment(1)
        return _replaced(run, name, f"{mean!r} + {sqrt(1.03)!r}*({name} - {mean!r})")
    return None


def correlated(run: Run) -> Run | None:
    """The second noise has a correlation of 0.1 with the first, and the variance that it had."""
    names = _drawn(run)
    if len(names) < 2:
        return None
    first, second = names[:2]
    mean, spread = run.loss.noise[second].moment(1), sqrt(run.loss.noise[second].cumulant(2))
    mixed = f"0.1*{_standardised(run.loss, first)} + {sqrt(0.99)!r}*{_standardised(run.loss, second)}"
    return _replaced(run, second, f"{mean!r} + {spread!r}*({mixed})")


def late_rate(run: Run) -> Run | None:
    """Every step takes the rate of the step before."""
    rates = run.schedule.rates(run.steps).tolist()
    if min(rates) == max(rates):
        return None
    return replace(run, schedule=Schedule("late", table=(rates[0], *rates[:-1])))


def batch_sum(run: Run) -> Run | None:
    """The gradients of a batch are added up."""
    batch = run.optimizer.batch_size
    return None if batch == 1 else replace(run, loss=replace(run.loss, formula=f"{batch}*({run.loss.formula})"))


def uncorrected(run: Run) -> Run | None:
    """The averages of Adam start at zero, and nothing makes up for that; within `rules`."""
    if run.optimizer.name not in ("adam", "adamw"):
        return None
    return replace(run, optimizer=replace(run.optimizer, name=f"uncorrected_{run.optimizer.name}"))


@contextmanager
def rules() -> Iterator[None]:
    """Adam without correction among the optimizers."""
    for name in ("adam", "adamw"):
        rule = OPTIMIZERS[name]
        OPTIMIZERS[f"uncorrected_{name}"] = replace(
            rule, direction="mean/(sqrt(square) + epsilon)", scalars=rule.scalars[:2]
        )
    try:
        yield
    finally:
        for name in ("adam", "adamw"):
            del OPTIMIZERS[f"uncorrected_{name}"]


FAULTS: dict[str, Fault] = {
    "variance 3 % off": variance_off,
    "correlation 0.1": correlated,
    "rate one step late": late_rate,
    "batch sum": batch_sum,
    "no bias correction": uncorrected,
}
