"""The processor that kernels are compiled for: that of this machine, or one that several machines have in common."""

from __future__ import annotations

import os

from sgdsim.base.errors import InputError

TARGETS = {"x86-64-v3": "avx2", "x86-64-v4": "avx512f"}
"""Processors that can be compiled for besides that of the machine, each with the feature that it needs. Tests demand
the same bits of their numbers."""


def processor() -> str:
    """LLVM's name of the processor that kernels are compiled for.

    Examples
    --------
    >>> processor() != ""
    True
    """
    import llvmlite.binding as llvm
    from numba import config

    return str(config.CPU_NAME or llvm.get_host_cpu_name())


def features() -> set[str]:
    """LLVM's names of the features of this machine's processor."""
    import llvmlite.binding as llvm

    return {name for name, has in llvm.get_host_cpu_features().items() if has}


def variables(target: str) -> dict[str, str]:
    """The environment variables of a process that compiles for a target.

    Raises
    ------
    InputError
        For a target that is not in `TARGETS`.

    Examples
    --------
    >>> variables("x86-64-v3")
    {'NUMBA_CPU_NAME': 'x86-64-v3', 'NUMBA_CPU_FEATURES': ''}
    """
    if target not in TARGETS:
        raise InputError(f"--cpu-target: {target!r}, expected {' or '.join(TARGETS)}")
    return {"NUMBA_CPU_NAME": target, "NUMBA_CPU_FEATURES": ""}


def compile_for(target: str) -> None:
    """Compile for a target from now on, here and in all processes started here; it must be called before any compiling.

    Raises
    ------
    InputError
        For an unknown target, and for one with features that this machine does not have.
    """
    settings = variables(target)
    if TARGETS[target] not in features():
        raise InputError(f"--cpu-target: {target} has {TARGETS[target]}, which {processor()} has not")
    from numba import config

    os.environ.update(settings)
    config.reload_config()
