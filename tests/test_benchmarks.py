"""The benchmark runs, and notices a program that simulates something else. Nothing here looks at the clock."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import check, loss_table
from benchmarks.jobs import Job
from benchmarks.loss_table import LossResults
from benchmarks.losses import SETTINGS, VARIANTS, loss_job
from benchmarks.peers import PEERS
from benchmarks.peers.gradients import GRADIENTS, by_parameter, input_shape, vectors
from benchmarks.peers.our_losses import LOSSES
from benchmarks.tasks import Bench, Task, Timing, ratio
from sgdsim.vectors import coordinates, gather
from tests.test_catalogue_kernels import LANES, gradient

ROOT = Path(__file__).parent.parent
JOB = Job(20_000, 30)


def final(peer: str, job: Job = JOB, variant: str = "float64") -> check.Statistics:
    return check.statistics(PEERS[peer].models[job.model][variant](job, 1)())


@pytest.mark.validate
def test_quick_benchmark_runs(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "benchmark.md").read_text(encoding="utf-8").strip() == done.stdout.strip()
    report = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    compared = {timing["peer"]: timing for timing in report["timings"] if timing["largest_z"] is not None}
    assert compared.keys() == {name for name, peer in PEERS.items() if peer.installed}
    assert all(timing["largest_z"] <= check.Z_LIMIT and timing["wall_seconds"] for timing in compared.values())
    models = {timing["job"]["model"] for timing in report["timings"] if timing["peer"] == "NumPy"}
    assert models == {"river_valley", "rescaling", "permutation"}
    for name, peer in PEERS.items():
        assert peer.installed or name in done.stdout.split("skipped: ")[1]


@pytest.mark.parametrize("variant", ["float64", pytest.param("float32", marks=pytest.mark.validate)])
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


def draw(job: Job) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Parameters, inputs and label noise of each trajectory."""
    rng = np.random.default_rng(3)
    theta = {
        name: np.array([rng.normal(size=job.trajectories) for _ in np.atleast_1d(value)])
        for name, value in gather(job.initial).items()
    }
    theta = {name: value[0] if name in job.initial else value for name, value in theta.items()}
    return theta, rng.normal(size=input_shape(job)), rng.normal(size=job.trajectories)


@pytest.mark.validate
@pytest.mark.parametrize("model", SETTINGS)
def test_gradient_by_hand_is_that_of_the_catalogue(model):
    job = loss_job(model, LANES, 1)
    loss = LOSSES[model](job)
    theta, x, e = draw(job)
    by_hand = GRADIENTS[model](np, theta, x, e, vectors(np, job.constants, np.float64))
    inputs = dict(zip(coordinates("x", None if x.ndim == 1 else len(x)), np.atleast_2d(x), strict=True))
    expected = gradient(loss, {**by_parameter(theta, job), **inputs, "e": e})
    found = np.stack(list(by_parameter(by_hand, job).values()), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("model", SETTINGS)
def test_gradients_of_jax_agree(model):
    pytest.importorskip("jax")
    job = loss_job(model, 20_000, 20)
    for variant in PEERS["JAX"].models[model]:
        assert check.deviation(final("JAX", job, variant), final("NumPy", job)) <= check.Z_LIMIT


def loss_results() -> LossResults:
    """One loss that takes us one second a round, NumPy four, JAX by hand another distribution."""
    job = loss_job("permutation", 10, 10)
    seconds = {("sgdsim", "float64"): 1.0, ("NumPy", "float64"): 4.0, ("JAX", "by hand, float32"): 9.0}
    timings = {
        task: Timing(task, processor=[second, second], z=9.0 if task.peer == "JAX" else 1.0)
        for task, second in ((Task(*key, 1, job), second) for key, second in seconds.items())
    }
    alone = {
        task: Timing(task, processor=[second])
        for task, second in (
            (Task("sgdsim", variant, 1, job), second)
            for variant, second in (("float64", 3.0), ("polynomial", 1.0), ("recording", 3.15))
        )
    }
    return LossResults(timings, alone, {"permutation": 3.5})


def test_losses_are_held_against_their_bars():
    met = {bar.figure: (pytest.approx(bar.measured), bar.met) for bar in loss_table.bars(loss_results())}
    assert met == {
        "permutation: NumPy float64 / ours": (4.0, False),
        "permutation: ours / a polynomial": (3.0, False),
        "permutation: recording, on top": (5.0, True),
        "permutation: compilation": (3.5, True),
    }
    assert "| **4** |" in loss_table.report(loss_results())
    assert "**" not in loss_table.report(loss_results(), complete=False)


def test_variants_of_losses_are_known():
    for model, variants in VARIANTS.items():
        assert {"float64", *variants} <= PEERS["sgdsim"].models[model].keys()
