"""Functions for a single trajectory of many variables on a GPU: tests of divergence, marking it, and a snapshot."""
# mypy: ignore-errors
# ruff: noqa: F821

# --- pasted from here on ---


@device
def count_outside(values):
    """Number of parameters that are not finite or beyond LIMIT."""
    n = COUNT(0)
    for i in range(N_PARAMETERS):
        n = COUNT(n + (not abs(values[i]) <= LIMIT))
    return n


@device
def is_outside(state, lane, lanes, n_parameters):
    """True if any parameter of a trajectory is not finite or beyond LIMIT."""
    return count_outside(state) > 0


@device
def is_beyond(state, lane, lanes, n_parameters):
    """True if any parameter of a trajectory is too large; a NaN is not."""
    n = COUNT(0)
    for i in range(N_PARAMETERS):
        n = COUNT(n + (abs(state[i]) > LIMIT))
    return n > 0


@device
def bury(state, lane, lanes, ends, looked):
    """Make every variable of a trajectory NaN that is about a later step than the one at which it was looked at."""
    for i in range(N_VARIABLES):
        if ends[i] > looked:
            state[i] = NAN


@device
def keep(theta, row, state, lane, lanes):
    """Copy the parameters to a row of ``theta[trajectory, parameter]``."""
    for i in range(N_PARAMETERS):
        theta[row, i] = state[i]
