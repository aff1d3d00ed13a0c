"""Optimizers: hyperparameters, the step as a matrix, and what is refused. The kernels are held to them elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from sgdsim.errors import InputError
from sgdsim.formula import Formula
from sgdsim.optimizers import MAX_BATCH, OPTIMIZERS, Optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_rule_uses_names_that_it_has(name):
    rule = OPTIMIZERS[name]
    known = {"theta", "gradient", "learning_rate", *rule.hyperparameters, *rule.state}
    for target, text in rule.assignments:
        Formula.parse(text).require(known)
        known.add(target)
    assert rule.assignments[-1][0] == "theta"


def test_values_are_defaults_and_what_is_given():
    assert Optimizer("momentum", {"weight_decay": 0.1}).values == {"weight_decay": 0.1, "momentum": 0.9}


def test_a_step_of_sgd_as_a_matrix():
    """1 - rate*(curvature + decay)."""
    np.testing.assert_allclose(Optimizer("sgd", {"weight_decay": 0.5}).step_matrix(2.0, 0.1), [[0.75]], rtol=1e-15)


def test_a_step_of_momentum_as_a_matrix():
    """Of (theta, velocity): v' = m*v + a*theta, theta' = theta - rate*v'."""
    matrix = Optimizer("momentum", {"momentum": 0.5}).step_matrix(2.0, 0.1)
    np.testing.assert_allclose(matrix, [[1 - 0.1 * 2, -0.1 * 0.5], [2, 0.5]], rtol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("adam",), "optimizer.name: unknown optimizer 'adam': known are momentum, sgd"),
        (("momentun",), "did you mean 'momentum'"),
        (("sgd", {"weight_dcay": 0.1}), "optimizer.weight_dcay: unknown key of sgd .* did you mean 'weight_decay'"),
        (("sgd", {"momentum": 0.1}), "optimizer.momentum: unknown key of sgd"),
        (("sgd", {"weight_decay": float("nan")}), "optimizer.weight_decay: nan, expected a finite number"),
        (("sgd", {}, 0), f"optimizer.batch_size: 0, expected a whole number from 1 to {MAX_BATCH}"),
        (("sgd", {}, MAX_BATCH + 1), "optimizer.batch_size"),
    ],
)
def test_what_is_no_optimizer(arguments, problem):
    with pytest.raises(InputError, match=problem):
        Optimizer(*arguments)
