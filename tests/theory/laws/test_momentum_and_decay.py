"""Momentum and weight decay, against the recursion of moments."""

from __future__ import annotations

import pytest

from sgdsim.theory.methods.moment_recursion import recursion
from tests.theory.laws.optimizer_runs import make_run, optimizer, predicted, wall

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
