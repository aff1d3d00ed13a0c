"""Minibatches, label noise and shuffled epochs, against the recursion of moments and sums over all orders."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.losses.linear_regression import linear_regression
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.theory.laws import minibatches
from sgdsim.theory.methods.moment_recursion import recursion
from tests.theory.laws.optimizer_runs import NORMAL, make_run, predicted, wall


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
