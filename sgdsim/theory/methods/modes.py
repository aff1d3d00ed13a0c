"""Modes: the fast directions of one run, in numbers, and their law at any step under plain SGD.

A parameter ``p`` is a *fast direction* when its gradient on one sample is ``A*(p - centre) + sum_j c_j*z_j``
with noise variables ``z_j`` of its own, ``centre`` and ``c_j`` constants, and ``A`` free of ``p`` and of the
noise. One step of SGD at rate eta with batches of B and weight decay lambda is then affine in ``p``,

    p' = r*p + eta*A*centre - eta*w,    r = 1 - eta*(A + lambda),

where ``w`` is the mean over the batch of ``sum_j c_j*z_j``, so that cumulants, which add for independent
variables, obey

    kappa_1' = r*kappa_1 + eta*A*centre - eta*kappa_1(w),    kappa_j' = r^j*kappa_j + (-eta)^j*kappa_j(w),

with ``kappa_j(w) = sum_i c_i^j*kappa_j(z_i) / B^(j-1)``. This holds for any schedule, start and noise,
exactly, at every step. Where ``A`` depends on slower parameters, it is taken along their noise-free path. That is the
*adiabatic* approximation: it neglects the spread of their start, their fluctuations, and the force that the fast
direction exerts on them. The first is computed, and the law does not apply before it has died out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from sgdsim.model.run import Run
from sgdsim.prediction import Condition, Function, Moment, Order, require, stored
from sgdsim.theory.methods.directions import Direction, candidate_directions, directions, number
from sgdsim.theory.methods.noise_free_path import constants_of, noise_free_path, on_path, spread_paths
from sgdsim.theory.recorded_names import recorded_as

NEGLECTED = 1e-3
"""Largest relative change of the curvature that an adiabatic row may neglect: a tenth of the default resolution."""


@dataclass(frozen=True, eq=False)
class Mode:
    """A fast direction of one run, in numbers.

    Attributes
    ----------
    run, direction
        The run, and its fast direction.
    curvatures
        ``A`` at the start and after each step, along the noise-free path.
    adiabatic
        True if ``A`` depends on other parameters.
    spread
        Relative change of ``A`` at the end of the run if the slow parameters start one standard deviation off.
    """

    run: Run
    direction: Direction
    curvatures: np.ndarray
    adiabatic: bool = False
    spread: float = 0.0

    @property
    def parameter(self) -> str:
        """The coordinate of the fast direction."""
        return self.direction.parameter

    @property
    def curvature(self) -> float:
        """The curvature ``A`` at the end of the run, the same at every step unless the mode is adiabatic."""
        return float(self.curvatures[-1])

    @property
    def order(self) -> Order:
        """The validity of formulas that are exact for a constant curvature."""
        return "adiabatic" if self.adiabatic else "exact"

    @cached_property
    def centre(self) -> float:
        """The bottom of the valley, a value of the coordinate."""
        return number(self.run.loss, self.direction.centre)

    @cached_property
    def noise_cumulants(self) -> tuple[float, ...]:
        """Cumulants 1 to 4 of the noise of one step's gradient, ``kappa_j(w)``."""
        return tuple(map(self._noise_cumulant, range(1, 5)))

    def _noise_cumulant(self, j: int) -> float:
        loss, batch = self.run.loss, self.run.optimizer.batch_size
        couplings = {name: number(loss, factor) for name, factor in self.direction.couplings.items()}
        total = sum(factor**j * loss.noise[name].cumulant(j) for name, factor in couplings.items())
        return float(total / batch ** (j - 1))

    @cached_property
    def noise_mean(self) -> float:
        """Mean of one step's gradient at the centre."""
        return self._noise_cumulant(1)

    @cached_property
    def noise_variance(self) -> float:
        """Variance of one step's gradient, sigma^2/B."""
        return self._noise_cumulant(2)

    @property
    def sigma(self) -> float:
        """Standard deviation of one step's gradient."""
        return float(np.sqrt(self.noise_variance))

    @property
    def has_normal_noise(self) -> bool:
        """True if the noise is normal."""
        return all(self.run.loss.noise[name].family == "normal" for name in self.direction.couplings)

    @cached_property
    def rates(self) -> np.ndarray:
        """The learning rate of each step."""
        return self.run.schedule.rates(self.run.steps)

    @property
    def decay(self) -> float:
        """The weight decay lambda."""
        return self.run.optimizer.decay

    @property
    def constant_rate(self) -> bool:
        """True if the learning rate never changes."""
        return bool(np.ptp(self.rates) == 0)

    @cached_property
    def pull(self) -> np.ndarray:
        """The relative pull ``eta*(A + lambda)`` of each step; stable between 0 and 2."""
        return self.rates * (self.curvatures[:-1] + self.decay)

    @property
    def is_valley(self) -> bool:
        """True if the mode has noise, and positive curvature at every step."""
        return self.noise_variance != 0 and bool(np.all(self.curvatures > 0))

    @property
    def about(self) -> dict[str, Any]:
        """The conditions of a row about this mode, as its keywords: in words, and those that are measured."""
        return {"conditions": self.conditions, "assumes": self.assumes}

    @cached_property
    def assumes(self) -> tuple[Condition, ...]:
        """The measured conditions of an adiabatic row: the slow parameters stay together, and on their path.

        Both hold at the last two records, up to a deviation that would move a variance by a third of its standard
        error: of the mean of ``A`` in first order, of its spread in second. Besides, the fast direction and its slow
        parameters must not be correlated, as they are if it pushes them: the mean of ``A*x^2`` must be the product of
        the means.
        """
        return self.assumes_at(self.run.recorder.record_steps(self.run.steps)[-2:])

    def assumes_at(self, records: Iterable[int]) -> tuple[Condition, ...]:
        """The measured conditions of `assumes` at given records, for a row that is about more than the end."""
        if not self.adiabatic:
            return ()
        told = np.sqrt(2.0 / self.run.trajectories) / 3.0
        found = [condition for step in records if step > 0 for condition in self._on_path(int(step), told)]
        return (*found, *self._alone(told))

    def _on_path(self, step: int, told: float) -> tuple[Condition, Condition]:
        """The conditions that the curvature at a step is that of the path, in the mean and with little spread."""
        loss, curvature = self.run.loss, self.direction.curvature.xreplace(constants_of(self.run.loss))
        slow = [name for name in loss.parameters if loss.symbols[name] in curvature.free_symbols]
        path = noise_free_path(self.run, slow)
        at = {name: float(path[name][step]) for name in slow}
        slopes, bends = (
            np.array(on_path([curvature.diff(loss.symbols[name], n) for name in slow], at)) for n in (1, 2)
        )
        about, here = np.array([at[name] for name in slow]), float(self.curvatures[step])
        means, variances = (tuple(Moment(statistic, name, step) for name in slow) for statistic in ("mean", "variance"))
        shift, spread = partial(_shift, slopes, bends, about, here), partial(_spread, slopes, here)
        words = f"the curvature of {self.parameter} at step {step}"
        return (
            Condition(
                f"{words} is that of the noise-free path", Function("shift", shift, means + variances), -told, told
            ),
            Condition(f"{words} differs little between trajectories", Function("spread", spread, variances), high=told),
        )

    def _alone(self, told: float) -> Iterator[Condition]:
        """The condition that curvature and squared displacement are uncorrelated; none without a recorded fast loss."""
        name, step = recorded_as(self.run, self.direction.fast_loss(self.run.loss)), self.run.steps
        if name is None:
            return
        mean, variance = (Moment(statistic, self.parameter, step) for statistic in ("mean", "variance"))
        excess = partial(_excess, float(self.curvatures[step]), self.centre)
        words = f"{self.parameter} and its curvature are independent"
        measure = Function("excess", excess, (Moment("mean", name, step), mean, variance))
        yield Condition(words, measure, -told, told)

    @property
    def is_gaussian(self) -> bool:
        """True if the parameter is Gaussian at every step."""
        return self.direction.is_gaussian(self.run)

    def memory(self, start: int, stop: int) -> float:
        """The factor that is left at step `stop` of a displacement at step `start`: the product of r."""
        return float(np.prod(1.0 - self.pull[start:stop]))

    def cumulants(self, step: int) -> tuple[float, float, float, float]:
        """Exact cumulants 1 to 4 of the parameter after a number of steps."""
        start = self.run.initial[self.parameter]
        rates, factors = self.rates[:step], 1.0 - self.pull[:step]
        values = []
        for j in range(1, 5):
            initial = (start if j == 1 else 0.0) if isinstance(start, float | int) else start.cumulant(j)
            if not np.isfinite(initial + self.noise_cumulants[j - 1]):
                values.append(np.nan)
                continue
            kicks = (-rates) ** j * self.noise_cumulants[j - 1]
            if j == 1:
                kicks = kicks + rates * self.curvatures[:step] * self.centre
            factor, kick = _compose(factors**j, kicks)
            values.append(factor * initial + kick)
        return values[0], values[1], values[2], values[3]

    def fast_loss(self, step: int) -> tuple[float, float]:
        """Exact mean and variance of the fast loss ``A*(p - centre)**2/2`` after a number of steps.

        With u = p - centre of mean d: ``E u^2 = kappa_2 + d^2`` and
        ``Var u^2 = kappa_4 + 4*d*kappa_3 + 2*kappa_2^2 + 4*d^2*kappa_2``.
        """
        k1, k2, k3, k4 = self.cumulants(step)
        a, d = self.curvatures[step], k1 - self.centre
        return float(a * (k2 + d * d) / 2), float(a * a * (k4 + 4 * d * k3 + 2 * k2 * k2 + 4 * d * d * k2) / 4)

    def correlation(self, start: int, stop: int) -> float:
        """Exact correlation of the parameter after `start` and after `stop` steps."""
        return self.memory(start, stop) * float(np.sqrt(self.cumulants(start)[1] / self.cumulants(stop)[1]))

    def time_average_variance(self, start: int, stop: int) -> float:
        """Exact variance of the mean of the states after steps start + 1 … stop.

        With S their sum so far: ``Cov(S, p') = r*Cov(S, p)``, so S, p make one linear recursion.
        """
        variance, covariance, total = self.cumulants(start)[1], 0.0, 0.0
        kicks = self.rates**2 * self.noise_variance
        for r, kick in zip(1.0 - self.pull[start:stop], kicks[start:stop], strict=True):
            variance = r * r * variance + kick
            covariance = r * covariance
            total += variance + 2 * covariance
            covariance += variance
        return float(total / (stop - start) ** 2)

    @property
    def conditions(self) -> str:
        """The numbers that every law of this mode rests on, in words: the pull, and how well the start is forgotten."""
        memory = abs(self.memory(0, self.run.steps))
        text = f"{self.parameter}: eta*a = {self.pull[-1]:.4g}, start remembered to {memory:.1g}"
        return f"{text}, a = {self.direction.curvature} on the noise-free path" if self.adiabatic else text


