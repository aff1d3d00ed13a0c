"""The exact chain against closed forms, an independent computation and plain simulations.

Statistical checks allow 4.9 standard errors: one false alarm in a million each.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from sgdsim.model.correlated_noise import correlated_normal
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import NotApplicable
from sgdsim.theory.chain.chain import Chain, _changes, chain
from sgdsim.theory.chain.evolution import evolve
from tests.samples import daily
from tests.theory.chain.runs import SIGMAS, ar1, check, make_run, river

# One parameter, linear: all cumulants are known (valley)


@pytest.mark.parametrize("rate", daily([0.02, 0.5, 1.0, 1.5, 1.9], 0.02, 1.5))
@pytest.mark.parametrize("noise", daily(["normal", "laplace", "rademacher", "exponential"], "normal", "exponential"))
def test_cumulants_of_a_linear_chain(noise: str, rate: float) -> None:
    law = chain(ar1(noise, rate))
    one = Noise.parse(noise)
    r = 1 - rate
    second, third, fourth = (((-rate) ** n) * one.cumulant(n) / (1 - r**n) for n in (2, 3, 4))
    check(law.expectation("x"), 0.0, 1e-8, np.sqrt(second))
    check(law.variance("x"), second, 1e-8)
    check(law.expectation("x**3"), third, 1e-8, second**1.5)
    check(law.expectation("x**4"), fourth + 3 * second**2, 1e-8)


@pytest.mark.parametrize(("dof", "rate"), daily([(6.0, 0.5), (3.0, 0.5), (3.0, 0.02)], (6.0, 0.5), (3.0, 0.5)))
def test_variance_of_a_heavy_tail(dof: float, rate: float) -> None:
    exact = rate * dof / (dof - 2) / (2 - rate)
    check(chain(ar1(f"student_t:{dof}", rate)).variance("x"), exact, 1e-4)


def test_a_moment_that_does_not_exist_is_refused() -> None:
    law = chain(ar1("student_t:3", 0.5))
    with pytest.raises(NotApplicable, match="heavy tails"):
        law.expectation("x**4")
    assert law.expectation("tanh(x)**2").error < 1e-6


@pytest.mark.parametrize("noise", ["normal", "rademacher", "laplace"])
@pytest.mark.parametrize("rate", [0.3, 1.7])
def test_eigenvalues_of_a_linear_chain(noise: str, rate: float) -> None:
    found = chain(ar1(noise, rate)).relaxation(3)
    np.testing.assert_allclose(found, (1 - rate) ** np.arange(1, 4), atol=1e-7)


def test_langevin_and_weight_decay() -> None:
    found = chain(make_run("x**2/2", {}, 0.2, name="langevin", hyperparameters={"temperature": 0.5}))
    check(found.expectation("x**2"), 0.5 / 0.9, 1e-8)
    for kind in ("weight_decay", "decoupled_weight_decay"):
        law = chain(ar1("normal", 0.2, hyperparameters={kind: 0.5}))
        check(law.expectation("x**2"), 0.2 / (1.5 * (2 - 0.2 * 1.5)), 1e-8)


def test_a_preconditioner_scales_the_step() -> None:
    check(chain(ar1("normal", 0.25, preconditioner=("2",))).expectation("x**2"), 0.25 / 0.75, 1e-8)
    check(chain(ar1("normal", 0.25, metric=("0.5",))).expectation("x**2"), 0.25 / 0.75, 1e-8)


@pytest.mark.parametrize("noise", ["normal", "laplace", "rademacher", "uniform:-1,2"])
def test_batches(noise: str) -> None:
    one, samples = Noise.parse(noise), 5
    law = chain(ar1(noise, 0.5, batch_size=samples))
    second, fourth = (0.5**n * one.cumulant(n) / samples ** (n - 1) / (1 - 0.5**n) for n in (2, 4))
    check(law.variance("x"), second, 1e-8)
    centred = law.expectation(f"(x + {one.moment(1)!r})**4")
    check(centred, fourth + 3 * second**2, 1e-8)


# One parameter, other


@pytest.mark.parametrize("rate", daily([0.1, 0.3], 0.1))
def test_regression_has_multiplicative_noise_and_long_tails(rate: float) -> None:
    """Regression in one dimension: the variance is eta s^2/(2 - 3 eta)."""
    law = chain(make_run("(z*x - e)**2/2", {"z": "normal", "e": "normal"}, rate))
    check(law.expectation("x**2"), rate / (2 - 3 * rate), 1e-4)


def test_a_variance_that_tails_make_infinite_is_refused() -> None:
    law = chain(make_run("(z*x - e)**2/2", {"z": "table:0.5@0.9,2.2@0.1", "e": "normal"}, 0.8), tolerance=0.1)
    with pytest.raises(NotApplicable, match="heavy tails"):
        law.expectation("x**2")


@cache
def brute_force(rate: float, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """The double well by the forward operator: trapezoids, which converge exponentially, and powers of the matrix."""
    x = np.linspace(-3.0, 3.0, 601)
    after = x - rate * (x**3 - x)
    kernel = np.exp(-((x[:, None] - after) ** 2) / 2 / (rate * sigma) ** 2)
    power = kernel / kernel.sum(axis=0)
    for _ in range(24):
        power = power @ power
        power /= power.sum(axis=0)
    return x, power[:, 300]


def test_double_well() -> None:
    rate, sigma = 0.1, 1.2
    law = chain(make_run("(x**2 - 1)**2/4 + s*z*x", {"z": "normal"}, rate, {"s": sigma}))
    x, weights = brute_force(rate, sigma)
    for formula, function in {
        "x**2": lambda x: x**2,
        "(x**2 - 1)**2/4": lambda x: (x**2 - 1) ** 2 / 4,
        "x*(x**3 - x)": lambda x: x**4 - x**2,
        "cos(2*x)": lambda x: np.cos(2 * x),
    }.items():
        check(law.expectation(formula), function(x) @ weights, 1e-8)
    assert law.expectation("abs(x)").value == pytest.approx(np.abs(x) @ weights, rel=1e-4)  # which ignores the kink
    check_identity = law.expectation("(x**3 - x)**2").value + sigma**2
    assert law.expectation("x*(x**3 - x)").value == pytest.approx(rate / 2 * check_identity, rel=1e-10)  # virial
    check(law.expectation("step(x)"), 0.5, 1e-8)
    other, others = brute_force(rate, 1.21)
    assert law.expectation("x**2").value != pytest.approx(other**2 @ others, rel=1e-4)


def test_a_kink_of_the_loss() -> None:
    """virial with p = 1: <V> = (eta/2) (k^2 + 1)."""
    law = chain(make_run("k*abs(x) + z*x", {"z": "normal"}, 0.1, {"k": 0.3}))
    check(law.expectation("k*abs(x)"), 0.05 * (0.09 + 1), 1e-8)


def test_a_data_set() -> None:
    """Least squares: the step is affine with the random factor 1 - eta d^2."""
    d, e = np.array([1.0, -0.5, 2.0, 0.3]), np.array([1.0, 0.2, -0.4, 0.9])
    data = Data({"d": tuple(d), "e": tuple(e)})
    rate = 0.2
    factor, shift = 1 - rate * d**2, rate * d * e
    middle = shift.mean() / (1 - factor.mean())
    square = (shift**2 + 2 * factor * shift * middle).mean() / (1 - (factor**2).mean())
    law = chain(make_run("(d*x - e)**2/2", {}, rate, data=data))
    check(law.expectation("x"), middle, 1e-8)
    check(law.expectation("x**2"), square, 1e-8)
    pairs = np.array([(factor[[i, j]].mean(), shift[[i, j]].mean()) for i in range(4) for j in range(i)])
    middle = pairs[:, 1].mean() / (1 - pairs[:, 0].mean())
    square = (pairs[:, 1] ** 2 + 2 * pairs[:, 0] * pairs[:, 1] * middle).mean() / (1 - (pairs[:, 0] ** 2).mean())
    law = chain(make_run("(d*x - e)**2/2", {}, rate, data=data, batch_size=2, sampling="batch"))
    check(law.expectation("x**2"), square, 1e-8)


# Two parameters


@pytest.mark.validate
def test_a_quadratic_with_correlated_noise() -> None:
    """The discrete Lyapunov equation."""
    hessian, covariance, rate = np.array([[1.0, 0.4], [0.4, 0.5]]), np.array([[1.0, 0.6], [0.6, 1.0]]), 0.3
    noise, definitions = correlated_normal(["zx", "zy"], covariance.tolist())
    formula = "a*x**2/2 + b*y**2/2 + c*x*y + zx*x + zy*y"
    loss = Loss(formula, ("x", "y"), {"a": 1.0, "b": 0.5, "c": 0.4}, noise, definitions=definitions)
    run = Run(loss, Optimizer(), Schedule(str(rate)), {"x": 0.3, "y": 0.2}, 100, 10)
    start = time.process_time()
    law = chain(run)
    factor = np.eye(2) - rate * hessian
    exact = solve_discrete_lyapunov(factor, rate**2 * covariance)
    for formula, value in {"x**2": exact[0, 0], "x*y": exact[0, 1], "y**2": exact[1, 1]}.items():
        check(law.expectation(formula), value, 1e-4, np.sqrt(exact[0, 0] * exact[1, 1]))
    check(law.expectation("x**4"), 3 * exact[0, 0] ** 2, 1e-4)
    check(law.expectation("step(x)"), 0.5, 1e-4)
    np.testing.assert_allclose(law.relaxation(1), np.linalg.eigvalsh(factor).max(), atol=1e-4)
    assert time.process_time() - start < 20
    with pytest.raises(NotApplicable, match="one parameter"):
        law.density([0.0])
    mean, spread = np.array([0.3, 0.2]), np.zeros((2, 2))
    for _ in range(5):
        mean, spread = factor @ mean, factor @ spread @ factor.T + rate**2 * covariance
    first, second = evolve(run, ["x", "x*y"], 5)
    check(first, mean[0], 1e-4)
    check(second, spread[0, 1] + mean[0] * mean[1], 1e-4)


@pytest.mark.validate
def test_a_river_valley_with_noise_across_alone() -> None:
    """Entropic trapping (entropic-trap) against a plain simulation of 40 000 trajectories."""
    law = chain(river())
    rng = np.random.default_rng(7)
    x, y = np.zeros(40_000), np.full(40_000, 0.85)
    sums = np.zeros((3, len(x)))
    for number in range(700):
        z = rng.standard_normal(len(x))
        x, y = x - 0.1 * (2 * (1 + y**2) * x + z), y - 0.1 * (2 * y * x**2 + 0.2 * (y - 1))
        if number >= 300:
            sums += np.array([y, (y - 0.85) ** 2, x**2 * (1 + y**2)])
    values = sums / 400
    errors = values.std(axis=1) / np.sqrt(values.shape[1])
    for formula, mean, error in zip(
        ("y", "(y - 0.85)**2", "x**2*(1 + y**2)"), values.mean(axis=1), errors, strict=True
    ):
        found = law.expectation(formula)
        assert found.error < 1e-3 * abs(found.value)
        assert abs(found.value - mean) < SIGMAS * error + found.error
    bare_root = (
        0.84775  # of entropic-trap, without the correction by fluctuations: the simulation tells it from the mean
    )
    assert abs(values[0].mean() - bare_root) > SIGMAS * errors[0]
    exact = law.expectation("b*(y - yc)").value + law.expectation("a0*y*x**2").value
    assert abs(exact) < 1e-6


# What is refused


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: ar1("normal", 0.1, name="momentum"), "remembers velocity"),
        (lambda: make_run("x**2/2 + z*x", {"z": "normal"}, "0.1/(1 + t)"), "goes from 0.1 to 0.01.*last-step"),
        (lambda: ar1("normal", 2.5), "diverges"),
        (lambda: make_run("z**2*x**2/2", {"z": "normal"}, 0.2), "collapses"),
        (lambda: make_run("x**2/2 + z*x", {"z": "normal"}, 0.2, name="gradient_descent"), "collapses"),
        (lambda: make_run("z*x", {"z": "normal"}, 0.1), "more than one stationary law|no stationary law"),
        (
            lambda: make_run(
                "(x**2 - 1)**2/4 + s*z*x", {"z": "normal"}, 0.1, {"s": 0.2}, {"x": Noise.parse("rademacher")}
            ),
            "more than one stationary law",
        ),
        (
            lambda: make_run("x**2 + y**2 + w**2 + z*x", {"z": "normal"}, 0.1, None, dict.fromkeys("xyw", 0.0)),
            "3 param",
        ),
    ],
)
def test_refusals(run: Any, message: str) -> None:
    with pytest.raises(NotApplicable, match=message):
        chain(run())


def test_a_chain_that_runs_onto_a_line_says_nothing_across_it() -> None:
    """The charge of the rescaling is zero from the start, so that the two parameters are one."""
    one = make_run("(u*w - 1)**2/2 + z*u*w", {"z": "normal"}, 0.1, None, {"u": 1.0, "w": 1.0})
    with pytest.raises(NotApplicable, match="collapses"):
        chain(one)


def test_one_dimension_is_fast() -> None:
    chain(ar1())  # imports
    start = time.process_time()
    law = chain(make_run("x**4/4 + z*x", {"z": "normal"}, 0.1))
    law.expectation("x**2")
    assert time.process_time() - start < 2.0
    assert isinstance(law, Chain)


def test_a_mean_that_is_larger_than_one_must_settle_too() -> None:
    """Of 171 and 1.08 each was taken in units of itself, and the two ones were the same."""
    assert _changes(np.array([1.08, 0.1]), np.array([171.0, 0.3])).round(6).tolist() == [157.333333, 0.2]
    assert _changes(np.array([200.0]), np.array([100.0])).tolist() == [0.5]
