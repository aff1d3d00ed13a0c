"""Starts: grids, points of level sets, the end of another file."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from sgdsim.app.workflow import run_scenario, scenario_from
from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble
from sgdsim.input.scenario import Scenario
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Grid, Stored, describe_snapshot, level_set, stored
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


# Grids.


@pytest.mark.parametrize(
    ("text", "grid"),
    [
        ("grid:-1,1", Grid(-1.0, 1.0, 0)),
        ("grid:-1,1,5", Grid(-1.0, 1.0, 5)),
        (" grid:2,0,2".strip(), Grid(2.0, 0.0, 2)),
        ("grid:0,1,1e2", Grid(0.0, 1.0, 100)),
    ],
)
def test_a_grid_is_read(text, grid):
    assert Grid.parse(text) == grid
    if grid.points:
        assert Grid.parse(str(grid)) == grid


@pytest.mark.parametrize(
    "text", ["grid:", "grid:1", "grid:1,2,1", "grid:1,2,2.5", "grid:1,2,3,4", "grid:a,b", "grid:0,inf", "grid:0,1,nan"]
)
def test_what_is_no_grid(text):
    with pytest.raises(InputError, match="expected grid:low,high or grid:low,high,points") as refused:
        Grid.parse(text, "run.initial.u")
    assert str(refused.value).startswith("run.initial.u: ")


@pytest.mark.parametrize("points", [2, 7, 256, 300])
def test_trajectories_start_on_the_grid(points):
    """One after the other, and again when the points are used up, over several tiles and blocks."""
    one = run(initial={"u": Grid(-1.5, 2.0, points), "w": 0.5})
    found = simulate_runs([one], scenario="", device="python", block_trajectories=256)
    expected = np.resize(np.linspace(-1.5, 2.0, points), N)
    np.testing.assert_allclose(found["theta"][0, :, 0], expected, rtol=0, atol=1e-15)
    assert (found["theta"][0, :, 1] == 0.5).all()


def test_a_grid_has_as_many_points_as_trajectories():
    assert Grid.parse("grid:0,1").over(11) == Grid(0.0, 1.0, 11, 11)
    assert Grid.parse("grid:0,1,5").over(11).points == 5
    assert Grid.parse("grid:0,1").over(1).values(0, 1).tolist() == [0.0]


def test_moments_of_a_grid_are_those_of_its_points():
    grid = Grid(1.0, 4.0, 7)
    points = np.linspace(1.0, 4.0, 7)
    centred = points - points.mean()
    assert [grid.moment(n) for n in range(5)] == pytest.approx([np.mean(points**n) for n in range(5)], rel=1e-14)
    fourth = np.mean(centred**4) - 3 * np.mean(centred**2) ** 2
    expected = [points.mean(), np.mean(centred**2), 0.0, fourth]
    assert [grid.cumulant(n) for n in range(1, 5)] == pytest.approx(expected, rel=1e-11, abs=1e-11)
    # Many points of an interval of width b - a: the uniform law, of variance (b - a)^2/12.
    assert Grid(0.0, 6.0, 10_001).cumulant(2) == pytest.approx(3.0, rel=1e-3)


# Level sets.


@pytest.mark.parametrize(
    ("charge", "product"), [(3.0, 2.0), (-3.0, 2.0), (0.0, -1.0), (5.0, 0.0), (0.0, 0.0), (-4.0, 0.0)]
)
def test_a_point_of_a_level_set_has_its_charge_and_product(charge, product):
    point = level_set(["a", "b"], f"level:{charge},{product}")
    assert list(point) == ["a", "b"]
    assert point["a"] >= 0
    assert point["a"] ** 2 - point["b"] ** 2 == pytest.approx(charge, abs=1e-12)
    assert point["a"] * point["b"] == pytest.approx(product, abs=1e-12)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["u"], "level:1,2"),
        (["u", "v", "w"], "level:1,2"),
        (["u", "w"], "level:1"),
        (["u", "w"], "level:1,2,3"),
        (["u", "w"], "level:a,b"),
        (["u", "w"], "level:nan,1"),
        (["u", "w"], "level:inf,1"),
    ],
)
def test_what_is_no_level_set(names, text):
    with pytest.raises(InputError, match="expected level:charge,product"):
        level_set(names, text)


# The end of another run.


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


def test_moments_of_a_grid_are_those_of_the_trajectories():
    """Of which the last ones may not go round once more."""
    grid = Grid.parse("grid:-1,1,1000").over(1500)
    assert grid.moment(1) == pytest.approx(grid.values(0, 1500).mean(), rel=1e-12)
    assert grid.moment(1) < -0.1
    assert Grid.parse("grid:-1,1,1000").over(500).cumulant(2) < 0.1


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


def test_a_level_set_starts_two_parameters(before):
    run = {"trajectories": 5, "initial": {"u,w": "level:3,2"}}
    data = {"loss": {"name": "rescaling"}, "optimizer": {"learning_rate": 0.1}, "run": {"steps": 4, **run}}
    (one,) = scenario_from(data, "level", "scenario").runs
    assert one.initial == {"u": 2.0, "w": 1.0}


@pytest.mark.parametrize("charge", [-1e8, -1e5, -1.0, 0.0, 1.0, 1e5, 1e8])
@pytest.mark.parametrize("product", [-2.0, -1e-3, 0.0, 1e-3, 1.0])
def test_a_level_set_keeps_both_numbers(charge, product):
    """Also where one of the two parameters is tiny and a difference would cancel."""
    u, w = level_set(["u", "w"], f"level:{charge!r},{product!r}").values()
    assert u >= 0
    assert u * u - w * w == pytest.approx(charge, rel=1e-12, abs=1e-12)
    assert u * w == pytest.approx(product, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("text", ["normal:0,1", "grid:-1,1"])
def test_other_starts_of_two_parameters_are_no_level_set(text):
    with pytest.raises(InputError, match="expected level:charge,product"):
        level_set(["u", "w"], text)
