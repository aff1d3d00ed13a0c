"""Starts from a column of a file, one value for each trajectory, and the description that a scenario keeps of them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from sgdsim.base.errors import InputError, unknown_name
from sgdsim.input.fields import Count, Number, Section
from sgdsim.input.numeric_files import read_table
from sgdsim.input.wording import validated
from sgdsim.model.starts import Listed, remembered

COLUMN = re.compile(r"(?P<path>.*\.(?:csv|txt|h5|hdf5))(?P<column>:[^:]+)", re.IGNORECASE | re.DOTALL)
"""The name of a file and of one of its columns: ``starts.csv:x``."""


class ColumnTable(Section):
    """Description of a column that a scenario keeps; without a file it describes an array that a call was given."""

    file: str
    column: str
    digest: str
    trajectories: Count
    moments: Annotated[list[Number], Field(min_length=4, max_length=4)]


def describe_column(column: str, path: Path) -> dict[str, Any]:
    """Description that stands in a scenario for a column of a file.

    Parameters
    ----------
    column
        A colon and the name of the column.
    path
        Path of the file.

    Raises
    ------
    InputError
        If the file cannot be read, or does not have the column.
    """
    name, real = column.removeprefix(":").strip(), os.path.realpath(path)
    return Listed.of(_column(real, name), str(path), real, name).describe()


def read_column(table: Mapping[str, Any], where: str) -> Listed:
    """The start that a description from `describe_column` means; the file is read again when the run begins."""
    read = validated(ColumnTable, table, {"column": list(ColumnTable.model_fields)}, tuple(where.split(".")))
    load = partial(_column, read.file, read.column) if read.file else remembered(read.digest)
    return Listed(read.file, read.column, read.digest, read.trajectories, tuple(read.moments), load)


def _column(path: str, name: str) -> np.ndarray:
    columns = read_table(path)
    if name not in columns:
        raise InputError(f"{path}: {unknown_name('column', name, columns)}")
    return np.array(columns[name], dtype=np.float64)
