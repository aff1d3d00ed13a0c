"""Provenance of a file: versions, seed, times, and the scenario that it was made from."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import platform
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from sgdsim.base.version import __version__

UNTITLED = "SGD ensemble"
"""Title of an ensemble to which the user has given none."""
LIBRARIES = ("numba", "llvmlite", "numpy", "h5py", "sympy")


def now() -> str:
    """Present time in UTC, in the format of ISO 8601.

    Examples
    --------
    >>> now()
    '20...+00:00'
    """
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def attributes(
    *,
    title: str,
    scenario: str,
    seed: str,
    target: str,
    processor: str,
    dtype: str,
    lanes: int,
    layout_version: int,
    started: str,
    compile_seconds: float,
    seconds: float,
    trajectory_steps: int,
) -> dict[str, Any]:
    """The provenance attributes of an ensemble.

    Parameters
    ----------
    title
        Title of the run.
    scenario
        The resolved scenario as TOML.
    seed, target, dtype
        Seed, device and number type of the run.
    processor
        Processor for which the kernels were compiled, by LLVM's name.
    lanes
        Number of trajectories of a tile: trajectory i belongs to the group ``(i // lanes) % 64``.
    layout_version
        Version of the rule that assigns random words to deviates; see `Draws.layout_version`.
    started, compile_seconds, seconds
        Start of the run (UTC), and seconds to compile or load the kernels, and to simulate.
    trajectory_steps
        Number of steps of all trajectories together.
    """
    return {
        "title": title or UNTITLED,
        "source": "sgdsim",
        "package_version": __version__,
        "git_commit": git_commit(),
        "scenario": scenario,
        "scenario_sha256": hashlib.sha256(scenario.encode()).hexdigest(),
        "seed": seed,  # as text: HDF5 readers differ on unsigned 64-bit attributes
        "counter_layout_version": layout_version,
        "target": target,
        "processor": processor,
        "dtype": dtype,
        "lanes": lanes,
        "versions": _versions(),
        "python_version": platform.python_version(),
        "started_utc": started,
        "finished_utc": now(),
        "compile_seconds": compile_seconds,
        "wall_seconds": seconds,
        "trajectory_steps_per_second": trajectory_steps / seconds,
        "command_line": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


@cache  # each is read from a file: a tenth of the time of a small run
def _versions() -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)


@cache
def git_commit() -> str:
    """Commit of a source checkout, with ``+`` if files were changed since; ``unknown`` for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return "unknown"
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
