"""Estimates of what a run will take, from a second of it."""

from __future__ import annotations

import pytest

from sgdsim.app import plan as planning
from sgdsim.app.plan import Plan, plan
from sgdsim.app.workflow import run_scenario
from sgdsim.base.errors import InputError
from sgdsim.input.loading import load_parts, load_scenario

SMALL = {"run.trajectories": 4000, "run.steps": 100}


def test_a_plan_counts_what_there_is(tmp_path):
    made = plan(load_parts("river_valley", SMALL), workers=4, threads=1)
    assert (made.steps, made.shards, made.threads) == (400_000, 64, 1)
    run_scenario(load_scenario("river_valley", SMALL), tmp_path / "run.h5")
    assert 0.5 < made.memory / (tmp_path / "run.h5").stat().st_size < 1.1
    assert made.seconds == pytest.approx(400_000 / made.rate / 4)


def test_more_workers_than_shards_do_not_help():
    few, many = (Plan(10**9, 1e8, workers, 1, 64, 10, 1e8) for workers in (64, 1000))
    assert few.seconds == many.seconds
    assert "--shard 1/64 to --shard 64/64" in many.text()


def test_there_is_at_least_one_worker():
    with pytest.raises(InputError, match="--workers: 0, expected a whole number from 1"):
        plan(load_parts("river_valley", SMALL), workers=0)


@pytest.mark.validate
@pytest.mark.parametrize("name", ["river_valley", "heat_capacity", "equipartition"])
def test_the_time_is_right_within_a_factor(name, tmp_path):
    """Of 1.5 where nothing else runs; a test shares its machine, so of 2. A rate of twice the right one would fail."""
    scenarios = load_parts(name, {"run.trajectories": 1e6})
    expected = plan(scenarios).seconds
    took = sum(float(made.attributes["wall_seconds"]) for made in map_runs(scenarios, tmp_path))
    assert 0.5 < expected / took < 2
    assert took > planning.SECONDS


def map_runs(scenarios, folder):
    from sgdsim.app.workflow import run_parts

    return run_parts(scenarios, folder / "run.h5")
