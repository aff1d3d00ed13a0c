"""The scripts for clusters in the documentation run as they stand, by a shell and by make in place of a cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sgdsim.app.cluster import merge_shards
from sgdsim.app.workflow import run_scenario
from sgdsim.ensemble import Ensemble
from sgdsim.input.loading import load_scenario

PAGE = Path(__file__).parents[2] / "docs" / "long_runs.md"


def block(language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return text.replace("20_000", "2_000")


def run(command: list[str], folder: Path, **environment: str) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    subprocess.run(command, cwd=folder, env={**inherited, "PATH": path, **environment}, check=True)


@pytest.fixture
def whole(tmp_path: Path) -> str:
    return run_scenario(load_scenario("river_valley", {"run.trajectories": 2000}), tmp_path / "whole.h5").digest()


def test_the_array_job(whole, tmp_path):
    (tmp_path / "job.sh").write_text(block("bash"))
    for task in (1, 2, 3, 4):
        run(["bash", "job.sh"], tmp_path, SLURM_ARRAY_TASK_ID=str(task))
    assert merge_shards(tmp_path / "cluster")[0].digest() == whole


@pytest.mark.validate
def test_the_makefile(whole, tmp_path):
    (tmp_path / "Makefile").write_text(block("make"))
    run(["make", "-j2", "made.h5"], tmp_path)
    assert Ensemble.open(tmp_path / "made.h5").digest() == whole
