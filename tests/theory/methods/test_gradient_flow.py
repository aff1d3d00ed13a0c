"""Entropic flow and modified equation of the mean without Monte Carlo: every sequence of two labels is summed over."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest

from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import NotApplicable
from sgdsim.theory.methods.gradient_flow import ModifiedMean, along, flow, modified_mean
from sgdsim.theory.methods.modes import constant_rate

LABELS = (2.2, -0.2)
START = np.array([1.6, 0.5])
NET = Loss("(u*w - y)**2/2", ("u", "w"), data=Data({"y": LABELS}))
TIME = 1.0

Labels = list[tuple[tuple[float, ...], float]]  # what the steps of one round may be, with probabilities

SINGLE: Labels = [((2.2,), 0.5), ((-0.2,), 0.5)]
SHUFFLED: Labels = [((2.2, -0.2), 0.5), ((-0.2, 2.2), 0.5)]
MEAN: Labels = [((1.0,), 1.0)]


def make_run(rate: float, optimizer: Optimizer | None = None, loss: Loss = NET) -> Run:
    starts = {"u": float(START[0]), "w": float(START[1])}
    return Run(loss, optimizer or Optimizer(), Schedule(repr(rate)), starts, 1000, round(TIME / rate))


@lru_cache
def modified(rate: float) -> ModifiedMean:
    return modified_mean(make_run(rate))


def all_paths(rounds: Labels, steps: int, rate: float, decay: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The parameters at the end of all sequences, and their probabilities."""
    u, w, share = START[:1], START[1:], np.ones(1)
    for _ in range(steps // len(rounds[0][0])):
        found = []
        for labels, chance in rounds:
            a, b = u, w
            for y in labels:
                s = a * b - y
                a, b = a - rate * (s * b + decay * a), b - rate * (s * a + decay * b)
            found.append((a, b, share * chance))
        u, w, share = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return np.stack([u, w]), share


def mean_of(rounds: Labels, rate: float, decay: float = 0.0) -> np.ndarray:
    theta, share = all_paths(rounds, round(TIME / rate), rate, decay)
    return np.asarray(theta @ share)


def charge_of(rounds: Labels, rate: float) -> float:
    (u, w), share = all_paths(rounds, round(TIME / rate), rate)
    return float((u**2 - w**2) @ share)


def charge(theta: np.ndarray) -> float:
    return float(theta[0] ** 2 - theta[1] ** 2)


def orders(error: Callable[[float], float], rates: tuple[float, float] = (0.1, 0.05)) -> float:
    """The slope of the error in the rate."""
    before, last = (abs(error(rate)) for rate in rates)
    return float(np.log(before / last) / np.log(rates[0] / rates[1]))


def gap(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


DESCENT = Optimizer("gradient_descent")
EPOCH = Optimizer(sampling="epoch")


def test_gradient_descent_is_of_order_1_by_l_and_2_by_phi() -> None:
    """Orders 0.987 and 1.910 of the handbook over its rates, by least squares."""
    rates = (0.05, 0.025, 0.0125)
    slopes = []
    for potential in ("loss", "entropic"):
        errors = [gap(mean_of(MEAN, rate), flow(make_run(rate, DESCENT), potential)[0]) for rate in rates]
        slopes.append(np.polyfit(np.log(rates), np.log(errors), 1)[0])
    assert slopes[0] == pytest.approx(1.0, abs=0.1)
    assert slopes[1] == pytest.approx(2.0, abs=0.12)


def test_shuffled_epochs_follow_phi_to_second_order() -> None:
    """The mean over permutations at the ends of epochs; the potential of gradient descent does not do it."""
    rates = (0.05, 0.025)
    assert orders(lambda rate: gap(mean_of(SHUFFLED, rate), flow(make_run(rate, EPOCH), "entropic")[0]), rates) > 1.85
    assert orders(lambda rate: gap(mean_of(SHUFFLED, rate), flow(make_run(rate, EPOCH))[0]), rates) < 1.3
    assert orders(lambda rate: gap(mean_of(SHUFFLED, rate), flow(make_run(rate, DESCENT), "entropic")[0]), rates) < 1.3


def test_the_charge_follows_phi_to_second_order_under_independent_sampling() -> None:
    assert orders(lambda rate: charge_of(SINGLE, rate) - charge(flow(make_run(rate), "entropic")[0])) > 1.85
    assert orders(lambda rate: charge_of(SINGLE, rate) - charge(flow(make_run(rate))[0])) < 1.3
    assert orders(lambda rate: charge_of(SINGLE, rate) - charge(flow(make_run(rate, DESCENT), "entropic")[0])) < 1.3


def test_the_plain_mean_follows_nt3_and_not_phi() -> None:
    """To second order the mean of independent samples is that of the modified equation alone."""
    assert orders(lambda rate: gap(mean_of(SINGLE, rate), modified(rate).mean)) > 1.85
    assert orders(lambda rate: gap(mean_of(SINGLE, rate), flow(make_run(rate), "entropic")[0])) < 1.3
    assert orders(lambda rate: gap(mean_of(SINGLE, rate), flow(make_run(rate))[0])) < 1.3


def test_figures_of_modified() -> None:
    """The handbook's errors of E theta, 9.7e-3 and 2.2e-3 at the rates 0.1 and 0.05, here without Monte Carlo."""
    errors = [gap(mean_of(SINGLE, rate), modified(rate).mean) for rate in (0.1, 0.05)]
    euclidean = [np.linalg.norm(mean_of(SINGLE, rate) - modified(rate).mean) for rate in (0.1, 0.05)]
    assert errors[0] < 9.7e-3 * 1.05 < euclidean[0] * 1.6
    assert errors[1] < 2.2e-3 * 1.05 < euclidean[1] * 1.6


def test_the_covariance_is_that_of_nt3_to_second_order() -> None:
    def error(rate: float, share: float = 1.0) -> float:
        theta, weights = all_paths(SINGLE, round(TIME / rate), rate)
        return gap(np.cov(theta, aweights=weights, ddof=0), share * modified(rate).covariance)

    assert orders(error) == pytest.approx(2.0, abs=0.25)
    assert orders(lambda rate: error(rate, 0.5)) < 1.2


def test_nt3_with_weight_decay() -> None:
    optimizer = Optimizer("sgd", {"weight_decay": 0.4})
    assert orders(lambda rate: gap(mean_of(SINGLE, rate, 0.4), modified_mean(make_run(rate, optimizer)).mean)) > 1.8
    assert gap(mean_of(SINGLE, 0.05, 0.4), modified(0.05).mean) > 0.05


def test_nt3_with_batches_of_noise() -> None:
    """The mean of two signs is -1, 0 or 1; with the noise of one sample the same test fails."""
    noise = {"z": Noise.parse("rademacher")}
    loss = Loss("(u*w - 1 - 1.2*z)**2/2", ("u", "w"), {}, noise)
    pairs: Labels = [((-0.2,), 0.25), ((1.0,), 0.5), ((2.2,), 0.25)]
    rates = (1 / 6, 1 / 12)
    two = Optimizer(batch_size=2)
    assert orders(lambda rate: gap(mean_of(pairs, rate), modified_mean(make_run(rate, two, loss)).mean), rates) > 1.7
    assert orders(lambda rate: gap(mean_of(pairs, rate), modified_mean(make_run(rate, loss=loss)).mean), rates) < 1.4


def test_block_by_block_the_path_follows_phi_of_each_batch() -> None:
    """Pathwise: each step against the flow on l_B, or phi_B, for a time eta; 1.058 and 2.033 in the handbook."""
    one = Loss("(u*w - y)**2/2", ("u", "w"), {"y": LABELS[0]})
    other = Loss("(u*w - y)**2/2", ("u", "w"), {"y": LABELS[1]})

    def error(rate: float, potential: str) -> float:
        order = np.random.default_rng(1).integers(0, 2, 8)  # one order of labels, each for a while
        exact, blocks = START.copy(), START.copy()
        per_label = round(TIME / rate / len(order))
        for label in order:
            for _ in range(per_label):
                s = exact[0] * exact[1] - LABELS[label]
                exact = exact - rate * s * exact[::-1]
            starts = {"u": float(blocks[0]), "w": float(blocks[1])}
            run = Run((one, other)[label], DESCENT, Schedule(repr(rate)), starts, 1000, per_label)
            blocks = flow(run, potential)[0]
        return gap(exact, blocks)

    rates = (1 / 32, 1 / 64)
    assert orders(lambda rate: error(rate, "entropic"), rates) == pytest.approx(2.0, abs=0.15)
    assert orders(lambda rate: error(rate, "loss"), rates) == pytest.approx(1.0, abs=0.15)


def test_a_matrix_of_learning_rates() -> None:
    """theta_dot = -P grad phi, with phi of g^T P g."""
    matrix = np.array([[1.2, 0.4], [0.4, 0.7]])
    optimizer = Optimizer("gradient_descent", preconditioner=(("1.2", "0.4"), ("0.4", "0.7")))

    def path(rate: float) -> np.ndarray:
        theta = START.copy()
        for _ in range(round(TIME / rate)):
            theta = theta - rate * matrix @ ((theta[0] * theta[1] - 1.0) * theta[::-1])
        return theta

    def by_phi_of_the_identity(rate: float) -> np.ndarray:
        """-P grad [L + (eta/4) |grad L|^2], integrated by small steps of fourth order."""

        def slope(theta: np.ndarray) -> np.ndarray:
            u, w = theta
            s = u * w - 1
            push = np.array([s * w, s * u])
            hessian = np.array([[w * w, s + u * w], [s + u * w, u * u]])
            return -matrix @ (push + rate / 2 * hessian @ push)

        theta, h = START.copy(), 0.01
        for _ in range(100):
            k1 = slope(theta)
            k2 = slope(theta + h / 2 * k1)
            k3 = slope(theta + h / 2 * k2)
            theta = theta + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(theta + h * k3))
        return theta

    rates = (0.025, 0.0125)
    assert orders(lambda rate: gap(path(rate), flow(make_run(rate, optimizer), "entropic")[0]), rates) > 1.85
    assert orders(lambda rate: gap(path(rate), by_phi_of_the_identity(rate)), rates) < 1.6


def test_times_come_back_in_the_order_that_they_are_asked_for() -> None:
    run = Run(Loss("x**2/2", ("x",)), Optimizer(), Schedule("0.1"), {"x": 2.0}, 10, 10)
    times = [3.0, 0.5, 1.0, 0.5, 0.0]
    np.testing.assert_allclose(flow(run, times=times)[:, 0], 2 * np.exp(-np.array(times)), rtol=1e-9)


def test_the_start_of_a_spread_ensemble_is_its_mean() -> None:
    run = Run(Loss("x**2/2", ("x",)), Optimizer(), Schedule("0.1"), {"x": Noise.parse("normal:2,1")}, 10, 10)
    assert flow(run)[0, 0] == pytest.approx(2 * np.exp(-1.0), rel=1e-9)
    with pytest.raises(NotApplicable, match="one point"):
        modified_mean(run)


@pytest.mark.validate
def test_numerical_expectations_flow_too() -> None:
    """E|x - z| of Laplace z: L' = 1 - exp(-x), and one sample's slope is a sign, of variance 1 - L'^2."""
    loss = Loss("abs(x - z)", ("x",), {}, {"z": Noise.parse("laplace")})
    run = Run(loss, Optimizer(), Schedule("0.1"), {"x": 1.5}, 10, 10)
    assert flow(run)[0, 0] == pytest.approx(np.log1p(np.expm1(1.5) * np.exp(-1.0)), rel=1e-7)

    def slope(state: np.ndarray) -> np.ndarray:
        x, m, s = state
        bent = np.exp(-x)
        push = -bent * m - bent * (1 - bent) / 2 + bent * s / 2
        return np.array([bent - 1, push, -2 * bent * s + 1 - (1 - bent) ** 2])

    state, h = np.array([1.5, 0.0, 0.0]), 0.01
    for _ in range(100):
        k1 = slope(state)
        k2 = slope(state + h / 2 * k1)
        k3 = slope(state + h / 2 * k2)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(state + h * k3))
    found = modified_mean(run)
    assert found.mean[0] == pytest.approx(state[0] + 0.1 * state[1], rel=1e-6)
    assert found.covariance[0, 0] == pytest.approx(0.1 * state[2], rel=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (Optimizer("momentum"), "plain sgd"),
        (Optimizer(preconditioner=("2", "1")), "plain sgd"),
        (EPOCH, "epochs"),
    ],
)
def test_where_nt3_does_not_hold(optimizer: Optimizer, message: str) -> None:
    with pytest.raises(NotApplicable, match=message):
        modified_mean(make_run(0.1, optimizer))


