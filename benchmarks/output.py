"""Output of a benchmark: a table, its data, a figure, and problems on standard error."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.tasks import Timing


def write(base: Path, text: str, data: Mapping[str, Any]) -> None:
    """Print the table and write ``base.md``, ``base.json`` and, with matplotlib, ``base.svg``."""
    base.parent.mkdir(parents=True, exist_ok=True)
    base.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    base.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    print(text)
    if importlib.util.find_spec("matplotlib") is None:
        print("matplotlib is not installed: no figure", file=sys.stderr)
        return
    from benchmarks import figure

    figure.draw(data, base.with_suffix(".svg"))


def complain(timings: Iterable[Timing]) -> int:
    """Name what was not timed, and why; 1 if anything was not."""
    lines = [
        f"{timing.task.peer}, {timing.task.variant}, {timing.task.job.model}, {timing.task.job.trajectories:,} "
        f"trajectories: {timing.problem}; not timed"
        for timing in timings
        if timing.problem
    ]
    for line in lines:
        print(line, file=sys.stderr)
    return int(bool(lines))
