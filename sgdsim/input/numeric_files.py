"""Files that a scenario names: tables, matrices and curves of numbers, and how they come to stand in the scenario."""

from __future__ import annotations

import copy
import csv
import io
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, isfinite
from pathlib import Path
from typing import Any

from sgdsim.base import hdf5, toml
from sgdsim.base.errors import InputError
from sgdsim.base.files import MAX_BYTES, PathLike, check_input, unreadable
from sgdsim.formulas.names import check_name
from sgdsim.model.data import MAX_CELLS

_HDF5 = (".h5", ".hdf5")
_MISSING = ("", "na", "n/a", "nan", "null", "none")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_LONGEST_SHOWN = 40
_CURVE = re.compile(r"(?P<before>[^=]*=\s*)file:(?P<path>[^;]*)(?P<after>;.*)?", re.DOTALL)


def read_table(path: PathLike) -> dict[str, list[float]]:
    r"""Read named columns of numbers.

    Parameters
    ----------
    path
        Comma-separated values under a line of names, or HDF5 (``.h5``, ``.hdf5``), where each numeric dataset of
        one dimension in the root is a column.

    Raises
    ------
    InputError
        For a file that cannot be read, names that formulas cannot use or that stand there twice, rows of another
        length, cells that are missing or no finite numbers, and no rows.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "data.csv")
    ...     _ = path.write_text("x,y\n1,2.5\n-1,0\n")
    ...     read_table(path)
    {'x': [1.0, -1.0], 'y': [2.5, 0.0]}
    """
    check_input(path)
    if Path(path).suffix.lower() in _HDF5:
        return _read_hdf5(path)
    header, *rows = _rows(path) or [_Row(1, [])]
    if not header.cells and rows:
        raise InputError(f"{path}: the first line is blank, expected the names of the columns")
    names = [name.strip() for name in header.cells]
    for column, name in enumerate(names, 1):
        _check_column(path, name, names, f"line {header.line}, column {column}")
    if not rows:
        raise InputError(f"{path}: no rows, expected a line of names and at least one of numbers")
    for number, row in enumerate(rows, 1):
        _check_length(path, number, row, len(names))
    return {
        name: [_cell(path, number, row, column, f"{name!r}") for number, row in enumerate(rows, 1)]
        for column, name in enumerate(names)
    }


def read_matrix(path: PathLike) -> list[list[float]]:
    r"""Read comma-separated numbers without names, row by row.

    Raises
    ------
    InputError
        As `read_table`.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "covariance.csv")
    ...     _ = path.write_text("1,0.5\n0.5,1\n")
    ...     read_matrix(path)
    [[1.0, 0.5], [0.5, 1.0]]
    """
    check_input(path)
    rows = _rows(path)
    if not rows:
        raise InputError(f"{path}: no rows, expected comma-separated numbers")
    for number, row in enumerate(rows, 1):
        _check_length(path, number, row, len(rows[0].cells))
    return [
        [_cell(path, number, row, column, str(column + 1)) for column in range(len(row.cells))]
        for number, row in enumerate(rows, 1)
    ]


def read_numbers(path: PathLike) -> list[float]:
    r"""Read one number a line, or the first of several; a name on the first line is passed over.

    Raises
    ------
    InputError
        As `read_table`.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "rates.txt")
    ...     _ = path.write_text("0.1\n0.05\n")
    ...     read_numbers(path)
    [0.1, 0.05]
    """
    check_input(path)
    rows = _rows(path)
    first = rows[0].cells[0].strip() if rows and rows[0].cells else ""
    if first.isidentifier() and first.lower() not in _MISSING:
        rows = rows[1:]
    if not rows:
        raise InputError(f"{path}: no rows, expected one number a line")
    return [_cell(path, number, row, 0, "1") for number, row in enumerate(rows, 1)]


