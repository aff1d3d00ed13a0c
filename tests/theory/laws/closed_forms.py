"""Closed forms of a valley at rest, with which laws are compared."""

from __future__ import annotations


def stationary_kurtosis(rate: float, curvature: float, noise_kurtosis: float) -> float:
    """Excess kurtosis of x once the start is forgotten."""
    square = (1.0 - rate * curvature) ** 2
    return noise_kurtosis * (1.0 - square) / (1.0 + square)


def stationary_time_average_variance(variance: float, r: float, count: int) -> float:
    """Variance of the mean of `count` successive states of a stationary mode."""
    tail = 2.0 * r * (1.0 - r**count) / (count * (1.0 - r) ** 2)
    return variance / count * ((1.0 + r) / (1.0 - r) - tail)


def heat_capacity_fixed_noise(rate: float, curvature: float) -> float:
    """d<U>/dT when the learning rate changes."""
    return 2.0 / (2.0 - rate * curvature) ** 2


def heat_capacity_fixed_rate(rate: float, curvature: float) -> float:
    """d<U>/dT when the noise changes."""
    return 1.0 / (2.0 - rate * curvature)
