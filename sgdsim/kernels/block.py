"""What executors work on: the state of a block of trajectories, and what all blocks of a run share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from sgdsim.kernels.accumulators import Accumulators
from sgdsim.kernels.plan import Plan


@dataclass(frozen=True)
class Common:
    """What all blocks of a run share, as the kernels read it.

    Attributes
    ----------
    trajectories, steps
        Of the whole run.
    key
        The seed's two words.
    point
        Sweep point of the counter.
    constants, arguments
        Of a step and of the initial state, (constant,) and (argument,).
    windows
        First (excluded) and last step of each running observable, (running observable, 2).
    weights
        (control, completed steps, weight).
    data
        (column * row,).
    record_steps, snapshot_steps
        Completed steps, sorted.
    plan
        What is measured.
    """

    trajectories: int
    steps: int
    key: tuple[np.uint32, np.uint32]
    point: int
    constants: np.ndarray
    arguments: np.ndarray
    windows: np.ndarray
    weights: np.ndarray
    data: np.ndarray
    record_steps: np.ndarray
    snapshot_steps: np.ndarray
    plan: Plan

    @cached_property
    def weight_rows(self) -> np.ndarray:
        """The weights of one number of completed steps after the other, (completed steps * control * weight,)."""
        return np.ascontiguousarray(self.weights.swapaxes(0, 1)).reshape(-1)


@dataclass
class Block:
    """The whole state of a block of trajectories between two spans, in the memory of its executor.

    Attributes
    ----------
    first_tile
        Index in the ensemble of the first tile.
    step
        Completed steps.
    state
        Parameters, optimizer state and running observables, (tile, variable * lane).
    status
        (tile, lane): completed steps when divergence was found, 0 never, -1 padding; see `tile.advance_tile`.
    changes
        Sums of the drifts so far, (tile, bin of any drift, 3): by tile, since their order would depend on the spans
        if all tiles of a group added to the same ones.
    """

    first_tile: int
    step: int
    state: Any
    status: Any
    changes: Any

    @property
    def tiles(self) -> int:
        """How many."""
        return len(self.state)


class Executor(Protocol):
    """Runs blocks somewhere; numbers of one executor depend on nothing but the run."""

    block_trajectories: int
    """As many as a block should have, for speed."""

    name: str
    """Where, for the record."""

    kernel: Any
    """The generated module."""

    def notice(self) -> str:
        """What is to be said before `compile`, if it takes long."""
        ...

    def compile(self, empty: Accumulators) -> None:
        """Make the machine code, or load it; arrays of no length stand for what a run measures into."""

    def block(self, first_tile: int, tiles: int) -> Block:
        """A block at its start; its parameters are drawn, those that are given are zero."""

    def put(self, block: Block, parameter: int, values: np.ndarray) -> None:
        """Give a parameter of every trajectory a value, (tile, lane)."""

    def restore(self, block: Block, saved: Block) -> None:
        """Give a block all that another one of its tiles holds, whose fields are NumPy's."""

    def advance(self, block: Block, stop: int, step_table: np.ndarray, into: Accumulators) -> None:
        """Run a block to so many completed steps; `step_table` is `Program.step_table` of the steps on the way."""

    def release(self) -> None:
        """Give back what is kept from span to span, once all blocks have come to their end."""

    def fetch(self, array: Any) -> np.ndarray:
        """A field of a block as NumPy has it."""
        ...


def first_after(steps: np.ndarray, completed: int) -> int:
    """Index of the first of the sorted steps that a span from here takes.

    One at the step where it starts was taken by the span before, except at step 0.

    Examples
    --------
    >>> [first_after(np.array([0, 4, 8]), completed) for completed in (0, 3, 4)]
    [0, 1, 2]
    """
    return int(np.searchsorted(steps, completed, "right" if completed else "left"))
