"""States along a path, step by step against NumPy, on every target."""

from __future__ import annotations

import numpy as np
import pytest

from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.states import State
from sgdsim.simulation.run_loop import simulate_runs
from tests import naive
from tests.samples import daily

SEED, N, STEPS = 13, 3, 8
ROWS = (1.2, 0.4, -0.9, 0.1, 0.5)


def states(**texts: str) -> dict[str, State]:
    return {name: State.parse(text) for name, text in texts.items()}


def recorded(run: Run, target: str = "python") -> dict[str, np.ndarray]:
    """The mean over the trajectories after each step, of all that is measured."""
    found = simulate_runs([run], scenario="", device=target)
    return dict(zip(found["observable"], np.asarray(found["mean"]).T, strict=True))


def make(loss: Loss, initial: dict[str, float | Noise], optimizer: Optimizer | None = None, **texts: str) -> Run:
    observables = tuple(Observable.parse(name, text) for name, text in texts.items())
    fields = {"recorder": Recorder(every=1, observables=observables), "noise_dtype": "float64"}
    return Run(loss, optimizer or Optimizer(), Schedule("0.2/(1 + t)"), initial, N, STEPS, SEED, **fields)


@pytest.mark.parametrize(
    ("name", "hyperparameters", "batch_size"),
    daily(
        [("sgd", {}, 1), ("momentum", {"momentum": 0.5, "weight_decay": 0.3}, 3), ("adam", {}, 2)],
        ("momentum", {"momentum": 0.5, "weight_decay": 0.3}, 3),
    ),
)
def test_states_take_their_values_from_before_the_step(name, hyperparameters, batch_size, target):
    """A loss that pulls back to a running average, a rule that reads a trace, delays, and what the step itself adds."""
    loss = Loss(
        "(x - y)**2/2 + (x - average)**2",
        ("x", "w"),
        {"a": 0.3},
        data=Data({"y": ROWS}),
        direction={"w": "x*trace - w"},
        states=states(
            average="average + (next(x) - average)/(t + 1); start=x",
            trace="(1 - a)*trace + a*x",
            last="x; start=2*x + a",
            before="last",
            pull="gradient(x)*learning_rate",
            gap="next(average) - next(w) + average",
        ),
    )
    names = ("average", "trace", "last", "before", "pull", "gap")
    run = make(
        loss,
        {"x": 0.7, "w": -0.4},
        Optimizer(name, hyperparameters, batch_size),
        **{f"o_{one}": one for one in names},
        total=f"window_sum(last*next(trace) - gradient(w), 0, {STEPS})",
    )
    expected = {key: np.zeros((STEPS + 1, N)) for key in ("x", "w", *names, "total")}
    for trajectory in range(N):
        s = {"x": 0.7, "w": -0.4, **dict.fromkeys(names, 0.0), "average": 0.7, "last": 1.4 + 0.3, "total": 0.0}
        memory = dict.fromkeys(run.optimizer.rule.state, np.zeros(2))
        for key, values in expected.items():
            values[0, trajectory] = s[key]
        for t, rate in enumerate(run.schedule.rates(STEPS)):
            y = np.array(ROWS)[naive.rows_with_replacement(SEED, trajectory, t, len(ROWS), batch_size)]
            slope = np.array([(s["x"] - y).mean() + 2 * (s["x"] - s["average"]), s["x"] * s["trace"] - s["w"]])
            theta = np.array([s["x"], s["w"]])
            after = run.optimizer.steps({**memory, "theta": theta, "gradient": slope, "t": t, "learning_rate": rate})
            memory = {key: after[key] for key in memory}
            x, w = after["theta"]
            average = s["average"] + (x - s["average"]) / (t + 1)
            trace = 0.7 * s["trace"] + 0.3 * s["x"]
            s = {
                "x": x,
                "w": w,
                "average": average,
                "trace": trace,
                "last": s["x"],
                "before": s["last"],
                "pull": slope[0] * rate,
                "gap": average - w + s["average"],
                "total": s["total"] + s["last"] * trace - slope[1],
            }
            for key, values in expected.items():
                values[t + 1, trajectory] = s[key]
    found = recorded(run, target)
    for key, values in expected.items():
        name = f"o_{key}" if key in names else key
        np.testing.assert_allclose(found[name], values.mean(axis=1), rtol=1e-12, atol=1e-13, err_msg=key)


