"""Affine gradients: all moments of a run by their exact recursion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sgdsim.model.run import Run
from sgdsim.prediction import FEWEST_RATES, Moment, NotApplicable, Prediction, require
from sgdsim.theory.law import law, row, series
from sgdsim.theory.methods.linear_response import response
from sgdsim.theory.methods.modes import modes
from sgdsim.theory.methods.moment_recursion import HIGHEST, StateMoments, is_affine, recursion
from sgdsim.theory.potential import require_gradient

_FORGOTTEN = 1e-3  # largest part of a displacement at the start that may be left
_HEAVY = 50.0  # excess kurtosis beyond which trajectories too rare for any sample dominate the variance
_SECONDS = 3.0  # time limit if nobody asked for it: moments of a matrix of four entries, six terms each, take 20 s
_LIGHT = 3.0  # largest excess kurtosis with a row on the skewness: that of Laplace noise


def _taken(run: Run) -> set[str]:
    try:
        require_gradient(run.loss)
        return {mode.parameter for mode in modes(run)}
    except NotApplicable:
        return set()


def _order(run: Run) -> int:
    """The highest order of the moments: 4, which tells the error of a variance, or 2 for many parameters."""
    return HIGHEST if len(run.loss.parameters) * (1 + len(run.optimizer.rule.state)) <= 4 else 2


def _steps(run: Run) -> list[int]:
    """The last step, and a recorded one in the middle."""
    recorded = run.recorder.record_steps(run.steps)[1:-1]
    middle = [int(recorded[len(recorded) // 2])] if len(recorded) else []
    return [*middle, run.steps]


def _rows(run: Run, moments: StateMoments, name: str, step: int) -> Iterator[Prediction]:
    mean, variance, third, fourth = moments.cumulants(name)
    when = "" if step == run.steps else f" at step {step}"

    def of(statistic: str, value: float, resolution: float | None = None) -> Prediction:
        quantity = f"{statistic}({name}){when}"
        return row(Moment(statistic, name, step), float(value), quantity, resolution=resolution)

    # A mean near zero is judged on the scale of the distribution.
    spread = float(np.hypot(mean, np.sqrt(variance))) if np.isfinite(variance) else abs(mean)
    if np.isfinite(mean):
        yield of("mean", mean, 0.01 * spread or None)
    # For a variance below the root of the smallest float, the fourth moment underflows, and there is no kurtosis.
    known = moments.is_told(name) and variance > np.sqrt(np.finfo(np.float64).tiny)
    kurtosis = fourth / variance / variance if known else np.nan
    if known and np.isfinite(variance) and not kurtosis > _HEAVY:
        yield of("variance", variance)
    # No sample shows the skewness of a law with heavy tails: its error needs the sixth moment.
    if step == run.steps and kurtosis < _LIGHT:
        skewness = third / variance / np.sqrt(variance)
        yield of("skewness", skewness, 0.05 * max(1.0, abs(skewness)))


def _across(runs: Sequence[Run]) -> list[Prediction]:
    """Rows of linear response at every point of a sweep over learning rates, valid to order 1."""
    if len({_last_rate(run) for run in runs}) < FEWEST_RATES or is_affine(runs[0].loss):
        return []
    rows: list[Prediction] = []
    for point, run in enumerate(runs):
        try:
            found = response(run)
        except NotApplicable:
            return []
        if found.flat_directions or found.radius**run.steps > _FORGOTTEN:
            return []
        rows += [
            row(
                Moment("variance", name, run.steps),
                float(variance),
                order=1,
                point=point,
                small=_last_rate(run),
                series=series(run),
                conditions="linear response",
            )
            for name, variance in zip(run.loss.parameters, np.diag(found.covariance), strict=True)
        ]
    return rows


@law(
    "affine-moments",
    "exact mean, variance and skewness where gradients are affine in the parameters",
    source="re-derived; stationary covariance arXiv:2012.03636",
    holds=(
        "gradients affine in the parameters: exact at any step; any loss with a minimum over four or more "
        "learning rates: leading order, the start forgotten"
    ),
    across=_across,
    automatic=True,
    any_field=True,
    seconds=_SECONDS,
)
def affine_moments(run: Run) -> list[Prediction]:
    """Moments of SGD if the gradient of every sample is affine in the parameters. Exact.

    For state-independent noise of covariance C the stationary covariance solves ``S H + H S - eta H S H = eta C``;
    for gradients with random coefficients, and with momentum, decay and matrix learning rates, the moments obey the
    recursion of `sgdsim.theory.methods.moment_recursion`. The recursion is tested at the recorded steps themselves,
    so that nothing waits for stationarity. Directions that the law valley covers are left to it. The recursion needs
    no loss: it also holds for parameters that move by affine rules of their own.

    If gradients are not affine, the same equation at the minimum gives the stationary covariance to leading order. It
    is tested over a sweep of learning rates, at the end of runs that have forgotten their start.

    Stationary covariances: arXiv:2012.03636, arXiv:2102.05375; the recursion of all moments is re-derived.
    """
    others = [name for name in run.loss.parameters if name not in _taken(run)]
    require(others, "valley says the same of every parameter")
    moments = recursion(run, _order(run))
    rows = [row for step in _steps(run) for name in others for row in _rows(run, moments.after(step), name, step)]
    require(rows, "no moment of the parameters exists")
    return rows


def _last_rate(run: Run) -> float:
    return float(run.schedule.rates(run.steps)[-1])
