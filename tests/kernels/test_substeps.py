"""Steps that are cut into substeps, with the same sample in each, against NumPy, on every target."""

from __future__ import annotations

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
from sgdsim.model.states import State
from sgdsim.prediction import NotApplicable
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.theory.law import LAWS
from sgdsim.theory.methods.stability import instabilities
from tests import naive
from tests.samples import daily

SEED, N, STEPS, PARTS = 21, 3, 6, 5
ROWS = (1.2, 0.4, -0.9, 0.1, 0.5)


def recorded(run: Run, target: str = "python") -> dict[str, np.ndarray]:
    """The mean over the trajectories after each step, of all that is measured."""
    found = simulate_runs([run], scenario="", device=target)
    return dict(zip(found["observable"], np.asarray(found["mean"]).T, strict=True))


@pytest.mark.parametrize(
    ("name", "hyperparameters", "batch_size"),
    daily(
        [("sgd", {}, 1), ("momentum", {"momentum": 0.5, "weight_decay": 0.3}, 3), ("adam", {}, 1), ("ema", {}, 2)],
        ("momentum", {"momentum": 0.5, "weight_decay": 0.3}, 3),
    ),
)
def test_substeps_are_steps_of_the_rule_with_the_same_batch(name, hyperparameters, batch_size, target):
    """The optimizer's own state moves in each of them, and counts them; states and sums along the path see one step."""
    loss = Loss(
        "(x - y)**2/2 + x**4*pull",
        ("x", "w"),
        data=Data({"y": ROWS}),
        direction={"w": "w*x"},
        states={"pull": State.parse("gradient(x)**2 + next(w) - w + t*learning_rate + pull/2; start=0.3")},
    )
    optimizer = Optimizer(name, hyperparameters, batch_size, substeps=PARTS)
    observables = {"p": "pull", "total": f"window_sum(gradient(w)*learning_rate + next(x)*x + t, 0, {STEPS})"}
    recorder = Recorder(every=1, observables=tuple(Observable.parse(*item) for item in observables.items()))
    run = Run(loss, optimizer, Schedule("0.2/(1 + t)"), {"x": 0.7, "w": -0.4}, N, STEPS, SEED, recorder)
    expected = {key: np.zeros((STEPS + 1, N)) for key in ("x", "w", "p", "total")}
    for trajectory in range(N):
        theta, pull, total = np.array([0.7, -0.4]), 0.3, 0.0
        memory = dict.fromkeys(optimizer.rule.state, np.zeros(2))
        for t, rate in enumerate([np.nan, *run.schedule.rates(STEPS)], -1):
            if t >= 0:
                y = np.array(ROWS)[naive.rows_with_replacement(SEED, trajectory, t, len(ROWS), batch_size)]
                before, slopes = theta, []
                for part in range(PARTS):
                    slopes.append(np.array([(theta[0] - y).mean() + 4 * theta[0] ** 3 * pull, theta[1] * theta[0]]))
                    shared = {"gradient": slopes[-1], "t": PARTS * t + part, "learning_rate": rate / PARTS}
                    after = optimizer.steps({**memory, "theta": theta, **shared})
                    theta, memory = after["theta"], {key: after[key] for key in memory}
                slope = np.mean(slopes, axis=0)
                pull = slope[0] ** 2 + theta[1] - before[1] + t * rate + pull / 2
                total += slope[1] * rate + theta[0] * before[0] + t
            for key, value in zip(expected, (*theta, pull, total), strict=True):
                expected[key][t + 1, trajectory] = value
    found = recorded(run, target)
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values.mean(axis=1), rtol=1e-12, atol=1e-13, err_msg=key)


def test_noise_is_drawn_once_a_step_and_states_may_read_it(target):
    """One normal a step, of 32 bits to the rounding of float32."""
    loss = Loss("x**2/2 - xi*x", ("x",), noise={"xi": Noise.parse("normal")}, states={"seen": State("seen + xi")})
    recorder = Recorder(every=1, observables=(Observable.parse("s", "seen"),))
    run = Run(loss, Optimizer(substeps=4), Schedule("0.4"), {"x": 1.0}, N, STEPS, SEED, recorder)
    found, x = recorded(run, target), np.ones(N)
    normals = naive.gradient_normals(SEED, N, STEPS)
    for step, xi in enumerate(normals, 1):
        x = xi + 0.9**4 * (x - xi)
        assert found["x"][step] == pytest.approx(x.mean(), abs=1e-6)
        assert found["s"][step] == pytest.approx(normals[:step].sum(axis=0).mean(), abs=1e-6)


def test_many_substeps_follow_the_flow_of_each_sample():
    """``x' = z - x`` for the time of a step, to the order of the Euler rule: the error halves with the substeps."""
    loss = Loss("(x - z)**2/2", ("x",), data=Data({"z": (0.5, -1.0)}))
    errors = []
    for parts in (32, 64):
        run = Run(loss, Optimizer(substeps=parts), Schedule("0.5"), {"x": 2.0}, 1, STEPS, SEED, Recorder(every=1))
        x, exact = 2.0, [2.0]
        for t in range(STEPS):
            z = (0.5, -1.0)[naive.rows_with_replacement(SEED, 0, t, 2, 1)[0]]
            x = z + np.exp(-0.5) * (x - z)
            exact.append(x)
        errors.append(recorded(run)["x"][-1] - exact[-1])
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.05)


def test_a_rate_that_is_too_large_for_a_step_may_be_stable_in_parts():
    loss = Loss("x**2/2 + x*z", ("x",), noise={"z": Noise.parse("normal")})
    for parts, stable in ((1, False), (4, True)):
        run = Run(loss, Optimizer(substeps=parts), Schedule("2.5"), {"x": 1.0}, N, STEPS, SEED)
        assert (instabilities([run])[0] is None) == stable


def test_one_substep_is_a_step():
    """Bit by bit, of an optimizer that counts steps."""
    loss = Loss("(x - z)**2/2", ("x",), noise={"z": Noise.parse("normal")})
    runs = [
        Run(loss, Optimizer("adam", **given), Schedule("0.1"), {"x": 1.0}, N, STEPS, SEED)
        for given in ({}, {"substeps": 1})
    ]
    np.testing.assert_array_equal(*(recorded(run)["x"] for run in runs))


def test_what_is_no_rule_of_substeps():
    with pytest.raises(InputError, match=r"optimizer\.substeps: 0, expected a whole number from 1"):
        Optimizer(substeps=0)
    with pytest.raises(InputError, match=r"optimizer\.substeps: 4, but langevin has noise of its own, expected 1"):
        Optimizer("langevin", {"temperature": 1.0}, substeps=4)
    loss = Loss("x**2/2 + x*z", ("x",), noise={"z": Noise.parse("normal")})
    run = Run(loss, Optimizer(substeps=3), Schedule("0.1"), {"x": 1.0}, N, STEPS, SEED)
    for law in LAWS.values():
        with pytest.raises(NotApplicable, match="each step is 3 substeps with the same sample"):
            law.predictions([run])
    controlled = Run(loss, Optimizer(substeps=3), Schedule("0.1"), {"x": 1.0}, N, STEPS, 0, Recorder(controls=("x",)))
    with pytest.raises(InputError, match="a control needs whole steps, not 3 substeps"):
        simulate_runs([controlled], scenario="", device="python")
