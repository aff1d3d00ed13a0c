"""Derivatives by differences against exact ones."""

from __future__ import annotations

import numpy as np

from sgdsim.formulas.differences import jacobian


def test_differences_are_of_fourth_order() -> None:
    found = jacobian(lambda t: np.array([np.sin(t[0]) * t[1], np.exp(t[1])]), np.array([0.4, 30.0]))
    expected = [[np.cos(0.4) * 30, np.sin(0.4)], [0, np.exp(30)]]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)
