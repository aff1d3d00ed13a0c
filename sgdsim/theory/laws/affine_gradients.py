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

_FORGOTTEN = 1e-3  # what may be left of a displacement at the start
_HEAVY = 50.0  # excess kurtosis beyond which rare trajectories that no sample holds make the variance
_SECONDS = 3.0  # where nobody asked for it: the moments of a matrix of four entries, six terms each, take 20 s
_LIGHT = 3.0  # excess kurtosis, that of Laplace


def _taken(run: Run) -> set[str]:
    try:
        require_gradient(run.loss)
        return {mode.parameter for mode in modes(run)}
    except NotApplicable:
        return set()


def _order(run: Run) -> int:
    """Moments of order 4 tell whether the variance has a standard error; many parameters have too many of them."""
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
    # Below the root of the smallest float, the fourth moment is no float, and no judge of it.
    known = moments.is_told(name) and variance > np.sqrt(np.finfo(np.float64).tiny)
    kurtosis = fourth / variance / variance if known else np.nan
    if known and np.isfinite(variance) and not kurtosis > _HEAVY:
        yield of("variance", variance)
    # Of a heavy tail no sample shows the skewness: its error needs the sixth moment.
    if step == run.steps and kurtosis < _LIGHT:
        skewness = third / variance / np.sqrt(variance)
        yield of("skewness", skewness, 0.05 * max(1.0, abs(skewness)))


def _across(runs: Sequence[Run]) -> list[Prediction]:
    """Linear response at every point of a sweep over learning rates, valid to order 1."""
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
    """Moments where the gradient of every sample is affine in the parameters. Exact.

    For state-independent noise of covariance C the stationary covariance solves ``S H + H S - eta H S H = eta C``;
    for gradients with random coefficients, and with momentum, decay and matrix learning rates, the moments obey the
    recursion of `sgdsim.theory.methods.moment_recursion`. What is tested is the recursion at the recorded steps
    themselves, so that nothing waits for stationarity. Directions that valley speaks of are left to it. The recursion
    asks for no loss: it holds for parameters that move by affine rules of their own as well.

    Where gradients are not affine, the same equation at the minimum has the stationary covariance to leading order;
    it is tested over a sweep of learning rates, at the end of runs that have forgotten their start.

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