def test_a_flow_along_a_stiff_valley_is_followed_to_its_end() -> None:
    """Eighty relaxation times of the charge are 4,000 of the valley: explicit steps were given up on the way."""
    starts = {"u": 0.5, "w": 2.0}
    loss = Loss("(u*w - 1 - e)**2/2", ("u", "w"), noise={"e": Noise.parse("normal")})
    run = Run(loss, Optimizer(preconditioner=("4", "1")), Schedule("0.02"), starts, 10, 50_000)
    u, w = flow(run, "entropic")[0]
    assert u**2 == pytest.approx(4 * w**2, rel=1e-6)


def test_rates_that_change_and_flows_that_end() -> None:
    starts = {"u": 1.0, "w": 0.5}
    with pytest.raises(NotApplicable, match="constant"):
        flow(Run(NET, Optimizer(), Schedule("linear:0.1,0.01"), starts, 10, 10))
    with pytest.raises(NotApplicable, match="cannot be followed"):
        flow(Run(Loss("-u**4", ("u",)), Optimizer(), Schedule("0.1"), {"u": 1.0}, 10, 10))
    with pytest.raises(ValueError, match="expected loss or entropic"):
        flow(make_run(0.1), "phi")
    assert constant_rate(make_run(0.125)) == 0.125
    assert along(make_run(0.1), NET.population, np.array([2.0, 3.0])) == pytest.approx((3.8**2 + 6.2**2) / 4)
