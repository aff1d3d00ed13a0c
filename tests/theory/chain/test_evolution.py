"""Finite times against closed forms and simulations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from sgdsim.model.noise import Noise
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Grid
from sgdsim.prediction import NotApplicable
from sgdsim.theory.chain import legs
from sgdsim.theory.chain.evolution import distribution_after, evolve
from sgdsim.theory.methods.moment_recursion import recursion
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


@pytest.mark.parametrize(
    ("schedule", "steps", "off"),
    [
        ("step:0.3,0.3,20", 60, 1e-6),  # three rates, an operator each
        ("cosine:0.3", 60, 1e-6),  # sixty, interpolated
        ("cosine:0.3", 400, 1e-3),  # several steps at their mean rate
        ("0.02*(1 + 0.5*sin(t/30))", 300, 1e-3),  # turns three times
    ],
)
def test_rates_that_change(schedule: str, steps: int, off: float) -> None:
    run = replace(make_run("x**2/2 + z*x", {"z": "normal"}, schedule, initial={"x": 1.0}), steps=steps)
    mean, variance, *_ = recursion(run).after(steps).cumulants("x")
    for one, exact in zip(evolve(run, ["x", "x**2"], steps, fineness=0), (mean, variance + mean**2), strict=True):
        scale = np.sqrt(variance) if one.value < 1e-3 else exact
        assert abs(one.value - exact) <= one.error + 1e-14
        assert one.error < off * scale
    last = replace(run, schedule=Schedule(str(run.schedule.rates(steps)[-1])))
    assert recursion(last).after(steps).cumulants("x")[1] < 0.9 * variance  # the law at the last rate is another


@pytest.mark.parametrize("schedule", ["0.2*(1 + 0.9*sin(1.3*t))", "0.2*(1 + 0.6*sin(2*pi*t/30))*(1 - t/500)"])
def test_a_rate_whose_mean_within_a_leg_does_not_stand_for_it_is_refused(schedule: str) -> None:
    """Both meshes would have the same mean rate, so that their difference shows nothing."""
    run = replace(make_run("x**2/2 + z*x", {"z": "normal"}, schedule, initial={"x": 1.0}), steps=400)
    with pytest.raises(NotApplicable, match=r"turns .* times and changes by .* simulate instead"):
        evolve(run, ["x**2"], 400, fineness=0)


def test_the_distribution_where_rates_change_is_that_of_one_step_after_another() -> None:
    run = replace(make_run("x**2/2 + z*x", {"z": "normal"}, "0.4/(1 + t/20)", initial={"x": 1.0}), steps=30)
    mean, variance, *_ = recursion(run).after(30).cumulants("x")
    cdf, error = distribution_after(run, 30)
    assert error < 1e-6
    places = np.linspace(-2, 2, 9)
    assert np.abs(cdf(mean + np.sqrt(variance) * places) - ndtr(places)).max() < error + 1e-12
    with pytest.raises(NotApplicable, match="has 100 values, expected at most 64"):
        distribution_after(replace(run, steps=100), 100)


def test_powers_of_an_operator_are_its_products() -> None:
    """Whatever number of squares is the least work."""
    random = np.random.default_rng(2)
    matrix, values = random.dirichlet(np.ones(5), size=5), random.standard_normal((5, 2))
    for count in (1, 6, 37):
        wanted = np.linalg.matrix_power(matrix, count) @ values
        for seconds in (0.0, 1.0):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(legs, "_SECONDS_A_SQUARE", seconds)
                assert legs._power(matrix, count, values) == pytest.approx(wanted, rel=1e-12)
