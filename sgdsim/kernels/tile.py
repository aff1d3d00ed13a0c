"""The run of one tile over a span of steps, on every target.

A tile holds trajectories, its lanes, as a structure of arrays, ``state[variable * lanes + lane]``. On the CPU it runs
all steps of a span before the next tile starts, so its state stays in the L1 cache, and every inner loop runs over
lanes, so LLVM makes SIMD of it. On a GPU a thread runs a tile of one lane, whose state is in its registers.

The functions below are pasted as text into the generated modules, which provide ``lane_loop``, ``tile_loop``,
``inlined``, ``wide_vectors``, ``always_inline``, the constants in capitals, and the called functions. Formulas are
called by `interface`. `cpu_loop` and `cuda_kernels` have the functions that a GPU has compiled in and the CPU chooses
at run time (``step_deviates``, ``kick_deviates``, ``initial_deviates``, ``constant_deviates``, ``data_deviates`` and
``draw_rows``), those that measure (``take_record``, ``observe_before`` and ``take_changes``), and those that a GPU has
written out variable by variable (``count_outside``, ``is_outside``, ``is_beyond``, ``bury`` and ``keep``). Arguments
that are passed on together are tuples:

- counter: key0, key1, point, pair. See `deviates`.
- layout: lanes, n_parameters, draws, kicks, sampling, n_running, has_drifts, substeps. Numbers of lanes and
  parameters; for deviates and for kicks, the number of steps that share a draw, the words of a step, and the table of
  the draw; `Layout.sampling_numbers`; the number of running observables; whether any drift is measured; the substeps
  of a step, uint64.
- inputs: formula, table, constants, windows, ends, weights, data. The formula, see `interface`; the numbers that all
  trajectories share in each substep of the span, (substep, column), see `Program.step_table`; the constants in the
  order of the program, (constant,); first (excluded) and last step of each running observable, (running observable,
  2); the last step that each variable of the state is about, (variable,); the weights of all controls, (completed
  steps * weight); the data, (column * row,).
- plans: record_steps, record_plan, drift_plan, snapshot_steps. Sorted steps of the records; the plans of
  `measure.record` and `measure.record_changes`; sorted steps of the snapshots.
- sinks: moments, counts, comoments, cells, changes, theta. The arrays of results, see `advance_tile`.
- buffers: deviates, kicks, rows, order, words, path, scratch. The results of a step that the next overwrites.
"""
# mypy: ignore-errors
# ruff: noqa: F821, PLR0912, PLR0915

import numpy as np

# --- pasted from here on ---


@inlined
def last_look(completed):
    """Completed steps when trajectories were last looked at, before they were completed: a multiple of four."""
    return (completed - 1) & ~3


@inlined
def mark_diverged(state, status, n_parameters, ends, completed):
    """Set newly diverged trajectories to NaN and note the step; padding lanes count as known.

    Sums and values along the path whose last step was before the last look, four steps earlier, are those of a
    trajectory that was within all limits: they are kept.
    """
    lanes, looked = len(status), last_look(completed)
    for lane in range(lanes):
        if status[lane] == 0 and is_outside(state, lane, lanes, n_parameters):
            too_large = is_beyond(state, lane, lanes, n_parameters)
            status[lane] = completed if too_large else -1 - completed
            bury(state, lane, lanes, ends, looked)


@inlined
def find_diverged(state, status, n_parameters, ends, completed, n_marked):
    """Mark newly diverged trajectories; the number of marked ones afterwards."""
    # All parameters of marked lanes are NaN and counted: the slow path runs only when another trajectory joins them.
    if count_outside(row_of(state, 0, n_parameters * len(status))) != n_marked * n_parameters:
        mark_diverged(state, status, n_parameters, ends, completed)
        return count_marked(status)
    return n_marked


@inlined
def count_marked(status):
    """Number of trajectories that have diverged, or are padding."""
    n = COUNT(0)
    for lane in range(len(status)):
        n = COUNT(n + (status[lane] != 0))
    return n


@tile_loop
def accumulate_windows(state, completed, steps, inputs, buffers, index, offset, row):
    """Add a share to every running observable whose window contains the number of completed steps."""
    always_inline()
    formula, table, constants, windows, _, weights, data = inputs
    deviates, _, rows, _, _, path, scratch = buffers
    width = len(weights) // (steps + 1)
    for running in range(len(windows)):
        if windows[running, 0] < completed <= windows[running, 1]:
            part = REAL(1.0 / (windows[running, 1] - windows[running, 0]))
            accumulate(
                formula,
                running,
                completed,
                part,
                state,
                deviates[offset:],
                rows[row:],
                data,
                path,
                row_of(weights, completed, width),
                scratch,
                table[index],
                constants,
            )


@inlined
def snapshot(theta, state, first, lanes):
    """Copy the parameters of one tile to ``theta[trajectory, parameter]``."""
    for lane in range(lanes):
        if first + lane < len(theta):
            keep(theta, first + lane, state, lane, lanes)


