"""What this installation can do, and why not where it cannot."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import sgdsim


def examine() -> str:
    """Versions, threads, SIMD width, kernel cache and CUDA, one line each."""
    checks = {
        "sgdsim": sgdsim.__version__,
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "libraries": _versions(("numba", "llvmlite", "numpy", "scipy", "h5py", "sympy", "pydantic", "click", "tqdm")),
        "extras": _versions(("numba-cuda", "distributed", "matplotlib", "xarray", "jax", "torch")),
        "threads": _threads(),
        "SIMD": _simd(),
        "kernel cache": _cache(),
        "CUDA": _cuda(),
    }
    width = max(map(len, checks))
    return "\n".join(f"{name:{width}}  {value}" for name, value in checks.items())


def _versions(names: tuple[str, ...]) -> str:
    found = []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def _threads() -> str:
    import numba

    @numba.njit(parallel=True)  # type: ignore[untyped-decorator]
    def count(n: int) -> int:
        total = 0
        for _ in numba.prange(n):
            total += 1
        return total

    count(2)  # the layer is chosen by the first parallel loop
    return f"{numba.config.NUMBA_NUM_THREADS} of {os.cpu_count()} processors, threading layer {numba.threading_layer()}"


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
    from numba import cuda

    try:
        if cuda.is_available():
            return f"found {cuda.get_current_device().name.decode()}; sgdsim has no CUDA target yet"
        cuda.current_context()
    except Exception as error:  # whatever the driver says is the answer
        return f"not found: {str(error).strip().splitlines()[0]}"
    return "not found"
