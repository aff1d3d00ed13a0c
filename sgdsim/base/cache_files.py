"""Files of the kernel cache, each with a checksum: a damaged file is refused.

A file ends in the checksum of the bytes before it. It holds machine code or pickled objects, so a file that was cut
short, or in which a bit has changed, could crash the process.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from sgdsim.base.cache_folder import refuse_foreign

_MARK = b"\n# sha256 "  # a comment where the file is a Python module


class DamagedError(OSError):
    """A file of the cache differs from what was written."""


def read(path: Path) -> bytes:
    """Content of a file, without its checksum.

    Raises
    ------
    OSError
        If the file cannot be read; a `DamagedError` if its checksum is wrong, or if another user may have written it.
    """
    with path.open("rb") as file:
        refuse_foreign(path, os.fstat(file.fileno()))
        content = file.read()
    data, mark, checksum = content.rpartition(_MARK)
    if not mark or checksum != _checksum(data):
        raise DamagedError(f"{path} is damaged")
    return data


def write(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all, in place of whatever is there."""
    descriptor, part = tempfile.mkstemp(".part", f"{path.name}.", path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data + _MARK + _checksum(data))
        if path.is_dir():
            remove(path)
        os.replace(part, path)
    except BaseException:
        remove(Path(part))
        raise


def remove(path: Path) -> None:
    """Remove a file, or a folder in the place of one, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode() + b"\n"
