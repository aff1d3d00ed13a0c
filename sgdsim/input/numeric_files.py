"""Files of numbers: tables with names, matrices, lists and curves, as comma-separated values or HDF5."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path

from sgdsim.base import hdf5
from sgdsim.base.errors import InputError
from sgdsim.base.files import MAX_BYTES, PathLike, check_input, unreadable
from sgdsim.base.numbers import NUMBER, to_float
from sgdsim.formulas.names import check_name

_HDF5 = (".h5", ".hdf5")
_MISSING = ("", "na", "n/a", "nan", "null", "none")
_LONGEST_SHOWN = 40


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
        For a file that cannot be read or has no rows, names that formulas cannot use or that occur twice, rows of
        different lengths, and cells that are not finite numbers.

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
    count = Counter(names)
    for column, name in enumerate(names, 1):
        _check_column(path, name, count, f"line {header.line}, column {column}")
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
        For a file that cannot be read or has no rows, rows of different lengths, and cells that are not finite numbers.

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
    r"""Read the first number of each line; a name on the first line is skipped.

    Raises
    ------
    InputError
        For a file that cannot be read or has no numbers, and cells that are not finite numbers.

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
    r"""Read a curve: a column ``value``, after a column of recorded steps or of swept values.

    Raises
    ------
    InputError
        For a file that `read_table` refuses, and for other columns. The name of swept values may have dots.

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


def _check_column(path: PathLike, name: str, count: Mapping[str, int], place: str) -> None:
    where = f"{path}: {place}"
    if not name:
        raise InputError(f"{where}: there is no name, expected one of each column")
    if NUMBER.fullmatch(name):
        raise InputError(f"{where}: {name}, expected the name of the column on the first line")
    for separator in (";", "\t"):
        if separator in name:
            raise InputError(f"{where}: {_shown(name)}, expected commas between the names")
    check_name(name, where)
    if count[name] > 1:
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
    value = to_float(text, where) if NUMBER.fullmatch(text) else inf
    if not isfinite(value):
        raise InputError(f"{where}: {_shown(text)}, expected a finite number")
    return value


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
        _check_column(path, name, Counter(arrays.keys()), f"dataset {name!r}")
        bad = np.flatnonzero(~np.isfinite(array))
        if bad.size:
            value = array[bad[0]]
            problem = "the value is missing" if np.isnan(value) else f"{value}"
            raise InputError(f"{path}: row {bad[0] + 1}, column {name!r}: {problem}, expected a finite number")
        columns[name] = array.tolist()
    if not next(iter(columns.values())):
        raise InputError(f"{path}: no rows, expected at least one")
    return columns
