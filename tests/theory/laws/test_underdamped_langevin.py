"""BAOAB against the equation of its five parts, and in simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from sgdsim.prediction import NotApplicable
from sgdsim.theory.laws.underdamped_langevin import baoab_variance
from tests.theory.laws.optimizer_runs import make_run, optimizer, predicted, verdicts, wall


def lyapunov(step: float, a: float, temperature: float, friction: float, sigma: float) -> np.ndarray:
    """Covariance of position and velocity at the end of a step, the force of which the next step has again.

    Of (x, v, noise of that force), from the five parts as matrices.
    """
    h, c = step, np.exp(-friction * step)
    kick = np.array([[1, 0, 0], [-h / 2 * a, 1, -h / 2], [0, 0, 1.0]])
    drift = np.array([[1, h / 2, 0], [0, 1, 0], [0, 0, 1.0]])
    matrix = kick @ np.diag([1, 1, 0.0]) @ drift @ np.diag([1, c, 1]) @ drift @ kick
    from_xi = kick @ drift @ [0, np.sqrt(temperature * (1 - c**2)), 0]
    fresh = kick @ [0, 0, sigma]
    return np.asarray(solve_discrete_lyapunov(matrix, np.outer(from_xi, from_xi) + np.outer(fresh, fresh)))


@pytest.mark.parametrize(
    ("step", "a", "temperature", "friction", "sigma"),
    [(0.5, 1, 1, 1, 1), (0.7, 2, 0, 1.3, 1), (1.5, 1, 1, 0.3, 0), (0.3, 3, 0.2, 5, 0.7)],
)
def test_baoab_solves_lyapunovs_equation(
    step: float, a: float, temperature: float, friction: float, sigma: float
) -> None:
    found = lyapunov(step, a, temperature, friction, sigma)
    assert baoab_variance(step, a, temperature, friction, sigma**2) == pytest.approx(found[0, 0], rel=1e-12)
    if not sigma:
        assert found[1, 1] == pytest.approx(temperature * (1 - a * step**2 / 4), rel=1e-12)


def test_baoab_in_simulation(tmp_path: Path) -> None:
    """A large step; the laws without the heat, and of Euler's method, must be rejected."""
    verdicts(
        tmp_path,
        {
            "underdamped-langevin": "agrees",
            "variance(x) = temperature/a": "disagrees",
            "variance(x) = temperature/(a*(1 - learning_rate*a/2))": "disagrees",
        },
        optimizer={"name": "baoab", "temperature": 1.0, "friction": 1.0, "learning_rate": 0.5},
        run={"trajectories": 1_000_000, "steps": 60},
    )


def test_baoab_without_gradient_noise_in_simulation(tmp_path: Path) -> None:
    """At a step of half the largest one the temperature is its own; the control is what the velocity would say."""
    verdicts(
        tmp_path,
        {"underdamped-langevin": "agrees", "variance(x) = temperature/a/(1 - learning_rate**2/4)": "disagrees"},
        loss={"formula": "x**2/2", "parameters": {"x": 0.0}, "constants": {"a": 1.0}},
        optimizer={"name": "baoab", "temperature": 1.0, "friction": 0.5, "learning_rate": 1.0},
        run={"trajectories": 1_000_000, "steps": 80, "seed": 1},
    )


def test_baoab_says_why_it_does_not_hold() -> None:
    values = {"temperature": 1.0}
    for one, rate, reason in (
        (optimizer("langevin", **values), 0.1, "holds for baoab"),
        (optimizer("baoab", weight_decay=0.1, **values), 0.1, "without weight decay"),
        (optimizer("baoab", friction=0.0, **values), 0.1, "without friction"),
        (optimizer("baoab", **values), 1.5, "unstable"),
        (optimizer("baoab", friction=0.01, **values), 0.1, "remembers"),
    ):
        with pytest.raises(NotApplicable, match=reason):
            predicted("underdamped-langevin", make_run(wall(), one, rate))
