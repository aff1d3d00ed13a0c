"""Calls of the generated functions, with empty arrays for all that a test does not speak of."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numba import cuda, njit
from numba.core.dispatcher import Dispatcher

from sgdsim.kernels.gpu import explained
from sgdsim.kernels.program import Program


@cache
def from_python(function: Any) -> Any:
    """The same, to be called from Python: compiled functions that only others call have no wrapper, and would crash."""
    if not isinstance(function, Dispatcher):
        return function

    @njit
    def call(*arguments: Any) -> Any:
        return function(*arguments)

    return call


def update(
    module: ModuleType,
    program: Program,
    state: np.ndarray,
    deviates: np.ndarray,
    rate: float,
    *,
    offset: int = 0,
    completed: int = 0,
    rows: np.ndarray | None = None,
    kicks: np.ndarray | None = None,
    path: np.ndarray | None = None,
) -> None:
    """One step of all lanes, in place."""
    sums = np.empty(len(program.loss.parameters) * module.LANES, program.dtype)
    none = np.empty(0, deviates.dtype)
    from_python(module.update)(
        state,
        deviates,
        none if kicks is None else kicks,
        np.empty(0, np.uint32) if rows is None else rows,
        program.data_array(),
        np.empty(module.PATH_ROWS * module.LANES, program.dtype) if path is None else path,
        sums,
        offset,
        0,
        0,
        program.step_table(np.array([rate]), completed),
        np.uint64(0),
        program.constant_array(),
    )


def on_device(module: ModuleType, function: str, arguments: tuple[Any, ...], results: np.ndarray) -> None:
    """Let one thread of a GPU call a function that fills an array of its own, and copy that to the results."""
    called, size, dtype = getattr(module, function), len(results), module.NOISE

    @cuda.jit
    def kernel(arguments: Any, results: Any) -> None:
        values = cuda.local.array(size, dtype)
        called(values, *arguments)
        for i in range(size):
            results[i] = values[i]

    with explained():
        there = cuda.to_device(results)
        kernel[1, 1](arguments, there)
        there.copy_to_host(results)


def step_deviates(module: ModuleType, trajectory: int, step: int, key: tuple[np.uint32, np.uint32], point: int) -> Any:
    """The deviates that are drawn for one trajectory at one step, (row,)."""
    lane = trajectory % module.LANES
    deviates = np.empty(module.DEVIATE_ROWS * module.LANES, module.NOISE)
    arguments = trajectory - lane, step, *key, point
    if hasattr(module, "HELD_DEVIATE_ROWS"):
        on_device(module, "step_deviates", arguments, deviates)
    else:
        from_python(module.step_deviates)(deviates, *arguments)
    return deviates.reshape(-1, module.LANES)[:, lane]


def philox4x32(module: ModuleType, words: list[np.uint32]) -> tuple[int, ...]:
    """Four random words."""
    if not hasattr(module, "HELD_DEVIATE_ROWS"):
        return tuple(map(int, from_python(module.philox4x32)(*words)))
    philox = module.philox4x32
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


def accumulate(module: ModuleType, program: Program, state: np.ndarray, running: int, weight: float) -> None:
    """The share of a state, not of a step, in a running observable."""
    none = np.empty(0, np.float32)
    data, constants = program.data_array(), program.constant_array()
    rows, path = np.empty(0, np.uint32), np.empty(module.PATH_ROWS * module.LANES, program.dtype)
    places = none, rows, data, path, 0, 0
    table = program.step_table(np.ones(1), 0), np.uint64(0)
    from_python(module.accumulate)(state, running, weight, np.zeros((0, 1, 1)), 1, *places, *table, constants)
