"""The neural thermodynamic laws as one run: ten scenarios, one table.

``python -m sgdsim.app.thermodynamics`` runs all of them into the folder ``results``, prints a row for each, and
writes the same as ``thermodynamics.md`` and ``thermodynamics.json`` there. It exits with 1 if anything disagrees.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

from sgdsim.app.workflow import Report, compare_file, run_parts
from sgdsim.base.errors import InputError, SgdsimError
from sgdsim.input.loading import load_parts
from sgdsim.input.scenario import shipped

SCENARIOS = (
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
)


@dataclass(frozen=True)
class Summary:
    """One row of the summary.

    Attributes
    ----------
    scenario
        Its name.
    checks
        Rows of its table; a negative control agrees if it was rejected, and disagrees if not.
    agrees, disagrees, inconclusive
        Of these.
    worst_z
        The z that is furthest from zero of all rows but the controls; None where there is none.
    seconds
        Wall time of run and comparison.
    """

    scenario: str
    checks: int
    agrees: int
    disagrees: int
    inconclusive: int
    worst_z: float | None
    seconds: float


def summarize(report: Report, seconds: float) -> Summary:
    """The row of one scenario.

    Examples
    --------
    >>> summarize(Report("run.h5", "cooling", [], [], 1e-3), 1.0)
    Summary(scenario='cooling', checks=0, agrees=0, disagrees=0, inconclusive=0, worst_z=None, seconds=1.0)
    """
    outcomes = [row.outcome for row in report.comparisons]
    z = [row.z for row in report.comparisons if row.expect == "agrees" and isfinite(row.z)]
    agrees, disagrees, inconclusive = (outcomes.count(verdict) for verdict in ("agrees", "disagrees", "inconclusive"))
    worst = max(z, key=abs, default=None)
    return Summary(report.scenario, len(outcomes), agrees, disagrees, inconclusive, worst, seconds)


def run_all(folder: str | Path = "results", names: Sequence[str] = SCENARIOS) -> list[Summary]:
    """Run scenarios into a folder, print and write their summary.

    Parameters
    ----------
    folder
        That exists; ``<name>.h5`` in it are replaced.
    names
        Of shipped scenarios.

    Raises
    ------
    InputError
        For a scenario that does not exist, before any is run.
    """
    missing = [name for name in names if name not in shipped()]
    if missing:
        raise InputError(f"no such scenario: {', '.join(missing)}")
    found = []
    for name in names:
        start, path = time.perf_counter(), Path(folder, f"{name}.h5")
        run_parts(load_parts(name), path, overwrite=True)
        report = compare_file(path)
        found.append(summarize(report, time.perf_counter() - start))
        print(f"{name}:\n{report.table()}\n", flush=True)
    table = to_markdown(found)
    print(table)
    Path(folder, "thermodynamics.md").write_text(f"{table}\n", encoding="utf-8")
    Path(folder, "thermodynamics.json").write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n", "utf-8")
    return found


def to_markdown(found: Iterable[Summary]) -> str:
    """The summary as a table.

    Examples
    --------
    >>> print(to_markdown([Summary("cooling", 4, 3, 0, 1, -2.25, 12.3)]))
    | scenario | checks | agree | disagree | inconclusive | worst z | seconds |
    | -------- | -----: | ----: | -------: | -----------: | ------: | ------: |
    | cooling  |      4 |     3 |        0 |            1 |   -2.25 |      12 |
    """
    header = ("scenario", "checks", "agree", "disagree", "inconclusive", "worst z", "seconds")
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
    worst = "" if row.worst_z is None else f"{row.worst_z:+.2f}"
    return (row.scenario, *map(str, counts), worst, f"{row.seconds:.0f}")


def main() -> None:
    """Run all ten; the exit code is the verdict."""
    try:
        found = run_all()
    except SgdsimError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(1 if any(one.disagrees for one in found) else 0)


if __name__ == "__main__":
    main()
