"""SignSGD, against the chain and plain loops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.stats import norm

from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import Distance, NotApplicable
from sgdsim.statistics.estimate import Estimate
from sgdsim.statistics.order_test import Series, order_test
from sgdsim.theory import find_law
from sgdsim.theory.chain.evolution import evolve
from sgdsim.theory.laws import signsgd
from tests.theory.laws.entropy_runs import noisy_valley, rows_of
from tests.theory.laws.optimizer_runs import make_run, predicted, signed, wall


@pytest.mark.parametrize(("sigma", "start", "entropy"), [(0.02, 0.25, 1.0), (0.02, 0.0, 1.5)])
def test_the_residual_entropy_is_that_of_the_orbit(sigma, start, entropy):
    run = noisy_valley("signsgd", 0.5, sigma, f"table:{start}@0.5,{start - 0.5}@0.5")
    assert rows_of("residual-entropy", run)[0].predicted == pytest.approx(entropy * np.log(2), abs=1e-9)


def test_the_entropy_of_the_lattice_against_a_plain_loop():
    """200,000 values at one step, for which three standard errors are 0.006 in the entropy."""
    (row,) = rows_of("residual-entropy", noisy_valley("signsgd", 0.5, 1.0, "table:-0.25@0.5,0.25@0.5"))
    rng, x = np.random.default_rng(1), np.repeat([-0.25, 0.25], 100_000)
    for _ in range(200):
        x = x - 0.5 * np.sign(x + rng.normal(size=x.size))
    shares = np.unique(np.round(2 * x, 3), return_counts=True)[1] / x.size
    found = -np.sum(shares * np.log(shares))
    assert row.predicted == pytest.approx(found, abs=0.006)
    one_half = rows_of("residual-entropy", noisy_valley("signsgd", 0.5, 1.0, "table:0.25@1"))[0].predicted
    assert row.predicted == pytest.approx(one_half + np.log(2), abs=1e-4)  # both halves are mirror images


def test_a_residual_entropy_says_why_it_does_not_hold():
    with pytest.raises(NotApplicable, match="not start on one lattice"):
        rows_of("residual-entropy", noisy_valley("signsgd", 0.5, 1.0, "table:0@0.5,0.3@0.5"))
    with pytest.raises(NotApplicable, match="neither at a number nor"):
        rows_of("residual-entropy", noisy_valley("signsgd", 0.5, 1.0, "uniform:-1,1"))


def test_sign_descent_without_noise_against_a_loop():
    loss = Loss("a*x**2/2", ("x",), {"a": 2.0})
    run = make_run(loss, Optimizer("signsgd"), 0.1, Noise.parse("uniform:-1,1"), steps=12)
    rows = predicted("signsgd-noiseless", run)
    x = np.linspace(-1, 1, 200_000, endpoint=False) + 5e-6
    for _ in range(12):
        x = x - 0.1 * np.sign(x)
    assert rows["variance(x)"].predicted == pytest.approx(x.var(), rel=1e-4)
    assert rows["mean(fast_loss_x)"].predicted == pytest.approx(np.mean(x**2), rel=1e-4)
    measure = rows["distribution of x"].measure
    assert isinstance(measure, Distance)
    np.testing.assert_allclose(measure.cdf(np.sort(x)), np.linspace(0, 1, len(x)), atol=1e-4)


@pytest.mark.parametrize("rate", [0.1, 2.0])
@pytest.mark.parametrize("steps", [400, 401])
def test_noisy_sign_descent_at_one_parity_is_what_the_chain_says(rate, steps):
    run = make_run(wall(a=1.0, sigma=1.0), Optimizer("signsgd"), rate, 0.03, steps)
    rows = predicted("signsgd", run)
    mean, square = (float(one.value) for one in evolve(run, ["x", "x**2"], steps))
    assert rows["mean(x)"].predicted == pytest.approx(mean, abs=1e-7)
    assert rows["variance(x)"].predicted == pytest.approx(square - mean**2, rel=1e-7)


SYMMETRIC = {
    "uniform:-2,2": stats.uniform(-1, 2),
    "laplace": stats.laplace(scale=0.5),
    "student_t:1": stats.cauchy(0, 0.5),
}


@pytest.mark.parametrize("noise", SYMMETRIC)
def test_sign_descent_with_other_noise_against_a_loop(noise):
    """Both parities in turn, 4,000 trajectories over 400 steps: 0.5 %, and up to 17 % from leading order."""
    rate, rng = 0.1, np.random.default_rng(5)
    rows = predicted(
        "signsgd", make_run(signed(noise), Optimizer("signsgd"), rate, Noise.parse("uniform:-0.4,0.4"), 300)
    )
    x, squares = rng.uniform(-0.4, 0.4, 4000), []
    for step in range(600):
        x = x - rate * np.sign(2.0 * x + SYMMETRIC[noise].rvs(size=x.size, random_state=rng))
        squares += [np.mean(x**2)] if step >= 200 else []
    assert np.mean(squares) == pytest.approx(rows["variance(x)"].predicted, rel=0.02)


def test_the_leading_order_of_sign_descent_and_where_there_is_none():
    """Uniform noise: exact while x stays within. Cauchy: the next term is eta's. A cusp, Laplace's: its root's."""

    def off(noise: Any, rate: float) -> float:
        return signsgd.mixed_variance(rate, 1.0, noise) / signsgd.leading_variance(rate, 1.0, noise) - 1

    assert abs(off(stats.uniform(-1, 2), 0.05)) < 1e-9
    assert off(stats.cauchy(), 0.001) / off(stats.cauchy(), 0.0005) == pytest.approx(2, rel=0.01)
    assert off(stats.laplace(), 1e-3) == pytest.approx(np.sqrt(1e-3 / np.pi), rel=0.03)  # sqrt(2*v/pi), v = eta/2


