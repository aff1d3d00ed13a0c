"""NTL-14: energy and heat capacity in any potential of one parameter: exact, and by Gibbs' law.

The stationary density is ``exp(-V/T)*[1 + eta*(V'^2/(4*T) - V''/2 - const)]`` to first order
(`sgdsim.theory.methods.gibbs`). What is tested is the exact chain at the very learning rate; Gibbs' law, the limit of
small steps, stands beside it as the rival. For the points of a sweep that differ in the noise alone, the heat
capacity ``C = d<V>/dT`` is tested as the secant between neighbouring temperatures, of the same exact energies.

The fluctuation form ``Var V/T^2`` is the heat capacity of Gibbs' law; at a finite learning rate it is held against the
chain's, too.

Re-derived.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import pairwise

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.model.loss import Loss
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Recorder, Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Start
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, Rival, over
from sgdsim.theory.chain.evolution import evolve
from sgdsim.theory.law import Law, name_of
from sgdsim.theory.laws.ntl13 import in_a_well, potential
from sgdsim.theory.methods.gibbs import Gibbs

ID = "NTL-14"


def _energy(run: Run) -> Observable:
    return Observable("potential", str(potential(run)))


def _records(run: Run) -> Recorder:
    return Recorder(observables=(_energy(run),))


def _exact(run: Run) -> tuple[float, float]:
    """Mean and variance of V at the end of the run, by the chain."""
    return _evolved(str(_energy(run)), run.loss, run.optimizer, run.schedule, tuple(run.initial.items()), run.steps)


@lru_cache(maxsize=64)  # each point is asked for alone and beside its neighbours
def _evolved(
    text: str, loss: Loss, optimizer: Optimizer, schedule: Schedule, initial: tuple[tuple[str, Start], ...], steps: int
) -> tuple[float, float]:
    run = Run(loss, optimizer, schedule, dict(initial), 1, steps)
    mean, square = evolve(run, [text, f"({text})**2"], steps)
    if not float(mean.error) < 1e-4 * abs(float(mean.value)):
        raise NotApplicable(f"the chain knows the energy only to {float(mean.error):.2g}")
    return float(mean.value), float(square.value) - float(mean.value) ** 2


def _by_gibbs(run: Run) -> tuple[float, float] | None:
    """Mean and variance of V in the limit of small steps; None where that law cannot be had."""
    text = str(_energy(run))
    try:
        gibbs = Gibbs(in_a_well(run))
        mean, square = (float(gibbs.expectation(f, corrected=False).value) for f in (text, f"({text})**2"))
    except NotApplicable:
        return None
    return mean, square - mean**2


def _at_point(run: Run) -> list[Prediction]:
    name, square = name_of(run, _energy(run)), Gibbs(run).temperature ** 2
    (mean, variance), limit = _exact(run), _by_gibbs(run)
    conditions = f"T = {square**0.5:.4g}, exact chain"
    fluctuation = Function("fluctuation", partial(over, square), (Moment("variance", name, run.steps),))
    energy = Moment("mean", name, run.steps)
    rivals = (None, None) if limit is None else (_gibbs(limit[0]), _gibbs(limit[1] / square))
    return [
        Prediction(ID, f"mean({name})", energy, mean, conditions=conditions, rival=rivals[0]),
        Prediction(ID, f"Var({name})/T^2", fluctuation, variance / square, conditions=conditions, rival=rivals[1]),
    ]


def _gibbs(value: float) -> Rival:
    return Rival("Gibbs' law", value)


def _across(runs: Sequence[Run]) -> list[Prediction]:
    """Secants between neighbouring temperatures of points that differ in the noise alone."""
    families: dict[str, list[tuple[float, int, Run]]] = {}
    for point, run in enumerate(runs):
        try:
            temperature, _ = Gibbs(run).temperature, _exact(run)
        except (NotApplicable, InputError):
            continue  # said at the point
        families.setdefault(_without_noise(run), []).append((temperature, point, run))
    pairs = [pair for family in families.values() for pair in pairwise(sorted(family, key=lambda entry: entry[0]))]
    return [_secant(one, two) for one, two in pairs if two[0] > one[0] * (1.0 + 1e-9)]


def _secant(one: tuple[float, int, Run], two: tuple[float, int, Run]) -> Prediction:
    (t_1, i, run), (t_2, j, other) = one, two
    gap, name = t_2 - t_1, name_of(run, _energy(run))
    moments = (Moment("mean", name, run.steps, i), Moment("mean", name, other.steps, j))
    limits = _by_gibbs(run), _by_gibbs(other)
    return Prediction(
        ID,
        f"heat capacity d{name}/dT, points {i} to {j}",
        Function("secant", partial(_slope, gap), moments),
        (_exact(other)[0] - _exact(run)[0]) / gap,
        conditions=f"T = {t_1:.4g} to {t_2:.4g}, exact chain",
        rival=_gibbs((limits[1][0] - limits[0][0]) / gap) if limits[0] and limits[1] else None,
    )


def _without_noise(run: Run) -> str:
    """Everything about a run but the constants that its potential does not name."""
    tables = run.describe()
    used = {symbol.name for symbol in potential(run).free_symbols}
    for name in set(tables["loss"]["constants"]) - used:
        del tables["loss"]["constants"][name]
    return json.dumps(tables, sort_keys=True, default=str)


def _slope(gap: float, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return np.asarray((two - one) / gap)


LAW = Law(
    ID,
    "energy and heat capacity in any potential: exact chain, beside Gibbs' law",
    "re-derived, sgdsim handbook NTL-14",
    _records,
    _at_point,
    _across,
)
