"""The fastest possible cooling, and the bound that no schedule passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

import numpy as np

from sgdsim.model.noise import Noise
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, Rival, require, stored
from sgdsim.theory.law import law, ratio_row, row, series
from sgdsim.theory.methods.mode_rows import fast_loss_name, fast_losses, mode_losses
from sgdsim.theory.methods.modes import Mode, modes, plain_modes, steady_modes

_WEAKEST = 0.05  # largest e = a^2*v/sigma^2 at the start, in powers of which SignSGD is tested
_SAME = 1e-6  # relative difference of learning rates that count as the same


def greedy_rates(steps: int, curvature: float, noise: float, v0: float) -> np.ndarray:
    """The learning rates that cool a mode of second moment v0 fastest.

    Examples
    --------
    >>> rest = 0.2 / (2 - 0.2)  # in equilibrium at 0.2
    >>> greedy_rates(3, 1.0, 1.0, rest)  # 0.2/(2 + 0.2*n)
    array([0.1       , 0.09090909, 0.08333333])
    """
    v = 1.0 / (1.0 / v0 + np.arange(steps) * curvature**2 / noise)
    return np.asarray(curvature * v / (curvature**2 * v + noise))


def bound(steps: int, curvature: float, noise: float, v0: float) -> float:
    """The least second moment after a number of steps, whatever the learning rates.

    Examples
    --------
    >>> bound(80, 1.0, 1.0, 0.05)
    0.01
    """
    return float(1.0 / (1.0 / v0 + steps * curvature**2 / noise))


def greedy_for_all(
    steps: int, curvatures: np.ndarray, noises: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The rates that lower the total fast loss most at each step, and the second moments that they leave.

    Examples
    --------
    >>> rates, left = greedy_for_all(3, np.array([1.0]), np.array([1.0]), np.array([1 / 9]))
    >>> rates, left  # as of one mode
    (array([0.1       , 0.09090909, 0.08333333]), array([0.08333333]))
    """
    rates, v = [], starts
    for _ in range(steps):
        rates.append(np.sum(curvatures**2 * v) / np.sum(curvatures**3 * v + curvatures * noises))
        v = (1.0 - rates[-1] * curvatures) ** 2 * v + rates[-1] ** 2 * noises
    return np.array(rates), v


def sign_variance(rates: np.ndarray, curvature: float, sigma: float, v0: float) -> float:
    """Second moment after steps of SignSGD, each from a normal law.

    Examples
    --------
    >>> greedy = np.sqrt(2 / np.pi) / (100 + 2 / np.pi * np.arange(200))
    >>> round(1 / sign_variance(greedy, 1.0, 1.0, 0.01), 1)  # 100 + 200*2/pi = 227.3 to leading order
    227.0
    """
    v = v0
    for rate in rates:
        pull = np.sqrt(2.0 / np.pi) * curvature * v / np.sqrt(curvature**2 * v + sigma**2)
        v = v - 2.0 * rate * pull + rate**2
    return float(v)


def _is_spread(mode: Mode) -> bool:
    """True if a mode starts with a spread, and its learning rate changes."""
    return 0.0 < mode.fast_loss(0)[0] < np.inf and not mode.constant_rate


def _of_one(mode: Mode) -> Prediction:
    """A row on the second moment of a mode in units of the bound."""
    a, steps, start = mode.curvature, mode.run.steps, 2.0 * mode.fast_loss(0)[0] / mode.curvature
    least = bound(steps, a, mode.noise_variance, float(start))
    best = _are(mode.rates, greedy_rates(steps, a, mode.noise_variance, float(start)))
    return ratio_row(
        Moment("mean", fast_loss_name(mode), steps),
        a * least / 2.0,
        f"second moment of {mode.parameter} over the least that any schedule leaves",
        1.0 if best else 2.0 * mode.fast_loss(steps)[0] / a / least,
        conditions=f"least {least:.6g}; {'this schedule is the best' if best else mode.conditions}",
        rival=None if best else Rival("the bound", 1.0),
    )


