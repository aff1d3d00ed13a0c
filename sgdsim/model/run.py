"""A run: everything that the numbers of one ensemble depend on, and nothing of how they are computed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sgdsim.base.errors import InputError, unknown_name
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import aliased
from sgdsim.formulas.vectors import base_name
from sgdsim.model.loss import Loss
from sgdsim.model.observables import STEP_NAMES, Observable, control_for
from sgdsim.model.optimizers import Matrix, Optimizer
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Grid, Start, Stored, describe_stored
from sgdsim.model.symmetry import Symmetry

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
class Plane:
    """Equal bins of two quantities together.

    Parameters
    ----------
    first, second
        Bins of each.
    """

    first: Histogram
    second: Histogram


def binned(numbers: Sequence[float], where: str = "histogram") -> Histogram | Plane:
    """Bins of one quantity from low, high and how many; of two from twice as many numbers.

    Raises
    ------
    InputError
        For other than three or six numbers, and bounds that are not increasing.

    Examples
    --------
    >>> binned([-1, 1, 20])
    Histogram(low=-1, high=1, bins=20)
    """
    if len(numbers) == 6:
        return Plane(_histogram(numbers[:3], where), _histogram(numbers[3:], where))
    return _histogram(numbers, where)


def _histogram(numbers: Sequence[float], where: str) -> Histogram:
    if len(numbers) != 3 or not numbers[0] < numbers[1] or not numbers[2] >= 1 or numbers[2] % 1:
        raise InputError(f"{where}: {list(numbers)}, expected [low, high, bins], low < high, a whole number of bins")
    return Histogram(numbers[0], numbers[1], int(numbers[2]))


@dataclass(frozen=True)
class Drift:
    """The first two conditional moments of the change per step of one quantity, binned by its own or another's value.

    Parameters
    ----------
    by
        What is binned, before the step.
    bins
        Its bins.
    every, start
        Every so many steps are looked at, from this number of completed steps on.
    """

    by: str
    bins: Histogram
    every: int = 1
    start: int = 0


@dataclass(frozen=True)
class Autocorrelation:
    """Of the values after `start` steps and after so many more.

    Parameters
    ----------
    start
        Completed steps at the first of both.
    lags
        Steps between them.
    """

    start: int
    lags: tuple[int, ...]


@dataclass(frozen=True)
class Recorder:
    """How a run is measured.

    Parameters
    ----------
    every
        Record moments and histograms every so many steps; steps 0 and the last are always recorded. None: only those.
    snapshots
        Steps after which the parameters are kept.
    observables
        Measured beside the parameters.
    histograms
        Bins, by the name of a parameter or observable; of two names ``u,w`` together, a `Plane`.
    snapshot_trajectories
        Of how many trajectories, the first ones, snapshots are kept; None for all.
    quantiles
        Probabilities of the quantiles that are read off each histogram.
    covariances
        Whether the covariances of all parameters are recorded.
    autocorrelations, drifts
        By the name of a parameter or plain observable.
    controls
        Parameters and plain observables of which a control is summed along each trajectory; see
        `sgdsim.kernels.control_step`.
    """

    every: int | None = None
    snapshots: tuple[int, ...] = ()
    observables: tuple[Observable, ...] = ()
    histograms: Mapping[str, Histogram | Plane] = field(default_factory=dict)
    snapshot_trajectories: int | None = None
    quantiles: tuple[float, ...] = ()
    covariances: bool = False
    autocorrelations: Mapping[str, Autocorrelation] = field(default_factory=dict)
    drifts: Mapping[str, Drift] = field(default_factory=dict)
    controls: tuple[str, ...] = ()

    def record_steps(self, steps: int) -> np.ndarray:
        """Completed steps at which moments are taken, sorted, int64."""
        lagged = [one.start + lag for one in self.autocorrelations.values() for lag in one.lags]
        return np.unique([*range(0, steps + 1, self.every or max(steps, 1)), 0, steps, *lagged]).astype(np.int64)

    @property
    def all_observables(self) -> tuple[Observable, ...]:
        """The user's, the values that autocorrelations look back to, and the controls."""
        plain = {observable.name: observable.formula for observable in self.observables}
        earlier = (
            Observable(_earlier(name, one.start), plain.get(name, name), (one.start - 1, one.start), "value")
            for name, one in self.autocorrelations.items()
        )
        return (*self.observables, *earlier, *(control_for(name, plain.get(name, name)) for name in self.controls))

    def pairs(self, parameters: Sequence[str]) -> list[tuple[str, str]]:
        """Which of the measured quantities are correlated with which at every record."""
        covariances = list(itertools.combinations(parameters, 2)) if self.covariances else []
        earlier = [(name, _earlier(name, one.start)) for name, one in self.autocorrelations.items()]
        return covariances + earlier + [(name, control_for(name, name).name) for name in self.controls]

    def merge(self, other: Recorder) -> Recorder:
        """Everything of this one, with the snapshots, observables and histograms of another.

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
        return replace(
            self,
            snapshots=tuple(sorted({*self.snapshots, *other.snapshots})),
            observables=tuple(mine.values()),
            histograms={**other.histograms, **self.histograms},
        )

    def describe(self) -> dict[str, Any]:
        """As the ``[record]`` table of a scenario."""
        return {
            "every": self.every,
            "snapshots": list(self.snapshots),
            "snapshot_trajectories": self.snapshot_trajectories,
            "observables": {observable.name: str(observable) for observable in self.observables},
            "histograms": {name: _numbers(bins) for name, bins in self.histograms.items()},
            "quantiles": list(self.quantiles),
            "covariances": self.covariances,
            "controls": list(self.controls),
            "autocorrelation": {
                name: {"from": one.start, "lags": list(one.lags)} for name, one in self.autocorrelations.items()
            },
            "drift": {
                name: {"by": one.by, "bins": _numbers(one.bins), "every": one.every, "from": one.start}
                for name, one in self.drifts.items()
            },
        }


def _earlier(name: str, step: int) -> str:
    """What the value of an observable after so many steps is called."""
    label = re.sub(r"\W+", "_", name).strip("_")
    return f"{label}_at_{step}"


def _numbers(bins: Histogram | Plane) -> list[float]:
    if isinstance(bins, Plane):
        return [*_numbers(bins.first), *_numbers(bins.second)]
    return [bins.low, bins.high, bins.bins]


@dataclass(frozen=True)
class Run:
    """One ensemble of independent SGD trajectories.

    Parameters
    ----------
    loss, optimizer, schedule
        The dynamics.
    initial
        A number, a distribution, a grid or stored values for each parameter.
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
    antithetic
        Whether trajectories come in pairs, 2i and 2i + 1, of which the second takes the mirrored noise of the first.

    Raises
    ------
    InputError
        For a count that is not positive, a seed beyond 64 bits, an initial value that is missing or of an unknown
        parameter, an unknown name in an observable or histogram, a snapshot or window beyond the run, or a trajectory
        without its mirror image.
    """

    loss: Loss
    optimizer: Optimizer
    schedule: Schedule
    initial: Mapping[str, Start]
    trajectories: int
    steps: int
    seed: int = 0
    recorder: Recorder = field(default_factory=Recorder)
    dtype: str = "float64"
    noise_dtype: str = "float32"
    antithetic: bool = False

    def __post_init__(self) -> None:
        grids = {n: start.over(self.trajectories) for n, start in self.initial.items() if isinstance(start, Grid)}
        object.__setattr__(self, "initial", {**self.initial, **grids})
        # c0 counts groups of steps in 32 bits, c1 and c2 trajectories in 40.
        _within("run.trajectories", self.trajectories, 1, 2**40)
        _within("run.steps", self.steps, 1, 2**32)
        _within("run.seed", self.seed, 0, 2**64 - 1)
        if self.antithetic and self.trajectories % 2:
            raise InputError(f"run.trajectories: {self.trajectories}, expected an even number with run.antithetic")
        for key in ("dtype", "noise_dtype"):
            if getattr(self, key) not in DTYPES:
                raise InputError(f"run.{key}: {unknown_name('dtype', getattr(self, key), DTYPES)}")
        self._check_initial()
        for name, autocorrelation in self.recorder.autocorrelations.items():
            _within(f"record.autocorrelation.{name}.from", autocorrelation.start, 0, self.steps)
        self._check_recorder()
        self.schedule.rates(self.steps)
        if self.loss.data is not None and self.optimizer.sampling != "replacement":
            _within("optimizer.batch_size", self.optimizer.batch_size, 1, self.loss.data.rows)
        if self.loss.data is not None and self.dtype == "float32":
            for name, values in self.loss.data.columns.items():
                if max(map(abs, values)) > np.finfo(np.float32).max:
                    raise InputError(f"loss.data.{name}: has {max(values, key=abs)}, which float32 cannot hold")
        if self.loss.data is None and self.optimizer.sampling != "replacement":
            raise InputError(
                f"optimizer.sampling: {self.optimizer.sampling!r}, expected only with a data set, loss.data"
            )
        if self.optimizer.preconditioner or self.optimizer.metric:
            self.optimizer.matrix(self.loss)

    def _check_initial(self) -> None:
        for name, start in self.initial.items():
            if name not in self.loss.parameters:
                raise InputError(f"run.initial.{name}: {unknown_name('parameter', name, self.loss.parameters)}")
            if isinstance(start, float | int) and not np.isfinite(start):
                raise InputError(f"run.initial.{name}: {start} is not finite")
        missing = [name for name in self.loss.parameters if name not in self.initial]
        if missing:
            raise InputError(f"run.initial: no initial value for {', '.join(missing)}")

    def _check_recorder(self) -> None:
        recorder = self.recorder
        if recorder.every is not None:
            _within("record.every", recorder.every, 1, 2**32)
        if recorder.snapshot_trajectories is not None:
            _within("record.snapshot_trajectories", recorder.snapshot_trajectories, 1, self.trajectories)
        for step in recorder.snapshots:
            _within("record.snapshots", step, 0, self.steps)
        for name in recorder.controls:
            self._check_plain("record.controls", name)
        taken = {*self.loss.namespace_names, *self.loss.quantities}
        for observable in recorder.all_observables:
            if observable.name in taken:
                raise InputError(
                    f"record.observables.{observable.name}: the name is already taken by the loss or another observable"
                )
            taken.add(observable.name)
            self._check_observable(observable)
        self._check_statistics()

    def _check_statistics(self) -> None:
        recorder = self.recorder
        for name, bins in recorder.histograms.items():
            if isinstance(bins, Plane) != (name.count(",") == 1):
                raise InputError(f"record.histograms.{name}: expected low, high and bins of each name, u or u,w")
            for part in name.split(",") if isinstance(bins, Plane) else [name]:
                check_measured(f"record.histograms.{name}", part, self.measured)
        if recorder.quantiles and not any(isinstance(bins, Histogram) for bins in recorder.histograms.values()):
            raise InputError("record.quantiles: are read off histograms, of which there are none")
        for probability in recorder.quantiles:
            if not 0 < probability < 1:
                raise InputError(f"record.quantiles: {probability}, expected probabilities between 0 and 1")
        for name, autocorrelation in recorder.autocorrelations.items():
            where = f"record.autocorrelation.{name}"
            self._check_plain(where, name)
            for lag in autocorrelation.lags:
                _within(f"{where}.lags", lag, 0, self.steps - autocorrelation.start)
        for name, drift in recorder.drifts.items():
            where = f"record.drift.{name}"
            self._check_plain(where, name)
            self._check_plain(f"{where}.by", drift.by)
            _within(f"{where}.every", drift.every, 1, 2**32)
            _within(f"{where}.from", drift.start, 0, self.steps - 1)

    def _check_observable(self, observable: Observable) -> None:
        where, loss = f"record.observables.{observable.name}", self.loss
        known = (loss.namespace_names | loss.quantities) - loss.varying
        if observable.kind in ("mean", "sum"):
            bases = {base_name(name) for name in loss.parameters}
            of_step = {f"next__{name}" for name in known} | {f"gradient__{name}" for name in bases}
            known = known | of_step | loss.varying | STEP_NAMES
        Formula.parse(aliased(observable.formula), where=where).require(known)
        noise = observable.names & loss.varying
        if noise and self.optimizer.rule.population:
            raise InputError(f"{where}: {self.optimizer.name} draws no {', '.join(sorted(noise))}")
        if noise and self.optimizer.batch_size > 1:
            raise InputError(
                f"{where}: {', '.join(sorted(noise))} differs between the {self.optimizer.batch_size} samples of a "
                "step, expected the noise of single samples, or gradient(u)"
            )
        if observable.window and observable.window[1] > self.steps:
            raise InputError(f"{where}: the window ends at step {observable.window[1]}, the run at {self.steps}")

    def _check_plain(self, where: str, name: str) -> None:
        check_measured(where, name, self.measured)
        if any(observable.name == name and observable.is_running for observable in self.recorder.observables):
            raise InputError(f"{where}: {name} runs along each trajectory, expected a parameter or plain observable")

    def describe(self) -> dict[str, Any]:
        """As the tables of a scenario, with the loss spelled out as a formula."""
        loss, optimizer = self.loss, self.optimizer
        starts = [start for start in self.initial.values() if isinstance(start, Stored)]
        return {
            "loss": {
                "name": loss.name,
                "formula": loss.formula,
                "constants": dict(loss.constants),
                "parameters": {name: _plain(start) for name, start in self.initial_items()},
                "noise": {name: str(noise) for name, noise in loss.noise.items()},
                "define": {n: d if isinstance(d, str) else list(d) for n, d in loss.definitions.items()},
                "symmetry": [_symmetry(symmetry) for symmetry in loss.symmetries],
                "data": None if loss.data is None else {n: list(v) for n, v in loss.data.columns.items()},
            },
            "optimizer": {
                "name": optimizer.name,
                "learning_rate": self.schedule.text if self.schedule.table is None else list(self.schedule.table),
                "batch_size": optimizer.batch_size,
                "sampling": optimizer.sampling,
                "preconditioner": _rows(optimizer.preconditioner),
                "metric": _rows(optimizer.metric),
                **optimizer.values,
            },
            "run": {
                "trajectories": self.trajectories,
                "steps": self.steps,
                "seed": self.seed,
                "dtype": self.dtype,
                "noise_dtype": self.noise_dtype,
                "antithetic": self.antithetic,
                "from": describe_stored(starts) if starts else None,
            },
            "record": self.recorder.describe(),
        }

    @property
    def may_be_undefined(self) -> bool:
        """Whether a step may make something else than a number of numbers that are not too large."""
        return self.loss.is_partial or bool(self.optimizer.preconditioner or self.optimizer.metric)

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of all that is measured: the parameters, then the observables."""
        return (*self.loss.parameters, *(observable.name for observable in self.recorder.all_observables))

    def initial_items(self) -> list[tuple[str, Start]]:
        """Initial values in the loss's order."""
        return [(name, self.initial[name]) for name in self.loss.parameters]


def check_measured(where: str, name: str, measured: Iterable[str]) -> None:
    """Refuse the name of what is not measured.

    Raises
    ------
    InputError
        With a near match.

    Examples
    --------
    >>> check_measured("record.histograms.x", "x", ["x", "y"])
    """
    if name not in measured:
        raise InputError(f"{where}: {unknown_name('observable', name, measured)}")


def _symmetry(symmetry: Symmetry) -> dict[str, Any]:
    return {
        "name": symmetry.name,
        ("generator" if symmetry.generator else "image"): dict(symmetry.generator or symmetry.image),
    }


def _rows(matrix: Matrix) -> list[Any] | None:
    return [row if isinstance(row, str) else list(row) for row in matrix] or None


def _plain(start: Start) -> float | str:
    """As it is written; what comes from a file is said elsewhere."""
    return 0.0 if isinstance(start, Stored) else start if isinstance(start, float | int) else str(start)


def _within(where: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InputError(f"{where}: {value}, expected an integer from {low} to {high}")
