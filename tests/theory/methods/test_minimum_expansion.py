"""One order beyond linear response, against the exact chain, whose residuals must be of the next order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import NotApplicable
from sgdsim.theory.chain.chain import chain
from sgdsim.theory.methods.minimum_expansion import expansion
from sgdsim.theory.methods.moment_recursion import recursion
from tests.theory.chain.runs import make_run

ONE = {
    "cubic": make_run("x**2/2 + x**3/12 + x**4/24 + z*x/2", {"z": "normal"}),
    "skewed": make_run("x**2/2 + x**3/12 + x**4/24 + z*x/2", {"z": "exponential"}),
    "multiplicative": make_run(
        "x**2 + x**3/9 + x**4/24 + z*(x/3 + x**2/4) + n*sin(x)/3", {"z": "normal", "n": "laplace"}
    ),
    "batches": make_run("x**2/2 + x**3/12 + x**4/24 + z*(x + x**2/2)", {"z": "table:-0.5@0.8,2@0.2"}, batch_size=3),
}


def at_rate(run: Run, rate: float) -> Run:
    return replace(run, schedule=Schedule(repr(rate)))


@pytest.mark.parametrize("name", ONE)
def test_residuals_of_one_parameter_are_of_the_next_order(name: str) -> None:
    rates, residuals = (0.04, 0.02), []
    for rate in rates:
        run = at_rate(ONE[name], rate)
        found, exact = expansion(run), chain(run)
        mean, variance = float(exact.expectation("x").value), float(exact.variance("x").value)
        residuals.append([found.mean[0] - mean, found.covariance[0, 0] - variance, found.leading[0, 0] - variance])
    orders = np.log2(np.abs(np.array(residuals[0]) / np.array(residuals[1])))
    assert orders == pytest.approx([2.0, 3.0, 2.0], abs=0.3)  # the last one is that of linear response


def test_two_parameters_that_share_their_noise() -> None:
    formula = "x**2/2 + y**2 + x*y/2 + z*(x + y/2) + n*(x*y + x/2)"
    run = make_run(formula, {"z": "normal", "n": "normal"}, initial={"x": 0.1, "y": 0.0})
    residuals = []
    for rate in (0.04, 0.02):
        one = at_rate(run, rate)
        found, exact = expansion(one), recursion(one).stationary()
        covariance = np.array([[exact.covariance(a, b) for b in "xy"] for a in "xy"])
        residuals.append(found.covariance - covariance)
        assert found.mean == pytest.approx([exact.mean("x"), exact.mean("y")], abs=1e-9)
    assert np.log2(np.abs(residuals[0] / residuals[1])) == pytest.approx(np.full((2, 2), 3.0), abs=0.35)


@pytest.mark.validate
def test_turned_axes_have_the_turned_law() -> None:
    """The same two parameters in other coordinates, with cubic and quartic terms that join them."""
    noise, start = {"z": "exponential"}, {"x": 0.0, "y": 0.0}
    inner = "{u}**2/2 + {v}**2 + {u}**2*{v}/5 + {u}**2*{v}**2/4 + z*({u} + {u}*{v}/3 + {v}/2)"
    plain = expansion(make_run(inner.format(u="x", v="y"), noise, 0.05, initial=start))
    turn = np.array([[0.8, 0.6], [-0.6, 0.8]])  # u = 0.8 x + 0.6 y
    turned = expansion(make_run(inner.format(u="(0.8*x + 0.6*y)", v="(0.8*y - 0.6*x)"), noise, 0.05, initial=start))
    assert turn @ turned.mean == pytest.approx(plain.mean, rel=1e-6, abs=1e-9)
    assert turn @ turned.covariance @ turn.T == pytest.approx(plain.covariance, rel=1e-6, abs=1e-9)
    assert abs(plain.covariance - plain.leading).max() > 1e-4


def test_where_it_is_not_known_it_says_so() -> None:
    for run, why in (
        (replace(ONE["cubic"], optimizer=Optimizer("momentum")), "plain SGD alone"),
        (make_run("abs(x) + x**2/2 + z*x", {"z": "normal"}), "kinks"),
        (make_run("(x - y)**2/2 + z*x", {"z": "normal"}, initial={"x": 0.0, "y": 0.0}), "no curvature"),
    ):
        with pytest.raises(NotApplicable, match=why):
            expansion(run)
