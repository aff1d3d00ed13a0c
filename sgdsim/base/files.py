"""Files: a file that is written appears only once it is whole, and a path is checked before it is opened."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sgdsim.base.errors import InputError, RunError, SgdsimError, shortened
from sgdsim.base.interrupts import held_back

PathLike = str | os.PathLike[str]

MAX_BYTES = 64_000_000
"""Bytes; larger texts and tables are refused before they are read."""

_PART = re.compile(r".*\.sgdsim-[0-9a-f]{8}\.part")


def check_input(path: PathLike, most: float = MAX_BYTES) -> None:
    """Refuse a path, before it is opened, if it is not a regular file or too large: a pipe or a device may never end.

    Parameters
    ----------
    path
        Path of the file; a link is followed.
    most
        Largest size, in bytes.

    Raises
    ------
    InputError
        If the file is missing or too large, or if the path is a folder, a pipe or a device.

    Examples
    --------
    >>> check_input("/dev/zero")
    Traceback (most recent call last):
    ...
    sgdsim.base.errors.InputError: /dev/zero: not a regular file
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # a NUL in the name is a ValueError
        raise unreadable(path, error) from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path}: a folder, expected a file")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: not a regular file")
    if status.st_size > most:
        raise InputError(f"{path}: {status.st_size / 1e6:.0f} MB, expected at most {most / 1e6:.0f} MB")


@contextmanager
def about(path: PathLike, problem: str = "cannot be used as it stands") -> Iterator[None]:
    """Turn any error in the block into one sentence that names this file.

    The block computes something from a file that somebody else may have written: anything in it can be missing, of
    another type, or of another size. The original error stays as the cause of the exception.

    Parameters
    ----------
    path
        Path of the file.
    problem
        Words for an error that was not foreseen.

    Raises
    ------
    InputError
        In place of every error of the block, except those about something else, such as `RunError`.

    Examples
    --------
    >>> with about("run.h5"):
    ...     {}["theta"]
    Traceback (most recent call last):
    ...
    sgdsim.base.errors.InputError: run.h5: cannot be used as it stands (KeyError: 'theta')
    """
    try:
        yield
    except InputError as error:
        raise error if os.fspath(path) in str(error) else InputError(f"{path}: {error}") from error
    except SgdsimError:
        raise
    except MemoryError:
        raise InputError(f"{path}: needs more memory than there is") from None
    except Exception as error:
        cause = shortened(" ".join(f"{type(error).__name__}: {error}".split()))
        raise InputError(f"{path}: {problem} ({cause})") from error


def unreadable(path: PathLike, error: Exception) -> InputError:
    """Error, in one line, for a file that could not be read."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return InputError(f"{path}: cannot be read: {reason}")


def check_output(path: PathLike, overwrite: bool = False, inputs: Iterable[PathLike] = ()) -> None:
    """Refuse, before a run starts, a path to which its result could not be written.

    Parameters
    ----------
    path
        Path of the result.
    overwrite
        True if it may replace another file.
    inputs
        Files that the result is made from: it may replace none of these.

    Raises
    ------
    InputError
        For a missing or read-only folder, a folder, device or link to itself as the path, a file not to be overwritten.

    Examples
    --------
    >>> check_output("no/such/folder/run.h5")
    Traceback (most recent call last):
    ...
    sgdsim.base.errors.InputError: no/such/folder/run.h5: there is no folder no/such/folder
    """
    folder = Path(path).parent
    try:
        target = Path(os.path.realpath(path))
        folder = target.parent
        if target.is_dir() or os.fspath(path).endswith(os.sep):
            raise InputError(f"{path}: a folder, expected the name of a file")
        if target.is_symlink():
            raise InputError(f"{path}: a link that leads back to itself, expected the name of a file")
        if not folder.is_dir():
            raise InputError(f"{path}: there is no folder {Path(path).parent}")
        if target.exists() and not target.is_file():
            raise InputError(f"{path}: not a regular file")
        if target.exists() and not overwrite:
            raise InputError(f"{path}: the file exists, and --overwrite replaces it")
        if target.exists() and any(os.path.exists(one) and os.path.samefile(target, one) for one in inputs):
            raise InputError(f"{path}: is read for this, expected another file to write to")
        with _part(target):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot write in the folder {folder}: {error.strerror}") from error


@contextmanager
def atomic_file(path: PathLike) -> Iterator[Path]:
    """Give a temporary file to write to, and move it to its place once it is whole and on the disk.

    The temporary file exists already, and is locked by `fcntl.flock`. An interrupt waits until the block is left.

    Parameters
    ----------
    path
        Final path of the file; a link is followed.

    Raises
    ------
    RunError
        For a full disk and the like.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with atomic_file(f"{folder}/a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     [(file.name, file.read_text()) for file in Path(folder).iterdir()]
    [('a.txt', 'whole')]
    """
    target = Path(os.path.realpath(path))
    try:
        with _part(target) as temporary:
            yield temporary
            _sync(temporary)
            os.replace(temporary, target)
    except OSError as error:
        raise RunError(f"{path}: writing failed, nothing was changed: {error.strerror or error}") from error
    # The file is in its place: a file system that cannot sync folders is no reason to report a failure.
    with suppress(OSError):
        _sync(target.parent)


@contextmanager
def _part(target: Path) -> Iterator[Path]:
    """New file beside the target, under a temporary name; it is removed if it has not been moved.

    It is locked until the process ends, in whatever way: a temporary file without a lock is left over from another.
    """
    _remove_left_over(target.parent)
    with held_back():
        path, descriptor = _new_part(target)
        try:
            yield path
        finally:
            with suppress(OSError):
                path.unlink()
            os.close(descriptor)


def _new_part(target: Path) -> tuple[Path, int]:
    while True:
        path = target.with_name(f"{target.name}.sgdsim-{secrets.token_hex(4)}.part")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        with suppress(OSError):  # some network disks know no locks; nothing is ever removed there
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)  # another process took the file for left over, before it was locked


def _remove_left_over(folder: Path) -> None:
    """Remove the temporary files of processes that were killed."""
    with suppress(OSError):  # a user may be allowed to write to a folder, but not to list it
        for name in filter(_PART.fullmatch, os.listdir(folder)):
            _remove_unlocked(folder / name)


def _remove_unlocked(part: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()
        finally:
            os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
