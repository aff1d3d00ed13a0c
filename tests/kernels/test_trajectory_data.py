"""Data sets of which each trajectory has its own, against NumPy, on every target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sgdsim
from sgdsim.app.loss_report import describe_loss
from sgdsim.app.verdicts import compare_file
from sgdsim.app.workflow import run_scenario
from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.input.scenario import Scenario
from sgdsim.model import rare_events
from sgdsim.model.data import MAX_CELLS, DrawnData
from sgdsim.model.loss import Loss
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.population_points import population_points
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import NotApplicable
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.theory.law import LAWS
from tests import naive

SEED, N, STEPS, ROWS, RATE = 23, 12, 7, 5, 0.2
DATA = DrawnData({"x[2]": "normal", "e": "normal:0.5,2"}, ROWS)
LOSS = Loss("(w@x - e)**2/2 + s*w[0]", ("w[0]", "w[1]"), {"s": 0.1}, data=DATA)


def make(sampling: str = "replacement", batch: int = 1, loss: Loss = LOSS, **others: Any) -> Run:
    observables = (Observable.parse("total", f"window_sum(e*x[0], 0, {STEPS})"),) if batch == 1 and loss is LOSS else ()
    recorder = Recorder(every=STEPS, observables=observables, snapshots=tuple(range(1, STEPS + 1)))
    optimizer = Optimizer(sampling=sampling, batch_size=batch)
    start = dict.fromkeys(loss.parameters, 1.0)
    return Run(loss, optimizer, Schedule(str(RATE)), start, N, STEPS, SEED, recorder, **others)


def own_data(rows: int, columns: int) -> np.ndarray:
    """Normals of the data of each trajectory, row by row, two of each pair of words: (trajectory, row, column)."""
    found = np.empty((N, -(-rows * columns // 4) * 4))
    for trajectory in range(N):
        for index in range(len(found[0]) // 4):
            w0, w1, w2, w3 = naive.block(SEED, 5, 0, trajectory, 0, index)
            pairs = *naive.normal_pair(w0, w1), *naive.normal_pair(w2, w3)
            found[trajectory, 4 * index : 4 * index + 4] = pairs
    return found[:, : rows * columns].reshape(N, rows, columns)


def rows_of(sampling: str, trajectory: int, step: int, batch: int) -> list[int]:
    if sampling == "replacement":
        return naive.rows_with_replacement(SEED, trajectory, step, ROWS, batch)
    if sampling == "batch":
        return naive.rows_without_replacement(SEED, trajectory, step, ROWS, batch)
    epoch, place = divmod(step, ROWS // batch)
    return naive.shuffled(SEED, trajectory, epoch, ROWS)[place * batch : (place + 1) * batch]


CASES = [("replacement", 1), ("replacement", 3), ("batch", 3), ("epoch", 2), ("epoch", 1)]


def expected(sampling: str, batch: int) -> np.ndarray:
    """All states, (step, trajectory, parameter), and the sum over the steps of what the sample has."""
    normals = own_data(ROWS, 3)
    x, e = normals[..., :2], 0.5 + 2 * normals[..., 2]
    w, path = np.ones((N, 2)), np.empty((STEPS, N, 3))
    total = np.zeros(N)
    for step in range(STEPS):
        for i in range(N):
            rows = rows_of(sampling, i, step, batch)
            residual = x[i, rows] @ w[i] - e[i, rows]
            total[i] += (e[i, rows] * x[i, rows, 0]).sum()
            w[i] = w[i] - RATE * (residual @ x[i, rows] / batch + [0.1, 0.0])
            path[step, i] = *w[i], total[i]
    return path


@pytest.mark.parametrize(("sampling", "batch"), CASES)
def test_each_trajectory_takes_rows_of_its_own(sampling, batch, target):
    """Drawn once, of a stream of their own, row by row; chosen by the words that choose rows of common data."""
    found, path = simulate_runs([make(sampling, batch)], scenario="", device=target), expected(sampling, batch)
    np.testing.assert_allclose(found["theta"], path[..., :2], rtol=1e-5, atol=1e-6)
    if batch == 1:
        np.testing.assert_allclose(found["mean"][-1, 2], path[-1, :, 2].mean(), rtol=1e-5)


@pytest.mark.parametrize("case", CASES[::2])
def test_python_and_the_cpu_have_the_same_bits(case):
    one, other = (simulate_runs([make(*case)], scenario="", device=name) for name in ("python", "cpu"))
    np.testing.assert_array_equal(one["theta"], other["theta"])


def test_a_mirrored_trajectory_has_the_mirrored_data(target):
    """Of a loss that is odd in them, and linear: it goes the other way, by the same rows."""
    loss = Loss("w*x", ("w",), data=DrawnData({"x": "normal:1,2"}, ROWS))
    found = simulate_runs([make("epoch", 2, loss, antithetic=True)], scenario="", device=target)
    theta = found["theta"][-1, :, 0]
    np.testing.assert_allclose(theta[::2] + theta[1::2] - 2, -2 * RATE * STEPS, rtol=1e-5)
    assert np.ptp(theta[::2]) > 0.1


WIDE = Loss(
    "norm2(W@x - e)/2",
    tuple(f"W[{i},{j}]" for i in range(4) for j in range(5)),
    data=DrawnData({"x[5]": "normal", "e": "normal:0,0.5"}, 6),
)


def test_matrices_read_them_in_loops(target):
    """The same as of few parameters, whose functions are printed otherwise."""
    found = simulate_runs([make("epoch", 2, WIDE)], scenario="", device=target)["theta"][-1].reshape(N, 4, 5)
    normals = own_data(6, 6)
    w = np.ones((N, 4, 5))
    for step in range(STEPS):
        for i in range(N):
            rows = naive.shuffled(SEED, i, step // 3, 6)[step % 3 * 2 :][:2]
            x, e = normals[i, rows, :5], 0.5 * normals[i, rows, 5]
            w[i] -= RATE * (w[i] @ x.T - e) @ x / 2
    np.testing.assert_allclose(found, w, rtol=1e-4, atol=1e-5)


def scenario(data: dict[str, Any], **others: Any) -> Scenario:
    tables = {
        "loss": {"formula": "(w - y)**2/2", "parameters": {"w": 0.0}, "data": data},
        "optimizer": {"learning_rate": 0.5, "batch_size": 8, "sampling": "batch"},
        "run": {"trajectories": 20_000, "steps": 60},
        **others,
    }
    return Scenario.of(tables, "own", "own")


def test_the_spread_of_least_squares_over_data_sets(tmp_path):
    """All 8 rows at once lead to their mean, whose variance is 1/8 of that of a row; the noise of steps is none."""
    made = scenario(
        {"y": "uniform:0,1", "rows": 8},
        predict=[
            {"formula": "mean(w) = 1/2; resolution=5%"},
            {"formula": "variance(w) = 1/12/8; resolution=10%"},
            {"formula": "variance(w) = 1/12/7", "expect": "disagrees"},
        ],
    )
    run_scenario(made, tmp_path / "own.h5")
    assert [row.outcome for row in compare_file(tmp_path / "own.h5").comparisons] == ["agrees"] * 3
    assert Scenario.parse(made.toml).runs == made.runs
    run = made.runs[0]
    assert Scenario.parse(toml.dumps(run.describe())).runs[0].loss.data == run.loss.data
    assert "8 rows of each trajectory, y ~ uniform:0.0,1.0" in describe_loss(run.loss)


def test_python_takes_them_as_a_table():
    given = {"initial": {"w": 0.0}, "learning_rate": 0.5, "trajectories": N, "steps": 1, "snapshots": [1], "seed": SEED}
    found = sgdsim.simulate("(w - y)**2/2", data={"y": "normal", "rows": 3}, **given)
    y = own_data(3, 1)[..., 0]
    chosen = [y[i, naive.rows_with_replacement(SEED, i, 0, 3, 1)[0]] for i in range(N)]
    np.testing.assert_allclose(found["theta"][0, :, 0], 0.5 * np.array(chosen), rtol=1e-5)


def test_laws_of_common_data_refuse():
    with pytest.raises(NotApplicable, match="each trajectory has its own x, e: the ensemble is a mixture"):
        LAWS["valley"].predictions(
            [make(loss=Loss("(w*x - e)**2/2", ("w",), data=DrawnData({"x": "normal", "e": "normal"}, 4)))]
        )
    with pytest.raises(InputError, match=r"each trajectory has its own rows of x\[0\]"):
        _ = LOSS.population
    with pytest.raises(InputError, match="each trajectory has its own rows of"):
        population_points(WIDE)


def test_what_is_random_of_them_is_known():
    """Full batches have no noise of steps, and yet no two trajectories are alike."""
    run = make("batch", ROWS, Loss("(w - y)**2/2", ("w",), data=DrawnData({"y": "bernoulli:0.01"}, ROWS)))
    told = rare_events.attributes([run])
    assert (told["certain"], told["rarest_noise"]) == ("", 0.05)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"y": "normal"}, "loss.data.rows: is missing, expected how many rows"),
        ({"y": "normal", "rows": 0}, "loss.data.rows: 0, expected 1 or more"),
        ({"y": "normal", "rows": 2.5}, "loss.data.rows"),
        ({"rows": 3}, "loss.data: there are no columns"),
        ({"y": "normla", "rows": 3}, "loss.data.y: unknown distribution 'normla': did you mean 'normal'"),
        ({"y": "normal", "x": [1.0, 2.0], "rows": 3}, r"loss.data.x: \[1.0, 2.0\], expected a distribution"),
        ({"y": "normal", "w": "normal", "rows": 3}, "'w' is both a parameter and a column of data"),
        ({"y": "normal", "rows": MAX_CELLS + 1}, "131073 values in each trajectory, expected at most 131072"),
        ({"y": "normal", "rows": 4}, "optimizer.batch_size: 8, expected an integer from 1 to 4"),
    ],
)
def test_bad_data_are_refused(data, problem):
    with pytest.raises(InputError, match=problem):
        _ = scenario(data).runs


def test_more_than_the_memory_holds_is_refused():
    run = make(loss=Loss("(w - y)**2/2", ("w",), data=DrawnData({"y": "normal"}, 1000)))
    with pytest.raises(InputError, match=r"128000 bytes of it are the data of the trajectories that run together"):
        simulate_runs([run], scenario="", device="cpu", memory_limit="100kB")
