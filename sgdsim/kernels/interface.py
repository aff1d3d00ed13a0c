"""The interface between the engine and a formula: four functions, and their arguments.

The engine is all that knows no formula: random words and deviates, rows of data, the loop over tiles and steps,
divergence, windows, records. On the CPU it is compiled once on a machine. A formula's module holds the four functions
alone; the engine gets their addresses and calls each for a whole tile, so that the cost of a call is negligible. On a
GPU both are compiled together, and calls are inlined.

=============  =======  ============================================================================================
argument       dtype    what it is
=============  =======  ============================================================================================
``state``      real     (variable, lane): parameters, optimizer state, running observables
``deviates``   noise    (word, lane): the deviates of this step, laid out as `draws.Draws` says; of a start, all
``kicks``      noise    (word, lane): the deviates of the noise that an optimizer adds
``rows``       uint32   (sample, lane): the rows of the data that make the batch
``data``       real     (column, row)
``path``       real     (row, lane): the state before the step and the gradient of the batch; ``update`` leaves
                        them for ``accumulate`` if an observable is about the step
``scratch``    real     (row, lane): for intermediate results; a formula's module has their number, ``SCRATCH_ROWS``
``table``      real     (column,): the numbers that all lanes share in the step, see `Program.step_table`
``constants``  real     (constant,): in the order of `Program.constants`
``arguments``  real     (argument,): of the initial state, in the order of `Program.initial_arguments`
``weights``    float64  (control, weight): those at this number of completed steps
``values``     real     (observable, lane): all that is measured
``ends``       int64    (variable,): the last step that a variable of the state is about
``looked``     int64    completed steps when it was last looked whether trajectories have diverged
``running``    int64    number of the running observable
``completed``  int64    number of completed steps
``part``       real     the share of a step in the mean over the window
=============  =======  ============================================================================================

The functions below are pasted as text into the engine. ``formula`` holds the four functions in the order below:
addresses on the CPU, functions in plain Python. On a GPU the generated functions have these names themselves, and do
not use ``formula``.
"""
# mypy: ignore-errors
# ruff: noqa: F821

# --- pasted from here on ---


@inlined
def initial_state(formula, state, deviates, scratch, arguments):
    """Set all variables of a tile."""
    call(formula[0], (state, deviates, scratch, arguments))


@inlined
def update(formula, state, deviates, kicks, rows, data, path, scratch, table, constants):
    """Make one step of every lane."""
    call(formula[1], (state, deviates, kicks, rows, data, path, scratch, table, constants))


@inlined
def accumulate(
    formula, running, completed, part, state, deviates, rows, data, path, weights, scratch, table, constants
):
    """Add a step's share to the variables of a running observable."""
    arrays = state, deviates, rows, data, path, weights, scratch, table, constants
    call(formula[2], (running, completed, part, *arrays))


@inlined
def observe(formula, state, values, scratch, constants, ends, looked):
    """Set the values of all that is measured."""
    call(formula[3], (state, values, scratch, constants, ends, looked))
