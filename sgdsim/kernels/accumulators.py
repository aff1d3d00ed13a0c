"""The arrays that the kernels measure into, before they are labelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Accumulators:
    """All that a run measures; the axes of each array are in brackets.

    Attributes
    ----------
    theta
        Parameters, (snapshot, trajectory, parameter).
    status
        Completed steps when divergence was found, 0 for never, (trajectory,); -1 less these steps if the state was not
        a number. A `Sparse`, so that memory does not grow with trajectories; with a point axis, a list of them.
    moments
        Count, mean and central sums 2, 3, 4, (record, group, observable, 5).
    counts
        Counts of histograms, (record, group, bin of all histograms with their under- and overflow).
    comoments
        Count, both means and central sum of products, (record, group, pair, 4).
    cells
        Counts of planes, (record, group, cell of all planes, and one of each plane for all outside).
    stopped
        The bound that has ended a trajectory, 0 for none, and the completed steps then, -1 for never, (2, trajectory);
        empty if no bound ends trajectories.
    changes
        Count, sum and sum of squares of changes, (group, bin of all drifts, 3).
    """

    theta: np.ndarray
    status: Any
    moments: np.ndarray
    counts: np.ndarray
    comoments: np.ndarray
    cells: np.ndarray
    changes: np.ndarray
    stopped: np.ndarray
