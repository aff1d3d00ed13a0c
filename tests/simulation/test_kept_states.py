"""Runs that are made longer or larger: the bits of one that was so from the start."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sgdsim.app.cli import main
from sgdsim.app.simulate import simulate
from sgdsim.app.workflow import resume_file, run_parts, run_scenario
from sgdsim.base import pieces
from sgdsim.base.errors import InputError, RunError
from sgdsim.ensemble import Ensemble
from sgdsim.input.loading import load_parts, load_scenario
from sgdsim.simulation import checkpoints
from sgdsim.simulation.kept_states import folder_of
from sgdsim.simulation.simulator import Simulator
from tests.simulation.test_checkpoints import ALL_RECORDERS, killed_at

pytestmark = pytest.mark.filterwarnings("ignore:.*unstable")

EXTENDED = {**ALL_RECORDERS, "record.snapshots": [8, "final"], "predict": []}
"""A last tile that is not full, sums of every kind, and trajectories that diverge."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Simulator.cuts
    monkeypatch.setattr(Simulator, "cuts", lambda self, most=None, begin=0: original(self, 512, begin))


def of(trajectories: int, steps: int) -> Any:
    return load_scenario("river_valley", {**EXTENDED, "run.trajectories": trajectories, "run.steps": steps})


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Digests of runs that were as long and as large from the start."""
    found: dict[tuple[int, int], str] = {}

    def digest(trajectories: int, steps: int) -> str:
        if (trajectories, steps) not in found:
            path = tmp_path_factory.mktemp("direct") / "run.h5"
            run_scenario(of(trajectories, steps), path, threads=1)
            found[trajectories, steps] = Ensemble.open(path).digest()
        return found[trajectories, steps]

    return digest


def extended(before: tuple[int, int], after: tuple[int, int], path: Path) -> str:
    run_scenario(of(*before), path, keep_state=True, threads=1)
    run_scenario(of(*after), path, resume=True, threads=1)
    return Ensemble.open(path).digest()


def test_a_run_is_made_longer_and_larger_to_the_same_bits(direct, tmp_path):
    """From a number of steps that is no multiple of four, and a last tile that is not full; then again."""
    path = tmp_path / "run.h5"
    assert extended((1500, 22), (2100, 22), path) == direct(2100, 22)
    run_scenario(of(2100, 35), path, resume=True, threads=1)
    assert Ensemble.open(path).digest() == direct(2100, 35)
    assert {one.name for one in tmp_path.iterdir()} == {"run.h5", "run.h5.kept"}
    run_scenario(of(2100, 35), path, overwrite=True, threads=1)
    assert not folder_of(path).exists()


@pytest.mark.validate
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1500, 24), (1500, 40)),
        ((1500, 24), (2100, 24)),
        ((1500, 22), (2100, 35)),
        ((1536, 24), (1537, 26)),
        ((100, 11), (600, 40)),
    ],
)
def test_any_run_is_made_longer_and_larger(before, after, direct, tmp_path):
    assert extended(before, after, tmp_path / "run.h5") == direct(*after)


LOSSES: dict[str, dict[str, Any]] = {
    "momentum and a path state": {
        "loss": "x**2/2 + z*x + (x - slow)**2/8",
        "state": {"slow": "slow + (x - slow)/16"},
        "momentum": 0.9,
        "observables": {"late": "window_mean(x*slow, 4, 9)"},
    },
    "adam, kicks and a first passage": {
        "loss": "x**2/2 + z*x",
        "optimizer": "adam:beta1=0.9,beta2=0.99",
        "stop": ["x > 1.2"],
        "snapshots": [8],
    },
    "batches of a data set in epochs": {
        "loss": "(x - y)**2/2",
        "data": {"y": [0.0, 1.0, -2.0, 3.0, 0.5]},
        "batch_size": 2,
        "sampling": "epoch",
    },
    "antithetic pairs": {"loss": "x**4/4 + z*x", "antithetic": True, "histograms": {"x": [-2, 2, 8]}},
}


@pytest.mark.parametrize("name", list(LOSSES)[:1])
def test_whatever_a_trajectory_remembers_goes_on(name, tmp_path):
    _goes_on(name, tmp_path)


@pytest.mark.validate
@pytest.mark.parametrize("name", list(LOSSES)[1:])
def test_whatever_else_a_trajectory_remembers_goes_on(name, tmp_path):
    _goes_on(name, tmp_path)


def _goes_on(name: str, tmp_path: Path) -> None:
    given = dict(LOSSES[name])
    noise = {"noise": {"z": "normal"}} if "z" in given["loss"] else {}
    how = {"initial": {"x": "normal"}, "learning_rate": 0.1, "every": 5, "device": "python", **noise, **given}
    loss, path = how.pop("loss"), tmp_path / "run.h5"
    simulate(loss, trajectories=260, steps=10, output=path, keep_state=True, **how)
    longer: dict[str, Any] = {"trajectories": 300, "steps": 19, **how}
    assert simulate(loss, output=path, resume=True, **longer).digest() == simulate(loss, **longer).digest()


def test_the_command_makes_it_longer(direct, tmp_path, monkeypatch):
    """`sgdsim resume FILE --steps N` takes the scenario as the file has it."""
    path = tmp_path / "run.h5"
    overrides = {**EXTENDED, "record.snapshots": [8], "sweep": {}}
    both = [load_scenario("river_valley", {**overrides, "run.steps": steps}) for steps in (20, 32)]
    run_scenario(both[0], path, keep_state=True, threads=1)
    done = []
    original = Simulator.advance
    monkeypatch.setattr(
        Simulator,
        "advance",
        lambda self, block, *rest: (done.append(block.step), original(self, block, *rest)),
    )
    command = ["resume", str(path), "--steps", "32", "--no-compare", "--quiet", "--threads", "1"]
    assert CliRunner().invoke(main, command).exit_code == 0
    assert done.count(0) == 1  # nothing is computed twice but the last tile, which is not full
    run_scenario(both[1], tmp_path / "direct.h5", threads=1)
    assert Ensemble.open(path).digest() == Ensemble.open(tmp_path / "direct.h5").digest()


@pytest.mark.parametrize("every", [40, pytest.param(9, marks=pytest.mark.validate)])
def test_an_extension_that_is_killed_anywhere_goes_on(every, direct, tmp_path, monkeypatch):
    """Also where the file is in its place already, and what is kept is not."""
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    path, number, kills = tmp_path / "run.h5", every, 0
    run_scenario(of(1500, 22), path, keep_state=True, threads=1)

    def work() -> None:
        run_scenario(of(2100, 35), path, resume=True, threads=1, checkpoint_every=1e-9)

    while not killed_at(number, work):
        kills += 1
        number += every
    assert kills >= 1
    assert Ensemble.open(path).digest() == direct(2100, 35)
    run_scenario(of(2100, 40), path, resume=True, threads=1)
    assert Ensemble.open(path).digest() == direct(2100, 40)
    assert {one.name for one in tmp_path.iterdir()} == {"run.h5", "run.h5.kept"}


TRAP: dict[str, Any] = {
    "loss": "x**2/2 + z*x",
    "noise": {"z": "normal"},
    "initial": {"x": 0.0},
    "learning_rate": 0.1,
    "trajectories": 300,
    "steps": 16,
    "device": "python",
}

CULPRITS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"learning_rate": "cosine:0.1,0.001"}, {"steps": 32}, "optimizer.learning_rate: refers to the number of steps"),
    ({"learning_rate": "0.1*(1 - t/N)"}, {"steps": 32}, "optimizer.learning_rate: refers to the number of steps"),
    ({"records": 4}, {"steps": 20}, "record.records: of 20 steps it is at step 5, of 16 it was not"),
    ({"every": 8}, {"steps": 32, "every": 4}, "record.every: of 32 steps it is at step 4, of 16 it was not"),
    ({}, {"steps": 32, "snapshots": [8]}, "record.snapshots: of 32 steps it is at step 8, of 16 it was not"),
    ({"every": 8}, {"every": 4}, "record.every: of 16 steps it is at step 4, of 16 it was not"),
    ({"every": 8}, {"every": 4, "trajectories": 40}, "record.every: of 16 steps it is at step 4, of 16 it was not"),
    ({}, {"snapshots": [8], "trajectories": 40}, "record.snapshots: of 16 steps it is at step 8, of 16 it was not"),
    ({"controls": ["x"]}, {"steps": 32}, "record.controls: look at the last step"),
    ({"initial": {"x": "grid:-1,1"}}, {"trajectories": 40}, "loss.parameters.x is 'grid:"),
    (
        {"observables": {"late": "window_mean(x, 8, 16)"}},
        {"steps": 32, "observables": {"late": "window_mean(x, 16, 32)"}},
        "holds another scenario: record.observables.late is 'window_mean(x, 8, 16)' there",
    ),
    ({}, {"steps": 12}, "run.steps: 12, expected at least the 16 of the run"),
    ({}, {"trajectories": 20}, "run.trajectories: 20, expected at least the 30 of the run"),
    ({}, {"steps": 32, "seed": 1}, "holds another scenario: run.seed is 0 there and 1 here"),
]


@pytest.mark.parametrize(("before", "after", "message"), CULPRITS)
def test_what_refers_to_the_number_of_steps_is_named(before, after, message, tmp_path):
    path, how = tmp_path / "run.h5", {**TRAP, "trajectories": 30, **before}
    simulate(output=path, keep_state=True, **how)
    there = content(tmp_path)
    with pytest.raises(InputError, match=re.escape(message)):
        simulate(output=path, resume=True, **{**how, **after})
    assert content(tmp_path) == there


def test_each_run_of_several_has_snapshots_of_its_own(tmp_path):
    path, last = tmp_path / "run.h5", {**TRAP, "steps": 4, "snapshots": [3], "trajectories": 400}
    simulate(output=path, keep_state=True, **{**TRAP, "steps": 4, "snapshots": [2, 3]})
    simulate(output=path, resume=True, **{**last, "trajectories": 350})
    assert simulate(output=path, resume=True, **last).digest() == simulate(**last).digest()


PARTS = """
title = "two"
loss = { formula = "x**2/2 + z*x", parameters = { x = 0.5 }, noise = { z = "normal" } }
optimizer = { learning_rate = 0.1 }
part = [
    { name = "a", run = { trajectories = 26, steps = %d }, record = { snapshots = [%s] } },
    { name = "b", run = { trajectories = %d, steps = 4 } },
]
"""


def test_one_part_of_several_is_made_longer(tmp_path):
    """What was kept of it after step 4 counts no more, though it is kept after step 4 again."""
    path, scenario = tmp_path / "run.h5", tmp_path / "two.toml"
    for numbers in ((4, "", 26), (6, "5", 26), (6, "5", 30)):
        scenario.write_text(PARTS % numbers)
        parts = load_parts(str(scenario))
        made = run_parts(parts, path, device="python", keep_state=True, resume=path.exists())
    direct = run_parts(parts, tmp_path / "direct.h5", device="python")
    assert [one.digest() for one in made] == [one.digest() for one in direct]


def content(folder: Path) -> dict[str, bytes]:
    return {str(one): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_a_run_that_was_not_kept_cannot_be_made_longer(tmp_path):
    path = tmp_path / "run.h5"
    simulate(output=path, **TRAP)
    there = content(tmp_path)
    for work in (
        lambda: resume_file(path, steps=32),
        lambda: simulate(output=path, resume=True, **{**TRAP, "steps": 32}),
    ):
        with pytest.raises(InputError, match="its states were not kept: a run with --keep-state"):
            work()
    with pytest.raises(InputError, match="is finished, and its states were not kept"):
        simulate(output=path, resume=True, keep_state=True, **TRAP)
    assert content(tmp_path) == there


def test_swept_steps_are_not_changed(tmp_path):
    path = tmp_path / "run.h5"
    simulate(output=path, keep_state=True, **{**TRAP, "steps": 4, "sweep": {"run.steps": [4, 8]}, "records": 2})
    with pytest.raises(InputError, match=r"--steps: 16, but .* has a sweep of run.steps"):
        resume_file(path, steps=16)


def test_states_without_their_file_stay(tmp_path):
    path = tmp_path / "run.h5"
    simulate(output=path, keep_state=True, **{**TRAP, "steps": 4})
    path.unlink()
    there = content(tmp_path)
    with pytest.raises(InputError, match="there is nothing to resume, neither the file"):
        resume_file(path, steps=8)
    with pytest.raises(InputError, match="there is nothing to resume, neither the file"):
        resume_file(tmp_path / "other.h5", steps=8)
    assert content(tmp_path) == there


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_state_that_is_damaged_is_named_and_the_file_stays(damage, tmp_path):
    path = tmp_path / "run.h5"
    simulate(output=path, keep_state=True, **TRAP)
    piece = next(folder_of(path).glob("*.done"))
    if damage == "missing":
        piece.unlink()
    else:
        piece.write_bytes(piece.read_bytes()[:-40] + bytes(40))
    there = content(tmp_path)
    with pytest.raises(InputError, match=re.escape(str(piece))):
        resume_file(path, steps=32)
    assert content(tmp_path) == there


@pytest.mark.filterwarnings("ignore:no checkpoint")
def test_a_full_disk_costs_the_states_and_not_the_file(tmp_path, monkeypatch):
    def full(*_: Any) -> None:
        raise RunError("full")

    path = tmp_path / "run.h5"
    monkeypatch.setattr(pieces, "write", full)
    with pytest.warns(RuntimeWarning, match="its states are not kept"):
        simulate(output=path, keep_state=True, **TRAP)
    monkeypatch.undo()
    assert Ensemble.open(path).digest() == simulate(**TRAP).digest()
    assert [one.name for one in tmp_path.iterdir()] == ["run.h5"]


@pytest.mark.parametrize(
    "command",
    [
        ["run", "river_valley", "--keep-state", "--shard", "1/2", "-o", "parts"],
        ["run", "river_valley", "--keep-state", "--dask", "local:1", "-o", "run.h5"],
        ["resume", "parts/1-of-2.shard", "--steps", "30"],
    ],
)
def test_states_of_shards_are_not_kept(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert "kept" in result.output
    assert not list(tmp_path.iterdir())
