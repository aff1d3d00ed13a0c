"""The loop over tiles of the CPU and the plain-Python target: each worker runs whole groups of tiles.

A tile belongs to the group ``tile % GROUPS``; moments and counts are kept by group, so that nothing depends on the
number of threads. This text is pasted behind `tile`. It has the functions that are chosen here at run time, and
compiled in on a GPU.
"""
# mypy: ignore-errors
# ruff: noqa: F821


# --- pasted from here on ---


@lane_loop
def count_outside(values):
    """Number of values that are not finite or beyond LIMIT."""
    wide_vectors()
    n = COUNT(0)  # as wide as the state: a wider count would halve the lanes of a vector
    for i in range(len(values)):
        n = COUNT(n + (not abs(values[i]) <= LIMIT))
    return n


@inlined
def is_outside(state, lane, lanes, n_parameters):
    """True if any parameter of a trajectory is not finite or beyond LIMIT."""
    outside = False
    for parameter in range(n_parameters):
        outside = outside or not abs(state[parameter * lanes + lane]) <= LIMIT
    return outside


@inlined
def is_beyond(state, lane, lanes, n_parameters):
    """True if any parameter of a trajectory is too large; a NaN is not."""
    beyond = False
    for parameter in range(n_parameters):
        beyond = beyond or abs(state[parameter * lanes + lane]) > LIMIT
    return beyond


@inlined
def bury(state, lane, lanes, ends, looked):
    """Make every variable of a trajectory NaN that is about a later step than the one at which it was looked at."""
    for variable in range(len(ends)):
        if ends[variable] > looked:
            state[variable * lanes + lane] = NAN


@inlined
def keep(theta, row, state, lane, lanes):
    """Copy the parameters of a trajectory to a row of ``theta[trajectory, parameter]``."""
    for parameter in range(theta.shape[1]):
        theta[row, parameter] = state[parameter * lanes + lane]


@tile_loop
def draw(table, stream, c0, deviates, words, trajectory, counter):
    """Fill the deviates of a draw, line by line of its table; see `layout.table`."""
    lanes = len(words) // 4
    for line in range(len(table)):
        kind, block = table[line, 0], table[line, 1]
        if kind == WORDS:
            draw_words(words, stream, c0, block, trajectory, counter)
            continue
        word0, word1 = row_of(words, table[line, 2], lanes), row_of(words, table[line, 3], lanes)
        first = row_of(deviates, 4 * block + table[line, 4], lanes)
        last = row_of(deviates, 4 * block + table[line, 5], lanes)
        if kind == NORMALS32:
            normals32(word0, word1, first, last)
        elif kind == UNIFORMS32:
            uniforms32(word0, first)
        elif IS_WIDE and kind == UNIFORMS64:
            uniforms64(word0, word1, first)
        elif IS_WIDE:
            word2, word3 = row_of(words, 2, lanes), row_of(words, 3, lanes)
            normals64(word0, word1, word2, word3, first, last)


