"""What a user gets for whatever loss: decided rows, soon, and an accusation where something is wrong.

Row by row the identities are tested elsewhere; here the promise is counted, over random losses of up to four
parameters, eleven optimizers, eight families of noise, batches, schedules and weight decay, and over matrices, vectors
and parameters that move by rules of their own.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from scipy.stats import binom

from sgdsim.app.verdicts import Report, compare_file
from sgdsim.input.loading import scenario_from
from sgdsim.model.run import Run
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.theory import AUTOMATIC, predict
from tests.planted_faults import FAULTS, Fault, rules
from tests.random_losses import array_cases, cases

TRAJECTORIES = 200_000
DECIDED = 3  # rows of a table, not counting that the rates are those of the schedule
SHARE, CAUGHT = 0.95, 0.9
SECONDS, MEDIAN = 5.0, 1.0  # of theory
ALPHA, FALSE_ALARM = 1e-3, 1e-4  # of a table, and of this test


@dataclass
class Tally:
    """What came of several losses, and of the faults that were planted in them."""

    losses: int = 0
    accused: int = 0
    seconds: list[float] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    planted: Counter[str] = field(default_factory=Counter)
    missed: list[tuple[str, str]] = field(default_factory=list)

    def check(self, share: float = SHARE, caught: float = CAUGHT) -> None:
        """The promises, where a share of the losses has decided rows and of the faults is caught."""
        assert self.accused <= int(binom.isf(FALSE_ALARM, self.losses, ALPHA))
        assert len(self.undecided) <= (1.0 - share) * self.losses, self.undecided
        assert max(self.seconds) <= SECONDS
        assert median(self.seconds) <= MEDIAN
        missed = Counter(fault for fault, _ in self.missed)
        few = {fault: self.missed for fault, n in self.planted.items() if missed[fault] > (1.0 - caught) * n}
        assert not few, few


def table(run: Run, told: str, folder: Path) -> Report:
    """A run held against the automatic laws of the scenario that it claims to be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # trajectories may diverge
        simulate_runs([run], scenario=told).save(folder / "run.h5", overwrite=True)
    return compare_file(folder / "run.h5")


def matters(report: Report) -> bool:
    """Whether noise moves anything: a parameter may start where its noise vanishes, and stay there."""
    noisy = [row for row in report.comparisons if "kick" in row.quantity]
    return not noisy or any(row.stderr > 0 for row in noisy)


def tally(all_data: Iterable[dict[str, Any]], folder: Path, faults: Mapping[str, Fault] = FAULTS) -> Tally:
    found = Tally()
    for data in all_data:
        began = time.thread_time()
        scenario = scenario_from(
            {**data, "predict": [{"id": id, "automatic": True} for id in AUTOMATIC]}, "random", "here"
        )
        (run,) = scenario.runs
        for claim in scenario.claims:
            predict([claim.source], [run], claim.seconds)
        found.seconds.append(time.thread_time() - began)
        report = table(run, scenario.toml, folder)
        decided = [row for row in report.comparisons if row.verdict == "agrees" and "rate" not in row.quantity]
        found.losses += 1
        found.accused += report.disagrees
        if len(decided) < DECIDED:
            found.undecided.append(f"{run.loss.formula} by {run.optimizer.name}, {run.optimizer.batch_size} a batch")
        with rules():
            for name, fault in faults.items():
                wrong = fault(run) if matters(report) else None
                if wrong is not None:
                    found.planted[name] += 1
                    if not table(replace(wrong, recorder=run.recorder), scenario.toml, folder).disagrees:
                        found.missed.append((name, run.loss.formula))
    return found


def test_random_losses_get_decided_rows_and_faults_are_caught(tmp_path: Path) -> None:
    """One of them, to which four of the faults can be done, must do: the share of the thousand is close to one."""
    found = tally(cases(structures=1, each=1, trajectories=TRAJECTORIES, seed=44), tmp_path)
    assert len(found.planted) >= 3
    found.check(share=1.0, caught=1.0)


@pytest.mark.validate
def test_a_thousand_random_losses(tmp_path: Path) -> None:
    found = tally(cases(structures=1000, each=1, trajectories=TRAJECTORIES, seed=7), tmp_path)
    assert set(found.planted) == set(FAULTS)
    found.check()


@pytest.mark.validate
def test_two_hundred_random_matrices_and_rules(tmp_path: Path) -> None:
    found = tally(array_cases(200, trajectories=TRAJECTORIES, seed=7), tmp_path, faults={})
    found.check()
