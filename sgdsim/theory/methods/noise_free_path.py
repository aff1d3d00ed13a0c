"""Noise-free paths of slow parameters along the mean gradient; the curvature of a fast direction follows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.formulas import evaluation
from sgdsim.model.loss import Loss
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Start
from sgdsim.prediction import NotApplicable, require

if TYPE_CHECKING:
    import sympy


def noise_free_path(run: Run, names: Iterable[str]) -> Mapping[str, np.ndarray]:
    """Parameters after 0, 1, … steps along the mean gradient from the mean start, and all that they depend on.

    Raises
    ------
    NotApplicable
        If the mean gradient has no closed form, or the path diverges.

    Examples
    --------
    >>> from sgdsim.model.noise import Noise
    >>> from sgdsim.model.optimizers import Optimizer
    >>> loss = Loss("x**2/2 + z*x", ("x",), {}, {"z": Noise.parse("normal")})
    >>> noise_free_path(Run(loss, Optimizer(), Schedule("0.5"), {"x": 1.0}, 1000, 3), ["x"])["x"]
    array([1.   , 0.5  , 0.25 , 0.125])
    """
    return {name: path[:, 0] for name, path in spread_paths(run, names).items()}


def spread_paths(run: Run, names: Iterable[str]) -> Mapping[str, np.ndarray]:
    """Noise-free paths from the mean start, and from one standard deviation below and above: (steps + 1, 3)."""
    gradients = _mean_gradients(run.loss, tuple(names))
    start = tuple((name, *_mean_and_std(run.initial[name])) for name in gradients)
    return _path(run.loss, start, run.schedule, run.steps, run.optimizer.decay)


@lru_cache(maxsize=64)  # every law asks for it at every point of a sweep
def _path(
    loss: Loss, start: tuple[tuple[str, float, float], ...], schedule: Schedule, steps: int, decay: float
) -> Mapping[str, np.ndarray]:
    state = {name: mean + std * np.array([0.0, -1.0, 1.0]) for name, mean, std in start}
    gradients = _mean_gradients(loss, tuple(state))
    in_order = [gradients[name] for name in state]
    path = {name: np.empty((steps + 1, 3)) for name in state}
    for step, rate in enumerate((*schedule.rates(steps), 0.0)):
        for name, value in state.items():
            path[name][step] = value
        slopes = on_path(in_order, state)
        moved = zip(state.items(), slopes, strict=True)
        state = {name: value - rate * (slope + decay * value) for (name, value), slope in moved}
    return path


@lru_cache(maxsize=256)
def _mean_gradients(loss: Loss, names: tuple[str, ...]) -> dict[str, sympy.Expr]:
    """Mean gradients of some parameters and of all that these depend on, with numbers for the constants."""
    gradients: dict[str, sympy.Expr] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in gradients:
            continue
        try:
            mean = loss.expectation(loss.gradient[loss.parameters.index(name)]).subs(constants_of(loss))
        except InputError as error:
            raise NotApplicable(f"{name} has no noise-free path: {error}") from None
        gradients[name] = mean
        waiting += [symbol.name for symbol in mean.free_symbols]
    return gradients


def constants_of(loss: Loss) -> dict[sympy.Symbol, float]:
    """The constants of a loss as values of their symbols."""
    return {loss.symbols[name]: value for name, value in loss.constants.items()}


def _mean_and_std(start: Start) -> tuple[float, float]:
    return (float(start), 0.0) if isinstance(start, float | int) else (start.moment(1), np.sqrt(start.cumulant(2)))


def on_path(expressions: Sequence[sympy.Expr], values: Mapping[str, Any]) -> list[Any]:
    """The values of expressions at parameters on a path; refused if one is not finite."""
    found = evaluation.evaluate(expressions, values)
    require(all(np.isfinite(one).all() for one in found), "the noise-free path leaves the numbers")
    return found
