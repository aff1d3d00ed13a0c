"""A run in shards: put together it is the run, bit by bit, and nothing else is taken for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from sgdsim.app.cluster import merge_shards, resume_shard, run_shard
from sgdsim.app.workflow import run_parts
from sgdsim.base import pieces
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble, open_parts
from sgdsim.input.loading import load_parts
from sgdsim.input.scenario import Scenario, shipped
from sgdsim.simulation import result_arrays
from sgdsim.simulation.shards import Shard
from tests.interrupted import interrupted

SETTINGS = {
    "run.trajectories": 20_000,  # 79 tiles: some groups have one, others two
    "run.steps": 12,
    "record.every": 4,
    "record.snapshots": [4, "final"],
    "record.covariances": True,
    "record.histograms": {"x": [-2, 2, 8]},
    "record.drift": {"x": {"bins": [-2, 2, 4]}},
    "sweep": {"optimizer.learning_rate": [0.1, 0.2]},
}


@pytest.fixture(scope="module")
def scenarios() -> list[Scenario]:
    return load_parts("river_valley", SETTINGS)


@pytest.fixture(scope="module")
def whole(scenarios: list[Scenario], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("whole") / "run.h5"
    run_parts(scenarios, path)
    return Ensemble.open(path).digest()


@pytest.fixture(scope="module")
def three(scenarios: list[Scenario], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three of three shards."""
    folder = tmp_path_factory.mktemp("three") / "run"
    for number in (2, 1, 3):
        run_shard(scenarios, f"{number}/3", folder)
    return folder


@pytest.mark.parametrize("of", [1, 5])
def test_merged_shards_are_the_run_to_the_bit(of, scenarios, whole, tmp_path):
    for number in range(of, 0, -1):  # in any order
        run_shard(scenarios, f"{number}/{of}", tmp_path / "run")
    ensemble = merge_shards(tmp_path / "run")[0]
    assert ensemble.digest() == whole
    assert Ensemble.open(tmp_path / "run.h5").digest() == whole
    assert ensemble.attributes["shards"] == of


def test_a_group_of_another_run_changes_the_digest(scenarios, whole, three, tmp_path):
    """The negative control: with one value of one group changed, and a checksum to match, merging gives another run."""
    folder = shutil.copytree(three, tmp_path / "run")
    heading, arrays = pieces.read(folder / "2-of-3.shard")
    arrays["0/0/moments"][0, 0, 0, 1] += 1e-12
    pieces.write(folder / "2-of-3.shard", heading, arrays)
    assert merge_shards(three, tmp_path / "same.h5")[0].digest() == whole
    assert merge_shards(folder)[0].digest() != whole


def test_every_group_of_every_point_is_in_one_shard():
    for points in ([1], [3], [2, 1, 4]):
        for of in (1, 2, 7, 64):
            found = [
                (part, point, group)
                for number in range(1, of + 1)
                for part, units in enumerate(Shard(number, of).units(points))
                for point, (low, high) in units
                for group in range(low, high)
            ]
            expected = [(a, b, c) for a, count in enumerate(points) for b in range(count) for c in range(64)]
            assert found == expected


