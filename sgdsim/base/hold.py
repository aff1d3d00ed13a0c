"""Lock file that one process holds, so that no other does the same work."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sgdsim.base.errors import InputError


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file during the block. It is created, with its folder, and removed afterwards.

    The lock ends with the process, however that ends. On a disk without locks no process is refused.

    Parameters
    ----------
    path
        Path of the lock file.
    what
        Name of the work that it protects, for the message.

    Raises
    ------
    InputError
        If another process holds it; the message names that process and its machine.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, held(Path(folder, "lock"), "run.h5"), held(Path(folder, "lock"), "run.h5"):
    ...     pass
    Traceback (most recent call last):
    ...
    sgdsim.base.errors.InputError: run.h5: is being written by process ...
    """
    descriptor = _locked(path, what)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def holder(path: Path) -> str:
    """Process that holds a lock file, in words; empty if none does.

    Examples
    --------
    >>> holder(Path("no/such/lock"))
    ''
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return _name(descriptor) if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else ""
    finally:
        os.close(descriptor)
    return ""


def _locked(path: Path, what: str) -> int:
    while True:
        path.parent.mkdir(exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:  # the process that held the file removed its folder too
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                name = _name(descriptor)
                os.close(descriptor)
                raise InputError(f"{what}: is being written by {name or 'another process'}") from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)  # the process that held the file removed it before it was locked here


def _name(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode(errors="replace")
