"""The scripts for clusters in the documentation run as they stand, by a shell and by make in place of a cluster."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sgdsim
from sgdsim.app.cluster import merge_shards
from sgdsim.app.workflow import run_scenario
from sgdsim.ensemble import Ensemble
from sgdsim.input.loading import load_scenario
from sgdsim.simulation.memory_needs import output_bytes

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


@pytest.mark.validate
def test_the_array_job(whole, tmp_path):
    (tmp_path / "job.sh").write_text(block("bash"))
    for task in (1, 2, 3, 4):
        run(["bash", "job.sh"], tmp_path, SLURM_ARRAY_TASK_ID=str(task))
    assert merge_shards(tmp_path / "cluster")[0].digest() == whole


@pytest.mark.validate
@pytest.mark.skipif(shutil.which("snakemake") is None, reason="snakemake is not installed")
def test_the_snakefile(whole, tmp_path):
    (tmp_path / "Snakefile").write_text(block("snakemake"))
    run(["snakemake", "--cores", "2"], tmp_path)
    assert Ensemble.open(tmp_path / "snake.h5").digest() == whole


def test_the_script_for_jobqueue_calls_simulate_as_it_is():
    """Its queue is elsewhere; the call is ours."""
    (call,) = (
        one
        for one in ast.walk(ast.parse(block("py")))
        if isinstance(one, ast.Call) and ast.unparse(one.func) == "sgdsim.simulate"
    )
    given = {one.arg: None for one in call.keywords}
    inspect.signature(sgdsim.simulate).bind(*call.args, **given)


def test_the_bytes_on_paper():
    """Of 1e11 trajectories, without any of them: 100 records and two histograms of 100 bins are 5.7 MB."""
    how: dict[str, Any] = {"record.records": 100, "run.steps": 10_000, "predict": [], "record.observables": {}}
    how |= {"record.histograms": {"x": [-4, 4, 100], "y": [-4, 4, 100]}, "record.snapshots": []}
    (run,) = load_scenario("river_valley", {**how, "run.trajectories": 10**11}).runs
    assert run.measured == ("x", "y")
    records = len(run.recorder.record_steps(run.steps))
    assert records in (100, 101)
    assert output_bytes([run]) / records * 100 == 100 * 64 * (80 + 816)


@pytest.mark.validate
def test_the_makefile(whole, tmp_path):
    (tmp_path / "Makefile").write_text(block("make"))
    run(["make", "-j2", "made.h5"], tmp_path)
    assert Ensemble.open(tmp_path / "made.h5").digest() == whole
