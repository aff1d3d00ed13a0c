"""Warnings before a run begins."""

from __future__ import annotations

import pytest

from sgdsim.app import run_warnings
from sgdsim.app.verdicts import compare_file
from sgdsim.app.workflow import run_scenario
from sgdsim.input.loading import load_scenario


def test_an_unstable_setting_runs_and_warns(valley):
    """Rate times curvature 2.5: from x = 0 and noise 1 it grows by 1.5 a step, beyond 1e100 after 570 steps."""
    overrides = {"optimizer.learning_rate": 2.5, "run.steps": 700, "run.trajectories": 100}
    scenario = load_scenario(valley, overrides)
    with pytest.warns(RuntimeWarning, match="unstable: learning rate 2.5 times curvature 1 .* may diverge"):
        ensemble = run_scenario(scenario, valley.parent / "out.h5")
    assert (ensemble["status"] > 0).all()
    report = compare_file(valley.parent / "out.h5")
    assert not report.disagrees
    assert [skipped.id for skipped in report.skipped] == ["valley"]


def test_the_points_of_a_sweep_that_are_unstable_are_named(valley):
    scenario = load_scenario(valley, {"sweep": {"optimizer.learning_rate": [0.5, 2.5, 2.5]}, "run.trajectories": 9})
    with pytest.warns(RuntimeWarning, match="sweep point 1, 2: unstable"):
        run_scenario(scenario, valley.parent / "out.h5")


def test_very_many_unstable_points_are_counted(valley):
    """A line for each took the screen."""
    rates = [2.5 + n / 1000 for n in range(30)]
    scenario = load_scenario(
        valley, {"sweep": {"optimizer.learning_rate": rates}, "run.trajectories": 9, "run.steps": 2}
    )
    with pytest.warns(RuntimeWarning) as told:
        run_scenario(scenario, valley.parent / "out.h5", device="python")
    messages = [str(one.message) for one in told]
    assert len(messages) == 11
    assert messages[-1] == "20 more sweep points are unstable"
    assert run_warnings._listed(range(25)) == f"{', '.join(map(str, range(20)))} and 5 more"
