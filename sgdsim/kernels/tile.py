"""What happens to one tile over a span of steps, on every target.

A tile holds LANES trajectories as a structure of arrays, ``state[variable * LANES + lane]``. On the CPU it runs all
steps of a span before the next tile starts, so its state stays in the L1 cache, and every inner loop runs over lanes,
so LLVM makes SIMD of it. On a GPU a thread runs a tile of one lane, whose state is in its registers.

The functions below are pasted as text into the generated modules, which provide ``device``, ``lane_loop``,
``tile_loop``, ``inlined``, ``entry``, ``wide_vectors``, ``always_inline``, the constants in capitals, and
``initial_deviates``, ``initial_state``, ``step_deviates``, ``update``, ``accumulate``, ``observe``, ``outside``,
``beyond``, ``bury`` and ``keep``; see `source`. What is measured is handed to ``take_record``, ``observe_before`` and
``take_changes`` of the target, in `cpu_loop` or `cuda_kernels`. Arguments that they hand on together are tuples:

- counter: key0, key1, point. Words of the seed; stream-independent part of the counter.
- inputs: table, constants, windows, weights, data. What all trajectories share of each step of the span,
  (step, column), see `Program.step_table`; (constant,) in the order of the program; first (excluded) and last step of
  each running observable, (running observable, 2); (control, completed steps, weight); (column * row,).
- plans: record_steps, record_plan, drift_plan, snapshot_steps. Both steps sorted; what to measure, see `measure.record`
  and `measure.record_changes`.
- sinks: moments, counts, comoments, cells, changes, theta. Where to, see `advance_tile`.
- buffers: deviates, kicks, rows, order, words, path, sums. Scratch of a step.
"""
# mypy: ignore-errors
# ruff: noqa: F821, PLR0912, PLR0915

import numpy as np

# --- pasted from here on ---


@lane_loop
def count_outside(state):
    """How many lanes are not finite or beyond LIMIT, in any parameter."""
    wide_vectors()
    n = COUNT(0)  # as wide as the state: what is wider halves the lanes of a vector
    for lane in range(LANES):
        n = COUNT(n + outside(state, lane))
    return n


@inlined
def mark_diverged(state, status, completed):
    """Set newly diverged trajectories to NaN and note the step; padding lanes count as known."""
    for lane in range(LANES):
        if status[lane] == 0 and outside(state, lane):
            status[lane] = completed if beyond(state, lane) else -1 - completed
            bury(state, lane)


@inlined
def find_diverged(state, status, completed, n_marked):
    """Mark newly diverged trajectories; how many are marked then."""
    # Marked lanes are NaN and count as outside: the slow path runs only when another one joins them.
    n_outside = count_outside(state)
    if n_outside != n_marked:
        mark_diverged(state, status, completed)
    return n_outside


@tile_loop
def accumulate_windows(state, completed, inputs, buffers, index, offset, row):
    """Let every running observable take its share whose window holds the number of completed steps."""
    always_inline()
    table, constants, windows, weights, data = inputs
    deviates, _, rows, _, _, path, _ = buffers
    for running in range(len(windows)):
        if windows[running, 0] < completed <= windows[running, 1]:
            share = REAL(1.0 / (windows[running, 1] - windows[running, 0]))
            accumulate(
                state,
                running,
                share,
                weights,
                completed,
                deviates,
                rows,
                data,
                path,
                offset,
                row,
                table,
                index,
                constants,
            )


@inlined
def snapshot(theta, state, first):
    """Copy the parameters of one tile to ``theta[trajectory, parameter]``."""
    for lane in range(LANES):
        if first + lane < len(theta):
            keep(theta, first + lane, state, lane)


@inlined
def next_event(steps, index, stop):
    """The first of the sorted steps that is still to come, at most where the span ends."""
    return steps[index] if index < len(steps) and steps[index] < stop else stop


