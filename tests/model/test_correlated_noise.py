"""Jointly normal noise: the covariance of its definitions, and what is no covariance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy

from sgdsim.base.errors import InputError
from sgdsim.formulas.formula import Formula
from sgdsim.model.correlated_noise import correlated_normal
from sgdsim.model.loss import Loss


def covariance_of(names: list[str], covariance: list[list[float]]) -> np.ndarray:
    """From the definitions alone: each is linear in the independent deviates."""
    noise, definitions = correlated_normal(names, covariance)
    assert list(definitions) == names
    assert set(map(str, noise.values())) == {"normal:0.0,1.0"}
    base = "_".join(names)
    assert list(noise) == [f"{base}[{j}]" for j in range(len(names))]
    rows = [
        [float(Formula.parse(text).evaluate({base: unit})) for unit in np.eye(len(names)).tolist()]
        for text in definitions.values()
    ]
    factor = np.array(rows)
    return factor @ factor.T


def test_joint_normal_noise_in_a_loss():
    """The population loss has the covariance that was given."""
    noise, definitions = correlated_normal(["x", "y"], [[1.0, 0.6], [0.6, 4.0]])
    loss = Loss("(w*x + y)**2", ("w",), {}, noise, definitions)
    w = loss.symbols["w"]
    assert sympy.expand(loss.population).evalf(15, chop=True).equals(w**2 + 1.2 * w + 4.0)


def gram(rows: int, rank: int) -> list[list[float]]:
    matrix = np.random.default_rng(7).normal(size=(rows, rank))
    return (matrix @ matrix.T).tolist()


@pytest.mark.parametrize(
    "covariance",
    [
        [[2.0]],
        [[1.0, 0.6], [0.6, 1.0]],
        [[4.0, -1.0, 0.5], [-1.0, 9.0, 0.0], [0.5, 0.0, 1.0]],
        [[1e-12, 1e-6], [1e-6, 4.0]],
        [[1e12, 3e2], [3e2, 1e-6]],
        gram(6, 6),
        # Singular: a variable that is constant, two that are one, and few deviates behind many variables.
        [[0.0]],
        [[1.0, 0.0], [0.0, 0.0]],
        [[0.0, 0.0], [0.0, 2.0]],
        [[1.0, 1.0], [1.0, 1.0]],
        [[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 3.0]],
        [[0.01, 0.03], [0.03, 0.09]],
        gram(6, 2),
        np.zeros((3, 3)).tolist(),
    ],
)
def test_the_covariance_is_that_of_the_definitions(covariance):
    names = ["x", "y", "z", "a", "b", "c"][: len(covariance)]
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_array_less(
        np.abs(covariance_of(names, covariance) - covariance), 1e-12 * np.outer(scale, scale) + 1e-300
    )


@pytest.mark.parametrize(
    ("covariance", "problem"),
    [
        ([[1.0, 2.0], [2.0, 1.0]], "the covariance has the eigenvalue -1, expected none below zero"),
        ([[-1.0, 0.0], [0.0, 1.0]], "the covariance has the eigenvalue -1"),
        ([[1.0, 0.0], [0.0, -1e-6]], "the covariance has the eigenvalue -1e-06"),
        ([[0.0, 1.0], [1.0, 1.0]], "the covariance has the eigenvalue -0.618"),
        ([[1.0, 1.0], [1.0, 1.0 - 1e-6]], "the covariance has the eigenvalue -5e-07"),
        ([[1.0, 1.0 + 1e-6], [1.0 + 1e-6, 1.0]], "the covariance has the eigenvalue -1e-06"),
        ([[1.0, 0.5], [0.6, 1.0]], "the covariance is not finite and symmetric"),
        ([[1.0, math.nan], [math.nan, 1.0]], "the covariance is not finite and symmetric"),
        ([[math.inf, 0.0], [0.0, 1.0]], "the covariance is not finite and symmetric"),
        ([[1.0]], r"a covariance of shape \(1, 1\), expected 2 rows and columns"),
        ([[1.0, 0.0]], r"a covariance of shape \(1, 2\), expected 2 rows and columns"),
    ],
)
def test_what_is_no_covariance_is_refused(covariance, problem):
    with pytest.raises(InputError, match=f"^loss.noise: {problem}"):
        correlated_normal(["x", "y"], covariance, where="loss.noise")
