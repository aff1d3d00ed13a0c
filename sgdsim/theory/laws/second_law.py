"""The second law: the divergence from rest never rises, and the equalities behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from sgdsim.model.noise import Noise
from sgdsim.model.run import Recorder, Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import Function, Moment, NotApplicable, PathMean, Prediction, Rival, require, stored
from sgdsim.theory.law import law, row
from sgdsim.theory.laws.valley import stationary_variance
from sgdsim.theory.methods.modes import Mode, modes, plain_modes
from sgdsim.theory.methods.rivers import River, river


def divergence(mean: Any, variance: Any, rest: float) -> Any:
    """Kullback-Leibler divergence of a Gaussian law from that at rest.

    Examples
    --------
    >>> float(divergence(0.0, 2.0, 2.0))
    0.0
    """
    ratio = variance / rest
    return (ratio - 1.0 - np.log(ratio) + mean**2 / rest) / 2.0


@law(
    "second-law",
    "second law: the divergence from the law at rest never rises",
    source="our own statement",
    holds="a valley with normal noise that relaxes at a constant rate",
)
def second_law(run: Run) -> Iterator[Prediction]:
    """The second law for one valley, at any learning rate. Exact.

    In a step the divergence of the law of x from the stationary law of the step's rate never rises, whatever the
    chain. For a Gaussian valley, with mean m, variance V and stationary variance v,

        D = [V/v - 1 - ln(V/v)]/2 + m^2/(2v).

    The fall of D between neighbouring records is tested, from measured means and variances. From a histogram, D would
    be biased upwards.

    Our own statement: whether the paper (arXiv:2505.10559) has such a second law is not known to us.
    """
    records = [int(step) for step in run.recorder.record_steps(run.steps)]
    rows = [row for mode in plain_modes(run) if len(records) >= 3 for row in _falls(mode, records)]
    require(rows, "speaks of a Gaussian valley at a constant rate that starts spread, with records on the way")
    yield from rows


@stored
def _fallen(rest: float, *moments: np.ndarray) -> np.ndarray:
    """The fall of the divergence from the first record to the second."""
    m0, v0, m1, v1 = moments
    return np.asarray(divergence(m0, v0, rest) - divergence(m1, v1, rest))


def _falls(mode: Mode, records: list[int]) -> Iterator[Prediction]:
    """Rows on the fall of the divergence from record to record, until next to nothing of it is left."""
    rest, exact = float(rests(mode)[0]), {step: mode.cumulants(step) for step in records}
    if not mode.constant_rate or not mode.is_gaussian or exact[0][1] <= 0.0:
        return
    left = {step: float(divergence(exact[step][0] - mode.centre, exact[step][1], rest)) for step in records}
    for start, stop in pairwise(records):
        if left[start] < 0.01 * left[0] or left[start] == 0.0:
            break
        moments = tuple(Moment(s, mode.parameter, step) for step in (start, stop) for s in ("mean", "variance"))
        yield row(
            Function("fall", partial(_fallen, rest), moments),
            left[start] - left[stop],
            f"fall of the divergence of {mode.parameter} from rest, steps {start} to {stop}",
            resolution=0.02 * left[0],
            conditions=f"D = {left[start]:.6g} to {left[stop]:.6g}",
        )


def rests(mode: Mode) -> np.ndarray:
    """Stationary variance at the rate of each step."""
    a, noise = mode.curvature, mode.noise_variance
    return np.array([stationary_variance(float(rate), a, noise) for rate in mode.rates])


def changes(mode: Mode) -> tuple[int, ...]:
    """Completed steps after which the rate changes."""
    return tuple(int(step) + 1 for step in np.flatnonzero(np.diff(mode.rates)))


@stored
def excess_entropy(before: np.ndarray, after: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The excess entropy Y of trajectories x (change, trajectory), from the stationary variances around each change.

    Examples
    --------
    >>> excess_entropy(np.array([1.0]), np.array([1.0]), np.array([[3.0]]))
    array([0.])
    """
    return np.asarray((x**2 * (1 / after - 1 / before)[:, None] + np.log(after / before)[:, None]).sum(axis=0) / 2.0)


