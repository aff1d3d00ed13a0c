"""SignSGD on the lattices of its start, against detailed balance and identities of stationarity."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from sgdsim.model.noise import Noise
from sgdsim.prediction import NotApplicable
from sgdsim.theory.chain.chain import chain
from tests.theory.chain.runs import ar1, check, make_run


def sign_lattice(rate: float, start: float) -> tuple[np.ndarray, np.ndarray]:
    """signsgd: states and probabilities by detailed balance, the ratios one by one from the middle."""
    above, below = [start], []
    up, down = [1.0], []
    for _ in range(400):
        above.append(above[-1] + rate)
        up.append(up[-1] * ndtr(-above[-2]) / ndtr(above[-1]))
        below.append((below or above)[-1 if below else 0] - rate)
        down.append((down or up)[-1 if down else 0] * ndtr(below[-1] + rate) / ndtr(-below[-1]))
    weights = np.array(up + down)
    return np.array(above + below), weights / weights.sum()


@pytest.mark.parametrize("rate", [0.05, 0.2, 1.0, 3.0])
def test_the_lattice_of_signsgd(rate: float) -> None:
    law = chain(ar1("normal", rate, name="signsgd"))
    x, weights = sign_lattice(rate, 0.3)
    for formula, function in {"x": x, "x**2": x**2, "abs(x)": np.abs(x), "x**4": x**4}.items():
        check(law.expectation(formula), function @ weights, 1e-8, (np.abs(function) @ weights))
    check(law.expectation("x*erf(x/sqrt(2))"), rate / 2, 1e-8)
    variance = weights @ x**2 - (weights @ x) ** 2
    assert law.expectation("x**2").value - law.expectation("x").value ** 2 == pytest.approx(variance, rel=1e-10)
    np.testing.assert_allclose(law.relaxation(1), -1.0, atol=1e-9)  # its period is 2
    order = np.argsort(x)
    np.testing.assert_allclose(law.cdf(x + rate / 2)[order], np.cumsum(weights[order]), atol=1e-12)


@pytest.mark.validate
def test_a_drawn_start_mixes_lattices() -> None:
    run = make_run("x**2/2 + z*x", {"z": "normal"}, 1.0, initial={"x": Noise.parse("uniform:-1,1")}, name="signsgd")
    law = chain(run)
    phases = np.arange(-1, 1, 0.01) + 0.005
    exact = np.mean([w @ x**2 for x, w in (sign_lattice(1.0, phase) for phase in phases)])
    check(law.expectation("x**2"), exact, 1e-6)
    with pytest.raises(NotApplicable, match="drawn"):
        law.relaxation(1)


def test_signs_with_weight_decay_have_no_lattice() -> None:
    """The sign and the state balance: E x^2 (1 - (1 - eta lambda)^2) = eta^2 - 2 eta (1 - eta lambda) E x erf."""
    run = ar1("normal", 0.2, name="signsgd", hyperparameters={"decoupled_weight_decay": 0.5})
    law = chain(run)
    keep = 1 - 0.2 * 0.5
    right = 0.04 - 2 * 0.2 * keep * law.expectation("x*erf(x/sqrt(2))").value
    check(law.expectation("x**2"), right / (1 - keep**2), 1e-8)


@pytest.mark.validate
def test_signsgd_in_two_dimensions() -> None:
    formula = "x**2 + y**2/2 + x*y/2 + z*x + w*y"
    initial = {"x": 0.3, "y": 0.1}
    law = chain(make_run(formula, {"z": "normal", "w": "normal"}, 0.4, None, initial, name="signsgd"))
    # The square of each coordinate is stationary: <x erf(g/sqrt(2))> = eta/2.
    check(law.expectation("x*erf((2*x + y/2)/sqrt(2))"), 0.2, 1e-8)
    check(law.expectation("y*erf((y + x/2)/sqrt(2))"), 0.2, 1e-8)
