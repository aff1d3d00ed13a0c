"""Shards: parts of a run that different processes or machines compute, and that are put together to the same bits.

Every sum is kept by group of trajectories, and groups are merged only when a file is read. So a shard is some groups of
some sweep points, and to merge is to put each group where it belongs: no number is added to another, and nothing can
depend on how many shards there are.
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
from sgdsim.simulation.checkpoints import SUMS, at, joined, put_rows, rows_of
from sgdsim.simulation.run_loop import Computed, allocate_for, place_of_snapshots
from sgdsim.simulation.unfinished import Description, refuse_another

Unit = tuple[int, tuple[int, int]]
"""A sweep point, and the first and last (excluded) of its groups."""

_MOST_NAMED = 10


@dataclass(frozen=True)
class Shard:
    """Which part of a run.

    Parameters
    ----------
    number, of
        The third of 64 is 3 of 64.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``3/64``.

        Raises
        ------
        InputError
            For anything else, and for a number that is out of range.

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
        """Of its file."""
        return f"{self.number}-of-{self.of}.shard"

    def units(self, points: Sequence[int]) -> list[list[Unit]]:
        """What it computes of each part of a scenario.

        Parameters
        ----------
        points
            How many sweep points each part has.

        Raises
        ------
        InputError
            If there are more shards than groups of all points.

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
        Of the file.
    shard, described
        Which it is, and of what.
    parts
        Of each part of the scenario the units and what they came to.
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
    """Which shard a file is, and of what."""
    return _identity(path, pieces.read(path)[0])


def moments_in(path: Path) -> list[np.ndarray]:
    """The moments that a shard holds of the first sweep point, if any: of its groups, (record, group, …)."""
    heading, arrays = pieces.read(path)
    about = heading["parts"][0]
    firsts = [number for number, one in enumerate(about["entries"] if about else []) if one["point"] == 0]
    return [arrays[f"0/{number}/moments"].swapaxes(0, 1) for number in firsts]


def merged(folder: Path) -> tuple[Description, Merging]:
    """All shards in a folder, to be put together.

    Raises
    ------
    InputError
        If some are missing, damaged or of another run; each is named.
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
    """Puts the files of all shards together.

    Parameters
    ----------
    paths
        Of the files, in order.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    @property
    def count(self) -> int:
        """How many shards there are."""
        return len(self._paths)

    @property
    def folder(self) -> Path:
        """Where they stand."""
        return self._paths[0].parent

    def part(self, index: int, runs: Sequence[Run], memory_limit: float | None = None) -> Computed:
        """What one part of the scenario has come to.

        Raises
        ------
        InputError
            For shards that were computed on different devices, and for more memory than there is.
        """
        results = allocate_for(runs, place_of_snapshots(runs, self.folder, memory_limit))
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
    """Begun when the first was; the time is that of all of them, one after the other."""
    return replace(
        one,
        started=min(one.started, other.started),
        layout_version=max(one.layout_version, other.layout_version),
        compile_seconds=one.compile_seconds + other.compile_seconds,
        seconds=one.seconds + other.seconds,
        processor=", ".join(sorted({*one.processor.split(", "), *other.processor.split(", ")})),
    )


def _of_groups(into: Accumulators, name: str) -> np.ndarray:
    """A sum with the groups first."""
    array: np.ndarray = getattr(into, name)
    return array if name == "changes" else array.swapaxes(0, 1)


def _tiles(trajectories: int, lanes: int, low: int, high: int) -> list[tuple[int, int]]:
    """The tiles of some groups."""
    tiles = -(-trajectories // lanes)
    strips: Iterator[tuple[int, int]] = (
        (row + low, min(row + high, tiles)) for row in range(0, tiles, GROUPS) if row + low < tiles
    )
    return joined(list(strips))


def _identity(path: Path, heading: Mapping[str, Any]) -> tuple[Shard, Description]:
    if "shard" not in heading:
        raise InputError(f"{path}: not a shard")
    return Shard(*heading["shard"]), Description.read(heading["run"], path)
