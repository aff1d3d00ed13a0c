"""Lion against the correlations of its weights, and in simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sgdsim.prediction import NotApplicable
from sgdsim.theory.laws.lion import lion_variance
from tests.theory.laws.optimizer_runs import make_run, optimizer, predicted, verdicts, wall


@pytest.mark.parametrize(
    ("beta1", "beta2", "ratio"), [(0.9, 0.99, 3.413897), (0.9, 0.9, 1.909036), (0.0, 0.5, np.sqrt(np.pi / 8))]
)
def test_lion_is_by_its_correlations(beta1: float, beta2: float, ratio: float) -> None:
    """The sum over lags of what the weights themselves say, and numbers found elsewhere."""
    weights = np.append(1 - beta1, beta1 * (1 - beta2) * beta2 ** np.arange(4000))
    full = np.correlate(weights, weights, "full")[len(weights) - 1 :]
    diffusion = 1 + 4 / np.pi * np.arcsin(full[1:] / full[0]).sum()
    by_hand = 0.3 * 0.7 * np.sqrt(full[0]) / (2 * 2.0) * np.sqrt(np.pi / 2) * diffusion
    assert lion_variance(0.3, 2.0, 0.7, beta1, beta2) == pytest.approx(by_hand, rel=1e-9)
    assert by_hand == pytest.approx(0.3 * 0.7 / 2.0 * ratio, rel=1e-6)


@pytest.mark.validate
def test_lion_in_simulation(tmp_path: Path) -> None:
    """Over four rates; SignSGD's variance and one that is 10 % off must be rejected."""
    plain = "sqrt(pi/8)*learning_rate*s"
    verdicts(
        tmp_path,
        {
            "lion": "agrees",
            f"2*mean(late_fast_loss_x) = {plain}": "disagrees",
            "2*mean(late_fast_loss_x)/(s*learning_rate) = 1.1*1.909036; order=0; resolution=5%": "disagrees",
        },
        optimizer={"name": "lion", "beta1": 0.9, "beta2": 0.9, "learning_rate": 0.004},
        sweep={"optimizer.learning_rate": [0.004, 0.007, 0.01, 0.014]},
        run={"trajectories": 200_000, "steps": 1200},
    )


def test_lion_says_why_it_does_not_hold() -> None:
    for one, rate, reason in (
        (optimizer("signsgd"), 0.001, "holds for lion"),
        (optimizer("lion", decoupled_weight_decay=0.1), 0.001, "without weight decay"),
        (optimizer("lion"), 0.05, "a step pulls x by"),
        (optimizer("lion"), 1e-5, "remembers"),
    ):
        with pytest.raises(NotApplicable, match=reason):
            predicted("lion", make_run(wall(), one, rate))
