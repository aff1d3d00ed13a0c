"""Laws momentum to adam of other optimizers and other noise, against the recursion, the chain and plain loops."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.stats import norm

from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.losses.linear_regression import linear_regression
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import OPTIMIZERS, Optimizer
from sgdsim.model.run import Recorder, Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import Distance, NotApplicable, Prediction
from sgdsim.statistics.estimate import Estimate
from sgdsim.statistics.order_test import Series, order_test
from sgdsim.theory import LAWS, find_law
from sgdsim.theory.chain.evolution import evolve
from sgdsim.theory.laws import adaptive_optimizers, minibatches, signsgd
from sgdsim.theory.methods.moment_recursion import recursion

NORMAL = {"z": Noise.parse("normal")}


def wall(a: float = 2.0, sigma: float = 0.7, centre: float = 0.0) -> Loss:
    return Loss("a*(x - x0)**2/2 + s*z*x", ("x",), {"a": a, "s": sigma, "x0": centre}, NORMAL)


def make_run(loss: Loss, optimizer: Optimizer, rate: float, start: Any = 0.3, steps: int = 400) -> Run:
    return Run(loss, optimizer, Schedule(repr(rate)), dict.fromkeys(loss.parameters, start), 1000, steps)


def predicted(id: str, run: Run) -> dict[str, Prediction]:
    """By quantity, with all recorded that the law asks for."""
    run = replace(run, recorder=run.recorder.merge(find_law(id).requirements(run)))
    return {row.quantity: row for row in find_law(id).predictions([run])}


def optimizer(name: str, **values: float) -> Optimizer:
    batch = int(values.pop("batch_size", 1))
    return Optimizer(name, values, batch)


MOMENTUM = [
    ("momentum", optimizer("momentum", momentum=0.9)),
    ("momentum", optimizer("momentum", momentum=0.5, batch_size=4)),
    ("momentum", optimizer("ema", momentum=0.9)),
    ("momentum", optimizer("nesterov", momentum=0.9)),
    ("weight-decay", optimizer("sgd", weight_decay=0.5)),
    ("weight-decay", optimizer("sgd", decoupled_weight_decay=0.5)),
    ("weight-decay", optimizer("momentum", momentum=0.8, weight_decay=0.5)),
    ("weight-decay", optimizer("momentum", momentum=0.8, decoupled_weight_decay=0.5)),
    ("weight-decay", optimizer("ema", momentum=0.8, decoupled_weight_decay=0.5)),
    ("weight-decay", optimizer("nesterov", momentum=0.8, weight_decay=0.5)),
]


@pytest.mark.parametrize(("id", "rule"), MOMENTUM, ids=str)
@pytest.mark.parametrize("rate", [0.02, 0.4])
def test_momentum_and_decay_are_what_the_recursion_of_moments_says(id, rule, rate):
    run = make_run(wall(centre=0.5), rule, rate, steps=2000)
    rows, moments = predicted(id, run), recursion(run, 2).stationary()
    assert rows["mean(x)"].predicted == pytest.approx(moments.mean("x"), rel=1e-9)
    assert rows["variance(x)"].predicted == pytest.approx(moments.variance("x"), rel=1e-9)
    energy = moments.variance("x") + (moments.mean("x") - 0.5) ** 2  # a/2 = 1
    assert rows["mean(fast_loss_x)"].predicted == pytest.approx(energy, rel=1e-9)


def test_the_velocity_of_the_heavy_ball():
    run = make_run(wall(), optimizer("momentum", momentum=0.8), 0.3)
    rows, moments = predicted("momentum", run), recursion(run, 2).stationary()
    assert rows["mean(velocity_squared_x)"].predicted == pytest.approx(moments.variance("velocity of x"))


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_rivals_are_the_limits_of_small_learning_rates(rate):
    """They are off by about eta*a/(2*(1 + beta)) of the heavy ball."""
    (row,) = [
        p
        for q, p in predicted("momentum", make_run(wall(), optimizer("momentum"), rate, steps=9000)).items()
        if "fast" in q
    ]
    off = row.predicted / row.rival.predicted - 1
    assert off == pytest.approx(rate * 2.0 / (2 * 1.9), rel=0.1)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "loss",
    [
        wall(centre=0.3),
        linear_regression([0.4], "normal:0,1.3", constants={"sigma": 0.7}),
        Loss(
            "a*x**2/2 + s0*z*x + s1*y*x**2/2",
            ("x",),
            {"a": 1.0, "s0": 0.5, "s1": 0.8},
            {**NORMAL, "y": Noise.parse("laplace:0.5")},
        ),
        wall(a=0.5),
    ],
    ids=["additive", "label noise", "multiplicative", "flat"],
)
def test_random_slopes_are_what_the_recursion_of_moments_says(loss, batch):
    (name,) = loss.parameters
    run = make_run(loss, Optimizer("sgd", {}, batch), 0.2)
    rows, moments = predicted("minibatches", run), recursion(run, 2).stationary()
    assert rows[f"mean({name})"].predicted == pytest.approx(moments.mean(name), abs=1e-12)
    assert rows[f"variance({name})"].predicted == pytest.approx(moments.variance(name), rel=1e-9)


@pytest.mark.parametrize(
    ("rate", "loss"),
    [
        (0.08, linear_regression([0.4], "normal:0,1.3", constants={"sigma": 0.7})),
        (0.008, linear_regression([0.0], "exponential", noise="exponential")),
        (
            0.08,
            Loss("a*x**2/2 + s*z*x**2/2 + y*x", ("x",), {"a": 1.0, "s": 0.8}, {**NORMAL, "y": Noise.parse("laplace")}),
        ),
    ],
    ids=["label noise", "skewed", "multiplicative"],
)
def test_the_kurtosis_is_what_the_recursion_of_moments_says(rate, loss):
    (name,) = loss.parameters
    run = replace(make_run(loss, Optimizer(), rate, steps=1000), trajectories=20_000_000)
    _, variance, _, fourth = recursion(run, 4).stationary().cumulants(name)
    row = predicted("minibatches", run)[f"kurtosis({name})"]
    assert row.predicted == pytest.approx(fourth / variance**2, rel=1e-8)
    assert row.predicted > 0.01
    assert row.resolution == row.predicted - row.rival.predicted
    few = replace(run, trajectories=int(50 / row.predicted**2))  # 24*100 would tell it from a normal law
    assert f"kurtosis({name})" not in predicted("minibatches", few)


def test_the_kurtosis_of_label_noise_is_the_handbooks():
    def excess(h: float) -> float:
        loss = linear_regression([0.0])
        return minibatches.one_sample_kurtosis(loss, minibatches.random_directions(loss)[0], h)[0]

    h = 0.12
    v, r4 = h / (2 - 3 * h), 1 - 4 * h + 18 * h**2 - 60 * h**3 + 105 * h**4
    assert excess(h) == pytest.approx((6 * h**2 * (1 - 6 * h + 15 * h**2) * v + 9 * h**4) / (1 - r4) / v**2 - 3)
    assert excess(0.2) == np.inf  # E r^12 > 1: it could not be measured
    run = replace(make_run(linear_regression([0.0]), Optimizer(), 0.2), trajectories=10**9)
    assert not [q for q in predicted("minibatches", run) if "kurtosis" in q]


def test_label_noise_breaks_equipartition():
    """Handbook: v is free of a to leading order; the rival is the energy of additive noise as strong."""
    flat, steep = (
        predicted("minibatches", make_run(linear_regression([0.0], f"normal:0,{s}"), Optimizer(), 0.02, steps=4000))
        for s in (1, 2)
    )
    energies = [next(p.predicted for q, p in rows.items() if "fast_loss" in q) for rows in (flat, steep)]
    assert energies[1] / energies[0] == pytest.approx(4.0, rel=0.12)
    assert steep["variance(w[0])"].predicted == pytest.approx(0.02 / (2 - 0.02 * 4 * 3))


@pytest.mark.parametrize("batch", [1, 2])
def test_shuffled_epochs_against_all_orders(batch):
    """Every order of the rows is equally likely; the variance is that of a fixed point."""
    values = (1.5, -1.0, 0.25, -0.75)
    loss = Loss("a*x**2/2 + e*x", ("x",), {"a": 0.8}, {}, data=Data({"e": values}))
    run = make_run(loss, Optimizer("sgd", {}, batch, "epoch"), 0.3, steps=80)
    r = 1 - 0.3 * 0.8
    ends = []
    for order in itertools.permutations(values):
        x = 0.0
        for start in range(0, 4, batch):
            x = r * x - 0.3 * np.mean(order[start : start + batch])
        ends.append(x)
    expected = np.var(ends) / (1 - r ** (8 // batch))
    rows = predicted("minibatches", run)
    assert rows["variance(x)"].predicted == pytest.approx(expected, rel=1e-12)
    assert rows["variance(x)"].rival.predicted > 2 * expected


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


def signed(noise: str) -> Loss:
    return Loss("a*x**2/2 + s*z*x", ("x",), {"a": 2.0, "s": 0.5}, {"z": Noise.parse(noise)})


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
    for wanted, predicted in ((True, [row.predicted for row in rows[4:]]), (False, [1.0] * 4)):
        given = Series(np.sqrt(rates), [Estimate(value, 2e-3, 64.0) for value in exact], np.array(predicted), 1)
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


def adaptive(name: str, averaging: str, rate: float) -> tuple[float, float]:
    """Variance over time and trajectories of a plain loop, and the law's."""
    rule = Optimizer(name, {averaging: 0.998, "epsilon": 1e-12})
    rng, n = np.random.default_rng(2), 1000
    x, states = np.zeros(n), {state: np.zeros(n) for state in rule.rule.state}
    total = []
    for step in range(4500):
        given: Mapping[str, Any] = {"theta": x, "gradient": x + rng.normal(size=n), "t": step, "learning_rate": rate}
        after = rule.steps({**given, **states})
        x, states = after["theta"], {state: after[state] for state in states}
        if step >= 3500:
            total.append(np.mean(x**2))
    run = make_run(wall(a=1.0, sigma=1.0), rule, rate, steps=4500)
    return float(np.mean(total)), predicted({"rmsprop": "rmsprop", "adam": "adam"}[name], run)["variance(x)"].predicted


