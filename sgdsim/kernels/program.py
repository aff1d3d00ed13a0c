"""A program: everything that decides the text of a kernel, and the order of what is passed to it at run time.

Numbers that may differ between the points of a sweep (constants, distribution arguments, hyperparameters, learning
rates, windows) are run-time arguments; formulas, batch size, dtype and whatever has its default value, such as no
weight decay, are compiled in.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import aliased
from sgdsim.formulas.vectors import base_name
from sgdsim.kernels.draws import Draws
from sgdsim.model.data import Data, DrawnData
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.population_points import SEARCHED, PopulationPoints, population_points

GROUPS = 64  # number of independent accumulators: tile t adds to group t % GROUPS
_NO_END = 2**62  # a step that no run reaches
SHUFFLED_ROWS = 256  # most rows of data whose order in an epoch is kept for each lane; that of more is hashed


@dataclass(frozen=True)
class Program:
    """All that a kernel is made from.

    Parameters
    ----------
    loss, optimizer
        The dynamics.
    initial
        A number or a distribution for every parameter, in the loss's order, and for those variables of the optimizer
        that do not start at zero, ``square.w[0]``; last for the constants of each trajectory.
    observables
        Observables that are measured beside the parameters.
    dtype, noise_dtype
        Dtypes of the state and of the standard deviates, ``float64`` or ``float32``.
    drifts
        True if any drift is measured; see `plan`. On a GPU that is compiled in.
    antithetic
        True if every second trajectory mirrors the noise of the one before.
    stops
        First passages, at each of which a trajectory ends.
    width
        Number of trajectories of a tile; by default as many as is fastest.
    """

    loss: Loss
    optimizer: Optimizer
    initial: Mapping[str, float | Noise]
    observables: tuple[Observable, ...] = ()
    dtype: str = "float64"
    noise_dtype: str = "float32"
    drifts: bool = False
    antithetic: bool = False
    stops: tuple[Observable, ...] = ()
    width: int | None = None

    @property
    def running(self) -> tuple[Observable, ...]:
        """The observables that are accumulated along each trajectory, and behind them the passages that end it."""
        return (*(observable for observable in self.observables if observable.is_running), *self.stops)

    @property
    def stop_rows(self) -> tuple[int, ...]:
        """Variable numbers of the passages that end a trajectory."""
        return self.running_rows[len(self.running) - len(self.stops) :]

    @property
    def observable_names(self) -> tuple[str, ...]:
        """Names of all that is measured: the parameters, then the observables."""
        return (*self.loss.parameters, *(observable.name for observable in self.observables))

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of all that a step changes: parameters, states, and the optimizer's variables of each parameter."""
        own = (f"{variable}.{name}" for variable in self.optimizer.rule.state for name in self.loss.parameters)
        return (*self.loss.carried, *own)

    @property
    def n_variables(self) -> int:
        """Number of variables of a trajectory: parameters, states, optimizer state, running observables, own data."""
        data = self.loss.data
        return self.first_data + (data.cells if isinstance(data, DrawnData) else 0)

    @property
    def first_data(self) -> int:
        """Variable number of the first value of a trajectory's own data; columns follow each other, row by row."""
        return self.first_running + sum(map(_rows, self.running))

    @property
    def first_running(self) -> int:
        """Variable number of the first running observable."""
        return len(self.variables)

    @property
    def running_rows(self) -> tuple[int, ...]:
        """Variable number of each running observable."""
        rows = itertools.accumulate(map(_rows, self.running), initial=self.first_running)
        return tuple(rows)[:-1]

    @property
    def lanes(self) -> int:
        """Number of trajectories of a tile: the largest power of two whose state and noise stay in a 32 kB L1 cache."""
        # Measured on the reference job: 128 lanes 7 % slower than 256, 512 lanes 1 % faster. On a linear network of 128
        # parameters in float64: 56 ns with 64 lanes, 33 with 32; of 512 in float32: 167, 106 and 82 with 64, 32 and 16.
        if self.width is not None:
            return self.width
        if self.n_variables <= 32:
            return 256 if self.n_variables <= 8 else 128
        lane = self.n_variables * np.dtype(self.dtype).itemsize
        return next((lanes for lanes in (64, 32) if lanes * lane <= 2**15), 16)

    @property
    def weight(self) -> int:
        """A rough estimate of the time of a step, in units of that with few variables and deviates."""
        deviates = sum(len(noise.law.deviates) for noise in self.loss.noise.values())
        samples = self.optimizer.batch_size * self.optimizer.substeps
        return max(1, (self.n_variables + deviates) * samples // 16)

    @cached_property
    def draws(self) -> dict[str, Draws]:
        """The draws from each stream of random words, see `philox.STREAMS`."""
        wide, batch_size = self.noise_dtype == "float64", self.optimizer.batch_size
        starts = [one for name, one in self.initial.items() if name not in self.loss.drawn and isinstance(one, Noise)]
        drawn = [one for name, one in self.initial.items() if name in self.loss.drawn and isinstance(one, Noise)]
        noise = [] if self.optimizer.rule.population else self.loss.noise.values()
        kicks = len(self.loss.parameters) if self.optimizer.rule.is_random else 0
        return {
            "initial_state": Draws(_deviates(starts), 1, wide),
            "gradient_noise": Draws(_deviates(noise), batch_size, wide),
            "minibatch_index": Draws(() if self.loss.data is None else ("u",), batch_size),
            "optimizer_noise": Draws(("z",) * kicks, 1, wide),
            "trajectory_constants": Draws(_deviates(drawn), 1, wide),
            "trajectory_data": self._drawn_data(wide),
        }

    def _drawn_data(self, wide: bool) -> Draws:
        """The draws of each trajectory's own data: a row is drawn like a sample of a step."""
        laws = self.loss.own_columns.values()
        return Draws(_deviates(laws), self.loss.data.rows if self.loss.data is not None and laws else 1, wide)

    @property
    def layout_version(self) -> int:
        """Version of the layout of random words, for the record; see `Draws.layout_version`."""
        return max(draws.layout_version for draws in self.draws.values())

    @cached_property
    def constants(self) -> dict[str, float]:
        """Run-time constants of a step, in the order in which the kernel takes them.

        Constants that no formula names are left out: each would cost 20 ms of compilation.
        """
        named = {name for text in self._texts() for name in Formula.parse(aliased(text)).names}
        values = {name: value for name, value in self.loss.constants.items() if base_name(name) in named}
        for name, noise in self.loss.noise.items():
            values.update(runtime_arguments(name, noise))
        defaults = self.optimizer.defaults
        values |= {f"optimizer.{n}": v for n, v in self.optimizer.values.items() if v != defaults[n]}
        return values | self._point_constants()

    def _point_constants(self) -> dict[str, float]:
        """The noise and data at the points of the population, point by point; they follow all other constants."""
        if not self.searches:
            return {}
        points = self.points
        return {
            f"population.{i}.{name}": float(value)
            for i, row in enumerate(points.values)
            for name, value in zip(points.names, row, strict=True)
        }

    @cached_property
    def points(self) -> PopulationPoints:
        """Points of noise and data over which the mean of a sample's loss is that of the population."""
        try:
            return population_points(self.loss)
        except InputError as error:
            raise InputError(f"hessian_max: {error}") from None

    @property
    def searches(self) -> bool:
        """True if the largest eigenvalue of the Hessian is asked for, and has no closed form."""
        return self.loss.searches and any(map(self.searches_for, (*self.observables, *self.stops)))

    def searches_for(self, observable: Observable) -> frozenset[str]:
        """The names in an observable of eigenvalues that must be searched: at the state, or before and after a step."""
        return observable.names & SEARCHED if self.loss.searches else frozenset()

    @cached_property
    def initial_arguments(self) -> dict[str, float]:
        """Run-time constants of the initial state, in the order in which the kernel takes them."""
        values: dict[str, float] = {}
        for name, start in self.initial.items():
            values.update(runtime_arguments(name, start) if isinstance(start, Noise) else {name: start})
        for name, law in self.loss.own_columns.items():
            values.update(runtime_arguments(name, law))
        loss = self.loss
        named = loss.reach(name for state in loss.states.values() for name in Formula.parse(state.start).names)
        return values | {name: value for name, value in loss.constants.items() if base_name(name) in named}

    def constant_array(self) -> np.ndarray:
        """The values of `constants`, shape (constant,)."""
        return np.array(list(self.constants.values()), dtype=self.dtype)

    def step_table(self, rates: np.ndarray, first: int) -> np.ndarray:
        """The numbers of each step that all trajectories share: learning rate, index, and the scalars of the optimizer.

        Parameters
        ----------
        rates
            Learning rates of the steps, (step,).
        first
            Index of the first step.

        Returns
        -------
        ndarray
            Numbers, (substep, column), computed in float64 whatever the dtype, as the difference of a decay rate to 1
            is used. The optimizer counts substeps. If a step has several, four more columns are about them: their rate,
            their index, their share in the step, and 1 for one that begins the step, -1 for one that ends it, 0 for
            others.

        Examples
        --------
        >>> from sgdsim.model.losses import CATALOGUE
        >>> program = Program(CATALOGUE["rescaling"](), Optimizer("ema"), {"u": 0.0, "w": 0.0})
        >>> program.step_table(np.array([0.2, 0.1]), 4).round(3).tolist()
        [[0.2, 4.0, 0.1], [0.1, 5.0, 0.1]]
        """
        n = self.optimizer.substeps
        t = np.arange(first, first + len(rates), dtype=np.float64)
        part_rates, part_t = np.repeat(rates / n, n), np.arange(first * n, (first + len(rates)) * n, dtype=np.float64)
        values = {**self.optimizer.defaults, **self.optimizer.values, "learning_rate": part_rates, "t": part_t}
        formulas = (Formula.parse(text, where="optimizer") for _, text in self.optimizer.rule.scalars)
        columns = [np.repeat(rates, n), np.repeat(t, n), *(formula.evaluate(values) for formula in formulas)]
        if n > 1:
            columns += [part_rates, part_t, 1 / n, np.tile([1.0, *[0.0] * (n - 2), -1.0], len(rates))]
        return np.stack([np.broadcast_to(column, len(part_t)) for column in columns], axis=1).astype(self.dtype)

    def initial_array(self) -> np.ndarray:
        """The values of `initial_arguments`, shape (argument,)."""
        return np.array(list(self.initial_arguments.values()), dtype=self.dtype)

    def windows(self) -> np.ndarray:
        """First (excluded) and last step of each running observable, shape (running, 2)."""
        windows = [observable.window or (-1, _NO_END) for observable in self.running]
        return np.array(windows, dtype=np.int64).reshape(-1, 2)

    def ends(self) -> np.ndarray:
        """Last step that each variable of the state is about, shape (variable,): those of windows know their end."""
        ends = np.full(self.n_variables, _NO_END, dtype=np.int64)
        for row, observable in zip(self.running_rows, self.running, strict=True):
            if observable.last_step is not None:
                ends[row : row + _rows(observable)] = observable.last_step
        return ends

    @cached_property
    def of_step(self) -> tuple[Observable, ...]:
        """The running observables that are about the step, not about the state alone."""
        return tuple(observable for observable in self.running if observable.is_of_step(self.loss))

    @property
    def controls(self) -> tuple[Observable, ...]:
        """The running observables whose weights are given for each step."""
        return tuple(observable for observable in self.running if observable.kind == "control")

    @property
    def path_rows(self) -> int:
        """Number of rows that a step leaves behind; 0 if nothing needs them.

        They hold the state before the step, and the gradient of the batch, which is the mean over substeps.
        """
        needed = self.of_step or (self.has_substeps and self.loss.memory)
        return len(self.loss.carried) + len(self.loss.parameters) if needed else 0

    @property
    def has_substeps(self) -> bool:
        """True if a step is several steps of the optimizer."""
        return self.optimizer.substeps > 1

    def data_array(self) -> np.ndarray:
        """The columns, one after the other, of a data set that all trajectories share, shape (column * row,)."""
        data = self.loss.data
        return data.array.astype(self.dtype).reshape(-1) if isinstance(data, Data) else np.zeros(0, self.dtype)

    def description(self) -> dict[str, object]:
        """All that decides the kernel's text, as plain data for hashing; no run-time numbers."""
        return {
            "formula": self.loss.formula,
            "direction": list(self.loss.direction.items()),
            "states": [(name, str(state)) for name, state in self.loss.states.items()],
            "definitions": list(self.loss.definitions.items()),
            "parameters": self.loss.parameters,
            "drawn": list(self.loss.drawn),
            "noise": [
                (name, str(noise.law.formula)) for name, noise in self.loss.noise.items()
            ],  # in the order of their random words
            "constants": list(self.constants),
            "exponents": self._whole_exponents(),
            "initial": [(n, s.family if isinstance(s, Noise) else "value") for n, s in self.initial.items()],
            "initial_arguments": list(self.initial_arguments),
            "optimizer": list(self.optimizer.assignments()),
            "optimizer_state": self.optimizer.rule.state,
            "defaults": self.optimizer.defaults,  # compiled in unless given: adamw differs from adam in one of them
            "population": self.optimizer.rule.population,
            "matrix": [self.optimizer.preconditioner, self.optimizer.metric],
            "batch_size": self.optimizer.batch_size,
            "substeps": self.has_substeps,
            "sampling": self.optimizer.sampling,
            "data": None if self.loss.data is None else [self.loss.columns, self.loss.data.rows],
            "own_data": [(name, str(law.law.formula)) for name, law in self.loss.own_columns.items()],
            "moments": self._moments(),
            "symmetries": [str(symmetry) for symmetry in self.loss.symmetries],  # their charges may be observables
            "observables": [(o.name, o.formula, o.kind) for o in self.observables],
            "stops": [one.formula for one in self.stops],
            "lanes": self.lanes,
            "dtype": self.dtype,
            "noise_dtype": self.noise_dtype,
            "drifts": self.drifts,
            "antithetic": self.antithetic,
        }

    def _whole_exponents(self) -> list[tuple[object, ...]]:
        """The exponents in formulas that are whole numbers by the values of constants: they decide the text."""
        return [Formula.parse(aliased(text)).whole_exponents(self.loss.numbers) for text in self._texts()]

    def _texts(self) -> list[str]:
        """All formulas that the kernels compute."""
        loss = self.loss
        texts = [*loss.texts, *(observable.formula for observable in (*self.observables, *self.stops))]
        texts += [text for symmetry in loss.symmetries for text in symmetry.generator.values()]
        return texts + self._entries()

    def _entries(self) -> list[str]:
        """The formulas of the preconditioner and the metric."""
        rows = self.optimizer.preconditioner or self.optimizer.metric
        return [str(entry) for row in rows for entry in ((row,) if isinstance(row, str) else row)]

    def _moments(self) -> object:
        """The noise and data whose moments are numbers in the text, as in that of the population loss; else None."""
        names = {
            name.removeprefix("next__") for observable in (*self.observables, *self.stops) for name in observable.names
        }
        names |= {name for entry in self._entries() for name in Formula.parse(aliased(entry)).names}
        if not (self.optimizer.rule.population or self.controls or names & self.loss.quantities_for(names)):
            return None
        data = self.loss.data
        digest = hashlib.sha256(data.array.tobytes()).hexdigest() if isinstance(data, Data) else None
        return [[str(noise) for noise in self.loss.noise.values()], digest]


def column(program: Program) -> str:
    """The text pattern of a sample's entry of a column, given the row at which the column begins."""
    if program.loss.own_columns:
        return f"state[({program.first_data} + {{row}} + row) * LANES + lane]"
    return "data[np.uint32({row}) + row]"


def mirrors_rows(program: Program) -> bool:
    """True if a mirrored trajectory takes rows from the other end; data of its own are mirrored themselves."""
    return program.antithetic and not program.loss.own_columns


def _rows(observable: Observable) -> int:
    """Number of variables of a running observable: a sum has a second one for the rounding error."""
    # Without it, the mean of the constant 1 over a million float32 steps is 1.009.
    return 2 if observable.kind in ("mean", "sum", "control") else 1


def _deviates(noise: Iterable[Noise]) -> tuple[str, ...]:
    return tuple(deviate for distribution in noise for deviate in distribution.law.deviates)


def runtime_arguments(name: str, noise: Noise) -> dict[str, float]:
    """The arguments of a distribution that differ from their defaults; the others are compiled in."""
    family = noise.law
    return {
        f"{name}.{argument}": value
        for (argument, default), value in zip(family.arguments.items(), noise.arguments, strict=True)
        if value != default
    }
