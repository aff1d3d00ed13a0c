"""The last states of a run, from which another run may start."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.ensemble.ensemble import Ensemble
from sgdsim.ensemble.variable import Attribute

_OF_STATES = (("snapshot", "trajectory", "parameter"), "f"), (("parameter",), "U"), (("snapshot",), "iu")
"""Dimensions of theta, parameter and snapshot_step, and the allowed kinds of their number types."""


@dataclass(frozen=True, eq=False)
class LastStates:
    """The last snapshot of a single run.

    Attributes
    ----------
    names
        Names of the parameters.
    theta
        Values of the parameters, shape (trajectory, parameter).
    step
        Number of completed steps.
    attributes
        Provenance of the run.
    """

    names: tuple[str, ...]
    theta: np.ndarray
    step: int
    attributes: Mapping[str, Attribute]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> LastStates:
        """Read the file of a run.

        Raises
        ------
        InputError
            If the file cannot be read (see `Ensemble.open`), holds a sweep, or holds no snapshots.
        """
        ensemble = Ensemble.open(path)
        theta, names, steps = (ensemble.variables.get(name) for name in ("theta", "parameter", "snapshot_step"))
        if theta is None or names is None or steps is None:
            raise InputError(f"{path}: holds no snapshots, expected theta, parameter and snapshot_step")
        if "point" in theta.dimensions:
            raise InputError(f"{path}: holds a sweep, expected a single run")
        if 0 in theta.shape:
            raise InputError(f"{path}: holds no snapshots; record one with --snapshot final")
        found = {"theta": theta, "parameter": names, "snapshot_step": steps}
        for (name, variable), (dimensions, kinds) in zip(found.items(), _OF_STATES, strict=True):
            if variable.dimensions != dimensions or variable.data.dtype.kind not in kinds:
                raise InputError(f"{path}: {name} is not as a run records it, expected {', '.join(dimensions)}")
        return cls(tuple(map(str, names.data)), theta.data[-1], int(steps.data[-1]), ensemble.attributes)

    @property
    def digest(self) -> str:
        """SHA-256 of the parameter values."""
        return hashlib.sha256(np.ascontiguousarray(self.theta).tobytes()).hexdigest()
