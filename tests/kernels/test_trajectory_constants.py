"""Constants of which each trajectory has its own, against NumPy, on every target."""

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
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Grid, Listed
from sgdsim.model.states import State
from sgdsim.prediction import NotApplicable
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.theory.law import LAWS
from tests import naive

SEED, N, STEPS = 17, 20, 6
NORMAL = Noise.parse("normal")
LOSS = Loss(
    "norm2(w - b*a)/2 + xi*sum(w) + g*last",
    ("w[0]", "w[1]"),
    {
        "b[0]": Noise.parse("normal:0.5,2"),
        "b[1]": NORMAL,
        "g": Grid.parse("grid:0,1"),
        "a": 0.5,
        "c": Noise.parse("normal"),
    },
    {"xi": NORMAL},
    direction={"w[1]": "b[0]*w[1] - c"},
    states={"last": State("w[0] + c", "b[1]")},
)
OBSERVABLES = {"b0": "b[0]", "b1": "b[1]", "g_": "g", "total": f"window_sum(next(c)*xi + g, 0, {STEPS})", "m": "last"}


def make(loss: Loss = LOSS, initial: dict[str, Any] | None = None, **others: Any) -> Run:
    observables = tuple(Observable.parse(*item) for item in OBSERVABLES.items()) if loss is LOSS else ()
    recorder = Recorder(every=1, observables=observables, snapshots=(STEPS,))
    start = {"w[0]": NORMAL, "w[1]": 1.0} if initial is None else initial
    fields = {"recorder": recorder, **others}
    return Run(loss, fields.pop("optimizer", Optimizer()), Schedule("0.2"), start, N, STEPS, SEED, **fields)


@pytest.mark.parametrize("name", ["sgd", "momentum"])
def test_each_trajectory_keeps_its_own(name, target):
    """Drawn of words of their own, so that the start is the one that it would be without them."""
    found = simulate_runs([make(optimizer=Optimizer(name))], scenario="", device=target)
    b0, b1, c = naive.trajectory_normals(SEED, N, 3)
    b = np.stack([0.5 + 2 * b0, b1])
    g = np.linspace(0, 1, N)
    w, last, velocity = np.stack([naive.initial_normals(SEED, N), np.ones(N)]), b[1], np.zeros((2, N))
    sums = np.zeros(N)
    expected = [(*w, *b, g, sums, last)]
    for xi in naive.gradient_normals(SEED, N, STEPS):
        slope = np.stack([w[0] - b[0] * 0.5 + xi, b[0] * w[1] - c])
        velocity = (0.9 if name == "momentum" else 0.0) * velocity + slope
        w, last = w - 0.2 * velocity, w[0] + c
        sums = sums + c * xi + g
        expected.append((*w, *b, g, sums, last))
    np.testing.assert_allclose(found["mean"], np.array(expected).mean(axis=2), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["theta"][0], w.T, rtol=1e-5, atol=1e-6)


def test_a_constant_that_no_step_reads_changes_nothing():
    """Bit by bit, and no law minds it."""
    plain = Loss("(x - z)**2/2", ("x",), noise={"z": NORMAL})
    beside = Loss(plain.formula, plain.parameters, {"b": Noise.parse("student_t:1")}, plain.noise)
    one, other = (simulate_runs([make(loss, {"x": NORMAL})], scenario="", device="python") for loss in (plain, beside))
    np.testing.assert_array_equal(one["mean"], other["mean"])
    assert len(LAWS["valley"].predictions([make(beside, {"x": 1.0})])) > 0


def test_a_mirrored_trajectory_has_the_mirrored_constant(target):
    loss = Loss("x*b", ("x",), {"b": Noise.parse("normal:1,2")})
    found = simulate_runs([make(loss, {"x": 0.0}, antithetic=True)], scenario="", device=target)
    b = 1 + 2 * naive.trajectory_normals(SEED, N, 1)[0, ::2]
    theta = found["theta"][0, :, 0]
    np.testing.assert_allclose(theta[::2], -0.2 * STEPS * b, rtol=1e-5)
    np.testing.assert_allclose(theta[1::2], -0.2 * STEPS * (2 - b), rtol=1e-5)


