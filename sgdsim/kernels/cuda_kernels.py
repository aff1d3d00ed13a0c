"""The kernels of the CUDA target: a thread runs a trajectory.

This text is pasted behind the functions of the formula and `tile`, in a module where LANES is 1: the tile of `tile` is
one trajectory, whose state, deviates and scratch are arrays of the thread, that is registers. The TILE threads of a
block hold the trajectories of a tile of the CPU, and its number in the ensemble decides its group, as there. Records
are only observed here; `cuda_measure` measures them.
"""
# mypy: ignore-errors
# ruff: noqa: F821

import numpy as np
from numba import cuda

# --- pasted from here on ---

# An array of a thread has one element at least.
HELD_CONSTANTS, HELD_PATH_ROWS, HELD_ORDER_ROWS = max(N_CONSTANTS, 1), max(PATH_ROWS, 1), max(ORDER_ROWS, 1)
HELD_DEVIATE_ROWS, HELD_KICK_ROWS, HELD_ROW_ROWS = max(DEVIATE_ROWS, 1), max(KICK_ROWS, 1), max(ROW_ROWS, 1)
HELD_INITIAL_ROWS, HELD_SCRATCH_ROWS = max(INITIAL_ROWS, 1), max(SCRATCH_ROWS, 1)


@tile_loop
def take_record(r, place, layout, inputs, plans, sinks, state, observed):
    """Observe a trajectory, for `cuda_measure`."""
    _, _, _, tile = place
    record_steps, _, _, _ = plans
    formula, _, constants, _, ends, _, _ = inputs
    records, _, _, scratch = observed
    values = records[r, tile, cuda.threadIdx.x :: TILE]
    observe(formula, state, values, scratch, constants, ends, last_look(record_steps[r]))


@tile_loop
def observe_before(completed, inputs, state, observed):
    """Observe a trajectory before a step at which drifts are measured."""
    formula, _, constants, _, ends, _, _ = inputs
    _, before, _, scratch = observed
    observe(formula, state, before[cuda.threadIdx.x :: TILE], scratch, constants, ends, last_look(completed))


@tile_loop
def take_changes(completed, place, layout, inputs, plans, sinks, state, observed):
    """Add the change of all trajectories of a tile over the step to its drifts."""
    _, _, _, tile = place
    formula, _, constants, _, ends, _, _ = inputs
    _, _, drift_plan, _ = plans
    _, _, _, _, changes, _ = sinks
    _, before, after, scratch = observed
    observe(formula, state, after[cuda.threadIdx.x :: TILE], scratch, constants, ends, last_look(completed + 1))
    record_changes(changes[tile], drift_plan, TILE, completed, before, after)


@kernel
def advance(
    first_tile,
    first_row,
    start,
    stop,
    steps,
    key0,
    key1,
    point,
    table,
    constants,
    windows,
    ends,
    weights,
    data,
    record_steps,
    drift_plan,
    snapshot_steps,
    changes,
    theta,
    state,
    status,
    records,
    before,
    after,
):
    """Run every tile of a block over a span of steps.

    Parameters
    ----------
    first_tile, first_row
        Index in the ensemble of the first tile; the trajectory whose snapshots `theta` begins with.
    start, stop, steps
        Completed steps before, after, and at the end of the run.
    key0, key1, point, table, …, data, drift_plan
        See `tile`.
    record_steps, snapshot_steps
        Those of this span alone.
    changes, theta
        See `tile.advance_tile`.
    state, status
        (tile, variable * TILE) and (tile, TILE).
    records
        The observed values, (record, tile, observable * TILE).
    before, after
        Scratch of the drifts, (tile, observable * TILE).
    """
    tile, thread = cuda.blockIdx.x, cuda.threadIdx.x
    numbers = cuda.local.array(HELD_CONSTANTS, REAL)
    for i in range(N_CONSTANTS):
        numbers[i] = constants[i]
    deviates = cuda.local.array(HELD_DEVIATE_ROWS, NOISE)
    kicks = cuda.local.array(HELD_KICK_ROWS, NOISE)
    rows = cuda.local.array(HELD_ROW_ROWS, np.uint32)
    order = cuda.local.array(HELD_ORDER_ROWS, np.uint8)
    words = cuda.local.array(4, np.uint32)
    path = cuda.local.array(HELD_PATH_ROWS, REAL)
    scratch = cuda.local.array(HELD_SCRATCH_ROWS, REAL)
    own_status = cuda.local.array(1, np.int64)
    trajectory = (first_tile + tile) * TILE + thread
    place = trajectory, trajectory - first_row, (first_tile + tile) % GROUPS, tile
    span = start, stop, steps, 0, 0
    counter = key0, key1, point, PAIR
    draws, kick_draws = (STEPS_A_DRAW, WORDS_A_STEP, None), (KICK_STEPS, KICK_WORDS, None)
    substeps = np.uint64(len(table) // max(stop - start, 1)) if HAS_SUBSTEPS else np.uint64(1)
    layout = 1, N_PARAMETERS, draws, kick_draws, SAMPLING, N_RUNNING, HAS_DRIFTS, substeps
    inputs = None, table, numbers, windows, ends, weights, data
    plans = record_steps, None, drift_plan, snapshot_steps
    sinks = None, None, None, None, changes, theta
    buffers = deviates, kicks, rows, order, words, path, scratch
    observed = records, before[tile], after[tile], scratch
    own_status[0] = status[tile, thread]
    if IN_REGISTERS:
        own_state = cuda.local.array(N_VARIABLES, REAL)
        for variable in range(N_VARIABLES):
            own_state[variable] = state[tile, variable * TILE + thread]
        advance_tile(place, span, counter, layout, inputs, plans, sinks, own_state, own_status, buffers, observed)
        for variable in range(N_VARIABLES):
            state[tile, variable * TILE + thread] = own_state[variable]
    else:
        # In global memory, where the threads of a block share each cache line.
        view = state[tile, thread::TILE]
        advance_tile(place, span, counter, layout, inputs, plans, sinks, view, own_status, buffers, observed)
    status[tile, thread] = own_status[0]


@kernel
def initialize(first_tile, n_trajectories, arguments, ends, key0, key1, point, state, status):
    """Draw the initial state of a block."""
    tile, thread = cuda.blockIdx.x, cuda.threadIdx.x
    deviates = cuda.local.array(HELD_INITIAL_ROWS, NOISE)
    words = cuda.local.array(4, np.uint32)
    scratch = cuda.local.array(HELD_SCRATCH_ROWS, REAL)
    begin_tile(
        None,
        state[tile, thread::TILE],
        status[tile, thread::TILE],
        (first_tile + tile) * TILE + thread,
        n_trajectories,
        (None, START_ROWS, None, CONSTANT_ROWS, None),
        deviates,
        words,
        scratch,
        arguments,
        ends,
        (key0, key1, point, PAIR),
    )