@pytest.mark.parametrize("rate", [0.5, 3.0])
@pytest.mark.parametrize(("name", "averaging"), [("rmsprop", "alpha"), ("adam", "beta2")])
def test_adaptive_optimizers_against_a_plain_loop(name, averaging, rate):
    """1000 trajectories over 1000 steps: about 0.4 %, more than what is neglected, and far less than leading order."""
    found, expected = adaptive(name, averaging, rate)
    assert found == pytest.approx(expected, rel=0.016)
    assert abs(rate / 2 / expected - 1) > 0.09


def test_adaptive_limits():
    assert adaptive_optimizers.rmsprop_variance(1e-4, 1.0, 3.0) == pytest.approx(1e-4 * 3 / 2, rel=1e-4)
    assert adaptive_optimizers.adam_variance(1e-4, 1.0, 3.0, 0.9) == pytest.approx(1e-4 * 3 / 2, rel=1e-4)
    assert adaptive_optimizers.adam_variance(0.7, 1.0, 1.0, 0.0) == pytest.approx(
        adaptive_optimizers.rmsprop_variance(0.7, 1.0, 1.0), rel=1e-9
    )


def time_average(alpha: float, rate: float, excluding: bool, seed: int = 3) -> tuple[float, float]:
    """Mean of x^2 over time and trajectories of a plain loop, whose mean square begins at rest, with its error."""
    rng, n, steps = np.random.default_rng(seed), 5000, 2000
    x, square, total = np.zeros(n), np.ones(n), np.zeros(n)
    for step in range(steps):
        gradient, past = x + rng.normal(size=n), square
        square = alpha * square + (1 - alpha) * gradient**2
        x = x - rate * gradient / np.sqrt(past if excluding else square)
        if step >= steps // 4:
            total += x * x
    means = total / (steps - steps // 4)
    return float(means.mean()), float(means.std() / np.sqrt(n))


@pytest.mark.parametrize("excluding", [False, True])
def test_a_finite_memory_against_a_plain_loop(excluding):
    """R alone, at small k: what is left out, 0.3*(1 - alpha)*k, is below the error; R = 1 is 12 of them off."""
    found, error = time_average(0.9, 0.05, excluding)
    long, ratio = (
        adaptive_optimizers.rmsprop_variance(0.05, 1.0, 1.0),
        adaptive_optimizers.rmsprop_finite_memory(0.9, excluding=excluding),
    )
    assert abs(found - long * ratio) < 4 * error
    assert abs(found - long) > 8 * error


def test_the_first_order_of_a_finite_memory():
    """Handbook: -(3/8)*(1 - alpha), +5/8 where the present gradient is excluded; alpha = 0 is SignSGD."""
    for excluding, expected in ((False, -3 / 8), (True, 5 / 8)):
        one, two = (
            (adaptive_optimizers.rmsprop_finite_memory(1 - q, excluding=excluding) - 1) / q for q in (0.01, 0.02)
        )
        assert 2 * one - two == pytest.approx(expected, abs=2e-3)
    assert adaptive_optimizers.rmsprop_finite_memory(1e-6) == pytest.approx(
        np.sqrt(np.pi / 2), rel=2e-3
    )  # as the root of alpha
    assert adaptive_optimizers.adam_finite_memory(0.0, 0.999) == pytest.approx(
        adaptive_optimizers.rmsprop_finite_memory(0.999), abs=3e-6
    )


def test_a_finite_memory_is_a_series_in_its_inverse():
    runs = [
        make_run(wall(a=1.0, sigma=1.0), optimizer("adam", beta1=0.5, beta2=1 - q), q, 0.0, 2000) for q in (0.05, 0.1)
    ]
    rows = [row for run in runs for row in predicted("adam", run).values()]
    assert len({row.series for row in rows}) == 1
    assert [row.small for row in rows] == pytest.approx([0.05, 0.1])
    assert all(row.order == 1 and row.resolution == pytest.approx(row.small * 3 / 16) for row in rows)


@pytest.mark.parametrize("centre", [0.0, 0.8])
def test_decoupled_decay_without_momentum_against_a_plain_loop(centre):
    rule = optimizer("rmsprop", alpha=0.998, epsilon=1e-12, decoupled_weight_decay=0.5)
    rows = predicted("adam", make_run(wall(1.0, 1.0, centre), rule, 0.2, 0.0, 4500))
    rng, n, total = np.random.default_rng(4), 1000, []
    x, square = np.full(n, rows["mean(x)"].predicted), np.ones(n)
    for step in range(3000):
        given = {"theta": x, "gradient": x - centre + rng.normal(size=n), "t": step, "learning_rate": 0.2}
        after = rule.steps({**given, "square": square})
        x, square = after["theta"], after["square"]
        total += [(x.mean(), x.var())] if step >= 2000 else []
    mean, variance = np.mean(total, axis=0)
    assert variance == pytest.approx(rows["variance(x)"].predicted, rel=0.016)
    assert mean == pytest.approx(rows["mean(x)"].predicted, abs=0.004)
    assert abs(2 * rows["mean(fast_loss_x)"].rival.predicted / variance - 1) > 0.2


@pytest.mark.parametrize(
    ("id", "run", "reason"),
    [
        ("momentum", make_run(wall(), Optimizer(), 0.1), "the optimizer is sgd"),
        ("momentum", make_run(wall(), optimizer("momentum", weight_decay=0.1), 0.1), "weight-decay"),
        ("momentum", make_run(wall(), optimizer("momentum"), 2.0), "x is unstable"),
        ("momentum", make_run(wall(), optimizer("momentum"), 0.01, steps=20), "remembers"),
        ("weight-decay", make_run(wall(), Optimizer(), 0.1), "no weight decay"),
        ("weight-decay", make_run(wall(), optimizer("nesterov", decoupled_weight_decay=0.1), 0.1), "without decoupled"),
        ("minibatches", make_run(wall(), optimizer("momentum"), 0.1), "plain sgd"),
        ("minibatches", make_run(linear_regression([0.0]), Optimizer(), 0.7), "it is infinite"),
        ("signsgd-noiseless", make_run(wall(), Optimizer("signsgd"), 0.1), "without noise"),
        (
            "signsgd-noiseless",
            make_run(Loss("x**2", ("x",)), Optimizer("signsgd"), 0.1, Noise.parse("uniform:0,0.25")),
            "multiples",
        ),
        (
            "signsgd",
            make_run(Loss("x**2/2 + z*x", ("x",), {}, {"z": Noise.parse("exponential")}), Optimizer("signsgd"), 0.1),
            "symmetric",
        ),
        ("signsgd", make_run(wall(), Optimizer("signsgd"), 0.1, Noise.parse("uniform:0,0.3")), "1.5 periods"),
        ("signsgd", make_run(signed("laplace"), optimizer("signsgd", batch_size=2), 0.1), "batches of one"),
        ("rmsprop", make_run(wall(), optimizer("rmsprop", alpha=0.7), 0.1), "as alpha goes to 1"),
        ("rmsprop", make_run(wall(), optimizer("rmsprop", alpha=0.9), 0.3), "expected at most 0.5"),
        ("rmsprop", make_run(wall(), optimizer("rmsprop", alpha=0.99), 0.1), "remembers"),
        ("rmsprop", make_run(wall(), optimizer("rmsprop_excluding", alpha=0.99), 0.1), "its variance is infinite"),
        ("rmsprop", make_run(wall(), optimizer("rmsprop", alpha=0.999), 0.1), "remembers"),
        ("adam", make_run(wall(), optimizer("adam", epsilon=0.1), 0.1, steps=9000), "without epsilon"),
        ("adam", make_run(wall(), optimizer("adam", beta1=0.995), 0.1, steps=9000), "ten times faster"),
        ("adam", make_run(wall(), optimizer("rmsprop"), 0.1), "the optimizer is rmsprop with 0"),
        ("adam", make_run(wall(), optimizer("rmsprop", weight_decay=0.1), 0.1), "there is a coupled one"),
    ],
)
def test_where_they_do_not_hold_they_say_why(id, run, reason):
    run = replace(run, recorder=run.recorder.merge(find_law(id).requirements(run)))
    with pytest.raises(NotApplicable, match=reason):
        find_law(id).predictions([run])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_law_may_be_asked_for_under_every_optimizer(name):
    run = make_run(wall(), Optimizer(name, {"temperature": 0.1} if name == "langevin" else {}), 0.1)
    for law in LAWS.values():
        assert isinstance(law.requirements(run), Recorder)
