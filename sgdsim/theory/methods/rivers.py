"""A river in a valley: a fast direction x whose curvature a(y) a slow parameter y sets, and the river c(y).

    l = c(y) + a(y)*x^2/2 + noise,    x' = x - eta*(a*x + sigma*xi),    y' = y - eta*(c' + a'*x^2/2 + sigma_y*zeta).

Laws of the entropic force need a, c and their derivatives in numbers, at any y.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.formulas import evaluation
from sgdsim.formulas.expansion import expanded
from sgdsim.model.loss import Loss
from sgdsim.model.observables import Observable
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable, require
from sgdsim.theory.methods.directions import directions
from sgdsim.theory.methods.modes import constant_rate

if TYPE_CHECKING:
    import sympy

HIGHEST = 3
"""Highest order of the derivatives of a and c."""
FORGOTTEN = 1e-4
"""Largest part of a river's start that may be left."""


@dataclass(frozen=True, eq=False)
class River:
    """A river in a valley, in the numbers of one run.

    Attributes
    ----------
    run
        The run.
    fast, slow
        Names of x and y.
    walls, bed
        The curvature a and the river c with their first three derivatives, expressions in y and constants.
    noise, river_noise
        Variances of one step's gradient, ``sigma^2`` of x and ``sigma_y^2`` of y, batch size included.
    rate
        The learning rate.
    """

    run: Run
    fast: str
    slow: str
    walls: tuple[sympy.Expr, ...]
    bed: tuple[sympy.Expr, ...]
    noise: float
    river_noise: float
    rate: float

    def a(self, y: Any, order: int = 0) -> Any:
        """The curvature a at y, or a derivative of it."""
        return self._value(self.walls[order], y)

    def c(self, y: Any, order: int = 0) -> Any:
        """The river c at y, or a derivative of it."""
        return self._value(self.bed[order], y)

    @property
    def temperature(self) -> float:
        """The temperature ``eta*sigma^2/2``."""
        return self.rate * self.noise / 2.0

    @property
    def start(self) -> float:
        """The point at which y starts.

        Raises
        ------
        NotApplicable
            If y starts from more than one point.
        """
        return single_start(self.run, self.slow)

    @property
    def start_heat(self) -> float:
        """Second moment of x at the start."""
        start = self.run.initial[self.fast]
        return float(start**2 if isinstance(start, float | int) else start.moment(2))

    @property
    def is_flat(self) -> bool:
        """True if the river has no slope of its own."""
        return bool(self.bed[1] == 0)

    @property
    def series(self) -> str:
        """A text of all that runs of one series share: they differ in learning rate and noise alone."""
        return f"{self.walls[0]} {self.bed[0]} {self.run.optimizer} {self.run.steps} {self.run.initial[self.slow]}"

    def rest(self, y: float) -> float:
        """Variance of x at rest at a fixed y."""
        a = float(self.a(y))
        require(0.0 < self.rate * a < 2.0, f"eta*a = {self.rate * a:.3g} at {self.slow} = {y:.3g}, not between 0 and 2")
        return self.rate * self.noise / (a * (2.0 - self.rate * a))

    def _value(self, expression: sympy.Expr, y: Any) -> Any:
        return evaluation.evaluate([expression], {**self.run.loss.constants, self.slow: y})[0]


def river(run: Run, optimizers: tuple[str, ...] = ("sgd",)) -> River:
    """The river of a run.

    Raises
    ------
    NotApplicable
        For other losses, other optimizers, weight decay, and a rate that changes.

    Examples
    --------
    >>> from sgdsim.model.losses.river_valley import river_valley
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = river_valley(a="a0*exp(k*y)", c="0", constants={"a0": 2.0, "k": 1.0})
    >>> found = river(Run(loss, Optimizer(), Schedule("0.1"), {"x": 0.0, "y": 0.0}, 100, 10))
    >>> float(found.a(0.0, 1)), found.temperature, found.is_flat
    (2.0, 0.05, True)
    """
    optimizer = run.optimizer
    require(
        optimizer.name in optimizers and not (optimizer.preconditioner or optimizer.metric or optimizer.decay),
        f"holds for {' or '.join(optimizers)} without weight decay and with one learning rate",
    )
    fast, slow, walls, bed, couplings, calm = _shape(run.loss)
    constants = run.loss.constants

    def variance(factors: Mapping[str, sympy.Expr]) -> float:
        values = {name: float(evaluation.evaluate([f], constants)[0]) for name, f in factors.items()}
        total = sum(value**2 * run.loss.noise[name].cumulant(2) for name, value in values.items())
        return float(total / optimizer.batch_size)

    noise = variance(couplings)
    require(0.0 < noise < np.inf, f"the gradient noise of {fast} has the variance {noise:g}")
    return River(run, fast, slow, walls, bed, noise, variance(calm), constant_rate(run))


def single_start(run: Run, parameter: str) -> float:
    """The point at which a parameter of all trajectories starts.

    Raises
    ------
    NotApplicable
        If it starts from more than one point.

    Examples
    --------
    >>> from sgdsim.model.losses.river_valley import river_valley
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> run = Run(river_valley(), Optimizer(), Schedule("0.1"), {"x": 0.0, "y": 2.0}, 100, 10)
    >>> single_start(run, "y")
    2.0
    """
    start = run.initial[parameter]
    require(isinstance(start, float | int), f"{parameter} starts from more than one point")
    return float(start)  # type: ignore[arg-type]


def square_of(known: River) -> Observable:
    """The observable ``y**2``.

    Examples
    --------
    >>> from sgdsim.model.losses.river_valley import river_valley
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = river_valley(a="1 + y**2", c="0")
    >>> square_of(river(Run(loss, Optimizer(), Schedule("0.1"), {"x": 0.0, "y": 0.0}, 100, 10))).formula
    'y**2'
    """
    return Observable(f"{known.slow}_squared", f"{known.slow}**2")


