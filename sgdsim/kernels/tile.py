"""The tile loop of the CPU and the plain-Python target.

A tile holds LANES trajectories as a structure of arrays, ``state[variable * LANES + lane]``. It runs all steps of
a span before the next tile starts, so its state stays in the L1 cache, and every inner loop runs over lanes, so
LLVM makes SIMD of it. A tile belongs to the group ``tile % GROUPS``; accumulators are kept by group, so that
nothing depends on the number of threads.

The functions below are pasted as text into the generated modules, which provide ``device``, ``lane_loop``,
``tile_loop``, ``wide_vectors``, ``always_inline``, the constants in capitals, and ``initial_deviates``,
``initial_state``, ``step_deviates``, ``update``, ``accumulate``, ``observe`` and ``outside``; see `source`.
"""
# mypy: ignore-errors
# ruff: noqa: F821, PLR0912, PLR0915

import numpy as np

# --- pasted from here on ---


@lane_loop
def count_outside(state):
    """How many lanes are not finite or beyond LIMIT, in any parameter."""
    wide_vectors()
    n = 0
    for lane in range(LANES):
        n += outside(state, lane)
    return n


@tile_loop
def mark_diverged(state, status, completed):
    """Set newly diverged trajectories to NaN and note the step; padding lanes count as known."""
    for lane in range(LANES):
        if status[lane] == 0 and outside(state, lane):
            status[lane] = completed
            for variable in range(N_VARIABLES):
                state[variable * LANES + lane] = NAN


@tile_loop
def find_diverged(state, status, completed, n_marked):
    """Mark newly diverged trajectories; how many are marked then."""
    # Marked lanes are NaN and count as outside: the slow path runs only when another one joins them.
    n_outside = count_outside(state)
    if n_outside != n_marked:
        mark_diverged(state, status, completed)
    return n_outside


@tile_loop
def accumulate_windows(state, windows, weights, completed, deviates, rows, data, path, offset, row, rate, constants):
    """Let every running observable take its share whose window holds the number of completed steps."""
    for running in range(len(windows)):
        if windows[running, 0] < completed <= windows[running, 1]:
            share = REAL(1.0 / (windows[running, 1] - windows[running, 0]))
            accumulate(
                state, running, share, weights, completed, deviates, rows, data, path, offset, row, rate, constants
            )


@tile_loop
def snapshot(theta, state, first):
    """Copy the parameters of one tile to ``theta[trajectory, parameter]``."""
    for parameter in range(N_PARAMETERS):
        for lane in range(min(LANES, len(theta) - first)):
            theta[first + lane, parameter] = state[parameter * LANES + lane]


