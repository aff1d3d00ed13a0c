"""Faults of a long run: each ends with exit code 2 and one sentence, and changes nothing on the disk."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sgdsim.app import dask_workers
from sgdsim.app.cli import main
from sgdsim.base import pieces
from sgdsim.simulation.simulator import Simulator
from sgdsim.simulation.unfinished import folder_of

RUN = ["run", "river_valley", "--trajectories", "600", "--steps", "8", "--quiet", "--no-compare", "--threads", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that was interrupted, and all shards of another."""
    folder = tmp_path_factory.mktemp("made")
    original = Simulator.advance

    def interrupted(*arguments: Any) -> None:
        original(*arguments)
        signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Simulator, "advance", interrupted)
        result = CliRunner().invoke(main, [*RUN, "-o", str(folder / "run.h5"), "--checkpoint-every", "1h"])
    assert result.exit_code == 130, result.output
    for number, seed in ((1, "0"), (2, "0"), (2, "1")):
        parts = folder / ("parts" if seed == "0" else "others")
        result = CliRunner().invoke(main, [*RUN, "--seed", seed, "--shard", f"{number}/2", "-o", str(parts)])
        assert result.exit_code == 0, result.output
    return folder


def _headed(**change: Any) -> Callable[[Path], None]:
    """Another heading of all checkpoints, with a checksum to match."""

    def damage(folder: Path) -> None:
        for path in folder_of(folder / "run.h5").glob("*.state"):
            heading, arrays = pieces.read(path)
            pieces.write(path, {**heading, "run": {**heading["run"], **change}}, arrays)

    return damage


def _another_run(folder: Path) -> None:
    shutil.copy(folder / "others" / "2-of-2.shard", folder / "parts" / "2-of-2.shard")


def _nothing(_: Path) -> None:
    """The folder as it is."""


CASES: dict[str, tuple[Callable[[Path], None], list[str], str]] = {
    "another scenario": (
        _nothing,
        [*RUN, "--seed", "3", "-o", "run.h5", "--resume"],
        "holds another scenario: run.seed",
    ),
    "another version": (_headed(version="0.0.1"), ["resume", "run.h5"], "was begun by sgdsim 0.0.1"),
    "another schema": (_headed(schema=99), ["resume", "run.h5"], "format 99"),
    "nothing to resume": (_nothing, ["resume", "other.h5"], "there is nothing to resume"),
    "a missing shard": (lambda at: (at / "parts/1-of-2.shard").unlink(), ["merge", "parts"], "1-of-2.shard missing"),
    "shards of different runs": (_another_run, ["merge", "parts"], "2-of-2.shard: holds another scenario: run.seed"),
    "a shard out of range": (
        _nothing,
        [*RUN, "--shard", "3/2", "-o", "parts"],
        "--shard: '3/2', expected a number from",
    ),
    "too many shards": (_nothing, [*RUN, "--shard", "1/65", "-o", "parts"], "expected at most 64 shards"),
    "no cluster": (_nothing, [*RUN, "--dask", "tcp://127.0.0.1:9", "-o", "new.h5"], "does not answer within"),
    "not longer": (_nothing, ["resume", "run.h5", "--steps", "16"], "run.steps is 8 there and 16 here"),
    "a small memory": (_nothing, ["merge", "parts", "--memory-limit", "1 B"], "memory_limit: the run needs"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_one_sentence_and_changes_nothing(case, made, tmp_path, monkeypatch):
    damage, command, message = CASES[case]
    if "--dask" in command:
        pytest.importorskip("distributed", reason="the extra distributed is not installed")
        monkeypatch.setattr(dask_workers, "ANSWERS", 0.5)
    _refused(shutil.copytree(made, tmp_path / "here"), damage, command, message, monkeypatch)


def test_without_dask_the_command_says_how_to_install_it(made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    command = [*RUN, "--dask", "local:2", "-o", "new.h5"]
    here = shutil.copytree(made, tmp_path / "here")
    _refused(here, _nothing, command, "pip install 'sgdsim[distributed]'", monkeypatch)


def _refused(
    here: Path, damage: Callable[[Path], object], command: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(here)
    monkeypatch.chdir(here)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