def read_curve(path: PathLike) -> dict[str, list[float]]:
    r"""Read a curve: a column ``value``, and one before it of recorded steps or of what is swept.

    Raises
    ------
    InputError
        As `read_table`, and for other columns; what is swept may have dots in its name.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "curve.csv")
    ...     _ = path.write_text("step,value\n0,1\n100,0.5\n")
    ...     read_curve(path)
    {'step': [0.0, 100.0], 'value': [1.0, 0.5]}
    """
    check_input(path)
    rows = _rows(path)
    names = [name.strip() for name in rows[0].cells] if rows else []
    usage = "a first line step,value or, for the points of a sweep, learning_rate,value"
    if len(names) != 2 or not all(names):
        raise InputError(f"{path}: line 1: {_shown(','.join(names))}, expected {usage}")
    if names[1] != "value" or names[0] == "value":
        raise InputError(
            f"{path}: line 1, column {2 - (names[0] == 'value')}: {_shown(','.join(names))}, expected {usage}"
        )
    if len(rows) < 2:
        raise InputError(f"{path}: no rows, expected at least one of numbers below the names")
    for number, row in enumerate(rows[1:], 1):
        _check_length(path, number, row, 2)
    return {
        name: [_cell(path, number, row, column, f"{name!r}") for number, row in enumerate(rows[1:], 1)]
        for column, name in enumerate(names)
    }


def inline_files(data: Mapping[str, Any], folder: PathLike = ".") -> dict[str, Any]:
    r"""Scenario data with the contents of all files in place of their names, so that no file is needed any more.

    Only the states of `run.from`, which are too many, stay where they are; a description takes the place of the name.

    Parameters
    ----------
    data
        As it stands in a scenario file; what names no file stays as it is.
    folder
        Where paths that are not absolute begin.

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
        raise InputError("\n".join(problems))
    if isinstance(start := _get(inlined, "run", "from"), Mapping) and {"trajectories", "seeds"} <= start.keys():
        inlined["run"].setdefault("trajectories", start["trajectories"])
        free = (seed % 2**64 for seed in itertools.count(start["seeds"][0] + 1) if seed not in start["seeds"])
        inlined["run"].setdefault("seed", next(free))  # the same would draw the same noise again
    return inlined


def move_files(data: Mapping[str, Any], old: PathLike, new: PathLike) -> dict[str, Any]:
    """Scenario data for a file in another folder: all paths that are not absolute lead to the same files.

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


# Where scenarios name files.


@dataclass(frozen=True)
class _Reference:
    """A value that names a file: where it stands, what comes before and after the path, what the file holds."""

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
        if "," in names and (path := _after("normal:", text)) and not _is_matrix(path):
            yield _Reference(("loss", "noise", names), "normal:", path, _covariance)
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
    claims = data.get("predict")
    for index, claim in enumerate(claims if isinstance(claims, list) else ()):
        text = claim.get("formula") if isinstance(claim, Mapping) else None
        match = _CURVE.fullmatch(text) if isinstance(text, str) else None
        if match is not None and (path := match["path"].strip()):
            before, after = match["before"], match["after"] or ""
            content = partial(_claimed_curve, before, after)
            yield _Reference(("predict", index, "formula"), f"{before}file:", path, content, after)


def _get(data: Mapping[str, Any], section: str, key: str) -> Any:
    table = data.get(section)
    return table.get(key) if isinstance(table, Mapping) else None


def _put(data: Any, place: Sequence[str | int], value: Any) -> None:
    *path, last = place
    for part in path:
        data = data[part]
    data[last] = value


def _after(prefix: str, text: Any) -> str:
    """What comes after a prefix; nothing where there is another text, or none."""
    return (
        text.strip().removeprefix(prefix).strip() if isinstance(text, str) and text.strip().startswith(prefix) else ""
    )


def _is_matrix(text: str) -> bool:
    return all(_NUMBER.fullmatch(cell.strip()) for row in text.split(";") for cell in row.split(","))


def _data(path: Path) -> dict[str, list[float]]:
    columns = read_table(path)
    cells = sum(map(len, columns.values()))
    if cells > MAX_CELLS:
        raise InputError(f"{path}: {cells} values, expected at most {MAX_CELLS}")
    return columns


def _covariance(path: Path) -> str:
    rows = [",".join(repr(x).removesuffix(".0") for x in row) for row in read_matrix(path)]
    return f"normal:{';'.join(rows)}"


