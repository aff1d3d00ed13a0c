"""Checks of a scenario that is loaded: its constants, and how often objects are made."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from sgdsim.base import findings, toml
from sgdsim.base.errors import InputError
from sgdsim.input import loading
from sgdsim.input.loading import load_scenario, save_scenario, scenario_from
from sgdsim.model import noise, schedules
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import FAMILIES, Noise
from sgdsim.model.observables import Observable
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.update_rules import OPTIMIZERS, Rule
from sgdsim.theory.law import LAWS, Law
from tests.input.valley import DATA

HEAVY_BALL = {**DATA["optimizer"], "name": "momentum"}


def told(constants: dict[str, float], **tables: Any) -> list[str]:
    """Warnings when further constants are given."""
    data = {**DATA, "loss": {**DATA["loss"], "constants": {"a": 1.0, **constants}}, **tables}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scenario_from(data, "name", "here")
    return [str(one.message) for one in caught]


def test_very_many_constants_that_nothing_uses_are_counted():
    """A warning for each of 100,000 took the screen and a minute."""
    messages = told({f"c{n}": float(n) for n in range(5000)})
    assert messages[:2] == [f"loss.constants.c{n}: no formula uses it" for n in range(2)]
    assert len(messages) == 11
    assert messages[-1] == "loss.constants: no formula uses 4990 others"


@pytest.mark.parametrize(
    ("name", "tables"),
    [
        ("learning_rate", {"predict": [{"formula": "variance(x) = learning_rate/2"}]}),
        ("steps", {"predict": [{"formula": "mean(x) = 0.5**steps"}]}),
        ("momentum", {"optimizer": HEAVY_BALL, "predict": [{"formula": "mean(x) = momentum"}]}),
        ("learning_rate", {"record": {"observables": {"heat": "window_sum(learning_rate*gradient(x), 0, 5)"}}}),
        (
            "learning_rate",
            {
                "sweep": {"optimizer.learning_rate": [0.1]},
                "predict": [{"formula": 'mean(x) = { "optimizer.learning_rate" = [0.5], value = [1.0] }'}],
            },
        ),
    ],
)
def test_a_constant_that_takes_the_place_of_what_the_run_has_is_told(name, tables):
    """Formulas took the constant without a word."""
    expected = f"loss.constants.{name}: formulas take {name} for this constant, not for what the run has of that name"
    assert expected in told({name: 0.5}, **tables)


def test_a_constant_of_such_a_name_that_only_the_loss_uses_is_none_of_it():
    loss = {**DATA["loss"], "formula": "a*steps*(x - z)**2/2"}
    assert told({"steps": 2.0}, loss={**loss, "constants": {"a": 1.0, "steps": 2.0}}) == []


def test_a_scenario_is_not_saved_over_what_it_reads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rates.txt").write_text("0.1\n")
    data = {**DATA, "optimizer": {"learning_rate": "file:rates.txt"}}
    with pytest.raises(InputError, match=r"rates\.txt: is read for this"):
        save_scenario(data, "rates.txt", "out.h5", overwrite=True)
    assert (tmp_path / "rates.txt").read_text() == "0.1\n"


def test_a_scenario_knows_what_it_was_read_from(tmp_path):
    (tmp_path / "rates.txt").write_text("0.1\n" * 5)
    path = tmp_path / "mine.toml"
    path.write_text(toml.dumps({**DATA, "optimizer": {"learning_rate": "file:rates.txt"}}))
    assert load_scenario(path).sources == (path, tmp_path / "rates.txt")


def _plugged(formula: str) -> dict[str, Callable[[pytest.MonkeyPatch], None]]:
    """Functions that add a user's own loss, rule, schedule or distribution, made of a formula that may change."""
    moment = FAMILIES["normal"].moment
    rule, schedule = Rule("gradient*" + formula), schedules.Family({}, "0.1*" + formula)
    family = noise.Family({}, ("z",), "z*" + formula, moment)
    own = noise.Family({}, ("z",), "z", lambda k: moment(k, 0.0, 1.0))

    def loss() -> Loss:
        return Loss(f"{formula}*x**2/2 + xi*x", ("x",), noise={"xi": Noise.parse("normal")})

    def records(run: Run) -> Recorder:
        return Recorder(observables=(Observable("q", formula + "*x"),))

    return {
        "an optimizer": lambda patch: patch.setitem(OPTIMIZERS, "mine", rule),
        "a schedule": lambda patch: patch.setitem(schedules.SCHEDULES, "mine", schedule),
        "a loss": lambda patch: patch.setitem(CATALOGUE, "mine", loss),
        "a distribution by its formula": lambda patch: patch.setitem(FAMILIES, "mine", family),
        "a distribution by its functions": lambda patch: patch.setitem(FAMILIES, "mine", own),
        "a law": lambda patch: patch.setitem(LAWS, "mine", Law("mine", "t", "s", "h", "d", lambda run: [], records)),
    }


_OWN_LOSS = {"formula": "x**2/2 + xi*x", "parameters": {"x": 1.0}, "noise": {"xi": "normal"}}
_USED = {
    "an optimizer": {"optimizer": {"name": "mine", "learning_rate": 0.1}},
    "a schedule": {"optimizer": {"learning_rate": "mine:"}},
    "a loss": {"loss": {"name": "mine"}, "run": {"trajectories": 100, "steps": 10, "initial": {"x": 1.0}}},
    "a distribution by its formula": {"loss": {**_OWN_LOSS, "noise": {"xi": "mine"}}},
    "a distribution by its functions": {"loss": {**_OWN_LOSS, "parameters": {"x": "mine"}}},
    "a law": {"predict": [{"id": "mine"}]},
}


@pytest.mark.parametrize("what", _USED)
def test_what_laws_need_is_asked_anew_of_what_a_user_has_added(what, monkeypatch, tmp_path):
    """Its name alone does not say what it is."""
    monkeypatch.setattr(findings, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(findings, "_kept", itertools.count())
    asked = []
    monkeypatch.setattr(loading.theory, "requirements", lambda *given: asked.append(given) or Recorder())
    data = {
        "loss": _OWN_LOSS,
        "optimizer": {"learning_rate": 0.1},
        "run": {"trajectories": 100, "steps": 10},
        "predict": [{"id": "valley"}],
        **_USED[what],
    }
    for formula in ("1", "2"):
        _plugged(formula)[what](monkeypatch)
        scenario_from(data, "mine", "here")
    assert len(asked) == 2


def test_what_laws_need_of_what_is_ours_is_asked_once(monkeypatch, tmp_path):
    monkeypatch.setattr(findings, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(findings, "_kept", itertools.count())
    asked = []
    monkeypatch.setattr(loading.theory, "requirements", lambda *given: asked.append(given) or Recorder())
    once = load_scenario("river_valley")
    count = len(asked)
    assert load_scenario("river_valley") == once
    assert len(asked) == count > 0