def modes(run: Run) -> tuple[Mode, ...]:
    """The valley modes of a run, in the order of its parameters.

    Raises
    ------
    NotApplicable
        For an optimizer other than SGD, a loss without fast directions, noise without (finite) variance, and
        a step size at which the mode is not stable.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.noise import Noise
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("x**2/2 + z*x", ("x",), {}, {"z": Noise.parse("normal")})
    >>> (mode,) = modes(Run(loss, Optimizer(), Schedule("0.5"), {"x": 0.0}, 1000, 100))
    >>> round(mode.cumulants(100)[1], 6)  # valley: 0.5/(2 - 0.5)
    0.333333
    """
    candidates = [_mode(run, direction) for direction in candidate_directions(run)]
    found = tuple(mode for mode in candidates if mode.is_valley and not _follows_faster(mode, candidates))
    require(found, _no_valley(candidates))
    for mode in found:
        _check(mode)
    return found


def plain_modes(run: Run) -> list[Mode]:
    """Valley modes of constant curvature, without weight decay.

    Raises
    ------
    NotApplicable
        If there is none.
    """
    found = [mode for mode in modes(run) if not (mode.adiabatic or mode.decay)]
    require(found, "no valley has a constant curvature and no weight decay")
    return found


def steady_modes(run: Run, *, finite: bool = True, noisy: bool = True) -> list[Mode]:
    """Modes of constant curvature under any optimizer, for laws of its stationary state, in the order of parameters.

    Parameters
    ----------
    run
        A run of any optimizer.
    finite
        True to require noise with a variance, and with the mean 0.
    noisy
        True to require noise.

    Raises
    ------
    NotApplicable
        For a loss without such modes, rows of data, a matrix of learning rates, and noise that is zero or has no
        variance.

    Examples
    --------
    >>> from sgdsim.model.losses.river_valley import river_valley
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = river_valley(a=["2", "a0"], c="0", constants={"a0": 0.5, "sigma": 2.0})
    >>> run = Run(loss, Optimizer("signsgd", batch_size=4), Schedule("0.1"), dict.fromkeys(loss.parameters, 0.0), 9, 9)
    >>> [(mode.parameter, mode.curvature, mode.noise_variance) for mode in steady_modes(run)]
    [('x[0]', 2.0, 1.0), ('x[1]', 0.5, 1.0)]
    """
    loss, optimizer = run.loss, run.optimizer
    require(
        not (optimizer.preconditioner or optimizer.metric),
        "holds for one learning rate, the optimizer has a matrix of them",
    )
    fixed = [one for one in directions(loss, noisy=noisy) if not one.curvature.free_symbols & set(loss.theta)]
    found = [Mode(run, one, np.full(run.steps + 1, number(loss, one.curvature))) for one in fixed]
    for mode in found:
        variance = mode.noise_variance * optimizer.batch_size
        require(
            (variance > 0 or not noisy) and mode.curvature > 0 and (np.isfinite(variance) or not finite),
            f"{mode.parameter} has curvature {mode.curvature:.4g}, noise of variance {variance:.4g}",
        )
        shift = mode.noise_mean if finite else 0.0
        require(not shift, f"the gradient noise of {mode.parameter} has the mean {shift:.4g}, not 0")
    require(found, "no parameter has a gradient a*p + noise, with noise of its own and a constant")
    return found


