"""Traits of formulas: bounds that no value leaves, and the names that a value depends on, and how."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import FUNCTIONS
from sgdsim.formulas.traits import Traits, bounds, traits

X, Y = (Traits.of_name(name) for name in "xy")
W = [Traits.of_name(f"w[{index}]") for index in range(2)]
NAMES = {"x": X, "y": Y, "w": W, "a": 2.0, "zero": 0.0}

BOUNDED = {
    "where(x > 0.5, 1, 0)": (0, 1),
    "1 - 2*step(x)": (-1, 1),
    "sign(x)**2": (0, 1),
    "a*tanh(x) + 1": (-1, 3),
    "sigmoid(x) - sigmoid(y)": (-1, 1),
    "sin(x)*cos(y)": (-1, 1),
    "abs(erf(x))": (0, 1),
    "min(sigmoid(x), 0.25)": (0, 0.25),
    "1/(2 + sin(x))": (1 / 3, 1),
    "exp(-abs(tanh(x)))": (np.exp(-1), 1),
    "sqrt(step(x)*step(y))": (0, 1),
    "(2 + sign(x))**3": (1, 27),
    "where(x > y, zero*x, a)": (0, 2),
    "norm2(w)*zero + 3": (3, 3),
}


@pytest.mark.parametrize("text", BOUNDED)
def test_bounds_are_the_narrowest(text: str) -> None:
    assert bounds(traits(text, NAMES)) == pytest.approx(BOUNDED[text])


@pytest.mark.parametrize("text", ["x", "x**2", "exp(x)", "1/sin(x)", "log(sigmoid(x))", "tan(x)", "w[0]", "sum(w)"])
def test_what_has_no_bounds_has_none(text: str) -> None:
    assert bounds(traits(text, NAMES)) is None


def test_one_bound_is_kept() -> None:
    found = traits("x**2 + cosh(y) + abs(x)*sqrt(y)", NAMES)
    assert (found.low, found.high) == (1.0, inf)


@pytest.mark.parametrize("name", [name for name, usage in FUNCTIONS.items() if usage == f"{name}(x)"])
def test_no_value_of_a_function_leaves_its_bounds(name: str) -> None:
    """At a thousand places in a range, for all functions of one number."""
    if name in ("sum", "norm2"):
        return
    inner = {"sqrt": "1 + tanh(x)", "log": "2 + tanh(x)"}.get(name, "3*tanh(x) + 1")
    found = traits(f"{name}({inner})", NAMES)
    values = Formula.parse(f"{name}({inner})").evaluate({"x": np.linspace(-9, 9, 1000)})
    assert found.low - 1e-12 <= np.min(values)
    assert np.max(values) <= found.high + 1e-12


def test_terms_are_told_apart() -> None:
    def terms(text: str) -> list[list[str]]:
        return sorted(map(sorted, traits(text, NAMES).terms))

    assert terms("(x**2 + 3*y)/2 - a") == [["x"], ["y"]]
    assert terms("(x + y)*w[0]") == [["w[0]", "x"], ["w[0]", "y"]]
    assert terms("(x + y)**2") == [["x", "y"]]
    assert terms("x*y + zero*x*w[1]") == [["x", "y"]]
    assert terms("x/y + exp(w[0])") == [["w[0]"], ["x", "y"]]
    assert terms("dot(w, w)") == [["w[0]"], ["w[1]"]]


def test_only_sums_and_products_are_smooth() -> None:
    def rough(text: str) -> list[str]:
        return sorted(traits(text, NAMES).rough)

    assert rough("x**3*y - 2*x + (x + y)**2/a") == []
    assert rough("abs(x) + y") == ["x"]
    assert rough("1/x + y**0.5 + w[0]") == ["x", "y"]
    assert rough("a**x + w[1]") == ["x"]
    assert rough("where(x > 0, y, w[0])") == ["w[0]", "x", "y"]