def mean_excess(mode: Mode) -> float:
    """The mean excess entropy ``<Y>``."""
    v, steps = rests(mode), changes(mode)
    heats = np.array([mode.cumulants(step)[1] for step in steps])
    before, after = v[np.array(steps) - 1], v[np.array(steps)]
    return float(np.sum(heats * (1 / after - 1 / before) + np.log(after / before)) / 2.0)


def _hatano_sasa_applicable(run: Run) -> list[Mode]:
    found = [mode for mode in modes(run) if mode.is_gaussian and not (mode.adiabatic or mode.decay)]
    require(
        found and not found[0].constant_rate,
        "speaks of a Gaussian valley of constant curvature at a rate that changes",
    )
    for mode in found:
        mean, variance, *_ = mode.cumulants(0)
        require(
            abs(variance / rests(mode)[0] - 1.0) <= 1e-9 and mean == 0.0 and mode.centre == 0.0,
            f"{mode.parameter} does not start in the stationary law of the first learning rate",
        )
    return found


@law(
    "hatano-sasa",
    "the equality of Hatano and Sasa under any schedule",
    source="our own statement after Hatano and Sasa",
    holds="a valley with normal noise whose learning rate changes",
    records=lambda run: Recorder(snapshots=changes(_hatano_sasa_applicable(run)[0])),
)
def hatano_sasa(run: Run) -> Iterator[Prediction]:
    """The equality of Hatano and Sasa, for any schedule, at any learning rate. Exact.

    From a start in the stationary law of the first rate, with v_t the stationary variance of the rate of step t and
    ``phi_t(x) = x^2/(2*v_t) + ln(2*pi*v_t)/2``, let

        Y = sum_t [phi_(t+1)(x_(t+1)) - phi_t(x_(t+1))],

    where x_(t+1) is produced with the rate of step t. Then for every protocol

        <e^(-Y)> = 1,    <Y> = sum_t [V_(t+1)*(1/v_(t+1) - 1/v_t) + ln(v_(t+1)/v_t)]/2 >= 0,

    with V_t the variance of x: in the mean any schedule produces excess entropy, though not on every trajectory.

    Strong heating from a cold start gives the weights heavy tails. Our own statement, after Hatano and Sasa (2001).
    """
    for mode in _hatano_sasa_applicable(run):
        steps, v, mean = changes(mode), rests(mode), mean_excess(mode)
        require(set(steps) <= set(run.recorder.snapshots), "the states at which the learning rate changes are not kept")
        index = np.array(steps)
        about = partial(excess_entropy, v[index - 1], v[index])
        weight = PathMean(mode.parameter, steps, partial(_hatano_sasa_weight, about))
        conditions = f"{len(steps)} changes of the rate, from {mode.rates[0]:.4g} to {mode.rates[-1]:.4g}"
        yield row(weight, 1.0, "<exp(-Y)>, Y the excess entropy", resolution=0.02, conditions=conditions)
        measure = PathMean(mode.parameter, steps, about)
        yield row(measure, mean, "<Y>", resolution=0.02 * mean, conditions=conditions)


@stored
def _hatano_sasa_weight(about: partial[np.ndarray], x: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-about(x)))


_BACK_REACTION = 1e-4  # largest relative back reaction of the walls on the river
_RESOLUTION = 0.01  # resolution of the mean weight, relative
_SAME = 1e-6  # relative difference of variances that count as the same
_STOPPED = 1e-9  # largest learning rate after the protocol, in units of that in it
_LAST_BIT = 1e-2  # largest last bit of y in units of the lateness T/g, from which the work is told


def exact_weight(a: np.ndarray, rate: float, noise: float, start: float) -> float:
    """The mean weight ``<exp(-W/T)>`` for curvatures a after 0, 1, … steps, from a normal start of variance `start`.

    Examples
    --------
    >>> float(exact_weight(np.array([1.0, 1.0]), 0.1, 1.0, 0.05))
    1.0
    """
    heat, kick, b, logarithm = rate * noise / 2.0, rate**2 * noise, 0.0, 0.0
    for now, after in zip(a[-2::-1], a[:0:-1], strict=True):
        logarithm -= 0.5 * np.log1p(b * kick)
        b = (after - now) / heat + (1.0 - rate * now) ** 2 * b / (1.0 + b * kick)
    return float(np.exp(logarithm) / np.sqrt(1.0 + b * start))


