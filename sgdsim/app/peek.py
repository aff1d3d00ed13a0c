"""Results of a run so far, read from its checkpoints while it goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sgdsim.app.catalogue import summary
from sgdsim.app.in_shards import scenarios_of
from sgdsim.base import take
from sgdsim.base.errors import InputError
from sgdsim.ensemble import open_parts
from sgdsim.input.scenario import Scenario
from sgdsim.model.run import Run
from sgdsim.simulation.checkpoints import Checkpoints, State
from sgdsim.simulation.shards import Shard, moments_in
from sgdsim.simulation.unfinished import Description, cut, folder_of, is_held
from sgdsim.statistics.moments import Moments, merge_axis

_TRIES = 3  # attempts to read a state, which the run may replace in the meantime


def peek(path: str | Path) -> str:
    """Text on the progress of a run, with the latest moments of the point that is being simulated.

    Parameters
    ----------
    path
        Path of the file that the run is going to write.

    Raises
    ------
    InputError
        If there are neither checkpoints nor the file.
    """
    path = Path(take.path(path, "path"))
    who, state = is_held(path), _newest(path)
    if state is None and (run := cut(folder_of(path))) is not None:
        return _of_shards(path, *run, who)
    if state is None and who:
        return f"{path}: is being computed by {who}, which has saved no checkpoint yet"
    if state is None and path.is_file() and path.suffix == ".shard":
        return f"{path}: finished, sgdsim merge {path.parent} puts all shards together"
    if state is None and path.is_file():
        return "\n".join(f"{path}: finished, {summary(ensemble)}" for ensemble in open_parts(path).values())
    if state is None:
        raise InputError(f"{path}: no such file, and no checkpoints beside it")
    described = Description.read(state.heading["run"], folder_of(path))
    scenario = scenarios_of(described, path)[state.heading["part"]]
    return "\n".join(
        [
            _progress(path, state, who),
            _where(scenario, state),
            *_moments(scenario.runs[state.heading["point"]], state.arrays["moments"]),
        ]
    )


def _of_shards(path: Path, described: Description, of: int, who: str) -> str:
    """Text with the number of finished shards, and the final moments of their part of the first point of the sweep."""
    folder = folder_of(path)
    shards = [shard for number in range(1, of + 1) if (folder / (shard := Shard(number, of)).file_name).exists()]
    whose = f"being computed by {who}" if who else f"nobody computes it, sgdsim resume {path} goes on"
    said = f"{path}: {len(shards)} of {of} shards are done; {whose}"
    scenario = scenarios_of(described, path)[0]
    found = [moments for shard in shards for moments in moments_in(folder / shard.file_name)]
    if not found:
        return said
    return "\n".join([said, "so far:", *_moments(scenario.runs[0], np.concatenate(found, axis=1))])


def _newest(path: Path) -> State | None:
    folder = folder_of(path)
    found = (next(Checkpoints(folder, 1).states(), None) for _ in range(_TRIES))
    return next((state for state in found if state is not None), None) if folder.is_dir() else None


def _progress(path: Path, state: State, who: str) -> str:
    done, total, seconds = (state.heading[key] for key in ("done", "total", "seconds"))
    left = f", about {seconds * (total - done) / done:.0f} s left" if done else ""
    whose = f"being computed by {who}" if who else f"nobody computes it, sgdsim resume {path} goes on"
    return f"{path}: {done / total:.0%} of {total:.3g} trajectory-steps after {seconds:.0f} s{left}; {whose}"


def _where(scenario: Scenario, state: State) -> str:
    part = f"part {scenario.part}, " if scenario.part else ""
    points = len(scenario.runs)
    return f"{part}sweep point {state.heading['point']} of 0 to {points - 1}" if points > 1 else part or "so far:"


def _moments(run: Run, sums: np.ndarray) -> list[str]:
    """Lines with mean and variance of all measured quantities, at the last record that was reached."""
    found = merge_axis(Moments(*np.moveaxis(sums, -1, 0)), axis=1)
    reached = np.flatnonzero(found.count.any(axis=1))
    if not len(reached):
        return []
    last = reached[-1]
    step = run.recorder.record_steps(run.steps)[last]
    rows = [("", "step", "trajectories", "mean", "variance")]
    for index, name in enumerate(run.measured):
        mean, variance = (
            f"{getattr(found, one)[last, index]:.6g} ± {getattr(found, f'{one}_stderr')[last, index]:.2g}"
            for one in ("mean", "variance")
        )
        rows.append((name, str(step), f"{found.count[last, index]:,.0f}", mean, variance))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
