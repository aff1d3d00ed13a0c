"""The benchmark runs, and notices a program that simulates something else. Nothing here looks at the clock."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import check, gpu, loss_table, planning, scaling
from benchmarks.jobs import Job
from benchmarks.loss_table import LossResults
from benchmarks.losses import ROWS, SETTINGS, VARIANTS, data, loss_job
from benchmarks.peers import GPU_PEERS, PEERS, numpy_losses, ours_cuda
from benchmarks.peers.gradients import GRADIENTS, by_parameter, vectors
from benchmarks.peers.our_losses import LOSSES
from benchmarks.tasks import Bench, Task, Timing, ratio
from benchmarks.worker import PeerError, Worker
from sgdsim.app.simulate import simulate
from sgdsim.formulas.arrays import shape_of
from sgdsim.formulas.vectors import coordinates, gather
from sgdsim.input.scenario import shipped
from tests.kernels.test_catalogue_kernels import LANES, gradient
from tests.samples import daily

ROOT = Path(__file__).parent.parent
JOB = Job(20_000, 30)
NEW = "two_layer_network", "adam_river_valley", "minibatches"


def final(peer: str, job: Job = JOB, variant: str = "float64") -> check.Statistics:
    return check.statistics(PEERS[peer].models[job.model][variant](job, 1)())


@pytest.mark.validate
def test_quick_benchmark_runs(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "benchmark.md").read_text(encoding="utf-8").strip() == done.stdout.strip()
    report = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert "Reference job" in (tmp_path / "benchmark.svg").read_text(encoding="utf-8")
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


def test_failing_program_is_named_and_the_others_go_on():
    right, broken = Task("NumPy", "float64", 1, JOB), Task("NumPy", "float16", 1, JOB)
    with Bench() as bench:
        timings = bench.measure([right, broken], 1)
    assert timings[broken].problem == "KeyError: 'float16'"
    assert len(timings[right].wall) == 1
    assert not timings[broken].wall


@pytest.mark.parametrize("model", daily(NEW, "minibatches"))
def test_numpy_and_naive_numba_do_the_same(model):
    job = loss_job(model, 5000, 32)
    assert check.deviation(final("naive numba", job), final("NumPy", job)) <= check.Z_LIMIT


@pytest.mark.parametrize("model", NEW)
def test_another_learning_rate_is_caught(model):
    job = loss_job(model, 20_000, 32)
    wrong = replace(job, learning_rate=1.1 * job.learning_rate)
    assert check.deviation(final("NumPy", wrong), final("NumPy", job)) > check.Z_LIMIT


def test_rows_drawn_with_replacement_are_caught(monkeypatch):
    job = loss_job("minibatches", 5000, 32)
    right = final("NumPy", job)

    def replaced(job, rng):
        x, y = data()
        for _ in range(job.steps):
            rows = rng.integers(ROWS, size=(4, job.trajectories))
            yield {"x": x.T[:, rows], "y": y[rows]}

    monkeypatch.setattr(numpy_losses, "batches", replaced)
    assert check.deviation(final("NumPy", job), right) > check.Z_LIMIT


def test_minibatches_need_whole_epochs():
    with pytest.raises(ValueError, match="expected a multiple of 16"):
        loss_job("minibatches", 10, 24)


def draw(job: Job) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Parameters, and noise of each trajectory."""
    rng = np.random.default_rng(3)
    shapes_of = {name: shape_of(value) for name, value in gather(job.initial).items()}
    theta = {name: rng.normal(size=(*shape, job.trajectories)) for name, shape in shapes_of.items()}
    shapes = SETTINGS[job.model].noise_shapes(job.trajectories)
    return theta, {name: rng.normal(size=shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(model, marks=() if model in NEW else pytest.mark.validate)
        for model in SETTINGS
        if model != "minibatches"
    ],
)
def test_gradient_by_hand_is_that_of_the_formula(model):
    job = loss_job(model, LANES, 1)
    loss = LOSSES[model](job)
    theta, noise = draw(job)
    by_hand = GRADIENTS[model](np, theta, vectors(np, job.constants, np.float64), **noise)
    by_name = {
        key: row
        for name, values in noise.items()
        for key, row in zip(
            coordinates(name, () if values.ndim == 1 else len(values)), np.atleast_2d(values), strict=True
        )
    }
    expected = gradient(loss, {**by_parameter(theta, job), **by_name})
    found = np.stack(list(by_parameter(by_hand, job).values()), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.validate
@pytest.mark.parametrize("model", NEW)
def test_ours_does_the_same(model):
    job = loss_job(model, 20_000, 32)
    assert check.deviation(final("sgdsim", job), final("NumPy", job)) <= check.Z_LIMIT


@pytest.mark.parametrize("peer", ["JAX", "PyTorch"])
@pytest.mark.parametrize("model", SETTINGS)
def test_peers_that_are_installed_agree(model, peer):
    pytest.importorskip(PEERS[peer].distribution)
    job = loss_job(model, 20_000, 32)
    expected = final("NumPy", job)
    for variant in PEERS[peer].models[model]:
        assert check.deviation(final(peer, job, variant), expected) <= check.Z_LIMIT


@pytest.mark.parametrize("peer", ["diffrax", "PyTorch"])
def test_peers_that_are_installed_agree_on_the_reference_job(peer):
    pytest.importorskip(PEERS[peer].distribution)
    expected = final("NumPy")
    for variant in PEERS[peer].models["river_valley"]:
        assert check.deviation(final(peer, JOB, variant), expected) <= check.Z_LIMIT


def loss_results() -> LossResults:
    """One loss: one second a round for us, half in float32, four for NumPy; JAX's `vmap` has another distribution."""
    job = loss_job("permutation", 10, 10)
    seconds = {
        ("sgdsim", "float64"): 1.0,
        ("sgdsim", "float32"): 0.5,
        ("NumPy", "float64"): 4.0,
        ("JAX", "by hand, float32"): 3.0,
        ("JAX", "vmap of grad, float32"): 9.0,
    }
    timings = {
        task: Timing(task, processor=[second, second], z=9.0 if "vmap" in task.variant else 1.0)
        for task, second in ((Task(*key, 1, job), second) for key, second in seconds.items())
    }
    alone = {
        task: Timing(task, processor=[second])
        for task, second in (
            (Task("sgdsim", variant, 1, job), second)
            for variant, second in (("float64", 3.0), ("polynomial", 1.0), ("recording", 3.15))
        )
    }
    return LossResults(timings, alone, {"permutation": 1.6, "diagonal_network": 3.5}, {"permutation": 2.0})


def test_losses_are_held_against_their_bars():
    met = {bar.figure: (pytest.approx(bar.measured), bar.met) for bar in loss_table.bars(loss_results())}
    assert met == {
        "permutation: NumPy float64 / ours": (4.0, False),
        "permutation: JAX by hand, float32 / ours": (3.0, False),
        "permutation: JAX by hand, float32 / ours in float32": (6.0, True),
        "permutation: ours / a polynomial": (3.0, False),
        "permutation: recording, on top": (5.0, True),
        "permutation: compilation": (1.6, False),
        "diagonal_network: compilation": (3.5, True),
        "permutation: compilation / first call of JAX": (0.8, True),
    }
    assert "| **4** |" in loss_table.report(loss_results())
    assert "**" not in loss_table.report(loss_results(), complete=False)


def test_a_parameter_of_a_large_network_is_held_against_one_of_a_small():
    timings = {}
    for model, second in (("linear_network_40", 1.0), ("linear_network_480", 24.0)):
        task = Task("sgdsim", "float64", 1, loss_job(model, 1000, 10))
        timings[task] = Timing(task, processor=[second])
    met = {bar.figure: (bar.measured, bar.met) for bar in loss_table.bars(LossResults(timings, {}))}
    assert met == {
        "linear_network_40: a parameter / one of the smallest": (1.0, True),
        "linear_network_480: a parameter / one of the smallest": (2.0, False),
    }


def test_variants_of_losses_are_known():
    for model, variants in VARIANTS.items():
        assert {"float64", *variants} <= PEERS["sgdsim"].models[model].keys()


def test_nothing_is_measured_without_a_gpu(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(gpu, "find", lambda: ({}, {"sgdsim": "RuntimeError: numba finds no GPU"}))
    assert gpu.main(True, None, tmp_path) == 0
    assert capsys.readouterr().out.startswith("Nothing was measured on a GPU.\nsgdsim: RuntimeError: numba finds no")
    assert not [*tmp_path.iterdir()]


def test_a_gpu_that_only_others_see_is_a_failure(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(gpu, "find", lambda: ({"JAX": "NVIDIA H100"}, {"sgdsim": "numba finds no GPU"}))
    assert gpu.main(True, None, tmp_path) == 1
    assert "Nothing was measured" in capsys.readouterr().out


def test_worker_without_a_gpu_says_so(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with Worker("sgdsim", device="cuda") as worker, pytest.raises(PeerError, match=r"GPU|device|driver"):
        worker.greeting()


def simulate_here(loss, optimizer, *, device, **options):
    """Stands in for a GPU."""
    assert device == "cuda"
    return simulate(loss, optimizer, device="python", **options)


def test_ours_on_a_gpu_is_compared_by_its_last_record(monkeypatch):
    monkeypatch.setattr(ours_cuda, "simulate", simulate_here)
    job = Job(1024, 8)
    run = GPU_PEERS["sgdsim"].models["river_valley"]["float32"](job, 1)
    assert check.deviation(check.statistics(run()), final("NumPy", job)) <= check.Z_LIMIT
    assert run.seconds > 0
    wrong = GPU_PEERS["sgdsim"].models["river_valley"]["noise off, float32"](job, 1)
    assert check.deviation(check.statistics(wrong()), final("NumPy", job)) > check.Z_LIMIT


class FakeBench:
    """Ends in what NumPy ends in, but for one program; ours takes one second, the others ten."""

    def prepare(self, timing: Timing) -> check.Statistics:
        timing.first = 2.0
        job = timing.task.job
        if timing.task.variant.startswith("vmap"):
            job = replace(job, learning_rate=2 * job.learning_rate)
        return final("NumPy", job)

    def warm_up(self, timing: Timing) -> None:
        assert not timing.wall

    def time(self, timings, rounds: int) -> None:
        for timing in timings:
            if not timing.problem:
                timing.wall = [1.0 if timing.task.peer == "sgdsim" else 10.0] * rounds


class FakePeer:
    """Stands in for JAX where it is not installed."""

    models = dict.fromkeys(("river_valley", *gpu.MODELS), ("by hand, float32", "vmap of grad, float32"))


def test_the_table_of_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "GPU_PEERS", {"sgdsim": GPU_PEERS["sgdsim"], "JAX": FakePeer})
    results = gpu.Results({"sgdsim": "NVIDIA H100", "JAX": "NVIDIA H100"}, {"PyTorch": "not installed"})
    plan = gpu.Plan((512, 16), (1000, 1_000_000_000, 1000), (1000, 1600, 1600), ((1000, 10), (2000, 10)), 2)
    gpu.measure(FakeBench(), plan, results)
    wrong = {timing.task.variant for timing in results.timings if timing.wrong}
    assert wrong == {"vmap of grad, float32"}
    bars = {bar.figure: (bar.measured, bar.met) for bar in gpu.bars(results)}
    assert bars == {
        "reference job, float32, 1e11 trajectory-steps a second": (pytest.approx(10.0), True),
        "full step / noise drawn and summed, float32": (1.0, True),
    }
    text = gpu.report(results)
    assert "| river_valley | JAX | vmap of grad, float32 | 1,000 | 1,000 | another distribution |" in text
    assert "| minibatches | JAX | by hand, float32 | 1,000 | 1,600 | 1.6e+05 (1.6e+05 … 1.6e+05) | 10 | 2.0 |" in text
    assert "PyTorch (not installed)" in text
    figure = pytest.importorskip("benchmarks.figure", reason="matplotlib")
    figure.draw(json.loads(json.dumps(gpu.data(results))), tmp_path / "a.svg")
    assert "NVIDIA H100" in (tmp_path / "a.svg").read_text(encoding="utf-8")


def test_bars_of_one_round_are_drawn():
    """Its median is its least and most but for rounding, which once made an error bar of negative length."""
    figure = pytest.importorskip("benchmarks.figure", reason="matplotlib")
    sheet = pytest.importorskip("matplotlib.figure").Figure()
    job = {"trajectories": 3, "steps": 7}
    seconds = [1e-9 * index for index in range(1, 40)]
    timings = [
        {"peer": "sgdsim", "variant": str(s), "nanoseconds": s * 1e9 / 21, "processor_seconds": [s], "job": job}
        for s in seconds
    ]
    assert any(timing["nanoseconds"] < figure._span(timing)[0] for timing in timings)
    figure._bars(sheet.subplots(), timings)


@pytest.mark.validate
def test_how_right_plans_are_is_measured(capsys):
    """At the smallest size; all ten scenarios are there."""
    rows = planning.main(["--quick"]).splitlines()
    assert rows[2].startswith("| river_valley | ")
    assert rows[-1].endswith(" of 1 within a factor of 1.5")
    assert len({*planning.SCENARIOS} & {*shipped()}) == 10
    assert capsys.readouterr().out.splitlines() == rows


@pytest.mark.validate
def test_scaling_is_measured(capsys):
    """At the smallest sizes: every number of workers and of shards has its row."""
    pytest.importorskip("distributed", reason="the extra distributed is not installed")
    text = scaling.main(["--quick"])
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    assert rows == ["workers", "---", "1", "2", "shards", "---", "1", "4", "8"]
    assert text.splitlines()[-1].startswith("a checkpoint every second costs ")
    assert capsys.readouterr().out.strip() == text
