"""Parameters that move by rules of their own, step by step against NumPy, on every target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sgdsim.base.errors import InputError
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.simulation.run_loop import simulate_runs
from tests import naive
from tests.samples import daily

SEED, N, STEPS = 11, 3, 9
ROWS = {"p": (0.9, -0.7, 0.2, 1.4, -1.1), "q": (0.3, 1.1, -1.3, 0.6, 0.8), "y": (1.2, 0.4, -0.9, 0.1, 0.5)}
ALIGNED = Loss(
    "(v*dot(w, x) - y)**2/2",
    ("w[0]", "w[1]", "v"),
    {"b": 0.7},
    definitions={"x": ("p", "q"), "error": "v*dot(w, x) - y"},
    data=Data(ROWS),
    direction={"w": "b*error*x"},
)


def make(loss: Loss, initial: dict[str, Any], optimizer: Optimizer | None = None, **fields: Any) -> Run:
    steps = fields.pop("steps", STEPS)
    defaults = {"trajectories": N, "steps": steps, "seed": SEED, "noise_dtype": "float64"}
    recorder = Recorder(snapshots=tuple(range(steps + 1)))
    rate = fields.pop("rate", "0.1/(1 + t)")
    return Run(loss, optimizer or Optimizer(), Schedule(rate), initial, **{**defaults, "recorder": recorder, **fields})


def simulated(run: Run, target: str = "python") -> np.ndarray:
    """Shape (steps + 1, trajectory, parameter)."""
    return np.asarray(simulate_runs([run], scenario="", device=target)["theta"])


START = {"w[0]": 0.4, "w[1]": -0.3, "v": 0.8}


@pytest.mark.parametrize(
    ("name", "hyperparameters", "batch_size"),
    daily(
        [
            ("sgd", {}, 1),
            ("sgd", {"weight_decay": 0.3}, 3),
            ("momentum", {"momentum": 0.5, "decoupled_weight_decay": 0.2}, 2),
            ("adam", {}, 3),
        ],
        ("sgd", {"weight_decay": 0.3}, 3),
        ("adam", {}, 3),
    ),
)
def test_the_optimizer_takes_the_direction_for_the_gradient(name, hyperparameters, batch_size, target):
    """Feedback alignment of two weights beside the gradient of a third: batches, decay and memory as ever."""
    run = make(ALIGNED, START, Optimizer(name, hyperparameters, batch_size))
    columns = np.array(list(ROWS.values())).T
    expected = np.empty((STEPS + 1, N, 3))
    for trajectory in range(N):
        values = {"theta": np.array(list(START.values())), **dict.fromkeys(run.optimizer.rule.state, np.zeros(3))}
        expected[0, trajectory] = values["theta"]
        for t, rate in enumerate(run.schedule.rates(STEPS)):
            rows = columns[naive.rows_with_replacement(SEED, trajectory, t, len(columns), batch_size)]
            *_, v = theta = values["theta"]
            first, second = naive.feedback_alignment(theta[:2], v, rows[:, :2], rows[:, 2], feedback=0.7)
            given = {**values, "gradient": np.array([*first, second]), "t": t, "learning_rate": rate}
            after = run.optimizer.steps(given)
            values = {key: after[key] for key in values}
            expected[t + 1, trajectory] = values["theta"]
    found = simulated(run, target)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
    if target == "python":  # the gradient itself goes elsewhere
        gradient = Loss(ALIGNED.formula, ALIGNED.parameters, definitions=ALIGNED.definitions, data=ALIGNED.data)
        assert np.abs(simulated(make(gradient, START, run.optimizer))[-1] - expected[-1]).max() > 1e-3


def test_noise_reaches_a_direction(target):
    """One normal a step, of 32 bits to the rounding of float32."""
    loss = Loss("", ("x", "y"), {"s": 0.5}, {"xi": Noise.parse("normal")}, direction={"y": "-x + s*xi*y", "x": "y"})
    found = simulated(make(loss, {"x": 1.0, "y": 0.5}, rate="0.2", noise_dtype="float32"), target)
    x, y, normals = np.ones(N), np.full(N, 0.5), naive.gradient_normals(SEED, N, STEPS)
    for step, xi in enumerate(normals, 1):
        x, y = x - 0.2 * y, y - 0.2 * (-x + 0.5 * xi * y)
        np.testing.assert_allclose(found[step], np.stack([x, y], -1), rtol=0, atol=1e-6)


def test_local_rules_as_a_loss_with_a_preconditioner():
    """A loss ``p*F + q*G`` whose gradient in p and q a matrix that is not symmetric hands to x and y."""
    noise = {"xi": Noise.parse("uniform:-1,1")}
    f, g = "x*(y - 1) + 0.3*xi*x", "y*(1 - x) - 0.2*xi"
    rule = Loss("", ("x", "y"), noise=noise, direction={"x": f, "y": g})
    trick = Loss(f"p*({f}) + q*({g})", ("x", "y", "p", "q"), noise=noise)
    matrix = (("0", "0", "1", "0"), ("0", "0", "0", "1"), ("0",) * 4, ("0",) * 4)
    start = {"x": 0.5, "y": 1.5}
    one = simulated(make(rule, start))
    other = simulated(make(trick, {**start, "p": 0.3, "q": 0.4}, Optimizer(preconditioner=matrix)))
    np.testing.assert_allclose(one, other[..., :2], rtol=1e-13, atol=1e-14)
    assert np.abs(np.diff(one, axis=0)).min() > 0


def test_kolen_and_pollack_align_their_weights():
    """Both are given the same direction, and forget what they differ by at the rate of the weight decay."""
    loss = Loss(
        "e**2/2",
        ("u", "v", "b"),
        noise={"x": Noise.parse("normal"), "s": Noise.parse("normal")},
        definitions={"e": "v*u*x - x - s"},
        direction={"u": "b*e*x", "b": "e*u*x"},
    )
    run = make(loss, {"u": 0.5, "v": 0.1, "b": 0.7}, Optimizer("sgd", {"weight_decay": 0.3}, 2), rate="0.1")
    _, v, b = simulated(run).transpose(2, 0, 1)
    expected = 0.6 * (1 - 0.1 * 0.3) ** np.arange(STEPS + 1)
    np.testing.assert_allclose(b - v, expected[:, None].repeat(N, axis=1), rtol=1e-12)
    assert np.abs(np.diff(v, axis=0)).min() > 0


@pytest.mark.parametrize("optimizer", ["sgd", "gradient_descent"])
def test_the_others_of_many_parameters_keep_the_gradient_of_one_sweep(optimizer):
    names = tuple(f"w[{i}]" for i in range(17))
    loss = Loss(
        "norm2(w)*(1 + u**2)/2 + z*sum(w)",
        (*names, "u"),
        noise={"z": Noise.parse("rademacher")},
        direction={"u": "u - w[3]*z**2", "w[2]": "-1"},
    )
    start = {name: 0.1 * (i - 6) for i, name in enumerate(names)} | {"u": 0.5}
    found = simulated(make(loss, start, Optimizer(optimizer), steps=1, rate="0.1"))
    w, u = np.array([start[name] for name in names]), 0.5
    z = np.zeros(N) if optimizer == "gradient_descent" else np.round((found[0, :, 0] - found[1, :, 0]) * 10 + 0.75)
    slopes = w * (1 + u**2) + z[:, None]
    slopes[:, 2] = -1.0
    np.testing.assert_allclose(found[1, :, :17], w - 0.1 * slopes, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(found[1, :, 17], u - 0.1 * (u - w[3]), rtol=1e-13)


def test_gradient_descent_takes_the_mean_direction():
    noise = {"z": Noise.parse("normal:0,2")}
    run = make(Loss("", ("x",), noise=noise, direction={"x": "x*z**2 + z"}), {"x": 1.0}, Optimizer("gradient_descent"))
    expected = np.cumprod([1.0, *(1 - 4 * run.schedule.rates(STEPS))])
    np.testing.assert_allclose(simulated(run)[:, 0, 0], expected, rtol=1e-12)
    loss = Loss("", ("x",), noise=noise, direction={"x": "tanh(x*z)"})
    with pytest.raises(
        InputError, match=r"loss.direction.x: the expectation of tanh\(x\*z\) over z has no closed form"
    ):
        simulated(make(loss, {"x": 1.0}, Optimizer("gradient_descent")))


def test_observables_call_the_direction_a_gradient():
    """What the steps sum up to; and its mean over the noise."""
    rules = {"x": "2*x - z + 1", "y": "tanh(z*y)"}  # of y there is no mean, and none is asked for
    loss = Loss("", ("x", "y"), noise={"z": Noise.parse("normal")}, direction=rules)
    texts = {"moved": f"window_sum(gradient(x), 0, {STEPS})", "mean": "population_gradient(x)"}
    recorder = Recorder(every=STEPS, observables=tuple(Observable.parse(*item) for item in texts.items()))
    found = simulate_runs(
        [make(loss, {"x": 1.0, "y": 0.5}, rate="0.1", recorder=recorder)], scenario="", device="python"
    )
    x, _, moved, mean = found["mean"][-1]
    assert moved * 0.1 == pytest.approx(1.0 - x, rel=1e-12)
    assert mean == pytest.approx(2 * x + 1, rel=1e-12)


@pytest.mark.parametrize("rate", [0.02, 0.01])
def test_lotka_volterra_conserves_to_first_order(rate):
    """``V = d x - c log x + b y - a log y`` of the flow; a step changes it by order eta^2, a time by order eta."""
    a, b, c, d = 1.0, 0.8, 0.6, 1.2
    constants = {"a": a, "b": b, "c": c, "d": d}
    loss = Loss("", ("x", "y"), constants, direction={"x": "-x*(a - b*y)", "y": "y*(c - d*x)"})

    def change(eta: float) -> np.ndarray:
        steps = round(2.0 / eta)
        theta = simulated(make(loss, {"x": 0.8, "y": 0.7}, steps=steps, rate=repr(eta), trajectories=1))
        x, y = theta[:, 0].T
        return np.diff(d * x - c * np.log(x) + b * y - a * np.log(y))

    coarse, fine = change(rate), change(rate / 2)
    # Of one step 4, of a time 2, up to corrections of relative order eta.
    assert coarse[0] / fine[0] == pytest.approx(4.0, rel=3 * rate)
    assert coarse.sum() / fine.sum() == pytest.approx(2.0, rel=3 * rate)
    assert coarse.sum() > 1e-3
