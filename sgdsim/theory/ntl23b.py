"""NTL-23b: a slow river with a temperature of its own. Leading order.

Where the river is slow against its walls, each has its own temperature, ``T_x = eta*sigma^2/2`` and ``T_y =
eta*sigma_y^2/2``: at every y the walls push with the entropic force of T_x, and y has the Gibbs law of that at T_y,

    p(y) ~ exp(-c/T_y)*a^(-T_x/(2*T_y)).

What is neglected is of relative order ``eta*a``, ``c''/a`` and ``T_x*(a'/a)^2/a``, in which terms of both signs
compete: the finite-eta temperature of the walls alone is not a better formula. All three are of order eta where c is
proportional to eta, at fixed noises: p stays as it is. So <y^2> is tested over learning rates with c in proportion.
Re-derived.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from sgdsim.observables import Observable
from sgdsim.run import Recorder, Run
from sgdsim.theory.law import Law, name_of
from sgdsim.theory.prediction import Function, Moment, NotApplicable, Prediction, Rival
from sgdsim.theory.river import River, river

ID = "NTL-23b"
_FORGOTTEN = 1e-4
_SAME = 1e-6  # relative difference of temperatures, which is NTL-23's


def mean_square(known: River, entropy: bool = True) -> float:
    """<y^2> of p; without the entropy, that of the river alone.

    Raises
    ------
    NotApplicable
        Where p cannot be normalised.
    """
    from scipy.integrate import quad

    cold, hot = known.rate * known.river_noise / 2.0, known.temperature * entropy

    def energy(y: float) -> float:
        return float(known.c(y) / cold + hot / (2.0 * cold) * np.log(known.a(y)))

    least = min(energy(y) for y in np.linspace(-10.0, 10.0, 2001))
    weight, square = (quad(lambda y, p=p: y**p * np.exp(least - energy(y)), -np.inf, np.inf)[0] for p in (0, 2))
    if not (weight > 0.0 and np.isfinite(square / weight)):
        raise NotApplicable("the law of the river cannot be normalised")
    return float(square / weight)


def _square(known: River) -> Observable:
    return Observable(f"{known.slow}_squared", f"{known.slow}**2")


def _at_point(run: Run) -> list[Prediction]:
    known = river(run)
    if not known.river_noise > 0.0 or abs(known.river_noise / known.noise - 1.0) < _SAME:
        raise NotApplicable("the river has no temperature of its own")
    if known.is_flat:
        raise NotApplicable("the river is flat: nothing holds it")
    square, predicted = _square(known), mean_square(known)
    cold = known.rate * known.river_noise / 2.0
    memory = float(np.exp(-2.0 * known.rate * cold / predicted * run.steps))
    if not memory < _FORGOTTEN:
        raise NotApplicable(f"the start of {known.slow} is still remembered, to {memory:.1g}")
    y = known.start
    slow = float(known.c(y, 2) / known.a(y))
    return [
        Prediction(
            ID,
            f"mean({square.formula}) of a river at T_y = {cold / known.temperature:.4g} T_x over NTL-23b",
            Function("ratio", partial(_over, predicted), (Moment("mean", name_of(run, square), run.steps),)),
            1.0,
            0,
            conditions=f"{predicted:.6g}; eta*a = {known.rate * float(known.a(y)):.3g}, c''/a = {slow:.2g}",
            rival=Rival("without entropy", mean_square(known, entropy=False) / predicted),
            learning_rate=known.rate,
            series=f"{ID} {known.walls[0]} {known.noise:.9g} {known.river_noise:.9g} {predicted:.6g}",
        )
    ]


def _over(predicted: float, measured: np.ndarray) -> np.ndarray:
    return np.asarray(measured / predicted)


LAW = Law(
    ID,
    "a slow river at a temperature of its own",
    "re-derived, sgdsim handbook NTL-23",
    lambda run: Recorder(observables=(_square(river(run)),)),
    _at_point,
    finite_order=True,
)
