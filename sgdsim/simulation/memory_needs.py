"""Bytes of memory and disk that runs take, and where snapshots go that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.base.memory import memory_limit as limit_of
from sgdsim.kernels.host import Host
from sgdsim.kernels.plan import Plan
from sgdsim.kernels.program import GROUPS
from sgdsim.model.data import DrawnData
from sgdsim.model.run import Run
from sgdsim.simulation.result_arrays import index_dtype
from sgdsim.simulation.simulator import program_of, tiles_of_a_block


def output_bytes(runs: Sequence[Run]) -> int:
    """Bytes of the results of all points of a sweep, in memory and nearly the same in their file."""
    run, plan = max(runs, key=lambda one: one.steps), Plan(runs[0])
    measured = len(run.measured)
    ended = 2 * run.trajectories * np.dtype(index_dtype(run.steps)).itemsize if run.stop else 0  # step and bound
    a_record = GROUPS * (measured * 5 * 8 + plan.bins * 4 + plan.pairs * 4 * 8 + plan.cells * 4)
    statistics = len(run.recorder.record_steps(run.steps)) * a_record + GROUPS * plan.drift_bins * 3 * 8
    return snapshot_bytes(runs) + len(runs) * (ended + statistics)


def snapshot_bytes(runs: Sequence[Run]) -> int:
    """Bytes of the snapshots of all points of a sweep."""
    run = max(runs, key=lambda one: one.steps)
    kept = run.recorder.snapshot_trajectories or run.trajectories
    a_state = len(run.loss.parameters) * np.dtype(run.dtype).itemsize
    return len(runs) * kept * len(run.recorder.snapshots) * a_state


def data_bytes(run: Run) -> int:
    """Bytes of the data that trajectories have of their own, for those that run together on the CPU."""
    data = run.loss.data
    if not isinstance(data, DrawnData):
        return 0
    program = program_of(run, Plan(run))
    tiles = min(tiles_of_a_block(program, Host.block_trajectories), -(-run.trajectories // program.lanes))
    return tiles * program.lanes * data.cells * np.dtype(run.dtype).itemsize


def kept_bytes(runs: Sequence[Run]) -> int:
    """Bytes of the kept states of all trajectories on the disk, with their snapshots; see `kept_states`."""
    run = runs[0]
    a_state = program_of(run, Plan(run)).n_variables * np.dtype(run.dtype).itemsize + 8  # and its status
    return snapshot_bytes(runs) + len(runs) * run.trajectories * a_state


def place_of_snapshots(
    runs: Sequence[Run], folder: Path | None, memory_limit: float | str | None = None
) -> Path | None:
    """Folder for snapshots that do not fit into the memory; None if they fit.

    Raises
    ------
    InputError
        For a run that does not fit even with its snapshots on the disk.
    """
    (most,) = limits_of_parts([runs], folder, memory_limit)
    return None if _bytes_of(runs) <= most else folder


def _bytes_of(runs: Sequence[Run]) -> int:
    """Bytes of memory that a sweep takes if its points run one after the other."""
    return output_bytes(runs) + max(map(data_bytes, runs))


def limits_of_parts(
    parts: Sequence[Sequence[Run]], folder: Path | None, memory_limit: float | str | None = None
) -> list[float]:
    """Bytes of memory that each part of a scenario may take, so that all together stay within a limit.

    Raises
    ------
    InputError
        For a run that does not fit even with its snapshots on the disk.
    """
    whole, limit = [float(_bytes_of(runs)) for runs in parts], limit_of(memory_limit)
    if sum(whole) <= limit:
        return whole
    statistics = [size - snapshot_bytes(runs) for size, runs in zip(whole, parts, strict=True)]
    needed = sum(whole if folder is None else statistics)
    if folder is None or needed > limit:
        asked = "" if memory_limit is None else "memory_limit: "
        raise InputError(
            f"{asked}the run needs {needed / 1e9:.3g} GB of memory, and may take {limit / 1e9:.3g} GB: take fewer "
            f"trajectories, snapshots or sweep points, or record less often{_about_data(parts)}"
        )
    return statistics


def _about_data(parts: Sequence[Sequence[Run]]) -> str:
    """Part of a message: the bytes of the data that trajectories have of their own."""
    size = max(data_bytes(run) for runs in parts for run in runs)
    return f"; {size} bytes of it are the data of the trajectories that run together, take fewer rows" if size else ""
