"""Minibatches, label noise and shuffled epochs in a valley."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.formulas.expansion import expanded
from sgdsim.model.loss import Loss
from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Moment, Prediction, Rival, require
from sgdsim.theory.law import law, row
from sgdsim.theory.laws.valley import stationary_variance
from sgdsim.theory.methods.mode_rows import FORGOTTEN
from sgdsim.theory.methods.modes import constant_rate
from sgdsim.theory.quadrature.expectation import Expected
from sgdsim.theory.recorded_names import label_of, name_of

# Least kurtosis in units of sqrt(24/n), its standard error for a normal law; heavy tails have up to twice that error.
_TOLD = 10.0


@dataclass(frozen=True)
class RandomDirection:
    """A fast direction of random curvature: its mean, its variance, the bottom, and the noise's variance there."""

    parameter: str
    curvature: float
    slope_variance: float
    centre: float
    noise_variance: float

    @property
    def fast_loss(self) -> Observable:
        """The observable ``a*(x - x0)^2/2``, the fast loss with the mean curvature."""
        away = f"({self.parameter} - ({self.centre!r}))" if self.centre else self.parameter
        return Observable(f"mean_fast_loss_{label_of(self.parameter)}", f"{self.curvature / 2.0!r}*{away}**2")


@lru_cache(maxsize=64)
def random_directions(loss: Loss) -> tuple[RandomDirection, ...]:
    """The parameters whose gradient is affine in themselves and does not depend on others.

    Examples
    --------
    >>> from sgdsim.model.losses.linear_regression import linear_regression
    >>> random_directions(linear_regression([0.5], "normal:0,2", constants={"sigma": 3.0}))
    (RandomDirection(parameter='w[0]', curvature=4.0, slope_variance=32.0, centre=0.5, noise_variance=36.0),)
    """
    found = (_random_direction(loss, index) for index in range(len(loss.parameters)))
    return tuple(one for one in found if one is not None)


def _random_direction(loss: Loss, index: int) -> RandomDirection | None:

    from sgdsim.formulas.symbolic import Kinked

    symbol, gradient = loss.theta[index], loss.gradient[index]
    if gradient.atoms(Kinked):
        return None
    slope = expanded(gradient.diff(symbol))
    rest = expanded(gradient - slope * symbol)
    if (slope.free_symbols | rest.free_symbols) & set(loss.theta):
        return None
    try:
        a, a2, c, c2, both = Expected(loss, [slope, slope**2, rest, rest**2, slope * rest]).at({}).value
    except InputError:
        return None
    if not a > 0 or not np.isfinite([a2, c2]).all():
        return None
    centre = -c / a
    # The noise about the bottom is c + h*x0, whose mean is zero.
    noise = c2 + 2.0 * centre * both + centre**2 * a2
    return (
        RandomDirection(loss.parameters[index], float(a), float(a2 - a * a), float(centre), float(noise))
        if noise > 0
        else None
    )


def with_replacement(one: RandomDirection, rate: float, batch: int) -> float:
    """Stationary variance for batches drawn with replacement.

    Examples
    --------
    >>> round(with_replacement(RandomDirection("w", 1.0, 2.0, 0.0, 1.0), 0.1, 1), 6)  # label noise
    0.058824
    """
    a = one.curvature
    return rate * one.noise_variance / (batch * (2.0 * a - rate * (a * a + one.slope_variance / batch)))


def shuffled(rate: float, curvature: float, batches: int) -> float:
    """Variance at the end of an epoch, for noise of variance 1 of each batch that adds up to zero.

    Examples
    --------
    >>> round(shuffled(0.05, 1.0, 8), 7)
    0.0003981
    """
    r = 1.0 - rate * curvature
    kicks = rate * r ** np.arange(batches)
    first, second = kicks.sum(), (kicks**2).sum()
    return float((second - (first**2 - second) / (batches - 1)) / (1.0 - r ** (2 * batches)))