def scenario(constants: dict[str, Any], **others: Any) -> Scenario:
    data = {
        "loss": {"formula": "b*x**2/2", "parameters": {"x": 1.0}, "constants": constants},
        "optimizer": {"learning_rate": 0.1},
        "run": {"trajectories": 20_000, "steps": 10},
        **others,
    }
    return Scenario.of(data, "disorder", "disorder")


def test_the_mean_over_quenched_curvatures(tmp_path):
    """``E (1 - eta*b)**n`` of two values of b, and not the path at their mean."""
    made = scenario(
        {"b": "table:1@0.5,3@0.5"},
        record={"observables": {"curvature": "b", "sharpness": "hessian_max"}},
        predict=[
            {"formula": "mean(x) = (0.9**10 + 0.7**10)/2; resolution=5%"},
            {"formula": "mean(sharpness) = 2; resolution=5%"},
            {"formula": "mean(x) = 0.8**10", "expect": "disagrees"},
        ],
    )
    run_scenario(made, tmp_path / "disorder.h5")
    assert [row.outcome for row in compare_file(tmp_path / "disorder.h5").comparisons] == ["agrees"] * 3
    assert Scenario.parse(made.toml).runs == made.runs
    assert "b ~ table:1.0@0.5,3.0@0.5" in describe_loss(made.runs[0].loss)


def test_vectors_and_sweeps_of_constants():
    made = scenario(
        {"b": 1.0, "c[3]": "normal", "d[2]": 2.0},
        sweep={"loss.constants.b": ["normal:0,1", "normal:0,2", 1.5]},
        record={"observables": {"o": "sum(c) + sum(d)"}},
    )
    assert [list(run.loss.drawn) for run in made.runs] == [["b", "c[0]", "c[1]", "c[2]"]] * 2 + [
        ["c[0]", "c[1]", "c[2]"]
    ]
    assert dict(made.runs[2].loss.constants) == {"b": 1.5, "d[0]": 2.0, "d[1]": 2.0}
    run = make(Loss("x*b", ("x",), {"b": Listed.of(np.arange(N) / 7)}), {"x": 0.0})
    found = simulate_runs([run], scenario="", device="python")
    np.testing.assert_allclose(found["theta"][0, :, 0], -0.2 * STEPS * np.arange(N) / 7, rtol=1e-12)
    assert Scenario.parse(toml.dumps(run.describe())).runs[0].loss.drawn == run.loss.drawn


def test_sums_of_many_terms_beside_constants_of_each_trajectory():
    """Each term nests the text of those before it: 250 were too many parentheses, 400 too deep for Python."""
    many = 400
    given = {"initial": {f"w[{many}]": 1.0}, "learning_rate": 0.1, "steps": 1, "snapshots": [1], "device": "python"}
    found = sgdsim.simulate("b*norm2(w)**2/4", each={"b": [0.0, 1e-4]}, trajectories=2, **given)
    np.testing.assert_allclose(found["theta"].reshape(2, many), [[1.0] * many, [1 - 0.004] * many], rtol=1e-12)


MATRICES = np.arange(4.0 * N).reshape(N, 2, 2) / 10


@pytest.mark.parametrize("more", [{}, {"predict": ["mean(w[0]) = 1"]}, {"learning_rate": [0.1, 0.2]}])
def test_arrays_are_constants_of_each_trajectory(more):
    """Also where claims or a sweep make the run a scenario, whose text has no arrays."""
    given = {"initial": {"w[2]": 1.0}, "learning_rate": 0.1, "trajectories": N, "steps": 1, "snapshots": [1]}
    found = sgdsim.simulate("b*norm2(B@w)/2", each={"B": MATRICES, "b": np.arange(N)}, **{**given, **more})
    slopes = np.arange(N)[:, None] * np.einsum("tji,tjk->ti", MATRICES, MATRICES)
    theta = found["theta"].reshape(-1, N, 2)
    np.testing.assert_allclose(theta[0], 1 - 0.1 * slopes, rtol=1e-12, atol=1e-12)
    loss = sgdsim.Loss("norm2(B@w)/2", ("w[2]",), {"B": np.eye(2)})
    of_loss = sgdsim.simulate(loss, each={"B": MATRICES}, **{**given, "initial": {"w": 1.0}, **more})
    np.testing.assert_allclose(
        of_loss["theta"].reshape(-1, N, 2)[0], 1 - 0.1 * np.einsum("tji,tjk->ti", MATRICES, MATRICES), atol=1e-12
    )


