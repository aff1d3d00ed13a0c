"""A scenario and its file, for the tests of what commands do with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sgdsim.app.workflow import run_scenario
from sgdsim.base import toml
from sgdsim.input.loading import load_scenario

VALLEY: dict[str, Any] = {
    "title": "A quadratic valley",
    "loss": {"name": "river_valley", "a": "a0", "c": "c2*y**2/2", "constants": {"a0": 1.0, "c2": 0.1, "sigma": 1.0}},
    "optimizer": {"learning_rate": 0.5},
    "run": {"trajectories": 2000, "steps": 40, "seed": 7, "initial": {"x": 0.0, "y": 1.0}},
    "predict": [{"id": "valley"}],
}


@pytest.fixture
def valley(tmp_path) -> Path:
    """A scenario file."""
    path = tmp_path / "valley.toml"
    path.write_text(toml.dumps(VALLEY), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """Its ensemble."""
    folder = tmp_path_factory.mktemp("output")
    path = folder / "valley.toml"
    path.write_text(toml.dumps(VALLEY), encoding="utf-8")
    run_scenario(load_scenario(path), folder / "out.h5")
    return folder / "out.h5"
