"""Averages over late times, which know a mean at rest better than its last value does."""

from __future__ import annotations

from sgdsim.model.observables import Observable


def late(observable: Observable, steps: int) -> Observable:
    """A plain observable, averaged over the last half of a run.

    Examples
    --------
    >>> late(Observable("energy", "x**2/2"), 100)
    Observable(name='late_energy', formula='x**2/2', window=(50, 100), kind='mean')
    """
    return Observable(f"late_{observable.name}", observable.formula, (steps // 2, steps))
