"""Density and distribution function of one parameter."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from sgdsim.prediction import NotApplicable
from sgdsim.theory.chain.chain import chain
from tests.theory.chain.runs import ar1


def test_density_and_distribution_of_a_linear_chain() -> None:
    law = chain(ar1("normal", 0.3))
    variance = 0.09 / (1 - 0.49)
    x = np.linspace(-2, 2, 41)
    np.testing.assert_allclose(
        law.density(x), np.exp(-(x**2) / 2 / variance) / np.sqrt(2 * np.pi * variance), rtol=1e-8
    )
    np.testing.assert_allclose(law.cdf(x), ndtr(x / np.sqrt(variance)), atol=1e-9)
    with pytest.raises(NotApplicable, match="density"):
        chain(ar1("rademacher")).density([0.0])
