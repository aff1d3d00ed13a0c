"""Schedule-free SGD against its matrices, and in simulation; other averages of iterates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sgdsim.model.noise import Noise
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from tests.theory.laws.optimizer_runs import make_run, optimizer, predicted, verdicts, wall


@pytest.mark.parametrize("schedule", ["0.2", "0.3*min(1, (t + 1)/5)", "exponential:0.4,30"])
def test_schedule_free_is_its_matrix(schedule: str) -> None:
    """Against matrices of (z, x, 1), where z and x begin together; a start with a spread, decay and weights."""
    one = optimizer("schedule_free_sgd", momentum=0.8, weight_decay=0.1, decoupled_weight_decay=0.2, weight_power=1.5)
    a, sigma, centre = 2.0, 0.7, 0.4
    start = Noise.parse("normal:1,0.5")
    run = Run(wall(a, sigma, centre), one, Schedule(schedule), {"x": start}, 1000, 60)
    square, top, total = np.array([[1.25, 1.25, 1], [1.25, 1.25, 1], [1, 1, 1.0]]), 0.0, 0.0
    for t, rate in enumerate(run.schedule.rates(60)):
        top = max(top, rate)
        weight = (t + 1) ** 1.5 * top**2
        total += weight
        step = np.array(
            [[1 - rate * (a + 0.3) * 0.2, -rate * (a + 0.3) * 0.8, rate * a * centre], [0, 1, 0], [0, 0, 1]]
        )
        mean = np.array([[1, 0, 0], [weight / total, 1 - weight / total, 0], [0, 0, 1]])
        square = step @ square @ step.T
        square[0, 0] += rate**2 * sigma**2
        square = mean @ square @ mean.T
    rows = predicted("schedule-free", run)
    assert rows["mean(x)"].predicted == pytest.approx(square[1, 2], rel=1e-12)
    assert rows["variance(x)"].predicted == pytest.approx(square[1, 1] - square[1, 2] ** 2, rel=1e-11)


@pytest.mark.parametrize(("beta", "limit"), [(0.9, 5.263158), (0.5, 4 / 3)])
def test_the_average_is_known_better_and_better(beta: float, limit: float) -> None:
    """t*Var x goes to (s/a)^2/(1 - beta^2) at every rate: no stationary variance."""
    run = make_run(wall(1.0, 1.0), optimizer("schedule_free_sgd", momentum=beta), 0.1, 0.0, 100_000)
    assert 100_000 * predicted("schedule-free", run)["variance(x)"].predicted == pytest.approx(limit, rel=1e-3)


def test_schedule_free_sgd_in_simulation(tmp_path: Path) -> None:
    """The control: the variance that plain SGD's mean of iterates would have."""
    verdicts(
        tmp_path,
        {"schedule-free": "agrees", "variance(x) = (s/a)**2/steps": "disagrees"},
        optimizer={"name": "schedule_free_sgd", "learning_rate": 0.1},
        run={"trajectories": 1_000_000, "steps": 100, "initial": {"x": 2.0}},
    )


def test_averages_of_iterates(tmp_path: Path) -> None:
    """The mean of all iterates and one that forgets, as states; the control is the variance of the last iterate."""
    r = "(1 - learning_rate*a)"
    last = "learning_rate*s**2/(a*(2 - learning_rate*a))"
    squares = f"steps - 2*{r}*(1 - {r}**steps)/(1 - {r}) + {r}**2*(1 - {r}**(2*steps))/(1 - {r}**2)"
    verdicts(
        tmp_path,
        {
            f"variance(all) = (s/(a*steps))**2*({squares}); resolution=2%": "agrees",
            f"variance(same) = (s/(a*steps))**2*({squares}); resolution=2%": "agrees",
            f"variance(fading) = {last}*(1 - b)*(1 + b*{r})/((1 + b)*(1 - b*{r})); resolution=2%": "agrees",
            f"variance(fading) = {last}": "disagrees",
            "variance(all) = (s/a)**2/steps": "disagrees",
        },
        loss={
            "formula": "a*x**2/2 + s*z*x",
            "parameters": {"x": 0.0},
            "constants": {"a": 1.0, "s": 1.0, "b": 0.9},
            "noise": {"z": "normal"},
            "state": {"average": "average + (next(x) - average)/(t + 1)", "slow": "b*slow + (1 - b)*next(x)"},
        },
        optimizer={"learning_rate": 0.2},
        run={"trajectories": 200_000, "steps": 80},
        record={"observables": {"all": "average", "same": "window_mean(x, 0, 80)", "fading": "slow"}},
    )
