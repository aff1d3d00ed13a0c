"""Numbers that decide how finely, how widely and how long a chain is computed, and the texts of its refusals."""

import numpy as np

EPSILON = float(np.finfo(np.float64).eps)

# The mesh; a pair of numbers is for one parameter and for two

TOLERANCE = (1e-10, 1e-5)  # relative change of test functions at which refinement stops
LONG_TOLERANCE = 1e-7  # relative change at which refinement stops, for one parameter with long tails
NEGLIGIBLE = (1e-60, 1e-18)  # weight of a node of the noise below which it is left out
FAR = 1e-40  # weight of a node of the noise from which nothing of an expectation may come
ENTRIES = 4_000_000  # numbers of the operator that are computed at once
GAP = 1e-9  # least distance of the eigenvalue 1 from the next: below, there is more than one stationary law
HOPELESS = 0.3  # relative error beyond which a result is refused

# The domain

EDGE = 1e-13  # share of the fourth moment in an outer panel above which a domain of one parameter is widened
LEAST = 1e-7  # the largest such share that is allowed where rounding hides smaller ones
LEAK = 1e-8  # chance of leaving a domain of two parameters in a step, below which it is not widened any more
LOST = 1e-3  # chance of leaving that domain in a step, above which the chain is refused
WIDENED = 6  # domains of two parameters that are tried
PATIENCE = 12  # domains of one parameter that are tried although more than `CROWDED` is at an edge
CROWDED = 0.01  # share of the law in an outer panel
WIDEST = 150.0  # width in units of the spread, beyond which the coordinate becomes an inverse hyperbolic sine
LONGEST = 80.0  # largest width of a domain in that coordinate

# The trial that shows where a chain lives

SEED = 20251121
TRAJECTORIES = 512  # trajectories of the trial
BLOCK = 100  # steps between two looks at their spread

# Lattices

STATES = 40_000  # largest number of states
PHASES = 32  # points of a start that is drawn, each with its lattice
MOST_PHASES = 100  # points of a start that is listed, above which some are chosen

SEVERAL = (
    "the chain has more than one stationary law: there are parts of its space that it never, or hardly ever, leaves; "
    "evolve() gives its law after so many steps"
)
UNBOUNDED = (
    "the chain has no stationary law that could be found: its domain had to be widened again and again, as where a "
    "parameter diffuses without bound or escapes; evolve() gives its law after so many steps"
)
