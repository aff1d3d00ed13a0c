"""Any potential of one parameter: the virial, the energy and its heat capacity."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import pairwise
from math import gamma
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable, late
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Recorder, Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Start
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, Rival, change_over, require, stored
from sgdsim.theory.chain.evolution import evolve
from sgdsim.theory.law import at_enough_values, law, ratio_row, row
from sgdsim.theory.methods.gibbs import Gibbs
from sgdsim.theory.methods.modes import constant_rate
from sgdsim.theory.recorded_names import name_of

if TYPE_CHECKING:
    import sympy


_OF_IDENTITY = 0.01  # resolution of the virial identity, or half of its second term if that is less


def potential(run: Run) -> sympy.Expr:
    """The population loss of a run with one parameter and additive noise.

    Raises
    ------
    NotApplicable
        For more parameters, noise that depends on the state, weight decay, and another optimizer than SGD.
    """
    require(len(run.loss.parameters) == 1, f"holds for one parameter, the loss has {len(run.loss.parameters)}")
    require(run.optimizer.name == "sgd" and not run.optimizer.decay, "holds for plain sgd without weight decay")
    Gibbs(run)  # refuses noise that is not additive
    try:
        return run.loss.population
    except InputError as error:
        raise NotApplicable(f"the population loss has no closed form: {error}") from None


def in_a_well(run: Run) -> Run:
    """The run from the first point of its start, from where a search finds a minimum and not the barrier."""
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
    """A potential ``V = (coefficient/power)*|x|^power``.

    Examples
    --------
    >>> round(PowerLaw(4.0, 1.0).small(0.02, 0.01), 6)
    0.001434
    """

    power: float
    coefficient: float

    @classmethod
    def of(cls, run: Run) -> PowerLaw | None:
        """The power law that the potential of a run is; None if it is no power law."""
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
        """The moment <V'^2> of Gibbs' law, in units of sigma^2."""
        p, c = self.power, self.coefficient
        m = 2.0 * p - 2.0
        moment = (p * temperature / c) ** (m / p) * gamma((m + 1.0) / p) / gamma(1.0 / p)
        return float(c**2 * moment * rate / (2.0 * temperature))


def _virial_energy(run: Run) -> Observable:
    return late(_energy(run), run.steps)


def _of_identity(run: Run, law: PowerLaw | None, temperature: float) -> Prediction:
    """A row on the virial identity, one measured moment against another, at a scale set by its second term."""
    rate, second = constant_rate(run), _second_term(run, law, temperature)
    moments = tuple(Moment("mean", name_of(run, one), run.steps) for one in _observables(run))
    return row(
        Function("virial", partial(_in_temperatures, rate, temperature), moments),
        1.0,
        "(<x V'> - (eta/2) <V'^2>)/T",
        resolution=_OF_IDENTITY if second is None else min(_OF_IDENTITY, second / 2.0),
        conditions=f"T = {temperature:.4g}",
        rival=None if second is None else Rival("<x V'> = T", 1.0 - second),
    )


def _second_term(run: Run, law: PowerLaw | None, temperature: float) -> float | None:
    """The second term ``(eta/2)*<V'^2>/T`` by Gibbs' law; None if there is no such law."""
    rate = constant_rate(run)
    if law is not None:
        return law.small(temperature, rate)
    try:
        mean = Gibbs(in_a_well(run)).expectation(_observables(run)[1].formula, corrected=False)
    except NotApplicable:
        return None
    return rate / 2.0 * float(mean.value) / temperature


def _virial_across(runs: Sequence[Run]) -> list[Prediction]:
    """Rows on the energies of power laws in units of T/p, at four small parameters or more."""
    rows: list[Prediction] = []
    for point, run in enumerate(runs):
        try:
            power, temperature = PowerLaw.of(run), Gibbs(run).temperature
        except (NotApplicable, InputError):
            continue  # the reason is given at the point itself
        if power is not None and power.power > 1.0 and Gibbs(run).is_normal:
            rows.append(_of_power(run, power, temperature, point))
    return at_enough_values(rows)


@law(
    "virial",
    "generalised equipartition <x V'> = (eta/2)(<V'^2> + sigma^2) in any potential",
    source="re-derived",
    holds="one parameter in any potential with additive noise, at rest at a constant rate",
    records=lambda run: Recorder(observables=(*_observables(run), _virial_energy(run))),
    across=_virial_across,
)
def virial(run: Run) -> Iterator[Prediction]:
    """Generalised equipartition, ``<x V'> = (eta/2)*(<V'^2> + sigma^2)``. Exact in the stationary state.

    It follows from ``<x'^2> = <x^2>`` for any potential V of one parameter and additive noise. In a power law,
    ``x V' = p*V``, so that with ``T = eta*sigma^2/2``

        <V> = (T/p)*(1 + <V'^2>/sigma^2),

    to leading order T/p: the heat capacity is 1/p. The next order has Gibbs' moment of ``V = (c/p)*|x|^p``,

        <V'^2> = c^2*<|x|^m>,    <|x|^m> = (p*T/c)^(m/p)*Gamma((m + 1)/p)/Gamma(1/p),    m = 2*p - 2.

    In units of sigma^2 it is the one small parameter e of a power law, ~ eta^(2 - 2/p), and ``p*<V>/T = 1 + e`` is off
    by order e^2; p = 1 is exact, ``<V> = (eta/2)*(c^2 + sigma^2)``. Two things are tested in averages over late times:
    for any V the identity itself, one measured moment against the other; and for powers <V>, at p = 1 as it stands,
    else over four or more e.

    Re-derived.
    """
    law, temperature = PowerLaw.of(run), Gibbs(run).temperature
    yield _of_identity(run, law, temperature)
    if law is not None and law.power == 1.0:
        exact = temperature + constant_rate(run) * law.coefficient**2 / 2.0
        measure = Moment("mean", name_of(run, _virial_energy(run)), run.steps)
        yield row(measure, exact, conditions=f"T = {temperature:.4g}, p = 1", rival=Rival("leading order", temperature))


def _of_power(run: Run, law: PowerLaw, temperature: float, point: int) -> Prediction:
    name, small = name_of(run, _virial_energy(run)), float(law.small(temperature, constant_rate(run)))
    return ratio_row(
        Moment("mean", name, run.steps, point),
        temperature / law.power,
        f"p*mean({name})/T, p = {law.power:g}, in powers of e = <V'^2>/sigma^2",
        1.0 + small,
        order=1,
        resolution=small,  # the distance to leading order
        conditions=f"T = {temperature:.4g}, e = {small:.4g}",
        rival=Rival("leading order", 1.0),
        small=small,
        small_name="<V'^2>/sigma^2",
        series=f"virial {law.power}",
    )


@stored
def _in_temperatures(rate: float, temperature: float, virial: np.ndarray, squared: np.ndarray) -> np.ndarray:
    return np.asarray((virial - rate / 2.0 * squared) / temperature)


def _energy(run: Run) -> Observable:
    return Observable("potential", str(potential(run)))


def _exact(run: Run) -> tuple[float, float]:
    """Mean and variance of V at the end of the run, by the exact chain."""
    return _evolved(str(_energy(run)), run.loss, run.optimizer, run.schedule, tuple(run.initial.items()), run.steps)


@lru_cache(maxsize=64)  # each point is needed for its own row and for those with its neighbours
def _evolved(
    text: str, loss: Loss, optimizer: Optimizer, schedule: Schedule, initial: tuple[tuple[str, Start], ...], steps: int
) -> tuple[float, float]:
    run = Run(loss, optimizer, schedule, dict(initial), 1, steps)
    mean, square = evolve(run, [text, f"({text})**2"], steps)
    require(
        float(mean.error) < 1e-4 * abs(float(mean.value)), f"the chain knows the energy only to {float(mean.error):.2g}"
    )
    return float(mean.value), float(square.value) - float(mean.value) ** 2


def _by_gibbs(run: Run) -> tuple[float, float] | None:
    """Mean and variance of V by Gibbs' law, the limit of small steps; None if there is no such law."""
    text = str(_energy(run))
    try:
        gibbs = Gibbs(in_a_well(run))
        mean, square = (float(gibbs.expectation(f, corrected=False).value) for f in (text, f"({text})**2"))
    except NotApplicable:
        return None
    return mean, square - mean**2


def _potential_energy_across(runs: Sequence[Run]) -> Iterator[Prediction]:
    """Rows on secants between neighbouring temperatures, for points that differ in the noise alone."""
    families: dict[str, list[tuple[float, int, Run]]] = {}
    for point, run in enumerate(runs):
        try:
            temperature, _ = Gibbs(run).temperature, _exact(run)
        except (NotApplicable, InputError):
            continue  # the reason is given at the point itself
        families.setdefault(_without_noise(run), []).append((temperature, point, run))
    for family in families.values():
        for (low, i, run), (high, j, other) in pairwise(sorted(family, key=lambda entry: entry[0])):
            if high > low * (1.0 + 1e-9):
                yield _secant(high - low, i, run, j, other, f"T = {low:.4g} to {high:.4g}, exact chain")


@law(
    "potential-energy",
    "energy and heat capacity in any potential: exact chain, beside Gibbs' law",
    source="re-derived",
    holds=("one parameter in any potential with additive noise, at a constant rate, where the chain can be solved"),
    records=lambda run: Recorder(observables=(_energy(run),)),
    across=_potential_energy_across,
)
def potential_energy(run: Run) -> Iterator[Prediction]:
    """Energy and heat capacity in any potential of one parameter: exact, and by Gibbs' law.

    The stationary density is ``exp(-V/T)*[1 + eta*(V'^2/(4*T) - V''/2 - const)]`` to first order
    (`sgdsim.theory.methods.gibbs`). The test is against the exact chain at the run's own learning rate; Gibbs' law,
    the limit of small steps, stands beside it as the rival. For the points of a sweep that differ in the noise alone,
    the heat capacity ``C = d<V>/dT`` is tested as the secant between neighbouring temperatures, of the same exact
    energies.

    The fluctuation form ``Var V/T^2`` is the heat capacity of Gibbs' law. At a finite learning rate it, too, is held
    against the value of the chain.

    Re-derived.
    """
    name, heat = name_of(run, _energy(run)), Gibbs(run).temperature
    (mean, variance), limit, square = _exact(run), _by_gibbs(run), heat**2
    conditions = f"T = {heat:.4g}, exact chain"
    rivals = [limit and Rival("Gibbs' law", limit[power] / square**power) for power in (0, 1)]
    yield row(Moment("mean", name, run.steps), mean, conditions=conditions, rival=rivals[0])
    yield ratio_row(
        Moment("variance", name, run.steps),
        square,
        f"Var({name})/T^2",
        variance / square,
        statistic="fluctuation",
        conditions=conditions,
        rival=rivals[1],
    )


def _secant(gap: float, i: int, run: Run, j: int, other: Run, conditions: str) -> Prediction:
    name, limits = name_of(run, _energy(run)), (_by_gibbs(run), _by_gibbs(other))
    return ratio_row(
        (Moment("mean", name, run.steps, i), Moment("mean", name, other.steps, j)),
        gap,
        f"heat capacity d{name}/dT, points {i} to {j}",
        (_exact(other)[0] - _exact(run)[0]) / gap,
        function=change_over,
        statistic="secant",
        conditions=conditions,
        rival=Rival("Gibbs' law", (limits[1][0] - limits[0][0]) / gap) if limits[0] and limits[1] else None,
    )


def _without_noise(run: Run) -> str:
    """Everything about a run as a text, but the constants that its potential does not name."""
    tables = run.describe()
    used = {symbol.name for symbol in potential(run).free_symbols}
    for name in set(tables["loss"]["constants"]) - used:
        del tables["loss"]["constants"][name]
    return json.dumps(tables, sort_keys=True, default=str)
