"""NTL-12: heat capacity of a quadratic valley, with ``T = eta*sigma^2/2`` and ``U = a*x^2/2``. Exact.

    at fixed sigma:   C = d<U>/dT = 2/(2 - eta*a)^2
    at fixed eta:     C = d<U>/dT = 1/(2 - eta*a)
    fluctuations:     Var U / T_eff^2 = 1/2,    T_eff = 2*<U>, for Gaussian noise

Tested without the error of a finite difference: the measured secant (U_2 - U_1)/(T_2 - T_1) between
neighbouring points of a sweep is held against the same secant of the exact <U>. Sweep points that share their
noise (``common_noise = true``) make the difference sharp, and the jackknife pairs them group by group. The
fluctuation form uses the predicted T_eff. Leading order is 1/2 in all three.

That heat capacity is constant (Q = C T) is claimed in arXiv:2505.10559; the formulas are re-derived.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from sgdsim.model.run import Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, Rival, over
from sgdsim.theory.law import Law
from sgdsim.theory.laws.ntl2 import fast_loss_name, fast_losses, temperature
from sgdsim.theory.methods.fast_directions import Mode, modes

ID = "NTL-12"
LEADING = Rival("leading order", 0.5)


def heat_capacity_fixed_noise(rate: float, curvature: float) -> float:
    """d<U>/dT when the learning rate changes.

    Examples
    --------
    >>> round(heat_capacity_fixed_noise(0.4, 1.0), 5)
    0.78125
    """
    return 2.0 / (2.0 - rate * curvature) ** 2


def heat_capacity_fixed_rate(rate: float, curvature: float) -> float:
    """d<U>/dT when the noise changes.

    Examples
    --------
    >>> heat_capacity_fixed_rate(0.4, 1.0)
    0.625
    """
    return 1.0 / (2.0 - rate * curvature)


def _at_point(run: Run) -> list[Prediction]:
    rows = []
    for mode in modes(run):
        name = fast_loss_name(mode)
        mean, variance = mode.fast_loss(run.steps)
        if not np.isfinite(variance):
            continue
        unit = (2.0 * mean) ** 2
        measure = Function("fluctuation", partial(over, unit), (Moment("variance", name, run.steps),))
        quantity = f"heat capacity Var({name})/T_eff^2"
        rows.append(Prediction(ID, quantity, measure, variance / unit, mode.order, conditions=mode.conditions))
    return rows


def _across(runs: Sequence[Run]) -> list[Prediction]:
    rows: list[Prediction] = []
    for fixed, series in (("noise", _without_rate), ("learning rate", _without_noise)):
        families: dict[str, list[tuple[int, Mode]]] = {}
        for point, run in enumerate(runs):
            for mode in _modes(run):
                families.setdefault(f"{mode.parameter} {series(mode)}", []).append((point, mode))
        for family in families.values():
            rows += _secants(family, fixed)
    return rows


def _modes(run: Run) -> tuple[Mode, ...]:
    try:
        return tuple(mode for mode in modes(run) if mode.constant_rate and fast_loss_name(mode))
    except NotApplicable:
        return ()


def _secants(family: Sequence[tuple[int, Mode]], fixed: str) -> Iterator[Prediction]:
    ordered = sorted(family, key=lambda entry: _temperature(entry[1]))
    for (i, one), (j, two) in pairwise(ordered):
        step, name = one.run.steps, fast_loss_name(one)
        gap = _temperature(two) - _temperature(one)
        if gap <= 1e-9 * _temperature(two):
            continue
        predicted = (two.fast_loss(step)[0] - one.fast_loss(step)[0]) / gap
        moments = (Moment("mean", name, step, point=i), Moment("mean", name, step, point=j))
        yield Prediction(
            ID,
            f"heat capacity d{name}/dT at fixed {fixed}, points {i} to {j}",
            Function("secant", partial(_secant, gap), moments),
            predicted,
            one.order,
            conditions=f"{one.conditions}; {two.conditions}",
            rival=None if one.decay else LEADING,
        )


def _temperature(mode: Mode) -> float:
    return temperature(float(mode.rates[-1]), mode.noise_variance)


def _without_rate(mode: Mode) -> str:
    """Everything about a mode's run but its learning rate."""
    tables = mode.run.describe()
    del tables["optimizer"]["learning_rate"]
    return json.dumps(tables, sort_keys=True, default=str)


def _without_noise(mode: Mode) -> str:
    """Everything about a mode's run but what its temperature alone depends on at a fixed learning rate."""
    tables = mode.run.describe()
    del tables["optimizer"]["batch_size"]
    curvature = {symbol.name for symbol in mode.direction.curvature.free_symbols}
    for factor in mode.direction.couplings.values():
        for symbol in factor.free_symbols:
            if symbol.name not in curvature:
                tables["loss"]["constants"].pop(symbol.name, None)
    return json.dumps(tables, sort_keys=True, default=str)


def _secant(gap: float, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return np.asarray((two - one) / gap)


LAW = Law(
    ID,
    "heat capacity: two secants and the fluctuation form",
    "re-derived, sgdsim handbook NTL-12; heat capacity claimed in arXiv:2505.10559",
    fast_losses,
    _at_point,
    _across,
)
