"""Equilibrium: heat capacity and entropy of a valley."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise

import numpy as np

from sgdsim.model.run import Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, Rival, change_over, require, stored
from sgdsim.theory.law import law, ratio_row, row, series
from sgdsim.theory.laws.valley import final_temperature
from sgdsim.theory.methods.mode_rows import at_point, fast_loss_name, fast_losses, of_mode
from sgdsim.theory.methods.modes import Mode, constant_rate, modes

LEADING = Rival("leading order", 0.5)


def _heat_capacity_across(runs: Sequence[Run]) -> Iterator[Prediction]:
    for fixed, others in (("noise", lambda mode: series(mode.run)), ("learning rate", _without_noise)):
        for pair in _neighbours(runs, _heat_capacity_modes, others, final_temperature):
            yield _secant(*pair, fixed)


def _neighbours(
    runs: Sequence[Run],
    found: Callable[[Run], Iterable[Mode]],
    family: Callable[[Mode], str],
    value: Callable[[Mode], float],
) -> Iterator[tuple[int, Mode, int, Mode]]:
    """Pairs of modes of a sweep, each with its point: of one family, and neighbours in a value that differs."""
    families: dict[str, list[tuple[float, int, Mode]]] = {}
    for point, run in enumerate(runs):
        with suppress(NotApplicable):  # the reason is given at the point itself
            for mode in found(run):
                families.setdefault(f"{mode.parameter} {family(mode)}", []).append((value(mode), point, mode))
    for members in families.values():
        for (low, i, one), (high, j, two) in pairwise(sorted(members, key=lambda member: member[0])):
            if high - low > 1e-9 * high:
                yield i, one, j, two


@law(
    "heat-capacity",
    "heat capacity: two secants and the fluctuation form",
    source="re-derived; heat capacity claimed in arXiv:2505.10559",
    holds="as valley; secants between neighbours of a sweep over the rate or the noise, constant rates",
    records=fast_losses,
    across=_heat_capacity_across,
    automatic=True,
)
def heat_capacity(run: Run) -> Iterator[Prediction]:
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
    for mode in modes(run):
        name, (mean, variance) = fast_loss_name(mode), mode.fast_loss(run.steps)
        if np.isfinite(variance):
            yield ratio_row(
                Moment("variance", name, run.steps),
                (2.0 * mean) ** 2,
                f"heat capacity Var({name})/T²",
                variance / (2.0 * mean) ** 2,
                mode.order,
                statistic="fluctuation",
                **mode.about,
            )


def _heat_capacity_modes(run: Run) -> list[Mode]:
    return [mode for mode in modes(run) if mode.constant_rate and fast_loss_name(mode)]


def _secant(i: int, one: Mode, j: int, two: Mode, fixed: str) -> Prediction:
    step, name, gap = one.run.steps, fast_loss_name(one), final_temperature(two) - final_temperature(one)
    return ratio_row(
        (Moment("mean", name, step, i), Moment("mean", name, step, j)),
        gap,
        f"heat capacity d{name}/dT at fixed {fixed}, points {i} to {j}",
        (two.fast_loss(step)[0] - one.fast_loss(step)[0]) / gap,
        one.order,
        function=change_over,
        statistic="secant",
        conditions=f"{one.conditions}; {two.conditions}",
        assumes=(*at_point(i, one.assumes), *at_point(j, two.assumes)),
        rival=None if one.decay else LEADING,
    )


def _without_noise(mode: Mode) -> str:
    """Everything about a mode's run as a text, but the constants that set only its temperature at a fixed rate."""
    tables = mode.run.describe()
    del tables["optimizer"]["batch_size"]
    curvature = {symbol.name for symbol in mode.direction.curvature.free_symbols}
    for factor in mode.direction.couplings.values():
        for symbol in factor.free_symbols:
            if symbol.name not in curvature:
                tables["loss"]["constants"].pop(symbol.name, None)
    return json.dumps(tables, sort_keys=True, default=str)


@stored
def gaussian_entropy(variance: float | np.ndarray) -> np.ndarray:
    """Differential entropy of a Gaussian, in nats.

    Examples
    --------
    >>> float(gaussian_entropy(0.3 / 1.7).round(5))
    0.55164
    """
    return np.asarray(0.5 * np.log(2.0 * np.pi * math.e * np.asarray(variance)))


def _entropy_modes(run: Run) -> list[Mode]:
    found = [mode for mode in modes(run) if mode.is_gaussian and not mode.decay]
    require(found, "no fast direction is Gaussian and without weight decay")
    return found


def _entropy_across(runs: Sequence[Run]) -> Iterator[Prediction]:
    pairs = _neighbours(runs, _entropy_modes, lambda mode: series(mode.run), lambda mode: constant_rate(mode.run))
    return (_entropy_secant(*pair) for pair in pairs)


@law(
    "entropy",
    "entropy of the stationary law, and its slope over the learning rate",
    source="re-derived",
    holds="a valley with normal noise, at rest; its slope over a sweep of learning rates",
    across=_entropy_across,
)
def entropy(run: Run) -> Iterator[Prediction]:
    """Entropy of the stationary law. Exact for normal noise.

        S = (1/2)*ln(2*pi*e*v),   v = eta*sigma^2/(a*(2 - eta*a)),   dS/d ln(eta) = 1/(2 - eta*a),

    and ``S - ln(eta)/2 -> (1/2)*ln(pi*e*sigma^2/a)``: the entropy of a classical valley falls without end as it
    cools, while its heat capacity stays 1/2 (residual-entropy). Measured is the entropy of a Gaussian of the measured
    variance; the density itself is held against a Gaussian by valley. Over a sweep of learning rates, the secants of
    S over ln(eta) are tested, with 1/2, their limit in the cold, as the rival.

    Re-derived.
    """
    rate = constant_rate(run)
    for mode in _entropy_modes(run):
        cold = 0.5 * np.log(np.pi * math.e * mode.noise_variance / mode.curvature * rate)
        yield of_mode(
            mode,
            Function("entropy", gaussian_entropy, (Moment("variance", mode.parameter, run.steps),)),
            float(gaussian_entropy(mode.cumulants(run.steps)[1])),
            f"entropy of {mode.parameter}",
            0.01,
            rival=Rival("leading order", float(cold)),
        )


def _entropy_secant(i: int, one: Mode, j: int, two: Mode) -> Prediction:
    gap, steps = float(np.log(constant_rate(two.run) / constant_rate(one.run))), (one.run.steps, two.run.steps)
    variances = one.cumulants(steps[0])[1], two.cumulants(steps[1])[1]
    moments = (Moment("variance", one.parameter, steps[0], i), Moment("variance", one.parameter, steps[1], j))
    return row(
        Function("secant of entropy", partial(_slope, gap), moments),
        float(_slope(gap, *map(np.asarray, variances))),
        f"dS/d ln(eta) of {one.parameter}, points {i} to {j}",
        one.order,
        conditions=f"{one.conditions}; {two.conditions}",
        rival=LEADING,
    )


@stored
def _slope(gap: float, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return np.asarray((gaussian_entropy(two) - gaussian_entropy(one)) / gap)
