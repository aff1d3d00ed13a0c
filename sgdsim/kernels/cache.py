"""Compiled kernels on disk: one module file for each program, named by a hash of everything that decides its text.

A second process finds the file, and numba's machine code beside it, without importing SymPy.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from sgdsim.base import cache_files
from sgdsim.base.cache_folder import cache_folder, temporary_folder
from sgdsim.kernels.cache_lock import Lock
from sgdsim.kernels.machine_code import keep
from sgdsim.kernels.program import Program

__all__ = ["cache_folder", "compiling", "is_compiled", "load", "load_engine", "measuring_module"]

_ROOMS = ("formulas", "model", "kernels")  # folders of the package whose files decide the generated text


def load(program: Program, target: str) -> ModuleType:
    """The module of a program on a target, generated when it is not in the cache.

    Parameters
    ----------
    program
        The program that is compiled.
    target
        ``cpu`` and ``python``, whose module holds the formulas alone, or ``cuda`` or ``cudasim``.
    """
    measuring = measuring_module(program, target) if target.startswith("cuda") else ""
    name = _name("run", program.description(), target)
    return _module(name, lambda: _source().generate(program, target, measuring))


def load_engine(real: str, noise: str, target: str) -> ModuleType:
    """The module that runs all formulas with given dtypes of states and of deviates, on ``cpu`` or ``python``."""
    name = _name("engine", {"real": real, "noise": noise}, target)
    return _module(name, lambda: _source().engine(real, noise, target))


def measuring_module(program: Program, target: str) -> str:
    """Name of the module that measures the tiles of a program on a GPU; the module is loaded."""
    name = _name("measure", {"lanes": program.lanes}, target)
    return _module(name, lambda: _source().measuring(program, target)).__name__


def is_compiled(module: ModuleType, function: str) -> bool:
    """True if the machine code of a function of a module is on disk."""
    path = Path(module.__file__ or "")
    return any(path.parent.glob(f"{path.stem}.{function}.*.nbc"))


@contextmanager
def compiling() -> Iterator[None]:
    """Context in which kernels are called for the first time: if that fails, processes that wait for them go on."""
    try:
        yield
    except BaseException:
        for lock in list(_locks.values()):
            lock.release()
        raise


def _source() -> ModuleType:
    from sgdsim.kernels import source  # imports SymPy

    return source


_loading = threading.Lock()  # another thread must not be given half a module
_locks: dict[Path, Lock] = {}


def _module(name: str, generate: Callable[[], str]) -> ModuleType:
    with _loading:
        return sys.modules.get(name) or _load(name, generate)


def _load(name: str, generate: Callable[[], str]) -> ModuleType:
    folder = cache_folder()
    try:
        return _load_from(folder, name, generate)
    except OSError as error:  # a full disk, for example
        return _load_from(temporary_folder(error), name, generate)


def _load_from(folder: Path, name: str, generate: Callable[[], str]) -> ModuleType:
    path, lock_path = folder / f"{name}.py", folder / f"{name}.lock"
    lock = _locks.setdefault(lock_path, Lock(lock_path))
    try:
        module = _execute(name, path)
    except Exception:
        lock.acquire()
        try:
            module = _written(name, path, generate)
        finally:
            lock.release()
    keep(module, lock)
    return module


def _written(name: str, path: Path, generate: Callable[[], str]) -> ModuleType:
    """The module of a file that another process has written meanwhile, or that this one writes."""
    try:
        return _execute(name, path)
    except FileNotFoundError:
        pass
    except NoRoomError:
        raise
    except Exception as error:
        warnings.warn(f"a kernel of the cache is compiled anew: {error}", RuntimeWarning, stacklevel=2)
        for file in [*path.parent.glob(f"{name}.*"), *path.parent.glob(f"__pycache__/{name}.*")]:
            if file.suffix != ".lock":
                cache_files.remove(file)
    cache_files.write(path, generate().encode())
    return _execute(name, path)


def _execute(name: str, path: Path) -> ModuleType:
    loader = _Loader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before the module runs: numba finds cached functions by module
    try:
        loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]  # an interrupt must not leave half a module to the next run
        if isinstance(error, RuntimeError):  # numba's error: it tries to make a file, and cannot
            raise NoRoomError(str(error)) from error
        raise
    return module


class NoRoomError(OSError):
    """The error for a folder in which nothing can be written beside a module."""


class _Loader(SourceFileLoader):
    """A loader that reads and writes a module's text and bytecode in the way of all files of the cache."""

    def get_data(self, path: str) -> bytes:
        return cache_files.read(Path(path))

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        with suppress(OSError):  # the bytecode is not needed: the next process makes it again
            Path(path).parent.mkdir(0o700, exist_ok=True)
            cache_files.write(Path(path), bytes(data))


def _name(kind: str, description: dict[str, object], target: str) -> str:
    parts = {
        "description": description,
        "target": target,
        "generator": _generator_hash(),
        "versions": _versions(),
        "python": sys.implementation.cache_tag,
    }
    if target == "cuda":
        parts["compiler"] = _cuda_compiler()
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"sgdsim_{kind}_{target}_{digest[:20]}"


@cache
def _versions() -> list[str]:
    """Versions of the packages that texts and machine code depend on: reading them takes 2 ms, so it is done once."""
    return [importlib.metadata.version(name) for name in ("numba", "llvmlite", "sympy")]


@cache
def _cuda_compiler() -> str:
    try:
        return importlib.metadata.version("numba-cuda")
    except importlib.metadata.PackageNotFoundError:
        return "built-in"


@cache
def _generator_hash() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in _generator_files())).hexdigest()


def _generator_files() -> list[Path]:
    package = Path(__file__).parent.parent
    return [file for room in _ROOMS for file in sorted((package / room).rglob("*.py"))]