@inlined
def advance_tile(place, span, counter, inputs, plans, sinks, state, status, buffers, observed):
    """Run one tile over a span of steps.

    Parameters
    ----------
    place
        First trajectory; its row in `theta`; its group; which tile of the block it is.
    span
        Completed steps before, after, and at the end of the run; indices of the first record and the first snapshot
        that are still to be taken.
    sinks
        Moments (record, group, observable, 5): count, mean, central sums 2, 3, 4; counts (record, group, bin of any
        histogram with its underflow and overflow), uint32; comoments (record, group, pair, 4): count, both means,
        central sum of products; cells (record, group, cell of any plane, and one a plane for all outside), uint32;
        changes (tile of the block, bin of any drift, 3): count, sum, sum of squares; theta (snapshot, row, parameter).
    state
        (variable * lane); changed in place.
    status
        (lane), int64: completed steps when divergence was found, 0 never, -1 padding, and -1 less these steps where
        the state is not a number and no parameter is too large.
    observed
        Scratch of the target's own ``take_record`` and ``take_changes``.
    """
    trajectory, row_of_theta, _, _ = place
    start, stop, steps, r, s = span
    # Once a span, not a step: an array that is taken from a tuple is counted, atomically on the CPU (15 % of a step).
    key0, key1, point = counter
    table, constants, _, _, data = inputs
    deviates, kicks, rows, order, words, path, sums = buffers
    record_steps, _, drift_plan, snapshot_steps = plans
    _, _, _, _, _, theta = sinks
    n_marked = COUNT(0)
    for lane in range(LANES):
        n_marked = COUNT(n_marked + (status[lane] != 0))
    completed = start
    if N_RUNNING and start == 0:
        accumulate_windows(state, 0, inputs, buffers, np.uint64(0), 0, 0)
    while True:
        if r < len(record_steps) and record_steps[r] == completed:
            take_record(r, place, plans, sinks, state, observed, constants)
            r += 1
        if s < len(snapshot_steps) and snapshot_steps[s] == completed:
            snapshot(theta[s], state, row_of_theta)
            s += 1
        if completed == stop:
            break
        event = next_event(record_steps, r, next_event(snapshot_steps, s, stop))
        while completed < event:
            looking = False
            if HAS_DRIFTS:
                looking = looks(drift_plan, completed)
                if looking:
                    observe_before(state, observed, constants)
            # `&`, not `%`: these are powers of two, and for all a compiler knows the step might be negative.
            phase = completed & (STEPS_A_DRAW - 1)
            if phase == 0:
                step_deviates(deviates, trajectory, completed, key0, key1, point)
            offset, kick, row = phase * WORDS_A_STEP * LANES, 0, 0
            if KICK_ROWS:
                kick = (completed & (KICK_STEPS - 1)) * KICK_WORDS * LANES
                if kick == 0:
                    kick_deviates(kicks, trajectory, completed, key0, key1, point)
            if ROW_ROWS:
                fresh = completed == start
                row = draw_rows(rows, order, words, trajectory, completed, fresh, key0, key1, point)
            index = np.uint64(completed - start)
            update(state, deviates, kicks, rows, data, path, sums, offset, kick, row, table, index, constants)
            if HAS_DRIFTS and looking:
                take_changes(completed, place, plans, sinks, state, observed, constants)
            completed += 1
            if N_RUNNING:
                accumulate_windows(state, completed, inputs, buffers, index, offset, row)
            if completed & 3 == 0:
                n_marked = find_diverged(state, status, completed, n_marked)
        if completed == steps and steps & 3:
            n_marked = find_diverged(state, status, completed, n_marked)


@inlined
def begin_tile(state, status, trajectory, n_trajectories, deviates, arguments, counter):
    """Draw the initial state of a tile; lanes beyond the last trajectory are padding, NaN from the start."""
    key0, key1, point = counter
    initial_deviates(deviates, trajectory, 0, key0, key1, point)
    initial_state(state, deviates, arguments)
    for lane in range(LANES):
        if trajectory + lane >= n_trajectories:
            status[lane] = -1
            bury(state, lane)
