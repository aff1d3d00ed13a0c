"""Gradient balance: at rest, the gradients of parameters that a symmetry joins balance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.formulas.expressions import formula_text
from sgdsim.model.observables import Observable, late
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, require
from sgdsim.theory.law import at_enough_values, law, ratio_row, row, series
from sgdsim.theory.methods.balanced_orbit import BalancedPoint, balanced_point, generator_of
from sgdsim.theory.methods.charge_balance import Balance, known_changes
from sgdsim.theory.methods.modes import constant_rate
from sgdsim.theory.recorded_names import name_of

BURN_IN = 7.0
"""Relaxation times before averages begin: after only two, a slow charge was off by 20 standard errors."""
_SMALL = 1e-3  # charge in units of |A theta|^2 below which a point counts as symmetric
_RESOLUTION = 0.01  # resolution of the ratio, which is 1 at rest


def _balance(run: Run) -> tuple[Balance, BalancedPoint]:
    """The only symmetry with a charge, and the point at which it rests from the middle of the run on."""
    found = [one for _, one in known_changes(run) if not one.is_translation]
    require(found, "the loss has no symmetry with a charge but translations, which no step changes")
    require(len(found) == 1, f"holds for one symmetry with a charge, the loss has {len(found)}")
    require(
        "learning_rate" not in run.loss.namespace_names,
        "learning_rate is a name of the loss, and the balance needs that of the step",
    )
    generator_of(run, found[0])
    point = balanced_point(run, found[0])
    needed = int(np.ceil(2.0 * BURN_IN * point.relaxation))
    require(
        not run.steps < needed,
        f"the charge of {found[0].symmetry.name} relaxes in {point.relaxation:.4g} steps, and the first half of the "
        f"run must have {BURN_IN:g} times as many: at least {needed:,} steps, not {run.steps:,}",
    )
    return found[0], point


def _sides(run: Run, balance: Balance) -> tuple[Observable, Observable]:
    """The pushes on the charge upwards and downwards over the last half of the run, in units of eta^2/2."""
    import sympy

    powers, axes = np.linalg.eigh(generator_of(run, balance))
    g, matrix = sympy.Matrix(balance.batch_gradient), run.optimizer.matrix(run.loss)
    rates = sympy.eye(len(g)) if matrix is None else matrix

    def push(part: np.ndarray) -> str:
        signed = sympy.Matrix(((axes * part) @ axes.T).round(12)).applyfunc(sympy.nsimplify)
        return formula_text(sympy.expand((g.T * signed * rates * g)[0]))

    down = push(np.maximum(-powers, 0.0))
    if balance.decay:
        down += f" + 2*(1 - (1 - learning_rate*{balance.decay!r})**2)/learning_rate**2*({balance.charge})"
    return tuple(  # type: ignore[return-value]
        late(Observable(f"{side}_{balance.symmetry.name}", text), run.steps)
        for side, text in (("gain", push(np.maximum(powers, 0.0))), ("drain", down))
    )


def _charge(run: Run, balance: Balance) -> Observable:
    return late(Observable(f"charge_{balance.symmetry.name}", str(balance.charge)), run.steps)


def _records(run: Run) -> Recorder:
    with suppress(NotApplicable, InputError):
        balance, _ = _balance(run)
        return Recorder(observables=(*_sides(run, balance), _charge(run, balance)))
    return Recorder()


def _across(runs: Sequence[Run]) -> list[Prediction]:
    """Rows on the charge at rest, over four learning rates or more."""
    rows: list[Prediction] = []
    for place, run in enumerate(runs):
        with suppress(NotApplicable):  # the reason is given at the point itself
            balance, point = _balance(run)
            if abs(point.charge) > _SMALL * point.size:
                name = name_of(run, _charge(run, balance))
                quantity = f"mean({name}) over that of balanced gradients"
                told: dict[str, Any] = {"point": place, "small": constant_rate(run), "series": series(run)}
                moment = Moment("mean", name, run.steps)
                rows.append(ratio_row(moment, point.charge, quantity, order=0, resolution=0.05, **told))
    return at_enough_values(rows)


@law(
    "gradient-balance",
    "gradient balance: equal pushes on a symmetry's charge from both sides, and where it comes to rest",
    source="re-derived; balance arXiv:2308.06671, arXiv:2505.12387",
    holds=(
        "one symmetry with a charge, declared or found, plain SGD at a constant rate with any decay, batch and "
        "diagonal rates, at rest for half of the run; the charge itself over four or more learning rates"
    ),
    records=_records,
    across=_across,
    automatic=True,
)
def gradient_balance(run: Run) -> Iterator[Prediction]:
    """Balance of the gradients that a symmetry joins. Exact; the charge at rest to leading order.

    Every step changes the charge of a symmetric generator A by

        Q' = (1 - eta*lambda)^2*Q + (eta^2/2)*g^T A g,

    so that any law at rest with a mean of Q has, at any learning rate,

        E g^T A g = (2/eta^2)*(1 - (1 - eta*lambda)^2)*E Q,

    with g the gradient of the batch. The positive part is tested against the negative part and that of the decay, as a
    ratio, averaged over the last half of the run. For a rescaling of two blocks without decay this is ``E|g_u|^2 =
    E|g_w|^2``. Gradients are equal in size, norms in general are not.

    The charge rests at the point on the orbit of the minimum where the noise of the gradient balances, to leading order
    in eta. It relaxes there by the part ``eta^2 E|Ag|^2/|A theta|^2 + 1 - (1 - eta*lambda)^2`` a step. The first half
    of the run must be seven such relaxation times long.
    """
    balance, point = _balance(run)
    gain, drain = (name_of(run, side) for side in _sides(run, balance))
    moments = (Moment("mean", gain, run.steps), Moment("mean", drain, run.steps))
    conditions = f"at rest after {BURN_IN:g} relaxation times of {point.relaxation:.4g} steps"
    measure = Function("balance", np.divide, moments)
    left = float(np.exp(-BURN_IN))  # part of the start that is left; the ratio keeps less
    told: dict[str, Any] = {"resolution": _RESOLUTION, "conditions": conditions, "allowed": (left, left)}
    yield row(measure, 1.0, f"mean({gain}) over {drain}", **told)
