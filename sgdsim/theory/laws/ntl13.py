"""NTL-13: generalised equipartition, ``<x V'> = (eta/2)*(<V'^2> + sigma^2)``. Exact in the stationary state.

It follows from ``<x'^2> = <x^2>`` for any potential V of one parameter and additive noise. In a power law,
``x V' = p*V``, so that with ``T = eta*sigma^2/2``

    <V> = (T/p)*(1 + <V'^2>/sigma^2),

to leading order T/p: the heat capacity is 1/p. The next order has Gibbs' moment of ``V = (c/p)*|x|^p``,

    <V'^2> = c^2*<|x|^m>,    <|x|^m> = (p*T/c)^(m/p)*Gamma((m + 1)/p)/Gamma(1/p),    m = 2*p - 2.

In units of sigma^2 it is the one small parameter e of a power law, ~ eta^(2 - 2/p), and what is left out of ``p*<V>/T =
1 + e`` is of order e^2; p = 1 is exact, ``<V> = (eta/2)*(c^2 + sigma^2)``.
Tested in averages over late times are the identity itself, measured moment against measured moment, for any V; and <V>
of powers, of p = 1 as it stands, else over four or more e.

Re-derived.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import gamma
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import FEWEST_RATES, Function, Moment, NotApplicable, Prediction, Rival, over
from sgdsim.theory.law import Law, name_of
from sgdsim.theory.laws.late import late
from sgdsim.theory.methods.gibbs import Gibbs
from sgdsim.theory.methods.gradient_flow import constant_rate

if TYPE_CHECKING:
    import sympy

ID = "NTL-13"
_OF_IDENTITY = 0.01  # its resolution, or half of what its second term amounts to where that is less


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


def in_a_well(run: Run) -> Run:
    """The run from the first point of its start, so that a search from there finds a minimum and not the barrier."""
    starts = {
        name: float(start.atoms()[0][0]) if isinstance(start, Noise) and start.atoms() else start
        for name, start in run.initial.items()
    }
    return replace(run, initial=starts)


def _observables(run: Run) -> tuple[Observable, Observable]:
    slope, symbol = potential(run).diff(run.loss.theta[0]), run.loss.theta[0]
    virial, squared = Observable("virial", str(symbol * slope)), Observable("squared_slope", str(slope**2))
    return late(virial, run.steps), late(squared, run.steps)


@dataclass(frozen=True)
class PowerLaw:
    """``V = (coefficient/power)*|x|^power``.

    Examples
    --------
    >>> round(PowerLaw(4.0, 1.0).small(0.02, 0.01), 6)
    0.001434
    """

    power: float
    coefficient: float

    @classmethod
    def of(cls, run: Run) -> PowerLaw | None:
        """What the potential of a run is, if it is one."""
        from sgdsim.formulas import evaluation

        (name,), value = run.loss.parameters, potential(run)
        x = np.array([-1.7, -0.6, 0.6, 1.0, 1.7])
        values, slopes = (
            np.broadcast_to(one, x.shape)
            for one in evaluation.evaluate([value, value.diff(run.loss.theta[0])], {**run.loss.constants, name: x})
        )
        with np.errstate(all="ignore"):
            powers = x * slopes / values
        power = float(powers[3])
        if not (np.allclose(powers, power, rtol=1e-9, atol=0.0) and np.isclose(values[1], values[2]) and power >= 1.0):
            return None
        return cls(round(power, 9), float(slopes[3]))

    def small(self, temperature: float, rate: float) -> float:
        """Gibbs' moment <V'^2>, in units of sigma^2."""
        p, c = self.power, self.coefficient
        m = 2.0 * p - 2.0
        moment = (p * temperature / c) ** (m / p) * gamma((m + 1.0) / p) / gamma(1.0 / p)
        return float(c**2 * moment * rate / (2.0 * temperature))


def _energy(run: Run) -> Observable:
    return late(Observable("potential", str(potential(run))), run.steps)


def _records(run: Run) -> Recorder:
    return Recorder(observables=(*_observables(run), _energy(run)))


def _at_point(run: Run) -> list[Prediction]:
    law, temperature = PowerLaw.of(run), Gibbs(run).temperature
    rows = [_of_identity(run, law, temperature)]
    if law is not None and law.power == 1.0:
        rows.append(_of_power_one(run, law, temperature))
    return rows


def _of_identity(run: Run, law: PowerLaw | None, temperature: float) -> Prediction:
    """Measured moment against measured moment, with what Gibbs' law makes of the second term."""
    rate, second = constant_rate(run), _second_term(run, law, temperature)
    moments = tuple(Moment("mean", name_of(run, one), run.steps) for one in _observables(run))
    return Prediction(
        ID,
        "(<x V'> - (eta/2) <V'^2>)/T",
        Function("virial", partial(_in_temperatures, rate, temperature), moments),
        1.0,
        "exact",
        _OF_IDENTITY if second is None else min(_OF_IDENTITY, second / 2.0),
        conditions=f"T = {temperature:.4g}",
        rival=None if second is None else Rival("<x V'> = T", 1.0 - second),
    )


