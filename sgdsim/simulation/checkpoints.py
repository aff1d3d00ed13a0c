"""Checkpoints: from what stands on the disk a run goes on as if nothing had happened, bit by bit.

Blocks add to the sums of their groups one after the other, in the order of their tiles, and everything that a block
will do follows from its state. So two kinds of pieces are enough:

- ``….done``: what never changes again, written once. The rows (snapshots, status) of blocks that have come to their
  end, and the sums of sweep points of which all blocks have.
- ``….state``: the sums of the point that is under way, and the state of its running block. The last two are kept.

A state counts if the rows of all blocks before it are there. Whatever is damaged is left aside, by name: then the state
before it serves, or else its sweep point begins again.
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
"""Between two checkpoints; a run that is shorter needs none."""

SHARE = 0.02
"""The most of a run's time that goes into writing them: where it takes longer, they are written less often."""

MOST_PENDING = 2**28
"""Bytes of rows that wait for the next one, which takes as many again to write them: with more it is written now."""

ROWS = ("theta", "status", "stopped")
_LISTED = "theta", "stopped"  # of each trajectory, along their second axis
SUMS = tuple(one.name for one in fields(Accumulators) if one.name not in ROWS)
_LOG = "log.jsonl"


class Simulator(Protocol):
    """What runs a sweep point block by block; see `run_loop.Simulator`."""

    run: Run
    lanes: int
    executor: Executor
    groups: tuple[int, int]
    record_steps: np.ndarray
    snapshot_steps: np.ndarray
    keeps: bool

    @property
    def n_tiles(self) -> int:
        """Tiles of the ensemble."""
        ...

    def tiles(self) -> np.ndarray:
        """Indices of those that it runs."""
        ...

    def work(self, before: int | None = None) -> int:
        """Trajectory-steps of all of them, or of those before one."""
        ...

    def cuts(self, block_trajectories: int | None = None, begin: int = 0) -> Iterator[tuple[int, int]]:
        """First tile and number of tiles of each block, from a tile on."""
        ...

    def blocks(self, block_trajectories: int | None = None, begin: int = 0) -> Iterator[Block]:
        """The initial states of all blocks from a tile on."""
        ...

    def spans(self, block: Block, into: Accumulators, span_steps: int | None = None) -> Iterator[int]:
        """Run a block to the end, span by span."""
        ...

    def restored(self, saved: Block) -> Block:
        """A block as it was saved."""
        ...

    def trajectories_in(self, block: Block) -> int:
        """How many, without padding."""
        ...


def seconds_between(given: float | str | None) -> float | None:
    """Seconds from one checkpoint to the next, as a user says them.

    Examples
    --------
    >>> seconds_between("5m"), seconds_between(None)
    (300.0, None)
    """
    return None if given is None else read_seconds(given, "checkpoint_every")


