"""Test that two programs sample from the same distribution: by means and variances of the final state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Z_LIMIT = 5.0  # four statistics of a right peer exceed it once in 400,000 runs

Statistics = dict[str, Sequence[float]]


def statistics(state: Mapping[str, Any]) -> Statistics:
    """Mean and variance of each parameter, each as ``(value, standard error)``; from arrays here or on a GPU.

    What the state holds as such a pair already stays as it is.
    """
    found: Statistics = {}
    for name, values in state.items():
        if isinstance(values, tuple):
            found[name] = values
            continue
        d = np.asarray(values.cpu() if hasattr(values, "cpu") else values).astype(np.float64)
        n, mean = len(d), float(d.mean())
        d = d - mean
        variance, fourth = float(d @ d) / (n - 1), float(np.mean(d**4))
        found[f"mean({name})"] = mean, (variance / n) ** 0.5
        found[f"variance({name})"] = variance, (max(fourth - variance**2, 0.0) / n) ** 0.5
    return found


def deviation(found: Statistics, expected: Statistics) -> float:
    """The largest difference in standard errors; infinite where there is nothing to compare or no number."""
    if found.keys() != expected.keys() or not found:
        return float("inf")
    z = [
        abs(value - other) / (error**2 + other_error**2) ** 0.5 if error or other_error else float("inf")
        for (value, error), (other, other_error) in zip(found.values(), (expected[name] for name in found), strict=True)
    ]
    return max(float("inf") if np.isnan(number) else number for number in z)