@inlined
def next_event(steps, index, stop):
    """The first of the sorted steps that is still to come, or the end of the span if that is earlier."""
    return steps[index] if index < len(steps) and steps[index] < stop else stop


@inlined
def advance_tile(place, span, counter, layout, inputs, plans, sinks, state, status, buffers, observed):
    """Run one tile over a span of steps.

    Parameters
    ----------
    place
        First trajectory; its row in `theta`; the tile's group; its number in the block.
    span
        Completed steps before, after, and at the end of the run; indices of the first record and the first snapshot
        that are still to be taken.
    sinks
        Moments (record, group, observable, 5): count, mean, central sums 2, 3, 4; counts (record, group, bin of any
        histogram with its underflow and overflow), uint32; comoments (record, group, pair, 4): count, both means,
        central sum of products; cells (record, group, cell of any plane, and one a plane for all outside), uint32;
        changes (tile of the block, bin of any drift, 3): count, sum, sum of squares; theta (snapshot, row, parameter).
    state
        The variables of the tile, (variable * lane); changed in place.
    status
        Completed steps when divergence was found, (lane), int64; 0 for never, -1 for padding, and -1 less these steps
        if the state is not a number and no parameter is too large.
    observed
        Scratch of the target's own ``take_record`` and ``take_changes``.
    """
    trajectory, row_of_theta, _, _ = place
    start, stop, steps, r, s = span
    lanes, n_parameters, draws, kick_draws, sampling, n_running, has_drifts, substeps = layout
    draw_steps, draw_words_a_step, _ = draws
    kick_steps, kick_words_a_step, _ = kick_draws
    formula, table, constants, _, ends, _, data = inputs
    deviates, kicks, rows, order, words, path, scratch = buffers
    record_steps, _, drift_plan, snapshot_steps = plans
    _, _, _, _, _, theta = sinks
    n_marked = count_marked(status)
    completed = start
    if n_running and start == 0:
        accumulate_windows(state, start, steps, inputs, buffers, np.uint64(0), np.int64(0), np.int64(0))
    while True:
        if r < len(record_steps) and record_steps[r] == completed:
            take_record(r, place, layout, inputs, plans, sinks, state, observed)
            r += 1
        if s < len(snapshot_steps) and snapshot_steps[s] == completed:
            snapshot(theta[s], state, row_of_theta, lanes)
            s += 1
        if completed == stop:
            break
        event = next_event(record_steps, r, next_event(snapshot_steps, s, stop))
        while completed < event:
            looking = False
            if has_drifts:
                looking = looks(drift_plan, completed)
                if looking:
                    observe_before(completed, inputs, state, observed)
            # `&`, not `%`: these are powers of two, and a compiler must assume that the step may be negative.
            phase = completed & (draw_steps - 1)
            if phase == 0:
                step_deviates(draws, deviates, words, trajectory, completed, counter)
            offset, kick, row = phase * draw_words_a_step * lanes, np.int64(0), np.int64(0)
            if kick_words_a_step:
                phase = completed & (kick_steps - 1)
                if phase == 0:
                    kick_deviates(kick_draws, kicks, words, trajectory, completed, counter)
                kick = phase * kick_words_a_step * lanes
            if sampling[0]:
                row = draw_rows(rows, order, words, sampling, trajectory, completed, completed == start, counter)
            index = np.uint64(completed - start) * substeps
            for substep in range(substeps):
                update(
                    formula,
                    state,
                    deviates[offset:],
                    kicks[kick:],
                    rows[row:],
                    data,
                    path,
                    scratch,
                    table[index + np.uint64(substep)],
                    constants,
                )
            if has_drifts and looking:
                take_changes(completed, place, layout, inputs, plans, sinks, state, observed)
            completed += 1
            if n_running:
                accumulate_windows(state, completed, steps, inputs, buffers, index, offset, row)
            if completed & 3 == 0:
                n_marked = find_diverged(state, status, n_parameters, ends, completed, n_marked)
        if completed == steps and steps & 3:
            n_marked = find_diverged(state, status, n_parameters, ends, completed, n_marked)


@inlined
def begin_tile(
    formula, state, status, trajectory, n_trajectories, starts, deviates, words, scratch, arguments, ends, counter
):
    """Draw the initial state of a tile; lanes beyond the last trajectory are padding, NaN from the start.

    ``starts`` has the table of the draw of initial parameters and the number of its rows of deviates, both for the
    constants, whose deviates follow, and the table for the data, whose deviates come last.
    """
    lanes = len(status)
    table, rows, constants, constant_rows, data = starts
    initial_deviates(table, deviates, words, trajectory, np.int64(0), counter)
    constant_deviates(constants, deviates[rows * lanes :], words, trajectory, np.int64(0), counter)
    behind = (rows + constant_rows) * lanes
    data_deviates(data, deviates[behind:], words, trajectory, np.int64(0), counter)
    initial_state(formula, state, deviates, scratch, arguments)
    for lane in range(lanes):
        if trajectory + lane >= n_trajectories:
            status[lane] = -1
            bury(state, lane, lanes, ends, np.int64(-1))