@dataclass
class _Rows:
    """Tiles of a point that have come to their end since the last checkpoint, and where they stand.

    Of a run that is kept also the states of these tiles, the sums of all full ones, and what is said of both.
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
    """A state that was read: its heading, the sums of its point and the rows of its block."""

    heading: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Checkpoints:
    """Those of one run in a folder, which is there already.

    Parameters
    ----------
    folder
        Where.
    total
        Trajectory-steps of all parts.
    every
        Seconds from one to the next; None for `SECONDS`, and none at an interrupt of a run that takes less.

    Attributes
    ----------
    about
        What each of them says of the run.
    keeps, extension
        Whether states are kept, and the run that this one goes on from; see `kept_states`.
    done
        Trajectory-steps so far.
    seconds
        That the run had taken when it was resumed.
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
        """Those of one part of a scenario."""
        return Part(self, index)

    @property
    def are_there(self) -> bool:
        """Whether there is something to go on from."""
        return self._number > 0

    @property
    def _id(self) -> str:
        return str(self.about.get("run", {}).get("id", ""))

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken, with those before it was resumed."""
        return self.seconds + time.monotonic() - self._began

    def is_due(self) -> bool:
        """Whether it is time for another one."""
        has_much = self._pending_bytes > MOST_PENDING and (self.keeps or not math.isinf(self._every))
        return has_much or time.monotonic() - self._last >= max(self._every, self._cost / SHARE)

    def is_worth_it(self) -> bool:
        """Whether one should be saved when the run is interrupted: the rest of it would take long."""
        if math.isinf(self._every):
            return False
        expected = self.elapsed * self.total / self.done if self.done else 0.0
        return self._asked or self.are_there or expected > SECONDS

    def states(self) -> Iterator[State]:
        """All whole states, the newest first."""
        for path in reversed(self._pieces("state")):
            if self._newest is not None and self._newest[0] == path:
                yield self._newest[1]
            elif found := self._read(path):
                self._newest = self._newest or (path, State(*found))
                yield State(*found)

    def count(self) -> None:
        """Count the seconds before the run was resumed: once, as what it saves itself has its own seconds too."""
        if not self._is_counted:
            self._is_counted = True
            before = self.states() if self.are_there else ()
            self.seconds = max((float(state.heading["seconds"]) for state in before), default=0.0)

    def begin_anew(self) -> None:
        """Go on from none of those that were there, which are gone."""
        self._number, self._newest = 0, None

    def forget(self) -> None:
        """Free the memory of what was read."""
        self._newest = None

    def whole(self) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
        """All whole pieces of what is done in this run; one of another may be left where it could not be removed."""
        for path in self._pieces("done"):
            if (found := self._read(path)) and found[0]["id"] == self._id:
                yield found

    @property
    def is_written(self) -> bool:
        """Whether all that has come to its end is on the disk."""
        return not self._pending

    def done_pieces(self) -> list[Path]:
        """The files of what is done in this run."""
        return [path for path in self._pieces("done") if (found := self._read(path)) and found[0]["id"] == self._id]

    def note_kept(self, rows: _Rows, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the states of the tiles that were noted last, or sums of all full ones, where it says ``is_full``."""
        rows.about |= about
        if about.get("is_full"):
            rows.full |= arrays
        else:
            rows.kept.append(dict(arrays))
        self._pending_bytes += sum(array.nbytes for array in arrays.values())

    def rows(self, part: int, point: int, lanes: int, into: Accumulators) -> _Rows:
        """What waits of a point for the next checkpoint."""
        return self._pending.setdefault((part, point), _Rows(into, lanes))

    def note(self, part: int, point: int, lanes: int, into: Accumulators, tiles: tuple[int, int] | None) -> None:
        """Note that tiles of a point, or with None all of them, have come to their end."""
        rows = self.rows(part, point, lanes, into)
        if tiles is None:
            rows.is_whole = True
        else:
            rows.tiles = joined([*rows.tiles, tiles])
            first, last = (tile * lanes for tile in tiles)
            self._pending_bytes += sum(getattr(into, name)[:, first:last].nbytes for name in _LISTED)

    def save(self, heading: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Write a checkpoint: what has come to its end since the last one, and a state.

        Raises
        ------
        RunError
            If it cannot be written; those before it are as they were.
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
        """The same; where it fails the run is not ended for it, and a warning says so."""
        try:
            self.save(heading, arrays)
        except RunError as error:
            self._last, self._pending_bytes = time.monotonic(), 0
            warnings.warn(f"no checkpoint: {error}", RuntimeWarning, stacklevel=2)

    def _log(self, line: Mapping[str, Any]) -> None:
        """Add a line to the log, for whoever watches."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with suppress(OSError), (self.folder / _LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"utc": now, **line}) + "\n")

    def _pieces(self, kind: str) -> list[Path]:
        return sorted(path for path in self.folder.glob(f"*.{kind}") if path.stem.isdecimal())

    def _read(self, path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        if path in self._damaged:
            return None
        try:
            return pieces.read(path) if path.exists() else None  # whoever only watches may come too late
        except pieces.DamagedError as error:
            self._damaged.add(path)
            warnings.warn(f"{error}; what it held is computed again", RuntimeWarning, stacklevel=2)
            return None


class Part:
    """Those of one part of a scenario, as the run loop sees them.

    Parameters
    ----------
    checkpoints
        Of the whole run.
    index
        Of the part.
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
        """That the run has taken before it was resumed, and the one that it goes on from."""
        return self._all.seconds + (0.0 if self._all.extension is None else self._all.extension.kept.seconds)

    @property
    def keeps(self) -> bool:
        """Whether states are kept."""
        return self._all.keeps

    @property
    def folder(self) -> Path:
        """Where they stand."""
        return self._all.folder

    def restore(self, simulators: Sequence[Simulator], results: Accumulators) -> int:
        """Put what is on the disk into the results; the trajectory-steps that are done by it.

        Raises
        ------
        InputError
            If it was computed on another device.
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
        """Put what the run before has left into the results; the trajectory-steps of each point that are done by it."""
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
        """Trajectory-steps that the run before has done of the tiles before one."""
        if self._extended is None:
            return 0
        tiles = min(self._extended.tiles(point, simulator.lanes), before)
        return tiles * simulator.lanes * self._extended.step(point, simulator.run)

    def simulate(
        self, point: int, simulator: Simulator, into: Accumulators, bar: Progress, most: int | None, span: int | None
    ) -> None:
        """Run all blocks of a point that have not come to their end, and save checkpoints on the way.

        Parameters
        ----------
        point
            Of the sweep.
        simulator, into
            Which runs it, and where to.
        bar
            Is told of every span.
        most, span
            Trajectories of a block and steps of a span; see `simulate_runs`.
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
        """The blocks of a point that have not come to their end, the running one as it was."""
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
        """A block has come to its end: its numbers are in the sums."""
        self._note(point, simulator, into, first, first + tiles)
        if self._all.is_due():
            self._save(point, simulator, into, first + tiles, None)

    def _note(self, point: int, simulator: Simulator, into: Accumulators, first: int, last: int) -> None:
        self._all.note(self._index, point, simulator.lanes, into, (first, last))
        if self._all.keeps:
            rows = self._all.rows(self._index, point, simulator.lanes, into)
            self._all.note_kept(rows, self._about(simulator), self._state)

    def _note_full(self, point: int, simulator: Simulator, into: Accumulators) -> None:
        """All full tiles have come to their end: without a last one that is not, these are their sums."""
        if self._all.keeps:
            rows = self._all.rows(self._index, point, simulator.lanes, into)
            sums = {name: getattr(into, name).copy() for name in SUMS}
            self._all.note_kept(rows, {**self._about(simulator), "is_full": True}, sums)

    def _about(self, simulator: Simulator) -> dict[str, Any]:
        run = simulator.run
        steps = {"step": kept_step(run.steps), "steps": run.steps, "snapshots": simulator.snapshot_steps.tolist()}
        return {**steps, "full": run.trajectories // simulator.lanes, "target": simulator.executor.name}

    def _catch(self, simulator: Simulator, block: Block) -> None:
        """Take the state of a block where a longer run would go on."""
        if self._all.keeps and block.step == kept_step(simulator.run.steps):
            self._state = {name: np.array(simulator.executor.fetch(getattr(block, name))) for name in BLOCK}

    def _save(self, point: int, simulator: Simulator, into: Accumulators, first_tile: int, block: Block | None) -> None:
        """Save a state between two spans: all tiles before the first one have come to their end."""
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
    """Those of one point of a sweep, in the same memory."""
    return Accumulators(*(getattr(results, one.name)[point] for one in fields(Accumulators)))


def rows_of(into: Accumulators, tiles: Sequence[tuple[int, int]], lanes: int) -> dict[str, np.ndarray]:
    """What is kept of the trajectories of some tiles, one after the other."""
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
    """Put back what `rows_of` has taken."""
    rows = {name: arrays[f"{prefix}{name}"] for name in _LISTED}
    diverged, status = (arrays[f"{prefix}{name}"] for name in ("diverged", "status"))
    for first, last in tiles:
        for name, left in rows.items():
            part = getattr(into, name)[:, first * lanes : last * lanes]
            part[:], rows[name] = left[:, : part.shape[1]], left[:, part.shape[1] :]
        low, high = np.searchsorted(diverged, (first * lanes, last * lanes))
        into.status.put(first * lanes, last * lanes, diverged[low:high], status[low:high])


def put_sums(into: Accumulators, arrays: Mapping[str, np.ndarray], prefix: str = "") -> None:
    """Put back sums, of the records that were reached; where none are put there are zeros."""
    for name in SUMS:
        saved = arrays[f"{prefix}{name}"]
        getattr(into, name)[: len(saved)] = saved


def joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in order, those that touch or overlap made one.

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
