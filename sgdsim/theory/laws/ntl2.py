"""NTL-2: mean fast loss and temperature. Exact.

    U = a*x^2/2,    <U> = eta*sigma^2 / (2*(2 - eta*a)) = T_eff/2,    Var U = 2*<U>^2 for Gaussian noise.

To leading order ``<U> = eta*sigma^2/4 = T/2`` with the temperature ``T = eta*sigma^2/2``: equipartition,
independent of the curvature. Tested at the last step from the exact cumulants of x, for any noise: ``Var U =
a^2*(kappa_4 + 2*kappa_2^2)/4`` for a centred valley. With weight decay lambda the mean is ``a/(a + lambda)``
times that of curvature ``a + lambda`` (NTL-6).

Equipartition to leading order is claimed in arXiv:2505.10559; the formulas follow from its stationary
variance and are re-derived.
"""

from __future__ import annotations

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Moment, Prediction
from sgdsim.theory.law import Law, name_of
from sgdsim.theory.methods.fast_directions import Mode, candidate_directions, modes

ID = "NTL-2"


def temperature(rate: float, noise_variance: float) -> float:
    """``T = eta*sigma^2/2``: SGD with additive Gaussian noise is Euler-Maruyama with step eta at this T.

    Examples
    --------
    >>> temperature(0.1, 4.0)
    0.2
    """
    return rate * noise_variance / 2.0


def stationary_fast_loss(rate: float, curvature: float, noise_variance: float) -> float:
    """Mean of ``a*x^2/2`` once the start is forgotten: ``T_eff/2 = T/(2 - eta*a)``.

    Examples
    --------
    >>> round(stationary_fast_loss(0.02, 1.0, 1.0), 7)
    0.0050505
    """
    return temperature(rate, noise_variance) / (2.0 - rate * curvature)


def fast_losses(run: Run) -> Recorder:
    """The fast loss of every direction."""
    return Recorder(observables=tuple(one.fast_loss(run.loss) for one in candidate_directions(run)))


def fast_loss_name(mode: Mode) -> str:
    """The name under which a mode's fast loss is recorded."""
    return name_of(mode.run, mode.direction.fast_loss(mode.run.loss))


def _at_point(run: Run) -> list[Prediction]:
    rows = []
    for mode in modes(run):
        name = fast_loss_name(mode)
        conditions = f"{name} = {mode.direction.fast_loss(run.loss)}; {mode.conditions}"
        for statistic, value in zip(("mean", "variance"), mode.fast_loss(run.steps), strict=True):
            if np.isfinite(value):
                measure = Moment(statistic, name, run.steps)
                quantity = f"{statistic}({name})"
                rows.append(Prediction(ID, quantity, measure, value, mode.order, conditions=conditions))
    return rows


LAW = Law(
    ID,
    "fast loss and temperature: <U> = T_eff/2 and Var U",
    "re-derived, sgdsim handbook NTL-2; leading order claimed in arXiv:2505.10559",
    fast_losses,
    _at_point,
)
