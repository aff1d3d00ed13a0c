"""What the kernels measure into, before it is labelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Accumulators:
    """What a run measures; every array leads with what it is indexed by.

    Attributes
    ----------
    theta
        Parameters, (snapshot, trajectory, parameter).
    status
        Completed steps when divergence was found, 0 never, (trajectory,); -1 less these steps where the state was not a
        number. A `Sparse`, so that memory does not grow with trajectories; with a point axis, a list of them.
    moments
        Count, mean and central sums 2, 3, 4, (record, group, observable, 5).
    counts
        (record, group, bin of all histograms with their under- and overflow).
    comoments
        Count, both means and central sum of products, (record, group, pair, 4).
    cells
        (record, group, cell of all planes, and one a plane for all outside).
    stopped
        Which bound has ended a trajectory, 0 none, and the completed steps then, -1 never, (2, trajectory); empty where
        none can.
    changes
        Count, sum and sum of squares, (group, bin of all drifts, 3).
    """

    theta: np.ndarray
    status: Any
    moments: np.ndarray
    counts: np.ndarray
    comoments: np.ndarray
    cells: np.ndarray
    changes: np.ndarray
    stopped: np.ndarray