@law(
    "jarzynski",
    "Jarzynski's equality for walls that close by the clock",
    source="our own statement after Jarzynski",
    holds="walls that a river closes by the clock, over learning rates",
    records=lambda run: Recorder(snapshots=(run.steps,)),
    finite_order=True,
)
def jarzynski(run: Run) -> Iterator[Prediction]:
    """Jarzynski's equality for walls that a river closes like a clock. Leading order, and exactly at any eta.

    A river ``c = -g*y`` so steep that the walls cannot slow it moves a(y), linear in y, by the clock ``y = y_0 +
    n*eta*g``. From the Gibbs law ``Var x = T/a_0``, with the work ``W = sum of (a(y') - a(y))*x^2/2`` of first-law
    done on x,

        <exp(-W/T)> = sqrt(a_0/a_1)  as eta -> 0,

    whatever the speed: it is the ratio of the partition functions. At finite eta it is a Gaussian integral: with
    ``f_n(x) = A_n*exp(-B_n*x^2/2)`` the mean weight of the steps from n on,

        s = eta^2*sigma^2,  r = 1 - eta*a_n,    A_n = A_(n+1)/sqrt(1 + B_(n+1)*s),
        B_n = (a_(n+1) - a_n)/T + r^2*B_(n+1)/(1 + B_(n+1)*s),    <exp(-W/T)> = A_0/sqrt(1 + B_0*Var x).

    W is measured by the river: the walls take their work from it, so that it is late, ``W = g*(y_0 + n*eta*g - y_n)``.
    This is so but for a back reaction of relative size ``a'*x^2/(2g)``, which must be below 1e-4. And the last bit of
    the final y must be far below the lateness T/g of a work T.

    Tested are the limit of the equality over learning rates, and the exact integral at each rate. So that a protocol
    takes the same time ``n*eta`` at every rate, the rate may drop to next to nothing after it. Our own statement,
    after Jarzynski (1997).
    """
    known, y, end = _moving(run)
    start = run.initial[known.fast]
    if not (isinstance(start, Noise) and start.family == "normal" and start.cumulant(1) == 0.0):
        raise NotApplicable(f"{known.fast} does not start from a normal law about 0")
    a, slope, heat, variance = known.a(y), -float(known.c(0.0, 1)), known.temperature, float(start.cumulant(2))
    require(
        not abs(variance * a[0] / heat - 1.0) > _SAME,
        f"{known.fast} starts with the variance {variance:.6g}, Gibbs' law has {heat / a[0]:.6g}",
    )
    back = float(abs(known.a(0.0, 1)) * heat / (2.0 * a.min() * abs(slope)))
    require(
        back < _BACK_REACTION, f"the walls slow the river by {back:.1g}, at most {_BACK_REACTION:g} can be neglected"
    )
    require(
        np.all(a > 0.0) and known.rate * a.max() < 2.0,
        f"eta*a goes from {known.rate * a[0]:.3g} to {known.rate * a[-1]:.3g}, not between 0 and 2",
    )
    last_bit = float(np.finfo(run.dtype).eps * np.abs(y).max() / (heat / abs(slope)))
    require(
        last_bit < _LAST_BIT,
        f"{known.slow} is late by some {heat / abs(slope):.2g}, of which its last bit in {run.dtype} is "
        f'{last_bit:.1g}, at most {_LAST_BIT:g} can be neglected: expected dtype = "float64", or a less steep river',
    )
    require(run.steps in run.recorder.snapshots, "the states at the end are not kept")
    limit, exact = float(np.sqrt(a[0] / a[-1])), exact_weight(a, known.rate, known.noise, variance)
    conditions = f"a from {a[0]:.4g} to {a[-1]:.4g}, back reaction {back:.1g}, eta*a up to {known.rate * a.max():.3g}"
    late, final = partial(_jarzynski_weight, slope / heat, end), (run.steps,)
    yield row(
        PathMean(known.slow, final, partial(_over, limit, late)),
        1.0,
        "<exp(-W/T)> over sqrt(a_0/a_1)",
        order=0,
        conditions=conditions,
        small=known.rate,
        series=f"jarzynski {known.walls[0]} {known.bed[0]} {heat:.9g} {a[-1]:.6g}",
    )
    yield row(
        PathMean(known.slow, final, late),
        exact,
        "<exp(-W/T)> at this learning rate",
        order="adiabatic",
        resolution=_RESOLUTION * exact,
        conditions=conditions,
        rival=Rival("the equality", limit),
    )


