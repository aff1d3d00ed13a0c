"""The state that a run with ``keep_state`` leaves beside its file, from which a longer or larger run continues.

The results are bit-identical to those of a single run. The folder ``FILE.kept`` has the pieces of final results, as
`checkpoints` writes them, and two things more. First, the state of each trajectory after the last step that is a
multiple of four: a run looks for divergence after every four steps and after its last step, which is not the last of a
longer run. Second, the sums of all full tiles: a last, partly filled tile has more trajectories in a larger run, and is
computed again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sgdsim.base import pieces
from sgdsim.base.errors import InputError
from sgdsim.base.files import PathLike
from sgdsim.kernels.block import Block
from sgdsim.model.run import Run
from sgdsim.model.starts import Grid

_ABOUT = "about"
"""Name of the piece that describes the run and lists the valid pieces; all others are left over."""

BLOCK = ("state", "status", "changes")
"""Fields of a block that are arrays."""


def folder_of(output: PathLike) -> Path:
    """Folder in which the state of a run is kept.

    Examples
    --------
    >>> str(folder_of("results/valley.h5"))
    'results/valley.h5.kept'
    """
    target = Path(os.path.realpath(output)) if os.path.islink(output) else Path(output)
    return target.with_name(f"{target.name}.kept")


def kept_step(steps: int) -> int:
    """Number of completed steps after which the states of a run are kept.

    Examples
    --------
    >>> kept_step(100), kept_step(103)
    (100, 100)
    """
    return steps // 4 * 4


@dataclass(frozen=True)
class Kept:
    """The state of a finished run in its folder.

    Parameters
    ----------
    folder
        Path of the folder.
    run
        Description of the run, as it is stored.
    names
        Names of the pieces, in the order in which they were written.
    seconds
        Seconds that the run took.
    """

    folder: Path
    run: Mapping[str, Any]
    names: tuple[str, ...]
    seconds: float

    @classmethod
    def beside(cls, output: PathLike) -> Kept | None:
        """State that is kept beside a file; None if there is none.

        Raises
        ------
        InputError
            If it is damaged.
        """
        folder = folder_of(output)
        if not (folder / _ABOUT).exists():
            return None
        about, _ = pieces.read(folder / _ABOUT)
        return cls(folder, about["run"], tuple(about["names"]), float(about["seconds"]))


def keep(output: PathLike, found: Sequence[Path], run: Mapping[str, Any], seconds: float, before: Kept | None) -> None:
    """Keep the pieces of a run once its file is written, with pieces of the earlier run that are still valid.

    Raises
    ------
    RunError
        If they cannot be written.
    """
    folder = folder_of(output)
    folder.mkdir(exist_ok=True)
    old = () if before is None else before.names
    names = [*old, *(f"{run['id']}-{path.name}" for path in found)]
    for path, name in zip(found, names[len(old) :], strict=True):
        os.replace(path, folder / name)
    # Pieces that were moved before the process was killed are in the folder already.
    moved = sorted(path.name for path in folder.glob(f"{run['id']}-*"))
    names = [*old, *(name for name in moved if name not in old)]
    pieces.write(folder / _ABOUT, {"run": run, "names": names, "seconds": seconds}, {})
    for path in folder.glob("*.done"):
        if path.name not in names:
            with suppress(OSError):
                path.unlink()


def remove(output: PathLike) -> None:
    """Remove the state beside a file, as it belongs to another run."""
    folder = folder_of(output)
    with suppress(OSError):
        (folder / _ABOUT).unlink(missing_ok=True)  # without this file all others are ignored
        for path in folder.glob("*.done"):
            path.unlink()
        folder.rmdir()


@dataclass(frozen=True)
class Extension:
    """A run that continues an earlier one.

    Parameters
    ----------
    kept
        State that the earlier run has left.
    was
        Its runs: for each part, one for each point of the sweep.
    still_counts
        True if the state is kept for a third run too; it is not if all trajectories continue from it.
    """

    kept: Kept
    was: Sequence[Sequence[Run]]
    still_counts: bool

    def part(self, index: int) -> ExtendedPart:
        """Extension of one part of a scenario."""
        return ExtendedPart(self.kept, index, self.was[index])


class ExtendedPart:
    """The kept state of one part of a scenario, in the form in which a run continues from it.

    Parameters
    ----------
    kept, index, was
        The kept state, the number of the part, and its runs; see `Extension`.
    """

    def __init__(self, kept: Kept, index: int, was: Sequence[Run]) -> None:
        self.folder = kept.folder
        self._was = was
        self._entries = list[tuple[str, int, dict[str, Any]]]()
        self._read: tuple[str, dict[str, np.ndarray]] = "", {}
        for name in kept.names:
            for number, entry in enumerate(pieces.read(kept.folder / name)[0]["entries"]):
                if entry["part"] == index and entry.get("steps") == was[entry["point"]].steps:
                    self._entries.append((name, number, entry))

    def check(self, target: str) -> None:
        """Refuse to continue on another device.

        Raises
        ------
        InputError
            If the state was computed on another device.
        """
        for _, _, entry in self._entries:
            if entry["target"] != target:
                was = entry["target"]
                raise InputError(f"{self.folder}: computed on {was}, and here is {target}: choose with --device")

    def is_longer(self, point: int, now: Run) -> bool:
        """True if the new run has more steps at a point; otherwise it has only more trajectories."""
        return now.steps > self._was[point].steps

    def step(self, point: int, now: Run) -> int:
        """Number of completed steps of the kept state."""
        was = self._was[point].steps
        return kept_step(was) if self.is_longer(point, now) else was

    def tiles(self, point: int, lanes: int) -> int:
        """Number of tiles that are kept, which are the full ones."""
        return self._was[point].trajectories // lanes

    def rows(self, point: int, now: Run) -> Iterator[tuple[list[tuple[int, int]], dict[str, np.ndarray]]]:
        """Kept results of the single trajectories of full tiles, in the form that `result_arrays.put_rows` takes."""
        wanted = np.array(sorted(set(now.recorder.snapshots)))
        for entry, arrays in self._of(point):
            # If several runs extended each other, the first may have had more snapshots than the later ones.
            arrays["theta"] = _taken(arrays["theta"], np.array(entry["snapshots"]), wanted, self.step(point, now))
            yield _full_tiles(entry), arrays

    def sums(self, point: int, now: Run) -> dict[str, np.ndarray]:
        """Sums of all full tiles, for the records up to the step of the kept state."""
        was, found = self._was[point], dict[str, np.ndarray]()
        steps = was.recorder.record_steps(was.steps), now.recorder.record_steps(now.steps)
        for entry, arrays in self._of(point):
            if entry["is_full"]:  # if several runs extended each other, the last one counts
                found = {name.removeprefix("full/"): a for name, a in arrays.items() if name.startswith("full/")}
        if not found:
            raise InputError(f"{self.folder}: the sums of sweep point {point} are missing")
        changes = found.pop("changes")
        taken = {name: _taken(array, *steps, self.step(point, now)) for name, array in found.items()}
        # Sums along a trajectory are added at its end, which is still to come if the trajectory continues.
        return taken | {"changes": np.zeros_like(changes) if self.is_longer(point, now) else changes}

    def blocks(self, point: int, begin: int, end: int, most: int) -> Iterator[Block]:
        """Kept states of some tiles, in blocks of at most ``most`` tiles.

        Raises
        ------
        InputError
            If a state is missing.
        """
        for entry, arrays in self._of(point):
            start = 0
            for low, high in _full_tiles(entry):
                while low <= begin < min(high, end):
                    rows = slice(start + begin - low, start + min(begin + most, high, end) - low)
                    yield Block(begin, entry["step"], *(arrays[f"block/{name}"][rows] for name in BLOCK))
                    begin += rows.stop - rows.start
                start += high - low
        if begin < end:
            raise InputError(f"{self.folder}: states of sweep point {point} are missing, from tile {begin} on")

    def _of(self, point: int) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
        """Entries of a point, in the order in which they were written; neighbouring entries share a piece."""
        for name, number, entry in self._entries:
            if entry["point"] == point:
                if self._read[0] != name:
                    self._read = name, pieces.read(self.folder / name)[1]
                prefix, arrays = f"{number}/", self._read[1]
                yield entry, {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}


def _full_tiles(entry: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Full tiles of an entry; a partly filled last tile is left out, as a larger run has computed it again."""
    return [(low, min(high, entry["full"])) for low, high in entry["tiles"] if low < entry["full"]]


