"""NTL-13: generalised equipartition, ``<x V'> = (eta/2)*(<V'^2> + sigma^2)``. Exact in the stationary state.

It follows from ``<x'^2> = <x^2>`` for any potential V of one parameter and additive noise. In a power law,
``x V' = p*V``, so that with ``T = eta*sigma^2/2``

    <V> = (T/p)*(1 + <V'^2>/sigma^2),

to leading order T/p: the heat capacity is 1/p. Tested twice: the identity itself, measured moment against measured
moment, for any V; and for powers, the measured <V> against leading order as a rival.

Re-derived.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.errors import InputError
from sgdsim.observables import Observable
from sgdsim.run import Recorder, Run
from sgdsim.theory.flows import constant_rate
from sgdsim.theory.gibbs import Gibbs
from sgdsim.theory.law import Law, name_of
from sgdsim.theory.prediction import Function, Moment, NotApplicable, Prediction

if TYPE_CHECKING:
    import sympy

ID = "NTL-13"


def potential(run: Run) -> sympy.Expr:
    """The population loss of one parameter with additive noise.

    Raises
    ------
    NotApplicable
        For more parameters, noise that depends on the state, weight decay, and another optimizer than SGD.
    """
    if len(run.loss.parameters) != 1:
        raise NotApplicable(f"holds for one parameter, the loss has {len(run.loss.parameters)}")
    if run.optimizer.name != "sgd" or run.optimizer.decay:
        raise NotApplicable("holds for plain sgd without weight decay")
    Gibbs(run)  # refuses noise that is not additive
    try:
        return run.loss.population
    except InputError as error:
        raise NotApplicable(f"the population loss has no closed form: {error}") from None


def _observables(run: Run) -> tuple[Observable, Observable]:
    slope, symbol = potential(run).diff(run.loss.theta[0]), run.loss.theta[0]
    return Observable("virial", str(symbol * slope)), Observable("squared_slope", str(slope**2))


def _records(run: Run) -> Recorder:
    return Recorder(observables=_observables(run))


def _at_point(run: Run) -> list[Prediction]:
    virial, squared = (name_of(run, one) for one in _observables(run))
    temperature, rate = Gibbs(run).temperature, constant_rate(run)
    moments = (Moment("mean", virial, run.steps), Moment("mean", squared, run.steps))
    measure = Function("virial", partial(_in_temperatures, rate, temperature), moments)
    quantity = "(<x V'> - (eta/2) <V'^2>)/T"
    return [Prediction(ID, quantity, measure, 1.0, conditions=f"T = {temperature:.4g}")]


def _in_temperatures(rate: float, temperature: float, virial: np.ndarray, squared: np.ndarray) -> np.ndarray:
    return np.asarray((virial - rate / 2.0 * squared) / temperature)


LAW = Law(
    ID,
    "generalised equipartition <x V'> = (eta/2)(<V'^2> + sigma^2) in any potential",
    "re-derived, sgdsim handbook NTL-13",
    _records,
    _at_point,
)