@pytest.mark.parametrize(
    ("each", "message"),
    [
        ({"B[2,3]": MATRICES}, r"each.B\[2,3\]: .* expected an array with a matrix of 2 by 3 for each trajectory"),
        ({"B": "x"}, "each.B: 'x', expected an array with a number, a vector or a matrix for each trajectory"),
        ({"B": [[1, 2], [3]]}, "each.B: .* expected an array with a number"),
        ({"B": MATRICES[:2]}, rf"^each.B: 2 values, expected {N}, one a trajectory$"),
        ({"B": np.full((N, 2, 2), np.nan)}, r"each.B\[0,0\]: nan at 0, expected finite numbers"),
        ([1.0], "each: "),
    ],
)
def test_what_are_no_constants_of_each_trajectory(each, message):
    with pytest.raises(InputError, match=message):
        sgdsim.simulate("norm2(B@w)/2", each=each, initial={"w[2]": 1.0}, learning_rate=0.1, trajectories=N, steps=1)


@pytest.mark.parametrize("name", ["B", "B[2,2]", "B[0,1]"])
def test_a_constant_of_all_and_of_each_trajectory_is_refused(name):
    given = {"initial": {"w[2]": 1.0}, "learning_rate": 0.1, "trajectories": N, "steps": 1}
    with pytest.raises(InputError, match=r"each\.B: is among the constants too, expected it in one of them"):
        sgdsim.simulate("norm2(B@w)/2", constants={name: 1.0}, each={"B": MATRICES}, **given)


def test_no_law_takes_a_mixture_for_one_loss():
    run = make(Loss("b*x**2/2 + z*x", ("x",), {"b": Noise.parse("student_t:1")}, {"z": NORMAL}), {"x": 1.0})
    for law in LAWS.values():
        with pytest.raises(NotApplicable, match="each trajectory has its own b: the ensemble is a mixture"):
            law.predictions([run])
    matrix = make(
        Loss("x**2/2 + z*x", ("x",), {"b": NORMAL}, {"z": NORMAL}),
        {"x": 1.0},
        optimizer=Optimizer(preconditioner=("b**2",)),
    )
    with pytest.raises(NotApplicable, match="each trajectory has its own b"):
        LAWS["valley"].predictions([matrix])
    with pytest.raises(InputError, match="a control needs steps that are alike in all trajectories, not of b"):
        simulate_runs([make(run.loss, {"x": 1.0}, recorder=Recorder(controls=("x",)))], scenario="", device="python")


def test_what_a_constant_reaches_is_random():
    loss = Loss("b*x**2/2 + y**2", ("x", "y"), {"b": Noise.parse("bernoulli:0.01")})
    recorder = Recorder(observables=(Observable("e", "loss"), Observable("h", "hessian_trace")))
    found = rare_events.attributes([make(loss, {"x": 1.0, "y": 1.0}, recorder=recorder)])
    assert (found["certain"], found["rarest_start"]) == ("y", 0.01)


@pytest.mark.parametrize(
    ("constants", "others", "problem"),
    [
        ({"b": "a"}, {}, 'loss.constants.b: "a", expected a finite number, a list or rows of them, V.csv, or a dist'),
        ({"b": "normla:0,1"}, {}, "loss.constants.b: unknown distribution 'normla': did you mean 'normal'?"),
        (
            {"b": "grid:0,1"},
            {"loss.state": {"s": "x; start=b"}},
            "start reads b, which starts on a grid, expected numbers",
        ),
        ({"b": "normal", "x": "normal"}, {}, "'x' is both a parameter and a constant of each trajectory"),
    ],
)
def test_what_is_no_constant(constants, others, problem):
    data: dict[str, Any] = {
        "loss": {"formula": "b*x**2/2", "parameters": {"x": 1.0}, "constants": constants},
        "optimizer": {"learning_rate": 0.1},
        "run": {"trajectories": 10, "steps": 10},
    }
    for key, value in others.items():
        toml.set_key(data, key, value)
    with pytest.raises(InputError) as caught:
        Scenario.of(data, "disorder", "disorder")
    assert problem in str(caught.value)
