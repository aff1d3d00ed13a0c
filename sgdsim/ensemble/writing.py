"""Writing of ensembles into one HDF5 file."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sgdsim.ensemble.compact import COMPACT_VERSION, IMPLIED, SCHEMA_VERSION, compact
from sgdsim.ensemble.variable import WHOLE, Attribute, Contents, labelled, sizes_of


def write_parts(path: Path, parts: Mapping[str, Contents]) -> None:
    """Write the contents of ensembles, a group each, into a file that no other process reads yet.

    Raises
    ------
    OSError
        If the disk is full, or for any other error of it.
    """
    stored = {name: compact(contents) for name, contents in parts.items()}
    _reserve(path, stored.values())
    _write(path, stored)


def _write(path: Path, parts: Mapping[str, Contents]) -> None:
    import h5py

    try:
        with h5py.File(path, "r+", locking=False) as file:  # `atomic_file` holds its lock
            for name, contents in parts.items():
                if name == WHOLE:
                    _write_group(file, contents)
                    continue
                _write_group(file.create_group(name, track_order=True), contents)
                is_compact = any(IMPLIED in one.attributes for one in parts.values())
                version = COMPACT_VERSION if is_compact else SCHEMA_VERSION
                file.attrs.update(_provenance({}) | {"schema_version": version})
    except RuntimeError as error:
        # An error of the disk while the file is closed reaches us in this form from h5py.
        raise OSError(str(error)) from error


def _reserve(path: Path, parts: Iterable[Contents]) -> None:
    """Create a file and reserve its space: HDF5 can crash the process if the disk is full during a write."""
    import h5py

    empty = io.BytesIO()
    h5py.File(empty, "w", track_order=True).close()
    parts = list(parts)
    variables = [item for contents in parts for item in contents.variables.values()]
    values = sum(item.data.nbytes + 64 * item.data.size * (item.data.dtype.kind == "U") for item in variables)
    text = sum(len(str(value)) for contents in parts for value in contents.attributes.values())
    # A generous amount, since HDF5 gives back unused space when it closes the file.
    size = values + 4 * text + 2**14 * len(variables) + 2**20
    with path.open("wb") as file:
        file.write(empty.getvalue())
        file.flush()
        try:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise OSError(error.errno, f"{error.strerror} ({size / 2**20:.1f} MiB needed)") from error


def _write_group(group: Any, contents: Contents) -> None:
    for name, variable in contents.variables.items():
        dataset = _dataset(group, name, variable.data)
        dataset.attrs.update(labelled(name, variable))
    for name in sizes_of(contents.variables):
        group[name].make_scale(name)
    for name, variable in contents.variables.items():
        if variable.dimensions != (name,):
            for axis, dimension in enumerate(variable.dimensions):
                group[name].dims[axis].attach_scale(group[dimension])
    group.attrs.update(_provenance(contents.attributes))


def _dataset(file: Any, name: str, values: np.ndarray) -> Any:
    import h5py

    if values.dtype.kind == "U":
        return file.create_dataset(name, data=values.astype(object), dtype=h5py.string_dtype())
    if values.dtype.kind != "b":
        return file.create_dataset(name, data=values)
    # NetCDF has no boolean.
    dataset = file.create_dataset(name, data=values.astype(np.int8))
    dataset.attrs.update(flag_values=np.array([0, 1], np.int8), flag_meanings="false true")
    return dataset


def _provenance(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} written by sgdsim"
    return {
        **attributes,
        "Conventions": "CF-1.10",
        "schema_version": COMPACT_VERSION if IMPLIED in attributes else SCHEMA_VERSION,
        "source": "sgdsim",
        "history": f"{attributes['history']}\n{line}" if "history" in attributes else line,
    }
