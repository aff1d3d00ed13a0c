"""Compiled kernels on disk: one module file a program, named by a hash of everything that decides its text.

A second process finds the file, and numba's machine code beside it, without importing SymPy.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

from sgdsim.kernels.program import Program


def load(program: Program, target: str) -> ModuleType:
    """The module of a program on a target, generated when it is not in the cache.

    Parameters
    ----------
    program
        What to compile.
    target
        ``cpu``, ``python``, ``cuda`` or ``cudasim``.
    """
    measuring = _module(measuring_name(program, target), lambda: _source().measuring(program, target))
    return _module(
        _name("run", program.description(), target),
        lambda: _source().generate(program, target, measuring.__name__),
    )


def measuring_name(program: Program, target: str) -> str:
    """What the module is called that measures the tiles of a program."""
    measured: dict[str, object] = {"lanes": program.lanes, "pairs": program.pairs, "planes": program.planes}
    return _name("measure", measured, target)


def _source() -> ModuleType:
    from sgdsim.kernels import source  # imports SymPy

    return source


_loading = threading.Lock()  # another thread must not be given half a module


def _module(name: str, generate: Callable[[], str]) -> ModuleType:
    with _loading:
        return sys.modules.get(name) or _load(name, generate)


def _load(name: str, generate: Callable[[], str]) -> ModuleType:
    path = cache_folder() / f"{name}.py"
    if not path.exists():
        text = generate()
        temporary = path.with_suffix(f".{os.getpid()}.part")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)  # whole or not at all, whoever else writes it
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: numba finds cached functions by module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # an interrupt must not leave half a module to the next run
        raise
    return module


def _name(kind: str, description: dict[str, object], target: str) -> str:
    parts = {
        "description": description,
        "target": target,
        "generator": _generator_hash(),
        "versions": [importlib.metadata.version(name) for name in ("numba", "llvmlite", "sympy")],
    }
    if target == "cuda":
        parts["compiler"] = _cuda_compiler()
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"sgdsim_{kind}_{target}_{digest[:20]}"


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
    """The files that decide the generated text: whole rooms, so that none is forgotten."""
    package = Path(__file__).parent.parent
    return [file for room in ("formulas", "model", "kernels") for file in sorted((package / room).rglob("*.py"))]


@cache
def cache_folder() -> Path:
    """Where kernels are kept: ``SGDSIM_CACHE_DIR``, else the user's cache folder, else a temporary one.

    Warns
    -----
    RuntimeWarning
        When the folder cannot be written, so that every process compiles anew.
    """
    try:
        folder = _chosen_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        temporary = Path(tempfile.mkdtemp(prefix="sgdsim-"))
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        warnings.warn(
            f"the kernel cache cannot be written ({error}); kernels of this process go to {temporary}; "
            "set SGDSIM_CACHE_DIR to a writable folder",
            RuntimeWarning,
            stacklevel=2,
        )
        return temporary
    return folder


def _chosen_folder() -> Path:
    chosen = os.environ.get("SGDSIM_CACHE_DIR")  # empty means unset, as for XDG_CACHE_HOME
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "sgdsim"
