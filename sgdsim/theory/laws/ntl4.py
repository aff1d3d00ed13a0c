"""NTL-4: equipartition over fast directions of distinct curvature. Exact for each.

    <U_i> = eta*sigma_i^2 / (2*(2 - eta*a_i)),

sharp directions being hotter by ``1/(1 - eta*a_i/2)``. To leading order each has ``eta*sigma^2/4``, whatever
its curvature, and the total counts the directions: ``N = lim 4*<U_total>/(eta*sigma^2)``. At finite eta this
estimator gives ``sum_i 1/(1 - eta*a_i/2)``. The leading-order formula stands beside every row as a rival,
from which a measurement at eta*a > 0.5 must tell the exact one.

Equipartition and the counting of valley directions are claimed in arXiv:2505.10559; the exact form and the
estimator are re-derived.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from sgdsim.model.run import Run
from sgdsim.prediction import Function, Moment, Order, Prediction, Rival, over
from sgdsim.theory.law import Law
from sgdsim.theory.laws.ntl2 import fast_loss_name, fast_losses, temperature
from sgdsim.theory.methods.fast_directions import Mode, modes

ID = "NTL-4"


def _at_point(run: Run) -> list[Prediction]:
    found = modes(run)
    rows = [_one(mode) for mode in found]
    temperatures = [_temperature(mode) for mode in found]
    if len(found) > 1:
        rows.append(_sum(found, "total fast loss", "total", 1.0, sum(map(_leading, found))))
    # With weight decay soft directions are colder (NTL-6), and their number is no longer counted.
    if not found[0].decay and np.ptp(temperatures) <= 1e-12 * max(temperatures):
        rows.append(_sum(found, "number of fast directions", "valley_count", temperatures[0] / 2.0, len(found)))
    return rows


def _temperature(mode: Mode) -> float:
    return temperature(float(mode.rates[-1]), mode.noise_variance)


def _leading(mode: Mode) -> float:
    curvature = float(mode.curvature[-1])
    return _temperature(mode) / 2.0 * curvature / (curvature + mode.decay)


def _one(mode: Mode) -> Prediction:
    name, step = fast_loss_name(mode), mode.run.steps
    return Prediction(
        ID,
        f"mean({name})",
        Moment("mean", name, step),
        mode.fast_loss(step)[0],
        mode.order,
        conditions=mode.conditions,
        rival=Rival("leading order", _leading(mode)),
    )


def _sum(found: Sequence[Mode], quantity: str, statistic: str, unit: float, rival: float) -> Prediction:
    step = found[0].run.steps
    moments = tuple(Moment("mean", fast_loss_name(mode), step) for mode in found)
    order: Order = "adiabatic" if any(mode.adiabatic for mode in found) else "exact"
    return Prediction(
        ID,
        quantity,
        Function(statistic, partial(over, unit), moments),
        sum(mode.fast_loss(step)[0] for mode in found) / unit,
        order,
        conditions="; ".join(mode.conditions for mode in found),
        rival=Rival("leading order", float(rival)),
    )


LAW = Law(
    ID,
    "equipartition over fast directions, and their number",
    "re-derived, sgdsim handbook NTL-4; leading order claimed in arXiv:2505.10559",
    fast_losses,
    _at_point,
)