def _second_term(run: Run, law: PowerLaw | None, temperature: float) -> float | None:
    """``(eta/2)*<V'^2>/T`` by Gibbs' law; None where that cannot be had."""
    rate = constant_rate(run)
    if law is not None:
        return law.small(temperature, rate)
    try:
        mean = Gibbs(in_a_well(run)).expectation(_observables(run)[1].formula, corrected=False)
    except NotApplicable:
        return None
    return rate / 2.0 * float(mean.value) / temperature


def _of_power_one(run: Run, law: PowerLaw, temperature: float) -> Prediction:
    name, exact = name_of(run, _energy(run)), temperature + constant_rate(run) * law.coefficient**2 / 2.0
    conditions, leading = f"T = {temperature:.4g}, p = 1", Rival("leading order", temperature)
    return Prediction(ID, f"mean({name})", Moment("mean", name, run.steps), exact, conditions=conditions, rival=leading)


def _across(runs: Sequence[Run]) -> list[Prediction]:
    """The energies of power laws over T/p, at four small parameters or more."""
    found: dict[str, list[Prediction]] = {}
    for point, run in enumerate(runs):
        try:
            law, temperature = PowerLaw.of(run), Gibbs(run).temperature
        except (NotApplicable, InputError):
            continue  # said at the point
        if law is not None and law.power > 1.0 and Gibbs(run).is_normal:
            row = _of_power(run, law, temperature, point)
            found.setdefault(row.series, []).append(row)
    return [row for rows in found.values() if len({row.learning_rate for row in rows}) >= FEWEST_RATES for row in rows]


def _of_power(run: Run, law: PowerLaw, temperature: float, point: int) -> Prediction:
    name, small = name_of(run, _energy(run)), float(law.small(temperature, constant_rate(run)))
    return Prediction(
        ID,
        f"p*mean({name})/T, p = {law.power:g}, in powers of e = <V'^2>/sigma^2",
        Function("ratio", partial(over, temperature / law.power), (Moment("mean", name, run.steps, point),)),
        1.0 + small,
        1,
        small,  # the distance to leading order
        conditions=f"T = {temperature:.4g}, e = {small:.4g}",
        rival=Rival("leading order", 1.0),
        learning_rate=small,
        series=f"{ID} {law.power}",
    )


def _in_temperatures(rate: float, temperature: float, virial: np.ndarray, squared: np.ndarray) -> np.ndarray:
    return np.asarray((virial - rate / 2.0 * squared) / temperature)


LAW = Law(
    ID,
    "generalised equipartition <x V'> = (eta/2)(<V'^2> + sigma^2) in any potential",
    "re-derived, sgdsim handbook NTL-13",
    _records,
    _at_point,
    _across,
)
