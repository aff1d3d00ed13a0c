"""Calls of the generated functions, with empty arrays for all that a test does not speak of."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from sgdsim.kernels.program import Program


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
    module.update(
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
        rate,
        completed,
        program.constant_array(),
    )


def accumulate(module: ModuleType, program: Program, state: np.ndarray, running: int, weight: float) -> None:
    """The share of a state, not of a step, in a running observable."""
    none = np.empty(0, np.float32)
    data, constants = program.data_array(), program.constant_array()
    rows, path = np.empty(0, np.uint32), np.empty(module.PATH_ROWS * module.LANES, program.dtype)
    module.accumulate(state, running, weight, np.zeros((0, 1, 1)), 1, none, rows, data, path, 0, 0, 1.0, constants)