def test_leading_order_is_tested_over_four_rates_or_more():
    noise = {"u": Noise.parse("uniform:-1,1"), "l": Noise.parse("laplace")}
    loss = Loss("(x**2 + y**2)/2 + u*x + l*y", ("x", "y"), {}, noise)
    one = make_run(loss, Optimizer("signsgd"), 0.1, Noise.parse("uniform:-1,1"), 400)
    one = replace(one, recorder=one.recorder.merge(find_law("signsgd").requirements(one)))
    rates = (0.05, 0.1, 0.2, 0.25)
    runs = [replace(one, schedule=Schedule(repr(rate))) for rate in rates]
    rows = [row for row in find_law("signsgd").predictions(runs) if isinstance(row.order, int)]
    assert [(row.order, row.small) for row in rows[:4]] == [(0, rate) for rate in rates]
    assert [(row.order, row.small) for row in rows[4:]] == [(1, np.sqrt(rate / np.pi)) for rate in rates]
    # The exact values pass, and those of Laplace noise reject a series in eta that lacks the root's term.
    exact = [signsgd.mixed_variance(rate, 1.0, stats.laplace()) / (rate / 2) for rate in rates]
    for wanted, claimed in ((True, [row.predicted for row in rows[4:]]), (False, [1.0] * 4)):
        given = Series(np.sqrt(rates), [Estimate(value, 2e-3, 64.0) for value in exact], np.array(claimed), 1)
        test = order_test(given, 1e-3)
        passes = test.power == 1 and abs(test.guard.coefficients[0]) < 4 * test.guard.stderrs[0]
        assert passes == wanted
    assert not [row for row in find_law("signsgd").predictions(runs[:3]) if isinstance(row.order, int)]


def test_mixed_phases_are_the_mean_over_both_parities_and_all_phases():
    mixed = signsgd.mixed_variance(2.0, 1.0, 1.0)
    rng = np.random.default_rng(1)
    x = rng.uniform(-2, 2, 100_000)
    squares = []
    for step in range(60):
        x = x - 2.0 * np.sign(x + rng.normal(size=x.size))
        squares.append(np.mean(x**2) if step >= 20 else np.nan)
    # 40 correlated means of 100,000 values: within 4 standard errors of one of them.
    assert abs(np.nanmean(squares) - mixed) < 4 * np.std(x**2) / np.sqrt(x.size)
    points, weights = signsgd.lattice_law(0.1, 1.0, 1.0, 0.03)
    up, down = norm.cdf(-points[:-1]), norm.cdf(points[1:])
    np.testing.assert_allclose(weights[:-1] * up, weights[1:] * down, rtol=1e-9)
    # Handbook: v = (sigma/a)^2*(q + q^2/2 + …), the next term is (7/24 - 2/(3 pi)) q^3.
    q = 0.01 * np.sqrt(np.pi / 8)
    assert signsgd.mixed_variance(0.01, 1.0, 1.0) == pytest.approx(
        q + q**2 / 2 + (7 / 24 - 2 / (3 * np.pi)) * q**3, rel=1e-7
    )


def test_identities_of_noisy_sign_descent():
    run = make_run(wall(), Optimizer("signsgd"), 0.2, Noise.parse("uniform:-0.6,0.6"), 200)
    rows = predicted("signsgd", run)
    assert rows["mean(late_x_times_sign)"].predicted == 0.1
    v = signsgd.mixed_variance(0.2, 2.0, 0.7)
    assert rows["correlation of x, lag 1"].predicted == pytest.approx(1 - 0.2**2 / (2 * v))
