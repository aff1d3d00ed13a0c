"""What theory says stands in the file that is compared: read again it is the same to the last bit, and no result."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdsim import theory
from sgdsim.app import kept_predictions, verdicts
from sgdsim.app.verdicts import compare_file, predictions_of
from sgdsim.app.workflow import run_parts, simulate_scenario
from sgdsim.base import findings
from sgdsim.ensemble import Ensemble
from sgdsim.input.loading import scenario_from
from sgdsim.plots import diagram, sweep
from sgdsim.plots.subject import Subject

DATA = {
    "loss": {"formula": "a*x**2/2 + z*x", "constants": {"a": 1.0}, "parameters": {"x": 1.0}, "noise": {"z": "normal"}},
    "optimizer": {"learning_rate": 0.25},
    "run": {"trajectories": 128, "steps": 8},
    "record": {"every": 2},
    "sweep": {"optimizer.learning_rate": [0.1, 0.2, 0.3, 0.4]},
    "predict": [
        {"id": "first-step", "resolution": "2%"},
        {"id": "momentum"},
        {"formula": "variance(x) = learning_rate/2; order=1; id=leading"},
        {"formula": "variance(x)/mean(x) = 5; expect=disagrees"},
    ],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same run, with what theory says of it and without."""
    folder = tmp_path_factory.mktemp("kept")
    scenario = scenario_from(DATA, "trap", "here")
    for name, keep in (("with", True), ("without", False)):
        run_parts([scenario], folder / f"{name}.h5", device="python", keep_predictions=keep)
    return folder


def test_what_is_kept_is_not_computed_again_and_is_the_same(files, monkeypatch):
    fresh = compare_file(files / "without.h5")
    asked = []
    tell = theory.predict
    monkeypatch.setattr(
        kept_predictions.theory, "predict", lambda sources, *rest: asked.append(sources[0].id) or tell(sources, *rest)
    )
    kept = compare_file(files / "with.h5")
    assert asked == ["user-2"]  # a function of two moments has no plain form
    assert list(map(repr, kept.comparisons)) == list(map(repr, fresh.comparisons))
    assert kept.skipped == fresh.skipped
    assert {row.id for row in kept.comparisons} == {"first-step", "leading", "user-2"}


def test_the_digest_leaves_it_out(files):
    kept, plain = (Ensemble.open(files / f"{name}.h5") for name in ("with", "without"))
    assert kept.digest() == plain.digest()
    assert "predicted" in kept
    assert "predicted" not in plain


def test_a_fault_of_theory_does_not_cost_the_run(monkeypatch, tmp_path):
    monkeypatch.setattr(kept_predictions.theory, "predict", lambda *_: 1 / 0)
    run_parts([scenario_from(DATA, "trap", "here")], tmp_path / "run.h5", device="python", keep_predictions=True)
    assert "predicted" not in Ensemble.open(tmp_path / "run.h5")


def test_other_code_computes_it_again(files, monkeypatch):
    monkeypatch.setattr(kept_predictions, "answered_by", lambda: "other")
    scenario = scenario_from(DATA, "trap", "here")
    assert kept_predictions.kept(Ensemble.open(files / "with.h5"), scenario) == [None] * 4


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


def test_laws_are_looked_for_once_though_some_take_long(monkeypatch, tmp_path):
    monkeypatch.setattr(findings, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(verdicts, "_MOMENT", 0.0)
    scenario = scenario_from({**DATA, "sweep": {}, "predict": []}, "trap", "here")
    first = verdicts._available(scenario)
    assert any(slow for _, slow in first)
    monkeypatch.setattr(verdicts, "_takes_long", lambda *_: pytest.fail("looked for again"))
    assert verdicts._available(scenario) == first


def test_curves_are_computed_once(monkeypatch, tmp_path):
    monkeypatch.setattr(findings, "cache_folder", lambda: tmp_path)
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
