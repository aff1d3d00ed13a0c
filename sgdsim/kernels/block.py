"""The data and duties of executors: the state of a block of trajectories, and the data that all blocks share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from sgdsim.kernels.accumulators import Accumulators
from sgdsim.kernels.plan import Plan


@dataclass(frozen=True)
class Common:
    """The data that all blocks of a run share, as the kernels read them.

    Attributes
    ----------
    trajectories, steps
        Number of trajectories and steps of the whole run.
    key
        The seed's two words.
    point
        Sweep point of the random counter.
    constants, arguments
        Run-time numbers of a step, (constant,), and of the initial state, (argument,).
    windows
        First (excluded) and last step of each running observable, (running observable, 2).
    ends
        Last step that each variable of the state is about, (variable,).
    weights
        Weights of the controls, (control, completed steps, weight).
    data
        The data set, column after column, (column * row,).
    record_steps, snapshot_steps
        Completed steps of records and snapshots, sorted.
    plan
        The recorders of the run.
    """

    trajectories: int
    steps: int
    key: tuple[np.uint32, np.uint32]
    point: int
    constants: np.ndarray
    arguments: np.ndarray
    windows: np.ndarray
    ends: np.ndarray
    weights: np.ndarray
    data: np.ndarray
    record_steps: np.ndarray
    snapshot_steps: np.ndarray
    plan: Plan

    @cached_property
    def weight_rows(self) -> np.ndarray:
        """The weights in the order of completed steps, (completed steps * control * weight,)."""
        return np.ascontiguousarray(self.weights.swapaxes(0, 1)).reshape(-1)


@dataclass
class Block:
    """The whole state of a block of trajectories between two spans, in the memory of its executor.

    Attributes
    ----------
    first_tile
        Index in the ensemble of the first tile.
    step
        Number of completed steps.
    state
        Parameters, optimizer state and running observables, (tile, variable * lane).
    status
        Completed steps when divergence was found, 0 for never, -1 for padding, (tile, lane); see `tile.advance_tile`.
    changes
        Sums of the drifts so far, (tile, bin of any drift, 3). Each tile has its own: if all tiles of a group added to
        the same sums, their order would depend on the spans.
    """

    first_tile: int
    step: int
    state: Any
    status: Any
    changes: Any

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return len(self.state)


class Executor(Protocol):
    """A runner of blocks on some device; its numbers depend on nothing but the run."""

    block_trajectories: int
    """Number of trajectories that a block should have, for speed."""

    name: str
    """Name of the device, for the record."""

    kernel: Any
    """The generated module."""

    def notice(self) -> str:
        """A message for the user before `compile`, if it takes long; else empty."""
        ...

    def compile(self, empty: Accumulators) -> None:
        """Make the machine code, or load it; empty arrays stand for those that a run measures into."""

    def block(self, first_tile: int, tiles: int) -> Block:
        """A block at its start, with its parameters drawn; those whose values are given later are zero."""

    def put(self, block: Block, parameter: int, values: np.ndarray) -> None:
        """Give a parameter of every trajectory a value, (tile, lane)."""

    def restore(self, block: Block, saved: Block) -> None:
        """Copy to a block all that a saved block of the same tiles, with arrays of NumPy, holds."""

    def advance(self, block: Block, stop: int, step_table: np.ndarray, into: Accumulators) -> None:
        """Run a block to a number of completed steps; `step_table` is `Program.step_table` of the steps on the way."""

    def release(self) -> None:
        """Free the memory that is kept from span to span, once all blocks have come to their end."""

    def fetch(self, array: Any) -> np.ndarray:
        """A field of a block as an array of NumPy."""
        ...


def first_after(steps: np.ndarray, completed: int) -> int:
    """Index of the first of the sorted steps that a span from a number of completed steps takes.

    A step at which the span starts was taken by the span before, except step 0.

    Examples
    --------
    >>> [first_after(np.array([0, 4, 8]), completed) for completed in (0, 3, 4)]
    [0, 1, 2]
    """
    return int(np.searchsorted(steps, completed, "right" if completed else "left"))