def test_a_shard_that_is_interrupted_goes_on_to_the_same_bits(scenarios, whole, three, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with interrupted(monkeypatch, 3):
        run_shard(scenarios, "2/3", folder, checkpoint_every="1h")
    assert [path.name for path in folder.iterdir()] == ["2-of-3.shard.unfinished"]
    with pytest.raises(InputError, match="memory_limit: the run needs"):
        resume_shard(folder / "2-of-3.shard", memory_limit="1 B")
    resume_shard(folder / "2-of-3.shard")
    run_shard(scenarios, "2/3", folder, resume=True)  # which is there
    for number in (1, 3):
        shutil.copy(three / f"{number}-of-3.shard", folder)
    assert merge_shards(folder)[0].digest() == whole


def test_parts_of_a_scenario_are_in_shards_too(tmp_path):
    """More shards than one part has work for, and shards over the border of two parts."""
    text = shipped()["river_valley"].read_text()
    (tmp_path / "two.toml").write_text(f'{text}\n[[part]]\nname = "one"\n[[part]]\nname = "two"\n')
    scenarios = load_parts(tmp_path / "two.toml", {"run.trajectories": 600, "run.steps": 8})
    run_parts(scenarios, tmp_path / "one.h5")
    for number in (1, 2, 3):
        run_shard(scenarios, f"{number}/3", tmp_path / "run")
    merge_shards(tmp_path / "run")
    one, merged = (
        {part: ensemble.digest() for part, ensemble in open_parts(tmp_path / name).items()}
        for name in ("one.h5", "run.h5")
    )
    assert list(one) == ["one", "two"]
    assert one == merged


def test_snapshots_that_do_not_fit_are_merged_on_the_disk(whole, three, tmp_path, monkeypatch):
    made: list[Any] = []
    original = result_arrays._on_disk
    monkeypatch.setattr(result_arrays, "_on_disk", lambda *given: made.append(given) or original(*given))
    # Of which the snapshots are 1.3 MB more.
    assert merge_shards(three, tmp_path / "run.h5", memory_limit="1.2MB")[0].digest() == whole
    assert len(made) == 1
    with pytest.raises(InputError, match="GB of memory, and may take 1e-06 GB"):
        merge_shards(three, tmp_path / "no.h5", memory_limit=1000)
    assert not (tmp_path / "no.h5").exists()


# What is refused, with nothing changed.


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ("4/3", "expected a number from 1 to 3"),
        ("0/3", "expected a number from 1 to 3"),
        ("3", "expected a number and how many there are, such as 3/64"),
        ("1/129", "expected at most 128 shards, 64 a sweep point"),
    ],
)
def test_a_number_out_of_range_is_refused(shard, message, scenarios, tmp_path):
    with pytest.raises(InputError, match=message):
        run_shard(scenarios, shard, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_no_shard_chooses_its_own_device(scenarios, tmp_path):
    with pytest.raises(InputError, match="--device: 'auto', expected cpu or cuda"):
        run_shard(scenarios, "2/3", tmp_path / "run", device="auto")
    assert not list(tmp_path.iterdir())


def test_a_shard_keeps_to_the_memory_limit(scenarios, tmp_path):
    with pytest.raises(InputError, match="memory_limit: the run needs"):
        run_shard(scenarios, "2/3", tmp_path / "run", memory_limit="1 B")
    assert not list((tmp_path / "run").iterdir())


def test_missing_shards_are_named(three, tmp_path):
    folder = shutil.copytree(three, tmp_path / "run")
    (folder / "2-of-3.shard").unlink()
    with pytest.raises(InputError, match=r"run: 2-of-3\.shard missing$"):
        merge_shards(folder)
    for path in folder.glob("*.shard"):
        path.unlink()
    with pytest.raises(InputError, match="holds no shards"):
        merge_shards(folder)
    with pytest.raises(InputError, match="no such folder"):
        merge_shards(tmp_path / "none")
    assert not list(tmp_path.glob("*.h5"))


def test_shards_of_different_runs_are_not_merged(scenarios, three, tmp_path):
    folder = shutil.copytree(three, tmp_path / "run")
    (folder / "2-of-3.shard").unlink()
    run_shard(load_parts("river_valley", {**SETTINGS, "run.seed": 3}), "2/3", folder)
    with pytest.raises(InputError, match=r"2-of-3\.shard: holds another scenario: run\.seed is .* in 1-of-3\.shard$"):
        merge_shards(folder)
    (folder / "2-of-3.shard").unlink()
    run_shard(scenarios, "2/4", folder)
    with pytest.raises(InputError, match=r"is one of 4 shards, and 1-of-3\.shard one of 3"):
        merge_shards(folder)
    assert not list(tmp_path.glob("*.h5"))


def test_a_damaged_shard_is_named(three, tmp_path):
    folder = shutil.copytree(three, tmp_path / "run")
    content = bytearray((folder / "2-of-3.shard").read_bytes())
    content[5000] ^= 4
    (folder / "2-of-3.shard").write_bytes(content)
    with pytest.raises(InputError, match=r"2-of-3\.shard: damaged"):
        merge_shards(folder)
    assert not list(tmp_path.glob("*.h5"))


def test_an_existing_shard_is_not_replaced(scenarios, three, tmp_path):
    folder = shutil.copytree(three, tmp_path / "run")
    with pytest.raises(InputError, match="the file exists"):
        run_shard(scenarios, "2/3", folder)
    with pytest.raises(InputError, match=r"holds another scenario: run\.seed is"):
        run_shard(load_parts("river_valley", {**SETTINGS, "run.seed": 3}), "2/3", folder, resume=True)
