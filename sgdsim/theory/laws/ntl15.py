"""NTL-15: entropy of the stationary law. Exact for normal noise.

    S = (1/2)*ln(2*pi*e*v),   v = eta*sigma^2/(a*(2 - eta*a)),   dS/d ln(eta) = 1/(2 - eta*a),

and ``S - ln(eta)/2 -> (1/2)*ln(pi*e*sigma^2/a)``: the entropy of a classical valley falls without end as it cools,
while its heat capacity stays 1/2 (NTL-31). Measured is the entropy of a Gaussian of the measured variance; the density
itself is held against a Gaussian by NTL-1. Over a sweep of learning rates, the secants of S over ln(eta) are tested,
with 1/2, their limit in the cold, as the rival.

Re-derived.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, Rival
from sgdsim.theory.law import Law, series
from sgdsim.theory.methods.fast_directions import Mode, modes
from sgdsim.theory.methods.gradient_flow import constant_rate

ID = "NTL-15"


def gaussian_entropy(variance: float | np.ndarray) -> np.ndarray:
    """Differential entropy of a Gaussian, in nats.

    Examples
    --------
    >>> float(gaussian_entropy(0.3 / 1.7).round(5))
    0.55164
    """
    return np.asarray(0.5 * np.log(2.0 * np.pi * np.e * np.asarray(variance)))


def _modes(run: Run) -> list[Mode]:
    found = [mode for mode in modes(run) if mode.is_gaussian and not mode.decay]
    if not found:
        raise NotApplicable("no fast direction is Gaussian and without weight decay")
    return found


def _at_point(run: Run) -> list[Prediction]:
    rate = constant_rate(run)
    rows = []
    for mode in _modes(run):
        measure = Function("entropy", gaussian_entropy, (Moment("variance", mode.parameter, run.steps),))
        predicted = float(gaussian_entropy(mode.cumulants(run.steps)[1]))
        cold = 0.5 * np.log(np.pi * np.e * mode.noise_variance / mode.curvature[-1] * rate)
        rows.append(
            Prediction(
                ID,
                f"entropy of {mode.parameter}",
                measure,
                predicted,
                mode.order,
                0.01,
                conditions=mode.conditions,
                rival=Rival("leading order", float(cold)),
            )
        )
    return rows


def _across(runs: Sequence[Run]) -> list[Prediction]:
    families: dict[str, list[tuple[float, int, Mode]]] = {}
    for point, run in enumerate(runs):
        try:
            rate, found = constant_rate(run), _modes(run)
        except NotApplicable:
            continue  # said at the point
        for mode in found:
            families.setdefault(f"{mode.parameter} {series(run)}", []).append((rate, point, mode))
    pairs = [pair for family in families.values() for pair in pairwise(sorted(family, key=lambda entry: entry[0]))]
    return [_secant(one, two) for one, two in pairs if two[0] > one[0]]


def _secant(one: tuple[float, int, Mode], two: tuple[float, int, Mode]) -> Prediction:
    (rate, i, mode), (other_rate, j, other) = one, two
    gap, steps = float(np.log(other_rate / rate)), (mode.run.steps, other.run.steps)
    variances = mode.cumulants(steps[0])[1], other.cumulants(steps[1])[1]
    moments = (Moment("variance", mode.parameter, steps[0], i), Moment("variance", mode.parameter, steps[1], j))
    return Prediction(
        ID,
        f"dS/d ln(eta) of {mode.parameter}, points {i} to {j}",
        Function("secant of entropy", partial(_slope, gap), moments),
        float(_slope(gap, *map(np.asarray, variances))),
        mode.order,
        conditions=f"{mode.conditions}; {other.conditions}",
        rival=Rival("leading order", 0.5),
    )


def _slope(gap: float, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return np.asarray((gaussian_entropy(two) - gaussian_entropy(one)) / gap)


LAW = Law(
    ID,
    "entropy of the stationary law, and its slope over the learning rate",
    "re-derived, sgdsim handbook NTL-15",
    lambda run: Recorder(),
    _at_point,
    _across,
)
