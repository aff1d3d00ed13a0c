"""Finite times against closed forms and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from sgdsim.model.noise import Noise
from sgdsim.model.run import Run
from sgdsim.model.starts import Grid
from sgdsim.theory.chain.evolution import evolve
from tests.theory.chain.runs import SIGMAS, ar1, make_run


def test_finite_times_of_a_linear_chain() -> None:
    run = ar1("laplace", 0.3)
    run = Run(run.loss, run.optimizer, run.schedule, {"x": Noise.parse("uniform:0,1")}, 100, 10)
    r, one = 0.7, Noise.parse("laplace")
    for steps in (0, 1, 7):
        found = evolve(run, ["x", "x**2", "x**4"], steps)
        second, fourth = (
            r ** (n * steps) * Noise.parse("uniform:0,1").cumulant(n)
            + 0.3**n * one.cumulant(n) * (1 - r ** (n * steps)) / (1 - r**n)
            for n in (2, 4)
        )
        mean = r**steps / 2
        assert found[0].value == pytest.approx(mean, rel=1e-9)
        assert found[1].value == pytest.approx(second + mean**2, rel=1e-9)
        centred = fourth + 3 * second**2
        assert found[2].value == pytest.approx(centred + 6 * mean**2 * second + mean**4, rel=1e-8)


def test_finite_times_of_a_double_well() -> None:
    """A run that is far from its stationary law, with a formula that has a jump."""
    run = make_run("(x**2 - 1)**2/4 + z*x", {"z": "normal"}, 0.1, initial={"x": -1.0})
    found = evolve(run, ["step(x)", "x"], 60)
    rng = np.random.default_rng(3)
    x = np.full(50_000, -1.0)
    for _ in range(60):
        x = x - 0.1 * (x**3 - x + rng.standard_normal(len(x)))
    for one, values in zip(found, (x > 0, x), strict=True):
        assert one.error < 1e-8
        assert abs(one.value - values.mean()) < SIGMAS * values.std() / np.sqrt(len(x))
    assert abs(found[0].value - 0.5) > SIGMAS * 0.5 / np.sqrt(len(x))  # the stationary value


def test_finite_times_of_deterministic_descent_and_of_signs() -> None:
    run = make_run("x**2/2", {}, 0.3, initial={"x": 1.0}, name="gradient_descent")
    assert evolve(run, ["x"], 5)[0].value == pytest.approx(0.7**5, rel=1e-10)
    run = make_run("x**2/2 + z*x", {"z": "normal"}, 0.5, initial={"x": Grid(-1.0, 1.0, 3)}, name="signsgd")
    found = evolve(run, ["x**2"], 2)[0].value
    exact = 0.0
    for start in (-1.0, 0.0, 1.0):
        for first in (-1, 1):
            middle = start - 0.5 * first
            for second in (-1, 1):
                chance = ndtr(first * start) * ndtr(second * middle)
                exact += chance * (middle - 0.5 * second) ** 2 * {-1.0: 34, 0.0: 33, 1.0: 33}[start] / 100
    assert found == pytest.approx(exact, rel=1e-12)
