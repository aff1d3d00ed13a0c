"""Rows whose numbers come with an error, and the covariance that several recorded means have together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sgdsim.prediction import Function, Measure, Moment, Prediction, stored
from sgdsim.theory.law import row
from sgdsim.theory.quadrature.nested import Numerical

_DOUBTED = 3.0  # errors that a number may be off


def known_row(
    measure: Measure, found: Numerical, resolution: float, known: float, quantity: str = ""
) -> Iterator[Prediction]:
    """A row about a number with an error, or no row if the error is too large for it to decide anything.

    Parameters
    ----------
    measure, resolution, quantity
        Parameters of `row`.
    found
        The number with its error; it may be off by three times the error.
    known
        The largest error of the number, as a share of the row's resolution.

    Examples
    --------
    >>> [one.allowed for one in known_row(Moment("mean", "x", 9), Numerical(0.5, 0.01), 1.0, known=0.1)]
    [(0.03, 0.03)]
    >>> list(known_row(Moment("mean", "x", 9), Numerical(0.5, 0.2), 1.0, known=0.1))
    []
    """
    error = float(found.error)
    if error < known * resolution:
        off, conditions = _DOUBTED * error, f"numerical error {error:.1g}"
        yield row(measure, float(found.value), quantity, "exact", resolution, conditions=conditions, allowed=(off, off))


def covariance_measure(product: str, factors: Sequence[str], step: int) -> Function:
    """The measured covariance of two recorded observables, from their means and the mean of their recorded product.

    Examples
    --------
    >>> float(covariance_measure("x_times_y", ("x", "y"), 100).function(3.0, 2.0, 1.0))
    1.0
    """
    return Function("covariance", _less_means, tuple(Moment("mean", name, step) for name in (product, *factors)))


@stored
def _less_means(product: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.asarray(product - first * second)
