"""The learning rate against steps, and the loss under several schedules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sgdsim.base.errors import shortened
from sgdsim.plots.mathematics import mark
from sgdsim.plots.panel import MOST_SERIES, MOST_STEPS, Drawing, Line, Panel, Part, Points, scale_for, spread
from sgdsim.plots.subject import Subject, arrays, require, statistic_label

_MOST = 2000
_TOLERANCE = 1e-12
_FEWEST = 3  # fewest records with which the loss is drawn over time


def drawing(subject: Subject) -> Drawing:
    """Drawing of the learning rate at every step, from the scenario and as recorded; then of the recorded loss."""
    require("learning_rate" in subject.ensemble, "schedule", "learning rates")
    same = len({run.schedule for run in subject.runs}) == 1
    points = [0] if same else spread(len(subject.points), MOST_SERIES)
    left_out = [subject.point_label(point) for point in range(len(subject.points)) if not same and point not in points]
    parts: list[Part] = []
    for series, point in enumerate(points):
        recorded = np.asarray(subject.points[point]["learning_rate"], dtype=float)
        label = "recorded" if same or not subject.sweep else subject.point_label(point)
        known = np.isfinite(recorded)
        steps = subject.steps_of(point)[known]
        parts.append(Points(steps, recorded[known], np.full(len(steps), np.nan), label, series))
        if subject.runs:
            parts.append(_every_step(subject, point, series))
    parts += _phases(subject)
    values = np.concatenate([part.y for part in parts if isinstance(part, Points | Line) and len(part.y)])
    panel = Panel(
        _title(subject), "step", f"learning rate {mark('learning_rate')}", tuple(parts), y_scale=scale_for(values)
    )
    return Drawing((panel, *_losses(subject, points)), tuple(left_out))


def _losses(subject: Subject, points: Sequence[int]) -> list[Panel]:
    """Panels of the mean loss over time, if it is recorded, and of its ratio to that under the first schedule."""
    name = next((one for one in subject.measured if _is_loss(subject, one)), None)
    if name is None or len(subject.record_steps) < _FEWEST:
        return []
    steps = subject.record_steps[spread(len(subject.record_steps), MOST_STEPS)]
    found = {point: arrays(subject.at_steps("mean", name, steps, point)) for point in points}
    curves = [Points(steps, *found[point], subject.point_label(point), series) for series, point in enumerate(points)]
    values = np.concatenate([part.y for part in curves])
    over_time = Panel(
        f"mean of {subject.formula(name)}",
        "step",
        statistic_label("mean", name),
        tuple(curves),
        y_scale=scale_for(values, 1.0),
    )
    if len(points) < 2:
        return [over_time]
    first, first_error = found[points[0]]
    label = subject.point_label(points[0])
    if np.any(first <= 0):
        return [over_time]
    ratios: list[Points] = []
    for series, point in enumerate(points[1:], 1):
        mean, error = found[point]
        both = np.hypot(error, first_error * mean / first) / first  # an overestimate if both runs have the same noise
        ratios.append(Points(steps, mean / first, both, subject.point_label(point), series))
    shown = np.concatenate([part.y for part in ratios])
    one = Line(steps[[0, -1]], np.ones(2), role="zero")
    title = f"mean({mark(name)}) over that of {label}"
    compared = Panel(title, "step", "ratio", (one, *ratios), y_scale=scale_for(shown, 0.5))
    return [over_time, compared]


def _is_loss(subject: Subject, name: str) -> bool:
    """True if an observable is the population loss, or has "loss" in its name."""
    if not subject.runs:
        return False
    formulas = {one.name: one.formula for one in subject.runs[0].recorder.observables if not one.is_running}
    return formulas.get(name) == "loss" or (name in formulas and "loss" in name)


def _title(subject: Subject) -> str:
    texts = dict.fromkeys(run.schedule.text for run in subject.runs)
    return f"learning rate {mark(shortened(next(iter(texts)), 60))}" if len(texts) == 1 else "learning rate"


def _every_step(subject: Subject, point: int, series: int) -> Line:
    rates = subject.runs[point].schedule.rates(subject.runs[point].steps)
    jumps = np.flatnonzero(np.abs(np.diff(rates)) > 0.02 * np.ptp(rates)) if np.ptp(rates) else np.array([], int)
    jumps = jumps[spread(len(jumps), _MOST)]
    shown = np.unique([*spread(len(rates), _MOST), *jumps, *(jumps + 1)]).astype(int)
    return Line(shown + 1, rates[shown], "" if series else "schedule", "known", series)


def _phases(subject: Subject) -> list[Line]:
    """Marks at the end of a warm-up and of a plateau, if the learning rate rises, stays and falls, each once."""
    if len({run.schedule for run in subject.runs}) != 1:
        return []
    rates = subject.runs[0].schedule.rates(subject.runs[0].steps)
    top = np.flatnonzero(rates >= rates.max() * (1 - _TOLERANCE))
    before, after = np.diff(rates[: top[0] + 1]), np.diff(rates[top[-1] :])
    if np.ptp(top) + 1 > len(top) or np.any(before < 0) or np.any(after > 0):
        return []
    start, stop = int(top[0]) + 1, int(top[-1]) + 1
    marks = []
    if start > 1:
        marks.append(Line(np.array([start]), np.array([]), f"warm-up ends at step {start}", "mark", 2))
    if start < stop < len(rates):
        marks.append(Line(np.array([stop]), np.array([]), f"decay begins after step {stop}", "mark", 1))
    return marks
