"""Numbers out of expressions: against mpmath at many digits, and against formulas spelled out in NumPy."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import sympy

from sgdsim.formulas.evaluation import evaluate, kinks
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise

X, Y = sympy.Symbol("x", real=True), sympy.Symbol("y", real=True)

FUNCTIONS = {
    "exp(x) - 1": lambda x: mpmath.exp(x) - 1,
    "log(2 + x**2)": lambda x: mpmath.log(2 + x**2),
    "tanh(x)": mpmath.tanh,
    "sigmoid(x)": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus(x)": lambda x: mpmath.log(1 + mpmath.exp(x)),
    "sqrt(1 + x**2)": lambda x: mpmath.sqrt(1 + x**2),
    "(2 + x**2)**(-3)": lambda x: (2 + x**2) ** -3,
    "(2 + x**2)**0.3": lambda x: (2 + x**2) ** mpmath.mpf("0.3"),
    "erf(x)": mpmath.erf,
    "cosh(x)": mpmath.cosh,
    "atan(x)": mpmath.atan,
    "abs(x - 1)": lambda x: abs(x - 1),
    "relu(x)": lambda x: max(x, mpmath.mpf(0)),
    "min(x, 0.25)": lambda x: min(x, mpmath.mpf("0.25")),
    "where(x < 0.5, x**2, -x)": lambda x: x**2 if x < 0.5 else -x,
}


@pytest.mark.parametrize("formula", FUNCTIONS)
def test_values_are_those_of_30_digits(formula: str) -> None:
    loss = Loss(formula, ("x",))
    points = np.array([-2.3, -0.7, 0.1, 0.6, 1.9, 3.2])
    values = evaluate([loss.expression], {"x": points})[0]
    with mpmath.workdps(30):
        expected = [float(FUNCTIONS[formula](mpmath.mpf(x))) for x in points]
    np.testing.assert_allclose(values, expected, rtol=1e-14)


@pytest.mark.parametrize("formula", ["tanh(x)", "sigmoid(x)", "softplus(x)", "sqrt(1 + x**2)", "erf(x)", "atan(x)"])
def test_derivatives_are_those_of_30_digits(formula: str) -> None:
    loss = Loss(formula, ("x",))
    points = np.array([-2.3, -0.7, 0.1, 1.9])
    first, second = loss.gradient[0], loss.gradient[0].diff(loss.theta[0])
    values = evaluate([first, second], {"x": points})
    with mpmath.workdps(30):
        expected = [[float(mpmath.diff(FUNCTIONS[formula], mpmath.mpf(x), n)) for x in points] for n in (1, 2)]
    np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_the_slope_of_tanh_keeps_its_digits_far_out() -> None:
    loss = Loss("tanh(x)", ("x",))
    value = evaluate([loss.gradient[0]], {"x": np.array([20.0, 800.0])})[0]
    assert value[0] == pytest.approx(4 * np.exp(-40.0), rel=1e-12, abs=0)
    assert value[1] == 0.0
    assert 1 - np.tanh(20.0) ** 2 == 0.0  # what has no digits there


def test_arrays_broadcast_also_as_exponents() -> None:
    x, y = np.array([[1.0], [2.0], [3.0]]), np.array([0.5, 2.0])
    value, total = evaluate([X**Y, sympy.Add(X, Y, sympy.Rational(1, 3))], {"x": x, "y": y})
    np.testing.assert_allclose(value, x**y, rtol=1e-15)
    np.testing.assert_allclose(total, x + y + 1 / 3, rtol=1e-15)


def test_what_has_no_value_is_not_finite_and_does_not_warn() -> None:
    values = evaluate([sympy.log(X), 1 / X, sympy.exp(X)], {"x": np.array([-1.0, 0.0, 1e4])})
    assert np.isnan(values[0][0])
    assert np.isinf(values[1][1])
    assert np.isinf(values[2][2])


def test_a_symbol_without_value_is_an_error() -> None:
    with pytest.raises(KeyError, match="y"):
        evaluate([X + Y], {"x": 1.0})


def test_sums_nested_deeper_than_recursion_goes() -> None:
    deep = X
    for _ in range(3000):
        deep = sympy.Add(sympy.Mul(sympy.Rational(1, 2), deep, evaluate=False), 1, evaluate=False)
    assert evaluate([deep], {"x": 5.0})[0] == pytest.approx(2.0)


def test_kinks_are_where_the_slope_jumps() -> None:
    noise = {"z": Noise.parse("laplace")}
    loss = Loss("abs(2*x - z) + relu(z) + max(x**2, z) + where(z < 3, z**2, x) + abs(x)", ("x",), noise=noise)
    found = kinks([loss.expression], loss.symbols["z"])
    places = sorted(float(sympy.solve(edge.subs(loss.symbols["x"], 0.7), loss.symbols["z"])[0]) for edge in found)
    assert places == pytest.approx([0.0, 0.49, 1.4, 3.0])
    assert kinks([loss.expression], loss.symbols["x"]) != found
    assert kinks([loss.symbols["z"] ** 2], loss.symbols["z"]) == []