def _together(found: Sequence[Mode], step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Curvatures, noise variances, and second moments after a number of steps."""
    a, noises, losses = np.array([(m.curvature, m.noise_variance, m.fast_loss(step)[0]) for m in found]).T
    return a, noises, 2.0 * losses / a


def _of_all(found: Sequence[Mode]) -> Prediction:
    """A row on the total fast loss in units of that which the greedy rates leave."""
    run, (a, noises, starts) = found[0].run, _together(found, 0)
    rates, left = greedy_for_all(run.steps, a, noises, starts)
    least, greedy = float(np.sum(a * left)) / 2.0, _are(found[0].rates, rates)
    return ratio_row(
        tuple(Moment("mean", fast_loss_name(mode), run.steps) for mode in found),
        least,
        f"fast loss of {len(found)} modes over what the greedy rates leave",
        sum(mode.fast_loss(run.steps)[0] for mode in found) / least,
        conditions=f"least {least:.6g}; {'these rates are the greedy ones' if greedy else found[0].conditions}",
        rival=None if greedy else Rival("the greedy choice", 1.0),
    )


def _are(rates: np.ndarray, others: np.ndarray) -> bool:
    return bool(np.allclose(rates, others, rtol=_SAME, atol=0.0))


def _across(runs: Sequence[Run]) -> Iterator[Prediction]:
    """Rows on the best last learning rate, from three runs that differ in it alone."""
    groups: dict[str, list[int]] = {}
    for point, run in enumerate(runs):
        if run.optimizer.name == "sgd":
            groups.setdefault(f"{series(run)} {run.schedule.rates(run.steps)[:-1].tolist()}", []).append(point)
    for points in groups.values():
        last = np.array([runs[point].schedule.rates(runs[point].steps)[-1] for point in points])
        if len(points) == 3 and len(set(last)) == 3:
            with suppress(NotApplicable):  # the reason is given at the point itself
                yield _of_last(runs[points[0]], points, last)


def _of_last(run: Run, points: Sequence[int], last: np.ndarray) -> Prediction:
    found = plain_modes(run)
    a, noises, before = _together(found, run.steps - 1)
    (best,), _ = greedy_for_all(1, a, noises, before)
    (alone,), _ = greedy_for_all(1, a[:1], noises[:1], before[:1])
    moments = (Moment("mean", fast_loss_name(mode), run.steps, point) for point in points for mode in found)
    return row(
        Function("lowest", partial(_lowest, last, len(found)), tuple(moments)),
        float(best),
        "last rate that leaves the least fast loss",
        conditions=f"{len(found)} modes, {run.steps} steps, which differ in the last",
        rival=Rival(f"the best of {found[0].parameter} alone", float(alone)) if len(found) > 1 else None,
    )


@stored
def _lowest(rates: np.ndarray, modes: int, *measured: np.ndarray) -> np.ndarray:
    """The learning rate at which the parabola through three totals is lowest."""
    (p, q, r), (u, v, w) = rates, (sum(measured[i * modes : (i + 1) * modes]) for i in range(3))
    slopes = np.asarray((v - u) / (q - p)), np.asarray((w - v) / (r - q))
    return np.asarray((p + q) / 2.0 - slopes[0] * (r - p) / (2.0 * (slopes[1] - slopes[0])))


def _signed(run: Run) -> list[Mode]:
    """The modes of a run with SignSGD, which must start from a normal law about their bottom."""
    require(not run.optimizer.decay, "holds without weight decay")
    found = steady_modes(run)
    for mode in found:
        start = run.initial[mode.parameter]
        if not (mode.has_normal_noise and isinstance(start, Noise) and start.family == "normal"):
            raise NotApplicable(f"SignSGD: holds for normal noise, and a normal start of {mode.parameter}")
        require(
            abs(start.moment(1) - mode.centre) <= 1e-12,
            f"SignSGD: holds where {mode.parameter} starts about its bottom, {mode.centre:g}",
        )
        strength = mode.curvature**2 * start.cumulant(2) / mode.noise_variance
        require(
            0.0 < strength <= _WEAKEST,
            f"SignSGD: a^2*v/sigma^2 of {mode.parameter} is {strength:.3g}, expected to {_WEAKEST}",
        )
    return found


def _of_sign(mode: Mode) -> Prediction:
    run, a, start = mode.run, mode.curvature, mode.run.initial[mode.parameter]
    assert isinstance(start, Noise)
    v0 = start.cumulant(2)
    least = 1.0 / (1.0 / v0 + 2.0 / np.pi * run.steps * a**2 / mode.noise_variance)
    rates, strength = run.schedule.rates(run.steps), a**2 * v0 / mode.noise_variance
    greedy = np.sqrt(2.0 / np.pi) * a / mode.sigma / (1.0 / v0 + 2.0 / np.pi * np.arange(run.steps) * strength / v0)
    best, of_sgd = _are(rates, greedy), bound(run.steps, a, mode.noise_variance, v0) / least
    return ratio_row(
        Moment("mean", fast_loss_name(mode), run.steps),
        a * least / 2.0,
        f"second moment of {mode.parameter} over the least of SignSGD, in powers of a^2 v_0/sigma^2",
        1.0 if best else sign_variance(rates, a, mode.sigma, v0) / least,
        order=0,
        resolution=(1.0 - of_sgd) / 2.0,  # half the distance to the least that SGD leaves
        conditions=f"least {least:.6g}, a^2 v_0/sigma^2 = {strength:.4g}",
        rival=Rival("the least of SGD", of_sgd),
        small=strength,
        small_name="a^2 v_0/sigma^2",
        series=f"fastest-cooling {mode.parameter} {'greedy' if best else 'other rates'}",
    )


def _records(run: Run) -> Recorder:
    return mode_losses(run) if run.optimizer.name == "signsgd" else fast_losses(run)


@law(
    "fastest-cooling",
    "the fastest possible cooling, and the bound that no schedule passes; several modes, and SignSGD",
    source="re-derived; a decay like 1/t is claimed in arXiv:2505.10559",
    holds="valleys that start hot, under any schedule; SignSGD with weak signals",
    records=_records,
    across=_across,
)
def fastest_cooling(run: Run) -> Iterator[Prediction]:
    """The fastest possible cooling of one mode, and the bound that no schedule passes; several modes; SignSGD.

    *One mode, exact.* The second moment ``v = E (x - centre)^2`` obeys ``v' = (1 - eta*a)^2*v + eta^2*sigma^2``,
    least for ``eta* = a*v/(a^2*v + sigma^2)``. Since v' rises with v, the greedy choice is the best at every later
    step, too, and

        1/v_n = 1/v_0 + n*a^2/sigma^2    under eta*,    v_n >= 1/(1/v_0 + n*a^2/sigma^2)    under any other schedule.

    From equilibrium at eta_0 this is ``eta_n* = eta_0/(2 + n*a*eta_0)``: the first move halves the learning rate, and
    ``U_n = U_0/(1 + n*a*eta_0/(2 - a*eta_0))``. So zero temperature is never reached in finitely many steps
    (residual-entropy). The second moment is tested in units of the bound. For the greedy schedule that is 1, whatever
    the recursion says. For any other the bound cancels between prediction and measurement, and the row tests the
    recursion of the law cooling.

    *Several modes, exact.* They share the learning rate. The greedy one, least for the next fast loss in total, is

        eta* = sum_i(a_i^2*v_i)/sum_i(a_i^3*v_i + a_i*sigma_i^2),

    which need not be the best at later steps. The total in units of that which the greedy rates leave tests the
    recursion alone, as their own total cancels. The greedy choice is tested by three runs that differ in the last rate:
    the total is a parabola in it, and eta* must be the lowest point of the measured parabola.

    *SignSGD.* A step from a normal law leaves ``v' = v - 2*sqrt(2/pi)*eta*a*v/sqrt(a^2*v + sigma^2) + eta^2``,
    least for ``eta* = sqrt(2/pi)*a*v/sqrt(a^2*v + sigma^2)``, so that

        1/v_n = 1/v_0 + (2/pi)*n*a^2/sigma^2    to leading order in e = a^2*v_0/sigma^2:

    pi/2 times slower than SGD. The second moment in units of this is tested to order 0 in e, at four or more values of
    e. Under the rates that are best to leading order it is 1. Under other rates it is that of the recursion, which
    takes the law to stay normal: its fourth cumulant, of relative order ``eta^2/v ~ e``, is neglected, and acts on the
    pull only in the next order.

    That the best decay is about 1/t is claimed in arXiv:2505.10559; the exact law and the bound are re-derived.
    """
    if run.optimizer.name == "signsgd":
        yield from map(_of_sign, _signed(run))
        return
    found = [mode for mode in modes(run) if not (mode.adiabatic or mode.decay)]
    spread = [mode for mode in found if _is_spread(mode)]
    require(spread, "no valley has a constant curvature and noise, a start that is spread, and no weight decay")
    yield from map(_of_one, spread)
    if len(spread) == len(found) > 1:
        yield _of_all(found)
