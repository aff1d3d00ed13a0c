"""Measurements, refusals, texts and figures of the command that designs a schedule."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from sgdsim import simulate
from sgdsim.app.cli import main
from sgdsim.app.schedule_design import Measured, describe_design, design_from, measure, plot_design
from sgdsim.base.errors import InputError
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.statistics.estimate import Estimate
from sgdsim.theory.laws.best_schedule import Design
from tests.theory.laws.schedule_runs import DESIGN


def test_a_run_is_measured_within_its_errors():
    loss = river_valley(a="a0", c="-g*y", constants={"a0": 0.8, "g": 0.05, "sigma": 0.5})
    ensemble = simulate(loss, learning_rate=0.1, initial={"x": 1.0, "y": 0.0}, trajectories=4096, steps=100, every=5)
    found = measure(ensemble)
    for estimate, truth in ((found.curvature, 0.8), (found.noise, 0.5), (found.slope, 0.05)):
        assert abs(estimate.value - truth) < 4 * estimate.stderr + 1e-12
        assert estimate.stderr < 0.02
    design = design_from(None, None, None, 0.1, 600, found)
    assert design.slope == pytest.approx(0.05)
    assert "measured curvature a" in describe_design(design, found)
    with pytest.raises(InputError, match="unknown parameter"):
        measure(ensemble, "z")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((None, 1.0, 0.02, 0.1, 600), "--curvature is missing"),
        ((1.0, -1.0, 0.02, 0.1, 600), "--noise -1"),
        ((30.0, 1.0, 0.02, 0.1, 600), "stable below 2"),
        ((1.0, 1.0, 0.02, 0.1, 10**9), "--steps 1000000000"),
    ],
)
def test_what_cannot_be_designed_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        design_from(*given)


def test_a_design_says_what_its_numbers_are():
    short = describe_design(Design(1.0, 1.0, 1e-4, 0.1, 100))
    assert "  no plateau: from 0.1 on, rate/(1 + a*rate*k) for 100 steps, down to" in short
    assert "too short for the best decay, of 22351 steps" in short
    assert "losses are counted from the river's where the run begins" in short
    quiet = Measured(Estimate(1.0, 0.1, 9), Estimate(1.0, 0.1, 9), Estimate(0.02, 1.8e-17, 9))
    assert "measured slope g = 0.02 ± 0\n" in describe_design(DESIGN, quiet)


def test_a_figure_that_exists_is_refused_before_anything_is_printed(tmp_path):
    (tmp_path / "there.svg").touch()
    given = ["--curvature", "1", "--noise", "1", "--slope", "0.02", "--peak", "0.1", "--steps", "60"]
    done = CliRunner().invoke(main, ["schedule", *given, "-o", str(tmp_path / "there.svg")])
    assert done.exit_code == 2
    assert done.output.startswith("Error: ")


def test_a_design_is_drawn(tmp_path):
    path = plot_design(DESIGN, tmp_path / "schedule.svg")
    assert "plateau_harmonic" in path.read_text()
    with pytest.raises(InputError):
        plot_design(DESIGN, path)
