"""What a command may be about: formulas, losses, scenarios and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble, Variable
from sgdsim.input.loading import load_scenario
from sgdsim.input.subject import DEFAULT_RATE, scenario_of


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
