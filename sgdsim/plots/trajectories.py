"""A few trajectories, and the quantiles of all, from snapshots."""

from __future__ import annotations

import numpy as np

from sgdsim.plots.mathematics import mark
from sgdsim.plots.panel import MOST_PANELS, Band, Drawing, Line, Panel, Part, scale_for
from sgdsim.plots.subject import Subject, require

PATHS = 5
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def drawing(subject: Subject) -> Drawing:
    """Drawing with a panel for each parameter; of a sweep, for each parameter and point."""
    what = "two or more snapshots: record.snapshots, or --snapshot STEP several times"
    require(subject.ensemble.sizes.get("snapshot", 0) > 1, "trajectories", what)
    names = [str(name) for name in subject.ensemble["parameter"] if subject.shows(str(name))]
    pairs = [(name, point) for name in names for point in range(len(subject.points))]
    panels = tuple(_panel(subject, name, point) for name, point in pairs[:MOST_PANELS])
    left_out = [_title(subject, *pair) for pair in pairs[MOST_PANELS:]]
    note = "Bands: the middle 90 % and 50 % of all trajectories with a snapshot."
    return Drawing(panels, tuple(left_out), (note,))


def _title(subject: Subject, name: str, point: int) -> str:
    return mark(name) if len(subject.points) == 1 else f"{mark(name)}, {subject.point_label(point)}"


def _panel(subject: Subject, name: str, point: int) -> Panel:
    ensemble = subject.points[point]
    steps = np.asarray(ensemble["snapshot_step"])
    theta = ensemble.variables["theta"]
    column = [str(known) for known in ensemble["parameter"]].index(name)
    fan = np.full((len(QUANTILES), len(steps)), np.nan)
    paths = np.full((min(PATHS, theta.shape[1]), len(steps)), np.nan)
    for row in range(len(steps)):
        values = np.asarray(theta.rows(row, row + 1)[0, :, column], dtype=float)
        paths[:, row] = values[: len(paths)]
        finite = values[np.isfinite(values)]
        if len(finite):
            fan[:, row] = np.quantile(finite, QUANTILES)
    parts: list[Part] = [
        Band(steps, fan[0], fan[-1], "5 to 95 %", strength=0.2),
        Band(steps, fan[1], fan[-2], "25 to 75 %", strength=0.35),
        Line(steps, fan[2], "median"),
        *(Line(steps, path, "" if i else "single trajectories", "path", i) for i, path in enumerate(paths)),
    ]
    return Panel(
        f"trajectories of {_title(subject, name, point)}",
        "step",
        mark(name),
        tuple(parts),
        y_scale=scale_for(np.append(fan, paths)),
    )
