"""Starts that are given trajectory by trajectory, from Python and from a file, and starts of the optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import sgdsim
from sgdsim.app.simulate import simulate
from sgdsim.app.verdicts import compare_file
from sgdsim.app.workflow import run_scenario
from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.input.file_references import move_files
from sgdsim.input.scenario import Scenario
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Grid
from sgdsim.prediction import NotApplicable
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.theory.law import LAWS
from tests import naive

N = 300  # in two tiles
VALUES = np.linspace(-1, 2, N) ** 3
LOSS = sgdsim.Loss("(x - z)**2/2 + a*y**2/2", ("x", "y"), {"a": 0.5}, {"z": Noise.parse("normal")})


def test_an_array_is_one_value_a_trajectory(target):
    starts = {"x": VALUES, "y": [1.0] * N}
    arguments = {"initial": starts, "trajectories": N, "steps": 2, "snapshots": [0, 2], "seed": 4, "device": target}
    ensemble = simulate(LOSS, learning_rate=0.2, **arguments)
    np.testing.assert_array_equal(ensemble["theta"][0], np.stack([VALUES, np.ones(N)], axis=1))
    x = VALUES
    for xi in naive.gradient_normals(4, N, 2):
        x = 0.8 * x + 0.2 * xi
    np.testing.assert_allclose(ensemble["theta"][1, :, 0], x, atol=1e-6)
    read = Scenario.parse(str(ensemble.attributes["scenario"])).runs[0]
    assert read.initial["x"].moment(2) == pytest.approx((VALUES**2).mean())
    with pytest.raises(InputError, match="the values of an array are not in the scenario"):
        simulate_runs([read], scenario="", device="python")


MATRIX = [[1.0, -2.0], [0.5, 3.0]]
MATRICES = np.arange(4.0 * 50).reshape(50, 2, 2) / 7
FORMULA = "norm2(W@x)/2"
OF_MATRIX = {"learning_rate": 0.1, "trajectories": 50, "steps": 1, "snapshots": [0, 1], "device": "python"}


def started(loss: Any, initial: dict[str, Any]) -> sgdsim.Ensemble:
    more = {} if isinstance(loss, sgdsim.Loss) else {"noise": {"x[2]": "rademacher"}}
    return simulate(loss, initial=initial, **more, **OF_MATRIX)


def losses() -> list[Any]:
    signs = dict.fromkeys(("x[0]", "x[1]"), Noise.parse("rademacher"))
    return [FORMULA, sgdsim.Loss(FORMULA, ("W[2,2]",), noise=signs)]


@pytest.mark.parametrize("name", ["W", "W[2,2]", "W[2, 2]"])
@pytest.mark.parametrize("loss", losses(), ids=["formula", "loss"])
def test_a_matrix_of_starts_is_for_all_trajectories_or_for_each(loss, name):
    for given in (MATRIX, np.array(MATRIX), MATRICES, MATRICES.tolist()):
        ensemble = started(loss, {name: given})
        np.testing.assert_array_equal(ensemble.parameter("W")[0], np.broadcast_to(given, (50, 2, 2)))
    again = started(loss, {name: ensemble.parameter("W")[-1]})
    np.testing.assert_array_equal(again.parameter("W")[0], ensemble.parameter("W")[-1])


@pytest.mark.parametrize("loss", losses(), ids=["formula", "loss"])
def test_an_entry_has_a_start_of_each_trajectory(loss):
    found = started(loss, {"W[2,2]": 0.0, "W[0,1]": np.arange(50)}).parameter("W")[0]
    np.testing.assert_array_equal(found[:, 0, 1], np.arange(50))
    assert np.count_nonzero(found) == 49


def test_vectors_of_starts():
    vectors = MATRICES.reshape(100, 2)[:50]
    for name, given in (("w[2]", vectors), ("w[2]", [1.0, 2.0]), ("w", [1, "normal:2,0"])):
        arguments: Any = {"initial": {name: given}, "noise": {"x[2]": "rademacher"}}
        found = simulate("dot(w, x)", **arguments, **OF_MATRIX).parameter("w")[0]
        wanted = np.broadcast_to(vectors if given is vectors else [1.0, 2.0], (50, 2))
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("initial", "problem"),
    [
        ({"W[2,2]": MATRICES[:40]}, "run.initial.W: 40 values, expected 50, one a trajectory"),
        ({"W[2,2]": 0.0, "W[0,1]": np.ones(7)}, "run.initial.W[0,1]: 7 values, expected 50, one a trajectory"),
        ({"W[2,2]": np.ones((2, 3))}, "W[2,2]: a matrix of 2 by 3, expected a matrix of 2 by 2"),
    ],
)
@pytest.mark.parametrize("loss", losses(), ids=["formula", "loss"])
def test_a_matrix_of_starts_of_another_shape_is_refused_once(loss, initial, problem):
    with pytest.raises(InputError) as caught:
        started(loss, initial)
    assert problem in str(caught.value)
    assert str(caught.value).count("expected") == 1


def test_a_start_beside_a_table_of_parameters_takes_its_place():
    table = {"formula": FORMULA, "parameters": {"W[2,2]": 1.0}, "noise": {"x[2]": "rademacher"}}
    found = simulate(table, initial={"W[2,2]": MATRIX}, **OF_MATRIX)
    np.testing.assert_array_equal(found.parameter("W")[0, 0], MATRIX)


def data(folder: Path, start: Any, **run: Any) -> dict[str, Any]:
    lines = [f"{value!r},{index}" for index, value in enumerate(VALUES.tolist())]
    (folder / "starts.csv").write_text("\n".join(["x0,index", *lines]))
    with h5py.File(folder / "starts.h5", "w") as file:
        file["x0"] = VALUES
    return {
        "loss": {"formula": "(x - z)**2/2", "parameters": {"x": start}, "noise": {"z": "normal"}},
        "optimizer": {"learning_rate": 0.1},
        "run": {"trajectories": N, "steps": 3, **run},
        "record": {"snapshots": [0]},
    }


@pytest.mark.parametrize("file", ["starts.csv", "starts.h5"])
def test_a_column_of_a_file(file, tmp_path):
    scenario = Scenario.of(data(tmp_path, f"{file}:x0"), "columns", "columns", tmp_path)
    ensemble = run_scenario(scenario, tmp_path / "columns.h5", device="python")
    np.testing.assert_array_equal(ensemble["theta"][0, :, 0], VALUES)
    assert not compare_file(tmp_path / "columns.h5").disagrees
    again = Scenario.parse(scenario.toml).runs
    np.testing.assert_array_equal(simulate_runs(again, scenario="", device="python")["mean"], ensemble["mean"])
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes().replace(b"8.0,", b"8.5,"))
    if file.endswith("csv"):
        with pytest.raises(InputError, match=r"starts\.csv has changed since its column 'x0' was taken as a start"):
            simulate_runs(again, scenario="", device="python")


def test_the_name_of_a_file_moves_with_a_scenario(tmp_path):
    moved = move_files(data(tmp_path, "starts.csv:x0"), "/home/here", "/home/there")
    assert moved["loss"]["parameters"]["x"] == "../here/starts.csv:x0"


@pytest.mark.parametrize(
    ("start", "run", "problem"),
    [
        ("starts.csv:x1", {}, "loss.parameters.x: {}/starts.csv: unknown column 'x1'"),
        ("start.csv:x0", {}, "loss.parameters.x: {}/start.csv: no such file"),
        ("starts.csv:x0", {"trajectories": 10}, "run.initial.x: 300 values, expected 10, one a trajectory"),
        (1.0, {"initial": {"velocity(x)": 1.0}}, "run.initial.velocity(x): unknown variable 'velocity' of sgd, it has"),
    ],
)
def test_what_is_no_start(start, run, problem, tmp_path):
    with pytest.raises(InputError) as caught:
        Scenario.of(data(tmp_path, start, **run), "columns", "columns", tmp_path)
    assert problem.format(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (VALUES[:7], "run.initial.x: 7 values, expected 300, one a trajectory"),
        (np.full(N, np.nan), "initial.x: nan at 0, expected finite numbers, one a trajectory"),
        (np.ones((N, 2)), "expected numbers, one a trajectory"),
        (["a"] * N, "expected numbers, one a trajectory"),
    ],
)
def test_what_is_no_array(given, problem):
    with pytest.raises(InputError) as caught:
        simulate(LOSS, learning_rate=0.1, initial={"x": given, "y": 0.0}, trajectories=N, steps=1, device="python")
    assert problem in str(caught.value)


def run_of(optimizer: Optimizer, **initial: Any) -> Run:
    return Run(LOSS, optimizer, Schedule("0.1"), initial, N, 3, 5, Recorder(every=1, snapshots=(3,)))


def test_the_optimizer_starts_where_it_is_told(target):
    """RMSprop by NumPy: one variable of every trajectory at a number, one on a grid, one drawn."""
    starts = {"square(x)": 0.25, "square(y)": Grid.parse("grid:1,3")}
    optimizer = Optimizer("rmsprop", {"alpha": 0.9})
    run = run_of(optimizer, x=1.0, y=-1.0, **starts)
    found = simulate_runs([run], scenario="", device=target)
    theta = np.stack([np.full(N, 1.0), np.full(N, -1.0)])
    square = np.stack([np.full(N, 0.25), np.linspace(1, 3, N)])
    for xi in naive.gradient_normals(5, N, 3):
        slope = np.stack([theta[0] - xi, 0.5 * theta[1]])
        square = 0.9 * square + 0.1 * slope**2
        theta = theta - 0.1 * slope / (np.sqrt(square) + 1e-8)
    np.testing.assert_allclose(found["theta"][0].T, theta, atol=1e-6)


def test_a_vector_of_the_optimizer_and_a_start_that_is_drawn(target):
    loss = sgdsim.Loss("norm2(w)/2", ("w[0]", "w[1]"))
    starts = {"w[0]": Noise.parse("normal"), "w[1]": 2.0, "velocity(w)": Noise.parse("normal:3,0")}
    run = Run(
        loss, Optimizer("momentum", {"momentum": 0.5}), Schedule("0.1"), starts, N, 1, 6, Recorder(snapshots=(1,))
    )
    found = simulate_runs([run], scenario="", device=target)["theta"][0]
    first = naive.initial_normals(6, N)
    np.testing.assert_allclose(found, np.stack([0.9 * first - 0.15, np.full(N, 2 * 0.9 - 0.15)], 1), atol=1e-6)
    read = Scenario.parse(toml.dumps(run.describe())).runs[0]
    assert (read.initial, read.optimizer_start) == (run.initial, run.optimizer_start)


def test_laws_of_an_optimizer_take_it_for_at_rest():
    run = run_of(Optimizer("momentum"), x=1.0, y=0.0, **{"velocity(x)": 1.0})
    for law in LAWS.values():
        with pytest.raises(NotApplicable, match=r"velocity\(x\) of momentum does not start at zero"):
            law.predictions([run])


@pytest.mark.parametrize(
    ("optimizer", "name", "problem"),
    [
        ("adam", "squares(x)", "run.initial.squares(x): unknown variable 'squares' of adam, known are mean, square"),
        ("adam", "square(x", "run.initial.square(x: expected a variable of the optimizer and a parameter, such as"),
        ("adam", "square(z)", "run.initial.square(z): unknown parameter 'z'"),
        ("ema", "velocity(x)", "run.initial.velocity(x): ema starts velocity with its first gradient, expected none"),
    ],
)
def test_what_is_no_start_of_the_optimizer(optimizer, name, problem):
    with pytest.raises(InputError) as caught:
        run_of(Optimizer(optimizer), x=1.0, y=0.0, **{name: 1.0})
    assert problem in str(caught.value)
