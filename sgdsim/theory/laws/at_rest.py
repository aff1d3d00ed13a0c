"""The balance of slope and noise at rest in any loss, and whether an ensemble is at rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Condition, Function, Moment, Prediction, require
from sgdsim.theory.law import law, row
from sgdsim.theory.laws.identities import MOST_APART, running_sum, window
from sgdsim.theory.methods.step_noise import StepNoise
from sgdsim.theory.recorded_names import label_of, name_of

_RESOLVED = 0.02  # resolution of the ratio, which is 1 at rest
_AT_REST = 0.02  # largest drift of a square at rest, in units of what noise adds to all


@dataclass(frozen=True)
class _Balance:
    """The observables of the balance at rest.

    Parameters
    ----------
    taken, added
        The sums that the slope takes from the squares of the parameters, and that noise adds to them.
    before
        The square of each parameter that noise reaches, before the last steps.
    """

    taken: Observable
    added: Observable
    before: dict[str, Observable]


def _balance(run: Run) -> _Balance:
    import sympy

    start, stop = window(run)
    require(start > 0, f"needs more than {stop - start} steps")
    rates = run.schedule.rates(run.steps)[start:stop]
    require(rates.min() == rates.max(), "the learning rate changes, and nothing comes to rest")
    noise, names = StepNoise(run), run.loss.parameters
    require(noise.is_memoryless, f"{run.optimizer.name} remembers, or is not linear in the gradient")
    require(len(names) <= MOST_APART, f"there are {len(names)} parameters, expected at most {MOST_APART}")
    spreads = {i: spread for i in range(len(names)) if (spread := noise.step_covariance(i, i)) != 0}
    require(spreads, "no noise reaches a parameter")
    slopes = sympy.Add(*(run.loss.theta[i] ** 2 - noise.means[i] ** 2 for i in spreads))
    before = (names[i] for i in spreads)
    return _Balance(
        running_sum(run, "taken_from_squares", slopes),
        running_sum(run, "added_to_squares", sympy.Add(*spreads.values())),
        {
            name: Observable(f"earlier_{label_of(name)}_squared", f"{name}**2", (start - 1, start), "value")
            for name in before
        },
    )


def _records(run: Run) -> Recorder:
    found = _balance(run)
    return Recorder(observables=(found.taken, found.added, *found.before.values()))


def _over(taken: np.ndarray, added: np.ndarray) -> np.ndarray:
    return np.asarray(taken / added)


def _drift(mean: np.ndarray, variance: np.ndarray, before: np.ndarray, added: np.ndarray) -> np.ndarray:
    """The change of a mean square in units of what noise adds to it."""
    return np.asarray((mean**2 + variance - before) / added)


@law(
    "at-rest",
    "the virial of any loss at rest, and whether an ensemble is at rest",
    source="re-derived",
    holds="one to three parameters, steps that are linear in the gradient and remember nothing, at rest at the end",
    records=_records,
    automatic=True,
    any_field=True,
)
def at_rest(run: Run) -> Iterator[Prediction]:
    """Balance at rest: noise adds to the mean squares of parameters what the slope takes from them. Exact.

    A step has ``theta' = m(theta) + d`` with kicks d of covariance V(theta), so that at any learning rate, in any loss

        E |theta'|^2 - E |theta|^2 = E tr V - E(|theta|^2 - |m|^2).

    For plain SGD in a population loss L this is the virial: at rest ``<theta . grad L> = (eta/2) <|g|^2>``, g the
    gradient of a batch. The ratio of the two terms is tested, each summed over the last 64 steps.

    That the ensemble is at rest is measured, and not guessed from a time of relaxation: over these steps the mean
    square of no parameter may change by more than its share of 2 % of what noise adds to all. If one changes more, the
    row does not hold here, and says which one and by how much. Together they may move the ratio by 2 %, which it is
    allowed. Parameters that noise does not reach are left out.
    """

    def moment(statistic: str, name: str) -> Moment:
        return Moment(statistic, name, run.steps)

    found, (start, stop) = _balance(run), window(run)
    taken, added = (moment("mean", name_of(run, one)) for one in (found.taken, found.added))
    conditions, n = [], len(found.before)
    for name, observable in found.before.items():
        before = moment("mean", name_of(run, observable))
        drift = Function("drift", _drift, (moment("mean", name), moment("variance", name), before, added))
        conditions.append(Condition(f"{name}^2 is at rest", drift, -_AT_REST / n, _AT_REST / n))
    yield row(
        Function("balance", _over, (taken, added)),
        1.0,
        "virial ratio",
        resolution=_RESOLVED,
        conditions=f"steps {start + 1} to {stop}",
        assumes=tuple(conditions),
        allowed=(_AT_REST, _AT_REST),
    )
