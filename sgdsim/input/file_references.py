"""Files that a scenario names: the places of their names, and the contents that replace them."""

from __future__ import annotations

import copy
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.base.files import PathLike
from sgdsim.base.numbers import NUMBER
from sgdsim.base.problems import Problems
from sgdsim.input.columns import COLUMN, describe_column
from sgdsim.input.numeric_files import read_curve, read_matrix, read_numbers, read_table
from sgdsim.input.option_values import FILE_OF_ROWS
from sgdsim.model.data import MAX_CELLS

_CURVE = re.compile(r"(?P<before>[^=]*=\s*)file:(?P<path>[^;]*)(?P<after>;.*)?", re.DOTALL)


def inline_files(data: Mapping[str, Any], folder: PathLike = ".") -> dict[str, Any]:
    r"""Scenario data with the contents of all files in place of their names, so that no file is needed any more.

    The states of `run.from` and columns of starts are too large for that: there a description replaces the name.

    Parameters
    ----------
    data
        Data of a scenario file.
    folder
        Folder from which relative paths are taken.

    Raises
    ------
    InputError
        With the problems of all files, each with the key that names the file.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "covariance.csv").write_text("1,0.5\n0.5,1\n")
    ...     inline_files({"loss": {"noise": {"p,q": "normal:covariance.csv"}}}, folder)
    {'loss': {'noise': {'p,q': 'normal:1,0.5;0.5,1'}}}
    """
    inlined = copy.deepcopy(dict(data))
    problems = []
    for reference in _references(data):
        try:
            content = reference.content(Path(folder, reference.path))
        except InputError as error:
            problems.append(f"{reference.key}: {str(error).removeprefix(f'{reference.key}: ')}")
        else:
            _put(inlined, reference.place, content)
    if problems:
        raise Problems(problems)
    if isinstance(start := _get(inlined, "run", "from"), Mapping) and {"trajectories", "seeds"} <= start.keys():
        inlined["run"].setdefault("trajectories", start["trajectories"])
        free = (seed % 2**64 for seed in itertools.count(start["seeds"][0] + 1) if seed not in start["seeds"])
        inlined["run"].setdefault("seed", next(free))  # the same seed would draw the same noise again
    return inlined


def move_files(data: Mapping[str, Any], old: PathLike, new: PathLike) -> dict[str, Any]:
    """Scenario data for a file in another folder: its relative paths are changed to lead to the same files.

    Examples
    --------
    >>> move_files({"loss": {"data": "table.csv"}}, "/home/data", "/home/scenarios")
    {'loss': {'data': '../data/table.csv'}}
    """
    moved = copy.deepcopy(dict(data))
    for reference in _references(data):
        if not os.path.isabs(reference.path):
            path = os.path.relpath(os.path.realpath(Path(old, reference.path)), os.path.realpath(new))
            _put(moved, reference.place, reference.prefix + path + reference.suffix)
    return moved


def named_files(data: Mapping[str, Any], folder: PathLike = ".") -> list[Path]:
    """The files that scenario data name.

    Examples
    --------
    >>> named_files({"loss": {"data": "table.csv"}}, "/home/data")
    [PosixPath('/home/data/table.csv')]
    """
    return [Path(folder, reference.path) for reference in _references(data)]


@dataclass(frozen=True)
class _Reference:
    """A value that names a file: its key, the text before and after the path, and the reader of the contents."""

    place: tuple[str | int, ...]
    prefix: str
    path: str
    content: Callable[[Path], Any]
    suffix: str = ""

    @property
    def key(self) -> str:
        return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.place).lstrip(".")


