"""Shards: parts of a run that different processes or machines compute; the merged results are bit-identical.

Every sum is kept separately for each group of trajectories, and groups are added up only when a file is read. So a
shard is some groups of some points of a sweep. To merge shards is to put each group in its place: no numbers are added,
and the results cannot depend on the number of shards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sgdsim.base import pieces
from sgdsim.base.errors import InputError
from sgdsim.kernels.accumulators import Accumulators
from sgdsim.kernels.program import GROUPS
from sgdsim.model.run import Run
from sgdsim.simulation.memory_needs import place_of_snapshots
from sgdsim.simulation.result_arrays import SUMS, allocate, at, joined, put_rows, rows_of
from sgdsim.simulation.run_loop import Computed
from sgdsim.simulation.unfinished import Description, refuse_another

Unit = tuple[int, tuple[int, int]]
"""Unit of work: a point of a sweep, and the first and last (excluded) of its groups."""

_MOST_NAMED = 10


@dataclass(frozen=True)
class Shard:
    """A shard of a run.

    Parameters
    ----------
    number, of
        Number of the shard, counted from 1, and number of all shards.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Shard of a text such as ``3/64``.

        Raises
        ------
        InputError
            For any other text, and for a number out of range.

        Examples
        --------
        >>> Shard.parse("3/64").file_name
        '3-of-64.shard'
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
        if not match:
            raise InputError(f"--shard: {text!r}, expected a number and how many there are, such as 3/64")
        number, of = int(match[1]), int(match[2])
        if not 1 <= number <= of:
            raise InputError(f"--shard: {text!r}, expected a number from 1 to {of}")
        return cls(number, of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def file_name(self) -> str:
        """Name of the file of the shard."""
        return f"{self.number}-of-{self.of}.shard"

    def units(self, points: Sequence[int]) -> list[list[Unit]]:
        """Points and groups that the shard computes, for each part of a scenario.

        Parameters
        ----------
        points
            Number of points in the sweep of each part.

        Raises
        ------
        InputError
            If there are more shards than groups of all points together.

        Examples
        --------
        >>> Shard(2, 4).units([1])
        [[(0, (16, 32))]]
        >>> Shard(2, 2).units([1, 2])
        [[], [(0, (32, 64)), (1, (0, 64))]]
        """
        total = GROUPS * sum(points)
        if self.of > total:
            raise InputError(
                f"--shard: {self.number}/{self.of}, expected at most {total} shards, {GROUPS} a sweep point"
            )
        first, last = ((self.number - 1) * total // self.of, self.number * total // self.of)
        found, start = [], 0
        for count in points:
            own = [(point, start + point * GROUPS) for point in range(count)]
            cut = [(point, max(first - begin, 0), min(last - begin, GROUPS)) for point, begin in own]
            found.append([(point, (low, high)) for point, low, high in cut if low < high])
            start += count * GROUPS
        return found


def write(
    path: Path, shard: Shard, described: Description, parts: Sequence[tuple[Sequence[Unit], Computed | None]]
) -> None:
    """Write the file of a shard.

    Parameters
    ----------
    path
        Path of the file.
    shard, described
        The shard, and the description of the run.
    parts
        For each part of the scenario the units of work and their results.
    """
    headings, arrays = list[dict[str, Any] | None](), dict[str, np.ndarray]()
    for part, (units, computed) in enumerate(parts):
        if computed is None:
            headings.append(None)
            continue
        entries = []
        for index, (point, (low, high)) in enumerate(units):
            into = at(computed.results, index)
            tiles = _tiles(len(into.status), computed.lanes, low, high)
            entries.append({"point": point, "groups": [low, high], "tiles": tiles})
            prefix = f"{part}/{index}/"
            arrays |= {prefix + name: _of_groups(into, name)[low:high] for name in SUMS}
            arrays |= {prefix + name: rows for name, rows in rows_of(into, tiles, computed.lanes).items()}
        about = {name: value for name, value in vars(computed).items() if name != "results"}
        headings.append({"entries": entries, **about})
    pieces.write(path, {"run": vars(described), "shard": [shard.number, shard.of], "parts": headings}, arrays)


def identity(path: Path) -> tuple[Shard, Description]:
    """Shard in a file, and the description of its run."""
    return _identity(path, pieces.read(path)[0])


def moments_in(path: Path) -> list[np.ndarray]:
    """Moments of the first point of a sweep in the file of a shard, of its groups, (record, group, …); perhaps none."""
    heading, arrays = pieces.read(path)
    about = heading["parts"][0]
    firsts = [number for number, one in enumerate(about["entries"] if about else []) if one["point"] == 0]
    return [arrays[f"0/{number}/moments"].swapaxes(0, 1) for number in firsts]


def merged(folder: Path) -> tuple[Description, Merging]:
    """Description of a run and the merging of all its shards in a folder.

    Raises
    ------
    InputError
        If shards are missing, damaged or of another run; each is named.
    """
    paths = sorted(folder.glob("*.shard"))
    if not paths:
        raise InputError(f"{folder}: holds no shards, expected files such as {Shard(1, 64).file_name}")
    first, described = identity(paths[0])
    there = {}
    for path in paths:
        shard, own = identity(path)
        if shard.of != first.of:
            raise InputError(f"{path}: is one of {shard.of} shards, and {paths[0].name} one of {first.of}")
        for (_, _, was), (_, _, now) in zip(described.scenarios, own.scenarios, strict=False):
            refuse_another(str(path), now, was, paths[0].name)
        if len(own.scenarios) != len(described.scenarios):
            raise InputError(f"{path}: holds another scenario than {paths[0].name}, with other parts")
        there[shard.number] = path
    if missing := [number for number in range(1, first.of + 1) if number not in there]:
        named = ", ".join(Shard(number, first.of).file_name for number in missing[:_MOST_NAMED])
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        raise InputError(f"{folder}: {named}{more} missing")
    return described, Merging([there[number] for number in sorted(there)])


class Merging:
    """The merging of the files of all shards.

    Parameters
    ----------
    paths
        Paths of the files, in the order of the shards.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    @property
    def count(self) -> int:
        """Number of shards."""
        return len(self._paths)

    @property
    def folder(self) -> Path:
        """Folder of the files."""
        return self._paths[0].parent

    def part(self, index: int, runs: Sequence[Run], memory_limit: float | None = None) -> Computed:
        """Results of one part of the scenario.

        Raises
        ------
        InputError
            For shards that were computed on different devices, and for too much memory.
        """
        results = allocate(runs, place_of_snapshots(runs, self.folder, memory_limit))
        found: Computed | None = None
        for path in self._paths:
            heading, arrays = pieces.read(path)
            about = heading["parts"][index]
            if about is None:
                continue
            entries = about.pop("entries")
            own = Computed(results, **about)
            if found is not None and own.target != found.target:
                raise InputError(f"{path}: computed on {own.target}, and others on {found.target}")
            found = own if found is None else _together(found, own)
            for number, entry in enumerate(entries):
                into, prefix = at(results, entry["point"]), f"{index}/{number}/"
                low, high = entry["groups"]
                for name in SUMS:
                    _of_groups(into, name)[low:high] = arrays[prefix + name]
                put_rows(into, entry["tiles"], own.lanes, arrays, prefix)
        assert found is not None
        return found


def _together(one: Computed, other: Computed) -> Computed:
    """Results of two shards: the start is the earlier one, the seconds are the sum of both."""
    return replace(
        one,
        started=min(one.started, other.started),
        layout_version=max(one.layout_version, other.layout_version),
        compile_seconds=one.compile_seconds + other.compile_seconds,
        seconds=one.seconds + other.seconds,
        processor=", ".join(sorted({*one.processor.split(", "), *other.processor.split(", ")})),
    )


def _of_groups(into: Accumulators, name: str) -> np.ndarray:
    """Accumulator with the axis of groups first."""
    array: np.ndarray = getattr(into, name)
    return array if name == "changes" else array.swapaxes(0, 1)


def _tiles(trajectories: int, lanes: int, low: int, high: int) -> list[tuple[int, int]]:
    """Ranges of the tiles that belong to some groups."""
    tiles = -(-trajectories // lanes)
    strips: Iterator[tuple[int, int]] = (
        (row + low, min(row + high, tiles)) for row in range(0, tiles, GROUPS) if row + low < tiles
    )
    return joined(list(strips))


def _identity(path: Path, heading: Mapping[str, Any]) -> tuple[Shard, Description]:
    if "shard" not in heading:
        raise InputError(f"{path}: not a shard")
    return Shard(*heading["shard"]), Description.read(heading["run"], path)