def _moving(run: Run) -> tuple[River, np.ndarray, float]:
    """The river, its y after 0, 1, … steps of the protocol, and its y at the end of the run."""
    rates = run.schedule.rates(run.steps)
    moving = rates == rates[0]
    steps = int(np.count_nonzero(moving))
    require(
        moving[:steps].all() and np.all(rates[steps:] <= _STOPPED * rates[0]),
        f"speaks of one learning rate, and at most {_STOPPED:g} of it after that",
    )
    known = river(replace(run, schedule=Schedule(repr(float(rates[0])))))
    require(
        known.bed[2] == known.walls[2] == 0 and not (known.river_noise or known.is_flat),
        "speaks of a river of constant slope, without noise of its own, along walls linear in it",
    )
    y = known.start - float(known.c(0.0, 1)) * np.concatenate([[0.0], np.cumsum(rates)])
    return known, y[: steps + 1], float(y[-1])


@stored
def _jarzynski_weight(pull: float, end: float, y: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-pull * (end - y[0])))


@stored
def _over(limit: float, weight: partial[np.ndarray], y: np.ndarray) -> np.ndarray:
    return np.asarray(weight(y) / limit)


_FORGOTTEN = 1e-6  # largest part of a displacement at the start that may be left


def asymmetry(rate: float, curvature: float, third: float) -> float:
    """The asymmetry in time ``<x^2*x'> - <x*x'^2>`` at rest, from the third cumulant of the gradient noise.

    Examples
    --------
    >>> round(asymmetry(0.5, 1.0, 2.0), 6)  # centred exponential noise
    -0.071429
    """
    r = 1.0 - rate * curvature
    return -(rate**3) * third / (1.0 - r**3) * (r - r * r)


def _detailed_balance_applicable(run: Run) -> list[Mode]:
    found = [mode for mode in plain_modes(run) if mode.constant_rate]
    found = [mode for mode in found if abs(mode.memory(0, run.steps - 1)) < _FORGOTTEN]
    require(found, "no valley of constant curvature is at rest at the end, at a constant rate")
    return found


def _detailed_balance_records(run: Run) -> Recorder:
    _detailed_balance_applicable(run)
    return Recorder(snapshots=(run.steps - 1, run.steps))


@law(
    "detailed-balance",
    "detailed balance at rest, and how skewed noise breaks it",
    source="our own statement",
    holds="a valley with normal noise at rest",
    records=_detailed_balance_records,
)
def detailed_balance(run: Run) -> Iterator[Prediction]:
    """Detailed balance of a valley at rest, and how skewed noise breaks it. Exact.

    For normal noise a valley at rest looks the same backwards: ``<x^2*x'> = <x*x'^2>`` for neighbouring states, at
    any learning rate. Noise w of third cumulant k3(w) breaks it,

        <x^2*x'> - <x*x'^2> = k3*(r - r^2),    k3 = -eta^3*k3(w)/(1 - r^3),    r = 1 - eta*a,

    about the centre of the valley. Our own statement.
    """
    steps = (run.steps - 1, run.steps)
    require(set(steps) <= set(run.recorder.snapshots), "the last two states are not kept")
    for mode in _detailed_balance_applicable(run):
        yield row(
            PathMean(mode.parameter, steps, partial(_difference, mode.centre)),
            asymmetry(float(mode.rates[0]), mode.curvature, mode.noise_cumulants[2]),
            f"<x^2 x'> - <x x'^2> of {mode.parameter} at rest",
            resolution=0.02 * mode.cumulants(run.steps)[1] ** 1.5,
            conditions=mode.conditions,
        )


@stored
def _difference(centre: float, x: np.ndarray) -> np.ndarray:
    before, after = x - centre
    return np.asarray(before**2 * after - before * after**2)
