"""Subjects of commands: formulas, losses, scenarios and files."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble, Variable
from sgdsim.input.loading import load_scenario
from sgdsim.input.subject import DEFAULT_RATE, loss_of, scenario_of, schedule_of


def test_a_formula_needs_nothing_else() -> None:
    run = scenario_of("(u*w*x - y)**2/2", noise=["x=normal", "y=normal"]).runs[0]
    assert run.initial == {"u": 1.0, "w": 1.0}
    assert run.schedule.text == DEFAULT_RATE


def test_starts_may_be_given_and_left_out() -> None:
    run = scenario_of("(u*w - 1)**2/2", parameters=["u=2", "w"]).runs[0]
    assert run.initial == {"u": 2.0, "w": 1.0}


def test_vectors_are_found_by_their_indices() -> None:
    assert scenario_of("w[0]**2 + w[2]*w[1]").runs[0].loss.parameters == ("w[0]", "w[1]", "w[2]")


@pytest.mark.parametrize("name", ["rescaling", "diagonal_network", "sphere"])
def test_losses_of_the_catalogue(name: str) -> None:
    run = scenario_of(name, optimizer="momentum", learning_rate="0.1").runs[0]
    assert (run.loss.name, run.optimizer.name) == (name, "momentum")


def test_a_scenario_wins_unless_the_loss_is_asked_for() -> None:
    assert scenario_of("river_valley").runs[0].trajectories == 1_000_000
    assert scenario_of("river_valley", learning_rate="0.3").runs[0].schedule.text == "0.3"
    assert scenario_of("river_valley", settings=["run.steps=50"]).runs[0].steps == 50


def test_a_file_holds_its_scenario(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    text = load_scenario("river_valley", {"run.steps": 70}).toml
    names = {name: Variable((name,), ["x"]) for name in ("parameter", "observable")}
    Ensemble({**names, "record_step": Variable(("record",), [0])}, {"scenario": text}).save(path)
    assert scenario_of(str(path)).runs[0].steps == 70
    with pytest.raises(InputError, match="expected no options"):
        scenario_of(str(path), learning_rate="0.1")


def test_settings_win_over_defaults_and_zero_is_no_default() -> None:
    run = scenario_of("x**2/2", settings=["run.steps=5", "optimizer.learning_rate=0.5"]).runs[0]
    assert (run.steps, run.schedule.text) == (5, "0.5")
    for option in ({"steps": 0}, {"batch_size": 0}):
        with pytest.raises(InputError, match="0"):
            scenario_of("x**2/2", **option)


@pytest.mark.parametrize(
    ("subject", "options", "why"),
    [
        ("river_vally", {}, "river_valley"),
        ("nowhere.h5", {}, "nowhere.h5"),
        ("nowhere.toml", {}, "no such file"),
        ("(x - q)**2", {"noise": ["q=normla"]}, "normal"),
        ("x**2/2", {"optimizer": "sdg"}, "sgd"),
        ("(x*w - y)**2", {"data": "rows.csv"}, "name the parameters"),
    ],
)
def test_bad_subjects_are_one_sentence(subject: str, options: dict[str, object], why: str) -> None:
    with pytest.raises(InputError, match=why):
        scenario_of(subject, **options)


@pytest.mark.validate
def test_a_loss_of_the_catalogue_starts_as_it_is_set() -> None:
    """Its parameters follow from its arguments."""
    run = scenario_of("rescaling_neurons", settings=["loss.neurons=3"], learning_rate="0.1").runs[0]
    assert set(run.initial) == set(run.loss.parameters)
    assert "w[2]" in run.initial


def test_constants_that_are_set_are_no_parameters() -> None:
    assert scenario_of("a*x**2/2", settings=["loss.constants.a=2"]).runs[0].loss.parameters == ("x",)


def test_a_loss_by_its_options() -> None:
    loss = loss_of("b*w[1]**2 + z*w[0]", noise=["z=normal:0,0.5"], constants=["b=2."])
    assert (loss.parameters, loss.constants) == (("w[0]", "w[1]"), {"b": 2.0})
    assert loss_of("river_valley", noise=["laplace"], constants=["a0=3"]).constants["a0"] == 3.0


@pytest.mark.parametrize(
    ("subject", "options", "why"),
    [
        (
            "norm2(w)",
            {"parameters": ["w[99999999]"]},
            "--parameter w.99999999.: 99999999 coordinates, expected",
        ),
        ("w[99999999]**2", {}, "--parameter w.100000000.: 100000000 coordinates, expected 1 to"),
        ("sum(z)*w", {"noise": ["z[99999999]=normal"]}, "--noise z.99999999.: 99999999 coordinates, expected 1 to"),
        ("river_valley", {"parameters": ["q"]}, "--parameter: river_valley has parameters of its own"),
        ("a*x", {"constants": ["a=1e-400"]}, "below the smallest float"),
    ],
)
def test_losses_that_cannot_be_are_refused_before_they_are_made(subject, options, why) -> None:
    """100 million names took a minute and all memory."""
    began = time.process_time()
    with pytest.raises(InputError, match=why):
        loss_of(subject, **options)
    assert time.process_time() - began < 5


def test_schedules_are_read_like_learning_rates(tmp_path: Path) -> None:
    (tmp_path / "rates.txt").write_text("0.1\n0.05\n")
    assert schedule_of(f"file:{tmp_path / 'rates.txt'}").table == (0.1, 0.05)
    assert schedule_of(" 1_0e-1 ").text == "1.0"
    with pytest.raises(InputError, match="--learning-rate '1e-400': 1e-400 is below the smallest float"):
        schedule_of("1e-400")
