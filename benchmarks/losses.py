"""The losses of the second table: constants, start and learning rate of each, by the name of its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.jobs import Job
from sgdsim.vectors import coordinates


@dataclass(frozen=True)
class Setting:
    """What a job needs beside its size.

    Every loss has an input x, of as many coordinates as the constant ``teacher`` has, one where there is none, and a
    label noise e; all are standard normal.

    Parameters
    ----------
    learning_rate, constants, initial
        As in `Job`.
    """

    learning_rate: float
    constants: Mapping[str, float]
    initial: Mapping[str, float]

    @property
    def deviates(self) -> int:
        """Normals of a step."""
        return max(sum(name.startswith("teacher") for name in self.constants), 1) + 1


def _vector(name: str, *values: float) -> dict[str, float]:
    return dict(zip(coordinates(name, len(values)), values, strict=True))


_TEACHER = 1.0, -0.5, 0.25, 0.75
_WIDE = tuple(1.0 / (i + 1) for i in range(16))

SETTINGS = {
    "rescaling": Setting(0.05, {"slope": 1.0, "sigma": 0.5}, {"u": 0.5, "w": 1.5}),
    "linear_regression": Setting(0.05, {**_vector("teacher", *_TEACHER), "sigma": 1.0}, _vector("w", 0, 0, 0, 0)),
    "diagonal_network": Setting(
        0.01,
        {**_vector("teacher", *_WIDE), "sigma": 0.5},
        {**_vector("u", *(0.5,) * 16), **_vector("w", *(0.25,) * 16)},
    ),
    "logistic": Setting(0.1, {**_vector("teacher", *_TEACHER), "sigma": 1.0}, _vector("w", 0, 0, 0, 0)),
    "permutation": Setting(0.05, {"mu": 1.0, "sigma": 0.5}, {"u": 0.2, "w": 0.8}),
    "relu_network": Setting(0.05, {"slope": 1.0, "sigma": 0.5}, {"a": 0.5, "w": 0.8, "b": 0.1}),
}
# Variants of ours alone: with a polynomial in place of the loss's function, and with a recorder on.
VARIANTS = {"rescaling": ("recording",), "logistic": ("polynomial",), "permutation": ("polynomial", "recording")}


def loss_job(model: str, trajectories: int, steps: int) -> Job:
    """An ensemble of one of the losses."""
    setting = SETTINGS[model]
    return Job(trajectories, steps, model, setting.learning_rate, setting.constants, setting.initial)