@lru_cache(maxsize=64)
def one_sample_kurtosis(loss: Loss, one: RandomDirection, rate: float) -> tuple[float, float]:
    """Excess kurtosis with batches of one, infinite if it cannot be measured; and the larger of E r^4 and E r^12.

    Examples
    --------
    >>> from sgdsim.model.losses.linear_regression import linear_regression
    >>> loss = linear_regression([0.0])
    >>> round(one_sample_kurtosis(loss, random_directions(loss)[0], 0.1)[0], 6)
    0.046753
    """
    index = loss.parameters.index(one.parameter)
    symbol, gradient = loss.theta[index], loss.gradient[index]
    r = expanded(1 - rate * gradient.diff(symbol))
    n = expanded(-rate * gradient.subs(symbol, one.centre))
    wanted = [r**2, n**2, r**3, r**2 * n, n**3, r**4, r**3 * n, r**2 * n**2, n**4, r**12]
    r2, n2, r3, r2n, n3, r4, r3n, r2n2, n4, r12 = Expected(loss, wanted).at({}).value
    left = float(max(r4, r12))
    if not left < 1.0:
        return np.inf, left
    second = n2 / (1.0 - r2)
    third = (3.0 * r2n * second + n3) / (1.0 - r3)
    fourth = (4.0 * r3n * third + 6.0 * r2n2 * second + n4) / (1.0 - r4)
    return float(fourth / second**2 - 3.0), left


def _records(run: Run) -> Recorder:
    return Recorder(observables=tuple(one.fast_loss for one in random_directions(run.loss)))


@law(
    "minibatches",
    "minibatches, label noise, multiplicative noise, shuffled epochs: variance, fast loss and kurtosis",
    source="re-derived; cf. arXiv:2102.05375",
    holds=(
        "a valley whose gradient is affine in one parameter with random coefficients: batches, label noise, "
        "shuffled epochs"
    ),
    records=_records,
)
def minibatches(run: Run) -> Iterator[Prediction]:
    """Minibatches, label noise, noise that grows with x, shuffled epochs. Exact in the stationary state.

    A gradient ``h*(x - x0) + c`` that is affine with a random slope, of mean ``a`` and variance ``s_h^2``, and with
    noise ``c`` of variance ``s^2`` at the bottom has, in batches of B drawn with replacement,

        v = eta*s^2 / (B*(2*a - eta*(a^2 + s_h^2/B))).

    Additive noise is ``s_h = 0``: to leading order eta/B alone counts. Linear regression with label noise has ``h =
    z^2`` and ``c = -z*e``, so that ``s^2`` is proportional to a: ``v = eta*s_e^2/(B*(2 - eta*a*(1 + 2/B)))`` does not
    depend on a to leading order, fast losses are proportional to the curvature, and equipartition fails.

    A step of one sample turns a displacement into ``r*(x - x0) + n``, with ``r = 1 - eta*h, n = -eta*(c + h*x0)``, so
    that the central moments of the stationary state follow one from another,

        m_3 = (3*E[r^2*n]*m_2 + E n^3)/(1 - E r^3),
        m_4 = (4*E[r^3*n]*m_3 + 6*E[r^2*n^2]*m_2 + E n^4)/(1 - E r^4),

    finite if ``E r^4 < 1``: the tails are heavier than normal, as slopes are random. The kurtosis is measured if also
    ``E r^12 < 1``, as else the third moment of x^4 is infinite and no error bar can be trusted, and if there are
    trajectories enough to tell it from that of a normal law.

    In shuffled epochs of M batches whose noise adds up to zero, at the end of an epoch

        v = [S_2 - (S_1^2 - S_2)/(M - 1)] / (1 - r^(2M)) * s_B^2,   S_j = sum_(k < M) (eta*r^k)^j,   r = 1 - eta*a,

    with ``s_B^2 = (s^2/B)*(n - B)/(n - 1)`` of n rows: orders of magnitude colder.

    Re-derived.
    """
    optimizer, rate = run.optimizer, constant_rate(run)
    require(
        optimizer.name == "sgd" and not (optimizer.decay or optimizer.preconditioner or optimizer.metric),
        "holds for plain sgd without weight decay",
    )
    require(random_directions(run.loss), "no parameter has a gradient that is affine in it, free of others, and noisy")
    for one in random_directions(run.loss):
        variance, note = _shuffled(run, one, rate) if optimizer.sampling == "epoch" else _drawn(run, one, rate)
        yield from _stationary(run, one, variance, f"{one.parameter}: eta*a = {rate * one.curvature:.4g}, {note}")
        yield from _kurtosis(run, one, rate)


