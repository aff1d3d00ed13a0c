"""Matrices, step by step against plain NumPy: losses, directions and states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.states import State
from sgdsim.simulation.run_loop import simulate_runs
from tests import naive

SEED, N, STEPS, BATCH = 5, 2, 8, 2
ROWS = {"p": (0.9, -0.7, 0.2, 1.4), "q": (0.3, 1.1, -1.3, 0.6), "r": (1.2, 0.4, -0.9, 0.1), "s": (0.2, -0.5, 0.7, 1.0)}
COLUMNS = np.array(list(ROWS.values())).T
XY = {"x": ("p", "q"), "y": ("r", "s")}
V = np.array([[0.5, -0.2, 0.1], [0.3, 0.8, -0.6]])
START = {"W1": np.array([[0.4, -0.3], [0.8, 0.1], [-0.5, 0.6]]), "W2": np.array([[0.2, 0.7, -0.1], [0.5, -0.4, 0.3]])}
SHAPES = ("W1[3,2]", "W2[2,3]")


def unpacked(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return theta[:6].reshape(3, 2), theta[6:].reshape(2, 3)


def tanh_network(theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    first, second = unpacked(theta)
    return float(((second @ np.tanh(first @ x) - y) ** 2).sum() / 2)


def linear_network(theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    first, second = unpacked(theta)
    return float(((second @ first @ x - V @ first @ x - y) ** 2).sum() / 2 + 0.1 * np.trace(first.T @ first))


def rowwise(theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    first, second = unpacked(theta)
    return float(x @ second @ first @ y + np.exp(first[0]) @ x + second[1, 2] ** 2 + np.outer(x, y)[0, 1] * first[2, 1])


LOSSES = {
    "tanh": ("norm2(W2@tanh(W1@x) - y)/2", tanh_network),
    "linear": ("norm2((W2 - V)@W1@x - y)/2 + 0.1*trace(W1.T@W1)", linear_network),
    "rows": ("dot(x@W2@W1, y) + dot(exp(W1[0]), x) + W2[1,2]**2 + outer(x, y)[0,1]*W1[2,1]", rowwise),
}


def simulated(loss: Loss, optimizer: Optimizer) -> np.ndarray:
    recorder = Recorder(snapshots=tuple(range(STEPS + 1)))
    run = Run(loss, optimizer, Schedule("0.1/(1 + t)"), START, N, STEPS, SEED, recorder)
    return np.asarray(simulate_runs([run], scenario="", device="python")["theta"])


def stepped(gradient: Callable[..., np.ndarray], optimizer: Optimizer) -> np.ndarray:
    """All states by hand; the gradient is of the parameters and one row of data."""
    found = np.empty((STEPS + 1, N, 12))
    for trajectory in range(N):
        theta = np.concatenate([START["W1"].ravel(), START["W2"].ravel()])
        values = {"theta": theta, **dict.fromkeys(optimizer.rule.state, np.zeros(12))}
        found[0, trajectory] = theta
        for t in range(STEPS):
            rows = COLUMNS[naive.rows_with_replacement(SEED, trajectory, t, len(COLUMNS), BATCH)]
            mean = np.mean([gradient(values["theta"], row[:2], row[2:]) for row in rows], axis=0)
            after = optimizer.steps({**values, "gradient": mean, "t": t, "learning_rate": 0.1 / (1 + t)})
            values = {key: after[key] for key in values}
            found[t + 1, trajectory] = values["theta"]
    return found


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_a_matrix_loss_steps_by_its_gradient(name, optimizer):
    text, by_hand = LOSSES[name]
    rule = Optimizer(optimizer, {}, BATCH)
    found = simulated(Loss(text, SHAPES, {"V": V}, definitions=XY, data=Data(ROWS)), rule)
    expected = stepped(lambda theta, x, y: naive.gradient_by_differences(lambda at: by_hand(at, x, y), theta), rule)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert np.abs(found[-1] - found[0]).max() > 0.05


def test_feedback_alignment_of_matrices():
    """The error goes back through V and not through the transpose of the second layer, which keeps its gradient."""
    loss = Loss(
        "norm2(e)/2", SHAPES, {"V": V}, definitions={**XY, "e": "W2@W1@x - y"}, data=Data(ROWS),
        direction={"W1": "outer(V.T@e, x)"},
    )  # fmt: skip

    def direction(theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        first, second = unpacked(theta)
        error = second @ first @ x - y
        return np.concatenate([np.outer(V.T @ error, x).ravel(), np.outer(error, first @ x).ravel()])

    rule = Optimizer("sgd", {}, BATCH)
    np.testing.assert_allclose(simulated(loss, rule), stepped(direction, rule), rtol=0, atol=1e-13)


def test_a_matrix_of_states_averages_the_iterates():
    loss = Loss(
        LOSSES["tanh"][0], SHAPES, definitions=XY, data=Data(ROWS),
        states={"mean[3,2]": State("mean + (next(W1) - mean)/(t + 1)", "W1")},
    )  # fmt: skip
    observables = (Observable.parse("square", "norm2(mean)"), Observable.parse("corner", "mean[2,1]"))
    recorder = Recorder(every=1, snapshots=tuple(range(STEPS + 1)), observables=observables)
    run = Run(loss, Optimizer(), Schedule("0.1"), START, N, STEPS, SEED, recorder)
    found = simulate_runs([run], scenario="", device="python")
    averages = np.cumsum(found.parameter("W1")[1:], axis=0) / np.arange(1, STEPS + 1)[:, None, None, None]
    names = list(found["observable"])
    np.testing.assert_allclose(found["mean"][1:, names.index("corner")], averages[..., 2, 1].mean(axis=1), rtol=1e-12)
    squares = (averages**2).sum(axis=(2, 3)).mean(axis=1)
    np.testing.assert_allclose(found["mean"][1:, names.index("square")], squares, rtol=1e-12)
