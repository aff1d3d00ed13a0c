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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sgdsim.base import pieces
from sgdsim.base.durations import read_seconds
from sgdsim.base.errors import InputError, RunError
from sgdsim.kernels.accumulators import Accumulators
from sgdsim.kernels.block import Block, Executor
from sgdsim.model.run import Run
from sgdsim.simulation.kept_states import BLOCK, ExtendedPart, Extension, kept_step
from sgdsim.simulation.progress import Progress

SECONDS = 60.0
"""Seconds between two checkpoints; a shorter run needs none."""

SHARE = 0.02
"""Largest fraction of a run's time that is spent on checkpoints: if one takes longer, the next is written later."""

MOST_PENDING = 2**28
"""Most bytes of results that wait for the next checkpoint, which needs as many again; with more it is written now."""

ROWS = ("theta", "status", "stopped")
_LISTED = "theta", "stopped"  # arrays with a value for each trajectory, along the second axis
SUMS = tuple(one.name for one in fields(Accumulators) if one.name not in ROWS)
_LOG = "log.jsonl"


class Simulator(Protocol):
    """Interface of the object that runs a point of a sweep block by block; see `run_loop.Simulator`."""

    run: Run
    lanes: int
    executor: Executor
    groups: tuple[int, int]
    record_steps: np.ndarray
    snapshot_steps: np.ndarray
    keeps: bool

    @property
    def n_tiles(self) -> int:
        """Number of tiles of the ensemble."""
        ...

    def tiles(self) -> np.ndarray:
        """Indices of the tiles that it runs."""
        ...

    def work(self, before: int | None = None) -> int:
        """Number of trajectory-steps of these tiles, or of those before a given one."""
        ...

    def cuts(self, block_trajectories: int | None = None, begin: int = 0) -> Iterator[tuple[int, int]]:
        """First tile and number of tiles of each block, from a given tile on."""
        ...

    def blocks(self, block_trajectories: int | None = None, begin: int = 0) -> Iterator[Block]:
        """Initial states of all blocks from a given tile on."""
        ...

    def spans(self, block: Block, into: Accumulators, span_steps: int | None = None) -> Iterator[int]:
        """Run a block to the end, span by span."""
        ...

    def restored(self, saved: Block) -> Block:
        """Block in the state that was saved."""
        ...

    def trajectories_in(self, block: Block) -> int:
        """Number of trajectories of a block, without padding."""
        ...


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

    def part(self, index: int) -> Part:
        """Checkpoints of one part of a scenario."""
        return Part(self, index)

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
            self._pending_bytes += sum(getattr(into, name)[:, first:last].nbytes for name in _LISTED)

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


