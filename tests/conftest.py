"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sgdsim.losses.river_valley import river_valley
from sgdsim.noise import Noise
from sgdsim.optimizers import Optimizer
from sgdsim.run import Run
from sgdsim.schedules import Schedule

RIVER = {"a0": 1.0, "k": 0.5, "c2": 0.1, "sigma": 1.0}


@pytest.fixture(params=["python", "cpu"])
def target(request: pytest.FixtureRequest) -> str:
    """Every target that runs in this process; a kernel test that takes it covers them all."""
    return str(request.param)


@pytest.fixture
def river_run() -> Callable[..., Run]:
    """Makes runs of the river valley; keyword arguments replace fields of the run."""

    def make(**fields: Any) -> Run:
        defaults: dict[str, Any] = {
            "loss": river_valley(constants=RIVER),
            "optimizer": Optimizer(),
            "schedule": Schedule("0.1"),
            "initial": {"x": 0.5, "y": Noise.parse("normal:1,0.1")},
            "trajectories": 100,
            "steps": 40,
            "seed": 20251121,
        }
        return Run(**{**defaults, **fields})

    return make
