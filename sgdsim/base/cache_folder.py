"""Folder of the compiled kernels, and the users to whom it may belong.

It holds code: whoever can write to it, or rename a folder above it, can run programs as this user.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
import warnings
from functools import cache
from pathlib import Path


@cache
def cache_folder() -> Path:
    """Folder of the compiled kernels: ``SGDSIM_CACHE_DIR``, else the user's cache folder, else a temporary one.

    Warns
    -----
    RuntimeWarning
        When the folder cannot be written, or others can write to it, so that every process compiles anew.
    """
    try:
        folder = _chosen_folder()
        _make(folder)
        refuse_others(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        return temporary_folder(error)
    return folder


def temporary_folder(reason: Exception) -> Path:
    """Temporary folder that is removed when this process ends; a warning says why kernels go there.

    Warns
    -----
    RuntimeWarning
        Once a reason.
    """
    folder = _temporary_folder()
    warn_once(
        f"the kernel cache cannot be used ({reason}); kernels of this process go to {folder}; "
        "set SGDSIM_CACHE_DIR to a folder with space that you alone can write"
    )
    return folder


@cache
def warn_once(text: str) -> None:
    """Warn once in a process, though every kernel would give the same warning."""
    warnings.warn(text, RuntimeWarning, stacklevel=4)


@cache
def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="sgdsim-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _chosen_folder() -> Path:
    chosen = os.environ.get("SGDSIM_CACHE_DIR")  # empty means unset, as for XDG_CACHE_HOME
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "sgdsim"


def _make(folder: Path) -> None:
    """Make a folder and what is missing above it for this user alone, whatever the umask."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(0o700, exist_ok=True)


def refuse_others(folder: Path) -> None:
    """Refuse a folder if anybody but this user and root decides what is in it.

    Raises
    ------
    PermissionError
        If it, a folder above it or a link on the way belongs to another user, or others can write to it. Of those above
        it, folders like ``/tmp`` are all right, in which others can make files but not rename what is not theirs.
    """
    here, ahead = Path(folder.anchor), list(reversed(folder.parts[1:]))
    refuse_foreign(here, here.lstat(), shared=True)
    while ahead:
        part = ahead.pop()
        here = here.parent if part == ".." else here / part
        status = here.lstat()
        refuse_foreign(here, status, shared=bool(ahead))
        if stat.S_ISLNK(status.st_mode):
            ahead += reversed(here.readlink().parts)
            here = here.parent


def refuse_foreign(path: Path, status: os.stat_result, *, shared: bool = False) -> None:
    """Refuse a file or folder that belongs to another user or that others can write.

    Parameters
    ----------
    path
        File or folder, named in the message.
    status
        Its owner and permissions, from `os.stat`.
    shared
        True if others may write to it, as long as it is a folder like ``/tmp``.

    Raises
    ------
    PermissionError
        With the reason.
    """
    if not hasattr(os, "getuid"):  # Windows, where folders of users are closed to others and modes say nothing
        return
    if status.st_uid not in (os.getuid(), 0):
        raise PermissionError(f"it holds code, and {path} belongs to another user")
    if stat.S_ISLNK(status.st_mode) or (shared and status.st_mode & stat.S_ISVTX):
        return
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"it holds code, and others can write to {path}")
