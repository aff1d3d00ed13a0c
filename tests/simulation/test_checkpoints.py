"""Checkpoints: whatever kills a run, and wherever, it goes on to the same bits."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgdsim.app.simulate import simulate
from sgdsim.app.workflow import resume_file, run_parts, run_scenario
from sgdsim.base import files, pieces
from sgdsim.base.errors import InputError, RunError
from sgdsim.base.hold import held
from sgdsim.ensemble import Ensemble
from sgdsim.input.loading import load_parts, load_scenario
from sgdsim.input.scenario import Scenario
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.simulation import checkpoints
from sgdsim.simulation.simulator import Simulator
from sgdsim.simulation.unfinished import folder_of
from tests.interrupted import interrupted
from tests.samples import daily

pytestmark = pytest.mark.filterwarnings("ignore:.*unstable")

ALL_RECORDERS = {
    "run.trajectories": 1500,
    "run.steps": 24,
    "run.seed": 5,
    "record.every": 8,
    "record.snapshots": [8, "final"],
    "record.covariances": True,
    "record.histograms": {"x": [-2, 2, 8], "x,y": [-2, 2, 4, 0, 2, 4]},
    "record.drift": {"x": {"bins": [-2, 2, 4]}},
    "sweep": {"optimizer.learning_rate": [0.1, 1e5]},
}
"""Two points of three blocks of two spans, everything that can be recorded, and trajectories that diverge."""


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every span of twelve steps, in small blocks."""
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    original = Simulator.cuts
    monkeypatch.setattr(Simulator, "cuts", lambda self, most=None, begin=0: original(self, 512, begin))
    spans = Simulator.spans
    monkeypatch.setattr(Simulator, "spans", lambda self, block, into, steps=None: spans(self, block, into, 12))


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return load_scenario("river_valley", ALL_RECORDERS)


