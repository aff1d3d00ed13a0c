"""Valley modes: the directions of a loss in which SGD is exactly linear, and their law at any step.

A parameter ``p`` is a *fast direction* when its gradient on one sample is ``A*(p - centre) + sum_j c_j*z_j``
with noise variables ``z_j`` of its own, ``centre`` and ``c_j`` constants, and ``A`` free of ``p`` and of the
noise. One step of SGD at rate eta with batches of B and weight decay lambda is then affine in ``p``,

    p' = r*p + eta*A*centre - eta*w,    r = 1 - eta*(A + lambda),

where ``w`` is the mean over the batch of ``sum_j c_j*z_j``, so that cumulants, which add for independent
variables, obey

    kappa_1' = r*kappa_1 + eta*A*centre - eta*kappa_1(w),    kappa_j' = r^j*kappa_j + (-eta)^j*kappa_j(w),

with ``kappa_j(w) = sum_i c_i^j*kappa_j(z_i) / B^(j-1)``. This holds for any schedule, start and noise,
exactly, at every step. Where ``A`` depends on slower parameters, it is taken along their noise-free path:
*adiabatic*, which neglects the spread of their start, their fluctuations, and the force that the fast direction exerts
on them. The first is computed, and the law does not apply before it has died out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.formulas.formula import Formula
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import OPTIMIZERS
from sgdsim.model.run import Recorder, Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Start
from sgdsim.prediction import Condition, Function, Measure, Moment, NotApplicable, Order, Prediction, require
from sgdsim.theory.law import row
from sgdsim.theory.recorded_names import name_of, recorded_as

if TYPE_CHECKING:
    import sympy


NEGLECTED = 1e-3
"""A tenth of the default resolution: what an adiabatic row may neglect, relative to the curvature."""


@dataclass(frozen=True)
class Direction:
    """A fast direction of a loss, in symbols.

    Attributes
    ----------
    parameter
        Its coordinate.
    curvature, centre
        ``A`` and the bottom of the valley.
    couplings
        Noise variable to the constant that multiplies it in the gradient.
    """

    parameter: str
    curvature: sympy.Expr
    centre: sympy.Expr
    couplings: Mapping[str, sympy.Expr]

    def fast_loss(self, loss: Loss) -> Observable:
        """The observable ``A*(p - centre)**2/2``."""
        formula = self.curvature * (loss.symbols[self.parameter] - self.centre) ** 2 / 2
        return Observable(f"fast_loss_{self._label}", _text(formula))

    def time_average(self, start: int, stop: int) -> Observable:
        """The running mean of the parameter over the states after steps start + 1 … stop."""
        return Observable(f"time_average_{self._label}", self.parameter, (start, stop))

    def is_gaussian(self, run: Run) -> bool:
        """Whether the parameter is Gaussian at every step: normal noise, and a normal or fixed start."""
        start = run.initial[self.parameter]
        noises = [run.loss.noise[name] for name in self.couplings]
        normal = isinstance(start, float | int) or (isinstance(start, Noise) and start.family == "normal")
        return normal and all(noise.family == "normal" for noise in noises)

    @property
    def _label(self) -> str:
        return self.parameter.replace("[", "_").replace("]", "")


@lru_cache(maxsize=256)
def directions(loss: Loss) -> tuple[Direction, ...]:
    """The fast directions of a loss, found in its gradient.

    Examples
    --------
    >>> normal = Noise.parse("normal")
    >>> loss = Loss("a*y**2*x**2/2 + s*z*x - g*y", ("x", "y"), {"a": 1.0, "s": 2.0, "g": 0.1}, {"z": normal})
    >>> [(d.parameter, d.curvature, d.couplings) for d in directions(loss)]
    [('x', a*y**2, {'z': s})]
    """
    found = (_direction(loss, index) for index in range(len(loss.parameters)))
    return tuple(direction for direction in found if direction is not None)


def _direction(loss: Loss, index: int) -> Direction | None:
    import sympy

    gradient, parameter = loss.gradient[index], loss.theta[index]
    noise = {name: loss.symbols[name] for name in loss.noise}
    random = {loss.symbols[name] for name in loss.random}
    moving = {*loss.theta, *random}
    curvature = gradient.diff(parameter)
    if curvature == 0 or curvature.free_symbols & {parameter, *random}:
        return None
    rest = sympy.expand(gradient - curvature * parameter)
    couplings = {name: rest.diff(symbol) for name, symbol in noise.items() if symbol in rest.free_symbols}
    force = sympy.expand(rest - sum(factor * noise[name] for name, factor in couplings.items()))
    centre = sympy.cancel(-force / curvature)
    if not couplings or any(term.free_symbols & moving for term in (centre, *couplings.values())):
        return None
    others = set().union(*(g.free_symbols for i, g in enumerate(loss.gradient) if i != index))
    if any(noise[name] in others for name in couplings):
        return None
    return Direction(loss.parameters[index], curvature, centre, couplings)


@dataclass(frozen=True, eq=False)
class Mode:
    """A fast direction of one run, in numbers.

    Attributes
    ----------
    run, direction
        Whose mode it is.
    curvature
        ``A`` after 0, 1, …, steps steps, along the noise-free path.
    adiabatic
        Whether ``A`` depends on other parameters.
    spread
        Relative change of ``A`` at the end of the run where the slow parameters start one standard deviation off.
    """

    run: Run
    direction: Direction
    curvature: np.ndarray
    adiabatic: bool
    spread: float = 0.0

    @property
    def parameter(self) -> str:
        """The coordinate."""
        return self.direction.parameter

    @property
    def order(self) -> Order:
        """Validity of what is exact for a constant curvature."""
        return "adiabatic" if self.adiabatic else "exact"

    @cached_property
    def centre(self) -> float:
        """Bottom of the valley."""
        return _number(self.run.loss, self.direction.centre)

    @cached_property
    def noise_cumulants(self) -> tuple[float, ...]:
        """Cumulants 1 to 4 of the noise of one step's gradient, ``kappa_j(w)``."""
        loss, batch = self.run.loss, self.run.optimizer.batch_size
        couplings = {name: _number(loss, factor) for name, factor in self.direction.couplings.items()}
        return tuple(
            sum(factor**j * loss.noise[name].cumulant(j) for name, factor in couplings.items()) / batch ** (j - 1)
            for j in range(1, 5)
        )

    @property
    def noise_variance(self) -> float:
        """Variance of one step's gradient, sigma^2/B."""
        return self.noise_cumulants[1]

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
        """Whether the learning rate never changes."""
        return bool(np.ptp(self.rates) == 0)

    @cached_property
    def pull(self) -> np.ndarray:
        """``eta*(A + lambda)`` of each step; stable between 0 and 2."""
        return self.rates * (self.curvature[:-1] + self.decay)

    @property
    def is_valley(self) -> bool:
        """Whether it has noise to warm it, and walls to hold it."""
        return self.noise_variance != 0 and bool(np.all(self.curvature > 0))

    @property
    def about(self) -> dict[str, Any]:
        """What a row about this mode rests on: in words, and what of it is measured."""
        return {"conditions": self.conditions, "assumes": self.assumes}

    @cached_property
    def assumes(self) -> tuple[Condition, ...]:
        """What an adiabatic row rests on and the ensemble tells: the slow parameters stay together, on their path.

        Both at the last two records, each held to what would move a variance by a third of its standard error: the
        mean of ``A`` to first order, its spread to second. Beside them the valley and its own slow parameters must not
        move together, as they do where the walls are pushed: the mean of ``A*x^2`` is the product of the means.
        """
        if not self.adiabatic:
            return ()
        told = np.sqrt(2.0 / self.run.trajectories) / 3.0
        rest = [step for step in self.run.recorder.record_steps(self.run.steps)[-2:] if step > 0]
        found = [condition for step in rest for condition in self._on_path(int(step), told)]
        return (*found, *self._alone(told))

    def _on_path(self, step: int, told: float) -> tuple[Condition, Condition]:
        """That the curvature of all trajectories after so many steps is that of the path."""
        loss, curvature = self.run.loss, self.direction.curvature.xreplace(_constants(self.run.loss))
        slow = [name for name in loss.parameters if loss.symbols[name] in curvature.free_symbols]
        path = noise_free_path(self.run, slow)
        at = {name: float(path[name][step]) for name in slow}
        slopes, bends = (
            np.array([_evaluate(loss, _formula(loss, curvature.diff(loss.symbols[name], n)), at) for name in slow])
            for n in (1, 2)
        )
        about, here = np.array([at[name] for name in slow]), self.curvature[step]
        means, variances = (tuple(Moment(statistic, name, step) for name in slow) for statistic in ("mean", "variance"))

        def shift(*moments: np.ndarray) -> np.ndarray:
            first = sum(s * (m - a) for s, m, a in zip(slopes, moments, about, strict=False))
            second = sum(b * v / 2.0 for b, v in zip(bends, moments[len(slow) :], strict=True))
            return np.asarray((first + second) / here)

        def spread(*moments: np.ndarray) -> np.ndarray:
            return np.asarray(sum(s * s * v for s, v in zip(slopes, moments, strict=True)) / here**2)

        words = f"the curvature of {self.parameter} at step {step}"
        return (
            Condition(
                f"{words} is that of the noise-free path", Function("shift", shift, means + variances), -told, told
            ),
            Condition(f"{words} differs little between trajectories", Function("spread", spread, variances), high=told),
        )

    def _alone(self, told: float) -> Iterator[Condition]:
        """That the curvature and the square of the displacement are not correlated, where the fast loss is recorded."""
        name, step = recorded_as(self.run, self.direction.fast_loss(self.run.loss)), self.run.steps
        if name is None:
            return
        mean, variance = (Moment(statistic, self.parameter, step) for statistic in ("mean", "variance"))

        def excess(energy: np.ndarray, centre: np.ndarray, square: np.ndarray) -> np.ndarray:
            product = self.curvature[step] * (square + (centre - self.centre) ** 2) / 2.0
            return np.asarray(energy / product - 1.0)

        words = f"{self.parameter} and its curvature are independent"
        measure = Function("excess", excess, (Moment("mean", name, step), mean, variance))
        yield Condition(words, measure, -told, told)

    @property
    def is_gaussian(self) -> bool:
        """Whether the parameter is Gaussian at every step."""
        return self.direction.is_gaussian(self.run)

    def memory(self, start: int, stop: int) -> float:
        """What is left at step `stop` of a displacement at step `start`: the product of r."""
        return float(np.prod(1.0 - self.pull[start:stop]))

    def cumulants(self, step: int) -> tuple[float, float, float, float]:
        """Exact cumulants 1 to 4 of the parameter after so many steps."""
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
                kicks = kicks + rates * self.curvature[:step] * self.centre
            factor, kick = _compose(factors**j, kicks)
            values.append(factor * initial + kick)
        return values[0], values[1], values[2], values[3]

    def fast_loss(self, step: int) -> tuple[float, float]:
        """Exact mean and variance of ``A*(p - centre)**2/2``.

        With u = p - centre of mean d: ``E u^2 = kappa_2 + d^2`` and
        ``Var u^2 = kappa_4 + 4*d*kappa_3 + 2*kappa_2^2 + 4*d^2*kappa_2``.
        """
        k1, k2, k3, k4 = self.cumulants(step)
        a, d = self.curvature[step], k1 - self.centre
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
        """What everything about this mode rests on."""
        memory = abs(self.memory(0, self.run.steps))
        text = f"{self.parameter}: eta*a = {self.pull[-1]:.4g}, start remembered to {memory:.1g}"
        return f"{text}, a = {self.direction.curvature} on the noise-free path" if self.adiabatic else text


