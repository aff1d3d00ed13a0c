"""Checkpoints of one part of a scenario: what is restored before it runs, and what is saved on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.kernels.accumulators import Accumulators
from sgdsim.kernels.block import Block
from sgdsim.simulation.checkpoints import Checkpoints, State
from sgdsim.simulation.kept_states import BLOCK, ExtendedPart, kept_step
from sgdsim.simulation.progress import Progress
from sgdsim.simulation.result_arrays import SUMS, at, put_rows, put_sums, rows_of
from sgdsim.simulation.simulator import Simulator


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
