"""Runs that are wrong in one way, to be held against what theory says of the right one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import sqrt

from sgdsim.formulas.vectors import base_name
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.update_rules import OPTIMIZERS
from sgdsim.model.written_loss import Definition

Fault = Callable[[Run], Run | None]
"""Of a run with dials: the run with a fault; None where it makes no difference."""

NEUTRAL = {"dial_spread": 1.0, "dial_correlation": 0.0, "dial_batch": 1.0}


def with_dials(run: Run) -> Run:
    """Run whose formulas have constants that turn it into a wrong one, so that all faults share a kernel."""
    loss, factor = run.loss, "dial_batch"
    wrong = _noises(run)
    names = [name for name in loss.noise if name in wrong]
    vectors = {
        base_name(name): tuple(wrong.get(one, one) for one in loss.noise if base_name(one) == base_name(name))
        for name in names
    }
    definitions = {f"dialled_{base}": told if f"{base}[0]" in loss.noise else told[0] for base, told in vectors.items()}

    def dialled(formula: Definition) -> str:
        assert isinstance(formula, str)
        for base in vectors:
            formula = re.sub(rf"\b{base}\b", f"dialled_{base}", formula)
        return f"{factor}*({formula})"

    told = {key: dialled(formula) for key, formula in loss.direction.items()}
    formula = dialled(loss.formula) if loss.formula else ""
    constants = {**loss.constants, **NEUTRAL}
    return replace(
        run, loss=replace(loss, formula=formula, direction=told, constants=constants, definitions=definitions)
    )


def _noises(run: Run) -> dict[str, str]:
    """Formulas that replace the first and the second noise variable."""
    found, names = {}, _drawn(run)[:2]
    means = [run.loss.noise[name].moment(1) for name in names]
    spreads = [sqrt(run.loss.noise[name].cumulant(2)) for name in names]
    if names:
        found[names[0]] = f"{means[0]!r} + dial_spread*({names[0]} - {means[0]!r})"
    if len(names) == 2:
        shared = f"dial_correlation*{spreads[1] / spreads[0]!r}*({names[0]} - {means[0]!r})"
        found[names[1]] = f"{means[1]!r} + {shared} + sqrt(1 - dial_correlation**2)*({names[1]} - {means[1]!r})"
    return found


def _drawn(run: Run) -> list[str]:
    return [] if run.optimizer.rule.population else list(run.loss.noise)


def _turned(run: Run, **dials: float) -> Run:
    return replace(run, loss=replace(run.loss, constants={**run.loss.constants, **dials}))


def variance_off(run: Run) -> Run | None:
    """The variance of the first noise is 3 % too large."""
    return _turned(run, dial_spread=sqrt(1.03)) if _drawn(run) else None


def correlated(run: Run) -> Run | None:
    """The second noise has a correlation of 0.1 with the first, and the variance that it had."""
    return _turned(run, dial_correlation=0.1) if len(_drawn(run)) > 1 else None


def late_rate(run: Run) -> Run | None:
    """Every step takes the rate of the step before."""
    rates = run.schedule.rates(run.steps).tolist()
    if min(rates) == max(rates):
        return None
    return replace(run, schedule=Schedule("late", table=(rates[0], *rates[:-1])))


def batch_sum(run: Run) -> Run | None:
    """The gradients of a batch are added up."""
    batch = run.optimizer.batch_size
    return _turned(run, dial_batch=float(batch)) if batch > 1 else None


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
