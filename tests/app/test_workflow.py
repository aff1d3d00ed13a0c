"""From a scenario to a file and from a file to a verdict."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from sgdsim.app import workflow
from sgdsim.app.workflow import compare_file, default_output, run_scenario
from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble
from sgdsim.input.loading import load_scenario
from sgdsim.input.scenario import Scenario
from sgdsim.theory import Law

VALLEY: dict[str, Any] = {
    "title": "A quadratic valley",
    "loss": {"name": "river_valley", "a": "a0", "c": "c2*y**2/2", "constants": {"a0": 1.0, "c2": 0.1, "sigma": 1.0}},
    "optimizer": {"learning_rate": 0.5},
    "run": {"trajectories": 2000, "steps": 40, "seed": 7, "initial": {"x": 0.0, "y": 1.0}},
    "predict": [{"id": "valley"}],
}


@pytest.fixture
def valley(tmp_path) -> Path:
    """A scenario file."""
    path = tmp_path / "valley.toml"
    path.write_text(toml.dumps(VALLEY), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """Its ensemble."""
    folder = tmp_path_factory.mktemp("output")
    path = folder / "valley.toml"
    path.write_text(toml.dumps(VALLEY), encoding="utf-8")
    run_scenario(load_scenario(path), folder / "out.h5")
    return folder / "out.h5"


def rows(scenario: Any) -> list[Any]:
    return workflow._predictions(scenario)[0]


# Loading.


def test_what_the_laws_need_is_recorded(valley):
    scenario = load_scenario(valley, {"predict": [{"id": "valley"}, {"id": "valley-energy"}]})
    (run,) = scenario.runs
    assert run.recorder.snapshots == (40,)
    assert [str(observable) for observable in run.recorder.observables] == ["a0*x**2/2"]


def test_predictions_of_the_command_line_stand_after_those_of_the_file(valley):
    scenario = load_scenario(valley, {}, ["mean(x) = 0; resolution=0.1", "mean(y) = 1; at=0"])
    assert [claim.source.id for claim in scenario.claims] == ["valley", "user-1", "user-2"]
    assert "resolution=0.1" in scenario.toml


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


def test_predictions_that_cannot_be_evaluated_are_refused_together(valley):
    claims = ["variance(q) = 1", "mean(x) = foo", "mean(x) = 1/(a0 - 1)", "mean(x) = 1; at=7", "mean(x) = a0"]
    with pytest.raises(InputError) as refused:
        load_scenario(valley, {}, claims)
    message = str(refused.value)
    assert message.startswith(f"{valley}:\n  prediction user-1: unknown observable 'q': known are x, y")
    assert "prediction user-2: unknown name 'foo'" in message
    assert "prediction user-3: division by zero" in message
    assert "prediction user-4: step 7 is not recorded; the nearest that is, is 0" in message
    assert "user-5" not in message


def test_formulas_that_are_no_number_are_refused(valley):
    loss = {"formula": "w*z", "parameters": {"w[2]": 0.5}, "noise": {"z": "normal"}}
    with pytest.raises(InputError, match=r"valley\.toml:\n  loss formula: a vector of 2 numbers"):
        load_scenario(valley, {"loss": loss, "run.initial": {}})


def test_an_observable_may_be_a_vector(valley):
    """Recorded entry by entry."""
    vector = {"loss.a": ["1", "2"], "run.initial": {"x": 0, "y": 0}, "loss.constants": {"c2": 1.0}}
    (run,) = load_scenario(valley, {**vector, "record.observables.u": "2*x"}).runs
    assert [one.name for one in run.recorder.observables] == ["u[0]", "u[1]"]


def test_a_constant_that_nothing_uses(valley):
    """Refused where it looks like a slip of one that is left at its default, else a warning."""
    with pytest.raises(InputError, match=r"loss\.constants\.sigam: unknown constant 'sigam': did you mean 'sigma'\?"):
        load_scenario(valley, {"loss.constants": {"a0": 1.0, "c2": 0.1, "sigam": 2.0}})
    with pytest.warns(RuntimeWarning, match="loss.constants.k: no formula uses it"):
        load_scenario(valley, {"loss.constants.k": 2.0})


@pytest.mark.parametrize(
    "overrides",
    [
        {"record.observables.u": "k*x"},
        {"predict": [{"formula": "mean(x) = k"}]},
        {"sweep": {"loss.a": ["a0", "k"]}},
        {"loss.a": ["a0", "k"], "run.initial": {"x": 0, "y": 0}},
    ],
)
def test_a_constant_may_be_used_anywhere(valley, overrides):
    load_scenario(valley, {"loss.constants.k": 2.0, **overrides})


# Running.


@pytest.fixture
def no_run(monkeypatch):
    """Whatever is refused is refused before anything runs."""
    monkeypatch.setattr(workflow, "simulate_runs", lambda *_, **__: pytest.fail("it ran"))


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("missing/out.h5", "there is no folder"),
        (".", "a folder"),
        ("valley.toml", "the file exists"),
        ("/proc/out.h5", "cannot write"),
    ],
)
@pytest.mark.usefixtures("no_run")
def test_an_output_is_checked_before_the_run(valley, path, problem, monkeypatch):
    monkeypatch.chdir(valley.parent)
    with pytest.raises(InputError, match=problem):
        run_scenario(load_scenario(valley), path)
    assert [entry.name for entry in valley.parent.iterdir()] == ["valley.toml"]


@pytest.mark.usefixtures("no_run")
def test_what_does_not_fit_on_the_disk_is_refused(valley, monkeypatch):
    usage = shutil.disk_usage(valley.parent)._replace(free=1000)
    monkeypatch.setattr(workflow.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"the file needs .* GB, 1e-06 GB are free"):
        run_scenario(load_scenario(valley), valley.parent / "out.h5")
    assert [entry.name for entry in valley.parent.iterdir()] == ["valley.toml"]


def test_the_default_folder_is_made(valley, monkeypatch):
    monkeypatch.chdir(valley.parent)
    scenario = load_scenario(valley)
    run_scenario(scenario)
    assert Path("results/valley.h5").is_file()
    assert default_output(scenario) == Path("results/valley.h5")
    with pytest.raises(InputError, match="the file exists"):
        run_scenario(scenario)
    assert Path("results/valley.h5").is_file()
    run_scenario(scenario, overwrite=True)


def test_the_default_folder_goes_again_if_nothing_comes_of_it(valley, monkeypatch):
    monkeypatch.chdir(valley.parent)
    with pytest.raises(InputError, match="--threads"):
        run_scenario(load_scenario(valley), threads=10**6)
    assert not Path("results").exists()
    Path("results").mkdir()
    with pytest.raises(InputError, match="--threads"):
        run_scenario(load_scenario(valley), threads=10**6)
    assert Path("results").is_dir()  # it was there


def test_a_default_folder_that_cannot_be_made(valley, monkeypatch):
    monkeypatch.chdir(valley.parent)
    Path("results").write_text("a file")
    with pytest.raises(InputError, match="results: cannot make this folder: File exists; choose another"):
        run_scenario(load_scenario(valley))


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


# Comparing.


def test_a_file_is_compared_alone(output, tmp_path):
    """Moved, renamed, without its scenario file."""
    shutil.copy(output, tmp_path / "moved.h5")
    report = compare_file(tmp_path / "moved.h5")
    assert report.scenario == "valley"
    assert report.comparisons
    assert not report.disagrees
    assert report.table() == compare_file(output).table()


def test_a_run_of_the_resolved_scenario_has_the_same_digest(output, tmp_path):
    ensemble = Ensemble.open(output)
    path = tmp_path / "again.toml"
    path.write_text(str(ensemble.attributes["scenario"]), encoding="utf-8")
    assert run_scenario(load_scenario(path), tmp_path / "again.h5").digest() == ensemble.digest()


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


def test_laws_are_sorted_out_from_claims(valley):
    scenario = load_scenario(valley, {}, ["mean(x) = 0"])
    assert [isinstance(claim.source, Law) for claim in scenario.claims] == [True, False]


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
    assert workflow._listed(range(25)) == f"{', '.join(map(str, range(20)))} and 5 more"


def test_neither_a_scenario_nor_a_start_is_replaced_by_the_run(valley):
    """Also of a resolved scenario, which holds no name but that of the states."""
    folder = valley.parent
    with pytest.raises(InputError, match=r"valley\.toml: is read for this"):
        run_scenario(load_scenario(valley), valley, overwrite=True)
    first = load_scenario(valley, {"run.trajectories": 8, "run.steps": 2, "record.snapshots": ["final"]})
    run_scenario(first, folder / "first.h5", device="python")
    started = load_scenario(
        valley, {"run.steps": 2, "run.from": str(folder / "first.h5"), "run.trajectories": 8, "run.seed": 9}
    )
    for scenario in (started, Scenario.parse(started.toml)):
        with pytest.raises(InputError, match=r"first\.h5: is read for this"):
            run_scenario(scenario, folder / "first.h5", overwrite=True)


def test_what_takes_long_is_told_on_standard_error(output, monkeypatch, capsys):
    compare_file(output)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sgdsim.base.budget.PATIENCE", -1.0)
    report = compare_file(output)
    lines = capsys.readouterr().err.splitlines()
    assert "computing what valley predicts …" in lines
    assert len(lines) == len(set(lines))
    assert report.comparisons
