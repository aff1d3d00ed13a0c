"""Order of vanishing: what a formula's value does near the zero of some names, compared with numbers."""

from __future__ import annotations

from math import inf

import pytest

from sgdsim.formulas.formula import Formula
from sgdsim.formulas.vanishing import Nearby, nearby

X, Y = Nearby(1.0, 0.0), Nearby(1.0, 0.0)
W = [Nearby(1.0, 0.0), Nearby(inf)]
NAMES = {"x": X, "y": Y, "w": W, "z": Nearby(inf), "a": 2.0, "zero": 0.0}

POWERS = {
    "x": (True, 1.0),
    "z*x**2 + y**4": (True, 2.0),
    "x*y*z + 3": (False, 2.0),
    "exp(z*x)*y**2": (True, 2.0),
    "cosh(x) + 1 - cos(y)": (False, 2.0),
    "(x**2 - 1)**2/4": (False, 2.0),
    "(x - 1)**2": (False, 1.0),
    "sin(x)*tanh(y)*z/(1 + x)": (True, 2.0),
    "zero*x + z": (False, inf),
    "x**3/(2 + y)": (True, 3.0),
    "(x*y - a)**2/2 + z*x**2": (False, 2.0),
    "(z*x + y)**2": (True, 2.0),
    "norm2(w)": (False, 2.0),
    "dot(w, w)*x": (True, 1.0),
    "sqrt(x**2 + 1)": (False, 2.0),
    "log(1 + x**2*z**2)": (True, 2.0),
    "where(z > 0, x**2, y**3)": (True, 2.0),
    "a**z": (False, inf),
    "cosh(x) - 1": (True, 2.0),
    "x*sign(y)": (True, 1.0),
}


@pytest.mark.parametrize("text", POWERS)
def test_the_power_is_that_of_numbers(text: str) -> None:
    vanishes, power = POWERS[text]
    found = nearby(text, NAMES)
    assert (found.power, found.vanishes) == (power, vanishes and power > 0.0)
    formula = Formula.parse(text)

    def at(e: float) -> float:
        numbers = {"x": 1.1 * e, "y": -0.7 * e, "w": [0.9 * e, 0.6], "z": 0.8, "a": 2.0, "zero": 0.0}
        return float(formula.evaluate(numbers))

    changes = [abs(at(e) - at(0.0)) for e in (1e-2, 1e-3)]
    if power == inf:
        assert changes == [0.0, 0.0]
    else:
        assert changes[0] / changes[1] == pytest.approx(10.0**power, rel=0.1)


UNKNOWN = ["sign(x)", "step(x)", "x**z", "1/x", "x**(-2)", "where(x > 0, 1, 2)", "a**x", "z**y", "z*log(x**2)"]
SLOPES = ["x**3/(x**2 + 1 - 1)", "x**3/(x**2 + a - 2)", "x**2*(1/x)", "x**2*y*x**(-2)", "x**2*where(y > 0, 1/x, 0)"]


@pytest.mark.parametrize("text", [*UNKNOWN, *SLOPES, "x**4*(1/(cos(x) - 1))"])
def test_what_is_not_known_counts_as_a_jump(text: str) -> None:
    """A divisor that vanishes at zero, which a factor beside it may cancel, among others."""
    assert nearby(text, NAMES).power <= 0.0
