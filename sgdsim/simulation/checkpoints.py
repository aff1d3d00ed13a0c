"""Checkpoints: files from which an interrupted run continues; its results are bit-identical to those of a whole run.

Blocks of trajectories add to the sums of their groups one after the other, in the order of their tiles, and everything
that a block will do follows from its state. So two kinds of pieces (see `sgdsim.base.pieces`) are enough:

- ``….done``: results that are final, written once. These are the rows (snapshots, status) of finished blocks, and the
  sums of points of a sweep whose blocks are all finished.
- ``….state``: the sums of the present point, and the state of its running block. The last two states are kept.

A state is used if the rows of all blocks before it are there. A damaged piece is reported and ignored: the run then
continues from the state before, or else begins the point again.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sgdsim.base import pieces
from sgdsim.base.durations import read_seconds
from sgdsim.base.errors import RunError
from sgdsim.kernels.accumulators import Accumulators
from sgdsim.simulation.kept_states import BLOCK, Extension
from sgdsim.simulation.result_arrays import LISTED, SUMS, joined, rows_of

SECONDS = 60.0
"""Seconds between two checkpoints; a shorter run needs none."""

SHARE = 0.02
"""Largest fraction of a run's time that is spent on checkpoints: if one takes longer, the next is written later."""

MOST_PENDING = 2**28
"""Most bytes of results that wait for the next checkpoint, which needs as many again; with more it is written now."""

_LOG = "log.jsonl"


def seconds_between(given: float | str | None) -> float | None:
    """Seconds between two checkpoints, from the user's setting.

    Examples
    --------
    >>> seconds_between("5m"), seconds_between(None)
    (300.0, None)
    """
    return None if given is None else read_seconds(given, "checkpoint_every")


