"""Charges of symmetries: their exact change along each trajectory, and their mean."""

from __future__ import annotations

from functools import partial

import numpy as np

from sgdsim.model.loss import Loss
from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, require, stored
from sgdsim.theory.law import law, row
from sgdsim.theory.methods.charge_balance import Balance, known_changes
from sgdsim.theory.methods.moment_recursion import StateMoments, recursion
from sgdsim.theory.recorded_names import name_of


def _usable(run: Run) -> list[tuple[str, Balance]]:
    """The symmetries whose charge has a known exact change, each with the charge's name; found ones come last."""
    known = known_changes(run)
    require(
        "learning_rate" not in run.loss.namespace_names,
        "learning_rate is a name of the loss, and the change of a charge needs that of the step",
    )
    require(
        not (run.optimizer.preconditioner or run.optimizer.metric),
        "with a matrix of learning rates the charge is another one than the loss's",
    )
    return known


def _charge(name: str, balance: Balance) -> Observable:
    is_declared = balance.symmetry in balance.loss.symmetries
    return Observable(f"charge_{name}", f"charge({name})" if is_declared else str(balance.charge))


def _pushes(run: Run, name: str, balance: Balance) -> Observable:
    """The observable that sums ``(eta^2/2) g^T A g`` over all steps."""
    text = str(balance.change)
    return Observable(f"pushes_{name}", f"learning_rate**2*({text})", (0, run.steps), "sum")


def _records(run: Run) -> Recorder:
    wanted: list[Observable] = []
    for name, balance in _usable(run):
        wanted.append(_charge(name, balance))
        if not balance.is_translation and not balance.decay:
            wanted.append(_pushes(run, name, balance))
    return Recorder(observables=tuple(wanted))


@law(
    "charges",
    "charges of symmetries: exact change along each trajectory, and their mean",
    source="re-derived; balance arXiv:2308.06671",
    holds="a symmetry with a charge, declared or found, plain SGD",
    records=_records,
    automatic=True,
)
def charges(run: Run) -> list[Prediction]:
    """The change of a symmetry's charge by SGD. Exact, path by path.

        Q' = (1 - eta*lambda)^2*Q + (eta^2/2)*g^T A g,

    so that without weight decay ``Q_t - Q_0`` is the sum of the last terms over the steps, which is recorded along each
    trajectory and held against the charge itself. The charge of a translation changes by weight decay alone. If the
    gradient is affine in the parameters, the mean of the charge is also predicted by the recursion of moments.
    """
    rows: list[Prediction] = []
    for name, balance in _usable(run):
        charge = name_of(run, _charge(name, balance))
        if balance.is_translation:
            rows.append(_translation(run, charge, balance))
        elif not balance.decay:
            rows.append(_identity(run, charge, name_of(run, _pushes(run, name, balance)), balance))
        rows += _mean(run, charge, balance)
    require(rows, "with weight decay the sum over the steps has no closed form")
    return rows


def _scale(run: Run) -> float:
    """The mean square ``E |theta_0|^2`` of the start, the scale of a charge that may vanish."""
    starts = [run.initial[name] for name in run.loss.parameters]
    return float(sum(s * s if isinstance(s, float | int) else s.moment(2) for s in starts)) or 1.0


def _translation(run: Run, charge: str, balance: Balance) -> Prediction:
    """A row on the charge of a translation, which each step multiplies by the same factor."""
    kept = float(np.prod([balance.kept(rate) for rate in run.schedule.rates(run.steps)]))
    moments = (Moment("mean", charge, run.steps), Moment("mean", charge, 0))
    measure = Function("kept charge", partial(_unexplained, _scale(run), kept), moments)
    quantity = f"mean({charge}) less {kept:.6g} of its start"
    return _row_of_scale(run, measure, quantity, "a step changes it by weight decay alone")


def _identity(run: Run, charge: str, pushes: str, balance: Balance) -> Prediction:
    moments = (Moment("mean", charge, run.steps), Moment("mean", charge, 0), Moment("mean", pushes, run.steps))
    measure = Function("change of the charge", partial(_unexplained, _scale(run), 1.0), moments)
    quantity = f"mean({charge}) less its start and {pushes}"
    return _row_of_scale(run, measure, quantity, "every step changes it by (eta^2/2)*g^T A g")


def _row_of_scale(run: Run, measure: Function, quantity: str, conditions: str) -> Prediction:
    """A row on a number that is zero, to which the scale of the charge is added."""
    scale = _scale(run)
    return row(measure, scale, f"{quantity}, plus E|theta_0|^2", resolution=1e-3 * scale, conditions=conditions)


@stored
def _unexplained(scale: float, kept: float, last: np.ndarray, first: np.ndarray, *pushes: np.ndarray) -> np.ndarray:
    """The unexplained change of a charge, which is zero, added to its scale: a sum whose rounding is known."""
    return np.asarray(scale + last - kept * first - sum(pushes))


def _mean(run: Run, charge: str, balance: Balance) -> list[Prediction]:
    """A row on the mean of the charge, if the recursion of second moments is closed; else none."""
    try:
        moments = recursion(run, 2).after(run.steps)
    except NotApplicable:
        return []
    value = _mean_of(run.loss, balance, moments)
    if not np.isfinite(value):
        return []
    resolution = max(0.01 * abs(value), 1e-3 * _scale(run))
    return [row(Moment("mean", charge, run.steps), value, resolution=resolution)]


def _mean_of(loss: Loss, balance: Balance, moments: StateMoments) -> float:
    import sympy

    polynomial = sympy.Poly(balance.charge, *loss.theta)
    constants = {loss.symbols[name]: value for name, value in loss.constants.items()}
    total = 0.0
    for powers, coefficient in polynomial.terms():
        names = [name for name, power in zip(loss.parameters, powers, strict=True) for _ in range(power)]
        means = [moments.mean(name) for name in names]
        spread = moments.covariance(*names) if len(names) == 2 else 0.0
        total += float(coefficient.subs(constants)) * (float(np.prod(means)) + spread)
    return total