def check_remembered(known: River, left: float) -> None:
    """Refuse a river that still remembers its start.

    Raises
    ------
    NotApplicable
        For such a river; the message tells which part is left.
    """
    require(left < FORGOTTEN, f"the start of {known.slow} is still remembered, to {left:.1g}")


@lru_cache(maxsize=64)
def _shape(loss: Loss) -> tuple[str, str, tuple[Any, ...], tuple[Any, ...], Mapping[str, Any], Mapping[str, Any]]:

    require(len(loss.parameters) == 2, "speaks of one fast direction and one river")
    for direction in directions(loss):
        (slow,) = set(loss.parameters) - {direction.parameter}
        x, y = loss.symbols[direction.parameter], loss.symbols[slow]
        if y not in direction.curvature.free_symbols or direction.centre != 0:
            continue
        gradient = loss.gradient[loss.parameters.index(slow)]
        rest = expanded(gradient - direction.curvature.diff(y) * x**2 / 2)
        random = {name: loss.symbols[name] for name in loss.noise if loss.symbols[name] in rest.free_symbols}
        couplings = {name: rest.diff(symbol) for name, symbol in random.items()}
        slope = expanded(rest - sum(factor * random[name] for name, factor in couplings.items()))
        moving = {x, y, *(loss.symbols[name] for name in loss.random)}
        if any(factor.free_symbols & moving for factor in couplings.values()) or slope.free_symbols & (moving - {y}):
            continue
        population = expanded(loss.population - direction.curvature * x**2 / 2)
        bed = [population, slope, slope.diff(y), slope.diff(y, 2)]
        walls = [direction.curvature.diff(y, order) for order in range(HIGHEST + 1)]
        return direction.parameter, slow, tuple(walls), tuple(bed), direction.couplings, couplings
    raise NotApplicable("no fast direction has its bottom at 0 and a curvature that one other parameter sets")


@dataclass(frozen=True, eq=False)
class RoughRiver:
    """A flat river y along walls a(y), with noise of x whose variance depends on y.

    Attributes
    ----------
    run
        The run.
    fast, slow
        Names of x and y.
    walls, noise
        The curvature a, and the variance of one step's gradient of x, each with its derivative: expressions in y and
        constants.
    """

    run: Run
    fast: str
    slow: str
    walls: tuple[sympy.Expr, sympy.Expr]
    noise: tuple[sympy.Expr, sympy.Expr]

    def a(self, y: float, order: int = 0) -> float:
        """The curvature a at y, or its derivative."""
        return self._value(self.walls[order], y)

    def variance(self, y: float, order: int = 0) -> float:
        """The variance of the gradient of x at y, or its derivative."""
        return self._value(self.noise[order], y)

    def _value(self, expression: sympy.Expr, y: float) -> float:
        return float(evaluation.evaluate([expression], {**self.run.loss.constants, self.slow: y})[0])


def rough_river(run: Run) -> RoughRiver:
    """The river of a run whose noise depends on it.

    Raises
    ------
    NotApplicable
        For other losses.

    Examples
    --------
    >>> from sgdsim.model.noise import Noise
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("(y*x - xi)**2/2", ("x", "y"), {}, {"xi": Noise.parse("normal")})
    >>> found = rough_river(Run(loss, Optimizer(), Schedule("0.1"), {"x": 0.0, "y": 1.0}, 100, 10))
    >>> found.fast, found.a(2.0), found.variance(2.0), found.variance(2.0, 1)
    ('x', 4.0, 4.0, 4.0)
    """
    loss, optimizer = run.loss, run.optimizer
    require(
        optimizer.name == "sgd" and not (optimizer.preconditioner or optimizer.metric or optimizer.decay),
        "holds for sgd without weight decay and with one learning rate",
    )
    require(len(loss.parameters) == 2 and len(loss.noise) == 1, "speaks of one fast direction, one river and one noise")
    (noise,) = loss.noise
    require(
        loss.noise[noise].cumulant(1) == 0.0 and loss.noise[noise].cumulant(2) < np.inf,
        f"the noise {noise} has a mean, or no variance",
    )
    for index, fast in enumerate(loss.parameters):
        slow = loss.parameters[1 - index]
        x, y, xi = loss.symbols[fast], loss.symbols[slow], loss.symbols[noise]
        gradient = loss.gradient[index]
        a, coupling = gradient.diff(x), gradient.diff(xi)
        flat = expanded(loss.population - a * x**2 / 2).diff(y) == 0
        simple = (
            not (a.free_symbols | coupling.free_symbols) & {x, xi} and expanded(gradient - a * x - coupling * xi) == 0
        )
        if flat and simple and y in a.free_symbols and y in coupling.free_symbols:
            variance = loss.noise[noise].cumulant(2) / run.optimizer.batch_size * coupling**2
            return RoughRiver(run, fast, slow, (a, a.diff(y)), (variance, variance.diff(y)))
    raise NotApplicable("no flat river sets the curvature, and the noise, of a fast direction")


def first_record_at_rest(run: Run, steps: float, fast: str) -> int:
    """The first record after a number of steps, when a fast direction is at rest; it is not the last record.

    Raises
    ------
    NotApplicable
        If there is none.
    """
    usable = [int(step) for step in run.recorder.record_steps(run.steps)[:-1] if step >= steps]
    earlier = f"no record after {steps:.0f} steps and before the last, when {fast} is at rest: --every sets more"
    require(usable, earlier)
    return usable[0]
