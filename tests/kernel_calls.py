"""Calls of the functions of an engine and of formulas, with empty arrays for all that a test does not speak of."""

from __future__ import annotations

import ctypes
import re
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numba import cuda, njit
from numba.core.dispatcher import Dispatcher

from sgdsim.kernels import cache as modules
from sgdsim.kernels.gpu import TARGET, explained
from sgdsim.kernels.layout import Layout, table
from sgdsim.kernels.program import Program
from sgdsim.kernels.source import generate


@cache
def from_python(function: Any) -> Any:
    """Function to call from Python: compiled functions that only others call have no wrapper, and would crash."""
    if not isinstance(function, Dispatcher) or function.targetoptions.get("inline") == "always":
        return function

    @njit
    def call(*arguments: Any) -> Any:
        return function(*arguments)

    return call


def address_of(function: Any) -> int:
    """Address of a compiled function of a formula."""
    if function.address is None:
        function.compile()
    return int(function.address)


class Kernels:
    """The functions of a program on a target, to be called from Python.

    Parameters
    ----------
    program
        Whose.
    target
        ``python``, ``cpu`` or ``cuda``, where little can be called from outside.
    lanes
        Of a tile, where not as many as the program says: in plain Python alone, past the cache.
    """

    def __init__(self, program: Program, target: str, lanes: int | None = None) -> None:
        self.program, self.layout, self.target = program, Layout(program), target
        self.lanes = lanes or program.lanes
        self.real, self.noise = np.dtype(program.dtype).type, np.dtype(self.layout.noise_dtype).type
        self.formula, self.engine = self._modules(lanes)

    def _modules(self, lanes: int | None) -> tuple[ModuleType, ModuleType]:
        if self.target == "cuda":
            module = modules.load(self.program, TARGET)
            return module, module
        engine = modules.load_engine(self.program.dtype, self.layout.noise_dtype, self.target)
        if lanes is None:
            return modules.load(self.program, self.target), engine
        module = ModuleType("generated")
        text = generate(self.program, self.target)
        exec(re.sub(r"(?m)^LANES = \d+", f"LANES = {lanes}", text), module.__dict__)
        return module, engine

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the formula as the engine does."""
        function = getattr(self.formula, name)
        if self.target == "python":
            function(*arguments)
            return
        real = ctypes.c_double if self.real is np.float64 else ctypes.c_float
        kinds = {np.ndarray: ctypes.c_void_p, int: ctypes.c_int64, float: real}
        values = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]
        ctypes.CFUNCTYPE(None, *(kinds[type(a)] for a in arguments))(address_of(function))(*values)

    def scratch(self) -> np.ndarray:
        """Room for intermediate results."""
        return np.empty(self.formula.SCRATCH_ROWS * self.lanes, self.real)

    def update(
        self,
        state: np.ndarray,
        deviates: np.ndarray,
        rate: float,
        *,
        completed: int = 0,
        rows: np.ndarray | None = None,
        kicks: np.ndarray | None = None,
        path: np.ndarray | None = None,
    ) -> None:
        """One step of all lanes, in place."""
        program = self.program
        self.call(
            "update",
            state,
            deviates,
            np.empty(0, self.noise) if kicks is None else kicks,
            np.empty(0, np.uint32) if rows is None else rows,
            program.data_array(),
            np.empty(program.path_rows * self.lanes, self.real) if path is None else path,
            self.scratch(),
            program.step_table(np.array([rate]), completed)[0],
            program.constant_array(),
        )

    def accumulate(self, state: np.ndarray, running: int, part: float) -> None:
        """The share of a state, not of a step, in a running observable."""
        places = np.empty(0, self.noise), np.empty(0, np.uint32), self.program.data_array(), np.empty(0, self.real)
        shared = np.empty(0), self.scratch(), self.program.step_table(np.ones(1), 0)[0], self.program.constant_array()
        self.call("accumulate", running, 1, part, state, *places, *shared)

    def observe(self, state: np.ndarray) -> np.ndarray:
        """Values of all that is measured, (observable, lane), for a state (variable, lane)."""
        values = np.empty((len(self.program.observable_names), self.lanes), self.real)
        with np.errstate(all="ignore"):
            shared = self.scratch(), self.program.constant_array(), self.program.ends(), 0
            self.call("observe", state.ravel(), values.ravel(), *shared)
        return values

    def initial_state(self, deviates: np.ndarray) -> np.ndarray:
        """The state that deviates (row, lane) make, (variable, lane)."""
        state = np.empty((self.program.n_variables, self.lanes), self.real)
        self.call("initial_state", state.ravel(), deviates.ravel(), self.scratch(), self.program.initial_array())
        return state

    def step_deviates(
        self, trajectory: int, completed: int, key: tuple[np.uint32, np.uint32], point: int = 0
    ) -> np.ndarray:
        """The deviates of a draw of the tile that begins with a trajectory, (row, lane)."""
        draws, counter = self.layout.draws, (*key, point, self.layout.pair)
        if self.target == "cuda":
            return self._on_device(trajectory, completed, counter)
        c0 = completed >> (draws.steps_a_draw // 2)
        return self._draw(table(draws), draws.rows, self.engine.GRADIENT_NOISE, c0, trajectory, counter)

    def initial_deviates(self, trajectory: int, key: tuple[np.uint32, np.uint32], point: int = 0) -> np.ndarray:
        """Likewise of the initial state."""
        draws, counter = self.layout.starts, (*key, point, self.layout.pair)
        return self._draw(table(draws), draws.rows, self.engine.INITIAL_STATE, 0, trajectory, counter)

    def _draw(self, lines: np.ndarray, rows: int, stream: int, c0: int, trajectory: int, counter: Any) -> np.ndarray:
        deviates = np.empty((rows, self.lanes), self.noise)
        words = np.empty(4 * self.lanes, np.uint32)
        from_python(self.engine.draw)(lines, int(stream), c0, deviates.reshape(-1), words, trajectory, counter)
        return deviates

    def _on_device(self, trajectory: int, completed: int, counter: tuple[Any, ...]) -> np.ndarray:
        """Let one thread of a GPU draw for one trajectory, and copy what is in its registers."""
        rows, noise, draw = self.layout.draws.rows, self.noise, self.engine.step_deviates

        @cuda.jit
        def kernel(trajectory: Any, completed: Any, key0: Any, key1: Any, point: Any, pair: Any, results: Any) -> None:
            deviates, words = cuda.local.array(rows, noise), cuda.local.array(4, np.uint32)
            draw(None, deviates, words, trajectory, completed, (key0, key1, point, pair))
            for row in range(rows):
                results[row] = deviates[row]

        results = np.empty(rows, noise)
        with explained():
            there = cuda.to_device(results)
            kernel[1, 1](trajectory, completed, *counter, there)
            there.copy_to_host(results)
        return results[:, None]

    def rows(
        self,
        space: tuple[np.ndarray, ...],
        trajectory: int,
        completed: int,
        key: tuple[np.uint32, np.uint32],
        *,
        fresh: bool,
    ) -> np.ndarray:
        """The rows of the batch of a step, (sample, lane); `space` is rows, order and words of `sampling`."""
        numbers, counter = self.layout.sampling_numbers(), (*key, 0, self.layout.pair)
        start = from_python(self.engine.draw_rows)(*space, numbers, trajectory, completed, fresh, counter)
        batch = self.program.optimizer.batch_size
        return space[0][start : start + batch * self.lanes].reshape(batch, self.lanes)

    def philox4x32(self, words: list[np.uint32]) -> tuple[int, ...]:
        """Four random words."""
        philox = self.engine.philox4x32
        if self.target != "cuda":
            return tuple(map(int, from_python(philox)(*words)))
        results = np.empty(4, np.uint32)

        @cuda.jit
        def kernel(words: Any, results: Any) -> None:
            results[0], results[1], results[2], results[3] = philox(
                words[0], words[1], words[2], words[3], words[4], words[5]
            )

        with explained():
            there = cuda.to_device(results)
            kernel[1, 1](cuda.to_device(np.array(words)), there)
            there.copy_to_host(results)
        return tuple(map(int, results))
