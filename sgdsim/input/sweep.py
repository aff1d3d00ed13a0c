"""The points of a sweep: lists of values by dotted key are paired, those of ``[sweep.grid]`` are all combined."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from functools import partial
from math import prod
from typing import Any

from sgdsim.base import toml
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.base.problems import attempt_all
from sgdsim.input.wording import shown

MOST_POINTS = 100_000
"""Most points of a sweep. Every point is a run of its own, read in 0.25 ms and set up in several."""

SWEPT = ("loss", "optimizer", "run")
"""Tables whose values may be swept."""

_OWN = ("grid", "common_noise")


def read_sweep(table: Any) -> dict[str, tuple[Any, ...]]:
    """The values of every swept key, one for each point; empty without a sweep.

    Parameters
    ----------
    table
        The table ``[sweep]``.

    Raises
    ------
    InputError
        For lists of different lengths that must be paired, a key that is swept twice, and too many points.

    Examples
    --------
    >>> read_sweep({"optimizer.learning_rate": [0.1, 0.2], "grid": {"run.seed": [1, 2]}})
    {'optimizer.learning_rate': (0.1, 0.1, 0.2, 0.2), 'run.seed': (1, 2, 1, 2)}
    """
    if not isinstance(table, Mapping):
        raise InputError(f"sweep: {shown(table)}, expected a table")
    grid_table, common_noise = table.get("grid", {}), table.get("common_noise", False)
    if not isinstance(grid_table, Mapping):
        raise InputError(f"sweep.grid: {shown(grid_table)}, expected a table of lists")
    if not isinstance(common_noise, bool):
        raise InputError(f"sweep.common_noise: {shown(common_noise)}, expected true or false")
    paired = dict(_flat({key: value for key, value in table.items() if key not in _OWN}))
    grid = dict(_flat(grid_table))
    attempt_all(partial(_check, key, value) for key, value in [*paired.items(), *grid.items()])
    for key in paired.keys() & grid.keys():
        raise InputError(f"sweep.grid.{key}: is swept already, outside the grid")
    lengths = {key: len(value) for key, value in paired.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise InputError(f"sweep: {listed} values, expected equally many; [sweep.grid] makes the product of lists")
    points = prod([*set(lengths.values()), *map(len, grid.values())])
    if points > MOST_POINTS:
        raise InputError(f"sweep: {points} points, expected at most {MOST_POINTS}")
    axes = [list(zip(*paired.values(), strict=True))] if paired else []
    axes += [[(value,) for value in values] for values in grid.values()]
    rows = (tuple(itertools.chain(*parts)) for parts in itertools.product(*axes))
    return dict(zip((*paired, *grid), zip(*rows, strict=True), strict=True)) if axes else {}


def labels(swept: Mapping[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """Swept values as coordinates of a file, which have one type: numbers if all are numbers, else text.

    Examples
    --------
    >>> labels({"optimizer.learning_rate": (0.1, "cosine:0.1")})
    {'optimizer.learning_rate': ('0.1', 'cosine:0.1')}
    """
    return {
        key: tuple(map(str, values)) if any(isinstance(value, str) for value in values) else values
        for key, values in swept.items()
    }


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values, whether the dots are in quotes or make tables."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _check(key: str, values: Any) -> None:
    where = f"sweep.{key}"
    table = toml.split_key(key)[0]
    if table not in SWEPT:
        raise InputError(f"{where}: {unknown_name('section to sweep', table, SWEPT)}")
    if not isinstance(values, list) or not values:
        raise InputError(f"{where}: {shown(values)}, expected a list of values")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InputError(f"{where}: {shown(value)} in the list, expected numbers or texts")
