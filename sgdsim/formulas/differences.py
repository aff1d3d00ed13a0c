"""Numerical derivatives of functions without a formula."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def jacobian(function: Callable[[np.ndarray], np.ndarray], theta: np.ndarray, step: float = 1e-4) -> np.ndarray:
    """The Jacobian of a function of several numbers, by central differences of fourth order, (value, parameter).

    Examples
    --------
    >>> jacobian(lambda theta: theta**2, np.array([1.0, 2.0])).round(9)
    array([[2., 0.],
           [0., 4.]])
    """
    columns = []
    for unit in np.eye(len(theta)):
        h = unit * step * max(1.0, float(np.abs(theta @ unit)))
        near, far = function(theta + h) - function(theta - h), function(theta + 2 * h) - function(theta - 2 * h)
        columns.append((8.0 * near - far) / (12.0 * h.sum()))
    return np.stack(columns, axis=-1)
