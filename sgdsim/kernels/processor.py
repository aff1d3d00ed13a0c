"""The processor that kernels are compiled for: that of this machine, or one that several machines have in common."""

from __future__ import annotations

import os

from sgdsim.base.errors import InputError

TARGETS = {"x86-64-v3": "avx2", "x86-64-v4": "avx512f"}
"""What can be compiled for on other processors too, with what these need. Tests hold their numbers to the same bits."""


def processor() -> str:
    """Its name, as LLVM has it.

    Examples
    --------
    >>> processor() != ""
    True
    """
    import llvmlite.binding as llvm
    from numba import config

    return str(config.CPU_NAME or llvm.get_host_cpu_name())


def features() -> set[str]:
    """What the processor of this machine can do, as LLVM has it."""
    import llvmlite.binding as llvm

    return {name for name, has in llvm.get_host_cpu_features().items() if has}


def variables(target: str) -> dict[str, str]:
    """What the environment of a process says that compiles for a target.

    Raises
    ------
    InputError
        For none of `TARGETS`.

    Examples
    --------
    >>> variables("x86-64-v3")
    {'NUMBA_CPU_NAME': 'x86-64-v3', 'NUMBA_CPU_FEATURES': ''}
    """
    if target not in TARGETS:
        raise InputError(f"--cpu-target: {target!r}, expected {' or '.join(TARGETS)}")
    return {"NUMBA_CPU_NAME": target, "NUMBA_CPU_FEATURES": ""}


def compile_for(target: str) -> None:
    """From now on compile for a target, here and in all processes that are started here; before any kernel is.

    Raises
    ------
    InputError
        For an unknown one, and for one with what this machine does not have.
    """
    settings = variables(target)
    if TARGETS[target] not in features():
        raise InputError(f"--cpu-target: {target} has {TARGETS[target]}, which {processor()} has not")
    from numba import config

    os.environ.update(settings)
    config.reload_config()
