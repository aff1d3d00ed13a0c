"""Runs that are made longer or larger: the bits of one that was so from the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sgdsim.app.workflow import resume_file, run_scenario
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble
from sgdsim.input.loading import load_scenario
from sgdsim.simulation import run_loop
from sgdsim.simulation.kept_states import folder_of
from tests.simulation.test_checkpoints import ALL_RECORDERS

pytestmark = pytest.mark.filterwarnings("ignore:.*unstable")

EXTENDED = {**ALL_RECORDERS, "record.snapshots": [8, "final"], "predict": []}
"""A last tile that is not full, sums of every kind, and trajectories that diverge."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    original = run_loop.Simulator.cuts
    monkeypatch.setattr(run_loop.Simulator, "cuts", lambda self, most=None, begin=0: original(self, 512, begin))


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
def test_a_run_is_made_longer_and_larger_to_the_same_bits(before, after, direct, tmp_path):
    path = tmp_path / "run.h5"
    run_scenario(of(*before), path, keep_state=True, threads=1)
    assert Ensemble.open(path).digest() == direct(*before)
    assert folder_of(path).is_dir()
    run_scenario(of(*after), path, resume=True, threads=1)
    assert Ensemble.open(path).digest() == direct(*after)
    assert {one.name for one in tmp_path.iterdir()} == {"run.h5", "run.h5.kept"}
