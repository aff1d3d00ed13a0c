"""NTL-23: a river with noise of its own in fluctuating walls: the Gibbs law with its first correction.

Where both coordinates have the same noise, x and y share the density ``exp(-l/T)*(1 + eta*f)`` with ``f = |grad
l|^2/(4T) - Laplacian l/2`` less its mean (NTL-14), so that to leading order y has ``exp(-c/T)/sqrt(a)``: the entropy
``-ln(a)/2`` beside the river's energy. No separation of time scales is needed. Tested over learning rates at one
temperature: the mean of ``y^2`` to order eta inclusive. Re-derived.
"""

from __future__ import annotations

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Moment, NotApplicable, Prediction, Rival
from sgdsim.theory.law import Law, name_of
from sgdsim.theory.methods.gibbs import Gibbs
from sgdsim.theory.methods.rivers import river, square_of

ID = "NTL-23"
_FORGOTTEN = 1e-4


def _at_point(run: Run) -> list[Prediction]:
    known = river(run)
    if abs(known.river_noise / known.noise - 1.0) > 1e-9:
        raise NotApplicable("the noise of the river is not that of the walls")
    pull = known.rate * float(known.c(known.start, 2))
    memory = float(np.exp(-2.0 * pull * run.steps))
    if not memory < _FORGOTTEN:
        raise NotApplicable(f"the start of {known.slow} is still remembered, to {memory:.1g}")
    gibbs, square = Gibbs(run), square_of(known)
    corrected = gibbs.expectation(square.formula)
    leading = gibbs.expectation(square.formula, corrected=False)
    heat = known.temperature
    return [
        Prediction(
            ID,
            f"mean({square.formula}) at the temperature {heat:.6g}",
            Moment("mean", name_of(run, square), run.steps),
            float(corrected.value),
            1,
            conditions=f"start remembered to {memory:.1g}, numerical error {float(corrected.error):.1g}",
            rival=Rival("without the correction", float(leading.value)),
            learning_rate=known.rate,
            series=f"{ID} {known.walls[0]} {known.bed[0]} {heat:.9g}",
        )
    ]


LAW = Law(
    ID,
    "a noisy river in fluctuating walls: the Gibbs law with its first correction",
    "re-derived, sgdsim handbook NTL-23",
    lambda run: Recorder(observables=(square_of(river(run)),)),
    _at_point,
    finite_order=True,
)
