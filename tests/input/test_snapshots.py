"""Runs that go on where another one ended, and files that are no such start."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sgdsim.app.verdicts import compare_file
from sgdsim.app.workflow import run_scenario
from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble
from sgdsim.input.loading import scenario_from
from sgdsim.input.scenario import Scenario
from sgdsim.input.snapshots import describe_snapshot
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Grid, Stored, stored
from sgdsim.simulation.run_loop import simulate_runs

N = 300


def run(**fields) -> Run:
    given = {"initial": {"u": 1.0, "w": 0.5}, "trajectories": N, "steps": 4, "seed": 5}
    recorder = Recorder(snapshots=(0, 2, 4))
    return Run(CATALOGUE["rescaling"](), Optimizer(), Schedule("0.1"), **{"recorder": recorder, **given, **fields})


def simulated(**fields) -> Ensemble:
    return simulate_runs([run(**fields)], scenario="", device="python")


@pytest.fixture(scope="module")
def before(tmp_path_factory) -> Path:
    """A file whose trajectories all differ."""
    path = tmp_path_factory.mktemp("starts") / "before.h5"
    simulated(initial={"u": Noise.parse("normal:1,0.2"), "w": Noise.parse("normal:0,0.3")}).save(path)
    return path


def test_values_are_those_of_the_last_snapshot(before):
    theta = Ensemble.open(before)["theta"]
    starts = stored(describe_snapshot(before, None))
    assert list(starts) == ["u", "w"]
    assert all(isinstance(start, Stored) and start.step == 4 for start in starts.values())
    again = simulate_runs([run(initial=starts)], scenario="", device="python", block_trajectories=256)
    np.testing.assert_array_equal(again["theta"][0], theta[-1])
    assert np.abs(again["theta"][-1] - theta[-1]).max() > 1e-3


def test_the_first_trajectories_are_taken(before):
    theta = Ensemble.open(before)["theta"][-1, :100]
    starts = stored(describe_snapshot(before, 100))
    np.testing.assert_array_equal(simulated(initial=starts, trajectories=100)["theta"][0], theta)
    for i, start in enumerate(starts.values()):
        column = theta[:, i]
        assert [start.moment(n) for n in range(5)] == pytest.approx([np.mean(column**n) for n in range(5)], rel=1e-14)
        assert start.cumulant(1) == pytest.approx(column.mean(), rel=1e-14)
        assert start.cumulant(2) == pytest.approx(column.var(), rel=1e-11)
        assert start.cumulant(3) == pytest.approx(np.mean((column - column.mean()) ** 3), rel=1e-8, abs=1e-12)


def test_a_file_that_has_changed_is_refused(before, tmp_path):
    path = tmp_path / "other.h5"
    path.write_bytes(before.read_bytes())
    starts = stored(describe_snapshot(path, None))
    path.unlink()
    simulated(seed=6).save(path)
    with pytest.raises(InputError, match=r"run.from: .*other.h5 has changed since its snapshot was taken"):
        simulated(initial=starts)


def test_files_that_are_no_start_are_refused(before, tmp_path):
    """Too few trajectories, a diverged one, a sweep, no snapshots, something else."""
    with pytest.raises(InputError, match="holds 300 trajectories, expected at least 301"):
        describe_snapshot(before, 301)
    wild = tmp_path / "wild.h5"
    simulated(initial={"u": Noise.parse("normal:0,1e40"), "w": 1e40}).save(wild)
    with pytest.raises(InputError, match=r"run.from: trajectory \d+ of .*wild.h5 has diverged"):
        describe_snapshot(wild, None)
    sweep = tmp_path / "sweep.h5"
    simulate_runs([run(seed=1), run(seed=2)], scenario="", device="python", sweep={"run.seed": (1, 2)}).save(sweep)
    with pytest.raises(InputError, match="holds a sweep, expected a single run"):
        describe_snapshot(sweep, None)
    bare = tmp_path / "bare.h5"
    simulated(recorder=Recorder()).save(bare)
    with pytest.raises(InputError, match="holds no snapshots; record one with --snapshot final"):
        describe_snapshot(bare, None)
    for other in (tmp_path / "missing.h5", Path(__file__)):
        with pytest.raises(InputError, match=other.name):
            describe_snapshot(other, None)


def test_a_diverged_trajectory_beyond_those_that_are_taken_is_no_matter(tmp_path):
    path = tmp_path / "some.h5"
    found = simulated(initial={"u": Grid(0.0, 1e40, N), "w": 0.1})
    assert np.isfinite(found["theta"][-1, 0]).all()
    assert np.isnan(found["theta"][-1, -1]).all()
    found.save(path)
    assert describe_snapshot(path, 1)["trajectories"] == 1


def plant(path: Path, change: Callable[[h5py.File], object]) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def replaced(name: str, values: Any, *scales: str) -> Callable[[h5py.File], None]:
    """Other values in the place of a variable, on the axes of these names."""

    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = values
        for axis, scale in enumerate(scales):
            file[name].dims[axis].attach_scale(file[scale])

    return change


def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (attribute("scenario", "run = 1"), None),
        (attribute("scenario", "[run]\nfrom = 2"), None),
        (attribute("scenario", "[run.from]\nseeds = 7"), None),
        (attribute("scenario", "[run.from]\nseeds = ['x']"), "the seed 'x', expected a whole number of at most 64"),
        (attribute("scenario", "[run.from]\nseeds = [true, -1]"), "the seed True, expected a whole number"),
        (attribute("scenario", "run = "), "not valid TOML"),
        (attribute("scenario", "a." * 5000 + "b = 1"), None),
        (attribute("seed", "swept"), "has the seed 'swept', expected a whole number"),
        (attribute("seed", -1), "has the seed -1, expected"),
        (attribute("seed", 0.5), "has the seed 0.5, expected"),
        (attribute("seed", "9" * 5000), "has the seed '999"),
        (attribute("seed", str(2**64)), "has the seed '18446744073709551616', expected"),
        (attribute("seed", [1, 2]), "the seed '.1 2.', expected"),
        (lambda file: file.attrs.__delitem__("seed"), "has no seed, expected"),
        (lambda file: file.__delitem__("theta"), "holds no snapshots, expected theta"),
        (lambda file: file.__delitem__("snapshot_step"), "holds no snapshots, expected theta"),
        (replaced("theta", [[["a", "b"]] * 3] * 3, "snapshot", "trajectory", "parameter"), "length|theta is not as"),
        (replaced("theta", [["a", "b"]] * N, "trajectory", "parameter"), "theta is not as a run records it"),
        (replaced("theta", np.ones((N, 2)), "trajectory", "parameter"), "theta is not as a run records it"),
        (replaced("theta", np.ones((3, N, 2), int), "snapshot", "trajectory", "parameter"), "theta is not as a run"),
        (replaced("theta", np.full((3, N, 2), 1e99), "snapshot", "trajectory", "parameter"), "are too large"),
        (replaced("snapshot_step", ["a", "b", "c"], "snapshot"), "snapshot_step is not as a run records it"),
        (replaced("snapshot_step", [[1, 2, 3]], "record", "snapshot"), "length"),
    ],
)
def test_a_file_that_somebody_has_changed_is_used_or_refused(before, tmp_path, change, problem):
    """Its scenario, its seed, its states: whatever stands there, there is one sentence with the name of the file."""
    path = plant(tmp_path / shutil.copy(before, tmp_path / "crafted.h5"), change)
    if problem is None:
        assert describe_snapshot(path, None)["seeds"] == [5]
        return
    with pytest.raises(InputError, match=problem) as refused:
        describe_snapshot(path, None)
    assert "crafted.h5" in str(refused.value)
    assert "\n" not in str(refused.value)


# In scenarios.


def scenario(folder: Path, **sections: dict) -> Scenario:
    data = {
        "loss": {"name": "rescaling"},
        "optimizer": {"learning_rate": 0.1},
        "run": {"steps": 4, "seed": 9, "from": "before.h5"},
        "record": {"snapshots": [0, "final"]},
    }
    for name, section in sections.items():
        data[name] = {**data[name], **section}
    return scenario_from(data, "again", "scenario", folder=folder)


def test_the_scenario_says_where_the_start_comes_from(before):
    """File, digest, step, number and moments; the number of trajectories follows; the text alone suffices again."""
    one = scenario(before.parent)
    section = toml.loads(one.toml, "")["run"]["from"]
    assert section["file"] == str(before.resolve())
    assert (section["step"], section["trajectories"]) == (4, N)
    assert section["digest"] == describe_snapshot(before, None)["digest"]
    assert sorted(section["moments"]) == ["u", "w"]
    assert one.runs[0].trajectories == N
    again = Scenario.parse(one.toml)
    assert again.runs == one.runs
    found = simulate_runs(again.runs, scenario=one.toml, device="python")
    np.testing.assert_array_equal(found["theta"][0], Ensemble.open(before)["theta"][-1])
    assert toml.loads(str(found.attributes["scenario"]), "")["run"]["from"] == section


def test_initial_values_win_over_a_file(before):
    one = scenario(before.parent, run={"trajectories": 50, "initial": {"w": "grid:0,1"}})
    initial = one.runs[0].initial
    assert isinstance(initial["u"], Stored)
    assert initial["w"] == Grid(0.0, 1.0, 50, 50)
    assert one.runs[0].trajectories == 50


def test_noise_of_any_ancestor_is_refused(before):
    """A file that went on from another one names the seeds of both."""
    described = describe_snapshot(before, None)
    assert described["seeds"] == [int(h5py.File(before).attrs["seed"])]
    run_scenario(
        scenario(before.parent, run={"seed": 17}, record={"snapshots": ["final"]}),
        before.parent / "next.h5",
        device="python",
    )
    third = describe_snapshot(before.parent / "next.h5", None)
    assert third["seeds"] == [17, *described["seeds"]]
    for seed in third["seeds"]:
        with pytest.raises(InputError, match="whose noise would come again"):
            scenario(before.parent, run={"from": "next.h5", "seed": seed})
    assert scenario(before.parent, run={"from": "next.h5", "seed": 9}).runs[0].seed == 9


def test_a_description_is_of_as_many_trajectories(before):
    """Its moments would not be those of the run."""
    whole = scenario(before.parent)
    with pytest.raises(InputError, match=r"run\.from describes the first 300"):
        Scenario.parse(whole.toml, overrides={"run.trajectories": 100})
    parsed = Scenario.parse(toml.dumps(whole.runs[0].describe())).runs[0]  # what `simulate` would write
    assert parsed.describe() == whole.runs[0].describe()


def test_a_scenario_refuses_a_file_with_its_key(before):
    with pytest.raises(InputError, match=r"run.from: .*missing.h5: no such file"):
        scenario(before.parent, run={"from": "missing.h5"})
    with pytest.raises(InputError, match=r"run.from: .*holds 300 trajectories, expected at least 301"):
        scenario(before.parent, run={"trajectories": 301})


def test_a_file_of_other_parameters_is_refused(before):
    with pytest.raises(InputError, match="holds u, w, none of x, y"):
        scenario(before.parent, loss={"name": "river_valley"})


def test_a_comparison_needs_no_file_but_its_own(before, tmp_path):
    """Also of a law that would have to know all states at the start."""
    (tmp_path / "first.h5").write_bytes(before.read_bytes())
    one = scenario(tmp_path, run={"from": "first.h5"}, loss={"name": "rescaling"})
    one = scenario_from({**one.data, "predict": [{"id": "chain"}]}, "second", "scenario")
    run_scenario(one, tmp_path / "second.h5", device="python")
    (tmp_path / "first.h5").unlink()
    (skipped,) = compare_file(tmp_path / "second.h5").skipped
    assert "starts from the states in another file" in skipped.reason


def test_pairs_with_mirrored_noise_stay_pairs(before):
    """They depend on each other ever after: counted as independent, their errors would be wrong."""
    path = before.parent / "paired.h5"
    paired = {"antithetic": True, "seed": 18}
    run_scenario(scenario(before.parent, run=paired, record={"snapshots": ["final"]}), path, device="python")
    with pytest.raises(InputError, match=r"run\.antithetic: false, expected true: trajectories of run\.from are pairs"):
        scenario(before.parent, run={"from": "paired.h5"})
    again = scenario(before.parent, run={"from": "paired.h5", "antithetic": True})
    assert Scenario.parse(again.toml).runs == again.runs
    assert toml.loads(again.toml, "")["run"]["from"]["antithetic"]
    assert "antithetic" not in toml.loads(scenario(before.parent).toml, "")["run"]["from"]
    assert Scenario.parse(toml.dumps(again.runs[0].describe())).runs[0].describe() == again.runs[0].describe()
