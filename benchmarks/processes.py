"""Whole processes: how long a scenario takes to its first step, cold and warm; the help text; peak memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import PEERS

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Processes:
    """Measured times and memory of processes.

    Attributes
    ----------
    cold, warm
        Seconds to the first step with an empty and with a filled kernel cache: on the wall, and of processor time.
    help
        Seconds of ``sgdsim --help``, likewise.
    memory
        Peak bytes of a run above what was held before it; None where the system does not say.
    """

    cold: tuple[float, float]
    warm: tuple[float, float]
    help: tuple[float, float]
    memory: float | None


def measure(repeats: int = 3) -> Processes:
    """Start processes one after the other, in a kernel cache of their own."""
    with tempfile.TemporaryDirectory(prefix="sgdsim-benchmark-") as folder:
        start = [sys.executable, "-m", "benchmarks.start"]
        subprocess.run([sys.executable, "-m", "compileall", "-q", "sgdsim", "benchmarks"], cwd=ROOT, check=True)
        cold = _timed([*start, "first_step"], folder)[:2]
        warm = [_timed([*start, "first_step"], folder)[:2] for _ in range(repeats)]
        helps = [_timed([sys.executable, "-m", "sgdsim", "--help"], folder)[:2] for _ in range(repeats)]
        memory = float(_timed([*start, "memory"], folder)[2]) if Path("/proc/self/clear_refs").exists() else None
    return Processes(cold, _medians(warm), _medians(helps), memory)


def compilations(models: Sequence[str]) -> tuple[float, dict[str, float]]:
    """Processor seconds of what losses share, and of the kernels of each with that in the cache."""
    found = []
    with tempfile.TemporaryDirectory(prefix="sgdsim-benchmark-") as folder:
        for model in (models[0], *models):  # the first process also compiles what losses share
            for path in [*Path(folder).rglob("sgdsim_run_*")]:
                path.unlink()
            found.append(float(_timed([sys.executable, "-m", "benchmarks.start", "kernels", model], folder)[2]))
    first, *each = found
    return first - each[0], dict(zip(models, each, strict=True))


def first_calls(models: Sequence[str]) -> dict[str, float]:
    """Processor seconds of the first call of JAX's `vmap` of `grad`, less a second one; none without JAX."""
    if not PEERS["JAX"].installed:
        return {}
    return {
        model: float(_timed([sys.executable, "-m", "benchmarks.start", "first_call", model], "")[2]) for model in models
    }


def _timed(command: list[str], cache: str) -> tuple[float, float, str]:
    """Seconds on the wall, seconds of processor time, and the output."""
    # An installed package has its bytecode; where Python may write none, each start would compile our modules.
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    settings["SGDSIM_CACHE_DIR"] = cache
    began, used = time.perf_counter(), os.times()
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=settings).stdout
    now = os.times()
    cpu = now.children_user + now.children_system - used.children_user - used.children_system
    return time.perf_counter() - began, cpu, output


def _medians(samples: list[tuple[float, float]]) -> tuple[float, float]:
    wall, cpu = zip(*samples, strict=True)
    return statistics.median(wall), statistics.median(cpu)