@inlined
def step_deviates(draws, deviates, words, trajectory, completed, counter):
    """Draw the deviates of a step, or of all steps that share a draw."""
    steps, _, table = draws
    draw(table, GRADIENT_NOISE, completed >> (steps // 2), deviates, words, trajectory, counter)


@inlined
def kick_deviates(draws, deviates, words, trajectory, completed, counter):
    """Draw the deviates of the noise that an optimizer adds."""
    steps, _, table = draws
    draw(table, OPTIMIZER_NOISE, completed >> (steps // 2), deviates, words, trajectory, counter)


@inlined
def initial_deviates(table, deviates, words, trajectory, completed, counter):
    """Draw the deviates of the initial state."""
    draw(table, INITIAL_STATE, completed, deviates, words, trajectory, counter)


@inlined
def constant_deviates(table, deviates, words, trajectory, completed, counter):
    """Draw the deviates of the constants of each trajectory."""
    draw(table, TRAJECTORY_CONSTANTS, completed, deviates, words, trajectory, counter)


@inlined
def data_deviates(table, deviates, words, trajectory, completed, counter):
    """Draw the deviates of the data of each trajectory."""
    draw(table, TRAJECTORY_DATA, completed, deviates, words, trajectory, counter)


@tile_loop
def draw_rows(rows, order, words, sampling, trajectory, completed, fresh, counter):
    """Choose the rows of the batch; the index in `rows` at which they begin."""
    kind = sampling[0]
    if kind == REPLACEMENT:
        return rows_replacement(rows, order, words, sampling, trajectory, completed, fresh, counter)
    if kind == BATCH:
        return rows_batch(rows, order, words, sampling, trajectory, completed, fresh, counter)
    if kind == EPOCH:
        return rows_epoch(rows, order, words, sampling, trajectory, completed, fresh, counter)
    return rows_hashed(rows, order, words, sampling, trajectory, completed, fresh, counter)


@inlined
def take_record(r, place, layout, inputs, plans, sinks, state, observed):
    """Measure a tile into record r of its group."""
    _, _, group, _ = place
    formula, _, constants, _, ends, _, _ = inputs
    record_steps, record_plan, _, _ = plans
    moments, counts, comoments, cells, _, _ = sinks
    values, _, work, scratch = observed
    observe(formula, state, values, scratch, constants, ends, last_look(record_steps[r]))
    record(moments[r, group], counts[r, group], comoments[r, group], cells[r, group], record_plan, values, work)


@inlined
def observe_before(completed, inputs, state, observed):
    """Observe a tile before a step at which drifts are measured."""
    formula, _, constants, _, ends, _, _ = inputs
    _, before, _, scratch = observed
    observe(formula, state, before, scratch, constants, ends, last_look(completed))


@inlined
def take_changes(completed, place, layout, inputs, plans, sinks, state, observed):
    """Add the change of a tile over the step to its drifts."""
    _, _, _, tile = place
    formula, _, constants, _, ends, _, _ = inputs
    _, _, drift_plan, _ = plans
    _, _, _, _, changes, _ = sinks
    values, before, _, scratch = observed
    observe(formula, state, values, scratch, constants, ends, last_look(completed + 1))
    record_changes(changes[tile], drift_plan, layout[0], completed, before, values)


@entry
def advance(worker, workers, first_tile, span, counter, layout, inputs, plans, sinks, state, status, spaces):
    """Run one worker's groups of a block of tiles over a span of steps.

    Parameters
    ----------
    worker, workers
        Number of this worker, and of all; its groups are worker, worker + workers, …: no two share an accumulator.
    first_tile
        Index in the ensemble of the block's first tile.
    span, counter, layout, inputs, plans, sinks
        See `tile`.
    state
        (tile, variable * lane); changed in place.
    status
        (tile, lane).
    spaces
        Scratch of every worker, (worker, row * lane): deviates, kicks, rows, order, words, path, scratch; the observed
        values, those before a step, and the work of `measure`.
    """
    deviates, kicks, rows, order, words, path, scratch, values, before, work = spaces
    buffers = deviates[worker], kicks[worker], rows[worker], order[worker], words[worker], path[worker], scratch[worker]
    observed = values[worker], before[worker], work[worker], scratch[worker]
    mode = flush_subnormals()
    for group in range(worker, GROUPS, workers):
        for index in range((group - first_tile) % GROUPS, len(state), GROUPS):
            trajectory = (first_tile + index) * layout[0]
            place = trajectory, trajectory, group, index
            advance_tile(
                place, span, counter, layout, inputs, plans, sinks, state[index], status[index], buffers, observed
            )
    restore_subnormals(mode)


@entry
def initialize(
    formula, first_tile, n_trajectories, starts, arguments, ends, counter, state, status, deviates, words, scratch
):
    """Draw the initial state of a block."""
    lanes = status.shape[1]
    for index in range(len(state)):
        trajectory = (first_tile + index) * lanes
        begin_tile(
            formula,
            state[index],
            status[index],
            trajectory,
            n_trajectories,
            starts,
            deviates,
            words,
            scratch,
            arguments,
            ends,
            counter,
        )
