"""The learning rate against steps."""

from __future__ import annotations

import numpy as np

from sgdsim.base.errors import shortened
from sgdsim.plots.panel import MOST_SERIES, Drawing, Line, Panel, Part, Points, scale_for, spread
from sgdsim.plots.subject import Subject, require

_MOST = 2000
_TOLERANCE = 1e-12


def drawing(subject: Subject) -> Drawing:
    """One panel: the rate of every step from the scenario, with those that the records hold."""
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
    panel = Panel(_title(subject), "step", "learning rate", tuple(parts), y_scale=scale_for(values))
    return Drawing((panel,), tuple(left_out))


def _title(subject: Subject) -> str:
    texts = dict.fromkeys(run.schedule.text for run in subject.runs)
    return f"learning rate {shortened(next(iter(texts)), 60)}" if len(texts) == 1 else "learning rate"


def _every_step(subject: Subject, point: int, series: int) -> Line:
    rates = subject.runs[point].schedule.rates(subject.runs[point].steps)
    jumps = np.flatnonzero(np.abs(np.diff(rates)) > 0.02 * np.ptp(rates)) if np.ptp(rates) else np.array([], int)
    jumps = jumps[spread(len(jumps), _MOST)]
    shown = np.unique([*spread(len(rates), _MOST), *jumps, *(jumps + 1)]).astype(int)
    return Line(shown + 1, rates[shown], "" if series else "schedule", "known", series)


def _phases(subject: Subject) -> list[Line]:
    """Where a rate that rises first, or stays at its largest for a while, ceases to."""
    if len({run.schedule for run in subject.runs}) != 1:
        return []
    rates = subject.runs[0].schedule.rates(subject.runs[0].steps)
    top = np.flatnonzero(rates >= rates.max() * (1 - _TOLERANCE))
    start, stop = int(top[0]) + 1, int(top[-1]) + 1
    marks = []
    if start > 1:
        marks.append(Line(np.array([start]), np.array([]), f"warm-up ends at step {start}", "mark", 2))
    if start < stop < len(rates):
        marks.append(Line(np.array([stop]), np.array([]), f"decay begins after step {stop}", "mark", 1))
    return marks
