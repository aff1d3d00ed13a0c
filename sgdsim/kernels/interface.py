"""What the engine asks of a formula: four functions, their arguments, and when they are called.

The engine is all that knows no formula: random words and deviates, rows of data, the loop over tiles and steps,
divergence, windows, records. On the CPU it is compiled once a machine. A formula's module holds the four functions
alone; the engine gets their addresses and calls each for a whole tile, so that a call is lost in the work of its lanes.
On a GPU both are compiled together, and calls are inlined.

=================  =======  ============================================================================================
argument       dtype    what it is
=============  =======  ============================================================================================
``state``      real     (variable, lane): parameters, optimizer state, running observables
``deviates``   noise    (word, lane): the deviates of this step, laid out as `draws.Draws` says; of a start, all
``kicks``      noise    (word, lane): those of the noise that an optimizer adds
``rows``       uint32   (sample, lane): which rows of the data make the batch
``data``       real     (column, row)
``path``       real     (row, lane): the state before the step and the gradient of the batch; ``update`` leaves
                        them for ``accumulate`` where an observable speaks of the step
``scratch``    real     (row, lane): for intermediate results; a formula's module says how many, ``SCRATCH_ROWS``
``table``      real     (column,): what all lanes share of the step, see `Program.step_table`
``constants``  real     (constant,): in the order of `Program.constants`
``arguments``  real     (argument,): of the initial state, in the order of `Program.initial_arguments`
``weights``    float64  (control, weight): of this number of completed steps
``values``     real     (observable, lane): all that is measured
``running``    int64    which running observable
``completed``  int64    how many steps are
``part``       real     the share of a step in the mean over the window
=============  =======  ============================================================================================

The functions below are pasted as text into the engine; ``formula`` holds what is called, in the order of the first
table: addresses on the CPU, functions in plain Python. On a GPU the generated functions have these names themselves,
and take ``formula`` for nothing.
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
    """One step of every lane."""
    call(formula[1], (state, deviates, kicks, rows, data, path, scratch, table, constants))


@inlined
def accumulate(
    formula, running, completed, part, state, deviates, rows, data, path, weights, scratch, table, constants
):
    """Add to the variables of a running observable."""
    arrays = state, deviates, rows, data, path, weights, scratch, table, constants
    call(formula[2], (running, completed, part, *arrays))


@inlined
def observe(formula, state, values, scratch, constants):
    """Values of all that is measured."""
    call(formula[3], (state, values, scratch, constants))
