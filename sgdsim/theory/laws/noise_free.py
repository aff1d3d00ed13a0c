"""Runs without noise in their steps: the path itself."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

import numpy as np

from sgdsim.base import budget
from sgdsim.base.errors import InputError
from sgdsim.formulas import evaluation
from sgdsim.formulas.names import FormulaError
from sgdsim.model.noise import Noise
from sgdsim.model.run import Run
from sgdsim.prediction import Moment, NotApplicable, Prediction, require
from sgdsim.theory.chain.step import start_points
from sgdsim.theory.law import law, row

MOST_POINTS = 10_000
"""Most points of a drawn start, whose paths are followed together."""

MOST_STEPS = 20_000
"""Most steps of a path: one step takes some 0.1 ms."""

_COUNTS = (49, 48)  # points of a drawn parameter by two rules: they alternate, so that no jump escapes both
_RESOLVED = 0.01  # relative resolution of a row
_SETTLED = 0.1  # largest difference of the two rules in units of the resolution
_ROUNDING = 1e-12  # standard deviation, in units of the mean, that is taken for rounding


@law(
    "noise-free",
    "the exact path of a run without noise, and its mean and variance over a start that is drawn",
    source="re-derived",
    holds="steps without noise: gradient descent, and losses that have none",
    automatic=True,
    any_field=True,
)
def noise_free(run: Run) -> Iterator[Prediction]:
    """The end of a run without noise. Exact.

    Without noise in its steps a run is a map of its start, which is followed step by step by the formulas of loss and
    optimizer. If the start is drawn, the points of two quadratures are followed, and their difference tells whether
    they are enough. Rows are the means at the end and in the middle, and the variances over the start, to 1 %.
    """
    slopes = _slopes(run)
    drawn = any(isinstance(start, Noise) for start in run.initial.values())
    found = [_moments(run, slopes, count) for count in _COUNTS[: 1 + drawn]]
    rows = list(_rows(run, found))
    require(rows, "the path jumps between the points of the start, whose means are not known to a tenth of a percent")
    yield from rows


def _rows(run: Run, found: list[dict[int, np.ndarray]]) -> Iterator[Prediction]:
    start = found[-1][0]
    for step in _steps(run):
        for i, name in enumerate(run.loss.parameters):
            mean, variance = found[-1][step][:, i]
            before, spread = found[0][step][:, i]
            scale = float(np.hypot(mean - start[0, i], np.sqrt(variance))) or abs(float(mean))
            if abs(mean - before) <= _SETTLED * _RESOLVED * scale:
                yield _row(run, "mean", name, step, float(mean), _RESOLVED * scale or None)
            if variance > (_ROUNDING * mean) ** 2 and abs(variance - spread) <= _SETTLED * _RESOLVED * variance:
                yield _row(run, "variance", name, step, float(variance), _RESOLVED * float(variance))


def _row(run: Run, statistic: str, name: str, step: int, value: float, resolution: float | None) -> Prediction:
    when = "" if step == run.steps else f" at step {step}"
    return row(Moment(statistic, name, step), value, f"{statistic}({name}){when}", resolution=resolution)


def _slopes(run: Run) -> list[object]:
    """The gradients that the optimizer gets, as expressions.

    Raises
    ------
    NotApplicable
        For steps with noise, and for a start without variance.
    """
    loss, rule = run.loss, run.optimizer.rule
    used = {symbol.name for slope in loss.gradient for symbol in slope.free_symbols} & set(loss.random)
    require(not rule.is_random and (rule.population or not used), "there is noise in the steps")
    require(not run.optimizer.rule.is_of_matrices, f"{run.optimizer.name} steps whole matrices")
    require(run.steps <= MOST_STEPS, f"the path has {run.steps} steps, expected at most {MOST_STEPS}")
    require(not run.optimizer.preconditioner and not run.optimizer.metric, "holds without a matrix of learning rates")
    drawn = (start for start in run.initial.values() if isinstance(start, Noise))
    require(all(isfinite(start.moment(4)) for start in drawn), "the start has no fourth moment")
    try:
        return list(loss.population_gradient if rule.population else loss.gradient)
    except InputError as error:
        raise NotApplicable(f"the mean gradient has no closed form: {error}") from None


def _steps(run: Run) -> list[int]:
    """The last step, and a recorded one in the middle."""
    recorded = run.recorder.record_steps(run.steps)[1:-1]
    middle = [int(recorded[len(recorded) // 2])] if len(recorded) else []
    return [*middle, run.steps]


def _moments(run: Run, slopes: list[object], count: int) -> dict[int, np.ndarray]:
    """Means and variances of all parameters, shape (moment, parameter), at the start and at the steps of the rows."""
    points, weights = start_points(run, count, MOST_POINTS)
    names, optimizer, rates = run.loss.parameters, run.optimizer, run.schedule.rates(run.steps)
    theta = dict(zip(names, points.T.copy(), strict=True))
    states = {name: dict.fromkeys(optimizer.rule.state, np.zeros(len(points))) for name in names}
    found = {0: _of_points(theta, weights)}
    wanted = set(_steps(run))
    for t, rate in enumerate(rates):
        budget.check()
        shared = {"t": float(t), "learning_rate": float(rate)}
        given = {name: {"theta": theta[name], **shared, **states[name]} for name in names}
        at = {name: optimizer.point(values) for name, values in given.items()}
        gradient = evaluation.evaluate(slopes, {**run.loss.constants, **at})
        for name, slope in zip(names, gradient, strict=True):
            try:
                after = optimizer.steps({**given[name], "gradient": slope})
            except FormulaError as error:
                raise NotApplicable(f"a path leaves the numbers at step {t + 1}: {error}") from None
            theta[name] = np.asarray(after["theta"])
            states[name] = {key: after[key] for key in states[name]}
        if t + 1 in wanted:
            found[t + 1] = _of_points(theta, weights)
    return found


def _of_points(theta: dict[str, np.ndarray], weights: np.ndarray) -> np.ndarray:
    values = np.stack([np.broadcast_to(value, len(weights)) for value in theta.values()], axis=1)
    mean = weights @ values
    return np.stack([mean, weights @ (values - mean) ** 2])
