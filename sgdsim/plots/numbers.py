"""Predicted numbers that no panel of a figure draws, so that every claim is in a figure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from sgdsim.base.errors import shortened
from sgdsim.plots import sweep
from sgdsim.plots.diagram import is_mapped
from sgdsim.plots.mathematics import plain
from sgdsim.plots.panel import Drawing, Line, Panel, Part, Points, Residuals, scale_for
from sgdsim.plots.subject import Subject, allowances, arrays, deviations, freedom, prediction_label, quantity_label
from sgdsim.prediction import Curve, Function, Moment, Number, Prediction, Quantile
from sgdsim.statistics.estimate import Estimate, NotMeasured

MOST_NUMBERS = 8
"""Most numbers in one panel, so that there is room for their names."""

_NUMBERS = Number | Curve
_DRAWN: dict[str, Any] = {"moments": Moment | Curve, "sweep": _NUMBERS}
"""Measures that the panels of a kind draw; `order` draws predictions of finite order, `diagram` those of one point."""


@dataclass(frozen=True, eq=False)
class _Number:
    """One measured number with its prediction."""

    label: str
    name: str
    step: int
    predicted: float
    prediction: Prediction
    estimate: Estimate


def drawing(kind: str, subject: Subject) -> Drawing:
    """Drawing with a panel for each quantity that is predicted at several steps, and one for all other numbers.

    Parameters
    ----------
    kind
        Kind of the figure, whose own numbers are not drawn again.
    subject
        An ensemble with its predictions; numbers of a sweep are drawn against the swept values.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble
    >>> drawing("moments", Subject(Ensemble({}, {}), (), 0.001)).panels
    ()
    """
    rest = replace(subject, predictions=[one for one in subject.predictions if not _is_drawn(kind, one)])
    if not rest.predictions:
        return Drawing(())
    if len(subject.points) > 1:
        return sweep.drawing(rest)
    left_out: list[str] = []
    groups: dict[tuple[str, str], list[_Number]] = {}
    for number in _numbers(rest, left_out):
        groups.setdefault((number.label, number.name), []).append(number)
    curves = [group for group in groups.values() if len({one.step for one in group}) > 1]
    singles = [one for group in groups.values() if group not in curves for one in group]
    left_out += [one.name for one in singles[MOST_NUMBERS:]]
    panels = [_against_steps(group, subject) for group in curves]
    panels += [_side_by_side(singles[:MOST_NUMBERS], subject)] if singles else []
    return Drawing(tuple(panels), tuple(left_out))


def _is_drawn(kind: str, prediction: Prediction) -> bool:
    if not isinstance(prediction.measure, _NUMBERS):
        return True  # a distribution is not a single number
    if kind == "order":
        return isinstance(prediction.order, int)
    if kind == "diagram":
        return is_mapped(prediction)
    return kind in _DRAWN and isinstance(prediction.measure, _DRAWN[kind])


def _numbers(subject: Subject, left_out: list[str]) -> Iterator[_Number]:
    rows = [(one, one.measure, one.predicted) for one in subject.predictions if not isinstance(one.measure, Curve)]
    rows += [(one, moment, value) for one, moment, value in subject.claims() if isinstance(one.measure, Curve)]
    for prediction, measure, value in rows:
        try:
            estimate = subject.estimate(measure)
        except NotMeasured as reason:
            left_out.append(f"{prediction.quantity} ({reason})")
            continue
        name = re.sub(r"(,| at) steps? .*$", "", quantity_label(prediction))
        yield _Number(prediction_label(prediction), name, _last_step(measure), value, prediction, estimate)


def _last_step(measure: object) -> int:
    if isinstance(measure, Function):
        return max(moment.step for moment in measure.moments)
    return measure.step if isinstance(measure, Moment | Quantile) else max(getattr(measure, "steps", (0,)))


def _against_steps(numbers: Sequence[_Number], subject: Subject) -> Panel:
    numbers = sorted(numbers, key=lambda one: one.step)
    x = np.array([one.step for one in numbers])
    return _panel(numbers[0].name, "step", x, numbers, subject, joined=True)


def _side_by_side(numbers: Sequence[_Number], subject: Subject) -> Panel:
    x = np.arange(float(len(numbers)))
    full = [plain(one.name) for one in numbers]
    short = [name.partition(",")[0] for name in full]
    are_told = [short.count(name) == 1 for name in short]
    names = [shortened(name if told else whole, 48) for name, told, whole in zip(short, are_told, full, strict=True)]
    ticks = tuple("\n".join(textwrap.wrap(name, max(40 // len(names), 12))) for name in names)
    return replace(_panel("predicted numbers", "", x, numbers, subject, joined=False), x_ticks=ticks)


def _panel(
    title: str, x_label: str, x: np.ndarray, numbers: Sequence[_Number], subject: Subject, joined: bool
) -> Panel:
    estimates = [one.estimate for one in numbers]
    values, stderrs = arrays(estimates)
    predicted = np.array([one.predicted for one in numbers])
    labels = list(dict.fromkeys(one.label for one in numbers))
    parts: list[Part] = [Points(x, values, stderrs, "measured")]
    residuals = []
    for series, label in enumerate(labels):
        mine = np.array([one.label == label for one in numbers])
        control = label in subject.controls
        allowed = allowances([one.prediction for one in numbers])[:, mine]
        role: Literal["rival", "theory"] = "rival" if control else "theory"
        parts.append(Line(x[mine], predicted[mine], label, role, series, joined, allowed))
        if not control:
            own = [one.estimate for one in numbers if one.label == label]
            bounds = [one.prediction.allowed for one in numbers if one.label == label]
            residuals.append(Residuals(x[mine], deviations(own, predicted[mine], bounds), freedom=freedom(own)))
    scale = scale_for(np.concatenate([values, predicted]), 1.0)
    return Panel(title, x_label, "value", tuple(parts), tuple(residuals), y_scale=scale)