@tile_loop
def advance(
    worker,
    workers,
    state,
    status,
    first_tile,
    start,
    stop,
    learning_rate,
    constants,
    windows,
    weights,
    data,
    key0,
    key1,
    point,
    record_steps,
    next_record,
    moments,
    counts,
    comoments,
    cells,
    record_plan,
    changes,
    drift_plan,
    snapshot_steps,
    next_snapshot,
    theta,
):
    """Run one worker's groups of a block of tiles over a span of steps.

    Parameters
    ----------
    worker, workers
        The groups are worker, worker + workers, …: no two workers touch the same accumulator.
    state
        (tile, variable * lane); changed in place.
    status
        (tile, lane), int64: completed steps when divergence was found, 0 never, -1 padding.
    first_tile
        Index in the ensemble of the block's first tile.
    start, stop
        Completed steps before and after.
    learning_rate
        (steps of the run,).
    constants
        (constant,) in the order of the program.
    windows
        (running observable, 2), int64.
    weights
        (control, completed steps, weight), float64.
    data
        (column * row,).
    key0, key1, point
        Words of the seed; stream-independent part of the counter.
    record_steps, snapshot_steps
        Sorted; `next_record` and `next_snapshot` index the first one still to be taken.
    moments
        (record, group, observable, 5): count, mean, central sums 2, 3, 4.
    counts
        (record, group, bin of any histogram with its underflow and overflow), uint32.
    comoments
        (record, group, pair, 4): count, both means, central sum of products.
    cells
        (record, group, cell of any plane, and one a plane for all outside), uint32.
    changes
        (group, bin of any drift, 3): count, sum, sum of squares.
    record_plan, drift_plan
        What to measure; see `measure.record` and `measure.record_changes`.
    theta
        (snapshot, trajectory, parameter), of the first trajectories.
    """
    deviates = np.empty(DEVIATE_ROWS * LANES, NOISE)
    kicks = np.empty(KICK_ROWS * LANES, NOISE)
    rows = np.empty(ROW_ROWS * LANES, np.uint32)
    order = np.empty(ORDER_ROWS * LANES, np.uint8)
    words = np.empty(4 * LANES, np.uint32)
    path = np.empty(PATH_ROWS * LANES, REAL)
    values = np.empty(VALUE_ROWS * LANES, REAL)
    before = np.empty(VALUE_ROWS * LANES, REAL)
    work = np.empty(4 * LANES, np.float64)
    mode = flush_subnormals()
    for group in range(worker, GROUPS, workers):
        for index in range((group - first_tile) % GROUPS, len(state), GROUPS):
            tile_state, tile_status = state[index], status[index]
            trajectory = (first_tile + index) * LANES
            n_marked = 0
            for lane in range(LANES):
                n_marked += tile_status[lane] != 0
            completed, r, s = start, next_record, next_snapshot
            if N_RUNNING and start == 0:
                accumulate_windows(
                    tile_state, windows, weights, 0, deviates, rows, data, path, 0, 0, learning_rate[0], constants
                )
            while True:
                if r < len(record_steps) and record_steps[r] == completed:
                    observe(tile_state, values, constants)
                    record(
                        moments[r, group],
                        counts[r, group],
                        comoments[r, group],
                        cells[r, group],
                        record_plan,
                        values,
                        work,
                    )
                    r += 1
                if s < len(snapshot_steps) and snapshot_steps[s] == completed:
                    snapshot(theta[s], tile_state, trajectory)
                    s += 1
                if completed == stop:
                    break
                looking = False
                if HAS_DRIFTS:
                    looking = looks(drift_plan, completed)
                    if looking:
                        observe(tile_state, before, constants)
                phase = completed % STEPS_A_DRAW
                if phase == 0:
                    step_deviates(deviates, trajectory, completed, key0, key1, point)
                offset, kick, row = phase * WORDS_A_STEP * LANES, 0, 0
                if KICK_ROWS:
                    kick = completed % KICK_STEPS * KICK_WORDS * LANES
                    if kick == 0:
                        kick_deviates(kicks, trajectory, completed, key0, key1, point)
                if ROW_ROWS:
                    fresh = completed == start
                    row = draw_rows(rows, order, words, trajectory, completed, fresh, key0, key1, point)
                rate = learning_rate[completed]
                update(
                    tile_state, deviates, kicks, rows, data, path, values, offset, kick, row, rate, completed, constants
                )
                if HAS_DRIFTS and looking:
                    observe(tile_state, values, constants)
                    record_changes(changes[group], drift_plan, completed, before, values)
                completed += 1
                if N_RUNNING:
                    accumulate_windows(
                        tile_state,
                        windows,
                        weights,
                        completed,
                        deviates,
                        rows,
                        data,
                        path,
                        offset,
                        row,
                        rate,
                        constants,
                    )
                if completed % 4 == 0 or completed == len(learning_rate):
                    n_marked = find_diverged(tile_state, tile_status, completed, n_marked)
    restore_subnormals(mode)


@tile_loop
def initialize(state, status, first_tile, n_trajectories, arguments, key0, key1, point):
    """Draw the initial state of a block; lanes beyond the last trajectory are padding, NaN from the start."""
    deviates = np.empty(INITIAL_ROWS * LANES, NOISE)
    for index in range(len(state)):
        trajectory = (first_tile + index) * LANES
        initial_deviates(deviates, trajectory, 0, key0, key1, point)
        initial_state(state[index], deviates, arguments)
        for lane in range(LANES):
            if trajectory + lane >= n_trajectories:
                status[index, lane] = -1
                for variable in range(N_VARIABLES):
                    state[index, variable * LANES + lane] = NAN
