"""Recorded histograms, and the densities that they show."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sgdsim.statistics.estimate import (
    NotMeasured,
)
from sgdsim.statistics.records import record_of

if TYPE_CHECKING:
    from sgdsim.ensemble import Ensemble


class Counts(NamedTuple):
    """A histogram: the counts of all bins, with those below the first edge and above the last, and the edges."""

    counts: np.ndarray
    edges: np.ndarray


def histogram(ensemble: Ensemble, name: str, step: int) -> Counts:
    """A recorded histogram of live trajectories.

    Raises
    ------
    NotMeasured
        For an observable without a histogram, or a step that was not recorded.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> bins = {"histogram_x": Variable(("record", "bin_x"), [[1, 2]]), "edges_x": Variable(("edge_x",), [0, 1, 2])}
    >>> bins |= {f"{side}flow_x": Variable(("record",), [n]) for side, n in (("under", 0), ("over", 3))}
    >>> histogram(Ensemble({**bins, "record_step": Variable(("record",), [9])}, {}), "x", 9).counts
    array([0, 1, 2, 3])
    """
    if f"histogram_{name}" not in ensemble or f"underflow_{name}" not in ensemble:
        raise NotMeasured(f"no histogram of {name} was recorded: record.histograms")
    record = record_of(ensemble, step)
    parts = (np.atleast_1d(ensemble[f"{kind}_{name}"][record]) for kind in ("underflow", "histogram", "overflow"))
    return Counts(np.concatenate(list(parts)), np.asarray(ensemble[f"edges_{name}"], dtype=float))


class DensityBand(NamedTuple):
    """The density of each bin of a histogram, with a confidence band about it; arrays of shape (bin,)."""

    centres: np.ndarray
    widths: np.ndarray
    density: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def histogram_density(ensemble: Ensemble, name: str, step: int, level: float = 1e-3) -> DensityBand:
    """The density that a recorded histogram shows, with simultaneous confidence bands.

    Each bin has the interval of Clopper and Pearson, at the level divided by the number of bins: the probability that
    any bin's interval misses the truth is then at most the level. Values outside of the bins count too: the density of
    a law that reaches beyond them does not integrate to 1 over them.

    Parameters
    ----------
    ensemble, name, step
        Parameters of `histogram`.
    level
        Probability that the band misses the truth in any bin.

    Raises
    ------
    NotMeasured
        For the reasons of `histogram`, and if no trajectory is live.

    Examples
    --------
    >>> from sgdsim.ensemble import Ensemble, Variable
    >>> bins = {"histogram_x": Variable(("record", "bin_x"), [[50, 50]]), "edges_x": Variable(("edge_x",), [0, 1, 3])}
    >>> bins |= {f"{side}flow_x": Variable(("record",), [0]) for side in ("under", "over")}
    >>> band = histogram_density(Ensemble({**bins, "record_step": Variable(("record",), [9])}, {}), "x", 9)
    >>> band.density, band.lower.round(2), band.upper.round(2)
    (array([0.5 , 0.25]), array([0.33, 0.16]), array([0.67, 0.34]))
    """
    from scipy.special import betaincinv

    counts, edges = histogram(ensemble, name, step)
    if not counts.any():
        raise NotMeasured("no live trajectories")
    independent = 0.5 if "antithetic" in ensemble.attributes else 1.0  # both of a pair may show the same value
    n, inside, widths = independent * counts.sum(), independent * counts[1:-1], np.diff(edges)
    tail = level / (2.0 * len(inside))
    with np.errstate(invalid="ignore"):
        lower = np.where(inside > 0, betaincinv(inside, n - inside + 1.0, tail), 0.0)
        upper = np.where(inside < n, betaincinv(inside + 1.0, n - inside, 1.0 - tail), 1.0)
    return DensityBand((edges[1:] + edges[:-1]) / 2.0, widths, inside / (n * widths), lower / widths, upper / widths)
