"""From a file to a verdict."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from sgdsim.app.verdicts import compare_file, predictions_of
from sgdsim.app.workflow import run_scenario
from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble
from sgdsim.input.loading import load_scenario
from tests.app.conftest import VALLEY


def rows(scenario: Any) -> list[Any]:
    return predictions_of(Ensemble({}, {}), scenario)[0]


def test_a_resolution_holds_for_all_rows_of_a_law(valley):
    """A number as it is; a percentage of the predicted value, where there is one."""
    own = rows(load_scenario(valley))
    absolute = rows(load_scenario(valley, {"predict": [{"id": "valley", "resolution": 0.25}]}))
    relative = rows(load_scenario(valley, {"predict": [{"id": "valley", "resolution": " 2 % "}]}))
    assert {row.resolution for row in absolute} == {0.25}
    assert [row.resolution for row in relative] == [0.02 * abs(row.predicted) or row.resolution for row in own]
    assert any(row.predicted for row in own)
    assert any(not row.predicted for row in own)


def test_a_resolution_of_ones_own_prediction(valley):
    entries = [{"formula": "variance(x) = 0.5", "resolution": r} for r in (0.1, "10%")]
    assert [row.resolution for row in rows(load_scenario(valley, {"predict": entries}))] == [0.1, 0.05]


def test_a_file_is_compared_alone(output, tmp_path):
    """Moved, renamed, without its scenario file."""
    shutil.copy(output, tmp_path / "moved.h5")
    report = compare_file(tmp_path / "moved.h5")
    assert report.scenario == "valley"
    assert report.comparisons
    assert not report.disagrees
    assert report.table() == compare_file(output).table()


def changed(output: Path, path: Path, **attributes: Any) -> Path:
    ensemble = Ensemble.open(output)
    kept = {key: value for key, value in ensemble.attributes.items() if attributes.get(key, "") is not None}
    Ensemble(ensemble.variables, {**kept, **{k: v for k, v in attributes.items() if v is not None}}).save(path)
    return path


@pytest.mark.parametrize(
    ("scenario", "problem"),
    [
        (None, "holds no scenario, and so nothing to compare with"),
        ("", "the scenario in .*loss: is missing"),
        ("a = = 1", "the scenario in .*: not valid TOML"),
        ('[loss]\nname = "gone"\n[optimizer]\nlearning_rate = 1\n', "unknown loss 'gone'"),
        (toml.dumps({**VALLEY, "predict": [{"id": "NTL-99"}]}), "unknown law 'NTL-99'"),
        (toml.dumps({**VALLEY, "predict": [{"formula": "mean(q) = 1"}]}), "unknown observable 'q'"),
    ],
)
def test_a_file_whose_scenario_cannot_be_read(output, tmp_path, scenario, problem):
    path = changed(output, tmp_path / "changed.h5", scenario=scenario)
    with pytest.raises(InputError, match=f"(?s){problem}"):
        compare_file(path)


def test_a_law_that_holds_at_some_points_only(valley):
    """What it needs is recorded everywhere, and the other points are skipped with their reason."""
    sweep = {"loss.a": ["a0", "a0*(1 + x**2)"]}
    path = valley.parent / "out.h5"
    overrides = {"sweep": sweep, "predict": [{"id": "valley-energy"}], "run.trajectories": 600, "run.steps": 4}
    run_scenario(load_scenario(valley, overrides), path, device="python")
    report = compare_file(path)
    assert {row.point for row in report.comparisons} == {0}
    assert [(skipped.id, "point 1" in skipped.reason) for skipped in report.skipped] == [("valley-energy", True)]


def test_what_takes_long_is_told_on_standard_error(output, monkeypatch, capsys):
    compare_file(output)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sgdsim.base.budget.PATIENCE", -1.0)
    report = compare_file(output)
    lines = capsys.readouterr().err.splitlines()
    assert "computing what valley predicts …" in lines
    assert len(lines) == len(set(lines))
    assert report.comparisons
    compare_file(output, quiet=True)
    assert capsys.readouterr().err == ""