def _references(data: Mapping[str, Any]) -> Iterator[_Reference]:
    table = _get(data, "loss", "data")
    if isinstance(table, str) and table.strip():
        yield _Reference(("loss", "data"), "", table, _data)
    noise = _get(data, "loss", "noise")
    for names, text in noise.items() if isinstance(noise, Mapping) else ():
        if ("," in names or "[" in names) and (path := _after("normal:", text)) and not _is_matrix(path):
            yield _Reference(("loss", "noise", names), "normal:", path, _covariance)
    yield from _arrays(data)
    symmetries = _get(data, "loss", "symmetry")
    for index, text in enumerate(symmetries if isinstance(symmetries, list) else ()):
        if path := _after("generator:", text):
            yield _Reference(("loss", "symmetry", index), "generator:", path, _generator)
    if path := _after("file:", _get(data, "optimizer", "learning_rate")):
        yield _Reference(("optimizer", "learning_rate"), "file:", path, read_numbers)
    for key in ("preconditioner", "metric"):
        if path := _after("", _get(data, "optimizer", key)):
            yield _Reference(("optimizer", key), "", path, read_matrix)
    if path := _after("", _get(data, "run", "from")):
        yield _Reference(("run", "from"), "", path, partial(_start, _get(data, "run", "trajectories")))
    for section, key in (("loss", "parameters"), ("loss", "constants"), ("run", "initial")):
        yield from _columns(section, key, _get(data, section, key))
    claims = data.get("predict")
    for index, claim in enumerate(claims if isinstance(claims, list) else ()):
        text = claim.get("formula") if isinstance(claim, Mapping) else None
        match = _CURVE.fullmatch(text) if isinstance(text, str) else None
        if match is not None and (path := match["path"].strip()):
            before, after = match["before"], match["after"] or ""
            content = partial(_claimed_curve, before, after)
            yield _Reference(("predict", index, "formula"), f"{before}file:", path, content, after)


def _arrays(data: Mapping[str, Any]) -> Iterator[_Reference]:
    for section, key in (("loss", "constants"), ("loss", "parameters"), ("run", "initial")):
        values = _get(data, section, key)
        for name, text in values.items() if isinstance(values, Mapping) else ():
            if isinstance(text, str) and text.strip().endswith(FILE_OF_ROWS):
                yield _Reference((section, key, name), "", text.strip(), _array)


def _columns(section: str, key: str, starts: Any) -> Iterator[_Reference]:
    """References among starts or constants to columns of files."""
    for name, text in starts.items() if isinstance(starts, Mapping) else ():
        if isinstance(text, str) and (match := COLUMN.fullmatch(text.strip())):
            content = partial(describe_column, match["column"])
            yield _Reference((section, key, name), "", match["path"], content, match["column"])


def _get(data: Mapping[str, Any], section: str, key: str) -> Any:
    table = data.get(section)
    return table.get(key) if isinstance(table, Mapping) else None


def _put(data: Any, place: Sequence[str | int], value: Any) -> None:
    *path, last = place
    for part in path:
        data = data[part]
    data[last] = value


def _after(prefix: str, text: Any) -> str:
    """The text after a prefix; empty if the value is not a text with this prefix."""
    return (
        text.strip().removeprefix(prefix).strip() if isinstance(text, str) and text.strip().startswith(prefix) else ""
    )


def _is_matrix(text: str) -> bool:
    return all(NUMBER.fullmatch(cell.strip()) for row in text.split(";") for cell in row.split(","))


def _data(path: Path) -> dict[str, list[float]]:
    columns = read_table(path)
    cells = sum(map(len, columns.values()))
    if cells > MAX_CELLS:
        raise InputError(f"{path}: {cells} values, expected at most {MAX_CELLS}")
    return columns


def _covariance(path: Path) -> str:
    rows = [",".join(repr(x).removesuffix(".0") for x in row) for row in read_matrix(path)]
    return f"normal:{';'.join(rows)}"


def _array(path: Path) -> list[Any]:
    """The rows of a file of numbers; the numbers themselves if each line has one."""
    rows = read_matrix(path)
    return [row[0] for row in rows] if len(rows[0]) == 1 else rows


def _generator(path: Path) -> dict[str, Any]:
    return {"name": "generator", "matrix": read_matrix(path)}


def _claimed_curve(before: str, after: str, path: Path) -> str:
    return f"{before}{toml.dump_value(read_curve(path))}{after}"


def _start(trajectories: Any, path: Path) -> dict[str, Any]:
    from sgdsim.input.snapshots import describe_snapshot

    whole = isinstance(trajectories, int | float) and 1 <= trajectories < inf and trajectories == int(trajectories)
    return describe_snapshot(os.path.realpath(path), int(trajectories) if whole else None)