def at_point(point: int, conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """Conditions of `Mode.assumes`, of one point of a sweep."""
    found = []
    for condition in conditions:
        assert isinstance(condition.measure, Function)
        moments = tuple(replace(moment, point=point) for moment in condition.measure.moments)
        found.append(replace(condition, measure=replace(condition.measure, moments=moments)))
    return tuple(found)


def candidate_directions(run: Run) -> tuple[Direction, ...]:
    """The fast directions of a run's loss, whether or not they turn out to be stable valleys.

    Raises
    ------
    NotApplicable
        For an optimizer other than SGD.
    """
    optimizer = run.optimizer
    require(optimizer.rule is OPTIMIZERS["sgd"], f"holds for plain sgd, the optimizer is {optimizer.name}")
    require(
        not (optimizer.preconditioner or optimizer.metric),
        "holds for one learning rate, the optimizer has a matrix of them",
    )
    return directions(run.loss)


def modes(run: Run) -> tuple[Mode, ...]:
    """The valley modes of a run, in the order of its parameters.

    Raises
    ------
    NotApplicable
        For an optimizer other than SGD, a loss without fast directions, noise without (finite) variance, and
        a step size at which the mode is not stable.

    Examples
    --------
    >>> from sgdsim.model.optimizers import Optimizer
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
        Where there is none.
    """
    found = [mode for mode in modes(run) if not (mode.adiabatic or mode.decay)]
    require(found, "no valley has a constant curvature and no weight decay")
    return found


def _no_valley(candidates: Iterable[Mode]) -> str:
    reasons = [
        f"{mode.parameter} has curvature {mode.curvature[-1]:.4g}, gradient noise of variance {mode.noise_variance:.4g}"
        for mode in candidates
    ]
    return "; ".join(reasons) or "no parameter has a gradient a*p + noise, with noise of its own and a free of both"


def _mode(run: Run, direction: Direction) -> Mode:
    curvature = direction.curvature.subs(_constants(run.loss))
    slow = tuple(name for name in run.loss.parameters if run.loss.symbols[name] in curvature.free_symbols)
    if not slow:
        return Mode(run, direction, np.full(run.steps + 1, float(curvature)), adiabatic=False)
    values = _evaluate(run.loss, _formula(run.loss, curvature), _paths(run, slow))
    path, *others = np.broadcast_to(values, (run.steps + 1, 3)).T
    spread = max(abs(other[-1] / path[-1] - 1.0) for other in others)
    return Mode(run, direction, path, adiabatic=True, spread=float(spread))


def _follows_faster(mode: Mode, candidates: Iterable[Mode]) -> bool:
    """A slow direction sees a faster one by its fluctuations, not by its noise-free path."""
    symbols = {symbol.name for symbol in mode.direction.curvature.free_symbols} if mode.adiabatic else set()
    return any(other.parameter in symbols and other.curvature[-1] > mode.curvature[-1] for other in candidates)


def _check(mode: Mode) -> None:
    require(np.isfinite(mode.noise_variance), f"the gradient noise of {mode.parameter} has no finite variance")
    if mode.adiabatic:
        _check_spread(mode)
    worst = int(np.argmax(np.abs(mode.pull - 1.0)))
    require(
        0 < mode.pull[worst] < 2,
        f"{mode.parameter} is unstable: eta*a = {mode.pull[worst]:.4g} at step {worst}, not between 0 and 2",
    )


def _check_spread(mode: Mode) -> None:
    """What is neglected of the spread of the slow parameters must be small against what is to be seen."""
    require(
        mode.spread <= NEGLECTED,
        f"the curvature of {mode.parameter} differs between trajectories, by {mode.spread:.1g} of itself at the "
        f"end (at most {NEGLECTED:g} can be neglected): the start of the slow parameters is still remembered",
    )


def noise_free_path(run: Run, names: Iterable[str]) -> Mapping[str, np.ndarray]:
    """Parameters after 0, 1, … steps of the mean gradient from the mean start, with all they depend on.

    Raises
    ------
    NotApplicable
        Where the mean gradient has no closed form, or the path leaves the numbers.

    Examples
    --------
    >>> from sgdsim.model.optimizers import Optimizer
    >>> loss = Loss("x**2/2 + z*x", ("x",), {}, {"z": Noise.parse("normal")})
    >>> noise_free_path(Run(loss, Optimizer(), Schedule("0.5"), {"x": 1.0}, 1000, 3), ["x"])["x"]
    array([1.   , 0.5  , 0.25 , 0.125])
    """
    return {name: path[:, 0] for name, path in _paths(run, names).items()}


def _paths(run: Run, names: Iterable[str]) -> Mapping[str, np.ndarray]:
    """Noise-free paths from the mean start, and from one standard deviation below and above: (steps + 1, 3)."""
    gradients = _mean_gradients(run.loss, tuple(names))
    start = tuple((name, *_mean_and_std(run.initial[name])) for name in gradients)
    return _path(run.loss, start, run.schedule, run.steps, run.optimizer.decay)


@lru_cache(maxsize=64)  # every law of every point asks for it
def _path(
    loss: Loss, start: tuple[tuple[str, float, float], ...], schedule: Schedule, steps: int, decay: float
) -> Mapping[str, np.ndarray]:
    state = {name: mean + std * np.array([0.0, -1.0, 1.0]) for name, mean, std in start}
    gradients = _mean_gradients(loss, tuple(state))
    path = {name: np.empty((steps + 1, 3)) for name in state}
    for step, rate in enumerate((*schedule.rates(steps), 0.0)):
        for name, value in state.items():
            path[name][step] = value
        slopes = {name: _evaluate(loss, formula, state) for name, formula in gradients.items()}
        state = {name: value - rate * (slopes[name] + decay * value) for name, value in state.items()}
    return path


@lru_cache(maxsize=256)
def _mean_gradients(loss: Loss, names: tuple[str, ...]) -> dict[str, Formula]:
    """Mean gradients of the named parameters and of all on which these depend, constants put in."""
    gradients: dict[str, Formula] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in gradients:
            continue
        try:
            mean = loss.expectation(loss.gradient[loss.parameters.index(name)]).subs(_constants(loss))
        except InputError as error:
            raise NotApplicable(f"{name} has no noise-free path: {error}") from None
        gradients[name] = _formula(loss, mean)
        waiting += [symbol.name for symbol in mean.free_symbols]
    return gradients


def _constants(loss: Loss) -> dict[sympy.Symbol, float]:
    return {loss.symbols[name]: value for name, value in loss.constants.items()}


def _number(loss: Loss, expression: sympy.Expr) -> float:
    return float(expression.subs(_constants(loss)))


def _mean_and_std(start: Start) -> tuple[float, float]:
    return (float(start), 0.0) if isinstance(start, float | int) else (start.moment(1), np.sqrt(start.cumulant(2)))


def _formula(loss: Loss, expression: sympy.Expr) -> Formula:
    """An expression of parameters as a formula of aliases, so that each coordinate stands on its own."""
    import sympy

    aliases = {symbol: sympy.Symbol(f"theta_{index}") for index, symbol in enumerate(loss.theta)}
    try:
        return Formula.parse(_text(expression.xreplace(aliases)), where="noise-free path")
    except InputError as error:
        raise NotApplicable(str(error)) from None


def _text(expression: sympy.Expr) -> str:
    """An expression as a formula; formulas have no name for Euler's number."""
    import sympy

    return str(expression.xreplace({sympy.E: sympy.Float(float(sympy.E), 17)}))


def _evaluate(loss: Loss, formula: Formula, values: Mapping[str, Any]) -> Any:
    """The value of a formula of aliases."""
    aliased = {f"theta_{index}": values[name] for index, name in enumerate(loss.parameters) if name in values}
    try:
        return formula.evaluate(aliased)
    except InputError as error:
        raise NotApplicable(str(error)) from None


def _compose(factors: np.ndarray, kicks: np.ndarray) -> tuple[float, float]:
    """The affine map that many maps ``x -> factor*x + kick`` in a row amount to, by joining neighbours."""
    factor, kick = factors, np.asarray(kicks)
    while len(factor) > 1:
        if len(factor) % 2:
            factor, kick = np.append(factor, 1.0), np.append(kick, 0.0)
        kick = factor[1::2] * kick[::2] + kick[1::2]
        factor = factor[1::2] * factor[::2]
    return (float(factor[0]), float(kick[0])) if len(factor) else (1.0, 0.0)


def fast_losses(run: Run) -> Recorder:
    """The fast loss of every direction, to be recorded."""
    return Recorder(observables=tuple(one.fast_loss(run.loss) for one in candidate_directions(run)))


def fast_loss_name(mode: Mode) -> str:
    """The name under which a mode's fast loss is recorded."""
    return name_of(mode.run, mode.direction.fast_loss(mode.run.loss))


def of_mode(
    mode: Mode, measure: Measure, predicted: float, quantity: str = "", resolution: float | None = None, **others: Any
) -> Prediction:
    """A row about a mode, as exact as its curvature is constant, under its conditions.

    Parameters
    ----------
    mode
        Whose it is.
    measure, predicted, quantity, resolution, **others
        As of `sgdsim.theory.law.row`; a moment that is not of the last step is named with its step.

    Examples
    --------
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.prediction import Moment
    >>> loss = Loss("x**2/2 + z*x", ("x",), {}, {"z": Noise.parse("normal")})
    >>> (mode,) = modes(Run(loss, Optimizer(), Schedule("0.5"), {"x": 0.0}, 1000, 100))
    >>> of_mode(mode, Moment("variance", "x", 50), mode.cumulants(50)[1]).quantity
    'variance(x) at step 50'
    """
    found = row(measure, predicted, quantity, mode.order, resolution, **{**mode.about, **others})
    if quantity or not isinstance(measure, Moment):
        return found
    return replace(found, quantity=found.quantity + when(mode, measure.step))


def constant_rate(run: Run) -> float:
    """The learning rate of a run.

    Raises
    ------
    NotApplicable
        Where it changes.

    Examples
    --------
    >>> from sgdsim.model.optimizers import Optimizer
    >>> constant_rate(Run(Loss("x**2", ("x",)), Optimizer(), Schedule("0.1"), {"x": 1.0}, 1000, 100))
    0.1
    """
    rates = run.schedule.rates(run.steps)
    require(np.ptp(rates) == 0, "holds for a constant learning rate")
    return float(rates[0])


def middle_step(mode: Mode) -> int | None:
    """The recorded step, neither first nor last, at which the start is nearest to being forgotten to 1/e."""
    steps = mode.run.recorder.record_steps(mode.run.steps)[1:-1]
    if not len(steps):
        return None
    memory = np.cumprod(np.abs(1.0 - mode.pull))[steps - 1]
    return int(steps[np.argmin(np.abs(memory - np.exp(-1.0)))])


def when(mode: Mode, step: int) -> str:
    """How a step is named in a quantity: not at all for the last."""
    return "" if step == mode.run.steps else f" at step {step}"