class Part:
    """Checkpoints of one part of a scenario, as the run loop uses them.

    Parameters
    ----------
    checkpoints
        Checkpoints of the whole run.
    index
        Number of the part.
    """

    def __init__(self, checkpoints: Checkpoints, index: int) -> None:
        self._all, self._index = checkpoints, index
        self._finished: set[int] = set()
        self._running: State | None = None
        self._last = 0
        self._state: dict[str, np.ndarray] = {}
        extension = checkpoints.extension
        self._extended: ExtendedPart | None = None if extension is None else extension.part(index)

    @property
    def seconds(self) -> float:
        """Seconds that the run had taken before it was resumed, and those of the run that it continues."""
        return self._all.seconds + (0.0 if self._all.extension is None else self._all.extension.kept.seconds)

    @property
    def keeps(self) -> bool:
        """True if states are kept."""
        return self._all.keeps

    @property
    def folder(self) -> Path:
        """Folder of the checkpoints."""
        return self._all.folder

    def restore(self, simulators: Sequence[Simulator], results: Accumulators) -> int:
        """Put the results on the disk into the accumulators, and return how many trajectory-steps they are.

        Raises
        ------
        InputError
            If they were computed on another device.
        """
        checkpoints = self._all
        checkpoints.count()
        self._last = len(simulators) - 1
        tiles = [np.zeros(simulator.n_tiles, bool) for simulator in simulators]
        kept = self._restore_kept(simulators, results, tiles)
        if not checkpoints.are_there:
            checkpoints.done += sum(kept)
            return sum(kept)
        summed = set()
        for about, arrays in checkpoints.whole():
            for index, entry in enumerate(about["entries"]):
                if entry["part"] != self._index:
                    continue
                point = entry["point"]
                put_rows(at(results, point), entry["tiles"], simulators[point].lanes, arrays, f"{index}/")
                for first, last in entry["tiles"]:
                    tiles[point][first:last] = True
                if entry["is_whole"]:
                    summed.add(point)
                    put_sums(at(results, point), arrays, f"{index}/")
        wanted = [simulator.tiles() for simulator in simulators]
        self._finished = {point for point in summed if tiles[point][wanted[point]].all()}
        done = sum(kept[point] for point in range(len(simulators)) if point not in self._finished)
        done += sum(simulators[point].work() for point in self._finished)
        for state in checkpoints.states():
            heading, point = state.heading, state.heading["point"]
            if heading["part"] != self._index or point in self._finished:
                continue
            if heading["target"] != simulators[point].executor.name:
                was, now = heading["target"], simulators[point].executor.name
                raise InputError(f"{checkpoints.folder}: computed on {was}, and here is {now}: choose with --device")
            before = wanted[point][wanted[point] < heading["first_tile"]]
            if tiles[point][before].all():
                self._running = state
                done += simulators[point].work(heading["first_tile"])
                done += heading["step"] * heading["trajectories"]
                done -= self._kept_work(point, simulators[point], heading["first_tile"] + heading["tiles"])
                break
        unfinished = set(range(len(simulators))) - self._finished
        for point in unfinished:
            for name in SUMS:
                getattr(results, name)[point] = 0
        checkpoints.forget()
        checkpoints.done += done
        return done

    def _restore_kept(
        self, simulators: Sequence[Simulator], results: Accumulators, tiles: Sequence[np.ndarray]
    ) -> list[int]:
        """Put the results of the earlier run into the accumulators; return the trajectory-steps for each point."""
        extended = self._extended
        if extended is None:
            return [0] * len(simulators)
        extended.check(simulators[0].executor.name)
        for point, simulator in enumerate(simulators):
            for ranges, arrays in extended.rows(point, simulator.run):
                put_rows(at(results, point), ranges, simulator.lanes, arrays)
            if not extended.is_longer(point, simulator.run):
                tiles[point][: extended.tiles(point, simulator.lanes)] = True
        return [self._kept_work(point, simulator, simulator.n_tiles) for point, simulator in enumerate(simulators)]

    def _kept_work(self, point: int, simulator: Simulator, before: int) -> int:
        """Number of trajectory-steps of the tiles before a given one that the earlier run has done."""
        if self._extended is None:
            return 0
        tiles = min(self._extended.tiles(point, simulator.lanes), before)
        return tiles * simulator.lanes * self._extended.step(point, simulator.run)

    def simulate(
        self, point: int, simulator: Simulator, into: Accumulators, bar: Progress, most: int | None, span: int | None
    ) -> None:
        """Run all unfinished blocks of a point, and save checkpoints on the way.

        Parameters
        ----------
        point
            Number of the point of the sweep.
        simulator, into
            The simulator that runs the point, and the accumulators for its results.
        bar
            Progress bar, updated after every span.
        most, span
            Number of trajectories of a block, and of steps of a span; see `simulate_runs`.
        """
        with bar.waiting():
            for block in self._blocks(point, simulator, into, most):
                self._catch(simulator, block)
                for done in simulator.spans(block, into, span):
                    self._catch(simulator, block)
                    self._all.done += done
                    try:
                        bar.update(done)
                    except KeyboardInterrupt:
                        if self._all.is_worth_it():
                            bar.say("saving a checkpoint")
                            bar.let_go()
                            self._save_between(point, simulator, block, into)
                        raise
                    if block.step < simulator.run.steps and self._all.is_due():
                        self._save(point, simulator, into, block.first_tile, block)

    def _blocks(self, point: int, simulator: Simulator, into: Accumulators, most: int | None) -> Iterator[Block]:
        """Unfinished blocks of a point; the one that was running is in its saved state."""
        if point in self._finished:
            return
        state, begin = self._running, 0
        extended = self._extended
        if state is not None and state.heading["point"] == point:
            self._running = None
            begin = state.heading["first_tile"]
            put_sums(into, state.arrays)
            if tiles := state.heading["tiles"]:
                put_rows(into, [(begin, begin + tiles)], simulator.lanes, state.arrays, "rows/")
                saved = Block(begin, state.heading["step"], *(state.arrays[f"block/{name}"] for name in BLOCK))
                yield simulator.restored(saved)
                self._end(point, simulator, into, begin, tiles)
                begin += tiles
        elif extended is not None:
            put_sums(into, extended.sums(point, simulator.run))
        if extended is not None:
            end = extended.tiles(point, simulator.lanes)
            if extended.is_longer(point, simulator.run) and begin < end:
                _, size = next(simulator.cuts(most))
                for saved in extended.blocks(point, begin, end, size):
                    yield simulator.restored(saved)
                    self._end(point, simulator, into, saved.first_tile, saved.tiles)
            begin = max(begin, end)
        full = simulator.run.trajectories // simulator.lanes
        if begin == full:
            self._note_full(point, simulator, into)
        for block in simulator.blocks(most, begin):
            yield block
            self._end(point, simulator, into, block.first_tile, block.tiles)
            if block.first_tile + block.tiles == full:
                self._note_full(point, simulator, into)
        self._all.note(self._index, point, simulator.lanes, into, None)
        if self._all.keeps and point == self._last:
            self._save(point, simulator, into, simulator.n_tiles, None)

    def _save_between(self, point: int, simulator: Simulator, block: Block, into: Accumulators) -> None:
        """Save a checkpoint after a span, which may have been the last of its block."""
        if block.step < simulator.run.steps:
            self._save(point, simulator, into, block.first_tile, block)
            return
        last = block.first_tile + block.tiles
        self._note(point, simulator, into, block.first_tile, last)
        self._save(point, simulator, into, last, None)

    def _end(self, point: int, simulator: Simulator, into: Accumulators, first: int, tiles: int) -> None:
        """Note that a block has finished, so that its numbers are in the sums."""
        self._note(point, simulator, into, first, first + tiles)
        if self._all.is_due():
            self._save(point, simulator, into, first + tiles, None)

    def _note(self, point: int, simulator: Simulator, into: Accumulators, first: int, last: int) -> None:
        self._all.note(self._index, point, simulator.lanes, into, (first, last))
        if self._all.keeps:
            rows = self._all.rows(self._index, point, simulator.lanes, into)
            self._all.note_kept(rows, self._about(simulator), self._state)

    def _note_full(self, point: int, simulator: Simulator, into: Accumulators) -> None:
        """Keep the sums of all full tiles, once these have finished and before a last, partly filled tile is added."""
        if self._all.keeps:
            rows = self._all.rows(self._index, point, simulator.lanes, into)
            sums = {name: getattr(into, name).copy() for name in SUMS}
            self._all.note_kept(rows, {**self._about(simulator), "is_full": True}, sums)

    def _about(self, simulator: Simulator) -> dict[str, Any]:
        run = simulator.run
        steps = {"step": kept_step(run.steps), "steps": run.steps, "snapshots": simulator.snapshot_steps.tolist()}
        return {**steps, "full": run.trajectories // simulator.lanes, "target": simulator.executor.name}

    def _catch(self, simulator: Simulator, block: Block) -> None:
        """Keep the state of a block at the step from which a longer run would continue."""
        if self._all.keeps and block.step == kept_step(simulator.run.steps):
            self._state = {name: np.array(simulator.executor.fetch(getattr(block, name))) for name in BLOCK}

    def _save(self, point: int, simulator: Simulator, into: Accumulators, first_tile: int, block: Block | None) -> None:
        """Save a state between two spans, when all tiles before ``first_tile`` have finished."""
        arrays = {name: getattr(into, name) for name in SUMS}
        if block is not None and first_tile == simulator.groups[0]:
            reached = int(np.searchsorted(simulator.record_steps, block.step, "right"))
            arrays |= {name: arrays[name][:reached] for name in SUMS if name != "changes"}
        if block is not None:
            tiles = [(first_tile, first_tile + block.tiles)]
            arrays |= {f"block/{name}": simulator.executor.fetch(getattr(block, name)) for name in BLOCK}
            arrays |= {f"rows/{name}": rows for name, rows in rows_of(into, tiles, simulator.lanes).items()}
        heading = {
            "part": self._index,
            "point": point,
            "first_tile": first_tile,
            "tiles": 0 if block is None else block.tiles,
            "step": 0 if block is None else block.step,
            "trajectories": 0 if block is None else simulator.trajectories_in(block),
            "target": simulator.executor.name,
        }
        self._all.try_to_save(heading, arrays)


def at(results: Accumulators, point: int) -> Accumulators:
    """Accumulators of one point of a sweep, which share the memory of those of all points."""
    return Accumulators(*(getattr(results, one.name)[point] for one in fields(Accumulators)))


def rows_of(into: Accumulators, tiles: Sequence[tuple[int, int]], lanes: int) -> dict[str, np.ndarray]:
    """Results of the single trajectories of some tiles, one tile after the other."""
    ends = [into.status.between(a * lanes, b * lanes) for a, b in tiles]
    none = np.empty(0, np.int64)
    whole = {name: getattr(into, name) for name in _LISTED}
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
    rows = {name: arrays[f"{prefix}{name}"] for name in _LISTED}
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
