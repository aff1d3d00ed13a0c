"""Runs of a given time: their steps, their records, and sweeps whose points differ in steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import sgdsim
from sgdsim.app.simulate import simulate
from sgdsim.app.verdicts import compare_file
from sgdsim.app.workflow import run_scenario
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble
from sgdsim.input.scenario import Scenario
from sgdsim.plots.drawing import draw
from sgdsim.simulation.run_loop import simulate_runs
from tests.samples import daily


def scenario(run: dict[str, Any], record: dict[str, Any] | None = None, **others: Any) -> Scenario:
    data = {
        "loss": {"formula": "(x - z)**2/2", "parameters": {"x": 1.0}, "noise": {"z": "normal"}},
        "optimizer": {"learning_rate": 0.1},
        "run": {"trajectories": 640, **run},
        "record": record or {},
        **others,
    }
    return Scenario.of(data, "timed", "timed")


RATES = {"optimizer.learning_rate": [0.1, 0.05, "1/6"]}


def test_points_of_a_sweep_end_at_the_same_time(tmp_path):
    made = scenario(
        {"time": 2.0, "trajectories": 50_000},
        {"records": 4, "snapshots": ["final"]},
        sweep=RATES,
        predict=[
            {"formula": "mean(x) = (1 - learning_rate)**(time/learning_rate); resolution=50%"},
            {"formula": "mean(x) = (1 - learning_rate)**5", "expect": "disagrees"},
        ],
    )
    assert [run.steps for run in made.runs] == [20, 40, 12]
    path = tmp_path / "timed.h5"
    ensemble = run_scenario(made, path)
    with xr.open_dataset(path) as data:
        assert data["time"].dims == data["record_step"].dims == ("point", "record")
        assert "time" in data.coords
        np.testing.assert_allclose(data["time"], [[0, 0.5, 1, 1.5, 2]] * 3, rtol=1e-12)
        np.testing.assert_array_equal(data["record_step"], [[0, 5, 10, 15, 20], [0, 10, 20, 30, 40], [0, 3, 6, 9, 12]])
        np.testing.assert_array_equal(data["snapshot_step"], [[20], [40], [12]])
    alone = simulate_runs([made.runs[0]], scenario="", device="cpu")  # the first point is the run that it is alone
    np.testing.assert_array_equal(ensemble["mean"][0], alone["mean"])
    np.testing.assert_array_equal(ensemble["theta"][0], alone["theta"])
    assert not compare_file(path).disagrees


def test_an_order_is_tested_at_one_time_however_many_steps_that_takes(tmp_path):
    """A rest of variance eta/(2 - eta), of which eta/2 is the first order; the control has another coefficient."""
    made = scenario(
        {"time": 6.0, "trajectories": 50_000},
        sweep={"optimizer.learning_rate": [0.1, 0.15, 0.2, 0.3, 0.4]},
        predict=[
            {"formula": "variance(x) = learning_rate/2 + learning_rate**2/4; order=1; resolution=10%"},
            {"formula": "variance(x) = 0.6*learning_rate; order=1; resolution=10%", "expect": "disagrees"},
        ],
    )
    path = tmp_path / "timed.h5"
    run_scenario(made, path)
    true, false = compare_file(path).comparisons
    assert "term of eta^1" in true.quantity
    assert true.verdict == "agrees", true
    assert false.verdict == "disagrees", false


@pytest.mark.parametrize("kind", daily(["moments", "sweep", "density", "schedule"], "moments"))
def test_figures_of_points_that_differ_in_steps(kind, tmp_path):
    made = scenario(
        {"time": 2.0},
        {"records": 4, "histograms": {"x": [-1, 2, 10]}},
        sweep=RATES,
        predict=[{"formula": "mean(x) = (1 - learning_rate)**steps"}, {"formula": "variance(x) = 0.05; at=final"}],
    )
    ensemble = run_scenario(made, tmp_path / "timed.h5", device="python")
    predictions = [row for claim in made.claims for row in claim.source.predictions(made.runs)]
    axes = {
        "moments": {"time"},
        "sweep": {r"learning rate ${\eta}$"},
        "density": {"${x}$"},
        "schedule": {"step"},
    }
    figure = draw(ensemble, predictions, kind)
    assert {axis.get_xlabel() for axis in figure.axes if axis.get_xlabel()} <= axes[kind]
    assert "12 to 40 steps" in "".join(text.get_text() for text in figure.texts)


def test_steps_may_be_swept():
    made = scenario({"steps": 1}, {"records": 2}, sweep={"run.steps": [4, 10]})
    ensemble = simulate_runs(made.runs, scenario=made.toml, sweep=made.sweep, device="python")
    assert ensemble["record_step"].tolist() == [[0, 2, 4], [0, 5, 10]]
    assert Scenario.parse(made.toml).runs == made.runs


def test_time_of_a_schedule():
    """The sum of the rates, which change."""
    loss = sgdsim.Loss("x**2/2", ("x",))
    arguments = {"learning_rate": "0.2/(1 + t)", "initial": {"x": 1.0}, "trajectories": 2, "device": "python"}
    ensemble: Ensemble = simulate(loss, steps=3, every=1, **arguments)
    np.testing.assert_allclose(ensemble["time"], [0, 0.2, 0.3, 0.2 + 0.1 + 0.2 / 3], rtol=1e-15)
    with pytest.raises(InputError, match="or a constant rate"):
        simulate(loss, time=3.0, **arguments)
    arguments["learning_rate"] = 0.3
    assert simulate(loss, time=3, records=5, **arguments)["record_step"].tolist() == [0, 2, 4, 6, 8, 10]
    for both in ({}, {"steps": 10, "time": 3.0}):
        with pytest.raises(InputError, match="steps: expected it or time, the sum of the learning rates"):
            simulate(loss, **both, **arguments)


def test_what_is_set_takes_the_place_of_its_other():
    """``--steps`` of a file with a time, and the other way round; both are still refused."""
    text = scenario({"time": 2.0}, {"records": 4}).toml
    read = Scenario.parse(text, overrides={"run.steps": 7, "record.every": 3}).runs[0]
    assert (read.steps, read.recorder.record_steps(read.steps).tolist()) == (7, [0, 3, 6, 7])
    assert Scenario.parse(Scenario.parse(text, overrides={"run.steps": 7, "record.every": 3}).toml).runs == (read,)
    with pytest.raises(InputError, match=r"expected it or run\.steps, not both"):
        Scenario.parse(text, overrides={"run.steps": 7, "run.time": 1.0})


@pytest.mark.parametrize(
    ("run", "record", "others", "problem"),
    [
        ({"time": 1.0}, {}, {"sweep": {"optimizer.learning_rate": [0.5, 0.3]}}, "run.time: 1 is 3.33333 steps of 0.3"),
        ({"time": 1.0}, {}, {"optimizer": {"learning_rate": "cosine:0.1,0.01"}}, "expected run.steps, or a constant"),
        ({"time": 0.01}, {}, {}, "run.time: 0.01 is 0.1 steps of 0.1, expected a whole number"),
        ({"time": -1}, {}, {}, "run.time: -1, expected a positive number"),
        ({"time": 1.0, "steps": 10}, {}, {}, "run.time: 1, expected it or run.steps, not both"),
        ({}, {}, {}, "run.steps: is missing"),
        ({"steps": 10}, {"records": 3}, {}, "record.records: 3 records, but 10 steps, expected a multiple of it"),
        ({"steps": 10}, {"records": 5, "every": 2}, {}, "record.records: 5, expected it or record.every, not both"),
        ({"time": 1.0}, {"every": 2}, {"sweep": RATES}, "record.every: the points differ in steps, expected record"),
        (
            {"time": 1.0},
            {"autocorrelation": {"x": {"lags": [1]}}},
            {"sweep": RATES},
            "record.autocorrelation: lags are steps, expected none where the points differ in steps",
        ),
    ],
)
def test_what_is_no_time(run, record, others, problem):
    with pytest.raises(InputError) as caught:
        scenario(run, record, **others)
    assert problem in str(caught.value)
