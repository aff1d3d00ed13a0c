"""Prediction against estimate: z, p, what would have been seen, and a verdict.

Only this room knows both predictions and estimates. The rules:

- *disagrees*: rejected by Holm's procedure over all rows at the family-wise level alpha;
- *agrees*: not rejected, and a deviation of the size of the resolution would have been seen with 90 % power,
  at the level alpha/m of m rows (Bonferroni's, the most that Holm's procedure may ask of a row);
- *does not hold here*: nobody asked for the law, and a condition of its own, measured, fails: the row accuses no one,
  and is not counted among the tests;
- *inconclusive*: anything else, or a reason not to trust z: diverged trajectories, too few groups for a standard error,
  a distribution of the groups' values too skewed even for a bootstrap, an error of second order, or no spread at all
  where rare events could hide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from typing import TYPE_CHECKING, Literal

import numpy as np

from sgdsim.prediction import FEWEST_RATES, Order, Prediction
from sgdsim.statistics.rows import Row, rows_of
from sgdsim.statistics.scores import detectable, two_sided

if TYPE_CHECKING:
    from sgdsim.ensemble import Ensemble

__all__ = [
    "DOES_NOT_HOLD",
    "FEWEST_RATES",
    "Comparison",
    "compare",
    "compare_parts",
    "detectable",
    "holm",
    "two_sided",
]

Verdict = Literal["agrees", "disagrees", "inconclusive", "does not hold here"]

DOES_NOT_HOLD: Verdict = "does not hold here"
ALPHA = 1e-3  # default probability of one or more false rejections in a whole table


@dataclass(frozen=True)
class Comparison:
    """One row of the table.

    Attributes
    ----------
    id, quantity, point, statistic, order
        Those of the prediction.
    predicted, measured, stderr
        The predicted number, the measured one and its standard error; NaN if there is none. A `Distance` and a
        `Density` have no standard error. For a `Curve` they are those of the point that is furthest off.
    z, p
        Deviation in standard errors, and its two-sided probability: by Student's t, or by a bootstrap if the note
        says so; for a `Curve`, the probability of such a deviation at any of its points. For a quantity of two values p
        is binomial, for a `Distance` it is Kolmogorov's and for a `Density` that of chi-square; z is then the normal
        deviate with the same p. For a `Tail`, p is that of a gamma distribution.
    p_adjusted
        The p-value adjusted by Holm's procedure for all rows but those that do not hold here.
    detectable
        The deviation that would have been seen with 90 % power.
    resolution
        The smallest deviation worth seeing.
    verdict
        ``agrees``, ``disagrees``, ``inconclusive`` or ``does not hold here``.
    note
        The reason for the verdict, and anything else worth knowing.
    expect
        The verdict that a right simulation must find: ``disagrees`` for a negative control.
    part
        The part of the scenario that the row belongs to, if there are several.
    """

    id: str
    quantity: str
    point: int | None
    statistic: str
    predicted: float
    measured: float
    stderr: float
    z: float
    p: float
    p_adjusted: float
    detectable: float
    resolution: float
    order: Order
    verdict: Verdict
    note: str = ""
    expect: str = "agrees"
    part: str = ""

    @property
    def outcome(self) -> Verdict:
        """The verdict on the file: a negative control agrees if it is rejected, and disagrees if it is not."""
        if self.expect == "agrees":
            return self.verdict
        return "agrees" if self.verdict == self.expect else "disagrees"


def compare(ensemble: Ensemble, predictions: Iterable[Prediction], alpha: float = ALPHA) -> list[Comparison]:
    """Compare predictions with an ensemble.

    Parameters
    ----------
    ensemble
        A run, or a sweep with a leading dimension ``point``.
    predictions
        The predictions. Each has a row; those of order k have one for all points that differ in learning rate alone.
    alpha
        Probability of one or more false rejections in the whole table.

    Returns
    -------
    list of Comparison
        The rows, in the order of the predictions.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> from sgdsim.prediction import Moment
    >>> sums = {"count": 400.0, "mean": 0.05, "m2": 400.0, "m3": 0.0, "m4": 1200.0}
    >>> dimensions = ("record", "group", "observable")
    >>> variables = {f"group_{key}": Variable(dimensions, np.full((1, 4, 1), sums[key])) for key in sums}
    >>> names = {"observable": Variable(("observable",), ["x"]), "record_step": Variable(("record",), [9])}
    >>> claim = Prediction("user-1", "mean(x)", Moment("mean", "x", 9), 0.0, resolution=0.5)
    >>> row = compare(Ensemble({**variables, **names}, {}), [claim])[0]
    >>> row.measured, round(row.z, 2), row.verdict
    (0.05, 2.0, 'agrees')
    """
    return compare_parts([("", ensemble, predictions)], alpha)


def compare_parts(
    parts: Iterable[tuple[str, Ensemble, Iterable[Prediction]]], alpha: float = ALPHA
) -> list[Comparison]:
    """Compare several ensembles with the predictions of each, in one table.

    Parameters
    ----------
    parts
        Name, ensemble and predictions of each part.
    alpha
        Probability of one or more false rejections in the whole table.
    """
    with np.errstate(all="ignore"):  # a row that overflows is in doubt, and its note says so
        rows = [(name, row) for name, ensemble, told in parts for row in rows_of(told, ensemble, alpha)]
    adjusted = holm([nan if row.does_not_hold else row.score.p for _, row in rows])
    level = alpha / max(sum(not isnan(p) for p in adjusted), 1)
    judged = [_judge(row, p, alpha, level) for (_, row), p in zip(rows, adjusted, strict=True)]
    return [replace(one, part=name) for (name, _), one in zip(rows, judged, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values; NaN stays NaN and does not count.

    If every row whose adjusted p is at most alpha is rejected, the probability of any false rejection is at most alpha.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03, float("nan")])
    [0.03, 0.06, 0.06, nan]
    """
    adjusted = [nan] * len(p_values)
    tested = sorted((p, index) for index, p in enumerate(p_values) if not isnan(p))
    largest = 0.0
    for rank, (p, index) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[index] = largest
    return adjusted


