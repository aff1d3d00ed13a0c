"""Machine code on disk, in the place of numba's own cache of it.

numba trusts the files that it finds: a truncated one ends the process, and a pickle in it may run any code. It writes
its index without a lock, and compiled code is lost when the disk is full. So `keep` takes its place between a compiled
function and the files; the contents of the files, and the test whether they still fit, stay numba's.
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
        A module whose functions have not been called yet.
    lock
        The lock that is held from when a function is found missing until it is saved; see `Lock`.
    """
    for function in vars(module).values():
        numbas = getattr(function, "_cache", None)
        if hasattr(numbas, "_cache_file"):  # not for functions imported from another module, which are kept there
            function._cache = _MachineCode(numbas, Path(str(module.__file__)), function.__name__, lock)


class _MachineCode:
    """A cache that takes the place of numba's towards a function, and of its files towards numba's cache."""

    def __init__(self, numbas: Any, module_file: Path, function: str, lock: Lock) -> None:
        self._numbas = numbas
        self._dump = numbas._cache_file._dump
        self._numbas._cache_file = self
        self._folder = module_file.parent
        self._stem = f"{module_file.stem}.{function}"
        self._lock = lock

    # Methods that a function calls in its cache.

    @property
    def cache_path(self) -> str:
        return str(self._folder)

    def load_overload(self, signature: Any, context: Any) -> Any:
        found = self._loaded(signature, context)
        if found is None:
            self._lock.acquire()
            found = self._loaded(signature, context)  # the process that held the lock may have saved it
            if found is not None:
                self._lock.release()
        return found

    def _loaded(self, signature: Any, context: Any) -> Any:
        try:
            return self._numbas.load_overload(signature, context)
        except Exception as error:  # the file is whole, but this process cannot use it
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

    # Methods that numba's cache calls in its files.

    def load(self, key: Any) -> Any:
        try:
            return pickle.loads(cache_files.read(self._path(key)))
        except FileNotFoundError:
            return None

    def save(self, key: Any, data: Any) -> None:
        cache_files.write(self._path(key), self._dump(data))

    def _path(self, key: Any) -> Path:
        """The file of a key, which names signature and processor: with a file for each, none is written twice."""
        return self._folder / f"{self._stem}.{hashlib.sha256(repr(key).encode()).hexdigest()[:20]}.nbc"
