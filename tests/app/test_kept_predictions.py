"""Predictions are kept in the file that is compared: read again they are the same to the last bit, and no result."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from sgdsim import theory
from sgdsim.app import kept_predictions, verdicts, workflow
from sgdsim.app.figures import plot_file
from sgdsim.app.simulate import simulate
from sgdsim.app.verdicts import compare_file, predictions_of
from sgdsim.app.workflow import run_parts, simulate_scenario
from sgdsim.base import findings
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble
from sgdsim.input.loading import scenario_from
from sgdsim.model.run import Run
from sgdsim.plots import diagram, sweep
from sgdsim.plots.subject import Subject
from tests.app.conftest import VALLEY

DATA = {
    "loss": {"formula": "a*x**2/2 + z*x", "constants": {"a": 1.0}, "parameters": {"x": 1.0}, "noise": {"z": "normal"}},
    "optimizer": {"learning_rate": 0.25},
    "run": {"trajectories": 128, "steps": 8},
    "record": {"every": 2},
    "sweep": {"optimizer.learning_rate": [0.1, 0.2, 0.3, 0.4]},
    "predict": [
        {"id": "first-step", "resolution": "2%"},
        {"id": "momentum", "automatic": True},
        {"formula": "variance(x) = learning_rate/2; order=1; id=leading"},
        {"formula": "variance(x)/mean(x) = 5; expect=disagrees"},
    ],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder with two files of the same run, with and without kept predictions."""
    folder = tmp_path_factory.mktemp("kept")
    scenario = scenario_from(DATA, "trap", "here")
    for name, keep in (("with", True), ("without", False)):
        run_parts([scenario], folder / f"{name}.h5", device="python", keep_predictions=keep)
    return folder


@pytest.fixture
def asked(monkeypatch):
    """The ids of the claims that theory is asked about, in turn."""
    asked, tell = [], theory.predict

    def predict(sources, runs, *rest):
        if len(runs) <= 4:  # more are the points of a smooth curve
            asked.extend(one.id for one in sources)
        return tell(sources, runs, *rest)

    monkeypatch.setattr(kept_predictions.theory, "predict", predict)
    return asked


def test_what_is_kept_is_not_computed_again_and_is_the_same(files, asked):
    fresh = compare_file(files / "without.h5")
    asked.clear()
    kept = compare_file(files / "with.h5")
    assert asked == ["user-2"]  # a function of two moments of the user's formula has no plain form
    assert list(map(repr, kept.comparisons)) == list(map(repr, fresh.comparisons))
    assert kept.skipped == fresh.skipped
    assert {row.id for row in kept.comparisons} == {"first-step", "leading", "user-2"}


def test_an_answer_that_had_no_time_is_told_and_not_computed_again(asked, tmp_path):
    data = {**DATA, "predict": [{"id": "first-step", "budget": 1e-9}]}
    run_parts([scenario_from(data, "trap", "here")], tmp_path / "run.h5", device="python", keep_predictions=True)
    assert asked == ["first-step"]
    (skipped,) = compare_file(tmp_path / "run.h5").skipped
    assert skipped.reason.startswith("needs more than 1e-09 s")
    assert asked == ["first-step"]


def test_the_digest_leaves_it_out(files):
    kept, plain = (Ensemble.open(files / f"{name}.h5") for name in ("with", "without"))
    assert kept.digest() == plain.digest()
    assert "predicted" in kept
    assert "predicted" not in plain


def test_a_fault_of_theory_does_not_cost_the_run(monkeypatch, tmp_path):
    monkeypatch.setattr(kept_predictions.theory, "predict", lambda *_: 1 / 0)
    run_parts([scenario_from(DATA, "trap", "here")], tmp_path / "run.h5", device="python", keep_predictions=True)
    assert "predicted" not in Ensemble.open(tmp_path / "run.h5")