@pytest.fixture(scope="module")
def uninterrupted(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("uninterrupted") / "run.h5"
    run_scenario(scenario, path, checkpoint_every="never")
    return Ensemble.open(path).digest()


def run(scenario: Scenario, path: Path, **options: Any) -> Ensemble:
    return run_scenario(scenario, path, **{"checkpoint_every": 1e-9, "threads": 1, **options})


EVENTS = {"span": (Simulator, "advance"), "fsync": (os, "fsync"), "rename": (os, "replace")}
"""Where a process can be killed: after a span, before a file is on the disk, and before it has its name."""


def killed_at(number: int, work: Callable[[], object]) -> bool:
    """Run something in a process of its own that is killed at its n-th event; whether it has lived to its end."""

    def child() -> None:
        left = number

        def watched(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*arguments, **named)

            return call

        for owner, name in EVENTS.values():
            setattr(owner, name, watched(getattr(owner, name)))
        work()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == 0


@pytest.mark.parametrize("every", daily([6, 3], 6))
def test_a_run_that_is_killed_anywhere_ends_with_the_same_bits(every, scenario, uninterrupted, tmp_path):
    """At one event of another after each start, until it is done: in all kinds of moments, and early and late ones."""
    kills = 0
    for first in range(0, 12, every):
        path, number = tmp_path / f"{first}.h5", first
        while not killed_at(number, lambda path=path: run(scenario, path, resume=True)):
            kills += 1
            number = first + 7 * (kills % 3) + 4
        assert Ensemble.open(path).digest() == uninterrupted
        assert not folder_of(path).exists()
    assert kills > 30 // every


def test_a_run_that_is_killed_after_its_file_is_written_is_finished(scenario, uninterrupted, tmp_path, monkeypatch):
    """Between the rename of the output and the end of the folder: nothing is computed again."""
    path = tmp_path / "run.h5"

    interrupt(scenario, path, monkeypatch, spans=3)

    def child() -> None:
        monkeypatch.setattr("sgdsim.simulation.unfinished._clear", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        run(scenario, path, resume=True)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert path.exists()
    assert list(folder_of(path).glob("*.state"))
    stamp = path.stat().st_mtime_ns
    monkeypatch.setattr(Simulator, "advance", lambda *arguments: pytest.fail("computed again"))
    assert run(scenario, path, resume=True).digest() == uninterrupted
    assert path.stat().st_mtime_ns == stamp
    assert not folder_of(path).exists()


def interrupt(scenario: Scenario, path: Path, monkeypatch: pytest.MonkeyPatch, spans: int, **options: Any) -> Path:
    """Leave a run that was interrupted in the span after so many; its folder."""
    with interrupted(monkeypatch, spans) as caught:
        run(scenario, path, **options)
    assert any("sgdsim resume" in note for note in caught.value.__notes__)
    return folder_of(path)


@pytest.mark.parametrize("spans", [0, 1, 5, 6, 11])
def test_an_interrupt_saves_what_is_done_and_the_run_goes_on_from_there(
    spans, scenario, uninterrupted, tmp_path, monkeypatch
):
    """Not only the checkpoint of a minute ago: not one span is done twice."""
    path = tmp_path / "run.h5"
    interrupt(scenario, path, monkeypatch, spans, checkpoint_every="1h")
    calls = []
    original = Simulator.advance
    monkeypatch.setattr(Simulator, "advance", lambda *arguments: (calls.append(1), original(*arguments))[1])
    assert resume_file(path)[0].digest() == uninterrupted
    assert len(calls) == 12 - spans - 1
    assert Ensemble.open(path).attributes["run_id"]
    assert [one.name for one in tmp_path.iterdir()] == ["run.h5"]


def test_a_short_run_that_is_interrupted_leaves_nothing(scenario, tmp_path, monkeypatch):
    original = Simulator.advance

    def advance(*arguments: Any) -> None:
        original(*arguments)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Simulator, "advance", advance)
    with pytest.raises(KeyboardInterrupt):
        run_scenario(scenario, tmp_path / "run.h5")
    assert not list(tmp_path.iterdir())


def test_a_call_from_python_goes_on_too(tmp_path, monkeypatch):
    """Also by the command that knows nothing but the file."""
    loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
    how: dict[str, Any] = {"learning_rate": 0.1, "initial": {"x": 1.0}, "trajectories": 1500, "steps": 24, "every": 8}
    expected = simulate(loss, **how).digest()
    for again in (lambda path: simulate(loss, **how, output=path, resume=True), lambda path: resume_file(path)[0]):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.h5"
        with interrupted(monkeypatch, 2):
            simulate(loss, **how, output=path, checkpoint_every="1h")
        assert again(path).digest() == expected == Ensemble.open(path).digest()
        assert again(path).digest() == expected  # which is read
    with pytest.raises(InputError, match="expected an output"):
        simulate(loss, **how, resume=True)


# Damage.


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize("damage", [flip, truncate, lambda path: path.write_bytes(b"")], ids=["flip", "cut", "empty"])
@pytest.mark.parametrize("kind", ["state", "done"])
def test_what_is_damaged_is_named_and_what_was_before_serves(
    kind, damage, scenario, uninterrupted, tmp_path, monkeypatch
):
    path = tmp_path / "run.h5"
    folder = interrupt(scenario, path, monkeypatch, spans=7)
    victim = sorted(folder.glob(f"*.{kind}"))[-1]
    damage(victim)
    with pytest.warns(RuntimeWarning, match=victim.name) as caught:
        assert resume_file(path)[0].digest() == uninterrupted
    assert len(caught) == 1  # it is named once


def test_what_is_left_of_another_run_is_not_taken_for_this_one(scenario, tmp_path, monkeypatch):
    """Where its folder could not be cleared: rows of another seed would be wrong numbers."""
    other = load_scenario("river_valley", {**ALL_RECORDERS, "run.seed": 6})
    left = interrupt(other, tmp_path / "other.h5", monkeypatch, spans=9)
    path = tmp_path / "run.h5"
    folder = interrupt(scenario, path, monkeypatch, spans=3)
    for piece in left.glob("*.done"):
        (folder / piece.name).write_bytes(piece.read_bytes())
    mine = run(scenario, tmp_path / "mine.h5").digest()
    assert resume_file(path)[0].digest() == mine


def test_without_any_whole_state_the_run_begins_again(scenario, uninterrupted, tmp_path, monkeypatch):
    path = tmp_path / "run.h5"
    folder = interrupt(scenario, path, monkeypatch, spans=7)
    for victim in folder.glob("*.state"):
        truncate(victim)
    with pytest.warns(RuntimeWarning, match=r"\.state"):
        assert run(scenario, path, resume=True).digest() == uninterrupted


def test_a_piece_that_would_be_believed_without_its_checksum_is_seen(tmp_path):
    """The negative control: the same change with a checksum to match is read, and is wrong."""
    pieces.write(tmp_path / "a", {}, {"state": np.ones(4)})
    content = bytearray((tmp_path / "a").read_bytes())
    content[-40] ^= 1
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(pieces.DamagedError, match=r"a: damaged"):
        pieces.read(tmp_path / "a")
    (tmp_path / "a").write_bytes(content[:-32] + hashlib.sha256(content[:-32]).digest())
    assert pieces.read(tmp_path / "a")[1]["state"].tolist() != [1.0] * 4


# Disks.


@pytest.mark.parametrize("problem", [errno.ENOSPC, errno.EROFS], ids=["full", "read-only"])
def test_a_full_disk_costs_checkpoints_and_not_the_run(problem, scenario, uninterrupted, tmp_path, monkeypatch):
    original = pieces.write

    def full(path: Path, *arguments: Any) -> None:
        with files.atomic_file(path) as temporary:
            temporary.write_bytes(b"half")
            raise OSError(problem, os.strerror(problem))

    path = tmp_path / "run.h5"
    monkeypatch.setattr(pieces, "write", full)
    with pytest.warns(RuntimeWarning, match=f"no checkpoint: .*{os.strerror(problem)}"):
        assert run(scenario, path).digest() == uninterrupted
    assert [one.name for one in tmp_path.iterdir()] == ["run.h5"]
    # Full for a while: what was not written then is written with the next.
    monkeypatch.setattr(pieces, "write", lambda *a: full(*a) if fail.pop() else original(*a))
    fail = [False] * 30 + [True] * 3 + [False] * 2
    with pytest.warns(RuntimeWarning, match=os.strerror(problem)):
        interrupt(scenario, tmp_path / "again.h5", monkeypatch, spans=9)
    assert resume_file(tmp_path / "again.h5")[0].digest() == uninterrupted


def test_a_disk_that_is_full_at_the_end_leaves_the_checkpoints(scenario, uninterrupted, tmp_path, monkeypatch):
    def full(*arguments: Any, **named: Any) -> None:
        raise RunError("writing failed: No space left on device")

    path = tmp_path / "run.h5"
    with monkeypatch.context() as patch:
        patch.setattr("sgdsim.app.workflow.save_parts", full)
        with pytest.raises(RunError) as caught:
            run(scenario, path)
    assert "sgdsim resume" in caught.value.__notes__[0]
    assert resume_file(path)[0].digest() == uninterrupted


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_becomes_read_only_costs_checkpoints_and_not_the_run(scenario, tmp_path, monkeypatch):
    path = tmp_path / "run.h5"
    original = Simulator.advance

    def advance(*arguments: Any) -> None:
        folder_of(path).chmod(0o500)
        original(*arguments)

    monkeypatch.setattr(Simulator, "advance", advance)
    with pytest.warns(RuntimeWarning, match=r"no checkpoint"):
        run(scenario, path)
    folder_of(path).chmod(0o700)


def test_what_takes_long_to_write_is_written_less_often(tmp_path, monkeypatch):
    """At most 2 % of the time: after one that has taken 3 s the next is 150 s later, however often they are wanted."""
    monkeypatch.setattr(checkpoints, "SHARE", 0.02)
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    kept = checkpoints.Checkpoints(tmp_path, 1, every=5.0)

    def slow(*arguments: Any) -> None:
        nonlocal now
        now += 3.0

    monkeypatch.setattr(pieces, "write", slow)
    written = []
    while now < 1000:
        now += 1.0
        if kept.is_due():
            kept.save({"part": 0, "point": 0, "step": 0}, {})
            written.append(now)
    assert np.diff(written).tolist() == [153.0] * (len(written) - 1)
    assert written[0] == 8.0  # 5 s, and 3 to write it


def test_a_clock_that_jumps_changes_nothing(scenario, uninterrupted, tmp_path, monkeypatch):
    """The time of day, back and forth by years; checkpoints go by a clock that only goes on."""
    jumps = iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: 1e9 * (-1) ** next(jumps))
    assert run(scenario, tmp_path / "run.h5", checkpoint_every="1h").digest() == uninterrupted


