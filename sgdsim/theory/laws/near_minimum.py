"""The law at rest near a minimum of any loss, order by order in the learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from sgdsim.model.run import Run
from sgdsim.prediction import FEWEST_RATES, Moment, NotApplicable, Prediction, require
from sgdsim.theory.law import law, row, series
from sgdsim.theory.methods.escapes import escapes
from sgdsim.theory.methods.minimum_expansion import Expansion, expansion
from sgdsim.theory.methods.moment_recursion import is_affine

_FORGOTTEN = 1e-4  # largest part of a displacement at the start that may be left
_SHARE = 0.5  # resolution in units of the tested term, and largest ratio of a term to the one before
_SEEN = 0.2  # largest effect of escapes, in units of what a row resolves
_LEAST = 0.01  # resolution in units of the spread, or of the variance, if the term vanishes


def _at_rest(run: Run) -> Expansion:
    rates = run.schedule.rates(run.steps)
    require(rates.min() == rates.max(), "the learning rate changes, and nothing comes to rest")
    require(not is_affine(run.loss), "affine-moments is exact where gradients are affine")
    found = expansion(run)
    left = found.response.radius**run.steps
    require(left < _FORGOTTEN, f"{left:.2g} of the start is left at the end, expected at most {_FORGOTTEN:g}")
    ratio = max((_ratio(found, i) for i in range(len(found.mean)) if found.is_moved(i)), default=0.0)
    require(ratio <= _SHARE, f"the next order is {ratio:.2g} of the leading variance, expected at most {_SHARE:g}")
    _check_held(run, found)
    return found


def _check_held(run: Run, found: Expansion) -> None:
    """Refuse a run of which so many trajectories leave the minimum that it shows in a row."""
    moved = [i for i in range(len(found.mean)) if found.is_moved(i)]
    for way in escapes(run, found.response):
        away = 2.0 * np.abs(way.saddle - found.response.theta)[moved]  # as far again beyond the barrier
        means, variances = (np.array([_scales(found, i)[k] for i in moved]) for k in (0, 1))
        if (way.share * away > _SEEN * means).any() or (way.share * away**2 > _SEEN * variances).any():
            place = ", ".join(f"{n} = {x:.3g}" for n, x in zip(run.loss.parameters, way.saddle, strict=True))
            raise NotApplicable(
                f"after {run.steps} steps about {way.share:.1g} of the trajectories have left the minimum over the "
                f"barrier at {place}, which shows in mean or variance; take lower learning rates, or fewer steps"
            )


def _scales(found: Expansion, i: int) -> tuple[float, float]:
    """Resolution of the rows of the mean and of the variance of a parameter."""
    leading = float(found.leading[i, i])
    moved = abs(float(found.mean[i] - found.response.theta[i]))
    return max(_SHARE * moved, _LEAST * float(np.sqrt(leading))), max(_SHARE * _ratio(found, i), _LEAST) * leading


def _ratio(found: Expansion, i: int) -> float:
    """The next order of a variance in units of the leading one: about the ratio of one more order to it, too."""
    return abs(float(found.covariance[i, i] / found.leading[i, i]) - 1.0)


def _across(runs: Sequence[Run]) -> list[Prediction]:
    rates = {float(run.schedule.rates(run.steps)[-1]) for run in runs}
    require(len(rates) >= FEWEST_RATES, f"there are {len(rates)} learning rates, expected {FEWEST_RATES} or more")
    return [one for point, run in enumerate(runs) for one in _rows(run, _at_rest(run), point)]


def _rows(run: Run, found: Expansion, point: int) -> Iterator[Prediction]:
    told: dict[str, Any] = {
        "point": point,
        "small": float(run.schedule.rates(run.steps)[-1]),
        "series": series(run, steps=False),
    }
    for i, name in enumerate(run.loss.parameters):
        variance, leading = float(found.covariance[i, i]), float(found.leading[i, i])
        if found.is_moved(i):
            of_mean, of_variance = _scales(found, i)
            yield row(Moment("mean", name, run.steps), float(found.mean[i]), order=1, resolution=of_mean, **told)
            next_order = f"of which {100 * (variance / leading - 1):+.2g} % are of the next order"
            moment = Moment("variance", name, run.steps)
            yield row(moment, variance, order=2, resolution=of_variance, conditions=next_order, **told)


@law(
    "near-minimum",
    "mean and variance at rest near a minimum of any loss, one order beyond linear response",
    source="re-derived",
    holds=(
        "plain SGD without weight decay, one to three parameters, a minimum with curvature in all directions, four or "
        "more learning rates, the start forgotten"
    ),
    across=_across,
    automatic=True,
    finite_order=True,
)
def near_minimum(run: Run) -> Iterable[Prediction]:
    """Mean and variance of the parameters at rest near a minimum: to order 1 and 2 in the learning rate.

    The third derivatives K of the loss and the spread shift the mean from the minimum, by ``-h^-1 K S/2`` to order eta.
    The covariance S of linear response, ``S H + H S = eta C``, has a correction of order eta^2, from the length of a
    step, third and fourth derivatives, noise that depends on the parameters, and its third cumulant:
    `sgdsim.theory.methods.minimum_expansion`. The sizes of these terms tell how far linear response may be trusted at
    one learning rate. Over four or more rates their orders are tested, each to half of the term itself. If a term is r
    times the one before, the first neglected term is about r times the tested one, so that r must be below a half.

    Escapes over a barrier are neglected: their rate is smaller than any power of eta. How many there are is estimated
    from the barriers around the minimum (`sgdsim.theory.methods.escapes`); the law does not apply if their effect is
    more than a fifth of what a row resolves.
    """
    raise NotApplicable(f"orders are tested over {FEWEST_RATES} learning rates or more")
