"""The automatic table over random losses: a right simulation is accused at the stated rate at most.

Each table rejects anything at all with probability 1e-3 at most (Holm over its rows), so that the number of accused
runs is below a binomial quantile. The simulator itself is held against an oracle elsewhere; what is tested here are
the laws, which must know where they hold, and the statistics, which must know what they cannot judge.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binom

from sgdsim.app.verdicts import Report, compare_file
from sgdsim.app.workflow import run_scenario
from sgdsim.base import toml
from sgdsim.input.loading import scenario_from
from sgdsim.model.schedules import Schedule
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.theory import AUTOMATIC
from tests.random_losses import cases, sweeps

ALPHA = 1e-3
FALSE_ALARM = 1e-4
"""Of the test as a whole, were every table to reject at exactly ALPHA."""


def report(data: dict[str, Any], folder: Path, slip: float = 1.0) -> Report:
    """The automatic table of a scenario; simulated at `slip` times the learning rate that is stated."""
    data = {**data, "predict": [{"id": id, "automatic": True} for id in AUTOMATIC]}
    path = folder / "run.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # trajectories may diverge: users are warned, and go on
        stated = scenario_from(data, "random", "here")
        runs = [replace(run, schedule=_scaled(run.schedule, slip)) for run in stated.runs]
        ensemble = simulate_runs(runs, scenario=stated.toml, sweep=stated.sweep or None)
    ensemble.save(path, overwrite=True)
    return compare_file(path)


def _scaled(schedule: Schedule, factor: float) -> Schedule:
    """A schedule with another rate to start from."""
    kind, colon, arguments = schedule.text.rpartition(":")
    rate, *rest = arguments.split(",")
    return Schedule(kind + colon + ",".join((repr(factor * float(rate)), *rest)))


def bound(n: int) -> int:
    """Accused runs among n that are not yet a contradiction."""
    return int(binom.isf(FALSE_ALARM, n, ALPHA))


def check(structures: int, each: int, trajectories: int, seed: int, folder: Path) -> None:
    """Right simulations are hardly ever accused; of the losses whose tables decide anything, half or more accuse a rate
    that is 20 % off, the negative control, which the first of each structure takes.
    """
    wrong, decided, caught, several = [], 0, 0, list(cases(structures, each, trajectories, seed))
    for number, data in enumerate(several):
        found = report(data, folder)
        if found.disagrees:
            wrong.append(f"{toml.dumps(data)}\n{found.table()}")
        elif number % each == 0 and any(row.verdict == "agrees" for row in found.comparisons):
            decided += 1
            caught += report(data, folder, slip=1.2).disagrees
    few = "\n\n".join(wrong[:5])
    assert len(wrong) <= bound(len(several)), f"{len(wrong)} of {len(several)} accused\n\n{few}"
    assert decided >= structures / 4
    assert caught >= 0.5 * decided


@pytest.mark.validate
def test_a_few_random_losses(tmp_path: Path) -> None:
    check(structures=2, each=2, trajectories=20_000, seed=2, folder=tmp_path)


@pytest.mark.validate
def test_two_thousand_random_losses(tmp_path: Path) -> None:
    check(structures=160, each=13, trajectories=20_000, seed=0, folder=tmp_path)


@pytest.mark.validate
def test_an_adiabatic_law_does_not_hold_where_the_river_leaves_its_path(tmp_path: Path) -> None:
    """The walls push the river, which no noise-free path knows; who asks for the law by name is told that it fails."""
    data = {
        "loss": {
            "formula": "exp(y)*x**2/2 + xi*x",
            "parameters": {"x": 0.0, "y": 0.0},
            "noise": {"xi": "normal"},
        },
        "optimizer": {"learning_rate": 0.2},
        "run": {"trajectories": 20_000, "steps": 200},
    }
    found = report(data, tmp_path)
    adiabatic = [row for row in found.comparisons if "valley" in row.id]
    assert {row.verdict for row in adiabatic} == {"does not hold here"}
    assert not found.disagrees
    assert "that of the noise-free path fails (measured" in adiabatic[0].note
    scenario = scenario_from({**data, "predict": [{"id": "valley"}]}, "asked", "here")
    run_scenario(scenario, tmp_path / "asked.h5")
    assert compare_file(tmp_path / "asked.h5").disagrees


@pytest.mark.validate
def test_a_time_average_remembers_what_the_end_has_forgotten(tmp_path: Path) -> None:
    """A broad start pushes the river; at the end all is on its path again, but half of the run was not."""
    data = {
        "loss": {
            "formula": "0.32*x**2/2 + 1.75*(y + 0.8)**2/2 + 0.7*x**2*y**2/2 + 0.17*n*x + 0.11*m*y",
            "parameters": {"x": "uniform:-1.3,1.3", "y": -0.09},
            "noise": {"n": "normal", "m": "normal"},
        },
        "optimizer": {"learning_rate": 0.0218},
        "run": {"trajectories": 20_000, "steps": 400},
        "record": {"every": 100},
    }
    verdicts = {row.quantity: row.verdict for row in report(data, tmp_path).comparisons}
    assert verdicts["variance(time_average_x)"] == "does not hold here"
    assert "disagrees" not in verdicts.values()


@pytest.mark.validate
def test_sweeps_over_the_rate_accuse_nobody(tmp_path: Path) -> None:
    """Slopes of mean and variance over the rate, told without being asked, have limits of validity that must hold."""
    found = [report(data, tmp_path) for data in sweeps(60, trajectories=50_000)]
    rows = [[row for row in one.comparisons if row.id == "modified-mean"] for one in found]
    assert sum(any(row.verdict == "agrees" for row in several) for several in rows) >= 20
    assert sum(one.disagrees for one in found) <= bound(len(found))