# Whose is it?


def test_two_runs_on_one_output_the_second_is_refused_by_name(scenario, tmp_path):
    path = tmp_path / "run.h5"
    folder_of(path).mkdir()
    with (
        held(folder_of(path) / "lock", "run.h5"),
        pytest.raises(InputError, match=f"is being written by process {os.getpid()} on "),
    ):
        run(scenario, path)
    assert not path.exists()


def test_checkpoints_of_another_scenario_are_refused_with_what_differs(scenario, tmp_path, monkeypatch):
    path = tmp_path / "run.h5"
    folder = interrupt(scenario, path, monkeypatch, spans=3)
    before = {one: one.read_bytes() for one in folder.iterdir()}
    other = load_scenario("river_valley", {**ALL_RECORDERS, "run.seed": 6})
    with pytest.raises(InputError, match=r"holds another scenario: run\.seed is 5 there and 6 here$"):
        run(other, path, resume=True)
    with pytest.raises(InputError, match=r"a run is not finished: --resume goes on with it, and --overwrite begins"):
        run(scenario, path)
    assert {one: one.read_bytes() for one in folder.iterdir()} == before
    assert run(other, path, overwrite=True).attributes["seed"] == "6"


@pytest.mark.parametrize("change", [{"version": "0.0.1"}, {"schema": 99}])
def test_checkpoints_of_another_version_or_schema_are_refused(change, scenario, tmp_path, monkeypatch):
    path = tmp_path / "run.h5"
    folder = interrupt(scenario, path, monkeypatch, spans=3)
    for one in folder.glob("*.state"):
        heading, arrays = pieces.read(one)
        pieces.write(one, {**heading, "run": {**heading["run"], **change}}, arrays)
    with pytest.raises(InputError, match=r"was begun by sgdsim .*, format .*, and this is"):
        resume_file(path)


