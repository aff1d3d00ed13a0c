"""A lock between processes: of several that want the same program, one compiles it and the others wait."""

from __future__ import annotations

import os
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

_SECONDS_BETWEEN_LOOKS = 0.02
_SECONDS_IN_SILENCE = 2.0
_MOST_SECONDS = 120.0  # longest wait, as a process that is suspended holds its locks, too


if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _give(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _give(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class Lock:
    """The lock that goes with a file, which stays empty.

    It is a lock of the operating system, which ends with the process that holds it, however that ends. It only saves
    work, since files of the cache are whole or absent: if the file system has no locks, or the file cannot be made, it
    does nothing.

    Parameters
    ----------
    path
        The file, made when the lock is first wanted.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     lock = Lock(Path(folder, "a.lock"))
    ...     lock.acquire()
    ...     lock.release()
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Wait for the lock, for a limited time, unless it is held here already."""
        if self._descriptor is not None:
            return
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return
        try:
            self._wait(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _wait(self, descriptor: int) -> None:
        began, silent = time.monotonic(), not sys.stderr.isatty()
        while not _settled(descriptor) and (waited := time.monotonic() - began) < _MOST_SECONDS:
            if waited > _SECONDS_IN_SILENCE and not silent:
                silent = True
                warnings.warn("waiting for another process, which compiles the same", RuntimeWarning, stacklevel=3)
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def release(self) -> None:
        """Release the lock, if it is held here."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with suppress(OSError):  # a file system without locks
                _give(descriptor)  # a process forked meanwhile has the file open, too
            os.close(descriptor)


def _settled(descriptor: int) -> bool:
    """Take the lock if nobody holds it; True if there is nothing to wait for."""
    try:
        _take(descriptor)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass  # a file system without locks
    return True
