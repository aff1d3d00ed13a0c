"""Families of scenarios, which run together and give one table.

``python -m sgdsim.app.families thermodynamics`` runs the scenarios of a family into the folder ``results``, prints a
row for each, and writes the table as ``thermodynamics.md`` and ``thermodynamics.json`` there; ``all`` means every
scenario. The exit code is 1 if anything disagrees.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

from sgdsim.app.verdicts import Report, compare_file
from sgdsim.app.workflow import run_parts
from sgdsim.base.errors import InputError, SgdsimError, unknown_name
from sgdsim.ensemble import Ensemble
from sgdsim.input.loading import load_parts
from sgdsim.input.scenario import Scenario, shipped
from sgdsim.model.loss_graph import LossGraph
from sgdsim.model.run import Run
from sgdsim.simulation.run_loop import work
from sgdsim.statistics.verdict_table import z_text

FAMILIES = {
    "thermodynamics": (
        "equipartition",
        "optimizers_temperature",
        "heat_capacity",
        "entropy",
        "cooling",
        "schedule_design",
        "entropic_force",
        "entropic_trapping",
        "first_law",
        "second_law",
    ),
    "entropic": (
        "entropic_loss",
        "rescaling",
        "unbroken_symmetries",
        "langevin_contrast",
        "discrete_symmetry",
        "collapse",
        "scale_invariance",
        "ideal_gas",
        "preconditioned_balance",
        "anisotropic_balance",
        "stationary_laws",
        "sharpness",
        "irreversibility",
        "referee_of_sampling",
        "sharpen_then_flatten",
    ),
    "networks": (
        "feedback_alignment",
        "hebbian",
        "platonic",
        "platonic_rates",
        "platonic_breakers",
        "platonic_sharpening",
        "kolen_pollack",
        "plasticity_timescale",
        "equivariance",
        "delayed_error",
        "compression",
        "staircase",
        "restoration",
        "multimodal",
        "heterosynaptic",
    ),
}
"""Scenarios of each family by its name, which is also a target of make and a folder of pages under docs."""
ALL = "all"


@dataclass(frozen=True)
class Summary:
    """One row of the summary: the verdicts and the speed of a scenario.

    Attributes
    ----------
    scenario
        Name of the scenario.
    checks
        Number of rows in its table; a negative control agrees if it was rejected, and disagrees if not.
    agrees, disagrees, inconclusive
        Numbers of rows with each verdict.
    worst_z
        Largest deviation in standard errors over all rows but the controls; None if there is none.
    seconds
        Wall time in seconds of run and comparison.
    steps_per_second
        Trajectory-steps per second of the simulation alone, without compilation; None if there are no steps.
    flops_per_second
        Floating-point operations per second. The operations of a step are counted as its formulas are written: those of
        the gradient, or of the directions in its place, of states and of the update; not those of random numbers and
        of recording.
    """

    scenario: str
    checks: int
    agrees: int
    disagrees: int
    inconclusive: int
    worst_z: float | None
    seconds: float
    steps_per_second: float | None = None
    flops_per_second: float | None = None


def speeds(scenarios: Iterable[Scenario], ensembles: Iterable[Ensemble]) -> tuple[float | None, float | None]:
    """Trajectory-steps and floating-point operations per second, of all parts of a scenario together."""
    steps, operations, seconds = 0, 0, 0.0
    for scenario, ensemble in zip(scenarios, ensembles, strict=True):
        seconds += float(ensemble.attributes["wall_seconds"])
        for run in scenario.runs:
            steps += work([run])
            operations += work([run]) * _operations(run)
    return (steps / seconds, operations / seconds) if seconds else (None, None)


def _operations(run: Run) -> int:
    """Floating-point operations of a step of one trajectory; the update takes a product and a sum per parameter."""
    optimizer, updates = run.optimizer, 2 * len(run.loss.parameters)
    return optimizer.substeps * (optimizer.batch_size * LossGraph(run.loss).operations + updates)


def summarize(report: Report, seconds: float, speed: tuple[float | None, float | None] = (None, None)) -> Summary:
    """The row of one scenario.

    Examples
    --------
    >>> found = summarize(Report("run.h5", "cooling", [], [], 1e-3), 1.0)
    >>> found.scenario, found.checks, found.seconds
    ('cooling', 0, 1.0)
    """
    outcomes = [row.outcome for row in report.comparisons]
    z = [row.z for row in report.comparisons if row.expect == "agrees" and isfinite(row.z)]
    agrees, disagrees, inconclusive = (outcomes.count(verdict) for verdict in ("agrees", "disagrees", "inconclusive"))
    worst = max(z, key=abs, default=None)
    return Summary(report.scenario, len(outcomes), agrees, disagrees, inconclusive, worst, seconds, *speed)


def members(family: str) -> list[str]:
    """Names of the scenarios of a family; for ``all``, those of every family and then all others.

    Raises
    ------
    InputError
        For an unknown family, with a near match, and for scenarios that do not exist.

    Examples
    --------
    >>> members("thermodynamic")
    Traceback (most recent call last):
    ...
    sgdsim.base.errors.InputError: unknown family 'thermodynamic': did you mean 'thermodynamics'?
    """
    if family != ALL and family not in FAMILIES:
        raise InputError(unknown_name("family", family, [*FAMILIES, ALL]))
    there = shipped()
    of_families = [name for names in FAMILIES.values() for name in names]
    names = [*of_families, *(name for name in there if name not in of_families)] if family == ALL else FAMILIES[family]
    missing = [name for name in names if name not in there]
    if missing:
        raise InputError(f"no such scenario: {', '.join(missing)}")
    return list(names)


def run_family(family: str, folder: str | Path = "results") -> list[Summary]:
    """Run the scenarios of a family into a folder, print and write their summary.

    Parameters
    ----------
    family
        A key of `FAMILIES`, or ``all``.
    folder
        An existing folder; files ``<name>.h5`` in it are replaced.

    Raises
    ------
    InputError
        For an unknown family, and for scenarios that do not exist, before any is run.
    """
    found = []
    for name in members(family):
        start, path = time.perf_counter(), Path(folder, f"{name}.h5")
        scenarios = load_parts(name)
        ensembles = run_parts(scenarios, path, overwrite=True)
        report = compare_file(path)
        found.append(summarize(report, time.perf_counter() - start, speeds(scenarios, ensembles)))
        print(f"{name}:\n{report.table()}\n", flush=True)
    table = to_markdown(found)
    print(table)
    Path(folder, f"{family}.md").write_text(f"{table}\n", encoding="utf-8")
    Path(folder, f"{family}.json").write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n", "utf-8")
    return found


def to_markdown(found: Iterable[Summary]) -> str:
    """The summary as a table.

    Examples
    --------
    >>> print(to_markdown([Summary("cooling", 4, 3, 0, 1, -2.25, 12.3, 5e7, 6e8)]))
    | scenario | checks | agree | disagree | inconclusive | worst z | seconds | steps/s | flops/s |
    | -------- | -----: | ----: | -------: | -----------: | ------: | ------: | ------: | ------: |
    | cooling  |      4 |     3 |        0 |            1 |   -2.25 |      12 | 5.0e+07 | 6.0e+08 |
    """
    header = ("scenario", "checks", "agree", "disagree", "inconclusive", "worst z", "seconds", "steps/s", "flops/s")
    lines = [header, *map(_cells, found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ruler = tuple("-" * width if column == 0 else "-" * (width - 1) + ":" for column, width in enumerate(widths))
    aligned = [
        " | ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in (header, ruler, *lines[1:])
    ]
    return "\n".join(f"| {line} |" for line in aligned)


def _cells(row: Summary) -> tuple[str, ...]:
    counts = (row.checks, row.agrees, row.disagrees, row.inconclusive)
    worst = "" if row.worst_z is None else z_text(row.worst_z)
    speed = ("" if one is None else f"{one:.1e}" for one in (row.steps_per_second, row.flops_per_second))
    return (row.scenario, *map(str, counts), worst, f"{row.seconds:.0f}", *speed)


def main() -> None:
    """Run the family that the command line names; the exit code is the verdict."""
    try:
        if len(sys.argv) != 2:
            raise InputError(f"expected the name of a family: {', '.join(FAMILIES)}, {ALL}")
        found = run_family(sys.argv[1])
    except SgdsimError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(1 if any(one.disagrees for one in found) else 0)


if __name__ == "__main__":
    main()