@dataclass
class _Rows:
    """Tiles of a point that have finished since the last checkpoint, and the arrays with their results.

    For a run whose states are kept it also holds the states of these tiles, the sums of all full tiles, and the
    description of both.
    """

    into: Accumulators
    lanes: int
    tiles: list[tuple[int, int]] = field(default_factory=list)
    is_whole: bool = False
    kept: list[dict[str, np.ndarray]] = field(default_factory=list)
    full: dict[str, np.ndarray] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """A state that was read: its heading, the sums of its point, and the rows of its block."""

    heading: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Checkpoints:
    """Checkpoints of one run in an existing folder.

    Parameters
    ----------
    folder
        Path of the folder.
    total
        Number of trajectory-steps of all parts.
    every
        Seconds between two checkpoints; None for `SECONDS`, and then a run that takes less time is not saved at an
        interrupt.

    Attributes
    ----------
    about
        Description of the run, which each checkpoint contains.
    keeps, extension
        True if states are kept; and the run that this one continues; see `kept_states`.
    done
        Number of trajectory-steps so far.
    seconds
        Seconds that the run had taken when it was resumed.
    """

    def __init__(self, folder: Path, total: int, every: float | None = None) -> None:
        self.folder = folder
        self.about: Mapping[str, Any] = {}
        self.keeps = False
        self.extension: Extension | None = None
        self.total = total
        self.done = 0
        self.seconds = 0.0
        self._is_counted = False
        self._asked = every is not None
        self._every = SECONDS if every is None else every
        self._cost = 0.0
        self._began = self._last = time.monotonic()
        self._pending: dict[tuple[int, int], _Rows] = {}
        self._pending_bytes = 0
        self._number = max((int(path.name.partition(".")[0]) for path in self._pieces("*")), default=0)
        self._damaged: set[Path] = set()
        self._newest: tuple[Path, State] | None = None

    @property
    def are_there(self) -> bool:
        """True if there are checkpoints from which a run can continue."""
        return self._number > 0

    @property
    def _id(self) -> str:
        return str(self.about.get("run", {}).get("id", ""))

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken, including those before it was resumed."""
        return self.seconds + time.monotonic() - self._began

    def is_due(self) -> bool:
        """True if it is time for another checkpoint."""
        has_much = self._pending_bytes > MOST_PENDING and (self.keeps or not math.isinf(self._every))
        return has_much or time.monotonic() - self._last >= max(self._every, self._cost / SHARE)

    def is_worth_it(self) -> bool:
        """True if a checkpoint should be saved at an interrupt, as the whole run takes long."""
        if math.isinf(self._every):
            return False
        expected = self.elapsed * self.total / self.done if self.done else 0.0
        return self._asked or self.are_there or expected > SECONDS

    def states(self) -> Iterator[State]:
        """All undamaged states, the newest first."""
        for path in reversed(self._pieces("state")):
            if self._newest is not None and self._newest[0] == path:
                yield self._newest[1]
            elif found := self._read(path):
                self._newest = self._newest or (path, State(*found))
                yield State(*found)

    def count(self) -> None:
        """Add the seconds before the run was resumed, once: its own checkpoints contain its own seconds too."""
        if not self._is_counted:
            self._is_counted = True
            before = self.states() if self.are_there else ()
            self.seconds = max((float(state.heading["seconds"]) for state in before), default=0.0)

    def begin_anew(self) -> None:
        """Remove all existing checkpoints, so that the run begins anew."""
        self._number, self._newest = 0, None

    def forget(self) -> None:
        """Free the memory of the state that was read."""
        self._newest = None

    def whole(self) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
        """All undamaged pieces of final results of this run; a piece of another run may be left, and is ignored."""
        for path in self._pieces("done"):
            if (found := self._read(path)) and found[0]["id"] == self._id:
                yield found

    @property
    def is_written(self) -> bool:
        """True if all final results are on the disk."""
        return not self._pending

    def done_pieces(self) -> list[Path]:
        """Files with final results of this run."""
        return [path for path in self._pieces("done") if (found := self._read(path)) and found[0]["id"] == self._id]

    def note_kept(self, rows: _Rows, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the states of the tiles that were noted last, or, with ``is_full``, the sums of all full tiles."""
        rows.about |= about
        if about.get("is_full"):
            rows.full |= arrays
        else:
            rows.kept.append(dict(arrays))
        self._pending_bytes += sum(array.nbytes for array in arrays.values())

    def rows(self, part: int, point: int, lanes: int, into: Accumulators) -> _Rows:
        """Results of a point that wait for the next checkpoint."""
        return self._pending.setdefault((part, point), _Rows(into, lanes))

    def note(self, part: int, point: int, lanes: int, into: Accumulators, tiles: tuple[int, int] | None) -> None:
        """Note that tiles of a point, or all of them for None, have finished."""
        rows = self.rows(part, point, lanes, into)
        if tiles is None:
            rows.is_whole = True
        else:
            rows.tiles = joined([*rows.tiles, tiles])
            first, last = (tile * lanes for tile in tiles)
            self._pending_bytes += sum(getattr(into, name)[:, first:last].nbytes for name in LISTED)

    def save(self, heading: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Write a checkpoint: the results that have become final since the last one, and a state.

        Raises
        ------
        RunError
            If it cannot be written. Earlier checkpoints stay as they are.
        """
        began = time.monotonic()
        number = self._number + 1
        entries, done = [], dict[str, np.ndarray]()
        for index, ((part, point), rows) in enumerate(self._pending.items()):
            for name, array in rows_of(rows.into, rows.tiles, rows.lanes).items():
                done[f"{index}/{name}"] = array
            if rows.is_whole:
                done |= {f"{index}/{name}": getattr(rows.into, name) for name in SUMS}
            done |= {f"{index}/full/{name}": array for name, array in rows.full.items()}
            if rows.kept:
                together = {name: np.concatenate([one[name] for one in rows.kept]) for name in BLOCK}
                done |= {f"{index}/block/{name}": array for name, array in together.items()}
            entry = {"part": part, "point": point, "tiles": rows.tiles, "is_whole": rows.is_whole}
            entries.append({"is_full": False, **rows.about, **entry})
        if entries:
            pieces.write(self.folder / f"{number:08}.done", {"id": self._id, "entries": entries}, done)
        self._pending, self._pending_bytes = {}, 0
        self._number = number
        progress = {"done": self.done, "total": self.total, "seconds": self.elapsed}
        pieces.write(self.folder / f"{number:08}.state", {**self.about, **heading, **progress}, arrays)
        for path in self._pieces("state")[:-2]:
            with suppress(OSError):
                path.unlink()
        self._cost = time.monotonic() - began
        self._last = time.monotonic()
        self._log({**progress, **{key: heading[key] for key in ("part", "point", "step")}, "cost": self._cost})

    def try_to_save(self, heading: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Write a checkpoint; if that fails, the run goes on and a warning is given."""
        try:
            self.save(heading, arrays)
        except RunError as error:
            self._last, self._pending_bytes = time.monotonic(), 0
            warnings.warn(f"no checkpoint: {error}", RuntimeWarning, stacklevel=2)

    def _log(self, line: Mapping[str, Any]) -> None:
        """Add a line to the log, which `sgdsim peek` reads."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with suppress(OSError), (self.folder / _LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"utc": now, **line}) + "\n")

    def _pieces(self, kind: str) -> list[Path]:
        return sorted(path for path in self.folder.glob(f"*.{kind}") if path.stem.isdecimal())

    def _read(self, path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        if path in self._damaged:
            return None
        try:
            return pieces.read(path) if path.exists() else None  # a run may remove it while another process watches
        except pieces.DamagedError as error:
            self._damaged.add(path)
            warnings.warn(f"{error}; what it held is computed again", RuntimeWarning, stacklevel=2)
            return None