def test_noise_and_vectors_in_a_state(target):
    """One normal a step, of 32 bits to the rounding of float32; a start that is drawn; a vector that remembers one."""
    loss = Loss(
        "dot(w, old)/2 + xi*sum(w)",
        ("w[0]", "w[1]"),
        noise={"xi": Noise.parse("normal")},
        definitions={"kick": "2*xi"},
        states={"old[2]": State("w", "-w"), "noise": State("noise/2 + kick")},
    )
    observables = tuple(Observable.parse(f"o{i}", text) for i, text in enumerate(("old[0]", "old[1]", "noise")))
    recorder = Recorder(every=1, observables=observables)
    start = {"w[0]": Noise.parse("normal"), "w[1]": 0.5}
    run = Run(loss, Optimizer(), Schedule("0.1"), start, N, STEPS, SEED, recorder)
    found = recorded(run, target)
    w = np.stack([naive.initial_normals(SEED, N), np.full(N, 0.5)])
    old, noise = -w, np.zeros(N)
    for step, xi in enumerate([None, *naive.gradient_normals(SEED, N, STEPS)]):
        if xi is not None:
            w, old, noise = w - 0.1 * (old / 2 + xi), w, noise / 2 + 2 * xi
        for name, value in zip(("w[0]", "w[1]", "o0", "o1", "o2"), (*w, *old, noise), strict=True):
            assert found[name][step] == pytest.approx(value.mean(), abs=1e-6)


def test_the_gradient_holds_states_fixed():
    """``(x - last)**2``: half of the slope that x itself would have, were last a function of it."""
    run = make(Loss("(x - last)**2 + x", ("x",), states=states(last="x; start=0.5")), {"x": 1.0}, o="last")
    found = recorded(run)
    assert found["x"][1] == pytest.approx(1.0 - 0.2 * (2 * 0.5 + 1))
    assert found["o"][1] == 1.0


def test_states_change_nothing_that_does_not_read_them():
    """Bit by bit, of an adaptive optimizer with its own state."""
    plain = Loss("(x - z)**2/2", ("x",), noise={"z": Noise.parse("normal")})
    beside = Loss(plain.formula, plain.parameters, noise=plain.noise, states=states(m="m + next(x)*z", k="k + 1"))
    one, other = (recorded(make(loss, {"x": 1.0}, Optimizer("adam"))) for loss in (plain, beside))
    np.testing.assert_array_equal(one["x"], other["x"])


def test_the_heavy_ball_is_a_state():
    """``velocity`` as the optimizer has it, by a rule that reads it one step late."""
    constants, noise = {"b": 0.6}, {"z": Noise.parse("normal")}
    ball = Loss("(x - z)**2/2", ("x",), noise=noise)
    rule = Loss("", ("x",), constants, noise, direction={"x": "b*v + x - z"}, states=states(v="b*v + x - z"))
    one = recorded(make(ball, {"x": 1.0}, Optimizer("momentum", {"momentum": 0.6})))
    other = recorded(make(rule, {"x": 1.0}))
    np.testing.assert_allclose(one["x"], other["x"], rtol=1e-13)


def test_a_state_that_leaves_the_numbers_ends_no_trajectory():
    run = make(Loss("x**2/2", ("x",), states=states(m="m*1e200; start=1e200")), {"x": 1.0}, o="m")
    found = simulate_runs([run], scenario="", device="python")
    assert found["status"].tolist() == [0] * N
    assert found["count"][-1].tolist() == [N, 0]
    assert found["excluded"][-1].tolist() == [0, N]


def test_many_parameters_and_float32():
    """Of 17 parameters by one sweep back, with a state in the loss; in float32 to its rounding."""
    names = tuple(f"w[{i}]" for i in range(17))
    loss = Loss("norm2(w)*m/2 + sum(w)", names, states=states(m="m/2 + dot(next(w), w)/17; start=1"))
    start = {name: 0.1 * (i - 6) for i, name in enumerate(names)}
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        recorder = Recorder(every=1, observables=(Observable.parse("o", "m"),))
        run = Run(loss, Optimizer(), Schedule("0.1"), start, N, 3, SEED, recorder, dtype)
        found = recorded(run)
        w, m = np.array(list(start.values())), 1.0
        for step in range(1, 4):
            after = w - 0.1 * (w * m + 1)
            w, m = after, m / 2 + after @ w / 17
            np.testing.assert_allclose([found[name][step] for name in names], w, rtol=0, atol=tolerance)
            assert found["o"][step] == pytest.approx(m, abs=tolerance)


def test_blocks_and_threads_carry_states(target, size):
    """A run in spans and tiles of its own has the same bits on any number of threads."""
    loss = Loss("(x - z)**2/2 + x*m", ("x",), noise={"z": Noise.parse("normal")}, states=states(m="m/2 + x"))
    recorder = Recorder(every=5, observables=(Observable.parse("o", "m"),))
    run = Run(loss, Optimizer(), Schedule("0.1"), {"x": 1.0}, size(300, 3000), 11, SEED, recorder)
    one, two = (simulate_runs([run], scenario="", device=target, threads=n)["mean"] for n in (1, 2))
    np.testing.assert_array_equal(one, two)