def _drawn(run: Run, one: RandomDirection, rate: float) -> tuple[float, str]:
    batch = run.optimizer.batch_size
    without = run.optimizer.sampling == "batch" and batch > 1 and run.loss.data is not None
    require(not without, "holds for batches with replacement, or shuffled epochs")
    a = one.curvature
    kept = 1.0 - 2.0 * rate * a + rate**2 * (a * a + one.slope_variance / batch)
    require(kept < 1, f"the variance of {one.parameter} grows by {kept:.4g} a step: it is infinite")
    _check_forgotten(one, max(kept, abs(1.0 - rate * a)) ** run.steps)
    return with_replacement(one, rate, batch), f"slope of variance {one.slope_variance:.4g}, B = {batch}"


def _shuffled(run: Run, one: RandomDirection, rate: float) -> tuple[float, str]:
    data, batch = run.loss.data, run.optimizer.batch_size
    used = {symbol.name for g in run.loss.gradient for symbol in g.free_symbols} & set(run.loss.random)
    shifts = data is not None and one.slope_variance <= 1e-12 * one.curvature**2 and not used & set(run.loss.noise)
    require(shifts, "shuffled epochs: holds where rows shift the gradient, and all else is constant")
    assert data is not None
    batches = data.rows // batch
    require(
        batches >= 2 and not (data.rows % batch or run.steps % batches),
        "shuffled epochs: holds at the end of an epoch of two or more whole batches",
    )
    _check_forgotten(one, abs(1.0 - rate * one.curvature) ** run.steps)
    noise = one.noise_variance / batch * (data.rows - batch) / (data.rows - 1)
    return noise * shuffled(rate, one.curvature, batches), f"epochs of {batches} batches"


def _check_forgotten(one: RandomDirection, left: float) -> None:
    require(
        left < FORGOTTEN, f"{one.parameter} remembers {left:.2g} of its start, at most {FORGOTTEN:g} can be neglected"
    )


def _stationary(run: Run, one: RandomDirection, variance: float, conditions: str) -> Iterator[Prediction]:
    """Rows on mean fast loss, variance and mean of a parameter, with independent additive noise as the rival."""
    name, a = one.parameter, one.curvature
    additive = stationary_variance(constant_rate(run), a, one.noise_variance / run.optimizer.batch_size)
    loss = Moment("mean", name_of(run, one.fast_loss), run.steps)
    for measure, value, other in (
        (loss, a * variance / 2.0, a * additive / 2.0),
        (Moment("variance", name, run.steps), variance, additive),
    ):
        yield row(measure, value, conditions=conditions, rival=Rival("independent additive noise", other))
    spread = 0.01 * float(np.hypot(one.centre, np.sqrt(variance)))
    yield row(Moment("mean", name, run.steps), one.centre, resolution=spread, conditions=conditions)


def _kurtosis(run: Run, one: RandomDirection, rate: float) -> Iterator[Prediction]:
    """A row on the kurtosis by random slopes, with one sample a step, if the ensemble can tell it from normal."""
    if run.optimizer.batch_size > 1 or run.optimizer.sampling == "epoch" or not one.slope_variance:
        return
    excess, left = one_sample_kurtosis(run.loss, one, rate)
    if left < 1.0 and left**run.steps < FORGOTTEN and abs(excess) > _TOLD * np.sqrt(24.0 / run.trajectories):
        yield row(
            Moment("kurtosis", one.parameter, run.steps),
            excess,
            resolution=abs(excess),  # the distance to the rival
            conditions=f"{one.parameter}: eta*a = {rate * one.curvature:.4g}, E r^12 or E r^4 = {left:.4g}",
            rival=Rival("a normal law", 0.0),
        )