def _generator(path: Path) -> dict[str, Any]:
    return {"name": "generator", "matrix": read_matrix(path)}


def _claimed_curve(before: str, after: str, path: Path) -> str:
    return f"{before}{toml.dump_value(read_curve(path))}{after}"


def _start(trajectories: Any, path: Path) -> dict[str, Any]:
    from sgdsim.input.snapshots import describe_snapshot

    whole = isinstance(trajectories, int | float) and 1 <= trajectories < inf and trajectories == int(trajectories)
    return describe_snapshot(os.path.realpath(path), int(trajectories) if whole else None)


# Files.


@dataclass(frozen=True)
class _Row:
    """The cells of one row, and the line on which it ends."""

    line: int
    cells: list[str]


def _rows(path: PathLike) -> list[_Row]:
    """All rows of comma-separated values, without blank lines at the end."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
        rows = [_Row(reader.line_num, cells) for cells in reader]
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text in UTF-8, expected comma-separated values") from None
    except csv.Error as error:
        raise InputError(f"{path}: {error}, expected comma-separated values") from None
    while rows and not any(cell.strip() for cell in rows[-1].cells) and len(rows[-1].cells) < 2:
        rows.pop()
    return rows


def _check_column(path: PathLike, name: str, names: Sequence[str], place: str) -> None:
    where = f"{path}: {place}"
    if not name:
        raise InputError(f"{where}: there is no name, expected one of each column")
    if _NUMBER.fullmatch(name):
        raise InputError(f"{where}: {name}, expected the name of the column on the first line")
    for separator in (";", "\t"):
        if separator in name:
            raise InputError(f"{where}: {_shown(name)}, expected commas between the names")
    check_name(name, where)
    if names.count(name) > 1:
        raise InputError(f"{where}: there are two columns {name!r}, expected a name of its own for each")


def _check_length(path: PathLike, number: int, row: _Row, expected: int) -> None:
    if len(row.cells) != expected:
        cells = f"{len(row.cells)} cell{'s' * (len(row.cells) != 1)}" if row.cells else "a blank line"
        raise InputError(f"{path}: row {number} (line {row.line}): {cells}, expected {expected} as in the first line")


def _cell(path: PathLike, number: int, row: _Row, column: int, name: str) -> float:
    text = row.cells[column].strip() if row.cells else ""
    where = f"{path}: row {number} (line {row.line}), column {name}"
    if text.lower() in _MISSING:
        raise InputError(f"{where}: {_shown(text) if text else 'the value'} is missing, expected a number")
    if not _NUMBER.fullmatch(text) or not isfinite(float(text)):
        raise InputError(f"{where}: {_shown(text)}, expected a finite number")
    return float(text)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…")


def _read_hdf5(path: PathLike) -> dict[str, list[float]]:
    import h5py
    import numpy as np

    columns: dict[str, list[float]] = {}
    with hdf5.opened(path) as file:
        found = list(file)
        datasets = {
            name: entry
            for name, entry in hdf5.members(file).items()
            if isinstance(entry, h5py.Dataset) and entry.ndim == 1 and entry.dtype.kind in "iuf"
        }
        if sum(8 * dataset.size for dataset in datasets.values()) > MAX_BYTES:
            raise InputError(f"{path}: the columns are larger than {MAX_BYTES / 1e6:.0f} MB")
        arrays = {name: np.asarray(dataset[:], dtype=np.float64) for name, dataset in datasets.items()}
    if not arrays:
        others = ", ".join(found) or "nothing"
        raise InputError(f"{path}: the root holds {others}, expected numeric datasets of one dimension")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InputError(f"{path}: {listed} rows, expected equally many")
    for name, array in arrays.items():
        _check_column(path, name, list(arrays), f"dataset {name!r}")
        bad = np.flatnonzero(~np.isfinite(array))
        if bad.size:
            value = array[bad[0]]
            problem = "the value is missing" if np.isnan(value) else f"{value}"
            raise InputError(f"{path}: row {bad[0] + 1}, column {name!r}: {problem}, expected a finite number")
        columns[name] = array.tolist()
    if not next(iter(columns.values())):
        raise InputError(f"{path}: no rows, expected at least one")
    return columns
