"""The benchmark runs, and notices a program that simulates something else. Nothing here looks at the clock."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import check
from benchmarks.jobs import Job
from benchmarks.peers import PEERS
from benchmarks.tasks import Bench, Task, Timing, ratio

ROOT = Path(__file__).parent.parent
JOB = Job(20_000, 30)


def final(peer: str, job: Job = JOB, variant: str = "float64") -> check.Statistics:
    return check.statistics(PEERS[peer].models[job.model][variant](job, 1)())


def test_quick_benchmark_runs(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "benchmark.md").read_text(encoding="utf-8").strip() == done.stdout.strip()
    report = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    compared = {timing["peer"]: timing for timing in report["timings"] if timing["largest_z"] is not None}
    assert compared.keys() == {name for name, peer in PEERS.items() if peer.installed}
    assert all(timing["largest_z"] <= check.Z_LIMIT and timing["wall_seconds"] for timing in compared.values())
    for name, peer in PEERS.items():
        assert peer.installed or name in done.stdout.split("skipped: ")[1]


@pytest.mark.parametrize("variant", ["float64", "float32"])
def test_right_program_passes(variant):
    assert check.deviation(final("sgdsim", variant=variant), final("NumPy")) <= check.Z_LIMIT


@pytest.mark.parametrize(
    "wrong",
    [
        replace(JOB, learning_rate=0.105),
        replace(JOB, constants={**JOB.constants, "sigma": 1.05}),
        replace(JOB, constants={**JOB.constants, "c2": 0.105}),
        replace(JOB, initial={"x": 0.6, "y": 1.0}),
    ],
)
def test_wrong_program_is_caught(wrong):
    assert check.deviation(final("sgdsim", wrong), final("NumPy")) > check.Z_LIMIT


def test_nothing_and_nan_are_no_agreement():
    right = check.statistics({"x": np.arange(10.0)})
    assert check.deviation(right, right) == 0
    assert check.deviation({}, {}) == np.inf
    assert check.deviation(right, {}) == np.inf
    assert check.deviation(check.statistics({"x": np.full(10, np.nan)}), right) == np.inf


def test_wrong_program_is_not_timed():
    reference, right = Task("NumPy", "float64", 1, JOB), Task("sgdsim", "float64", 1, JOB)
    wrong = replace(right, job=replace(JOB, learning_rate=0.11))
    with Bench() as bench:
        timings = bench.measure([reference, right, wrong], 1, reference)
    assert [timing.wrong for timing in timings.values()] == [False, False, True]
    assert [len(timing.wall) for timing in timings.values()] == [1, 1, 0]


def test_ratio_is_the_median_over_rounds():
    """A round in which everything is ten times as slow changes no ratio."""
    task = Task("sgdsim", "float64", 1, JOB)
    one, two = Timing(task, processor=[2.0, 20.0, 2.2]), Timing(task, processor=[1.0, 10.0, 1.0])
    assert ratio(one, two) == 2.0
