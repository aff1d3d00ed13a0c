"""A run: everything on which the numbers of one ensemble depend, and nothing about how they are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from sgdsim.base import take
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.base.findings import found
from sgdsim.base.memory import available_memory
from sgdsim.base.problems import Problems, attempt
from sgdsim.formulas.arrays import declared, described
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import STEP_NAMES, aliased, normal_keys, split_names
from sgdsim.formulas.vectors import base_name
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.observables import STOPPED, Observable, bound
from sgdsim.model.optimizers import Matrix, Optimizer
from sgdsim.model.recorder import Histogram, Plane, Recorder, check_measured
from sgdsim.model.schedules import MOST_STEPS, Schedule
from sgdsim.model.starts import Grid, Listed, Start, Stored, by_parameter, describe_stored
from sgdsim.model.symmetry import Symmetry

__all__ = ["DTYPES", "Histogram", "Recorder", "Run"]  # theory imports those of the recorder from here

DTYPES = ("float64", "float32")

_COUNTED = 2**24
"""Number of steps up to which float32 represents every whole number."""

_BYTES_A_STEP = 64  # memory for each step: of the schedule, with temporary arrays, and of the recorded steps
# Bytes that every machine has, so that the free memory need not be looked up: that takes 0.1 ms, a run of a sweep 0.2.
_LITTLE = 64_000_000


@dataclass(frozen=True)
class Run:
    """Description of one ensemble of independent SGD trajectories.

    Parameters
    ----------
    loss, optimizer, schedule
        The loss, the optimizer and the schedule of the learning rate.
    initial
        Start of each parameter: a number, a distribution, a grid, a value for each trajectory, or the end of another
        run. A variable of the optimizer may have a start, too, as ``square(u)``; else it starts at zero.
    trajectories, steps
        Number of trajectories, and number of steps of each.
    seed
        Seed of all random numbers, a whole number below 2**64.
    recorder
        Description of what is measured, and when.
    dtype
        Number type of the parameters: ``float64`` or ``float32``.
    noise_dtype
        Number type of the random numbers. Normal numbers in ``float32`` are at most 6.76 standard deviations.
    antithetic
        True if trajectories come in pairs, 2i and 2i + 1, the second with the mirrored noise of the first.
    stop
        Bounds such as ``x > 1``: a trajectory ends at the first that it passes, and keeps its state.
    optimizer_start
        Starts of the optimizer's variables by coordinate, ``square(w[0])``; they may be given here or in `initial`.

    Raises
    ------
    InputError
        For a count that is not positive, a seed beyond 64 bits, an initial value that is missing or of an unknown
        parameter, an unknown name in an observable or histogram, a snapshot or window beyond the run, or a trajectory
        without its mirror image.

    Examples
    --------
    >>> from sgdsim.model.losses import CATALOGUE
    >>> start = {"x": Noise.parse("normal:0,2")}
    >>> run = Run(CATALOGUE["double_well"](), Optimizer(), Schedule("0.1"), start, 1000, 50, stop=("x > 9",))
    >>> run.measured, [one.name for one in run.observables], len(run.bounds)
    (('x', 'stopped_at', 'stopped_by'), ['stopped_at', 'stopped_by'], 1)
    >>> run.initial_items() == list(run.starts.items()), run.may_be_undefined, len(list(run.code))
    (True, False, 4)
    >>> run.describe()["optimizer"]["learning_rate"]
    '0.1'
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
    stop: tuple[str, ...] = ()
    optimizer_start: Mapping[str, Start] = field(default_factory=dict)

    def __post_init__(self) -> None:
        take.settle(
            self,
            "run",
            loss=take.of_kind(Loss, "a Loss"),
            optimizer=take.of_kind(Optimizer, "an Optimizer"),
            schedule=take.of_kind(Schedule, "a Schedule, such as Schedule('0.1')"),
            initial=take.by_name(_starts),
            trajectories=take.whole,
            steps=take.whole,
            seed=take.whole,
            recorder=take.of_kind(Recorder, "a Recorder"),
            dtype=_dtype_name,
            noise_dtype=_dtype_name,
            antithetic=take.flag,
            stop=take.each(take.text),
            optimizer_start=take.by_name(_start),
        )
        if any(self.loss.shapes.values()):
            object.__setattr__(self, "recorder", self.recorder.written_out(self.loss.words))
        starts = normal_keys({**self.initial, **self.optimizer_start}, "run.initial")
        starts = take.by_name(_start)(by_parameter(starts, self.loss.parameters), "run.initial")
        starts |= {n: start.over(self.trajectories) for n, start in starts.items() if isinstance(start, Grid)}
        object.__setattr__(self, "initial", {n: start for n, start in starts.items() if "(" not in n})
        others = {n: start for n, start in starts.items() if "(" in n}
        object.__setattr__(self, "optimizer_start", self._by_coordinate(others))
        problems: list[str] = []
        fits = attempt(problems, self._check_steps)
        checks = [*self._checks(), *(self._checks_of_steps() if fits else ())]
        for check in checks:
            attempt(problems, check)
        if problems:
            raise Problems(list(dict.fromkeys(problems)))

    def _check_steps(self) -> bool:
        """True; refuse a number of steps that is beyond the counter, or whose schedule does not fit into memory."""
        required = _BYTES_A_STEP * self.steps
        if required > _LITTLE and required > (available := available_memory()):
            text = f"{required / 1e9:.3g} GB of memory, this machine has {available / 1e9:.3g} to spare"
            raise InputError(f"run.steps: {self.steps} steps take {text}")
        _within("run.steps", self.steps, 1, MOST_STEPS)
        return True

    @property
    def code(self) -> Iterator[Callable[..., Any]]:
        """Functions of the distributions in the run, on which its mathematics depends; users may have added some."""
        yield from self.loss.code
        yield from (one for start in self.initial.values() if isinstance(start, Noise) for one in start.code)

    def _by_coordinate(self, starts: Mapping[str, Start]) -> dict[str, Start]:
        """Starts of the optimizer's variables by coordinate; a start of a vector holds for each coordinate."""
        found: dict[str, Start] = {}
        for name, start in starts.items():
            variable, _, key = name.partition("(")
            key = key.removesuffix(")").strip()
            keys = [one for one in self.loss.parameters if key in (one, base_name(one))]
            whole = keys and name.rstrip().endswith(")")
            found |= {f"{variable.strip()}({one})": start for one in keys} if whole else {name: start}
        return found

    @property
    def starts(self) -> dict[str, Start]:
        """All starts by name: of parameters, of the optimizer's variables (``square.w[0]``), of drawn constants."""
        of_optimizer = {f"{n.replace('(', '.', 1)[:-1]}": start for n, start in self.optimizer_start.items()}
        number = self.trajectories
        drawn = {n: start.over(number) if isinstance(start, Grid) else start for n, start in self.loss.drawn.items()}
        return {**dict(self.initial_items()), **of_optimizer, **drawn}

    def _checks(self) -> Iterator[Callable[[], object]]:
        """Checks that do not depend on the number of steps."""
        yield partial(_within, "run.trajectories", self.trajectories, 1, 2**40)  # the bits of c1 and c2
        yield partial(_within, "run.seed", self.seed, 0, 2**64 - 1)
        yield self._check_pairs
        yield partial(_check_dtype, "dtype", self.dtype)
        yield partial(_check_dtype, "noise_dtype", self.noise_dtype)
        yield from (partial(self._check_start, name, start) for name, start in self.initial.items())
        yield from (partial(self._check_start, name, start) for name, start in self.optimizer_start.items())
        for table, starts in (
            ("run.initial", {**self.initial, **self.optimizer_start}),
            ("loss.constants", self.loss.drawn),
        ):
            yield partial(self._check_lengths, table, starts)
        yield self._check_all_start
        yield from self._checks_of_recorder()
        yield self._check_sampling
        yield self._check_data
        yield self._check_stop
        yield self._check_matrix
        yield self._check_whole_matrices
        yield self._check_states

    @property
    def bounds(self) -> tuple[Observable, ...]:
        """First passages at which trajectories end."""
        return tuple(map(bound, self.stop))

    @property
    def observables(self) -> tuple[Observable, ...]:
        """All observables; if trajectories may end early, also the step of the end and the bound that they passed."""
        stopped = tuple(Observable(name, name) for name in STOPPED) if self.stop else ()
        return (*self.recorder.all_observables, *stopped)

    def _check_stop(self) -> None:
        loss, recorder = self.loss, self.recorder
        for one in self.bounds:
            known = (loss.namespace_names | loss.quantities_for(one.names)) - loss.varying
            Formula.parse(aliased(one.formula), where="run.stop").require(known)
        if self.stop and (loss.namespace_names & {*STOPPED}):
            raise InputError(
                f"run.stop: the loss names {', '.join(loss.namespace_names & {*STOPPED})}, expected others"
            )
        if self.stop and recorder.controls:
            raise InputError(
                "record.controls: a control runs to the end, expected none where run.stop ends trajectories"
            )
        if self.stop and recorder.drifts:
            raise InputError("record.drift: counts every step, expected none where run.stop ends trajectories")
        if self.stop and self.dtype == "float32" and self.steps > _COUNTED:
            raise InputError(f"run.stop: float32 counts to {_COUNTED} steps, expected float64 for {self.steps}")

    def _check_pairs(self) -> None:
        if self.antithetic and self.trajectories % 2:
            raise InputError(f"run.trajectories: {self.trajectories}, expected an even number with run.antithetic")

    def _check_start(self, name: str, start: Start) -> None:
        variable, of_optimizer, key = name.partition("(")
        if of_optimizer:
            self._check_optimizer_start(name, variable, key)
        elif name not in self.loss.parameters:
            raise InputError(f"run.initial.{name}: {unknown_name('parameter', name, self.loss.parameters)}")
        if isinstance(start, float | int) and not np.isfinite(start):
            raise InputError(f"run.initial.{name}: {start} is not finite")

    def _check_lengths(self, table: str, starts: Mapping[str, Start]) -> None:
        """Refuse starts for another number of trajectories; one message for a whole vector or matrix."""
        bases = {name: name if "(" in name else base_name(name) for name in starts}
        lengths: dict[str, set[int]] = {}
        for name, start in starts.items():
            length = start.trajectories if isinstance(start, Listed) else self.trajectories
            lengths.setdefault(bases[name], set()).add(length)
        wrong = {
            bases[name] if len(lengths[bases[name]]) == 1 else name: start.trajectories
            for name, start in starts.items()
            if isinstance(start, Listed) and start.trajectories != self.trajectories
        }
        if wrong:
            expected = f"expected {self.trajectories}, one a trajectory"
            raise Problems([f"{table}.{name}: {length} values, {expected}" for name, length in wrong.items()])

    def _check_optimizer_start(self, name: str, variable: str, key: str) -> None:
        rule, where = self.optimizer.rule, f"run.initial.{name}"
        if not key.endswith(")"):
            raise InputError(f"{where}: expected a variable of the optimizer and a parameter, such as square(u)")
        key = key.removesuffix(")").strip()
        if key not in self.loss.parameters:
            raise InputError(f"{where}: {unknown_name('parameter', key, self.loss.parameters)}")
        if variable not in rule.state:
            known = f"known are {', '.join(rule.state)}" if rule.state else "it has none"
            raise InputError(f"{where}: unknown variable {variable!r} of {self.optimizer.name}, {known}")
        if any("t" in Formula.parse(formula).names for _, formula in rule.assignments):
            raise InputError(f"{where}: {self.optimizer.name} starts {variable} with its first gradient, expected none")

    def _check_all_start(self) -> None:
        missing = [name for name in self.loss.parameters if name not in self.initial]
        if missing:
            raise InputError(f"run.initial: no initial value for {', '.join(missing)}")

    def _check_sampling(self) -> None:
        if self.loss.data is None and self.optimizer.sampling != "replacement":
            raise InputError(
                f"optimizer.sampling: {self.optimizer.sampling!r}, expected only with a data set, loss.data"
            )
        if self.loss.data is not None and self.optimizer.sampling != "replacement":
            _within("optimizer.batch_size", self.optimizer.batch_size, 1, self.loss.data.rows)

    def _check_data(self) -> None:
        if isinstance(self.loss.data, Data) and self.dtype == "float32":
            for name, values in self.loss.data.columns.items():
                if max(map(abs, values)) > np.finfo(np.float32).max:
                    raise InputError(f"loss.data.{name}: has {max(values, key=abs)}, which float32 cannot hold")

    def _check_matrix(self) -> None:
        optimizer = self.optimizer
        if rows := optimizer.preconditioner or optimizer.metric:
            question = ["matrix", self.loss.plain, rows, bool(optimizer.metric)]
            found(question, lambda: optimizer.matrix(self.loss) is not None, self.loss.code)

    def _check_whole_matrices(self) -> None:
        """Refuse features that work coordinate by coordinate, if the optimizer steps whole matrices."""
        loss, name = self.loss, self.optimizer.name
        if not self.optimizer.rule.is_of_matrices:
            return
        bases = {base: loss.shapes[base] for base in map(base_name, loss.parameters)}
        if others := {base: shape for base, shape in bases.items() if len(shape) < 2}:
            base, shape = next(iter(others.items()))
            wanted, kind = f"{base}{declared((*shape, 1, 1)[:2])}", described(shape)
            raise InputError(f"optimizer.name: {name} steps matrices, and {base} is {kind}, expected {wanted}")
        given = {
            "optimizer.substeps": self.optimizer.substeps > 1,
            "run.stop": self.stop,
            "record.controls": self.recorder.controls,
            "run.initial": self.optimizer_start,
            "loss.direction": [key for key in loss.direction if "[" in key],
        }
        if wrong := [key for key, value in given.items() if value]:
            expected = {"run.initial": "none of its variables", "loss.direction": "none of one coordinate"}
            raise InputError(f"{wrong[0]}: {name} steps whole matrices, expected {expected.get(wrong[0], 'none')}")

    def _check_states(self) -> None:
        loss = self.loss
        for name, state in loss.states.items():
            where = f"loss.state.{name}"
            self._check_noise(where, loss.reach(Formula.parse(aliased(state.formula)).names))
            start = loss.reach(Formula.parse(state.start).names)
            starts = {**self.initial, **loss.drawn}
            given = [key for key, value in starts.items() if isinstance(value, Grid | Listed)]
            if read := [key for key in given if base_name(key) in start]:
                how = "on a grid" if isinstance(starts[read[0]], Grid) else "from given values"
                raise InputError(f"{where}: start reads {read[0]}, which starts {how}, expected numbers for one")
        continued = any(isinstance(start, Stored) for start in self.initial.values())
        if loss.drawn and continued:
            names = ", ".join(loss.drawn)
            raise InputError(
                f"run.from: has the parameters alone, and not what loss.constants gives a trajectory: {names}"
            )
        if loss.own_columns and continued:
            raise InputError(
                "run.from: has the parameters alone, and not the data that loss.data drew for a trajectory"
            )
        if loss.states and continued:
            names = ", ".join(loss.states)
            raise InputError(f"run.from: has the parameters alone, and nothing of what loss.state remembers: {names}")

    def _check_noise(self, where: str, names: Iterable[str]) -> None:
        """Refuse noise in a formula about a step if the optimizer draws none, or several samples in a step."""
        noise = self.loss.varying.intersection(names)
        if noise and self.optimizer.rule.population:
            raise InputError(f"{where}: {self.optimizer.name} draws no {', '.join(sorted(noise))}")
        if noise and self.optimizer.batch_size > 1:
            raise InputError(
                f"{where}: {', '.join(sorted(noise))} differs between the {self.optimizer.batch_size} samples of a "
                "step, expected the noise of single samples, or gradient(u)"
            )

    def _checks_of_recorder(self) -> Iterator[Callable[[], object]]:
        recorder = self.recorder
        if recorder.every is not None:
            yield partial(_within, "record.every", recorder.every, 1, 2**32)
        if recorder.records is not None:
            yield partial(_within, "record.records", recorder.records, 1, 2**32)
        if recorder.every is not None and recorder.records is not None:
            yield partial(_refuse, f"record.records: {recorder.records}, expected it or record.every, not both")
        if recorder.snapshot_trajectories is not None:
            kept = recorder.snapshot_trajectories
            yield partial(_within, "record.snapshot_trajectories", kept, 1, self.trajectories)
        own = (*self.loss.parameters, *(observable.name for observable in recorder.observables))
        yield from (partial(self._check_plain, "record.controls", name, own) for name in recorder.controls)
        if not {*recorder.controls} <= {*own}:  # nothing can be said of what is recorded
            return
        taken = {*self.loss.namespace_names, *self.loss.quantities}
        for observable in self.observables:
            yield partial(self._check_observable, observable, observable.name in taken)
            taken.add(observable.name)
        yield from (partial(self._check_histogram, name, bins) for name, bins in recorder.histograms.items())
        yield self._check_quantiles
        for name, drift in recorder.drifts.items():
            where = f"record.drift.{name}"
            yield partial(self._check_plain, where, name)
            yield partial(self._check_plain, f"{where}.by", drift.by)
            yield partial(_within, f"{where}.every", drift.every, 1, 2**32)
        for name in recorder.autocorrelations:
            yield partial(self._check_plain, f"record.autocorrelation.{name}", name)

    def _checks_of_steps(self) -> Iterator[Callable[[], object]]:
        """Checks that depend on the number of steps."""
        recorder = self.recorder
        yield partial(self.schedule.rates, self.steps)
        if recorder.records and self.steps % recorder.records:
            problem = f"record.records: {recorder.records} records, but {self.steps} steps, expected a multiple of it"
            yield partial(_refuse, problem)
        yield from (partial(_within, "record.snapshots", step, 0, self.steps) for step in recorder.snapshots)
        yield from (partial(self._check_window, observable) for observable in recorder.all_observables)
        for name, one in recorder.autocorrelations.items():
            where = f"record.autocorrelation.{name}"
            yield partial(_within, f"{where}.from", one.start, 0, self.steps)
            yield from (partial(_within, f"{where}.lags", lag, 0, self.steps - one.start) for lag in one.lags)
        for name, drift in recorder.drifts.items():
            yield partial(_within, f"record.drift.{name}.from", drift.start, 0, self.steps - 1)

    def _check_histogram(self, name: str, bins: Histogram | Plane) -> None:
        if len(split_names(name)) != (2 if isinstance(bins, Plane) else 1):
            raise InputError(f"record.histograms.{name}: expected low, high and bins of each name, u or u,w")
        for part in split_names(name):
            check_measured(f"record.histograms.{name}", part, self.measured)

    def _check_quantiles(self) -> None:
        recorder = self.recorder
        if recorder.quantiles and not any(isinstance(bins, Histogram) for bins in recorder.histograms.values()):
            raise InputError("record.quantiles: are read off histograms, of which there are none")
        for probability in recorder.quantiles:
            if not 0 < probability < 1:
                raise InputError(f"record.quantiles: {probability}, expected probabilities between 0 and 1")

    def _check_window(self, observable: Observable) -> None:
        where = f"record.observables.{observable.name}"
        if observable.window and observable.window[0] < (-1 if observable.kind in ("value", "earlier") else 0):
            raise InputError(f"{where}: the window begins at step {observable.window[0]}, the run at 0")
        if observable.window and observable.window[1] > self.steps:
            raise InputError(f"{where}: the window ends at step {observable.window[1]}, the run at {self.steps}")

    def _check_observable(self, observable: Observable, taken: bool) -> None:
        where, loss = f"record.observables.{observable.name}", self.loss
        if taken:
            raise InputError(f"{where}: the name is already taken by the loss or another observable")
        known = (loss.namespace_names | loss.quantities_for(observable.names)) - loss.varying
        if self.stop and not observable.is_running:
            known = known | {*STOPPED}
        if observable.kind in ("mean", "sum", "max"):
            bases = {base_name(name) for name in loss.parameters}
            of_step = {f"next__{name}" for name in known} | {f"gradient__{name}" for name in bases}
            known = known | of_step | loss.varying | STEP_NAMES
        Formula.parse(aliased(observable.formula), where=where).require(known)
        self._check_noise(where, observable.names)

    def _check_plain(self, where: str, name: str, measured: Sequence[str] = ()) -> None:
        check_measured(where, name, measured or self.measured)
        if any(observable.name == name and observable.is_running for observable in self.recorder.observables):
            raise InputError(f"{where}: {name} runs along each trajectory, expected a parameter or plain observable")

    def describe(self) -> dict[str, Any]:
        """Tables of a scenario that describe the run, with the loss written out as a formula."""
        loss, optimizer = self.loss, self.optimizer
        starts, starts_of_each = [start for start in self.initial.values() if isinstance(start, Stored)], self.starts
        return {
            "loss": {
                "name": loss.name,
                "formula": loss.formula,
                "constants": {**loss.constants, **{name: _plain(starts_of_each[name]) for name in loss.drawn}},
                "parameters": {name: _plain(start) for name, start in self.initial_items()},
                "noise": {name: str(noise) for name, noise in loss.noise.items()},
                "define": {n: d if isinstance(d, str) else list(d) for n, d in loss.definitions.items()},
                "symmetry": [_symmetry(symmetry) for symmetry in loss.symmetries],
                "data": None if loss.data is None else loss.data.describe(),
                "state": {name: str(state) for name, state in loss.states.items()} or None,
                "direction": {n: d if isinstance(d, str) else list(d) for n, d in loss.direction.items()} or None,
            },
            "optimizer": {
                "name": optimizer.name,
                "learning_rate": self.schedule.text if self.schedule.table is None else list(self.schedule.table),
                "batch_size": optimizer.batch_size,
                "substeps": optimizer.substeps if optimizer.substeps > 1 else None,
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
                "stop": list(self.stop) or None,
                "initial": {name: _plain(start) for name, start in self.optimizer_start.items()} or None,
                "from": describe_stored(starts) if starts else None,
            },
            "record": self.recorder.describe(),
        }

    @property
    def may_be_undefined(self) -> bool:
        """True if a step may turn finite numbers into a value that is not a number."""
        return self.loss.is_partial or bool(self.optimizer.preconditioner or self.optimizer.metric)

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of all measured quantities: the parameters, then the observables."""
        return (*self.loss.parameters, *(observable.name for observable in self.observables))

    def initial_items(self) -> list[tuple[str, Start]]:
        """Parameters and their starts, in the order of the loss."""
        return [(name, self.initial[name]) for name in self.loss.parameters]


def _symmetry(symmetry: Symmetry) -> dict[str, Any]:
    return {
        "name": symmetry.name,
        ("generator" if symmetry.generator else "image"): dict(symmetry.generator or symmetry.image),
    }


def _rows(matrix: Matrix) -> list[Any] | None:
    return [row if isinstance(row, str) else list(row) for row in matrix] or None


def _plain(start: Start) -> float | str | dict[str, Any]:
    """Start in its written form; a start from the file of a run is 0 here, as another table describes the file."""
    if isinstance(start, Listed):
        return start.describe()
    return 0.0 if isinstance(start, Stored) else start if isinstance(start, float | int) else str(start)


def _starts(value: Any, where: str) -> Any:
    """A start, or a list or an array of them."""
    return value if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) else _start(value, where)


def _start(value: Any, where: str) -> Start:
    if isinstance(value, Noise | Grid | Listed | Stored):
        return value
    if isinstance(value, list | tuple | np.ndarray) and np.ndim(value):
        return Listed.of(value, where)
    if isinstance(value, float):  # a value that is not finite is reported later, with all other problems
        return float(value)
    found = take.as_number(value)
    if found is None:
        raise take.refused(value, where, "a finite number, a Noise, a Grid, or numbers, one a trajectory")
    return found


def _dtype_name(value: Any, where: str) -> str:
    """Name of a number type, which may be given as NumPy's, ``np.float32``."""
    numpy = isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic))
    if numpy and not isinstance(value, np.dtype) and value not in np.sctypeDict.values():
        # An abstract type such as np.floating is refused: NumPy 2.0 turns it into float64, with a warning.
        raise take.refused(value, where, "one type, such as np.float32")
    return str(np.dtype(value).name) if numpy else take.text(value, where)


def _check_dtype(key: str, name: str) -> None:
    if name not in DTYPES:
        raise InputError(f"run.{key}: {unknown_name('dtype', name, DTYPES)}")


def _refuse(problem: str) -> None:
    raise InputError(problem)


def _within(where: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InputError(f"{where}: {value}, expected an integer from {low} to {high}")
