"""A density over time as an image, with its quantiles."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sgdsim.plots.mathematics import mark
from sgdsim.plots.panel import MOST_PANELS, Drawing, Image, Line, Panel, Part, edges_about, spread
from sgdsim.plots.subject import Subject, require
from sgdsim.statistics import histograms, records

_WANTED = "a histogram or three or more snapshots on the way: --histogram NAME:LOW,HIGH,BINS with --every"
_FEWEST = 3  # fewest records with which a density is drawn over time
_MOST = 200
_BINS = 60
_QUANTILES = {0.5: "median", 0.05: "5 % and 95 %", 0.95: ""}


def drawing(subject: Subject) -> Drawing:
    """Drawing with a panel for each quantity; of a sweep, for each quantity and point."""
    panels = [panel for point in range(len(subject.points)) for panel in _panels(subject, point)]
    require(panels, "evolution", _WANTED)
    left_out = tuple(panel.title for panel in panels[MOST_PANELS:])
    return Drawing(tuple(panels[:MOST_PANELS]), left_out)


def _panels(subject: Subject, point: int) -> Iterator[Panel]:
    ensemble = subject.points[point]
    names = [name.removeprefix("underflow_") for name in ensemble if name.startswith("underflow_")]
    if len(subject.record_steps) >= _FEWEST:
        for name in (one for one in names if subject.shows(one)):
            steps = subject.record_steps[spread(len(subject.record_steps), _MOST)]
            counts = [histograms.histogram(ensemble, name, int(step)) for step in steps]
            edges = counts[0].edges
            inside = np.array([one.counts[1:-1] for one in counts], dtype=float)
            below = np.array([float(one.counts[0]) for one in counts])
            totals = np.array([float(one.counts.sum()) for one in counts])
            yield _panel(subject, name, point, steps, edges, inside, below, totals)
    if ensemble.sizes.get("snapshot", 0) >= _FEWEST:
        steps = np.asarray(ensemble["snapshot_step"])
        for name in (str(one) for one in ensemble["parameter"]):
            if name not in names and subject.shows(name):
                values = [records.live(ensemble, name, int(step)) for step in steps]
                together = np.concatenate(values)
                if len(together) and np.ptp(together) > 0:
                    low, high = np.quantile(together, [0.001, 0.999])
                    edges = np.linspace(low, high, _BINS + 1)
                    inside = np.array([np.histogram(one, edges)[0] for one in values], dtype=float)
                    below = np.array([float(np.sum(one < edges[0])) for one in values])
                    totals = np.array([float(len(one)) for one in values])
                    yield _panel(subject, name, point, steps, edges, inside, below, totals)


def _panel(
    subject: Subject,
    name: str,
    point: int,
    steps: np.ndarray,
    edges: np.ndarray,
    inside: np.ndarray,
    below: np.ndarray,
    totals: np.ndarray,
) -> Panel:
    # A density that is concentrated in one bin, as at the start, would leave no colours for the others.
    density = inside / np.maximum(totals, 1)[:, None] / np.diff(edges)
    spread_out = inside.max(axis=1) < 0.9 * np.maximum(totals, 1)
    top = density[spread_out].max() if spread_out.any() else density.max()
    shown = np.where(density > 0, np.minimum(density, top), np.nan)
    times = np.clip(edges_about(steps.astype(float)), steps[0], steps[-1])
    first, last = np.flatnonzero(inside.any(axis=0))[[0, -1]] if inside.any() else (0, len(edges) - 2)
    image = shown.T[first : last + 1]
    parts: list[Part] = [Image(times, edges[first : last + 2], image, "density", role="density")]
    whole = np.cumsum(np.concatenate([below[:, None], inside], axis=1), axis=1) / np.maximum(totals, 1)[:, None]
    for level, label in _QUANTILES.items():
        line = np.array([_quantile(row, edges, level) for row in whole])
        parts.append(Line(steps, line, label, "theory", int(level != 0.5)))
    where = "" if len(subject.points) == 1 else f", {subject.point_label(point)}"
    return Panel(f"density of {subject.formula(name)}{where}", "step", mark(name), tuple(parts))


def _quantile(whole: np.ndarray, edges: np.ndarray, level: float) -> float:
    """Quantile from the counts of bins, with a uniform density within each bin; NaN beyond the bins."""
    if not whole[0] <= level <= whole[-1]:
        return float("nan")
    return float(np.interp(level, whole, edges))
