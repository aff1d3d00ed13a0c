"""Accuracy of `sgdsim plan`: ten scenarios are planned and run, ``python -m benchmarks.planning [--quick]``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from sgdsim.app.plan import plan
from sgdsim.app.workflow import run_parts
from sgdsim.input.loading import load_parts

SCENARIOS = (
    "river_valley",
    "equipartition",
    "rescaling",
    "cooling",
    "heat_capacity",
    "schedule_design",
    "stationary_laws",
    "langevin_contrast",
    "entropy",
    "scale_invariance",
)

FACTOR = 1.5
"""Within which a plan should be right."""


def main(arguments: Sequence[str] | None = None) -> str:
    """Plan and run all of them, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="One of them and few trajectories, to see that it works.")
    quick = parser.parse_args(arguments).quick
    rows = ["| scenario | planned, s | took, s | planned / took |", "| --- | --- | --- | --- |"]
    ratios = []
    for name in SCENARIOS[:1] if quick else SCENARIOS:
        planned, took = measured(name, 2000 if quick else 100_000)
        ratios.append(planned / took)
        rows.append(f"| {name} | {planned:.2f} | {took:.2f} | {ratios[-1]:.2f} |")
    right = sum(1 / FACTOR <= ratio <= FACTOR for ratio in ratios)
    text = "\n".join([*rows, "", f"{right} of {len(ratios)} within a factor of {FACTOR}"])
    print(text)
    return text


def measured(name: str, trajectories: int) -> tuple[float, float]:
    """Seconds that a scenario should take, and those that it took, kernels being there."""
    scenarios = load_parts(name, {"run.trajectories": trajectories})
    planned = plan(scenarios).seconds
    with TemporaryDirectory(prefix="sgdsim-planning-") as folder:
        made = run_parts(scenarios, Path(folder) / "run.h5")
    return planned, sum(float(one.attributes["wall_seconds"]) for one in made)


if __name__ == "__main__":
    main()
