"""From a scenario to a file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sgdsim.app import workflow
from sgdsim.app.workflow import default_output, run_scenario
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble
from sgdsim.input.loading import load_scenario
from sgdsim.input.scenario import Scenario
from sgdsim.theory import Law

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


def test_predictions_that_cannot_be_evaluated_are_refused_together(valley):
    claims = ["variance(q) = 1", "mean(x) = foo", "mean(x) = 1/(a0 - 1)", "mean(x) = 1; at=7", "mean(x) = a0"]
    with pytest.raises(InputError) as refused:
        load_scenario(valley, {}, claims)
    message = str(refused.value)
    assert message.startswith(f"{valley}:\n  prediction 'variance(q) = 1': unknown observable 'q': known are x, y")
    assert "prediction 'mean(x) = foo': unknown name 'foo'" in message
    assert "prediction 'mean(x) = 1/(a0 - 1)': division by zero" in message
    assert "prediction 'mean(x) = 1': step 7 is not recorded; the nearest that is, is 0" in message
    assert "mean(x) = a0" not in message


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


def test_a_run_of_the_resolved_scenario_has_the_same_digest(output, tmp_path):
    ensemble = Ensemble.open(output)
    path = tmp_path / "again.toml"
    path.write_text(str(ensemble.attributes["scenario"]), encoding="utf-8")
    assert run_scenario(load_scenario(path), tmp_path / "again.h5").digest() == ensemble.digest()


def test_laws_are_sorted_out_from_claims(valley):
    scenario = load_scenario(valley, {}, ["mean(x) = 0"])
    assert [isinstance(claim.source, Law) for claim in scenario.claims] == [True, False]


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
