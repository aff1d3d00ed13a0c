"""The names under which a run records the observables of laws, found by the meaning of their formulas."""

from __future__ import annotations

import re

from sgdsim.base.errors import InputError
from sgdsim.model.loss import Loss
from sgdsim.model.observables import Observable
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable


def name_of(run: Run, observable: Observable) -> str:
    """The name under which a run records an observable, found by the meaning of its formula.

    Raises
    ------
    NotApplicable
        If the run does not record it.
    """
    name = recorded_as(run, observable)
    if name is None:
        raise NotApplicable(f"the observable {observable.name} = {str(observable)!r} is not recorded")
    return name


def label_of(parameter: str) -> str:
    """A parameter, or a product of several, as a part of a name.

    Examples
    --------
    >>> label_of("x[0]"), label_of("W[0,2]"), label_of("x[0]*y")
    ('x_0', 'W_0_2', 'x_0_times_y')
    """
    return "_times_".join(re.sub(r"\W", "_", factor.rstrip("]")) for factor in parameter.split("*"))


def recorded_as(run: Run, wanted: Observable) -> str | None:
    """The name under which a run records an observable; None if the run does not record it."""
    alike = [one for one in run.recorder.observables if (one.window, one.kind) == (wanted.window, wanted.kind)]
    for known in sorted(alike, key=lambda one: one.formula != wanted.formula):  # equal texts first: no SymPy
        if _same(run.loss, known.formula, wanted.formula):
            return known.name
    return None


def _same(loss: Loss, one: str, other: str) -> bool:
    import sympy

    if one == other:
        return True
    try:
        return bool(sympy.expand(loss.expand(one) - loss.expand(other)) == 0)
    except InputError:  # an observable without a closed form is not one of theory's
        return False
