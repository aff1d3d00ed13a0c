"""Watching a run from its checkpoints."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from sgdsim.app.peek import peek
from sgdsim.app.workflow import run_scenario
from sgdsim.base.errors import InputError
from sgdsim.base.hold import held
from sgdsim.input.loading import load_scenario
from sgdsim.simulation.simulator import Simulator
from sgdsim.simulation.unfinished import folder_of

SMALL = {"run.trajectories": 1000, "run.steps": 200, "record.every": 20}


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of which 100 of 200 steps are done."""
    path = tmp_path / "run.h5"
    spans = Simulator.spans

    def stopped(*arguments: Any) -> Any:
        for number, done in enumerate(spans(*arguments[:3], 20)):
            if number == 4:
                signal.raise_signal(signal.SIGINT)
            yield done

    with monkeypatch.context() as patch:
        patch.setattr(Simulator, "spans", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_scenario(load_scenario("river_valley", SMALL), path, checkpoint_every="1h")
    return path


def test_it_shows_progress_and_the_moments_that_were_reached(interrupted):
    """The same that the whole run has at this record, to the bit."""
    first, _, header, row, *_ = peek(interrupted).splitlines()
    assert f"{interrupted}: 50% of 2e+05 trajectory-steps after " in first
    assert "nobody computes it, sgdsim resume" in first
    assert header.split() == ["step", "trajectories", "mean", "variance"]
    ensemble = run_scenario(load_scenario("river_valley", SMALL), interrupted, resume=True)
    record = list(ensemble["record_step"]).index(100)
    mean, variance = (
        f"{ensemble[name][record, 0]:.6g} ± {ensemble[f'{name}_stderr'][record, 0]:.2g}"
        for name in ("mean", "variance")
    )
    assert row.split("  ") == ["x", *row.split("  ")[1:]]
    assert mean in row
    assert variance in row
    assert " 100 " in row
    assert "finished, 1,000 trajectories" in peek(interrupted)


def test_it_says_who_computes_it(interrupted, tmp_path):
    with held(folder_of(interrupted) / "lock", "run.h5"):
        assert f"being computed by process {os.getpid()} on " in peek(interrupted)
    new = tmp_path / "new.h5"
    folder_of(new).mkdir()
    with held(folder_of(new) / "lock", "new.h5"):
        assert "which has saved no checkpoint yet" in peek(new)


def test_there_must_be_something_to_see(tmp_path):
    with pytest.raises(InputError, match=r"run\.h5: no such file, and no checkpoints beside it"):
        peek(tmp_path / "run.h5")