def test_checkpoints_of_another_device_are_refused(scenario, tmp_path, monkeypatch):
    """Their floats may differ by rounding."""
    path = tmp_path / "run.h5"
    interrupt(scenario, path, monkeypatch, spans=3)
    with pytest.raises(InputError, match=r"computed on cpu, and here is python: choose with --device"):
        run(scenario, path, resume=True, device="python")


def test_there_must_be_something_to_resume(scenario, tmp_path):
    with pytest.raises(InputError, match=r"there is nothing to resume"):
        resume_file(tmp_path / "run.h5")
    run(scenario, tmp_path / "run.h5", resume=True)  # in a script that is started again and again: the first time
    stamp = (tmp_path / "run.h5").stat().st_mtime_ns
    assert len(resume_file(tmp_path / "run.h5")) == 1
    with pytest.raises(InputError, match=r"holds another scenario: run\.seed is 5 there and 6 here"):
        run(load_scenario("river_valley", {**ALL_RECORDERS, "run.seed": 6}), tmp_path / "run.h5", resume=True)
    assert (tmp_path / "run.h5").stat().st_mtime_ns == stamp


def test_a_log_has_a_line_a_checkpoint(scenario, tmp_path, monkeypatch):
    folder = interrupt(scenario, tmp_path / "run.h5", monkeypatch, spans=5)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    done = [line["done"] for line in lines]
    assert done == sorted(done)
    assert done[-1] == 6 * 12 * 512 - 12 * 2 * (3 * 512 - 1500)
    assert {line["total"] for line in lines} == {2 * 1500 * 24}


def test_parts_do_not_count_the_seconds_of_one_another(tmp_path):
    """A checkpoint says how long the whole run has taken, of which only what a resumed run took before is its own."""
    text = '[loss]\nformula = "x**2/2 + z*x"\nparameters = { x = 0.0 }\nnoise = { z = "normal" }\n'
    text += "[optimizer]\nlearning_rate = 0.1\n[run]\ntrajectories = 1500\nsteps = 24\n"
    (tmp_path / "parts.toml").write_text(text + "".join(f'[[part]]\nname = "part_{i}"\n' for i in range(4)))
    began = time.perf_counter()
    made = run_parts(load_parts(str(tmp_path / "parts.toml")), tmp_path / "run.h5", checkpoint_every=1e-9)
    took = time.perf_counter() - began
    assert sum(float(one.attributes["wall_seconds"]) for one in made) < took


@pytest.mark.validate
def test_a_process_that_is_killed_at_fifty_random_moments_ends_with_the_same_bits(tmp_path):
    """By the clock, from outside: in compiling, computing, writing a checkpoint, the final write or the rename."""
    arguments = [
        "run",
        "river_valley",
        "--trajectories",
        "3e5",
        "--set",
        "record.snapshots=[1000,2000]",
        "--no-compare",
    ]
    command = [sys.executable, "-m", "sgdsim", *arguments, "--quiet"]
    began = time.perf_counter()
    subprocess.run([*command, "-o", tmp_path / "whole.h5"], check=True)
    took = time.perf_counter() - began
    random, kills, number = np.random.default_rng(20251121), 0, 0
    whole = Ensemble.open(tmp_path / "whole.h5").digest()
    while kills < 50:
        path, number = tmp_path / f"{number}.h5", number + 1
        while True:
            process = subprocess.Popen([*command, "-o", path, "--resume", "--checkpoint-every", "0.1s"])
            try:
                process.wait(random.uniform(0.2, 1.2) * took)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
                continue
            assert process.returncode == 0
            break
        assert Ensemble.open(path).digest() == whole
        assert not folder_of(path).exists()
        path.unlink()


def test_many_rows_do_not_wait_for_the_next_checkpoint(scenario, uninterrupted, tmp_path, monkeypatch):
    """They are held in memory once more while they are written: here of every block, of which a point has three."""
    saved: list[int] = []
    original = checkpoints.Checkpoints.save

    def save(self: checkpoints.Checkpoints, *arguments: Any) -> None:
        saved.append(self.done)
        original(self, *arguments)

    monkeypatch.setattr(checkpoints.Checkpoints, "save", save)
    run(scenario, tmp_path / "few.h5", checkpoint_every="1h")
    assert not saved
    monkeypatch.setattr(checkpoints, "MOST_PENDING", 1000)
    run(scenario, tmp_path / "never.h5", checkpoint_every="never")
    assert not saved
    assert run(scenario, tmp_path / "many.h5", checkpoint_every="1h").digest() == uninterrupted
    assert len(saved) == 6
