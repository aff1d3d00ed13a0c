"""The jobs of the second table: constants, start, noise and optimizer of each, by the name of its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.jobs import Job
from sgdsim.formulas.vectors import coordinates


@dataclass(frozen=True)
class Setting:
    """Settings of a job, without its size.

    Parameters
    ----------
    learning_rate, constants, initial
        As in `Job`.
    noise
        Standard normals of a sample: how many coordinates by name, 0 for a scalar.
    batch_size
        Rows of `ROWS` in a batch, each trajectory in an order of its own that is new every epoch; 0 where samples are
        drawn from the noise.
    samples
        Drawn from the noise for each step; those of a batch are the last coordinates of each variable.
    optimizer
        As `sgdsim.Optimizer` names it, with its defaults.
    """

    learning_rate: float
    constants: Mapping[str, float]
    initial: Mapping[str, float]
    noise: Mapping[str, int] = field(default_factory=lambda: {"x": 0, "e": 0})
    batch_size: int = 0
    optimizer: str = "sgd"
    samples: int = 1

    @property
    def deviates(self) -> int:
        """Normals of a step."""
        return self.samples * sum(max(length, 1) for length in self.noise.values())

    def noise_shapes(self, trajectories: int) -> dict[str, tuple[int, ...]]:
        """Shape of each noise variable: (coordinate, sample of the batch, trajectory)."""
        several = (self.samples,) * (self.samples > 1)
        return {name: (*((length,) if length else ()), *several, trajectories) for name, length in self.noise.items()}


def _vector(name: str, *values: float) -> dict[str, float]:
    return dict(zip(coordinates(name, len(values)), values, strict=True))


def _layer(name: str, scale: float) -> dict[str, float]:
    """A 4 x 4 matrix by rows, near the identity but with no two entries alike."""
    return _vector(name, *(scale * ((i % 5 == 0) + 0.02 * (i - 8)) for i in range(16)))


def _matrix(name: str, rows: int, columns: int) -> dict[str, float]:
    """Small numbers, no two alike."""
    n = rows * columns
    values = ((7 * i % n - n / 2) / (2 * n) for i in range(n))
    return dict(zip(coordinates(name, (rows, columns)), values, strict=True))


_TEACHER = 1.0, -0.5, 0.25, 0.75
_WIDE = tuple(1.0 / (i + 1) for i in range(16))
_SMOOTH = tuple(0.5 / (i + 1) for i in range(8))
# Inputs and hidden units of linear networks of 40 to 480 parameters, whose time is held against their operations.
SIZES = (4, 5), (7, 7), (11, 11), (16, 15)
_RIVER = {"a0": 1.0, "k": 0.5, "c2": 0.1, "sigma": 1.0}

SETTINGS = {
    "rescaling": Setting(0.05, {"slope": 1.0, "sigma": 0.5}, {"u": 0.5, "w": 1.5}),
    "linear_regression": Setting(
        0.05, {**_vector("teacher", *_TEACHER), "sigma": 1.0}, _vector("w", 0, 0, 0, 0), {"x": 4, "e": 0}
    ),
    "diagonal_network": Setting(
        0.01,
        {**_vector("teacher", *_WIDE), "sigma": 0.5},
        {**_vector("u", *(0.5,) * 16), **_vector("w", *(0.25,) * 16)},
        {"x": 16, "e": 0},
    ),
    "two_layer_network": Setting(
        0.02,
        {**_vector("teacher", *_TEACHER), "sigma": 0.5},
        {**_layer("u", 0.5), **_layer("w", 0.7)},
        {"x": 4, "e": 4},
    ),
    "deep_linear_network": Setting(
        0.02,
        {"sigma": 0.5},
        {**_matrix("W1", 8, 4), **_matrix("W2", 8, 8), **_matrix("W3", 4, 8)},
        {"x": 4, "e": 4},
    ),
    **{
        f"tanh_network{name}": Setting(
            0.02,
            {**_vector("teacher", *_SMOOTH), "sigma": 0.3},
            {**_matrix("W1", 16, 8), **_matrix("W2", 1, 16)},
            {"x": 8, "e": 0},
            samples=samples,
        )
        for name, samples in (("", 1), ("_batch", 8))
    },
    **{
        f"linear_network_{2 * n * hidden}": Setting(
            0.02, {"sigma": 0.5}, {**_matrix("W1", hidden, n), **_matrix("W2", n, hidden)}, {"x": n, "e": n}
        )
        for n, hidden in SIZES
    },
    "adam_river_valley": Setting(0.02, _RIVER, {"x": 0.5, "y": 1.0}, {"xi": 0}, optimizer="adam"),
    "minibatches": Setting(0.05, {}, _vector("w", 0, 0, 0, 0), {}, batch_size=4),
    "logistic": Setting(
        0.1, {**_vector("teacher", *_TEACHER), "sigma": 1.0}, _vector("w", 0, 0, 0, 0), {"x": 4, "e": 0}
    ),
    "permutation": Setting(0.05, {"mu": 1.0, "sigma": 0.5}, {"u": 0.2, "w": 0.8}),
    "relu_network": Setting(0.05, {"slope": 1.0, "sigma": 0.5}, {"a": 0.5, "w": 0.8, "b": 0.1}),
}
LINEAR_NETWORKS = tuple(model for model in SETTINGS if model.startswith("linear_network_"))
# Variants of ours alone: with a polynomial in place of the loss's function, and with a recorder on.
VARIANTS = {
    "rescaling": ("recording",),
    "logistic": ("polynomial",),
    "permutation": ("polynomial", "recording"),
}

ROWS = 64  # of the data set that minibatches are taken from
# As PyTorch and sgdsim have them.
ADAM = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}


def data() -> tuple[np.ndarray, np.ndarray]:
    """Inputs (row, coordinate) and labels (row,) of the data set."""
    rng = np.random.default_rng(64)
    x = rng.standard_normal((ROWS, len(_TEACHER)))
    return x, x @ np.array(_TEACHER) + rng.standard_normal(ROWS)


def loss_job(model: str, trajectories: int, steps: int) -> Job:
    """An ensemble of one of the losses; minibatches need whole epochs of steps."""
    setting = SETTINGS[model]
    if setting.batch_size and steps * setting.batch_size % ROWS:
        raise ValueError(f"{model}: {steps} steps, expected a multiple of {ROWS // setting.batch_size}")
    return Job(trajectories, steps, model, setting.learning_rate, setting.constants, setting.initial)