def test_a_figure_needs_no_theory(monkeypatch, tmp_path):
    """Though among what it predicts are distributions and functions of several moments."""
    monkeypatch.setattr(findings, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(findings, "_kept", itertools.count())
    ids = ["valley", "valley-energy", "equipartition", "correlations"]
    data = {**VALLEY, "run": {**VALLEY["run"], "trajectories": 64}, "predict": [{"id": id} for id in ids]}
    run_parts([scenario_from(data, "valley", "here")], tmp_path / "valley.h5", device="python", keep_predictions=True)
    plot_file(tmp_path / "valley.h5")  # which finds the curves between records
    monkeypatch.setattr(theory.Law, "evaluate", lambda *_: pytest.fail("theory was asked"))
    plot_file(tmp_path / "valley.h5", overwrite=True)
    assert {row.id for row in compare_file(tmp_path / "valley.h5").comparisons} == set(ids)


CALL = {"noise": {"z": "normal"}, "initial": {"x": 1.0}, "trajectories": 64, "steps": 8, "device": "python"}


def test_of_an_ensemble_in_memory_theory_is_asked_once(asked):
    ensemble = simulate("x**2/2 + z*x", learning_rate=[0.1, 0.2], **CALL)
    assert asked == []  # of laws that are tried on every run nobody has asked yet
    first = ensemble.compare()
    assert sorted(asked) == sorted(theory.AUTOMATIC)
    again = ensemble.compare()
    ensemble.plot(kind="sweep")
    assert len(asked) == len(theory.AUTOMATIC)
    assert list(map(repr, again.comparisons)) == list(map(repr, first.comparisons))
    assert again.skipped == first.skipped


def test_what_is_asked_for_in_python_is_told_before_the_run_and_once(asked):
    claims = ["valley", "variance(x)/mean(x) = 5"]
    ensemble = simulate("x**2/2 + z*x", learning_rate=[0.1, 0.2], predict=claims, **CALL)
    assert asked == ["valley", "user-1"]
    assert {row.id for row in ensemble.compare().comparisons} == {"valley", "user-1"}
    assert asked == ["valley", "user-1"]
    ensemble.compare(["momentum"])
    assert asked == ["valley", "user-1", "momentum"]


@pytest.mark.parametrize("rates", [0.1, [0.1, 0.2]])
def test_a_law_that_applies_nowhere_costs_no_run(monkeypatch, tmp_path, rates):
    monkeypatch.setattr(workflow, "simulate_scenario", lambda *_, **__: pytest.fail("simulated"))
    with pytest.raises(InputError, match=r"predict: heavy-tail applies to no run of this scenario: \w"):
        simulate(
            "x**2/2 + z*x",
            learning_rate=rates,
            predict=["valley", "heavy-tail"],
            save_scenario=tmp_path / "text.toml",
            **CALL,
        )
    scenarios = [scenario_from({**DATA, "predict": [{"id": "valley"}, {"id": "heavy-tail"}]}, "trap", "here")]
    with pytest.raises(InputError, match="heavy-tail applies to no run"):
        run_parts(scenarios, tmp_path / "run.h5", keep_predictions=True, must_apply=["heavy-tail"])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(pytest.fail.Exception, match="simulated"):  # a law of the file may apply nowhere
        run_parts(scenarios, tmp_path / "run.h5", keep_predictions=True)


def test_a_claim_has_the_id_of_its_place_whatever_was_kept_of_it():
    """Two claims of one id would be one test of their orders, and a wrong one would be hidden by a right one."""
    wrong, right = (f"variance(x) = {text}; order=1" for text in ("learning_rate", "learning_rate/2"))
    given = {**CALL, "trajectories": 20_000, "steps": 200, "device": "cpu", "learning_rate": [0.02, 0.03, 0.04, 0.05]}
    ensemble = simulate("x**2/2 + z*x", **given)
    fresh = ensemble.compare([wrong, right])
    copy = simulate("x**2/2 + z*x", **given)
    copy.compare([right])
    again = copy.compare([wrong, right])
    assert list(map(repr, again.comparisons)) == list(map(repr, fresh.comparisons))
    assert {"user-1", "user-2"} <= {row.id for row in again.comparisons}


@pytest.mark.parametrize("damage", ["claim", "row", "name"])
def test_damaged_predictions_are_computed_anew(files, damage):
    kept = Ensemble.open(files / "with.h5")
    names = {"claim": "prediction_claim", "row": "prediction_row", "name": "claim_asked"}
    values = {"claim": 99, "row": "[1, 2]", "name": "[]"}
    spoilt = np.array(kept[names[damage]]).astype(object)
    spoilt[0] = values[damage]
    made = replace(kept.variables[names[damage]], data=spoilt.astype(int if damage == "claim" else str))
    ensemble = Ensemble({**kept.variables, names[damage]: made}, kept.attributes)
    again, fresh = verdicts.compare_ensemble(ensemble), compare_file(files / "without.h5")
    assert list(map(repr, again.comparisons)) == list(map(repr, fresh.comparisons))


def test_a_law_that_applies_to_a_part_or_was_not_asked_for_is_not_refused():
    asked = [{"id": "momentum"}, {"id": "valley"}]
    rule = {"name": "momentum", "momentum": 0.5, "learning_rate": 0.25}
    scenarios = [
        replace(scenario_from({**DATA, **more, "predict": asked}, "trap", "here"), part=part)
        for part, more in {
            "rolls": {"optimizer": rule, "run": {"trajectories": 128, "steps": 80}},
            "slides": {},
        }.items()
    ]
    told = kept_predictions.told_before(scenarios, ["momentum", "valley"])
    assert [[bool(one.rows) for one in answers] for answers in told] == [[True, False], [False, True]]
    tried = scenario_from({**DATA, "predict": [{"id": "momentum", "automatic": True}]}, "trap", "here")
    assert kept_predictions.told_before([tried])[0][0].rows == []


def test_other_code_computes_it_again(files, monkeypatch):
    monkeypatch.setattr(kept_predictions, "answered_by", lambda: "other")
    scenario = scenario_from(DATA, "trap", "here")
    assert kept_predictions.kept(Ensemble.open(files / "with.h5"), scenario) == [None] * 4


def test_of_another_scenario_nothing_counts(files):
    """As of an ensemble whose scenario was corrected."""
    ensemble = Ensemble.open(files / "with.h5")
    attributes = {**ensemble.attributes, "scenario": str(ensemble.attributes["scenario"]).replace("a = 1.0", "a = 2.0")}
    assert attributes != ensemble.attributes
    edited = Ensemble(ensemble.variables, attributes)
    assert kept_predictions.kept(edited, scenario_from(DATA, "trap", "here")) == [None] * 4


def test_what_draws_curves_and_looks_for_laws_is_code_that_answers():
    files = {path.stem for path in findings._files()}
    assert {"along", "between", "kept_predictions", "verdicts"} <= files


def test_other_starts_are_looked_at_anew(monkeypatch, tmp_path):
    """Of the minimum first-step says nothing, since there the first step does nothing."""
    monkeypatch.setattr(findings, "cache_folder", lambda: tmp_path)
    found = []
    for start in (0.5, 1.0):
        loss = {"formula": "(u*w - 1)**2/2", "parameters": {"u": start, "w": 1.0}}
        scenario = scenario_from({**DATA, "loss": loss, "sweep": {}, "predict": []}, "valley", "here")
        found.append("first-step" in dict(verdicts._available(scenario)))
    assert found == [True, False]


def test_nothing_is_kept_of_code_of_the_user(monkeypatch, tmp_path):
    """Such as a distribution of noise that was added, of which no version is known."""
    monkeypatch.setattr(findings, "cache_folder", lambda: tmp_path)
    scenario, ensemble = scenario_from(DATA, "trap", "here"), Ensemble({}, {})
    told = kept_predictions.told_before([scenario])[0]
    monkeypatch.setattr(Run, "code", property(lambda _: [pytest.fail]))
    there = set(tmp_path.iterdir())
    assert kept_predictions.with_predictions(ensemble, scenario, told) is ensemble
    kept_predictions.curves(scenario, "numbers", [])
    verdicts._available(scenario)
    assert set(tmp_path.iterdir()) == there


def test_laws_are_looked_for_once_though_some_take_long(monkeypatch, tmp_path):
    monkeypatch.setattr(findings, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(findings, "_kept", itertools.count())  # a process keeps a hundred
    monkeypatch.setattr(verdicts, "_MOMENT", 0.0)
    scenario = scenario_from({**DATA, "sweep": {}, "predict": []}, "trap", "here")
    first = verdicts._available(scenario)
    assert any(slow for _, slow in first)
    monkeypatch.setattr(verdicts, "_takes_long", lambda *_: pytest.fail("looked for again"))
    assert verdicts._available(scenario) == first


def test_curves_are_computed_once(monkeypatch, tmp_path):
    monkeypatch.setattr(findings, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(findings, "_kept", itertools.count())  # a process keeps a hundred
    scenario = scenario_from({**DATA, "predict": [{"id": "valley"}]}, "trap", "here")
    first = kept_predictions.curves(scenario, "sweep", ["valley"])
    monkeypatch.setattr(kept_predictions, "_computed", lambda *_: pytest.fail("computed again"))
    again = kept_predictions.curves(scenario, "sweep", ["valley"])
    assert [(row.id, row.point, row.predicted) for row in again[1].predictions] == [
        (row.id, row.point, row.predicted) for row in first[1].predictions
    ]
    assert len(again[1].predictions) > 90
    assert [*again[1].sweep["optimizer.learning_rate"]] == [*first[1].sweep["optimizer.learning_rate"]]


@pytest.mark.parametrize("kind", ["sweep", "diagram"])
def test_only_what_is_drawn_is_asked_in_between(kind):
    """Of three claims one is about a parameter that is not shown; the figure is what it is when all are asked."""
    loss = {"formula": "k*x**2/2 + y**2/2 + z*x", "parameters": {"x": 1.0, "y": 1.0}, "noise": {"z": "normal"}}
    grid = {"optimizer.learning_rate": [0.1, 0.2], "loss.constants.k": [1.0, 2.0]}
    claims = ["mean(y) = 0.25; id=other", "mean(x) = learning_rate; id=mean", "variance(x) = k; id=spread"]
    data = {**DATA, "loss": {**loss, "constants": {"k": 1.0}}, "sweep": {"grid": grid}}
    scenario = scenario_from({**data, "predict": [{"formula": one} for one in claims]}, "trap", "here")
    ensemble = simulate_scenario(scenario, device="python")
    subject = Subject(ensemble, predictions_of(ensemble, scenario)[0], only=["x"])
    module = {"sweep": sweep, "diagram": diagram}[kind]
    assert module.drawn(subject) == {"mean", "spread"}
    few, all_of_them = (
        module.drawing(replace(subject, curves=kept_predictions.curves(scenario, kind, ids)[1]))
        for ids in (module.drawn(subject), ["other", "mean", "spread"])
    )
    assert repr(few) == repr(all_of_them)
    assert repr(few) != repr(module.drawing(subject))