def _no_valley(candidates: Iterable[Mode]) -> str:
    reasons = [
        f"{mode.parameter} has curvature {mode.curvature:.4g}, gradient noise of variance {mode.noise_variance:.4g}"
        for mode in candidates
    ]
    return "; ".join(reasons) or "no parameter has a gradient a*p + noise, with noise of its own and a free of both"


def _mode(run: Run, direction: Direction) -> Mode:
    curvature = direction.curvature.subs(constants_of(run.loss))
    slow = tuple(name for name in run.loss.parameters if run.loss.symbols[name] in curvature.free_symbols)
    if not slow:
        return Mode(run, direction, np.full(run.steps + 1, float(curvature)))
    (values,) = on_path([curvature], spread_paths(run, slow))
    path, *others = np.broadcast_to(values, (run.steps + 1, 3)).T
    spread = max(abs(other[-1] / path[-1] - 1.0) for other in others)
    return Mode(run, direction, path, adiabatic=True, spread=float(spread))


def _follows_faster(mode: Mode, candidates: Iterable[Mode]) -> bool:
    """True if the curvature of a mode depends on a faster one.

    A slow direction feels the fluctuations of a faster one, which its noise-free path does not have.
    """
    symbols = {symbol.name for symbol in mode.direction.curvature.free_symbols} if mode.adiabatic else set()
    return any(other.parameter in symbols and other.curvature > mode.curvature for other in candidates)


