"""The conditions of a prediction, tested in the ensemble it is compared with: each is a measured number in bounds.

A condition *fails* if the number is outside its bounds by more than its error, and *holds* if it is inside by more
than its error; else, and if its error is not to be trusted, it is *open*.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isfinite, isnan
from typing import TYPE_CHECKING, Literal

from sgdsim.prediction import Condition, Prediction
from sgdsim.statistics.estimate import NotMeasured
from sgdsim.statistics.measured import Points, lost, number_score

if TYPE_CHECKING:
    from sgdsim.ensemble import Ensemble

State = Literal["holds", "fails", "open"]


@dataclass(frozen=True)
class Checked:
    """A condition with its measured number.

    Parameters
    ----------
    condition, state
        The condition, and whether it holds.
    measured, stderr
        The number that must be in its bounds, and its standard error.
    doubts
        Reasons why the error is not to be trusted.
    """

    condition: Condition
    state: State
    measured: float
    stderr: float
    doubts: str = ""

    def __str__(self) -> str:
        error = "" if isnan(self.stderr) else f" ± {self.stderr:.2g}"
        found = f"measured {self.measured:.3g}{error}, expected {self.condition.bounds}"
        found += f"; {self.doubts}" if self.doubts else ""
        state = {"holds": "holds", "fails": "fails", "open": "is open"}[self.state]
        return f"its condition that {self.condition.words} {state} ({found})"


def check(prediction: Prediction, points: Points, alpha: float) -> list[Checked]:
    """The tested conditions of a prediction.

    Parameters
    ----------
    prediction
        The prediction with its conditions.
    points
        The ensemble of each sweep point.
    alpha
        Level at which a number is told from a bound.

    Raises
    ------
    NotMeasured
        If a condition cannot be tested, with the reason.
    """
    return [_checked(condition, prediction, points, alpha) for condition in prediction.assumes]


def _checked(condition: Condition, prediction: Prediction, points: Points, alpha: float) -> Checked:
    """One condition, tested at the nearer of its bounds."""
    point = prediction.point
    try:
        missing = lost(replace(prediction, measure=condition.measure), points)
        scores = [
            (bound, number_score(condition.measure, bound, point, points))
            for bound in (condition.low, condition.high)
            if isfinite(bound)
        ]
    except NotMeasured as reason:
        raise NotMeasured(f"its condition that {condition.words} cannot be tested: {reason}") from None
    measured = scores[0][1].measured
    bound, score = min(scores, key=lambda pair: abs(measured - pair[0]))
    is_told = score.p <= alpha or (measured == bound and score.detectable(alpha) == 0.0)
    state: State = "open"
    doubts = (*missing, *score.doubts)
    if is_told and not doubts:
        state = "holds" if condition.low <= measured <= condition.high else "fails"
    return Checked(condition, state, measured, score.stderr, "; ".join(doubts))


def testable(
    ensemble: Ensemble, predictions: list[Prediction], alpha: float
) -> tuple[list[Prediction], list[tuple[str, str]]]:
    """Predictions that can be judged, without those that nobody asked for and whose conditions cannot be tested.

    Parameters
    ----------
    ensemble, predictions
        The ensemble, and the predictions that are compared with it.
    alpha
        Level of the comparison.

    Returns
    -------
    tuple
        The predictions that are kept, and the id and reason for each law that is not.
    """
    points = Points(ensemble)
    kept: list[Prediction] = []
    dropped: dict[tuple[str, str], None] = {}
    for prediction in predictions:
        reason = None if prediction.asked else next(_reasons(prediction, points, alpha), None)
        if reason is None:
            kept.append(prediction)
        else:
            dropped[prediction.id, reason] = None
    return kept, list(dropped)


def _reasons(prediction: Prediction, points: Points, alpha: float) -> Iterator[str]:
    try:
        check(prediction, points, alpha)
    except NotMeasured as reason:
        yield str(reason)
