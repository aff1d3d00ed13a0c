"""Equilibrium: heat capacity and entropy of a valley."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from sgdsim.model.run import Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, Rival, change_over, over, require
from sgdsim.theory.law import law, row, series
from sgdsim.theory.laws.valley import final_temperature
from sgdsim.theory.methods.fast_directions import (
    Mode,
    at_point,
    constant_rate,
    fast_loss_name,
    fast_losses,
    modes,
)

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


def _heat_capacity_across(runs: Sequence[Run]) -> list[Prediction]:
    rows: list[Prediction] = []
    for fixed, others in (("noise", lambda mode: series(mode.run)), ("learning rate", _without_noise)):
        families: dict[str, list[tuple[int, Mode]]] = {}
        for point, run in enumerate(runs):
            for mode in _heat_capacity_modes(run):
                families.setdefault(f"{mode.parameter} {others(mode)}", []).append((point, mode))
        for family in families.values():
            rows += _secants(family, fixed)
    return rows


@law(
    "heat-capacity",
    "heat capacity: two secants and the fluctuation form",
    source="re-derived; heat capacity claimed in arXiv:2505.10559",
    holds="as valley; secants between neighbours of a sweep over the rate or the noise, constant rates",
    records=fast_losses,
    across=_heat_capacity_across,
    automatic=True,
)
def heat_capacity(run: Run) -> list[Prediction]:
    """Heat capacity of a quadratic valley, with ``T = eta*sigma^2/2`` and ``U = a*x^2/2``. Exact.

        at fixed sigma:   C = d<U>/dT = 2/(2 - eta*a)^2
        at fixed eta:     C = d<U>/dT = 1/(2 - eta*a)
        fluctuations:     Var U / T_eff^2 = 1/2,    T_eff = 2*<U>, for Gaussian noise

    Tested without the error of a finite difference: the measured secant (U_2 - U_1)/(T_2 - T_1) between
    neighbouring points of a sweep is held against the same secant of the exact <U>. Sweep points that share their
    noise (``common_noise = true``) make the difference sharp, and the jackknife pairs them group by group. The
    fluctuation form uses the predicted T_eff. Leading order is 1/2 in all three.

    That heat capacity is constant (Q = C T) is claimed in arXiv:2505.10559; the formulas are re-derived.
    """
    rows = []
    for mode in modes(run):
        name = fast_loss_name(mode)
        mean, variance = mode.fast_loss(run.steps)
        if not np.isfinite(variance):
            continue
        unit = (2.0 * mean) ** 2
        measure = Function("fluctuation", partial(over, unit), (Moment("variance", name, run.steps),))
        quantity = f"heat capacity Var({name})/T_eff^2"
        rows.append(
            row(measure, variance / unit, quantity, order=mode.order, conditions=mode.conditions, assumes=mode.assumes)
        )
    return rows


def _heat_capacity_modes(run: Run) -> tuple[Mode, ...]:
    try:
        return tuple(mode for mode in modes(run) if mode.constant_rate and fast_loss_name(mode))
    except NotApplicable:
        return ()


def _secants(family: Sequence[tuple[int, Mode]], fixed: str) -> Iterator[Prediction]:
    ordered = sorted(family, key=lambda entry: final_temperature(entry[1]))
    for (i, one), (j, two) in pairwise(ordered):
        step, name = one.run.steps, fast_loss_name(one)
        gap = final_temperature(two) - final_temperature(one)
        if gap <= 1e-9 * final_temperature(two):
            continue
        predicted = (two.fast_loss(step)[0] - one.fast_loss(step)[0]) / gap
        moments = (Moment("mean", name, step, point=i), Moment("mean", name, step, point=j))
        yield row(
            Function("secant", partial(change_over, gap), moments),
            predicted,
            f"heat capacity d{name}/dT at fixed {fixed}, points {i} to {j}",
            order=one.order,
            conditions=f"{one.conditions}; {two.conditions}",
            assumes=(*at_point(i, one.assumes), *at_point(j, two.assumes)),
            rival=None if one.decay else LEADING,
        )


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


def gaussian_entropy(variance: float | np.ndarray) -> np.ndarray:
    """Differential entropy of a Gaussian, in nats.

    Examples
    --------
    >>> float(gaussian_entropy(0.3 / 1.7).round(5))
    0.55164
    """
    return np.asarray(0.5 * np.log(2.0 * np.pi * np.e * np.asarray(variance)))


def _entropy_modes(run: Run) -> list[Mode]:
    found = [mode for mode in modes(run) if mode.is_gaussian and not mode.decay]
    require(found, "no fast direction is Gaussian and without weight decay")
    return found


def _entropy_across(runs: Sequence[Run]) -> list[Prediction]:
    families: dict[str, list[tuple[float, int, Mode]]] = {}
    for point, run in enumerate(runs):
        try:
            rate, found = constant_rate(run), _entropy_modes(run)
        except NotApplicable:
            continue  # said at the point
        for mode in found:
            families.setdefault(f"{mode.parameter} {series(run)}", []).append((rate, point, mode))
    pairs = [pair for family in families.values() for pair in pairwise(sorted(family, key=lambda entry: entry[0]))]
    return [_entropy_secant(one, two) for one, two in pairs if two[0] > one[0]]


@law(
    "entropy",
    "entropy of the stationary law, and its slope over the learning rate",
    source="re-derived",
    holds="a valley with normal noise, at rest; its slope over a sweep of learning rates",
    across=_entropy_across,
)
def entropy(run: Run) -> list[Prediction]:
    """Entropy of the stationary law. Exact for normal noise.

        S = (1/2)*ln(2*pi*e*v),   v = eta*sigma^2/(a*(2 - eta*a)),   dS/d ln(eta) = 1/(2 - eta*a),

    and ``S - ln(eta)/2 -> (1/2)*ln(pi*e*sigma^2/a)``: the entropy of a classical valley falls without end as it
    cools, while its heat capacity stays 1/2 (residual-entropy). Measured is the entropy of a Gaussian of the measured
    variance; the density itself is held against a Gaussian by valley. Over a sweep of learning rates, the secants of
    S over ln(eta) are tested, with 1/2, their limit in the cold, as the rival.

    Re-derived.
    """
    rate = constant_rate(run)
    rows = []
    for mode in _entropy_modes(run):
        measure = Function("entropy", gaussian_entropy, (Moment("variance", mode.parameter, run.steps),))
        predicted = float(gaussian_entropy(mode.cumulants(run.steps)[1]))
        cold = 0.5 * np.log(np.pi * np.e * mode.noise_variance / mode.curvature[-1] * rate)
        rows.append(
            row(
                measure,
                predicted,
                f"entropy of {mode.parameter}",
                order=mode.order,
                resolution=0.01,
                conditions=mode.conditions,
                assumes=mode.assumes,
                rival=Rival("leading order", float(cold)),
            )
        )
    return rows


def _entropy_secant(one: tuple[float, int, Mode], two: tuple[float, int, Mode]) -> Prediction:
    (rate, i, mode), (other_rate, j, other) = one, two
    gap, steps = float(np.log(other_rate / rate)), (mode.run.steps, other.run.steps)
    variances = mode.cumulants(steps[0])[1], other.cumulants(steps[1])[1]
    moments = (Moment("variance", mode.parameter, steps[0], i), Moment("variance", mode.parameter, steps[1], j))
    return row(
        Function("secant of entropy", partial(_slope, gap), moments),
        float(_slope(gap, *map(np.asarray, variances))),
        f"dS/d ln(eta) of {mode.parameter}, points {i} to {j}",
        order=mode.order,
        conditions=f"{mode.conditions}; {other.conditions}",
        rival=Rival("leading order", 0.5),
    )


def _slope(gap: float, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return np.asarray((gaussian_entropy(two) - gaussian_entropy(one)) / gap)