def _judge(row: Row, p_adjusted: float, alpha: float, level: float) -> Comparison:
    found, prediction = row.score, row.prediction
    with np.errstate(all="ignore"):
        seen = found.detectable(level)
    verdict, reasons = _verdict(row, p_adjusted, alpha, level, seen)
    return Comparison(
        prediction.id,
        prediction.quantity,
        prediction.point,
        prediction.statistic,
        prediction.predicted,
        found.measured,
        found.stderr,
        found.z,
        found.p,
        p_adjusted,
        seen,
        row.resolution,
        prediction.order,
        verdict,
        "; ".join((*reasons, *found.remarks)),
        prediction.expect,
    )


def _verdict(row: Row, p_adjusted: float, alpha: float, level: float, seen: float) -> tuple[Verdict, tuple[str, ...]]:
    found, shown = row.score, tuple(str(one) for one in row.checked if one.state == "fails")
    if row.does_not_hold:
        return DOES_NOT_HOLD, shown
    if found.doubts:
        return "inconclusive", (*found.doubts, *(() if row.advice is None else (row.advice(level),)), *shown)
    if p_adjusted <= alpha:
        is_open = not row.prediction.asked and any(one.state == "open" for one in row.checked)
        doubted = tuple(str(one) for one in row.checked if one.state != "holds")
        return "inconclusive" if is_open else "disagrees", doubted
    if found.floor <= level and seen <= row.resolution:
        return "agrees", shown
    return "inconclusive", (_what_would_decide(row, level), *shown)


def _what_would_decide(row: Row, level: float) -> str:
    if row.score.floor > level:
        smallest = f"{row.score.floor:.1g} is the smallest p of the bootstrap"
        return f"{smallest}, too coarse for the level {level:.1g} of one among so many tests"
    if row.advice is not None:
        return row.advice(level)
    if not row.resolution > 0:
        return "no resolution given, and none to be had from the prediction"
    return f"{row.score.factor(level, row.resolution):.2g} times the trajectories would decide"