def _check(mode: Mode) -> None:
    require(np.isfinite(mode.noise_variance), f"the gradient noise of {mode.parameter} has no finite variance")
    if mode.adiabatic:
        _check_spread(mode)
    worst = int(np.argmax(np.abs(mode.pull - 1.0)))
    require(
        0 < mode.pull[worst] < 2,
        f"{mode.parameter} is unstable: eta*a = {mode.pull[worst]:.4g} at step {worst}, not between 0 and 2",
    )


@stored
def _shift(slopes: np.ndarray, bends: np.ndarray, about: np.ndarray, here: float, *moments: np.ndarray) -> np.ndarray:
    """Mean and spread of the slow parameters in the curvature, less that of the path, as a part of it."""
    means, variances = moments[: len(about)], moments[len(about) :]
    first = sum(s * (m - a) for s, m, a in zip(slopes, means, about, strict=True))
    second = sum(b * v / 2.0 for b, v in zip(bends, variances, strict=True))
    return np.asarray((first + second) / here)


@stored
def _spread(slopes: np.ndarray, here: float, *variances: np.ndarray) -> np.ndarray:
    """Variance of the curvature, as a part of its square."""
    return np.asarray(sum(s * s * v for s, v in zip(slopes, variances, strict=True)) / here**2)


@stored
def _excess(curvature: float, rest: float, energy: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Mean fast loss beyond that of a curvature independent of the displacement, in units of the share of the spread.

    In units of the whole mean loss the excess of a mode whose mean is ten spreads from rest would be too small by a
    hundred: a correlation of curvature and displacement feeds the variance, times the displacement of the mean.
    """
    apart = curvature * (variance + (mean - rest) ** 2) / 2.0
    return np.asarray((energy - apart) / (curvature * variance / 2.0))


def _check_spread(mode: Mode) -> None:
    """Refuse a mode whose curvature still depends on the spread of the slow parameters' start."""
    require(
        mode.spread <= NEGLECTED,
        f"the curvature of {mode.parameter} differs between trajectories, by {mode.spread:.1g} of itself at the "
        f"end (at most {NEGLECTED:g} can be neglected): the start of the slow parameters is still remembered",
    )


def constant_rate(run: Run) -> float:
    """The constant learning rate of a run.

    Raises
    ------
    NotApplicable
        If the learning rate changes.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> constant_rate(Run(Loss("x**2", ("x",)), Optimizer(), Schedule("0.1"), {"x": 1.0}, 1000, 100))
    0.1
    """
    rates = run.schedule.rates(run.steps)
    require(np.ptp(rates) == 0, "holds for a constant learning rate")
    return float(rates[0])


def _compose(factors: np.ndarray, kicks: np.ndarray) -> tuple[float, float]:
    """Factor and kick of the composition of many maps ``x -> factor*x + kick``, by joining neighbours."""
    factor, kick = factors, np.asarray(kicks)
    while len(factor) > 1:
        if len(factor) % 2:
            factor, kick = np.append(factor, 1.0), np.append(kick, 0.0)
        kick = factor[1::2] * kick[::2] + kick[1::2]
        factor = factor[1::2] * factor[::2]
    return (float(factor[0]), float(kick[0])) if len(factor) else (1.0, 0.0)
