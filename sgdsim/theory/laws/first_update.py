"""The first step of each trajectory, by the formula of the optimizer, given the gradient of its batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import aliased
from sgdsim.formulas.vectors import base_name
from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Moment, NotApplicable, Prediction, require
from sgdsim.theory.law import law, row
from sgdsim.theory.laws.identities import exact_text
from sgdsim.theory.methods.step_formula import after_step
from sgdsim.theory.methods.step_noise import named
from sgdsim.theory.recorded_names import label_of, name_of

MOST_ROWS = 3
"""Most parameters with rows: one update rule moves all alike, and a few are enough."""

# Part of the trajectories that may be off, and deviations of a step that are allowed:
_RESOLVED = 0.01
_OFF = 0.01  # relative to the step
_NEXT_TO_NOTHING = 1e-6  # in units of the learning rate: a step by a gradient that is zero but for rounding
_ROUNDING = 16.0  # in machine epsilons of the parameter


def _observables(run: Run) -> dict[str, Observable]:
    """For some parameters the observable that is 1 if the first step differs from the formula's, else 0."""
    rule = run.optimizer.rule
    require(not rule.linear, "the step is linear in the gradient, and its mean tells all")
    require(not rule.is_random, "the optimizer has noise of its own")
    gradient, rate = named("gradient", run.loss), float(run.schedule.rates(run.steps)[0])
    after, _ = after_step(run.loss, run.optimizer, gradient, rate, is_first=True)
    first: dict[str, int] = {}
    for i, name in enumerate(run.loss.parameters):
        first.setdefault(base_name(name), i)
    rounding, found = _ROUNDING * float(np.finfo(run.dtype).eps), dict[str, Observable]()
    for i in list(first.values())[:MOST_ROWS]:
        name = run.loss.parameters[i]
        end, step = (exact_text(value) for value in (after[i], after[i] - run.loss.theta[i]))
        allowed = f"{_OFF}*abs({step}) + {_NEXT_TO_NOTHING * abs(rate)} + {rounding}*abs({name})"
        formula = f"where(abs(next({name}) - ({end})) > {allowed}, 1, 0)"
        try:
            Formula.parse(aliased(formula))
        except InputError as error:
            raise NotApplicable(f"the step of {name} is no formula of moderate length: {error}") from None
        found[name] = Observable(f"other_step_{label_of(name)}", formula, (0, 1), "sum")
    return found


def _records(run: Run) -> Recorder:
    return Recorder(observables=tuple(_observables(run).values()))


@law(
    "first-update",
    "the first step of every trajectory is what the optimizer makes of the gradient of its batch",
    source="re-derived",
    holds="any loss, start, batch and noise; optimizers whose step is not linear in the gradient",
    records=_records,
    automatic=True,
    any_field=True,
)
def first_update(run: Run) -> Iterator[Prediction]:
    """The first step of every trajectory, given the gradient of its batch. Exact.

    Before its first step an optimizer has nothing to remember, so that the step is a formula of the parameter and of
    the gradient g of one batch. Adam's is ``eta*g/(|g| + epsilon)`` whatever the noise is; without the correction of
    the bias of its averages it would be ``(1 - beta1)/sqrt(1 - beta2)`` times as large, by default 3.2 times.

    Each trajectory is held against the formula with its own gradient: a row is the share of the trajectories whose step
    is off by more than 1 %, which must be zero, and is resolved to 1 %. No mean is taken over the noise, so that its
    law does not matter, nor whether gradients have both signs, nor how many parameters there are. If they are more than
    three, or entries of matrices and vectors, a few have rows. Whether the gradient is right is left to other laws.
    """
    for name, observable in _observables(run).items():
        measure = Moment("mean", name_of(run, observable), run.steps)
        yield row(measure, 0.0, f"share of other first steps of {name}", resolution=_RESOLVED)
