"""NTL-28: the second law for one valley, at any learning rate. Exact.

The divergence of the law of x from the stationary law of the rate of a step never rises in that step, whatever the
chain. For a Gaussian valley, with mean m, variance V and stationary variance v,

    D = [V/v - 1 - ln(V/v)]/2 + m^2/(2v).

What is tested is how much D falls between neighbouring records, from measured means and variances. D of a histogram
would be biased upwards.

Our own statement: what of a second law the paper (arXiv:2505.10559) has is not known to us.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction
from sgdsim.theory.law import Law
from sgdsim.theory.laws.ntl1 import stationary_variance
from sgdsim.theory.methods.fast_directions import Mode, modes

ID = "NTL-28"


def divergence(mean: Any, variance: Any, rest: float) -> Any:
    """Kullback-Leibler divergence of a Gaussian law from that at rest.

    Examples
    --------
    >>> float(divergence(0.0, 2.0, 2.0))
    0.0
    """
    ratio = variance / rest
    return (ratio - 1.0 - np.log(ratio) + mean**2 / rest) / 2.0


def _fallen(rest: float, *moments: np.ndarray) -> np.ndarray:
    """How much less the divergence is at the second record than at the first."""
    m0, v0, m1, v1 = moments
    return np.asarray(divergence(m0, v0, rest) - divergence(m1, v1, rest))


def _valleys(run: Run) -> list[Mode]:
    found = [mode for mode in modes(run) if not mode.adiabatic and not mode.decay]
    if not found:
        raise NotApplicable("no valley has a constant curvature and no weight decay")
    return found


def _rest(mode: Mode, rate: float) -> float:
    return stationary_variance(rate, float(mode.curvature[0]), mode.noise_variance)


def _falls(run: Run) -> list[Prediction]:
    rows = []
    records = [int(step) for step in run.recorder.record_steps(run.steps)]
    for mode in _valleys(run):
        rest = _rest(mode, float(mode.rates[0]))
        exact = {step: mode.cumulants(step) for step in records}
        if not mode.constant_rate or not mode.is_gaussian or exact[0][1] <= 0.0 or len(records) < 3:
            continue
        left = {step: float(divergence(exact[step][0] - mode.centre, exact[step][1], rest)) for step in records}
        for start, stop in pairwise(records):
            if left[start] < 0.01 * left[0] or left[start] == 0.0:
                break
            moments = tuple(Moment(s, mode.parameter, step) for step in (start, stop) for s in ("mean", "variance"))
            rows.append(
                Prediction(
                    ID,
                    f"fall of the divergence of {mode.parameter} from rest, steps {start} to {stop}",
                    Function("fall", partial(_fallen, rest), moments),
                    left[start] - left[stop],
                    "exact",
                    0.02 * left[0],
                    conditions=f"D = {left[start]:.6g} to {left[stop]:.6g}",
                )
            )
    if not rows:
        raise NotApplicable(
            "speaks of a Gaussian valley at a constant rate that starts spread, with records on the way"
        )
    return rows


LAW = Law(
    ID,
    "second law: the divergence from the law at rest never rises",
    "our own statement, sgdsim handbook NTL-28",
    lambda run: Recorder(),
    _falls,
)
