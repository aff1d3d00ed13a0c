"""The recorders of a run, as the arrays that the kernels read."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sgdsim.formulas.names import split_names
from sgdsim.model.recorder import Histogram, Plane
from sgdsim.model.run import Run


class Plan:
    """The recorders of one run.

    Parameters
    ----------
    run
        The run.

    Attributes
    ----------
    histograms, planes
        Histograms of one quantity, and of two, by name.
    record, drift
        The plans of `measure.record` and `measure.record_changes`.
    bins, pairs, cells, drift_bins
        Lengths of the accumulators.

    Examples
    --------
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.losses import CATALOGUE
    >>> from sgdsim.model.recorder import Recorder
    >>> from sgdsim.model.schedules import Schedule
    >>> recorder = Recorder(histograms={"x": Histogram(-1, 1, 10)}, covariances=True)
    >>> plan = Plan(Run(CATALOGUE["river_valley"](), Optimizer(), Schedule("0.1"), {"x": 0, "y": 0}, 1, 1, 0, recorder))
    >>> plan.bins, plan.pairs
    (12, 1)
    """

    def __init__(self, run: Run) -> None:
        recorder, index = run.recorder, run.measured.index
        self.histograms = {n: bins for n, bins in recorder.histograms.items() if isinstance(bins, Histogram)}
        self.planes = {n: bins for n, bins in recorder.histograms.items() if isinstance(bins, Plane)}
        pairs = [[index(a), index(b)] for a, b in recorder.pairs(run.loss.parameters)]
        axes = [axis for plane in self.planes.values() for axis in (plane.first, plane.second)]
        cells = [plane.first.bins * plane.second.bins + 1 for plane in self.planes.values()]
        self.record = (
            *_edges(self.histograms.values()),
            np.array([index(name) for name in self.histograms], dtype=np.int64),
            _table(pairs),
            *_edges(axes),
            np.cumsum([0, *cells]).astype(np.int64),
            _table([list(map(index, split_names(name))) for name in self.planes]),
        )
        drifts = recorder.drifts
        self.drift = (
            *_edges(drift.bins for drift in drifts.values()),
            _table([[index(name), index(drift.by)] for name, drift in drifts.items()]),
            _table([[drift.start, drift.every] for drift in drifts.values()]),
        )
        self.bins = sum(histogram.bins + 2 for histogram in self.histograms.values())
        self.pairs = len(pairs)
        self.cells = sum(cells)
        self.drift_bins = sum(drift.bins.bins for drift in drifts.values())


def _edges(bins: Iterable[Histogram]) -> tuple[np.ndarray, np.ndarray]:
    """The edges of all histograms in a row, and the index at which those of each begin."""
    edges = [histogram.edges for histogram in bins]
    return np.concatenate([np.empty(0), *edges]), np.cumsum([0, *map(len, edges)]).astype(np.int64)


def _table(rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, dtype=np.int64).reshape(-1, 2)
