"""Machine code on disk, in the place of numba's own cache of it.

numba trusts the files that it finds: a cut one ends the process, and a pickle in it runs what it likes. It writes its
index unguarded by a lock, and what it compiles is lost when the disk is full. So `keep` takes its place between a
compiled function and the files; what goes into them, and what decides whether it still fits, stays numba's.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from sgdsim.base import cache_files
from sgdsim.base.cache_folder import warn_once
from sgdsim.kernels.cache_lock import Lock


def keep(module: ModuleType, lock: Lock) -> None:
    """Keep the machine code of a module's cached functions beside its file.

    Parameters
    ----------
    module
        Whose functions have not been called yet.
    lock
        Held from when a function is found missing until it is saved; see `Lock`.
    """
    for function in vars(module).values():
        numbas = getattr(function, "_cache", None)
        if hasattr(numbas, "_cache_file"):  # not what is imported from another module, and kept there
            function._cache = _MachineCode(numbas, Path(str(module.__file__)), function.__name__, lock)


class _MachineCode:
    """Is to a function what numba's cache is, and to numba's cache what its files are."""

    def __init__(self, numbas: Any, module_file: Path, function: str, lock: Lock) -> None:
        self._numbas = numbas
        self._dump = numbas._cache_file._dump
        self._numbas._cache_file = self
        self._folder = module_file.parent
        self._stem = f"{module_file.stem}.{function}"
        self._lock = lock

    # What a function asks of its cache.

    @property
    def cache_path(self) -> str:
        return str(self._folder)

    def load_overload(self, signature: Any, context: Any) -> Any:
        found = self._loaded(signature, context)
        if found is None:
            self._lock.acquire()
            found = self._loaded(signature, context)  # whoever held the lock may have saved it
            if found is not None:
                self._lock.release()
        return found

    def _loaded(self, signature: Any, context: Any) -> Any:
        try:
            return self._numbas.load_overload(signature, context)
        except Exception as error:  # of bytes that are what was written, but not what this process can use
            warnings.warn(f"machine code of the kernel cache is compiled anew: {error}", RuntimeWarning, stacklevel=2)
            with suppress(OSError):
                for path in self._folder.glob(f"{self._stem}.*.nbc"):
                    cache_files.remove(path)
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        try:
            self._numbas.save_overload(signature, compiled)
        except OSError as error:
            warn_once(f"machine code cannot be kept ({error.strerror or error}); the next process compiles it again")
        finally:
            self._lock.release()

    # What numba's cache asks of its files.

    def load(self, key: Any) -> Any:
        try:
            return pickle.loads(cache_files.read(self._path(key)))
        except FileNotFoundError:
            return None

    def save(self, key: Any, data: Any) -> None:
        cache_files.write(self._path(key), self._dump(data))

    def _path(self, key: Any) -> Path:
        """A file for each key, which says signature and processor: so none has to be written twice."""
        return self._folder / f"{self._stem}.{hashlib.sha256(repr(key).encode()).hexdigest()[:20]}.nbc"
