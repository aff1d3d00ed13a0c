"""A run: everything that the numbers of one ensemble depend on, and nothing of how they are computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sgdsim.errors import InputError, unknown_name
from sgdsim.formula import Formula
from sgdsim.loss import Loss
from sgdsim.noise import Noise
from sgdsim.observables import Observable
from sgdsim.optimizers import Optimizer
from sgdsim.schedules import Schedule
from sgdsim.vectors import base_name

DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class Histogram:
    """Equal bins from low (included) to high (excluded), with counts of what falls outside.

    Raises
    ------
    InputError
        For bounds that are not finite and increasing, or no bins.
    """

    low: float
    high: float
    bins: int

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high and self.bins >= 1):
            raise InputError(f"histogram {[self.low, self.high, self.bins]}: expected [low, high, bins], low < high")

    @property
    def edges(self) -> np.ndarray:
        """Bin edges, shape (bins + 1,)."""
        return np.linspace(self.low, self.high, self.bins + 1)


@dataclass(frozen=True)
class Recorder:
    """How a run is measured.

    Parameters
    ----------
    every
        Record moments and histograms every so many steps; steps 0 and the last are always recorded. None: only those.
    snapshots
        Steps after which the parameters of all trajectories are kept.
    observables
        Measured beside the parameters.
    histograms
        Bins, by the name of a parameter or observable.
    """

    every: int | None = None
    snapshots: tuple[int, ...] = ()
    observables: tuple[Observable, ...] = ()
    histograms: Mapping[str, Histogram] = field(default_factory=dict)

    def record_steps(self, steps: int) -> np.ndarray:
        """Completed steps at which moments are taken, sorted, int64."""
        return np.union1d(np.arange(0, steps + 1, self.every or max(steps, 1)), [0, steps]).astype(np.int64)

    def merge(self, other: Recorder) -> Recorder:
        """All that either records, at this one's cadence.

        Raises
        ------
        InputError
            Where both have an observable of one name with different formulas.
        """
        mine = {observable.name: observable for observable in self.observables}
        for observable in other.observables:
            if mine.setdefault(observable.name, observable) != observable:
                raise InputError(
                    f"record.observables.{observable.name}: a prediction needs this name for {str(observable)!r}; "
                    "choose another"
                )
        snapshots = tuple(sorted({*self.snapshots, *other.snapshots}))
        return Recorder(self.every, snapshots, tuple(mine.values()), {**other.histograms, **self.histograms})

    def describe(self) -> dict[str, Any]:
        """As the ``[record]`` table of a scenario."""
        return {
            "every": self.every,
            "snapshots": list(self.snapshots),
            "observables": {observable.name: str(observable) for observable in self.observables},
            "histograms": {name: [h.low, h.high, h.bins] for name, h in self.histograms.items()},
        }


@dataclass(frozen=True)
class Run:
    """One ensemble of independent SGD trajectories.

    Parameters
    ----------
    loss, optimizer, schedule
        The dynamics.
    initial
        A number or a distribution for each parameter.
    trajectories, steps
        How many, and how long.
    seed
        64 bits.
    recorder
        What is measured, and when.
    dtype
        Of the state: ``float64`` or ``float32``.
    noise_dtype
        Of the standard deviates: float32 normals reach 6.76 sigma.

    Raises
    ------
    InputError
        For a count that is not positive, a seed beyond 64 bits, an initial value that is missing or of an unknown
        parameter, an unknown name in an observable or histogram, or a snapshot or window beyond the run.
    """

    loss: Loss
    optimizer: Optimizer
    schedule: Schedule
    initial: Mapping[str, float | Noise]
    trajectories: int
    steps: int
    seed: int = 0
    recorder: Recorder = field(default_factory=Recorder)
    dtype: str = "float64"
    noise_dtype: str = "float32"

    def __post_init__(self) -> None:
        # c0 counts groups of steps in 32 bits, c1 and c2 trajectories in 40.
        _within("run.trajectories", self.trajectories, 1, 2**40)
        _within("run.steps", self.steps, 1, 2**32)
        _within("run.seed", self.seed, 0, 2**64 - 1)
        for key in ("dtype", "noise_dtype"):
            if getattr(self, key) not in DTYPES:
                raise InputError(f"run.{key}: {unknown_name('dtype', getattr(self, key), DTYPES)}")
        self._check_initial()
        self._check_recorder()
        self.schedule.rates(self.steps)

    def _check_initial(self) -> None:
        for name, start in self.initial.items():
            if name not in self.loss.parameters:
                raise InputError(f"run.initial.{name}: {unknown_name('parameter', name, self.loss.parameters)}")
            if not isinstance(start, Noise) and not np.isfinite(start):
                raise InputError(f"run.initial.{name}: {start} is not finite")
        missing = [name for name in self.loss.parameters if name not in self.initial]
        if missing:
            raise InputError(f"run.initial: no initial value for {', '.join(missing)}")

    def _check_recorder(self) -> None:
        recorder = self.recorder
        if recorder.every is not None:
            _within("record.every", recorder.every, 1, 2**32)
        for step in recorder.snapshots:
            _within("record.snapshots", step, 0, self.steps)
        known = {base_name(name) for name in (*self.loss.parameters, *self.loss.constants, *self.loss.definitions)}
        taken = {*known, *(base_name(name) for name in self.loss.noise), "loss"}
        for observable in recorder.observables:
            where = f"record.observables.{observable.name}"
            if observable.name in taken:
                raise InputError(f"{where}: the name is already taken by the loss or another observable")
            taken.add(observable.name)
            Formula.parse(observable.formula, where=where).require({*known, "loss"})
            if observable.window and observable.window[1] > self.steps:
                raise InputError(f"{where}: the window ends at step {observable.window[1]}, the run at {self.steps}")
        for name in recorder.histograms:
            if name not in self.measured:
                raise InputError(f"record.histograms.{name}: {unknown_name('observable', name, self.measured)}")

    def describe(self) -> dict[str, Any]:
        """As the tables of a scenario, with the loss spelled out as a formula."""
        loss, optimizer = self.loss, self.optimizer
        return {
            "loss": {
                "name": loss.name,
                "formula": loss.formula,
                "constants": dict(loss.constants),
                "parameters": {name: _plain(start) for name, start in self.initial.items()},
                "noise": {name: str(noise) for name, noise in loss.noise.items()},
                "define": {n: d if isinstance(d, str) else list(d) for n, d in loss.definitions.items()},
                "symmetry": [{"name": s.name, "generator": dict(s.generator)} for s in loss.symmetries],
            },
            "optimizer": {
                "name": optimizer.name,
                "learning_rate": self.schedule.text,
                "batch_size": optimizer.batch_size,
                **optimizer.values,
            },
            "run": {
                "trajectories": self.trajectories,
                "steps": self.steps,
                "seed": self.seed,
                "dtype": self.dtype,
                "noise_dtype": self.noise_dtype,
            },
            "record": self.recorder.describe(),
        }

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of all that is measured: the parameters, then the observables."""
        return (*self.loss.parameters, *(observable.name for observable in self.recorder.observables))

    @property
    def initial_values(self) -> Iterable[float | Noise]:
        """Initial values in the loss's order."""
        return [self.initial[name] for name in self.loss.parameters]


def _plain(start: float | Noise) -> float | str:
    return str(start) if isinstance(start, Noise) else start


def _within(where: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InputError(f"{where}: {value}, expected an integer from {low} to {high}")