def _taken(array: np.ndarray, was: np.ndarray, now: np.ndarray, last: int) -> np.ndarray:
    """Array with the steps of the longer run along its first axis, from those of the earlier run; zero beyond these."""
    made = np.zeros((len(now), *array.shape[1:]), array.dtype)
    kept = now[now <= last]
    made[: len(kept)] = array[np.searchsorted(was, kept)]
    return made


def check(was: Sequence[Run], now: Sequence[Run]) -> None:
    """Refuse a run unless it is the kept run with more steps or more trajectories.

    Raises
    ------
    InputError
        For settings that depend on the number of steps or of trajectories, and for fewer of either.
    """
    for old, new in zip(was, now, strict=True):
        for key in ("trajectories", "steps"):
            if getattr(new, key) < getattr(old, key):
                raise InputError(
                    f"run.{key}: {getattr(new, key)}, expected at least the {getattr(old, key)} of the run"
                )
        if new.steps > old.steps:
            _check_longer(old, new)
        _check_records(old, new)
        if new.trajectories > old.trajectories:
            _check_larger(old, new)


def _check_longer(old: Run, new: Run) -> None:
    done = old.steps
    before, after = old.schedule.rates(done), new.schedule.rates(new.steps)[:done]
    if not np.array_equal(before, after):
        step = int(np.argmax(before != after))
        raise InputError(
            f"optimizer.learning_rate: refers to the number of steps, its rate of step {step} is {before[step]:.6g} of "
            f"{done} steps and {after[step]:.6g} of {new.steps}: the run cannot be made longer"
        )
    if new.recorder.controls:
        raise InputError("record.controls: look at the last step: the run cannot be made longer")


def _check_records(old: Run, new: Run) -> None:
    """Refuse records and snapshots at earlier steps, if the kept run did not have them."""
    done, last = old.steps, kept_step(old.steps) if new.steps > old.steps else old.steps
    records = old.recorder.record_steps(done), new.recorder.record_steps(new.steps)
    snapshots = np.array(sorted(set(old.recorder.snapshots))), np.array(sorted(set(new.recorder.snapshots)))
    every = "records" if new.recorder.records else "every"
    for key, (there, here) in {every: records, "snapshots": snapshots}.items():
        wanted = here[here <= last]
        if (lacking := np.setdiff1d(wanted, there)).size:
            raise InputError(
                f"record.{key}: of {new.steps} steps it is at step {lacking[0]}, of {done} it was not: "
                "--overwrite computes it anew"
            )


def _check_larger(old: Run, new: Run) -> None:
    """Refuse more trajectories if a start depends on their number, as that of a grid does; a drawn start does not."""
    for name, start in new.starts.items():
        if isinstance(start, Grid) and start.points != old.starts[name].points:  # type: ignore[union-attr]
            raise InputError(
                f"run.initial.{name}: a grid over all {old.trajectories} trajectories, expected "
                "grid:low,high,points: the run cannot be made larger"
            )
