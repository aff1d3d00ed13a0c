"""The loop over tiles of the CPU and the plain-Python target: each worker runs whole groups of tiles.

A tile belongs to the group ``tile % GROUPS``; moments and counts are kept by group, so that nothing depends on the
number of threads. Pasted as text behind `tile`.
"""
# mypy: ignore-errors
# ruff: noqa: F821

import numpy as np

# --- pasted from here on ---


@inlined
def take_record(r, place, plans, sinks, state, observed, constants):
    """Measure a tile into record r of its group."""
    _, _, group, _ = place
    _, record_plan, _, _ = plans
    moments, counts, comoments, cells, _, _ = sinks
    values, _, work = observed
    observe(state, values, constants)
    record(moments[r, group], counts[r, group], comoments[r, group], cells[r, group], record_plan, values, work)


@tile_loop
def observe_before(state, observed, constants):
    """What a tile is before a step at which drifts look."""
    always_inline()
    _, before, _ = observed
    observe(state, before, constants)


@tile_loop
def take_changes(completed, place, plans, sinks, state, observed, constants):
    """Add the change of a tile over the step to its drifts."""
    always_inline()
    _, _, _, tile = place
    _, _, drift_plan, _ = plans
    _, _, _, _, changes, _ = sinks
    values, before, _ = observed
    observe(state, values, constants)
    record_changes(changes[tile], drift_plan, completed, before, values)


@entry
def advance(worker, workers, first_tile, span, counter, inputs, plans, sinks, state, status):
    """Run one worker's groups of a block of tiles over a span of steps.

    Parameters
    ----------
    worker, workers
        The groups are worker, worker + workers, …: no two workers touch the same accumulator.
    first_tile
        Index in the ensemble of the block's first tile.
    span, counter, inputs, plans, sinks
        See `tile`.
    state
        (tile, variable * lane); changed in place.
    status
        (tile, lane).
    """
    deviates = np.empty(DEVIATE_ROWS * LANES, NOISE)
    kicks = np.empty(KICK_ROWS * LANES, NOISE)
    rows = np.empty(ROW_ROWS * LANES, np.uint32)
    order = np.empty(ORDER_ROWS * LANES, np.uint8)
    words = np.empty(4 * LANES, np.uint32)
    path = np.empty(PATH_ROWS * LANES, REAL)
    values = np.empty(VALUE_ROWS * LANES, REAL)  # while a batch is added up, its sums
    before = np.empty(VALUE_ROWS * LANES, REAL)
    work = np.empty(4 * LANES, np.float64)
    buffers = deviates, kicks, rows, order, words, path, values
    observed = values, before, work
    mode = flush_subnormals()
    for group in range(worker, GROUPS, workers):
        for index in range((group - first_tile) % GROUPS, len(state), GROUPS):
            trajectory = (first_tile + index) * LANES
            place = trajectory, trajectory, group, index
            advance_tile(place, span, counter, inputs, plans, sinks, state[index], status[index], buffers, observed)
    restore_subnormals(mode)


@entry
def initialize(first_tile, n_trajectories, arguments, counter, state, status):
    """Draw the initial state of a block."""
    deviates = np.empty(INITIAL_ROWS * LANES, NOISE)
    for index in range(len(state)):
        trajectory = (first_tile + index) * LANES
        begin_tile(state[index], status[index], trajectory, n_trajectories, deviates, arguments, counter)
