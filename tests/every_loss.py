"""Random losses one after the other: what their tables say, and which of the faults planted in them are found.

The thousand take hours, most of them for compilers. `python -m tests.every_loss LOG` runs them from a shell, writes a
line of JSON for each loss, and goes on where the log ends; `python -m tests.every_loss LOG --arrays` those of matrices,
vectors and rules. `python -m tests.every_loss LOG --tally` holds what is in a log against what is promised, as the
tests do.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from scipy.stats import binom

from sgdsim.app.verdicts import Report, compare_file
from sgdsim.input.loading import scenario_from
from sgdsim.model.run import Run
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.theory import AUTOMATIC, predict
from tests.planted_faults import FAULTS, Fault, rules, with_dials
from tests.random_losses import array_cases, cases

TRAJECTORIES = 200_000
SEED = 7  # of the losses that are promised

DECIDED = 3  # rows of a table, not counting that the rates are those of the schedule
SHARE, CAUGHT = 0.95, 0.9
SECONDS, MEDIAN = 5.0, 1.0  # of theory
ALPHA, FALSE_ALARM = 1e-3, 1e-4  # of a table, and of the tally


@dataclass(frozen=True)
class Outcome:
    """Verdicts on one loss.

    Attributes
    ----------
    loss
        What it is, by which optimizer.
    decided
        Rows that agree, not counting that the rates are those of the schedule.
    accused
        Rows that disagree, with their z.
    seconds
        Of processor time that the theory took.
    planted
        The faults that make a difference, and whether the table accuses each, or says that trajectories diverge.
    """

    loss: str
    decided: int
    accused: dict[str, float]
    seconds: float
    planted: dict[str, bool]

    @property
    def line(self) -> str:
        """Outcome as a line of JSON."""
        return json.dumps(asdict(self))


def outcome(data: Mapping[str, Any], folder: Path, faults: Mapping[str, Fault] = FAULTS) -> Outcome:
    """A loss simulated and held against its automatic laws, and the same with each fault."""
    began = time.thread_time()
    scenario = scenario_from({**data, "predict": [{"id": id, "automatic": True} for id in AUTOMATIC]}, "random", "here")
    (run,) = scenario.runs
    for claim in scenario.claims:
        predict([claim.source], [run], claim.seconds)
    seconds, told = time.thread_time() - began, run.loss
    run, planted = with_dials(run), dict[str, bool]()
    report = table(run, scenario.toml, folder)
    with rules():
        for name, fault in faults.items():
            wrong = fault(run) if _matters(report) else None
            if wrong is not None:
                found = table(replace(wrong, recorder=run.recorder), scenario.toml, folder)
                planted[name] = found.disagrees or (_all_diverge(found) and not _all_diverge(report))
    return Outcome(
        f"{told.formula or dict(told.direction)} by {run.optimizer.name}, {run.optimizer.batch_size} a batch",
        sum(row.verdict == "agrees" and "rate" not in row.quantity for row in report.comparisons),
        {f"{row.id}: {row.quantity}": row.z for row in report.comparisons if row.outcome == "disagrees"},
        seconds,
        planted,
    )


def table(run: Run, told: str, folder: Path) -> Report:
    """A run held against the automatic laws of the scenario that it claims to be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # trajectories may diverge
        simulate_runs([run], scenario=told).save(folder / "run.h5", overwrite=True)
    return compare_file(folder / "run.h5")


def _matters(report: Report) -> bool:
    """True if noise moves a parameter: it may start where its noise vanishes, and stay there."""
    noisy = [row for row in report.comparisons if "kick" in row.quantity]
    return not noisy or any(row.stderr > 0 for row in noisy)


def _all_diverge(report: Report) -> bool:
    """True if every row says that trajectories diverged, as with a sum in place of a mean at a high rate.

    None is judged then, as what is left is no sample; that a right run has all its trajectories is seen at once.
    """
    return all("diverged" in row.note or "no live trajectories" in row.note for row in report.comparisons)


def outcomes(several: Iterable[Mapping[str, Any]], log: Path, planted: int = 1) -> Iterator[Outcome]:
    """The outcomes of several losses: those in a log, and those that are not, which are added to it.

    Faults are planted in each `planted`-th loss: they are three quarters of the time, and a share of 90 % is known to
    2 % from 250 losses.
    """
    lines = log.read_text().splitlines() if log.exists() else []
    yield from (Outcome(**json.loads(line)) for line in lines)
    with TemporaryDirectory() as folder:
        for number, data in enumerate(several):
            if number >= len(lines):
                found = outcome(data, Path(folder), {} if number % planted else FAULTS)
                with log.open("a") as file:
                    print(found.line, file=file)
                yield found


@dataclass(frozen=True)
class Count:
    """A promise, what was counted, and the losses that break it where it is not kept."""

    promise: str
    kept: bool
    counted: str
    losses: Sequence[str] = ()


def tally(found: Sequence[Outcome], share: float = SHARE, caught: float = CAUGHT) -> Iterator[Count]:
    """The promises, where a share of the losses has decided rows and of the faults is caught."""
    accused = [one for one in found if one.accused]
    allowed = int(binom.isf(FALSE_ALARM, len(found), ALPHA))
    told = [f"{one.loss}: {one.accused}" for one in accused]
    yield Count(f"at most {allowed} accused", len(accused) <= allowed, f"{len(accused)} of {len(found)}", told)
    undecided = [one.loss for one in found if one.decided < DECIDED]
    few = len(undecided) <= (1.0 - share) * len(found)
    yield Count(f"{share:.0%} with {DECIDED} decided rows", few, f"{len(found) - len(undecided)}", undecided)
    seconds = [one.seconds for one in found]
    slow = [f"{one.seconds:.2f} s: {one.loss}" for one in found if one.seconds > SECONDS]
    yield Count(f"theory in {SECONDS:g} s", not slow, f"{max(seconds):.2f} s", slow)
    yield Count(f"half of it in {MEDIAN:g} s", median(seconds) <= MEDIAN, f"{median(seconds):.2f} s")
    for fault, total in Counter(fault for one in found for fault in one.planted).items():
        missed = [one.loss for one in found if not one.planted.get(fault, True)]
        kept = len(missed) <= (1.0 - caught) * total
        yield Count(f"{caught:.0%} of {fault!r} caught", kept, f"{total - len(missed)} of {total}", missed)


def all_losses(arrays: bool) -> list[dict[str, Any]]:
    """The thousand losses that are promised, or the two hundred of matrices, vectors and rules."""
    return list(array_cases(200, TRAJECTORIES, SEED) if arrays else cases(1000, 1, TRAJECTORIES, SEED))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("--arrays", action="store_true")
    parser.add_argument("--planted", type=int, default=4, help="plant the faults in each n-th loss")
    parser.add_argument("--tally", action="store_true")
    options = parser.parse_args()
    if options.tally:
        logged = [Outcome(**json.loads(line)) for line in options.log.read_text().splitlines()]
        for count in tally(logged):
            print("kept  " if count.kept else "BROKEN", f"{count.promise}: {count.counted}")
            print(*(f"         {loss}" for loss in count.losses), sep="\n", end="\n" if count.losses else "")
        parser.exit()
    for number, one in enumerate(outcomes(all_losses(options.arrays), options.log, options.planted)):
        missed = ", ".join(name for name, caught in one.planted.items() if not caught)
        told = f"{one.decided:3} decided, {one.seconds:5.2f} s"
        print(f"{number:4} {told} {one.accused or ''} {missed and f'missed {missed} '}{one.loss}", flush=True)
