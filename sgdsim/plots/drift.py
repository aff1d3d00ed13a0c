"""Conditional drift and diffusion by bins."""

from __future__ import annotations

import numpy as np

from sgdsim.plots.mathematics import mark
from sgdsim.plots.panel import MOST_PANELS, MOST_SERIES, Drawing, Line, Panel, Part, Points, Steps, scale_for, spread
from sgdsim.plots.subject import Subject, prediction_label, require
from sgdsim.prediction import DriftCurve

_MEANINGS = {"drift": "mean Δ{}", "diffusion": "mean (Δ{})²"}


def drawing(subject: Subject) -> Drawing:
    """Drawing with two panels for each drift: the mean and mean square of a step's change, with the counts below."""
    ensemble = subject.ensemble
    names = [name.removeprefix("drift_") for name in ensemble if f"{name}_stderr" in ensemble and _is_drift(name)]
    names = [name for name in names if subject.shows(name)]
    require(names, "drift", "any drift: record.drift, or --drift NAME:LOW,HIGH,BINS")
    shown = names[: MOST_PANELS // 2]
    points = spread(len(subject.points), MOST_SERIES)
    left_out = [f"drift of {name}" for name in names if name not in shown]
    left_out += [subject.point_label(point) for point in range(len(subject.points)) if point not in points]
    panels = tuple(_panel(subject, name, kind, points) for name in shown for kind in _MEANINGS)
    return Drawing(panels, tuple(left_out), ("Errors from the spread of independent groups of trajectories.",))


def _is_drift(name: str) -> bool:
    return name.startswith("drift_") and not name.endswith("_stderr")


def _panel(subject: Subject, name: str, kind: str, points: list[int]) -> Panel:
    variable = subject.ensemble.variables[f"{kind}_{name}"]
    label = variable.dimensions[-1].removeprefix("bin_")
    edges = np.asarray(subject.ensemble[f"edges_{label}"], dtype=float)
    centres = (edges[1:] + edges[:-1]) / 2
    by = _binned_by(subject, name)
    parts: list[Part] = [] if kind == "diffusion" else [Line(edges[[0, -1]], np.zeros(2), role="zero")]
    counts: list[Steps] = []
    for series, point in enumerate(points):
        one = subject.points[point]
        seen = np.asarray(one[f"count_{name}"], dtype=float)
        values, stderrs = (np.where(seen > 0, one[f"{kind}_{name}{end}"], np.nan) for end in ("", "_stderr"))
        parts.append(Points(centres, values, stderrs, subject.point_label(point), series))
        counts.append(Steps(edges, seen, seen, seen, "", series))
        if kind == "drift":
            parts += _predicted(subject, name, point, centres, series)
    shown = np.concatenate([part.y for part in parts if isinstance(part, Points)])
    return Panel(
        f"{kind} of {subject.formula(name)}",
        f"{mark(by)} before the step",
        f"{_MEANINGS[kind].format(mark(name))} a step",
        tuple(parts),
        counts=tuple(counts),
        y_scale=scale_for(shown),
    )


def _predicted(subject: Subject, name: str, point: int, centres: np.ndarray, series: int) -> list[Line]:
    return [
        Line(centres, np.array(one.measure.values), prediction_label(one), series=series)
        for one in subject.predictions
        if isinstance(one.measure, DriftCurve) and one.measure.observable == name and (one.point or 0) == point
    ]


def _binned_by(subject: Subject, name: str) -> str:
    drifts = subject.runs[0].recorder.drifts if subject.runs else {}
    return drifts[name].by if name in drifts else name
