"""Checks of this installation: what it can do, and the reason for what it cannot."""

from __future__ import annotations

import importlib.metadata
import os
import platform

from sgdsim.base.errors import RunError
from sgdsim.base.version import __version__

LIBRARIES = ("numba", "llvmlite", "numpy", "scipy", "h5py", "sympy", "pydantic", "click", "rich", "rich-click")
EXTRAS = ("numba-cuda", "distributed", "matplotlib", "xarray", "jax", "torch")


def examine() -> str:
    """Text with a line each for versions, threads, SIMD width, kernel cache and CUDA.

    Examples
    --------
    >>> print(examine())
    sgdsim        ...
    CUDA          ...
    """
    found = checks()
    width = max(map(len, found))
    return "\n".join(f"{name:{width}}  {value}" for name, value in found.items())


def checks() -> dict[str, str]:
    """Results of all checks, by name.

    Examples
    --------
    >>> "SIMD" in checks()
    True
    """
    return {
        "sgdsim": __version__,
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "libraries": _versions(LIBRARIES),
        "extras": _versions(EXTRAS),
        "threads": _threads(),
        "threading": "Python threads over kernels that hold no lock; numba's threading layer is not used",
        "SIMD": _simd(),
        "kernel cache": _cache(),
        "CUDA": _cuda(),
    }


def _versions(names: tuple[str, ...]) -> str:
    found = []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def _threads() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{usable} of {os.cpu_count()} processors"


def _simd() -> str:
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    width = next((bits for name, bits in (("avx512f", 512), ("avx2", 256), ("avx", 256)) if features.get(name)), 128)
    return f"{width} bit on {llvm.get_host_cpu_name()}"


def _cache() -> str:
    from sgdsim.kernels.cache import cache_folder

    folder = cache_folder()
    modules = list(folder.glob("sgdsim_*.py"))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{folder}: {len(modules)} kernels, {size / 1e6:.1f} MB"


def _cuda() -> str:
    """Text about the GPUs and the versions that their driver and the compiler support, or why there are none."""
    try:
        from sgdsim.kernels import gpu

        return "; ".join(gpu.describe())
    except (ImportError, RunError) as error:
        return f"not usable: {error}"
