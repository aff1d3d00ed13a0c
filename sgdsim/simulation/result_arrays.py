"""Arrays of the results of runs: their shapes, and the pieces in which they are saved and put together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from sgdsim.base.errors import RunError
from sgdsim.base.sparse import Sparse
from sgdsim.kernels.accumulators import Accumulators
from sgdsim.kernels.plan import Plan
from sgdsim.kernels.program import GROUPS
from sgdsim.model.run import Run

ROWS = ("theta", "status", "stopped")
LISTED = "theta", "stopped"  # arrays with a value for each trajectory, along the second axis
SUMS = tuple(one.name for one in fields(Accumulators) if one.name not in ROWS)


def snapshot_steps(run: Run) -> np.ndarray:
    """Numbers of completed steps at the snapshots, sorted."""
    return np.array(sorted(set(run.recorder.snapshots)), dtype=np.int64)


def shapes(run: Run) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and number type of each field of `Accumulators`, except the status."""
    plan, records = Plan(run), len(run.recorder.record_steps(run.steps))
    kept = run.recorder.snapshot_trajectories or run.trajectories
    return {
        "theta": ((len(snapshot_steps(run)), kept, len(run.loss.parameters)), run.dtype),
        "moments": ((records, GROUPS, len(run.measured), 5), "float64"),
        "counts": ((records, GROUPS, plan.bins), "uint32"),
        "comoments": ((records, GROUPS, plan.pairs, 4), "float64"),
        "cells": ((records, GROUPS, plan.cells), "uint32"),
        "changes": ((GROUPS, plan.drift_bins, 3), "float64"),
        "stopped": ((2, run.trajectories if run.stop else 0), index_dtype(run.steps)),
    }


def allocate(runs: Sequence[Run], spool: Path | None = None) -> Accumulators:
    """Accumulators of all runs of a sweep; the snapshots are in an unnamed file if there is a folder for it."""
    n, run = len(runs), max(runs, key=lambda one: one.steps)
    arrays = {
        name: _on_disk(spool, (n, *shape), dtype)
        if name == "theta" and spool is not None
        else np.zeros((n, *shape), dtype)
        for name, (shape, dtype) in shapes(run).items()
    }
    return Accumulators(**arrays, status=[Sparse((run.trajectories,), index_dtype(run.steps)) for _ in runs])


def _on_disk(folder: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Array of zeros in a file that ends with the process; its space is reserved, as a full disk would crash later."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    try:
        with TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                os.ftruncate(file.fileno(), size)
            return np.asarray(np.memmap(file, dtype, "r+", shape=shape))
    except OSError as error:
        raise RunError(f"{folder}: no place for {size / 1e9:.3g} GB of snapshots: {error.strerror}") from None


def index_dtype(largest: int) -> str:
    """Type of step counters: 32 bits if the largest value fits, to save half of the memory."""
    return "int32" if largest < 2**31 else "int64"


def at(results: Accumulators, point: int) -> Accumulators:
    """Accumulators of one point of a sweep, which share the memory of those of all points."""
    return Accumulators(*(getattr(results, one.name)[point] for one in fields(Accumulators)))


def rows_of(into: Accumulators, tiles: Sequence[tuple[int, int]], lanes: int) -> dict[str, np.ndarray]:
    """Results of the single trajectories of some tiles, one tile after the other."""
    ends = [into.status.between(a * lanes, b * lanes) for a, b in tiles]
    none = np.empty(0, np.int64)
    whole = {name: getattr(into, name) for name in LISTED}
    return {
        **{
            name: np.concatenate([rows[:, :0], *(rows[:, a * lanes : b * lanes] for a, b in tiles)], axis=1)
            for name, rows in whole.items()
        },
        "diverged": np.concatenate([none, *(index for index, _ in ends)]),
        "status": np.concatenate([none, *(values for _, values in ends)]),
    }


def put_rows(
    into: Accumulators, tiles: Sequence[Sequence[int]], lanes: int, arrays: Mapping[str, np.ndarray], prefix: str = ""
) -> None:
    """Put the results from `rows_of` back into the accumulators."""
    rows = {name: arrays[f"{prefix}{name}"] for name in LISTED}
    diverged, status = (arrays[f"{prefix}{name}"] for name in ("diverged", "status"))
    for first, last in tiles:
        for name, left in rows.items():
            part = getattr(into, name)[:, first * lanes : last * lanes]
            part[:], rows[name] = left[:, : part.shape[1]], left[:, part.shape[1] :]
        low, high = np.searchsorted(diverged, (first * lanes, last * lanes))
        into.status.put(first * lanes, last * lanes, diverged[low:high], status[low:high])


def put_sums(into: Accumulators, arrays: Mapping[str, np.ndarray], prefix: str = "") -> None:
    """Put sums back into the accumulators, up to the record that was reached; later records stay zero."""
    for name in SUMS:
        saved = arrays[f"{prefix}{name}"]
        getattr(into, name)[: len(saved)] = saved


def joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in order; ranges that touch or overlap are joined into one.

    Examples
    --------
    >>> joined([(0, 4), (4, 6), (8, 9)])
    [(0, 6), (8, 9)]
    """
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found
